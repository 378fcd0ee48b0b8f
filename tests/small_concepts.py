"""Small datasets of concepts, dictionaries and counts, and drawn ones, for tests of CALIGN and COLAP."""

from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st

from engine.aligned import count_aligned
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES
from schemas.links import DICTIONARY
from tests.oracles import metrics

K, TYPES = 4, 8
WORDS = [f"w{i}" for i in range(TYPES)]
FIELDS = ("aligned_concepts", "calign", "concepts", "considered_concepts", "largest_hub", "matched_targets")


def concepts_dataset(labels: np.ndarray, words: list[str], k: int, **attributes: Any) -> xr.Dataset:
    """A CONCEPTS dataset (layer, token) of one restart."""
    layers = len(labels)
    return CONCEPTS.create(
        {
            "layer": np.arange(layers, dtype=np.int32),
            "concept": labels[None].astype(np.int32),
            "distance": np.zeros((1, *labels.shape), np.float32),
            "centroid": np.zeros((1, layers, k, 2), np.float32),
            "scatter": np.ones(layers),
            "inertia": np.zeros((1, layers)),
            "n_iter": np.ones((1, layers), np.int32),
            "k": np.array([k], np.int32),
            "seed": np.array([0]),
            "chosen": np.ones((1, layers), bool),
            "token_id": np.arange(len(words)),
            "language": np.zeros(len(words), np.int8),
            "word": np.array(words, object),
            "sentence": np.arange(len(words), dtype=np.int32),
            "position": np.zeros(len(words), np.int32),
        },
        **attributes,
    )


def dictionary_dataset(
    entries: list[tuple[str, str, float, int]], *, file_order: list[int] | None = None
) -> xr.Dataset:
    """A DICTIONARY dataset of (source, target, probability, count), ranked as given; places of the file as given."""
    forms = [sorted({entry[side] for entry in entries}) for side in (0, 1)]
    ordered = sorted(range(len(entries)), key=lambda i: entries[i][0])
    ranks = [sum(entries[j][0] == entries[i][0] for j in ordered[:at]) for at, i in enumerate(ordered)]
    places = ranks if file_order is None else [file_order[i] for i in ordered]
    return DICTIONARY.create(
        {
            "source_form": np.array(forms[0], object),
            "target_form": np.array(forms[1], object),
            "source_type": np.array([forms[0].index(entries[i][0]) for i in ordered], np.int32),
            "target_type": np.array([forms[1].index(entries[i][1]) for i in ordered], np.int32),
            "probability": np.array([entries[i][2] for i in ordered], float),
            "count": np.array([entries[i][3] for i in ordered], np.int64),
            "rank": np.array(ranks, np.int32),
            "place": np.array(places, np.int32),
        },
        source="de",
        target="en",
        fold=[],
    )


def ranked(found: dict[int, list[int]]) -> xr.Dataset:
    """A DICTIONARY dataset of the ranked translations of numbered words."""
    return dictionary_dataset([(WORDS[s], WORDS[t], 1.0, 1) for s in sorted(found) for t in found[s]])


def counts_dataset(of_pairs: Any, source: Any, target: Any) -> xr.Dataset:
    """ALIGNED_TYPES of one layer."""
    return ALIGNED_TYPES.create(
        {
            "layer": np.array([3], np.int32),
            "rank": np.arange(10, dtype=np.int32),
            "aligned_types": np.array([of_pairs, *[np.zeros_like(of_pairs)] * 9], np.int32)[:, None],
            "source_size": np.array(source, np.int32)[None],
            "target_size": np.array(target, np.int32)[None],
            "source_types": np.array(source, np.int32)[None],
            "target_types": np.array(target, np.int32)[None],
        }
    )


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """Labelled tokens of two languages, in two layers, with a ranked dictionary."""
    drawn: dict[str, Any] = {}
    for side in ("source", "target"):
        types = draw(st.lists(st.integers(0, TYPES - 1), min_size=1, max_size=40))
        drawn[side] = [*range(TYPES), *types]  # every type of the text occurs; not all are selected
        drawn[f"{side}_kept"] = sorted(draw(st.sets(st.integers(0, len(drawn[side]) - 1), min_size=1)))
        labels = st.lists(
            st.integers(-1, K - 1), min_size=len(drawn[f"{side}_kept"]), max_size=len(drawn[f"{side}_kept"])
        )
        drawn[f"{side}_labels"] = [draw(labels) for _ in range(2)]
    drawn["dictionary"] = draw(
        st.dictionaries(st.integers(0, TYPES - 1), st.lists(st.integers(0, TYPES - 1), unique=True, max_size=TYPES))
    )
    drawn["n_best"] = draw(st.integers(1, TYPES + 2))
    return drawn


def count(drawn: dict[str, Any]) -> tuple[xr.Dataset, list[tuple[list[set[int]], list[set[int]]]]]:
    """The counts of a study, and for each layer the concepts of both languages as sets of types."""
    data, labels, sets = {}, {}, {}
    for side in ("source", "target"):
        types = [drawn[side][i] for i in drawn[f"{side}_kept"]]
        labels[side] = np.array(drawn[f"{side}_labels"], np.int32)
        data[side] = concepts_dataset(labels[side], [WORDS[t] for t in types], K)
        sets[side] = [metrics.concepts_of(of_layer, types, K) for of_layer in labels[side].tolist()]
    found = count_aligned(
        data["source"],
        data["target"],
        labels["source"],
        labels["target"],
        ranked(drawn["dictionary"]),
        n_ranks=TYPES + 2,
    )
    return found, list(zip(sets["source"], sets["target"], strict=True))
