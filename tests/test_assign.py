"""Assigning vectors to concepts: the engine against brute force, and the command `colign assign`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from engine import store
from engine.assign import assign
from engine.workers.serial import SerialWorkers
from schemas.concepts import ASSIGNMENTS, CONCEPTS
from schemas.errors import ColignError, InputError
from tests.small_study import SENTENCES, call
from tests.test_cluster_command import ABSENT, HIDDEN, LAYERS, TOKENS, make, numbered
from tests.test_concepts import blobs, write

NEW = 130


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`de.zarr` with its concepts: `one.zarr` of k = 5, `two.zarr` of k = 6 and 3; `new.zarr` of other vectors."""
    folder = tmp_path_factory.mktemp("assigned")
    make(folder / "de.zarr", blobs(TOKENS, HIDDEN, 6, layers=LAYERS, seed=3))
    every = np.ones(NEW, bool)
    write(folder / "new.zarr", blobs(NEW, HIDDEN, 6, layers=4, seed=6).astype(np.float32), every, 32)
    with pytest.MonkeyPatch.context() as patch:
        command = ("cluster", folder / "de.zarr", "--restarts", 2)
        assert call(patch, *command, "-o", folder / "one.zarr", "--k", 5) == 0
        assert call(patch, *command, "-o", folder / "two.zarr", "--k", 6, "--k", 3, "--layer", 4) == 0
        write(folder / "short.zarr", blobs(NEW, 5, 6), every, 32)
        numbered(Path(write(folder / "far.zarr", blobs(NEW, HIDDEN, 6), every, 32)), [7])
        begun = write(folder / "begun.zarr", blobs(NEW, HIDDEN, 6), every, 32)
        store.write_region(begun, "token_id", np.where(np.arange(NEW) < 64, np.arange(NEW), -1))
        spoilt = blobs(NEW, HIDDEN, 6)
        spoilt[0, 77, 3] = np.inf
        write(folder / "nan.zarr", spoilt, np.arange(NEW) != 3, 32)
        shutil.copytree(folder / "one.zarr", folder / "half.zarr")
        store.write_region(str(folder / "half.zarr"), "chosen", np.zeros((1, 1), bool), run=0, layer=1)
        store.write_region(str(folder / "half.zarr"), "chosen", np.zeros((1, 1), bool), run=1, layer=1)
        shutil.copytree(folder / "one.zarr", folder / "silent.zarr")
        store.describe(str(folder / "silent.zarr"), vectors=None)
    (folder / "text.txt").write_text("\n".join(SENTENCES["de"][:3]))
    (folder / "full").mkdir()
    (folder / "full" / "precious").touch()
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


def concepts(name: str) -> xr.Dataset:
    return store.read(name, CONCEPTS)


def assigned(*names: str, threads: int = 1, products: str = "auto", **how: object) -> xr.Dataset:
    with SerialWorkers(threads, 2**30, products) as workers:
        return assign(*names, workers, **how)  # type: ignore[arg-type]


def test_assign__the_clustered_store_keeps_its_concepts() -> None:
    made, found = concepts("one.zarr"), assigned("one.zarr", "de.zarr")
    runs = made.chosen.values.argmax(axis=0)
    for name in ("concept", "distance"):
        np.testing.assert_array_equal(found[name], made[name].values[runs, np.arange(LAYERS)])
    assert np.isnan(found.margin.values[:, ABSENT]).all()
    assert (found.concept.values[:, ABSENT] == -1).all()
    assert found.layer.values.tolist() == [0, 4, 9]
    for name in ("token_id", "word", "sentence", "position"):
        np.testing.assert_array_equal(found[name], made[name])
    assert found.attrs["k"] == 5
    ASSIGNMENTS.validate(found)


