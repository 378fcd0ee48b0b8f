"""Counts behind CALIGN: which types of a concept translate into which other concept (Section 2.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import backend, lexicon
from engine.kernels import counting
from engine.lexicon import distinct, fold
from schemas.counts import ALIGNED_TYPES, RANKS
from schemas.errors import InputError

NEVER = np.iinfo(np.int32).max
"""Rank of a translation that does not count."""


def ranks(
    dictionary: xr.Dataset,
    *,
    translations_by: str = "probability",
    min_probability: float = 0.0,
    max_sources: int | None = None,
) -> NDArray[np.int32]:
    """Rank of every entry of a dictionary among those that count; `NEVER` of one that does not.

    An entry counts when it passes every rule by itself: one rule never promotes what another leaves out.

    Parameters
    ----------
    dictionary
        DICTIONARY dataset.
    translations_by
        `probability`, or `file` for the order of the file (alignClusters.py).
    min_probability
        Least probability, in [0, 1].
    max_sources
        Source types of a target type: those with most links, then of higher probability, then first by form.

    Returns
    -------
    (entry) ranks from 0: those below N are the N-best.
    """
    found = dictionary["rank" if translations_by == "probability" else "place"].values.astype(np.int32)
    if min_probability > 0:
        found[dictionary.probability.values < min_probability] = NEVER
    if max_sources is not None:
        target = dictionary.target_type.values
        order = np.lexsort(
            (dictionary.source_type.values, -dictionary.probability.values, -dictionary["count"].values, target)
        )
        first = np.flatnonzero(np.diff(target[order], prepend=-1))
        at = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
        found[order[at >= max_sources]] = NEVER
    return found


def spelled(words: NDArray[Any], rule: str) -> NDArray[Any]:
    """Words as concepts hold them: `whole`, or `before_bars`: up to the first ||| of their line (alignClusters.py).

    Examples
    --------
    >>> spelled(np.array(["a|||b", "c", "d|"], object), "before_bars").tolist()  # d|||||occurrence|||sentence...
    ['a', 'c', 'd']
    """
    if rule == "whole":
        return words
    return np.array([f"{word}|||".split("|||", 1)[0].strip() for word in words.tolist()], object)


def _numbered(words: NDArray[Any], forms: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Number of each word: that of its form in the dictionary, or one behind them; and how many numbers there are."""
    table = {form: number for number, form in enumerate(forms.tolist())}
    if len(table) < len(forms):
        raise InputError(
            f"the dictionary spells {len(forms) - len(table)} types as others; expected forms once, so mend it"
        )
    numbers = np.fromiter((table.setdefault(word, len(table)) for word in words.tolist()), np.int32, len(words))
    return numbers, len(table)


_ENOUGH_WORDS = 20
"""Words by which a dictionary is judged: of fewer, none may be known by chance (count)."""


def _check_direction(source: NDArray[Any], target: NDArray[Any], dictionary: xr.Dataset) -> None:
    """Refuse a dictionary that translates the other way, by how many of the words it knows."""
    sides = [set(words.tolist()) for words in (source, target)]
    forms = [set(dictionary[name].values.tolist()) for name in ("source_form", "target_form")]
    straight = sum(len(words & known) for words, known in zip(sides, forms, strict=True))
    turned = sum(len(words & known) for words, known in zip(sides, reversed(forms), strict=True))
    words = sum(map(len, sides))
    if words < _ENOUGH_WORDS:
        return
    if turned > 2 * straight:
        raise InputError(
            f"the dictionary knows {straight} of {words} words in its own direction and {turned} the other way round: "
            "it translates from the target into the source; give the one of the other direction"
        )
    if not straight and dictionary.sizes["entry"]:
        raise InputError(
            f"the dictionary knows none of the {words} words of the concepts; give one of the same text, with the same "
            "tokens, letters and case"
        )


@dataclass(frozen=True)
class Words:
    """Tokens of two sides and the translations between their types, as numbers."""

    source: NDArray[np.int32]
    """Type of each source token (token)."""
    target: NDArray[np.int32]
    """Type of each target token (token)."""
    n_source: int
    """Source types, those of the dictionary first (count)."""
    n_target: int
    """Target types, those of the dictionary first (count)."""
    entries: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
    """Source type, target type and rank of each translation that counts (entry)."""
    unit: str
    """What is counted: `type`, or `token` for the tokens of a type."""

    def within(self, n: int) -> Self:
        """The same with the n best translations alone."""
        source, target, rank = self.entries
        kept = rank < n
        return replace(self, entries=(source[kept], target[kept], rank[kept]))

    def best(self, n: int) -> Self:
        """The n best translations alone, all of rank 0: one N-best is counted faster than every one."""
        found = self.within(n)
        source, target, rank = found.entries
        return replace(found, entries=(source, target, np.zeros_like(rank)))


def numbered(
    source: lexicon.Words,
    target: lexicon.Words,
    dictionary: xr.Dataset,
    *,
    unit: str = "type",
    words: str = "whole",
    **rules: Any,
) -> Words:
    """Number the words of two sides and the translations between them.

    Parameters
    ----------
    source, target
        (token) words.
    dictionary
        DICTIONARY dataset from the source to the target language.
    unit
        What is counted: `type` (Section 3.3), or `token` for the tokens of a type (the formula of Section 2.2).
    words
        Argument of `spelled`.
    rules
        Which translations count: arguments of `ranks`.

    Raises
    ------
    InputError
        The dictionary translates the other way, or knows none of the words.
    """
    forms, numbers = zip(*(distinct(side) for side in (source, target)), strict=True)
    ours, theirs = (fold(spelled(np.array(side, object), words), dictionary.attrs["fold"]) for side in forms)
    _check_direction(ours, theirs, dictionary)
    found = ranks(dictionary, **rules)
    kept = found < NEVER
    one, n_source = _numbered(ours, dictionary.source_form.values)
    other, n_target = _numbered(theirs, dictionary.target_form.values)
    for side in ("source", "target"):  # sparse rows are made of them unchecked
        types, forms = dictionary[f"{side}_type"].values, dictionary.sizes[side]
        if types.size and not (types.min() >= 0 and types.max() < forms):
            raise InputError(
                f"the dictionary has {side} types from {types.min()} to {types.max()}, and {forms} forms; expected "
                f"types from 0 to {forms - 1}, so make it again"
            )
    entries = dictionary.source_type.values[kept], dictionary.target_type.values[kept], found[kept]
    return Words(one[numbers[0]], other[numbers[1]], n_source, n_target, entries, unit)


