"""The C library's memory allocator, told to give back what is free."""

import ctypes
import sys
from typing import Any

_ARENAS, _MMAP_THRESHOLD = -8, -3
"""Numbers of the settings in glibc's malloc.h."""

_LARGE = 2**20
"""Bytes from which a block has pages of its own."""

_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


def give_back_large_blocks() -> None:
    """Let freed blocks of a few MiB go back to the system at once, and keep one arena.

    Left alone, glibc raises the size from which a block does so up to 32 MiB, and makes an arena for every few threads:
    blocks of vectors then leave holes everywhere. Does nothing with other C libraries.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_ARENAS, 1)
        _LIBC.mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back_holes() -> None:
    """Return the free pages between blocks, so that memory does not grow with the number of shards."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
