"""Whole studies on tiny models: every family, resuming, killing, and serial against Dask."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from jobs import files
from jobs.layout import Layout
from jobs.run import run
from schemas.errors import InputError
from schemas.machine import Machine
from schemas.study import Study
from tests.contracts.raising import RaisingWorkers
from tests.crash import content
from tests.oracles import metrics
from tests.oracles.vectors import save_bert, save_mt5, save_xlmr

MEMORY = 2 * 2**30


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty sentences of the demo's text in three languages."""
    folder = tmp_path_factory.mktemp("text")
    for language in ("en", "de", "ar"):
        lines = resources.files("jobs.demo").joinpath(f"{language}.txt").read_text(encoding="utf-8").splitlines()
        (folder / f"{language}.txt").write_text("\n".join(lines[:60]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny random checkpoints that read sentences of real length."""
    return {
        "bert": save_bert(tmp_path_factory.mktemp("bert"), positions=200),
        "xlmr": save_xlmr(tmp_path_factory.mktemp("xlmr"), positions=200),
        "mt5": save_mt5(tmp_path_factory.mktemp("mt5")),
    }


def write_study(folder: Path, text: Path, model: str, *, tuned: bool = True, **sections: Any) -> str:
    values: dict[str, Any] = {
        "corpus": {"words": "regex", "files": {lang: str(text / f"{lang}.txt") for lang in ("en", "de", "ar")}},
        "checkpoints": {"base": {"model": model}, "tuned": {"model": model, "tuned_on": ["de", "en"]}},
        "selection": {"min_count": 2, "max_count": 5},
        "activations": {"layers": [0, 2], "shard_tokens": 128, "chunk_tokens": 64, "batch_subwords": 1024},
        "concepts": {"k": 8, "restarts": 2, "max_iterations": 10},
        "metrics": {"min_types": 1, "theta_align": 0.5},
    }
    if not tuned:
        del values["checkpoints"]["tuned"]
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def run_study(path: str, out: Path, workers: Workers | None = None) -> tuple[Study, Layout, xr.DataTree]:
    study, layout = files.load_study(path, str(out))
    with workers or SerialWorkers(memory=MEMORY) as entered, pytest.MonkeyPatch.context() as patched:
        patched.setattr("jobs.run.write_figures", lambda *_: None)  # seconds; tests/test_figures.py draws them
        return study, layout, run(study, layout, entered, MEMORY)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, text: Path, models: dict[str, str]) -> tuple[str, Path]:
    """Study file and directory of a finished study."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = write_study(folder, text, models["bert"])
    run_study(path, folder / "out")
    return path, folder / "out"


@pytest.mark.parametrize(
    "family", [pytest.param("bert", marks=pytest.mark.slow), pytest.param("xlmr", marks=pytest.mark.slow), "mt5"]
)
@pytest.mark.parametrize("pooling", ["last", pytest.param("mean", marks=pytest.mark.slow)])
def test_run__all_families(tmp_path: Path, text: Path, family: str, pooling: str, models: dict[str, str]) -> None:
    stacks = ["encoder", "decoder"] if family == "mt5" else ["encoder"]
    settings = {"stacks": stacks, "pooling": pooling}
    path = write_study(tmp_path, text, models[family], tuned=False, activations=settings, concepts={"restarts": 1})
    study, layout, results = run_study(path, tmp_path / "out")
    calign = results["calign"].to_dataset()
    between = ["encoder-decoder", "decoder-encoder"] if family == "mt5" else []
    assert calign["stack"].values.tolist() == [*stacks, *between]
    scored = calign.calign.sel(source="de", target="en")
    assert scored.notnull().any("layer").all()
    assert ((calign.aligned_concepts / calign.concepts) == calign.calign).where(calign.calign.notnull(), True).all()
    assert calign.calign.sel(source="de", target="ar").isnull().all()
    assert results["colap"].to_dataset().colap.sel(language_set="ar+en").notnull().any("layer").all()
    assert results["statistics"].to_dataset().sentences.values.tolist() == [60, 60, 60]
    opened = xr.open_datatree(layout.results, engine="zarr", consolidated=False)
    xr.testing.assert_identical(opened["calign"].to_dataset().load(), calign)
    assert json.loads(opened.attrs["study"]) == json.loads(study.model_dump_json())
    assert "torch" in opened.attrs["versions"]


def test_run__scores_equal_the_papers_equations_on_the_stored_concepts(undisturbed: tuple[str, Path]) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    opened = xr.open_zarr(layout.dictionary("de", "en"), consolidated=False, chunks=None)
    dictionary: dict[str, list[str]] = {}
    for source, target in zip(opened.source_type.values.tolist(), opened.target_type.values.tolist(), strict=True):
        dictionary.setdefault(opened.source_form.values[source], []).append(opened.target_form.values[target])
    concepts = {}
    for language in ("de", "en"):
        stored = xr.open_zarr(layout.concepts("tuned", "encoder", language), consolidated=False, chunks=None)
        concepts[language] = [
            metrics.concepts_of(
                stored.concept.values[stored.inertia.values[:, i].argmin(), i].tolist(),
                stored.word.values.tolist(),
                study.concepts.k,
            )
            for i in range(stored.sizes["layer"])
        ]
    results = xr.open_datatree(layout.results, engine="zarr", consolidated=False)
    found = results["calign"].to_dataset().sel(checkpoint="tuned", stack="encoder", source="de", target="en")
    for layer, (source, target) in enumerate(zip(concepts["de"], concepts["en"], strict=True)):
        expected = sum(
            any(metrics.is_aligned(one, other, dictionary, 10, 0.5, 1, 0.4) for other in target) for one in source
        )
        assert found.aligned_concepts.values[layer] == expected
        assert found.concepts.values[layer] == sum(bool(one) for one in source)


def test_run__again_computes_nothing(undisturbed: tuple[str, Path]) -> None:
    before = content(undisturbed[1])
    _, _, results = run_study(undisturbed[0], undisturbed[1], RaisingWorkers())
    assert content(undisturbed[1]) == before
    assert results["calign"].to_dataset().calign.notnull().any()


def test_run__the_frozen_study_is_enough(undisturbed: tuple[str, Path]) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    with RaisingWorkers() as workers:
        run(study, layout, workers, MEMORY)


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("records/links/de/en.json", {"links/de/en"}),
        ("records/activations/base/encoder/en/0-128.json", {"activations/base/encoder/en/0-128"}),
        ("records/concepts/tuned/encoder/de+en/2.json", {"concepts/tuned/encoder/de+en/2"}),
    ],
)
def test_run__does_only_what_no_record_says_is_done(undisturbed: tuple[str, Path], lost: str, again: set[str]) -> None:
    root = undisturbed[1]
    before, started = content(root), _started(root)
    (root / lost).unlink()
    run_study(undisturbed[0], root)
    now = _started(root)
    assert {name for name in now if now[name] != started[name]} == again
    assert content(root) == before


