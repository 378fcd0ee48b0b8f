"""Word vectors to and from NeuroX and ConceptX: round trips, files as their own tools write them, bad input."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import store
from engine.exchange import new_store, stream
from engine.exchange.conceptx import export_conceptx, import_conceptx
from engine.exchange.neurox_hdf5 import export_neurox_hdf5, import_neurox_hdf5
from engine.exchange.neurox_json import export_neurox_json, import_neurox_json
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError
from tests.oracles.vectors import save_bert
from tests.small_study import SENTENCES, SmallStudy, call

WORDS = ["der", "a|||b", "|||", "größe", "كتب", "\U0001f408", '"', "(Occurrence", "2)", "1", "-"]


def save(
    path: Path,
    sentences: list[list[str]],
    vectors: NDArray[np.floating],
    *,
    present: NDArray[np.bool_] | None = None,
    numbers: list[int] | None = None,
    layers: list[int] | None = None,
    chunk: int = 2,
    shard: int = 4,
) -> str:
    """A store of whole sentences with vectors (layer, token, hidden)."""
    lengths = [len(words) for words in sentences]
    count = sum(lengths)
    values = {
        "layer": np.array(layers or range(len(vectors)), np.int32),
        "token_id": np.arange(count) + 7,
        "word": [word for words in sentences for word in words],
        "sentence": np.repeat(numbers or range(len(sentences)), lengths),
        "position": np.concatenate([np.arange(n) for n in lengths]),
        "present": np.ones(count, bool) if present is None else present,
        "activation": vectors,
    }
    sizes = {"layer": len(vectors), "token": count, "hidden": vectors.shape[2]}
    store.setup(
        str(path),
        ACTIVATIONS,
        sizes,
        values,
        chunks={"layer": 1, "token": chunk},
        shards={"layer": 1, "token": shard},
        dtypes={"activation": vectors.dtype.name},
    )
    return str(path)


def opened(path: object) -> xr.Dataset:
    return store.read(str(path), ACTIVATIONS)


def random(layers: int, tokens: int, hidden: int = 3, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=(layers, tokens, hidden)).astype(dtype)


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    sentences = draw(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=5))
    tokens = sum(map(len, sentences))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    seed = draw(st.integers(0, 99))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e3]))
    vectors = np.random.default_rng(seed).normal(scale=scale, size=(draw(st.integers(1, 3)), tokens, 2)).astype(dtype)
    present = np.array(draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens)))
    present[draw(st.integers(0, tokens - 1))] = True
    vectors[:, ~present] = np.nan
    return {
        "sentences": sentences,
        "vectors": vectors,
        "present": present,
        "numbers": sorted(draw(st.permutations(range(9)))[: len(sentences)]),
        "layers": sorted(draw(st.permutations(range(9)))[: len(vectors)]),
        "shard": 2 * draw(st.integers(1, 4)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one chunk, so that sentences straddle them."""
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1)


Export = Callable[..., stream.Exchanged]
FORMATS = [
    pytest.param(export_neurox_json, import_neurox_json, "a.json", id="neurox-json"),
    pytest.param(export_neurox_hdf5, import_neurox_hdf5, "a.hdf5", id="neurox-hdf5"),
    pytest.param(export_conceptx, import_conceptx, "point.npy", id="conceptx"),
]


@pytest.mark.parametrize(("out_of", "into", "name"), FORMATS)
@given(made=stores(), data=st.data())
def test_round_trip(folder: Path, out_of: Export, into: Export, name: str, made: dict[str, Any], data: Any) -> None:
    one, file, other = folder / "one.zarr", str(folder / name), str(folder / "other.zarr")
    shutil.rmtree(one, ignore_errors=True)
    layers = [data.draw(st.sampled_from(made["layers"]))] if out_of is export_conceptx else made["layers"]
    done = out_of(save(one, **made), file, layers=layers)
    into(file, other, layers=layers)
    before = opened(one).sel(layer=layers)
    kept, after = before.isel(token=made["present"]), opened(other)
    assert (done.tokens, done.absent) == (int(made["present"].sum()), int((~made["present"]).sum()))
    assert after.layer.values.tolist() == layers
    assert after.word.values.tolist() == kept.word.values.tolist()
    assert after.sentence.values.tolist() == kept.sentence.values.tolist()
    assert after.token_id.values.tolist() == list(range(done.tokens))
    assert bool(after.present.all())
    expected = kept.activation.values.astype("float32")
    if out_of is export_neurox_json:  # 8 decimals, and half a step of float32
        np.testing.assert_allclose(after.activation.values, expected, rtol=2**-24, atol=0.5001e-8)
    else:
        np.testing.assert_array_equal(after.activation.values, expected, strict=True)
    if out_of is export_conceptx:
        assert after.position.values.tolist() == kept.position.values.tolist()
    else:  # the file does not keep the places of single words: they are counted among those stored
        _, first = np.unique(kept.sentence.values, return_index=True)
        counted = np.arange(done.tokens) - np.repeat(first, np.diff([*first, done.tokens]))
        assert after.position.values.tolist() == counted.tolist()


