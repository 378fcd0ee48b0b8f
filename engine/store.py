"""The store: the only user of zarr beside `engine.places`. Arrays are set up once, then written in whole shards.

Two writers inside one shard lose rows without an error, so a region that is not made of whole shards is refused.
Only Zarr v3 is read, whose codecs do not unpickle: those of a v2 array may.
"""

import contextlib
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, StorePath

from engine.environment import versions
from engine.paths import answered, explained, filesystem, join, remove, write_files
from engine.places import Replaced, group_at
from schemas.dataset import Schema
from schemas.errors import SchemaError, StoreError

# a chunk of nothing but fill values is written too: a file that is missing is then always a loss
zarr.config.set({"array.write_empty_chunks": True})

_FILL = {"f": np.nan, "i": -1, "b": False}


@contextlib.contextmanager
def undamaged(path: str) -> Iterator[None]:
    """Turn what zarr and its codecs raise on damaged files into errors that name the store and the remedy."""
    try:
        with answered(path):
            yield
    except (ValueError, RuntimeError, KeyError, TypeError, FileNotFoundError) as error:  # checksums, decoding, metadata
        raise StoreError(
            f"{path} cannot be read ({type(error).__name__}: {error}); if the store is damaged, delete its folder and "
            "its records, then run again"
        ) from error


