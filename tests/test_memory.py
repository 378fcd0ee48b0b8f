"""A study whose layers are ten times the memory of all workers together: nobody pauses, spills or is killed."""

from pathlib import Path

import pytest

from tests.benchmarks.larger_than_memory import measure


@pytest.mark.slow
def test_run__layers_of_ten_times_the_memory_of_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    found = measure(tmp_path, times=10)
    assert found["times"] >= 9.99
    assert found["same_processes"]
    assert (found["paused"], found["removed"], found["spilled"]) == (0, 0, 0)
    assert found["peak"] <= found["memory"]
