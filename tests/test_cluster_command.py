"""The command `colign cluster`: what it writes, prints and refuses, and going on after it was killed."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import AgglomerativeClustering

from engine import store
from engine.concepts import Clustering, cluster, setup
from engine.workers.serial import SerialWorkers
from schemas.concepts import CONCEPTS
from schemas.study import Concepts
from tests import crash
from tests.small_study import call
from tests.test_concepts import blobs, write

TOKENS, HIDDEN, LAYERS, SHARD = 400, 8, 3, 64
ABSENT = [7, 150, TOKENS - 1]


def numbered(path: Path, layers: list[int]) -> str:
    """A store with other numbers of its layers."""
    store.write_region(str(path), "layer", np.array(layers, np.int32))
    return str(path)


@pytest.fixture
def vectors() -> np.ndarray:
    return blobs(TOKENS, HIDDEN, 6, layers=LAYERS, seed=3)


@pytest.fixture
def stored(tmp_path: Path, vectors: np.ndarray) -> str:
    """A store of layers 0, 4 and 9; three tokens have no vector."""
    present = np.ones(TOKENS, bool)
    present[ABSENT] = False
    write(tmp_path / "de.zarr", vectors, present, SHARD)
    return numbered(tmp_path / "de.zarr", [0, 4, 9])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


def found(path: object) -> xr.Dataset:
    return store.read(str(path), CONCEPTS)


def engines(
    path: Path, sources: list[str], ks: tuple[int, ...], layers: tuple[int, ...] = (0, 4, 9), **how: Any
) -> Any:
    """What the engine itself makes of the stores; returns the concepts."""
    settings = Concepts(k=max(ks), **how.pop("settings", {}))
    stops = np.cumsum([store.size(one, "token_id") for one in sources])
    task = Clustering(
        str(path), tuple(sources), how.pop("languages", ("de",)), tuple(stops.tolist()), HIDDEN, 2, layers,
        ("a",), SHARD, ks, stored=(0, 4, 9),
    )  # fmt: skip
    setup(task, settings)
    with SerialWorkers(memory=2**30) as workers:
        dict(cluster(task, layers, settings, workers, **how))
    return found(path)


def assert_same(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in one.variables:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def test_cluster__equals_the_engine(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.zarr"
    assert call(monkeypatch, "cluster", stored, "-o", out, "--k", 5) == 0
    printed = capsys.readouterr()
    assert str(out) in printed.out
    assert "stability" in printed.out
    assert "concepts" in printed.err
    made = found(out)
    assert_same(made, engines(tmp_path / "engine.zarr", [stored], (5,)))
    assert made.layer.values.tolist() == [0, 4, 9]
    assert (made.concept.values[..., ABSENT] == -1).all()
    assert made.attrs["languages"] == ["de"]
    assert made.attrs["complete"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.zarr", "de.zarr", "engine.zarr"]


def test_cluster__several_k_and_restarts_of_some_layers(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.zarr"
    several = ("--k", 7, "--k", 3, "--restarts", 2, "--seed", 9, "--layer", 9, "--layer", 4)
    assert call(monkeypatch, "cluster", stored, "-o", f"{out}/", *several, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(line["layer"], line["k"]) for line in printed["layers"]] == [(4, 3), (4, 7), (9, 3), (9, 7)]
    settings = {"restarts": 2, "seed": 9}
    made = found(out)
    assert_same(made, engines(tmp_path / "engine.zarr", [stored], (7, 3), (4, 9), settings=settings))
    assert made.k.values.tolist() == [7, 7, 3, 3]
    assert made.layer.values.tolist() == [4, 9]
    whole = engines(tmp_path / "whole.zarr", [stored], (7, 3), settings=settings)
    np.testing.assert_array_equal(made.concept, whole.concept[:, 1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.zarr", "de.zarr", "engine.zarr", "whole.zarr"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_cluster__several_stores(dtype: str, tmp_path: Path, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = blobs(150, HIDDEN, 6, layers=LAYERS, seed=4).astype(dtype)
    english = write(tmp_path / "en.zarr", other, np.ones(150, bool), 32)
    numbered(Path(english), [0, 4, 9])
    assert call(monkeypatch, "cluster", stored, english, "-o", tmp_path / "c.zarr", "--k", 4) == 0
    made = found(tmp_path / "c.zarr")
    assert made.attrs["languages"] == ["de", "en"]
    assert made.language.values.tolist() == [0] * TOKENS + [1] * 150
    expected = engines(tmp_path / "engine.zarr", [stored, english], (4,), languages=("de", "en"))
    assert_same(made, expected)
    named = ("--language", "xx", "--language", "xx")
    assert call(monkeypatch, "cluster", stored, english, "-o", tmp_path / "d.zarr", "--k", 4, *named) == 0
    assert found(tmp_path / "d.zarr").attrs["languages"] == ["xx"]
    assert found(tmp_path / "d.zarr").language.values.tolist() == [0] * (TOKENS + 150)


def test_cluster__stores_of_two_types_in_any_order(
    tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact sums need the grid of the finer type, whichever store comes first."""
    fine = (vectors + np.random.default_rng(0).normal(size=vectors.shape) / 977).astype(np.float32)
    every = np.ones(TOKENS, bool)
    coarse, exact = (write(tmp_path / f"{v.dtype}.zarr", v, every, SHARD) for v in (vectors, fine))
    widened = write(tmp_path / "widened.zarr", vectors.astype(np.float32), every, SHARD)
    for name, first in (("a", coarse), ("b", widened)):
        assert call(monkeypatch, "cluster", first, exact, "-o", tmp_path / f"{name}.zarr", "--k", 6) == 0
    one, other = found(tmp_path / "a.zarr"), found(tmp_path / "b.zarr")
    for name in ("concept", "centroid", "distance", "inertia"):
        np.testing.assert_array_equal(one[name], other[name])


