"""Folding, counting and ranking against plain loops."""

import sys
import unicodedata
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine.lexicon import best, count_words, distinct, fold, folded, lexical_table, ranked, totals
from schemas.links import FOLDS
from tests.oracles.lexicon import moses_rows

WORDS = ["Haus", "haus", "HAUS", "é", "e\u0301", "É", "كِتاب", "كتاب", "كـتاب", "ﬁn", "fin", "\u0640", "->"]
rules = st.sets(st.sampled_from(FOLDS))


@st.composite
def linked(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]], list[list[tuple[int, int]]]]:
    """Sentences of two languages, and their links."""
    sentence = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
    source, target, links = [], [], []
    for _ in range(draw(st.integers(1, 4))):
        one, other = draw(sentence), draw(sentence)
        possible = [(i, j) for i in range(len(one)) for j in range(len(other))]
        source.append(one)
        target.append(other)
        links.append(sorted(draw(st.sets(st.sampled_from(possible)))))
    return source, target, links


def counted(
    source: list[list[str]], target: list[list[str]], links: list[list[tuple[int, int]]], rules: Any = ()
) -> xr.Dataset:
    """The dictionary of some sentences."""
    words, forms, starts = [], [], []
    for sentences in (source, target):
        kinds = list(dict.fromkeys(word for words in sentences for word in words))
        words.append(np.array([kinds.index(word) for words in sentences for word in words], np.int32))
        forms.append(kinds)
        starts.append(np.cumsum([0, *map(len, sentences)]))
    pairs = [(i + starts[0][n], j + starts[1][n]) for n, found in enumerate(links) for i, j in found]
    tokens = np.array(pairs, np.int64).reshape(-1, 2).T
    return count_words(
        (words[0], words[1]), (tokens[0], tokens[1]), (forms[0], forms[1]), source="de", target="en", rules=rules
    )


def rows(dictionary: xr.Dataset, *names: str) -> list[tuple[Any, ...]]:
    """Source form, target form and other variables of each entry."""
    forms = [
        dictionary[f"{side}_form"].values[dictionary[f"{side}_type"].values].tolist() for side in ("source", "target")
    ]
    return list(zip(*forms, *(dictionary[name].values.tolist() for name in names), strict=True))


@given(linked())
def test_count_words__equals_the_loops_of_moses_in_both_directions(drawn: Any) -> None:
    source, target, links = drawn
    turned = [sorted((j, i) for i, j in pairs) for pairs in links]
    for one, other, pairs in ((source, target, links), (target, source, turned)):
        expected = {(s, t, n / m, n) for t, s, n, m in moses_rows(one, other, pairs) if "NULL" not in (s, t)}
        found = rows(counted(one, other, pairs), "probability", "count")
        assert set(found) == expected
        assert len(found) == len(expected)


@given(linked(), rules)
def test_count_words__folds_before_it_counts(drawn: Any, chosen: set[Any]) -> None:
    source, target, links = drawn
    sides = [[fold(words, chosen).tolist() for words in sentences] for sentences in (source, target)]
    found, expected = counted(source, target, links, chosen), counted(sides[0], sides[1], links)
    xr.testing.assert_equal(found, expected)
    assert found.attrs["fold"] == [rule for rule in FOLDS if rule in chosen]


def test_lexical_table__a_link_given_twice_counts_twice() -> None:
    words = np.array([0, 1]), np.array([0])
    table = lexical_table(words, (np.array([0, 0]), np.array([0, 0])), (3, 1))
    assert (table.source_type.tolist(), table.count.tolist(), table.total.tolist()) == ([0], [2], [2, 1, 0])


@given(st.text(max_size=8), rules)
def test_fold__twice_changes_nothing_and_words_stay_words(word: str, chosen: set[Any]) -> None:
    once = fold([word], chosen)
    assert fold(once, chosen).tolist() == once.tolist()
    assert bool(once[0]) == bool(word)
    for order in permutations(chosen):
        assert fold([word], order).tolist() == once.tolist()


@pytest.mark.slow
def test_fold__twice_changes_nothing_in_any_character() -> None:
    every = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs")]
    for chosen in (["case"], ["nfc", "arabic", "case"], ["nfkc", "arabic", "case"]):
        once = fold(every, chosen)
        assert [c for c, a, b in zip(every, once, fold(once, chosen), strict=True) if a != b] == []


