"""Concepts: K-means of the vectors of each layer, written with the words they belong to.

All runs (restarts, and numbers of concepts) of a layer advance together, and as many layers as fit the memory of the
workers. Vectors that do not fit are read again in every pass; what is remembered of each then makes it cheap.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import backend, kmeans, paths, store, ward
from engine.checkpoints import Checkpoints
from engine.kernels.finite import all_finite
from engine.kernels.lloyd import squared_distances
from engine.kernels.shards import shard_ranges
from engine.parts import ROW_BYTES, STATE_BYTES, Layer, Part, Run, Together, fitting, part, room
from engine.workers.protocol import Workers
from schemas import study
from schemas.concepts import CONCEPTS
from schemas.errors import InputError
from schemas.task import Key


@dataclass(frozen=True)
class Clustering:
    """All that the clustering tasks of one selection need to know beside their key."""

    path: str
    """Path of the CONCEPTS dataset."""
    sources: tuple[str, ...]
    """Paths of the ACTIVATIONS datasets whose tokens follow one another in the selection."""
    languages: tuple[str, ...]
    """Language of each source."""
    stops: tuple[int, ...]
    """End of each source's tokens in the selection (half-open)."""
    hidden: int
    """Length of a vector."""
    itemsize: int
    """Bytes of a stored number."""
    layers: tuple[int, ...]
    """Layers that are clustered."""
    part: Layer
    """Checkpoint, stack and selection: the head of every key."""
    shard_tokens: int
    """Tokens of a part."""
    ks: tuple[int, ...]
    """Numbers of concepts."""
    dropped: int | None = None
    """Token of the selection that is left out."""
    rows: tuple[str, ...] = ()
    """Paths of the CLUSTERED datasets that name each source's tokens, where not all of them are in the selection."""
    stored: tuple[int, ...] = ()
    """Layers of the stores in their order, where they have others than are clustered."""

    def keys(self, layers: Sequence[int]) -> list[Key]:
        """Every part of some layers, in the order in which sums are folded."""
        ranges = shard_ranges(self.stops[-1], self.shard_tokens)
        return [Key("concepts", (*self.part, str(layer)), a, b) for layer in layers for a, b in ranges]

    def runs(self, settings: study.Concepts) -> list[Run]:
        """Every restart with every number of concepts, in the order of the dimension `run`."""
        if settings.method == "ward":
            return [Run(number, k, -1) for number, k in enumerate(self.ks)]
        every = [(k, settings.seed + restart) for k in self.ks for restart in range(settings.restarts)]
        return [Run(number, k, seed) for number, (k, seed) in enumerate(every)]

    def stored_bytes(self, settings: study.Concepts) -> int:
        """Bytes on disk, about."""
        runs = settings.restarts * len(self.layers)
        concepts = sum(4 * k * self.hidden for k in self.ks)
        return runs * (8 * self.stops[-1] * len(self.ks) + concepts) + 24 * self.stops[-1]

    def layer_bytes(self) -> int:
        """Bytes of the vectors of one layer in memory."""
        return self.stops[-1] * self.hidden * self.itemsize


def together(task: Clustering, runs: Sequence[Run], memory: int) -> Together:
    """As much of a selection at once as fits the memory (bytes) of the workers; see `fitting`."""
    return fitting(task.stops[-1], task.hidden, task.itemsize, runs, len(task.layers), memory, task.path)


def setup(task: Clustering, settings: study.Concepts, **provenance: Any) -> None:
    """Lay out the CONCEPTS dataset of one selection."""
    runs = task.runs(settings)
    sizes = {
        "run": len(runs), "layer": len(task.layers), "token": task.stops[-1], "concept_id": max(task.ks),
        "hidden": task.hidden,
    }  # fmt: skip
    store.setup(
        task.path,
        CONCEPTS,
        sizes,
        {
            "layer": np.array(task.layers, np.int32),
            "k": np.array([run.k for run in runs], np.int32),
            "seed": np.array([run.seed for run in runs]),
        },
        chunks={"run": 1, "layer": 1, "token": task.shard_tokens},
        shards={},
        languages=list(dict.fromkeys(task.languages)),
        settings=settings.model_dump_json(),
        **provenance,
    )


