"""The ledger: attempts as workers tell of them, journals of runs that were killed, and the dataset of all runs."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine import ledger, paths
from engine.workers.attempts import Watch, logged, name_tasks_in_logs
from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Usage, Workers
from engine.workers.serial import SerialWorkers
from jobs import status
from jobs.progress import _Bars
from schemas.errors import TaskError, WorkersError
from schemas.ledger import LEDGER
from schemas.machine import Machine
from schemas.task import Attempt, Key
from tests import crash
from tests.contracts import tasks
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal

KEYS = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(5)]
USAGE = Usage(2, 1, 100, 200, "http://127.0.0.1:8787/status")


@pytest.fixture
def book(tmp_path: Path) -> ledger.Ledger:
    return ledger.Ledger(str(tmp_path / "journal"), lambda: USAGE)


def attempt(key: str, state: str, at: float = 100.0, process: int = 7, **values: Any) -> Attempt:
    return Attempt(key, at, "here", process, state=state, **values)


def gathered(folder: Path, book: ledger.Ledger) -> xr.Dataset:
    """The dataset that a run which ends leaves."""
    book.stop()
    ledger._gather(str(folder / "ledger.zarr"), str(folder / "journal"), book.rows)
    found = ledger.load(str(folder / "ledger.zarr"), str(folder / "journal"))
    assert found is not None
    return found


def rows(dataset: xr.Dataset, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(dataset[name].values.tolist() for name in names), strict=True))


def test_ledger__rows_are_attempts_in_the_order_of_their_beginning(tmp_path: Path, book: ledger.Ledger) -> None:
    book.take(attempt("links/de/en", "running", 102.0))
    book.take(attempt("corpus", "running", 101.0))
    book.take(attempt("links/de/en", "done", 102.0, seconds=3.0, bytes_written=9))
    book.take(attempt("corpus", "done", 101.0, seconds=1.0, cpu_seconds=0.5, peak_memory=10), {"disk": 0.25})
    found = gathered(tmp_path, book)
    LEDGER.validate(found)
    assert rows(found, "key", "stage", "state", "number", "seconds") == [
        ("corpus", "corpus", "done", 1, 1.0), ("links/de/en", "links", "done", 1, 3.0),
    ]  # fmt: skip
    np.testing.assert_array_equal(found.work_seconds.sel(attempt=0), [np.nan, np.nan, np.nan, np.nan, 0.25])
    assert found.bytes_written.values.tolist() == [0, 9]
    assert not Path(book.folder).exists()


def test_ledger__an_attempt_that_never_ended_is_lost_and_the_next_has_the_next_number(
    tmp_path: Path, book: ledger.Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    book.take(attempt("corpus", "running", 101.0, process=1))
    book.take(attempt("corpus", "running", 102.0, process=2))
    book.take(attempt("corpus", "failed", 102.0, process=2, note="OSError: no network"))
    book.take(attempt("corpus", "running", 103.0, process=3))
    found = gathered(tmp_path, book)
    assert rows(found, "state", "number", "process", "note") == [
        ("lost", 1, 1, ""), ("failed", 2, 2, "OSError: no network"), ("lost", 3, 3, ""),
    ]  # fmt: skip
    assert "corpus: failed on here (process 2): OSError: no network" in caplog.text
    assert "corpus: lost on here (process 1) with its worker" in caplog.text
    assert "process 3" not in caplog.text  # the run ended, and its worker with it or not


def test_ledger__what_a_killed_run_was_doing_is_lost(tmp_path: Path, book: ledger.Ledger) -> None:
    book.take(attempt("corpus", "done", 101.0))
    book.write()
    book.take(attempt("links/de/en", "running", 102.0))
    book.write()
    book.take(attempt("links/de/en", "done", 102.0))  # killed before it was written: the record says that it is done
    before = ledger.load(str(tmp_path / "ledger.zarr"), str(tmp_path / "journal"))
    assert before is not None
    assert rows(before, "key", "state") == [("corpus", "done")]
    later = ledger.Ledger(str(tmp_path / "journal"), lambda: USAGE)
    ledger._gather(str(tmp_path / "ledger.zarr"), str(tmp_path / "journal"), [])
    later.take(attempt("links/de/en", "done", 202.0))
    found = gathered(tmp_path, later)
    assert rows(found, "key", "state", "number") == [
        ("corpus", "done", 1), ("links/de/en", "lost", 1), ("links/de/en", "done", 2),
    ]  # fmt: skip
    assert len(set(found.run.values)) == 2


def test_ledger__an_attempt_that_ended_between_two_files_of_the_journal_is_not_lost(
    tmp_path: Path, book: ledger.Ledger
) -> None:
    book.take(attempt("corpus", "running"))
    book.write()
    now = (Path(book.folder) / "now.json").read_text()
    book.take(attempt("corpus", "done", seconds=2.0))
    book.write()
    (Path(book.folder) / "now.json").write_text(now)  # killed before it was written again
    assert rows(gathered(tmp_path, book), "state", "seconds") == [("done", 2.0)]


def test_ledger__a_journal_that_is_taken_up_twice_counts_once(tmp_path: Path, book: ledger.Ledger) -> None:
    book.take(attempt("corpus", "done"))
    book.write()
    kept = {path: path.read_bytes() for path in Path(book.folder).iterdir()}
    gathered(tmp_path, book)
    Path(book.folder).mkdir(parents=True)
    for path, content in kept.items():  # as if killed between the dataset and the journal's removal
        path.write_bytes(content)
    assert gathered(tmp_path, book).sizes["attempt"] == 1


def test_ledger__what_cannot_be_written_is_written_later(
    tmp_path: Path, book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.take(attempt("corpus", "done"))
    with monkeypatch.context() as patched:
        patched.setattr(paths, "write_text", lambda *_: (_ for _ in ()).throw(OSError("no network")))
        with pytest.raises(OSError, match="no network"):
            book.write()
    book.take(attempt("links/de/en", "done", 101.0))
    book.write()
    assert book.rows == []
    assert gathered(tmp_path, book).key.values.tolist() == ["corpus", "links/de/en"]


def test_ledger__what_a_killed_writer_left_of_a_journal_goes_with_it(tmp_path: Path) -> None:
    left = tmp_path / "journal" / "run" / "000000.json.abc.partial"
    left.parent.mkdir(parents=True)
    left.write_text("")
    with (
        SerialWorkers(1, 2**30) as workers,
        ledger.kept(str(tmp_path / "ledger.zarr"), str(tmp_path / "journal"), workers, lambda *_: {}, lambda: None),
    ):
        pass
    assert not left.parent.parent.exists()


def test_ledger__that_cannot_be_kept_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file lies where the dataset belongs: every write fails."""
    (tmp_path / "ledger.zarr").write_text("not a dataset")
    (tmp_path / "ledger.zarr.partial").mkdir()
    (tmp_path / "journal").write_text("nor a folder")
    with (
        SerialWorkers() as workers,
        ledger.kept(
            str(tmp_path / "ledger.zarr"), str(tmp_path / "journal"), workers, lambda *_: {}, lambda: None
        ) as book,
    ):
        assert dict(workers.map(tasks.square, KEYS)) == {key: key.start**2 for key in KEYS}
        with pytest.raises(OSError, match="journal"):
            book.write()


