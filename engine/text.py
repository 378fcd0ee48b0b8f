"""Reading a CORPUS dataset: ranges of a language, sentences, words."""

from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray


def span(corpus: xr.Dataset, language: str, unit: str) -> slice:
    """Range of a language's tokens or types (`unit`) in the corpus."""
    stops = corpus[f"{unit}_stop"].values
    index = corpus.language.values.tolist().index(language)
    return slice(int(stops[index - 1]) if index else 0, int(stops[index]))


def sentence_offsets(corpus: xr.Dataset, language: str) -> NDArray[np.int64]:
    """First token (sentence + 1) of each sentence of a language, and the end of the last; indices into the corpus."""
    tokens = span(corpus, language, "token")
    lengths = np.bincount(corpus.sentence[tokens].values, minlength=int(corpus.sentences[0]))
    offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)]) + tokens.start
    return offsets


def sentence_words(corpus: xr.Dataset, language: str) -> list[list[str]]:
    """All sentences of a language as lists of words."""
    tokens = span(corpus, language, "token")
    types = span(corpus, language, "type")
    forms = np.asarray(corpus.form[types].values, dtype=object)
    flat = forms[corpus.token_type[tokens].values - types.start].tolist()
    bounds = (sentence_offsets(corpus, language) - tokens.start).tolist()
    return [flat[a:b] for a, b in pairwise(bounds)]


def some_sentences(corpus: xr.Dataset, language: str, numbers: NDArray[np.integer]) -> list[list[str]]:
    """Words of some sentences of a language, by increasing sentence number."""
    offsets = sentence_offsets(corpus, language)
    types = span(corpus, language, "type")
    forms = np.asarray(corpus.form[types].values, dtype=object)
    low, high = int(offsets[numbers[0]]), int(offsets[numbers[-1] + 1])
    flat = corpus.token_type[low:high].values - types.start
    return [forms[flat[offsets[n] - low : offsets[n + 1] - low]].tolist() for n in numbers]


def sentences_of(
    corpus: xr.Dataset, language: str, tokens: NDArray[np.integer]
) -> tuple[NDArray[np.int64], list[list[str]], list[NDArray[np.int64]]]:
    offsets = sentence_offsets(corpus, language)
    sentence = np.searchsorted(offsets, tokens, side="right") - 1
    numbers, first = np.unique(sentence, return_index=True)
    positions = np.split(tokens - offsets[sentence], first[1:])
    return numbers, some_sentences(corpus, language, numbers), positions
