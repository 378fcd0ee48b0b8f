"""Small stores of vectors, their clustering on any workers, and workers and drivers that something befalls."""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from engine import concepts, kmeans, store
from engine.concepts import Clustering
from engine.parts import Layer, Moments, Part, Run, part
from engine.workers.protocol import Held, Workers
from engine.workers.serial import SerialWorkers
from schemas import study
from schemas.concepts import CONCEPTS
from schemas.task import Key
from tests.test_concepts import write

_NUMBERS = count()

LAYER: Layer = ("0",)


class StoppedError(Exception):
    """The driver is lost."""


def stored(
    folder: Path,
    vectors: np.ndarray,
    ks: Sequence[int],
    *,
    present: np.ndarray | None = None,
    shard: int = 128,
) -> Clustering:
    """Store vectors (layer, token, hidden), and describe the clustering of all their layers."""
    layers, tokens, hidden = vectors.shape
    kept = np.ones(tokens, bool) if present is None else present
    source = folder / "activations.zarr"
    return Clustering(
        str(folder / "concepts.zarr"), (write(source, vectors, kept, shard),), ("de",), (tokens,), hidden,
        vectors.dtype.itemsize, tuple(range(layers)), ("base", "encoder", "de"), shard, tuple(ks),
    )  # fmt: skip


def settings(ks: Sequence[int], **values: Any) -> study.Concepts:
    """Settings of a clustering."""
    return study.Concepts(k=max(ks), **values)


def clustered(
    task: Clustering,
    wanted: study.Concepts,
    workers: Workers | None = None,
    *,
    memory: int = 2**30,
    threads: int = 1,
    products: str = "auto",
    **options: Any,
) -> xr.Dataset:
    """The CONCEPTS dataset of a clustering; `workers` are entered already, or it is done in this process."""
    path = f"{task.path.removesuffix('.zarr')}{next(_NUMBERS)}.zarr"
    task = Clustering(**{**vars(task), "path": path})
    concepts.setup(task, wanted)
    serial = SerialWorkers(threads, memory, products)
    entered: AbstractContextManager[Workers] = serial if workers is None else nullcontext(workers)
    with entered as able:
        for _ in concepts.cluster(task, task.layers, wanted, able, **options):
            pass
    return store.load(path, CONCEPTS).load()


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Check every bit of a clustering."""
    xr.testing.assert_equal(found, expected)
    for name in ("concept", "distance", "centroid", "inertia", "n_iter", "chosen"):
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


def held_parts(
    rows: np.ndarray, workers: Workers, shard: int, *, keep: bool = True
) -> tuple[Held, dict[Layer, Moments]]:
    """Vectors (row, hidden) of a layer in parts, held by workers, and their moments."""
    keys = [Key("concepts", LAYER, a, min(a + shard, len(rows))) for a in range(0, len(rows), shard)]
    load = partial(part, load=partial(_slice, rows), nbytes=0, keep=keep)
    held = workers.hold(load, keys, 0)
    return held, kmeans.moments(held, workers)


def _slice(rows: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
    return rows[key.start : key.stop], np.arange(key.stop - key.start)


def bits(fit: kmeans.Fit) -> tuple[Any, ...]:
    """All that a run ends with."""
    return fit.n_iter, fit.done, fit.centroids.tobytes(), None if fit.before is None else fit.before.tobytes()


def runs_of(ks: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    """Every number of concepts with every seed."""
    return [Run(number, k, seed) for number, (k, seed) in enumerate((k, seed) for k in ks for seed in seeds)]


class Forgetful(SerialWorkers):
    """Parts lose what they remember, by chance, before any call."""

    def __init__(self, seed: int, share: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.chance, self.share = random.Random(seed), share

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[..., Any], *args: Any, **options: Any
    ) -> Any:
        for value in (held.values or {}).values():
            for memory in (value.states, value.nearest):
                for number in list(memory):
                    if self.chance.random() < self.share:
                        del memory[number]
            if self.chance.random() < self.share:
                value.rows.norm = value.rows.lost = None
        return super().fold(function, held, combine, *args, **options)


class Repeating(SerialWorkers):
    """Every call is made twice, as when the answer of the first is lost; or fails the first time, in the middle."""

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[..., Any], *args: Any, **options: Any
    ) -> Any:
        def twice(key: Key, value: Part, *rest: Any) -> Any:
            function(key, value, *rest)
            return function(key, value, *rest)

        return super().fold(twice, held, combine, *args, **options)
