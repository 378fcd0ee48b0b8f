"""Vectors of a whole study whose values may not fit float16."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine import paths
from engine.records import read_records
from engine.store import load
from engine.workers.serial import SerialWorkers
from jobs import files, stages, tasks, vectors
from jobs.selections import read_text
from schemas.activations import ACTIVATIONS
from schemas.task import Key
from tests.small_models import large
from tests.small_study import SmallStudy, call

Stores = dict[str, xr.Dataset]


def small_study(folder: Path, model: str, **settings: Any) -> SmallStudy:
    """A small study of two layers in small shards."""
    small = SmallStudy(folder, model)
    for name, value in {"layers": [0, 2], "shard_tokens": 16, "chunk_tokens": 8, **settings}.items():
        small.set(f"activations.{name}", value)
    return small


def extract(small: SmallStudy) -> list[int]:
    """Do what is left of the study's corpus and vectors; returns the changes of the number of shards that are done."""
    loaded, layout = files.load_study(str(small.file))
    context = stages.context(loaded, layout, 1, 2**30)
    if str(Key("corpus")) not in read_records(layout.records):
        tasks.perform(Key("corpus"), context)
    text = read_text(loaded, layout, [str(Key("corpus"))])
    [stage] = [s for s in stages.stages(context, text, 2**30) if s.name == "activations"]
    left = stages.missing(stage, set(read_records(layout.records)))
    with SerialWorkers() as workers:
        return list(vectors.work(stage.keys, left, context.vectors, workers, lambda _: None))


def stores(small: SmallStudy) -> Stores:
    """Vectors of each language."""
    found = sorted((small.directory / "activations/tiny/encoder").glob("*.zarr"))
    return {path.stem: load(str(path), ACTIVATIONS).load() for path in found}


def records(small: SmallStudy) -> dict[str, dict[str, Any]]:
    """Outcomes of the activations by key."""
    found = [json.loads(path.read_text()) for path in small.directory.rglob("records/**/*.json")]
    return {record["key"]: record["outcome"] for record in found if record["key"].startswith("activations/")}


def consistent(small: SmallStudy) -> None:
    """Every shard of every store has one record, of the type in which it is stored."""
    outcomes = records(small)
    for language, dataset in stores(small).items():
        mine = {key: outcome for key, outcome in outcomes.items() if key.split("/")[3] == language}
        starts = sorted(int(key.split("/")[-1].split("-")[0]) for key in mine)
        assert starts == list(range(0, dataset.sizes["token"], 16))
        assert sum(outcome["tokens"] for outcome in mine.values()) == dataset.sizes["token"]
        assert not any("overflow" in outcome for outcome in mine.values())
        width = dataset.activation.dtype.itemsize
        for outcome in mine.values():
            vectors = 2 * outcome["tokens"] * 16 * width
            assert vectors <= outcome["bytes"] < vectors + 8000
        assert np.isfinite(dataset.activation.values[:, dataset.present.values]).all()
        assert dataset.present.values.all()


