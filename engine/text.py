"""Reading a CORPUS dataset: what is read and held is bounded by the request, not by the corpus."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import store

BLOCK = 2**18
"""Values of an array that are read at once (count): a MiB of token types."""


def span(corpus: xr.Dataset, language: str, unit: str) -> slice:
    """Range of a language's tokens or types (`unit`) in the corpus."""
    stops = corpus[f"{unit}_stop"].values
    index = _index(corpus, language)
    return slice(int(stops[index - 1]) if index else 0, int(stops[index]))


def _index(corpus: xr.Dataset, language: str) -> int:
    return int(corpus.language.values.tolist().index(language))


def _values(corpus: xr.Dataset, name: str, at: slice, *first: int) -> NDArray[Any]:
    """A slice of a variable along its last dimension; `first` is an index along the dimension before."""
    with store.undamaged(f"{corpus.encoding.get('source', 'corpus')}/{name}"):
        return np.asarray(corpus[name][(*first, at)].values)


def blocks(corpus: xr.Dataset, name: str, within: slice, size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Consecutive slices of a variable, which begin and end at multiples of `size` (count)."""
    start = within.start
    while start < within.stop:
        stop = min((start // size + 1) * size, within.stop)
        yield _values(corpus, name, slice(start, stop))
        start = stop


def gather(corpus: xr.Dataset, name: str, rows: NDArray[np.integer], *first: int, size: int = BLOCK) -> NDArray[Any]:
    """Values of a variable at some rows, in any order; only blocks that hold rows are read, once each.

    Parameters
    ----------
    rows
        (row) indices along the variable's last dimension.
    first
        Index along the dimension before, for variables of two.
    size
        Values of a block (count).

    Examples
    --------
    >>> gather(xr.Dataset({"even": ("row", np.arange(0, 100, 2))}), "even", np.array([30, 2, 2]), size=8).tolist()
    [60, 4, 4]
    """
    found = np.empty(len(rows), corpus[name].dtype)
    order = np.argsort(rows, kind="stable")
    for part in _runs(rows[order] // size):
        wanted = rows[order[part]]
        low = int(wanted[0])
        found[order[part]] = _values(corpus, name, slice(low, int(wanted[-1]) + 1), *first)[wanted - low]
    return found


def _runs(values: NDArray[np.integer]) -> Iterator[slice]:
    """Ranges of equal neighbours."""
    bounds = [*np.flatnonzero(np.diff(values, prepend=-1)).tolist(), len(values)]
    return (slice(a, b) for a, b in pairwise(bounds))


def sentence_offsets(corpus: xr.Dataset, language: str) -> NDArray[np.int64]:
    """First token (sentence + 1) of each sentence of a language, and the end of the last; indices into the corpus."""
    return _values(corpus, "sentence_start", slice(None), _index(corpus, language))


@dataclass(frozen=True)
class Vocabulary:
    """Forms of the types of a language as one run of UTF-8: about 20 bytes a type, where Python strings take 70."""

    utf8: NDArray[np.uint8]
    """(byte) all forms, one behind another."""
    offset: NDArray[np.int64]
    """(type + 1) first byte of each form, and the end of the last."""
    start: int
    """First type of the language, an index into the corpus."""

    def forms(self, types: NDArray[np.integer]) -> NDArray[np.object_]:
        """Spelling of some types, given as indices into the corpus, in any order."""
        kinds, inverse = np.unique(types, return_inverse=True)
        text = self.utf8.data
        at = kinds - self.start
        spelt = np.empty(len(kinds), object)
        spelt[:] = [
            str(text[a:b], "utf-8") for a, b in zip(self.offset[at].tolist(), self.offset[at + 1].tolist(), strict=True)
        ]
        return spelt[inverse]


@dataclass(frozen=True)
class _Source:
    """A corpus as a key of a cache: two that were opened from the same store are the same."""

    identity: object
    corpus: xr.Dataset = field(compare=False, repr=False)


def vocabulary(corpus: xr.Dataset, language: str) -> Vocabulary:
    """The forms of a language; the last few vocabularies stay in memory, known by the corpus's path and attributes."""
    path = corpus.encoding.get("source")
    identity = (path, str(sorted(corpus.attrs.items()))) if path else id(corpus)  # kept alive by the cache
    return _vocabulary(_Source(identity, corpus), language)


@lru_cache(maxsize=4)
def _vocabulary(source: _Source, language: str) -> Vocabulary:
    types = span(source.corpus, language, "type")
    text, lengths = [np.empty(0, np.uint8)], [np.zeros(1, np.int64)]
    for block in blocks(source.corpus, "form", types, BLOCK // 4):
        encoded = [form.encode() for form in block.tolist()]
        text.append(np.frombuffer(b"".join(encoded), np.uint8))
        lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    return Vocabulary(np.concatenate(text), np.cumsum(np.concatenate(lengths)), types.start)


def sentences_with(
    corpus: xr.Dataset, language: str, tokens: NDArray[np.integer], size: int = BLOCK
) -> tuple[NDArray[np.int64], list[list[str]], list[NDArray[np.int64]]]:
    """The sentences that hold some tokens of a language, and where in them those are.

    Parameters
    ----------
    corpus
        CORPUS dataset, opened lazily.
    tokens
        (token) increasing indices into the corpus.
    size
        Values that are read at once (count).

    Returns
    -------
    Increasing numbers (sentence) of the sentences, the words of each, and the positions (from 0) in each of the tokens.
    """
    sentence = gather(corpus, "sentence", tokens, size=size).astype(np.int64)
    position = gather(corpus, "position", tokens, size=size).astype(np.int64)
    numbers, first = np.unique(sentence, return_index=True)
    positions = np.split(position, first[1:]) if len(first) else []
    return numbers, some_sentences(corpus, language, numbers, size), positions


def some_sentences(
    corpus: xr.Dataset, language: str, numbers: NDArray[np.integer], size: int = BLOCK
) -> list[list[str]]:
    """Words of some sentences of a language, by increasing sentence number; `size` values are read at once (count)."""
    index = _index(corpus, language)
    start, stop = (gather(corpus, "sentence_start", rows, index, size=size) for rows in (numbers, numbers + 1))
    forms = vocabulary(corpus, language).forms
    found: list[list[str]] = []
    for part in _runs(start // size):
        low = int(start[part.start])
        types = _values(corpus, "token_type", slice(low, int(stop[part.stop - 1])))
        within = [slice(a, b) for a, b in zip((start[part] - low).tolist(), (stop[part] - low).tolist(), strict=True)]
        # only the words of these sentences are spelt, however many lie between them
        words = forms(np.concatenate([types[at] for at in within])).tolist()
        ends = np.cumsum([at.stop - at.start for at in within]).tolist()
        found += [words[a:b] for a, b in pairwise([0, *ends])]
    return found


def token_types(corpus: xr.Dataset, language: str) -> NDArray[np.int32]:
    """Type of every token of a language (token), as indices into the corpus: for stages that hold the whole text."""
    return _values(corpus, "token_type", span(corpus, language, "token"))
