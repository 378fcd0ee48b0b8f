"""Out of an ACTIVATIONS store: its present words, block by block or sentence by sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import store
from engine.exchange import stream
from engine.exchange.stream import Block, kind
from engine.kernels.shards import shard_ranges
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError


class Stored:
    """An ACTIVATIONS store, to be read block by block.

    Only words that are stored and present come out: a sentence's words are those that the selection of the study kept.
    For whole sentences the store must have been made with every word selected.
    """

    def __init__(self, path: str, layers: Sequence[int] | None = None) -> None:
        """Open a store; `layers` are the numbers of those to read, by default all.

        Raises
        ------
        InputError
            There is no such store, or it lacks a layer.
        """
        if (found := kind(path)) != ACTIVATIONS.name:
            raise InputError(
                f"{path}: expected an activations store, found {found or 'none'}; give one that `colign run` "
                "wrote below activations/, or that `colign import` wrote"
            )
        dataset = store.load(path, ACTIVATIONS)
        held = dataset.layer.values.tolist()
        if missing := sorted(set(layers or ()) - set(held)):
            raise InputError(f"{path}: has no layer {missing[0]}; it has {', '.join(map(str, held))}")
        self.path = path
        self.indices = [i for i, number in enumerate(held) if layers is None or number in layers]
        self.layers = tuple(int(held[i]) for i in self.indices)
        self.hidden: int = dataset.sizes["hidden"]
        chunk = dataset.activation.encoding["chunks"][1]
        row = len(self.layers) * self.hidden * dataset.activation.dtype.itemsize
        self.ranges = shard_ranges(
            dataset.sizes["token"], max(chunk, stream.BLOCK_BYTES // max(row, 1) // chunk * chunk)
        )
        present = [self._read("present", a, b) for a, b in self.ranges]
        self.tokens = sum(int(block.sum()) for block in present)
        self.absent = dataset.sizes["token"] - self.tokens
        if not self.tokens:
            raise InputError(f"{path}: holds no word that has a vector, so there is nothing to export")

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return store.read_rows(self.path, name, np.arange(start, stop))

    def blocks(self, *, vectors: bool = True) -> Iterator[Block]:
        """The present words in the order of the store; without vectors (0 layers) when they are not needed.

        Raises
        ------
        InputError
            The vector of a present word is not finite: its shard is missing.
        """
        for start, stop in self.ranges:
            present = self._read("present", start, stop)
            block = Block(
                [str(word) for word in self._read("word", start, stop)[present]],
                self._read("sentence", start, stop)[present],
                self._read("position", start, stop)[present],
                np.empty((0, int(present.sum()), self.hidden), np.float32),
                (),
            )
            if vectors:
                rows = np.arange(start, stop)
                layers = [store.read_rows(self.path, "activation", rows, axis=1, layer=i) for i in self.indices]
                found = np.stack(layers)
                del layers
                block = replace(block, vectors=found if present.all() else found[:, present], layers=self.layers)
                if not np.isfinite(block.vectors).all():
                    layer, token, _ = np.argwhere(~np.isfinite(block.vectors))[0]
                    raise InputError(
                        f"{self.path}, layer {self.layers[layer]}, token {start + np.flatnonzero(present)[token]}: the "
                        "vector is not finite; its shard is missing or damaged, so make the store again"
                    )
            yield block

    def sentences(self) -> Iterator[Block]:
        """One block for each sentence that has a present word, also where it straddles blocks.

        Raises
        ------
        InputError
            The words are not in the order of the text.
        """
        held: list[Block] = []  # pieces of one sentence, the beginning of which may be in earlier blocks
        before = -1
        for piece in self._pieces():
            if held and piece.sentences[0] != held[0].sentences[0]:
                yield self._joined(held, before)
                before = int(held[0].sentences[0])
                held = []
            held.append(piece)
        yield self._joined(held, before)

    def _pieces(self) -> Iterator[Block]:
        """Words of one sentence in one block."""
        for block in self.blocks():
            cuts = np.flatnonzero(np.diff(block.sentences)) + 1
            for start, stop in pairwise([0, *cuts, len(block.words)]):
                if stop > start:
                    yield block[start:stop]

    def _joined(self, pieces: list[Block], before: int) -> Block:
        sentence = Block(
            [word for piece in pieces for word in piece.words],
            np.concatenate([piece.sentences for piece in pieces]),
            np.concatenate([piece.positions for piece in pieces]),
            np.concatenate([piece.vectors for piece in pieces], axis=1),
            self.layers,
        )
        current = int(sentence.sentences[0])
        if current <= before or (np.diff(sentence.positions) <= 0).any():
            raise InputError(
                f"{self.path}: its words are not in the order of the text (see sentence {current}), which a file of "
                "sentences needs; export it as conceptx, whose words may come in any order"
            )
        return sentence
