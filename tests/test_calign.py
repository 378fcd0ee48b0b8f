"""CALIGN against the loops of Sections 2.2 and 3.3, from labelled tokens to the fraction."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.aligned import count_aligned, matched_words, one_layer, ranks
from engine.calign import aligned, best, calign, union, with_reverse
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError
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


hundredths = st.integers(0, 100).map(lambda n: n / 100)


@given(studies(), hundredths, st.integers(0, 4), hundredths)
def test_calign__equals_the_loops_of_sections_2_2_and_3_3(
    drawn: dict[str, Any], theta: float, least: int, gap: float
) -> None:
    counts, layers = count(drawn)
    found = calign(counts, n_best=drawn["n_best"], theta_align=theta, min_types=least, max_size_gap=gap)
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


REFERENCE = {"comparison": "more_than", "size_rule": "source", "min_types_of": "source"}


@given(studies(), st.integers(0, 10), st.integers(0, 4), st.integers(0, 10))
def test_aligned__reference_equals_the_script_by_loops(drawn: dict[str, Any], theta: int, least: int, gap: int) -> None:
    counts, layers = count(drawn)
    rules = {"n_best": drawn["n_best"], "theta_align": theta / 10, "min_types": least, "max_size_gap": gap / 10}
    found = aligned(counts, **rules, **REFERENCE)
    for at, (source, target) in enumerate(layers):
        for i, s in enumerate(source):
            for j, t in enumerate(target):
                expected = bool(s) and bool(t)  # the script never sees an empty cluster
                if expected:
                    part = metrics.aligned_types(s, t, drawn["dictionary"], drawn["n_best"])
                    enough = part / len(s) > theta / 10
                    expected = enough and len(s) > least and len(s) / len(t) > round(1 - gap / 10, 1)
                assert found[at, i, j] == expected


def test_calign__mutual_pairs_and_denominators() -> None:
    there = counts_dataset([[6, 6, 0], [6, 0, 0], [0, 0, 0]], [6, 6, 3], [6, 6, 6])
    back = counts_dataset([[6, 0, 0], [0, 0, 0], [0, 0, 3]], [6, 6, 6], [6, 6, 3])
    found = calign(with_reverse(there, back))
    assert (found.aligned_concepts, found.mutual_concepts, found.concepts) == (2, 1, 3)
    assert found.mutual_calign == 1 / 3
    assert found.hub_share == 1.0
    assert calign(there, denominator="considered").calign == 1.0
    assert np.isnan(calign(there).mutual_calign)


@given(studies(), hundredths, st.integers(0, 3))
def test_calign__mutual_is_symmetric(drawn: dict[str, Any], theta: float, least: int) -> None:
    turned = {
        name.replace("source", "side").replace("target", "source").replace("side", "target"): value
        for name, value in drawn.items()
    }
    there, back = count(drawn)[0], count(turned)[0]
    rules = {"theta_align": theta, "min_types": least}
    both = aligned(there, **rules) & aligned(back, **rules).transpose(0, 2, 1)
    found = calign(with_reverse(there, back), **rules)
    assert found.mutual_concepts.values.tolist() == both.any(axis=2).sum(axis=1).tolist()
    found = calign(with_reverse(back, there), **rules)
    assert found.mutual_concepts.values.tolist() == both.any(axis=1).sum(axis=1).tolist()


@given(studies(), hundredths, st.integers(0, 3))
def test_calign__some_concept_in_another_language_is_in_one_of_them(
    drawn: dict[str, Any], theta: float, least: int
) -> None:
    counts, _ = count(drawn)
    other = counts.isel(target_concept=[2, 0]).assign(aligned_types=counts.aligned_types.isel(target_concept=[1, 0]))
    rules = {"theta_align": theta, "min_types": least, "n_best": drawn["n_best"]}
    either = np.concatenate([aligned(counts, **rules), aligned(other, **rules)], axis=2)
    found = calign(union([counts, other]), **rules)
    assert found.aligned_concepts.values.tolist() == either.any(axis=2).sum(axis=1).tolist()
    assert found.matched_targets.values.tolist() == either.any(axis=1).sum(axis=1).tolist()


def test_aligned__more_translations_than_were_counted_are_refused() -> None:
    with pytest.raises(InputError, match="n_best is 11, and translations were counted up to 10"):
        aligned(counts_dataset([[1]], [1], [1]), n_best=11)


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


@given(studies(), st.integers(1, TYPES))
def test_best__scores_as_all_ranks_do(drawn: dict[str, Any], n: int) -> None:
    counts, _ = count(drawn)
    both = with_reverse(counts, counts)
    rules = {"n_best": n, "min_types": 1, "theta_align": 0.5}
    xr.testing.assert_identical(calign(best(both, n), **rules), calign(both, **rules))


@given(studies())
def test_one_layer__is_what_count_aligned_gives(drawn: dict[str, Any]) -> None:
    counts, _ = count(drawn)
    here = counts.isel(layer=[0])
    found = one_layer({name: here[name].isel(layer=0).values for name in here.data_vars}, int(here.layer[0]))
    xr.testing.assert_equal(ALIGNED_TYPES.validate(found), here)
