"""The C library's memory allocator, told when to give back what is free.

Every process that a nanny of Dask starts gives back all but 64 KiB, and gives every block of 128 KiB pages of its own:
little memory, but each block that is used again then costs the clearing of its pages.
"""

import ctypes
import sys
from typing import Any

_ARENAS, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
"""Numbers of the settings in glibc's malloc.h."""

_LARGE, _LARGEST = 2**20, 2**25
"""Bytes from which a block has pages of its own: where vectors come and go, and glibc's limit."""

_FREE, _FREE_MOST = 2**17, 2**26
"""Bytes behind the last block that are not given back: glibc's own, and where the same blocks are used all the time."""

_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


def give_back_large_blocks() -> None:
    """Let freed blocks of a few MiB go back to the system at once, and keep one arena.

    Left alone, glibc raises the size from which a block does so up to 32 MiB, and makes an arena for every few threads:
    blocks of vectors then leave holes everywhere. Does nothing with other C libraries.
    """
    _set(_LARGE, _FREE)
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_ARENAS, 1)


def reuse_blocks() -> None:
    """Let freed blocks stay for those that follow: without this K-means on Dask takes 1.2 to 1.6 times as long."""
    _set(_LARGEST, _FREE_MOST)


def _set(own_pages: int, free: int) -> None:
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_MMAP_THRESHOLD, own_pages)
        _LIBC.mallopt(_TRIM_THRESHOLD, free)


def give_back_holes() -> None:
    """Return the free pages between blocks, so that memory does not grow with the number of shards."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