def test_import__shards_of_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_store, "SHARD_BYTES", 2 * 2 * 4 * 5000)
    vectors = random(2, 9000, 2)
    save(tmp_path / "one.zarr", [["a", "b", "c"]] * 3000, vectors, chunk=512, shard=1024)
    export_neurox_hdf5(str(tmp_path / "one.zarr"), str(tmp_path / "a.hdf5"))
    import_neurox_hdf5(str(tmp_path / "a.hdf5"), str(tmp_path / "two.zarr"))
    after = xr.open_zarr(tmp_path / "two.zarr", consolidated=False, chunks=None)
    assert after.activation.encoding["shards"] == (1, 4096, 2)
    np.testing.assert_array_equal(after.activation.values, vectors)
    assert after.attrs["format"] == "neurox-hdf5"
    assert after.attrs["source"] == str(tmp_path / "a.hdf5")


# Files as the published tools write them


def test_export_json__as_neurox_writes_it(tmp_path: Path) -> None:
    vectors = np.array([[[0.5, -0.25], [1.0, 2.0], [3.0, 0.1]], [[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]], "float32")
    path = save(tmp_path / "a.zarr", [["the"], ["cat", "é"]], vectors, numbers=[0, 4], layers=[0, 12])
    export_neurox_json(path, str(tmp_path / "a.json"))
    lines = (tmp_path / "a.json").read_text("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"linex_index": 0, "features": [{"token": "the", "layers": [
            {"index": 0, "values": [0.5, -0.25]}, {"index": 12, "values": [4, 5]}]}]},
        {"linex_index": 4, "features": [
            {"token": "cat", "layers": [{"index": 0, "values": [1, 2]}, {"index": 12, "values": [6, 7]}]},
            {"token": "é", "layers": [{"index": 0, "values": [3, 0.1]}, {"index": 12, "values": [8, 9]}]}]},
    ]  # fmt: skip


def test_export_hdf5__as_neurox_writes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", [["a", "cat"], ["a", "cat"], ["é"], ["a", "cat"]], random(1, 7))
    export_neurox_hdf5(path, str(tmp_path / "a.hdf5"))
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert sorted(file) == ["0", "1", "2", "3", "sentence_to_index"]
        assert (file["0"].shape, file["0"].dtype) == ((1, 2, 3), np.float32)
        assert file["sentence_to_index"].shape == (1,)
        assert json.loads(file["sentence_to_index"][0]) == {
            "a cat": "0", "a cat (Occurrence 2)": "1", "é": "2", "a cat (Occurrence 3)": "3"
        }  # fmt: skip


@pytest.mark.parametrize("count_from", [0, 1])
def test_export_conceptx__as_conceptx_writes_it(tmp_path: Path, count_from: int) -> None:
    vectors = random(2, 4, dtype="float16")
    path = save(tmp_path / "a.zarr", [["a", "a|||b"], ["größe", "a"]], vectors)
    points, vocab = tmp_path / "processed-point.npy", tmp_path / "processed-vocab.npy"
    export_conceptx(path, str(points), layers=[1], count_from=count_from)
    keys = [f"{word}|||{n + count_from}|||{where}" for word, n, where in
            [("a", 0, "0|||0"), ("a|||b", 0, "0|||1"), ("größe", 0, "1|||0"), ("a", 1, "1|||1")]]  # fmt: skip
    expected = io.BytesIO()
    np.save(expected, keys)
    assert vocab.read_bytes() == expected.getvalue()
    expected = io.BytesIO()
    np.save(expected, vectors[1].astype("float64"))
    assert points.read_bytes() == expected.getvalue()


