"""Into a new ACTIVATIONS store: the blocks of a file, checked first and then written shard by shard."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import store
from engine.exchange.stream import Block, Exchanged, whole
from engine.kernels.shards import shard_ranges
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError

SHARD_BYTES = 2**28
"""Vectors that are held to be written as one shard of each layer: at most this, or one chunk if that is more."""


def import_blocks(
    source: str,
    path: str,
    read: Callable[[str], Generator[Block, None, None]],
    *,
    dtype: str,
    layers: Sequence[int] | None,
    **provenance: Any,
) -> Exchanged:
    """Write a new ACTIVATIONS store from the blocks of a file, which is read twice: to check it all, then to write.

    Parameters
    ----------
    source
        The file, for messages.
    read
        Gives the blocks of the file from its beginning; told which pass this is, `check` or `write`.
    dtype
        Type on disk: float16 or float32.
    layers
        Numbers of the file's layers, in its order, in place of those that it gives.

    Raises
    ------
    InputError
        Vectors differ in their length or layers, are not finite or do not fit the type.
    """
    tokens, found = 0, None
    with contextlib.closing(read("check")) as blocks:  # closes the file, whatever stops the work
        for block in blocks:
            if block.words:
                found = found or block
                _check(block, found, dtype)
                tokens += len(block.words)
    if found is None:
        raise InputError(f"{source}: holds no words; expected at least one with its vector")
    numbers = tuple(layers or found.layers)
    if len(numbers) != len(found.layers):
        raise InputError(
            f"{source}: has {len(found.layers)} layers, and {len(numbers)} numbers were given for them; give one for "
            "each with --layer, or none"
        )
    if sorted(set(numbers)) != list(numbers) or numbers[0] < 0:
        raise InputError(
            f"{source}: the numbers of its layers are {', '.join(map(str, numbers))}; expected increasing ones from 0, "
            "so give them with --layer, in the order of the file"
        )
    hidden = found.vectors.shape[2]
    with whole(path) as (part,), contextlib.closing(read("write")) as blocks:
        _write(part, blocks, tokens, numbers, hidden, np.dtype(dtype), source=source, **provenance)
    return Exchanged(tokens, numbers, hidden, 0, (path,))


def _check(block: Block, found: Block, dtype: str) -> None:
    where = f"{block.place} {block.first}"
    if block.layers != found.layers:
        raise InputError(
            f"{where}: its layers are {', '.join(map(str, block.layers))}; expected "
            f"{', '.join(map(str, found.layers))} as at {found.place} {found.first}; a store holds the same layers of "
            "every word, so write the file anew"
        )
    if block.vectors.shape[2] != found.vectors.shape[2] or not block.vectors.shape[2]:
        raise InputError(
            f"{where}: a vector has {block.vectors.shape[2]} numbers; expected "
            f"{found.vectors.shape[2] or 'at least 1'} as at {found.place} {found.first}; a store holds vectors of one "
            "length, so write the file anew"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(block.vectors.astype(dtype))
    if not finite.all():
        layer, token, unit = np.argwhere(~finite)[0]
        value = float(block.vectors[layer, token, unit])
        raise InputError(
            f"{block.place} {block.first + token} ({block.words[token]!r}), layer {block.layers[layer]}: "
            f"value {unit} is {value:g}; "
            + (
                f"it does not fit {dtype}, so " + ("import with --dtype float32" if dtype == "float16" else "scale it")
                if np.isfinite(value)
                else "expected a finite number, so repair or leave out the word"
            )
        )
    for i, word in enumerate(block.words):
        if not word.isascii():
            try:
                word.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{block.place} {block.first + i}: {word!r} holds half of a surrogate pair, which is not text; "
                    "repair the word"
                ) from error


def _write(
    path: str,
    blocks: Iterable[Block],
    tokens: int,
    layers: tuple[int, ...],
    hidden: int,
    dtype: np.dtype[Any],
    **provenance: Any,
) -> None:
    settings = study.Activations()
    chunk = settings.chunk_tokens
    row = len(layers) * hidden * dtype.itemsize
    shard = min(settings.shard_tokens, max(chunk, SHARD_BYTES // row // chunk * chunk))
    store.setup(
        path,
        ACTIVATIONS,
        {"layer": len(layers), "token": tokens, "hidden": hidden},
        {"layer": np.array(layers, np.int32)},
        chunks={"layer": 1, "token": chunk},
        shards={"layer": 1, "token": shard},
        dtypes={"activation": dtype.name},
        **provenance,
    )
    changed = InputError(f"{provenance['source']}: changed while it was read; import it again when it is at rest")
    ranges = iter(shard_ranges(tokens, shard))
    start, stop = next(ranges)
    vectors = np.empty((len(layers), stop, hidden), dtype)
    held: list[Block] = []  # the words so far of the shard start..stop, whose vectors are copied already
    filled = 0
    for block in blocks:
        rest = block
        while rest.words:
            if start == stop:
                raise changed
            piece = rest[: stop - start - filled]
            vectors[:, filled : filled + len(piece.words)] = piece.vectors
            held.append(replace(piece, vectors=piece.vectors[:0, :0]))
            filled += len(piece.words)
            rest = rest[len(piece.words) :]
            if filled == stop - start:
                _write_shard(path, start, held, vectors[:, :filled])
                start, stop = next(ranges, (stop, stop))
                held, filled = [], 0
    if start != tokens:
        raise changed


def _write_shard(path: str, start: int, blocks: list[Block], vectors: NDArray[np.floating]) -> None:
    count = vectors.shape[1]
    columns = {
        "activation": vectors,
        "token_id": np.arange(start, start + count),
        "word": np.array([word for block in blocks for word in block.words], object),
        "sentence": np.concatenate([block.sentences for block in blocks]),
        "position": np.concatenate([block.positions for block in blocks]),
        "present": np.ones(count, bool),
    }
    for name, values in columns.items():
        store.write_region(path, name, values, token=start)
