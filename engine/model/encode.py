"""Word vectors of every layer: tokenizer, batched forward pass, pooling from sub-words to words."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from engine.kernels.pooling import word_spans
from schemas.errors import InputError

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

Sentence = Sequence[str]

_TOKENISED_AT_ONCE = 1000
"""Sentences; the tokenizer's own records take a few hundred bytes a sub-word and are dropped after each batch."""


@dataclass(frozen=True)
class Shape:
    """What a model can give, known from its configuration alone."""

    hidden: int
    """Length of a vector."""
    layers: dict[str, int]
    """Number of blocks of each stack; layer indices run from 0 (embedding output) to this."""
    max_subwords: int | None
    """Longest input in sub-words, special ones included; None where any length goes."""
    parameters: int
    """Rough number of weights of all blocks and embeddings."""


@dataclass(frozen=True)
class Wanted:
    """Which vectors to keep, and how a word's sub-words become one."""

    stack: str
    layers: tuple[int, ...]
    pooling: str
    decoder_position: str
    dtype: str
    batch_subwords: int


def describe(model: str) -> Shape:
    """Read what a model can give from its configuration, without its weights.

    Raises
    ------
    InputError
        There is no such model, or its configuration cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{model}: expected a model folder in transformers' format or a hub name, but no configuration could be "
            f"read ({str(error).splitlines()[0]}); a folder beside the study file is written with ./ before it"
        ) from error
    layers = {"encoder": int(config.num_hidden_layers)}
    if config.is_encoder_decoder:
        layers["decoder"] = int(getattr(config, "num_decoder_layers", None) or config.num_hidden_layers)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ("xlm-roberta", "roberta", "camembert"):
        positions -= config.pad_token_id + 1  # positions start after the padding index
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", 0) or getattr(config, "d_ff", 4 * hidden))
    blocks = sum(layers.values()) * (4 * hidden * hidden + 3 * hidden * inner)
    return Shape(hidden, layers, positions, blocks + int(config.vocab_size) * hidden)


def identity(model: str) -> str:
    """Short hash of a model's content: configuration and tokenizer whole, of weights 64 pieces of 64 KiB and the size.

    Weights that were trained differ everywhere, so pieces tell them apart in milliseconds at any size. A model of a
    hub is known by its revision.
    """
    if not Path(model).is_dir():
        return f"{model}@{getattr(AutoConfig.from_pretrained(model), '_commit_hash', None)}"
    found = hashlib.sha256()
    for path in sorted(Path(model).iterdir()):
        if path.suffix in (".json", ".txt", ".model"):
            found.update(path.name.encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            size = path.stat().st_size
            found.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                for piece in range(64):
                    file.seek(size * piece // 64)
                    found.update(file.read(2**16))
    return found.hexdigest()[:16]


class Encoder:
    """A model with its tokenizer, ready to read sentences."""

    def __init__(self, model: str) -> None:
        self.shape = describe(model)
        torch.set_num_threads(1)  # batches run side by side instead: bits do not depend on the number of threads
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
            network, info = AutoModel.from_pretrained(
                model, dtype=torch.float32, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise InputError(
                f"{model}: cannot be loaded: {' '.join(str(error).split())}; a checkpoint is a folder that "
                "save_pretrained of model and tokenizer has written: save or copy it again"
            ) from error
        if mismatched := sorted(info["mismatched_keys"]):
            name, found, expected = mismatched[0]
            raise InputError(
                f"{model}: weight {name} has shape {tuple(found)}, expected {tuple(expected)}; use a checkpoint that "
                "matches its config.json"
            )
        if missing := sorted(k for k in info["missing_keys"] if not k.startswith("pooler")):
            raise InputError(
                f"{model}: the checkpoint lacks weights of the model ({missing[0]} and {len(missing) - 1} more); its "
                "vectors would be random. Use a checkpoint that matches its config.json"
            )
        if not self._tokenizer.is_fast:
            raise InputError(
                f"{model}: its tokenizer cannot tell words from sub-words; save a fast one (tokenizer.json)"
            )
        vocabulary = self._tokenizer.get_vocab()
        # where no tokenizer is saved, transformers makes one up of special sub-words alone
        if len(vocabulary) <= len(self._tokenizer.all_special_ids) + 1:
            raise InputError(
                f"{model}: has no tokenizer, every word would be unknown; write the tokenizer's files into the folder "
                "with its save_pretrained"
            )
        if (rows := network.get_input_embeddings().num_embeddings) <= max(vocabulary.values()):
            raise InputError(
                f"{model}: its tokenizer numbers sub-words up to {max(vocabulary.values())}, the model embeds {rows}; "
                "use the tokenizer that the model was trained with"
            )
        self._network: Any = network.to(self._device).eval()

    def read(
        self,
        sentences: Sequence[Sentence],
        positions: Sequence[NDArray[np.integer]],
        wanted: Wanted,
        *,
        sources: Sequence[Sentence] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Vectors of some words of some sentences.

        Parameters
        ----------
        sentences
            Words of each sentence; for the decoder, what it reads (teacher-forced).
        positions
            Wanted words of each sentence, as indices into it.
        sources
            For the decoder: the sentences that the encoder reads.

        Returns
        -------
        (layer, token, hidden) vectors in the order of `positions`, and (token) whether the word has one: false, and
        NaN vectors, where the tokenizer drops the word or a sentence is longer than the model.

        Raises
        ------
        InputError
            A value is not finite in the storage type; names layer and sentence.
        """
        encoded = self._tokenize(sentences, positions)
        read_by_encoder = self._tokenize(sources, [np.empty(0, np.int64)] * len(sources)) if sources else None
        counts = [len(p) for p in positions]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        vectors = np.full((len(wanted.layers), offsets[-1], self.shape.hidden), np.nan, wanted.dtype)
        present = np.zeros(offsets[-1], bool)
        lengths = [len(e.ids) for e in encoded]
        if read_by_encoder:
            lengths = [max(n, len(s.ids)) for n, s in zip(lengths, read_by_encoder, strict=True)]
        limit = self.shape.max_subwords
        readable = [i for i, n in enumerate(lengths) if counts[i] and (limit is None or n <= limit)]

        def run(batch: list[int]) -> None:
            spans = [encoded[i] for i in batch]
            found = [np.flatnonzero(s.first >= 0) for s in spans]
            rows = np.repeat(np.arange(len(batch)), [len(f) for f in found])
            first = np.concatenate([s.first[f] for s, f in zip(spans, found, strict=True)])
            last = np.concatenate([s.last[f] for s, f in zip(spans, found, strict=True)])
            place = np.concatenate([offsets[i] + f for i, f in zip(batch, found, strict=True)])
            states = self._states(batch, encoded, read_by_encoder, wanted)
            for at, layer in enumerate(wanted.layers):
                pooled = self._pool(states[layer], rows, first, last, wanted)
                kept = pooled.to(getattr(torch, wanted.dtype)).cpu().numpy()
                if not np.isfinite(kept).all():
                    worst = batch[int(rows[int(np.argmin(np.isfinite(kept).all(axis=1)))])]
                    where = (
                        f"layer {layer}, sentence of {len(sentences[worst])} words starting "
                        f"{' '.join(sentences[worst][:6])!r}"
                    )
                    if not torch.isfinite(pooled).all():
                        raise InputError(
                            f"{where}: the model gives a value that is not a number; its weights are damaged: use "
                            "another checkpoint"
                        )
                    raise InputError(
                        f"{where}: a value of {float(pooled.abs().max()):.6g} does not fit {wanted.dtype}; set "
                        "activations.dtype to float32"
                    )
                vectors[at, place] = kept
            present[place] = True

        batches = _batches(readable, lengths, wanted.batch_subwords)
        with ThreadPoolExecutor(threads if self._device.type == "cpu" else 1) as pool:
            for _ in pool.map(run, batches):
                pass
        return vectors, present

    def _tokenize(self, sentences: Sequence[Sentence], positions: Sequence[NDArray[np.integer]]) -> list["_SubWords"]:
        result = []
        for start in range(0, len(sentences), _TOKENISED_AT_ONCE):
            batch = range(start, min(start + _TOKENISED_AT_ONCE, len(sentences)))
            found = self._tokenizer([list(sentences[i]) for i in batch], is_split_into_words=True)
            for row, i in enumerate(batch):
                first, last = word_spans(found.word_ids(row), len(sentences[i]))
                result.append(_SubWords(found["input_ids"][row], first[positions[i]], last[positions[i]]))
        return result

    def _states(
        self, batch: list[int], encoded: list["_SubWords"], sources: list["_SubWords"] | None, wanted: Wanted
    ) -> Any:
        """Hidden states by layer, each (sentence, subword, hidden); None for the layers not wanted."""
        with torch.inference_mode():
            ids, mask = self._pad([encoded[i].ids for i in batch])
            keep = list(wanted.layers)
            if wanted.stack == "encoder":
                stack = self._network.encoder if self._network.config.is_encoder_decoder else self._network
                return stack(input_ids=ids, attention_mask=mask, output_hidden_states=keep).hidden_states
            assert sources is not None
            source_ids, source_mask = self._pad([sources[i].ids for i in batch])
            start = torch.full_like(ids[:, :1], self._network.config.decoder_start_token_id)
            return self._network(
                input_ids=source_ids,
                attention_mask=source_mask,
                decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1),
                decoder_attention_mask=mask,
                output_hidden_states=keep,
                use_cache=False,
            ).decoder_hidden_states

    def _pad(self, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, ids))
        padded = torch.full((len(ids), width), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(ids), width), dtype=torch.long)
        for row, sentence in enumerate(ids):
            padded[row, : len(sentence)] = torch.tensor(sentence)
            mask[row, : len(sentence)] = 1
        return padded.to(self._device), mask.to(self._device)

    @staticmethod
    def _pool(states: torch.Tensor, rows: Any, first: Any, last: Any, wanted: Wanted) -> torch.Tensor:
        """(token, hidden) vectors of the words that span sub-words first..last of their sentences."""
        device = states.device
        row, a, b = (torch.from_numpy(x).to(device) for x in (rows, first, last))
        if wanted.stack == "decoder" and wanted.decoder_position == "consume":
            a, b = a + 1, b + 1  # the decoder's input is shifted right: sub-word j is read at j + 1
        if wanted.pooling == "first":
            return states[row, a]
        if wanted.pooling == "last":
            return states[row, b]
        total = states[row, a].clone()
        for step in range(1, int((b - a).max()) + 1 if len(a) else 0):
            more = a + step <= b
            total[more] += states[row[more], a[more] + step]
        return total / (b - a + 1)[:, None]


@dataclass(frozen=True)
class _SubWords:
    """A tokenised sentence: ids of its sub-words, and the span of each wanted word."""

    ids: list[int]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def _batches(sentences: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Group sentences of like length; a batch holds at most `budget` sub-words, padding included, or one sentence."""
    batches: list[list[int]] = []
    for i in sorted(sentences, key=lengths.__getitem__):
        if batches and lengths[i] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@lru_cache(maxsize=1)
def open_encoder(model: str) -> Encoder:
    """The model, loaded once in each process."""
    return Encoder(model)