@pytest.fixture(scope="module")
def sometimes_large(mt5: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An mT5 that only the English `my` and `boy` drive beyond float16."""
    return large(mt5, tmp_path_factory.mktemp("large") / "model", "y")


@pytest.mark.slow
def test_run__auto_stores_float32_where_float16_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sometimes_large: str
) -> None:
    small, wide = (small_study(tmp_path / dtype, sometimes_large, dtype=dtype) for dtype in ("auto", "float32"))
    for each in (small, wide):
        assert call(monkeypatch, "run", each.file) == 0
    found, expected = stores(small), stores(wide)
    assert {lang: str(d.activation.dtype) for lang, d in found.items()} == {
        "en": "float32", "de": "float16", "fr": "float16"
    }  # fmt: skip
    for name in expected["en"].variables:
        np.testing.assert_array_equal(found["en"][name], expected["en"][name])
    for lang in ("de", "fr"):
        np.testing.assert_array_equal(found[lang].activation, expected[lang].activation.astype(np.float16))
    consistent(small)
    before = small.files()
    assert call(monkeypatch, "run", small.file) == 0
    assert small.files() == before


def compare(found: Stores, expected: Stores) -> None:
    """Stores are equal to the bit."""
    assert list(found) == list(expected)
    for lang, dataset in found.items():
        assert dataset.activation.dtype == expected[lang].activation.dtype
        for name in dataset.variables:
            np.testing.assert_array_equal(dataset[name], expected[lang][name])


@pytest.fixture(scope="module")
def undisturbed(sometimes_large: str, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Stores of a study of type auto that was never killed."""
    small = small_study(tmp_path_factory.mktemp("undisturbed"), sometimes_large, dtype="auto")
    shards = extract(small)
    assert sum(shards) == len(records(small))
    assert min(shards) < 0  # float16 shards were done again
    return stores(small)


def test_work__auto_equals_float32_to_the_bit(tmp_path: Path, sometimes_large: str, undisturbed: Stores) -> None:
    small = small_study(tmp_path / "wide", sometimes_large, dtype="float32")
    assert min(extract(small)) > 0
    wide = stores(small)
    assert {lang: str(d.activation.dtype) for lang, d in undisturbed.items()} == {
        "en": "float32", "de": "float16", "fr": "float16"
    }  # fmt: skip
    compare({"en": undisturbed["en"]}, {"en": wide["en"]})
    for lang in ("de", "fr"):
        np.testing.assert_array_equal(undisturbed[lang].activation, wide[lang].activation.astype(np.float16))


def test_work__auto_keeps_float16_where_it_fits(tmp_path: Path, mt5: str) -> None:
    small = small_study(tmp_path, mt5, dtype="auto")
    assert min(extract(small)) > 0
    assert {str(d.activation.dtype) for d in stores(small).values()} == {"float16"}
    consistent(small)


def killed(number: int, function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """A function that is killed at its n-th call, before or after it."""
    calls = iter(range(1, 10**6))

    def call(*arguments: Any, **options: Any) -> Any:
        now = next(calls) == number
        if now and not after:
            raise KeyboardInterrupt
        result = function(*arguments, **options)
        if now:
            raise KeyboardInterrupt
        return result

    return call


@pytest.mark.parametrize(
    ("name", "number", "after"),
    [
        ("jobs.vectors._undo", 1, False),  # some shards are recorded as float16, one did not fit
        ("jobs.vectors.delete_record", 1, True),
        ("engine.paths.remove", 1, False),
        ("engine.paths.remove", 1, True),
        ("jobs.vectors._lay_out", 4, True),  # laid out wide
        ("jobs.tasks.commit", 2, False),
        ("jobs.tasks.commit", 3, True),
    ],
)
def test_work__auto_goes_on_where_it_was_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sometimes_large: str,
    undisturbed: Stores,
    name: str,
    number: int,
    after: bool,
) -> None:
    small = small_study(tmp_path, sometimes_large, dtype="auto")
    module, function = name.rsplit(".", 1)
    place = importlib.import_module(module)
    with monkeypatch.context() as patch:
        patch.setattr(place, function, killed(number, getattr(place, function), after=after))
        with pytest.raises(KeyboardInterrupt):
            extract(small)
    extract(small)
    compare(stores(small), undisturbed)
    consistent(small)
    assert extract(small) == []


def test_work__killed_halfway_through_removing_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sometimes_large: str, undisturbed: Stores
) -> None:
    small = small_study(tmp_path, sometimes_large, dtype="auto")

    def half(path: str) -> None:
        for file in sorted(Path(path).rglob("*"))[::2]:
            if file.is_file():
                file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(paths, "remove", half)
        with pytest.raises(KeyboardInterrupt):
            extract(small)
    extract(small)
    compare(stores(small), undisturbed)
    consistent(small)