def _started(root: Path) -> dict[str, float]:
    records = [json.loads(path.read_text()) for path in (root / "records").rglob("*.json")]
    return {record["key"]: record["started"] for record in records}


@pytest.mark.parametrize(
    ("memory", "threads"),
    [
        pytest.param(MEMORY, 1, id="held-1", marks=pytest.mark.slow),
        pytest.param(MEMORY, 3, id="held-3", marks=pytest.mark.slow),
        pytest.param(40_000, 1, id="streamed-1", marks=pytest.mark.slow),
        pytest.param(40_000, 3, id="streamed-3", marks=pytest.mark.slow),
    ],
)
def test_run__threads_and_memory_never_change_a_bit(
    undisturbed: tuple[str, Path], tmp_path: Path, threads: int, memory: int
) -> None:
    run_study(undisturbed[0], tmp_path, SerialWorkers(threads, memory))
    assert content(tmp_path) == content(undisturbed[1])


def test_run__dask_equals_serial_bit_for_bit(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    run_study(undisturbed[0], tmp_path, ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1)))
    assert content(tmp_path) == content(undisturbed[1])


@pytest.mark.slow
def test_run__killed_at_any_moment_goes_on_to_the_same_bits(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.cli", "run", undisturbed[0], "--out", str(tmp_path)]
    for stage in ("links", "activations", "concepts"):
        kept = _started(tmp_path)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "records" / stage).exists():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert kept.items() <= _started(tmp_path).items()
    kept = _started(tmp_path)
    run_study(undisturbed[0], tmp_path)
    assert kept.items() <= _started(tmp_path).items()
    assert content(tmp_path) == content(undisturbed[1])


