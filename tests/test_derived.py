"""Results beside the scores: several numbers of concepts, intervals and nulls; equal to the commands' own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from schemas.results import COLAP_NULLS, NULLS, uncertain
from tests import crash
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, Terminal, call

KS = (3, 5)
DRAWS = 7


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of two numbers of concepts with two restarts each that has run with draws."""
    study = SmallStudy(tmp_path_factory.mktemp("derived"), save_bert(tmp_path_factory.mktemp("model"), positions=64))
    study.set("activations.layers", [0, 2])
    study.set("concepts", {"k": list(KS), "max_iterations": 5, "restarts": 2})
    study.set("metrics", {"min_types": 1, "theta_align": 0.5, "max_size_gap": 0.9})
    study.set("uncertainty", {"draws": DRAWS, "seed": 3})
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "run", study.file) == 0
    return study


@pytest.fixture
def colign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    return Terminal(monkeypatch, capsys)


@pytest.fixture(scope="module")
def results(finished: SmallStudy) -> xr.DataTree:
    return xr.open_datatree(finished.directory / "results.zarr", engine="zarr", consolidated=False, chunks=None).load()


def test_results__scores_of_the_first_number_of_concepts_are_those_of_the_study(results: xr.DataTree) -> None:
    for metric in ("calign", "colap"):
        by_k = results[f"sweeps/{metric}_by_k"].to_dataset()
        assert by_k.k.values.tolist() == list(KS)
        for name, values in results[metric].to_dataset().items():
            np.testing.assert_array_equal(by_k[name].sel(k=KS[0]), values)
        assert by_k.concepts.max("layer").sel(k=5).max() == 5
    assert results["cross"].to_dataset().concepts.max() == KS[0]


@pytest.mark.parametrize("k", KS)
def test_results__scores_of_a_number_of_concepts_are_those_of_its_store(
    k: int, finished: SmallStudy, results: xr.DataTree, colign: Terminal
) -> None:
    by_k = results["sweeps/calign_by_k"].to_dataset().sel(k=k, checkpoint="tiny", stack="encoder")
    for source, targets in (("de", ["en"]), ("en", ["de", "fr"])):
        named = [part for target in targets for part in ("--target", target)]
        found = colign.json("calign", finished.directory, "--source", source, *named, "--k", k)
        for row in found["layers"]:
            here = by_k.sel(source=source, target="+".join(targets), layer=row["layer"])
            assert {name: row[name] for name in here.data_vars} == {
                name: pytest.approx(value.item(), nan_ok=True) for name, value in here.data_vars.items()
            }
    mixed = colign.json("colap", finished.directory, "--k", k)["layers"]
    over = results["sweeps/colap_by_k"].to_dataset().sel(k=k, checkpoint="tiny", stack="encoder")
    found_in = {(Path(row["store"]).stem, row["layer"]): row["colap"] for row in mixed}
    assert found_in == {
        (name, layer): over.colap.sel(language_set=name, layer=layer).item()
        for name in over.language_set.values.tolist()
        for layer in (0, 2)
    }


