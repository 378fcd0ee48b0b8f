"""Looking at concepts: the largest aligned pairs of a layer with their words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import calign, store
from engine.concepts import chosen_concepts
from engine.text import gather, spell
from jobs.layout import Layout
from jobs.selections import concepts_name
from schemas.concepts import CONCEPTS
from schemas.corpus import CORPUS
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError
from schemas.links import DICTIONARY
from schemas.study import Study


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
    known: dict[str, tuple[str, Sequence[str]]] = {
        "checkpoint": (checkpoint, list(study.checkpoints)),
        "stack": (stack, study.activations.stacks),
        "pair": (f"{source}-{target}", [f"{a}-{b}" for s, t in study.pairs for a, b in ((s, t), (t, s))]),
    }
    for what, (value, values) in known.items():
        if value not in values:
            raise InputError(f"the study has no {what} {value!r}; it has {', '.join(values)}")
    return list(
        store.load(layout.aligned_types(checkpoint, stack, source, target), ALIGNED_TYPES).layer.values.tolist()
    )


def aligned_pairs(
    study: Study, layout: Layout, checkpoint: str, stack: str, layer: int, source: str, target: str, top: int
) -> list[AlignedPair]:
    """The aligned pairs of concepts with the most aligned types; of each source concept only the best pair.

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
    counts = store.read(layout.aligned_types(checkpoint, stack, source, target), ALIGNED_TYPES).isel(layer=[at])
    metrics = study.metrics
    pairs = calign.aligned(counts, **metrics.alignment)[0]
    strength = np.where(pairs, counts.aligned_types.values[0], 0)
    best = strength.argmax(axis=1)
    order = np.argsort(-strength.max(axis=1), kind="stable")[:top]

    corpus = store.load(layout.corpus, CORPUS)
    dictionary = store.read(layout.dictionary(source, target), DICTIONARY)
    sides = []
    for language, paired in ((source, target), (target, source)):
        path = layout.concepts(checkpoint, stack, concepts_name(study, language, paired))
        concepts = store.load(path, CONCEPTS)
        with store.undamaged(path):
            tokens, labels = concepts.token_id.values, chosen_concepts(concepts)[at]
        sides.append((gather(corpus, "token_type", tokens), labels))
    found = []
    for one in order.tolist():
        other = int(best[one])
        if not strength[one, other]:
            break
        types = [_by_count(kinds[labels == c]) for (kinds, labels), c in zip(sides, (one, other), strict=True)]
        words = [spell(corpus, language, kinds) for language, kinds in zip((source, target), types, strict=True)]
        found.append(
            AlignedPair(
                one,
                other,
                int(strength[one, other]),
                len(types[0]),
                len(types[1]),
                words[0],
                words[1],
                calign.matched_words(words[0], words[1], dictionary, **metrics.translations),
            )
        )
    return found


def _by_count(types: np.ndarray) -> list[int]:
    """Distinct types, the most frequent first."""
    return [t for t, _ in Counter(types.tolist()).most_common()]
