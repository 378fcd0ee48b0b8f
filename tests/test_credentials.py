"""Credentials are refused where they would be stored, and left out of messages."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine import ledger, paths
from engine.workers.protocol import failed
from engine.workers.serial import SerialWorkers
from jobs import cli, files
from jobs.progress import Printed
from schemas.credentials import redacted
from schemas.errors import InputError, StoreError, TaskError
from schemas.task import Key
from tests.small_study import SmallStudy, Terminal

pytestmark = pytest.mark.usefixtures("wide")

SECRET = "wJalr/XUtnF+EMI"
URLS = [
    f"s3://AKIA1:{SECRET}@bucket/study",
    f"https://me:{SECRET}@host:8080/a.txt",
    f"https://host/a.txt?X-Amz-Credential=AKIA1&X-Amz-Signature={SECRET}",
    f"https://host/a.txt?sv=2024&SIG={SECRET}",
    f"simplecache::s3://:{SECRET}@bucket/a",
    f"https://host/a.txt?part=1&access_token={SECRET}#top",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("key", ["corpus.files.de", "links.files.de-en", "checkpoints.tiny.model", "pivot"])
def test_study__names_the_key_and_not_the_secret(tmp_path: Path, url: str, key: str) -> None:
    study = SmallStudy(tmp_path, "model")
    study.set(key, url)
    with pytest.raises(
        InputError, match=rf"{key}: .*\*\*\*.* holds credentials\n.*AWS_ACCESS_KEY_ID .* fsspec's"
    ) as found:
        files.load_study(str(study.file))
    assert SECRET not in str(found.value)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"type": "address", "address": f"tls://me:{SECRET}@host:8786"}, "address"),
        ({"type": "kubernetes", "env": {"STORE": URLS[0]}}, "env.STORE"),
        (
            {"type": "slurm", "job_script_prologue": ["module load x", f"export STORE={URLS[2]}"]},
            "job_script_prologue.1",
        ),
    ],
)
def test_machine__names_the_key_and_not_the_secret(tmp_path: Path, values: dict[str, Any], key: str) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=f"{key}: .*holds credentials") as found:
        files.load_machine(str(path))
    assert SECRET not in str(found.value)


@pytest.mark.parametrize("command", [["run", "s.yaml", "--out"], ["run"], ["calign", "a", "b"], ["no-such-command"]])
@pytest.mark.parametrize("url", [URLS[0], URLS[2]])
def test_command__does_not_repeat_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], url: str
) -> None:
    said = Terminal(monkeypatch, capsys)(*command, url, code=2)
    assert "holds credentials; leave them out" in said
    assert SECRET not in said


@pytest.mark.parametrize("url", URLS)
def test_filesystem__refuses_what_came_another_way(url: str) -> None:
    with pytest.raises(InputError, match="holds credentials") as found:
        paths.read_text(url)
    assert SECRET not in str(found.value)


def test_errors__of_libraries_lose_their_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(f"403 Forbidden, url='{URLS[2]}'")
    assert SECRET not in str(failed(Key("links", ("de", "en")), error))
    assert "X-Amz-Signature=***'" in str(StoreError(f"store: {error}"))

    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert "X-Amz-Signature=***'; run again" in " ".join(Terminal(monkeypatch, capsys)("run", code=1).split())


@pytest.mark.parametrize("url", URLS)
def test_ledger__and_log_hold_no_secrets_of_a_task_that_failed(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(key: Key) -> None:
        raise OSError(f"no answer of {url}")

    path, journal, shown = str(tmp_path / "ledger.zarr"), str(tmp_path / "journal"), Printed()
    logging.getLogger("engine.ledger").addHandler(shown)
    try:
        with SerialWorkers() as workers, ledger.kept(path, journal, workers, lambda *_: {}, lambda: None):
            with pytest.raises(TaskError, match=r"no answer of .*\*\*\*"):
                list(workers.map(fail, [Key("links", ("de", "en"))]))
            logging.getLogger("engine.ledger").warning("no answer of %s", url)
    finally:
        logging.getLogger("engine.ledger").removeHandler(shown)
    attempts = ledger.load(path, journal)
    assert attempts is not None
    assert attempts.note.item() == f"OSError: no answer of {redacted(url)}"
    said = capsys.readouterr().err
    assert said.count("no answer of ") == 2
    assert SECRET not in said


WORD = st.text("abcXYZ019+/=%_-.~!*", min_size=6, max_size=20)


@given(scheme=st.sampled_from(["s3", "https", "sftp", "tls"]), user=st.text("abcXYZ019-_.", max_size=9), secret=WORD,
       host=st.sampled_from(["bucket", "host:8080"]), path=st.sampled_from(["", "/a", "/a/b?c=1"]))  # fmt: skip
def test_redacted__no_password_is_left(scheme: str, user: str, secret: str, host: str, path: str) -> None:
    if secret.split("/")[0].isdigit() and len(secret.split("/")[0]) < 6:
        secret = f"x{secret}"  # which is a port and a path
    url = f"{scheme}://{user}:{secret}@{host}{path}"
    assert redacted(url) == f"{scheme}://***@{host}{path}"
    assert redacted(redacted(url)) == redacted(url)


@given(st.sampled_from(["s3://bucket", "https://host:8080", "sftp://me@host", "tcp://10.0.0.1:8786", "/disk"]),
       st.text("abc019@:/._-+", max_size=20))  # fmt: skip
def test_redacted__what_holds_none_is_left_alone(place: str, path: str) -> None:
    assert redacted(f"{place}/{path}") == f"{place}/{path}"
