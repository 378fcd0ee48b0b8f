"""Words of many scripts, reading of files, and selections."""

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine import store
from engine.corpus import (
    compare_files,
    measure,
    read_sentences,
    stored_sizes,
    words,
    write_corpus,
    write_selection,
)
from engine.text import some_sentences
from schemas import study
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError
from tests.oracles.texts import corpus, selected


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


def read(files: dict[str, str], rule: str = "spaces", folder: Path | None = None, **options: Any) -> xr.Dataset:
    """Write the corpus beside the first file, unless a folder is given, and load it."""
    path = str((folder or Path(next(iter(files.values()))).parent) / "corpus.zarr")
    write_corpus(path, files, rule, **options)
    return store.read(path, CORPUS)


sentence = st.lists(st.text("abcéبह日", min_size=1, max_size=3), min_size=1, max_size=6)
parallel = st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(sentence, min_size=n, max_size=n)] * 3))
blocks = st.integers(3, 50)
rules = st.builds(
    study.Selection, min_count=st.integers(1, 2), max_count=st.integers(1, 4), seed=st.integers(0, 2**32 - 1)
)


def joined(texts: dict[str, list[list[str]]]) -> dict[str, str]:
    return {language: "".join(" ".join(line) + "\n" for line in lines) for language, lines in texts.items()}


@given(parallel, blocks)
def test_write_corpus__any_blocks_equal_a_plain_reading(texts: tuple[list[list[str]], ...], block: int) -> None:
    given_ = dict(zip(("de", "ar", "en"), texts, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        found = read(write(Path(folder), **joined(given_)), block=block)
    xr.testing.assert_equal(found, corpus(given_))
    for v in CORPUS.variables:
        assert found[v.name].dims == v.dims
        assert found[v.name].attrs["long_name"] == v.meaning


@given(parallel, rules, blocks)
def test_measure__equals_what_is_stored(texts: tuple[list[list[str]], ...], rule: study.Selection, block: int) -> None:
    given_ = dict(zip(("de", "ar", "en"), texts, strict=True))
    given_ = {language: [lines[0] * 2, *lines[1:]] for language, lines in given_.items()}  # something is frequent
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), **joined(given_))
        expected = measure(files, "spaces", rule)
        write_corpus(f"{folder}/corpus.zarr", files, "spaces", block=block)
        text = store.load(f"{folder}/corpus.zarr", CORPUS)
        selections = {}
        for language in files:
            write_selection(f"{folder}/{language}.zarr", text, language, rule, block=block)
            selections[language] = store.read(f"{folder}/{language}.zarr", SELECTION)
        assert stored_sizes(text, selections) == expected
    for language, lines in given_.items():
        assert expected[language].sentences == len(lines)
        assert expected[language].tokens == sum(map(len, lines))
        assert expected[language].types == len({word for line in lines for word in line})
        types = corpus({language: lines}).token_type.values
        places = selected(types.tolist(), rule.min_count, rule.max_count, rule.seed)
        start = text.token_stop.values[list(files).index(language)] - len(types)
        assert selections[language].token_id.values.tolist() == [start + place for place in places]
        assert expected[language].selected_types == len(set(types[places].tolist()))


def test_write_corpus__from_files(tmp_path: Path) -> None:
    files = write(tmp_path, de="Das Haus.\nDer Hund\n", en="\ufeffThe house.\r\nThe dog")
    found = read(files, "regex", fingerprint="f")
    assert some_sentences(found, "de", np.arange(2)) == [["Das", "Haus", "."], ["Der", "Hund"]]
    assert some_sentences(found, "en", np.arange(2)) == [["The", "house", "."], ["The", "dog"]]
    assert found.position.values.tolist() == [0, 1, 2, 0, 1] * 2
    assert found.form.values.tolist() == [".", "Das", "Der", "Haus", "Hund", ".", "The", "dog", "house"]
    assert (found.attrs["words"], found.attrs["fingerprint"]) == ("regex", "f")
    contents = {language: Path(path).read_bytes() for language, path in files.items()}
    assert json.loads(found.attrs["sha256"]) == {
        language: hashlib.sha256(content).hexdigest() for language, content in contents.items()
    }
    assert json.loads(found.attrs["bytes"]) == {language: len(content) for language, content in contents.items()}


def test_write_corpus__chunks_are_small_and_guarded(tmp_path: Path) -> None:
    found = read(write(tmp_path, de="ein Haus\n", en="a house\n"))
    for v in CORPUS.variables:
        assert found[v.name].encoding["compressors"][0].to_dict()["configuration"]["checksum"], v.name
        if v.dims != ("language",):
            assert 2**16 <= found[v.name].encoding["chunks"][-1] <= 2**20, v.name
    write_selection(str(tmp_path / "de.zarr"), found, "de", study.Selection(min_count=1))
    token_id = store.load(str(tmp_path / "de.zarr"), SELECTION).token_id
    assert token_id.encoding["compressors"][0].to_dict()["configuration"]["checksum"]
    assert 2**16 <= token_id.encoding["chunks"][0] <= 2**20


def test_write_corpus__gzip(tmp_path: Path) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    packed = str(tmp_path / "de.txt.gz")
    Path(packed).write_bytes(gzip.compress(Path(files["de"]).read_bytes()))
    xr.testing.assert_identical(read(files | {"de": packed}), read(files))


