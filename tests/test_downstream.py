"""Studies that tune their checkpoints, score them, and set the scores beside CALIGN and COLAP; the paper's studies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from engine.records import read_records
from jobs import files, models
from jobs.selections import described
from schemas.downstream import Downstream
from schemas.errors import InputError
from tests import small_tasks
from tests.small_study import SENTENCES, SmallStudy, Terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)  # they are tested elsewhere and take seconds
    return Terminal(monkeypatch, capsys)


def opened(study: SmallStudy) -> xr.DataTree:
    return xr.open_datatree(study.directory / "results.zarr", engine="zarr", consolidated=False)


@pytest.fixture
def tuned(bert: str, tmp_path: Path) -> SmallStudy:
    """A study of a base checkpoint, the same tuned on German and English, and one whose weights are drawn anew."""
    study = SmallStudy(tmp_path / "s", bert)
    study.set("downstream", {"ner": small_tasks.tagging(tmp_path / "data")})
    study.set(
        "checkpoints",
        {
            "base": {"model": bert},
            "ner": {"model": bert, "tuned_for": "ner", "tuned_on": ["de", "en"]},
            "untrained": {"model": bert, "untrained": True},
        },
    )
    return study


def test_study__tunes_scores_and_correlates(tuned: SmallStudy, terminal: Terminal, tmp_path: Path) -> None:
    stages = {row["stage"]: row["tasks"] for row in terminal.json("plan", tuned.file)["stages"]}
    assert (stages["models"], stages["scores"]) == (2, 3)
    terminal("run", tuned.file)
    tree = opened(tuned)
    scores = tree["scores"].to_dataset()
    assert {name: scores.state.sel(checkpoint="ner", task="ner", language=name).item() for name in ("de", "fr")} == {
        "de": "fine-tuned",
        "fr": "zero-shot",
    }
    assert scores.state.sel(checkpoint="untrained").values.tolist() == [["untrained"] * 3]
    f1 = scores.f1.sel(task="ner", split="test")
    assert (f1.sel(checkpoint="ner") > 0.9).all()
    assert (f1.sel(checkpoint="base") < 0.9).all()
    check_correlations(tree)
    one, other = (load_file(tuned.directory / "models" / name / "model.safetensors") for name in ("ner", "untrained"))
    assert not np.array_equal(
        one["bert.encoder.layer.0.output.dense.weight"], other["encoder.layer.0.output.dense.weight"]
    )
    does_again_what_a_change_concerns(tuned, terminal, tmp_path)


def check_correlations(tree: xr.DataTree) -> None:
    """Spearman's rho of CALIGN, and of COLAP, with F1 over trained checkpoints and the languages that are paired."""
    found = tree["correlations"].to_dataset().sel(task="ner", stack="encoder")
    f1 = tree["scores"].to_dataset().f1.sel(task="ner", split="test")
    points = [(name, lang) for name in ("base", "ner") for lang in ("de", "fr")]
    given = [float(f1.sel(checkpoint=name, language=lang)) for name, lang in points]
    calign = tree["calign"].to_dataset().calign.sel(stack="encoder", layer=2)
    colap = tree["colap"].to_dataset().colap.sel(stack="encoder", layer=2)
    of = {
        "calign": [float(calign.sel(checkpoint=name, source=lang, target="en")) for name, lang in points],
        "colap": [float(colap.sel(checkpoint=name, language_set=f"{lang}+en")) for name, lang in points],
    }
    for measure, values in of.items():
        cell = found.sel(measure=measure, layer=2)
        if len(set(values)) == 1:
            assert np.isnan(cell.rho)
            continue
        assert float(cell.rho) == pytest.approx(spearmanr(values, given).statistic)
        assert float(cell.points) == len(points)
        assert np.isnan(cell.low)  # of two checkpoints and two languages a quarter of the draws is one point
        assert np.isnan(cell.high)
        assert float(cell.p) > 1 / 5  # two checkpoints and two languages can be dealt in 4 ways


