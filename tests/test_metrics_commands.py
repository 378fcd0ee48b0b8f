"""`colign calign`, `colap` and `sweep` on a study and on files: equal to the study's own results, and bad input."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from engine import store
from schemas.concepts import CONCEPTS
from schemas.links import DICTIONARY
from tests.oracles.vectors import save_bert, save_mt5
from tests.small_concepts import concepts_dataset, dictionary_dataset
from tests.small_study import SmallStudy, Terminal, call

RULES = {"min_types": 1, "theta_align": 0.5, "max_size_gap": 0.9}


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of two checkpoints, two layers and two restarts that has run."""
    models = [save_bert(tmp_path_factory.mktemp(f"model{seed}"), positions=64) for seed in range(2)]
    study = SmallStudy(tmp_path_factory.mktemp("finished"), models[0])
    study.set("checkpoints", {"one": {"model": models[0]}, "two": {"model": models[1]}})
    study.set("activations.layers", [0, 2])
    study.set("concepts", {"k": 5, "max_iterations": 5, "restarts": 2})
    study.set("metrics", RULES)
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "run", study.file) == 0
    return study


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def colign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def results(study: SmallStudy, node: str) -> xr.Dataset:
    """A part of the results."""
    tree = xr.open_datatree(study.directory / "results.zarr", engine="zarr", consolidated=False, chunks=None)
    return tree[node].to_dataset()


def files_of(study: SmallStudy, *languages: str, checkpoint: str = "two") -> list[Path]:
    """Stores of concepts."""
    return [study.directory / "concepts" / checkpoint / "encoder" / f"{language}.zarr" for language in languages]


