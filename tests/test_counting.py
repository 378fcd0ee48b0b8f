"""Counts behind the metrics against loops over sets, and comparisons with fractions against exact fractions."""

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from engine.kernels.counting import aligned_types, language_count, membership
from engine.kernels.fractions import at_least
from engine.kernels.shards import shard_ranges
from tests.oracles import metrics

K, TYPES = 5, 9
tokens = st.lists(st.tuples(st.integers(-1, K - 1), st.integers(0, TYPES - 1)), max_size=60)
translations = st.dictionaries(
    st.integers(0, TYPES - 1), st.lists(st.integers(0, TYPES - 1), unique=True, max_size=5), max_size=TYPES
)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Concepts and types of tokens."""
    table = np.array(pairs, np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@given(tokens)
def test_membership__is_the_set_of_types_of_each_concept(pairs: list[tuple[int, int]]) -> None:
    found = membership(*columns(pairs), K, TYPES)
    expected = metrics.concepts_of(*columns(pairs), K)
    assert [set(np.flatnonzero(row).tolist()) for row in found.toarray()] == expected
    assert np.diff(found.indptr).tolist() == [len(concept) for concept in expected]
    assert (found.data == 1).all()


@given(tokens)
def test_membership__counts_tokens_where_wanted(pairs: list[tuple[int, int]]) -> None:
    found = membership(*columns(pairs), K, TYPES, tokens=True)
    assert found.toarray().tolist() == [[pairs.count((c, t)) for t in range(TYPES)] for c in range(K)]


def entries_of(dictionary: dict[int, list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source type, target type and rank of each translation."""
    rows = [(s, t, rank) for s, found in dictionary.items() for rank, t in enumerate(found)]
    table = np.array(rows, np.int32).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


@given(tokens, tokens, translations, st.integers(1, 7))
def test_aligned_types__up_to_each_rank_equals_the_loops_of_section_2_2(
    source: list[tuple[int, int]], target: list[tuple[int, int]], dictionary: dict[int, list[int]], ranks: int
) -> None:
    sides = [membership(*columns(side), K, TYPES) for side in (source, target)]
    found = aligned_types(*sides, entries_of(dictionary), ranks).cumsum(axis=0)
    of_source, of_target = (metrics.concepts_of(*columns(side), K) for side in (source, target))
    for rank in range(ranks):
        expected = [[metrics.aligned_types(s, t, dictionary, rank + 1) for t in of_target] for s in of_source]
        assert found[rank].tolist() == expected


@given(tokens, tokens, translations)
def test_aligned_types__several_translations_of_rank_0_count_as_one(
    source: list[tuple[int, int]], target: list[tuple[int, int]], dictionary: dict[int, list[int]]
) -> None:
    sides = [membership(*columns(side), K, TYPES) for side in (source, target)]
    one, other, rank = entries_of(dictionary)
    found = aligned_types(*sides, (one, other, np.zeros_like(rank)), 1)
    assert found.tolist() == aligned_types(*sides, (one, other, rank), 9).sum(axis=0, keepdims=True).tolist()


def test_aligned_types__ranks_are_told_apart_to_the_500th() -> None:
    sides = [sparse.csr_matrix(np.ones((1, 1))), sparse.csr_matrix(np.eye(500))]
    at = np.arange(500)
    found = aligned_types(*sides, (np.zeros(500, np.int32), at, at), 500)
    assert (found[:, 0] == np.eye(500)).all()
    everything = sparse.csr_matrix(np.ones((1, 500)))
    for first in (0, 7, 498):
        found = aligned_types(sides[0], everything, (np.zeros(500 - first, np.int32), at[first:], at[first:]), 500)
        assert np.flatnonzero(found[:, 0, 0]).tolist() == [first]


def test_aligned_types__hundreds_of_shared_translations_count_as_one_type() -> None:
    for shared in (127, 255, 256, 257, 65536):
        one, other = sparse.csr_matrix(np.ones((1, 1))), sparse.csr_matrix(np.ones((1, shared)))
        entries = np.zeros(shared, np.int32), np.arange(shared), np.zeros(shared, np.int32)
        assert aligned_types(one, other, entries, 1).tolist() == [[[1]]], shared