def _sources(key: Key, task: Clustering) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Stores of a part: path, language, and its rows there."""
    start = 0
    for number, (path, language, stop) in enumerate(zip(task.sources, task.languages, task.stops, strict=True)):
        low, high = max(key.start, start), min(key.stop, stop)
        if low < high:
            within = np.arange(low - start, high - start)
            yield path, language, store.read_rows(task.rows[number], "row", within) if task.rows else within
        start = stop


def write_words(key: Key, task: Clustering) -> None:
    """Copy what the stores say of the tokens of a part."""
    names = list(dict.fromkeys(task.languages))
    columns: dict[str, list[NDArray[Any]]] = {}
    for path, language, rows in _sources(key, task):
        for name in ("token_id", "word", "sentence", "position"):
            columns.setdefault(name, []).append(store.read_rows(path, name, rows))
        columns.setdefault("language", []).append(np.full(len(rows), names.index(language), np.int8))
        _check_written(path, rows, columns["token_id"][-1])
    for name, values in columns.items():
        store.write_region(task.path, name, np.concatenate(values), token=key.start)


def _check_written(path: str, rows: NDArray[np.int64], token_id: NDArray[np.integer]) -> None:
    """Refuse rows of a store that are not there: they would pass for words without a vector."""
    if (unwritten := np.flatnonzero(token_id < 0)).size:
        raise InputError(
            f"{path}: token {rows[unwritten[0]]} is not there yet: the store is being written, or its writing was "
            "cut off; let what writes it come to its end, or run it again"
        )


def load_rows(key: Key, task: Clustering) -> tuple[Any, NDArray[np.int64]]:
    """Vectors (row, hidden) of a part's present tokens, on the device of clustering, and their places in the part.

    Raises
    ------
    InputError
        A vector that is marked present is not finite, or a token is not there.
    """
    layer = (task.stored or task.layers).index(int(key.part[-1]))
    rows, present = [], []
    for path, _, within in _sources(key, task):
        _check_written(path, within, store.read_rows(path, "token_id", within))
        rows.append(store.read_rows(path, "activation", within, axis=1, layer=layer))
        present.append(store.read_rows(path, "present", within))
    kept = np.concatenate(present)
    if task.dropped is not None and key.start <= task.dropped < key.stop:
        kept[task.dropped - key.start] = False
    values = rows[0] if len(rows) == 1 else np.concatenate(rows)
    if not kept.all():
        values = values[kept]
    if not all_finite(values):
        bad = int(np.flatnonzero(kept)[int(np.argmin(np.isfinite(values).all(axis=1)))]) + key.start
        raise InputError(
            f"layer {key.part[-1]}, token {bad} of {'+'.join(task.sources)}: the vector is not finite; its shard is "
            "missing or damaged: delete the store and its records, then run again"
        )
    return backend.kernels().put(values), np.flatnonzero(kept)


def cluster(
    task: Clustering,
    layers: Sequence[int],
    settings: study.Concepts,
    workers: Workers,
    progress: Callable[[str], None] = lambda _: None,
    *,
    start: NDArray[np.floating] | None = None,
    checkpoints: str | None = None,
    before_labels: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Cluster some layers of one selection, spread over all workers; yields (layer, small numbers) of what is written.

    The words are written with the first layer of the selection.

    Parameters
    ----------
    start
        (concept, hidden) first centroids of every run and layer, in place of drawn ones.
    checkpoints
        Folder for the centroids of every iteration, from which a lost driver goes on; those of a layer are removed when
        it has been yielded, and the folder in the end.
    before_labels
        Called before labels are written.

    Raises
    ------
    InputError
        There are fewer vectors than concepts at a layer.
    BudgetError
        The memory of the workers is too small.
    """
    runs = task.runs(settings)
    if task.layers[0] in layers:
        for _ in workers.map(write_words, task.keys(layers[:1]), task):
            pass
    if settings.method == "ward":
        yield from _ward(task, layers, runs, workers, progress)
        return
    if settings.preset == "reference":  # the published script reads points[:-1]
        task = replace(task, dropped=last_present(task))
    plan = together(task, runs, room(workers))
    kept = None if checkpoints is None else Checkpoints(checkpoints)
    shard = min(task.shard_tokens, task.stops[-1])
    for first in range(0, len(layers), plan.layers):
        group = layers[first : first + plan.layers]
        # what stays in memory of a part: Dask would write to disk what it believes to be more than fits
        row_bytes = task.hidden * task.itemsize if plan.keep else ROW_BYTES + STATE_BYTES * len(plan.runs[0])
        load = partial(part, load=partial(load_rows, task=task), nbytes=shard * row_bytes, keep=plan.keep)
        held = workers.hold(load, task.keys(group), plan.nbytes)
        known = kmeans.moments(held, workers)
        outcome: dict[Layer, list[tuple[int, float]]] = {layer: [] for layer in known}
        for some in plan.runs:
            fits = kmeans.fit(
                held, known, some, settings, workers,
                start=start, checkpoints=kept, progress=progress,
            )  # fmt: skip
            before_labels()
            passes = kmeans.final(fits, known, workers.products)
            inertia = workers.fold(_label, held, _add, passes, task)
            for layer, of in fits.items():
                for one, model in zip(of, passes[layer].models, strict=True):
                    _write_centroid(task, int(layer[-1]), one.run, model.centroids)
                outcome[layer] += [(one.n_iter, inertia[layer][one.run.number]) for one in of]
        for layer, numbers in outcome.items():
            scatter = float(known[layer].variance.sum()) * known[layer].count
            yield int(layer[-1]), _write_outcome(task, int(layer[-1]), runs, numbers, scatter)
            if checkpoints is not None:
                paths.remove(paths.join(checkpoints, layer[-1]))
        del held  # before the next group is loaded
    if checkpoints is not None:
        paths.remove(checkpoints)


