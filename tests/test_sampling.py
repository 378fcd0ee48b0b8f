"""Even selections against plain counting."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.sampling import Spread, kept, occurrence
from tests.oracles.texts import selected

texts = st.lists(st.integers(0, 6), max_size=150).map(lambda types: np.array(types, np.int32))
counts = st.integers(1, 25)
seeds = st.integers(0, 2**32)
blocks = st.integers(1, 60)


def spread(types: np.ndarray, n_types: int, least: int, most: int, seed: int, block: int = 10**9) -> np.ndarray:
    """The marks of a whole text that is cut into blocks."""
    of_text = Spread(np.bincount(types, minlength=n_types), least, most, seed)
    return np.concatenate([of_text.mark(types[i : i + block]) for i in range(0, max(len(types), 1), block)])


@given(texts, blocks)
def test_occurrence__equals_a_loop(types: np.ndarray, block: int) -> None:
    before: dict[int, int] = {}
    expected = []
    for one in types.tolist():
        expected.append(before.get(one, 0))
        before[one] = expected[-1] + 1
    seen = np.zeros(7, np.int64)
    found = [occurrence(types[i : i + block], seen).tolist() for i in range(0, len(types), block)]
    assert [n for part in found for n in part] == expected
    assert seen.tolist() == [before.get(one, 0) for one in range(7)]


@given(texts, counts, counts, seeds, blocks)
def test_spread__any_blocks_equal_a_loop(types: np.ndarray, least: int, most: int, seed: int, block: int) -> None:
    expected = selected(types.tolist(), least, most, seed)
    assert np.flatnonzero(spread(types, 7, least, most, seed, block)).tolist() == expected
    assert kept(np.bincount(types, minlength=7), least, most).sum() == len(expected)


@given(texts, counts, counts, seeds)
def test_spread__keeps_exactly_the_smaller_of_count_and_maximum(
    types: np.ndarray, least: int, most: int, seed: int
) -> None:
    marked = spread(types, 7, least, most, seed)
    for one in range(7):
        count = int((types == one).sum())
        assert marked[types == one].sum() == (min(count, most) if count >= least else 0)


@given(st.integers(1, 400), st.integers(1, 60), seeds)
def test_spread__gaps_differ_by_one_at_most_even_around_the_end(count: int, most: int, seed: int) -> None:
    places = np.flatnonzero(spread(np.zeros(count, np.int32), 1, 1, most, seed)).tolist()
    number = min(count, most)
    gaps = {b - a for a, b in pairwise([*places, places[0] + count])}
    assert gaps <= {count // number, -(-count // number)}


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
