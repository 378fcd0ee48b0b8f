"""Results: scores of every checkpoint, pair and threshold, derived from counts into one labelled tree."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import store
from engine.paths import explained, replaced
from engine.places import group_at
from schemas.counts import RANKS
from schemas.dataset import FORMAT_VERSION, Schema
from schemas.metrics import Metrics
from schemas.results import (
    CALIGN,
    CALIGN_BY_K,
    CALIGN_SWEEPS,
    COLAP,
    COLAP_BY_K,
    COLAP_SWEEPS,
    CROSS,
    STATISTICS,
)

SWEEPS: dict[str, Sequence[float]] = {
    "n_best": tuple(range(1, RANKS + 1)),
    "theta_align": tuple(round(0.5 + 0.05 * i, 2) for i in range(11)),
    "min_types": tuple(range(11)),
    "max_size_gap": tuple(round(0.1 * i, 1) for i in range(11)),
    "theta_overlap": tuple(round(0.05 * i, 2) for i in range(1, 11)),
}
"""Grids around the paper's thresholds, wider than those of Figure 30."""

Part = tuple[dict[str, Any], Sequence[xr.Dataset]]
"""Labels (checkpoint, stack, languages) and the counts that they name: several are joined layer by layer."""


Score = Callable[..., Mapping[str, NDArray[np.floating]]]
"""`engine.calign.score` or `engine.colap.score`."""


class Table:
    """Scores laid out along their labels; cells that no part names are NaN."""

    def __init__(self, schema: Schema, labels: Mapping[str, Sequence[Any]], score: Score, **thresholds: Any) -> None:
        """Lay out an empty table.

        Parameters
        ----------
        schema
            Schema of the result.
        labels
            Values of the dimensions of the schema that are no thresholds.
        score
            The metric.
        thresholds
            Keyword arguments of `score`; a tuple makes a dimension of its own.
        """
        self._schema, self._score, self._thresholds = schema, score, thresholds
        self.swept = swept = [name for name, value in thresholds.items() if isinstance(value, tuple)]
        self._dims = next(v.dims for v in schema.variables if not v.coordinate)
        self._labels = {d: list(thresholds[d] if d in swept else labels[d]) for d in self._dims}
        shape = tuple(len(self._labels[d]) for d in self._dims)
        self._values = {v.name: np.full(shape, np.nan) for v in schema.variables if not v.coordinate}
        grids = product(*(self._labels[name] for name in swept))
        self._points = [dict(zip(swept, values, strict=True)) for values in grids]
        self._fixed = {name: value for name, value in thresholds.items() if name not in swept}

    @property
    def along_k(self) -> bool:
        """Whether numbers of concepts are a dimension."""
        return "k" in self._dims

    def put(self, part: Mapping[str, Any], counts: xr.Dataset) -> None:
        """Score a part with one layer at every point of the grid."""
        for point in self._points:
            where = {**part, **point, "layer": int(counts.layer.values[0])}
            cell = tuple(self._labels[d].index(where[d]) for d in self._dims)
            found = self._score(counts, **(self._thresholds | point))
            for name, values in self._values.items():
                values[cell] = found[name][0]

    def dataset(self) -> xr.Dataset:
        """The finished table."""
        coordinates = {
            v.name: np.asarray(self._labels[v.name], object if v.dtype == "string" else v.dtype)
            for v in self._schema.variables
            if v.coordinate
        }
        return self._schema.create(coordinates | self._values, **self._fixed)


def _labels(parts: Sequence[Part]) -> dict[str, list[Any]]:
    """Labels of some parts by dimension, in order."""
    found = {name: list(dict.fromkeys(part[name] for part, _ in parts)) for name in (parts[0][0] if parts else ())}
    return found | {"layer": sorted({int(layer) for _, counts in parts for layer in counts[0].layer.values})}


Join = Callable[[Sequence[xr.Dataset]], xr.Dataset]
"""`engine.calign.union`: counts towards several targets as towards one."""


def _only(counts: Sequence[xr.Dataset]) -> xr.Dataset:
    (found,) = counts
    return found


