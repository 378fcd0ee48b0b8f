"""Files and folders on any file system: small files in one step, and what a killed writer leaves behind."""

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.credentials import REMEDY, redacted
from schemas.errors import ColignError, InputError, StoreError

_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "adlfs")
"""Libraries by which zarr, too, reaches stores; what they raise is no OSError."""

_BUCKETS = {
    "s3": "aws s3 mb s3://{}",
    "gs": "gcloud storage buckets create gs://{}",
    "abfs": "az storage container create --name {}",
}
"""How a bucket is made, by the protocol of stores that have them."""

_LONGEST = 200
"""Bytes of a name of a file or folder; most file systems take 255, and endings are added."""


def join(path: str, *parts: str) -> str:
    """Path below a folder or URL. Names that no file system takes, as of a hundred languages, become short ones."""
    return "/".join([path.rstrip("/"), *(_short(name) for part in parts for name in part.split("/"))])


def _short(name: str) -> str:
    if len(name.encode()) <= _LONGEST:
        return name
    return f"{name[:32]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}~{name[-16:]}"


def unanswered(error: BaseException) -> str | None:
    """What a store's library means, and the remedy; None for errors of anything else."""
    return _fault(error) if type(error).__module__.split(".")[0] in _LIBRARIES else None


def _fault(error: BaseException) -> str:
    return (
        f"the store does not answer as expected ({type(error).__name__}: {error}); see to its address, the network and "
        "credentials (AWS_ACCESS_KEY_ID, ~/.aws/credentials or what else it takes), then run again: finished tasks are "
        "kept"
    )


@contextlib.contextmanager
def answered(path: str) -> Iterator[None]:
    """Turn what libraries of stores raise into errors that name the store and the remedy."""
    try:
        yield
    except Exception as error:
        if said := unanswered(error):
            raise StoreError(f"{path}: {said}") from error
        raise


class _Remote:
    """A file system that is no local disk: whatever its calls raise that is no OSError names the store."""

    def __init__(self, system: Any, path: str) -> None:
        self._system, self._path = system, path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._system, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            try:
                return found(*args, **options)
            except (ColignError, OSError):
                raise
            except Exception as error:
                raise StoreError(f"{self._path}: {_fault(error)}") from error

        return call


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the ways in which a disk, or another store, fails into errors that name the store and the remedy."""
    try:
        with answered(path):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"{path}: the disk is full; free space and run again, finished tasks are kept") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StoreError(f"{path}: not allowed to write here; choose another directory") from error
        raise


def filesystem(path: str) -> tuple[Any, str]:
    """File system of a path or URL, and the place in it.

    Raises
    ------
    InputError
        The protocol is unknown, its library is not installed, or the URL holds credentials.
    """
    if redacted(path) != path:
        raise InputError(f"{path}: holds credentials; {REMEDY}")
    try:
        system, place = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise InputError(f"{path}: no such kind of store ({error}); give a path, or a URL that fsspec knows") from error
    return system if isinstance(system, LocalFileSystem) else _Remote(system, path), str(place)


def is_local(path: str) -> bool:
    """Whether a path, or URL, is of a disk that the system mounts."""
    return isinstance(filesystem(path)[0], LocalFileSystem)


def in_bucket(path: str) -> bool:
    """Whether a URL lies in a bucket, of a store that has these in the place of folders.

    Raises
    ------
    InputError
        There is no such bucket; none is made, because it has an owner, a place and a price.
    """
    system, place = filesystem(path)
    protocols = {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}
    command = next((_BUCKETS[name] for name in _BUCKETS if name in protocols), None)
    if command is None:
        return False
    bucket = place.partition("/")[0]
    if not system.exists(bucket):
        try:
            system.ls(bucket)  # says why: what cannot be asked for does not exist either
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: there is no bucket {bucket}; mend its name, or make it with {command.format(bucket)}"
            ) from error
        except PermissionError:  # somebody may use a part of a bucket alone
            pass
    return True


def make_folder(path: str) -> None:
    """Make a folder, and those above it, where the store has such."""
    if not in_bucket(path):
        system, place = filesystem(path)
        system.makedirs(place, exist_ok=True)


def read_text(path: str) -> str | None:
    """Content of a small file, or None when there is none.

    Raises
    ------
    InputError
        It is a folder, may not be read, or is not UTF-8.
    """
    system, place = filesystem(path)
    try:
        return str(system.cat_file(place).decode())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {error.object[error.start]:#04x} is not UTF-8; convert the file, for example "
            "with iconv -t UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a text file") from error


def contents(folder: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of all small files below a folder whose names end alike, in the order of their paths.

    There may be 10^5 of them: a local disk is asked no more than it must be, an object store for many at once.
    """
    system, place = filesystem(folder)
    if isinstance(system, LocalFileSystem):
        found = sorted(f"{where}/{name}" for where, _, names in os.walk(place) for name in names)
        yield from ((path, Path(path).read_bytes()) for path in found if path.endswith(suffix))
        return
    found = [path for path in system.find(place) if path.endswith(suffix)]  # not glob: the name may hold its signs
    yield from zip(found, system.cat_ranges(found, None, None, on_error="raise"), strict=True)


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[BinaryIO | gzip.GzipFile]:
    """A text file opened to read its bytes; a damaged gzip file is an error that names it and the remedy."""
    with contextlib.ExitStack() as stack:
        system, place = filesystem(path)
        raw = stack.enter_context(system.open(place, "rb"))
        try:
            yield stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.endswith(".gz") else raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file ({error}); copy it again") from error


