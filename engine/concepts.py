"""Concepts: K-means of the vectors of each layer, one sweep over the shards an iteration, nothing kept on workers.

Lloyd's algorithm with scikit-learn's rules: stop when no label changes, or when the summed squared shift of the
centroids falls to tolerance × mean variance; an empty concept takes the row farthest from its centroid. All layers of a
group advance together and drop out as they finish. Sums are float64 and folded in key order.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import backend, store
from engine.kernels import lloyd
from engine.kernels.shards import shard_ranges
from engine.workers.protocol import Held, Workers
from schemas import study
from schemas.concepts import CONCEPTS
from schemas.errors import InputError
from schemas.task import Key

Layer = tuple[str, ...]
"""The `part` of a key that names a layer; its last entry is the layer number."""


@dataclass(frozen=True)
class Clustering:
    """All that the clustering tasks of one selection need to know beside their key."""

    path: str
    """Path of the CONCEPTS dataset."""
    sources: tuple[str, ...]
    """Paths of the ACTIVATIONS datasets whose tokens follow one another in the selection."""
    stops: tuple[int, ...]
    """End of each source's tokens in the selection (half-open)."""
    hidden: int
    """Length of a vector."""
    itemsize: int
    """Bytes of a stored number."""
    layers: tuple[int, ...]
    """Layers, in the order of the stores."""
    part: Layer
    """Checkpoint, stack and selection: the head of every key."""
    shard_tokens: int
    """Tokens of a part."""

    def keys(self, layers: Sequence[int]) -> list[Key]:
        """Every part of some layers, in the order in which sums are folded."""
        ranges = shard_ranges(self.stops[-1], self.shard_tokens)
        return [Key("concepts", (*self.part, str(layer)), a, b) for layer in layers for a, b in ranges]

    def layer_bytes(self) -> int:
        """Bytes of one layer in memory."""
        return self.stops[-1] * self.hidden * self.itemsize


@dataclass
class _Fit:
    """State of one layer while it is being clustered."""

    mean: NDArray[np.float32]
    limit: float
    """Squared shift at which to stop: tolerance × mean variance."""
    centroids: NDArray[np.float32]
    """(concept, hidden), less the mean."""
    labels: bytes = b""
    n_iter: int = 0
    done: bool = False


@dataclass(frozen=True)
class Moments:
    """Counts, sums and sums of squares (hidden) of some rows, float64; `+` folds two of them."""

    count: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)


def setup(task: Clustering, token_id: NDArray[np.int64], settings: study.Concepts, **provenance: Any) -> None:
    """Lay out the CONCEPTS dataset of one selection."""
    runs = settings.restarts
    sizes = {
        "run": runs, "layer": len(task.layers), "token": len(token_id), "concept_id": settings.k, "hidden": task.hidden
    }  # fmt: skip
    store.setup(
        task.path,
        CONCEPTS,
        sizes,
        {
            "layer": np.array(task.layers, np.int32),
            "k": np.full(runs, settings.k, np.int32),
            "seed": settings.seed + np.arange(runs),
            "token_id": token_id,
        },
        chunks={"run": 1, "layer": 1, "token": task.shard_tokens},
        shards={},
        settings=settings.model_dump_json(),
        **provenance,
    )


def load_rows(key: Key, task: Clustering) -> tuple[Any, NDArray[np.int64]]:
    """Vectors (row, hidden) of a part's present tokens, on the device of clustering, and their places in the part.

    Raises
    ------
    InputError
        A vector that is marked present is not finite.
    """
    layer = task.layers.index(int(key.part[-1]))
    rows, present = [], []
    start = 0
    for path, stop in zip(task.sources, task.stops, strict=True):
        low, high = max(key.start, start), min(key.stop, stop)
        if low < high:
            within = np.arange(low - start, high - start)
            rows.append(store.read_rows(path, "activation", within, axis=1, layer=layer))
            present.append(store.read_rows(path, "present", within))
        start = stop
    kept = np.concatenate(present)
    values = np.concatenate(rows)[kept]
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(kept)[int(np.argmin(np.isfinite(values).all(axis=1)))]) + key.start
        raise InputError(
            f"layer {key.part[-1]}, token {bad} of {'+'.join(task.sources)}: the vector is not finite; its shard is "
            "missing or damaged: delete the store and its records, then run again"
        )
    return backend.to_device(values, backend.array_module()), np.flatnonzero(kept)


