"""Word vectors of every layer: batched forward passes, pooling from sub-words to words, one block a shard."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.model.load import check_vocabulary, load_network, load_tokenizer
from engine.model.pieces import (
    BATCH_SUBWORDS,
    Piece,
    Rules,
    Sentence,
    Tokenised,
    Wanted,
    batches,
    reads_joined_text,
    tokenise,
)
from engine.model.shape import describe
from engine.model.transfer import Copy, Transfers
from schemas.errors import InputError, RangeError

_FLOAT16_LIMIT = 65520.0
"""Least number that rounds to infinity in float16."""


@dataclass
class Block:
    """Vectors of the wanted words of some sentences, and what they took."""

    vectors: NDArray[np.floating]
    """(layer, token, hidden); NaN where not present."""
    present: NDArray[np.bool_]
    """(token) whether the word has a vector."""
    dropped: int
    """Words of which the tokenizer leaves nothing, or that no state predicts."""
    too_long: int
    """Words in sentences that the model cannot read."""
    model_seconds: float
    """Seconds of forward passes and pooling."""
    copy_seconds: float
    """Seconds of copying from the device."""
    copy: Copy

    def release(self) -> None:
        """Give back the host memory of the vectors, once they are written."""
        self.copy.release()


@dataclass
class Reading:
    """A block that is being computed."""

    encoder: "Encoder"
    wanted: Wanted
    tokenised: Tokenised
    out: torch.Tensor
    futures: list[Future[tuple[torch.Tensor, float]]]
    threads: int
    events: tuple[Any, Any] | None = None
    """CUDA events before the first batch and after the last."""
    recorded: Future[None] | None = None
    """Done once the second event is in the stream."""
    present: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.present = np.zeros(self.tokenised.words, bool)
        for piece in self.tokenised.pieces:
            self.present[piece.rows] = True

    def result(self) -> Block:
        """Wait for the vectors.

        Raises
        ------
        RangeError
            A value does not fit the storage type; names layer and sentence.
        InputError
            The model gives a value that is not a number.
        """
        done = [future.result() for future in self.futures]
        if self.recorded is not None:
            self.recorded.result()
        seconds = sum(s for _, s in done) / self.threads
        copy = self.encoder.transfers.start(self.out, self.events[1] if self.events else None)
        copied = copy.wait()
        if self.events is not None:
            seconds = float(self.events[0].elapsed_time(self.events[1])) / 1000
        if done and not bool(torch.stack([finite.to(done[0][0].device) for finite, _ in done]).all()):
            copy.release()
            self._explain()
        return Block(
            copy.host.numpy(), self.present, self.tokenised.dropped, self.tokenised.too_long, seconds, copied, copy
        )

    def _explain(self) -> None:
        """Find the value that does not fit, and raise."""
        for at, layer in enumerate(self.wanted.layers):
            fits = torch.isfinite(self.out[at]).all(dim=1).cpu().numpy()
            wrong = np.flatnonzero(self.present & ~fits)
            if not len(wrong):
                continue
            piece = next(p for p in self.tokenised.pieces if np.isin(p.rows, wrong).any())
            words = self.tokenised.sentences[piece.sentence]
            where = f"layer {layer}, sentence of {len(words)} words starting {' '.join(words[:6])!r}"
            values = self.encoder.pooled([piece], self.wanted)[at]
            if not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"{where}: the model gives a value that is not a number; its weights are damaged: use "
                    "another checkpoint"
                )
            kind = str(self.out.dtype).removeprefix("torch.")
            raise RangeError(
                f"{where}: a value of {float(values.abs().max()):.6g} does not fit {kind}; set activations.dtype to "
                "float32 or auto"
            )


class Encoder:
    """A model with its tokenizer, ready to read sentences."""

    def __init__(
        self,
        model: str,
        compute: str = "float32",
        *,
        final_norm: bool = True,
        memory: int | None = None,
        trusted: bool = False,
    ) -> None:
        """Load a checkpoint; see `engine.model.load.load_network` for the parameters and errors."""
        self.shape = describe(model, trusted=trusted)
        self.trusted = trusted
        torch.set_num_threads(1)  # batches run side by side instead: bits do not depend on the number of threads
        self._tokenizer = load_tokenizer(model, trusted=trusted)
        self._network, self._spread = load_network(
            model, compute, final_norm=final_norm, memory=memory, trusted=trusted
        )
        check_vocabulary(model, self._tokenizer, self._network)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.transfers = Transfers(self.device)
        self._joined = reads_joined_text(self._tokenizer, self.shape.causal)

    def side_by_side(self, threads: int) -> int:
        """Batches that may run at once: one on a GPU, and one where accelerate moves weights between passes."""
        return threads if self.device.type == "cpu" and not self._spread else 1

    def batches(self, pieces: Sequence[Piece], wanted: Wanted) -> list[list[Piece]]:
        """Pieces in batches: of one length on the CPU, padded on a GPU, which needs large ones."""
        kind = self.device.type
        return batches(pieces, wanted.batch_subwords or BATCH_SUBWORDS[kind], padded=kind != "cpu")

    def tokenise(
        self,
        sentences: Sequence[Sentence],
        positions: Sequence[NDArray[np.integer]],
        wanted: Wanted,
        sources: Sequence[Sentence] | None = None,
    ) -> Tokenised:
        """Pieces of some sentences; see `engine.model.pieces.tokenise`."""
        shape, start = self.shape, None
        if shape.encoder_decoder and wanted.stack == "decoder":
            start = int(self._network.config.decoder_start_token_id)
        rules = Rules(shape.max_subwords, wanted.too_long, shape.causal, self._joined, self._shift(wanted), start)
        return tokenise(self._tokenizer, sentences, positions, rules, sources)

    def _shift(self, wanted: Wanted) -> int:
        """How many places after a sub-word its wanted state lies.

        The decoder of an encoder–decoder model reads its text shifted right by the start token: the state at the
        place of a sub-word predicts it. A decoder alone reads it unshifted: the state at its place has read it.
        """
        if wanted.stack == "encoder":
            return 0
        position = wanted.decoder_position or ("consume" if self.shape.causal else "predict")
        return int(position == "consume") - int(self.shape.causal)

    def start(
        self, tokenised: Tokenised, wanted: Wanted, dtype: str, pool: ThreadPoolExecutor, threads: int
    ) -> Reading:
        """Begin to read; batches of like length run in the pool, and their vectors are pooled where they arise."""
        size = (len(wanted.layers), tokenised.words, self.shape.hidden)
        out = torch.empty(size, dtype=getattr(torch, dtype), device=self.device)
        reading = Reading(self, wanted, tokenised, out, [], self.side_by_side(threads))
        if not reading.present.all():
            out[:, torch.from_numpy(np.flatnonzero(~reading.present)).to(self.device)] = float("nan")
        groups = self.batches(tokenised.pieces, wanted)
        if self.device.type == "cuda":  # also for a block without a batch, whose copy waits for it
            reading.events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            pool.submit(reading.events[0].record)
        reading.futures = [pool.submit(self._fill, out, batch, wanted) for batch in groups]
        if reading.events is not None:  # one thread, one stream: between the batches of this block and the next
            reading.recorded = pool.submit(reading.events[1].record)
        return reading

    def read(
        self,
        sentences: Sequence[Sentence],
        positions: Sequence[NDArray[np.integer]],
        wanted: Wanted,
        *,
        dtype: str = "float32",
        sources: Sequence[Sentence] | None = None,
        threads: int = 1,
    ) -> Block:
        """Vectors of some words of some sentences.

        Parameters
        ----------
        sentences
            Words of each sentence; for the decoder, what it reads (teacher-forced).
        positions
            Wanted words of each sentence, as indices into it.
        dtype
            Type of the vectors: `float16` or `float32`.
        sources
            For the decoder of an encoder–decoder model: the sentences that the encoder reads.

        Raises
        ------
        InputError, RangeError
            See `Reading.result` and `engine.model.pieces.tokenise`.
        """
        tokenised = self.tokenise(sentences, positions, wanted, sources)
        with ThreadPoolExecutor(self.side_by_side(threads)) as pool:
            return self.start(tokenised, wanted, dtype, pool, threads).result()

    def _fill(self, out: torch.Tensor, batch: list[Piece], wanted: Wanted) -> tuple[torch.Tensor, float]:
        """Put the vectors of a batch into the block; whether all are finite (known to the device), and seconds."""
        started = time.perf_counter()
        rows = torch.from_numpy(np.concatenate([p.rows for p in batch])).to(out.device)
        finite = torch.ones((), dtype=torch.bool, device=out.device)
        limit = _FLOAT16_LIMIT if out.dtype == torch.float16 else float("inf")
        with torch.inference_mode():
            for at, pooled in enumerate(self.pooled(batch, wanted)):
                out[at].index_copy_(0, rows, pooled.to(out.dtype).to(out.device))
                if pooled.numel():  # NaN is neither; a tenth of the time of isfinite
                    least, largest = torch.aminmax(pooled)
                    finite &= ((least > -limit) & (largest < limit)).to(out.device)
        return finite, time.perf_counter() - started

    def pooled(self, batch: list[Piece], wanted: Wanted) -> list[torch.Tensor]:
        """(token, hidden) float32 vectors of the batch's words, by wanted layer."""
        row = np.repeat(np.arange(len(batch)), [len(p.rows) for p in batch])
        first, last = (np.concatenate([getattr(p, end) for p in batch]) for end in ("first", "last"))
        with torch.inference_mode():
            states = self._states(batch, wanted)
            return [_pool(states[layer], row, first, last, wanted.pooling) for layer in wanted.layers]

    def _states(self, batch: list[Piece], wanted: Wanted) -> Any:
        """Hidden states by layer, each (sentence, subword, hidden); None for the layers not wanted."""
        keep = list(wanted.layers)
        if not self.shape.encoder_decoder or wanted.stack == "encoder":
            ids, mask = self._pad([p.ids for p in batch])
            network = self._network.encoder if self.shape.encoder_decoder else self._network
            given = {"use_cache": False} if self.shape.causal else {}
            return network(input_ids=ids, attention_mask=mask, output_hidden_states=keep, **given).hidden_states
        ids, mask = self._pad([p.ids for p in batch])
        source_ids, source_mask = self._pad([p.source for p in batch])
        return self._network(
            input_ids=source_ids,
            attention_mask=source_mask,
            decoder_input_ids=ids,
            decoder_attention_mask=mask,
            output_hidden_states=keep,
            use_cache=False,
        ).decoder_hidden_states

    def _pad(self, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, ids))
        padded = torch.full((len(ids), width), self._tokenizer.pad_token_id or 0, dtype=torch.long)
        mask = torch.zeros((len(ids), width), dtype=torch.long)
        for row, sentence in enumerate(ids):
            padded[row, : len(sentence)] = torch.tensor(sentence)
            mask[row, : len(sentence)] = 1
        return padded.to(self.device), mask.to(self.device)


