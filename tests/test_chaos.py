"""A few faults of every scenario of `tests.chaos`; the script itself does many."""

import os
import shutil
from pathlib import Path

import pytest

from engine import ledger
from schemas.task import Attempt
from tests import chaos
from tests.test_ledger import USAGE, gathered


@pytest.mark.slow
@pytest.mark.parametrize("scenario", list(chaos.SCENARIOS))
def test_scenario(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    if scenario in ("network", "disk") and (os.geteuid() or not shutil.which("ip") or not shutil.which("mount")):
        pytest.skip("only root can part networks and fill small disks")
    if scenario == "store":
        pytest.importorskip("moto.server", reason="pip install 'moto[server]' s3fs")
        pytest.importorskip("s3fs", reason="pip install 'moto[server]' s3fs")
    assert chaos.main(["--only", scenario, "--faults", "2"]) == 0, capsys.readouterr().out


def test_done_twice__counts_tasks_that_were_done_again(tmp_path: Path) -> None:
    book = ledger.Ledger(str(tmp_path / "journal"), lambda: USAGE)
    for at, (key, state) in enumerate(
        [
            ("corpus", "lost"),
            ("corpus", "done"),
            ("links/de/en", "done"),
            ("links/de/en", "failed"),
            ("links/de/en", "done"),
        ]
    ):
        book.take(Attempt(key, float(at), "here", 1, state=state))
    assert chaos.done_twice(gathered(tmp_path, book)) == 1
