"""Sentences of a stored corpus against plain lists, and how little is read for them."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine import store, text
from engine.corpus import write_corpus
from engine.text import gather, sentence_offsets, sentences_with, some_sentences, span, vocabulary
from schemas.corpus import CORPUS
from schemas.errors import StoreError

Lines = list[list[str]]

sentence = st.lists(st.text("abcéبह日", min_size=1, max_size=3), min_size=1, max_size=6)
parallel = st.integers(1, 6).flatmap(lambda n: st.tuples(*[st.lists(sentence, min_size=n, max_size=n)] * 2))


def spelled(corpus: xr.Dataset, language: str, types: list[int]) -> list[str]:
    """Spelling of some types of a language."""
    found: list[str] = vocabulary(corpus, language).forms(np.array(types)).tolist()
    return found


def stored(folder: str | Path, texts: dict[str, Lines], block: int = 8) -> xr.Dataset:
    """A lazily opened corpus."""
    files = {}
    for language, lines in texts.items():
        files[language] = f"{folder}/{language}.txt"
        Path(files[language]).write_text("".join(" ".join(line) + "\n" for line in lines))
    write_corpus(f"{folder}/corpus.zarr", files, "spaces", block=block)
    return store.load(f"{folder}/corpus.zarr", CORPUS)


@given(parallel, st.integers(3, 40), st.integers(1, 40), st.data())
def test_sentences_with__any_blocks_equal_plain_lists(
    texts: tuple[Lines, ...], block: int, size: int, data: st.DataObject
) -> None:
    given_ = dict(zip(("de", "ar"), texts, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        corpus = stored(folder, given_, block)
        for language, lines in given_.items():
            places = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
            start = span(corpus, language, "token").start
            assert span(corpus, language, "token").stop == start + len(places)
            wanted = sorted(data.draw(st.sets(st.integers(0, len(places) - 1))))
            numbers, words, positions = sentences_with(corpus, language, start + np.array(wanted, np.int64), size)
            expected: dict[int, list[int]] = {}
            for place in wanted:
                expected.setdefault(places[place][0], []).append(places[place][1])
            assert numbers.tolist() == list(expected)
            assert words == [lines[i] for i in expected]
            assert [at.tolist() for at in positions] == list(expected.values())
            assert some_sentences(corpus, language, np.arange(0, len(lines), 2), size) == lines[::2]
            assert np.diff(sentence_offsets(corpus, language)).tolist() == [len(line) for line in lines]


@given(st.lists(st.integers(0, 99), max_size=40), st.integers(1, 30))
def test_gather__any_order(rows: list[int], size: int) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (2, 100), dtype=np.int32)
    dataset = xr.Dataset({"one": ("row", values[0]), "two": (("side", "row"), values)})
    np.testing.assert_array_equal(
        gather(dataset, "one", np.array(rows, int), size=size), values[0][np.array(rows, int)], strict=True
    )
    found = gather(dataset, "two", np.array(rows, int), 1, size=size)
    np.testing.assert_array_equal(found, values[1][np.array(rows, int)], strict=True)


def damage(dataset: xr.Dataset, name: str, chunks: Iterable[int]) -> None:
    """Spoil chunks of a one-dimensional variable."""
    for chunk in chunks:
        Path(f"{dataset.encoding['source']}/{name}/c/{chunk}").write_bytes(b"not a chunk")


LINES = [[f"w{i % 7}", f"w{i % 11}", "x"] for i in range(100)]


def test_sentences_with__reads_only_the_chunks_that_it_needs(tmp_path: Path) -> None:
    corpus = stored(tmp_path, {"de": LINES, "en": LINES})
    wanted = np.array([10, 11, 250])  # sentences 3 and 83: tokens 9..12 and 249..252, chunks 1 and 31
    for name in ("token_type", "sentence", "position"):
        damage(corpus, name, set(range(75)) - {1, 31})
    damage(corpus, "token_language", range(75))
    numbers, words, positions = sentences_with(corpus, "de", wanted, 8)
    assert numbers.tolist() == [3, 83]
    assert words == [LINES[3], LINES[83]]
    assert [at.tolist() for at in positions] == [[1, 2], [1]]
    with pytest.raises(StoreError, match=r"corpus\.zarr/sentence cannot be read .* damaged, delete"):
        sentences_with(corpus, "de", np.array([20]), 8)


def test_vocabulary__is_read_once_for_a_corpus(tmp_path: Path) -> None:
    corpus = stored(tmp_path, {"de": [["ein", "Haus"]], "en": [["a", "house"]]})
    assert spelled(corpus, "de", [1, 0, 1]) == ["ein", "Haus", "ein"]
    damage(corpus, "form", [0, 1])
    again = store.load(corpus.encoding["source"], CORPUS)
    assert spelled(again, "de", [0]) == ["Haus"]
    with pytest.raises(StoreError, match=r"corpus\.zarr/form cannot be read"):
        spelled(again, "en", [2])
    other = stored(tmp_path, {"de": [["ein", "Hut"]], "en": [["a", "hat"]]})  # at the same place
    assert spelled(other, "de", [0]) == ["Hut"]
    assert text._vocabulary.cache_info().maxsize == 4


def test_vocabulary__of_datasets_in_memory_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder, word in (("a", "Haus"), ("b", "Hut")):
        corpus = stored(tmp_path / folder, {"de": [[word]], "en": [["a"]]}).load()
        corpus.encoding.clear()
        corpus.attrs.clear()
        assert spelled(corpus, "de", [0]) == [word]
