"""Tokenised input of a model: sub-words of sentences, and which of them make up the wanted words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.pooling import best_window, spans_in_text, windows, word_spans
from schemas.errors import InputError

BATCH_SUBWORDS = {"cpu": 512, "cuda": 16384}
"""Sub-words of one forward pass where the study gives no number: the fastest of powers of two on two CPU cores
(`tests/benchmarks/extraction.py`); on a GPU enough rows to fill it."""


@dataclass(frozen=True)
class Wanted:
    """Which vectors to keep, and how they are made; see `schemas.study.Activations` for the meaning of each."""

    stack: str
    layers: tuple[int, ...]
    pooling: str = "last"
    decoder_position: str | None = None
    compute: str = "float32"
    batch_subwords: int | None = None
    too_long: str = "skip"
    final_norm: bool = True


Sentence = Sequence[str]

_TOKENISED_AT_ONCE = 128
"""Sentences; the tokenizer's own records take a few hundred bytes a sub-word and are dropped after each batch."""

_SPACES = ("▁", "Ġ")
"""Sub-words that are a space and nothing else."""


_FEW_ROWS = 4
"""Below so many rows a float32 matrix product on the CPU takes another way, with other bits in each row."""


@dataclass(frozen=True)
class Piece:
    """One input of the model: a sentence, or a window of a long one, with the words that are read from it."""

    ids: list[int]
    """Sub-words that are read, special ones included; by the decoder of an encoder–decoder model behind its start."""
    rows: NDArray[np.int64]
    """(word) row of the result that each word goes to."""
    first: NDArray[np.int64]
    """(word) first state of each word."""
    last: NDArray[np.int64]
    """(word) last state of each word."""
    sentence: int
    """Index of the sentence among those given."""
    source: list[int] = field(default_factory=list)
    """For the decoder of an encoder–decoder model: sub-words that the encoder reads."""

    @property
    def shape(self) -> tuple[int, int]:
        """Lengths of what is read, and of what the encoder reads beside it."""
        return len(self.ids), len(self.source)

    def __len__(self) -> int:
        return max(self.shape)


@dataclass
class Tokenised:
    """Pieces of some sentences, and how many wanted words have no vector."""

    sentences: Sequence[Sentence]
    """The sentences given."""
    pieces: list[Piece] = field(default_factory=list)
    words: int = 0
    """Wanted words."""
    dropped: int = 0
    """Wanted words of which the tokenizer leaves nothing, or that no state predicts."""
    too_long: int = 0
    """Wanted words in sentences, or of a length, that the model cannot read."""


@dataclass(frozen=True)
class Rules:
    """How sentences become pieces."""

    limit: int | None
    """Longest input in sub-words; None where any length goes."""
    too_long: str
    """`skip`, `window` or `error`: what becomes of longer sentences."""
    causal: bool
    """Whether words see only what precedes them."""
    joined: bool
    """Whether the sentence is tokenised as one text, its words parted by spaces, and not word by word."""
    shift: int
    """How many places after a sub-word the wanted state of it lies; -1 for the one that predicts it."""
    start: int | None = None
    """Sub-word that the decoder of an encoder–decoder model reads before the others, in the place of the last."""


def reads_joined_text(tokenizer: Any, causal: bool) -> bool:
    """Whether words must be tokenised within their text: byte-level sub-words carry the space before the word.

    Language models saw running text, so their sentences are joined whatever the tokenizer.
    """
    return causal or "ByteLevel" in str(tokenizer.backend_tokenizer.pre_tokenizer)


def tokenise(
    tokenizer: Any,
    sentences: Sequence[Sentence],
    positions: Sequence[NDArray[np.integer]],
    rules: Rules,
    sources: Sequence[Sentence] | None = None,
) -> Tokenised:
    """Cut sentences into sub-words, and long ones into windows.

    Parameters
    ----------
    sentences
        Words of each sentence.
    positions
        Wanted words of each sentence, as indices into it.
    sources
        For the decoder of an encoder–decoder model: what the encoder reads.

    Raises
    ------
    InputError
        A sentence is too long and the rules say `error`.
    """
    result = Tokenised(sentences)
    read = _cut(tokenizer, sources, None, rules) if sources is not None else None
    for number, (ids, first, last, prefix, suffix) in enumerate(_cut(tokenizer, sentences, positions, rules)):
        source = next(read)[0] if read is not None else []
        wanted = positions[number]
        rows = np.arange(result.words, result.words + len(wanted))
        result.words += len(wanted)
        kept = first >= 0
        kept &= first + rules.shift >= 0  # where nothing precedes the sentence, no state predicts its first word
        result.dropped += int((~kept).sum())
        rows, first, last = rows[kept], first[kept], last[kept]
        if not len(rows):
            continue
        if rules.start is not None:  # nobody asks for what follows the last sub-word, if that is a special one
            ids = [rules.start, *(ids if rules.shift and not suffix else ids[:-1])]
        piece = Piece(ids, rows, first + rules.shift, last + rules.shift, number, source)
        if rules.limit is None or len(piece) <= rules.limit:
            result.pieces.append(piece)
        elif rules.too_long == "window" and not source:
            found = list(_windows(ids, rows, first, last, prefix, suffix, number, rules))
            result.pieces += found
            result.too_long += len(rows) - sum(len(piece.rows) for piece in found)
        elif rules.too_long == "error":
            words = sentences[number]
            raise InputError(
                f"sentence of {len(words)} words starting {' '.join(words[:6])!r}: {len(piece)} sub-words, the model "
                f"reads at most {rules.limit}; set activations.too_long to skip or window, or shorten the sentence"
            )
        else:
            result.too_long += len(rows)
    return result


