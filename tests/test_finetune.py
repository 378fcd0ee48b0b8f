"""Fine-tuning and scoring of checkpoints, and the commands for it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from transformers import AutoModelForTokenClassification

from engine.model.answer import answer
from engine.model.heads import example, open_head
from jobs import downstream
from schemas.downstream import Downstream
from schemas.errors import InputError
from schemas.parse import parse
from tests import small_tasks
from tests.small_study import Terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    return Terminal(monkeypatch, capsys)


def task_of(values: dict[str, Any]) -> Downstream:
    task: Downstream = parse(Downstream, values, "task.yaml")
    return task


def primary(task: Downstream, model: str, name: str = "f1") -> dict[str, float]:
    return {row["language"]: row[name] for row in downstream.evaluate(task, model)}


def test_tagging__learns_and_beats_its_untuned_self(bert: str, tmp_path: Path) -> None:
    task = task_of(small_tasks.tagging(tmp_path / "data"))
    said: list[str] = []
    tuned = downstream.tune(task, bert, ["de", "en"], str(tmp_path / "tuned"), lambda *words: said.append(str(words)))
    assert tuned.parts == ("de", "en")
    assert tuned.examples == 240
    assert tuned.outcome["dev_f1"] > 0.9
    assert "loss" in said[-1]
    before, after = primary(task, bert), primary(task, str(tmp_path / "tuned"))
    assert list(after) == ["de", "en", "fr"]
    assert all(after[lang] > max(0.9, before[lang]) for lang in after)
    assert not (tmp_path / "tuned.fit").exists()
    rows = list(downstream.evaluate(task, bert))
    assert not any(row["head"] for row in rows)
    assert [row["examples"] for row in rows] == [30, 30, 30]


def test_classification_and_translation__learn(xlmr: str, mt5: str, tmp_path: Path) -> None:
    sentiment = task_of(small_tasks.classification(tmp_path / "c"))
    tuned = downstream.tune(sentiment, xlmr, ["en"], str(tmp_path / "sentiment"))
    assert tuned.outcome["dev_accuracy"] > 0.8
    assert primary(sentiment, str(tmp_path / "sentiment"), "accuracy")["en"] > 0.8
    ted = task_of(small_tasks.translation(tmp_path / "t"))
    assert primary(ted, mt5, "bleu")["de-en"] < 5
    tuned = downstream.tune(ted, mt5, ["de", "en"], str(tmp_path / "mt"))
    assert "dev_loss" in tuned.outcome
    assert primary(ted, str(tmp_path / "mt"), "bleu")["de-en"] > 50


def weights(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = load_file(folder / "model.safetensors")
    return found


def test_tuning__stopped_in_a_pass_goes_on_behind_the_last_whole_one(bert: str, tmp_path: Path) -> None:
    task = task_of(small_tasks.tagging(tmp_path / "data", count=100))
    undisturbed = downstream.tune(task, bert, ["de"], str(tmp_path / "whole"))
    seen: list[int] = []

    def stop(step: int, steps: int, words: str) -> None:
        seen.append(step)
        if step >= 20 and 10 in seen:  # in the second pass of 13 steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        downstream.tune(task, bert, ["de"], str(tmp_path / "stopped"), stop)
    (work,) = (tmp_path / "stopped.fit").iterdir()
    (work / "checkpoint-9999").mkdir()  # of a process that was killed while it saved
    assert not (tmp_path / "stopped").exists()
    seen.clear()
    stopped = downstream.tune(task, bert, ["de"], str(tmp_path / "stopped"), stop)
    assert min(seen) > 13
    assert stopped.outcome == pytest.approx(undisturbed.outcome, rel=1e-12)
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_tuning__begins_anew_where_the_head_is_another(bert: str, tmp_path: Path) -> None:
    """What a language that is not tuned on has of labels gives the head its outputs."""
    values = small_tasks.tagging(tmp_path / "data", count=40)
    seen: list[int] = []

    def stop(step: int, steps: int, words: str) -> None:
        seen.append(step)
        if len(seen) == 2:  # in the fourth pass of 5 steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        downstream.tune(task_of(values), bert, ["de"], str(tmp_path / "tuned"), stop)
    (tmp_path / "data" / "fr.train").write_text("a\tB-ANY\nb\tO\n")  # sorted before the others
    downstream.tune(task_of(values), bert, ["de"], str(tmp_path / "tuned"), stop)
    assert seen[2] <= 5
    downstream.tune(task_of(values), bert, ["de"], str(tmp_path / "undisturbed"))
    one, other = weights(tmp_path / "tuned"), weights(tmp_path / "undisturbed")
    assert all(np.array_equal(one[name], other[name]) for name in other)


def test_tuning__keeps_an_earlier_pass_that_is_better(bert: str, tmp_path: Path) -> None:
    """Of a development text that contradicts the training text, the first pass does best and the last worst."""
    values = small_tasks.tagging(tmp_path / "data")
    for dev in map(Path, values["dev"].values()):
        dev.write_text(dev.read_text().replace("\tO", "\t?").replace("\tB-LOC", "\tO").replace("\t?", "\tB-LOC"))
    both = ["de", "en"]
    downstream.tune(task_of(values), bert, both, str(tmp_path / "best"))
    downstream.tune(task_of({**values, "dev": {}}), bert, both, str(tmp_path / "last"))
    best, last = (
        [row["f1"] for row in downstream.evaluate(task_of(values), str(tmp_path / name), ["dev"])]
        for name in ("best", "last")
    )
    assert max(last) < 0.1 < min(best)


def without_dropout(model: str, folder: Path) -> str:
    """A copy of a model that drops nothing by chance."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout_rate"), 0.0)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "way"),
    [("tagging", "accumulated"), ("translation", "accumulated"),
     pytest.param("tagging", "processes", marks=pytest.mark.slow)],
)  # fmt: skip
def test_tuning__loss_is_that_of_whole_batches(kind: str, way: str, bert: str, mt5: str, tmp_path: Path) -> None:
    """A batch in two parts, one after another or in two processes, gives the loss of the batch."""
    exact = without_dropout(bert if kind == "tagging" else mt5, tmp_path / "exact")
    count = 40 if way == "processes" else 44  # processes fill up a last batch that is not whole
    values = getattr(small_tasks, kind)(tmp_path / "data", count=count)
    values["tuning"] |= {"epochs": 1, "learning_rate": 1e-3}
    languages = ["de"] if kind == "tagging" else ["de", "en"]
    whole = downstream.tune(task_of(values), exact, languages, str(tmp_path / "whole"))
    if way == "accumulated":
        values["tuning"]["accumulate"] = 2
        loss = downstream.tune(task_of(values), exact, languages, str(tmp_path / "parts")).outcome["loss"]
    else:
        (tmp_path / "task.yaml").write_text(yaml.safe_dump(values))
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "jobs.cli", "finetune", "task.yaml", exact, "--out", "parts", "--language", "de", "--json"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        loss = json.loads(done.stdout)["loss"]
    assert loss == pytest.approx(whole.outcome["loss"], rel=0.01)  # twice as much where means are summed


