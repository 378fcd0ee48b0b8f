"""Vectors taken from a store of before a study grew, so that they are not computed again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import store


@dataclass(frozen=True)
class Known:
    """Tokens of a shard whose vectors another store holds."""

    path: str
    """Path of the ACTIVATIONS dataset."""
    layers: tuple[int, ...]
    """Its layers."""
    places: NDArray[np.int64]
    """(known) places of the tokens in the shard."""
    rows: NDArray[np.int64]
    """(known) their rows in the store."""

    def missing(self, tokens: int, layers: Sequence[int]) -> NDArray[np.int64]:
        """Places in a shard of some tokens that must be computed: all of them if the store lacks a layer."""
        every = np.arange(tokens)
        return np.setdiff1d(every, self.places) if set(layers) <= set(self.layers) else every

    def fill(self, vectors: NDArray[np.floating], layers: Sequence[int]) -> None:
        """Put the known vectors into a shard (layer, token, hidden)."""
        for at, layer in enumerate(layers):
            if layer in self.layers:
                index = self.layers.index(layer)
                vectors[at, self.places] = store.read_rows(self.path, "activation", self.rows, axis=1, layer=index)


def find(path: str, sentence: NDArray[np.integer], position: NDArray[np.integer]) -> Known:
    """Find the tokens of a shard, given by sentence and position in increasing order, in a store at `path`.

    Tokens that have no vector there, because a shard was not written or the word was dropped, are not known.
    """
    low, high = (store.bisect(path, "sentence", int(s)) for s in (sentence[0], sentence[-1] + 1))
    rows = np.arange(low, high)
    held = {name: store.read_rows(path, name, rows) for name in ("sentence", "position", "present")}
    kept = np.flatnonzero(held["present"])
    here, there = (
        s.astype(np.int64) << 32 | p
        for s, p in ((sentence, position), (held["sentence"][kept], held["position"][kept]))
    )
    _, places, found = np.intersect1d(here, there, assume_unique=True, return_indices=True)
    layers = tuple(store.read_rows(path, "layer", np.arange(store.size(path, "layer"))).tolist())
    return Known(path, layers, places, rows[kept[found]])