def test_now__is_what_the_run_at_work_says(tmp_path: Path, book: ledger.Ledger) -> None:
    assert ledger.now(str(tmp_path / "journal")) is None
    book.at("corpus", 0, 1, "")
    book.at("links", 4, 10, "")
    book.take(attempt("links/de/en", "running"))
    time.sleep(0.02)
    book.at("links", 6, 10, "a note")
    book.at("links", 7, 10, "")
    book.write()
    found = ledger.now(str(tmp_path / "journal"))
    assert found is not None
    assert (found["stage"], found["done"], found["total"], found["note"]) == ("links", 7, 10, "a note")
    assert found["left"] == pytest.approx(3 / found["rate"])
    assert 0 < found["rate"] <= 3 / 0.02
    assert Usage(**found["usage"]) == USAGE
    assert [one["key"] for one in found["running"]] == ["links/de/en"]


# What workers tell


@pytest.fixture(scope="module", params=["serial", "local"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    kinds = {"serial": SerialWorkers(), "local": ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1))}
    with kinds[request.param] as made:
        yield made


@pytest.fixture
def told(workers: Workers) -> Iterator[list[tuple[Attempt, Any]]]:
    found: list[tuple[Attempt, Any]] = []
    workers.observer = lambda one, result: found.append((one, result))
    yield found
    workers.observer = lambda *_: None


def test_summary__says_which_bytes_nobody_counts(tmp_path: Path, book: ledger.Ledger) -> None:
    book.take(attempt("links/de/en", "done", bytes_read=2048, bytes_written=1024))
    found = gathered(tmp_path, book)
    for root, read, written in ((str(tmp_path), "2.0 KiB", "1.0 KiB"), ("memory://study", "not known", "not known")):
        assert [[*c.cells] for c in status.summary(found, root).columns[4:6]] == [[read], [written]]