@pytest.mark.parametrize("name", ["linex_index", "linex_idx"])
def test_import_json__both_names_of_the_number_and_lines_without_words(tmp_path: Path, name: str) -> None:
    word = '{"token": "cat", "layers": [{"index": 0, "values": [0.5, 1]}, {"index": 1, "values": [-2e-1, 3.0]}]}'
    (tmp_path / "a.json").write_text(
        f'{{"{name}": 0, "features": [{word}, {word}]}}\n\n{{"{name}": 1, "features": []}}\n'
        f'{{"features": [{word}], "{name}": 3}}'
    )
    import_neurox_json(str(tmp_path / "a.json"), str(tmp_path / "a.zarr"), dtype="float16")
    found = opened(tmp_path / "a.zarr")
    assert found.sentence.values.tolist() == [0, 0, 3]
    assert found.position.values.tolist() == [0, 1, 0]
    assert found.activation.dtype == np.float16
    np.testing.assert_array_equal(found.activation[:, 2].values, np.array([[0.5, 1], [-0.2, 3]], "float16"))


@pytest.mark.parametrize("name", ["sentence_to_index", "sentence_to_idx"])
def test_import_hdf5__both_names_of_the_index_and_repeated_sentences(tmp_path: Path, name: str) -> None:
    lengths = {"a cat": 2, "a cat (Occurrence 2)": 2, "see (Occurrence 2)": 3, "a": 1}
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for i, length in enumerate(lengths.values()):
            file.create_dataset(str(i + 9), data=np.full((2, length, 3), i, "float32"))
        index = file.create_dataset(name, (1,), dtype=h5py.special_dtype(vlen=str))
        index[0] = json.dumps({text: str(i + 9) for i, text in enumerate(lengths)})
    import_neurox_hdf5(str(tmp_path / "a.hdf5"), str(tmp_path / "a.zarr"))
    found = opened(tmp_path / "a.zarr")
    assert found.word.values.tolist() == ["a", "cat", "a", "cat", "see", "(Occurrence", "2)", "a"]
    assert found.sentence.values.tolist() == [9, 9, 10, 10, 11, 11, 11, 12]  # by number, though "9" sorts after "10"
    assert found.activation[0, :, 0].values.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]


def test_import_conceptx__words_in_any_order_and_again(tmp_path: Path) -> None:
    keys = ["b|||0|||5|||2", "a|||b|||0|||1|||0", "b|||1|||5|||2", "|||||||1|||0|||7"]
    np.save(tmp_path / "encoder-points-3.npy", np.arange(8.0).reshape(4, 2))
    np.save(tmp_path / "encoder-vocabs-3.npy", keys)
    import_conceptx(str(tmp_path / "encoder-points-3.npy"), str(tmp_path / "a.zarr"), layers=[3])
    found = opened(tmp_path / "a.zarr")
    assert found.word.values.tolist() == ["b", "a|||b", "b", "||||"]
    assert found.sentence.values.tolist() == [5, 1, 5, 0]
    assert found.position.values.tolist() == [2, 0, 2, 7]
    assert found.layer.values.tolist() == [3]
    np.testing.assert_array_equal(found.activation[0].values, np.arange(8.0).reshape(4, 2))
    with pytest.raises(InputError, match=r"not in the order of the text .* export it as conceptx"):
        export_neurox_json(str(tmp_path / "a.zarr"), str(tmp_path / "a.json"))
    assert not list(tmp_path.glob("a.json*"))


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list")
def test_neurox_loader__reads_what_is_exported(tmp_path: Path) -> None:
    loader = pytest.importorskip("neurox.data.loader", reason="pip install --no-deps neurox==1.0.9")
    vectors = random(2, 6)
    path = save(tmp_path / "a.zarr", [["a", "cat"], ["a", "cat"], ["é", "|||"]], vectors, numbers=[0, 2, 5])
    for export, name in ((export_neurox_json, "a.json"), (export_neurox_hdf5, "a.hdf5")):
        export(path, str(tmp_path / name))
        sentences, layers = loader.load_activations(str(tmp_path / name))
        assert layers == 2
        found = np.concatenate(sentences).reshape(6, 2, 3).swapaxes(0, 1)
        np.testing.assert_allclose(found, vectors, atol=0.5001e-8)


