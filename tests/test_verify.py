"""Verifying: what is whole, within rounding, or damaged; what is taken back; and what cannot be computed again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr

from tests import crash
from tests.growing import GROWTHS, assert_stops, copy_of, small
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

STORE = "activations/tiny/encoder/de.zarr"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"bert": save_bert(tmp_path_factory.mktemp("bert"), positions=64)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> SmallStudy:
    study = small(tmp_path_factory.mktemp("finished"), models)
    assert crash.run("run", study.file) == 0
    return study


@pytest.fixture
def study(finished: SmallStudy, tmp_path: Path) -> SmallStudy:
    """A finished study that a test may spoil."""
    return copy_of(finished, tmp_path / "study")


def verify(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: object
) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `colign verify` over all shards."""
    capsys.readouterr()
    code = call(monkeypatch, "verify", study.file, "--json", "--sample", 99, *options)
    printed = capsys.readouterr()
    assert printed.out, printed.err
    return code, json.loads(printed.out)


def test_verify__untouched(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished.files()
    code, found = verify(finished, monkeypatch, capsys)
    shards = [name for name in crash.records(finished.directory) if name.startswith("activations/")]
    assert (code, found["damaged"], found["taken_back"]) == (0, {}, [])
    assert (found["equal"], found["close"]) == (len(shards), 0)
    arrays = [zarr.open_array(path.parent, mode="r") for path in finished.directory.rglob("zarr.json")
              if json.loads(path.read_text())["node_type"] == "array"
              and not {"results.zarr", "ledger.zarr"} & {*path.parts}]  # fmt: skip
    assert found["bytes"] >= sum(array.nbytes for array in arrays) > 0
    assert found["directory"] == str(finished.directory)
    assert finished.files() == before


def test_verify__as_text(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "verify", finished.file, "--sample", 1) == 0
    assert "of 1 shards computed again 1 equal to the bit, 0 within rounding; 0 tasks damaged" in " ".join(
        capsys.readouterr().out.split()
    )


def test_verify__grown(study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Vectors that were computed beside other words may differ by rounding; nothing is damaged."""
    GROWTHS["sentences"](study)
    assert call(monkeypatch, "run", study.file, "--grow") == 0
    code, found = verify(study, monkeypatch, capsys)
    assert (code, found["damaged"]) == (0, {})
    assert found["equal"] + found["close"] == sum(n.startswith("activations") for n in crash.records(study.directory))


def test_verify__while_it_grows(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors taken from the store before are compared with the model, not with that store."""
    GROWTHS["more words"](study)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.vectors.forget_previous", lambda *_: 1 / 0)
        assert_stops(study, "--grow")
    assert list(study.directory.rglob("*.previous.zarr"))
    code, found = verify(study, monkeypatch, capsys)
    assert (code, found["damaged"]) == (0, {})
    assert found["equal"] + found["close"] == sum(n.startswith("activations") for n in crash.records(study.directory))


@pytest.mark.parametrize(
    ("array", "value"),
    [
        pytest.param("activation", 0.5, id="vector"),
        pytest.param("word", "kuh", id="word"),
        pytest.param("activation", float("nan"), id="no vector", marks=pytest.mark.slow),
        pytest.param("present", False, id="presence", marks=pytest.mark.slow),
        pytest.param("position", 99, id="position", marks=pytest.mark.slow),
        pytest.param("token_id", 0, id="token", marks=pytest.mark.slow),
    ],
)
def test_verify__a_number_of_which_the_checksum_is_right(
    array: str, value: Any, study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only computing again finds it; the shards beside it are whole."""
    altered = zarr.open_array(study.directory / STORE / array, mode="r+")
    altered[(1, 40, 3) if array == "activation" else 40] = value
    code, found = verify(study, monkeypatch, capsys)
    assert code == 1
    assert list(found["damaged"].values()) == [["activations/tiny/encoder/de/32-56"]]
    assert "computing again gives other vectors" in next(iter(found["damaged"]))
    code, found = verify(study, monkeypatch, capsys, "--repair")
    assert found["taken_back"] == ["activations/tiny/encoder/de/32-56"]
    assert call(monkeypatch, "run", study.file) == 0
    assert verify(study, monkeypatch, capsys)[0] == 0


@pytest.mark.parametrize("done", [0, 3, 12])
def test_verify__unfinished(
    done: int,
    finished: SmallStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = copy_of(finished, tmp_path / "study")
    if done:
        for path in sorted((study.directory / "records").rglob("*.json"), key=lambda path: path.stat().st_mtime)[done:]:
            path.unlink()
    else:
        shutil.rmtree(study.directory)
    code, found = verify(study, monkeypatch, capsys)
    assert (code, found["damaged"]) == (0, {})
    assert found["equal"] == sum(name.startswith("activations/") for name in crash.records(study.directory))


def test_verify__the_words_are_damaged_and_so_nothing_is_computed(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chunk = next(path for path in (study.directory / "corpus.zarr" / "form").rglob("*") if path.name == "0")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    code, found = verify(study, monkeypatch, capsys)
    assert (code, found["equal"], found["close"]) == (1, 0, 0)
    assert list(found["damaged"].values()) == [["corpus"]]


@pytest.mark.usefixtures("wide")
def test_take_back__says_how_to_go_on(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dataset that cannot be opened goes, with the records of all that wrote it."""
    (study.directory / STORE / "zarr.json").write_text("{")
    assert call(monkeypatch, "verify", study.file) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"colign verify {study.file} --repair takes them back, then colign run {study.file} does them again" in said
    assert (study.directory / STORE).exists()
    assert call(monkeypatch, "verify", study.file, "--repair") == 1
    assert f"taken back: colign run {study.file} does them again" in " ".join(capsys.readouterr().out.split())
    assert not (study.directory / STORE).exists()
    assert not any(name.startswith("activations/tiny/encoder/de/") for name in crash.records(study.directory))
    assert verify(study, monkeypatch, capsys)[0] == 0