def does_again_what_a_change_concerns(tuned: SmallStudy, terminal: Terminal, tmp_path: Path) -> None:
    """Scores when a test text changes; nothing, with an error, when a training text does."""
    records = read_records(str(tuned.directory / "records"))
    test = tmp_path / "data" / "fr.test"
    test.write_text("a\tB-LOC\nz\tO\n")
    terminal("run", tuned.file)
    again = read_records(str(tuned.directory / "records"))
    assert {name for name in records if again[name] != records[name]} == {
        f"scores/{n}/ner" for n in tuned.values["checkpoints"]
    }
    assert float(opened(tuned)["scores"].examples.sel(checkpoint="base", task="ner", language="fr", split="test")) == 1
    train = tmp_path / "data" / "de.train"
    train.write_text(train.read_text() + "\nb\tB-LOC\n")
    assert "made with other settings" in terminal("run", tuned.file, code=2)


@pytest.mark.slow
def test_verify__finds_a_checkpoint_that_was_changed_and_run_mends_it(tuned: SmallStudy, terminal: Terminal) -> None:
    terminal("run", tuned.file)
    weights = tuned.directory / "models" / "ner" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    terminal("verify", tuned.file, "--sample", 0, "--repair", code=1)
    assert "models/ner" not in read_records(str(tuned.directory / "records"))
    terminal("run", tuned.file)
    assert weights.read_bytes() == whole
    terminal("verify", tuned.file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuned_for": "pos", "tuned_on": ["de"]}, "names 'pos'; downstream has ner"),
        ({"tuned_for": "ner"}, "name the languages of its text in tuned_on"),
        ({"untrained": True, "tuned_on": ["de"]}, "untrained goes without tuned_on"),
        ({"scored_on": ["pos"]}, "scored_on names 'pos'; downstream has ner"),
    ],
)
def test_study__says_what_is_wrong(
    tuned: SmallStudy, terminal: Terminal, change: Mapping[str, Any], message: str
) -> None:
    tuned.set("checkpoints.ner", {"model": tuned.model, **change})
    assert message in terminal("plan", tuned.file, code=2)


def test_study__a_missing_file_of_a_task_is_named(tuned: SmallStudy, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "data" / "fr.test").unlink()
    assert "fr.test: no such file" in terminal("plan", tuned.file, code=2)
    assert not tuned.directory.exists()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_study__texts_of_tasks_are_read_before_anything_runs(
    tuned: SmallStudy, terminal: Terminal, tmp_path: Path, split: str
) -> None:
    spoilt = tmp_path / "data" / f"fr.{split}"  # of a language that nothing is tuned on
    spoilt.write_text("a\tB-LOC\nz\n")
    for command in ("run", "plan"):
        said = terminal(command, tuned.file, code=2)
        assert f"{spoilt}, line 2: expected a word and a tag such as O, B-PER, I-PER; found 'z'" in said
    assert not (tuned.directory / "study.yaml").exists()
    assert not (tuned.directory / "records").exists()
    study, _ = files.load_study(str(tuned.file))
    models.check_texts(study, ["models/ner", "models/untrained", *(f"scores/{name}/ner" for name in study.checkpoints)])


@pytest.mark.parametrize("split", ["dev", "test"])
def test_study__labels_that_no_training_text_has_are_told_before_anything_runs(
    tuned: SmallStudy, terminal: Terminal, tmp_path: Path, split: str
) -> None:
    spoilt = tmp_path / "data" / f"fr.{split}"
    spoilt.write_text("a\tO\nz\tB-ORG\n")
    said = terminal("run", tuned.file, code=2)
    assert f"{spoilt}, line 2: label 'B-ORG', which no text under downstream.ner.train has (B-LOC, I-LOC" in said
    assert f"take it out of {split}" in said
    assert not (tuned.directory / "records").exists()
    tuned.set("checkpoints.ner", {"model": tuned.model, "tuned_on": ["de", "en"]})  # by another, which may know it
    study, _ = files.load_study(str(tuned.file))
    models.check_texts(study, [])


