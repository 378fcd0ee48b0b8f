"""Growth: a study that took up more text, languages, layers or words equals one that had them from the start."""

from pathlib import Path

import pytest

from tests import crash
from tests.growing import (
    GROWTHS,
    Vectors,
    assert_concepts_are_of_these_vectors,
    assert_grown,
    fresh_twin,
    grow,
    more,
    outcomes,
    small,
)
from tests.oracles.vectors import save_bert, save_mt5
from tests.small_study import call


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


@pytest.mark.parametrize(
    "name", [name if name == "all at once" else pytest.param(name, marks=pytest.mark.slow) for name in GROWTHS]
)
def test_run__grown_equals_a_study_that_had_it_from_the_start(
    name: str,
    tmp_path: Path,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = small(tmp_path, models)
    assert grow(study, monkeypatch) == 0
    known = {lang: Vectors.of(study.directory, lang).by_place() for lang in study.values["corpus"]["files"]}
    GROWTHS[name](study)
    before = study.files()
    assert grow(study, monkeypatch) == 2
    assert "--grow" in capsys.readouterr().err
    assert study.files() == before
    assert grow(study, monkeypatch, "--grow") == 0, capsys.readouterr().err
    assert_grown(study, fresh_twin(study, monkeypatch))
    computed = dict.fromkeys(study.values["corpus"]["files"], 0)
    for task, outcome in outcomes(study.directory).items():
        computed[task.split("/")[3]] += outcome["computed"]
    for lang in study.values["corpus"]["files"]:
        now, old = Vectors.of(study.directory, lang).by_place(), known.get(lang, {})
        taken = now.keys() & old.keys()
        wrong = [place for place in taken for layer in now[place].keys() & old[place].keys()
                 if now[place][layer] != old[place][layer]]  # fmt: skip
        assert wrong == []
        layers_known = not old or set(next(iter(now.values()))) <= set(next(iter(old.values())))
        if name.startswith("language") and old:  # its shards are not touched at all
            continue
        assert computed[lang] == (len(now) - len(taken) if layers_known else len(now)), lang
    assert_concepts_are_of_these_vectors(study, monkeypatch)
    assert call(monkeypatch, "verify", study.file, "--json") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sentences", "language"])
@pytest.mark.parametrize(
    "selection",
    [
        {"min_count": 2, "max_count": 4, "sampling": "first"},
        {"min_count": 2, "max_count": 5, "delete_above": 12, "max_sentence_words": 5},
    ],
)
def test_run__grown_by_other_rules_of_selection(
    name: str,
    selection: dict[str, int | str],
    tmp_path: Path,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = small(tmp_path, models)
    study.set("selection", selection)
    assert grow(study, monkeypatch) == 0
    GROWTHS[name](study)
    if name == "language":  # some of its sentences are too long, so those of the others are left out
        path = study.text("it")
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line + " e molto altro" * (i % 3 == 0) for i, line in enumerate(lines)) + "\n")
    assert grow(study, monkeypatch, "--grow") == 0
    assert_grown(study, fresh_twin(study, monkeypatch))
    assert_concepts_are_of_these_vectors(study, monkeypatch)


@pytest.mark.slow
def test_run__another_stack_needs_no_growing(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another checkpoint; what is done stays, and also when the stack is named no longer."""
    study = small(tmp_path, models, "mt5")
    assert grow(study, monkeypatch) == 0
    before = crash.records(study.directory)
    study.set("activations.stacks", ["encoder", "decoder"])
    assert grow(study, monkeypatch) == 0
    assert before.items() <= crash.records(study.directory).items()
    assert_grown(study, fresh_twin(study, monkeypatch), "decoder")
    study.set("activations.stacks", ["encoder"])
    everything = crash.records(study.directory)
    assert grow(study, monkeypatch) == 0
    assert grow(study, monkeypatch, "--grow") == 0
    assert crash.records(study.directory) == everything


@pytest.mark.slow
def test_run__grown_decoder_with_a_source(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small(tmp_path, models, "mt5")
    study.set("activations.stacks", ["decoder"])
    assert grow(study, monkeypatch) == 0
    more(study)
    assert grow(study, monkeypatch) == 2
    assert grow(study, monkeypatch, "--grow") == 0
    assert_grown(study, fresh_twin(study, monkeypatch), "decoder")
    assert (
        0
        < sum(outcome["computed"] for outcome in outcomes(study.directory).values())
        < sum(outcome["tokens"] for outcome in outcomes(study.directory).values())
    )
    study.set("activations.decoder_source", {"de": "fr"})  # other vectors of German
    before = study.files()
    capsys.readouterr()
    assert grow(study, monkeypatch, "--grow") == 2
    assert "settings that change every vector" in capsys.readouterr().err
    assert study.files() == before
