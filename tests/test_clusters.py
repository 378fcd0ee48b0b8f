"""Concepts to and from ConceptX's files of clusters: round trips, files as its scripts write them, bad input."""

import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine import store
from engine.exchange import clusters
from engine.exchange.clusters import export_clusters, import_clusters
from schemas.activations import ACTIVATIONS
from schemas.concepts import CONCEPTS
from schemas.errors import InputError, StoreError
from tests import crash
from tests.small_study import call

WORDS = ["der", "a|||b", "|||", "größe", "كتب", "\U0001f408", '"', "'", "1", "|", "3|||1|||0|||2", "\u2028"]


def save(
    path: Path, words: list[str], concepts: Any, *, ks: tuple[int, ...] = (4,), chunk: int = 3, **more: Any
) -> str:
    """A CONCEPTS store of concepts (run, layer, token); `more` are variables that are not as usual."""
    concepts = np.asarray(concepts, np.int32)
    runs, depth, count = concepts.shape
    values = {
        "layer": range(depth), "k": ks, "seed": range(runs), "concept": concepts, "distance": np.ones(concepts.shape),
        "centroid": np.zeros((runs, depth, max(ks), 2)), "inertia": np.ones((runs, depth)), "scatter": np.ones(depth),
        "n_iter": np.ones((runs, depth)), "chosen": np.ones((runs, depth)), "token_id": np.arange(count) + 7,
        "language": np.zeros(count), "word": words, "sentence": np.arange(count) // 2, "position": np.arange(count) % 2,
    }  # fmt: skip
    sizes = {"run": runs, "layer": depth, "token": count, "concept_id": max(ks), "hidden": 2}
    chunks = {"run": 1, "layer": 1, "token": chunk}
    store.setup(str(path), CONCEPTS, sizes, values | more, chunks=chunks, shards={}, languages=["de"])
    return str(path)