def test_tags__are_those_of_first_subwords(bert: str) -> None:
    head = open_head(bert, "tagging", ["B-X", "I-X", "O"], 0)
    row = example(head, ["ab", "\u200b", "c"], ["B-X", "O", "I-X"], 16)
    assert row["labels"] == [-100, 0, -100, 1, -100]  # [CLS] a ##b c [SEP]; the zero-width space has no sub-word


def test_answers__of_batches_are_those_one_by_one(bert: str, tmp_path: Path) -> None:
    task = task_of(small_tasks.tagging(tmp_path / "data", languages=("de",)))
    downstream.tune(task, bert, ["de"], str(tmp_path / "tuned"))
    head = open_head(str(tmp_path / "tuned"), "tagging", [], 0)
    inputs = [["a", "\u200b", "zb"], ["c"], ["b"] * 40]
    together = answer(head, inputs, 16)
    assert together == [answer(head, [one], 16)[0] for one in inputs]
    assert together[0][1] == "O"
    assert together[2][20:] == ["O"] * 20  # beyond the longest input
    network = AutoModelForTokenClassification.from_pretrained(tmp_path / "tuned")
    ids = head.tokenizer(inputs[0], is_split_into_words=True, return_tensors="pt")
    best = network.eval()(**ids).logits.argmax(-1)[0].tolist()
    assert together[0][0] == network.config.id2label[best[1]]


def test_language_models__tag_and_classify(gpt2: str, tmp_path: Path) -> None:
    task = task_of(small_tasks.tagging(tmp_path / "data", languages=("de",), count=16))
    values = task.model_copy(update={"tuning": task.tuning.model_copy(update={"epochs": 1})})
    downstream.tune(values, gpt2, ["de"], str(tmp_path / "tuned"))  # it has no sub-word for padding
    assert len(list(downstream.evaluate(values, str(tmp_path / "tuned")))) == 1


