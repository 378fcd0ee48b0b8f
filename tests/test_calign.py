"""CALIGN against the loops of Sections 2.2 and 3.3, from labelled tokens to the fraction."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.calign import aligned, calign, count_aligned, matched_words
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES
from schemas.links import DICTIONARY
from tests.oracles import metrics
from tests.oracles.texts import corpus

K, TYPES = 4, 8
WORDS = [f"w{i}" for i in range(TYPES)]
FIELDS = ("aligned_concepts", "calign", "concepts", "considered_concepts", "largest_hub", "matched_targets")


def concepts_dataset(labels: np.ndarray, token_id: np.ndarray, k: int) -> xr.Dataset:
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
            "token_id": token_id.astype(np.int64),
            "language": np.zeros(len(token_id), np.int8),
            "word": np.array([WORDS[i % TYPES] for i in range(len(token_id))], object),
            "sentence": np.arange(len(token_id), dtype=np.int32),
            "position": np.zeros(len(token_id), np.int32),
        }
    )


def dictionary_dataset(translations: dict[int, list[int]], source_start: int, target_start: int) -> xr.Dataset:
    """A DICTIONARY dataset of ranked translations."""
    rows = [(s, t, rank) for s in sorted(translations) for rank, t in enumerate(translations[s])]
    table = np.array(rows, np.int32).reshape(-1, 3)
    return DICTIONARY.create(
        {
            "source_type": table[:, 0] + np.int32(source_start),
            "target_type": table[:, 1] + np.int32(target_start),
            "probability": np.ones(len(rows)),
            "count": np.ones(len(rows), np.int64),
            "rank": table[:, 2],
        },
        source="de",
        target="en",
    )


def counts_dataset(of_pairs: Any, source: Any, target: Any) -> xr.Dataset:
    """ALIGNED_TYPES of one layer."""
    return ALIGNED_TYPES.create(
        {
            "layer": np.array([3], np.int32),
            "aligned_types": np.array(of_pairs, np.int32)[None],
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
    text = corpus({"de": [[WORDS[t] for t in drawn["source"]]], "en": [[WORDS[t] for t in drawn["target"]]]})
    start = {"source": 0, "target": len(drawn["source"])}
    data, labels, sets = {}, {}, {}
    for side in ("source", "target"):
        kept = np.array(drawn[f"{side}_kept"])
        labels[side] = np.array(drawn[f"{side}_labels"], np.int32)
        data[side] = concepts_dataset(labels[side], kept + start[side], K)
        types = [drawn[side][i] for i in kept]
        sets[side] = [metrics.concepts_of(of_layer, types, K) for of_layer in labels[side].tolist()]
    found = count_aligned(
        data["source"],
        data["target"],
        labels["source"],
        labels["target"],
        dictionary_dataset(drawn["dictionary"], 0, TYPES),
        text,
        n_best=drawn["n_best"],
    )
    return found, list(zip(sets["source"], sets["target"], strict=True))


@given(studies())
def test_count_aligned__equals_the_loops_of_section_2_2(drawn: dict[str, Any]) -> None:
    found, layers = count(drawn)
    for at, (source, target) in enumerate(layers):
        expected = [[metrics.aligned_types(s, t, drawn["dictionary"], drawn["n_best"]) for t in target] for s in source]
        assert found.aligned_types[at].values.tolist() == expected
        assert found.source_types[at].values.tolist() == [len(s) for s in source]
        assert found.target_types[at].values.tolist() == [len(t) for t in target]
    assert found.attrs["source"] == "de"
    assert found.attrs["n_best"] == drawn["n_best"]


hundredths = st.integers(0, 100).map(lambda n: n / 100)


@given(studies(), hundredths, st.integers(0, 4), hundredths)
def test_calign__equals_the_loops_of_sections_2_2_and_3_3(
    drawn: dict[str, Any], theta: float, least: int, gap: float
) -> None:
    counts, layers = count(drawn)
    found = calign(counts, theta_align=theta, min_types=least, max_size_gap=gap)
    for at, (source, target) in enumerate(layers):
        expected = metrics.calign(source, target, drawn["dictionary"], drawn["n_best"], theta, least, gap)
        assert {name: found[name].values[at] for name in FIELDS} == expected
        assert 0 <= found.calign[at] <= 1


@given(studies(), st.lists(hundredths, min_size=2, max_size=6), st.integers(0, 4), hundredths)
def test_calign__falls_as_theta_rises(drawn: dict[str, Any], thetas: list[float], least: int, gap: float) -> None:
    counts, _ = count(drawn)
    swept = [calign(counts, theta_align=t, min_types=least, max_size_gap=gap).calign.values for t in sorted(thetas)]
    assert (np.diff(swept, axis=0) <= 0).all()


@given(studies(), hundredths, hundredths, hundredths, st.integers(0, 3))
def test_calign__rises_with_the_size_gap_and_falls_with_min_types(
    drawn: dict[str, Any], theta: float, one: float, other: float, least: int
) -> None:
    counts, _ = count(drawn)
    narrow, wide = sorted((one, other))
    rule = {"theta_align": theta, "min_types": least}
    assert (
        calign(counts, max_size_gap=narrow, **rule).calign <= calign(counts, max_size_gap=wide, **rule).calign
    ).all()
    stricter = rule | {"min_types": least + 1}
    assert (
        calign(counts, max_size_gap=one, **stricter).calign <= calign(counts, max_size_gap=one, **rule).calign
    ).all()


@given(st.integers(0, 30), st.integers(0, 30), hundredths)
def test_aligned__the_size_gap_is_symmetric(one: int, other: int, gap: float) -> None:
    both = [
        aligned(counts_dataset([[a]], [a], [b]), theta_align=0, min_types=0, max_size_gap=gap)
        for a, b in ((one, other), (other, one))
    ]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("part", "source", "target", "rule", "expected"),
    [
        (4, 5, 5, {"theta_align": 0.8, "min_types": 4}, True),  # 0.8 of 5 types = 4
        (3, 5, 5, {"theta_align": 0.8, "min_types": 4}, False),
        (8, 10, 10, {"theta_align": 0.8}, True),
        (7, 10, 10, {"theta_align": 0.7}, True),
        (3, 10, 10, {"theta_align": 0.3}, True),
        (2, 10, 10, {"theta_align": 0.3}, False),
        (3, 10, 10, {"theta_align": 1 - 0.7}, True),  # 0.30000000000000004
        (9, 9, 15, {"theta_align": 1.0}, True),  # 6/15 = 0.4
        (8, 8, 14, {"theta_align": 1.0}, False),  # 6/14 > 0.4
        (3, 3, 5, {"theta_align": 0.8, "min_types": 2}, True),  # 2/5 = 0.4
        (3, 5, 3, {"theta_align": 0.6, "min_types": 2}, True),
        (6, 6, 10, {"theta_align": 0.8}, True),
        (5, 5, 5, {"theta_align": 0.8}, False),  # more than 5 types, not 5
        (6, 6, 6, {"theta_align": 0.8}, True),
        (6, 6, 5, {"theta_align": 0.8}, False),  # on both sides
        (5, 5, 6, {"theta_align": 0.8}, False),
        (7, 7, 7, {"theta_align": 1.0, "max_size_gap": 0.0}, True),
        (7, 7, 8, {"theta_align": 1.0, "max_size_gap": 0.0}, False),
        (7, 7, 700, {"theta_align": 1.0, "max_size_gap": 1.0}, True),
    ],
)
def test_aligned__exactly_at_the_boundary(
    part: int, source: int, target: int, rule: dict[str, Any], expected: bool
) -> None:
    assert aligned(counts_dataset([[part]], [source], [target]), **rule).item() == expected


def test_calign__empty_concepts_are_not_counted() -> None:
    found = calign(counts_dataset([[6, 0], [0, 0], [0, 0]], [6, 0, 2], [6, 0]))
    assert {name: found[name].item() for name in FIELDS} == {
        "aligned_concepts": 1,
        "calign": 0.5,
        "concepts": 2,
        "considered_concepts": 1,
        "largest_hub": 1,
        "matched_targets": 1,
    }


def test_calign__empty_concepts_never_align_even_when_all_is_allowed() -> None:
    counts = counts_dataset([[0, 0], [0, 0]], [0, 1], [0, 1])
    found = aligned(counts, theta_align=0.0, min_types=0, max_size_gap=1.0)
    assert found[0].tolist() == [[False, False], [False, True]]


def test_calign__no_concept_at_all_is_zero() -> None:
    found = calign(counts_dataset([[0]], [0], [0]))
    assert found.calign.item() == 0
    assert found.layer.values.tolist() == [3]


def test_calign__hubs_are_target_concepts_that_many_match() -> None:
    found = calign(counts_dataset([[6, 0, 6], [6, 0, 0], [6, 0, 0]], [6, 6, 6], [6, 6, 6]))
    assert found.aligned_concepts == 3
    assert found.matched_targets == 2
    assert found.largest_hub == 3


def test_matched_words__pairs_of_the_n_best() -> None:
    dictionary = dictionary_dataset({0: [3, 1], 1: [2], 2: [1]}, 0, 10)
    assert matched_words([0, 1], [11, 13], dictionary, 2) == [(0, 13), (0, 11)]
    assert matched_words([0, 1], [11, 13], dictionary, 1) == [(0, 13)]
    assert matched_words([], [11], dictionary, 1) == []
