"""Dictionaries to and from files of other tools: round trips, files as their own tools write them, bad input."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import paths
from engine.exchange.dictionaries import read, write
from engine.exchange.dictionary_files import Format
from engine.lexicon import ranked
from schemas.errors import InputError
from tests.test_lexicon import counted, linked, rows

WORDS = [
    "haus",
    "->",
    "a->b",
    "-->",
    ":",
    "a:",
    "|||",
    '"',
    "'",
    "\\",
    "{",
    "}",
    "دار",
    "日",
    "1",
    "0.5",
    "é",
    "#",
    "Count",
    "x\u00a0y",
]
PHRASES = [*WORDS, "New York", "NULL", "a: Probability = 1, Count = 2", "a, b"]
ENTRY = ("probability", "count", "rank", "place")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dictionaries")


def made(entries: list[tuple[str, str, float, int]]) -> xr.Dataset:
    """The dictionary of some (source, target, probability, count) in the order of a file."""
    forms = [list(dict.fromkeys(entry[side] for entry in entries)) for side in (0, 1)]
    one, other = (np.array([forms[side].index(entry[side]) for entry in entries], int) for side in (0, 1))
    numbers = np.array([entry[2] for entry in entries], float), np.array([entry[3] for entry in entries], int)
    place = np.array([(one[:at] == number).sum() for at, number in enumerate(one)], int)
    return ranked((forms[0], forms[1]), one, other, *numbers, place, source="source", target="target")


@st.composite
def dictionaries(draw: st.DrawFn, words: list[str], **numbers: Any) -> xr.Dataset:
    pairs = draw(
        st.lists(st.tuples(st.sampled_from(words), st.sampled_from(words)), min_size=1, max_size=9, unique=True)
    )
    values = st.tuples(
        numbers.get("probability", st.floats(0, 1)), numbers.get("count", st.integers(0, 2**53))
    )  # fmt: skip
    return made([(*pair, *draw(values)) for pair in pairs])


def written(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("d.txt", PHRASES), ("d.txt.gz", PHRASES), ("d.json", [*PHRASES, "a -> b", " "]),
     ("d.tsv", [*PHRASES, "a -> b"]),
     ("d.zarr", [*PHRASES, "a -> b", " "])],
)  # fmt: skip
@given(data=st.data())
def test_round_trip__every_number_to_the_bit(folder: Path, name: str, words: list[str], data: st.DataObject) -> None:
    dictionary = data.draw(dictionaries(words))
    path = str(folder / name)
    assert write(dictionary, path) == (path,)
    xr.testing.assert_equal(read(path), dictionary)
    if not name.endswith((".json", ".zarr")):  # its content tells the format
        other = str(folder / "a-file")
        Path(other).write_bytes(gzip.decompress(Path(path).read_bytes()) if ".gz" in name else Path(path).read_bytes())
        xr.testing.assert_equal(read(other), dictionary)


@given(dictionary=dictionaries(WORDS))
def test_round_trip__moses_keeps_seven_decimals(folder: Path, dictionary: xr.Dataset) -> None:
    path = str(folder / "any.lex")
    write(dictionary, path, "moses")
    Path(f"{folder}/any.counts.lex").unlink(missing_ok=True)
    found, expected = ({row[:2]: row[2:] for row in rows(d, "probability")} for d in (read(path, "moses"), dictionary))
    assert set(found) == set(expected)
    assert all(abs(found[pair][0] - expected[pair][0]) <= 0.51e-7 for pair in found)


@given(linked())
def test_round_trip__moses_with_counts_is_exact(folder: Path, drawn: Any) -> None:
    dictionary = counted(*drawn)
    if not dictionary.sizes["entry"]:
        return
    path = str(folder / "lex.f2e")
    assert write(dictionary, path) == (path, str(folder / "lex.counts.f2e"))
    for file in (path, str(folder / "lex.counts.f2e")):
        xr.testing.assert_equal(read(file, source="de", target="en"), dictionary)


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(dictionary=dictionaries(WORDS))
def test_round_trip__muse_keeps_words_and_places(folder: Path, dictionary: xr.Dataset) -> None:
    path = str(folder / "muse.txt")
    write(dictionary, path, "muse")
    found = read(path)
    assert set(rows(found, "place")) == set(rows(dictionary, "place"))
    sizes = np.bincount(found.source_type.values)
    assert found.probability.values.tolist() == (1 / sizes[found.source_type.values]).tolist()
    assert not found["count"].any()


@pytest.mark.parametrize("words", [("{", "}"), ("{", "haus"), ("{", '"')])
def test_read__a_word_may_be_a_brace(tmp_path: Path, words: tuple[str, str]) -> None:
    path = written(tmp_path / "muse.txt", " ".join(words) + '\n" :\n')
    assert set(rows(read(path), "place")) == {(*words, 0), ('"', ":", 0)}


def test_read__json_is_told_by_its_first_key(tmp_path: Path) -> None:
    path = written(tmp_path / "d.txt", '\n{\n "a\\"b": {"c": {"Count": 1, "Probability": 1}}}')
    assert rows(read(path), "count") == [('a"b', "c", 1)]


def test_read__the_published_forms_are_the_same_dictionary(tmp_path: Path) -> None:
    text = "haus -> home: Probability = 0.34, Count = 44\n\nhaus -> house: Probability = 0.66, Count = 86\r\n  \n"
    table = {"haus": {"home": {"Count": 44, "Probability": 0.34}, "house": {"Probability": 0.66, "Count": 86}}}
    found = read(written(tmp_path / "dictionary.txt", "\ufeff" + text))
    assert rows(found, *ENTRY) == [("haus", "house", 0.66, 86, 0, 1), ("haus", "home", 0.34, 44, 1, 0)]
    xr.testing.assert_identical(read(written(tmp_path / "dictionary.json", json.dumps(table))), found)


def test_read__arrows_in_words_and_without_spaces(tmp_path: Path) -> None:
    lines = ["-> -> ->", "a->b -> c", "x->y", "New York -> Nueva York"]
    path = written(tmp_path / "d.txt", "".join(f"{line}: Probability = 1, Count = 1\n" for line in lines))
    assert [row[:2] for row in rows(read(path))] == [
        ("->", "->"),
        ("New York", "Nueva York"),
        ("a->b", "c"),
        ("x", "y"),
    ]


def test_read__rows_of_null_are_left_out_and_stay_in_totals(tmp_path: Path) -> None:
    lex = "house haus 0.5000000\nNULL haus 0.2500000\nhome haus 0.2500000\nhouse NULL 1.0000000\n"
    counts = "house haus 2 4\nNULL haus 1 4\nhome haus 1 4\nhouse NULL 3 3\n"
    path = written(tmp_path / "lex.e2f", lex)
    assert rows(read(path), *ENTRY) == [("haus", "house", 0.5, 0, 0, 0), ("haus", "home", 0.25, 0, 1, 1)]
    beside = written(tmp_path / "lex.counts.e2f", counts)
    for file in (path, beside):
        assert rows(read(file), "probability", "count") == [("haus", "house", 0.5, 2), ("haus", "home", 0.25, 1)]


def test_read__muse_without_header_is_told_from_tsv(tmp_path: Path) -> None:
    path = written(tmp_path / "en-de.tsv", "the\tdas\nthe\tdem\nwas\twar\n")
    assert rows(read(path), *ENTRY) == [
        ("the", "das", 0.5, 0, 0, 0),
        ("the", "dem", 0.5, 0, 1, 1),
        ("was", "war", 1.0, 0, 0, 0),
    ]
    assert rows(read(written(tmp_path / "en-de.txt", "the das\n"))) == [("the", "das")]


def test_read__an_equal_line_is_kept_once_and_an_unequal_one_refused(tmp_path: Path) -> None:
    line = "a -> b: Probability = 0.5, Count = 1\n"
    path = written(tmp_path / "d.txt", line * 2)
    assert rows(read(path), "place") == [("a", "b", 0)]
    written(tmp_path / "d.txt", line + "\n" + line.replace("0.5", "0.4"))
    with pytest.raises(
        InputError, match=r"d\.txt, line 3: 'a' -> 'b' has probability 0\.4 .* on line 1 0\.5 .*leave out"
    ):
        read(path)
    with pytest.raises(InputError, match=r"'b' is given twice .*leave out one"):
        read(
            written(
                tmp_path / "d.json", '{"a": {"b": {"Count": 1, "Probability": 1}, "b": {"Count": 2, "Probability": 1}}}'
            )
        )


TEXT_LINE = "a -> b: Probability = 0.5, Count = 1"


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        ("d.txt", f"{TEXT_LINE}\na b\n", None, r"d\.txt, line 2: expected word -> word: .*, found 'a b'; mend"),
        ("d.txt", f"{TEXT_LINE}\na: Probability = 1, Count = 1\n", None, r"line 2: expected word -> word"),
        ("d.txt", " -> b: Probability = 1, Count = 1\n", None, r"line 1: expected word -> word"),
        ("d.txt", "a -> b -> c: Probability = 1, Count = 1\n", None, r"line 1: .* several ' -> '.* as json"),
        ("d.txt", TEXT_LINE.replace("0.5", "1.5"), None, r"line 1: the probability is '1\.5'; expected a number"),
        ("d.txt", TEXT_LINE.replace("0.5", "nan"), None, "the probability is 'nan'"),
        ("d.txt", TEXT_LINE.replace("= 1", "= -1"), None, "the count is '-1'; expected a whole number"),
        ("d.txt", TEXT_LINE.replace("= 1", "= 99999999999999999999"), None, "the count is '9+'"),
        ("d.txt", "\n\n", "text", r"d\.txt: holds no translation; expected at least one"),
        ("d.txt", "", None, "does not tell the format"),
        ("d.txt", "one two three four five", None, "'one .*five' does not tell the format.*text, json, moses"),
        ("d.json", "{", None, r"d\.json: not valid JSON: .*line 1 column 2"),
        ("d.json", "[1]", None, "expected {word: .*found \\[1\\]"),
        ("d.json", '{"a": 1}', None, "'a': expected {word: .*found 1"),
        ("d.json", '{"a": {"b": {"Count": 1}}}', None, "'a', 'b': expected Count and Probability, found"),
        ("d.json", '{"a": {"b": {"Count": 1.5, "Probability": 1}}}', None, "'a', 'b': the count is '1.5'"),
        ("d.json", '{"a": {"b": {"Count": 1, "Probability": true}}}', None, "the probability is 'true'"),
        ("d.json", '{"a": {"\\ud800": {"Count": 1, "Probability": 1}}}', None, "half a character"),
        ("d.f2e", "a b 0.5\na b\n", None, r"d\.f2e, line 2: expected target source p, .*found 'a b'"),
        ("d.f2e", "a  0.5\n", None, "line 1: expected target source p"),
        ("d.f2e", "a b c 0.5\n", None, "line 1: the count is 'c'"),
        ("d.f2e", "a b 3 2\n", None, "line 1: 3 links of 2; expected at least one and at most all"),
        ("d.f2e", "a NULL 0.5\n", None, "holds no translation"),
        ("d.muse", "a b\na\n", None, r"line 2: expected word word, .*found 'a'"),
        ("d.muse", "a\tb\na\t\n", None, "line 2: expected word word"),
        ("d.tsv", "source\ttarget\tprobability\tcount\na\tb\t1\n", None, "line 2: expected source, target"),
        ("d.tsv", "a\tb\t1\t1\n", "tsv", "line 1: expected the columns"),
        ("d.zarr", "a b", None, "expected a dictionary store, found none"),
        ("d.txt.gz", "", None, None),
    ],
)  # fmt: skip
def test_read__bad_files(tmp_path: Path, name: str, content: str, form: Format | None, message: str | None) -> None:
    path = tmp_path / name
    if message is None:
        path.write_bytes(b"no gzip")
        message = "not a whole gzip file"
    else:
        written(path, content)
    with pytest.raises(InputError, match=message):
        read(str(path), form)


def test_read__what_is_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="cannot be read"):
        read(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes(b"a b\nh\xfctte hut\n")
    with pytest.raises(InputError, match=r"latin\.txt, line 2: byte 0xfc is not UTF-8; convert"):
        read(str(tmp_path / "latin.txt"))
    write(made([("a", "b", 1.0, 1)]), str(tmp_path / "d.zarr"))
    with pytest.raises(InputError, match="a store, not a text file"):
        read(str(tmp_path / "d.zarr"), "text")


def test_read__counts_of_another_run_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "lex.f2e", "house haus 0.5000000\n")
    written(tmp_path / "lex.counts.f2e", "house haus 1 3\n")
    with pytest.raises(InputError, match=r"lex\.f2e, line 1: p\(house \| haus\) is 0\.5000000, .* it is 0\.3333333"):
        read(path)
    written(tmp_path / "lex.counts.f2e", "home haus 1 2\n")
    with pytest.raises(InputError, match="there is no such row"):
        read(path)


@pytest.mark.parametrize(
    ("form", "word"),
    [("text", "a -> b"), ("text", "a\nb"), ("text", " a"), ("moses", "a b"), ("moses", "NULL"), ("muse", "a\tb"),
     ("muse", "a "), ("tsv", "a\tb"), ("tsv", "a\nb")],
)  # fmt: skip
def test_write__words_that_would_be_read_as_others_are_refused(tmp_path: Path, form: Format, word: str) -> None:
    path = tmp_path / "d"
    path.write_text("as it was")
    for entry in ((word, "x"), ("x", word)):
        with pytest.raises(InputError, match=r"the word .* cannot be written in the format .*choose json"):
            write(made([(*entry, 1.0, 1)]), str(path), form)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["as it was"]


@pytest.mark.parametrize("name", ["d.txt", "d.f2e", "d.json.gz", "d.zarr"])
def test_write__a_full_disk_leaves_what_was_there(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / name)
    write(made([("a", "b", 1.0, 1)]), path)
    before = read(path)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(paths, "move", full)
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.mv", full)
    with pytest.raises(OSError, match="no space left"):
        write(made([("a", "c", 1.0, 1)]), path)
    monkeypatch.undo()
    xr.testing.assert_identical(read(path), before)


def test_write__counts_are_left_out_where_probabilities_tell_another_total(tmp_path: Path) -> None:
    path = str(tmp_path / "lex.f2e")
    write(made([("a", "b", 0.5, 1)]), path)
    assert (tmp_path / "lex.counts.f2e").read_text() == "b a 1 2\n"
    assert write(made([("a", "b", 0.34, 44), ("a", "c", 0.34, 43)]), path) == (path,)
    assert not (tmp_path / "lex.counts.f2e").exists()


def test_write__the_same_bytes_again(tmp_path: Path) -> None:
    dictionary = made([("b", "x", 0.25, 1), ("a", "y", 0.5, 0), ("a", "x", 0.5, 1)])
    for name in ("d.txt.gz", "d.json", "d.tsv"):
        write(dictionary, str(tmp_path / name))
        first = (tmp_path / name).read_bytes()
        write(read(str(tmp_path / name)), str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == first
    assert (tmp_path / "d.tsv").read_text().splitlines()[1:] == ["a\ty\t0.5\t0", "a\tx\t0.5\t1", "b\tx\t0.25\t1"]
