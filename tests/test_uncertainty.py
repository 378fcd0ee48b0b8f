"""Bootstrap and nulls against what they must keep, and against cases whose answer is known."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from engine.colap import UNITS, colap
from engine.uncertainty import bands, bootstrap, dealt, exceeding, interval, shuffled, unrelated
from schemas.counts import LANGUAGE_COUNT


def test_bootstrap__interval_is_that_of_a_proportion() -> None:
    # the fraction of n concepts drawn anew is binomial
    numerator = np.arange(400)[None] < 100
    low, high = interval(bootstrap(numerator, np.ones((1, 400), bool), 4000, 0))
    expected = scipy.stats.binom(400, 0.25).ppf([0.025, 0.975]) / 400
    np.testing.assert_allclose([low[0], high[0]], expected, atol=0.006)


def test_bootstrap__concepts_that_do_not_count_change_nothing() -> None:
    numerator = np.array([[True, True, False, True]])
    denominator = np.array([[True, True, True, False]])
    drawn = bootstrap(numerator, denominator, 500, 1)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert 0.5 < drawn.mean() < 0.8  # two of three
    assert bootstrap(numerator[:, 3:], denominator[:, 3:], 5, 1).tolist() == [[0.0]] * 5


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 9))
def test_dealt__is_a_permutation_within_groups(groups: list[int], seed: int) -> None:
    found = dealt(np.array(groups), np.random.default_rng(seed))
    assert sorted(found.tolist()) == list(range(len(groups)))
    assert [groups[i] for i in found] == groups


def test_dealt__every_order_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    orders = [tuple(dealt(np.zeros(3, int), rng).tolist()) for _ in range(6000)]
    assert len(set(orders)) == 6
    assert all(850 < orders.count(order) < 1150 for order in set(orders))


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=9))
def test_bands__hold_frequencies_less_than_a_factor_of_2_apart(frequency: list[int]) -> None:
    found = bands(np.array(frequency))
    for one, a in zip(found, frequency, strict=True):
        for other, b in zip(found, frequency, strict=True):
            if one == other:
                assert max(a, b) < 2 * min(a, b)


@pytest.mark.parametrize("null", ["types", "dictionary"])
def test_unrelated__keeps_lists_and_frequencies_and_moves_words(null: str) -> None:
    source, target = np.repeat(np.arange(6), 2), np.array([0, 1, 2, 3, 4, 5, 0, 2, 1, 3, 4, 6])
    rank = np.tile([0, 1], 6)
    frequency = np.array([1, 1, 1, 8, 8, 8, 100])
    side = (source, target)[null == "dictionary"]
    types = np.array([0, 1, 2, 3, 4, 5])
    moved = 0
    for one, other, ranks in unrelated((source, target, rank), types, frequency, null=null, draws=40, seed=0):
        drawn = (one, other)[null == "dictionary"]
        assert (ranks == rank).all()
        assert (frequency[drawn] == frequency[side]).all()
        assert ((source, target)[null == "types"] == (one, other)[null == "types"]).all()
        turned = dict(zip(side.tolist(), drawn.tolist(), strict=True))
        assert [turned[t] for t in side.tolist()] == drawn.tolist()  # a type moves with all its entries
        assert len(set(turned.values())) == len(turned)
        assert turned.get(6, 6) == 6  # not in the concepts
        moved += (drawn != side).any()
    assert moved > 30


def test_shuffled__keeps_sizes_and_totals() -> None:
    tokens = np.random.default_rng(0).integers(0, 20, (2, 15, 3))
    tokens[0, 4] = 0
    counts = LANGUAGE_COUNT.create(
        {
            "layer": np.array([0, 3], np.int32),
            "language": ["a", "b", "c"],
            "unit": list(UNITS),
            "language_count": np.stack([tokens, (tokens + 1) // 2], axis=-1).astype(np.int64),
        }
    )
    for drawn in shuffled(counts, draws=5, seed=0):
        LANGUAGE_COUNT.validate(drawn)
        for dim in ("language", "concept"):
            assert (drawn.language_count.sum(dim) == counts.language_count.sum(dim)).all()
        assert (drawn.language_count != counts.language_count).any()


def test_shuffled__separate_languages_overlap_by_chance_alone() -> None:
    apart = np.zeros((1, 40, 2), np.int64)
    apart[0, :20, 0] = apart[0, 20:, 1] = 50
    counts = LANGUAGE_COUNT.create(
        {
            "layer": np.array([0], np.int32),
            "language": ["a", "b"],
            "unit": list(UNITS),
            "language_count": np.stack([apart, apart], axis=-1),
        }
    )
    assert colap(counts).colap.item() == 0
    drawn = np.array([colap(one).colap.values for one in shuffled(counts, draws=50, seed=0)])
    assert drawn.min() > 0.9  # halves of 50 words: 30 % of each in almost all
    assert exceeding(np.array([0.0]), drawn).tolist() == [1.0]
    assert exceeding(np.array([1.1]), drawn).tolist() == [1 / 51]
