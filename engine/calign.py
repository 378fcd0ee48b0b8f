"""CALIGN: concepts of one language whose types translate into one concept of another (Section 2.2)."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from engine.kernels import counting
from engine.kernels.fractions import at_least
from engine.text import gather, span
from schemas.counts import ALIGNED_TYPES


def _translations(dictionary: xr.Dataset, corpus: xr.Dataset, n_best: int) -> sparse.csr_array:
    """Boolean (source type, target type): among the N-best."""
    source, target = (span(corpus, dictionary.attrs[side], "type") for side in ("source", "target"))
    kept = dictionary["rank"].values < n_best
    return sparse.csr_array(
        (
            np.ones(int(kept.sum()), bool),
            (dictionary.source_type.values[kept] - source.start, dictionary.target_type.values[kept] - target.start),
        ),
        shape=(source.stop - source.start, target.stop - target.start),
    )


def count_aligned(
    source: xr.Dataset,
    target: xr.Dataset,
    source_concepts: NDArray[np.integer],
    target_concepts: NDArray[np.integer],
    dictionary: xr.Dataset,
    corpus: xr.Dataset,
    *,
    n_best: int,
) -> xr.Dataset:
    """Count, for every pair of concepts, the source types with an N-best translation in the target concept.

    Parameters
    ----------
    source, target
        CONCEPTS datasets of the two languages, with the same layers.
    source_concepts, target_concepts
        (layer, token) concepts of their chosen restarts.
    dictionary
        DICTIONARY dataset from the source to the target language.
    n_best
        Translations of a source type that count (Section 3.3: 10).

    Returns
    -------
    ALIGNED_TYPES dataset (layer, source_concept, target_concept).
    """
    translations = _translations(dictionary, corpus, n_best)
    k_source, k_target = source.sizes["concept_id"], target.sizes["concept_id"]
    types = [gather(corpus, "token_type", np.asarray(side.token_id.values)) for side in (source, target)]
    of_languages = [span(corpus, dictionary.attrs[side], "type") for side in ("source", "target")]
    numbered = [found - within.start for found, within in zip(types, of_languages, strict=True)]  # within the language
    n_source, n_target = (within.stop - within.start for within in of_languages)
    aligned, source_types, target_types = [], [], []
    for of_source, of_target in zip(source_concepts, target_concepts, strict=True):
        one = counting.membership(of_source, numbered[0], k_source, n_source)
        other = counting.membership(of_target, numbered[1], k_target, n_target)
        aligned.append(counting.aligned_types(one, translations, other))
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
    )


def aligned(
    counts: xr.Dataset, *, theta_align: float = 0.8, min_types: int = 5, max_size_gap: float = 0.4
) -> NDArray[np.bool_]:
    """Which pairs of concepts are aligned (Sections 2.2 and 3.3).

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset.
    theta_align
        Least fraction of a source concept's types with a translation in the target concept, in [0, 1].
    min_types
        Both concepts must have more types than this.
    max_size_gap
        Both type counts may differ by at most this fraction of the larger, in [0, 1].

    Returns
    -------
    (layer, source_concept, target_concept) booleans.
    """
    source = counts.source_types.values[:, :, None]
    target = counts.target_types.values[:, None, :]
    smaller, larger = np.minimum(source, target), np.maximum(source, target)
    # compared as products: a quotient such as 3/5 may fall a rounding error short of 0.6
    enough = at_least(counts.aligned_types.values, theta_align, source)
    close = at_least(smaller, 1 - max_size_gap, larger)
    return np.asarray(enough & close & (smaller > min_types))


def calign(
    counts: xr.Dataset, *, theta_align: float = 0.8, min_types: int = 5, max_size_gap: float = 0.4
) -> xr.Dataset:
    """Fraction of source concepts aligned to some target concept (CALIGN, Section 2.2), with its parts.

    The denominator is every source concept that holds a type: the paper's «percentage of concepts from language s».
    Parameters as for `aligned`.

    Returns
    -------
    Dataset (layer): calign in [0, 1], aligned_concepts, concepts, considered_concepts (more than min_types types),
    matched_targets (distinct target concepts matched), largest_hub (source concepts that match the most matched one).
    """
    pairs = aligned(counts, theta_align=theta_align, min_types=min_types, max_size_gap=max_size_gap)
    numerator = pairs.any(axis=2).sum(axis=1)
    concepts = (counts.source_types.values > 0).sum(axis=1)
    sources_of_target = pairs.sum(axis=1)
    values = {
        "calign": numerator / np.maximum(concepts, 1),
        "aligned_concepts": numerator,
        "concepts": concepts,
        "considered_concepts": (counts.source_types.values > min_types).sum(axis=1),
        "matched_targets": (sources_of_target > 0).sum(axis=1),
        "largest_hub": sources_of_target.max(axis=1, initial=0),
    }
    return xr.Dataset(
        {name: ("layer", np.asarray(value, np.float64)) for name, value in values.items()},
        {"layer": counts.layer.values},
    )


def matched_words(
    source: Sequence[int], target: Sequence[int], dictionary: xr.Dataset, n_best: int
) -> list[tuple[int, int]]:
    """Type pairs (source, target) of two concepts that translate each other, by the N-best dictionary.

    Parameters
    ----------
    source, target
        Types of the two concepts, as indices into the corpus.
    """
    kept = (
        (dictionary["rank"].values < n_best)
        & np.isin(dictionary.source_type.values, source)
        & np.isin(dictionary.target_type.values, target)
    )
    return list(
        zip(dictionary.source_type.values[kept].tolist(), dictionary.target_type.values[kept].tolist(), strict=True)
    )
