"""What concepts are like: sizes, words, spread, and how far the restarts agree; from a CONCEPTS dataset alone.

A layer is read for one number of concepts at a time: of each token its concept in every restart, and its distance in
one. Vectors are not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from schemas.concepts import CONCEPT_STATISTICS
from schemas.errors import SchemaError

_LANGUAGES = 256
"""More than there are numbers of languages: they are int8."""


@dataclass(frozen=True)
class _Tokens:
    """What the tokens are in every run and layer, as numbers (token)."""

    word: NDArray[np.int64]
    """The spelling, the same in every language."""
    type: NDArray[np.int64]
    """The spelling together with the language."""
    language: NDArray[np.int64]


def describe(concepts: xr.Dataset, central: int = 10) -> xr.Dataset:
    """Statistics of every concept, and of all concepts of a run and layer together.

    Parameters
    ----------
    concepts
        CONCEPTS dataset; may be lazy, and hold some of its runs and layers.
    central
        Most central words of each concept that are kept, as tokens.

    Returns
    -------
    CONCEPT_STATISTICS dataset (run, layer, concept_id, rank). A concept from k on, in a run of fewer concepts than
    another, has no token and does not count as empty.

    Raises
    ------
    SchemaError
        A token's concept or language is out of range.
    """
    tokens = _tokens(concepts)
    runs, layers, ids = (concepts.sizes[d] for d in ("run", "layer", "concept_id"))
    ks = concepts.k.values
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for layer in range(layers):
        for k in np.unique(ks).tolist():
            same = np.flatnonzero(ks == k).tolist()
            labels = [_labels(concepts, run, layer) for run in same]
            for run, of_run, stability in zip(same, labels, _stability(labels), strict=True):
                distance = concepts.distance.isel(run=run, layer=layer).values
                each = _of_each(of_run, distance, tokens, ids, central)
                rows[run, layer] = each | _of_all(each["tokens"][:k]) | {"stability": stability}
    scatter = concepts.scatter.values
    left = np.divide(concepts.inertia.values, scatter, out=np.full((runs, layers), np.nan), where=scatter != 0)
    found = {
        name: np.array(
            [[rows[run, layer][name] for layer in range(layers)] for run in range(runs)],
            CONCEPT_STATISTICS[name].dtype,
        )
        for name in rows[0, 0]
    }
    return CONCEPT_STATISTICS.create(
        found
        | {"explained_variance": 1 - left}
        | {name: concepts[name].values for name in ("layer", "k", "seed", "chosen")},
        **{name: concepts.attrs[name] for name in ("languages",) if name in concepts.attrs},
    )


def words_of(concepts: xr.Dataset, statistics: xr.Dataset, run: int, layer: int) -> list[list[str]]:
    """The most central words (concept, rank) of each concept, nearest to its centroid first.

    Parameters
    ----------
    concepts
        CONCEPTS dataset.
    statistics
        CONCEPT_STATISTICS dataset made of it.
    run, layer
        Indices in `statistics`.
    """
    central = statistics.central_token.isel(run=run, layer=layer).values
    tokens, where = np.unique(central[central >= 0], return_inverse=True)
    words = np.asarray(concepts.word.isel(token=tokens).values, object)[where].tolist()
    stops = np.cumsum((central >= 0).sum(axis=1)).tolist()
    return [words[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def language_tokens(concepts: xr.Dataset, run: int, layer: int) -> NDArray[np.int64]:
    """Tokens (concept, language) of each language in each concept; `run` and `layer` are indices in `concepts`.

    Raises
    ------
    SchemaError
        A token's concept or language is out of range.
    """
    return _by_language(_labels(concepts, run, layer), _language(concepts), concepts.sizes["concept_id"])


def _tokens(concepts: xr.Dataset) -> _Tokens:
    language = _language(concepts)
    word = np.unique(np.asarray(concepts.word.values, object), return_inverse=True)[1]
    return _Tokens(word, np.unique(word * _LANGUAGES + language, return_inverse=True)[1], language)


def _language(concepts: xr.Dataset) -> NDArray[np.int64]:
    """Index of the language (token), of which all lie in the attribute `languages`, where there is one."""
    language: NDArray[np.int64] = concepts.language.values.astype(np.int64)
    known = len(concepts.attrs.get("languages", range(_LANGUAGES)))
    if len(language) and not 0 <= language.min() <= language.max() < known:
        raise SchemaError(
            f"language: expected indices from 0 to {known - 1}, found {language.min()} to {language.max()}; "
            "cluster again"
        )
    return language


def _labels(concepts: xr.Dataset, run: int, layer: int) -> NDArray[np.int32]:
    """Concept (token), of which all lie below the run's k; -1 where there is none."""
    labels, k = concepts.concept.isel(run=run, layer=layer).values, int(concepts.k[run])
    if len(labels) and not -1 <= labels.min() <= labels.max() < k:
        raise SchemaError(
            f"concept of run {run}, layer {int(concepts.layer[layer])}: expected -1 to {k - 1}, found {labels.min()} "
            f"to {labels.max()}; cluster again"
        )
    return np.asarray(labels, np.int32)


