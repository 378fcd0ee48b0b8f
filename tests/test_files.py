"""Study files: relative paths, freezing, telling two studies apart, and where a study lies."""

import json
from pathlib import Path

import dask
import pytest

from engine.workers import launch
from jobs import files
from jobs.layout import Layout
from schemas.errors import InputError
from schemas.study import Study
from tests.small_study import SmallStudy


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    return SmallStudy(tmp_path, "./model")


def test_load_study__paths_start_at_the_file(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    study.set("corpus.files", {"en": "en.txt", "de": "../text/de.txt", "fr": "/text/fr.txt", "es": "s3://text/es.txt"})
    study.set("checkpoints.hub", {"model": "bert-base-multilingual-cased"})
    monkeypatch.chdir(study.folder.parent)
    loaded, layout = files.load_study(f"{study.folder.name}/study.yaml")
    assert loaded.corpus.files == {
        "en": str(study.folder / "en.txt"),
        "de": str(study.folder.parent / "text" / "de.txt"),
        "fr": "/text/fr.txt",
        "es": "s3://text/es.txt",
    }
    assert {name: c.model for name, c in loaded.checkpoints.items()} == {
        "tiny": str(study.folder / "model"),
        "hub": "bert-base-multilingual-cased",
    }
    assert layout == Layout(str(study.directory))


@pytest.mark.parametrize("out", ["/elsewhere/first/", "file:///bucket/first/"])
def test_load_study__out_is_the_study_directory(study: SmallStudy, out: str) -> None:
    assert files.load_study(str(study.file), out)[1] == Layout(out.rstrip("/"))


def test_load_study__directory_form_reads_the_frozen_study(study: SmallStudy) -> None:
    loaded, layout = files.load_study(str(study.file))
    files.freeze(loaded, layout)
    study.file.unlink()
    assert files.load_study(f"{study.directory}/") == (loaded, layout)


def test_load_study__file_without_suffix_needs_out(study: SmallStudy) -> None:
    plain = study.file.rename(study.folder / "plain")
    with pytest.raises(InputError, match=r"plain: a file, where the study directory would be; .* --out"):
        files.load_study(str(plain))
    assert files.load_study(str(plain), "/out")[1] == Layout("/out")


def test_load_study__from_a_url(study: SmallStudy) -> None:
    files.paths.write_text("memory://colign/study.yaml", study.file.read_text())
    loaded, layout = files.load_study("memory://colign/study.yaml")
    assert (loaded.corpus.files["de"], loaded.checkpoints["tiny"].model, layout.root) == (
        "memory://colign/de.txt",
        "memory://colign/model",
        "memory://colign/study",
    )
    files.freeze(loaded, layout)
    assert files.load_study("memory://colign/study") == (loaded, layout)


def test_freeze__round_trips_every_setting(study: SmallStudy) -> None:
    for key, value in {
        "language_sets": [["en", "de", "fr"]],
        "activations.layers": [0, 2],
        "activations.decoder_source": {"de": "en"},
        "concepts.tolerance": 1e-5,
        "metrics.theta_align": 1 / 3,
    }.items():
        study.set(key, value)
    loaded, layout = files.load_study(str(study.file))
    files.freeze(loaded, layout)
    assert files.load_study(layout.root)[0] == loaded
    assert files.changes(loaded, layout) == []


def test_changes__lists_every_difference(study: SmallStudy) -> None:
    loaded, layout = files.load_study(str(study.file))
    assert files.changes(loaded, layout) == []  # nothing is frozen yet
    files.freeze(loaded, layout)
    study.set("concepts.k", 5)
    study.set("checkpoints.tiny.tuned_on", ["de", "en"])
    study.set("corpus.files", {"en": "en.txt", "de": "de.txt", "es": "es.txt"})
    changed, _ = files.load_study(str(study.file))
    assert files.changes(changed, layout) == [
        f"corpus.files.fr: {study.text('fr')} → not given",
        "checkpoints.tiny.tuned_on: [] → ['de', 'en']",
        "pairs: [['de', 'en'], ['fr', 'en']] → [['de', 'en'], ['es', 'en']]",
        "language_sets: [['de', 'en'], ['fr', 'en']] → [['de', 'en'], ['es', 'en']]",
        "concepts.k: 3 → 5",
        f"corpus.files.es: not given → {study.text('es')}",
    ]


def test_load_machine__default_is_the_scheduler_of_dasks_configuration() -> None:
    with dask.config.set({"scheduler-address": "tcp://there:8786"}):
        machine = files.load_machine(None)
        assert (machine.type, launch.where(machine)) == ("address", "tcp://there:8786")


def test_load_machine__default_is_this_process(study: SmallStudy) -> None:
    assert files.load_machine(None).type == "serial"
    machine = files.load_machine(str(study.machine(type="local", workers=3, memory=0.5)))
    assert (machine.type, machine.workers, machine.memory_bytes) == ("local", 3, 2**29)


def test_json_schema__names_every_section() -> None:
    schema = json.loads(files.json_schema())
    assert schema["properties"].keys() == Study.model_fields.keys()
    assert schema["required"] == ["corpus", "checkpoints"]


def test_load_study__never_overwrites_the_file_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("corpus: {files: {en: en.txt, de: de.txt}}\ncheckpoints: {base: {model: m}}\n")
    with pytest.raises(InputError, match=r"would be overwritten; choose another directory with --out"):
        files.load_study(str(path), str(tmp_path))


def test_load_study__relative_out_means_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("corpus: {files: {en: en.txt, de: de.txt}}\ncheckpoints: {base: {model: m}}\n")
    monkeypatch.chdir(tmp_path)
    assert files.load_study("a.yaml", "deep/out")[1].root == str(tmp_path / "deep" / "out")
