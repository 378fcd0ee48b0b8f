"""The stage of vectors as it is seen: several writers of one store, its speed, and what it will take."""

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr

from engine.workers.serial import SerialWorkers
from jobs import files, stages, tasks, vectors
from jobs.run import Event, run
from jobs.selections import read_text
from schemas.study import Study
from schemas.task import Key
from tests import crash
from tests.growing import copy_of, small
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

MEMORY = 2 * 2**30


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"bert": save_bert(tmp_path_factory.mktemp("bert"), positions=64)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> tuple[SmallStudy, list[Event]]:
    """A study that has run, and what was told to those who watched."""
    study = small(tmp_path_factory.mktemp("finished"), models)
    loaded, layout = files.load_study(str(study.file))
    told: list[Event] = []
    with pytest.MonkeyPatch.context() as patched, SerialWorkers(memory=MEMORY) as workers:
        patched.setattr("jobs.run.write_figures", lambda *_: None)
        run(loaded, layout, workers, MEMORY, told.append)
    return study, told


def context_of(study: SmallStudy) -> tuple[Study, tasks.Context, list[Any]]:
    loaded, layout = files.load_study(str(study.file))
    context = stages.context(loaded, layout, 1, MEMORY)
    text = read_text(loaded, layout, [str(Key("corpus"))])
    return loaded, context, [s for s in stages.stages(context, text, MEMORY) if s.name == "activations"]


def write_some(file: str, turn: int, turns: int) -> None:
    """Write every n-th shard of a study's vectors, one task a shard."""
    loaded, layout = files.load_study(file)
    context = stages.context(loaded, layout, 1, MEMORY)
    text = read_text(loaded, layout, [str(Key("corpus"))])
    [stage] = [s for s in stages.stages(context, text, MEMORY) if s.name == "activations"]
    for key in stage.keys[turn::turns]:
        tasks.perform_shards(key, context.vectors)


