"""CALIGN: concepts of one language whose types translate into one concept of another (Section 2.2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from engine.kernels import counting
from engine.kernels.fractions import at_least, more_than
from engine.lexicon import fold
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError


def translations(
    dictionary: xr.Dataset,
    *,
    n_best: int,
    translations_by: str = "probability",
    min_probability: float = 0.0,
    max_sources: int | None = None,
) -> NDArray[np.bool_]:
    """Which entries of a dictionary count.

    An entry counts when it passes every rule by itself: one rule never promotes what another leaves out.

    Parameters
    ----------
    dictionary
        DICTIONARY dataset.
    n_best
        Translations of a source type (Section 3.3: 10).
    translations_by
        `probability`, or `file` for the first in the file (published scripts).
    min_probability
        Least probability, in [0, 1].
    max_sources
        Source types of a target type: those with most links, then of higher probability, then first by form.

    Returns
    -------
    (entry) booleans.
    """
    place = dictionary["rank" if translations_by == "probability" else "place"].values
    kept = (place < n_best) & (dictionary.probability.values >= min_probability)
    if max_sources is not None:
        target = dictionary.target_type.values
        order = np.lexsort(
            (dictionary.source_type.values, -dictionary.probability.values, -dictionary["count"].values, target)
        )
        first = np.flatnonzero(np.diff(target[order], prepend=-1))
        at = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
        kept[order[at >= max_sources]] = False
    return np.asarray(kept)


def _numbered(words: NDArray[Any], forms: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Number of each word: that of its form in the dictionary, or one behind them; and how many numbers there are."""
    table = {form: number for number, form in enumerate(forms.tolist())}
    numbers = np.fromiter((table.setdefault(word, len(table)) for word in words.tolist()), np.int64, len(words))
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


def count_aligned(
    source: xr.Dataset,
    target: xr.Dataset,
    source_concepts: NDArray[np.integer],
    target_concepts: NDArray[np.integer],
    dictionary: xr.Dataset,
    *,
    n_best: int,
    **rules: Any,
) -> xr.Dataset:
    """Count, for every pair of concepts, the source types with an N-best translation in the target concept.

    Parameters
    ----------
    source, target
        CONCEPTS datasets; layer i of one is compared with layer i of the other.
    source_concepts, target_concepts
        (layer, token) concepts of their chosen restarts.
    dictionary
        DICTIONARY dataset from the source to the target language.
    n_best, rules
        Which translations count: arguments of `translations`.

    Returns
    -------
    ALIGNED_TYPES dataset (layer, source_concept, target_concept), with the layers of the source.

    Raises
    ------
    InputError
        The dictionary translates the other way, or knows none of the words.
    """
    words = [fold(side.word.values, dictionary.attrs["fold"]) for side in (source, target)]
    _check_direction(words[0], words[1], dictionary)
    kept = translations(dictionary, n_best=n_best, **rules)
    one_types, n_source = _numbered(words[0], dictionary.source_form.values)
    other_types, n_target = _numbered(words[1], dictionary.target_form.values)
    translates = sparse.csr_array(
        (np.ones(int(kept.sum()), bool), (dictionary.source_type.values[kept], dictionary.target_type.values[kept])),
        shape=(n_source, n_target),
    )
    k_source, k_target = source.sizes["concept_id"], target.sizes["concept_id"]
    aligned, source_types, target_types = [], [], []
    for of_source, of_target in zip(source_concepts, target_concepts, strict=True):
        one = counting.membership(of_source, one_types, k_source, n_source)
        other = counting.membership(of_target, other_types, k_target, n_target)
        aligned.append(counting.aligned_types(one, translates, other))
        source_types.append(np.diff(one.indptr).astype(np.int32))
        target_types.append(np.diff(other.indptr).astype(np.int32))
    return ALIGNED_TYPES.create(
        {
            "layer": source.layer.values,
            "aligned_types": np.stack(aligned),
            "source_types": np.stack(source_types),
            "target_types": np.stack(target_types),
        },
        source=dictionary.attrs["source"],
        target=dictionary.attrs["target"],
        n_best=n_best,
        **{name: value for name, value in rules.items() if value is not None},
    )


def with_reverse(counts: xr.Dataset, reverse: xr.Dataset) -> xr.Dataset:
    """The counts of a direction beside those of the other, so that `calign` knows which pairs are aligned in both.

    Parameters
    ----------
    counts, reverse
        ALIGNED_TYPES datasets of the same concepts, reverse from the target to the source.

    Returns
    -------
    The first with reverse_types (layer, source_concept, target_concept): types of the target concept with a translation
    in the source concept.
    """
    found = reverse.aligned_types.drop_attrs().rename(source_concept="other")  # names cannot be swapped at once
    found = found.rename(target_concept="source_concept").rename(other="target_concept")
    return counts.assign(reverse_types=found.transpose("layer", "source_concept", "target_concept"))


