"""Word links of a small real text."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import jobs.demo
from engine import store
from engine.corpus import write_corpus
from engine.dictionary import estimate
from engine.links import link
from engine.text import span
from schemas import study
from schemas.corpus import CORPUS
from tests.oracles.texts import corpus

DEMO = Path(jobs.demo.__file__).parent
HEURISTICS = ("intersection", "grow-diag", "grow-diag-final", "grow-diag-final-and", "union")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The demo text in German, Arabic and English."""
    path = str(tmp_path_factory.mktemp("demo") / "corpus.zarr")
    write_corpus(path, {language: str(DEMO / f"{language}.txt") for language in ("de", "ar", "en")}, "regex")
    return store.read(path, CORPUS)


@pytest.fixture(scope="module")
def german(demo: xr.Dataset) -> dict[str, xr.Dataset]:
    """Links German-English by symmetrisation."""
    return {name: link(demo, "de", "en", study.Links(symmetrise=name)) for name in HEURISTICS}


def pairs(links: xr.Dataset) -> set[tuple[int, int]]:
    """Links as a set."""
    return set(zip(links.source_token.values.tolist(), links.target_token.values.tolist(), strict=True))


@pytest.mark.parametrize("name", HEURISTICS)
def test_link__sorted_in_range_and_within_sentences(demo: xr.Dataset, german: dict[str, xr.Dataset], name: str) -> None:
    found = german[name]
    ordered = list(zip(found.source_token.values.tolist(), found.target_token.values.tolist(), strict=True))
    assert all(one < other for one, other in pairwise(ordered))
    for side, language in (("source_token", "de"), ("target_token", "en")):
        tokens = span(demo, language, "token")
        assert tokens.start <= found[side].min()
        assert found[side].max() < tokens.stop
    sentence = demo.sentence.values
    np.testing.assert_array_equal(sentence[found.source_token.values], sentence[found.target_token.values])


def test_link__symmetrisations_are_nested(german: dict[str, xr.Dataset]) -> None:
    by = {name: pairs(found) for name, found in german.items()}
    assert by["intersection"] < by["grow-diag"] < by["grow-diag-final-and"] <= by["grow-diag-final"] <= by["union"]
    assert by["grow-diag-final-and"] < by["union"]


@pytest.mark.parametrize(
    "settings", [{}, {"aligner": "hmm", "iterations": 2}, {"symmetrise": "intersection", "iterations": 1}]
)
def test_link__is_deterministic(demo: xr.Dataset, settings: dict[str, Any]) -> None:
    wanted = study.Links(**settings)
    some = corpus({lang: sentences(demo, lang)[:80] for lang in ("de", "en")})
    xr.testing.assert_identical(link(some, "de", "en", wanted), link(some, "de", "en", wanted))


def sentences(text: xr.Dataset, language: str) -> list[list[str]]:
    """Sentences of a language as lists of words, by a loop."""
    found: list[list[str]] = [[] for _ in range(int(text.sentences[0]))]
    forms, types, numbers = text.form.values, text.token_type.values, text.sentence.values
    number = text.language.values.tolist().index(language)
    for token in np.flatnonzero(text.token_language.values == number):
        found[numbers[token]].append(str(forms[types[token]]))
    return found


@pytest.mark.parametrize(
    ("source", "target", "known"),
    [
        ("de", "en", {"Mutter": "mother", "Küche": "kitchen", "und": "and", "ist": "is", "nicht": "not", ".": "."}),
        ("ar", "en", {"لأن": "because", "لكن": "but", "ليلى": "Leila", "،": ","}),
        ("ar", "en", {"؟": "?"}),
    ],
)
def test_link__known_translations_come_first(
    demo: xr.Dataset, german: dict[str, xr.Dataset], source: str, target: str, known: dict[str, str]
) -> None:
    links = german["grow-diag-final-and"] if source == "de" else link(demo, source, target, study.Links())
    dictionary = estimate(demo, links, source, target)
    best = dictionary.isel(entry=dictionary["rank"].values == 0)
    source_form, target_form = dictionary.source_form.values, dictionary.target_form.values
    found = dict(zip(source_form[best.source_type.values], target_form[best.target_type.values], strict=True))
    assert {word: found.get(word) for word in known} == known


def test_link__words_that_the_aligner_reserves_are_ordinary_words() -> None:
    reserved = ["NULL", "UNKNOWN_WORD", "<UNUSED_WORD>"]
    plain = ["x", "y", "z"]
    lines = [["a", "n"], ["n", "b"], ["b"], ["a"], ["a", "b", "n"]] * 6
    both = []
    for words in (reserved, plain):
        text = [[words[0] if w == "n" else w for w in line] + [words[1], words[2]] for line in lines]
        both.append(pairs(link(corpus({"de": text, "en": text}), "de", "en", study.Links())))
    assert both[0] == both[1]


def test_link__sentences_of_one_word() -> None:
    found = link(corpus({"de": [["a"], ["b"]] * 5, "en": [["x"], ["y"]] * 5}), "de", "en", study.Links())
    assert pairs(found) == {(i, 10 + i) for i in range(10)}


def test_link__batches_of_sentences_join_without_gaps() -> None:
    lines = 2100  # three batches
    found = link(corpus({"de": [["a"]] * lines, "en": [["x"]] * lines}), "de", "en", study.Links(iterations=1))
    assert pairs(found) == {(i, lines + i) for i in range(lines)}


def test_link__sentences_beyond_the_aligner_are_left_out_and_counted() -> None:
    words = [f"w{i}" for i in range(1500)]
    lines = [words, *[[w] for w in words[:200]]]
    found = link(corpus({"de": lines, "en": lines}), "de", "en", study.Links())
    assert found.attrs["sentences_too_long"] == 1
    assert min(source for source, _ in pairs(found)) >= 1500
