"""Scores of downstream tasks as one labelled dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from schemas.results import SCORES

_LABELS = ("checkpoint", "task", "language", "split")


def tabulate(rows: Sequence[Mapping[str, Any]], **provenance: Any) -> xr.Dataset:
    """Lay scores out along their labels.

    Parameters
    ----------
    rows
        One for each checkpoint, task, language (or SOURCE-TARGET) and split: these labels, `state`, `kind`,
        `signature`, `examples` (count), and the scores of `engine.scoring.score`.

    Returns
    -------
    SCORES dataset (checkpoint, task, language, split); NaN where there is no row, or no such score.
    """
    labels = {name: list(dict.fromkeys(str(row[name]) for row in rows)) for name in _LABELS}
    shape = tuple(map(len, labels.values()))
    values: dict[str, Any] = {
        v.name: np.full(shape, np.nan) for v in SCORES.variables if v.dims == _LABELS and v.dtype == "float64"
    }
    state, kind, signature = np.full(shape[:3], "", object), *np.full((2, shape[1]), "", object)
    for row in rows:
        cell = tuple(labels[name].index(str(row[name])) for name in _LABELS)
        state[cell[:3]], kind[cell[1]], signature[cell[1]] = row["state"], row["kind"], row["signature"]
        for name, table in values.items():
            table[cell] = row.get(name, np.nan)
    coordinates = {name: np.asarray(found, object) for name, found in labels.items()}
    return SCORES.create(coordinates | values | {"state": state, "kind": kind, "signature": signature}, **provenance)
