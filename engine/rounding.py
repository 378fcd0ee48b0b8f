"""Rounding of vectors to few bits, so that they compress."""

import numpy as np
from numcodecs.bitround import BitRound
from numpy.typing import NDArray


def round_bits(values: NDArray[np.floating], keep_bits: int) -> NDArray[np.floating]:
    """Values rounded to some bits of the mantissa: a normal number changes by at most 2^-(keep_bits + 1) of itself."""
    codec = BitRound(min(keep_bits, np.finfo(values.dtype).nmant))  # float16 has 10 bits, however many are asked for
    rounded = codec.encode(np.ascontiguousarray(values)).view(values.dtype).reshape(values.shape)
    return np.where(np.isfinite(values) & np.isfinite(rounded), rounded, values)  # the largest would become infinite