def test_aligned_types__300_aligned_types_are_300() -> None:
    one, other = sparse.csr_matrix(np.ones((1, 300))), sparse.csr_matrix(np.ones((1, 1)))
    zeros = np.zeros(300, np.int32)
    assert aligned_types(one, other, (np.arange(300), zeros, zeros), 1).tolist() == [[[300]]]


def test_aligned_types__more_types_than_a_block() -> None:
    rng = np.random.default_rng(0)
    n, k = 150_000, 7
    labels, types = rng.integers(0, k, (2, n)), rng.permutation(n)
    sides = [membership(of_side, types, k, n) for of_side in labels]
    entries = np.arange(n, dtype=np.int32), rng.integers(0, n, n), rng.integers(0, 3, n)
    found = aligned_types(*sides, entries, 3)
    of_type = [np.empty(n, np.int64), np.empty(n, np.int64)]
    for of_side, concept in zip(labels, of_type, strict=True):
        concept[types] = of_side
    expected = np.zeros((3, k, k), np.int64)
    np.add.at(expected, (entries[2], of_type[0], of_type[1][entries[1]]), 1)
    assert (found == expected).all()


class _OnDevice(np.ndarray):
    """An array that says where it lies, as those of CuPy do."""

    def get(self) -> np.ndarray:
        return np.asarray(self)


class _Device:
    """The functions of an array module that the product uses, on arrays of a device; anything else is an error."""

    int32, float32, float64 = np.int32, np.float32, np.float64

    def __init__(self) -> None:
        for name in ("zeros", "ones", "asarray", "ldexp", "frexp", "maximum"):
            setattr(self, name, self._moved(getattr(np, name)))

    @staticmethod
    def _moved(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            found = function(*arguments, **options)
            return tuple(one.view(_OnDevice) for one in found) if isinstance(found, tuple) else found.view(_OnDevice)

        return call


def test_aligned_types__on_the_arrays_of_another_module_are_the_same() -> None:
    rng = np.random.default_rng(0)
    sides = [membership(rng.integers(0, K, 40), rng.integers(0, TYPES, 40), K, TYPES) for _ in range(2)]
    entries = np.repeat(np.arange(TYPES), 4), rng.integers(0, TYPES, 4 * TYPES), np.tile(np.arange(4), TYPES)
    found = aligned_types(*sides, entries, 4, _Device(), sparse)
    assert type(found) is np.ndarray
    assert (found == aligned_types(*sides, entries, 4)).all()


@given(
    st.lists(st.tuples(st.integers(-1, K - 1), st.integers(0, 8)), max_size=60),
    st.lists(st.integers(0, 2), min_size=9, max_size=9),
)
def test_language_count__equals_the_loops_of_section_2_3(pairs: list[tuple[int, int]], of_type: list[int]) -> None:
    concepts, types = columns(pairs)
    languages = np.array(of_type, np.int64)[types]
    found = language_count(concepts, types, languages, K, 3)
    assert found.tolist() == metrics.language_count(concepts, types, languages, K, 3)


@given(st.integers(0, 10**6), st.integers(0, 1000).map(lambda n: n / 1000), st.integers(0, 10**6))
def test_at_least__equals_exact_fractions(part: int, fraction: float, whole: int) -> None:
    assert bool(at_least(np.int64(part), fraction, np.int64(whole))) == (part >= Fraction(str(fraction)) * whole)


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_at_least__holds_at_the_boundary_for_every_hundredth(tens: int, hundredths: int) -> None:
    whole = 100 * tens
    fraction = min(hundredths, 100) / 100
    part = whole * min(hundredths, 100) // 100
    for rounded in (fraction, 1 - (1 - fraction)):
        assert at_least(np.int64(part), rounded, np.int64(whole))
        assert not at_least(np.int64(part - 1), rounded, np.int64(whole))


def test_at_least__very_large_counts_do_not_overflow() -> None:
    assert at_least(np.int64(9 * 10**9), 1.0, np.int64(9 * 10**9))
    assert not at_least(np.int64(9 * 10**9 - 1), 1.0, np.int64(9 * 10**9))


@given(st.integers(0, 500), st.integers(1, 60))
def test_shard_ranges__hold_every_token_exactly_once(length: int, shard: int) -> None:
    ranges = shard_ranges(length, shard)
    assert [i for a, b in ranges for i in range(a, b)] == list(range(length))
    assert all(a % shard == 0 and 0 < b - a <= shard for a, b in ranges)
