"""One driver at a time in a study: who is refused, what is stale, and who is told that another has taken over."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine import lease
from schemas.errors import InputError
from tests import crash, rivals
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal


def content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_held__leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "study" / "lease.json"
    with lease.held(str(path)) as check:
        assert content(path)["process"] == os.getpid()
        check()
    assert not path.parent.exists()
    path.parent.mkdir()
    (path.parent / "mine").write_text("x")
    with lease.held(str(path)):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["mine"]


def test_held__another_is_refused_until_it_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "lease.json")
    with lease.held(path):
        before = content(tmp_path / "lease.json")
        said = rf"{tmp_path}: \S+ has been working there since .*process {os.getpid()}\); wait .* --take-over"
        with pytest.raises(InputError, match=said), lease.held(path):
            pass
        assert content(tmp_path / "lease.json") == before
    with lease.held(path):
        pass


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"began": "1"}, False),  # the number of a process that came again
        ({"process": 2**22 + 1}, False),
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "renewed": 0.0}, False),
        ({"renewed": 0.0}, True),  # a process of this host that was stopped for a while
    ],
)
def test_held__a_lease_ends_with_its_holder(changes: dict[str, Any], holds: bool, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with lease.held(str(path)):
        other = content(path) | {"token": "other"} | changes
    path.write_text(json.dumps(other))
    if holds:
        with pytest.raises(InputError, match="has been working there"), lease.held(str(path)):
            pass
        assert content(path) == other
    with lease.held(str(path), take_over=holds):
        assert content(path)["token"] != "other"


@pytest.mark.parametrize("text", ["", '{"token'])
def test_held__a_part_of_a_lease_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text(text)
    with lease.held(str(path)):
        assert content(path)["process"] == os.getpid()


@pytest.mark.parametrize("where", ["", "rivals://"])
@pytest.mark.parametrize(("stale", "take_over"), [(False, False), (True, False), (True, True)])
def test_held__of_those_who_come_at_once_one_gets_it(where: str, stale: bool, take_over: bool, tmp_path: Path) -> None:
    path = tmp_path / "study" / "lease.json"
    found = rivals.outcomes(f"{where}{path}", 3, 2 if where else 20, stale=stale, take_over=take_over)
    for outcomes in found:
        refused = [said for said in outcomes if said != "held"]
        assert len(refused) == 2, outcomes
        heard = ["has been working there since", *["someone has taken over"] * take_over]
        assert all(any(words in said for words in heard) for said in refused), outcomes
    assert [*tmp_path.rglob("*")] == [path.parent] * path.parent.exists()


def test_held__is_renewed_and_tells_when_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEWED", 0.05)
    path = tmp_path / "lease.json"
    with lease.held(str(path)) as first:
        began = content(path)["renewed"]
        end = time.monotonic() + 10
        while content(path)["renewed"] == began and time.monotonic() < end:
            time.sleep(0.02)
        assert content(path)["renewed"] > began
        first()
        with lease.held(str(path), take_over=True) as second:
            time.sleep(0.5)
            second()
            with pytest.raises(InputError, match="someone has taken over; what was finished is kept"):
                first()
    assert not path.exists()


def test_run__a_second_driver_is_refused_and_a_killed_one_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    colign = Terminal(monkeypatch, capsys)
    child = crash.start("run", study.file)
    crash.wait_for(lambda: (study.directory / "records" / "links").exists(), child)
    os.kill(child.pid, signal.SIGSTOP)  # at work, however slowly
    before = crash.records(study.directory)
    said = colign("run", study.file, code=2)
    assert f"process {child.pid})" in said
    assert "--take-over" in said
    assert crash.records(study.directory) == before
    assert crash.kill(child)
    colign("run", study.file)
    assert before.items() <= crash.records(study.directory).items()
    assert not (study.directory / "lease.json").exists()
