"""Links: word alignment of a language pair, in both directions, made one set.

A pair is read twice, in batches: once to train on, as far as memory allows, and once to be linked.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from thot import alignment as thot
from threadpoolctl import threadpool_limits

from engine.text import sentence_offsets, some_sentences
from schemas import study
from schemas.links import LINKS

Pair = tuple[list[str], list[str]]
"""The words of a sentence in two languages."""

Positions = NDArray[np.int64]
"""Links of one sentence (link, side): positions of the source and target word, ordered by both."""

ITERATIONS = 5
"""Training iterations of each model unless told otherwise (fast_align's and GIZA++'s default)."""

_BATCH = 1000
"""Sentences that are linked at once."""

_LEAST = 1000
"""Sentences that an aligner is trained on, however little memory there is."""

_RESERVED = {word: f"{word} " for word in ("NULL", "UNKNOWN_WORD", "<UNUSED_WORD>")}
"""Words that the library gives a meaning, as ones that no text has: words hold no space."""


@dataclass(frozen=True)
class Cost:
    """What an aligner takes, both directions together, on one core."""

    token: int
    """Bytes of a token that it is trained on."""
    word: float
    """Bytes of such a token for each word of its sentence in the other language, with which it may be linked."""
    training: float
    """Seconds of an iteration over a thousand tokens, in each model that it begins with."""
    linking: float
    """Seconds of linking a thousand tokens; Eflomal: in each of the sweeps, which are as many as in training."""


COST = {
    "fast_align": Cost(200, 2.0, 0.012, 0.007),
    "hmm": Cost(200, 2.5, 0.066, 0.07),
    "ibm4": Cost(400, 3.0, 0.43, 0.17),
    "eflomal": Cost(250, 1.0, 0.0037, 0.0009),
}
"""Measured, see `tests/benchmarks/alignment.py`; tokens are those of both languages."""

_LEAST_SWEEPS = 40
"""Sweeps of Eflomal over each sentence that is linked, at least."""

_LINK = 24
"""Bytes of a token, of either language, while its links are gathered: at most one link of two numbers, growing."""

_TEXT = 48 * 2**20
"""Bytes of the batch of sentences at work, its links, and the library."""


def memory_needed(sentences: int, tokens: int, trained_on: int, settings: study.Links) -> int:
    """Bytes that linking a pair takes.

    Parameters
    ----------
    tokens
        Tokens of both languages (count).
    trained_on
        Sentences that are trained on (count).
    """
    cost = COST[settings.aligner]
    each = cost.token + cost.word * tokens / (2 * sentences)
    return _TEXT + tokens * _LINK + int(tokens * trained_on / sentences * each)


def seconds_needed(sentences: int, tokens: int, trained_on: int, settings: study.Links) -> float:
    """Seconds on one core, about, that linking a pair takes; parameters as `memory_needed`."""
    cost, again = COST[settings.aligner], 1.0
    iterations: float = settings.iterations or ITERATIONS
    if settings.aligner == "eflomal":  # its schedule: a quarter as many sweeps in each of the two models before
        iterations = 1.5 * (settings.iterations or max(2, 5000 / trained_on**0.5))
        again = max(iterations, _LEAST_SWEEPS)
    return tokens / 1000 * (trained_on / sentences * iterations * cost.training + again * cost.linking)


def sample_size(sentences: int, tokens: int, settings: study.Links, memory: int | None) -> int:
    """Sentences of a pair that an aligner is trained on: all of them, or as many as fit, but at least 1000.

    Parameters
    ----------
    tokens
        Tokens of both languages (count).
    memory
        Bytes that may be used; None: any number.

    Examples
    --------
    >>> sample_size(20_000, 1_000_000, study.Links(), None)
    20000
    >>> sample_size(20_000, 1_000_000, study.Links(), 2**28)
    15528
    """
    if memory is None:
        return sentences
    none, all_ = (memory_needed(sentences, tokens, trained, settings) for trained in (0, sentences))
    return min(sentences, max(_LEAST, (memory - none) * sentences // (all_ - none)))


def sample(sentences: int, size: int) -> NDArray[np.int64]:
    """Numbers of `size` of the sentences, evenly spread.

    Examples
    --------
    >>> sample(10, 3).tolist()
    [3, 6, 9]
    """
    return np.flatnonzero(np.diff(np.arange(sentences + 1) * size // sentences))


@dataclass(frozen=True)
class Linker:
    """Trained models, of the directions that the symmetrisation needs."""

    forward: Any
    """Gives each target word at most one source word."""
    backward: Any
    """Gives each source word at most one target word."""
    symmetrise: str
    """How the two directions become one set of links."""

    @property
    def longest(self) -> int:
        """Words of the longest sentence that is linked (count)."""
        return int(min(model.max_sentence_length for model in (self.forward, self.backward) if model is not None))

    def links(self, pairs: Iterable[Pair]) -> Iterator[Positions]:
        """Links of each sentence, by number; none for those that are too long."""
        pairs, longest = iter(pairs), self.longest
        while batch := list(islice(pairs, _BATCH)):
            short = [i for i, pair in enumerate(batch) if max(map(len, pair)) <= longest]
            found = dict(zip(short, self._matrices([batch[i] for i in short]), strict=True))
            for i in range(len(batch)):
                yield np.argwhere(found[i]) if i in found else np.empty((0, 2), np.int64)

    def _matrices(self, batch: Sequence[Pair]) -> list[NDArray[Any]]:
        """Which words are linked (source, target), by sentence."""
        source, target = ([_ordinary(pair[side]) for pair in batch] for side in (0, 1))
        if self.backward is None:
            return [matrix.to_numpy() for _, matrix in self.forward.get_best_alignments(source, target)]
        if self.forward is None:
            return [matrix.to_numpy().T for _, matrix in self.backward.get_best_alignments(target, source)]
        both = thot.SymmetrizedAlignmentModel(self.forward, self.backward)
        both.heuristic = getattr(thot.SymmetrizationHeuristic, self.symmetrise.upper().replace("-", "_"))
        return [matrix.to_numpy() for _, matrix in both.get_best_alignments(source, target)]


def train(pairs: Iterable[Pair], settings: study.Links) -> Linker:
    """Train an aligner on some sentences, in the directions that the symmetrisation needs."""
    directions = {"forward": (0,), "reverse": (1,)}.get(settings.symmetrise, (0, 1))
    cascades = {direction: _cascade(settings) for direction in directions}
    for pair in pairs:
        sides = [_ordinary(words) for words in pair]
        for direction, cascade in cascades.items():
            cascade[-1].add_sentence_pair(sides[direction], sides[1 - direction], 1)
    trained: list[Any] = [None, None]
    while cascades:  # what only training needs is freed before the next direction is trained
        direction, cascade = cascades.popitem()
        trained[direction] = _trained(cascade, settings)
    return Linker(trained[0], trained[1], settings.symmetrise)


def _ordinary(words: list[str]) -> list[str]:
    """Words none of which means something else to the library."""
    return [_RESERVED.get(word, word) for word in words]


def _cascade(settings: study.Links) -> list[Any]:
    """Models to be trained one after another, each beginning with what the one before it has learnt."""
    if settings.aligner == "fast_align":
        return [thot.FastAlignModel()]
    if settings.aligner == "eflomal":
        model = thot.EflomalAlignmentModel()
        model.seed = settings.seed
        if settings.iterations is not None:
            before = max(2, settings.iterations // 4)  # the shares of the library's own schedule
            model.set_iterations(before, before, settings.iterations)
        return [model]
    first = thot.Ibm1AlignmentModel()
    hmm = thot.HmmAlignmentModel(first)
    if settings.aligner == "hmm":
        return [first, hmm]
    third = thot.Ibm3AlignmentModel(hmm)
    return [first, hmm, third, thot.Ibm4AlignmentModel(third)]


def _trained(cascade: list[Any], settings: study.Links) -> Any:
    # expected counts are added up by OpenMP threads, and their number changes last digits and, rarely, a link;
    # Eflomal's chains have a generator each
    limit = None if settings.aligner == "eflomal" else 1
    with threadpool_limits(limits=limit, user_api="openmp"):
        for model in cascade:
            model.start_training()
            sweeps = model.scheduled_iterations if settings.aligner == "eflomal" else settings.iterations or ITERATIONS
            for _ in range(sweeps):
                model.train()
            model.end_training()
    return cascade[-1]


def link(
    corpus: xr.Dataset, source: str, target: str, settings: study.Links, *, memory: int | None = None
) -> xr.Dataset:
    """Align the words of two languages of a corpus.

    Parameters
    ----------
    corpus
        CORPUS dataset, opened lazily.
    source, target
        Languages of the pair.
    settings
        Model of sil-thot, iterations and symmetrisation (Section 3.2).
    memory
        Bytes that may be used; the aligner is trained on a sample of what does not fit. None: any number.

    Returns
    -------
    LINKS dataset (link), ordered by source token, then target token. The attribute trained_on is the number of
    sentences that the aligner was trained on. Sentences longer than it takes (1024 words, IBM 4: 200) have no links;
    their number is in the attribute sentences_too_long.
    """
    starts = [sentence_offsets(corpus, language) for language in (source, target)]
    sentences = len(starts[0]) - 1
    tokens = sum(int(start[-1] - start[0]) for start in starts)
    size = sample_size(sentences, tokens, settings, memory)
    linker = train(_pairs(corpus, source, target, sample(sentences, size)), settings)
    found = array("q"), array("q")
    for i, links in enumerate(linker.links(_pairs(corpus, source, target, np.arange(sentences)))):
        for side, tokens_of in enumerate(found):
            tokens_of.frombytes((links[:, side] + starts[side][i]).tobytes())
    longest = np.maximum(*(np.diff(start) for start in starts))
    return LINKS.create(
        {"source_token": np.frombuffer(found[0], np.int64), "target_token": np.frombuffer(found[1], np.int64)},
        source=source,
        target=target,
        settings=settings.model_dump_json(exclude={"files"}),
        trained_on=size,
        sentences_too_long=int(np.count_nonzero(longest > linker.longest)),
    )


def _pairs(corpus: xr.Dataset, source: str, target: str, numbers: NDArray[np.int64]) -> Iterator[Pair]:
    """Some sentences of two languages, by increasing number."""
    for first in range(0, len(numbers), _BATCH):
        some = numbers[first : first + _BATCH]
        yield from zip(*(some_sentences(corpus, language, some) for language in (source, target)), strict=True)