def test_cluster__given_centroids(
    stored: str, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = vectors[1, :5].astype(np.float32)
    np.save(tmp_path / "start.npy", start)
    command = ("cluster", stored, "-o", tmp_path / "c.zarr", "--k", 5, "--layer", 4, "--init", tmp_path / "start.npy")
    assert call(monkeypatch, *command) == 0
    assert_same(found(tmp_path / "c.zarr"), engines(tmp_path / "e.zarr", [stored], (5,), (4,), start=start))
    assert call(monkeypatch, *command) == 0
    np.save(tmp_path / "start.npy", start + 1)
    assert call(monkeypatch, *command) == 2


def test_cluster__ward_equals_scikit_learn(
    stored: str, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("cluster", stored, "-o", tmp_path / "c.zarr", "--k", 6, "--k", 3, "--method", "ward", "--layer", 9)
    assert call(monkeypatch, *command) == 0
    made = found(tmp_path / "c.zarr")
    kept = np.delete(np.arange(TOKENS), ABSENT)
    for run, k in enumerate((6, 3)):
        truth = AgglomerativeClustering(k, linkage="ward").fit_predict(vectors[2, kept].astype(np.float64))
        ours = made.concept.values[run, 0, kept]
        assert len({*zip(truth.tolist(), ours.tolist(), strict=True)}) == k == len({*ours.tolist()})
    assert (made.seed.values == -1).all()


def test_cluster__reference_preset(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("cluster", stored, "-o", tmp_path / "c.zarr", "--k", 4, "--layer", 0, "--preset", "reference")
    assert call(monkeypatch, *command) == 0
    made = found(tmp_path / "c.zarr")
    assert made.sizes["run"] == 10
    without = [*ABSENT, TOKENS - 2]  # the last that has a vector
    assert np.flatnonzero((made.concept.values[0, 0] == -1)).tolist() == sorted(without)
    assert_same(made, engines(tmp_path / "e.zarr", [stored], (4,), (0,), settings={"preset": "reference"}))


@pytest.mark.parametrize("how", [(), ("--method", "ward"), ("--memory", "0.57", "--restarts", "3")])
def test_plan__writes_nothing(
    how: tuple[str, ...],
    stored: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.rglob("*"))
    command = ("cluster", stored, "-o", tmp_path / "c.zarr", "--k", 5, "--layer", 4, "--plan", *how)
    assert call(monkeypatch, *command) == 0
    assert "clustering" in capsys.readouterr().out
    assert call(monkeypatch, *command, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)["clustering"]
    assert (row["selection"], row["vectors"], row["layers"]) == ("c", TOKENS, 1)
    assert row["memory"] > 2**29
    if "ward" not in how:
        assert row["seconds_a_whole_pass"] > 0
        assert row["bytes_read_a_pass"] == 0
        assert row["runs"] == (3 if "--restarts" in how else 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_cluster__again_and_otherwise(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.zarr"
    command = ("cluster", stored, "-o", out, "--k", 5, "--layer", 0, "--json")
    assert call(monkeypatch, *command) == 0
    once = capsys.readouterr().out
    written = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr("jobs.cluster.create", None)  # no workers
    assert call(monkeypatch, *command) == 0
    assert capsys.readouterr().out == once
    for other in (("--k", 6), ("--seed", 1), ("--layer", 4), ("--restarts", 2), ("--tolerance", 0.1),
                  ("--method", "ward"), ("--preset", "reference"), ("--seeding", "k-means||"), ("--language", "x")):  # fmt: skip
        assert call(monkeypatch, *command, *other) == 2
        assert "c.zarr: is there already, of other vectors or settings; choose another name" in capsys.readouterr().err
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()} == written
    assert not (tmp_path / "c.fit").exists()


def test_cluster__a_deleted_store_is_made_anew(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of a call that was killed say nothing of a store that was deleted since."""
    out, whole = tmp_path / "c.zarr", tmp_path / "whole.zarr"
    command = ("cluster", stored, "--k", 5, "-o")
    assert call(monkeypatch, *command, whole) == 0
    commit = "jobs.cluster.tasks.commit"

    def killed(key: Any, *_: Any) -> None:
        real(key, *_)
        raise KeyboardInterrupt

    from jobs import tasks  # noqa: PLC0415

    real = tasks.commit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, killed)
        assert call(patch, *command, out) == 130
    assert (tmp_path / "c.fit" / "records").is_dir()
    shutil.rmtree(out)
    assert call(monkeypatch, *command, out) == 0
    assert_same(found(out), found(whole))


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[object, ...], int]:
    """A store, a command with its result in `whole.zarr`, and how many changes of the disk it makes."""
    folder = tmp_path_factory.mktemp("killed")
    write(folder / "de.zarr", blobs(200, HIDDEN, 6, layers=2, seed=5), np.ones(200, bool), 100)
    command = ("cluster", folder / "de.zarr", "--k", 4, "--restarts", 2, "--max-iterations", 3, "--seed", 5)
    assert crash.run(*command, "-o", folder / "whole.zarr", count=folder / "count") == 0
    return folder, command, int((folder / "count").read_text())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.85, 0.97, pytest.param(None, marks=pytest.mark.slow)])
def test_cluster__killed_before_a_change_of_the_disk(
    share: float | None, killable: tuple[Path, tuple[object, ...], int], tmp_path: Path
) -> None:
    folder, command, changes = killable
    moments = range(changes) if share is None else [int(share * changes)]
    if share == 0.97:
        moments = range(changes - 3, changes)
    for moment in moments:
        out = tmp_path / f"{moment}" / "c.zarr"
        assert crash.run(*command, "-o", out, die_at=moment) == -signal.SIGKILL
        assert crash.run(*command, "-o", out, err=tmp_path / "err") == 0, (tmp_path / "err").read_text()
        one, other = crash.content(out), crash.content(folder / "whole.zarr")
        assert one == other, moment
        assert [path.name for path in out.parent.iterdir()] == ["c.zarr"]
        assert [path for path in out.rglob("*") if "partial" in path.name] == []