# Bad input, through the command line


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], object]
    """Writes the file that is to be read."""
    says: tuple[str, ...]
    """Words of the message: where, what was found, the remedy."""
    file: str = "a.json"
    options: tuple[str, ...] = ()


def text(*lines: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "a.json").write_bytes(
        b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )


def line(i: object, *words: object) -> str:
    return json.dumps({"linex_index": i, "features": words}) + "\n"


def word(*values: object, token: object = "cat", first: object = 0) -> dict[str, object]:
    layers = [{"index": first + i if isinstance(first, int) else first, "values": v} for i, v in enumerate(values)]
    return {"token": token, "layers": layers}


def hdf5(index: object, **shapes: Any) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        with h5py.File(folder / "a.hdf5", "w") as file:
            for name, values in shapes.items():
                file.create_dataset(name.strip("_"), data=values)
            if index is not None:
                file.create_dataset("sentence_to_index", data=[index if isinstance(index, str) else json.dumps(index)])

    return make


def npy(points: object, keys: object) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for name, values in (("point", points), ("vocab", keys)):
            if isinstance(values, bytes):
                (folder / f"{name}.npy").write_bytes(values)
            elif values is not None:
                np.save(folder / f"{name}.npy", np.asarray(values), allow_pickle=True)

    return make


GOOD = line(0, word([1.0, 2.0], [3.0, 4.0]), word([1.0, 2.0], [3.0, 4.0]))
ONE = np.ones((2, 1, 3), "float32")
NAN = np.where(np.arange(6).reshape(2, 1, 3) == 4, np.nan, ONE).astype("float32")
KEYS = ["a|||1|||0|||0", "a|||2|||0|||1"]

