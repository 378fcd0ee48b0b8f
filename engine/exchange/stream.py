"""The store's side of every exchange: blocks of words out of an ACTIVATIONS store, and into a new one.

Memory is bounded by one shard and one sentence, whatever the size of the files.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import store
from engine.kernels.shards import shard_ranges
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError

BLOCK_BYTES = 2**26
"""Vectors that are read at once: at most this, or one chunk if that is more."""

SHARD_BYTES = 2**28
"""Vectors that are held to be written as one shard of each layer: at most this, or one chunk if that is more."""

_LARGEST_NUMBER = 2**31 - 1  # sentence and position are int32


@dataclass(frozen=True)
class Block:
    """Some words one after the other, with their vectors."""

    words: list[str]
    sentences: NDArray[np.int32]
    """Number of the sentence (token)."""
    positions: NDArray[np.int32]
    """Place in the sentence (token)."""
    vectors: NDArray[np.floating]
    """Vectors (layer, token, hidden)."""
    layers: tuple[int, ...]
    """Number of each layer."""
    place: str = ""
    """Where the words were found, for messages: a word's number follows."""
    first: int = 0
    """Number of the first word at that place."""

    def __getitem__(self, tokens: slice) -> "Block":
        return replace(
            self,
            words=self.words[tokens],
            sentences=self.sentences[tokens],
            positions=self.positions[tokens],
            vectors=self.vectors[:, tokens],
        )


