"""Exact sums of the rows of each concept, kept up to date by those that moved.

Rows are rounded to a grid so coarse that no sum of them is rounded again (Demmel and Nguyen, ARITH 2013), and so fine
that float16 rows, all but always, are not rounded at all. Exact sums have no order, hence the same bits from any parts,
workers and devices, and from differences as from whole sums.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from engine.kernels.shards import blocks

SUM_ROWS = 4096
"""Rows of a block in float64: so many that adding up the sums of all blocks costs little. Changes no bit."""


@dataclass(frozen=True)
class Difference:
    """What a pass changes of a run's sums, for the concepts that rows left or joined; `+` folds two of them."""

    concepts: Any
    """(touched) index of the concept, increasing."""
    sums: Any
    """(touched, hidden) float64 sums of the rows that joined less those that left."""
    counts: Any
    """(touched) int64 rows that joined less those that left."""
    moved: int
    """Rows that changed concept."""

    def __add__(self, other: "Difference") -> "Difference":
        if len(self.concepts) == len(other.concepts) and (self.concepts == other.concepts).all():
            # as in first passes: a sixteenth of the time of the way below, which the driver takes while workers wait
            sums, counts = self.sums + other.sums, self.counts + other.counts
            return Difference(self.concepts, sums, counts, self.moved + other.moved)
        concepts = np.union1d(self.concepts, other.concepts)
        sums = np.zeros((len(concepts), self.sums.shape[1]))
        counts = np.zeros(len(concepts), np.int64)
        for one in (self, other):
            at = np.searchsorted(concepts, one.concepts)
            sums[at] += one.sums
            counts[at] += one.counts
        return Difference(concepts, sums, counts, self.moved + other.moved)

    def host(self) -> "Difference":
        """The difference in host memory, where it is; see `engine.device.DeviceDifference`."""
        return self


def difference(rows: Any, before: Any | None, after: Any, k: int, unit: float) -> Difference:
    """What changes in the sums of k concepts when rows (row, hidden) go from labels (row) to others; None: from none.

    Parameters
    ----------
    unit
        Grid of the sums, see `grid`.
    """
    moved = np.arange(len(after)) if before is None else np.flatnonzero(before != after)
    joined = after[moved]
    touched = np.unique(joined if before is None else np.concatenate([joined, before[moved]]))
    sums = np.zeros((len(touched), rows.shape[1]), np.float64)
    counts = np.zeros(len(touched), np.int64)
    for at in blocks(len(moved), SUM_ROWS):
        values = rows[moved[at]].astype(np.float64)
        if unit:
            values = np.rint(values / unit) * unit
        for sign, labels in ((1, joined), *(() if before is None else ((-1, before[moved]),))):
            place = np.searchsorted(touched, labels[at])
            sums += _grouped(place, values, len(touched), sign)
            counts += sign * np.bincount(place, minlength=len(touched))
    return Difference(touched, sums, counts, len(moved))


def _grouped(place: Any, values: Any, groups: int, sign: int) -> Any:
    """Sums (group, hidden) of values (row, hidden) by group; exact, so their order is free."""
    ones = np.full(len(place), float(sign))
    return sparse.csr_array((ones, place, np.arange(len(place) + 1)), shape=(len(place), groups)).T.tocsr() @ values


def grid(largest: float, rows: int, dtype: Any) -> float:
    """Grid on which sums of rows are exact in float64; 0: numbers of this type lie on it already.

    Parameters
    ----------
    largest
        Largest absolute number of the rows.
    rows
        Number of rows that are added up, at most.

    Examples
    --------
    >>> grid(60.0, 10**6, np.float16), grid(60.0, 10**6, np.float32) == 2.0**-27
    (0.0, True)
    """
    exponent = int(np.frexp(max(largest, 2.0**-100) * max(rows, 1))[1])
    unit = 2.0 ** (exponent - 53)
    smallest = 2.0**-24 if np.dtype(dtype) == np.float16 else 0.0
    return 0.0 if unit <= smallest else unit
