"""Every bad input gives one message that says where, what was found and what to do, and leaves nothing half-written."""

import errno
import gzip
import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
import zarr
from safetensors.torch import load_file, save_file

from engine import paths, store
from engine.workers import cluster
from tests.oracles.vectors import DROPPED, save_bert
from tests.small_study import SmallStudy, call

Spoil = Callable[[SmallStudy, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Case:
    name: str
    spoil: Spoil
    says: tuple[str, ...]
    """Words of the message: where, what was found, the remedy."""
    command: tuple[str, ...] = ("run", "{file}")
    code: int = 2
    repair: Spoil | None = None
    """Follows the remedy; then the same command must succeed."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny BERT that reads every sentence of the small study."""
    return save_bert(tmp_path_factory.mktemp("small-model"), positions=64)


@pytest.fixture
def study(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> SmallStudy:
    """A study that has not run."""
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    return SmallStudy(tmp_path, model)


@dataclass
class Finished:
    """A study that has run, and a copy to repair it from; it stays at its place, which its records know."""

    place: Path
    copy: Path
    spoilt: bool = False


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, model: str) -> Finished:
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        assert call(patch, "run", SmallStudy(place, model).file) == 0
    copy = tmp_path_factory.mktemp("copy") / "finished"
    shutil.copytree(place, copy)
    return Finished(place, copy)


@pytest.fixture
def finished(once: Finished, case: Case, model: str, monkeypatch: pytest.MonkeyPatch) -> SmallStudy:
    """A study that has run, whole again after the case before."""
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    if once.spoilt:
        shutil.rmtree(once.place)
        shutil.copytree(once.copy, once.place)
    once.spoilt = case.spoil is not nothing
    return SmallStudy(once.place, model)


def check(case: Case, study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of a case says what it must, with the exit code, and leaves only whole things."""
    case.spoil(study, monkeypatch)
    places = {"file": study.file, "dir": study.directory, "machine": study.folder / "machine.yaml"}
    command = [word.format(**places) for word in case.command]
    assert call(monkeypatch, *command) == case.code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    message = printed.err[printed.err.index("error: ") :]
    assert [words for words in case.says if words.format(**places) not in message] == [], message
    assert_whole(study)
    if case.repair:
        case.repair(study, monkeypatch)
        assert call(monkeypatch, *command) == 0, capsys.readouterr().err


def assert_whole(study: SmallStudy) -> None:
    """What is in the study directory is finished: no parts, and for every record the dataset that it speaks of."""
    assert not list(study.folder.rglob("*.partial"))
    if not study.directory.is_dir():
        return
    for record in (study.directory / "records").rglob("*.json"):
        stage, *part = record.relative_to(study.directory / "records").with_suffix("").parts
        if stage == "activations":
            assert (study.directory / stage / Path(*part[:-1])).with_suffix(".zarr").is_dir()


# What the cases spoil


def setting(key: str, value: Any) -> Spoil:
    return lambda study, _: study.set(key, value)


def lines(language: str, change: Callable[[list[str]], list[str]]) -> Spoil:
    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        path = study.text(language)
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))

    return spoil


def content(path: str, data: bytes | None) -> Spoil:
    """Give a file of the study's folder another content, or none."""

    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        target = study.folder / path
        if data is None:
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    return spoil


def gz(damage: Callable[[bytes], bytes]) -> Spoil:
    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        (study.folder / "de.gz").write_bytes(damage(gzip.compress(study.text("de").read_bytes())))
        study.set("corpus.files.de", "de.gz")

    return spoil


def machine(**settings: Any) -> Spoil:
    return lambda study, _: (study.machine(**settings), None)[1]


def nothing(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
    """The study is right, the command is not."""


def both(*spoils: Spoil) -> Spoil:
    def spoil(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
        for one in spoils:
            one(study, monkeypatch)

    return spoil


def folder_of_model(change: Callable[[Path], None]) -> Spoil:
    """Use a spoilt copy of the model."""

    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        copy = study.folder / "spoilt"
        shutil.copytree(study.model, copy)
        change(copy)
        study.set("checkpoints.tiny.model", str(copy))

    return spoil


def weights(change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Spoil:
    """Use a copy of the model with changed weights; None leaves one out."""

    def apply(folder: Path) -> None:
        old = load_file(folder / "model.safetensors")
        new = {name: changed for name, value in old.items() if (changed := change(name, value)) is not None}
        save_file(new, folder / "model.safetensors", {"format": "pt"})

    return folder_of_model(apply)


def flip(path: Path) -> None:
    """Damage a byte of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def good_model(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
    study.set("checkpoints.tiny.model", study.model)


RUN_ON = ("run", "{file}", "-m", "{machine}")

STUDY_FILE = [
    Case("missing", content("study.yaml", None), ("{file}: no such file",)),
    Case("not text", content("study.yaml", b"corpus: \xff"), ("{file}", "0xff", "UTF-8")),
    Case("not YAML", content("study.yaml", b"corpus: {files: [\nmodel: x"), ("{file}: not valid YAML", "line 2")),
    Case("list", content("study.yaml", b"- corpus\n"), ("{file}: expected a mapping", "found list")),
    Case("empty", content("study.yaml", b""), ("{file}: expected a mapping", "empty")),
    Case("key twice", content("study.yaml", b"pivot: en\npivot: de\n"), ("{file}", "'pivot'", "twice", "line 2")),
    Case("unknown key", setting("checkpoint", {}), ("{file}", "checkpoint: unknown key",
         "did you mean 'checkpoints'?")),
    Case("unknown key nested", setting("concepts.clusters", 3), ("concepts.clusters: unknown key", "known keys: k, ")),
    Case("unknown key deep", setting("checkpoints.tiny.tuned-on", ["de"]),
         ("checkpoints.tiny.tuned-on: unknown key", "did you mean 'tuned_on'?")),
    Case("required", setting("checkpoints.tiny", {}), ("checkpoints.tiny.model: required, but not given",)),
    Case("type", setting("concepts.k", "many"), ("concepts.k: ", "integer", "found 'many'")),
    Case("nothing left", setting("selection", {"delete_above": 3}), ("selection",
         "delete_above 3 is less than min_count 10", "lower min_count or raise")),
    Case("negative", setting("selection.max_count", -4), ("selection.max_count: ", "greater than or equal to 1", "-4")),
    Case("fraction", setting("metrics.theta_align", 80), ("metrics.theta_align: ", "less than or equal to 1", "80")),
    Case("several", both(setting("concepts.k", 1), setting("links.aligner", "giza")),
         ("2 problem(s)", "concepts.k", "links.aligner", "'fast_align', 'hmm', 'ibm4' or 'eflomal'", "found 'giza'")),
    Case("Norway", setting("corpus.files", {False: "no.txt", "en": "en.txt"}), ("corpus.files", "False", "quotes")),
    Case("one language", setting("corpus.files", {"en": "en.txt"}), ("corpus.files: ", "at least 2")),
    Case("unknown in pairs", setting("pairs", [["de", "it"]]), ("pairs names ['it']", "corpus has ['en', 'de', 'fr']")),
    Case("unknown in sets", setting("language_sets", [["de", "it"]]), ("language_sets names ['it']", "corpus has")),
    Case("unknown in tuned_on", setting("checkpoints.tiny.tuned_on", ["it"]),
         ("checkpoints.tiny.tuned_on names ['it']", "corpus has")),
    Case("unknown source", setting("activations.decoder_source", {"de": "it"}),
         ("activations.decoder_source names ['it']", "corpus has")),
    Case("pivot", setting("pivot", "it"), ("pivot 'it' is not a language", "give pivot or pairs")),
    Case("pair twice", setting("pairs", [["de", "en"], ["de", "en"]]), ("pairs: ", "given twice")),
    Case("pair reversed", setting("pairs", [["de", "en"], ["en", "de"]]), ("pairs: ", "both directions")),
    Case("pair of itself", setting("pairs", [["de", "de"]]), ("pairs: ['de', 'de']", "two different languages")),
    Case("lone decoder language", both(setting("activations.stacks", ["decoder"]), setting("pairs", [["de", "en"]])),
         ("has no decoder", "activations.stacks may name ['encoder']")),
    Case("language with slash", setting("corpus.files", {"a/b": "en.txt", "de": "de.txt"}),
         ("corpus.files.a/b", "letters, digits")),
    Case("language with plus", setting("corpus.files", {"a+b": "en.txt", "de": "de.txt"}), ("corpus.files.a+b",
         "found 'a+b'")),
    Case("checkpoint ..", setting("checkpoints", {"..": {"model": "."}}), ("checkpoints...", "letters, digits")),
    Case("pairs of one path", both(setting("corpus.files", dict.fromkeys(("a", "a-b", "b-c", "c"), "en.txt")),
                                   setting("pairs", [["a", "b-c"], ["a-b", "c"]])), ("a-b-c", "other names")),
    Case("chunk and shard", setting("activations.chunk_tokens", 10), ("shard_tokens 32", "chunk_tokens 10",
         "whole chunks")),
    Case("no layer", setting("activations.layers", []), ("activations.layers", "at least 1")),
]  # fmt: skip


def tags(before: str) -> Spoil:
    """Give the English text a tag for each word, and this before each line of them."""

    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        text = study.text("en").read_text().splitlines()
        (study.folder / "en.tags").write_text("".join(f"{before}{' '.join('N' for _ in s.split())}\n" for s in text))
        study.set("properties", {"tags": {"pos": {"en": "en.tags"}}})

    return spoil


TEXT = [
    Case("tags with marks", tags("BOS "), ("en.tags, line 1: found 6 tags, expected 5", "without marks"),
         repair=tags("")),
    Case("unequal", lines("de", lambda text: text[:-1]), ("en.txt: 30", "de.txt: 29", "equal numbers of lines"),
         repair=lines("de", lambda text: [*text, "ein kind hat obst"])),
    Case("not UTF-8", content("de.txt", b"ein hund\nein b\xe4r\n"), ("de.txt, line 2: byte 0xe4", "column 5", "iconv")),
    Case("empty sentence", lines("fr", lambda text: [*text[:6], "  ", *text[7:]]),
         ("fr.txt, line 7: empty sentence", "remove line 7")),
    Case("empty file", content("de.txt", b""), ("de.txt: the file is empty", "one sentence a line")),
    Case("missing", content("de.txt", None), ("de.txt: no such file", "the text of a language")),
    Case("folder", both(content("de.txt", None), lambda study, _: study.text("de").mkdir()), ("de.txt", "a folder")),
    Case("gz cut off", gz(lambda data: data[:-20]), ("de.gz: not a whole gzip file", "copy it again")),
    Case("gz damaged", gz(lambda data: data[:20] + b"\xff" * 20 + data[40:]), ("de.gz: not a whole gzip file",)),
    Case("gz is plain", gz(lambda _: b"ein hund\n"), ("de.gz: not a whole gzip file",)),
    Case("protocol", setting("corpus.files.de", "ftpx://host/de.txt"), ("ftpx://host/de.txt", "ftpx")),
    Case("min_count", setting("selection.min_count", 99), ("selection.min_count 99 leaves no word of language 'en'",
         "lower it")),
    Case("sentences", setting("selection", {"min_count": 1, "max_sentence_words": 1}), (
         "selection.min_count 1 with selection.max_sentence_words 1 leaves no word of language 'en'", "the other")),
    Case("planned", lines("de", lambda text: text[:-1]), ("de.txt: 29",), command=("plan", "{file}")),
    Case("status", lines("de", lambda text: text[:-1]), ("de.txt: 29",), command=("status", "{file}")),
]  # fmt: skip

MODEL = [
    Case("missing", setting("checkpoints.tiny.model", "./none"), ("/none", "expected a model folder")),
    Case("no config", folder_of_model(lambda folder: (folder / "config.json").unlink()),
         ("spoilt: expected a model folder", "config")),
    Case("damaged config", folder_of_model(lambda folder: (folder / "config.json").write_text("{")), ("spoilt",
         "config")),
    Case("no weights", folder_of_model(lambda folder: (folder / "model.safetensors").unlink()),
         ("spoilt: cannot be loaded", "model.safetensors"), repair=good_model),
    Case("damaged weights", folder_of_model(lambda folder: (folder / "model.safetensors").write_bytes(b"no weights")),
         ("spoilt: cannot be loaded", "copy")),
    Case("other weights", weights(lambda name, value: value[:10].clone() if "word_embeddings" in name else value),
         ("spoilt: weight embeddings.word_embeddings.weight has shape (10, 24), expected (59, 24)", "config.json")),
    Case("weights lack", weights(lambda name, value: None if "layer.1.output" in name else value),
         ("spoilt: the checkpoint lacks weights", "layer.1.output", "matches its config.json")),
    Case("no tokenizer", folder_of_model(lambda folder: [p.unlink() for p in folder.glob("*token*")]),
         # type: ignore[arg-type,return-value]
         ("spoilt: has no tokenizer", "save_pretrained")),
    Case("no decoder", setting("activations.stacks", ["decoder"]), ("has no decoder", "['encoder']")),
    Case("layer", setting("activations.layers", [0, 9]), ("has no layer 9", "layers 0 to 3")),
    Case("k", setting("concepts.k", 900), ("vectors cannot form 900 concepts", "lower concepts.k")),
    Case("float16", weights(lambda name, value: value * 1e7 if "layer.1.output.LayerNorm" in name else value),
         ("layer 2", "sentence of ", "does not fit float16", "set activations.dtype to float32"),
         repair=setting("activations.dtype", "float32")),
    Case("NaN", weights(lambda name, value: value * float("nan") if "layer.1.output.LayerNorm" in name else value),
         ("layer 2", "sentence of ", "not a number", "weights")),
]  # fmt: skip


def port_without_listener(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER", "1s")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        study.machine(type="address", address=f"tcp://127.0.0.1:{listener.getsockname()[1]}")


MACHINE = [
    Case("missing", nothing, ("{machine}: no such file",), RUN_ON),
    Case("type", machine(type="pbs"), ("{machine}", "type: ", "'serial'", "found 'pbs'"), RUN_ON),
    Case("key", machine(worker=3), ("worker: unknown key; did you mean 'workers'?",), RUN_ON),
    Case("no address", machine(type="address"), ("address", "tcp://host:8786"), RUN_ON),
    Case("bad address", machine(type="address", address="nowhere"), ("with a worker answers at nowhere", "address"),
         RUN_ON),
    Case("unreachable", port_without_listener, ("no Dask scheduler with a worker answers at tcp://127.0.0.1:",
         "start them", "address"), RUN_ON),
    Case("memory", machine(memory=0.05), ("a worker needs about 5", "allows 51.2 MiB", "raise memory"), RUN_ON),
    Case("memory planned", machine(memory=0.05), ("allows 51.2 MiB", "raise memory"), ("plan", "{file}", "-m",
         "{machine}")),
    Case("disk", lambda study, patch: patch.setattr(paths, "free_bytes", lambda _: 1000),
         ("{dir}: the study will write about", "the disk has 1000.0 B free", "--out")),
]  # fmt: skip


def forbid(error: int) -> Spoil:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    def spoil(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.makedirs", refuse)

    return spoil


def full_disk(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the vectors of the second shard are written."""
    write, calls = store.write_region, []

    def some(path: str, name: str, *args: Any, **starts: int) -> store.Written:
        calls.append(name)
        if calls.count("activation") == 2:
            with paths.explained(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, name, *args, **starts)

    monkeypatch.setattr(store, "write_region", some)


DIRECTORY = [
    Case("not a study", lambda study, _: study.directory.mkdir(), ("{dir}: not a study directory", "study.yaml"),
         ("status", "{dir}")),
    Case("not a study to show", lambda study, _: study.directory.mkdir(), ("{dir}: not a study directory",),
         ("show", "{dir}", "--source", "de", "--target", "en")),
    Case("file in the way", content("study", b"notes"), ("{dir}: ", "a file", "--out"),
         repair=lambda study, _: study.directory.unlink()),
    Case("file in the way of a plan", content("study", b"notes"), ("{dir}: ", "a file", "--out"), ("plan", "{file}")),
    Case("not writable", forbid(errno.EACCES), ("study", "not allowed to write here", "another directory"), code=1),
    Case("disk full", full_disk, ("tiny/encoder", "the disk is full", "run again, finished tasks are kept"), code=1,
         repair=lambda _, patch: patch.undo()),
    Case("nothing to show yet", nothing, ("en", "found none", "run"), ("show", "{file}", "--source", "de", "--target",
         "en"),
         code=1),
]  # fmt: skip

UNFINISHED = [
    ("study file", STUDY_FILE),
    ("text", TEXT),
    ("model", MODEL),
    ("machine", MACHINE),
    ("directory", DIRECTORY),
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{table}: {case.name}") for table, cases in UNFINISHED for case in cases]
)
def test_new_study(
    case: Case, study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, study, monkeypatch, capsys)
    if case in STUDY_FILE + TEXT + MACHINE or case.command[0] != "run":
        assert not study.directory.is_dir() or case.repair or not any(study.directory.iterdir())


def redo(stage: str) -> Spoil:
    """Forget that a stage is done."""

    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        shutil.rmtree(study.directory / "records" / stage)
        shutil.rmtree(study.directory / stage)

    return spoil


def damage(path: str) -> Spoil:
    return lambda study, _: flip(study.directory / path)


def cut(path: str) -> Spoil:
    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        target = study.directory / path
        target.write_bytes(target.read_bytes()[:30])

    return spoil


def remove(path: str) -> Spoil:
    def spoil(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
        target = study.directory / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return spoil


def other_version(study: SmallStudy, _: pytest.MonkeyPatch) -> None:
    zarr.open_group(study.directory / "corpus.zarr").attrs["format_version"] = 7


def show(**options: Any) -> tuple[str, ...]:
    chosen = {"source": "de", "target": "en"} | options
    return ("show", "{dir}", *(word for name, value in chosen.items() for word in (f"--{name}", str(value))))


SHARD = "activations/tiny/encoder/de.zarr/activation/c/0/0/0"

FINISHED = [
    Case("settings", setting("activations.pooling", "mean"),
         ("{dir}: made with other settings", "activations.pooling: last → mean", "--out", "restore the settings"),
         repair=setting("activations.pooling", "last")),
    Case("text", lines("de", lambda text: [*text[:-1], "ein kind hat hunger"]),
         ("de.txt", "changed since", "--out")),
    Case("text grown", both(lines("de", lambda text: [*text[:-1], "ein kind hat hunger"]),
                            lines("fr", lambda text: [*text, "le chat a faim"])),
         ("de.txt: changed since", "fr.txt: grown since", "--out")),
    Case("text planned", lines("de", lambda text: [*text[:-1], "ein kind hat hunger"]), ("de.txt", "changed"),
         ("plan", "{dir}")),
    Case("record", content("study/records/corpus.json", b'{"key": "cor'),
         ("records/corpus.json: expected the record of a task", "delete the file"), code=1,
         repair=remove("records/corpus.json")),
    Case("record of something else", content("study/records/note.json", b'{"note": 1}'),
         ("records/note.json: expected the record", "delete the file"), code=1),
    Case("record not text", content("study/records/corpus.json", b"\xff\xfe"), ("records/corpus.json",
         "delete the file"), code=1),
    Case("frozen study", content("study/study.yaml", b"corpus: {"), ("{dir}/study.yaml: not valid YAML",), ("run",
         "{dir}")),
    Case("version", other_version, ("corpus.zarr", "format version 7", "reads 2", "run the study again")),
    Case("corpus gone", remove("corpus.zarr"), ("corpus.zarr: expected a corpus dataset, found none",
         "delete its records"), code=1),
    Case("metadata", cut("corpus.zarr/zarr.json"), ("corpus.zarr", "damaged", "delete"), code=1),
    Case("shard", both(redo("concepts"), damage(SHARD)),
         ("de.zarr/activation: rows 0..", "the store is damaged", "delete", "run again"), code=1,
         repair=both(remove("activations"), remove("records/activations"))),
    Case("shard gone", both(redo("concepts"), remove(SHARD)), ("de.zarr: the vector is not finite",
         "layer 2, token 0", "delete", "run again")),
    Case("counts", both(remove("results.zarr"), damage("counts/tiny/encoder/3/de-en.zarr/aligned_types/c/0/0/0/0")),
         ("de-en.zarr", "damaged", "delete"), code=1,
         repair=both(remove("counts"), remove("records/counts"))),
    Case("counts shown", damage("counts/tiny/encoder/3/de-en.zarr/aligned_types/c/0/0/0/0"), ("de-en.zarr", "damaged"),
         show(), code=1),
    Case("language", nothing, ("no pair 'it-en'", "de-en"), show(source="it")),
    Case("pair", nothing, ("no pair 'de-fr'", "de-en"), show(target="fr")),
    Case("layer", nothing, ("no layer 1", "it has 2"), show(layer=1)),
    Case("checkpoint", nothing, ("no checkpoint 'big'", "it has tiny"), show(checkpoint="big")),
    Case("stack", nothing, ("no stack 'decoder'", "it has encoder"), show(stack="decoder")),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FINISHED])
def test_finished_study(
    case: Case, finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = finished.files().keys()
    check(case, finished, monkeypatch, capsys)
    if case.spoil is nothing:
        assert finished.files().keys() == done


def outcome(study: SmallStudy) -> xr.Dataset:
    return xr.open_datatree(f"{study.directory}/results.zarr", engine="zarr", consolidated=False)[
        "statistics"
    ].to_dataset()


def test_not_an_error__sentences_of_words_that_the_tokenizer_drops(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines("de", lambda text: [DROPPED, *text[1:-1], f"{DROPPED} {DROPPED}"])(study, monkeypatch)
    assert call(monkeypatch, "run", study.file) == 0
    absent = outcome(study).absent_tokens.sel(checkpoint="tiny")
    assert {lang: int(absent.sel(language=lang)) for lang in ("en", "de", "fr")} == {"en": 0, "de": 3, "fr": 0}


def test_not_an_error__max_count_below_min_count(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    study.set("selection", {"min_count": 5, "max_count": 2})
    assert call(monkeypatch, "plan", study.file) == 0


def test_not_an_error__signs_in_paths_texts_gone_and_parts_left(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    study = SmallStudy(tmp_path / "my [first] *study*", model)
    assert call(monkeypatch, "run", study.file) == 0
    study.text("de").unlink()
    (study.directory / "results.zarr.partial").mkdir()
    (study.directory / "results.zarr.partial" / "zarr.json").write_text("{}")
    monkeypatch.setattr("jobs.tasks.perform", lambda *_: pytest.fail("everything is done already"))
    assert call(monkeypatch, "run", study.directory) == 0
    assert_whole(study)
    capsys.readouterr()
    assert call(monkeypatch, "status", study.file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"]