def aligned(
    counts: xr.Dataset,
    *,
    theta_align: float = 0.8,
    min_types: int = 5,
    max_size_gap: float = 0.4,
    comparison: str = "at_least",
    size_rule: str = "both",
    min_types_of: str = "both",
) -> NDArray[np.bool_]:
    """Which pairs of concepts are aligned (Sections 2.2 and 3.3).

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset.
    theta_align
        Fraction of a source concept's types with a translation in the target concept, in [0, 1].
    min_types
        Concepts must have more types than this.
    max_size_gap
        Type counts may differ by at most this fraction of the larger, in [0, 1].
    comparison
        `at_least` lets values at theta_align and max_size_gap pass, `more_than` does not (alignClusters.py).
    size_rule
        `both`, or `source`: a source concept may be larger than the target at will (alignClusters.py).
    min_types_of
        `both` concepts, or the `source` alone (alignClusters.py).

    Returns
    -------
    (layer, source_concept, target_concept) booleans. A concept without types is never aligned by `more_than`.
    """
    source = counts.source_types.values[:, :, None]
    target = counts.target_types.values[:, None, :]
    compare = at_least if comparison == "at_least" else more_than
    smaller, larger = np.minimum(source, target), np.maximum(source, target)
    if size_rule == "both":
        close = compare(smaller, 1 - max_size_gap, larger)
    else:
        close = compare(source, 1 - max_size_gap, target) & (target > 0)
    enough = compare(counts.aligned_types.values, theta_align, source)
    considered = (smaller if min_types_of == "both" else source) > min_types
    return np.asarray(enough & close & considered)


def _turned(counts: xr.Dataset) -> xr.Dataset:
    """The same pairs seen from the target: needs reverse_types."""
    return xr.Dataset(
        {
            "aligned_types": (
                ("layer", "source_concept", "target_concept"),
                counts.reverse_types.values.transpose(0, 2, 1),
            ),
            "source_types": (("layer", "source_concept"), counts.target_types.values),
            "target_types": (("layer", "target_concept"), counts.source_types.values),
        }
    )


def calign(counts: xr.Dataset, *, denominator: str = "all", **rules: Any) -> xr.Dataset:
    """Fraction of source concepts aligned to some target concept (CALIGN, Section 2.2), with its parts.

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset; with those of the other direction (`with_reverse`) pairs aligned in both are told.
    denominator
        `all`: every source concept that holds a type, the paper's «percentage of concepts from language s»;
        `considered`: those with more than min_types types.
    rules
        Arguments of `aligned`.

    Returns
    -------
    Dataset (layer): calign in [0, 1], aligned_concepts, concepts (the denominator), considered_concepts (more than
    min_types types), matched_targets (distinct target concepts matched), largest_hub (source concepts that match the
    most matched one), hub_share (its share of the aligned, in [0, 1]; NaN where none is), mutual_concepts (aligned to
    a concept that is aligned to them), mutual_calign (their fraction, in [0, 1]); NaN where the other direction is not
    known.
    """
    pairs = aligned(counts, **rules)
    numerator = pairs.any(axis=2).sum(axis=1)
    held = (counts.source_types.values > 0).sum(axis=1)
    considered = (counts.source_types.values > rules.get("min_types", 5)).sum(axis=1)
    whole = held if denominator == "all" else considered
    sources_of_target = pairs.sum(axis=1)
    largest = sources_of_target.max(axis=1, initial=0)
    mutual = np.full(len(whole), np.nan)
    if "reverse_types" in counts:
        back = aligned(_turned(counts), **rules).transpose(0, 2, 1)
        mutual = (pairs & back).any(axis=2).sum(axis=1)
    values = {
        "calign": numerator / np.maximum(whole, 1),
        "aligned_concepts": numerator,
        "concepts": whole,
        "considered_concepts": considered,
        "matched_targets": (sources_of_target > 0).sum(axis=1),
        "largest_hub": largest,
        "hub_share": np.where(numerator > 0, largest / np.maximum(numerator, 1), np.nan),
        "mutual_concepts": mutual,
        "mutual_calign": mutual / np.maximum(whole, 1),
    }
    return xr.Dataset(
        {name: ("layer", np.asarray(value, np.float64)) for name, value in values.items()},
        {"layer": counts.layer.values},
    )


def matched_words(
    source: Sequence[str], target: Sequence[str], dictionary: xr.Dataset, *, n_best: int, **rules: Any
) -> list[tuple[str, str]]:
    """Word pairs (source, target) of two concepts that translate each other, folded as the dictionary is.

    Parameters
    ----------
    source, target
        Words of the two concepts.
    n_best, rules
        Which translations count: arguments of `translations`.
    """
    kept = translations(dictionary, n_best=n_best, **rules)
    one, other = (set(fold(words, dictionary.attrs["fold"])) for words in (source, target))
    ours = np.array([form in one for form in dictionary.source_form.values.tolist()], bool)
    theirs = np.array([form in other for form in dictionary.target_form.values.tolist()], bool)
    if ours.size:
        kept &= ours[dictionary.source_type.values] & theirs[dictionary.target_type.values]
    return [
        (dictionary.source_form.values[s], dictionary.target_form.values[t])
        for s, t in zip(dictionary.source_type.values[kept], dictionary.target_type.values[kept], strict=True)
    ]
