"""Counts behind the metrics against loops over sets, and comparisons with fractions against exact fractions."""

from fractions import Fraction

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
    assert found.dtype == bool
    expected = metrics.concepts_of(*columns(pairs), K)
    assert [set(np.flatnonzero(row).tolist()) for row in found.toarray()] == expected
    assert np.diff(found.indptr).tolist() == [len(concept) for concept in expected]


@given(tokens, tokens, translations)
def test_aligned_types__equals_the_loops_of_section_2_2(
    source: list[tuple[int, int]], target: list[tuple[int, int]], dictionary: dict[int, list[int]]
) -> None:
    table = np.zeros((TYPES, TYPES), bool)
    for one, others in dictionary.items():
        table[one, others] = True
    found = aligned_types(
        membership(*columns(source), K, TYPES), sparse.csr_array(table), membership(*columns(target), K, TYPES)
    )
    of_source, of_target = (metrics.concepts_of(*columns(side), K) for side in (source, target))
    expected = [[metrics.aligned_types(s, t, dictionary, TYPES) for t in of_target] for s in of_source]
    assert found.tolist() == expected


def test_aligned_types__256_shared_translations_count_as_one_type() -> None:
    # with int8 products 256 would be 0 and 200 would be -56
    for shared in (127, 128, 200, 255, 256, 257, 512, 65536):
        one = sparse.csr_array(np.ones((1, 1), bool))
        found = aligned_types(
            one, sparse.csr_array(np.ones((1, shared), bool)), sparse.csr_array(np.ones((1, shared), bool))
        )
        assert found.tolist() == [[1]], shared


def test_aligned_types__300_aligned_types_are_300() -> None:
    found = aligned_types(
        sparse.csr_array(np.ones((1, 300), bool)),
        sparse.csr_array(np.ones((300, 1), bool)),
        sparse.csr_array(np.ones((1, 1), bool)),
    )
    assert found.tolist() == [[300]]


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