@pytest.mark.parametrize(
    ("word", "chosen", "expected"),
    [
        ("Straße", ["case"], "straße"),
        ("ΣΑΣ", ["case"], "σας"),
        ("كِتَابٌ", ["arabic"], "كتاب"),
        ("كـتـاب", ["arabic"], "كتاب"),
        ("هٰذا", ["arabic"], "هذا"),
        ("ٱلرَّحۡمَٰنِ", ["arabic"], "ٱلرحمن"),
        ("آية أب إن ى ة", ["arabic"], "آية أب إن ى ة"),
        ("ا\u0653ية", ["arabic"], "ا\u0653ية"),
        ("ا\u0653ية", ["arabic", "nfc"], "آية"),
        ("ـَ", ["arabic"], "ـَ"),
        ("e\u0301", ["nfc"], "é"),
        ("ﬁ", ["nfc"], "ﬁ"),
        ("ﬁ", ["nfkc"], "fi"),
        ("Ａ", ["nfkc", "case"], "a"),
        ("Ａb", [], "Ａb"),
    ],
)
def test_fold__examples(word: str, chosen: list[Any], expected: str) -> None:
    assert fold([word], chosen).tolist() == [expected]


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(linked(), rules)
def test_folded__equals_counting_folded_words_where_every_word_has_a_link(drawn: Any, chosen: set[Any]) -> None:
    source, target, links = drawn
    have = {words[i] for words, pairs in zip(source, links, strict=True) for i, _ in pairs}
    assume(have == {word for words in source for word in words})  # a type without a link is in no dictionary
    found, expected = folded(counted(source, target, links), chosen), counted(source, target, links, chosen)
    xr.testing.assert_equal(found.drop_vars(["place"]), expected.drop_vars(["place"]))
    assert found.attrs == expected.attrs


def test_folded__without_counts_targets_add_up_and_sources_are_averaged() -> None:
    one = np.array([0, 0, 0, 1])
    other = np.array([0, 1, 2, 0])
    plain = ranked(
        (["Haus", "haus"], ["Home", "home", "x"]), one, other, np.array([0.25, 0.25, 0.5, 1.0]), np.zeros(4, int),
        np.arange(4), source="de", target="en",
    )  # fmt: skip
    found = folded(plain, ["case"])
    assert rows(found, "probability", "count", "place") == [("haus", "home", 0.75, 0, 0), ("haus", "x", 0.25, 0, 1)]
    assert found.attrs["fold"] == ["case"]
    assert folded(found, ["nfc"]).attrs["fold"] == ["nfc", "case"]


@given(st.data())
def test_ranked__by_probability_then_count_then_code_point(data: st.DataObject) -> None:
    forms = data.draw(st.permutations(WORDS)), data.draw(st.permutations(WORDS))
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, len(WORDS) - 1)] * 2), unique=True))
    numbers = [data.draw(st.tuples(st.sampled_from([0.1, 0.5]), st.integers(0, 1))) for _ in pairs]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    values = np.array(numbers, float).reshape(-1, 2)
    place = np.array([(table[:at, 0] == source).sum() for at, source in enumerate(table[:, 0])], int)
    found = ranked(
        forms, table[:, 0], table[:, 1], values[:, 0], values[:, 1].astype(int), place, source="a", target="b"
    )
    listed = [(forms[0][s], forms[1][t], p, n) for (s, t), (p, n) in zip(pairs, numbers, strict=True)]
    expected = sorted(listed, key=lambda row: (row[0], -row[2], -row[3], row[1]))
    sources = [row[0] for row in expected]
    ranks = [sources[:at].count(word) for at, word in enumerate(sources)]
    places = [[other for other in listed if other[0] == row[0]].index(row) for row in expected]
    assert rows(found, "probability", "count", "rank", "place") == [
        (*row, rank, place) for row, rank, place in zip(expected, ranks, places, strict=True)
    ]
    assert found.source_form.values.tolist() == sorted(set(sources))
    assert found.target_form.values.tolist() == sorted({row[1] for row in expected})


@given(linked(), st.integers(1, 3))
def test_best__keeps_the_first_ranks_and_their_forms(drawn: Any, n: int) -> None:
    whole = counted(*drawn)
    found = best(whole, n)
    names = ("probability", "count", "rank")
    assert rows(found, *names) == [row for row in rows(whole, *names) if row[-1] < n]
    assert set(found.target_form.values.tolist()) == {row[1] for row in rows(found)}


@given(linked())
def test_totals__are_what_counts_were_divided_by(drawn: Any) -> None:
    source, target, links = drawn
    expected = {s: m for _, s, _, m in moses_rows(source, target, links)}
    whole = counted(source, target, links)
    assert totals(whole).tolist() == [expected[form] for form in whole.source_form.values.tolist()]
    assert not totals(whole.assign(count=whole["count"] * 0)).any()
    assert not totals(whole.assign(probability=whole.probability * 0.97 + 1e-6)).any()


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "ä", "a" * 40]), st.integers(0, 2))), st.integers(1, 5))
def test_distinct__is_a_loop_in_blocks(tokens: list[tuple[str, int]], block: int) -> None:
    words = np.array([word for word, _ in tokens], np.dtypes.StringDType())
    groups = np.array([group for _, group in tokens], np.int8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.lexicon._BLOCK", block)
        alone, together = distinct(words), distinct(words, groups)
    assert alone[0] == list(dict.fromkeys(word for word, _ in tokens))
    assert [alone[0][number] for number in alone[1]] == [word for word, _ in tokens]
    assert together[0] == list(dict.fromkeys((group, word) for word, group in tokens))
    assert [together[0][number] for number in together[1]] == [(group, word) for word, group in tokens]
