"""Activations: word vectors of the selected tokens, written shard by shard while the model goes on."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import store
from engine.allocator import give_back_holes, give_back_large_blocks
from engine.kernels.shards import shard_ranges
from engine.model.pieces import Tokenised, Wanted
from engine.model.shape import Shape, describe
from engine.previous import Known, find
from engine.rounding import round_bits
from engine.text import sentences_with, some_sentences
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.corpus import CORPUS
from schemas.errors import InputError, RangeError
from schemas.task import Key

if TYPE_CHECKING:
    from engine.model.encode import Block, Encoder, Reading

Outcome = dict[str, Any]

BLOCKS = 2
"""Blocks of vectors in memory: while one is written, the next is computed."""

_CHECKED = 64
"""Inputs that are also read in float32, to measure the error of another type."""


@dataclass(frozen=True)
class Extraction:
    """All that one extraction task needs to know beside its key."""

    corpus: str
    """Path of the CORPUS dataset."""
    selection: str
    """Path of the SELECTION dataset of the language."""
    path: str
    """Path of the ACTIVATIONS dataset."""
    previous: str | None
    """Path of an ACTIVATIONS dataset from which vectors are taken, if it is there."""
    model: str
    """Model folder or hub name."""
    shape: Shape
    """What the model can give."""
    language: str
    """Language to read."""
    source: str | None
    """Language that the encoder reads while the decoder reads `language`; None for other stacks and models."""
    wanted: Wanted
    """Layers, pooling, computation."""
    auto: bool
    """Whether a value beyond float16 asks for float32 storage instead of stopping the run."""
    keep_bits: int | None
    """Bits of the mantissa to keep."""
    shard_tokens: int
    """Tokens of a shard."""
    threads: int
    """Threads that one task may use; never changes a bit."""
    memory: int | None
    """Bytes that weights may take in host memory; None without limit."""
    trusted: bool = False
    """Whether Python code that the model brings may run."""


def layers_of(model: str, stack: str, layers: str | Sequence[int], *, trusted: bool = False) -> tuple[int, ...]:
    """Layers of a stack to keep, from the study's setting; `trusted` as in `engine.model.shape.describe`.

    Raises
    ------
    InputError
        The model has no such stack or layer.
    """
    available = describe(model, trusted=trusted).layers
    if stack not in available:
        raise InputError(f"{model}: has no {stack}; activations.stacks may name {sorted(available)}")
    if isinstance(layers, str):
        return tuple(range(available[stack] + 1))
    if beyond := [i for i in layers if i > available[stack]]:
        raise InputError(f"{model}: has no layer {beyond[0]}; its {stack} has layers 0 to {available[stack]}")
    return tuple(sorted(set(layers)))


def setup(task: Extraction, settings: study.Activations, tokens: int, *, dtype: str, **provenance: Any) -> None:
    """Lay out the ACTIVATIONS dataset of one stack of one checkpoint and language, for a number of tokens."""
    wanted = task.wanted
    rounding = {} if task.keep_bits is None else {"rounding": f"relative error at most 2^-{task.keep_bits + 1}"}
    store.setup(
        task.path,
        ACTIVATIONS,
        {"layer": len(wanted.layers), "token": tokens, "hidden": task.shape.hidden},
        {"layer": np.array(wanted.layers, np.int32)},
        chunks={"layer": 1, "token": settings.chunk_tokens},
        shards={"layer": 1, "token": settings.shard_tokens},
        dtypes={"activation": dtype},
        rounded=task.keep_bits is not None,
        model=task.model,
        language=task.language,
        stack=wanted.stack,
        settings=settings.model_dump_json(),
        **rounding,
        **provenance,
    )


@dataclass(frozen=True)
class _Shard:
    """Text of one shard, read and waiting for its vectors."""

    key: Key
    started: float
    described: dict[str, NDArray[Any]]
    """Arrays (token) that say what the tokens are."""
    sentences: int
    text_seconds: float
    cosine: dict[str, list[float]] | None
    """Error of the first shard's vectors where they are not computed in float32."""
    known: Known | None
    """Tokens whose vectors are taken from the previous store."""
    computed: NDArray[np.int64]
    """Places in the shard of the tokens whose vectors are computed."""


