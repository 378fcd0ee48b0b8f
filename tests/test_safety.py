"""Nothing that a store or a model holds is run: pickles, objects, code beside the weights."""

import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from safetensors.torch import load_file

from engine import results, store
from engine.model.encode import Encoder
from engine.model.shape import describe, identity
from schemas.corpus import CORPUS
from schemas.errors import InputError, StoreError
from tests.small_models import ALL, SENTENCES, read, wanted
from tests.small_study import SmallStudy, Terminal
from tests.test_concepts import write

pytestmark = pytest.mark.usefixtures("wide")

CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel, BertTokenizer
Path({mark!r}).touch()
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertModel):
    config_class = OwnConfig
class OwnTokenizer(BertTokenizer):
    pass
"""


class Hostile:
    """What writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.mark),)


def changed_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there once hostile content has run."""
    return tmp_path / "mark"


@pytest.fixture
def with_code(bert: str, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BERT of a type of its own, whose classes are defined beside its weights."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "with_code"
    shutil.copytree(bert, folder)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    changed_json(
        folder / "config.json",
        model_type="own",
        auto_map={
            "AutoConfig": "own.OwnConfig",
            "AutoModel": "own.OwnModel",
            "AutoTokenizer": ["own.OwnTokenizer"] * 2,
        },
    )
    return folder


def test_hostile__content_runs_where_nothing_refuses_it(mark: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


@pytest.mark.parametrize("ask", [describe, identity, Encoder])
def test_model__code_beside_the_weights_is_not_run(with_code: Path, mark: Path, ask: Any) -> None:
    if ask is identity:  # reads bytes alone
        identity(str(with_code))
    else:
        with pytest.raises(
            InputError, match=r"brings Python code of its own, which is not run .*write trust_remote_code"
        ):
            ask(str(with_code))
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_model__classes_of_transformers_are_taken_where_there_are_some(
    with_code: Path, mark: Path, file: str, bert: str
) -> None:
    own = json.loads((with_code / "config.json").read_text())["auto_map"]
    changed_json(with_code / "config.json", model_type="bert", auto_map={})
    changed_json(with_code / file, auto_map=own)
    found, _ = read(Encoder(str(with_code)), SENTENCES, ALL, wanted())
    np.testing.assert_array_equal(found, read(Encoder(bert), SENTENCES, ALL, wanted())[0])
    assert not mark.exists()


def test_model__code_is_run_when_asked(with_code: Path, mark: Path, bert: str) -> None:
    found, _ = read(Encoder(str(with_code), trusted=True), SENTENCES, ALL, wanted())
    assert mark.exists()
    np.testing.assert_array_equal(found, read(Encoder(bert), SENTENCES, ALL, wanted())[0])
    before = identity(str(with_code), trusted=True)
    with (with_code / "own.py").open("a") as file:
        file.write("# other code may give other vectors\n")
    assert len({before, identity(str(with_code), trusted=True), identity(str(with_code))}) == 3


def test_study__code_of_a_model_is_asked_for_by_a_key(
    with_code: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, colign = SmallStudy(tmp_path, str(with_code)), Terminal(monkeypatch, capsys)
    assert "write trust_remote_code: true below the checkpoint's model" in colign("run", study.file, code=2)
    refused = colign("extract", with_code, study.text("de"), "-o", tmp_path / "a.zarr", code=2)
    assert "(colign extract: --trust-remote-code)" in refused
    assert not mark.exists()
    study.set("checkpoints.tiny.trust_remote_code", True)
    colign("plan", study.file)
    assert mark.exists()
    colign("extract", with_code, study.text("de"), "-o", tmp_path / "a.zarr", "--trust-remote-code")
    assert store.attributes(str(tmp_path / "a.zarr")) is not None


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_model__pickled_weights_are_not_loaded(models: dict[str, str], tmp_path: Path, mark: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(models[name], folder)
    whole = load_file(folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(mark)))
    Encoder(str(folder))  # beside safetensors it is not looked at
    (folder / "model.safetensors").unlink()
    for weights in (Hostile(mark), whole):
        torch.save(weights, folder / "pytorch_model.bin")
        message = (
            rf"{name}: has its weights in pytorch_model.bin alone, a pickle, .* expected model.safetensors: if you"
        )
        with pytest.raises(InputError, match=message):
            describe(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("compressor", "filters"),
    [({"id": "pickle"}, [{"id": "vlen-utf8"}]), (None, [{"id": "vlen-utf8"}, {"id": "pickle"}])],
)
def test_store__pickles_of_zarr_v2_are_not_read(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, compressor: Any, filters: Any
) -> None:
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # older ones always do
    folder = tmp_path / "v2.zarr"
    (folder / "form").mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text('{"colign_dataset": "corpus"}')
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": compressor, "fill_value": None,
             "order": "C", "filters": filters}  # fmt: skip
    (folder / "form" / ".zarray").write_text(json.dumps(array))
    (folder / "form" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["type"]}')
    (folder / "form" / "0").write_bytes(pickle.dumps(Hostile(mark)))
    path = str(folder)
    rows = np.array([0])
    assert store.attributes(path) is None
    for reading in (lambda: store.load(path, CORPUS), lambda: store.read_rows(path, "form", rows),
                    lambda: results.load(path)):  # fmt: skip
        with pytest.raises(StoreError):
            reading()
    assert not mark.exists()
    with contextlib.suppress(TypeError):  # what is unpickled is no array
        zarr.open_array(path, path="form", mode="r")[:]
    assert mark.exists()


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "no.such"])
def test_store__codecs_that_are_not_known_are_named(tmp_path: Path, mark: Path, name: str) -> None:
    folder = tmp_path / "v3.zarr"
    xr.Dataset({"form": ("type", np.zeros(3))}, attrs={"colign_dataset": "corpus"}).to_zarr(folder, consolidated=False)
    changed_json(folder / "form" / "zarr.json", codecs=[{"name": name, "configuration": {}}])
    (folder / "form" / "c" / "0").write_bytes(pickle.dumps(Hostile(mark)))
    for reading in (
        lambda: store.load(str(folder), CORPUS),
        lambda: store.read_rows(str(folder), "form", np.array([0])),
    ):
        with pytest.raises(StoreError, match=rf"v3\.zarr.* cannot be read .*codec.*{name}"):
            reading()
    assert not mark.exists()


def test_cluster__first_centroids_of_objects_are_refused(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, init = str(tmp_path / "de.zarr"), tmp_path / "init.npy"
    write(Path(path), np.random.default_rng(0).normal(size=(1, 64, 4)).astype("f4"), np.ones(64, bool), 64)
    np.save(init, np.array([[Hostile(mark)]], object), allow_pickle=True)
    colign = Terminal(monkeypatch, capsys)
    refused = colign("cluster", path, "-o", tmp_path / "c.zarr", "--k", 2, "--init", init, code=2)
    assert "init.npy: cannot be read as .npy (Object arrays cannot be loaded when allow_pickle=False)" in refused
    assert not mark.exists()
    np.load(init, allow_pickle=True)
    assert mark.exists()