def opened(path: object) -> xr.Dataset:
    return store.read(str(path), CONCEPTS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one chunk, and stores of several."""
    monkeypatch.setattr(clusters, "BLOCK_TOKENS", 1)
    monkeypatch.setattr(clusters, "SHARD_TOKENS", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clusters")


@given(data=st.data())
def test_round_trip(folder: Path, data: st.DataObject) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    count = data.draw(st.integers(1, 9))
    ks = (5, 5, 300)
    layers = tuple(sorted(data.draw(st.sets(st.integers(0, 20), min_size=1, max_size=3))))

    def drawn(values: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(values, min_size=count, max_size=count))

    concepts = np.array([[drawn(st.integers(0, k - 1)) for _ in layers] for k in ks])
    present = np.array(drawn(st.booleans()))
    present[data.draw(st.integers(0, count - 1))] = True
    concepts[:, :, ~present] = -1
    best = np.array([data.draw(st.integers(0, 1)) for _ in layers])
    chosen = np.stack([best == 0, best == 1, np.ones(len(layers), bool)])
    one = save(
        folder / "one.zarr",
        drawn(st.sampled_from(WORDS)),
        concepts,
        ks=ks,
        layer=layers,
        chosen=chosen,
        sentence=drawn(st.integers(0, 2**31 - 1)),
        position=drawn(st.integers(0, 2**31 - 1)),
        chunk=data.draw(st.integers(1, 5)),
    )
    k = data.draw(st.sampled_from([5, 300]))
    wanted = sorted(data.draw(st.sets(st.sampled_from(layers), min_size=1)))
    done = export_clusters(one, str(folder / "out"), layers=wanted, k=k, count_from=data.draw(st.integers(0, 1)))
    assert (done.tokens, done.absent, done.k, done.layers) == (present.sum(), (~present).sum(), k, tuple(wanted))
    again = import_clusters(str(folder / "out"), str(folder / "two.zarr"), layers=wanted, language="de")
    before, after = opened(one).isel(token=present), opened(folder / "two.zarr")
    indices = [layers.index(layer) for layer in wanted]
    expected = [before.concept[2 if k == 300 else best[i], i].values for i in indices]
    np.testing.assert_array_equal(after.concept[0].values, expected)
    for name in ("word", "sentence", "position"):
        assert after[name].values.tolist() == before[name].values.tolist()
    assert after.layer.values.tolist() == wanted
    assert after.k.values.tolist() == [again.k] == [np.max(expected) + 1]
    store.check(str(folder / "two.zarr"), CONCEPTS)


# Files as the published tools write them

FILE = (
    'a|||1|||0|||0|||0\na|||b|||1|||0|||1|||0\n\ngröße|||1|||3|||0|||7\r\n   \r\n"|||12|||3|||1|||2\na|||2|||4|||9|||0'
)


def test_import__as_conceptx_writes_it(tmp_path: Path) -> None:
    (tmp_path / "layer12").mkdir()
    source = tmp_path / "layer12" / "clusters-kmeans-600.txt"
    source.write_text("\ufeff" + FILE, newline="")
    done = import_clusters(str(source), str(tmp_path / "a.zarr"))
    assert (done.tokens, done.layers, done.k, done.absent) == (5, (12,), 8, 0)
    found = opened(tmp_path / "a.zarr")
    assert found.word.values.tolist() == ["a", "a|||b", "größe", '"', "a"]
    assert found.concept.values.tolist() == [[[0, 0, 7, 2, 0]]]  # numbers that are missing stay so
    assert found.sentence.values.tolist() == [0, 0, 3, 3, 4]
    assert found.position.values.tolist() == [0, 1, 0, 1, 9]
    assert (found.token_id.values.tolist(), found.language.values.tolist()) == ([0, 1, 2, 3, 4], [0] * 5)
    attributes = [found.attrs[name] for name in ("languages", "format", "source")]
    assert attributes == [["text"], "conceptx-clusters", str(source)]
    assert (found.sizes["hidden"], found.sizes["concept_id"]) == (0, 8)
    assert all(bool(found[name].isnull().all()) for name in ("distance", "inertia", "scatter"))
    assert [found[name].values.tolist() for name in ("n_iter", "seed", "chosen")] == [[[0]], [-1], [[True]]]
    import_clusters(str(source), str(tmp_path / "a.zarr"), layers=[3], language="en")
    found = opened(tmp_path / "a.zarr")
    assert (found.layer.values.tolist(), found.attrs["languages"]) == ([3], ["en"])
    shutil.copy(source, tmp_path / "clusters-600.txt")
    import_clusters(str(tmp_path / "clusters-600.txt"), str(tmp_path / "a.zarr"))
    assert opened(tmp_path / "a.zarr").layer.values.tolist() == [0]


def test_import__layers_in_the_order_of_their_clusters(tmp_path: Path) -> None:
    lines = {0: ["a|||1|||0|||0|||0", "b|||1|||0|||1|||1", "a|||2|||1|||0|||1"]}
    lines[10] = ["a|||2|||1|||0|||0", "a|||01|||0|||0|||1", "b|||1|||0|||1|||3"]
    for layer, listed in lines.items():
        (tmp_path / f"model/layer{layer}").mkdir(parents=True)
        (tmp_path / f"model/layer{layer}/clusters-4.txt").write_text("\n".join(listed))
    (tmp_path / "model/layer0/annotations.json").touch()
    (tmp_path / "model/layers").mkdir()
    import_clusters(str(tmp_path / "model"), str(tmp_path / "a.zarr"))
    found = opened(tmp_path / "a.zarr")
    assert found.layer.values.tolist() == [0, 10]
    assert found.word.values.tolist() == ["a", "b", "a"]
    assert found.concept[0].values.tolist() == [[0, 1, 1], [1, 3, 0]]
    assert found.k.values.tolist() == [4]


@pytest.mark.parametrize("count_from", [0, 1])
def test_export__as_conceptx_writes_it(tmp_path: Path, count_from: int) -> None:
    concepts = [[[0, -1, 2, 0, 1], [3, -1, 1, 1, 0]]]
    path = save(tmp_path / "c.zarr", ["der", "der", "größe", "der", "a|||b"], concepts)
    done = export_clusters(path, str(tmp_path / "a.txt"), layers=[1], count_from=count_from)
    keys = [f"{word}|||{n + count_from}|||{where}" for word, n, where in
            [("der", 0, "0|||0"), ("größe", 0, "1|||0"), ("der", 1, "1|||1"), ("a|||b", 0, "2|||0")]]  # fmt: skip
    expected = "".join(f"{key}|||{c}\n" for key, c in zip(keys, [3, 1, 1, 0], strict=True)).encode()
    assert (tmp_path / "a.txt").read_bytes() == expected
    assert done == clusters.ExchangedClusters(4, (1,), 4, 1, (str(tmp_path / "a.txt"),))
    done = export_clusters(path, f"{tmp_path}/model/", count_from=count_from)
    assert done.files == tuple(f"{tmp_path}/model/layer{i}/clusters-4.txt" for i in (0, 1))
    assert Path(done.files[1]).read_bytes() == expected
    assert sorted(map(str, (tmp_path / "model").rglob("*.*"))) == list(done.files)


# Bad input


@dataclass(frozen=True)
class Case:
    name: str
    files: dict[str, str | bytes]
    says: tuple[str, ...]
    """Words of the message: where, what was found, the remedy."""
    source: str = "a.txt"
    layers: tuple[int, ...] = ()


GOOD = "the|||1|||0|||0|||0\ncat|||1|||0|||1|||1\n"


def bad(line: str | bytes) -> dict[str, str | bytes]:
    return {"a.txt": GOOD.encode() + b"\n" + (line if isinstance(line, bytes) else line.encode())}


def model(*texts: str, name: str = "clusters-2.txt") -> dict[str, str | bytes]:
    return {f"m/layer{i}/{name}": text for i, text in enumerate(texts)}


BAD = [
    Case("empty", {"a.txt": "\n \r\n"}, ("a.txt: holds no tokens", "at least one line word|||occurrence")),
    Case("none", {}, ("a.txt: expected a file of clusters or a folder of layer0/clusters-*.txt", "found none")),
    Case("few fields", bad("x|||1|||0|||2"),
         ("a.txt, line 4: expected word|||occurrence|||sentence|||token|||cluster", "'x|||1|||0|||2'", "give")),
    Case("other text", bad("Once upon a time"), ("line 4: expected word|||", "Once upon a time", "ConceptX wrote")),
    Case("negative cluster", bad("x|||1|||0|||2|||-1"),
         ("a.txt, line 4 ('x|||1|||0|||2|||-1'): the cluster is '-1'", "whole number from 0", "anew")),
    Case("cluster large", bad("x|||1|||0|||2|||1000000"), ("the cluster is 1000000; expected", "999999", "anew")),
    Case("occurrence", bad("x|||y|||1|||2|||3"), ("line 4", "the occurrence is 'y'")),
    Case("sentence", bad(f"x|||1|||{2**31}|||2|||3"), (f"the sentence is '{2**31}'", f"to {2**31 - 1}")),
    Case("Arabic digits", bad("x|||1|||0|||٣|||3"), ("the token is '٣'", "whole number")),
    Case("not UTF-8", bad(b"gr\xf6\xdfe|||1|||0|||2|||3"), ("a.txt, line 4: byte 0xf6 is not UTF-8", "convert")),
    Case("a pickle", {"a.txt": pickle.dumps([1])}, ("a.txt, line 1: byte 0x80 is not UTF-8", "if it is text at all")),
    Case("carriage returns", {"a.txt": GOOD.replace("\n", "\r")}, ("line 1", "carriage return", "line feed")),
    Case("no line ends", {"a.txt": "x" * 99999}, ("line 1: expected word|||", "more than 65536 bytes", "ConceptX")),
    Case("twice", bad("the|||1|||00|||0|||1"),
         ("a.txt, line 4: the|||1|||0|||0 is in cluster 1, and on line 1 in cluster 0; expected each token once",
          "leave out one")),
    Case("twice alike", bad("cat|||1|||0|||1|||1"), ("line 4: cat|||1|||0|||1 is in cluster 1, and on line 2",)),
    Case("pkl", {"a.pkl": b""}, ("a.pkl: holds pickled objects", "never loaded", "run any code", "text"), "a.pkl"),
    Case("layers of a file", {"a.txt": GOOD}, ("a.txt: is one layer", "1, 2", "--layer"), layers=(1, 2)),
    Case("layer too large", {"layer9999999999/a.txt": GOOD}, ("the layer is '9999999999'",), "layer9999999999/a.txt"),
    Case("no layers", {"m/clusters-2.txt": GOOD}, ("m: holds no folder of a layer; expected layer0/clusters",), "m"),
    Case("no such layer", model(GOOD), ("m: has no layer 3; it has 0",), "m", (3,)),
    Case("one layer twice", model(GOOD) | {"m/layer00/x": ""}, ("layer0 and layer00 are both layer 0",), "m"),
    Case("no file", model(GOOD) | {"m/layer1/x.txt": ""}, ("m/layer1: expected one file", "none", "--layer"), "m"),
    Case("two files", model(GOOD) | model(GOOD, name="clusters-3.txt"),
         ("m/layer0: expected one file clusters-*.txt, found clusters-2.txt, clusters-3.txt; give a single",), "m"),
    Case("two names", model(GOOD) | {"m/layer1/clusters-3.txt": GOOD},
         ("m/layer1/clusters-3.txt: expected clusters-2.txt as in", "m/layer0", "same clustering", "--layer"), "m"),
    Case("token too many", model(GOOD, GOOD + "x|||1|||1|||0|||1"),
         ("m/layer1/clusters-2.txt, line 3: x|||1|||1|||0 is not in", "m/layer0", "leave out"), "m"),
    Case("token too few", model(GOOD, GOOD.splitlines()[0]),
         ("m/layer0/clusters-2.txt, line 2: cat|||1|||0|||1 is not in", "layer1", "each layer alone"), "m"),
    Case("in the second file", model(GOOD, GOOD + "x"), ("m/layer1/clusters-2.txt, line 3: expected word",), "m"),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in BAD])
def test_import__bad_input(case: Case, tmp_path: Path) -> None:
    for name, content in case.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        import_clusters(str(tmp_path / case.source), str(tmp_path / "a.zarr"), layers=case.layers)
    assert [words for words in case.says if words not in str(error.value)] == [], str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("out", "options", "says"),
    [
        ("a", {"layers": [7]}, r"c\.zarr: has no layer 7; it has 3, 5"),
        ("a", {}, r"c\.zarr: has runs of 2, 4 concepts; choose one with --k"),
        ("a", {"k": 3}, r"c\.zarr: has no run of 3 concepts; it has 2, 4"),
        ("a.txt", {"k": 2}, r"a\.txt: a file holds one layer, and this would be 3, 5; choose one with --layer, or"),
        ("a", {"k": 4, "layers": [5]}, r"layer 5: no run of 4 concepts is finished; run the study to its end"),
        ("mine", {"k": 2}, r"mine: a folder that is not of clusters alone lies there; choose another name"),
        ("mine", {"k": 2, "layers": [3]}, r"mine: a folder lies there, and one layer is written to a file"),
    ],
)
def test_export__bad_input(tmp_path: Path, out: str, options: dict[str, Any], says: str) -> None:
    path = save(tmp_path / "c.zarr", ["a"], [[[1], [1]]] * 2, ks=(2, 4), layer=(3, 5), chosen=[[1, 1], [1, 0]])
    (tmp_path / "mine" / "layer3").mkdir(parents=True)
    (tmp_path / "mine" / "layer3" / "precious").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=says):
        export_clusters(path, str(tmp_path / out), **options)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "concepts", "says"),
    [
        (["a", "b"], [[[-1, -1]]], "holds no token that has a concept, so there is nothing to export"),
        (["a", "b\n"], [[[0, 0]]], r"the word 'b\\n' holds a line break"),
        (["a\rb", "b"], [[[0, 0]]], r"the word 'a\\rb' holds a line break"),
        (["a", "b"], [[[0, 0], [0, -1]]], "token 1: has a concept in only one of the layers 0 and 1"),
    ],
)
def test_export__what_a_file_cannot_hold(tmp_path: Path, words: list[str], concepts: Any, says: str) -> None:
    path = save(tmp_path / "c.zarr", words, concepts, chunk=1)
    with pytest.raises(InputError, match=says):
        export_clusters(path, str(tmp_path / "a"))
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]


def test_export__failure_and_kill_leave_what_was_there(tmp_path: Path) -> None:
    path = save(tmp_path / "c.zarr", WORDS[:4], [[[0, 1, 2, 3], [3, 2, 1, 0]]])
    out = tmp_path / "model"
    export_clusters(path, str(out))
    before = crash.content(out)
    chunk = tmp_path / "c.zarr" / "word" / "c" / "1"
    chunk.write_bytes(b"\x00" + chunk.read_bytes()[1:])
    with pytest.raises(StoreError, match="word"):
        export_clusters(path, str(out))
    assert crash.content(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.zarr", "model"]
    whole = save(tmp_path / "whole.zarr", WORDS[:4], [[[0, 1, 2, 3], [3, 2, 1, 0]]])
    for name in ("model", "other"):
        child = crash.start_function(_killed, whole, str(tmp_path / name))
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert (crash.content(out), (tmp_path / "other").exists()) == (before, False)
    export_clusters(whole, str(tmp_path / "other"))
    assert crash.content(tmp_path / "other") == before
    assert not (tmp_path / "other.partial").exists()


def _killed(concepts: str, path: str) -> None:
    export_clusters(concepts, path, watch=lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def test_import__killed_leaves_no_store(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(GOOD)
    for moment in (0, 20):
        command = ("import", tmp_path / "a.txt", "-o", tmp_path / "a.zarr")
        assert crash.run(*command, die_at=moment) == -signal.SIGKILL
        assert not (tmp_path / "a.zarr").exists()
    assert crash.run(*command) == 0
    assert opened(tmp_path / "a.zarr").word.values.tolist() == ["the", "cat"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "a.zarr"]


@pytest.mark.parametrize("after", [GOOD.replace("cat", "dog"), GOOD[:20], GOOD + "x|||1|||9|||9|||1", GOOD[:-2] + "0"])
def test_import__file_that_changes_between_the_passes(tmp_path: Path, after: str) -> None:
    (tmp_path / "a.txt").write_text(GOOD)

    def change(what: str, done: int, total: int) -> None:
        if what == "check" and done == total:
            (tmp_path / "a.txt").write_text(after)

    with pytest.raises(InputError, match="changed while it was read; import it again"):
        import_clusters(str(tmp_path / "a.txt"), str(tmp_path / "a.zarr"), watch=change)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# The command line


@pytest.fixture
def failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The message of a command that fails with exit code 2."""

    def say(*arguments: object) -> str:
        assert call(monkeypatch, *arguments) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        return message

    return say


def test_commands__there_and_back_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Callable[..., str]
) -> None:
    concepts = [[[0, 1, -1], [1, 1, -1]], [[3, 0, -1], [2, 2, -1]]]
    path = save(tmp_path / "c.zarr", ["a", "a|||b", "c"], concepts, ks=(2, 4))
    file, out, back = tmp_path / "clusters-2.txt", tmp_path / "model", tmp_path / "back.zarr"
    assert "c.zarr: has runs of 2, 4 concepts; choose one with --k" in failure("export", path, "-o", file)
    command = ("export", path, "-o", file, "--k", "4", "--layer", "1", "--count-from", "0")
    assert call(monkeypatch, *command, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "format": "conceptx-clusters", "tokens": 2, "layers": [1], "k": 4, "absent": 1, "files": [str(file)]
    }  # fmt: skip
    assert file.read_text() == "a|||0|||0|||0|||2\na|||b|||0|||0|||1|||2\n"
    assert "is there already" in failure(*command)
    assert call(monkeypatch, *command, "--force") == 0
    assert call(monkeypatch, "export", path, "-o", out, "--k", "2") == 0
    assert "2 words, layers 0, 1, 2 concepts; 1 stored words have no" in capsys.readouterr().out
    assert call(monkeypatch, "export", path, "-o", out, "--k", "4", "--force") == 0
    assert not (out / "layer0" / "clusters-2.txt").exists()
    assert call(monkeypatch, "import", out, "-o", back, "--language", "de") == 0
    assert call(monkeypatch, "import", file, "-o", back, "--force", "--layer", "5") == 0
    assert opened(back).layer.values.tolist() == [5]
    assert "is not what this command writes" in failure("import", file, "-o", out, "--force")
    (out / "annotations.json").touch()
    assert "is not what this command writes" in failure("export", path, "-o", out, "--k", "2", "--force")
    assert (out / "annotations.json").exists()


