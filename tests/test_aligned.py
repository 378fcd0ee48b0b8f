"""Counts behind CALIGN against the loops of Section 2.2, and which translations count."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.aligned import count_aligned, matched_words, numbered, one_layer, ranks
from engine.calign import aligned
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError
from tests.oracles import metrics
from tests.small_concepts import (
    concepts_dataset,
    count,
    dictionary_dataset,
    ranked,
    studies,
)


@given(studies())
def test_count_aligned__equals_the_loops_of_section_2_2(drawn: dict[str, Any]) -> None:
    found, layers = count(drawn)
    for at, (source, target) in enumerate(layers):
        expected = [[metrics.aligned_types(s, t, drawn["dictionary"], drawn["n_best"]) for t in target] for s in source]
        assert found.aligned_types[: drawn["n_best"], at].values.sum(axis=0).tolist() == expected
        assert found.source_types[at].values.tolist() == [len(s) for s in source]
        assert found.target_types[at].values.tolist() == [len(t) for t in target]
    assert found.attrs["source"] == "de"
    assert found.attrs["unit"] == "type"


def test_matched_words__pairs_of_the_n_best() -> None:
    dictionary = ranked({0: [3, 1], 1: [2], 2: [1]})
    assert matched_words(["w0", "w1"], ["w1", "w3"], dictionary, n_best=2) == [("w0", "w3"), ("w0", "w1")]
    assert matched_words(["w0", "w1"], ["w1", "w3"], dictionary, n_best=1) == [("w0", "w3")]
    assert matched_words([], ["w1"], dictionary, n_best=1) == []
    assert matched_words(["w0"], ["w1"], ranked({}), n_best=1) == []


ENTRIES = [("a", "x", 0.7, 7), ("a", "y", 0.3, 3), ("b", "x", 0.9, 9), ("b", "z", 0.1, 1), ("c", "x", 1.0, 1)]


def kept_pairs(dictionary: xr.Dataset, *, n_best: int, **rules: Any) -> set[tuple[str, str]]:
    """Word pairs of the entries that count."""
    kept = ranks(dictionary, **rules) < n_best
    return {
        (dictionary.source_form.values[s], dictionary.target_form.values[t])
        for s, t in zip(dictionary.source_type.values[kept], dictionary.target_type.values[kept], strict=True)
    }


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"n_best": 1}, ["ax", "bx", "cx"]),
        ({"n_best": 1, "translations_by": "file"}, ["ay", "bx", "cx"]),
        ({"n_best": 9, "min_probability": 0.3}, ["ax", "ay", "bx", "cx"]),
        ({"n_best": 9, "max_sources": 1}, ["ay", "bx", "bz"]),  # x: most links with b
        ({"n_best": 9, "max_sources": 2}, ["ax", "ay", "bx", "bz"]),
        ({"n_best": 1, "max_sources": 2}, ["ax", "bx"]),  # what is left out promotes nothing
        ({"n_best": 1, "min_probability": 0.8}, ["bx", "cx"]),
    ],
)
def test_ranks__rules(rules: dict[str, Any], expected: list[str]) -> None:
    dictionary = dictionary_dataset(ENTRIES, file_order=[1, 0, 0, 1, 0])
    assert sorted(s + t for s, t in kept_pairs(dictionary, **rules)) == expected


entry = st.tuples(
    st.sampled_from("abcd"), st.sampled_from("wxyz"), st.sampled_from([0.25, 0.5, 1.0]), st.integers(1, 3)
)


@given(st.lists(entry, unique_by=lambda one: one[:2]), st.integers(1, 4))
def test_ranks__a_cap_keeps_the_sources_with_most_links(entries: list[tuple[str, str, float, int]], most: int) -> None:
    expected = set()
    for word in "wxyz":
        of_word = sorted((-n, -p, s) for s, t, p, n in entries if t == word)
        expected |= {(s, word) for _, _, s in of_word[:most]}
    assert kept_pairs(dictionary_dataset(entries), n_best=9, max_sources=most) == expected


def test_count_aligned__a_dictionary_of_the_other_direction_is_refused() -> None:
    one, other = [f"s{i}" for i in range(20)], [f"t{i}" for i in range(20)]
    labels = np.zeros((1, 20), np.int32)
    sides = concepts_dataset(labels, one, 1), concepts_dataset(labels, other, 1)
    turned = dictionary_dataset([(t, s, 1.0, 1) for s, t in zip(one, other, strict=True)])
    with pytest.raises(InputError, match="0 of 40 words in its own direction and 40 the other way round"):
        count_aligned(*sides, labels, labels, turned, n_ranks=1)
    strange = dictionary_dataset([("q", "r", 1.0, 1)])
    with pytest.raises(InputError, match="knows none of the 40 words"):
        count_aligned(*sides, labels, labels, strange, n_ranks=1)


def test_count_aligned__tokens_by_loops() -> None:
    words = ["a", "a", "a", "b", "c"]
    labels = np.array([[0, 0, 0, 0, 0]], np.int32)
    one = concepts_dataset(labels, words, 1)
    other = concepts_dataset(np.array([[0, 1]], np.int32), ["x", "y"], 2)
    dictionary = dictionary_dataset([("a", "x", 1.0, 1), ("b", "y", 1.0, 1)])
    found = count_aligned(one, other, labels, np.array([[0, 1]]), dictionary, unit="token")
    assert found.aligned_types.values[0].tolist() == [[[3, 1]]]
    assert (found.source_size.values.tolist(), found.source_types.values.tolist()) == ([[5]], [[3]])
    assert aligned(found, theta_align=0.6, min_types=0, max_size_gap=0.8).tolist() == [[[True, False]]]


def test_count_aligned__words_may_end_at_bars() -> None:
    labels = np.array([[0, 0]], np.int32)
    one, other = concepts_dataset(labels, ["a|||b", "a"], 1), concepts_dataset(labels, ["x", "y|||"], 1)
    dictionary = dictionary_dataset([("a", "y", 1.0, 1)])
    whole = count_aligned(one, other, labels, labels, dictionary)
    cut = count_aligned(one, other, labels, labels, dictionary, words="before_bars")
    assert (whole.aligned_types.sum(), whole.source_types.item()) == (0, 2)
    assert (cut.aligned_types.sum(), cut.source_types.item()) == (1, 1)


@given(studies())
def test_one_layer__is_what_count_aligned_gives(drawn: dict[str, Any]) -> None:
    counts, _ = count(drawn)
    here = counts.isel(layer=[0])
    found = one_layer({name: here[name].isel(layer=0).values for name in here.data_vars}, int(here.layer[0]))
    xr.testing.assert_equal(ALIGNED_TYPES.validate(found), here)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source_type": [0, 2]},
            "source types from 0 to 2, and 2 forms; expected types from 0 to 1, so make it again",
        ),
        ({"target_type": [-1, 1]}, "target types from -1 to 1, and 2 forms"),
        ({"source_form": ["haus", "haus"]}, "the dictionary spells 1 types as others; expected forms once"),
    ],
)
def test_numbered__a_dictionary_that_does_not_hold_together_is_refused(
    changes: dict[str, list[Any]], message: str
) -> None:
    dictionary = dictionary_dataset([("haus", "house", 1.0, 1), ("hund", "dog", 1.0, 1)])
    for name, values in changes.items():
        dictionary[name] = (dictionary[name].dims, np.array(values, dictionary[name].dtype))
    words = np.array(["haus", "hund"], object)
    with pytest.raises(InputError, match=message):
        numbered(words, words, dictionary)
