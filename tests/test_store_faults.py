"""Stores that do not answer: one message with the store, the cause and how to go on, never a traceback."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from engine import lease, ledger, paths, store
from engine.workers.serial import SerialWorkers
from jobs import cli
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import StoreError, TaskError
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal

pytestmark = pytest.mark.usefixtures("wide")

SAID = (
    r"the store does not answer as expected \(NoAnswerError: nobody there\); .* then run again: finished tasks are kept"
)


class NoAnswerError(Exception):
    """What the library of a store raises: no OSError."""


NoAnswerError.__module__ = "botocore.exceptions"


class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that may stop to answer."""

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012  (as the class that it comes from)
    pseudo_dirs = [""]  # noqa: RUF012
    gone = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("faulty://")))

    def _answer(self) -> None:
        if Faulty.gone:
            raise NoAnswerError("nobody there")

    def cat_file(self, *args: Any, **options: Any) -> Any:
        self._answer()
        return super().cat_file(*args, **options)

    def pipe_file(self, *args: Any, **options: Any) -> Any:
        self._answer()
        return super().pipe_file(*args, **options)

    def info(self, *args: Any, **options: Any) -> Any:
        self._answer()
        return super().info(*args, **options)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    monkeypatch.setattr(lease, "_SETTLED", 0.0)
    yield "faulty://study"
    Faulty.gone = False
    Faulty.store.clear()


def test_paths__name_the_store_the_cause_and_the_remedy(faulty: str) -> None:
    path = f"{faulty}/a.txt"
    paths.write_text(path, "text")
    assert paths.read_text(path) == "text"
    assert paths.read_text(f"{faulty}/none.txt") is None
    Faulty.gone = True
    for call in (lambda: paths.read_text(path), lambda: paths.write_text(path, "other")):
        with pytest.raises(StoreError, match=f"^{path}: {SAID}"):
            call()


def test_datasets__name_the_store_the_cause_and_the_remedy(faulty: str) -> None:
    values = {"layer": np.zeros(1, np.int32), "language": ["de"], "unit": ["token"]}
    counts = LANGUAGE_COUNT.create(values | {"language_count": np.zeros((1, 1, 1, 1), np.int64)})
    path = f"{faulty}/counts.zarr"
    store.save(path, LANGUAGE_COUNT, counts)
    assert store.read(path, LANGUAGE_COUNT).equals(counts)
    Faulty.gone = True
    for call in (
        lambda: store.read(path, LANGUAGE_COUNT),
        lambda: store.attributes(path),
        lambda: store.save(path, LANGUAGE_COUNT, counts),
        lambda: store.describe(path, name="x"),
    ):
        with pytest.raises(StoreError, match=SAID):
            call()


def _fail(root: str) -> None:
    with lease.held(f"{root}/lease.json") as check, SerialWorkers() as workers:  # noqa: SIM117
        with ledger.kept(f"{root}/ledger.zarr", f"{root}/journal", workers, lambda *_: {}, check):
            Faulty.gone = True
            raise TaskError("links/de/en: broken")


def test_run__its_error_is_not_hidden_by_those_of_its_end(faulty: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TaskError, match="links/de/en: broken"):
        _fail(faulty)
    assert "the ledger of attempts is not complete (faulty://study/journal: the store does not" in caplog.text


def test_main__what_came_another_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: Exception) -> None:
        raise error

    monkeypatch.setattr(cli, "app", lambda: fail(NoAnswerError("nobody there")))
    said = Terminal(monkeypatch, capsys)("run", code=1)
    assert re.match(f"error: {SAID}", said)
    monkeypatch.setattr(cli, "app", lambda: fail(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main()


@pytest.mark.parametrize("command", ["run", "status"])
@pytest.mark.parametrize(
    ("keys", "cause"),
    [((), "NoCredentialsError: Unable to locate credentials"), (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
     "EndpointConnectionError: Could not connect")],
)  # fmt: skip
def test_command__in_a_bucket_that_does_not_answer(
    command: str, keys: tuple[str, ...], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    s3fs = pytest.importorskip("s3fs", reason="pip install s3fs")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = dict.fromkeys(keys, "any") | {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    study = SmallStudy(tmp_path / "study", save_bert(tmp_path / "model"))
    said = Terminal(monkeypatch, capsys)(command, study.file, "--out", "s3://bucket/study", code=1)
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith("error: s3://bucket/study: ")
    assert f"the store does not answer as expected ({cause}" in line
    assert line.endswith("then run again: finished tasks are kept")
    s3fs.S3FileSystem.clear_instance_cache()
