"""Rounding of vectors to few bits, so that they compress."""

import numpy as np
from numcodecs.bitround import BitRound
from numpy.typing import NDArray


def round_bits(values: NDArray[np.floating], keep_bits: int) -> NDArray[np.floating]:
    """Values rounded to some bits of the mantissa: a normal number changes by at most 2^-(keep_bits + 1) of itself."""
    rounded = BitRound(keepbits=keep_bits).encode(np.ascontiguousarray(values)).view(values.dtype)
    rounded = rounded.reshape(values.shape)
    return np.where(np.isfinite(values) & np.isfinite(rounded), rounded, values)  # the largest would become infinite