def test_study__tags_are_read_before_anything_runs(tuned: SmallStudy, terminal: Terminal, tmp_path: Path) -> None:
    tags = tmp_path / "fr.tags"
    lines = [" ".join("N" for _ in line.split()) for line in tuned.text("fr").read_text().splitlines()]
    tags.write_text("\n".join([*lines[:-1], lines[-1] + " N", ""]))
    tuned.set("properties", {"tags": {"pos": {"fr": str(tags)}}})
    for command in ("run", "plan"):
        said = terminal(command, tuned.file, code=2)
        assert f"{tags}, line {len(lines)}: found" in said
    assert not (tuned.directory / "records").exists()
    study, _ = files.load_study(str(tuned.file))
    done = ["models/ner", "models/untrained", *(f"scores/{name}/ner" for name in study.checkpoints)]
    models.check_texts(study, [*done, *map(str, described(study))])
    with pytest.raises(InputError, match="one for each word"):
        models.check_texts(study, done)


def test_study__translations_of_tasks_are_read_before_anything_runs(
    tuned: SmallStudy, terminal: Terminal, tmp_path: Path
) -> None:
    task = small_tasks.translation(tmp_path / "ted")
    tuned.set("downstream.ted", task)
    for name in ("base", "untrained"):
        tuned.set(f"checkpoints.{name}.scored_on", ["ner"])
    source, target = task["test"]["de-en"]
    Path(target).write_text("one\n")
    said = terminal("run", tuned.file, code=2)
    assert f"{source} and {target}: expected equally many sentences, found 10 and 1; sentence i of one is" in said


def test_study__a_task_that_a_checkpoint_cannot_do_is_refused_before_anything_runs(
    tuned: SmallStudy, terminal: Terminal, tmp_path: Path
) -> None:
    tuned.set("downstream.ted", small_tasks.translation(tmp_path / "ted"))
    assert "cannot be scored on ted, a translation; name the tasks" in terminal("plan", tuned.file, code=2)
    for name in ("base", "untrained"):
        tuned.set(f"checkpoints.{name}.scored_on", ["ner"])
    stages = {row["stage"]: row["tasks"] for row in terminal.json("plan", tuned.file)["stages"]}
    assert stages["scores"] == 3


def test_hashes__of_a_task_tell_its_parts_apart(tmp_path: Path) -> None:
    values = small_tasks.tagging(tmp_path, languages=("de", "en"), count=16)
    swapped = values | {"test": {"de": values["test"]["en"], "en": values["test"]["de"]}}
    turned = values | {"dev": values["test"], "test": values["dev"]}
    assert len({models.task_hash(Downstream.model_validate(one)) for one in (values, swapped, turned)}) == 3


def test_hash__of_a_task_that_is_only_tuned_on_is_as_ever() -> None:
    """Results of before would be derived again."""
    assert models.task_hash(Downstream(kind="tagging")) == "1be232494cd59244"


