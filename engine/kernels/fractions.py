"""Comparisons of a count with a fraction of another, without rounding."""

import numpy as np
from numpy.typing import NDArray

_SCALE = 10**9


def at_least(part: NDArray[np.integer], fraction: float, whole: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether part ≥ fraction × whole, exact for fractions written with up to nine decimals.

    Examples
    --------
    >>> bool(3 / 10 >= 1 - 0.7), bool(at_least(np.int64(3), 1 - 0.7, np.int64(10)))  # 1 - 0.7 is 0.30000000000000004
    (False, True)
    """
    return np.asarray(np.asarray(part, np.int64) * _SCALE >= round(fraction * _SCALE) * np.asarray(whole, np.int64))


def more_than(part: NDArray[np.integer], fraction: float, whole: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether part > fraction × whole, exact for fractions written with up to nine decimals.

    Examples
    --------
    >>> bool(more_than(np.int64(4), 0.8, np.int64(5))), bool(more_than(np.int64(5), 0.8, np.int64(6)))
    (False, True)
    """
    return np.asarray(np.asarray(part, np.int64) * _SCALE > round(fraction * _SCALE) * np.asarray(whole, np.int64))