def test_encoder_decoders__classify(mt5: str, tmp_path: Path) -> None:
    values = small_tasks.classification(tmp_path / "data", count=16)
    values["tuning"]["epochs"] = 1
    assert "dev_accuracy" in downstream.tune(task_of(values), mt5, ["en"], str(tmp_path / "tuned")).outcome


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {}}, "train of the task has nothing"),
        ({"kind": "translation"}, "a translation has SOURCE-TARGET"),
        ({"tuning": {"batch": 8, "accumulate": 3}}, "batch 8 cannot be divided into 3 equal parts"),
        ({"tunning": {}}, "did you mean 'tuning'"),
    ],
)
def test_task__says_what_is_wrong(bert: str, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        downstream.tune(task_of(small_tasks.tagging(tmp_path) | change), bert, ["de"], str(tmp_path / "x"))


def test_head__refuses_labels_and_models_that_do_not_fit(bert: str, tmp_path: Path) -> None:
    values = small_tasks.tagging(tmp_path / "data", languages=("de",), count=16)
    downstream.tune(task_of(values | {"dev": {}}), bert, ["de"], str(tmp_path / "tuned"))
    file = Path(values["train"]["de"])
    file.write_text(file.read_text().replace("B-LOC", "B-ORG"))
    line = 1 + file.read_text().splitlines().index(next(row for row in file.read_text().splitlines() if "ORG" in row))
    tuned = str(tmp_path / "tuned")
    with pytest.raises(InputError) as of_train:
        downstream.tune(task_of(values), tuned, ["de"], str(tmp_path / "again"))
    assert str(of_train.value) == (
        f"{file}, line {line} (train, de): label 'B-ORG', but {tuned} was tuned before, for the labels B-LOC, I-LOC, "
        "O; correct the file, or tune the checkpoint that it was made from"
    )
    with pytest.raises(InputError) as of_test:
        list(downstream.evaluate(task_of(values | {"test": {"new": {"de": str(file)}}}), tuned, name="ner"))
    assert str(of_test.value) == (
        f"{file}, line {line} (ner, new, de): label 'B-ORG', but {tuned} was tuned for the labels B-LOC, I-LOC, O; "
        "correct the file, tune on text with this label under train, or do not score this checkpoint on this task (in "
        "a study: scored_on)"
    )
    with pytest.raises(InputError, match="has no encoder and decoder, so it cannot translate"):
        list(downstream.evaluate(task_of(small_tasks.translation(tmp_path / "t")), bert))


def test_dev__a_label_that_train_lacks_is_found_before_tuning(bert: str, tmp_path: Path) -> None:
    values = small_tasks.tagging(tmp_path, languages=("de",), count=16)
    dev = Path(values["dev"]["de"])
    dev.write_text("-DOCSTART-\tO\n\na\tB-LOC\nz\tO\n\nz\tO\nb\tB-ORG\n")
    with pytest.raises(InputError) as raised:
        downstream.tune(task_of(values), bert, ["de"], str(tmp_path / "tuned"))
    assert str(raised.value) == (
        f"{dev}, line 7 (dev, de): label 'B-ORG', but the text under train has B-LOC, I-LOC, O; correct the file, or "
        "add text with it under train"
    )
    values = small_tasks.classification(tmp_path, count=16)
    dev = Path(values["dev"]["en"])
    dev.write_text("sentence\tlabel\na\tearly\n\nb\tsoon\n")
    with pytest.raises(
        InputError, match=r"dev, line 4 \(dev, en\): label 'soon', but the text under train has early, l"
    ):
        downstream.tune(task_of(values), bert, ["en"], str(tmp_path / "tuned"))
    assert not (tmp_path / "tuned").exists()


def test_evaluate__tells_accuracy_and_f1_of_labels(bert: str, tmp_path: Path, terminal: Terminal) -> None:
    file = tmp_path / "sst2.yaml"
    file.write_text(yaml.safe_dump(small_tasks.classification(tmp_path / "data")))
    said = terminal("evaluate", file, bert)
    [row, *_] = terminal.json("evaluate", file, bert)["scores"]
    of_accuracy, of_f1 = said[said.index("accuracy (per cent)") :].split("f1 (per cent)")
    assert f"{100 * row['accuracy']:.1f}" in of_accuracy
    assert f"{100 * row['f1']:.1f}" in of_f1


def test_commands(bert: str, tmp_path: Path, terminal: Terminal) -> None:
    file = tmp_path / "ner.yaml"
    file.write_text(yaml.safe_dump(small_tasks.tagging(tmp_path / "data")))
    tuned = terminal.json("finetune", file, bert, "--out", tmp_path / "tuned", "--language", "de", "--language", "en")
    assert tuned["parts"] == ["de", "en"]
    assert "holds a checkpoint already" in terminal("finetune", file, bert, "--out", tmp_path / "tuned", code=2)
    assert "train has no text in xx" in terminal("finetune", file, bert, "-o", tmp_path / "x", "-l", "xx", code=2)
    said = terminal("evaluate", file, bert, tmp_path / "tuned", "--out", tmp_path / "scores.zarr")
    assert "f1 (per cent)" in said
    assert "seqeval strict IOB2" in said
    found = terminal.json("evaluate", file, tmp_path / "tuned", "--split", "dev", "--split", "test")
    assert {row["split"] for row in found["scores"]} == {"dev", "test"}
    assert found["scores"][0]["f1"] > 0.9
    assert "--split tset: expected train, dev, test" in terminal("evaluate", file, bert, "--split", "tset", code=2)
    # written over only where it is scores, and looked at before anything is scored
    terminal("evaluate", file, bert, "--out", tmp_path / "scores.zarr")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for taken in (tmp_path / "tuned", file):
        said = terminal("evaluate", file, tmp_path / "none", "--out", taken, code=2)
        assert f"{taken}: expected nothing there, or a dataset of scores to replace; found a f" in said
    assert f"{file}: a file, expected a folder" in terminal("finetune", file, bert, "--out", file, code=2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_test_texts__are_splits_of_their_own(bert: str, tmp_path: Path) -> None:
    values = small_tasks.tagging(tmp_path / "data", languages=("de", "en"), count=8)
    values["test"] = {"old": {"de": values["test"]["de"]}, "new": values["dev"]}
    found = [(row["split"], row["language"]) for row in downstream.evaluate(task_of(values), bert)]
    assert found == [("old", "de"), ("new", "de"), ("new", "en")]
    for name, parts, message in (
        ("dev", values["dev"], "test.dev: is another text of the task"),
        ("empty", {}, "test.empty: names no file"),
        ("two", {"de": ["a", "b"]}, "test.two.de: tagging has one file"),
    ):
        with pytest.raises(InputError, match=message):
            task_of({**values, "test": {name: parts}})
    with pytest.raises(InputError) as mixed:
        task_of({**values, "test": {"new": values["dev"], "old": None}})
    assert "test.old" in str(mixed.value)
    assert "test.new" not in str(mixed.value)


def test_pretrain(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "de.txt").write_text("der kater sieht das haus\n" * 8)
    (tmp_path / "en.txt").write_text("the cat sees the house\n" * 8)
    texts = [f"{lang}={tmp_path / lang}.txt" for lang in ("de", "en")]
    size = ["--steps", 3, "--layers", 1, "--hidden", 16, "--heads", 2, "--vocabulary", 80, "--batch", 4]
    found = terminal.json("pretrain", *texts, "--out", tmp_path / "made", *size)
    assert (tmp_path / "made" / "model.safetensors").exists()
    assert found["steps"] == 3
    weights_of = tmp_path / "made" / "model.safetensors"
    before = weights_of.read_bytes()
    said = terminal("pretrain", *texts, "--out", tmp_path / "made", *size, "--seed", 1, code=2)
    assert f"{tmp_path / 'made'}: holds a checkpoint already; choose another folder with --out" in said
    assert weights_of.read_bytes() == before
    assert "expected a language and its file" in terminal("pretrain", "de.txt", "-o", tmp_path / "x", code=2)
    for more, message in (
        ([f"de={tmp_path / 'en.txt'}"], f"de={tmp_path / 'en.txt'}: de has {tmp_path / 'de.txt'} already"),
        (["--learning-rate", -1], "--learning-rate -1: expected a number above 0"),
        ([f"fr={tmp_path / 'fr.txt'}"], f"{tmp_path / 'fr.txt'}: no such file; expected the text of a language"),
    ):
        assert message in terminal("pretrain", *texts, *more, "-o", tmp_path / "x", *size, code=2)
    assert "expected a multiple of the 3 heads" in terminal(
        "pretrain", *texts, "-o", tmp_path / "x", "--heads", 3, "--hidden", 16, code=2
    )
