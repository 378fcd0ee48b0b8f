"""SLURM jobs that have ended while their workers are waited for, with pretended commands of SLURM."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.workers import queued
from engine.workers.cluster import ClusterWorkers
from engine.workers.queued import Queue
from schemas.errors import InputError, WorkersError
from schemas.machine import Machine

FAILED, PENDING = "echo '7|FAILED (NonZeroExitCode)'", "echo '7|PENDING (Priority)'"
RUNNING, COMPLETING, OTHERS = "echo '7|RUNNING (None)'", "echo '7|COMPLETING (None)'", "echo '17|RUNNING (None)'"
FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
OUT_OF_REACH = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
SLOW = "exec sleep 60"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes commands that do what scripts say, in a folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(queued, "_LOOK", 0.0)
    monkeypatch.setattr(queued, "_SLOW", 0.5)

    def make(**scripts: str) -> None:
        for name, text in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)

    return make


def queue_of(*jobs: str, header: str = "#SBATCH -J dask-worker") -> Queue:
    return Queue(SimpleNamespace(workers={job: SimpleNamespace(job_id=job, job_header=header) for job in jobs}))


@pytest.mark.parametrize(
    "answers",
    [
        ["true", "true", "true", PENDING, "true", "true", "true", RUNNING],  # shown late, then seldom
        [FAILED, FAILED, FAILED, PENDING, FAILED, FAILED, FAILED, COMPLETING],  # sent again
        [FORGOTTEN, FORGOTTEN, FORGOTTEN, RUNNING],
        [OUT_OF_REACH] * 9,
        [SLOW] * 5,
        ["echo a; echo '|'; printf '\\377'"] * 3,
        ["echo '7|REVOKED (None)'"] * 9,  # a cluster of a federation, in another of which it runs
    ],
)
def test_check__a_job_that_may_bring_a_worker_is_waited_for(answers: list[str], commands: Callable[..., None]) -> None:
    queue = queue_of("7")
    for answer in answers:
        commands(squeue=answer)
        queue.check(came=False)


def test_check__without_squeue(commands: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    queue = queue_of("7")
    for _ in range(9):
        queue.check(came=False)


@pytest.mark.parametrize(
    ("answer", "state"),
    [(FAILED, r"FAILED \(NonZeroExitCode\)"), *((one, "no longer in the queue") for one in ("", FORGOTTEN, OTHERS))],
)
def test_check__all_have_ended(answer: str, state: str, commands: Callable[..., None]) -> None:
    commands(squeue=answer)
    for came, kind, message in (
        (False, InputError, rf"^machine file: type slurm: no worker came, .*\(job 7: {state}\); .*/slurm-7\.out\n"),
        (True, WorkersError, rf"^every worker was lost, .*\(job 7: {state}\); .*\nrun again to go on, finished tasks"),
    ):
        queue = queue_of("7")
        for _ in range(3):
            queue.check(came=came)
        with pytest.raises(kind, match=message):
            queue.check(came=came)


def test_check__squeue_is_asked_for_these_jobs_on_their_cluster_whatever_the_user_hides(
    commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "another")
    commands(squeue='echo "$@ $SQUEUE_PARTITION" > asked')
    queue_of("7", "8", header="#SBATCH -J a\n#SBATCH --clusters=serial").check(came=False)
    asked = (tmp_path / "asked").read_text().strip()
    assert asked == "--noheader --states=all --jobs=7,8 --format=%A|%T (%r) --clusters=serial"


def test_check__says_what_it_waits_for_when_that_changes(
    commands: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    queue = queue_of("7", "8", "9")
    some = "echo '8|PENDING (Priority)'; echo '9|COMPLETED (None)'"
    for answer in (PENDING, f"{PENDING}; {some}", f"{PENDING}; {some}", f"{RUNNING}; {some}"):
        commands(squeue=answer)
        queue.check(came=False)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["1 PENDING (Priority)", "2 PENDING (Priority)", "1 RUNNING, 1 PENDING (Priority)"]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("#SBATCH -J w\n#SBATCH -e logs/w-%J.err\n#SBATCH -o logs/w-%J.out", ["logs/w-7.err", "logs/w-7.out"]),
        ("#SBATCH -J w\n#SBATCH --output=mine-%j.txt", ["mine-7.txt"]),
        ("#SBATCH -J w", ["slurm-7.out"]),
    ],
)
def test_check__the_end_of_a_log_is_shown(
    header: str, names: list[str], commands: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / names[-1]).write_bytes(b"\xff" * 3000 + b"".join(b"\nline %d" % i for i in range(20)) + b"\n\n")
    commands(squeue=FAILED)
    queue = queue_of(*"123456", "7", header=header)
    for _ in range(3):
        queue.check(came=False)
    with pytest.raises(InputError) as error:
        queue.check(came=False)
    assert f"{tmp_path / names[-1]} ends with\n  line 10\n  line 11\n" in str(error.value)
    assert "\n  line 19\ncorrect python, job_script_prologue, memory" in str(error.value)
    assert "(the last 4 of 7: job 4: no longer in the queue, job 5" in str(error.value)


def test_enter__jobs_that_die_at_once_end_the_run(
    commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued, "_LOOK", 0.1)
    commands(
        sbatch='sh "$1" > slurm-7.out 2>&1; echo Submitted batch job 7',
        squeue=FAILED,
        scancel="echo $1 >> cancelled",
    )
    machine = Machine(type="slurm", workers=1, memory=1, python="/nowhere/python")  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"no worker came, .*job 7.*\n.*/nowhere/python.*\ncorrect python"):
        ClusterWorkers(machine).__enter__()
    assert (tmp_path / "cancelled").read_text() == "7\n"