def counted(
    words: Words, of_source: NDArray[np.integer], of_target: NDArray[np.integer], k: tuple[int, int], n_ranks: int
) -> dict[str, NDArray[np.int32]]:
    """The counts of one layer.

    Parameters
    ----------
    of_source, of_target
        (token) concepts, -1 for none.
    k
        Concepts of the source and of the target.
    n_ranks
        Ranks of translations that count.

    Returns
    -------
    Variables of ALIGNED_TYPES without their layer.
    """
    one, other = (
        counting.membership(labels, types, count, n, tokens=words.unit == "token")
        for labels, types, count, n in (
            (of_source, words.source, k[0], words.n_source),
            (of_target, words.target, k[1], words.n_target),
        )
    )
    sizes = [np.asarray(side.sum(axis=1, dtype=np.float64)).ravel().astype(np.int32) for side in (one, other)]
    other.data[:] = 1
    xp, matrices = backend.sparse_modules()
    return {
        "aligned_types": counting.aligned_types(one, other, words.entries, n_ranks, xp, matrices),
        "source_size": sizes[0],
        "target_size": sizes[1],
        "source_types": np.diff(one.indptr).astype(np.int32),
        "target_types": np.diff(other.indptr).astype(np.int32),
    }


def one_layer(found: Mapping[str, NDArray[np.int32]], layer: int = 0) -> xr.Dataset:
    """ALIGNED_TYPES of one layer from what `counted` gives."""
    dims = {variable.name: variable.dims for variable in ALIGNED_TYPES.variables}
    values = {name: (dims[name], np.expand_dims(array, dims[name].index("layer"))) for name, array in found.items()}
    ranks = np.arange(len(found["aligned_types"]), dtype=np.int32)
    return xr.Dataset(values, {"layer": np.array([layer], np.int32), "rank": ranks})


def count_aligned(
    source: xr.Dataset,
    target: xr.Dataset,
    source_concepts: NDArray[np.integer],
    target_concepts: NDArray[np.integer],
    dictionary: xr.Dataset,
    *,
    n_ranks: int = RANKS,
    **rules: Any,
) -> xr.Dataset:
    """Count, for every pair of concepts, the source types with a translation in the target concept, by its rank.

    Parameters
    ----------
    source, target
        CONCEPTS datasets; layer i of one is compared with layer i of the other.
    source_concepts, target_concepts
        (layer, token) concepts of their chosen restarts.
    dictionary
        DICTIONARY dataset from the source to the target language.
    n_ranks
        Ranks that are told apart; translations of other ranks do not count.
    rules
        What is counted and which translations are: arguments of `numbered`.

    Returns
    -------
    ALIGNED_TYPES dataset (rank, layer, source_concept, target_concept), with the layers of the source.

    Raises
    ------
    InputError
        The dictionary translates the other way, or knows none of the words.
    """
    words = numbered(source.word.values, target.word.values, dictionary, **rules)
    k = source.sizes["concept_id"], target.sizes["concept_id"]
    layers = [
        counted(words, one, other, k, n_ranks) for one, other in zip(source_concepts, target_concepts, strict=True)
    ]
    stacked = {name: np.stack([layer[name] for layer in layers], name == "aligned_types") for name in layers[0]}
    return ALIGNED_TYPES.create(
        {"layer": source.layer.values, "rank": np.arange(n_ranks, dtype=np.int32)} | stacked,
        **described(dictionary, **rules),
    )


def described(dictionary: xr.Dataset, **rules: Any) -> dict[str, Any]:
    """Attributes that say what was counted."""
    known = {"unit": "type"} | {name: value for name, value in rules.items() if value is not None}
    return {"source": dictionary.attrs["source"], "target": dictionary.attrs["target"], **known}


def matched_words(
    source: Sequence[str],
    target: Sequence[str],
    dictionary: xr.Dataset,
    *,
    n_best: int,
    words: str = "whole",
    **rules: Any,
) -> list[tuple[str, str]]:
    """Word pairs (source, target) of two concepts that translate each other, folded as the dictionary is.

    Parameters
    ----------
    source, target
        Words of the two concepts.
    n_best, words, rules
        Which translations count: those of a rank below n_best; arguments of `spelled` and `ranks`.
    """
    kept = ranks(dictionary, **rules) < n_best
    rule = dictionary.attrs["fold"]
    one, other = (set(fold(spelled(np.array(side, object), words), rule).tolist()) for side in (source, target))
    forms, translations = dictionary.source_form.values, dictionary.target_form.values
    ours = np.array([form in one for form in forms.tolist()], bool)
    theirs = np.array([form in other for form in translations.tolist()], bool)
    if ours.size:
        kept &= ours[dictionary.source_type.values] & theirs[dictionary.target_type.values]
    of_source, of_target = dictionary.source_type.values[kept], dictionary.target_type.values[kept]
    return [(forms[s], translations[t]) for s, t in zip(of_source, of_target, strict=True)]