def setup(
    path: str,
    schema: Schema,
    sizes: Mapping[str, int],
    values: Mapping[str, Any],
    *,
    chunks: Mapping[str, int],
    shards: Mapping[str, int],
    dtypes: Mapping[str, str] | None = None,
    rounded: bool = False,
    **provenance: Any,
) -> None:
    """Lay out a dataset once: metadata of every array, and the values that are known. Doing it again changes nothing.

    Parameters
    ----------
    sizes
        Length of each dimension; 0 for one that `Growing` makes longer, whose chunks keep their length.
    values
        Arrays known now, by variable; the others are filled later by `write_region`.
    chunks, shards
        Length of a chunk (unit of reading) and of a shard (unit of writing) along each dimension; a property of the
        dimension, so that arrays cannot disagree. Dimensions not named are not divided. Only vectors (variables
        declared as `float`) have chunks within a shard; elsewhere a shard is one chunk.
    dtypes
        Type of each variable declared as `float`.
    rounded
        Whether vectors are rounded to few bits before they are written, so that compression pays.
    """
    dtypes = dtypes or {}
    # vectors as they are hardly compress (see the README's table): a checksum guards them
    vectors = [BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()] if rounded else [Crc32cCodec()]
    with explained(path):
        with undamaged(path):
            group = zarr.open_group(group_at(path, "a"), mode="a", zarr_format=3)
        for variable in schema.variables:
            shape = tuple(sizes[d] for d in variable.dims)
            dtype: Any = str if variable.dtype == "string" else np.dtype(dtypes.get(variable.name, variable.dtype))
            array = group.get(variable.name)
            if not isinstance(array, zarr.Array) or array.shape != shape or (dtype is not str and array.dtype != dtype):
                chunk = tuple(min(chunks.get(d, max(sizes[d], 1)), sizes[d] or chunks[d]) for d in variable.dims)
                shard = tuple(
                    -(-min(shards.get(d, c), sizes[d] or c) // c) * c for d, c in zip(variable.dims, chunk, strict=True)
                )
                if variable.dtype != "float":
                    chunk = shard
                array = group.create_array(
                    variable.name,
                    shape=shape,
                    dtype=dtype,
                    chunks=chunk,
                    shards=None if shard == chunk else shard,
                    compressors=vectors if variable.dtype == "float" else _checked(),
                    fill_value="" if dtype is str else _FILL[dtype.kind],
                    attributes={**variable.attrs},
                    dimension_names=variable.dims,
                    overwrite=True,
                )
            if variable.name in values:
                array[...] = np.asarray(values[variable.name], dtype=object if dtype is str else dtype)
        if "colign_dataset" not in group.attrs:  # a store that is resumed keeps the versions that began it
            group.update_attributes(schema.attributes(**provenance, versions=versions()))


def remove_other(path: str, fingerprint: str) -> None:
    """Remove a dataset whose settings are not those of the fingerprint, or that was never laid out in full."""
    try:
        held = attributes(path)
    except StoreError:  # damaged
        held = {}
    if held is not None and held.get("fingerprint") != fingerprint:
        remove(path)


def _opened(path: str, name: str, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    with undamaged(f"{path}/{name}"):
        return zarr.open_array(group_at(path, mode), path=name, mode=mode, zarr_format=3)


@dataclass(frozen=True)
class Written:
    """What writing took; `+` adds two up."""

    nbytes: int = 0
    """Bytes stored."""
    encode_seconds: float = 0.0
    """Seconds of compression and checksums."""
    disk_seconds: float = 0.0
    """Seconds in which the store took bytes."""

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.nbytes + other.nbytes,
            self.encode_seconds + other.encode_seconds,
            self.disk_seconds + other.disk_seconds,
        )


def write_region(path: str, name: str, values: NDArray[Any], **starts: int) -> Written:
    """Write a block of whole shards of one array.

    Parameters
    ----------
    values
        The block, with every dimension of the array.
    starts
        First index along a dimension, by dimension name; 0 where not named.

    Raises
    ------
    StoreError
        The region cuts through a shard: another writer of the same shard would lose rows.
    """
    opened = _opened(path, name, "r+")
    timed = Replaced(opened.store)
    array = zarr.Array(zarr.AsyncArray(opened.metadata, StorePath(timed, opened.path)))  # type: ignore[type-var]
    names = array.metadata.dimension_names or ()  # type: ignore[union-attr]
    units = array.shards or array.chunks
    region = []
    for dim, size, unit, length in zip(names, array.shape, units, values.shape, strict=True):
        start = starts.get(str(dim), 0)
        stop = start + length
        if start % unit or (stop % unit and stop != size) or stop > size:
            raise StoreError(
                f"{path}/{name}: {dim} {start}..{stop} of {size} is not a whole number of shards of {unit}; two "
                "writers of one shard lose rows, so give each task whole shards"
            )
        region.append(slice(start, stop))
    started = time.perf_counter()
    with explained(path):
        array[tuple(region)] = values
    seconds = time.perf_counter() - started
    return Written(timed.nbytes, max(seconds - timed.seconds, 0.0), timed.seconds)


class Growing:
    """An array that a single writer makes longer along its last dimension, whole chunks at a time.

    What does not fill a chunk yet is kept back until more values or `flush` come.
    """

    def __init__(self, path: str, name: str, *first: int) -> None:
        """Open an array laid out by `setup`; `first` is the index along the dimension before, for arrays of two."""
        self._path, self._array, self._stop = path, _opened(path, name, "r+"), 0
        self._first: tuple[int | slice, ...] = first
        self._kept: list[NDArray[Any]] = []

    def __len__(self) -> int:
        return self._stop + sum(map(len, self._kept))

    def extend(self, values: NDArray[Any]) -> None:
        """Add values to the end."""
        self._kept.append(values)
        self._write(len(self) - len(self) % self._array.chunks[-1] - self._stop)

    def flush(self) -> None:
        """Write what was kept back."""
        self._write(len(self) - self._stop)

    def _write(self, length: int) -> None:
        if length <= 0:
            return
        block, start = np.concatenate(self._kept), self._stop
        with explained(self._path):
            self._array.resize((*self._array.shape[:-1], max(start + length, self._array.shape[-1])))
            self._array[(*self._first, slice(start, start + length))] = block[:length]
        self._stop, self._kept = start + length, [block[length:].copy()]

    def replace(self, start: int, function: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Put function(values) in the place of all written values from `start` on, chunk by chunk."""
        chunk = self._array.chunks[-1]
        for at in range(start // chunk * chunk, self._stop, chunk):
            part = (*self._first, slice(max(at, start), min(at + chunk, self._stop)))
            with explained(self._path):
                self._array[part] = function(np.asarray(self._array[part]))


def describe(path: str, **attributes: Any) -> None:
    """Add attributes to a dataset."""
    with explained(path):
        zarr.open_group(group_at(path, "r+"), mode="r+", zarr_format=3).update_attributes(attributes)


def read_rows(path: str, name: str, rows: NDArray[np.integer], *, axis: int = 0, **at: int) -> NDArray[Any]:
    """Rows of an array at increasing indices along `axis`, which may repeat; reads what holds them shard by shard.

    Parameters
    ----------
    at
        A single index for each other dimension to fix, by name.
    """
    array = _opened(path, name, "r")
    names = [str(n) for n in array.metadata.dimension_names or ()]  # type: ignore[union-attr]
    if not len(rows):
        return np.empty((0, *[s for n, s in zip(names, array.shape, strict=True) if n not in at][1:]), array.dtype)
    kept = axis - sum(n in at for n in names[:axis])
    whole = bool((np.diff(rows) == 1).all())
    shards = rows // (array.shards or array.chunks)[axis]
    found = []
    for some in np.split(rows, [] if whole else np.flatnonzero(np.diff(shards)) + 1):
        low, high = int(some[0]), int(some[-1]) + 1
        region = tuple(slice(low, high) if i == axis else at.get(n, slice(None)) for i, n in enumerate(names))
        with undamaged(f"{path}/{name}: rows {low}..{high}"):
            block = np.asarray(array[region])
        found.append(block if whole else np.take(block, some - low, axis=kept))
    return found[0] if len(found) == 1 else np.concatenate(found, axis=kept)


def save(path: str, schema: Schema, dataset: xr.Dataset, **provenance: Any) -> None:
    """Write a whole small dataset with attributes that say how it was made, replacing what was there.

    What has the same `fingerprint` is written over file by file, so that an attempt that was believed lost, and is lost
    while it writes, leaves whole what another attempt has written meanwhile.
    """
    schema.validate(dataset)
    dataset = dataset.assign_attrs(provenance, versions=versions())
    files: dict[str, Buffer] = {}
    dataset.to_zarr(MemoryStore(files), mode="w", consolidated=False, encoding=guarded(dataset))
    with explained(path):
        remove_other(path, provenance.get("fingerprint", ""))
        write_files(path, {name: content.to_bytes() for name, content in files.items()})


def guarded(dataset: xr.Dataset) -> dict[Any, Any]:
    """Encoding with a checksum in every chunk: a damaged one is an error, never a wrong number."""
    return {name: {"compressors": _checked()} for name in dataset.variables}


def _checked() -> list[BytesBytesCodec]:
    """Compression, and a checksum of the compressed bytes: Zstandard's own leaves some bits of its header unguarded."""
    return [ZstdCodec(level=1, checksum=True), Crc32cCodec()]


def check(path: str, schema: Schema, **ranges: tuple[int, int]) -> int:
    """Read every byte of a stored dataset, shard by shard, against its checksums; returns how many there are in memory.

    Parameters
    ----------
    ranges
        Half-open range of indices to read along a dimension, by dimension name; whole where not named.

    Raises
    ------
    StoreError
        Something is damaged or missing; names the array and the place in it.
    """
    load(path, schema)
    system, place = filesystem(path)
    nbytes = 0
    for variable in schema.variables:
        array = _opened(path, variable.name, "r")
        units = array.shards or array.chunks
        spans = [ranges.get(d, (0, size)) for d, size in zip(variable.dims, array.shape, strict=True)]
        grid = [range(a // unit, -(-b // unit)) for (a, b), unit in zip(spans, units, strict=True)]
        for cell in product(*grid):
            file = f"{variable.name}/{array.metadata.encode_chunk_key(cell)}"
            if not system.exists(join(place, file)) or not system.size(join(place, file)):  # read as if it were fill
                raise StoreError(f"{path}/{file}: the file is missing or empty")
            with undamaged(f"{path}/{file}"):
                region = tuple(slice(c * unit, (c + 1) * unit) for c, unit in zip(cell, units, strict=True))
                nbytes += np.asarray(array[region]).nbytes
    return nbytes


def size(path: str, name: str) -> int:
    """Length of the first dimension of a stored array."""
    return int(_opened(path, name, "r").shape[0])


def bisect(path: str, name: str, value: int) -> int:
    """First index of an increasing stored array (item) whose value is at least `value`; reads few chunks.

    A chunk that was not written counts as the value behind it.
    """
    with undamaged(f"{path}/{name}"):
        array = _opened(path, name, "r")
        items, unit = array.shape[0], array.chunks[0]

        def at(index: int) -> int:
            while index < items and (found := int(np.asarray(array[index]))) == array.fill_value:
                index = (index // unit + 1) * unit
            return found if index < items else value

        return bisect_left(range(items), value, key=at)


def dtype(path: str, name: str) -> np.dtype[Any]:
    """Type of a stored array."""
    return np.dtype(_opened(path, name, "r").dtype)


def load(path: str, schema: Schema, *, chunks: Mapping[str, int] | None = None) -> xr.Dataset:
    """Open a dataset lazily: slices read what they need; with `chunks`, as Dask arrays of these lengths.

    Raises
    ------
    StoreError
        There is no such dataset, or it is another kind.
    SchemaError
        It is of another version or breaks its schema.
    """
    with undamaged(path):
        try:
            lazily = None if chunks is None else {**chunks}
            # names of Dask arrays tell a store that was written anew only by its path
            where = group_at(path, "r") if chunks is None else path
            dataset = xr.open_zarr(where, consolidated=False, zarr_format=3, chunks=lazily)
        except FileNotFoundError as error:
            raise StoreError(
                f"{path}: expected a {schema.name} dataset, found none; run the study, and if the dataset was deleted "
                "by hand, delete its records first"
            ) from error
    if not isinstance(where, str):
        dataset.encoding["source"] = str(where.root)  # as xarray does for a path
    kind = dataset.attrs.get("colign_dataset")
    if kind != schema.name:
        raise StoreError(f"{path}: expected a {schema.name} dataset, found {kind or 'another Zarr group'}")
    try:
        return schema.validate(dataset)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error


def read(path: str, schema: Schema) -> xr.Dataset:
    """A whole small dataset in memory; raises what `load` raises, and `StoreError` when a chunk is damaged."""
    dataset = load(path, schema)
    with undamaged(path):
        return dataset.load()


def attributes(path: str) -> dict[str, Any] | None:
    """Attributes of a group, or None when there is no such group."""
    with undamaged(path):
        try:
            return dict(zarr.open_group(group_at(path, "r"), mode="r", zarr_format=3).attrs)
        except FileNotFoundError:  # also a folder that is no group
            return None
