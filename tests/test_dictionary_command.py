"""`colign dictionary`: counted from linked texts, of a study, and carried between formats."""

import json
from pathlib import Path

import pytest
import yaml

from engine.exchange.dictionaries import read, write
from jobs.stages import fingerprints
from schemas.parse import parse
from schemas.study import Study
from tests.oracles.lexicon import moses_rows
from tests.small_study import call
from tests.test_lexicon import rows

SOURCE = ["das Haus", "ein Haus", "haus und Hof"]
TARGET = ["the house", "a house", "house home"]
LINKS = ["0-0 1-1", "1-1", "0-0 2-1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, lines in (("de.txt", SOURCE), ("en.txt", TARGET), ("de-en.align", LINKS)):
        Path(name).write_text("".join(f"{line}\n" for line in lines))


def expected(*, turned: bool = False) -> set[tuple[str, str, float, int]]:
    """The translations that the loops count."""
    sides = [[line.split() for line in lines] for lines in (SOURCE, TARGET)]
    pairs = [[(int(i), int(j)) for i, j in (link.split("-") for link in line.split())] for line in LINKS]
    if turned:
        sides, pairs = sides[::-1], [[(j, i) for i, j in found] for found in pairs]
    return {(s, t, n / m, n) for t, s, n, m in moses_rows(sides[0], sides[1], pairs) if "NULL" not in (s, t)}


@pytest.mark.parametrize("out", ["d.txt", "d.json", "d.tsv", "d.f2e", "d.zarr", "d.txt.gz"])
@pytest.mark.parametrize("reverse", [False, True])
def test_texts__are_counted_by_moses_rule(
    out: str, reverse: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["de.txt", "en.txt", "de-en.align", "-o", out, "--source", "de", "--target", "en", "--json"]
    assert call(monkeypatch, "dictionary", *given, *(["--reverse"] if reverse else [])) == 0
    assert set(rows(read(out), "probability", "count")) == expected(turned=reverse)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["source"], printed["target"]) == (("en", "de") if reverse else ("de", "en"))
    assert (printed["entries"], printed["fold"]) == (len(expected(turned=reverse)), [])
    assert all(Path(file).exists() for file in printed["files"])


def test_texts__folded_and_cut_to_the_best(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["de.txt", "en.txt", "de-en.align", "-o", "d.zarr", "--fold", "case", "--n-best", "1"]
    assert call(monkeypatch, "dictionary", *given) == 0
    found = read("d.zarr")
    assert ("haus", "house", 1.0, 3) in rows(found, "probability", "count")
    assert not found["rank"].any()
    assert found.attrs["fold"] == ["case"]
    assert capsys.readouterr().out.splitlines() == ["3 translations of 3 words (source) by 3 (target)", "d.zarr"]


def test_convert__from_one_format_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "Haus -> house: Probability = 0.9, Count = 9\nhaus -> house: Probability = 1, Count = 5\n"
    Path("dictionary.txt").write_text(lines)
    assert call(monkeypatch, "dictionary", "dictionary.txt", "-o", "d.zarr", "--source", "de", "--target", "en") == 0
    assert (read("d.zarr").attrs["source"], read("d.zarr").attrs["target"]) == ("de", "en")
    assert call(monkeypatch, "dictionary", "d.zarr", "-o", "e.json", "--fold", "case") == 0
    assert json.loads(Path("e.json").read_text()) == {"haus": {"house": {"Count": 14, "Probability": 14 / 15}}}
    assert call(monkeypatch, "dictionary", "e.json", "-o", "muse", "--format", "muse") == 0
    assert Path("muse").read_text() == "haus\thouse\n"
    assert call(monkeypatch, "dictionary", "muse", "--from", "muse", "-o", "f.tsv") == 0
    assert rows(read("f.tsv"), "count") == [("haus", "house", 0)]


def study_directory(folder: Path) -> Path:
    """A study of which there is a dictionary alone."""
    values = {"corpus": {"files": {"de": "de.txt", "en": "en.txt"}}, "checkpoints": {"tiny": {"model": "none"}}}
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_study__its_dictionary_is_chosen_by_pair(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_directory(Path("study"))
    texts = ("de.txt", "en.txt", "de-en.align", "--source", "de", "--target", "en")
    assert call(monkeypatch, "dictionary", *texts, "-o", study / "dictionaries" / "de-en.zarr") == 0
    assert call(monkeypatch, "dictionary", study, "--pair", "de-en", "-o", "d.tsv") == 0
    assert set(rows(read("d.tsv"), "probability", "count")) == expected()
    for given, message in (
        ((), "is a study; choose one of its pairs with --pair: de-en, en-de"),
        (("--pair", "de-fr"), "has no pair 'de-fr'; choose one of its pairs with --pair: de-en, en-de"),
        (("--pair", "de-en", "--source", "fr"), "--source fr: study translates de into en"),
    ):
        assert call(monkeypatch, "dictionary", study, "-o", "e.tsv", *given) == 2
        assert message in capsys.readouterr().err
    assert call(monkeypatch, "dictionary", study, "--pair", "en-de", "-o", "e.tsv") == 1
    assert "run the study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("de.txt", "en.txt", "bad.align", "-o", "d.tsv"), "bad.align, line 2: link 1-2 is out of range"),
        (("de.txt", "short.txt", "de-en.align", "-o", "d.tsv"), "de.txt: 3 lines, short.txt: 1; line i of both"),
        (("de.txt", "en.txt", "none", "-o", "d.tsv"), "none: no such file"),
        (("de.txt", "en.txt", "-o", "d.tsv"), "2 files; expected three"),
        (("de.txt", "en.txt", "de-en.align", "-o", "d.tsv", "--fold", "cas"), "fold.0: Input should be 'nfc', 'nfkc'"),
        (("de.txt", "en.txt", "de-en.align", "-o", "d"), "d: its ending does not tell the format; give --format text"),
        (("de.txt", "en.txt", "de-en.align", "-o", "d.tsv", "--pair", "de-en"), "--pair de-en: texts are counted"),
        (("de.txt", "en.txt", "de-en.align", "-o", "d.tsv", "--from", "text"), "--from text: texts are counted"),
        (("de.txt", "en.txt", "de-en.align", "-o", "d.tsv", "--source", "en", "--target", "en"), "are both en"),
        (("old.tsv", "-o", "d.tsv", "--reverse"), "--reverse: goes with two texts"),
        (("old.tsv", "-o", "d.tsv", "--pair", "de-en"), "--pair de-en: chooses a dictionary of a study"),
        (("old.zarr", "-o", "d.tsv", "--source", "fr"), "--source fr: old.zarr translates source into target"),
        (("none.yaml", "-o", "d.tsv", "--pair", "de-en"), "none.yaml: no such file"),
        (("old.tsv", "-o", "old.tsv"), "old.tsv: is there already; choose another name, or replace it with --force"),
        (("old.tsv", "-o", "folder", "--format", "tsv", "--force"), "folder: a folder that is no dictionary"),
    ],
)  # fmt: skip
def test_bad_input__one_message_and_nothing_written(
    given: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.align").write_text("0-0\n1-2\n\n")
    Path("short.txt").write_text("the house\n")
    Path("folder").mkdir()
    Path("old.tsv").write_text("source\ttarget\tprobability\tcount\na\tb\t1.0\t1\n")
    write(read("old.tsv"), "old.zarr")
    before = sorted(Path().rglob("*"))
    assert call(monkeypatch, "dictionary", *given) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert sorted(Path().rglob("*")) == before


def test_force__replaces_a_file_and_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in ("d.f2e", "d.zarr"):
        assert call(monkeypatch, "dictionary", "de.txt", "en.txt", "de-en.align", "-o", out) == 0
        assert call(monkeypatch, "dictionary", "de.txt", "en.txt", "de-en.align", "-o", out) == 2
        assert call(monkeypatch, "dictionary", "de.txt", "en.txt", "de-en.align", "-o", out, "--force") == 0


def test_study_file__fold_decides_dictionaries_and_counts() -> None:
    values = {"corpus": {"files": {"de": "a", "en": "b"}}, "checkpoints": {"tiny": {"model": "none"}}}
    plain = fingerprints(parse(Study, values, "a"))
    other = fingerprints(parse(Study, values | {"dictionary": {"fold": ["case"]}}, "a"))
    assert {name for name in plain if plain[name] != other[name]} == {"dictionary", "counts", "uncertainty"}
