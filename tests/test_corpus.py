"""Words of many scripts, reading of files, and selections."""

import gzip
import json
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.corpus import changed_files, read_corpus, read_sentences, select, words
from engine.text import sentence_offsets, sentence_words, some_sentences, span
from schemas import study
from schemas.corpus import CORPUS
from schemas.errors import InputError
from tests.oracles.texts import corpus


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("L'été, déjà!", ["L", "'", "été", ",", "déjà", "!"]),
        ("na\u0131\u0308ve", ["na\u0131\u0308ve"]),  # a mark within a word
        ("e\u0301te\u0301", ["été"]),  # composed
        ("q\u0308x", ["q\u0308x"]),  # a letter that has no composed form
        ("مرحبا، كيف الحال؟", ["مرحبا", "،", "كيف", "الحال", "؟"]),
        ("نعم؛ لا", ["نعم", "؛", "لا"]),
        ("كَتَبَ الدَّرْسَ", ["كَتَبَ", "الدَّرْسَ"]),  # vowel signs
        ("في ٢٠٢٤", ["في", "٢٠٢٤"]),
        ("हिन्दी में।", ["हिन्दी", "में", "।"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("שָׁלוֹם!", ["שָׁלוֹם", "!"]),
        ("日本語です。", ["日本語です", "。"]),
        ("«Ça va\u00a0?»", ["«", "Ça", "va", "?", "»"]),
        ("a\u00a0b\u3000c\u2003d", ["a", "b", "c", "d"]),
        ("12,5 %", ["12", ",", "5", "%"]),
        ("snake_case _x", ["snake", "_", "case", "_", "x"]),
        ("!!", ["!", "!"]),
        ("👍🏽 ok", ["👍", "🏽", "ok"]),
        ("", []),
        (" \t\u00a0", []),
    ],
)
def test_words__regex(line: str, expected: list[str]) -> None:
    assert words(line, "regex") == [unicodedata.normalize("NFC", word) for word in expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a b", ["a", "b"]),
        ("  a\t b \r\n", ["a", "b"]),
        ("a\u00a0b\u3000c\u2028d", ["a", "b", "c", "d"]),
        ("e\u0301,", ["é,"]),
        ("l' eau |||", ["l'", "eau", "|||"]),
        ("a\u200bb", ["a\u200bb"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
    ],
)
def test_words__spaces(line: str, expected: list[str]) -> None:
    assert words(line, "spaces") == [unicodedata.normalize("NFC", word) for word in expected]


marked = st.text(
    st.sampled_from([*"aéß7", *"بسك٢", *"हनद", *"שלם", "\u0308", "\u0327", "\u064e", "\u0651", *"ि्ी", "\u05b8"])
)
word = st.tuples(st.sampled_from("aBéبहש日5"), marked).map("".join)
mark = st.sampled_from([*".,;!?'-%«»", *"؟،؛।。", "👍"])


@given(st.lists(st.one_of(word, mark), max_size=8), st.integers(0, 255))
def test_words__regex_finds_what_was_joined(tokens: list[str], spaces: int) -> None:
    tokens = [unicodedata.normalize("NFC", token) for token in tokens]
    line = ""
    for i, token in enumerate(tokens):
        both_words = i and token[0].isalnum() and tokens[i - 1][0].isalnum()
        line += (" " if both_words or spaces >> i & 1 else "") + token
    assert words(line, "regex") == tokens


alphabet = st.sampled_from([*"ab1É,.;'_- \u00a0\u0301\u0308", *"بسَّ؟،", *"हिनद्", *"日。", "\u200b", "\u00df", "👍"])


@given(st.text(alphabet, max_size=30))
def test_words__regex_keeps_every_character_but_white_space(line: str) -> None:
    composed = unicodedata.normalize("NFC", line)
    found = "".join(words(line, "regex"))
    kept = "".join(composed.split())
    assert [c for c in found if unicodedata.category(c)[0] != "M"] == [
        c for c in kept if unicodedata.category(c)[0] != "M"
    ]


@given(st.text(alphabet, max_size=30))
def test_words__are_composed_and_never_hold_white_space(line: str) -> None:
    for rule in ("regex", "spaces"):
        for word in words(line, rule):
            assert word
            assert not any(c.isspace() for c in word)
            assert unicodedata.is_normalized("NFC", word)


def write(folder: Path, **texts: str) -> dict[str, str]:
    """Files of a parallel text."""
    files = {}
    for language, text in texts.items():
        files[language] = str(folder / f"{language}.txt")
        Path(files[language]).write_bytes(text.encode())
    return files


sentence = st.lists(st.text("abcéبह日", min_size=1, max_size=3), min_size=1, max_size=6)


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(sentence, min_size=n, max_size=n)] * 3)))
def test_read_corpus__round_trip(texts: tuple[list[list[str]], ...]) -> None:
    given_ = dict(zip(("de", "ar", "en"), texts, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        joined = {language: "".join(" ".join(line) + "\n" for line in lines) for language, lines in given_.items()}
        found = read_corpus(write(Path(folder), **joined), "spaces")
    for language, lines in given_.items():
        assert sentence_words(found, language) == lines
        offsets = sentence_offsets(found, language)
        assert np.diff(offsets).tolist() == [len(line) for line in lines]
        assert (offsets[0], offsets[-1]) == (span(found, language, "token").start, span(found, language, "token").stop)
        every_other = np.arange(0, len(lines), 2)
        assert some_sentences(found, language, every_other) == lines[::2]
    xr.testing.assert_equal(found, corpus(given_))
    CORPUS.validate(found)


def test_read_corpus__from_files(tmp_path: Path) -> None:
    files = write(tmp_path, de="Das Haus.\nDer Hund\n", en="\ufeffThe house.\r\nThe dog")
    found = read_corpus(files, "regex")
    assert sentence_words(found, "de") == [["Das", "Haus", "."], ["Der", "Hund"]]
    assert sentence_words(found, "en") == [["The", "house", "."], ["The", "dog"]]
    assert found.position.values.tolist() == [0, 1, 2, 0, 1] * 2
    assert found.form.values.tolist() == [".", "Das", "Der", "Haus", "Hund", ".", "The", "dog", "house"]


def test_read_corpus__gzip(tmp_path: Path) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    packed = str(tmp_path / "de.txt.gz")
    Path(packed).write_bytes(gzip.compress(Path(files["de"]).read_bytes()))
    xr.testing.assert_equal(read_corpus(files | {"de": packed}, "spaces"), read_corpus(files, "spaces"))


def test_changed_files__by_content(tmp_path: Path) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    found = read_corpus(files, "spaces")
    assert changed_files(found, files) == []
    write(tmp_path, de="kein Haus\n")
    assert changed_files(found, files) == [files["de"]]
    Path(files["de"]).unlink()
    assert changed_files(found, files) == []


def test_read_corpus__unequal_numbers_of_lines(tmp_path: Path) -> None:
    files = write(tmp_path, de="a\nb\n", en="x\n")
    with pytest.raises(InputError, match=r"equal numbers of lines, found .*de\.txt: 2, .*en\.txt: 1; line i of every"):
        read_corpus(files, "spaces")


def test_read_corpus__no_lines(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"en\.txt: the file is empty"):
        read_corpus(write(tmp_path, de="a\n", en=""), "spaces")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", r"x\.txt, line 2: empty sentence; .*remove line 2"),
        (b"a\n \xc2\xa0\n", r"x\.txt, line 2: empty sentence"),
        (b"a\nb \xff c\n", r"x\.txt, line 2: byte 0xff at column 2 is not UTF-8; convert the file"),
        (b"\xef\xbb\xbfab\xe9\n", r"x\.txt, line 1: byte 0xe9 .*not UTF-8"),
        ("a\n".encode("utf-16"), r"x\.txt, line 1: byte 0xff .*not UTF-8"),
    ],
)
def test_read_sentences__bad_text_names_file_line_and_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_sentences(str(path), "spaces"))


