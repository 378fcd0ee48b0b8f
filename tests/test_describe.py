"""The command `colign describe`: its numbers, its statistics on disk, and bad input."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import xarray as xr

from engine import store
from engine.statistics import describe
from jobs.describe import describe_concepts
from schemas.concepts import CONCEPT_STATISTICS, CONCEPTS
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import ColignError, InputError, SchemaError, StoreError
from tests.test_statistics import concepts_of

WORDS = ["in", "der", "größe", "in", "[red]", "the", "size", "in", "der", "the"]
LANGUAGE = [0, 0, 0, 1, 0, 1, 1, 1, 0, 1]
LABELS = np.array(
    [[[0, 0, 1, 0, 0, 1, 1, -1, 0, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]] * 2 + [[[2] * 10, [*range(3)] * 3 + [0]]]
)


@pytest.fixture
def made() -> xr.Dataset:
    """Concepts of layers 3 and 8: two runs of k = 2, the second of which was chosen at layer 8, and one of k = 3."""
    labels = LABELS.copy()
    labels[1, 0, :2] = 1
    chosen = np.array([[True, False], [False, True], [True, True]])
    distance = np.broadcast_to(np.arange(10) / 4, labels.shape)
    return concepts_of(
        labels, WORDS, LANGUAGE, ks=[2, 2, 3], layers=[3, 8], distance=distance, scatter=[8, np.nan], chosen=chosen
    )


@pytest.fixture
def path(made: xr.Dataset, tmp_path: Path) -> str:
    store.save(str(tmp_path / "de+en.zarr"), CONCEPTS, made)
    return str(tmp_path / "de+en.zarr")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Give the command as in a shell; its errors are raised."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(describe_concepts)
    monkeypatch.setattr(sys, "argv", ["describe", *map(str, arguments)])
    app(standalone_mode=False)


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """The JSON object that the command prints."""
    call(monkeypatch, *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_describe__a_line_for_each_layer_and_k(
    path: str, made: xr.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(monkeypatch, capsys, path)
    lines = found["layers"]
    assert [(line["layer"], line["k"], line["run"], line["seed"]) for line in lines] == [
        (3, 2, 0, 7), (3, 3, 2, 9), (8, 2, 1, 8), (8, 3, 2, 9)
    ]  # fmt: skip
    assert [line["tokens"] for line in lines] == [9, 10, 10, 10]
    assert [(line["empty"], line["smallest"], line["median"], line["largest"]) for line in lines] == [
        (0, 4, 4.5, 5), (2, 10, 0, 10), (1, 10, 5, 10), (0, 3, 3, 4)
    ]  # fmt: skip
    expected = describe(made)
    for line, (run, layer) in zip(lines, ((0, 0), (2, 0), (1, 1), (2, 1)), strict=True):
        for name in ("entropy", "explained_variance", "stability"):
            value = expected[name].values[run, layer]
            assert line[name] is None if np.isnan(value) else line[name] == value
    assert [line["explained_variance"] is None for line in lines] == [False, False, True, True]
    assert [line["stability"] is None for line in lines] == [False, True, False, True]
    assert found["not_clustered"] == []


def test_describe__the_largest_concepts_of_a_layer(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = printed(monkeypatch, capsys, path, "--layer", 3, "--k", 2, "--top", 1)["layers"]
    assert line["largest"] == 5
    assert line["largest_concepts"] == [
        {
            "concept": 0,
            "tokens": 5,
            "types": 4,
            "languages": {"de": 4, "en": 1},
            "mean_distance": (0 + 1 + 3 + 4 + 8) / 4 / 5,
            "words": ["in", "der", "[red]"],
        }
    ]
    lines = printed(monkeypatch, capsys, path, "--layer", 3, "--layer", 8)["layers"]
    assert [(line["layer"], line["k"], [c["tokens"] for c in line["largest_concepts"]]) for line in lines] == [
        (3, 2, [5, 4]), (3, 3, [10]), (8, 2, [10]), (8, 3, [4, 3, 3])
    ]  # fmt: skip


def test_describe__tables(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, path, "--layer", 3, "--k", 2)
    text = capsys.readouterr().out
    assert "layer k run tokens empty least median most entropy explained stability" in " ".join(text.split())
    assert "3 2 0 9 0 4 4.5 5 0.991 1.000" in " ".join(text.split())
    assert "[red]" in text
    assert "layer 3, run 0: the 2 largest of 2 concepts" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("asked", [(), ("--layer", 8), ("--k", 3)])
def test_describe__writes_the_statistics_of_every_run(
    path: str,
    made: xr.Dataset,
    asked: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "statistics.zarr")
    without = printed(monkeypatch, capsys, path, *asked)
    for _ in range(2):  # the second replaces what the first wrote
        assert printed(monkeypatch, capsys, path, "-o", out, *asked) == without | {"statistics": out}
        written = store.read(out, CONCEPT_STATISTICS)
        xr.testing.assert_equal(written, describe(made))
        assert written.attrs["concepts"] == path
        assert written.attrs["languages"] == made.attrs["languages"]


def test_describe__layers_not_clustered_yet(
    made: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "half.zarr")
    made.concept[:, 1], made.chosen[:, 1], made.inertia[:, 1] = -1, False, np.nan
    store.save(path, CONCEPTS, made)
    found = printed(monkeypatch, capsys, path)
    assert [line["layer"] for line in found["layers"]] == [3, 3]
    assert found["not_clustered"] == [8]
    call(monkeypatch, path)
    assert "not clustered yet: layer 8" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"expected concepts of layer 8, found that it is not clustered yet; run the"):
        call(monkeypatch, path, "--layer", 8)
    store.save(path, CONCEPTS, made.assign(chosen=made.chosen & False))
    with pytest.raises(InputError, match=r"expected concepts of layer 3, 8, found that it is not clustered yet"):
        call(monkeypatch, path)


def failure(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """Message of the error of the input that the command ends with."""
    with pytest.raises(InputError) as raised:
        call(monkeypatch, *arguments)
    return str(raised.value)


def test_describe__bad_input(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file, other = tmp_path / "folder", tmp_path / "file.zarr", str(tmp_path / "other.zarr")
    folder.mkdir()
    file.write_text("text")
    values = {"layer": [0], "language": ["de"], "unit": ["token"], "language_count": np.zeros((1, 1, 1, 1), np.int64)}
    store.save(other, LANGUAGE_COUNT, LANGUAGE_COUNT.create(values | {"layer": np.zeros(1, np.int32)}))
    for given, found in (
        (tmp_path / "none.zarr", "found nothing there: name another path, or run the study"),
        (folder, "found something else: name another path"),
        (file, "found something else: name another path"),
        (other, f"found a dataset of {LANGUAGE_COUNT.name}: name another path"),
    ):
        message = failure(monkeypatch, given)
        assert message == f"{given}: expected a store of concepts, as a study writes to its folder concepts; {found}"
    assert failure(monkeypatch, path, "--layer", 5, "--layer", 4, "--layer", 3) == (
        f"{path}: has no layer 4, 5; it has 3, 8: give --layer one of these"
    )
    assert failure(monkeypatch, path, "--k", 600) == f"{path}: has no k 600; it has 2, 3: give --k one of these"
    (folder / "notes.txt").write_text("text")
    for taken in (path, other, folder, file):
        message = failure(monkeypatch, path, "-o", taken)
        assert message.startswith(f"{taken}: expected nothing there, or a dataset of {CONCEPT_STATISTICS.name} ")
        assert message.endswith(": choose another name with --out")
    assert store.load(path, CONCEPTS).sizes["token"] == 10


def test_describe__other_version(made: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "old.zarr")
    store.save(path, CONCEPTS, made)
    store.describe(path, format_version=2)
    with pytest.raises(SchemaError, match=r"old.zarr: dataset concepts has format version 2, this Colign reads 3"):
        call(monkeypatch, path)


def test_describe__damaged_store(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = max((p for p in Path(path, "concept").rglob("*") if p.name != "zarr.json" and p.is_file()), key=str)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(ColignError) as raised:
        call(monkeypatch, path)
    assert isinstance(raised.value, StoreError)
    assert path in str(raised.value)