def test_run__thresholds_may_change_without_computing(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    strict = study.model_copy(update={"metrics": study.metrics.model_copy(update={"theta_align": 1.0})})
    with RaisingWorkers() as workers:
        results = run(strict, layout, workers, MEMORY)
        assert results["calign"].to_dataset().attrs["theta_align"] == 1.0
        run(study, layout, workers, MEMORY)


def test_run__killed_after_another_rule_of_translations_never_trusts_old_counts(
    undisturbed: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    before = content(undisturbed[1])
    fewer = study.model_copy(update={"metrics": study.metrics.model_copy(update={"max_sources": 1})})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with SerialWorkers(memory=MEMORY) as workers:
        with monkeypatch.context() as patched:
            patched.setattr("jobs.tasks.commit", killed)  # the first counts are written, their record is not
            with pytest.raises(KeyboardInterrupt):
                run(fewer, layout, workers, MEMORY)
        run(study, layout, workers, MEMORY)
    assert content(undisturbed[1]) == before


def test_run__a_retrained_checkpoint_is_noticed(
    undisturbed: tuple[str, Path], tmp_path: Path, text: Path, models: dict[str, str]
) -> None:
    model = shutil.copytree(models["bert"], tmp_path / "model")
    path = write_study(tmp_path, text, str(model))
    run_study(path, shutil.copytree(undisturbed[1], tmp_path / "out"), RaisingWorkers())
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-4000:] = bytes(4000)
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"made with other settings"):
        run_study(path, tmp_path / "out", RaisingWorkers())


def test_run__text_and_model_may_move(undisturbed: tuple[str, Path], tmp_path: Path, text: Path) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    moved = shutil.copytree(text, tmp_path / "moved")
    model = shutil.copytree(study.checkpoints["base"].model, tmp_path / "model")
    path = write_study(tmp_path, moved, str(model))
    with RaisingWorkers() as workers:
        run(files.load_study(path, "unused")[0], layout, workers, MEMORY)
        run(study, layout, workers, MEMORY)


def test_run__leaves_files_of_others_alone(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    out = shutil.copytree(undisturbed[1], tmp_path / "out")
    (out / "mine").mkdir()
    (out / "mine" / "film.partial").write_text("half")
    (out / "counts" / "left.partial").write_text("half")
    shutil.rmtree(out / "records" / "counts")
    run_study(undisturbed[0], out)
    assert (out / "mine" / "film.partial").exists()
    assert not (out / "counts" / "left.partial").exists()


def test_run__other_settings_are_refused_with_the_change(undisturbed: tuple[str, Path]) -> None:
    study, layout = files.load_study(str(undisturbed[1]))
    other = study.model_copy(update={"activations": study.activations.model_copy(update={"pooling": "first"})})
    before = content(undisturbed[1])
    with RaisingWorkers() as workers, pytest.raises(InputError, match=r"activations\.pooling: last → first"):
        run(other, layout, workers, MEMORY)
    assert content(undisturbed[1]) == before


def test_run__another_checkpoint_keeps_what_is_done(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    study, layout = files.load_study(undisturbed[0], str(tmp_path))
    one = study.model_copy(update={"checkpoints": {"base": study.checkpoints["base"]}})
    with SerialWorkers(memory=MEMORY) as workers:
        run(one, layout, workers, MEMORY)
        kept = _started(tmp_path)
        results = run(study, layout, workers, MEMORY)
    assert kept.items() <= _started(tmp_path).items()
    assert results["calign"].to_dataset().checkpoint.values.tolist() == ["base", "tuned"]
    assert content(tmp_path) == content(undisturbed[1])


def test_run__every_dataset_says_how_it_was_made(undisturbed: tuple[str, Path]) -> None:
    aside = ("results.zarr", "ledger.zarr")  # of many settings
    stores = sorted(path for path in undisturbed[1].rglob("*.zarr") if path.name not in aside)
    assert (
        len(stores) == 1 + 3 + 2 + 4 + 6 + 10 + 12 + 8
    )  # corpus, selections, links, dictionaries, vectors, concepts, counts
    for path in stores:
        dataset = xr.open_zarr(path, consolidated=False, chunks=None)
        later = {"concepts": 3, "dictionary": 3, "aligned_types": 3}
        assert dataset.attrs["format_version"] == later.get(dataset.attrs["colign_dataset"], 2)
        assert "zarr " in dataset.attrs["versions"]
        assert len(dataset.attrs["fingerprint"]) == 16
        assert all(variable.attrs["long_name"] for variable in dataset.variables.values())


def test_run__stored_vectors_are_finite_where_present(undisturbed: tuple[str, Path]) -> None:
    _, layout = files.load_study(str(undisturbed[1]))
    stored = xr.open_zarr(layout.activations("base", "encoder", "en"), consolidated=False)
    present = stored.present.values
    assert present.mean() > 0.9
    assert np.isfinite(stored.activation.values[:, present]).all()
    assert np.isnan(stored.activation.values[:, ~present]).all()
