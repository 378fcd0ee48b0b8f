"""Word links of a small real text."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import jobs.demo
from engine import store
from engine.corpus import write_corpus
from engine.dictionary import estimate
from engine.links import COST, Linker, link, memory_needed, sample, sample_size, train
from engine.text import span
from schemas import study
from schemas.corpus import CORPUS
from tests.oracles.texts import corpus

DEMO = Path(jobs.demo.__file__).parent
HEURISTICS = ("intersection", "grow-diag", "grow-diag-final", "grow-diag-final-and", "union", "forward", "reverse")
ALIGNERS: dict[str, dict[str, Any]] = {
    "fast_align": {},
    "hmm": {"iterations": 2},
    "ibm4": {"iterations": 1},
    "eflomal": {"iterations": 8},
}
"""Settings with which each aligner is quick."""


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
    assert by["forward"] & by["reverse"] == by["intersection"]
    assert by["forward"] | by["reverse"] == by["union"]


def test_link__one_direction_gives_each_word_one_link(german: dict[str, xr.Dataset]) -> None:
    forward, reverse = german["forward"], german["reverse"]
    assert len(set(forward.target_token.values.tolist())) == forward.sizes["link"]
    assert len(set(reverse.source_token.values.tolist())) == reverse.sizes["link"]


def test_link__reverse_is_forward_of_the_other_direction(demo: xr.Dataset, german: dict[str, xr.Dataset]) -> None:
    other = link(demo, "en", "de", study.Links(symmetrise="forward"))
    assert {(s, t) for t, s in pairs(other)} == pairs(german["reverse"])


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_link__is_deterministic(demo: xr.Dataset, aligner: str) -> None:
    wanted = study.Links(aligner=aligner, **ALIGNERS[aligner])
    some = corpus({lang: sentences(demo, lang)[:40] for lang in ("de", "en")})
    once = link(some, "de", "en", wanted)
    assert once.sizes["link"] > 0
    with threadpool_limits(limits=1):
        xr.testing.assert_identical(once, link(some, "de", "en", wanted))


def test_link__seed_decides_eflomal_alone(demo: xr.Dataset) -> None:
    some = corpus({lang: sentences(demo, lang)[:40] for lang in ("de", "en")})
    for aligner, differs in (("eflomal", True), ("fast_align", False)):
        found = [
            pairs(link(some, "de", "en", study.Links(aligner=aligner, seed=seed, iterations=2))) for seed in range(2)
        ]
        assert (found[0] != found[1]) == differs


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


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_link__words_that_the_aligner_reserves_are_ordinary_words(aligner: str) -> None:
    reserved = ["NULL", "UNKNOWN_WORD", "<UNUSED_WORD>"]
    plain = ["x", "y", "z"]
    lines = [["a", "n"], ["n", "b"], ["b"], ["a"], ["a", "b", "n"]] * 6
    both = []
    for words in (reserved, plain):
        text = [[words[0] if w == "n" else w for w in line] + [words[1], words[2]] for line in lines]
        settings = study.Links(aligner=aligner, **ALIGNERS[aligner])
        both.append(pairs(link(corpus({"de": text, "en": text}), "de", "en", settings)))
    assert both[0] == both[1]


def test_link__sentences_of_one_word() -> None:
    found = link(corpus({"de": [["a"], ["b"]] * 5, "en": [["x"], ["y"]] * 5}), "de", "en", study.Links())
    assert pairs(found) == {(i, 10 + i) for i in range(10)}


def test_link__batches_of_sentences_join_without_gaps() -> None:
    lines = 2100  # three batches
    found = link(corpus({"de": [["a"]] * lines, "en": [["x"]] * lines}), "de", "en", study.Links(iterations=1))
    assert pairs(found) == {(i, lines + i) for i in range(lines)}


@pytest.mark.parametrize(("aligner", "longest"), [("fast_align", 1024), ("ibm4", 200)])
def test_link__sentences_beyond_the_aligner_are_left_out_and_counted(aligner: str, longest: int) -> None:
    words = [f"w{i}" for i in range(longest + 1)]
    lines = [words, *[[w] for w in words[:150]]]
    found = link(corpus({"de": lines, "en": lines}), "de", "en", study.Links(aligner=aligner, iterations=2))
    assert found.attrs["sentences_too_long"] == 1
    assert {source for source, _ in pairs(found)} == set(range(longest + 1, longest + 151))


def test_link__a_pair_beyond_memory_is_trained_on_a_sample_and_linked_whole(
    demo: xr.Dataset, german: dict[str, xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.links._LEAST", 10)
    whole = german["grow-diag-final-and"]
    assert whole.attrs["trained_on"] == int(demo.sentences[0])
    tokens = sum(span(demo, lang, "token").stop - span(demo, lang, "token").start for lang in ("de", "en"))
    memory = memory_needed(int(demo.sentences[0]), tokens, 300, study.Links())
    found = link(demo, "de", "en", study.Links(), memory=memory)
    assert found.attrs["trained_on"] == sample_size(int(demo.sentences[0]), tokens, study.Links(), memory) == 300
    linked = set(demo.sentence.values[found.source_token.values].tolist())
    assert len(linked) > 0.99 * int(demo.sentences[0])
    lines = [sentences(demo, lang) for lang in ("de", "en")]
    linker = train(((lines[0][i], lines[1][i]) for i in sample(len(lines[0]), 300)), study.Links())
    starts = [span(demo, lang, "token").start for lang in ("de", "en")]
    assert pairs(found) == _one_by_one(linker, lines, starts)


def _one_by_one(linker: Linker, lines: list[list[list[str]]], starts: list[int]) -> set[tuple[int, int]]:
    """Links of sentences that are linked each on its own."""
    found, (source, target) = set(), starts
    for one, other in zip(*lines, strict=True):
        for i, j in next(iter(linker.links([(one, other)]))).tolist():
            found.add((source + i, target + j))
        source, target = source + len(one), target + len(other)
    return found


@given(st.integers(1, 500), st.integers(1, 500))
def test_sample__has_the_size_and_is_evenly_spread(sentences_: int, size: int) -> None:
    size = min(size, sentences_)
    found = sample(sentences_, size)
    assert len(set(found.tolist())) == size
    assert found.max() < sentences_
    gaps = np.diff(np.concatenate([[-1], found]))
    assert gaps.max() - gaps.min() <= 1


@given(st.sampled_from(sorted(COST)), st.integers(1, 10**8), st.integers(2, 300), st.integers(0, 2**36))
def test_sample_size__keeps_within_memory_above_the_least(aligner: str, lines: int, length: int, memory: int) -> None:
    settings, tokens = study.Links(aligner=aligner), lines * length
    size = sample_size(lines, tokens, settings, memory)
    assert min(lines, 1000) <= size <= lines
    if size > 1000:
        assert memory_needed(lines, tokens, size, settings) <= memory
    if size < lines:
        assert memory_needed(lines, tokens, size + 1, settings) > memory
    assert sample_size(lines, tokens, settings, None) == lines
