"""A run that is killed in the middle of clustering goes on at the iteration that was reached."""

from pathlib import Path

import pytest

from tests import crash
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy


def small(folder: Path, model: str) -> SmallStudy:
    """A study with a clustering of many iterations."""
    study = SmallStudy(folder, model)
    study.set("selection", {"min_count": 1, "max_count": 30})
    study.set("concepts", {"k": 12, "max_iterations": 60, "tolerance": 0.0, "restarts": 3})
    return study


def reached(root: Path) -> dict[str, int]:
    """The last iteration of every run that has a checkpoint, by its place."""
    found: dict[str, int] = {}
    for path in root.glob("concepts/*/*/*.fit/*/*/*.checkpoint"):
        run, n_iter = path.stem.split("-")
        name = f"{path.parent}/{run}"
        found[name] = max(found.get(name, 0), int(n_iter))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [1, 2, 4])
def test_run__killed_in_the_middle_of_clustering_goes_on_from_there(iteration: int, tmp_path: Path) -> None:
    study = small(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert crash.run("run", study.file, "--out", whole) == 0
    child = crash.start("run", study.file, "--out", out)
    crash.wait_for(lambda: max(reached(out).values(), default=0) >= iteration, child)
    assert crash.kill(child)
    before = reached(out)
    assert max(before.values()) >= iteration
    child = crash.start("run", study.file, "--out", out)
    lowest = dict(before)
    written = set(out.glob("concepts/*/*/*.fit/*/*/*.checkpoint"))

    def look() -> bool:
        for path in out.glob("concepts/*/*/*.fit/*/*/*.checkpoint"):
            if path not in written:
                run, n_iter = path.stem.split("-")
                name = f"{path.parent}/{run}"
                lowest[name] = min(lowest.get(name, 10**6), int(n_iter))
        return False

    crash.wait_for(look, child)
    child.join()
    assert child.exitcode == 0
    assert all(lowest[name] >= n_iter for name, n_iter in before.items()), "an iteration was done again"
    crash.assert_equal(out, whole)


@pytest.mark.slow
def test_run__killed_around_the_end_of_a_clustering_leaves_no_checkpoints(tmp_path: Path) -> None:
    study = small(tmp_path / "study", save_bert(tmp_path / "model", positions=64))
    study.set("concepts", {"k": 2, "max_iterations": 1})
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert crash.run("run", study.file, "--out", whole) == 0
    done = sum(name.startswith("concepts/") for name in crash.records(whole))
    child = crash.start("run", study.file, "--out", out)

    def last() -> bool:
        return sum(name.startswith("concepts/") for name in crash.records(out)) == done

    crash.wait_for(last, child)
    crash.kill(child)
    for folder in list(out.glob("concepts/*/*/*.zarr")):
        left = folder.with_suffix(".fit") / "0" / "2"  # as a kill right after the record leaves it
        left.mkdir(parents=True, exist_ok=True)
        (left / "0-0.checkpoint").write_bytes(b"x")
    assert crash.run("run", study.file, "--out", out) == 0
    crash.assert_equal(out, whole)
