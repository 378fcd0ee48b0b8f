"""`colign link` and `aer`, and a study that brings its own links: files in either order of the pair, and bad input."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import store
from engine.exchange.given_links import import_links, sentence_links
from engine.exchange.link_files import read_lines, write_pharaoh
from engine.links import link
from engine.text import span
from schemas import study as settings
from schemas.corpus import CORPUS
from schemas.errors import InputError
from schemas.links import DICTIONARY, LINKS
from tests.oracles.texts import corpus
from tests.oracles.vectors import save_bert
from tests.small_study import SENTENCES, SmallStudy, Terminal

DE, EN = [[line.split() for line in SENTENCES[lang]] for lang in ("de", "en")]
DIAGONAL = ["0-0 1-1 2-2"] * len(DE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("small-model"), positions=64)


@pytest.fixture
def study(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> SmallStudy:
    """A study that has not run, with a file of links for German and English."""
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    made = SmallStudy(tmp_path, model)
    (tmp_path / "own.align").write_text("\n".join(DIAGONAL) + "\n")
    made.set("links", {"files": {"de-en": "own.align"}})
    return made


@pytest.fixture
def colign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal(monkeypatch, capsys)


def linked(folder: Path) -> list[set[tuple[int, int]]]:
    """Links of German and English of a study directory, by sentence, by plain loops."""
    text = store.read(str(folder / "corpus.zarr"), CORPUS)
    sentence, position = text.sentence.values.tolist(), text.position.values.tolist()
    found: list[set[tuple[int, int]]] = [set() for _ in DE]
    stored = store.read(str(folder / "links" / "de-en.zarr"), LINKS)
    for source, target in zip(stored.source_token.values.tolist(), stored.target_token.values.tolist(), strict=True):
        assert sentence[source] == sentence[target]
        found[sentence[source]].add((position[source], position[target]))
    return found


one_line = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=5)


@given(st.lists(st.tuples(one_line, one_line), min_size=1, max_size=5), st.booleans())
def test_import_links__of_either_order_and_back(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[list[Any], list[Any]]], reverse: bool
) -> None:
    path = tmp_path_factory.mktemp("links") / "x.align"
    words = {"fr": ["x", "y"], "de": ["a", "b", "c"], "en": ["d", "e", "f"]}
    text = corpus({language: [line] * len(lines) for language, line in words.items()})
    path.write_text("".join(" ".join(f"{i}-{j}" for i, j in one) + "\n" for one, _ in lines))
    found = import_links(text, "de", "en", str(path), reverse=reverse)
    expected = [sorted({(j, i) if reverse else (i, j) for i, j in one}) for one, _ in lines]
    assert [[tuple(row) for row in rows.tolist()] for rows in sentence_links(text, found)] == expected
    with open(path, "w") as file:
        assert write_pharaoh(file, sentence_links(text, found)) == (len(lines), sum(map(len, expected)))
    assert [sorted(line.links) for line in read_lines(str(path))] == expected


def test_read_lines__tells_possible_links(tmp_path: Path) -> None:
    path = tmp_path / "gold"
    path.write_text("0-0 1p1 2?0\r\n\n3-1")
    found = list(read_lines(str(path)))
    assert [set(line.sure) for line in found] == [{(0, 0)}, set(), {(3, 1)}]
    assert [set(line.possible) for line in found] == [{(1, 1), (2, 0)}, set(), set()]


def test_study__own_links_by_pharaoh_file_make_the_dictionary(study: SmallStudy, colign: Terminal) -> None:
    planned = colign.json("plan", study.file)["links"]
    assert [row["file"] is None for row in planned] == [False, True]
    assert planned[0]["pair"] == "de-en"
    assert planned[1]["trained_on"] == len(DE)
    colign("run", study.file)
    assert linked(study.directory) == [{(0, 0), (1, 1), (2, 2)}] * len(DE)
    dictionary = store.read(str(study.directory / "dictionaries" / "de-en.zarr"), DICTIONARY)
    forms = dictionary.source_form.values[dictionary.source_type.values]
    counts: dict[tuple[str, str], int] = {}
    for source, target in zip(DE, EN, strict=True):
        for one, other in zip(source[:3], target[:3], strict=True):
            counts[one, other] = counts.get((one, other), 0) + 1
    targets = dictionary.target_form.values[dictionary.target_type.values]
    assert dict(zip(zip(forms, targets, strict=True), dictionary["count"].values.tolist(), strict=True)) == counts


def test_study__own_links_in_the_other_order_and_packed(study: SmallStudy, colign: Terminal) -> None:
    mixed = ["0-1 2-0"] * len(DE)
    (study.folder / "en-de.align.gz").write_bytes(gzip.compress("\n".join(mixed).encode()))
    study.set("links", {"files": {"en-de": "en-de.align.gz"}})
    colign("run", study.file)
    assert linked(study.directory) == [{(1, 0), (0, 2)}] * len(DE)
    out = study.folder / "out.align"
    colign("link", study.directory, "--pair", "en-de", "-o", out)
    assert out.read_text().splitlines() == mixed


def test_study__own_links_by_mapping(study: SmallStudy, colign: Terminal) -> None:
    phrases = {
        str(i): [[" ".join(source[:2]), target[0], [0, 1], [0]], [source[2], target[2], [2], [2]]]
        for i, (source, target) in enumerate(zip(DE, EN, strict=True))
    }
    del phrases["3"]
    (study.folder / "mapping_dict.json").write_text(json.dumps(phrases))
    study.set("links.files", {"de-en": "mapping_dict.json"})
    colign("run", study.file)
    expected: list[set[tuple[int, int]]] = [{(0, 0), (1, 0), (2, 2)} for _ in DE]
    expected[3] = set()
    assert linked(study.directory) == expected


def test_study__own_links_that_change_are_noticed_and_those_gone_are_not_missed(
    study: SmallStudy, colign: Terminal
) -> None:
    colign("run", study.file)
    file = study.folder / "own.align"
    content = file.read_text()
    file.unlink()
    colign("run", study.file)
    file.write_text("\n".join(["0-0"] * len(DE)))
    assert "a file under links.files" in colign("run", study.file, code=2)
    colign("run", study.file, "--grow")
    assert linked(study.directory) == [{(0, 0)}] * len(DE)
    records = {path: path.stat().st_mtime_ns for path in (study.directory / "records").rglob("*.json")}
    file.write_text(content.replace("0-0 1-1 2-2", "0-0"))  # the same but for the last line end
    assert "a file under links.files" in colign("run", study.file, code=2)
    assert records == {path: path.stat().st_mtime_ns for path in records}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("own.align", "0-0 1-7\n" + "\n" * (len(DE) - 1), ("own.align, line 1", "1-7", "out of range")),
        ("own.align", "0-0\n", ("own.align", "1 lines", f"{len(DE)} sentences")),
        ("own.align", "\n" * len(DE) + "0-0", ("own.align", f"{len(DE) + 1} lines")),
        ("own.align", "0:0" + "\n" * len(DE), ("own.align, line 1", "'0:0'", "0-0 1-2")),
        ("m.json", "[", ("m.json", "not valid JSON")),
        ("m.json", "[]", ("m.json", "expected an object", "list")),
        ("m.json", '{"99": []}', ("m.json", "'99'", f"0 to {len(DE) - 1}")),
        ("m.json", '{"0": 3}', ("m.json, sentence 0", "found 3")),
        ("m.json", '{"0": [["der", "the", [0]]]}', ("m.json, sentence 0, entry 1", "source words")),
        ("m.json", '{"0": [["das", "the", [0], [0]]]}', ("m.json, sentence 0, entry 1", "'das'", "['der']")),
        ("m.json", '{"0": [["der", "the", [9], [0]]]}', ("m.json, sentence 0, entry 1", "[9]", "counted from 0")),
    ],
)
def test_study__bad_files_of_links(
    study: SmallStudy, colign: Terminal, name: str, content: str, says: tuple[str, ...]
) -> None:
    (study.folder / name).write_text(content)
    study.set("links.files", {"de-en": name})
    message = colign("run", study.file, code=2)
    for words in says:
        assert words in message
    assert not (study.directory / "links" / "de-en.zarr").exists()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"de-fr": "own.align"}, ("links.files", "'de-fr'", "de-en")),
        ({"de-en": "none.align"}, ("none.align", "found none", "links.files")),
        ({"de-en": "."}, ("a folder",)),
        ({"de-en": "own.align", "en-de": "own.align"}, ("links.files", "one file a pair")),
    ],
)
def test_study__bad_names_of_links(
    study: SmallStudy, colign: Terminal, files: dict[str, str], says: tuple[str, ...]
) -> None:
    study.set("links.files", files)
    message = colign("plan", study.file, code=2)
    for words in says:
        assert words in message
    assert not study.directory.exists()


def test_link__texts_give_the_links_of_the_engine(tmp_path: Path, colign: Terminal) -> None:
    files = {}
    for lang, lines in (("de", DE), ("en", EN)):
        files[lang] = tmp_path / f"{lang}.txt"
        files[lang].write_text("".join(" ".join(words) + "\n" for words in lines))
    text = corpus({"de": DE, "en": EN})
    for name in ("grow-diag-final-and", "forward", "reverse"):
        out = tmp_path / f"{name}.align"
        said = colign.json("link", files["de"], files["en"], "-o", out, "--symmetrise", name)
        found = link(text, "de", "en", settings.Links(symmetrise=name))
        expected = [[tuple(row) for row in rows.tolist()] for rows in sentence_links(text, found)]
        assert [sorted(line.links) for line in read_lines(str(out))] == expected
        assert (said["sentences"], said["links"]) == (len(DE), found.sizes["link"])
        assert (said["trained_on"], said["sentences_too_long"]) == (len(DE), 0)
    assert span(text, "en", "token").start == sum(map(len, DE))


def test_link__exports_the_links_of_a_study(study: SmallStudy, colign: Terminal) -> None:
    out = study.folder / "out.align"
    assert "run the study" in colign("link", study.file, "--pair", "de-en", "-o", out, code=1)
    assert not out.exists()
    colign("run", study.file)
    said = colign.json("link", study.file, "--pair", "de-en", "-o", out)
    assert said["links"] == 3 * len(DE)
    assert out.read_text().splitlines() == DIAGONAL
    assert "is there already" in colign("link", study.file, "--pair", "fr-en", "-o", out, code=2)
    colign("link", study.file, "--pair", "fr-en", "-o", out, "--force")
    assert out.read_text().splitlines() != DIAGONAL
    assert "'de-fr'" in colign("link", study.file, "--pair", "de-fr", "-o", out, "--force", code=2)


def _spoil(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-1], ("de.txt", f"ends after line {len(DE) - 1}", "same sentence")),
        (lambda lines: [*lines[:2], "\n", *lines[3:]], ("de.txt, line 3", "empty sentence")),
    ],
)
def test_link__bad_texts_leave_nothing(
    study: SmallStudy, colign: Terminal, change: Callable[[list[str]], list[str]], says: tuple[str, ...]
) -> None:
    _spoil(study.text("de"), change)
    out = study.folder / "out.align"
    message = colign("link", study.text("de"), study.text("en"), "-o", out, code=2)
    for words in says:
        assert words in message
    assert [path for path in study.folder.iterdir() if path.name.startswith("out")] == []


def test_link__what_is_given_must_fit(study: SmallStudy, colign: Terminal) -> None:
    out = study.folder / "out.align"
    assert "one text" in colign("link", study.text("de"), "-o", out, code=2)
    assert "--pair" in colign("link", study.text("de"), study.text("en"), "--pair", "de-en", "-o", out, code=2)
    assert "iterations" in colign("link", study.text("de"), study.text("en"), "--iterations", 0, "-o", out, code=2)
    machine = study.machine(memory=0.1)
    assert "memory" in colign("link", study.text("de"), study.text("en"), "-o", out, "-m", machine, code=2)


def test_aer__counts_and_fractions(tmp_path: Path, colign: Terminal) -> None:
    (tmp_path / "out").write_text("0-0 1-1\n2-1\n\n")
    (tmp_path / "gold").write_text("0-0 1p1\n2-2\n0-0\n")
    found = colign.json("aer", tmp_path / "out", tmp_path / "gold")
    assert (found["links"], found["sure"], found["possible"]) == (3, 3, 4)
    assert (found["found_sure"], found["found_possible"]) == (1, 2)
    assert (found["precision"], found["recall"], found["aer"]) == (2 / 3, 1 / 3, 0.5)
    assert "AER 50.00 %" in colign("aer", tmp_path / "out", tmp_path / "gold")
    (tmp_path / "none").write_text("\n\n\n")
    assert colign.json("aer", tmp_path / "none", tmp_path / "gold")["precision"] is None


def test_aer__bad_files(tmp_path: Path, colign: Terminal) -> None:
    (tmp_path / "out").write_text("0-0\n")
    (tmp_path / "gold").write_text("0-0\n1-1\n")
    assert "ends after line 1" in colign("aer", tmp_path / "out", tmp_path / "gold", code=2)
    (tmp_path / "gold").write_text("0-0 x\n")
    assert "gold, line 1: 'x' is no link" in colign("aer", tmp_path / "out", tmp_path / "gold", code=2)
    assert "found none" in colign("aer", tmp_path / "absent", tmp_path / "gold", code=2)


def test_import_links__range_is_of_each_sentence(tmp_path: Path) -> None:
    text = corpus({"de": [["a"], ["a", "b"]], "en": [["x", "y"], ["x"]]})
    path = tmp_path / "x.align"
    path.write_text("0-1\n1-1\n")
    with pytest.raises(InputError, match="line 2: link 1-1 is out of range: the sentences have 2 and 1 words"):
        import_links(text, "de", "en", str(path))
