"""The commands: what they print, where, and with which exit code."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from engine.workers.serial import SerialWorkers
from jobs.run import Event, Watch
from jobs.show import AlignedPair
from schemas.study import Study
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

HELP = {
    "run": "Run a study; what is done already is kept",
    "plan": "Print tasks, disk and memory of a study before anything runs",
    "status": "Say how far a study is, what is being done",
    "show": "Print the largest aligned pairs of concepts",
    "demo": "The paper in miniature",
    "schema": "Print the JSON Schema of the study file",
}
STAGES = ["corpus", "links", "dictionary", "activations", "concepts", "counts"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("small-model"), positions=64)


@pytest.fixture
def study(tmp_path: Path, model: str) -> SmallStudy:
    """A study that has not run."""
    return SmallStudy(tmp_path, model)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: str) -> SmallStudy:
    """A study that has run, figures included; by its thresholds some concepts are aligned in any case."""
    study = SmallStudy(tmp_path_factory.mktemp("finished"), model)
    study.set("metrics", {"theta_align": 0.1, "min_types": 0, "max_size_gap": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "run", study.file) == 0
    return study


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch, wide: None) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize("command", list(HELP))
def test_help__says_what_the_command_does(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    assert HELP[command] in " ".join(capsys.readouterr().out.split())


def test_help__lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    printed = capsys.readouterr().out
    assert [command for command in HELP if command not in printed] == []


def test_version__is_that_of_all_that_decides_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--version") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"colign {version('colign')}"
    assert f"torch {version('torch')}" in lines


@pytest.mark.parametrize(
    "arguments",
    [("plan", "s.yaml", "--jsn"), ("run",), ("walk", "s.yaml"), ("show", "s.yaml", "--source", "de"),
     ("show", "s.yaml", "--source", "de", "--target", "en", "--top", "0")],
    ids=["unknown option", "no study", "unknown command", "no target", "none to show"],
)  # fmt: skip
def test_wrong_usage__shows_usage(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: " in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_plan__computes_and_writes_nothing(
    as_json: bool, study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: SerialWorkers, *_: object) -> None:
        raise AssertionError("a plan computes nothing")

    for verb in ("__enter__", "map", "hold", "fold"):
        monkeypatch.setattr(SerialWorkers, verb, refuse)
    before = sorted(study.folder.rglob("*"))
    assert call(monkeypatch, "plan", study.file, *(["--json"] if as_json else [])) == 0
    assert sorted(study.folder.rglob("*")) == before
    printed = capsys.readouterr()
    assert printed.err == ""
    if not as_json:
        assert all(name in printed.out for name in (*STAGES, "selected tokens", "projected peak"))
        assert "clustering: a pass over all layers and runs" in printed.out
        assert "tiny/encoder/de+en" in printed.out or "tiny/encoder/en+de" in printed.out
        return
    found = json.loads(printed.out)
    assert found["directory"] == str(study.directory)
    assert [row["stage"] for row in found["stages"]] == STAGES
    assert all(row["done"] == 0 < row["tasks"] for row in found["stages"])
    assert all(row["disk"] > 0 and row["memory"] > 0 for row in found["stages"])
    assert found["text"]["sentences"] == 30
    assert found["text"]["tokens"] == {"en": 150, "de": 135, "fr": 150}
    assert len(found["clustering"]) == next(row["tasks"] for row in found["stages"] if row["stage"] == "concepts")
    for row in found["clustering"]:
        assert (row["layers"], row["runs"], row["held"], row["bytes_read_a_pass"]) == (1, 1, True, 0)
        assert row["seconds_a_whole_pass"] > 0
        assert row["memory"] > 2**29
        assert row["vectors"] > 0


def test_plan__of_a_finished_study_has_nothing_left(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan", finished.file, "--json") == 0
    assert all(row["done"] == row["tasks"] for row in json.loads(capsys.readouterr().out)["stages"])


def test_run__prints_scores_on_output_and_progress_on_error(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    assert call(monkeypatch, "run", finished.file) == 0
    printed = capsys.readouterr()
    assert "CALIGN" in printed.out
    assert "COLAP" in printed.out
    assert "de → en" in printed.out
    assert f"results  {finished.directory}/results.zarr" in printed.out
    assert all(stage in printed.err for stage in STAGES)
    assert "CALIGN" not in printed.err
    assert (finished.directory / "figures" / "calign.png").is_file()


def test_status__says_what_is_left(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "status", study.file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] is False
    assert all(row["done"] == 0 for row in found["stages"])
    assert call(monkeypatch, "status", study.file) == 0
    assert f"not complete: colign run {study.file} goes on" in " ".join(capsys.readouterr().out.split())
    assert not study.directory.exists()


@pytest.mark.parametrize("form", ["file", "directory"])
def test_status__of_a_finished_study(
    form: str, finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "status", getattr(finished, form), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] is True
    assert found["directory"] == str(finished.directory)
    assert [row["stage"] for row in found["stages"]] == STAGES
    assert all(row["done"] == row["tasks"] and row["seconds"] >= 0 for row in found["stages"])
    assert all(row["peak_memory"] > 2**20 for row in found["stages"])


def test_show__json(finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        call(monkeypatch, "show", finished.directory, "--source", "fr", "--target", "en", "--json", "--top", "2") == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["checkpoint"], found["stack"], found["layer"]) == ("tiny", "encoder", 2)
    assert 0 < len(found["pairs"]) <= 2
    french, english = ({word for line in lines for word in line.split()} for lines in
                       (finished.text(lang).read_text().splitlines() for lang in ("fr", "en")))  # fmt: skip
    for pair in found["pairs"]:
        assert set(pair["source_words"]) <= french
        assert set(pair["target_words"]) <= english
        assert len(pair["source_words"]) == pair["source_types"] >= pair["aligned_types"] > 0
        assert {word for word, _ in pair["matched"]} <= set(pair["source_words"])


def test_show__text(finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "show", finished.directory, "--source", "fr", "--target", "en", "--layer", "2") == 0
    printed = capsys.readouterr()
    assert "tiny, encoder, layer 2" in printed.out
    assert printed.err == ""


def test_show__words_that_look_like_markup(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["[/b]", "[red]", ":cat:"]
    pair = AlignedPair(0, 0, 3, 3, 3, words, words, [])
    monkeypatch.setattr("jobs.cli.aligned_pairs", lambda *_: [pair])
    assert call(monkeypatch, "show", finished.directory, "--source", "fr", "--target", "en") == 0
    assert capsys.readouterr().out.count("[/b] [red] :cat:") == 2


def test_schema__describes_a_study_file(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= study.values.keys() <= schema["properties"].keys()
    for name in ("selection", "activations", "concepts"):
        section = schema["$defs"][schema["properties"][name]["$ref"].rpartition("/")[2]]
        assert study.values[name].keys() <= section["properties"].keys()
        assert all(field.get("description") for field in section["properties"].values())


def test_main__stopped_by_the_keyboard(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.cli.run", stop)
    assert call(monkeypatch, "run", study.file) == 130
    assert "finished tasks are kept, run again to go on" in capsys.readouterr().err


def test_main__stopped_where_python_drops_it(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a callback of the garbage collector: the run ends at its next event."""
    events = []

    def run(study: Study, layout: object, workers: object, memory: int, watch: Watch, **_: object) -> None:
        watch(Event("corpus", 0, 1))
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        _gc_callback()
        events.append("goes on")
        watch(Event("corpus", 1, 1))
        events.append("never")

    def _gc_callback() -> None:  # called as Dask's, which Python drops the exception of and prints it
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("jobs.cli.run", run)
    assert call(monkeypatch, "run", study.file) == 130
    assert events == ["goes on"]
    assert "finished tasks are kept, run again to go on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_main__stopped_while_workers_start(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SerialWorkers, "__enter__", stop)
    assert call(monkeypatch, "run", study.file) == 130
    assert "finished tasks are kept, run again to go on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("children", "says"),
    [(0, ""), pytest.param(1, "again to go on", marks=pytest.mark.slow), (4, "again to go on")],
)
def test_main__ctrl_c_in_a_terminal(study: SmallStudy, tmp_path: Path, children: int, says: str) -> None:
    """The terminal tells all processes: while modules are imported, while processes start, and when they are there."""
    machine = tmp_path / "machine.yaml"
    machine.write_text("type: local\nworkers: 2\nmemory: 2\n")
    command = [sys.executable, "-m", "jobs", "run", str(study.file), "--machine", str(machine)]
    with (tmp_path / "said").open("w") as sink:
        run = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        while len(psutil.Process(run.pid).children(recursive=True)) < children:
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(timeout=120) in ((130,) if children else (130, -signal.SIGINT))  # before Python has begun
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert says in said


def test_main__in_a_shell(study: SmallStudy) -> None:
    study.set("concepts.k", "many")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "plan", str(study.file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {study.file}: 1 problem(s)")
    assert "Traceback" not in done.stderr