@pytest.mark.parametrize("writers", [2, 3])
def test_extract__several_processes_write_one_store(
    writers: int, finished: tuple[SmallStudy, list[Event]], tmp_path: Path
) -> None:
    """Each has its own shards, side by side in one array; the bits are those of one process."""
    study = copy_of(finished[0], tmp_path / "study")
    _, context, [stage] = context_of(study)
    for path in (study.directory / "records" / "activations").rglob("*.json"):
        path.unlink()
    for chunk in (study.directory / "activations").rglob("c"):
        shutil.rmtree(chunk)
    for part in context.extractions:
        vectors._lay_out(part, context.vectors)
    children = [crash.start_function(write_some, str(study.file), turn, writers) for turn in range(writers)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert {str(key) for key in stage.keys} <= crash.records(study.directory).keys()
    one, other = (crash.content(root / "activations") for root in (study.directory, finished[0].directory))
    assert one == other
    assert len(one) > 20


def test_run__says_how_fast_vectors_are_written(finished: tuple[SmallStudy, list[Event]]) -> None:
    study, told = finished
    notes = [event.note for event in told if event.stage == "activations" and event.note]
    pattern = r"^([\d,]+) sentences, ([\d,]+) words/s, ([\d,.]+) MB/s, (\d[\d:]*) s left$"
    said = [match for note in notes if (match := re.search(pattern, note))]
    assert len(said) == len(notes) - 1
    sentences = [int(match[1].replace(",", "")) for match in said]
    assert sentences == sorted(sentences)
    outcomes = vectors.outcomes(records_of(study))
    assert sentences[-1] == sum(outcome["sentences"] for outcome in outcomes)
    assert said[-1][4] == "0"
    assert notes[-1].startswith("limit: ")
    done = [event.done for event in told if event.stage == "activations"]
    assert done == sorted(done)
    assert done[-1] == len(outcomes)


def records_of(study: SmallStudy) -> list[Any]:
    from engine.records import read_records  # noqa: PLC0415

    return list(read_records(str(study.directory / "records")).values())


def test_status__names_what_limits_the_extraction(
    finished: tuple[SmallStudy, list[Event]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = finished
    assert call(monkeypatch, "status", study.file, "--json") == 0
    work = json.loads(capsys.readouterr().out)["extraction"]
    assert set(work) == {"text", "model", "copy", "compression", "disk", "bytes"}
    assert all(value >= 0 for value in work.values())
    assert work["text"] > 0
    assert work["model"] > 0
    written = sum(path.stat().st_size for path in (study.directory / "activations").rglob("*")
                  if path.is_file() and path.name != "zarr.json" and path.parts[-3] != "layer")  # fmt: skip
    assert work["bytes"] == written
    assert call(monkeypatch, "status", study.file) == 0
    said = capsys.readouterr().out
    longest = max((name for name in work if name != "bytes"), key=work.__getitem__)
    assert f"activations: limit: {longest} (text " in said
    assert all(f"{name} {work[name]:.1f} s" in said for name in work if name != "bytes")
    assert f"{written / 1e6:,.1f} MB)" in said


def test_status__nothing_is_extracted_yet(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small(tmp_path, models)
    assert call(monkeypatch, "status", study.file, "--json") == 0
    work = json.loads(capsys.readouterr().out)["extraction"]
    assert work == {"text": 0, "model": 0, "copy": 0, "compression": 0, "disk": 0, "bytes": 0}
    assert call(monkeypatch, "status", study.file) == 0
    assert "limit" not in capsys.readouterr().out


def test_plan__prints_disk_by_layer_and_language(
    finished: tuple[SmallStudy, list[Event]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = finished
    assert call(monkeypatch, "plan", study.file, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["vectors"]
    assert [(row["checkpoint"], row["stack"], row["language"]) for row in rows] == [
        ("tiny", "encoder", lang) for lang in ("en", "de", "fr")
    ]
    for row in rows:
        path = study.directory / f"activations/tiny/encoder/{row['language']}.zarr/activation"
        stored = zarr.open_array(path, mode="r")
        assert (row["layers"], row["layer_bytes"]) == (stored.shape[0], stored.nbytes // stored.shape[0])
        on_disk = sum(chunk.stat().st_size for chunk in (path / "c").rglob("*") if chunk.is_file())
        assert stored.nbytes < on_disk  # indices and checksums of shards
        assert stored.nbytes < row["bytes"]
    assert call(monkeypatch, "plan", study.file) == 0
    printed = capsys.readouterr().out
    assert "vectors on disk" in printed
    assert "each layer" in printed
    for row in rows:
        assert re.search(rf"tiny .* encoder .* {row['language']} .* 2 .* {row['layer_bytes'] / 1024:.1f} KiB", printed)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan__refuses_what_the_disk_cannot_hold(
    command: str,
    tmp_path: Path,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = small(tmp_path, models)
    assert call(monkeypatch, "plan", study.file, "--json") == 0
    needed = sum(row["disk"] for row in json.loads(capsys.readouterr().out)["stages"])
    for free in (needed, needed - 1, 0, None):
        monkeypatch.setattr("engine.paths.free_bytes", lambda _, free=free: free)
        if free in (needed, None) and command == "run":
            continue
        code = call(monkeypatch, command, study.file)
        printed = capsys.readouterr().err
        if free in (needed, None):
            assert (code, printed) == (0, "")
            continue
        assert code == 2
        assert f"the study will write about {needed / 1024:.1f} KiB, the disk has {free / 1024:.1f} KiB free" in (
            printed.replace("the disk has 0.0 B", "the disk has 0.0 KiB")
        )
        assert "--out" in printed
    assert not study.directory.exists() or command == "run"


def test_plan__of_what_is_left(
    finished: tuple[SmallStudy, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written already needs no more room."""
    study = copy_of(finished[0], tmp_path / "study")
    monkeypatch.setattr("engine.paths.free_bytes", lambda _: 0)
    assert call(monkeypatch, "plan", study.file) == 0
    for path in itertools.islice((study.directory / "records").rglob("*.json"), 1):
        path.unlink()
    assert call(monkeypatch, "plan", study.file) == 2
