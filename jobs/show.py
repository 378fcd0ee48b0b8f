"""Looking at concepts: the largest aligned pairs of a layer with their words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, store
from engine.aligned import matched_words
from engine.concepts import chosen_concepts
from jobs.layout import Layout
from jobs.selections import concepts_name
from jobs.sides import check_known
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError
from schemas.links import DICTIONARY
from schemas.metrics import Metrics
from schemas.study import Study, sides


@dataclass(frozen=True)
class AlignedPair:
    """Two concepts that translate each other."""

    source_concept: int
    target_concept: int
    aligned_types: int
    """Types of the source concept with a translation in the target concept."""
    source_types: int
    target_types: int
    source_words: list[str]
    """Types of the source concept, the most frequent first."""
    target_words: list[str]
    matched: list[tuple[str, str]]
    """Word pairs that translate each other."""


def counted_layers(study: Study, layout: Layout, checkpoint: str, stack: str, source: str, target: str) -> list[int]:
    """Layers that can be shown.

    Raises
    ------
    InputError
        The study has no such checkpoint, stack or pair.
    StoreError
        The study has not come so far.
    """
    check_known(
        checkpoint=(checkpoint, list(study.checkpoints)),
        stack=(stack, study.alignment_stacks),
        pair=(f"{source}-{target}", [f"{s}-{t}" for s, t in study.directions]),
    )
    path = layout.aligned_types(checkpoint, stack, study.concepts.ks[0], source, target)
    return list(store.load(path, ALIGNED_TYPES).layer.values.tolist())


def aligned_pairs(
    study: Study, layout: Layout, checkpoint: str, stack: str, layer: int, source: str, target: str, top: int
) -> list[AlignedPair]:
    """The aligned pairs of concepts of a study with the most aligned types; see `largest_pairs`.

    Raises
    ------
    InputError
        The study has no such checkpoint, stack, pair or layer.
    StoreError
        The study has not come so far.
    """
    layers = counted_layers(study, layout, checkpoint, stack, source, target)
    if layer not in layers:
        raise InputError(f"the study has no layer {layer}; it has {', '.join(map(str, layers))}")
    at = layers.index(layer)
    k = study.concepts.ks[0]
    counted = layout.aligned_types(checkpoint, stack, k, source, target)
    counts = store.load(counted, ALIGNED_TYPES).isel(layer=[at])
    dictionary = store.read(layout.dictionary(source, target), DICTIONARY)
    tokens = []
    paired = (source, target), (target, source)
    for pair, side in zip(paired, sides(stack), strict=True):
        path = layout.concepts(checkpoint, side, concepts_name(study, *pair))
        concepts = store.load(path, CONCEPTS)
        with store.undamaged(path):
            tokens.append(
                (concepts.word.values, chosen_concepts(concepts, k)[concepts.layer.values.tolist().index(layer)])
            )
    with store.undamaged(counted):
        return largest_pairs(counts.compute(), tokens, dictionary, study.metrics, top)


def largest_pairs(
    counts: xr.Dataset,
    tokens: Sequence[tuple[NDArray[Any], NDArray[np.integer]]],
    dictionary: xr.Dataset,
    metrics: Metrics,
    top: int,
) -> list[AlignedPair]:
    """The aligned pairs of concepts with the most aligned types; of each source concept only the best pair.

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset of one layer.
    tokens
        Words and concepts (token) of the source and of the target at that layer.
    dictionary
        DICTIONARY dataset from the source to the target language.
    metrics
        Definition of an aligned pair.
    top
        Pairs at most.
    """
    strength = strengths(counts, metrics)
    best = strength.argmax(axis=1)
    found = []
    for one in np.argsort(-strength.max(axis=1), kind="stable")[:top].tolist():
        other = int(best[one])
        if not strength[one, other]:
            break
        words = [by_count(of_side[labels == c]) for (of_side, labels), c in zip(tokens, (one, other), strict=True)]
        found.append(
            AlignedPair(
                one,
                other,
                int(strength[one, other]),
                len(words[0]),
                len(words[1]),
                words[0],
                words[1],
                matched_words(words[0], words[1], dictionary, n_best=metrics.n_best, **metrics.translations),
            )
        )
    return found


def strengths(counts: xr.Dataset, metrics: Metrics) -> NDArray[np.integer]:
    """Aligned types (source_concept, target_concept) of the pairs that are aligned at the one layer; 0 elsewhere."""
    pairs = calign.aligned(counts, **metrics.alignment)[0]
    return np.where(pairs, counts.aligned_types.values[: metrics.n_best, 0].sum(axis=0), 0)


def by_count(words: NDArray[Any]) -> list[str]:
    """Distinct words, the most frequent first."""
    return [word for word, _ in Counter(words.tolist()).most_common()]
