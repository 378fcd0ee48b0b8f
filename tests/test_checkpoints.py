"""Checkpoints of K-means: what was saved is loaded to the bit, in one step, and nothing that is damaged ever."""

from pathlib import Path

import numpy as np
import pytest

from engine import paths
from engine.checkpoints import KEPT, Checkpoints

LAYER = ("base", "encoder", "de", "7")


def centroids(n_iter: int) -> np.ndarray:
    return np.random.default_rng(n_iter).normal(size=(3, 4))


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Five iterations of two runs."""
    kept = Checkpoints(str(tmp_path))
    for n_iter in range(6):
        for run in (1, 11):
            kept.save(LAYER, run, n_iter, centroids(run * 100 + n_iter), done=n_iter == 5)
    return kept


def test_load__what_was_saved(kept: Checkpoints) -> None:
    for run in (1, 11):
        found = kept.load(LAYER, run)
        assert found is not None
        assert (found.n_iter, found.done) == (5, True)
        assert found.centroids.tobytes() == centroids(run * 100 + 5).tobytes()
        assert found.before is not None
        assert found.before.tobytes() == centroids(run * 100 + 4).tobytes()


def test_load__nothing(kept: Checkpoints, tmp_path: Path) -> None:
    assert kept.load(LAYER, 0) is None
    assert kept.load((*LAYER[:-1], "8"), 1) is None
    assert Checkpoints(str(tmp_path / "none")).load(LAYER, 1) is None


def test_load__the_first_has_none_before(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path))
    kept.save(LAYER, 0, 0, centroids(0), done=False)
    found = kept.load(LAYER, 0)
    assert found is not None
    assert (found.n_iter, found.before, found.done) == (0, None, False)


def test_save__keeps_as_many_iterations_as_a_fall_back_needs(kept: Checkpoints, tmp_path: Path) -> None:
    names = sorted(path.name for path in (tmp_path / "7").iterdir())
    assert names == sorted(f"{run}-{n}.checkpoint" for run in (1, 11) for n in range(6 - KEPT, 6))


def test_load__any_flipped_bit_and_any_cut_falls_back_by_one(kept: Checkpoints, tmp_path: Path) -> None:
    path = tmp_path / "7" / "1-5.checkpoint"
    content = path.read_bytes()
    damaged = [content[:size] for size in range(0, len(content), 7)]
    damaged += [
        content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        for at in range(len(content))
        for bit in (0, 6)
    ]
    for spoiled in damaged:
        path.write_bytes(spoiled)
        found = kept.load(LAYER, 1)
        assert found is not None
        assert (found.n_iter, found.done) == (4, False)
        assert found.centroids.tobytes() == centroids(104).tobytes()
        assert found.before is not None
        assert found.before.tobytes() == centroids(103).tobytes()


def test_save__killed_before_its_end_leaves_the_one_before(
    kept: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.mv", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save(LAYER, 1, 6, centroids(106), done=False)
    monkeypatch.undo()
    assert [*(tmp_path / "7").glob("1-6.checkpoint.*.partial")]
    assert getattr(kept.load(LAYER, 1), "n_iter", None) == 5
    monkeypatch.setattr(paths, "remove", killed)  # written, and what it replaces not yet removed
    with pytest.raises(KeyboardInterrupt):
        kept.save(LAYER, 1, 6, centroids(106), done=False)
    assert getattr(kept.load(LAYER, 1), "n_iter", None) == 6