def _pool(
    states: torch.Tensor, row: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], pooling: str
) -> torch.Tensor:
    """(token, hidden) vectors, float32 or wider, of the words that span states first..last of their rows."""
    wide = torch.promote_types(states.dtype, torch.float32)
    at, a, b = (torch.from_numpy(x).to(states.device) for x in (row, first, last))
    if pooling == "first":
        return states[at, a].to(wide)
    if pooling == "last":
        return states[at, b].to(wide)
    total = states[at, a].to(wide)
    for step in range(1, int((last - first).max(initial=0)) + 1):
        more = torch.from_numpy(np.flatnonzero(first + step <= last)).to(states.device)
        total.index_add_(0, more, states[at[more], a[more] + step].to(wide))
    return total / (b - a + 1)[:, None]


@lru_cache(maxsize=1)
def open_encoder(model: str, compute: str, final_norm: bool, memory: int | None, trusted: bool) -> Encoder:
    """The model, loaded once in each process."""
    return Encoder(model, compute, final_norm=final_norm, memory=memory, trusted=trusted)


def cosine_with_float32(
    encoder: Encoder, model: str, wanted: Wanted, memory: int | None, tokenised: Tokenised, limit: int
) -> dict[str, list[float]]:
    """Cosine of the encoder's vectors with those of float32: `mean` and `least` by wanted layer.

    Parameters
    ----------
    tokenised
        Input of which about `limit` pieces, spread evenly over it, are read in both types.
    """
    pieces = tokenised.pieces[:: max(1, len(tokenised.pieces) // limit)]
    exact = Encoder(model, "float32", final_norm=wanted.final_norm, memory=memory, trusted=encoder.trusted)
    found = [
        torch.stack(
            [
                torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1).cpu()
                for a, b in zip(encoder.pooled(batch, wanted), exact.pooled(batch, wanted), strict=True)
            ]
        )
        for batch in encoder.batches(pieces, wanted)
    ]
    every = torch.cat(found, dim=1) if found else torch.ones((len(wanted.layers), 1))
    return {"mean": every.mean(dim=1).tolist(), "least": every.min(dim=1).values.tolist()}