def _of_each(
    labels: NDArray[np.int32], distance: NDArray[np.float32], tokens: _Tokens, ids: int, central: int
) -> dict[str, NDArray[Any]]:
    """Statistics (concept) of one run and layer."""
    here = np.flatnonzero(labels >= 0)
    held, far = labels[here].astype(np.int64), distance[here].astype(np.float64)
    count = np.bincount(held, minlength=ids)
    kinds = int(tokens.type.max(initial=0)) + 1
    largest = np.where(count, -np.inf, np.nan)
    np.maximum.at(largest, held, far)
    total = np.bincount(held, weights=far, minlength=ids)
    return {
        "tokens": count,
        "types": np.bincount(np.unique(held * kinds + tokens.type[here]) // kinds, minlength=ids),
        "languages": (_by_language(held, tokens.language[here], ids) > 0).sum(axis=1),
        "mean_distance": np.divide(total, count, out=np.full(ids, np.nan), where=count > 0),
        "largest_distance": largest,
        "central_token": _central(held, far, tokens.word[here], here, ids, central),
    }


def _by_language(labels: NDArray[np.integer], language: NDArray[np.int64], ids: int) -> NDArray[np.int64]:
    """Tokens (concept, language)."""
    columns = int(language.max(initial=0)) + 1
    here = labels >= 0
    cells = labels[here].astype(np.int64) * columns + language[here]
    return np.bincount(cells, minlength=ids * columns).reshape(ids, columns)


def _central(
    labels: NDArray[np.int64],
    distance: NDArray[np.float64],
    word: NDArray[np.int64],
    token: NDArray[np.int64],
    ids: int,
    count: int,
) -> NDArray[np.int64]:
    """The nearest token (concept, rank) of each of a concept's `count` nearest words; -1 where it has fewer.

    Of equally near tokens the first counts: `token` increases and the sorts are stable.
    """
    by_word = np.lexsort((distance, word, labels))
    group = np.stack([labels, word])[:, by_word]
    first = np.ones(len(labels), bool)
    first[1:] = (group[:, 1:] != group[:, :-1]).any(axis=0)
    nearest = np.sort(by_word[first])
    nearest = nearest[np.lexsort((distance[nearest], labels[nearest]))]
    of_concept = labels[nearest]
    rank = np.arange(len(nearest)) - np.searchsorted(of_concept, of_concept)
    found = np.full((ids, count), -1, np.int64)
    kept = rank < count
    found[of_concept[kept], rank[kept]] = token[nearest[kept]]
    return found


def _of_all(tokens: NDArray[np.int64]) -> dict[str, float]:
    """Statistics of the sizes (concept) of one run and layer."""
    filled = tokens[tokens > 0]
    share = filled / max(filled.sum(), 1)
    defined = len(filled) and len(tokens) > 1
    entropy = -(share * np.log(share)).sum() / np.log(len(tokens)) if defined else np.nan
    return {
        "empty": len(tokens) - len(filled),
        "smallest": filled.min() if len(filled) else 0,
        "median": np.median(tokens),
        "largest": tokens.max(),
        "entropy": np.clip(entropy, 0, 1),  # sums of logarithms round
    }


def _stability(labels: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
    """Mean adjusted Rand index (run) of each run's concepts (token) with those of the others."""
    total = np.zeros(len(labels))
    for one, other in combinations(range(len(labels)), 2):
        total[[one, other]] += _adjusted_rand(labels[one], labels[other])
    return total / (len(labels) - 1) if len(labels) > 1 else np.full(len(labels), np.nan)


def _adjusted_rand(one: NDArray[np.int32], other: NDArray[np.int32]) -> float:
    """Adjusted Rand index of two groupings (token), among the tokens that both group; NaN where there are none."""
    both = (one >= 0) & (other >= 0)
    if not both.any():
        return np.nan
    first, second = one[both].astype(np.int64), other[both].astype(np.int64)
    count, columns = len(first), int(second.max()) + 1
    shared = np.unique(first * columns + second, return_counts=True)[1]  # only cells that hold a token
    # ordered pairs of tokens that are together in both, in one and in the other, as exact integers
    together, in_one, in_other = (
        int((sizes * sizes).sum()) - count for sizes in (shared, np.bincount(first), np.bincount(second))
    )
    pairs, by_chance = count * (count - 1), in_one * in_other
    most = (in_one + in_other) * pairs - 2 * by_chance
    return 2 * (together * pairs - by_chance) / most if most else 1.0  # 0 only where both group alike
