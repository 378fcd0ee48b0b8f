"""Agreement of links with gold links: equal to plain loops over sentences."""

from collections.abc import Sequence
from functools import reduce
from operator import add

from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.agreement import Agreement, agreement

Link = tuple[int, int]
links = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)))


def of_loops(sentences: Sequence[tuple[set[Link], set[Link], set[Link]]]) -> tuple[float | None, ...]:
    """Precision, recall and alignment error rate of all sentences together, link by link; None where undefined."""
    in_sure = in_possible = n_links = n_sure = 0
    for found, sure, possible in sentences:
        for link in found:
            n_links += 1
            in_sure += link in sure
            in_possible += link in sure or link in possible
        for _ in sure:
            n_sure += 1
    return (
        in_possible / n_links if n_links else None,
        in_sure / n_sure if n_sure else None,
        1 - (in_sure + in_possible) / (n_links + n_sure) if n_links + n_sure else None,
    )


@given(st.lists(st.tuples(links, links, links), max_size=4))
def test_agreement__equals_loops_and_adds_up(sentences: list[tuple[set[Link], set[Link], set[Link]]]) -> None:
    total = reduce(add, (agreement(*sentence) for sentence in sentences), Agreement())
    found = total.precision, total.recall, total.error_rate
    assert tuple(None if value != value else value for value in found) == of_loops(sentences)


def test_agreement__gold_itself_has_no_error() -> None:
    sure, possible = {(0, 0), (1, 1)}, {(2, 2)}
    assert agreement(sure, sure, possible).error_rate == 0
    assert agreement(sure | possible, sure, possible).error_rate == 0  # a possible link is neither asked for nor wrong
    assert agreement({(5, 5)}, sure, possible).error_rate == 1