def test_commands__what_does_not_fit_together(tmp_path: Path, failure: Callable[..., str]) -> None:
    path, out = save(tmp_path / "c.zarr", ["a"], [[[0]]]), tmp_path / "out"
    (tmp_path / "a.txt").write_text(GOOD)
    (tmp_path / "a.pkl").touch()
    store.setup(str(tmp_path / "a.zarr"), ACTIVATIONS, dict.fromkeys(("layer", "token", "hidden"), 1), {}, chunks={},
                shards={}, dtypes={"activation": "float32"})  # fmt: skip
    for arguments, says in (
        (("export", path, "-o", out, "--format", "neurox-json"), "expected an activations store, found concepts"),
        (("export", path, "-o", out, "--vocab", "v"), "--vocab v: conceptx-clusters keeps words and clusters in one"),
        (("export", tmp_path / "a.zarr", "-o", tmp_path / "b.txt"), "b.txt: its ending does not tell the format"),
        (("export", tmp_path / "a.zarr", "-o", tmp_path / "b.txt", "--format", "conceptx-clusters"),
         "a.zarr: expected a concepts store, found activations; give one that"),
        (("export", tmp_path / "a.zarr", "-o", tmp_path / "b.json", "--k", "2"), "--k 2: neurox-json has no number"),
        (("import", tmp_path / "a.txt", "-o", out, "--dtype", "float16"), "conceptx-clusters holds no vectors; leave"),
        (("import", tmp_path / "a.txt", "-o", out, "--format", "neurox-json", "--language", "de"), "--language de: "),
        (("import", tmp_path / "none.txt", "-o", out), "none.txt: expected a conceptx-clusters file, found none"),
        (("import", tmp_path / "a.pkl", "-o", out), "a.pkl: holds pickled objects, which are never loaded"),
        (("import", path, "-o", out), "c.zarr: holds no folder of a layer; expected layer0/clusters-*.txt"),
    ):  # fmt: skip
        assert says in failure(*arguments)
    assert not out.exists()
