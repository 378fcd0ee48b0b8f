"""Even selections against plain counting."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.sampling import occurrence, spread

texts = st.lists(st.integers(0, 6), max_size=150).map(lambda types: np.array(types, np.int32))
counts = st.integers(1, 25)
seeds = st.integers(0, 2**32)


@given(texts)
def test_occurrence__equals_a_loop(types: np.ndarray) -> None:
    seen: dict[int, int] = {}
    expected = []
    for one in types.tolist():
        expected.append(seen.get(one, 0))
        seen[one] = expected[-1] + 1
    assert occurrence(types, 7).tolist() == expected


@given(texts, counts, counts, seeds)
def test_spread__keeps_exactly_the_smaller_of_count_and_maximum(
    types: np.ndarray, least: int, most: int, seed: int
) -> None:
    kept = spread(types, 7, least, most, seed)
    for one in range(7):
        count = int((types == one).sum())
        assert kept[types == one].sum() == (min(count, most) if count >= least else 0)


@given(st.integers(1, 400), st.integers(1, 60), seeds)
def test_spread__gaps_differ_by_one_at_most_even_around_the_end(count: int, most: int, seed: int) -> None:
    places = np.flatnonzero(spread(np.zeros(count, np.int32), 1, 1, most, seed)).tolist()
    kept = min(count, most)
    gaps = {b - a for a, b in pairwise([*places, places[0] + count])}
    assert gaps <= {count // kept, -(-count // kept)}


@given(texts, counts, counts, seeds)
def test_spread__is_deterministic(types: np.ndarray, least: int, most: int, seed: int) -> None:
    once, again = (spread(types, 7, least, most, seed) for _ in range(2))
    np.testing.assert_array_equal(once, again)


@given(texts, counts, counts, seeds, st.integers(1, 3))
def test_spread__types_without_tokens_change_nothing(
    types: np.ndarray, least: int, most: int, seed: int, more: int
) -> None:
    np.testing.assert_array_equal(spread(types, 7, least, most, seed), spread(types, 7 + more, least, most, seed))


def test_spread__seeds_start_at_different_places() -> None:
    types = np.zeros(1000, np.int32)
    assert len({spread(types, 1, 1, 3, seed).tobytes() for seed in range(20)}) > 10


def test_spread__large_counts_do_not_overflow() -> None:
    types = np.zeros(3_000_000, np.int32)
    assert spread(types, 1, 10, 1_000_000, 3).sum() == 1_000_000