def test_read_sentences__no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        list(read_sentences(str(tmp_path / "none.txt"), "spaces"))


PACKED = gzip.compress(("line of words\n" * 3000).encode(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip at all\n",
        PACKED[:-20],
        PACKED[:-8] + b"\0" * 8,
        PACKED[:20] + b"\xff" * 20 + PACKED[40:],
    ],
    ids=["not gzip", "cut off", "wrong checksum", "damaged inside"],
)
def test_read_sentences__damaged_gzip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.txt\.gz: not a whole gzip file .*copy it again"):
        list(read_sentences(str(path), "spaces"))


def test_select__frequent_types_of_one_language() -> None:
    text = corpus({"de": [["a", "b", "a"], ["a", "c", "a"]], "en": [["a", "b"], ["b", "b"]]})
    found = select(text, "de", study.Selection(min_count=2, max_count=3))
    tokens = found.token_id.values
    assert len(tokens) == 3
    assert set(tokens.tolist()) <= {0, 2, 3, 5}
    assert select(text, "en", study.Selection(min_count=2, max_count=3)).token_id.values.tolist() == [7, 8, 9]
    assert json.loads(found.attrs["rule"])["max_count"] == 3


def test_select__no_frequent_type() -> None:
    text = corpus({"de": [["a"]], "en": [["b"]]})
    with pytest.raises(InputError, match=r"min_count 10 leaves no word of language 'en'; lower it or add text"):
        select(text, "en", study.Selection())