def cluster(
    task: Clustering,
    layers: Sequence[int],
    settings: study.Concepts,
    workers: Workers,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Cluster some layers of one selection; yields (layer, small numbers) when a layer's results are written.

    Layers go together in groups whose vectors fit the workers' memory; a layer that alone does not fit is read again
    in every iteration.

    Raises
    ------
    InputError
        There are fewer vectors than concepts at a layer.
    """
    together = max(1, int(workers.memory // max(task.layer_bytes(), 1)))
    for first in range(0, len(layers), together):
        group = layers[first : first + together]
        held = workers.hold(partial(load_rows, task=task), task.keys(group), task.layer_bytes() * len(group))
        outcome: dict[Layer, dict[str, Any]] = {}
        moments = workers.fold(_moments, held, operator.add)
        for run in range(settings.restarts):
            fits = _seed(moments, held, settings, run, workers)
            _iterate(fits, held, settings, workers, progress)
            inertia = _write(task, fits, held, run, workers)
            for layer, value in inertia.items():
                outcome.setdefault(layer, {"n_iter": [], "inertia": []})
                outcome[layer]["n_iter"].append(fits[layer].n_iter)
                outcome[layer]["inertia"].append(value)
        for layer, numbers in outcome.items():
            chosen = np.zeros((settings.restarts, 1), bool)
            chosen[int(np.argmin(numbers["inertia"]))] = True
            at = task.layers.index(int(layer[-1]))
            for name, values in (("n_iter", np.int32), ("inertia", np.float64)):
                for run, value in enumerate(numbers[name]):
                    store.write_region(task.path, name, np.full((1, 1), value, values), layer=at, run=run)
            for run in range(settings.restarts):
                store.write_region(task.path, "chosen", chosen[run : run + 1], layer=at, run=run)
            yield int(layer[-1]), numbers
        del held  # before the next group is loaded


def _moments(key: Key, part: tuple[Any, Any]) -> Moments:
    found = Moments(0, np.zeros(part[0].shape[1]), np.zeros(part[0].shape[1]))
    for at in lloyd.blocks(len(part[0])):
        rows = backend.to_host(part[0][at], backend.array_module()).astype(np.float64)
        found = found + Moments(len(rows), rows.sum(axis=0), (rows * rows).sum(axis=0))
    return found


def _sample(key: Key, part: tuple[Any, Any], wanted: dict[Layer, NDArray[np.int64]], starts: dict[Key, int]) -> Any:
    """Rows of a part whose numbers among the layer's vectors are wanted."""
    first = starts[key]
    numbers = wanted[key.part]
    here = numbers[(numbers >= first) & (numbers < first + len(part[0]))] - first
    xp = backend.array_module()
    return backend.to_host(part[0][backend.to_device(here, xp)], xp)


def _seed(
    moments: dict[Layer, Moments], held: Held, settings: study.Concepts, run: int, workers: Workers
) -> dict[Layer, _Fit]:
    """Greedy k-means++ on a seeded sample of each layer's vectors."""
    lengths = workers.fold(_length, held, operator.or_)
    starts: dict[Key, int] = {}
    wanted: dict[Layer, NDArray[np.int64]] = {}
    size = max(settings.seeding_tokens, 10 * settings.k)
    for layer, found in moments.items():
        if found.count < settings.k:
            raise InputError(
                f"{'/'.join(layer)}: {found.count} vectors cannot form {settings.k} concepts; lower concepts.k or "
                "select more words"
            )
        first = 0
        for key in (k for k in held.keys if k.part == layer):
            starts[key] = first
            first += lengths[layer][key]
        chosen = np.random.default_rng(settings.seed + run).permutation(found.count)[:size]
        wanted[layer] = np.sort(chosen)
    samples = workers.fold(_sample, held, _stack, wanted, starts)

    def start(layer: Layer) -> _Fit:
        found = moments[layer]
        mean = found.total / found.count
        variance = found.squares / found.count - mean * mean
        mean32 = mean.astype(np.float32)
        seeds = backend.seed_centroids(samples[layer].astype(np.float32) - mean32, settings.k, settings.seed + run)
        return _Fit(mean32, settings.tolerance * float(variance.mean()), seeds)

    with ThreadPoolExecutor(workers.threads) as pool:
        return dict(zip(samples, pool.map(start, samples), strict=True))


def _length(key: Key, part: tuple[Any, Any]) -> dict[Key, int]:
    return {key: len(part[0])}


def _stack(above: Any, below: Any) -> Any:
    return np.concatenate([above, below])


def _iterate(
    fits: dict[Layer, _Fit],
    held: Held,
    settings: study.Concepts,
    workers: Workers,
    progress: Callable[[str], None],
) -> None:
    """Advance all layers together until each has stopped."""
    while active := [layer for layer, fit in fits.items() if not fit.done]:
        still = held.of([k for k in held.keys if k.part in active])
        model = {layer: (fits[layer].mean, fits[layer].centroids) for layer in active}
        sweeps = workers.fold(_sweep, still, operator.add, model)
        starved = [layer for layer in active if not sweeps[layer].counts.all()]
        spare = {}
        if starved:
            most = max(int((sweeps[layer].counts == 0).sum()) for layer in starved)
            rows = held.of([k for k in held.keys if k.part in starved])
            spare = workers.fold(_farthest, rows, partial(_farther, count=most), model, most)
        for layer in active:
            fit, found = fits[layer], sweeps[layer]
            new = _centroids(found, spare.get(layer))
            shift = float(((new - fit.centroids).astype(np.float64) ** 2).sum())
            fit.n_iter += 1
            if found.labels == fit.labels:
                fit.done = True  # no label changed: the centroids are those of the labels already
                continue
            fit.done = shift <= fit.limit or fit.n_iter == settings.max_iterations
            fit.centroids, fit.labels = new, found.labels
        progress(f"iteration {max(f.n_iter for f in fits.values())}, {len(active)} layers active")


def _sweep(key: Key, part: tuple[Any, Any], model: dict[Layer, Any]) -> lloyd.Sweep:
    xp = backend.array_module()
    mean, centroids = (backend.to_device(a, xp) for a in model[key.part])
    return lloyd.sweep(part[0], mean, centroids, xp=xp)


def _farthest(key: Key, part: tuple[Any, Any], model: dict[Layer, Any], count: int) -> tuple[NDArray[Any], ...]:
    xp = backend.array_module()
    mean, centroids = (backend.to_device(a, xp) for a in model[key.part])
    labels = lloyd.nearest(part[0], mean, centroids, xp=xp)
    found = lloyd.farthest(part[0], mean, centroids, labels, count, xp=xp)
    return tuple(backend.to_host(a, xp) for a in found)


def _farther(one: tuple[Any, ...], other: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The `count` farthest rows of two parts; ties keep key order."""
    joined = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    order = np.argsort(-joined[0], kind="stable")[:count]
    return tuple(values[order] for values in joined)


def _centroids(found: lloyd.Sweep, spare: tuple[NDArray[Any], ...] | None) -> NDArray[np.float32]:
    """Means (concept, hidden); an empty concept takes the next farthest row, which leaves its own concept.

    As in scikit-learn nothing is moved when every row lies on its centroid (fewer distinct rows than concepts).
    """
    sums, counts = found.sums.copy(), found.counts.astype(np.float64)
    if spare is not None and spare[0][0] > 0:
        for concept, label, row in zip(np.flatnonzero(found.counts == 0), spare[1], spare[2], strict=False):
            sums[label] -= row
            counts[label] -= 1
            sums[concept], counts[concept] = row, 1
    return np.asarray(sums / np.maximum(counts, 1)[:, None], np.float32)


def _write(task: Clustering, fits: dict[Layer, _Fit], held: Held, run: int, workers: Workers) -> dict[Layer, float]:
    """Label every token with its nearest final centroid, write labels and centroids, and return each inertia."""
    model = {layer: (fit.mean, fit.centroids) for layer, fit in fits.items()}
    for layer, fit in fits.items():
        centroid = (fit.centroids.astype(np.float64) + fit.mean).astype(np.float32)
        store.write_region(
            task.path, "centroid", centroid[None, None], run=run, layer=task.layers.index(int(layer[-1]))
        )
    return workers.fold(_label, held, operator.add, model, task, run)


def _label(key: Key, part: tuple[Any, Any], model: dict[Layer, Any], task: Clustering, run: int) -> float:
    xp = backend.array_module()
    mean, centroids = (backend.to_device(a, xp) for a in model[key.part])
    labels = lloyd.nearest(part[0], mean, centroids, xp=xp)
    inertia = float(lloyd.squared_distances(part[0], mean, centroids, labels, xp=xp).sum())
    concepts = np.full(key.stop - key.start, -1, np.int32)
    concepts[part[1]] = backend.to_host(labels, xp)
    at = task.layers.index(int(key.part[-1]))
    store.write_region(task.path, "concept", concepts[None, None], run=run, layer=at, token=key.start)
    return inertia


def chosen_concepts(concepts: xr.Dataset) -> NDArray[np.int32]:
    """Concept (layer, token) of each token in the chosen restart of each layer."""
    run = concepts.chosen.values.argmax(axis=0)
    return np.stack([concepts.concept[r, i].values for i, r in enumerate(run)])
