"""The command `colign cluster`: what it writes, prints and refuses, and going on after it was killed."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import AgglomerativeClustering

from engine import store
from engine.concepts import Clustering, cluster, setup, together
from engine.parts import Moments
from engine.workers.serial import SerialWorkers
from schemas.concepts import CONCEPTS
from schemas.study import Concepts
from tests import crash
from tests.small_study import call
from tests.test_concepts import blobs, write

pytestmark = pytest.mark.usefixtures("wide")

TOKENS, HIDDEN, LAYERS, SHARD = 400, 8, 3, 64
ABSENT = [7, 150, TOKENS - 1]


def numbered(path: Path, layers: list[int]) -> str:
    """A store with other numbers of its layers."""
    store.write_region(str(path), "layer", np.array(layers, np.int32))
    return str(path)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return blobs(TOKENS, HIDDEN, 6, layers=LAYERS, seed=3)


def make(path: Path, vectors: np.ndarray) -> str:
    """A store of layers 0, 4 and 9; three tokens have no vector."""
    present = np.ones(TOKENS, bool)
    present[ABSENT] = False
    write(path, vectors, present, SHARD)
    return numbered(path, [0, 4, 9])


@pytest.fixture
def stored(tmp_path: Path, vectors: np.ndarray) -> str:
    return make(tmp_path / "de.zarr", vectors)


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


@pytest.mark.usefixtures("wide")
def test_cluster__equals_the_engine(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.zarr"
    assert call(monkeypatch, "cluster", stored, "-o", out, "--k", 5) == 0
    printed = capsys.readouterr()
    assert str(out) in "".join(printed.out.split())  # the title of a narrow table is cut in lines
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
    of_types = [Moments(1, np.ones(1), np.ones(1), 1.0, dtype) for dtype in ("float16", "float32")]
    assert (of_types[0] + of_types[1]).unit == (of_types[1] + of_types[0]).unit > 0


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
    assert np.flatnonzero(made.concept.values[0, 0] == -1).tolist() == sorted(without)
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
    for other in ("--k 6", "--seed 1", "--layer 4", "--restarts 2", "--tolerance 0.1", "--max-iterations 2",
                  "--method ward", "--preset reference", "--seeding k-means||", "--language x"):  # fmt: skip
        assert call(monkeypatch, *command, *other.split()) == 2
        assert "c.zarr: is there already, of other vectors or settings; choose another name" in capsys.readouterr().err
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()} == written
    assert not (tmp_path / "c.fit").exists()
    store.write_region(stored, "activation", np.ones((1, TOKENS, HIDDEN), np.float16), layer=1)  # imported anew
    assert call(monkeypatch, *command) == 2
    assert "of other vectors" in capsys.readouterr().err


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


@pytest.fixture(scope="module")
def spoilt(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stores and files that cannot be clustered, or not together with `de.zarr`."""
    tmp_path = tmp_path_factory.mktemp("spoilt")
    stored = make(tmp_path / "de.zarr", vectors)
    every = np.ones(TOKENS, bool)
    write(tmp_path / "layers.zarr", vectors, every, SHARD)
    numbered(Path(write(tmp_path / "hidden.zarr", vectors[..., :5], every, SHARD)), [0, 4, 9])
    holed = vectors.copy()
    holed[1, 123, 2] = np.nan
    numbered(Path(write(tmp_path / "nan.zarr", holed, every, SHARD)), [0, 4, 9])
    write(tmp_path / "begun.zarr", vectors, every, SHARD)
    numbers = np.arange(TOKENS)
    numbers[SHARD * 2 :] = -1
    store.write_region(str(tmp_path / "begun.zarr"), "token_id", numbers)
    write(tmp_path / "none.zarr", vectors, ~every, SHARD)
    write(tmp_path / "empty.zarr", vectors[:, :0], every[:0], SHARD)
    shutil.copytree(stored, tmp_path / "damaged.zarr")
    shutil.rmtree(tmp_path / "damaged.zarr" / "activation" / "c" / "1")
    engines(tmp_path / "c0.zarr", [stored], (2,), (0,))
    for folder in ("folder", "full"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full" / "precious").touch()
    (tmp_path / "text").write_text("text")
    np.save(tmp_path / "x.npy", 0)
    for name, array in {
        "wide": np.zeros((5, 7)), "int": np.zeros((5, HIDDEN), int), "nan": np.full((5, HIDDEN), np.nan),
        "start": vectors[0, :5].astype(float),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "two.npz", a=np.zeros(2))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("nowhere.zarr", "nowhere.zarr: expected a store of word vectors, found none; make one with colign extract"),
        ("folder", "folder: expected a store of word vectors, found none"),
        ("text", "text: expected a store of word vectors, found none"),
        ("de.zarr nowhere.zarr", "nowhere.zarr: expected a store"),
        ("c0.zarr", "c0.zarr: expected a store of word vectors, found a dataset of concepts"),
        ("de.zarr layers.zarr", "layers.zarr: layers [0, 1, 2] of 8 numbers, and de.zarr has [0, 4, 9] of 8; give"),
        ("de.zarr hidden.zarr", "hidden.zarr: layers [0, 4, 9] of 5 numbers, and de.zarr has [0, 4, 9] of 8; give"),
        ("de.zarr --layer 4 --layer 5", "de.zarr: has no layer 5; it has 0, 4, 9"),
        ("de.zarr nan.zarr --layer 7", "de.zarr: has no layer 7; it has 0, 4, 9"),
        ("de.zarr --k 398", "de.zarr: 397 vectors cannot form 398 concepts; lower --k or give more words"),
        ("de.zarr --k 5 --k 500", "de.zarr: 397 vectors cannot form 500 concepts"),
        ("de.zarr --k 397 --preset reference", "de.zarr: 396 vectors cannot form 397 concepts"),
        ("de.zarr --k 398 --method ward", "de.zarr: 397 vectors cannot form 398 concepts"),
        ("none.zarr --k 5", "none.zarr: 0 vectors cannot form 5 concepts"),
        ("empty.zarr --k 5", "empty.zarr: 0 vectors cannot form 5 concepts"),
        ("nan.zarr --k 5", "layer 4, token 123 of nan.zarr: the vector is not finite"),
        ("nan.zarr --k 5 --method ward --layer 4", "layer 4, token 123 of nan.zarr: the vector is not finite"),
        ("de.zarr nan.zarr --k 5", "layer 4, token 523 of de.zarr+nan.zarr: the vector is not finite"),
        ("damaged.zarr --k 5", "layer 4, token 0 of damaged.zarr: the vector is not finite"),
        ("begun.zarr --k 5", "begun.zarr: token 128 is not there yet: the store is being written, or its writing was"),
        ("de.zarr --k 5 --memory 0.5", "c.zarr: needs about 5"),
        ("de.zarr --k 5 --init wide.npy", "wide.npy: expected numbers (5, 8), found float64 (5, 7); one row a"),
        ("de.zarr --k 6 --init start.npy", "start.npy: expected numbers (6, 8), found float64 (5, 8)"),
        ("de.zarr --k 5 --k 6 --init start.npy", "one --k"),
        ("de.zarr --k 5 --init int.npy", "int.npy: expected numbers (5, 8), found int64 (5, 8)"),
        ("de.zarr --k 5 --init nan.npy", "nan.npy: row 0 holds NaN or infinity"),
        ("de.zarr --k 5 --init x.npy", "x.npy: expected numbers (5, 8), found int64 ()"),
        ("de.zarr --k 5 --init two.npz", "two.npz: expected one array, found several"),
        ("de.zarr --k 5 --init text", "text: cannot be read as .npy"),
        ("de.zarr --k 5 --init folder", "folder: cannot be read as .npy"),
        ("de.zarr --k 5 --init nowhere.npy", "nowhere.npy: cannot be read as .npy"),
        ("de.zarr --k 5 --init start.npy --restarts 2", "start.npy: all 2 restarts would be the same; give --restarts"),
        ("de.zarr --k 5 --init start.npy --preset reference", "all 10 restarts would be the same; give --restarts 1"),
        ("de.zarr --k 5 --init start.npy --method ward", "Ward's clustering begins with single vectors"),
        ("de.zarr --k 5 --language a --language b", "2 languages for 1 stores; give --language once a store"),
        ("de.zarr --k 5 --seed 2147483648", "seed: Input should be less than 2147483648"),
        ("de.zarr --k 5 --machine nowhere.yaml", "nowhere.yaml: no such file"),
        ("de.zarr --k 5 --out folder/../text", "text: is there already"),
        ("de.zarr --k 5 --out de.zarr", "de.zarr: is there already"),
        ("de.zarr --k 5 --out full", "full: is there already"),
    ],
)  # fmt: skip
def test_cluster__bad_input(
    arguments: str, says: str, spoilt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(spoilt)
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    assert call(monkeypatch, "cluster", "--out", "c.zarr", *arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [message] = [line for line in printed.err.splitlines() if line.startswith("error:")]
    assert says in (message if "problem(s)" not in message else printed.err)
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


def test_cluster__wrong_input_later_keeps_what_is_done(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer by layer, the second cannot be clustered; what was done of the first stays until it is mended."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(spoilt / "nan.zarr", "nan.zarr")
    store.describe("nan.zarr", fingerprint="of-its-settings")  # as extract writes it; else changed vectors are refused
    monkeypatch.setattr("engine.concepts.together", one_layer)
    command = ("cluster", "nan.zarr", "-o", "c.zarr", "--k", 5)
    assert call(monkeypatch, *command) == 2
    assert found("c.zarr").chosen.values.tolist() == [[True, False, False]]
    store.write_region("nan.zarr", "activation", np.ones((1, TOKENS, HIDDEN), np.float16), layer=1)
    assert call(monkeypatch, *command) == 0
    assert found("c.zarr").chosen.values.all()
    assert not Path("c.fit").exists()
    assert call(monkeypatch, "cluster", "nan.zarr", "-o", "whole.zarr", "--k", 5) == 0
    assert_same(found("c.zarr"), found("whole.zarr"))


def one_layer(task: Clustering, runs: Any, memory: int) -> Any:
    """Layers one after the other, as with little memory."""
    return replace(together(task, runs, memory), layers=1)
