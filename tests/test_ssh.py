"""A study on hosts reached by ssh: a server of its own here, under two names, with keys and known hosts of its own."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from engine.workers.cluster import ClusterWorkers
from schemas.machine import Machine
from schemas.task import Key
from tests import crash
from tests.contracts import tasks
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal, call
from tests.test_tls import certified

asyncssh = pytest.importorskip("asyncssh", reason="pip install 'colign[ssh]'")
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(SSHD is None, reason="needs the package openssh-server")]
ROOT = Path(__file__).parents[1]
HOSTS = ["127.0.0.1", "127.0.0.1", "localhost"]

CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
SetEnv PYTHONPATH={path} OMP_NUM_THREADS=1
"""


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a client needs to be let in by a running server."""
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "stranger"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
        key.write_public_key(folder / f"{name}.pub")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    (folder / "sshd_config").write_text(CONFIGURATION.format(folder=folder, port=port, path=path))
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"[{host}]:{port} {host_key}" for host in sorted(set(HOSTS))))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # which the service makes where there is one
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        end = time.monotonic() + 20
        while not answers(port):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "sshd does not answer"
            time.sleep(0.1)
        yield {
            "port": port,
            "username": pwd.getpwuid(os.geteuid()).pw_name,
            "client_keys": [str(folder / "user")],
            "known_hosts": str(folder / "known_hosts"),
        }
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    return SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))


def remote() -> list[psutil.Process]:
    """Processes of this user that run what ssh started."""
    found = []
    for process in psutil.process_iter():
        try:
            if "distributed.cli.dask_spec" in process.cmdline():
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def assert_gone(before: set[int]) -> None:
    """Check that what ssh started has ended, or does so soon."""
    end = time.monotonic() + 40
    while left := [process for process in remote() if process.pid not in before]:
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.2)


def test_run__on_two_hosts_equals_this_process(
    connection: dict[str, Any],
    study: SmallStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    assert call(monkeypatch, "run", study.file, "--out", tmp_path / "here") == 0
    before = {process.pid for process in remote()}
    machine = study.machine(type="ssh", hosts=HOSTS, workers=2, memory=1, connect_options=connection)
    Terminal(monkeypatch, capsys)("run", study.file, "--out", tmp_path / "there", "--machine", machine)
    crash.assert_equal(tmp_path / "there", tmp_path / "here")
    assert_gone(before)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make certificates")
def test_hosts__talk_by_tls_where_dasks_configuration_asks_for_it(connection: dict[str, Any], tmp_path: Path) -> None:
    before = {process.pid for process in remote()}
    machine = Machine(type="ssh", hosts=HOSTS[:2], workers=1, memory=1, connect_options=connection)
    key = Key("stage", ("a",), start=3, stop=4)
    with dask.config.set(certified(tmp_path / "tls")), ClusterWorkers(machine) as workers:
        assert {address[:6] for address in (workers.address, *workers.each(time.time))} == {"tls://"}
        assert dict(workers.map(tasks.square, [key])) == {key: 9}
    assert_gone(before)


def test_run__killed_leaves_no_process_on_the_hosts(
    connection: dict[str, Any], study: SmallStudy, tmp_path: Path
) -> None:
    before = {process.pid for process in remote()}
    machine = study.machine(type="ssh", hosts=HOSTS[:2], workers=2, memory=1, connect_options=connection)
    child = crash.start("run", study.file, "--out", tmp_path / "there", "--machine", machine)
    crash.wait_for(lambda: bool(crash.records(tmp_path / "there")), child)
    assert {process.pid for process in remote()} > before
    assert crash.kill(child)
    assert_gone(before)


@pytest.mark.parametrize(
    ("changed", "of_one", "further", "message"),
    [
        ({"client_keys": ["{folder}/stranger"]}, {}, {}, "Permission denied"),
        ({"known_hosts": "{folder}/strangers"}, {}, {}, "Host key is not trusted"),
        ({}, {"client_keys": ["{folder}/stranger"]}, {}, "Permission denied"),
        ({}, {"port": 1}, {}, "Connect call failed"),
        ({}, {}, {"remote_python": "/none/python"}, "/none/python"),
    ],
    ids=["unknown key", "unknown host", "unknown key on the second host", "no server there", "no python there"],
)
def test_run__what_ssh_refuses_is_one_message(
    changed: dict[str, Any],
    of_one: dict[str, Any],
    further: dict[str, Any],
    message: str,
    connection: dict[str, Any],
    study: SmallStudy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(Path(connection["known_hosts"]).parent)
    (Path(folder) / "strangers").write_text(f"other {(Path(folder) / 'stranger.pub').read_text()}")

    def placed(values: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(values).replace("{folder}", folder))

    options = [connection | placed(changed)] * 2 + [connection | placed(changed | of_one)]
    before = {process.pid for process in remote()}
    machine = study.machine(type="ssh", hosts=HOSTS, workers=1, memory=1, connect_options=options, **further)
    said = Terminal(monkeypatch, capsys)("run", study.file, "--machine", machine, code=2)
    assert "machine file: type ssh: the workers cannot be started" in said
    assert message in said
    assert_gone(before)
