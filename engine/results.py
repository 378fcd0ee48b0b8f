"""Results: scores of every checkpoint, pair and threshold, derived from counts into one labelled tree."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from engine import store
from engine.paths import explained, replaced
from schemas import study
from schemas.dataset import FORMAT_VERSION, Schema
from schemas.results import CALIGN, CALIGN_SWEEPS, COLAP, COLAP_SWEEPS, STATISTICS

SWEEPS: dict[str, Sequence[float]] = {
    "theta_align": tuple(round(0.5 + 0.05 * i, 2) for i in range(11)),
    "min_types": tuple(range(11)),
    "max_size_gap": tuple(round(0.1 * i, 1) for i in range(11)),
    "theta_overlap": tuple(round(0.05 * i, 2) for i in range(1, 11)),
}
"""Grids around the paper's thresholds, wider than those of Figure 30."""

Part = tuple[dict[str, str], xr.Dataset]
"""Labels (checkpoint, stack, languages) and the counts that they name."""


def scores(schema: Schema, parts: Sequence[Part], score: Callable[..., xr.Dataset], **thresholds: Any) -> xr.Dataset:
    """Score every part and lay the scores out along their labels; cells that no part names are NaN.

    Parameters
    ----------
    schema
        Schema of the result.
    parts
        Labels and counts; labels are dimensions of the schema.
    score
        `engine.calign.calign` or `engine.colap.colap`.
    thresholds
        Keyword arguments of `score`; a tuple makes a dimension of its own.
    """
    swept = [name for name, value in thresholds.items() if isinstance(value, tuple)]
    dims = next(v.dims for v in schema.variables if not v.coordinate)
    labels: dict[str, list[Any]] = {}
    for d in dims:
        if d == "layer":
            labels[d] = sorted({int(layer) for _, counts in parts for layer in counts.layer.values})
        elif d in swept:
            labels[d] = list(thresholds[d])
        else:
            labels[d] = list(dict.fromkeys(part[d] for part, _ in parts))
    shape = tuple(len(labels[d]) for d in dims)
    names = [v.name for v in schema.variables if not v.coordinate]
    values = {name: np.full(shape, np.nan) for name in names}
    points = [dict(zip(swept, values, strict=True)) for values in product(*(labels[name] for name in swept))]
    for part, stored in parts:
        with store.undamaged(stored.encoding.get("source", str(part))):
            counts = stored.compute()  # one part in memory at a time
        layers = [labels["layer"].index(int(layer)) for layer in counts.layer.values]
        for point in points:
            where = part | point
            cell = tuple(layers if d == "layer" else labels[d].index(where[d]) for d in dims)
            found = score(counts, **(thresholds | point))
            for name in names:
                values[name][cell] = found[name].values
    coordinates = {
        v.name: np.asarray(labels[v.name], object if v.dtype == "string" else v.dtype)
        for v in schema.variables
        if v.coordinate
    }
    fixed = {name: value for name, value in thresholds.items() if name not in swept}
    return schema.create(coordinates | values, **fixed)


def assemble(
    alignment: Sequence[Part],
    overlap: Sequence[Part],
    calign: Callable[..., xr.Dataset],
    colap: Callable[..., xr.Dataset],
    metrics: study.Metrics,
    statistics: Mapping[str, Any],
    **provenance: Any,
) -> xr.DataTree:
    """Derive all results from counts.

    Parameters
    ----------
    alignment
        ALIGNED_TYPES datasets with labels checkpoint, stack, source, target.
    overlap
        LANGUAGE_COUNT datasets with labels checkpoint, stack, language_set.
    calign, colap
        The metrics.
    metrics
        Thresholds of the study; sweeps vary one and keep the others.
    statistics
        Variables of the STATISTICS dataset.
    provenance
        Attributes of the root: study, hash, versions.

    Returns
    -------
    DataTree: /calign, /colap, /sweeps/calign_by_*, /sweeps/colap_by_*, /statistics.
    """
    align = metrics.alignment | {"denominator": metrics.denominator}
    over = metrics.overlap
    nodes = {
        "/": xr.Dataset(attrs={"title": "Colign results", "format_version": FORMAT_VERSION} | provenance),
        "/calign": scores(CALIGN, alignment, calign, **align),
        "/colap": scores(COLAP, overlap, colap, **over),
        "/statistics": STATISTICS.create(statistics),
    }
    for name, schema in CALIGN_SWEEPS.items():
        nodes[f"/sweeps/calign_by_{name}"] = scores(schema, alignment, calign, **(align | {name: SWEEPS[name]}))
    for name, schema in COLAP_SWEEPS.items():
        nodes[f"/sweeps/colap_by_{name}"] = scores(schema, overlap, colap, **(over | {name: SWEEPS[name]}))
    return xr.DataTree.from_dict(nodes)


def save(path: str, tree: xr.DataTree) -> None:
    """Write the results, replacing what was there once all of it is on a local disk."""
    encoding = {node.path: store.guarded(node.to_dataset(inherit=False)) for node in tree.subtree}
    with explained(path), replaced(path) as part:
        tree.to_zarr(part, mode="w", consolidated=False, encoding=encoding)


def load(path: str) -> xr.DataTree:
    """Read the results into memory."""
    with store.undamaged(path):
        return xr.open_datatree(path, engine="zarr", consolidated=False, chunks=None).load()
