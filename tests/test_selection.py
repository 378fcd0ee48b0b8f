"""Which words are selected, against plain loops; sizes before and after a text is stored."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import store
from engine.corpus import write_corpus
from engine.selection import (
    linked_tokens,
    long_sentences,
    measure,
    mixed_tokens,
    stored_sizes,
    write_clustered,
    write_selections,
)
from schemas.corpus import CLUSTERED, CORPUS, SELECTION
from schemas.errors import InputError
from schemas.links import LINKS
from schemas.parse import parse
from schemas.selection import Selection
from tests.oracles.texts import corpus, selected, selected_links
from tests.small_study import call
from tests.small_texts import blocks, joined, parallel, write

LANGUAGES = ("de", "ar", "en")


@st.composite
def rules(draw: st.DrawFn) -> Selection:
    least = draw(st.integers(0, 2))
    return Selection(
        min_count=least,
        max_count=draw(st.integers(1, 4)),
        delete_above=draw(st.none() | st.integers(max(least, 1), 6)),
        max_sentence_words=draw(st.none() | st.integers(1, 8)),
        sampling=draw(st.sampled_from(["seeded", "first"])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def expected(texts: dict[str, list[list[str]]], language: str, rule: Selection) -> list[int]:
    """Places of the selected tokens in the text of their language."""
    most = rule.max_sentence_words
    long = {
        i for lines in texts.values() for i, line in enumerate(lines) if most is not None and len(line) > most
    }  # fmt: skip
    return selected(
        texts[language],
        min_count=rule.min_count,
        max_count=rule.max_count,
        delete_above=rule.delete_above,
        first=rule.sampling == "first",
        seed=rule.seed,
        left_out=long,
    )


@given(parallel, rules(), blocks)
def test_measure__equals_what_is_stored(texts: tuple[list[list[str]], ...], rule: Selection, block: int) -> None:
    given_ = dict(zip(LANGUAGES, texts, strict=True))
    given_ = {language: [*lines, lines[0], lines[0][:1]] for language, lines in given_.items()}  # often left
    places = {language: expected(given_, language, rule) for language in LANGUAGES}
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), **joined(given_))
        stores = {language: f"{folder}/{language}.zarr" for language in files}
        write_corpus(f"{folder}/corpus.zarr", files, "spaces", block=block)
        text = store.load(f"{folder}/corpus.zarr", CORPUS)
        if not all(places.values()):
            empty = next(language for language, found in places.items() if not found)
            for attempt in (
                lambda: measure(files, "spaces", rule),
                lambda: write_selections(stores, text, rule, block=block),
            ):
                with pytest.raises(InputError, match=f"leaves no word of language '{empty}'"):
                    attempt()
            return
        sizes = measure(files, "spaces", rule)
        assert write_selections(stores, text, rule, block=block) == {
            language: len(found) for language, found in places.items()
        }
        selections = {language: store.read(path, SELECTION) for language, path in stores.items()}
        assert stored_sizes(text, selections) == sizes
    for number, (language, lines) in enumerate(given_.items()):
        words = [word for line in lines for word in line]
        assert (sizes[language].sentences, sizes[language].tokens) == (len(lines), len(words))
        assert sizes[language].types == len(set(words))
        start = int(text.token_stop.values[number]) - len(words)
        assert selections[language].token_id.values.tolist() == [start + place for place in places[language]]
        assert sizes[language].selected_types == len({words[place] for place in places[language]})


@given(parallel, st.integers(1, 8))
def test_write_selections__what_is_left_is_selected_as_if_it_were_the_whole_text(
    texts: tuple[list[list[str]], ...], most: int
) -> None:
    """As the published scripts do, which drop long sentences of either language from the files first."""
    rule = Selection(min_count=2, max_count=3, sampling="first")
    short = [i for i in range(len(texts[0])) if all(len(lines[i]) <= most for lines in texts)]
    assume(short)
    found: list[list[tuple[int, int]] | str] = []
    for lines, numbers, limit in (
        (texts, list(range(len(texts[0]))), most),
        (tuple([language[i] for i in short] for language in texts), short, None),
    ):
        with tempfile.TemporaryDirectory() as folder:
            files = write(Path(folder), **joined(dict(zip(LANGUAGES, lines, strict=True))))
            write_corpus(f"{folder}/corpus.zarr", files, "spaces")
            text = store.load(f"{folder}/corpus.zarr", CORPUS)
            try:
                write_selections(
                    {"de": f"{folder}/de.zarr"}, text, rule.model_copy(update={"max_sentence_words": limit})
                )
            except InputError:
                found.append("nothing left")
                continue
            at = store.read(f"{folder}/de.zarr", SELECTION).token_id.values
            sentences = [numbers[i] for i in text.sentence.values[at].tolist()]
            found.append(list(zip(sentences, text.position.values[at].tolist(), strict=True)))
    assert found[0] == found[1]


def test_write_selections__frequent_types_of_each_language(tmp_path: Path) -> None:
    text = corpus({"de": [["a", "b", "a"], ["a", "c", "a"]], "en": [["a", "b"], ["b", "b"]]})
    rule = Selection(min_count=2, max_count=3)
    path = str(tmp_path / "de.zarr")
    assert write_selections({"de": path}, text, rule, fingerprint="f") == {"de": 3}
    found = store.read(path, SELECTION)
    assert set(found.token_id.values.tolist()) <= {0, 2, 3, 5}
    assert json.loads(found.attrs["rule"])["max_count"] == 3
    assert (found.attrs["types"], found.attrs["sentences_left_out"], found.attrs["fingerprint"]) == (1, 0, "f")
    write_selections({"en": path}, text, rule)  # in the place of the other
    assert store.read(path, SELECTION).token_id.values.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"min_count": 0, "max_count": 2, "sampling": "first"}, [0, 1, 2, 4]),
        ({"min_count": 0, "delete_above": 3}, [1, 4]),  # "a" is there four times
        ({"min_count": 0, "delete_above": 4}, [0, 1, 2, 3, 4, 5]),
        ({"min_count": 2, "max_sentence_words": 3, "sampling": "first"}, [0, 2, 3, 5]),
        ({"min_count": 0, "max_sentence_words": 2}, []),
        ({"preset": "reference", "counted_by": "type"}, [0, 1, 2, 3, 4, 5]),
        ({"preset": "reference", "counted_by": "type", "max_count": 1}, [0, 1, 4]),
    ],
)
def test_write_selections__by_rule(rule: dict[str, Any], kept: list[int], tmp_path: Path) -> None:
    text = corpus({"de": [["a", "b", "a"], ["a", "c", "a"]], "en": [["x"], ["x"]]})
    path = str(tmp_path / "de.zarr")
    if not kept:
        with pytest.raises(InputError, match="max_sentence_words 2 leaves no word of language 'de'; lower it or raise"):
            write_selections({"de": path}, text, Selection(**rule))
        return
    write_selections({"de": path}, text, Selection(**rule))
    assert store.read(path, SELECTION).token_id.values.tolist() == kept


def test_write_selections__a_long_sentence_of_any_language_is_left_out(tmp_path: Path) -> None:
    text = corpus({"de": [["a"], ["a"], ["b"]], "en": [["x"], ["x", "y", "z"], ["x"]]})
    stores = {language: str(tmp_path / f"{language}.zarr") for language in ("de", "en")}
    write_selections(stores, text, Selection(min_count=0, max_sentence_words=2))
    found = {language: store.read(path, SELECTION) for language, path in stores.items()}
    assert [found[language].token_id.values.tolist() for language in stores] == [[0, 2], [3, 7]]
    assert found["de"].attrs["sentences_left_out"] == 1


def test_write_selections__no_frequent_type(tmp_path: Path) -> None:
    text = corpus({"de": [["a"]], "en": [["b"]]})
    with pytest.raises(InputError, match=r"min_count 10 leaves no word of language 'en'; lower it or add text"):
        write_selections({"en": str(tmp_path / "en.zarr")}, text, Selection())


def test_measure__no_frequent_type(tmp_path: Path) -> None:
    files = write(tmp_path, de="a a\n", en="b c\n")
    with pytest.raises(InputError, match=r"min_count 2 leaves no word of language 'en'; lower it or add text"):
        measure(files, "spaces", Selection(min_count=2))


@pytest.mark.parametrize("texts", [{"de": "a\nb\n", "en": "x\n"}, {"de": "a\n", "en": "x\ny\n"}])
def test_measure__unequal_numbers_of_lines_with_a_limit(texts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="equal numbers of lines"):
        measure(write(tmp_path, **texts), "spaces", Selection(max_sentence_words=5))


def test_selection__presets() -> None:
    assert Selection() == Selection(preset="paper", min_count=10, max_count=20, sampling="seeded")
    reference = {
        "counted_by": "linked_pair",
        "repeat_linked": True,
        "min_count": 0,
        "max_count": 15,
        "delete_above": 10**7,
        "max_sentence_words": 299,
        "sampling": "first",
    }
    assert Selection(preset="reference").rules == Selection(**reference).rules
    assert Selection(preset="reference", max_count=30).rules == Selection(**{**reference, "max_count": 30}).rules


def test_selection__rules_that_leave_nothing() -> None:
    with pytest.raises(InputError, match=r"delete_above 9 is less than min_count 10, .*; lower min_count or raise"):
        parse(Selection, {"delete_above": 9}, "study.yaml")


def linked(lines: list[tuple[list[str], list[str]]], places: list[list[tuple[int, int]]]) -> tuple[Any, Any]:
    """A corpus in German and English, and links between positions of its sentences."""
    text = corpus({"de": [one for one, _ in lines], "en": [other for _, other in lines]})
    start = text.sentence_start.values
    found = [(start[0, i] + s, start[1, i] + t) for i, of in enumerate(places) for s, t in of]
    columns = np.array(found, np.int64).reshape(-1, 2)
    links = LINKS.create({"source_token": columns[:, 0], "target_token": columns[:, 1]}, source="de", target="en")
    return text, links


@st.composite
def aligned_texts(draw: st.DrawFn) -> tuple[list[tuple[list[str], list[str]]], list[list[tuple[int, int]]]]:
    word = st.sampled_from("abc")
    lines, places = [], []
    for _ in range(draw(st.integers(1, 8))):
        line = draw(st.lists(word, min_size=1, max_size=5)), draw(st.lists(word, min_size=1, max_size=5))
        every = [(s, t) for s in range(len(line[0])) for t in range(len(line[1]))]
        lines.append(line)
        places.append(sorted(draw(st.sets(st.sampled_from(every), max_size=8))))
    return lines, places


@given(
    aligned_texts(), st.integers(0, 3), st.integers(1, 3), st.integers(3, 9), st.integers(2, 6), st.booleans(), blocks
)
def test_linked_tokens__are_those_of_the_published_scripts(
    text: tuple[list[tuple[list[str], list[str]]], list[list[tuple[int, int]]]],
    least: int,
    most: int,
    beyond: int,
    limit: int,
    repeat: bool,
    block: int,
) -> None:
    lines, places = text
    stored, links = linked(lines, places)
    rule = Selection(
        counted_by="linked_pair", repeat_linked=repeat, min_count=least, max_count=most, delete_above=beyond,
        max_sentence_words=limit - 1, sampling="first",
    )  # fmt: skip
    sides = [one for one, _ in lines], [other for _, other in lines]
    wanted = selected_links(
        places, sides, min_count=least, max_count=most, delete_above=beyond, max_words=limit
    )  # fmt: skip
    long = long_sentences(stored, rule.max_sentence_words, block=block)
    if not wanted[0]:
        with pytest.raises(InputError, match="leaves no word of the linked pairs of de-en"):
            linked_tokens(stored, links, rule, long, block=block)
        return
    found = linked_tokens(stored, links, rule, long, block=block)
    for language, of_side in zip(("de", "en"), wanted, strict=True):
        tokens = found[language]
        there = list(zip(stored.sentence.values[tokens].tolist(), stored.position.values[tokens].tolist(), strict=True))
        assert there == sorted(of_side if repeat else set(of_side))


@given(aligned_texts(), st.integers(1, 3), st.integers(0, 99))
def test_linked_tokens__seeded_keeps_as_many_links(
    text: tuple[list[tuple[list[str], list[str]]], list[list[tuple[int, int]]]], most: int, seed: int
) -> None:
    stored, links = linked(*text)
    assume(links.sizes["link"])
    rule = Selection(counted_by="linked_pair", repeat_linked=True, min_count=0, max_count=most, seed=seed)
    found, first = (
        linked_tokens(stored, links, rule.model_copy(update={"sampling": sampling})) for sampling in ("seeded", "first")
    )
    for language in ("de", "en"):
        assert len(found[language]) == len(first[language])
        forms = [sorted(stored.token_type.values[of[language]].tolist()) for of in (found, first)]
        assert forms[0] == forms[1]
    assert set(found["de"].tolist()) <= set(links.source_token.values.tolist())


@given(parallel, rules(), blocks)
def test_mixed_tokens__count_a_spelling_in_all_languages(
    texts: tuple[list[list[str]], ...], rule: Selection, block: int
) -> None:
    given_ = dict(zip(LANGUAGES, texts, strict=True))
    stored, names = corpus(given_), ["en", "de"]
    whole = [line for name in names for line in given_[name]]
    long = long_sentences(stored, rule.max_sentence_words, block=block)
    left_out = [] if long is None else np.flatnonzero([*long, *long]).tolist()
    order = list(dict.fromkeys(word for name in names for word in sorted({w for line in given_[name] for w in line})))
    wanted = selected(
        whole, min_count=rule.min_count, max_count=rule.max_count, delete_above=rule.delete_above,
        first=rule.sampling == "first", seed=rule.seed, left_out=left_out, order=order,
    )  # fmt: skip
    if not wanted:
        with pytest.raises(InputError, match=r"leaves no word of the mixed text en\+de"):
            mixed_tokens(stored, names, rule, long, block=block)
        return
    found = mixed_tokens(stored, names, rule, long, block=block)
    lengths = {name: sum(map(len, given_[name])) for name in names}
    starts = {name: int(stored.token_stop.values[LANGUAGES.index(name)]) - lengths[name] for name in names}
    assert wanted == [
        *(found["en"] - starts["en"]).tolist(),
        *(found["de"] - starts["de"] + lengths["en"]).tolist(),
    ]


def test_mixed_tokens__first_takes_shared_spellings_of_the_first_language_alone() -> None:
    """What lowers COLAP in the published scripts, and what the even spread is for."""
    shared = {"de": [["bank", "a"]] * 40, "en": [["bank", "b"]] * 40}
    stored = corpus(shared)
    rule = Selection(min_count=1, max_count=10, sampling="first")
    first = mixed_tokens(stored, ["de", "en"], rule)
    spread = mixed_tokens(stored, ["de", "en"], rule.model_copy(update={"sampling": "seeded"}))
    bank = {found: [int((np.asarray(tokens[lang]) % 2 == 0).sum()) for lang in ("de", "en")]
            for found, tokens in (("first", first), ("spread", spread))}  # fmt: skip
    assert bank == {"first": [10, 0], "spread": [5, 5]}


def test_write_clustered__rows_are_those_of_all_that_is_selected(tmp_path: Path) -> None:
    text = corpus({"de": [["a", "b", "a"], ["a", "c", "a"]], "en": [["x"], ["x"]]})
    names = ("de@de-en", "de@de+en")
    places = {name: str(tmp_path / f"{name}.zarr") for name in names}
    tokens = {names[0]: np.array([1, 1, 4]), names[1]: np.array([0, 4, 5])}
    assert write_clustered(str(tmp_path / "de.zarr"), places, tokens, text, fingerprint="f") == 4
    union = store.read(str(tmp_path / "de.zarr"), SELECTION)
    assert union.token_id.values.tolist() == [0, 1, 4, 5]
    assert union.attrs["types"] == 3
    for name, of in tokens.items():
        found: xr.Dataset = store.read(places[name], CLUSTERED)
        assert found.token_id.values.tolist() == of.tolist()
        assert union.token_id.values[found.row.values].tolist() == of.tolist()
        assert found.attrs["fingerprint"] == "f"


def test_extract__command_selects_by_the_rules(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["die katze", "die katze die", "ein hund", "die ein ein ein ein", "hund katze", "der", "katze hund"]
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n")
    made = tmp_path / "t.zarr"
    options = "--min-count", 2, "--max-count", 2, "--delete-above", 3, "--max-sentence-words", 3, "--sampling", "first"
    assert call(monkeypatch, "extract", bert, tmp_path / "t.txt", "-o", made, *options) == 0
    found = xr.open_zarr(made, consolidated=False, chunks=None)
    kept = [line.split() if len(line.split()) <= 3 else [] for line in lines]
    count = Counter(word for line in kept for word in line)
    expected, seen = [], Counter[str]()
    for number, line in enumerate(kept):
        for word in line:
            seen[word] += 1
            if 2 <= count[word] <= 3 and seen[word] <= 2:
                expected.append((word, number))
    assert list(zip(found.word.values.tolist(), found.sentence.values.tolist(), strict=True)) == expected
    assert {word for word, _ in expected} == {"die", "hund"}