def extract(key: Key, task: Extraction, done: Callable[[Key, float, Outcome], Any]) -> list[Outcome]:
    """Write the vectors of tokens key.start..key.stop, whole shards; running it again writes the same bytes.

    A pipeline: text of one shard is read and tokenised while vectors of the one before are computed and those of the
    one before that are written. Sentences that straddle two shards are read for both.

    Parameters
    ----------
    done
        Called with (key of the shard, when it began, outcome) once a shard is written.

    Returns
    -------
    Of each shard: numbers of tokens, sentences, words without a vector (absent = dropped + too_long), bytes stored, and
    seconds in text, model, copy, encode (compression and checksums) and disk. Of one with a value beyond float16
    where float32 is allowed: its message as `overflow`; it is not written.
    """
    corpus = store.load(task.corpus, CORPUS)
    encoder = _open(task)
    dtype = str(store.dtype(task.path, "activation"))
    side_by_side = encoder.side_by_side(task.threads)
    outcomes: list[Outcome] = []
    under_way: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(side_by_side) as forward, ThreadPoolExecutor(BLOCKS) as writers:
        try:
            for start, stop in shard_ranges(key.stop - key.start, task.shard_tokens):
                shard_key = replace(key, start=key.start + start, stop=key.start + stop)
                shard, tokenised = _prepare(shard_key, task, corpus, encoder)
                while len(under_way) >= BLOCKS:
                    outcomes.append(under_way.popleft().result())
                reading = encoder.start(tokenised, task.wanted, dtype, forward, task.threads)
                under_way.append(writers.submit(_finish, shard, reading, task, done))
            outcomes += [future.result() for future in under_way]
        except BaseException:
            forward.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes


def _open(task: Extraction) -> "Encoder":
    from engine.model.encode import open_encoder  # noqa: PLC0415  (torch and transformers: seconds)

    give_back_large_blocks()
    return open_encoder(task.model, task.wanted.compute, task.wanted.final_norm, task.memory, task.trusted)


def _prepare(key: Key, task: Extraction, corpus: xr.Dataset, encoder: "Encoder") -> tuple[_Shard, Tokenised]:
    """Read the text of a shard's tokens, and cut into sub-words the sentences whose vectors are not known."""
    started, clock = time.time(), time.perf_counter()
    tokens = store.read_rows(task.selection, "token_id", np.arange(key.start, key.stop))
    numbers, sentences, positions = sentences_with(corpus, task.language, tokens)
    counts = np.array([len(p) for p in positions])
    described = {
        "token_id": tokens,
        "word": np.array([s[i] for s, where in zip(sentences, positions, strict=True) for i in where], dtype=object),
        "sentence": np.repeat(numbers, counts).astype(np.int32),
        "position": np.concatenate(positions).astype(np.int32),
    }
    known, computed, wanted = None, np.arange(len(tokens)), positions
    if task.previous is not None and _may_give(task.previous, task.path):
        known = find(task.previous, described["sentence"], described["position"])
        computed = known.missing(len(tokens), task.wanted.layers)
        chosen = np.split(np.isin(np.arange(len(tokens)), computed), np.cumsum(counts)[:-1])
        wanted = [where[keep] for where, keep in zip(positions, chosen, strict=True)]
    sources = some_sentences(corpus, task.source, numbers) if task.source else None
    tokenised = encoder.tokenise(sentences, wanted, task.wanted, sources)
    seconds = time.perf_counter() - clock
    cosine = None
    if key.start == 0 and task.wanted.compute != "float32":
        whole = tokenised if known is None else encoder.tokenise(sentences, positions, task.wanted, sources)
        from engine.model.encode import cosine_with_float32  # noqa: PLC0415  (as above)

        cosine = cosine_with_float32(encoder, task.model, task.wanted, task.memory, whole, _CHECKED)
    return _Shard(key, started, described, len(numbers), seconds, cosine, known, computed), tokenised


def _may_give(previous: str, path: str) -> bool:
    """Whether there is a store to take vectors from, of the same type: float16 numbers are no float32 vectors."""
    held = store.attributes(previous)
    return held is not None and store.dtype(previous, "activation") == store.dtype(path, "activation")


