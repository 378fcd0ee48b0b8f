"""Growth that is refused, killed, or begun again: nothing is lost and nothing of another text or model is taken."""

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from jobs import tasks
from schemas.task import Key
from tests import crash
from tests.growing import (
    GROWTHS,
    Change,
    Vectors,
    assert_concepts_are_of_these_vectors,
    assert_grown,
    assert_stops,
    copy_of,
    fresh_twin,
    grow,
    more,
    outcomes,
    small,
)
from tests.oracles.vectors import save_bert, save_mt5
from tests.small_study import SENTENCES, SmallStudy, call


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny checkpoints that read every sentence."""
    return {
        "bert": save_bert(tmp_path_factory.mktemp("bert"), positions=64),
        "mt5": save_mt5(tmp_path_factory.mktemp("mt5")),
    }


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> SmallStudy:
    study = small(tmp_path_factory.mktemp("finished"), models)
    assert crash.run("run", study.file) == 0
    return study


@pytest.fixture(scope="module")
def begun(finished: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study that was killed while it grew, when no record of the vectors was left."""
    study = copy_of(finished, tmp_path_factory.mktemp("begun") / "study")
    more(study)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jobs.run.work", lambda *_: 1 / 0)
        assert_stops(study, "--grow")
    assert not list((study.directory / "records").rglob("*.json"))
    return study


def vectors_of(study: SmallStudy) -> Path:
    """Folder of the stores of vectors."""
    return study.directory / "activations" / "tiny" / "encoder"


def change_a_word(study: SmallStudy) -> None:
    lines = study.text("de").read_text().splitlines()
    study.text("de").write_text("\n".join([*lines[:7], "ein kind hat hunger", *lines[8:]]) + "\n")


def change_and_add(study: SmallStudy) -> None:
    change_a_word(study)
    more(study)


def drop_a_language(study: SmallStudy) -> None:
    study.set("corpus.files", {lang: f"{lang}.txt" for lang in ("en", "de")})


def retrain(study: SmallStudy) -> None:
    study.model = shutil.copytree(study.model, study.folder / "retrained")  # type: ignore[assignment]
    weights = bytearray((study.folder / "retrained" / "model.safetensors").read_bytes())
    weights[-4000:] = bytes(4000)
    (study.folder / "retrained" / "model.safetensors").write_bytes(weights)
    study.set("checkpoints.tiny.model", str(study.model))


