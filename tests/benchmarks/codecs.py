"""Codecs for stored activations on real ones: size, speed of writing and reading, and error of the lossy ones.

    PYTHONPATH=ZARRS python -m tests.benchmarks.codecs ACTIVATIONS [--tokens 65536]
    PYTHONPATH=ZARRS python -m tests.benchmarks.codecs --model MODEL --text TEXT... [--compute bfloat16] [--save A.npy]

ACTIVATIONS is a store that Colign has written, or an .npy file (layer, token, hidden); it is tried in the type it is
stored in and in narrower ones. With `--model` the words of the texts are read first, in float32 or in bfloat16.

Arrays are written as the store writes them, shards of (1, 16384, hidden) of chunks of (1, 2048, hidden), a block of all
layers at a time (`--layers-at-once 1` for shard by shard), and read as K-means reads them, shard by shard of one layer,
with a warm cache. MB are of the array's values, not of the disk. `raw, fsynced` is a plain file: the disk's ceiling for
writing. Every codec guards its chunks with a checksum: zstd with its own, the others with crc32c.

The zarrs pipeline goes into a folder of its own; without it its columns are left out::

    pip install --target ZARRS --no-deps zarrs==0.2.3
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import BitRound
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from tests.benchmarks.inputs import Bare, some_lines, table

SHARD, CHUNK = 16384, 2048

PIPELINES = {"zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}


def _blosc(cname: Any, level: int, itemsize: int) -> list[Any]:
    return [BloscCodec(cname=cname, clevel=level, shuffle="bitshuffle", typesize=itemsize), Crc32cCodec()]


CODECS: dict[str, tuple[int | None, Callable[[int], list[Any]]]] = {
    "none": (None, lambda _: [Crc32cCodec()]),
    "zstd-1": (None, lambda _: [ZstdCodec(level=1, checksum=True)]),
    "zstd-3": (None, lambda _: [ZstdCodec(level=3, checksum=True)]),
    "blosc zstd-1 bitshuffle": (None, lambda size: _blosc("zstd", 1, size)),
    "blosc lz4 bitshuffle": (None, lambda size: _blosc("lz4", 5, size)),
    "7 bits, zstd-1": (7, lambda _: [ZstdCodec(level=1, checksum=True)]),
    "7 bits, blosc zstd-1 bitshuffle": (7, lambda size: _blosc("zstd", 1, size)),
    "5 bits, zstd-1": (5, lambda _: [ZstdCodec(level=1, checksum=True)]),
    "5 bits, blosc zstd-1 bitshuffle": (5, lambda size: _blosc("zstd", 1, size)),
}
"""Mantissa bits kept, and the codecs after rounding for values of so many bytes."""


def pipelines() -> list[str]:
    """Pipelines that are installed."""
    return [name for name, path in PIPELINES.items() if importlib.util.find_spec(path.split(".")[0])]


def rounded(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Values with so many mantissa bits, rounded to nearest, as numcodecs' BitRound does."""
    return np.asarray(BitRound(bits).encode(values.copy())).view(values.dtype).reshape(values.shape)


def error(values: NDArray[Any], kept: NDArray[Any]) -> tuple[float, float]:
    """Largest relative error of a normal number, and one less the mean cosine of a vector with what is kept of it."""
    worst, off, count = 0.0, 0.0, 0
    least = np.finfo(values.dtype).tiny  # numbers below it have fewer bits to begin with
    for exact, near in zip(values, kept, strict=True):  # a layer at a time
        a, b = exact.astype(np.float64), near.astype(np.float64)
        normal = np.abs(a) >= least
        worst = max(worst, float((np.abs(a - b)[normal] / np.abs(a[normal])).max()))
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        off += float((1 - cosine).sum())
        count += len(cosine)
    return worst, off / count


