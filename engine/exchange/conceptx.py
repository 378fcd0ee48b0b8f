"""ConceptX points and vocabulary: one layer as two .npy files.

Written by `extract_data.py` of ConceptX, read by its clustering scripts and those of the paper: `processed-point.npy`,
float64 (token, hidden), and `processed-vocab.npy`, text of fixed width (token), each
`word|||occurrence|||sentence|||token`: which occurrence of the word it is, the number of its sentence and its place
there, both from 0. ConceptX counts occurrences from 1, the alignment scripts of the paper
(`parallel_frequency_filter_data.py`) from 0. A word may hold `|||`, so keys are read from the right.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from engine.exchange import stream
from engine.exchange.new_store import import_blocks
from engine.exchange.stored import Stored
from engine.exchange.stream import Block, Exchanged, Watch, number, unwatched, whole
from engine.kernels.shards import shard_ranges
from schemas.errors import InputError

_KEY = "word|||occurrence|||sentence|||token"


def vocab_of(points: str) -> str:
    """Name of the vocabulary that belongs to a file of points, as the scripts name them.

    Raises
    ------
    InputError
        The name does not follow theirs.

    Examples
    --------
    >>> vocab_of("de/processed-point.npy")
    'de/processed-vocab.npy'
    """
    path = Path(points)
    if "point" not in path.name:
        raise InputError(f"{points}: the vocabulary beside it cannot be told from this name; give it with --vocab")
    return str(path.with_name("vocab".join(path.name.rsplit("point", 1))))


def export_conceptx(
    activations: str,
    path: str,
    *,
    vocab: str | None = None,
    layers: Sequence[int] | None = None,
    count_from: int = 1,
    watch: Watch = unwatched,
) -> Exchanged:
    """Write the present words of one layer of a store; occurrences are those among the words that are written.

    Parameters
    ----------
    activations
        Path of the ACTIVATIONS store.
    path
        File of the points.
    vocab
        File of the vocabulary, by default `vocab_of` the points.
    layers
        Number of the layer; needed where the store has several.
    count_from
        Number of a word's first occurrence: 1 as in ConceptX, 0 as in the alignment scripts of the paper.

    Raises
    ------
    InputError
        The store has several layers and none was chosen.
    """
    vocab = vocab or vocab_of(path)
    stored = Stored(activations, layers)
    if len(stored.layers) != 1:
        raise InputError(
            f"{activations}: conceptx holds one layer, and this would be {', '.join(map(str, stored.layers))}; choose "
            "one with --layer"
        )
    width = max(len(key) for block, seen in _counted(stored, vectors=False) for key in keys_of(block, seen, count_from))
    done = 0
    # Not through memory maps: where the disk is full, writing to one kills the process without a message.
    with whole(path, vocab) as parts, open(parts[0], "wb") as points, open(parts[1], "wb") as keys:
        _head(points, np.dtype(np.float64), (stored.tokens, stored.hidden))
        _head(keys, np.dtype(f"<U{width}"), (stored.tokens,))
        for block, seen in _counted(stored):
            points.write(block.vectors[0].astype("<f8").tobytes())
            keys.write(np.array(keys_of(block, seen, count_from), f"<U{width}").tobytes())
            done += len(block.words)
            watch("write", done, stored.tokens)
    return Exchanged(stored.tokens, stored.layers, stored.hidden, stored.absent, (path, vocab))


def _counted(stored: Stored, *, vectors: bool = True) -> Iterator[tuple[Block, Counter[str]]]:
    """Blocks, with how often each word came before; `keys_of` counts on."""
    seen: Counter[str] = Counter()
    for block in stored.blocks(vectors=vectors):
        yield block, seen


def keys_of(block: Block, seen: Counter[str], count_from: int) -> list[str]:
    """Key of each word of a block; `seen` is how often each word came in the blocks before, and is counted on."""
    keys = []
    for word, sentence, position in zip(block.words, block.sentences.tolist(), block.positions.tolist(), strict=True):
        keys.append(f"{word}|||{seen[word] + count_from}|||{sentence}|||{position}")
        seen[word] += 1
    return keys


def _head(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(dtype.newbyteorder("<")), "fortran_order": False, "shape": shape}
    )


def import_conceptx(
    source: str,
    path: str,
    *,
    vocab: str | None = None,
    dtype: str = "float32",
    layers: Sequence[int] | None = None,
    watch: Watch = unwatched,
) -> Exchanged:
    """Write a new ACTIVATIONS store of one layer from two files; the words stay in their order.

    Parameters
    ----------
    source
        File of the points; it is read twice, a block at a time.
    path
        Path of the new store.
    vocab
        File of the vocabulary, by default `vocab_of` the points.
    dtype
        Type on disk: float16 or float32.
    layers
        Number of the layer, which the files do not say; by default 0.
    """
    vocab = vocab or vocab_of(source)
    points = _open(source)
    keys = _open(vocab)
    if points.ndim != 2 or points.dtype.kind != "f":
        raise InputError(
            f"{source}: expected vectors (token, hidden), found {points.dtype} {points.shape}; give the file of the "
            "points"
        )
    if keys.ndim != 1 or keys.dtype.kind != "U":
        raise InputError(
            f"{vocab}: expected text (token), found {keys.dtype} {keys.shape}; give the file of the vocabulary with "
            "--vocab"
        )
    if len(points) != len(keys):
        raise InputError(
            f"{source} has {len(points)} points, and {vocab} has {len(keys)} keys; expected one key a point, so give "
            "two files that were written together"
        )
    return import_blocks(
        source,
        path,
        lambda what: _blocks(source, vocab, watch, what),
        dtype=dtype,
        layers=layers,
        vocab=vocab,
        format="conceptx",
    )


def _open(path: str) -> NDArray[Any]:
    """A .npy file as a memory map, which cannot hold pickled objects."""
    try:
        return npy.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read as .npy ({error}); give a file that ConceptX's extract_data.py wrote. Pickled "
            "objects are never loaded, since they can run any code"
        ) from error


def _blocks(source: str, vocab: str, watch: Watch, what: str) -> Generator[Block, None, None]:
    tokens, hidden = _open(source).shape
    rows = max(1, stream.BLOCK_BYTES // max(hidden, 1) // 8)
    for start, stop in shard_ranges(tokens, rows):
        # Mapped anew for every block: the pages of the one before are given back.
        texts = np.array(_open(vocab)[start:stop]).tolist()
        places = (f"{vocab}, record {i}" for i in range(start, stop))
        found = [fields(*key, _KEY, "write the vocabulary anew") for key in zip(texts, places, strict=True)]
        yield Block(
            [word for word, _ in found],
            np.array([sentence for _, (_, sentence, _) in found], np.int32),
            np.array([position for _, (_, _, position) in found], np.int32),
            np.array(_open(source)[start:stop])[np.newaxis],
            (0,),
            f"{source}, record",
            start,
        )
        watch(what, stop, tokens)


def fields(text: str, place: str, form: str, remedy: str) -> tuple[str, list[int]]:
    """The word of a key and the numbers behind it, which are those that `form` names.

    Raises
    ------
    InputError
        There are too few fields, or one is no number of int32 from 0; says the place, and the remedy for the former.

    Examples
    --------
    >>> fields("a|||b|||1|||0|||7", "vocab.npy, record 0", _KEY, "write the vocabulary anew")
    ('a|||b', [1, 0, 7])
    """
    _, *names = form.split("|||")
    word, *numbers = text.rsplit("|||", len(names))
    if len(numbers) != len(names):
        raise InputError(f"{place}: expected {form}, found {text!r}; {remedy}")
    where = f"{place} ({text!r})"
    return word, [number(value, where, f"the {name}") for value, name in zip(numbers, names, strict=True)]