def options() -> list[str]:
    """The study's definitions for commands on files."""
    return [part for name, value in RULES.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.parametrize("checkpoint", ["one", "two"])
def test_calign__of_a_study_equals_its_results(finished: SmallStudy, colign: Terminal, checkpoint: str) -> None:
    found = colign.json("calign", finished.directory, "--source", "de", "--target", "en", "--checkpoint", checkpoint)
    expected = results(finished, "calign").sel(checkpoint=checkpoint, stack="encoder", source="de", target="en")
    assert [row["layer"] for row in found["layers"]] == [0, 2]
    for row in found["layers"]:
        here = expected.sel(layer=row["layer"])
        for name in here.data_vars:
            value = here[name].item()
            assert row[name] == (None if np.isnan(value) else value), name
        assert row["restart_low"] <= row["calign"] <= row["restart_high"]
        assert row["low"] is None


def test_calign__of_files_equals_that_of_the_study(finished: SmallStudy, colign: Terminal) -> None:
    dictionaries = [finished.directory / "dictionaries" / f"{pair}.zarr" for pair in ("de-en", "en-de")]
    inputs = *files_of(finished, "de", "en"), dictionaries[0], "--reverse", dictionaries[1], *options()
    of_study = colign.json("calign", finished.file, "--source", "de", "--target", "en")
    assert colign.json("calign", *inputs)["layers"] == of_study["layers"]


def test_calign__of_a_cluster_file_equals_that_of_the_store(
    finished: SmallStudy, colign: Terminal, tmp_path: Path
) -> None:
    sides = []
    for path in files_of(finished, "de", "en"):
        sides.append(tmp_path / path.stem / "clusters-5.txt")
        sides[-1].parent.mkdir()
        colign("export", path, "-o", sides[-1], "--layer", "2")
    dictionary = finished.directory / "dictionaries" / "de-en.zarr"
    of_store = colign.json("calign", *files_of(finished, "de", "en"), dictionary, "--layer", "2", *options())
    of_file = colign.json("calign", *sides, dictionary, "--layer", "2", *options())
    names = ("calign", "aligned_concepts", "matched_targets", "layer")
    assert [[row[name] for name in names] for row in of_file["layers"]] == [
        [row[name] for name in names] for row in of_store["layers"]
    ]


def test_calign__several_targets_are_some_concept_in_any_of_them(finished: SmallStudy, colign: Terminal) -> None:
    arguments = "calign", finished.directory, "--source", "en", "--layer", "2"
    found = colign.json(*arguments, "--target", "de", "--target", "fr")["layers"][0]
    expected = results(finished, "calign").sel(checkpoint="two", stack="encoder", source="en", target="de+fr", layer=2)
    assert found["calign"] == expected.calign.item()
    assert found["mutual_concepts"] == expected.mutual_concepts.item()
    alone = [colign.json(*arguments, "--target", one)["layers"][0]["calign"] for one in ("de", "fr")]
    assert max(alone) <= found["calign"] <= sum(alone)


def test_calign__layers_and_checkpoints_of_one_language(finished: SmallStudy, colign: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "matrix.zarr"
    out = colign("calign", finished.directory, "--source", "en", "--target", "en", "--layers", "all", "-o", path)
    assert "CALIGN, %: en, two, encoder (rows)" in out
    found = xr.open_zarr(path, consolidated=False, chunks=None)
    assert found.calign.dims == ("layer", "target_layer")
    # a concept is aligned to itself, and every concept of more than one type counts
    diagonal = np.diagonal(found.aligned_concepts.values)
    assert diagonal.tolist() == np.diagonal(found.considered_concepts.values).tolist()
    other = colign.json(
        "calign", finished.directory, "--source", "en", "--target", "en", "--target-checkpoint", "one", "--layer", "2"
    )
    assert other["target"] == "en, one, encoder"
    assert 0 <= other["layers"][0]["calign"] <= 1


def test_calign__draws_give_intervals_and_nulls(finished: SmallStudy, colign: Terminal, tmp_path: Path) -> None:
    arguments = "calign", finished.directory, "--source", "de", "--target", "en", "--draws", "9"
    found = colign.json(*arguments)
    for row in found["layers"]:
        assert 0 <= row["low"] <= row["calign"] <= row["high"] <= 1
        for null in ("types", "dictionary"):
            assert 0 <= row[f"null_{null}"] <= row[f"null_{null}_high"] <= 1
            assert 1 / 10 <= row[f"null_{null}_p"] <= 1
    assert colign.json(*arguments) == found
    assert "types dealt anew" in colign(*arguments, "-o", tmp_path / "x.zarr")
    stored = xr.open_zarr(tmp_path / "x.zarr", consolidated=False, chunks=None)
    assert stored.low.sel(layer=2, target_layer=2) == found["layers"][1]["low"]
    assert np.isnan(stored.low.sel(layer=0, target_layer=2))


def test_calign__nulls_lose_what_meaning_brings(colign: Terminal, tmp_path: Path) -> None:
    # 30 concepts of 8 words, each the translation of one other: all aligned, and none by chance
    words = [[f"{side}{i}" for i in range(240)] for side in "st"]
    labels = (np.arange(240) // 8)[None].astype(np.int32)
    for side, of_side in zip("st", words, strict=True):
        store.save(str(tmp_path / f"{side}.zarr"), CONCEPTS, concepts_dataset(labels, of_side, 30, languages=[side]))
    pairs = dictionary_dataset([(s, t, 1.0, 1) for s, t in zip(*words, strict=True)])
    store.save(str(tmp_path / "d.zarr"), DICTIONARY, pairs)
    inputs = [tmp_path / f"{name}.zarr" for name in "std"]
    row = colign.json("calign", *inputs, "--draws", "30")["layers"][0]
    assert (row["calign"], row["null_types"], row["null_dictionary"]) == (1.0, 0.0, 0.0)
    assert row["null_types_p"] == 1 / 31


def test_calign__pairs_with_their_words(finished: SmallStudy, colign: Terminal) -> None:
    arguments = "calign", finished.directory, "--source", "de", "--target", "en", "--pairs", "3"
    found = colign.json(*arguments)
    aligned = sum(min(row["aligned_concepts"], 3) for row in found["layers"])
    assert len(found["pairs"]) == aligned > 0
    assert all(len(pair["source_words"]) == pair["source_types"] for pair in found["pairs"])
    assert "translations" in colign(*arguments)


def test_colap__of_a_study_equals_its_results(finished: SmallStudy, colign: Terminal, tmp_path: Path) -> None:
    found = colign.json("colap", finished.directory, "-o", tmp_path / "colap.zarr", "--top", "1")
    expected = results(finished, "colap")
    for row in found["layers"]:
        *_, checkpoint, stack, name = row["store"].split("/")
        here = expected.sel(
            checkpoint=checkpoint, stack=stack, language_set=name.removesuffix(".zarr"), layer=row["layer"]
        )
        assert (row["colap"], row["concepts"]) == (here.colap.item(), here.concepts.item())
    assert len(found["layers"]) == 2 * 2 * 2
    stored = xr.open_zarr(tmp_path / "colap.zarr", consolidated=False, chunks=None)
    assert stored.colap.notnull().all()
    assert all(set(one["words"]) == {*Path(one["store"]).stem.split("+")} for one in found["concepts"])


def test_colap__of_a_cluster_file_whose_languages_follow_one_another(
    finished: SmallStudy, colign: Terminal, tmp_path: Path
) -> None:
    lines = []
    expected = [0, 0]  # overlapping, concepts
    counts = {0: (3, 7), 1: (2, 8), 2: (5, 0), 3: (6, 4)}
    for concept, of_language in counts.items():
        for language, count in enumerate(of_language):
            lines += [f"w{concept}{language}|||{i}|||{100 * language + i}|||0|||{concept}" for i in range(count)]
        expected[0] += min(of_language) >= 0.3 * sum(of_language)
        expected[1] += 1
    path = tmp_path / "clusters-4.txt"
    path.write_text("\n".join(lines) + "\n")
    row = colign.json("colap", path, "--starts", "de=0", "--starts", "en=100")["layers"][0]
    assert [row["overlapping_concepts"], row["concepts"]] == expected
    strict = colign.json("colap", path, "--starts", "de=0", "--starts", "en=100", "--preset", "reference")["layers"][0]
    assert strict["overlapping_concepts"] == expected[0] - 1  # 3 of 10 are not more than 30 %
    drawn = colign.json("colap", path, "--starts", "de=0", "--starts", "en=100", "--draws", "9")["layers"][0]
    assert drawn["low"] <= drawn["colap"] <= drawn["high"]
    assert 0.1 <= drawn["null_languages_p"] <= 1


def test_sweep__of_a_study_equals_its_results(finished: SmallStudy, colign: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "sweep.zarr"
    colign("sweep", finished.directory, "--by", "theta_align=0.5:1:0.05", "--by", "n_best=1,10", "-o", path)
    found = xr.open_zarr(path, consolidated=False, chunks=None)
    assert found.calign.dims == ("checkpoint", "stack", "layer", "source", "target", "theta_align", "n_best")
    expected = results(finished, "sweeps/calign_by_theta_align")
    np.testing.assert_array_equal(found.calign.sel(n_best=10), expected.calign)
    by_n = results(finished, "sweeps/calign_by_n_best")
    np.testing.assert_array_equal(found.calign.sel(theta_align=0.5, n_best=1), by_n.calign.sel(n_best=1))
    colign("sweep", finished.directory, "--by", "theta_overlap=0.05:0.5:0.05", "-o", path)
    found = xr.open_zarr(path, consolidated=False, chunks=None)
    np.testing.assert_array_equal(found.colap, results(finished, "sweeps/colap_by_theta_overlap").colap)


@pytest.mark.parametrize(
    "command",
    [
        ("calign", "--source", "de", "--target", "en"),
        ("colap",),
        ("sweep", "--by", "theta_align=0.5,0.8"),
    ],
)
def test_out__of_another_kind_is_refused_before_anything_is_computed(
    finished: SmallStudy, colign: Terminal, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *options = command
    colign(name, finished.directory, *options, "-o", tmp_path / "own.zarr")
    colign(name, finished.directory, *options, "-o", tmp_path / "own.zarr")  # as it was, so it may be replaced
    before = finished.files()
    monkeypatch.setattr("jobs.files.load_study", None)
    for taken in ("results.zarr", "dictionaries/de-en.zarr", "study.yaml", "concepts"):
        path = finished.directory / taken
        assert f"{path}: expected nothing there, or a " in colign(
            name, finished.directory, *options, "-o", path, code=2
        )
    assert finished.files() == before


def test_sweep__of_files_over_numbers_of_concepts(finished: SmallStudy, colign: Terminal, tmp_path: Path) -> None:
    made = []
    for language in ("de", "en"):
        vectors = finished.directory / "activations" / "two" / "encoder" / f"{language}.zarr"
        made.append(tmp_path / f"{language}.zarr")
        colign("cluster", vectors, "-o", made[-1], "--k", 3, "--k", 5)
    dictionary = finished.directory / "dictionaries" / "de-en.zarr"
    arguments = "sweep", *made, dictionary, "--by", "k=3,5", "--by", "min_types=0:2:1", *options()[2:]
    found = colign.json(*arguments)
    assert found["dims"] == ["k", "layer", "min_types"]
    for at, k in enumerate((3, 5)):
        alone = colign.json("calign", *made, dictionary, "--k", k, *options())["layers"]
        assert [row["calign"] for row in alone] == [row[1] for row in found["calign"][at]]
    assert "CALIGN, %, by min_types" in colign(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calign", "STUDY"], "name languages of the study with --source and --target"),
        (["calign", "STUDY", "--source", "xx", "--target", "en"], "no language 'xx'; it has en, de, fr"),
        (["calign", "STUDY", "--source", "de", "--target", "fr"], "no pair 'de-fr'; it has"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--layer", "7"], "has no layer 7; it has 0, 2"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--stack", "decoder"], "no stack 'decoder'"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--checkpoint", "x"], "no checkpoint 'x'"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--set", "teta=1"], "teta: unknown key"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--set", "min_types"], "expected KEY=VALUE"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--set", "min_types=["], "is not a value"),
        (["calign", "STUDY", "--source", "de", "--target", "en", "--theta", "2"], "theta_align"),
        (["calign", "DE", "EN"], "expected STUDY, or SOURCE TARGET DICT, found 2 inputs"),
        (["calign", "DE"], "not a study"),
        (["calign", "DE", "EN", "DE-EN", "--source", "de"], "--source: go with a study"),
        (["calign", "DE", "EN", "EN-DE"], "the other way round"),
        (["calign", "DE", "EN", "DE"], "expected a dictionary, found concepts"),
        (["calign", "DE", "DE-EN", "DE-EN"], "expected a store of concepts or a file of clusters, found dictionary"),
        (["calign", "DE", "gone.zarr", "DE-EN"], "gone.zarr: expected a store of concepts"),
        (["calign", "DE", "EN", "DE-EN", "--k", "7"], "has no run of 7 concepts; it has 5"),
        (["calign", "DE", "OTHER", "DE-EN"], "has 5 concepts and"),
        (["colap", "DE"], "has words of one language (de)"),
        (["colap", "DE+EN", "--layer", "1"], "has no layer 1"),
        (["colap", "DE+EN", "--starts", "de"], "expected LANGUAGE=SENTENCE"),
        (["colap", "DE+EN", "--starts", "de=5", "--starts", "en=9"], "comes before the first of --starts"),
        (["colap", "DE+EN", "--starts", "de=5", "--starts", "en=1"], "by increasing first sentence"),
        (["sweep", "STUDY", "--by", "theta=1"], "expected KEY=GRID with a key among"),
        (["sweep", "STUDY", "--by", "theta_align=a:b:c"], "expected START:STOP:STEP"),
        (["sweep", "STUDY", "--by", "theta_align=0:1:0"], "expected START:STOP:STEP"),
        (["sweep", "STUDY", "--by", "theta_align=0.5:2:0.5"], "theta_align"),
        (["sweep", "STUDY", "--by", "n_best=0.5"], "n_best is a whole number"),
        (["sweep", "STUDY", "--by", "n_best=30"], "n_best is 30, and translations were counted up to 20"),
        (["sweep", "STUDY", "--by", "n_best=1", "--by", "n_best=2"], "n_best is given twice"),
        (["sweep", "STUDY", "--by", "n_best=1", "--by", "theta_overlap=0.1"], "sweep them one by one"),
        (["sweep", "STUDY", "--by", "k=3,7"], "the study has no k = 3; it has 5"),
        (["sweep", "DE", "EN", "--by", "n_best=1"], "CALIGN needs STUDY, or SOURCE TARGET DICT; found 2 inputs"),
        (["sweep", "STUDY", "--by", "n_best=1", "--set", "max_sources=3"], "settled when a study counts"),
    ],
)
def test_bad_input__is_explained(
    finished: SmallStudy, colign: Terminal, tmp_path: Path, arguments: list[str], message: str
) -> None:
    de, en, mixed = files_of(finished, "de", "en", "de+en")
    other = tmp_path / "other.zarr"
    if "OTHER" in arguments:
        words = store.load(str(en), CONCEPTS).word.values.tolist()
        one = concepts_dataset(np.zeros((1, len(words)), np.int32), words, 4, languages=["en"])
        store.save(str(other), CONCEPTS, one.assign_coords(layer=np.array([2], np.int32)))
    folder = finished.directory / "dictionaries"
    names = {
        "STUDY": finished.directory, "DE": de, "EN": en, "DE+EN": mixed, "OTHER": other,
        "DE-EN": folder / "de-en.zarr", "EN-DE": folder / "en-de.zarr",
    }  # fmt: skip
    assert message in colign(*(names.get(part, part) for part in arguments), code=2)


def test_calign__between_the_stacks_of_a_model(tmp_path: Path, colign: Terminal) -> None:
    study = SmallStudy(tmp_path, save_mt5(tmp_path / "model"))
    study.set("activations", {"stacks": ["encoder", "decoder"], "layers": [1]})
    study.set("metrics", RULES)
    study.set("uncertainty.draws", 3)
    assert "encoder-decoder" in colign("run", study.file)
    drawn = results(study, "uncertainty/calign").sel(checkpoint="tiny", source="de", target="en")
    expected = results(study, "calign").sel(checkpoint="tiny", source="de", target="en")
    arguments = "calign", study.directory, "--source", "de", "--target", "en"
    for one, other in (("encoder", "decoder"), ("decoder", "encoder"), ("decoder", "decoder")):
        found = colign.json(*arguments, "--stack", one, "--target-stack", other, "--draws", 3)["layers"]
        here = expected.sel(stack=one if one == other else f"{one}-{other}")
        assert [row["calign"] for row in found] == here.calign.values.tolist()
        assert [row["mutual_calign"] for row in found] == here.mutual_calign.values.tolist()
        null = drawn.null_types.sel(stack=here["stack"].item())
        assert [row["null_types"] for row in found] == null.values.tolist()
    cross = results(study, "cross").sel(language_set="de+en", source="de", target="en", stack="encoder")
    colap = results(study, "colap").sel(language_set="de+en", stack="encoder")
    np.testing.assert_array_equal(cross.both + cross.overlapping_only, colap.overlapping_concepts)
    np.testing.assert_array_equal(cross.concepts, colap.concepts)
