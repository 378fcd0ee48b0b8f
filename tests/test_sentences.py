"""Words of many scripts, and reading of files."""

import gzip
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sentences import compare_files, read_sentences, words
from schemas.errors import InputError
from tests.small_texts import read, write


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


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a b\nc\n", "a b\nc\n", "same"),
        ("a b\nc", "a b\nc", "same"),
        ("a b\nc\n", "a b\nc\nd\n", "grown"),
        ("a b\nc", "a b\nc\nd", "grown"),
        ("a b\r\nc", "a b\r\nc\r\nd", "grown"),
        ("a b\nc", "a b\nc d", "changed"),  # its last sentence goes on
        ("a b\nc", "a b\nc\rd", "changed"),
        ("a b\nc\n", "a b\nd\n", "changed"),
        ("a b\nc\n", "a x\nc\nd\n", "changed"),
        ("a b\nc\n", "a b\n", "changed"),
        ("a b\nc\n", "", "changed"),
        ("a b\nc\n", None, "gone"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_compare_files__by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str | None, expected: str, packed: bool
) -> None:
    monkeypatch.setattr("engine.sentences._READ", 3)
    files = write(tmp_path, de=before, en="x\ny\n")
    path = Path(f"{files['de']}.gz" if packed else files["de"])
    path.write_bytes(gzip.compress(before.encode()) if packed else before.encode())
    files["de"] = str(path)
    found = read(files)
    assert compare_files(found, files) == {"de": "same", "en": "same"}
    if after is None:
        path.unlink()
    else:
        path.write_bytes(gzip.compress(after.encode(), 1, mtime=7) if packed else after.encode())
    assert compare_files(found, files) == {"de": expected, "en": "same"}


def test_compare_files__damaged(tmp_path: Path) -> None:
    files = write(tmp_path, de="a\n", en="x\n") | {"de": str(tmp_path / "de.txt.gz")}
    Path(files["de"]).write_bytes(gzip.compress(b"a\n"))
    found = read(files)
    Path(files["de"]).write_bytes(gzip.compress(b"a\n")[:-4])
    with pytest.raises(InputError, match=r"de\.txt\.gz: not a whole gzip file"):
        compare_files(found, files)


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
