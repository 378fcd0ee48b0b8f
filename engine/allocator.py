"""The C library's memory allocator, told to give large blocks back when they are freed."""

import ctypes
import sys

_ARENAS, _MMAP_THRESHOLD = -8, -3
"""Numbers of the settings in glibc's malloc.h."""

_LARGE = 2**21
"""Bytes from which a block has pages of its own."""


def give_back_large_blocks() -> None:
    """Keep the memory of a process from growing with the number of shards that it has written.

    Left alone, glibc raises the size from which a freed block goes back to the system up to 32 MiB, and keeps an arena
    for every few threads: shards of a few MiB then leave holes everywhere (measured on 400,000 words: 877 MB peak, 756
    with this). Does nothing with other C libraries.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENAS, 2)
            mallopt(_MMAP_THRESHOLD, _LARGE)