def _fill(
    tables: Sequence[Table],
    parts: Sequence[Part],
    k: int | None = None,
    join: Join = _only,
    best: Callable[[xr.Dataset], xr.Dataset] = lambda counts: counts,
) -> None:
    """Score all parts, one layer of one of them in memory at a time.

    Parts of other numbers of concepts than k are for tables along k alone; `best` is for those that do not vary N-best.
    """
    for part, stored in parts:
        of_part = [table for table in tables if k is None or part["k"] == k or table.along_k]
        for at in range(stored[0].sizes["layer"]):
            layers = []
            for one in stored:
                with store.undamaged(one.encoding.get("source", str(part))):
                    layers.append(one.isel(layer=[at]).compute())
            counts = join(layers)
            few = best(counts)
            for table in of_part:
                table.put(part, counts if "n_best" in table.swept else few)


def scores(schema: Schema, parts: Sequence[Part], score: Score, join: Join = _only, **thresholds: Any) -> xr.Dataset:
    """Score every part and lay the scores out along their labels, which are dimensions of the schema; see `Table`."""
    table = Table(schema, _labels(parts), score, **thresholds)
    _fill([table], parts, join=join)
    return table.dataset()


def assemble(
    alignment: Sequence[Part],
    overlap: Sequence[Part],
    mixed: Sequence[Part],
    calign: Score,
    colap: Score,
    cross: Score,
    join: Join,
    best: Callable[[xr.Dataset, int], xr.Dataset],
    metrics: Metrics,
    k: int,
    statistics: Mapping[str, Any],
    **provenance: Any,
) -> xr.DataTree:
    """Derive all results from counts.

    Parameters
    ----------
    alignment
        ALIGNED_TYPES datasets with labels checkpoint, stack, source, target, k.
    overlap
        LANGUAGE_COUNT datasets with labels checkpoint, stack, language_set, k.
    mixed
        What `cross` takes, with labels checkpoint, stack, language_set, source, target.
    calign, colap, cross
        The metrics, and their cross-table.
    join, best
        `engine.calign.union` and `engine.calign.best`.
    metrics
        Thresholds of the study; sweeps vary one and keep the others.
    k
        Number of concepts of all but the sweeps over it.
    statistics
        Variables of the STATISTICS dataset.
    provenance
        Attributes of the root: study, hash, versions.

    Returns
    -------
    DataTree: /calign, /colap, /sweeps/calign_by_*, /sweeps/colap_by_*, /statistics, and /cross where a pair is part of
    mixed text.
    """
    align = metrics.alignment | {"denominator": metrics.denominator}
    over = metrics.overlap
    tables = {
        "/calign": Table(CALIGN, _labels(alignment), calign, **align),
        "/sweeps/calign_by_k": Table(CALIGN_BY_K, _labels(alignment), calign, **align),
    }
    for name, schema in CALIGN_SWEEPS.items():
        swept = align | {name: SWEEPS[name]}
        tables[f"/sweeps/calign_by_{name}"] = Table(schema, _labels(alignment), calign, **swept)
    _fill(list(tables.values()), alignment, k, join, lambda counts: best(counts, metrics.n_best))
    of_overlap = {
        "/colap": Table(COLAP, _labels(overlap), colap, **over),
        "/sweeps/colap_by_k": Table(COLAP_BY_K, _labels(overlap), colap, **over),
    }
    for name, schema in COLAP_SWEEPS.items():
        swept = over | {name: SWEEPS[name]}
        of_overlap[f"/sweeps/colap_by_{name}"] = Table(schema, _labels(overlap), colap, **swept)
    _fill(list(of_overlap.values()), overlap, k)
    if mixed:
        tables["/cross"] = Table(CROSS, _labels(mixed), cross)
        _fill([tables["/cross"]], mixed, k)
    nodes = {
        "/": xr.Dataset(attrs={"title": "Colign results", "format_version": FORMAT_VERSION} | provenance),
        "/statistics": STATISTICS.create(statistics),
    }
    nodes |= {path: table.dataset() for path, table in (tables | of_overlap).items()}
    return xr.DataTree.from_dict(nodes)


def save(path: str, tree: xr.DataTree) -> None:
    """Write the results, replacing what was there once all of it is on a local disk."""
    encoding = {node.path: store.guarded(node.to_dataset(inherit=False)) for node in tree.subtree}
    with explained(path), replaced(path) as part:
        tree.to_zarr(group_at(part, "a"), mode="w", consolidated=False, encoding=encoding)


def load(path: str) -> xr.DataTree:
    """Read the results into memory."""
    with store.undamaged(path):
        where: Any = group_at(path, "r")
        return xr.open_datatree(where, engine="zarr", consolidated=False, zarr_format=3, chunks=None).load()
