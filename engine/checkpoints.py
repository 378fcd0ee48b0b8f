"""Checkpoints of K-means: the centroids of every run after every iteration, so that a driver that is lost goes on."""

import hashlib
import io
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import paths

KEPT = 3
"""Iterations that are kept."""

_DIGEST = hashlib.sha256().digest_size
"""Bytes of the checksum at the head of a file: zip's own does not cover all of it."""


@dataclass(frozen=True)
class Saved:
    """A run as it was after its last iteration."""

    n_iter: int
    centroids: NDArray[np.float64]
    """(concept, hidden)."""
    before: NDArray[np.float64] | None
    """(concept, hidden) after the iteration before; None after none."""
    done: bool


@dataclass(frozen=True)
class Checkpoints:
    """A folder with one small file for each of the last three iterations of each run of each layer.

    Two are needed to go on; the third is for when the last one is damaged.
    """

    folder: str

    def save(
        self, layer: tuple[str, ...], run: int, n_iter: int, centroids: NDArray[np.float64], *, done: bool
    ) -> None:
        """Keep the centroids (concept, hidden) of an iteration in one step."""
        buffer = io.BytesIO()
        np.savez(buffer, centroids=centroids, done=np.array(done))
        content = buffer.getvalue()
        paths.write_bytes(self._path(layer, run, n_iter), hashlib.sha256(content).digest() + content)
        paths.remove(self._path(layer, run, n_iter - KEPT))

    def load(self, layer: tuple[str, ...], run: int) -> Saved | None:
        """The last iteration that is kept whole, or None."""
        system, place = paths.filesystem(paths.join(self.folder, layer[-1]))
        if not system.exists(place):
            return None
        names = (re.search(rf"/{run}-(\d+)\.checkpoint$", str(name)) for name in system.ls(place, detail=False))
        for n_iter in sorted((int(found[1]) for found in names if found), reverse=True):
            last = self._read(layer, run, n_iter)
            before = self._read(layer, run, n_iter - 1) if n_iter else None
            if last is not None and (before is not None or n_iter == 0):
                return Saved(n_iter, last[0], None if before is None else before[0], last[1])
        return None

    def _path(self, layer: tuple[str, ...], run: int, n_iter: int) -> str:
        return paths.join(self.folder, layer[-1], f"{run}-{n_iter}.checkpoint")

    def _read(self, layer: tuple[str, ...], run: int, n_iter: int) -> tuple[NDArray[np.float64], bool] | None:
        system, place = paths.filesystem(self._path(layer, run, n_iter))
        if not system.exists(place):
            return None
        found = system.cat_file(place)
        digest, content = found[:_DIGEST], found[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:  # damaged: as if it had not been reached
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            return held["centroids"], bool(held["done"])