def test_map__tells_of_every_attempt(workers: Workers, told: list[tuple[Attempt, Any]]) -> None:
    assert len(list(workers.map(tasks.wait, KEYS, 0.05))) == len(KEYS)
    names = sorted(str(key) for key in KEYS)
    for state in ("running", "done"):
        assert sorted(one.key for one, _ in told if one.state == state) == names
    began = {(one.key, one.process, one.started) for one, _ in told if one.state == "running"}
    for one, result in told:
        assert (one.key, one.process, one.started) in began
        if one.state == "done":
            assert result is None
            assert 0.05 <= one.seconds < 5
            assert one.peak_memory > 2**20


def test_map__tells_of_results_and_bytes(workers: Workers, told: list[tuple[Attempt, Any]], tmp_path: Path) -> None:
    list(workers.map(tasks.write, KEYS, str(tmp_path)))
    done = {one.key: (one.bytes_written, result) for one, result in told if one.state == "done"}
    assert [done[str(key)][1] for key in KEYS] == [key.start for key in KEYS]
    assert all(10**6 <= done[str(key)][0] < 2 * 10**6 for key in KEYS)


def test_map__tells_of_failures(workers: Workers, told: list[tuple[Attempt, Any]]) -> None:
    with pytest.raises(TaskError):
        list(workers.map(tasks.broken, KEYS))
    failed = [one for one, _ in told if one.state == "failed"]
    assert {(one.key, one.note) for one in failed} == {("stage/a/2-3", "ZeroDivisionError: two")}
    assert len(failed) == (1 if isinstance(workers, SerialWorkers) else 2)  # tried again there


def test_fold__is_one_attempt_of_many_calls(workers: Workers, told: list[tuple[Attempt, Any]]) -> None:
    keys = [Key("stage", ("a", layer), i, i + 1) for layer in ("1", "2") for i in range(3)]
    workers.fold(tasks.name, workers.hold(tasks.load, keys, 10**15), list.__add__)
    ((one, result),) = told
    assert (one.key, one.step, one.state, one.calls, result) == ("stage/a", "name", "done", 6, None)


def test_usage__counts_workers_and_memory(workers: Workers) -> None:
    found = workers.usage()
    assert found.workers == (1 if isinstance(workers, SerialWorkers) else 2)
    assert found.memory > 0
    assert found.dashboard.startswith("http://127.0.0.1:") or isinstance(workers, SerialWorkers)


def test_bars__go_on_where_the_scheduler_is_lost() -> None:
    """The run itself says so, once, in words."""
    with ClusterWorkers(Machine(type="local", workers=1, memory=1)) as made:
        bars = _Bars(made)
        bars.add_task("links", total=2)
        assert len([*bars.get_renderables()]) == 2
        made._client.cluster.close()
        made._used = None  # what was seen lately
        assert len([*bars.get_renderables()]) == 1
        made._client.close()
        made._seen = (-60.0, ["one"])
        with pytest.raises(WorkersError, match="the Dask scheduler, or every worker, was lost"):
            list(made.map(tasks.die_once, KEYS, "nowhere"))
        with pytest.raises(WorkersError, match="the Dask scheduler, or every worker, was lost"):
            list(made.map(tasks.die_once, KEYS))


def test_map__a_killed_worker_loses_its_attempt(tmp_path: Path) -> None:
    book = ledger.Ledger(str(tmp_path / "journal"), lambda: USAGE)
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1)) as made:
        made.observer = lambda one, _: book.take(one)
        (tmp_path / "seen").mkdir()
        list(made.map(tasks.die_once, KEYS, str(tmp_path / "seen")))
    found = gathered(tmp_path, book)
    of_key = found.isel(attempt=found.key.values == "stage/a/1-2")
    assert rows(of_key, "state", "number") == [("lost", 1), ("done", 2)]
    assert len(set(of_key.process.values)) == 2
    done = found.isel(attempt=found.state.values == "done")
    assert sorted(done.key.values) == [str(key) for key in KEYS]  # each once


def test_logged__names_the_task(caplog: pytest.LogCaptureFixture) -> None:
    name_tasks_in_logs()
    factory = logging.getLogRecordFactory()
    name_tasks_in_logs()
    assert logging.getLogRecordFactory() is factory
    log = logging.getLogger("engine.links")
    with logged(Key("links", ("de", "en"))):
        log.warning("%d sentences are long", 3)
    log.warning("nothing at work")
    assert [record.getMessage() for record in caplog.records] == [
        "links/de/en: 3 sentences are long", "nothing at work",
    ]  # fmt: skip


def test_logs_of_workers_reach_this_process(caplog: pytest.LogCaptureFixture) -> None:
    with ClusterWorkers(Machine(type="local", workers=1, memory=1)) as made:
        list(made.map(tasks.warn, KEYS[:2]))
        until = time.monotonic() + 10
        while len(caplog.records) < 2 and time.monotonic() < until:
            time.sleep(0.05)
    found = sorted(record.getMessage() for record in caplog.records if record.name == "engine.of-a-test")
    assert found == ["stage/a/0-1: seen 0", "stage/a/1-2: seen 1"]


