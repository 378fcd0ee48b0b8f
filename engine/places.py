"""Where a Zarr group lies: local folders, and stores that are written whole.

To hand few bytes to a thread takes longer than to read or write them, and a study of little text has thousands of small
chunks.
"""

import os
import time
from typing import Literal

from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from engine.paths import filesystem

_FEW = 2**16
"""Bytes that are not handed to a thread."""


class _Folder(LocalStore):
    """A local folder of which small files are read and written at once."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            small = key.endswith("zarr.json") or os.stat(self.root / key).st_size <= _FEW
        except (FileNotFoundError, NotADirectoryError):
            return None
        if small:
            return self.get_sync(key, prototype=prototype, byte_range=byte_range)
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        if len(value) <= _FEW:
            self.set_sync(key, value)
        else:
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not os.path.exists(self.root / key):  # as the group is for each of its arrays
            await super().set_if_not_exists(key, value)


def group_at(path: str, mode: Literal["r", "r+", "a"]) -> LocalStore | str:
    """Where a group lies, in the form in which zarr opens it fastest; only mode `a` makes folders."""
    system, folder = filesystem(path)
    if not isinstance(system, LocalFileSystem):
        return path
    if mode != "a" and not os.path.isdir(folder):
        raise FileNotFoundError(path)
    return _Folder(folder, read_only=mode == "r")


class Replaced(WrapperStore[Store]):
    """A store whose chunks are written whole, so that what lies there is not read, and may be damaged; it counts."""

    nbytes = 0
    seconds = 0.0

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return await super().get(key, prototype, byte_range) if key.endswith("zarr.json") else None

    async def set(self, key: str, value: Buffer) -> None:
        started = time.perf_counter()
        await super().set(key, value)
        self.seconds += time.perf_counter() - started
        self.nbytes += len(value)