@pytest.mark.parametrize("how", [{}, {"threads": 3}, {"products": "float32"}])
def test_assign__equals_brute_force(how: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.assign._ROWS", 50)
    found = assigned("one.zarr", "new.zarr", **how)  # type: ignore[arg-type]
    assert found.layer.values.tolist() == [0]
    made = concepts("one.zarr")
    centroids = made.centroid.values[made.chosen.values[:, 0].argmax(), 0].astype(np.float64)
    rows = store.read_rows("new.zarr", "activation", np.arange(NEW), axis=1, layer=0).astype(np.float64)
    distances = np.sqrt(((rows[:, None] - centroids) ** 2).sum(axis=2))
    nearest = np.sort(distances, axis=1)
    np.testing.assert_array_equal(found.concept[0], distances.argmin(axis=1))
    np.testing.assert_allclose(found.distance[0], nearest[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.margin[0], nearest[:, 1] - nearest[:, 0], rtol=1e-5, atol=1e-6)
    assert (found.margin.values >= 0).all()


def test_assign__one_of_several_numbers_of_concepts() -> None:
    made = concepts("two.zarr")
    for k in (3, 6):
        found = assigned("two.zarr", "de.zarr", k=k)
        run = int(np.flatnonzero(made.chosen.values[:, 0] & (made.k.values == k))[0])
        np.testing.assert_array_equal(found.concept[0], made.concept[run, 0])
        np.testing.assert_array_equal(found.distance[0], made.distance[run, 0])
        assert (found.layer.values.tolist(), found.attrs["k"]) == ([4], k)
    with pytest.raises(InputError, match=r"two.zarr: clustered with k = 3, 6; choose one with --k"):
        assigned("two.zarr", "de.zarr")


def test_assign__some_layers() -> None:
    whole, found = assigned("one.zarr", "de.zarr"), assigned("one.zarr", "de.zarr", layers=[9, 0])
    np.testing.assert_array_equal(found.concept, whole.concept[[2, 0]])
    assert found.layer.values.tolist() == [9, 0]


def test_command__lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "assign", "one.zarr", "de.zarr", "--layer", 9, "--layer", 0) == 0
    printed = capsys.readouterr()
    names = ["word", "sentence", "position", "layer", "concept", "distance", "margin"]
    assert printed.err.splitlines()[0].split("\t") == names
    lines = [line.split("\t") for line in printed.out.splitlines()]
    expected = assigned("one.zarr", "de.zarr")
    kept = np.delete(np.arange(TOKENS), ABSENT)
    assert len(lines) == 2 * len(kept)
    assert [line[3] for line in lines] == ["9"] * len(kept) + ["0"] * len(kept)
    assert [int(line[4]) for line in lines[len(kept) :]] == expected.concept.values[0, kept].tolist()
    for at, line in zip(kept.tolist(), lines, strict=False):
        assert line[:3] == [f"w{at % 50}", str(at // 7), str(at % 7)]
        assert float(line[5]) == pytest.approx(float(expected.distance[2, at]), rel=1e-5)
        assert float(line[6]) == pytest.approx(float(expected.margin[2, at]), rel=1e-5)
    assert call(monkeypatch, "assign", "one.zarr", "de.zarr", "--layer", 9, "--layer", 0, "--json") == 0
    held = json.loads(capsys.readouterr().out)["assignments"]
    assert [[str(row[name]) for name in names[:5]] for row in held] == [line[:5] for line in lines]


def test_command__store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.zarr"
    assert call(monkeypatch, "assign", "two.zarr", "de.zarr", "--k", 3, "-o", out) == 0
    assert f"400 words x 1 layers  {out}" in capsys.readouterr().out
    found = store.read(str(out), ASSIGNMENTS)
    expected = assigned("two.zarr", "de.zarr", k=3)
    for name in expected.variables:
        np.testing.assert_array_equal(found[name], expected[name])
    assert {name: found.attrs[name] for name in ("concepts", "activations", "k")} == {
        "concepts": "two.zarr", "activations": "de.zarr", "k": 3
    }  # fmt: skip
    assert call(monkeypatch, "assign", "one.zarr", "new.zarr", "-o", out, "--json") == 0  # replaces assignments
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "tokens": NEW, "layers": [0]}
    assert store.read(str(out), ASSIGNMENTS).sizes["token"] == NEW


@pytest.mark.parametrize("options", [(), ("--pooling", "mean", "--layer", "1", "--layer", "3", "--dtype", "float32")])
def test_command__text_equals_extract_then_assign(
    options: tuple[str, ...],
    bert: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "long.txt").write_text("\n".join(SENTENCES["de"]))
    (tmp_path / "new.txt").write_text("\n".join(SENTENCES["fr"][:5]))
    made, clustered = tmp_path / "act.zarr", tmp_path / "c.zarr"
    assert call(monkeypatch, "extract", bert, tmp_path / "long.txt", "-o", made, *options) == 0
    assert call(monkeypatch, "cluster", made, "-o", clustered, "--k", 4) == 0
    assert store.read(str(clustered), CONCEPTS).attrs["languages"] == ["act"]
    assert call(monkeypatch, "extract", bert, tmp_path / "new.txt", "-o", tmp_path / "new.zarr", *options) == 0
    capsys.readouterr()
    assert call(monkeypatch, "assign", clustered, tmp_path / "new.zarr") == 0
    expected = capsys.readouterr().out
    assert call(monkeypatch, "assign", clustered, tmp_path / "new.txt", "--model", bert) == 0
    assert capsys.readouterr().out == expected
    words = " ".join(SENTENCES["fr"][:5]).split()
    assert [line.split("\t")[0] for line in expected.splitlines()][: len(words)] == words
    assert call(monkeypatch, "assign", clustered, tmp_path / "new.txt", "--model", bert, "--layer", 3) == 0
    assert capsys.readouterr().out.splitlines() == [li for li in expected.splitlines() if li.split("\t")[3] == "3"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            "nowhere.zarr de.zarr",
            "nowhere.zarr: expected a store of concepts, found none; make one with colign cluster",
        ),
        ("de.zarr de.zarr", "de.zarr: expected a store of concepts, found a dataset of activations"),
        ("text.txt de.zarr", "text.txt: expected a store of concepts, found none"),
        ("one.zarr nowhere.zarr", "nowhere.zarr: expected a store of word vectors, found none"),
        ("one.zarr text.txt", "text.txt: expected a store of word vectors, found none"),
        ("one.zarr two.zarr", "two.zarr: expected a store of word vectors, found a dataset of concepts"),
        ("one.zarr short.zarr", "short.zarr: vectors of 5 numbers, and the centroids of one.zarr have 8"),
        ("one.zarr far.zarr", "far.zarr: has no layer of one.zarr: [7] and [0, 4, 9]"),
        ("one.zarr new.zarr --layer 4", "new.zarr: has no layer 4; it has 0, 1, 2, 3"),
        ("one.zarr de.zarr --layer 5", "one.zarr: has no layer 5; it has 0, 4, 9"),
        ("one.zarr de.zarr --k 4", "one.zarr: not clustered with k = 4; there is 5"),
        ("two.zarr de.zarr", "two.zarr: clustered with k = 3, 6; choose one with --k"),
        ("half.zarr de.zarr", "half.zarr: layer 4 is not clustered yet; let the clustering come to its end"),
        ("one.zarr nan.zarr", "nan.zarr: layer 0, token 77: the vector is not finite"),
        ("one.zarr begun.zarr", "begun.zarr: token 64 is not there yet: the store is being written"),
        (
            "one.zarr de.zarr --out full",
            "full: expected nothing there, or a dataset of assignments to replace",
        ),
        (
            "one.zarr de.zarr --out one.zarr",
            "assignments to replace; found a dataset of concepts",
        ),
        ("one.zarr nowhere.txt --model MODEL", "nowhere.txt: no such file"),
        ("one.zarr text.txt --model full", "full"),
        ("one.zarr text.txt --model MODEL --layer 5", "one.zarr: has no layer 5; it has 0, 4, 9"),
        ("silent.zarr text.txt --model MODEL", "silent.zarr: does not say how its vectors were read"),
        ("one.zarr text.txt --model MODEL --out full", "full: expected nothing there"),
    ],
)
def test_command__bad_input(
    arguments: str,
    says: str,
    bert: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out = () if "--out" in arguments else ("--out", "a.zarr")
    assert call(monkeypatch, "assign", *arguments.replace("MODEL", bert).split(), *out) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") or "\nerror: " in printed.err
    assert says in printed.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_assign__a_damaged_store_is_named(tmp_path: Path) -> None:
    for name, variable in (("one", "centroid"), ("de", "word")):
        for whole in ("one", "de"):
            shutil.copytree(f"{whole}.zarr", tmp_path / name / f"{whole}.zarr")
        files = [p for p in (tmp_path / name / f"{name}.zarr" / variable).rglob("*") if p.is_file()]
        for file in files:
            if file.name != "zarr.json":
                file.write_bytes(file.read_bytes()[:-3])
        with pytest.raises(ColignError, match=f"{name}.zarr"):
            assigned(str(tmp_path / name / "one.zarr"), str(tmp_path / name / "de.zarr"))