def _ward(
    task: Clustering, layers: Sequence[int], runs: Sequence[Run], workers: Workers, progress: Callable[[str], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Agglomerative clustering of whole layers, in this process: one tree a layer, cut at every number of concepts."""
    for layer in layers:
        keys = task.keys([layer])
        tokens = sum(int(store.read_rows(p, "present", rows).sum()) for k in keys for p, _, rows in _sources(k, task))
        ward.check(tokens, task.hidden, workers.memory)
        progress(f"layer {layer}: tree of {tokens} vectors")
        loaded = [load_rows(key, task) for key in keys]
        rows = np.concatenate([backend.kernels().fetch(values) for values, _ in loaded])
        exact = rows.astype(np.float64)
        places = np.concatenate([key.start + at for key, (_, at) in zip(keys, loaded, strict=True)])
        numbers = []
        for run, labels in zip(runs, ward.labels(rows, [run.k for run in runs]), strict=True):
            centroids = np.stack([exact[labels == concept].mean(axis=0) for concept in range(run.k)])
            centroids = centroids.astype(np.float32).astype(np.float64)
            squared = squared_distances(exact, centroids, labels)
            for key in keys:
                here = (places >= key.start) & (places < key.stop)
                _write_labels(task, key, run.number, places[here] - key.start, labels[here], squared[here])
            _write_centroid(task, layer, run, centroids)
            numbers.append((0, float(squared.sum())))
        scatter = float(((exact - exact.mean(axis=0)) ** 2).sum())
        yield layer, _write_outcome(task, layer, runs, numbers, scatter)


def _add(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {number: one[number] + other[number] for number in one}


def _label(key: Key, part: Part, passes: Mapping[Layer, kmeans.Pass], task: Clustering) -> dict[int, float]:
    """Write concept and distance of a part's tokens in each run; returns the inertia of each."""
    inertia = {}
    places, found = kmeans.label(key, part, passes)
    for number, (labels, squared) in found.items():
        _write_labels(task, key, number, places, labels, squared)
        inertia[number] = float(squared.sum())
    return inertia


def _write_labels(
    task: Clustering,
    key: Key,
    run: int,
    places: NDArray[np.int64],
    labels: NDArray[np.int32],
    squared: NDArray[np.float64],
) -> None:
    at = task.layers.index(int(key.part[-1]))
    concept = np.full(key.stop - key.start, -1, np.int32)
    distance = np.full(key.stop - key.start, np.nan, np.float32)
    concept[places], distance[places] = labels, np.sqrt(squared)
    store.write_region(task.path, "concept", concept[None, None], run=run, layer=at, token=key.start)
    store.write_region(task.path, "distance", distance[None, None], run=run, layer=at, token=key.start)


def _write_centroid(task: Clustering, layer: int, run: Run, centroids: NDArray[np.float64]) -> None:
    centroid = np.full((max(task.ks), task.hidden), np.nan, np.float32)
    centroid[: run.k] = centroids
    store.write_region(task.path, "centroid", centroid[None, None], run=run.number, layer=task.layers.index(layer))


def _write_outcome(
    task: Clustering, layer: int, runs: Sequence[Run], numbers: Sequence[tuple[int, float]], scatter: float
) -> dict[str, Any]:
    """Write the small numbers of a layer, and which run is chosen for each number of concepts."""
    at = task.layers.index(layer)
    for run, (n_iter, inertia) in zip(runs, numbers, strict=True):
        rivals = [number for other, number in zip(runs, numbers, strict=True) if other.k == run.k]
        least = min(rivals, key=lambda one: one[1])
        first = next(r for r, n in zip(runs, numbers, strict=True) if r.k == run.k and n[1] == least[1])
        for name, value in (
            ("n_iter", np.int32(n_iter)), ("inertia", np.float64(inertia)), ("chosen", np.bool_(run == first)),
        ):  # fmt: skip
            store.write_region(task.path, name, np.full((1, 1), value), layer=at, run=run.number)
    store.write_region(task.path, "scatter", np.full(1, scatter), layer=at)
    return {"n_iter": [n for n, _ in numbers], "inertia": [i for _, i in numbers], "scatter": scatter}


def last_present(task: Clustering) -> int | None:
    """The last token of a selection that has a vector; None where none has."""
    for key in reversed(task.keys(task.layers[:1])):
        present = np.concatenate([store.read_rows(path, "present", rows) for path, _, rows in _sources(key, task)])
        if present.any():
            return int(key.start + np.flatnonzero(present)[-1])
    return None


def chosen_runs(concepts: xr.Dataset, k: int) -> NDArray[np.intp]:
    """Run (layer) that was chosen at each layer, of those with k concepts."""
    runs = np.flatnonzero(concepts.k.values == k)
    return np.asarray(runs[concepts.chosen.values[runs].argmax(axis=0)])


def chosen_by_layer(concepts: xr.Dataset, k: int) -> Iterator[NDArray[np.int32]]:
    """Concept (token) of each token in the chosen restart, of those with k concepts, of one layer after another."""
    return (concepts.concept[r, i].values for i, r in enumerate(chosen_runs(concepts, k)))


def chosen_concepts(concepts: xr.Dataset, k: int) -> NDArray[np.int32]:
    """Concept (layer, token) of each token in the chosen restart of each layer, of those with k concepts."""
    return np.stack([*chosen_by_layer(concepts, k)])
