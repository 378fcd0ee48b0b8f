"""Marked occurrences against plain counting."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.sampling import Sample, kept, occurrence
from tests.oracles.texts import selected

texts = st.lists(st.integers(0, 6), max_size=150).map(lambda types: np.array(types, np.int32))
counts = st.integers(0, 25)
caps = st.integers(1, 25)
limits = st.none() | st.integers(0, 25)
seeds = st.none() | st.integers(0, 2**32)
blocks = st.integers(1, 60)


def marked(
    types: np.ndarray, n_types: int, least: int, most: int, seed: int | None, beyond: int | None = None,
    block: int = 10**9,
) -> np.ndarray:  # fmt: skip
    """The marks of a whole text that is cut into blocks."""
    count = np.bincount(types, minlength=n_types)
    sample = Sample(count, kept(count, least, most, beyond), seed)
    return np.concatenate([sample.mark(types[i : i + block]) for i in range(0, max(len(types), 1), block)])


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


@given(texts, counts, caps, limits, seeds, blocks)
def test_sample__any_blocks_equal_a_loop(
    types: np.ndarray, least: int, most: int, beyond: int | None, seed: int | None, block: int
) -> None:
    lines = [list(range(7)), types.tolist()]  # every type is there, in a sentence that is left out
    expected = selected(
        lines, min_count=least, max_count=most, delete_above=beyond, first=seed is None, seed=seed or 0, left_out=[0]
    )
    found = np.flatnonzero(marked(types, 7, least, most, seed, beyond, block))
    assert (found + 7).tolist() == expected
    assert kept(np.bincount(types, minlength=7), least, most, beyond).sum() == len(expected)


@given(texts, counts, caps, limits, seeds)
def test_sample__keeps_exactly_the_smaller_of_count_and_maximum(
    types: np.ndarray, least: int, most: int, beyond: int | None, seed: int | None
) -> None:
    marks = marked(types, 7, least, most, seed, beyond)
    for one in range(7):
        count = int((types == one).sum())
        studied = count >= least and (beyond is None or count <= beyond)
        assert marks[types == one].sum() == (min(count, most) if studied else 0)


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 2**32))
def test_sample__gaps_differ_by_one_at_most_even_around_the_end(count: int, most: int, seed: int) -> None:
    places = np.flatnonzero(marked(np.zeros(count, np.int32), 1, 1, most, seed)).tolist()
    number = min(count, most)
    gaps = {b - a for a, b in pairwise([*places, places[0] + count])}
    assert gaps <= {count // number, -(-count // number)}


@given(texts, counts, caps)
def test_sample__the_first_are_before_all_others(types: np.ndarray, least: int, most: int) -> None:
    marks = marked(types, 7, least, most, None)
    for one in range(7):
        of_type = marks[types == one].tolist()
        assert of_type == sorted(of_type, reverse=True)


@given(texts, counts, caps, caps)
def test_sample__the_first_hold_when_the_text_or_the_maximum_grows(
    types: np.ndarray, least: int, most: int, more: int
) -> None:
    cut = len(types) // 2
    before = marked(types[:cut], 7, least, most, None)
    after = marked(types, 7, least, most + more, None)[:cut]
    assert not (before & ~after).any()


@given(texts, counts, caps, seeds)
def test_sample__is_deterministic(types: np.ndarray, least: int, most: int, seed: int | None) -> None:
    once, again = (marked(types, 7, least, most, seed) for _ in range(2))
    np.testing.assert_array_equal(once, again)


@given(texts, counts, caps, seeds, st.integers(1, 3))
def test_sample__types_without_tokens_change_nothing(
    types: np.ndarray, least: int, most: int, seed: int | None, more: int
) -> None:
    np.testing.assert_array_equal(marked(types, 7, least, most, seed), marked(types, 7 + more, least, most, seed))


def test_sample__seeds_start_at_different_places() -> None:
    types = np.zeros(1000, np.int32)
    assert len({marked(types, 1, 1, 3, seed).tobytes() for seed in range(20)}) > 10


def test_sample__large_counts_do_not_overflow() -> None:
    types = np.zeros(3_000_000, np.int32)
    assert marked(types, 1, 10, 1_000_000, 3).sum() == 1_000_000
    assert marked(types, 1, 10, 2**62, 3).all()
