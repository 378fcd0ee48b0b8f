"""Dictionary: translations of types, counted from links by Moses' lexical rule."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.lexicon import count_words
from engine.text import span, token_types, vocabulary


def estimate(corpus: xr.Dataset, links: xr.Dataset, source: str, target: str, fold: Sequence[str] = ()) -> xr.Dataset:
    """Count a dictionary from word links: p(t | s) = links(s, t) / (links(s, ·) + unlinked tokens of s).

    Parameters
    ----------
    corpus
        CORPUS dataset.
    links
        LINKS dataset between the two languages, in either direction.
    source, target
        Direction of the dictionary.
    fold
        Rules of `engine.lexicon.fold`: words that become equal are counted as one.

    Returns
    -------
    DICTIONARY dataset (entry), ordered by source type, then rank: by probability, then count, then form. A source
    token without a link counts towards the total of its type, as a link to NULL does in Moses' lexical tables
    (LexicalTranslationModel); NULL itself is no translation and not stored.
    """
    linked = links.source_token.values, links.target_token.values
    if links.attrs["source"] != source:
        linked = linked[::-1]
    words, starts, forms = zip(*(_words(corpus, language) for language in (source, target)), strict=True)
    places = linked[0] - starts[0], linked[1] - starts[1]
    return count_words(words, places, forms, source=source, target=target, rules=fold)


def _words(corpus: xr.Dataset, language: str) -> tuple[NDArray[np.int32], int, NDArray[np.object_]]:
    """Types (token) of a language from 0, its first token in the corpus, and the spelling of its types."""
    types = span(corpus, language, "type")
    forms = vocabulary(corpus, language).forms(np.arange(types.start, types.stop))
    return token_types(corpus, language) - np.int32(types.start), span(corpus, language, "token").start, forms