REFUSED: dict[str, tuple[Change, str]] = {
    "changed text": (change_a_word, "de.txt: changed since"),
    "changed and grown text": (change_and_add, "de.txt: changed since"),
    "pooling": (lambda study: study.set("activations.pooling", "mean"), "choose another directory"),
    "compute": (lambda study: study.set("activations.compute", "bfloat16"), "choose another directory"),
    "dtype": (lambda study: study.set("activations.dtype", "float16"), "choose another directory"),
    "bits": (lambda study: study.set("activations.keep_bits", 7), "choose another directory"),
    "words": (lambda study: study.set("corpus.words", "regex"), "choose another directory"),
    "retrained": (retrain, "choose another directory"),
    "language removed": (drop_a_language, "fr, which the study no longer names"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("halfway", [False, True], ids=["finished", "halfway"])
def test_run__what_is_no_growth_is_refused(
    name: str,
    halfway: bool,
    finished: SmallStudy,
    begun: SmallStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also while a study grows, when no record of the vectors is left to tell."""
    change, says = REFUSED[name]
    study = copy_of(begun if halfway else finished, tmp_path / "study")
    change(study)
    before = study.files()
    capsys.readouterr()
    for option in ([], ["--grow"]):
        if halfway and name == "language removed" and not option:
            continue
        assert grow(study, monkeypatch, *option) == 2, option
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        if option:
            assert says in printed
        assert "--out" in printed
        assert study.files() == before


# Killed while it grows


def finish_grown(study: SmallStudy, *options: str) -> int:
    return crash.run("run", study.file, *options, err=study.folder / "said")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [pytest.param(2, id="few"), pytest.param(40, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param("sentences", marks=pytest.mark.slow), "all at once"])
def test_run__killed_while_it_grows(kills: int, name: str, finished: SmallStudy, tmp_path: Path) -> None:
    """Before a random change of the disk, half of them among the first: stores set aside, records and corpus."""
    chance = random.Random(f"{name} {kills}")
    truth = copy_of(finished, tmp_path / "truth")
    GROWTHS[name](truth)
    assert crash.run("run", truth.file, "--grow", count=tmp_path / "count") == 0
    changes = int((tmp_path / "count").read_text())
    moments = sorted(chance.sample(range(len(crash.records(finished.directory)) + 60), kills // 2))
    moments += [int(changes * (part + chance.random()) / (kills - kills // 2)) for part in range(kills - kills // 2)]
    for turn, moment in enumerate(moments):
        shutil.rmtree(truth.directory)
        shutil.copytree(finished.directory, truth.directory)
        expected = tmp_path / "expected"
        if not expected.exists():
            assert crash.run("run", truth.file, "--grow") == 0
            shutil.copytree(truth.directory, expected)
            shutil.rmtree(truth.directory)
            shutil.copytree(finished.directory, truth.directory)
        assert crash.run("run", truth.file, "--grow", die_at=moment) == -signal.SIGKILL, moment
        if turn % 2:  # an ordinary run goes on where it may, and changes nothing where it may not
            before = truth.files()
            code = finish_grown(truth)
            assert code in (0, 2), (truth.folder / "said").read_text()
            if code:
                assert "--grow" in (truth.folder / "said").read_text(), moment
                assert truth.files() == before
        assert finish_grown(truth, "--grow") == 0, (moment, (truth.folder / "said").read_text())
        crash.assert_equal(truth.directory, expected)


@pytest.mark.parametrize(
    "moment",
    ["activations", *(pytest.param(name, marks=pytest.mark.slow) for name in ("corpus", "concepts", "counts"))],
)
def test_run__grown_again_before_it_was_whole(
    moment: str, finished: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(finished, tmp_path / "study")
    more(study)
    child = crash.start("run", study.file, "--grow")
    crash.wait_for(lambda: (study.directory / "records" / "corpus.json").exists() is False, child)
    crash.wait_for(lambda: any(name.startswith(moment) for name in crash.records(study.directory)), child)
    crash.kill(child)
    known = {}
    for lang in SENTENCES:  # the newest store that is whole
        stores = [name for name in (lang, f"{lang}.previous") if (vectors_of(study) / f"{name}.zarr").exists()]
        held = [Vectors.of(study.directory, name) for name in stores]
        known[lang] = next(store for store in held if store.dataset.present.values.all()).by_place()
    more(study, 9, 16)
    assert grow(study, monkeypatch, "--grow") == 0
    assert_grown(study, fresh_twin(study, monkeypatch))
    for lang, old in known.items():
        now = Vectors.of(study.directory, lang).by_place()
        assert [place for place in now.keys() & old.keys() if now[place] != old[place]] == []
    assert_concepts_are_of_these_vectors(study, monkeypatch)


def test_run__an_unfinished_study_grows(finished: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the first of its shards are kept, though those behind were never written."""
    study = SmallStudy(tmp_path, finished.model)
    study.values = json.loads(json.dumps(finished.values))
    study.write()
    commit, done = tasks.commit, []

    def some(key: Key, *arguments: Any) -> Any:
        done.extend([key] if key.stage == "activations" else [])
        return 1 / 0 if len(done) >= 2 else commit(key, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.tasks.commit", some)
        assert_stops(study)
    shards = [name for name in crash.records(study.directory) if name.startswith("activations")]
    assert shards == ["activations/tiny/encoder/en/0-32"]
    more(study)
    assert grow(study, monkeypatch, "--grow") == 0
    assert_grown(study, fresh_twin(study, monkeypatch))
    computed, tokens = (sum(outcome[what] for name, outcome in outcomes(study.directory).items() if "/en/" in name)
                        for what in ("computed", "tokens"))  # fmt: skip
    assert 0 < tokens - computed <= 32


def test_run__results_of_the_old_text_are_not_trusted(
    finished: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed when all tasks of the grown study are done, but its results are not written."""
    study = copy_of(finished, tmp_path / "study")
    more(study)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.run.finish", lambda *_: 1 / 0)
        assert_stops(study, "--grow")
    capsys.readouterr()
    assert call(monkeypatch, "status", study.file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False
    assert grow(study, monkeypatch) == 0
    statistics = xr.open_datatree(study.directory / "results.zarr", engine="zarr", consolidated=False)["statistics"]
    assert statistics.to_dataset().sentences.values.tolist() == [39, 39, 39]


@pytest.mark.slow
def test_run__a_checkpoint_that_was_not_named_while_the_text_grew(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vectors are of the old text: they count no longer when it is named again."""
    study = small(tmp_path, models)
    both = {"tiny": {"model": study.model}, "other": {"model": study.model}}
    study.set("checkpoints", both)
    assert grow(study, monkeypatch) == 0
    study.set("checkpoints", {"tiny": both["tiny"]})
    more(study)
    assert grow(study, monkeypatch, "--grow") == 0
    study.set("checkpoints", both)
    assert grow(study, monkeypatch) == 0
    twin = fresh_twin(study, monkeypatch)
    assert_grown(study, twin)
    crash.assert_equal(study.directory / "activations" / "other", twin / "activations" / "other")


def test_run__settings_restored_after_growing_was_killed(
    finished: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(finished, tmp_path / "study")
    layers = study.values["activations"]["layers"]
    study.set("activations.layers", [0, 1, 2, 3])
    with monkeypatch.context() as patched:
        patched.setattr("jobs.run.files.freeze", lambda *_: 1 / 0)  # set aside, but nothing is forgotten yet
        assert_stops(study, "--grow")
    assert list(study.directory.rglob("*.previous.zarr"))
    study.set("activations.layers", layers)
    assert grow(study, monkeypatch) == 0
    crash.assert_equal(study.directory, finished.directory, metadata=False)


@pytest.mark.slow
def test_run__grown_vectors_that_no_longer_fit_float16(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dtype auto: numbers of a float16 store are not put into one of float32, which promises more."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    model = shutil.copytree(models["bert"], tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.endswith("embeddings.LayerNorm.weight"))
    pieces = (model / "tokenizer.json").read_text()
    q = json.loads(pieces)["model"]["vocab"]["q"]
    words = next(name for name in weights if name.endswith("word_embeddings.weight"))
    for other in ("position_embeddings.weight", "token_type_embeddings.weight"):
        weights[next(name for name in weights if name.endswith(other))].zero_()
    weights[words][:, 0] = weights[words][:, 1:].mean(dim=1)  # 0 after the norm
    weights[words][q] = torch.eye(24)[0]  # 4.8 after the norm, times a weight that takes it beyond float16
    weights[name] = torch.ones(24)
    weights[name][0] = 3e4
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    study = SmallStudy(tmp_path / "study", str(model))
    study.set("activations", {"layers": [0], "shard_tokens": 32, "chunk_tokens": 16, "dtype": "auto"})
    assert grow(study, monkeypatch) == 0
    assert Vectors.of(study.directory, "de").dataset.activation.dtype == "float16"
    for lang in SENTENCES:
        with study.text(lang).open("a") as file:
            file.write("q q q\n" if lang == "de" else "a b a\n")
    assert grow(study, monkeypatch, "--grow") == 0
    assert Vectors.of(study.directory, "de").dataset.activation.dtype == "float32"
    assert_grown(study, fresh_twin(study, monkeypatch))
    assert call(monkeypatch, "verify", study.file, "--sample", "20") == 0
