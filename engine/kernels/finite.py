"""Whether arrays hold infinite numbers or NaN."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPONENT = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}
"""Unsigned type and exponent bits of float16 and float32, by bytes of a number."""


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no number is infinite or NaN, by its bits: numpy's own comparisons of float16 take twenty times as long.

    Parameters
    ----------
    values
        float16 or float32, of any shape.

    Examples
    --------
    >>> all_finite(np.array([1, -65504], np.float16)), all_finite(np.array([1, np.nan], np.float32))
    (True, False)
    """
    kind, exponent = _EXPONENT[values.dtype.itemsize]
    return int((values.view(kind) & kind(exponent)).max(initial=0)) != exponent
