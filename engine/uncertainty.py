"""How far a score can be read as signal: bootstrap intervals, and scores of data in which nothing corresponds.

The paper reports CALIGN and COLAP without either.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy
import xarray as xr
from numpy.typing import NDArray

LEVEL = 0.95
"""Share of the draws between the ends of an interval."""


def interval(draws: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends (...) of the middle `LEVEL` of draws (draw, ...)."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def bootstrap(numerator: NDArray[Any], denominator: NDArray[Any], draws: int, seed: int) -> NDArray[np.float64]:
    """Fractions of concepts drawn anew, with replacement.

    Parameters
    ----------
    numerator, denominator
        (layer, concept) which concepts count.

    Returns
    -------
    (draw, layer) fractions in [0, 1]; 0 where no counted concept was drawn.
    """
    concepts = denominator.shape[1]
    weights = np.random.default_rng(seed).multinomial(concepts, np.full(concepts, 1 / concepts), size=draws)
    whole = weights @ denominator.T
    return np.asarray(weights @ (numerator & denominator).T / np.maximum(whole, 1))


def bands(frequency: NDArray[np.integer]) -> NDArray[np.int64]:
    """Frequency band of each type: types of a band differ in frequency by less than a factor of 2.

    Examples
    --------
    >>> bands(np.array([1, 2, 3, 4, 7, 8])).tolist()
    [1, 2, 2, 3, 3, 4]
    """
    return np.asarray(np.frexp(np.maximum(frequency, 0).astype(np.float64))[1], np.int64)


def dealt(groups: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation that stays within groups.

    Examples
    --------
    >>> groups = np.array([5, 1, 5, 1, 5])
    >>> (groups[dealt(groups, np.random.default_rng(0))] == groups).all()
    np.True_
    """
    found = np.empty(len(groups), np.int64)
    found[np.argsort(groups, kind="stable")] = np.lexsort((rng.random(len(groups)), groups))
    return found


Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Source type, target type and rank of each translation (entry)."""

NULLS = ("types", "dictionary")
"""types: source types are dealt anew to the places of types of their frequency in concepts, so that concepts keep
their sizes; dictionary: target types take one another's places in the lists of translations."""


def unrelated(
    entries: Entries,
    types: NDArray[np.integer],
    frequency: NDArray[np.integer],
    *,
    null: str,
    draws: int,
    seed: int,
) -> Iterator[Entries]:
    """Translations between concepts that do not correspond, though sizes and frequencies are as they are.

    Function words stay as frequent, lists of translations as long and concepts as large as they are, so that CALIGN
    keeps what hubs and large concepts bring about, and loses what meaning does.

    Parameters
    ----------
    entries
        Source type, target type and rank of each translation (entry).
    types
        Types that occur in the concepts of the source (null `types`) or of the target (null `dictionary`). Each takes
        the place of one of them whose frequency differs by less than a factor of 2.
    frequency
        Occurrences of each type of that side (type).
    null
        One of `NULLS`.
    draws
        Permutations.
    """
    rng = np.random.default_rng(seed)
    source, target, rank = entries
    groups = bands(frequency[types])
    for _ in range(draws):
        turned = np.arange(len(frequency), dtype=np.int32)
        turned[types] = types[dealt(groups, rng)]
        yield (turned[source], target, rank) if null == "types" else (source, turned[target], rank)


def shuffled(counts: xr.Dataset, *, draws: int, seed: int) -> Iterator[xr.Dataset]:
    """LANGUAGE_COUNT datasets of the same concepts with languages shuffled: sizes and the languages' totals stay."""
    dims = ("layer", "unit", "concept", "language")
    tables = counts.language_count.transpose(*dims).values
    rng = np.random.default_rng(seed)
    laws = [
        [scipy.stats.random_table(table.sum(axis=1), table.sum(axis=0)) if table.any() else None for table in of_layer]
        for of_layer in tables
    ]
    for _ in range(draws):
        drawn = [
            [np.zeros(tables.shape[2:]) if law is None else law.rvs(random_state=rng) for law in of] for of in laws
        ]
        values = xr.Variable(dims, np.reshape(drawn, tables.shape).astype(np.int64))
        yield counts.assign(language_count=values.transpose(*counts.language_count.dims))


def exceeding(observed: NDArray[np.floating], draws: NDArray[np.floating]) -> NDArray[np.float64]:
    """How often a score (layer) is reached where nothing corresponds: (1 + draws at least as large) / (1 + draws)."""
    return np.asarray((1 + (draws >= observed).sum(axis=0)) / (1 + len(draws)))
