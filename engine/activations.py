"""Activations: word vectors of the selected tokens, written shard by shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from engine import store
from engine.model.encode import Wanted, describe, open_encoder
from engine.text import sentences_with, some_sentences
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.corpus import CORPUS
from schemas.errors import InputError
from schemas.task import Key


@dataclass(frozen=True)
class Extraction:
    """All that one extraction task needs to know beside its key."""

    corpus: str
    """Path of the CORPUS dataset."""
    path: str
    """Path of the ACTIVATIONS dataset."""
    model: str
    """Model folder or hub name."""
    language: str
    """Language to read."""
    source: str | None
    """Language that the encoder reads while the decoder reads `language`; None for the encoder."""
    wanted: Wanted
    """Layers, pooling and storage type."""
    threads: int
    """Threads that one task may use; never changes a bit."""


def layers_of(model: str, stack: str, layers: str | Sequence[int]) -> tuple[int, ...]:
    """Layers of a stack to keep, from the study's setting.

    Raises
    ------
    InputError
        The model has no such stack or layer.
    """
    available = describe(model).layers
    if stack not in available:
        raise InputError(f"{model}: has no {stack}; activations.stacks may name {sorted(available)}")
    if isinstance(layers, str):
        return tuple(range(available[stack] + 1))
    if beyond := [i for i in layers if i > available[stack]]:
        raise InputError(f"{model}: has no layer {beyond[0]}; its {stack} has layers 0 to {available[stack]}")
    return tuple(sorted(set(layers)))


def setup(task: Extraction, selection: xr.Dataset, settings: study.Activations, **provenance: Any) -> None:
    """Lay out the ACTIVATIONS dataset of one stack of one checkpoint and language."""
    wanted = task.wanted
    tokens = selection.sizes["token"]
    store.setup(
        task.path,
        ACTIVATIONS,
        {"layer": len(wanted.layers), "token": tokens, "hidden": describe(task.model).hidden},
        {"layer": np.array(wanted.layers, np.int32), "token_id": selection.token_id.values},
        chunks={"layer": 1, "token": settings.chunk_tokens},
        shards={"layer": 1, "token": settings.shard_tokens},
        dtypes={"activation": wanted.dtype},
        model=task.model,
        language=task.language,
        stack=wanted.stack,
        settings=settings.model_dump_json(),
        **provenance,
    )


def extract(key: Key, task: Extraction) -> dict[str, int]:
    """Write the vectors of tokens key.start..key.stop; running it again writes the same bytes.

    Sentences that straddle two shards are read in both.

    Returns
    -------
    Numbers of tokens, of tokens without a vector, and of bytes written.
    """
    corpus = store.load(task.corpus, CORPUS)
    tokens = store.read_rows(task.path, "token_id", np.arange(key.start, key.stop))
    numbers, sentences, positions = sentences_with(corpus, task.language, tokens)
    sources = some_sentences(corpus, task.source, numbers) if task.source else None
    vectors, present = open_encoder(task.model).read(
        sentences, positions, task.wanted, sources=sources, threads=task.threads
    )
    described = {
        "word": np.array([words[i] for words, at in zip(sentences, positions, strict=True) for i in at], object),
        "sentence": np.repeat(numbers, [len(at) for at in positions]).astype(np.int32),
        "position": np.concatenate(positions).astype(np.int32),
        "present": present,
    }
    store.write_region(task.path, "activation", vectors, token=key.start)
    for name, values in described.items():
        store.write_region(task.path, name, values, token=key.start)
    return {"tokens": len(tokens), "absent": int((~present).sum()), "bytes": vectors.nbytes}
