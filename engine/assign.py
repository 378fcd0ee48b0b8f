"""Assigning further word vectors to the concepts of a CONCEPTS dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import backend, kmeans, store
from engine.kernels.lloyd import Rows, squared_distances
from engine.kernels.shards import blocks, shard_ranges
from engine.parts import Part, Run, part
from engine.workers.protocol import Workers
from schemas.activations import ACTIVATIONS
from schemas.concepts import ASSIGNMENTS, CONCEPTS
from schemas.errors import InputError
from schemas.task import Key

_ROWS = 16384
"""Vectors that are read at once."""


@dataclass(frozen=True)
class _Source:
    """The vectors that a task reads."""

    path: str
    layers: tuple[int, ...]
    """Layers of the store, in its order."""


def runs_of(concepts: xr.Dataset, k: int | None) -> NDArray[np.int64]:
    """The chosen run (layer) of each layer.

    Raises
    ------
    InputError
        There are runs of several numbers of concepts and none is given, or none of the given one; or no run is chosen.
    """
    ks = sorted(set(concepts.k.values.tolist()))
    if k is None and len(ks) > 1:
        raise InputError(f"clustered with k = {', '.join(map(str, ks))}; choose one with --k")
    if k is not None and k not in ks:
        raise InputError(f"not clustered with k = {k}; there is {', '.join(map(str, ks))}")
    chosen = concepts.chosen.values & (concepts.k.values == (ks[0] if k is None else k))[:, None]
    if not chosen.any(axis=0).all():
        missing = concepts.layer.values[~chosen.any(axis=0)]
        raise InputError(
            f"layer {missing[0]} is not clustered yet; let the clustering come to its end, or run it again"
        )
    return np.asarray(chosen.argmax(axis=0), np.int64)


def assign(
    concepts_path: str,
    activations_path: str,
    workers: Workers,
    *,
    k: int | None = None,
    layers: Sequence[int] | None = None,
) -> xr.Dataset:
    """Nearest concept, distance and margin of every vector of a store.

    Parameters
    ----------
    concepts_path
        CONCEPTS dataset, whose chosen runs are used.
    activations_path
        ACTIVATIONS dataset with vectors of the same model.
    k
        Number of concepts, where the clustering has several.
    layers
        Layers to assign, by default all that both have.

    Returns
    -------
    An ASSIGNMENTS dataset.

    Raises
    ------
    InputError
        The vectors have another length, or a layer is missing.
    """
    concepts, vectors = store.load(concepts_path, CONCEPTS), store.load(activations_path, ACTIVATIONS)
    held, theirs = vectors.layer.values.tolist(), concepts.layer.values.tolist()
    wanted = [layer for layer in theirs if layer in held] if layers is None else list(layers)
    for path, found in ((concepts_path, theirs), (activations_path, held)):
        if missing := [layer for layer in wanted if layer not in found]:
            raise InputError(f"{path}: has no layer {missing[0]}; it has {', '.join(map(str, found))}")
    if not wanted:
        raise InputError(f"{activations_path}: has no layer of {concepts_path}: {held} and {theirs}")
    if vectors.sizes["hidden"] != concepts.sizes["hidden"]:
        raise InputError(
            f"{activations_path}: vectors of {vectors.sizes['hidden']} numbers, and the centroids of {concepts_path} "
            f"have {concepts.sizes['hidden']}; give vectors of the model that was clustered"
        )
    try:
        runs = runs_of(concepts, k)
    except InputError as error:
        raise InputError(f"{concepts_path}: {error}") from error
    tokens = vectors.sizes["token"]
    columns = {
        "concept": np.full((len(wanted), tokens), -1, np.int32),
        "distance": np.full((len(wanted), tokens), np.nan, np.float32),
        "margin": np.full((len(wanted), tokens), np.nan, np.float32),
    }
    load = partial(_load, source=_Source(activations_path, tuple(held)))
    for i, layer in enumerate(wanted):
        at = theirs.index(layer)
        run = int(runs[at])
        with store.undamaged(concepts_path):
            centroids = concepts.centroid[run, at, : int(concepts.k[run])].values.astype(np.float64)
        keys = [Key("assign", (str(layer),), a, b) for a, b in shard_ranges(tokens, _ROWS)]
        model = kmeans.Model(
            kmeans.Fit(Run(0, len(centroids), 0), centroids), centroids.mean(axis=0).astype(np.float32)
        )
        passes = {(str(layer),): kmeans.Pass((model,), 0.0, workers.products)}
        parts = workers.hold(partial(part, load=load, nbytes=0, keep=False), keys, 0)
        for places, *values in workers.fold(_assigned, parts, _joined, passes).get((str(layer),), []):
            for column, value in zip(columns.values(), values, strict=True):
                column[i, places] = value
    with store.undamaged(activations_path):
        known = {name: vectors[name].values for name in ("token_id", "word", "sentence", "position")}
    return ASSIGNMENTS.create(
        {"layer": np.array(wanted, np.int32), **columns, **known},
        concepts=concepts_path,
        activations=activations_path,
        k=int(concepts.k[int(runs[0])]),
    )


def _load(key: Key, source: _Source) -> tuple[Any, NDArray[np.int64]]:
    rows = np.arange(key.start, key.stop)
    layer = source.layers.index(int(key.part[-1]))
    if (unwritten := np.flatnonzero(store.read_rows(source.path, "token_id", rows) < 0)).size:
        raise InputError(
            f"{source.path}: token {rows[unwritten[0]]} is not there yet: the store is being written, or its writing "
            "was cut off; let what writes it come to its end, or run it again"
        )
    present = np.flatnonzero(store.read_rows(source.path, "present", rows))
    values = store.read_rows(source.path, "activation", rows, axis=1, layer=layer)[present]
    if not np.isfinite(values).all():
        bad = key.start + int(present[int(np.argmin(np.isfinite(values).all(axis=1)))])
        raise InputError(
            f"{source.path}: layer {key.part[-1]}, token {bad}: the vector is not finite; its shard is missing or "
            "damaged, so make the store again"
        )
    return backend.kernels().put(values), present


def _assigned(key: Key, part: Part, passes: Any) -> list[tuple[NDArray[Any], ...]]:
    """Places (row) of a part's vectors among all tokens, and their concept, distance and margin (row)."""
    (model,) = passes[key.part].models
    values, within = part.load(key)
    held = Part(key, part.load, 0, Rows(values), within)
    _, found = kmeans.label(key, held, passes)
    labels, squared = found[0]
    distance = np.sqrt(squared)
    exact = backend.kernels().fetch(values)
    second = np.concatenate([np.empty(0), *_second(exact, model.centroids, labels)])
    return [(key.start + within, labels, distance, np.maximum(second - distance, 0))]


def _second(
    rows: NDArray[np.floating], centroids: NDArray[np.float64], labels: NDArray[np.int32]
) -> Iterator[NDArray[np.float64]]:
    """Distance (row) to the second nearest centroid, block by block; inf where there is one centroid."""
    norms = (centroids**2).sum(axis=1)
    for at in blocks(len(rows), 1024):
        scores = norms - 2 * (rows[at].astype(np.float64) @ centroids.T)
        scores[np.arange(len(scores)), labels[at]] = np.inf
        second = scores.argmin(axis=1)
        yield np.sqrt(squared_distances(rows[at], centroids, second)) if len(norms) > 1 else scores[:, 0]


def _joined(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *other]