def seconds(action: Callable[[], object]) -> float:
    """Time that something takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def stored(
    values: NDArray[Any], compressors: list[Any], pipeline: str, path: str, at_once: int
) -> tuple[int, float, float]:
    """Bytes on disk, and seconds of writing, so many layers at once, and of reading."""
    layers, tokens, hidden = values.shape
    shard, chunk = min(SHARD, tokens), min(CHUNK, tokens)

    def write() -> None:
        array = zarr.create_array(
            path,
            shape=values.shape,
            dtype=values.dtype,
            shards=(1, shard, hidden),
            chunks=(1, chunk, hidden),
            compressors=compressors,
            fill_value=np.nan,
            overwrite=True,
        )
        for start in range(0, tokens, shard):
            for low in range(0, layers, at_once):
                block = slice(low, low + at_once), slice(start, start + shard)
                array[block] = values[block]

    def read() -> None:
        array = zarr.open_array(path, mode="r")
        for layer in range(layers):
            for start in range(0, tokens, shard):
                np.asarray(array[layer, start : start + shard])

    with zarr.config.set({"codec_pipeline.path": PIPELINES[pipeline]}):
        written, taken = seconds(write), seconds(read)
        assert np.array_equal(np.asarray(zarr.open_array(path, mode="r")[-1]), values[-1], equal_nan=True)
    return sum(file.stat().st_size for file in Path(path, "c").rglob("*") if file.is_file()), written, taken


def raw(values: NDArray[Any], path: Path) -> tuple[int, float, float]:
    """Bytes of a plain file, and seconds of writing and syncing it to the disk and of reading."""

    def write() -> None:
        with path.open("wb") as file:
            file.write(values.data)
            os.fsync(file.fileno())

    return values.nbytes, seconds(write), seconds(path.read_bytes)


def measure(values: NDArray[Any], repeats: int, at_once: int) -> dict[str, list[Any]]:
    """By codec: bytes on disk, MB/s by pipeline, and errors. All are run in turn, the fastest turn counts."""
    kept = {bits: values if bits is None else rounded(values, bits) for bits in (None, 7, 5)}
    sizes: dict[str, int] = {}
    taken: dict[str, NDArray[np.float64]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for name in ["raw, fsynced", *CODECS]:
                times: list[float] = []
                for pipeline in pipelines():
                    if name in CODECS:
                        bits, compressors = CODECS[name]
                        found = stored(kept[bits], compressors(values.itemsize), pipeline, f"{folder}/a.zarr", at_once)
                    else:
                        found = raw(values, Path(folder, "raw"))
                    sizes.setdefault(name, found[0])  # of zarr-python's pipeline
                    times += found[1:]
                taken[name] = np.minimum(taken.get(name, np.inf), times)
    result: dict[str, list[Any]] = {}
    for name, fastest in taken.items():
        bits = CODECS[name][0] if name in CODECS else None
        errors = ("", "") if bits is None else error(values, kept[bits])
        result[name] = [sizes[name], *np.round(values.nbytes / fastest / 1e6).astype(int), *errors]
    return result


def compare(values: NDArray[np.floating], *, repeats: int = 3, layers_at_once: int = 0) -> list[list[Any]]:
    """A row for each type and codec: type, codec, ratio, bytes a value, speeds by pipeline, errors."""
    tokens = len(values[0]) // SHARD * SHARD or len(values[0])
    rows: list[list[Any]] = []
    for name in ("float32", "float16"):
        if np.dtype(name).itemsize <= values.dtype.itemsize:
            array = np.ascontiguousarray(values[:, :tokens].astype(name))
            for codec, (size, *rest) in measure(array, repeats, layers_at_once or len(array)).items():
                rows.append([name, codec, size / array.nbytes, size / array.size, *rest])
    return rows


def read_values(path: str, tokens: int) -> NDArray[np.floating]:
    """Activations (layer, token, hidden) of a store or an .npy file; words without a vector are left out."""
    if path.endswith(".npy"):
        found: NDArray[np.floating] = np.load(path, mmap_mode="r")[:, :tokens]
        return found
    group = zarr.open_group(path, mode="r")
    values, present = group["activation"], group["present"]
    assert isinstance(values, zarr.Array)
    assert isinstance(present, zarr.Array)
    return np.asarray(values[:, :tokens])[:, np.asarray(present[:tokens])]


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("activations", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--text", nargs="+", default=[])
    parser.add_argument("--compute", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--save", help="keep the activations of --model in this .npy file")
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers-at-once", type=int, default=0, help="in a block that is written; 0: all")
    asked = parser.parse_args()
    if asked.model:
        share = -(-asked.tokens // max(1, len(asked.text)))
        sentences = []
        for path in asked.text:
            count = 0
            for sentence in some_lines(path, 10**9):
                sentences.append(sentence)
                count += len(sentence)
                if count >= share:
                    break
        values = Bare(asked.model, sentences, 512, asked.compute).vectors()[:, : asked.tokens]
        if asked.save:
            np.save(asked.save, values)
    elif asked.activations:
        values = read_values(asked.activations, asked.tokens)
    else:
        parser.error("give ACTIVATIONS, or --model and --text")
    columns = [f"{verb} {pipeline}" for pipeline in pipelines() for verb in ("write", "read")]
    header = ["type", "codec", "ratio", "bytes/value", *columns, "largest relative error", "1 - cosine"]
    rows = compare(values, repeats=asked.repeats, layers_at_once=asked.layers_at_once)
    sys.stdout.write(f"(layer, token, hidden) = {values.shape}, MB/s\n\n")
    sys.stdout.write(table(header, rows) + "\n")


if __name__ == "__main__":
    main()