def _cut(
    tokenizer: Any, sentences: Sequence[Sentence], positions: Sequence[NDArray[np.integer]] | None, rules: Rules
) -> Iterator[tuple[list[int], NDArray[np.int64], NDArray[np.int64], int, int]]:
    """Sub-words of each sentence, spans of its wanted words, and numbers of special sub-words before and after."""
    nothing = np.empty(0, np.int64)
    marks = {tokenizer.backend_tokenizer.token_to_id(mark) for mark in _SPACES}
    for start in range(0, len(sentences), _TOKENISED_AT_ONCE):
        batch = sentences[start : start + _TOKENISED_AT_ONCE]
        if rules.joined:
            found = tokenizer(
                [" ".join(words) for words in batch], return_offsets_mapping=True, return_special_tokens_mask=True
            )
        else:
            found = tokenizer([list(words) for words in batch], is_split_into_words=True)
        for row, words in enumerate(batch):
            ids: list[int] = found["input_ids"][row]
            if positions is None:
                yield ids, nothing, nothing, 0, 0
                continue
            wanted = positions[start + row]
            if rules.joined:
                special, offsets = found["special_tokens_mask"][row], found["offset_mapping"][row]
                ordinary = [i for i, s in enumerate(special) if not s]
                if len(ordinary) > 1 and ids[ordinary[0]] in marks:
                    (low, _), (after, _) = (offsets[i] for i in ordinary[:2])
                    if low == after:  # a space put before the text, which tokenizers place on its first character
                        offsets[ordinary[0]] = (0, 0)
                first, last = spans_in_text(offsets, special, words)
            else:
                word_ids = found.word_ids(row)
                first, last = word_spans(word_ids, len(words))
                ordinary = [i for i, word in enumerate(word_ids) if word is not None]
            ends = (ordinary[0], len(ids) - 1 - ordinary[-1]) if ordinary else (0, 0)
            yield ids, first[wanted], last[wanted], *ends


def _windows(
    ids: list[int],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    prefix: int,
    suffix: int,
    number: int,
    rules: Rules,
) -> Iterator[Piece]:
    """Windows of a long sentence, each with its special sub-words and the words that have most context in it."""
    assert rules.limit is not None
    stop = len(ids) - suffix
    ranges = windows(stop - prefix, rules.limit - prefix - suffix)
    shift = min(rules.shift, 0)  # a state before the word must lie in its window too
    begin = np.maximum(first - prefix + shift, 0)  # the first word's state may be that of the special one before it
    best = best_window(begin, last - prefix, ranges, causal=rules.causal)
    for window, (low, high) in enumerate(ranges):
        here = best == window
        if here.any():
            cut = ids[:prefix] + ids[prefix + low : prefix + high] + ids[stop:]
            moved = rules.shift - low
            yield Piece(cut, rows[here], first[here] + moved, last[here] + moved, number)


def batches(pieces: Sequence[Piece], budget: int, *, padded: bool = False) -> list[list[Piece]]:
    """Group pieces for forward passes of at most `budget` sub-words, or of one piece.

    Without padding a batch holds pieces of one length alone, and very short ones stay alone. On a CPU each row of a
    matrix product then comes out as if the sentence were read by itself, so its vectors have the same bits whatever is
    read beside it; masked padding changes the order of sums. That holds for models whose inner layers are whole vector
    registers wide (multiples of 32), as real ones are. Real text has enough sentences of each length for it to cost few
    per cent.

    Parameters
    ----------
    padded
        Whether pieces of like length may be padded to one.
    """
    groups: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: (len(p), p.shape)):
        fits = groups and len(piece) * (len(groups[-1]) + 1) <= budget
        alike = piece.shape == groups[-1][0].shape and min(filter(None, piece.shape)) >= _FEW_ROWS if groups else False
        if fits and (padded or alike):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
