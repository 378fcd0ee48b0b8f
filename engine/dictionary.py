"""Dictionary: translations of types, counted from links by Moses' lexical rule."""

import numpy as np
import xarray as xr

from engine.text import span, spell, token_types
from schemas.links import DICTIONARY


def estimate(corpus: xr.Dataset, links: xr.Dataset, source: str, target: str) -> xr.Dataset:
    """Count a dictionary from word links: p(t | s) = links(s, t) / (links(s, ·) + unlinked tokens of s).

    Parameters
    ----------
    corpus
        CORPUS dataset.
    links
        LINKS dataset between the two languages, in either direction.
    source, target
        Direction of the dictionary.

    Returns
    -------
    DICTIONARY dataset (entry), ordered by source type, then rank: by probability, then count, then form. A source
    token without a link counts towards the total of its type, as a link to NULL does in Moses' lexical tables
    (LexicalTranslationModel); NULL itself is no translation and not stored.
    """
    source_token, target_token = links.source_token.values, links.target_token.values
    if links.attrs["source"] != source:
        source_token, target_token = target_token, source_token
    source_types, target_types = token_types(corpus, source), token_types(corpus, target)
    source_at = source_token - span(corpus, source, "token").start
    target_at = target_token - span(corpus, target, "token").start
    n_types = corpus.sizes["type"]
    pair, count = np.unique(
        source_types[source_at].astype(np.int64) * n_types + target_types[target_at], return_counts=True
    )
    source_type, target_type = pair // n_types, pair % n_types

    linked = np.zeros(len(source_types), bool)
    linked[source_at] = True
    unlinked = np.bincount(source_types[~linked], minlength=n_types)
    total = np.bincount(source_type, weights=count, minlength=n_types) + unlinked

    # same source type, same total: probability and count agree in order; types are sorted by form
    order = np.lexsort((target_type, -count, source_type))
    source_type, target_type, count = source_type[order], target_type[order], count[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(source_type)) + 1]) if len(order) else np.empty(0, np.int64)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    source_kinds, source_index = np.unique(source_type, return_inverse=True)
    target_kinds, target_index = np.unique(target_type, return_inverse=True)
    return DICTIONARY.create(
        {
            "source_form": np.array(spell(corpus, source, source_kinds.tolist()), object),
            "target_form": np.array(spell(corpus, target, target_kinds.tolist()), object),
            "source_type": source_index.astype(np.int32),
            "target_type": target_index.astype(np.int32),
            "probability": count / total[source_type],
            "count": count.astype(np.int64),
            "rank": rank.astype(np.int32),
            "place": rank.astype(np.int32),
        },
        source=source,
        target=target,
        fold=[],
    )