def _finish(shard: _Shard, reading: "Reading", task: Extraction, done: Callable[[Key, float, Outcome], Any]) -> Outcome:
    """Wait for the vectors of a shard, write them, and say that it is done."""
    try:
        block = reading.result()
    except RangeError as error:
        if not task.auto:
            raise
        return {"overflow": str(error)}
    key = shard.key
    try:
        vectors, present = _whole(block, shard, task)
        written = _write(vectors, present, shard, task)
    finally:
        block.release()  # also where the disk is full: the next task waits for the memory
        give_back_holes()
    outcome: Outcome = {
        "tokens": key.stop - key.start,
        "computed": len(shard.computed),
        "sentences": shard.sentences,
        "absent": int((~present).sum()),
        "dropped": block.dropped,
        "too_long": block.too_long,
        "bytes": written.nbytes,
        "seconds": {
            "text": shard.text_seconds,
            "model": block.model_seconds,
            "copy": block.copy_seconds,
            "encode": written.encode_seconds,
            "disk": written.disk_seconds,
        },
    }
    if shard.cosine is not None:
        outcome["cosine"] = shard.cosine
    done(key, shard.started, outcome)
    return outcome


def _whole(block: "Block", shard: _Shard, task: Extraction) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Vectors and presence of all tokens of a shard: the computed ones, and those of the previous store."""
    if shard.known is None:
        return block.vectors, block.present
    layers, _, hidden = block.vectors.shape
    tokens = shard.key.stop - shard.key.start
    vectors = np.full((layers, tokens, hidden), np.nan, block.vectors.dtype)
    vectors[:, shard.computed] = block.vectors
    present = np.zeros(tokens, bool)
    present[shard.computed] = block.present
    shard.known.fill(vectors, task.wanted.layers)
    present[shard.known.places] = True
    return vectors, present


def _write(vectors: NDArray[np.floating], present: NDArray[np.bool_], shard: _Shard, task: Extraction) -> store.Written:
    """Write one layer after the other: the codecs copy what they write, so memory stays at a few shards."""
    written = store.Written()
    for at in range(len(task.wanted.layers)):
        layer = vectors[at : at + 1]
        if task.keep_bits is not None:
            layer = round_bits(layer, task.keep_bits)
        written += store.write_region(task.path, "activation", layer, layer=at, token=shard.key.start)
    for name, values in (shard.described | {"present": present}).items():
        written += store.write_region(task.path, name, values, token=shard.key.start)
    return written


def compute(key: Key, task: Extraction) -> tuple[NDArray[np.floating], dict[str, NDArray[Any]]]:
    """What the model gives for one shard: vectors (layer, token, hidden) as stored, and arrays (token) by name."""
    task = replace(task, previous=None)
    encoder = _open(task)
    shard, tokenised = _prepare(key, task, store.load(task.corpus, CORPUS), encoder)
    with ThreadPoolExecutor(encoder.side_by_side(task.threads)) as forward:
        dtype = str(store.dtype(task.path, "activation"))
        block = encoder.start(tokenised, task.wanted, dtype, forward, task.threads).result()
    vectors = block.vectors.copy() if task.keep_bits is None else round_bits(block.vectors, task.keep_bits)
    block.release()
    return vectors, shard.described | {"present": block.present}


def record_error(path: str, outcomes: Sequence[Outcome]) -> None:
    """Write into a store's attributes how far its vectors are from those of float32, once measured."""
    for outcome in outcomes:
        if cosine := outcome.get("cosine"):
            store.describe(path, cosine_with_float32=cosine["mean"], least_cosine=cosine["least"])


def open_activations(path: str) -> xr.Dataset:
    """Open a store of vectors as a lazy Dataset (layer, token, hidden) of one Dask chunk a shard.

    Raises
    ------
    StoreError, SchemaError
        There is no such store, or it is another kind or version.
    """
    dataset = store.load(path, ACTIVATIONS)
    _, tokens, _ = dataset.activation.encoding.get("shards") or dataset.activation.encoding["chunks"]
    return store.load(path, ACTIVATIONS, chunks={"layer": 1, "token": tokens})