BAD = [
    Case("nothing", text(""), ("a.json: holds no words", "expected at least one")),
    Case("missing", lambda _: None, ("a.json: expected a neurox-json file, found none",)),
    Case("folder", lambda folder: (folder / "a.json").mkdir(), ("a.json: expected", "found a folder")),
    Case("cut off", text(GOOD, GOOD[:-20]), ("a.json, line 2: not valid JSON", "last one", "cut off", "anew")),
    Case("a line within", text(GOOD[:-9] + "\n", GOOD), ("a.json, line 1: not valid JSON", "leave out the line")),
    Case("a list", text("[1]\n"), ("a.json: expected lines of JSON", "found b'[1]", "give the file that NeuroX wrote")),
    Case("zip", text(b"PK\x03\x04" + b"\x00" * 99), ("a.json: expected lines of JSON", "NeuroX")),
    Case("another object", text('{"a": 1}\n'), ("line 1: expected", '"features"', 'found {"a": 1}')),
    Case("deep", text('{"a":' * 99999), ("line 1: not valid JSON", "recursion")),
    Case("not UTF-8", text(GOOD, b'{"linex_index": 1, "\xff": 2}\n'), ("line 2: byte 0xff is not UTF-8", "convert")),
    Case("no number", text('{"features": []}\n'), ("line 1: linex_index is None", "whole number from 0")),
    Case("number negative", text(line(-1, word([1.0]))), ("linex_index is -1", "whole number from 0")),
    Case("number true", text(line(True, word([1.0]))), ("linex_index is True", "whole number from 0")),
    Case("number large", text(line(2**31, word([1.0]))), (f"linex_index is {2**31}", f"to {2**31 - 1}")),
    Case("again", text(GOOD, GOOD), ("line 2: linex_index 0 follows 0; expected increasing", "number the lines")),
    Case("word", text(line(0, word([1.0], token=3))), ("line 1, token 0: expected a word", '"token": 3')),
    Case("surrogate", text(line(0, word([1.0], token="\ud800"))), ("line 1, token 0", "surrogate", "repair")),
    Case("no layer", text(line(0, word([1.0]), word())), ("line 1, token 1 ('cat'): has no layers", "leave out")),
    Case("layer", text(line(0, word([1.0], first="0"))), ("line 1, token 0 ('cat'): expected layers", '"index": "0"')),
    Case("layer negative", text(line(0, word([1.0], first=-1))), ("numbers of its layers are -1", "--layer")),
    Case("missing layer", text(line(0, word([1.0], [2.0]), word([1.0]))),
         ("line 1, token 1 ('cat'): its layers are 0; expected 0, 1", "same layers")),
    Case("other layers", text(GOOD, line(1, word([1.0, 2.0], [1.0, 2.0], first=1))),
         ("line 2, token 0: its layers are 1, 2; expected 0, 1 as at", "line 1, token 0", "same layers")),
    Case("length", text(line(0, word([1.0, 2.0], [1.0]))),
         ("line 1, token 0 ('cat'), layer 1: a vector has 1 numbers; expected 2", "one length")),
    Case("length of a line", text(GOOD, line(1, word([1.0], [1.0]))),
         ("line 2, token 0: a vector has 1 numbers; expected 2", "line 1, token 0")),
    Case("no values", text(line(0, word([]))), ("a vector has 0 numbers; expected at least 1",)),
    Case("NaN", text(GOOD, line(1, word([1.0, 2.0], [1.0, float("nan")]))),
         ("line 2, token 0 ('cat'), layer 1: value 1 is nan", "finite", "repair")),
    Case("infinite", text(GOOD.replace("4.0", "1e999")), ("layer 1: value 1 is inf", "finite")),
    Case("text", text(line(0, word(["1.0"]))), ("token 0 ('cat'), layer 0: expected numbers", '"1.0"')),
    Case("huge", text(line(0, word([10**400]))), ("line 1: ", "beyond float64")),
    Case("float16", text(GOOD.replace("4.0", "70000")),
         ("line 1, token 0 ('cat'), layer 1: value 1 is 70000", "does not fit float16", "--dtype float32"),
         options=("--dtype", "float16")),
    Case("float32", text(GOOD.replace("4.0", "1e39")), ("value 1 is 1e+39", "does not fit float32", "scale")),
    Case("layers given", text(GOOD), ("a.json: has 2 layers, and 1 numbers", "--layer"), options=("--layer", "3")),
    Case("layers twice", text(GOOD), ("numbers of its layers are 3, 3", "increasing"),
         options=("--layer", "3", "--layer", "3")),
    Case("ending", lambda folder: (folder / "a.csv").touch(), ("a.csv: its ending does not tell", "--format"), "a.csv"),
    Case("vocab", text(GOOD), ("--vocab x: neurox-json keeps", "leave it out"), options=("--vocab", "x")),
    Case("not HDF5", lambda folder: (folder / "a.hdf5").write_text(GOOD),
         ("a.hdf5: cannot be read as HDF5", "signature", "NeuroX"), "a.hdf5"),
    Case("no index", hdf5(None, _0=ONE), ("a.hdf5: has no dataset sentence_to_index", "found 0", "NeuroX"), "a.hdf5"),
    Case("index", hdf5("{", _0=ONE), ("a.hdf5, sentence_to_index: expected one JSON string", "anew"), "a.hdf5"),
    Case("index a list", hdf5([1], _0=ONE), ("expected a JSON object of sentences, found list",), "a.hdf5"),
    Case("index's name", hdf5({"a": "x"}, x=ONE), ("a dataset is 'x'; expected a whole number",), "a.hdf5"),
    Case("index twice", hdf5({"a": "0", "b": 0}, _0=ONE), ("'a' and 'b' are both dataset 0",), "a.hdf5"),
    Case("dataset missing", hdf5({"a": "0", "b": "1"}, _0=ONE), ("names dataset '1', which is not there",), "a.hdf5"),
    Case("dataset more", hdf5({"a": "0"}, _0=ONE, _5=ONE), ("does not name dataset '5'", "leave it out"), "a.hdf5"),
    Case("two dimensions", hdf5({"a": "0"}, _0=ONE[0]),
         ('dataset "0": expected numbers (layers, words, hidden)', "(1, 3)"), "a.hdf5"),
    Case("words", hdf5({"a b": "0"}, _0=ONE), ('dataset "0": has 1 vectors for the 2 words', "'a b'"), "a.hdf5"),
    Case("HDF5 layers", hdf5({"a": "0", "b": "1"}, _0=ONE, _1=ONE[:1]),
         ('dataset "1", word 0: its layers are 0; expected 0, 1', 'dataset "0"'), "a.hdf5"),
    Case("HDF5 length", hdf5({"a": "0", "b": "1"}, _0=ONE, _1=ONE[..., :1]), ("has 1 numbers; expected 3",), "a.hdf5"),
    Case("HDF5 NaN", hdf5({"a": "0"}, _0=NAN), ('dataset "0", word 0 (\'a\'), layer 1: value 1 is nan',), "a.hdf5"),
    Case("no vocab", npy(np.ones((2, 3)), None), ("vocab.npy: expected a conceptx file, found none",), "point.npy"),
    Case("sizes", npy(np.ones((3, 3)), KEYS), ("has 3 points, and", "has 2 keys", "written together"), "point.npy"),
    Case("points of one dimension", npy(np.ones(2), KEYS), ("expected vectors (token, hidden)", "(2,)"), "point.npy"),
    Case("keys are vectors", npy(np.ones((2, 3)), np.ones((2, 3))), ("vocab.npy: expected text", "float64"),
         "point.npy"),
    Case("three fields", npy(np.ones((2, 3)), [KEYS[0], "a|||1|||0"]),
         ("vocab.npy, record 1: expected word|||occurrence|||sentence|||token, found 'a|||1|||0'", "anew"),
         "point.npy"),
    Case("field", npy(np.ones((2, 3)), [KEYS[0], "a|||1|||x|||0"]),
         ("vocab.npy, record 1 ('a|||1|||x|||0'): the sentence is 'x'",), "point.npy"),
    Case("field of many digits", npy(np.ones((2, 3)), [KEYS[0], f"a|||1|||{'9' * 5000}|||0"]), ("the sentence is '9",),
         "point.npy"),
    Case("points NaN", npy([[1.0], [np.nan]], KEYS), ("point.npy, record 1 ('a'), layer 0: value 0 is nan",),
         "point.npy"),
    Case("pickled", npy(np.array([{}, {}], object), KEYS), ("point.npy: cannot be read as .npy", "Pickled", "never"),
         "point.npy"),
    Case("a pickle", npy(np.ones((2, 3)), pickle.dumps(KEYS)), ("vocab.npy: cannot be read as .npy", "extract_data"),
         "point.npy"),
    Case("npy cut off", npy(b"\x93NUMPY\x01\x00v", KEYS), ("point.npy: cannot be read as .npy",), "point.npy"),
    Case("no points", npy(np.ones((0, 3)), np.array([], "<U3")), ("holds no words",), "point.npy"),
    Case("name of the points", lambda folder: (folder / "p.npy").touch(), ("p.npy: the vocabulary", "--vocab"),
         "p.npy"),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in BAD])