def write_text(path: str, text: str) -> None:
    """Write a small text file, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: str, content: bytes) -> None:
    """Write a small file in one step: a reader sees the old content or the new one, never a part."""
    with explained(path):
        system, place = filesystem(path)
        make_folder(path.rpartition("/")[0])
        if isinstance(system, LocalFileSystem):
            part = f"{place}.{uuid.uuid4().hex}.partial"  # of this writer alone
            try:
                system.pipe_file(part, content)
                system.mv(part, place)
            except OSError:  # a full disk keeps an empty file
                with contextlib.suppress(OSError):
                    system.rm_file(part)
                raise
        else:  # object stores put whole objects
            system.pipe_file(place, content)


def write_files(folder: str, contents: Mapping[str, bytes]) -> None:
    """Write small files of a folder, each in one step; an object store takes many at once."""
    system, place = filesystem(folder)
    if isinstance(system, LocalFileSystem):
        for name, content in contents.items():
            write_bytes(join(folder, name), content)
    else:
        system.pipe({f"{place}/{name}": content for name, content in contents.items()})


def sweep_partial_files(path: str) -> int:
    """Remove what a killed writer left of a local folder and below it; returns how many files and folders."""
    system, place = filesystem(path)
    if not isinstance(system, LocalFileSystem):
        return 0
    beside = [name for name in (f"{place}.partial", f"{place}.removed.partial") if system.exists(name)]
    below = (f"{where}/{name}" for where, *found in os.walk(place) for names in found for name in names)
    left = beside + [found for found in below if found.endswith(".partial")]
    for found in left:
        with contextlib.suppress(FileNotFoundError):  # inside a folder that went before it, or its writer was alive
            system.rm(found, recursive=True)
    return len(left)


def remove(path: str) -> None:
    """Remove a file or folder, if it is there; on a local disk in one step: who is killed leaves no half of it."""
    system, place = filesystem(path)
    if not system.exists(place):
        return
    if isinstance(system, LocalFileSystem) and not place.endswith(".partial"):
        part = f"{place}.removed.partial"
        remove(part)
        system.mv(place, part, recursive=True)
        place = part
    system.rm(place, recursive=True)


@contextlib.contextmanager
def replaced(path: str) -> Iterator[str]:
    """Name under which to write what takes the place of a file or folder, on a local disk only once it is whole.

    Wrong input leaves nothing of it behind.
    """
    part = f"{path.rstrip('/')}.partial" if isinstance(filesystem(path)[0], LocalFileSystem) else path
    remove(part)
    try:
        yield part
    except InputError:
        remove(part)
        raise
    if part != path:
        move(part, path)


def move(path: str, new: str) -> None:
    """Give a file or folder another name, in the place of what has it."""
    system, place = filesystem(path)
    remove(new)
    system.mv(place, filesystem(new)[1], recursive=True)


def free_bytes(path: str) -> int | None:
    """Free space of the disk that holds a local path; None for other stores."""
    system, place = filesystem(path)
    if not isinstance(system, LocalFileSystem):
        return None
    while not system.exists(place):
        place = system._parent(place)
    return shutil.disk_usage(place).free
