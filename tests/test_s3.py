"""A whole study in an object store: a real S3 server (moto) in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from jobs import run
from jobs.stages import Stage
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal

pytest.importorskip("moto.server", reason="pip install 'moto[server]' s3fs")
s3fs = pytest.importorskip("s3fs", reason="pip install 'moto[server]' s3fs")
pytestmark = pytest.mark.slow

SECRET = "of-the-environment-alone"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name, value in (("ACCESS_KEY_ID", "any"), ("SECRET_ACCESS_KEY", SECRET)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(server: subprocess.Popen[bytes]) -> str:
    return "s3://bucket"


def test_study__in_an_object_store_equals_one_on_a_disk(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    colign = Terminal(monkeypatch, capsys)
    colign("run", study.file, "--out", tmp_path / "here")
    colign("run", study.file, "--out", f"{bucket}/there")
    store = s3fs.S3FileSystem()
    here = {str(path.relative_to(tmp_path / "here")): path.read_bytes() for path in (tmp_path / "here").rglob("c/**/*")
            if path.is_file() and "ledger.zarr" not in path.parts}  # fmt: skip
    there = {name.removeprefix("bucket/there/"): store.cat_file(name) for name in store.find("bucket/there")}
    assert here
    assert not [name for name, content in there.items() if SECRET.encode() in content]
    assert {name: there.get(name) for name in here} == here
    trees = [xr.open_datatree(f"{root}/results.zarr", engine="zarr", consolidated=False, chunks=None)
             for root in (tmp_path / "here", f"{bucket}/there")]  # fmt: skip
    xr.testing.assert_equal(*(tree["calign"].to_dataset() for tree in trees))
    with monkeypatch.context() as patched:
        patched.setattr("jobs.tasks.perform", lambda *_: pytest.fail("everything is done already"))
        colign("run", f"{bucket}/there")
    damaged = next(name for name in there if "activation/c/" in name)
    store.pipe_file(f"bucket/there/{damaged}", there[damaged][:-1])
    colign("verify", f"{bucket}/there", "--repair", code=1)
    colign("run", f"{bucket}/there")
    assert store.cat_file(f"bucket/there/{damaged}") == there[damaged]


def test_run__says_how_to_go_on_when_the_store_ends_in_the_middle(
    bucket: str,
    server: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    work = run.work

    def ended(stage: Stage, *args: Any) -> None:
        if stage.name == "dictionary":
            server.kill()
        work(stage, *args)

    monkeypatch.setattr(run, "work", ended)
    said = Terminal(monkeypatch, capsys)("run", study.file, "--out", f"{bucket}/there", code=1)
    assert "Traceback" not in said
    line = " ".join(said[said.index("error: ") :].split())
    assert line.startswith("error: dictionary/")
    assert "the store does not answer as expected (EndpointConnectionError" in line
    assert line.endswith("then run again: finished tasks are kept")
