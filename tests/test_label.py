"""Labels of concepts: the command, with a real local server that answers as OpenAI's does, and files."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from engine import paths
from engine.questions import tokens
from jobs import label_files
from jobs.label import question
from jobs.layout import Layout
from tests.answering import Server, a_server, parts_of  # noqa: F401  (a fixture)
from tests.small_study import SmallStudy, Terminal, call


def test_question__holds_words_and_sentences() -> None:
    found = question(["b", "a", "b"], ["b is here", "a too"])
    assert found.alone.count(found.part) == 1
    assert "Words: b, a\n" in found.part
    assert found.part.endswith("- b is here\n- a too")


@pytest.fixture(scope="module")
def finished(bert: str, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    study = SmallStudy(tmp_path_factory.mktemp("label") / "s", bert)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        assert call(patch, "run", study.file) == 0
    return study


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, named by the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden\n")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_MODEL", "tiny-llm")
    return server


CHOSEN = ("--selection", "en", "--selection", "de+en", "--top", 2, "--per-minute", 60000)


@pytest.fixture
def study(finished: SmallStudy) -> Iterator[SmallStudy]:
    """A finished study in which nothing is labelled."""
    kept = finished.directory / "answers.jsonl"
    yield finished
    kept.unlink(missing_ok=True)
    shutil.rmtree(finished.directory / "labels.zarr", ignore_errors=True)


def test_label__asks_stores_exports_and_imports(
    study: SmallStudy, terminal: Terminal, address: Server, tmp_path: Path
) -> None:
    found = terminal.json("label", study.file, *CHOSEN)
    assert len(found["labels"]) == 4
    assert len(address.asked) == 1
    (text,) = address.texts
    parts = [*parts_of(text).values()]
    assert len(parts) == 4
    english = next(part for part in parts if "the" in part.split("Words: ")[1])
    assert "- the cat sees" in english or "- a " in english or "- my " in english or "- the " in english
    assert [one["label"] for one in found["labels"]] == [f"label {len(part)}" for part in parts]
    terminal("label", study.file, *CHOSEN, "--batch", 1)
    assert len(address.asked) == 1
    stored = xr.open_zarr(study.directory / "labels.zarr", consolidated=False)
    assert set(stored.model.values.tolist()) == {"tiny-llm"}
    assert all(len(value) == 64 for value in stored.prompt_sha256.values.tolist())
    assert not any("sk-hidden" in text for text in map(str, study.files().values()))
    file = tmp_path / "labels.tsv"
    terminal("label", study.file, "--export", file)
    assert len(address.asked) == 1  # though the environment names a model
    lines = file.read_text().splitlines()
    assert len(lines) == 5
    file.write_text("\ufeff" + "\r\n".join([lines[0], lines[1].replace(lines[1].split("\t")[5], "by hand")]) + "\r\n")
    terminal("label", study.file, "--import", file, "--export", tmp_path / "again.tsv")
    again = (tmp_path / "again.tsv").read_text()
    assert again.count("\n") == 5
    assert again.count("by hand") == 1


def test_label__asks_one_concept_a_request_where_that_is_wanted(
    study: SmallStudy, terminal: Terminal, address: Server
) -> None:
    terminal("label", study.file, *CHOSEN, "--batch", 1, "--model", "other")
    assert len(address.asked) == 4
    assert all(text.endswith("Answer with the label alone.") for text in address.texts)
    assert {body["model"] for body in address.asked} == {"other"}  # not the one of the environment


def test_label__says_first_what_is_left_to_ask(
    study: SmallStudy,
    terminal: Terminal,
    address: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def estimate(*more: object) -> Any:
        return terminal.json("label", study.file, *CHOSEN, "--estimate", "--price", 1, 2, *more)

    before = estimate("--batch", 3)
    assert address.times == []
    assert [before[name] for name in ("requests", "concepts", "answered_before")] == [2, 4, 0]
    assert before["cost"] == pytest.approx((before["tokens_read"] + 2 * before["tokens_written"]) / 1e6)
    address.first = [401]
    said = terminal("label", study.file, *CHOSEN, "--batch", 3, "--price", 1, 2, "--at-once", 1, code=2)
    sentence = f"requests: 2, about 4 concepts (answered before: 0); tokens: about {before['tokens_read']} to read"
    assert said.index(sentence) < said.index("status 401")
    assert f"{before['cost']:.4f} at most" in said
    assert address.asked == []
    assert call(monkeypatch, "label", study.file, *CHOSEN, "--top", 1, "--json") == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["labels"]) == 2
    assert "requests: 1, about 2 concepts" in captured.err
    after = estimate("--batch", 3)
    assert [after[name] for name in ("requests", "concepts", "answered_before")] == [1, 2, 2]
    assert estimate("--model", "other")["concepts"] == 4
    address.asked.clear()
    terminal("label", study.file, *CHOSEN, "--batch", 3)
    assert sum(map(tokens, address.texts)) == after["tokens_read"]
    assert sum(body["max_tokens"] for body in address.asked) == after["tokens_written"]
    assert terminal.json("label", study.file, *CHOSEN, "--estimate")["cost"] is None


def test_label__stores_what_was_answered_before_something_failed(
    study: SmallStudy, terminal: Terminal, address: Server
) -> None:
    address.refuse = lambda body: "content filter" if len(address.asked) == 2 else None
    message = terminal("label", study.file, *CHOSEN, "--batch", 1, "--at-once", 1, code=1)
    assert "2 of 4 questions have no answer" in message
    assert "content filter" in message
    assert terminal.json("label", study.file, "--export", study.folder / "some.tsv", "--force")["all"] == 2
    address.refuse = lambda _: None
    assert len(terminal.json("label", study.file, *CHOSEN)["labels"]) == 4
    assert [len(parts_of(text)) for text in address.texts] == [0, 0, 2]


def test_label__needs_no_address_where_all_is_answered(
    study: SmallStudy, terminal: Terminal, address: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal("label", study.file, *CHOSEN)
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert len(terminal.json("label", study.file, *CHOSEN)["labels"]) == 4


def test_label__replaces_no_file_unasked(study: SmallStudy, terminal: Terminal, address: Server) -> None:
    file = study.folder / "mine.tsv"
    file.write_text("mine")
    message = terminal("label", study.file, *CHOSEN, "--model", "m", "--export", file, code=2)
    assert "is there already; choose another name, or replace it with --force" in message
    assert file.read_text() == "mine"
    assert address.times == []  # nothing is paid for what cannot be written
    terminal("label", study.file, "--export", file, "--force")
    assert file.read_text().startswith("checkpoint\t")
    there = f"file://{study.folder}/there.tsv"
    for force in ([], ["--force"]):
        terminal("label", study.file, "--export", there, *force)
    assert (paths.read_text(there) or "").startswith("checkpoint\t")


HEAD = "checkpoint\tstack\tselection\tlayer\tconcept\tlabel"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("checkpoint\tlabel\n", "line 1: expected the columns"),
        (f"{HEAD}\ntiny\tencoder\txx\t2\t0\tname\n", "line 2: the study has no selection 'xx'; it has en, de, fr"),
        (f"{HEAD}\nbig\tencoder\ten\t2\t0\tname\n", "line 2: the study has no checkpoint 'big'; it has tiny"),
        (f"{HEAD}\ntiny\tdecoder\ten\t2\t0\tname\n", "line 2: the study has no stack 'decoder'; it has encoder"),
        (f"{HEAD}\ntiny\tencoder\ten\t1\t0\tname\n", "line 2: en has no layer 1; it has 2"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\t99\tname\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\ntiny\tencoder\ten\t²\t0\tname\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\n", "line 2: expected a layer, a concept below 3"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\t0\t  \n", "line 2: expected a layer, a concept below 3 and a label"),
        (f"{HEAD}\ntiny\tencoder\ten\t2\t0\ta\tb\n", "line 2: expected 6 columns, found more: ['b']"),
        (f"{HEAD}\n" + "tiny\tencoder\ten\t2\t0\tname\n" * 2, "line 3: labels the concept of line 2 again"),
        (f'{HEAD}\ntiny\tencoder\ten\t2\t0\t"name" one\n', "line 2: not of the form of tab-separated values"),
        (f"{HEAD}\tconcepts\ntiny\tencoder\ten\t2\t0\tname\tab12\n", "line 2: is about other concepts than the"),
    ],
)
def test_label__names_the_line(study: SmallStudy, terminal: Terminal, tmp_path: Path, rows: str, message: str) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text(rows)
    assert message in terminal("label", study.file, "--import", file, code=2)
    assert not (study.directory / "labels.zarr").exists()


def test_label__a_label_has_one_line(study: SmallStudy, terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text(f'{HEAD}\ntiny\tencoder\ten\t2\t0\t"two\nlines "\n')
    terminal("label", study.file, "--import", file)
    (label,) = label_files.read(Layout(str(study.directory)))
    assert label.label == "two lines"


def test_label__says_what_it_needs(study: SmallStudy, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert "give --model to ask one, or set OPENAI_MODEL" in terminal("label", study.file, code=2)
    assert "no address; give --url" in terminal("label", study.file, "--model", "m", code=2)
    assert "has no layer 9; it has 2" in terminal("label", study.file, "--model", "m", "--layer", 9, code=2)
    assert "leave out --model" in terminal("label", study.file, "--model", "m", "--import", "x.tsv", code=2)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hid\nden")
    message = terminal("label", study.file, "--model", "m", "--url", "http://127.0.0.1:9", code=2)
    assert "OPENAI_API_KEY holds signs that no key has" in message
    assert "sk-hid" not in message
