"""Studies that count linked pairs: a selection for each pair and set, vectors of them all once, concepts of each."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine import store
from engine.records import read_records
from jobs import files, stages
from jobs.selections import read_text
from schemas.corpus import CLUSTERED, CORPUS
from schemas.links import LINKS
from tests import crash
from tests.growing import (
    assert_concepts_are_of_these_vectors,
    assert_grown,
    assert_stops,
    fresh_twin,
    grow,
    language,
    more,
    outcomes,
    small,
)
from tests.oracles.texts import selected, selected_links
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

RULE = {"preset": "reference", "max_count": 4, "max_sentence_words": 5}
GROUPS = {
    "de": ["de@de+en", "de@de-en"],
    "en": ["en@de+en", "en@de-en", "en@fr+en", "en@fr-en"],
    "fr": ["fr@fr+en", "fr@fr-en"],
}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"bert": save_bert(tmp_path_factory.mktemp("bert"), positions=64)}


def linked(folder: Path, models: dict[str, str], **rule: Any) -> SmallStudy:
    study = small(folder, models)
    study.set("selection", RULE | rule)
    study.set("links", {"symmetrise": "union"})
    study.set("uncertainty.draws", 2)
    study.text("en").write_text(study.text("en").read_text().replace("a dog sees", "a dog today sees", 1))  # six words
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> SmallStudy:
    study = linked(tmp_path_factory.mktemp("linked"), models)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jobs.run.write_figures", lambda *_: None)
        assert grow(study, patched) == 0
    return study


def opened(study: SmallStudy, *parts: str) -> xr.Dataset:
    return xr.open_zarr("/".join([str(study.directory), *parts]), consolidated=False, chunks=None).load()


def test_run__draws_for_every_pair_and_set(finished: SmallStudy) -> None:
    tree = xr.open_datatree(finished.directory / "results.zarr", engine="zarr", consolidated=False, chunks=None)
    for metric in ("calign", "colap"):
        scores, drawn = tree[metric].to_dataset()[metric], tree[f"uncertainty/{metric}"].to_dataset()
        np.testing.assert_array_equal(drawn.low.notnull(), scores.notnull())


def test_run__selects_what_the_published_scripts_select(finished: SmallStudy) -> None:
    text = store.read(str(finished.directory / "corpus.zarr"), CORPUS)
    lines = {lang: [line.split() for line in finished.text(lang).read_text().splitlines()] for lang in GROUPS}
    left_out = [i for i in range(30) if any(len(of[i]) > 5 for of in lines.values())]
    assert left_out

    def places(name: str) -> list[tuple[int, int]]:
        at = store.read(str(finished.directory / "selections" / f"{name}.zarr"), CLUSTERED).token_id.values
        return list(zip(text.sentence.values[at].tolist(), text.position.values[at].tolist(), strict=True))

    for source, target in (("de", "en"), ("fr", "en")):
        links = store.read(str(finished.directory / "links" / f"{source}-{target}.zarr"), LINKS)
        of_sentence: list[list[tuple[int, int]]] = [[] for _ in range(30)]
        for s, t in zip(links.source_token.values, links.target_token.values, strict=True):
            if int(text.sentence.values[s]) not in left_out:
                of_sentence[int(text.sentence.values[s])].append((text.position.values[s], text.position.values[t]))
        sides = selected_links(
            of_sentence, (lines[source], lines[target]), min_count=0, max_count=4, delete_above=10**7, max_words=99
        )
        assert source != "de" or len(sides[0]) > len(set(sides[0]))  # some words are there more than once
        for lang, expected in zip((source, target), sides, strict=True):
            assert places(f"{lang}@{source}-{target}") == sorted(expected)
        mixed = selected(
            lines[source] + lines[target], min_count=0, max_count=4, delete_above=10**7, first=True,
            left_out=[*left_out, *(i + 30 for i in left_out)],
        )  # fmt: skip
        lengths = [(lang, i, len(line)) for lang in (source, target) for i, line in enumerate(lines[lang])]
        every = [(lang, i, j) for lang, i, length in lengths for j in range(length)]
        found = [(lang, *place) for lang in (source, target) for place in places(f"{lang}@{source}+{target}")]
        assert found == [every[at] for at in mixed]


def test_run__keeps_vectors_once_and_clusters_those_of_each_pair(finished: SmallStudy) -> None:
    for lang, names in GROUPS.items():
        vectors = opened(finished, "activations", "tiny", "encoder", f"{lang}.zarr")
        parts = [opened(finished, "selections", f"{name}.zarr") for name in names]
        union = sorted({int(token) for part in parts for token in part.token_id.values})
        assert vectors.token_id.values.tolist() == union
    for name in ("de@de-en", "en@de-en", "en@fr-en", "fr@fr-en", "de+en", "fr+en"):
        concepts = opened(finished, "concepts", "tiny", "encoder", f"{name}.zarr")
        languages = concepts.attrs["languages"]
        languages = [languages] if isinstance(languages, str) else list(languages)
        subsets = [name] if "@" in name else [f"{lang}@{name}" for lang in languages]
        expected, rows = [], []
        for lang, subset in zip(languages, subsets, strict=True):
            tokens = opened(finished, "selections", f"{subset}.zarr").token_id.values
            vectors = opened(finished, "activations", "tiny", "encoder", f"{lang}.zarr")
            by_token = {int(token): i for i, token in enumerate(vectors.token_id.values)}
            at = [by_token[int(token)] for token in tokens]
            expected += tokens.tolist()
            rows.append(vectors.isel(token=at))
        assert concepts.token_id.values.tolist() == expected
        words = np.concatenate([of.word.values for of in rows])
        assert concepts.word.values.tolist() == words.tolist()
        values = np.concatenate([of.activation.values for of in rows], axis=1).astype(np.float64)
        for layer in range(concepts.sizes["layer"]):
            labels = concepts.concept.values[0, layer]
            for k in range(concepts.sizes["concept_id"]):
                own = values[layer, labels == k]
                squared = ((own[:, None] - concepts.centroid.values[0, layer][None]) ** 2).sum(axis=2)
                np.testing.assert_array_equal(squared.argmin(axis=1), k)
                distance = concepts.distance.values[0, layer, labels == k]
                np.testing.assert_allclose(distance, np.sqrt(squared[:, k]), rtol=1e-4, atol=1e-5)
    counts = opened(finished, "counts", "tiny", "encoder", "3", "en-de.zarr")
    types: list[set[str]] = [set() for _ in range(3)]
    concepts = opened(finished, "concepts", "tiny", "encoder", "en@de-en.zarr")
    for k, word in zip(concepts.concept.values[0, 0].tolist(), concepts.word.values.tolist(), strict=True):
        types[k].add(word)
    assert counts.source_types.values[0].tolist() == [len(of) for of in types]


def test_calign__compares_the_concepts_of_a_pair(
    finished: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = xr.open_datatree(str(finished.directory / "results.zarr"), engine="zarr", consolidated=False)
    of_study = results["calign"].to_dataset().sel(checkpoint="tiny", stack="encoder", source="en", target="fr")
    assert sorted(results["calign"].to_dataset().target.values.tolist()) == ["de", "en", "fr"]  # not all together
    capsys.readouterr()
    chosen = ("--source", "en", "--target", "fr")
    assert call(monkeypatch, "calign", finished.file, *chosen, "--json") == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [row["calign"] for row in layers] == pytest.approx(of_study.calign.values.tolist())
    assert call(monkeypatch, "calign", finished.file, *chosen, "--target", "de") == 2
    assert "name one --target" in capsys.readouterr().err
    assert call(monkeypatch, "calign", finished.file, "--source", "en", "--target", "en") == 2
    assert "name two stores of concepts in place of the study" in capsys.readouterr().err


def test_plan__says_that_links_select(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = linked(tmp_path, models)
    assert call(monkeypatch, "plan", study.file) == 0
    said = capsys.readouterr().out
    assert "planned, and held against the machine, when the words are linked" in said
    assert "activations" not in said
    assert call(monkeypatch, "plan", study.file, "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert [stage["stage"] for stage in planned["stages"]] == ["corpus", "links", "dictionary", "selection"]
    assert (planned["text"]["selected_tokens"], planned["vectors"], planned["clustering"]) == ({}, [], [])


def test_plan__of_what_is_selected_equals_what_is_stored(finished: SmallStudy) -> None:
    loaded, layout = files.load_study(str(finished.file))
    text = read_text(loaded, layout, read_records(layout.records))
    for lang, names in GROUPS.items():
        vectors = opened(finished, "activations", "tiny", "encoder", f"{lang}.zarr")
        assert text.selected_tokens[lang] == vectors.sizes["token"]
        assert text.selected_types[lang] == len(set(vectors.word.values.tolist()))
        for name in names:
            assert text.clustered_tokens[name] == opened(finished, "selections", f"{name}.zarr").sizes["token"]
    context = stages.context(loaded, layout, 1, 2**31)
    [stage] = [stage for stage in stages.stages(context, text, 2**31) if stage.name == "concepts"]
    assert {key.part[2] for key in stage.keys} == {"de@de-en", "en@de-en", "fr@fr-en", "en@fr-en", "de+en", "fr+en"}


def test_run__the_second_plan_is_held_against_the_machine_before_a_model_runs(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = linked(tmp_path, models)
    monkeypatch.setattr("jobs.vectors.perform_shards", lambda *_: pytest.fail("a model runs"))
    monkeypatch.setattr("jobs.sizes.weights", lambda *_: 2**50)
    assert grow(study, monkeypatch) == 2
    assert "stage activations: a worker needs about" in capsys.readouterr().err
    assert (study.directory / "records" / "selection.json").exists()


def test_run__again_does_nothing_and_goes_on_after_a_stop(
    tmp_path: Path, models: dict[str, str], finished: SmallStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = linked(tmp_path, models)
    for where in ("jobs.vectors.perform_shards", "engine.concepts.write_words"):
        with monkeypatch.context() as patched:
            patched.setattr(where, lambda *_: 1 / 0)
            assert_stops(study)
    assert grow(study, monkeypatch) == 0
    ours, theirs = (crash.content(root) for root in (study.directory, finished.directory))
    assert ours == theirs
    before = study.files()
    monkeypatch.setattr("jobs.tasks.perform", lambda *_: pytest.fail("everything is done already"))
    assert grow(study, monkeypatch) == 0
    assert study.files() == before


def test_run__rules_that_leave_nothing_can_be_changed(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = linked(tmp_path, models, min_count=99)
    assert grow(study, monkeypatch) == 2
    assert "selection.min_count 99 with selection.delete_above 10000000 and" in capsys.readouterr().err
    study.set("selection.min_count", 2)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.vectors.perform_shards", lambda *_: 1 / 0)
        assert_stops(study)
    study.set("selection.min_count", 3)  # nothing that is costly relies on it yet
    assert grow(study, monkeypatch) == 0
    study.set("selection.min_count", 2)
    assert grow(study, monkeypatch) == 2
    assert "Run with --grow to keep the vectors" in capsys.readouterr().err


@pytest.mark.slow
def test_verify__mends_what_is_selected(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = linked(tmp_path, models)
    assert grow(study, monkeypatch) == 0
    whole = crash.content(study.directory)
    [chunk] = (study.directory / "selections" / "en@de-en.zarr" / "row" / "c").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:-3])
    capsys.readouterr()
    assert call(monkeypatch, "verify", study.file, "--repair") == 1
    assert re.search(r"selection: .*/en@de-en.zarr/row/c/0 cannot be read", capsys.readouterr().out)
    assert grow(study, monkeypatch) == 0
    assert crash.content(study.directory) == whole


@pytest.mark.slow
@pytest.mark.parametrize("change", ["sentences", "language", "rule", "pair"])
def test_run__grown_equals_a_study_that_had_it_from_the_start(
    change: str, tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = linked(tmp_path, models, sampling="seeded", max_sentence_words=None)
    pairs = [["de", "en"]]
    if change == "pair":
        study.set("pairs", pairs)
    assert grow(study, monkeypatch) == 0
    before = crash.records(study.directory)
    if change == "sentences":
        more(study)
    elif change == "language":
        language(study)
    elif change == "rule":
        study.set("selection.max_count", 7)
    else:
        study.set("pairs", [["de", "en"], ["fr", "en"]])
    assert grow(study, monkeypatch) == 2
    assert grow(study, monkeypatch, "--grow") == 0
    computed = dict.fromkeys(("de", "en", "fr", "it"), 0)
    for task, outcome in outcomes(study.directory).items():
        computed[task.split("/")[3]] += outcome["computed"]
    after = crash.records(study.directory)
    if change in ("language", "pair"):  # a pair keeps its concepts, and a language of no other pair its vectors
        names = "concepts/tiny/encoder/en@de-en", "activations/tiny/encoder/de"
        kept = [name for name in before if name.startswith(names)]
        assert kept
        assert all(after[name] == before[name] for name in kept)
    assert_grown(study, fresh_twin(study, monkeypatch))
    assert_concepts_are_of_these_vectors(study, monkeypatch)


@pytest.mark.slow
def test_run__grown_from_counting_types(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(tmp_path, models)
    assert grow(study, monkeypatch) == 0
    study.set("selection", RULE)
    assert grow(study, monkeypatch) == 2
    assert grow(study, monkeypatch, "--grow") == 0
    twin = fresh_twin(study, monkeypatch)
    assert_grown(study, twin)
    study.set("selection", {"min_count": 2, "max_count": 4})
    assert grow(study, monkeypatch, "--grow") == 0
    assert not (study.directory / "records" / "selection.json").exists()
    assert call(monkeypatch, "verify", study.file) == 0
