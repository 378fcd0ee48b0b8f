"""A study on SLURM itself: its daemons run here as one node, from Debian's slurm-wlm and munge."""

import operator
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import dask
import pytest

from engine.workers import queued
from engine.workers.cluster import ClusterWorkers
from schemas.errors import WorkersError
from schemas.machine import Machine
from schemas.task import Key
from tests import crash
from tests.contracts import tasks
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal, call
from tests.test_tls import certified

ROOT = Path(__file__).parents[1]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="starting SLURM's daemons takes root"),
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason="needs the packages slurm-wlm and munge"),
]

CONFIGURATION = """\
ClusterName=colign
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ReturnToService=2
SwitchType=switch/none
NodeName={host} CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "SLURM takes too long"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o700)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("", 0))
            ports.append(free.getsockname()[1])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 3 // 4
    host = socket.gethostname().partition(".")[0]
    names = {"folder": folder, "host": host, "ports": ports, "memory": memory, "cores": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**names))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    log = (folder / "log").open("w")
    paths = {name: f"{folder}/munge.{name}" for name in ("socket", "pid", "seed", "log")}
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={paths['socket']}",
         f"--pid-file={paths['pid']}", f"--seed-file={paths['seed']}", f"--log-file={paths['log']}"],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D"],
    ]  # fmt: skip
    running = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        try:
            for command in commands:
                running.append(subprocess.Popen(command, stdout=log, stderr=log))
                wait_for(lambda: Path(paths["socket"]).exists(), 20)
            wait_for(
                lambda: "idle" in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout, 60
            )
            yield
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()
            log.close()


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("how", [{"workers": 2}, {"workers": 2, "processes": 2}, {"adaptive": {"maximum": 2}}])
def test_run__on_slurm_equals_this_process(
    how: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    assert call(monkeypatch, "run", study.file, "--out", tmp_path / "here") == 0
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    machine = study.machine(type="slurm", memory=1, walltime="00:10:00", log_directory=str(tmp_path / "logs"), **how)
    colign = Terminal(monkeypatch, capsys)
    colign("run", study.file, "--out", tmp_path / "there", "--machine", machine)
    crash.assert_equal(tmp_path / "there", tmp_path / "here")
    assert list((tmp_path / "logs").iterdir()), "no job has run"
    assert "RUNNING" not in squeue()


@pytest.mark.usefixtures("slurm")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make certificates")
def test_run__on_slurm_with_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    logs = tmp_path / "logs"
    machine = study.machine(type="slurm", workers=1, memory=1, walltime="00:10:00", log_directory=str(logs))
    with dask.config.set(certified(tmp_path / "tls")):
        Terminal(monkeypatch, capsys)("run", study.file, "--machine", machine)
    assert any("tls://" in log.read_text() for log in logs.iterdir())
    assert not any("tcp://" in log.read_text() for log in logs.iterdir())
    wait_for(lambda: "RUNNING" not in squeue(), 30)


@pytest.mark.usefixtures("slurm")
def test_template__a_job_that_is_stopped_and_sent_again_equals_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    assert call(monkeypatch, "run", study.file, "--out", tmp_path / "here") == 0
    command = tmp_path / "bin" / "colign"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m jobs.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    machine = study.machine(
        type="slurm", workers=1, memory=1, walltime="00:10:00", log_directory=str(tmp_path / "logs")
    )
    there = tmp_path / "there"
    sent = ["sbatch", "--wait", f"--output={tmp_path}/colign.log", ROOT / "deploy" / "slurm.sh"]
    first = subprocess.Popen([*sent, study.file, machine, "--out", there], stdout=subprocess.DEVNULL)
    wait_for(lambda: bool(crash.records(there)) or first.poll() is not None, 240)
    # the signal of the template's head, as at the end of the time
    subprocess.run(["scancel", "--batch", "--signal=INT", "--name=colign"], check=True)
    assert first.wait() == 130, (tmp_path / "colign.log").read_text()
    assert "stopped; finished tasks are kept" in (tmp_path / "colign.log").read_text()
    wait_for(lambda: "RUNNING" not in squeue(), 30)
    again = subprocess.run([*sent, study.file, machine, "--out", there], check=False)
    assert again.returncode == 0, (tmp_path / "colign.log").read_text()
    crash.assert_equal(there, tmp_path / "here")
    wait_for(lambda: "RUNNING" not in squeue(), 30)
    bad = subprocess.run([*sent, study.file], check=False)
    assert (bad.returncode, "usage: sbatch" in (tmp_path / "colign.log").read_text()) == (2, True)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("keys", "log", "said"),
    [
        ({"python": "/nowhere/python"}, "slurm-{job}.out", "/nowhere/python: No such file or directory"),
        (
            {"worker_command": "nowhere", "log_directory": "logs"},
            "logs/dask-worker-{job}.err",
            "No module named nowhere",
        ),
    ],
)
def test_run__jobs_that_die_at_once_end_it(
    keys: dict[str, str], log: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queued, "_LOOK", 2.0)
    machine = study.machine(type="slurm", workers=2, memory=1, **keys)
    error = Terminal(monkeypatch, capsys)("run", study.file, "--machine", machine, code=2)
    found = re.search(
        r"ended \(job (\d+): FAILED \(NonZeroExitCode\), job (\d+): FAILED \(NonZeroExitCode\)\); ", error
    )
    assert found is not None, error
    assert f"{tmp_path / log.format(job=found[2])} ends with\n  " in error
    assert said in error
    assert not study.directory.exists()


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("what", ["map", "fold"])
def test_workers__that_are_lost_with_the_last_job_end_the_run(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queued, "_LOOK", 2.0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(9)]
    with ClusterWorkers(Machine(type="slurm", workers=1, memory=1)) as workers:
        held = workers.hold(tasks.load, keys, nbytes=1)
        work = {
            "map": lambda: list(workers.map(tasks.wait, keys, 1)),
            "fold": lambda: [workers.fold(tasks.counted, held, operator.add, exact=True) for _ in range(10**6)],
        }
        Timer(3, subprocess.run, [["scancel", "--user=root"]]).start()
        with pytest.raises(WorkersError, match=r"every worker was lost, .*: CANCELLED.*\n(?s:.*)run again to go on"):
            work[what]()


def squeue() -> str:
    """States of all jobs."""
    command = ["squeue", "--noheader", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