def test_write_corpus__reads_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    opened: list[str] = []
    open_ = fsspec.open
    monkeypatch.setattr("fsspec.open", lambda path, mode: (opened.append(path), open_(path, mode))[1])
    read(files)
    assert opened == list(files.values())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["extend", "flush", "replace", "describe"])
def test_write_corpus__again_after_it_was_killed(tmp_path: Path, step: str) -> None:
    long = {"de": [["a", "b"], ["c"], ["d", "e", "f"]] * 5, "en": [["v"], ["w", "x"], ["y"]] * 5}
    short = {"de": [["b", "a"]], "en": [["y"]]}
    path = str(tmp_path / "corpus.zarr")
    calls = 0

    def dying(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 or step == "describe":
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"engine.store.{step}" if step == "describe" else f"engine.store.Growing.{step}", dying)
        with pytest.raises(Killed):
            write_corpus(path, write(tmp_path, **joined(long)), "spaces", block=4)
    assert not Path(path).exists()
    xr.testing.assert_equal(read(write(tmp_path, **joined(short)), block=4), corpus(short))


PEAK = """
import resource, sys
import numpy as np
from engine import store, text
from engine.corpus import measure, study, write_corpus, write_selection
from schemas.corpus import CORPUS
files = {language: f"{sys.argv[1]}/text.txt" for language in ("de", "en")}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measure(files, "spaces", study.Selection())
write_corpus(f"{sys.argv[1]}/corpus.zarr", files, "spaces", block=2**15)
corpus = store.load(f"{sys.argv[1]}/corpus.zarr", CORPUS)
write_selection(f"{sys.argv[1]}/de.zarr", corpus, "de", study.Selection(), block=2**15)
tokens = text.span(corpus, "en", "token")
text.sentences_with(corpus, "en", np.linspace(tokens.start, tokens.stop - 1, 1000).astype(int), 2**15)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, tokens.stop)
"""


def test_write_corpus__memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    found = []
    for times in (1, 10):
        lines = (f"w{i % 997} w{i % 31} w{i % 7} w{i % 89} w{i % 11}\n" for i in range(20_000))
        (tmp_path / "text.txt").write_text("".join(lines) * times)
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", PEAK, str(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        found.append([int(word) for word in done.stdout.split()])
    (small, tokens), (large, more) = found
    assert more == 10 * tokens
    assert (large - small) * 1024 < 4 * (more - tokens), "less than the numbers of the types alone"


def test_write_corpus__unequal_numbers_of_lines(tmp_path: Path) -> None:
    for texts, found in (
        ({"de": "a\nb\n", "en": "x\n"}, "2, .*en.txt: 1"),
        ({"de": "a\n", "en": "x\ny\n"}, "1, .*: 2"),
    ):
        files = write(tmp_path, **texts)
        for attempt in (read, lambda files: measure(files, "spaces", study.Selection())):
            with pytest.raises(InputError, match=rf"equal numbers of lines, found .*de\.txt: {found}; line i of every"):
                attempt(files)
        assert not (tmp_path / "corpus.zarr").exists()


def test_write_corpus__no_lines(tmp_path: Path) -> None:
    files = write(tmp_path, de="a\n", en="")
    for attempt in (read, lambda files: measure(files, "spaces", study.Selection())):
        with pytest.raises(InputError, match=r"en\.txt: the file is empty; expected one sentence a line"):
            attempt(files)
    assert not (tmp_path / "corpus.zarr").exists()


def test_measure__no_frequent_type(tmp_path: Path) -> None:
    files = write(tmp_path, de="a a\n", en="b c\n")
    with pytest.raises(InputError, match=r"min_count 2 leaves no word of language 'en'; lower it or add text"):
        measure(files, "spaces", study.Selection(min_count=2))


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
    monkeypatch.setattr("engine.corpus._READ", 3)
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


@pytest.mark.parametrize("content", [b"a\n\nb\n", b"a\nb \xff c\nd\n"])
def test_write_corpus__bad_text_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    files = write(tmp_path, de="a\nb\nc\n", en="")
    Path(files["en"]).write_bytes(content)
    for attempt in (read, lambda files: measure(files, "spaces", study.Selection())):
        with pytest.raises(InputError, match=r"en\.txt, line 2: "):
            attempt(files)
    assert not (tmp_path / "corpus.zarr").exists()


def test_write_selection__frequent_types_of_one_language(tmp_path: Path) -> None:
    text = corpus({"de": [["a", "b", "a"], ["a", "c", "a"]], "en": [["a", "b"], ["b", "b"]]})
    rule = study.Selection(min_count=2, max_count=3)
    path = str(tmp_path / "de.zarr")
    assert write_selection(path, text, "de", rule, fingerprint="f") == 3
    found = store.read(path, SELECTION)
    assert set(found.token_id.values.tolist()) <= {0, 2, 3, 5}
    assert json.loads(found.attrs["rule"])["max_count"] == 3
    assert (found.attrs["types"], found.attrs["fingerprint"]) == (1, "f")
    write_selection(path, text, "en", rule)  # in the place of the other
    assert store.read(path, SELECTION).token_id.values.tolist() == [7, 8, 9]


def test_write_selection__no_frequent_type(tmp_path: Path) -> None:
    text = corpus({"de": [["a"]], "en": [["b"]]})
    with pytest.raises(InputError, match=r"min_count 10 leaves no word of language 'en'; lower it or add text"):
        write_selection(str(tmp_path / "en.zarr"), text, "en", study.Selection())
