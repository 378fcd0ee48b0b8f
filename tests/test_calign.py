"""CALIGN against the loops of Sections 2.2 and 3.3, from labelled tokens to the fraction."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.calign import aligned, along, best, calign, score, union, with_reverse
from schemas.errors import InputError
from tests.oracles import metrics
from tests.small_concepts import (
    FIELDS,
    TYPES,
    count,
    counts_dataset,
    studies,
)

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


@given(
    studies(),
    st.lists(
        hundredths.map(lambda n: {"theta_align": n})
        | st.integers(0, 4).map(lambda n: {"min_types": n})
        | st.integers(1, 3).map(lambda n: {"n_best": n})
    ),
    st.fixed_dictionaries(
        {
            "n_best": st.integers(1, 3), "theta_align": hundredths, "min_types": st.integers(0, 4),
            "max_size_gap": hundredths, "comparison": st.sampled_from(["at_least", "more_than"]),
            "size_rule": st.sampled_from(["both", "source"]), "min_types_of": st.sampled_from(["both", "source"]),
            "denominator": st.sampled_from(["all", "considered"]),
        }
    ),
)  # fmt: skip
def test_along__is_the_score_at_each_point(
    drawn: dict[str, Any], points: list[dict[str, float]], rules: dict[str, Any]
) -> None:
    counts, _ = count(drawn)
    for one in (rules, *points):
        if "n_best" in one:
            one["n_best"] = min(one["n_best"], counts.sizes["rank"])
    expected = [score(counts, **(rules | point))["calign"] for point in [{}, *points]]
    assert along(counts, [{}, *points], **rules).T.tolist() == np.array(expected).tolist()


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


@given(studies(), st.integers(1, TYPES))
def test_best__scores_as_all_ranks_do(drawn: dict[str, Any], n: int) -> None:
    counts, _ = count(drawn)
    both = with_reverse(counts, counts)
    rules = {"n_best": n, "min_types": 1, "theta_align": 0.5}
    xr.testing.assert_identical(calign(best(both, n), **rules), calign(both, **rules))
