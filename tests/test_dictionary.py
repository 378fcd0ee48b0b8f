"""Dictionaries against Moses' lexical rule by loops."""

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.aligned import count_aligned, matched_words
from engine.dictionary import estimate
from engine.lexicon import fold
from engine.text import span
from schemas.links import FOLDS, LINKS, Fold
from tests.oracles import metrics
from tests.oracles.texts import corpus
from tests.small_concepts import concepts_dataset

sentence = st.lists(st.sampled_from(["b", "a", "A", "é", "e\u0301", "日", "ب", "بـ"]), min_size=1, max_size=7)


def links_dataset(pairs: list[tuple[int, int]], source: str, target: str) -> xr.Dataset:
    """A LINKS dataset."""
    table = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return LINKS.create({"source_token": table[:, 0], "target_token": table[:, 1]}, source=source, target=target)


@st.composite
def linked_texts(draw: st.DrawFn) -> tuple[xr.Dataset, list[tuple[int, int]]]:
    """A text in three languages, and links between the first and the third."""
    lines = draw(st.integers(1, 5))
    text = corpus({language: [draw(sentence) for _ in range(lines)] for language in ("de", "ar", "en")})
    numbers = text.sentence.values
    de, en = (range(span(text, lang, "token").start, span(text, lang, "token").stop) for lang in ("de", "en"))
    possible = [(s, t) for s in de for t in en if numbers[s] == numbers[t]]
    return text, sorted(draw(st.sets(st.sampled_from(possible), max_size=40)))


def rows(dictionary: xr.Dataset) -> list[tuple[str, str, float, int, int]]:
    """Entries as (source form, target form, probability, count, rank)."""
    forms = [
        dictionary[f"{side}_form"].values[dictionary[f"{side}_type"].values].tolist() for side in ("source", "target")
    ]
    names = ("probability", "count", "rank")
    return list(zip(*forms, *(dictionary[name].values.tolist() for name in names), strict=True))


@given(linked_texts())
def test_estimate__equals_moses_rule_in_both_directions(drawn: tuple[xr.Dataset, list[tuple[int, int]]]) -> None:
    text, pairs = drawn
    links = links_dataset(pairs, "de", "en")
    types, forms = text.token_type.values.tolist(), text.form.values.tolist()
    for source, target, found in (("de", "en", pairs), ("en", "de", [(t, s) for s, t in pairs])):
        tokens = span(text, source, "token")
        expected = metrics.lexical_table(found, range(tokens.start, tokens.stop), types, forms)
        dictionary = estimate(text, links, source, target)
        assert rows(dictionary) == [(forms[s], forms[t], p, n, rank) for s, t, p, n, rank in expected]
        assert dictionary.place.values.tolist() == dictionary["rank"].values.tolist()
        assert (dictionary.attrs["source"], dictionary.attrs["target"]) == (source, target)


@given(linked_texts())
def test_estimate__probabilities_and_ranks_are_well_formed(drawn: tuple[xr.Dataset, list[tuple[int, int]]]) -> None:
    text, pairs = drawn
    dictionary = estimate(text, links_dataset(pairs, "de", "en"), "de", "en")
    assert int(dictionary["count"].sum()) == len(pairs)
    for source in set(dictionary.source_type.values.tolist()):
        here = dictionary.source_type.values == source
        assert dictionary["rank"].values[here].tolist() == list(range(here.sum()))
        probability = dictionary.probability.values[here]
        assert (np.diff(probability) <= 0).all()
        assert 0 < probability.sum() <= 1 + 1e-12


def test_estimate__an_unlinked_token_counts_in_the_total() -> None:
    text = corpus({"de": [["haus"], ["haus"], ["haus"], ["haus"]], "en": [["house"], ["house"], ["home"], ["x"]]})
    found = estimate(text, links_dataset([(0, 4), (1, 5), (2, 6)], "de", "en"), "de", "en")
    assert rows(found) == [("haus", "house", 2 / 4, 2, 0), ("haus", "home", 1 / 4, 1, 1)]


def test_estimate__no_links_at_all() -> None:
    text = corpus({"de": [["a"]], "en": [["b"]]})
    assert estimate(text, links_dataset([], "de", "en"), "de", "en").sizes["entry"] == 0


def test_estimate__equal_spellings_of_two_languages_stay_apart() -> None:
    text = corpus({"de": [["die", "in"]], "en": [["in", "die"]]})
    found = rows(estimate(text, links_dataset([(0, 3), (1, 2)], "de", "en"), "de", "en"))
    assert found == [("die", "die", 1.0, 1, 0), ("in", "in", 1.0, 1, 0)]


@given(linked_texts(), st.sets(st.sampled_from(FOLDS)))
def test_estimate__equals_an_estimate_of_the_folded_text(
    drawn: tuple[xr.Dataset, list[tuple[int, int]]], rules: set[Fold]
) -> None:
    text, pairs = drawn
    sentences: dict[str, list[list[str]]] = {}
    for language in text.language.values.tolist():
        tokens, lines = span(text, language, "token"), int(text.sentences.values[0])
        words = fold(text.form.values[text.token_type.values[tokens]], rules)
        sentences[language] = [words[text.sentence.values[tokens] == line].tolist() for line in range(lines)]
    links = links_dataset(pairs, "de", "en")
    found = estimate(text, links, "de", "en", [*rules])
    xr.testing.assert_equal(found, estimate(corpus(sentences), links, "de", "en"))


def test_count_aligned__words_are_folded_as_the_dictionary_is() -> None:
    text = corpus({"de": [["Haus", "HAUS", "Hof"]], "en": [["House", "house", "yard"]]})
    dictionary = estimate(text, links_dataset([(0, 3), (2, 5)], "de", "en"), "de", "en", ["case"])
    labels = np.zeros((1, 3), np.int32)
    sides = [concepts_dataset(labels, words, 1) for words in (["Haus", "HAUS", "Hof"], ["HOUSE", "house", "yard"])]
    found = count_aligned(sides[0], sides[1], labels, labels, dictionary, n_ranks=1)
    assert (found.aligned_types.item(), found.source_types.item(), found.target_types.item()) == (2, 2, 2)
    assert matched_words(["HAUS"], ["House"], dictionary, n_best=1) == [("haus", "house")]
