"""TLS of Dask, by its own configuration: who has certificates works, who has none is told so."""

import gc
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from engine.workers.cluster import ClusterWorkers
from schemas.errors import InputError
from schemas.machine import Machine
from schemas.task import Key
from tests.contracts import tasks
from tests.small_study import SmallStudy, Terminal

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make certificates"),
    pytest.mark.usefixtures("wide"),
]
NEW = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
TLS = "distributed.comm.tls"
ROLES = ("scheduler", "worker", "client")


def certified(folder: Path) -> dict[str, Any]:
    """Dask's configuration of TLS, with a certificate of an authority of its own."""
    folder.mkdir()
    for command in (
        f"req -x509 {NEW} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        f"req {NEW} -keyout key.pem -out request.pem -subj /CN=colign",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out cert.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    files = {f"{TLS}.{role}.{what}": str(folder / f"{what}.pem") for role in ROLES for what in ("cert", "key")}
    return {"distributed.comm.require-encryption": True, f"{TLS}.ca-file": str(folder / "ca.pem")} | files


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return certified(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def scheduler(tls: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler with TLS and a worker, which others run."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    options += ["--tls-ca-file", tls[f"{TLS}.ca-file"]]
    options += ["--tls-cert", tls[f"{TLS}.worker.cert"], "--tls-key", tls[f"{TLS}.worker.key"]]
    commands = {
        "scheduler": ["--protocol", "tls", "--host", "127.0.0.1", "--port", "0"],
        "worker": ["--nthreads", "1", "--no-nanny", "--memory-limit", "0"],
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = []
    for name, own in commands.items():
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *options, *own]
        running.append(subprocess.Popen(command, cwd=Path(__file__).parents[1], **quiet))
        while not file.exists():
            time.sleep(0.05)
    yield next(line.split('"')[3] for line in file.read_text().splitlines() if '"address"' in line)
    for process in reversed(running):
        process.kill()
        process.wait()


def test_tls__without_certificates_a_run_is_refused_at_once(
    scheduler: str, tls: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    study, colign = SmallStudy(tmp_path, "model"), Terminal(monkeypatch, capsys)
    plain = scheduler.replace("tls://", "tcp://")
    other = certified(tmp_path / "other")
    missing = {f"{TLS}.ca-file": "none.pem"}
    began = time.monotonic()
    for address, settings, message in (
        (scheduler, {}, "tls://.* set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "),
        (scheduler, missing, "tls://.* set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, |No such file"),
        (scheduler, other, "TLS certificate does not match"),
        (plain, {}, r"no Dask scheduler .* at tcp://.*\(tls:// where they use TLS\)"),
        (plain, tls, "encryption required by Dask configuration, .* an address that begins with tls://"),
    ):
        with dask.config.set(settings), pytest.raises(InputError, match=message):
            ClusterWorkers(Machine(type="address", address=address)).__enter__()
        # a client that failed closes when it is collected, which must not befall the thread that a next one starts:
        # both would wait for a lock of distributed
        gc.collect()
    assert time.monotonic() - began < 20  # no waiting for an answer that cannot come
    machine = study.machine(type="address", address=scheduler)
    said = colign("run", study.file, "--machine", machine, code=2)
    gc.collect()
    assert said.startswith("error: tls://")
    assert "Traceback" not in said
    assert not study.directory.exists()


def test_tls__a_client_with_certificates_works(scheduler: str, tls: dict[str, Any]) -> None:
    key = Key("stage", ("a",), start=3, stop=4)
    with dask.config.set(tls), ClusterWorkers(Machine(type="address", address=scheduler)) as workers:
        assert workers.address.startswith("tls://")
        assert dict(workers.map(tasks.square, [key])) == {key: 9}


@pytest.mark.slow
def test_tls__a_study_through_a_scheduler_of_others(
    scheduler: str, tls: dict[str, Any], bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    study, colign = SmallStudy(tmp_path, bert), Terminal(monkeypatch, capsys)
    with dask.config.set(tls):
        colign("run", study.file, "--machine", study.machine(type="address", address=scheduler))
    assert "complete" in colign("status", study.file)
    secret = Path(tls[f"{TLS}.client.key"]).read_bytes().splitlines()[1]
    assert not [path for path, content in study.files().items() if secret in content]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["configuration", "security"])
def test_tls__processes_of_this_computer(tls: dict[str, Any], how: str) -> None:
    if how == "security":
        pytest.importorskip("cryptography")
    further: dict[str, Any] = {"security": True} if how == "security" else {}
    key = Key("stage", ("a",), start=3, stop=4)
    with (
        dask.config.set(tls if how == "configuration" else {}),
        ClusterWorkers(Machine(type="local", workers=1, memory=1, **further)) as workers,
    ):
        assert {name[:6] for name in workers.each(time.time)} == {"tls://"}
        assert dict(workers.map(tasks.square, [key])) == {key: 9}
