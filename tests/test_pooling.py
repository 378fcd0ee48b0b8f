"""Sub-words to words against plain loops."""

from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.pooling import word_spans


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