def test_sweep__over_numbers_of_concepts_from_stored_counts(
    finished: SmallStudy, results: xr.DataTree, colign: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.aligned.counted", lambda *_: pytest.fail("all is counted already"))
    found = colign.json("sweep", finished.directory, "--by", "theta_align=0.5,0.8", "--by", "k=3,5")
    assert found["dims"] == ["checkpoint", "stack", "layer", "source", "target", "k", "theta_align"]
    by_k = results["sweeps/calign_by_k"].to_dataset().calign.sel(k=[3, 5])
    values = np.array(found["calign"], float)[..., 0]
    np.testing.assert_array_equal(values, by_k.values)
    assert "--by k: the study has no k = 4; it has 3, 5; add numbers to concepts.k" in colign(
        "sweep", finished.directory, "--by", "k=3,4", code=2
    )
    assert "has no run of 4 concepts; it has 3, 5" in colign(
        "calign", finished.directory, "--source", "de", "--target", "en", "--k", 4, code=2
    )


def test_uncertainty__is_that_of_the_commands(finished: SmallStudy, results: xr.DataTree, colign: Terminal) -> None:
    drawn = "--draws", DRAWS, "--seed", 3
    of_pairs = results["uncertainty/calign"].to_dataset().sel(checkpoint="tiny", stack="encoder")
    scores = results["calign"].to_dataset().calign.sel(checkpoint="tiny", stack="encoder")
    for source, targets in (("fr", ["en"]), ("en", ["de", "fr"])):
        named = [part for target in targets for part in ("--target", target)]
        for row in colign.json("calign", finished.directory, "--source", source, *named, *drawn)["layers"]:
            where = {"source": source, "target": "+".join(targets), "layer": row["layer"]}
            here = of_pairs.sel(where)
            assert {name: here[name].item() for name in uncertain(NULLS)} == {n: row[n] for n in uncertain(NULLS)}
            assert here.low <= scores.sel(where) <= here.high
            assert here.restart_low <= scores.sel(where) <= here.restart_high
    of_sets = results["uncertainty/colap"].to_dataset().sel(checkpoint="tiny", stack="encoder")
    for row in colign.json("colap", finished.directory, *drawn)["layers"]:
        here = of_sets.sel(language_set=Path(row["store"]).stem, layer=row["layer"])
        names = uncertain(COLAP_NULLS)
        assert {name: here[name].item() for name in names} == {name: row[name] for name in names}
    assert np.array_equal(of_pairs.low.notnull(), scores.notnull())


@pytest.mark.parametrize(("dim", "value"), [("theta_align", 0.8), ("min_types", 2), ("n_best", 3)])
def test_uncertainty__along_a_threshold_is_that_of_the_command_at_each(
    finished: SmallStudy, results: xr.DataTree, colign: Terminal, dim: str, value: float
) -> None:
    there = results[f"uncertainty/calign_by_{dim}"].to_dataset().sel(checkpoint="tiny", stack="encoder")
    names = ["low", "high", *(f"null_{null}{end}" for null in NULLS for end in ("", "_high"))]
    assert {*there.data_vars} == {*names}
    given = "--source", "fr", "--target", "en", "--draws", DRAWS, "--seed", 3, "--set", f"{dim}={value}"
    for row in colign.json("calign", finished.directory, *given)["layers"]:
        here = there.sel({"source": "fr", "target": "en", "layer": row["layer"], dim: value})
        assert {name: here[name].item() for name in names} == {name: row[name] for name in names}
    scores = results[f"sweeps/calign_by_{dim}"].to_dataset().calign.sel(checkpoint="tiny", stack="encoder")
    drawn = scores.notnull()
    assert (there.low <= scores).where(drawn, True).all()
    assert (scores <= there.high).where(drawn, True).all()
    assert np.array_equal(there.low.notnull(), drawn)


def test_uncertainty__of_colap_along_its_threshold(
    finished: SmallStudy, results: xr.DataTree, colign: Terminal
) -> None:
    there = results["uncertainty/colap_by_theta_overlap"].to_dataset().sel(checkpoint="tiny", stack="encoder")
    names = [*there.data_vars]
    assert {*names} == {"low", "high", "null_languages", "null_languages_high"}
    for row in colign.json("colap", finished.directory, "--draws", DRAWS, "--seed", 3, "--theta", 0.2)["layers"]:
        here = there.sel(language_set=Path(row["store"]).stem, layer=row["layer"], theta_overlap=0.2)
        assert {name: here[name].item() for name in names} == {name: row[name] for name in names}


def test_uncertainty__a_threshold_draws_again_and_counts_nothing(
    finished: SmallStudy, results: xr.DataTree, colign: Terminal
) -> None:
    before = crash.records(finished.directory)
    planned = {row["stage"]: row["tasks"] for row in colign.json("plan", finished.file)["stages"]}
    directions, towards_both, sets = 4, 1, 2
    assert planned["uncertainty"] == directions + towards_both + sets
    finished.set("metrics.theta_align", 0.9)  # of which no set knows
    try:
        colign("run", finished.file)
        after = crash.records(finished.directory)
        again = [name.split("/") for name in after if after[name] != before[name]]
        assert {stage for stage, *_ in again} == {"uncertainty"}
        assert (len(again), after.keys()) == (directions + towards_both, before.keys())
        colign("verify", finished.file)
    finally:
        finished.set("metrics.theta_align", 0.5)
        colign("run", finished.file)
    found = xr.open_datatree(finished.directory / "results.zarr", engine="zarr", consolidated=False, chunks=None)
    xr.testing.assert_identical(found["uncertainty/calign"].to_dataset(), results["uncertainty/calign"].to_dataset())


@pytest.mark.parametrize(
    ("k", "message"),
    [([3, 3], "names a number twice; name each once"), ([], "at least 1 item"), (1, "greater than or equal to 2")],
)
def test_numbers_of_concepts__bad_ones_are_explained(
    k: object, message: str, tmp_path: Path, bert: str, colign: Terminal
) -> None:
    study = SmallStudy(tmp_path / "study", bert)
    study.set("concepts.k", k)
    assert message in colign("plan", study.file, code=2)
