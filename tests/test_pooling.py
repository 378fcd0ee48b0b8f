"""Sub-words to words against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.pooling import pool_words, word_spans


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[int | None], list[list[int]]]:
    """Word ids of the sub-words of a sentence, and the places of each word's sub-words."""
    pieces = draw(st.lists(st.integers(0, 4), max_size=12))
    word_ids: list[int | None] = [None] * draw(st.integers(0, 2))
    places = []
    for word, count in enumerate(pieces):
        places.append(list(range(len(word_ids), len(word_ids) + count)))
        word_ids += [word] * count
    return word_ids + [None] * draw(st.integers(0, 2)), places


@given(sentences())
def test_word_spans__first_and_last_place_of_every_word(sentence: tuple[list[int | None], list[list[int]]]) -> None:
    word_ids, places = sentence
    first, last = word_spans(word_ids, len(places))
    assert first.tolist() == [p[0] if p else -1 for p in places]
    assert last.tolist() == [p[-1] if p else -1 for p in places]


@given(sentences(), st.sampled_from(["first", "last", "mean"]))
def test_pool_words__equals_a_loop(sentence: tuple[list[int | None], list[list[int]]], pooling: str) -> None:
    word_ids, places = sentence
    places = [p for p in places if p]
    if not places:
        return
    hidden = np.random.default_rng(0).normal(size=(len(word_ids), 3))
    first, last = (np.array([p[end] for p in places]) for end in (0, -1))
    found = pool_words(hidden, first, last, pooling)
    for row, place in zip(found, places, strict=True):
        vectors = [hidden[p] for p in place]
        expected = {"first": vectors[0], "last": vectors[-1], "mean": sum(vectors) / len(vectors)}[pooling]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_pool_words__a_word_of_one_piece_is_that_piece(pooling: str) -> None:
    hidden = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(pool_words(hidden, np.array([1]), np.array([1]), pooling), hidden[1:2])