def laid_out(name: str, model: str, folder: Path, terminal: Terminal) -> SmallStudy:
    """A study of the paper with tiny texts in three of its languages and a tiny model in place of its own."""
    terminal("template", name, folder)
    file = folder / f"{name}.yaml"
    values = yaml.safe_load(file.read_text())
    left_out = {"es", "ar"}
    values["corpus"]["files"] = {k: v for k, v in values["corpus"]["files"].items() if k not in left_out}
    checkpoints = values["checkpoints"].items()
    values["checkpoints"] = {k: v for k, v in checkpoints if not left_out & {*v.get("tuned_on", ())}}
    (task,) = values["downstream"].values()
    named = task["test"] if task["kind"] == "translation" else {"test": task["test"]}
    for parts in (task["train"], task["dev"], *named.values()):
        for part in [part for part in parts if left_out & {*part.split("-")}]:
            del parts[part]
    for lang, path in values["corpus"]["files"].items():
        (folder / path).parent.mkdir(exist_ok=True)
        lines = (
            SENTENCES[lang] if lang in SENTENCES else [line[::-1] for line in SENTENCES["de" if lang == "es" else "fr"]]
        )
        (folder / path).write_text("\n".join(lines) + "\n")
    kinds = {"tagging": small_tasks.tagging, "classification": small_tasks.classification}
    made = kinds.get(task["kind"], small_tasks.translation)(folder / "data", count=16)
    for split, parts in {"train": task["train"], "dev": task["dev"], **named}.items():
        content = next(iter(made["test" if split in named else split].values()))
        parts.update(dict.fromkeys(parts, content))
    task["tuning"] |= {"epochs": 1, "batch": 8, "max_subwords": 12}
    for checkpoint in values["checkpoints"].values():
        checkpoint["model"] = model
    values["activations"] |= {"layers": [2], "shard_tokens": 256, "chunk_tokens": 16}
    values["concepts"] = {"k": [3, 4], "max_iterations": 4}
    values["uncertainty"] = {"draws": 2}
    values["selection"] = {"min_count": 2, "max_count": 4}
    study = SmallStudy(folder / "s", model)
    study.values = values
    study.write()
    for path in values["corpus"]["files"].values():
        (study.folder / path).parent.mkdir(exist_ok=True)
        (study.folder / path).write_text((folder / path).read_text())
    return study


@pytest.mark.parametrize(
    "name",
    ["mbert-ner", *(pytest.param(name, marks=pytest.mark.slow) for name in ("xlmr-sst2", "mt5-ted"))],
)
def test_template__runs_reduced(name: str, models: dict[str, str], tmp_path: Path, terminal: Terminal) -> None:
    model = models[{"mbert-ner": "bert", "xlmr-sst2": "xlmr", "mt5-ted": "mt5"}[name]]
    study = laid_out(name, model, tmp_path, terminal)
    terminal("run", study.file, "--report")
    tree = opened(study)
    calign = tree["calign"].to_dataset()
    assert calign.checkpoint.values.tolist()[:2] == ["untrained", "base"]
    assert tree["sweeps/calign_by_k"].k.values.tolist() == [3, 4]
    scores = tree["scores"].to_dataset()
    assert {"untrained", "base", "fine-tuned", "zero-shot"} <= {*scores.coords["state"].values.ravel().tolist()}
    assert scores.split.values.tolist() == (["test11", "test12", "test13", "test14"] if name == "mt5-ted" else ["test"])
    drawn = {path.stem for path in (study.directory / "report" / "figures").glob("*.pdf")}
    assert {"calign", "colap", "overview", "sweeps-de-en", "k-de-en", "calign-uncertainty"} <= drawn
    assert ("properties-ner" in drawn) == (name == "mbert-ner")
    kinds = "sweeps-de-en", "calign-uncertainty"
    between = {f"{kind}-{stacks}" for kind in kinds for stacks in ("encoder-decoder", "decoder-encoder")}
    assert (between & drawn) == (between if name == "mt5-ted" else set())
    assert {*calign["stack"].values.tolist()} >= (
        {"encoder", "decoder", "encoder-decoder"} if name == "mt5-ted" else {"encoder"}
    )


def test_template__names_what_is_missing(tmp_path: Path, terminal: Terminal) -> None:
    said = terminal("template", "xlmr-sst2", tmp_path)
    assert "put its 11 files there" in said
    assert f"colign run {tmp_path / 'xlmr-sst2.yaml'} --report" in said
    assert str(tmp_path / "sst2" / "de.train.tsv") in said
    assert "is there already" in terminal("template", "xlmr-sst2", tmp_path, code=2)