def test_workers__hear_of_their_own_run_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Several runs may share a scheduler: each keeps a ledger and a log of its own."""
    with ClusterWorkers(Machine(type="local", workers=1, memory=1)) as one:
        with ClusterWorkers(Machine(type="address", address=one.address, memory=1)) as other:
            heard: dict[str, list[Attempt]] = {"one": [], "other": []}
            one.observer, other.observer = (lambda it, _, to=to: to.append(it) for to in heard.values())
            list(one.map(tasks.warn, KEYS[:2]))
            list(other.map(tasks.warn, KEYS[2:]))
            until = time.monotonic() + 10
            while min(map(len, heard.values())) < 4 and time.monotonic() < until:  # the last comes by two ways
                time.sleep(0.05)
            time.sleep(0.2)
        keys = {name: {attempt.key for attempt in told} for name, told in heard.items()}
    assert keys == {"one": {"stage/a/0-1", "stage/a/1-2"}, "other": {str(key) for key in KEYS[2:]}}
    found = sorted(record.getMessage() for record in caplog.records if record.name == "engine.of-a-test")
    assert found == [f"{key}: seen {key.start}" for key in KEYS]  # each once


def test_watch__peak_and_processor_of_this_process() -> None:
    watch = Watch("x")
    sum(range(10**6))
    found = watch.ended()
    assert 0 < found.cpu_seconds <= found.seconds + 0.5
    assert watch.ended(OSError("no")).note == "OSError: no"


# Whole studies


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    folder = tmp_path_factory.mktemp("ledger")
    study = SmallStudy(folder / "s", save_bert(folder / "model", positions=64))
    assert crash.run("run", study.file) == 0
    return study


def test_run__ledger_agrees_with_the_records(finished: SmallStudy) -> None:
    found = xr.open_zarr(finished.directory / "ledger.zarr", consolidated=False, chunks=None)
    assert set(found.state.values) == {"done"}
    assert set(found.number.values[found.step.values == ""]) == {1}
    recorded = crash.records(finished.directory)
    mapped = [name for name in recorded if not name.startswith(("concepts/", "activations/"))]
    assert set(mapped) <= set(found.key.values)
    shards = found.key.values[found.stage.values == "activations"]
    assert sum(int(b) - int(a) for a, b in (name.split("/")[-1].split("-") for name in shards)) == sum(
        int(b) - int(a) for a, b in (name.split("/")[-1].split("-") for name in recorded if "activations" in name)
    )
    assert np.isnan(found.work_seconds.values[found.stage.values != "activations"]).all()
    assert (found.work_seconds.sel(work="model").values[found.stage.values == "activations"] > 0).all()
    assert {"sweep", "label", "moments"} <= set(found.step.values)
    assert not (finished.directory / "journal").exists()


def test_run__that_does_nothing_leaves_the_ledger_alone(finished: SmallStudy, terminal: Terminal) -> None:
    before = crash.content(finished.directory / "ledger.zarr", metadata=True)
    terminal("run", finished.file)
    assert crash.content(finished.directory / "ledger.zarr", metadata=True) == before


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def test_status__during_a_run_and_after_it(tmp_path: Path, terminal: Terminal, wide: None) -> None:
    study = SmallStudy(tmp_path / "s", save_bert(tmp_path / "model", positions=64))
    child = crash.start("run", study.file, slow=("links/de/en", 8.0))
    journal = str(study.directory / "journal")
    crash.wait_for(lambda: "links/de/en" in str((ledger.now(journal) or {}).get("running")), child)
    found = terminal.json("status", study.file)
    assert found["complete"] is False
    assert found["run"]["process"] == child.pid
    assert (found["now"]["stage"], found["now"]["done"]) == ("links", 0)
    (running,) = found["now"]["running"]
    assert running["key"] == "links/de/en"
    said = terminal("status", study.file)
    assert f"process {child.pid}" in said
    assert "links 0 of 2" in said
    assert "1 worker, 1 at work" in said
    assert "links/de/en" in said
    crash.kill(child)
    assert "the last run did not come to its end" in terminal("status", study.file)
    assert crash.run("run", study.file) == 0
    found = terminal.json("status", study.file)
    assert (found["complete"], found["run"], found["now"]) == (True, None, None)
    assert {row["stage"]: row["lost"] for row in found["stages"]}["links"] == 1
    attempts = xr.open_zarr(study.directory / "ledger.zarr", consolidated=False, chunks=None)
    of_key = attempts.isel(attempt=attempts.key.values == "links/de/en")
    assert rows(of_key, "state", "number") == [("lost", 1), ("done", 2)]