def test_import__bad_input(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, "import", tmp_path / case.file, "-o", tmp_path / "out.zarr", *case.options) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    assert [words for words in case.says if words not in message] == [], message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def stored(tmp_path: Path) -> str:
    return save(tmp_path / "act.zarr", [["a", "b c"], ["a"]], random(2, 3), present=np.array([True, True, False]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.zarr", "-o", "a.json"], "none.zarr: expected an activations store, found none"),
        (["there.json", "-o", "a.json"], "there.json: expected an activations store, found none"),
        (["act.zarr", "-o", "a.txt"], "a.txt: its ending does not tell the format; give --format"),
        (["act.zarr", "-o", "a.json", "--layer", "7"], "act.zarr: has no layer 7; it has 0, 1"),
        (["act.zarr", "-o", "point.npy"], "would be 0, 1; choose one with --layer"),
        (["act.zarr", "-o", "a.npy", "--layer", "1"], "cannot be told from this name; give it with --vocab"),
        (["act.zarr", "-o", "a.npy", "--vocab", "a.npy", "--layer", "1"], "give two names"),
        (["act.zarr", "-o", "a.hdf5"], "sentence 0: the word 'b c' holds a blank"),
        (["act.zarr", "-o", "memory://a.json"], "expected a local path"),
        (["act.zarr", "-o", "there.json"], "there.json: is there already; choose another name, or replace it with"),
        (["act.zarr", "-o", "there.json", "--force", "--vocab", "v"], "neurox-json keeps words and vectors in one"),
        (["act.zarr", "-o", "act.zarr", "--format", "neurox-json", "--force"], "not what this command writes"),
    ],
)
def test_export__bad_input(
    stored: str,
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, "export", *arguments) == 2
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.json").read_text() == "precious"