@dataclass(frozen=True)
class Exchanged:
    """What an import or export moved."""

    tokens: int
    layers: tuple[int, ...]
    hidden: int
    """Numbers of a vector."""
    absent: int
    """Stored words without a vector, which are not exported."""
    files: tuple[str, ...]
    """What was written."""


Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Nobody looks on."""


@contextlib.contextmanager
def whole(*paths: str) -> Iterator[list[str]]:
    """Names under which to write files or folders, which get their own names once all of them are whole.

    What fails on the way leaves nothing behind, and what had the names before stays until then.

    Raises
    ------
    InputError
        A folder that is not an activations store has one of the names.
    """
    for path in paths:
        if "://" not in path and Path(path).is_dir() and not _is_activations(path):
            raise InputError(f"{path}: a folder that is not an activations store lies there; choose another name")
    parts = [path if "://" in path else f"{path.rstrip('/')}.partial" for path in paths]
    for part in parts:
        store.remove(part)
    try:
        yield parts
        for path, part in zip(paths, parts, strict=True):
            if part != path:
                store.remove(path)
                Path(part).rename(path)
    except BaseException:
        for part in parts:
            store.remove(part)
        raise


def _is_activations(path: str) -> bool:
    return (store.attributes(path) or {}).get("colign_dataset") == ACTIVATIONS.name


# Out of a store


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
        if not _is_activations(path):
            raise InputError(
                f"{path}: expected an activations store, found none; give one that `colign run` wrote below "
                "activations/, or that `colign import` wrote"
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
        self.ranges = shard_ranges(dataset.sizes["token"], max(chunk, BLOCK_BYTES // max(row, 1) // chunk * chunk))
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
                block = replace(block, vectors=np.stack(layers)[:, present], layers=self.layers)
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


# Into a store


def number(value: Any, place: str, what: str) -> int:
    """A sentence's number or word's place that a file holds; raises InputError unless it is one that fits int32."""
    text = str(value)
    if isinstance(value, bool | float) or not (text.isascii() and text.isdecimal()) or int(text) > _LARGEST_NUMBER:
        raise InputError(
            f"{place}: {what} is {value!r}; expected a whole number from 0 to {_LARGEST_NUMBER}, so write the file anew"
        )
    return int(text)


def import_blocks(
    source: str,
    path: str,
    read: Callable[[str], Iterator[Block]],
    *,
    dtype: str,
    layers: Sequence[int] | None,
    **provenance: Any,
) -> Exchanged:
    """Write a new ACTIVATIONS store from the blocks of a file, which is read twice: to check it all, then to write.

    Parameters
    ----------
    source
        The file, for messages.
    read
        Gives the blocks of the file from its beginning; told which pass this is, `check` or `write`.
    dtype
        Type on disk: float16 or float32.
    layers
        Numbers of the file's layers, in its order, in place of those that it gives.

    Raises
    ------
    InputError
        Vectors differ in their length or layers, are not finite or do not fit the type.
    """
    tokens, found = 0, None
    for block in read("check"):
        if block.words:
            found = found or block
            _check(block, found, dtype)
            tokens += len(block.words)
    if found is None:
        raise InputError(f"{source}: holds no words; expected at least one with its vector")
    numbers = tuple(layers or found.layers)
    if len(numbers) != len(found.layers):
        raise InputError(
            f"{source}: has {len(found.layers)} layers, and {len(numbers)} numbers were given for them; give one for "
            "each with --layer, or none"
        )
    if sorted(set(numbers)) != list(numbers) or numbers[0] < 0:
        raise InputError(
            f"{source}: the numbers of its layers are {', '.join(map(str, numbers))}; expected increasing ones from 0, "
            "so give them with --layer, in the order of the file"
        )
    hidden = found.vectors.shape[2]
    with whole(path) as (part,):
        _write(part, read("write"), tokens, numbers, hidden, np.dtype(dtype), source=source, **provenance)
    return Exchanged(tokens, numbers, hidden, 0, (path,))


def _check(block: Block, found: Block, dtype: str) -> None:
    where = f"{block.place} {block.first}"
    if block.layers != found.layers:
        raise InputError(
            f"{where}: its layers are {', '.join(map(str, block.layers))}; expected "
            f"{', '.join(map(str, found.layers))} as at {found.place} {found.first}; a store holds the same layers of "
            "every word, so write the file anew"
        )
    if block.vectors.shape[2] != found.vectors.shape[2] or not block.vectors.shape[2]:
        raise InputError(
            f"{where}: a vector has {block.vectors.shape[2]} numbers; expected "
            f"{found.vectors.shape[2] or 'at least 1'} as at {found.place} {found.first}; a store holds vectors of one "
            "length, so write the file anew"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(block.vectors.astype(dtype))
    if not finite.all():
        layer, token, unit = np.argwhere(~finite)[0]
        value = float(block.vectors[layer, token, unit])
        raise InputError(
            f"{block.place} {block.first + token} ({block.words[token]!r}), layer {block.layers[layer]}: "
            f"value {unit} is {value:g}; "
            + (
                f"it does not fit {dtype}, so " + ("import with --dtype float32" if dtype == "float16" else "scale it")
                if np.isfinite(value)
                else "expected a finite number, so repair or leave out the word"
            )
        )
    for i, word in enumerate(block.words):
        if not word.isascii():
            try:
                word.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{block.place} {block.first + i}: {word!r} holds half of a surrogate pair, which is not text; "
                    "repair the word"
                ) from error


def _write(
    path: str,
    blocks: Iterator[Block],
    tokens: int,
    layers: tuple[int, ...],
    hidden: int,
    dtype: np.dtype[Any],
    **provenance: Any,
) -> None:
    settings = study.Activations()
    chunk = settings.chunk_tokens
    row = len(layers) * hidden * dtype.itemsize
    shard = min(settings.shard_tokens, max(chunk, SHARD_BYTES // row // chunk * chunk))
    store.setup(
        path,
        ACTIVATIONS,
        {"layer": len(layers), "token": tokens, "hidden": hidden},
        {"layer": np.array(layers, np.int32)},
        chunks={"layer": 1, "token": chunk},
        shards={"layer": 1, "token": shard},
        dtypes={"activation": dtype.name},
        **provenance,
    )
    changed = InputError(f"{provenance['source']}: changed while it was read; import it again when it is at rest")
    ranges = iter(shard_ranges(tokens, shard))
    start, stop = next(ranges)
    vectors = np.empty((len(layers), stop, hidden), dtype)
    held: list[Block] = []  # the words so far of the shard start..stop, whose vectors are copied already
    filled = 0
    for block in blocks:
        rest = block
        while rest.words:
            if start == stop:
                raise changed
            piece = rest[: stop - start - filled]
            vectors[:, filled : filled + len(piece.words)] = piece.vectors
            held.append(replace(piece, vectors=piece.vectors[:0, :0]))
            filled += len(piece.words)
            rest = rest[len(piece.words) :]
            if filled == stop - start:
                _write_shard(path, start, held, vectors[:, :filled])
                start, stop = next(ranges, (stop, stop))
                held, filled = [], 0
    if start != tokens:
        raise changed


def _write_shard(path: str, start: int, blocks: list[Block], vectors: NDArray[np.floating]) -> None:
    count = vectors.shape[1]
    columns = {
        "activation": vectors,
        "token_id": np.arange(start, start + count),
        "word": np.array([word for block in blocks for word in block.words], object),
        "sentence": np.concatenate([block.sentences for block in blocks]),
        "position": np.concatenate([block.positions for block in blocks]),
        "present": np.ones(count, bool),
    }
    for name, values in columns.items():
        store.write_region(path, name, values, token=start)
