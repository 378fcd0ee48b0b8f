"""Parts of a layer on a worker: their vectors, held or read again, and what is remembered of them between passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import backend
from engine.allocator import reuse_blocks
from engine.kernels.lloyd import Rows, State
from engine.kernels.sums import grid
from engine.workers.protocol import Workers
from schemas.errors import BudgetError
from schemas.task import Key

MODEL_COPIES = 6
"""Float64 copies of the centroids of a run that exist at once: those before and after, sums, and what a pass makes."""

ROW_BYTES = 8
"""Bytes that are remembered of every vector."""

STATE_BYTES = 12
"""Bytes that are remembered of every vector in every run."""


Layer = tuple[str, ...]
"""The `part` of a key that names a layer."""


@dataclass(frozen=True)
class Run:
    """One restart with one number of concepts."""

    number: int
    """Place along the dimension `run`."""
    k: int
    seed: int


@dataclass(frozen=True)
class Moments:
    """What is known of the vectors of a layer before they are clustered; `+` folds two of them."""

    count: int
    total: NDArray[np.float64]
    """(hidden) sums."""
    squares: NDArray[np.float64]
    """(hidden) sums of squares."""
    largest: float
    """Largest absolute number."""
    dtype: str

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            max(self.largest, other.largest),
            str(np.promote_types(self.dtype, other.dtype)),  # stores of a mixed selection may differ
        )

    @property
    def mean(self) -> NDArray[np.float32]:
        """(hidden) mean vector, rounded."""
        return (self.total / self.count).astype(np.float32)

    @property
    def variance(self) -> NDArray[np.float64]:
        """(hidden) variance."""
        mean = self.total / self.count
        return np.maximum(self.squares / self.count - mean * mean, 0)

    @property
    def unit(self) -> float:
        """Grid of exact sums."""
        return grid(self.largest, self.count, self.dtype)


@dataclass(frozen=True)
class Together:
    """What is clustered in one go."""

    layers: int
    """Layers that advance together."""
    runs: tuple[tuple[Run, ...], ...]
    """Runs that advance together."""
    keep: bool
    """Whether vectors stay in memory."""
    nbytes: int
    """Bytes that are held for it."""


def fitting(
    tokens: int, hidden: int, itemsize: int, runs: Sequence[Run], layers: int, memory: int, name: str
) -> Together:
    """As much at once as fits the memory (bytes) of the workers: vectors first, then runs, then layers.

    Parameters
    ----------
    tokens, hidden, itemsize
        Vectors of a layer, numbers of a vector, bytes of a number.
    name
        What is clustered, for messages.

    Raises
    ------
    BudgetError
        Not even what is remembered of one run fits.
    """

    def needed(some: Sequence[Run], keep: bool) -> int:
        held = tokens * hidden * itemsize if keep else 0
        models = sum(MODEL_COPIES * run.k * hidden * 8 for run in some)
        return held + tokens * (ROW_BYTES + STATE_BYTES * len(some)) + models

    largest = max(runs, key=lambda run: run.k)
    for keep in (True, False):
        if needed([largest], keep) <= memory:
            groups: list[list[Run]] = []
            for run in runs:
                if groups and needed([*groups[-1], run], keep) <= memory:
                    groups[-1].append(run)
                else:
                    groups.append([run])
            most = max(needed(group, keep) for group in groups)
            most_layers = min(layers, memory // most) if keep and len(groups) == 1 else 1
            return Together(most_layers, tuple(tuple(group) for group in groups), keep, most_layers * most)
    raise BudgetError(
        f"{name}: {tokens} vectors and {largest.k} concepts need {needed([largest], False) / 2**20:.3g} MiB to be "
        f"clustered even if vectors are read again in every pass, and {memory / 2**20:.3g} MiB may be held; raise the "
        "memory, use more workers, or lower the number of concepts"
    )


def room(workers: Workers) -> int:
    """Bytes of parts that workers may hold: where parts lie on devices, at most half of what those have free."""
    free = [*workers.each(backend.free_memory).values()] or [backend.free_memory()]
    known = [one for one in free if isinstance(one, int)]  # not where there is no device, or a worker was lost
    return min(workers.memory, min(known) * len(free) // 2) if known else workers.memory


@dataclass
class Part:
    """Some vectors of one layer. What it remembers makes passes cheap and changes no result: it may be lost."""

    key: Key
    load: Callable[[Key], tuple[Any, NDArray[Any]]]
    """Reads vectors (row, hidden) and their places (row) in the part."""
    nbytes: int
    """About the bytes that stay in memory: of the vectors, or of what is remembered of them."""
    rows: Rows
    """The vectors; without values where they are read again in every pass."""
    places: NDArray[Any] | None = None
    """Where each vector stands in the part (row)."""
    states: dict[int, tuple[int, State]] = field(default_factory=dict)
    """By run: the number of the centroids that the state belongs to, and the state."""
    nearest: dict[int, tuple[Any, Any, int]] = field(default_factory=dict)
    """By run, while first centroids are sought: nearest candidate (row), squared distance (row), candidates so far."""

    def __sizeof__(self) -> int:
        """Dask moves what is small to idle workers, and would leave the memory of it behind."""
        return self.nbytes

    def opened(self) -> tuple[Rows, NDArray[Any]]:
        """The vectors and their places."""
        if self.places is not None:
            return self.rows, self.places
        values, places = self.load(self.key)
        return Rows(values, self.rows.norm, self.rows.lost), places

    def remember(self, rows: Rows) -> None:
        """Keep what a pass found out about the vectors."""
        self.rows.norm, self.rows.lost = rows.norm, rows.lost


def part(key: Key, load: Callable[[Key], tuple[Any, NDArray[Any]]], nbytes: int, keep: bool) -> Part:
    """A part whose vectors are kept in memory, or read again in every pass."""
    reuse_blocks()
    if not keep:
        return Part(key, load, nbytes, Rows(None))
    values, places = load(key)
    return Part(key, load, nbytes, Rows(values), places)