def test_export__missing_shard_is_named(tmp_path: Path) -> None:
    vectors = random(2, 3)
    vectors[1, 2] = np.nan
    path = save(tmp_path / "act.zarr", [["a"], ["a"], ["b"]], vectors, present=np.array([True, False, True]))
    with pytest.raises(InputError, match=r"act\.zarr, layer 1, token 2: the vector is not finite"):
        export_neurox_json(path, str(tmp_path / "a.json"))
    assert not list(tmp_path.glob("a.json*"))


def test_export__nothing_present(tmp_path: Path) -> None:
    path = save(tmp_path / "act.zarr", [["a"]], random(1, 1), present=np.array([False]))
    with pytest.raises(InputError, match="holds no word that has a vector"):
        export_conceptx(path, str(tmp_path / "point.npy"))


def test_commands__there_and_back_again(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point, back = tmp_path / "x-point-1.npy", tmp_path / "back.zarr"
    assert call(monkeypatch, "export", stored, "-o", point, "--layer", "1", "--count-from", "0", "--json") == 0
    vocab = str(tmp_path / "x-vocab-1.npy")
    assert json.loads(capsys.readouterr().out) == {
        "format": "conceptx", "tokens": 2, "layers": [1], "hidden": 3, "absent": 1, "files": [str(point), vocab]
    }  # fmt: skip
    assert np.load(vocab).tolist() == ["a|||0|||0|||0", "b c|||0|||0|||1"]
    command = ("import", point, "-o", back, "--layer", "1", "--dtype", "float16")
    assert call(monkeypatch, *command) == 0
    assert "2 words, layers 1, 3 numbers a vector" in capsys.readouterr().out
    assert call(monkeypatch, *command) == 2
    assert call(monkeypatch, *command, "--force") == 0
    assert opened(back).activation.dtype == np.float16
    assert call(monkeypatch, "export", back, "-o", tmp_path / "a.jsonl") == 0
    assert call(monkeypatch, "export", back, "-o", tmp_path / "a.jsonl", "--force") == 0
    assert not list(tmp_path.glob("*.partial"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    assert call(monkeypatch, "import", point, "-o", tmp_path / "mine", "--force") == 2
    with pytest.raises(InputError, match="folder that is not an activations store"):
        import_conceptx(str(point), str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "precious").exists()


@pytest.mark.slow
def test_export__every_word_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    study = SmallStudy(tmp_path / "small", save_bert(tmp_path / "model", positions=64))
    study.set("selection", {"min_count": 1, "max_count": 999})
    assert call(monkeypatch, "run", study.file) == 0
    vectors = study.directory / "activations" / "tiny" / "encoder" / "de.zarr"
    assert call(monkeypatch, "export", vectors, "-o", tmp_path / "a.json") == 0
    sentences = [json.loads(line)["features"] for line in (tmp_path / "a.json").read_text().splitlines()]
    assert [" ".join(word["token"] for word in words) for words in sentences] == SENTENCES["de"]


def test_hdf5__without_h5py(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"need h5py, which is not installed; install it \(pip install h5py\)"):
        export_neurox_hdf5(stored, str(tmp_path / "a.hdf5"))


def test_import__file_that_changes_between_the_passes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(line(0, word([1.0])) + line(1, word([1.0])))
    for after in (line(0, word([1.0])), "".join(line(i, word([1.0])) for i in range(5))):

        def change(what: str, _done: int, _total: int, after: str = after) -> None:
            if what == "check" and _done == _total:
                (tmp_path / "new").write_text(after)
                (tmp_path / "new").rename(tmp_path / "a.json")

        with pytest.raises(InputError, match="changed while it was read; import it again"):
            import_neurox_json(str(tmp_path / "a.json"), str(tmp_path / "a.zarr"), watch=change)
        (tmp_path / "a.json").write_text(line(0, word([1.0])) + line(1, word([1.0])))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
