"""The report of a study: its tables, figures and claims."""

import csv
import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.image import imread

from engine import results, store
from engine.properties import forms_shared
from jobs import label_files, overview
from jobs.clouds import Cloud, cloud_figure, without_font
from jobs.figures import COLOURS
from jobs.files import load_study
from jobs.panels import NUMBERS, properties_figure, sweep_figure, uncertainty_figure
from jobs.report import figures
from jobs.show import aligned_pairs
from jobs.tables import score_tables
from schemas.results import PROPERTIES_OF_PART
from tests import small_tasks
from tests.small_study import SmallStudy, Terminal, call


@pytest.fixture(scope="module")
def reported(bert: str, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study with everything that a report may show, run to its end."""
    folder = tmp_path_factory.mktemp("report")
    study = SmallStudy(folder / "s", bert)
    tags = folder / "en.tags"
    tags.write_text("".join(" ".join("DET" if w in ("the", "a") else "X" for w in line.split()) + "\n"
                            for line in study.text("en").read_text().splitlines()))  # fmt: skip
    study.set("downstream", {"ner": small_tasks.tagging(folder / "data", count=16)})
    study.set(
        "checkpoints",
        {
            "base": {"model": bert},
            "ner": {"model": bert, "tuned_for": "ner", "tuned_on": ["de", "en"]},
            "other": {"model": bert, "tuned_on": ["fr", "en"]},
        },
    )
    study.set("properties", {"tags": {"pos": {"en": str(tags)}}})
    study.set("uncertainty", {"draws": 2})
    study.set("activations.layers", [0, 2])
    study.set("concepts.k", [3, 4])
    study.set("metrics", {"min_types": 0, "theta_align": 0.2, "max_size_gap": 1.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        assert call(patch, "run", study.file) == 0
        clouds = "--cloud", "base/encoder/en/2/0", "--cloud", "base/encoder/de/2/1=base/encoder/en/2/0"
        assert call(patch, "report", study.file, *clouds) == 0
    return study


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wide: None) -> Terminal:
    return Terminal(monkeypatch, capsys)


def test_report__writes_all_that_the_study_allows(reported: SmallStudy) -> None:
    folder = reported.directory / "report"
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    drawn = "calign", "colap", "calign-ner", "sweeps-de-en", "calign-uncertainty", "colap-uncertainty", "properties-ner"
    clouds = "cloud-base-encoder-en-2-0", "cloud-base-encoder-de-2-1=base-encoder-en-2-0"
    for figure in ("overview", *drawn, "k-de-en", *clouds):
        assert {f"{figure}.pdf", f"{figure}.png"} <= names
    for table in ("scores-ner", "data-ner", "text", "calign", "calign-by-k", "colap", "colap-by-k", "cross", "budget"):
        assert {f"{table}.md", f"{table}.csv", f"{table}.tex"} <= names
    assert any(name.startswith("clouds-aligned-de-en-") for name in names)
    assert any(name.startswith("clouds-overlapping-") for name in names)
    tree = results.load(str(reported.directory / "results.zarr"))
    shares = tree["colap"].to_dataset().colap.sel(stack="encoder", layer=2)
    for group, checkpoint in (("de+en", "ner"), ("fr+en", "other")):
        overlapping = float(shares.sel(language_set=group, checkpoint=checkpoint)) > 0
        assert (f"clouds-overlapping-{group}.png" in names) == overlapping
    page = (folder / "report.md").read_text()
    assert page.count("![") * 2 == sum(name.endswith((".png", ".pdf")) for name in names)
    assert page.count("**agrees**") + page.count("**does not agree**") + page.count("**cannot be told**") == 12
    for path in files:
        assert path.stat().st_size > 0
        if path.suffix == ".png":
            assert imread(path).std() > 0.01  # something is drawn


def test_sweeps__show_intervals_and_nulls_at_every_threshold(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    tree = results.load(layout.results)
    figure = sweep_figure(tree, study, "base", "encoder", ("de", "en"))
    drawn = (
        tree["uncertainty/calign_by_theta_align"]
        .to_dataset()
        .sel(checkpoint="base", stack="encoder", source="de", target="en")
    )
    for axes in figure.axes:
        assert len(axes.collections) == 2
    band, null = (one.get_paths()[0].vertices[:, 1] for one in figure.axes[1].collections)
    assert {*band.round(9)} == {*(100 * drawn[["low", "high"]].sel(layer=2).to_array()).values.ravel().round(9)}
    assert null.max() == 100 * drawn.null_types_high.sel(layer=2).max()
    page = (reported.directory / "report" / "report.md").read_text()
    assert "(Figure 30); band: 95 % interval of the highest layer, 2; grey: what its null reaches\n" in page


def test_sweeps__show_the_null_of_the_layer_of_the_interval(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    tree = results.load(layout.results)
    for measure, null in (("calign", "null_types_high"), ("colap", "null_languages_high")):
        for name in [name for name in tree["uncertainty"].children if name.startswith(f"{measure}_by_")]:
            drawn = tree[f"uncertainty/{name}"].to_dataset()
            drawn[null] = (drawn[null] * 0 + 0.125).where(drawn.layer == 2, 0.875)
            tree[f"uncertainty/{name}"] = xr.DataTree(drawn)
    for axes in sweep_figure(tree, study, "base", "encoder", ("de", "en")).axes:
        _, null = (one.get_paths()[0].vertices[:, 1] for one in axes.collections)
        assert null.max() == 12.5
    # of a checkpoint whose highest layer is lower
    tree["calign"] = xr.DataTree(tree["calign"].to_dataset().where(lambda found: found.layer == 0))
    figure = sweep_figure(tree, study, "base", "encoder", ("de", "en"))
    assert "band: 95 % interval of layer 0, grey: what its null reaches" in figure.legends[0].get_title().get_text()
    for axes in figure.axes:
        _, null = (one.get_paths()[0].vertices[:, 1] for one in axes.collections)
        assert null.max() == 87.5


def test_sweeps__show_numbers_of_concepts(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    tree = results.load(layout.results)
    figure = sweep_figure(tree, study, "base", "encoder", ("de", "en"), NUMBERS)
    of = {"checkpoint": "base", "stack": "encoder", "layer": 2}
    expected = (
        tree["sweeps/calign_by_k"].to_dataset().calign.sel(of | {"source": "de", "target": "en"}),
        tree["sweeps/colap_by_k"].to_dataset().colap.sel(of | {"language_set": "de+en"}),
    )
    for axes, scores in zip(figure.axes, expected, strict=True):
        [line] = (line for line in axes.lines if line.get_label() == "2")
        assert [*line.get_xdata()] == [3, 4]
        np.testing.assert_allclose(line.get_ydata(), 100 * scores.values)


def test_properties__show_counts_by_layer(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    tree = results.load(layout.results)
    figure = properties_figure(tree, study, "ner", "encoder")
    found = tree["properties"].to_dataset().concepts.sel(rule="conceptx", stack="encoder", checkpoint="ner")
    selections = found.selection.values.tolist()
    for axes, selection in zip(figure.axes, selections, strict=False):
        assert axes.get_title() == selection
        for line in axes.lines:
            of = found.sel(selection=selection, property=str(line.get_label()))
            np.testing.assert_array_equal(line.get_ydata(), of.values)
    assert [line.get_label() for line in figure.axes[0].lines] == ["suffix", "prefix", "ngram", "casing", "pos"]
    marks = [line.get_marker() for line in figure.axes[0].lines]
    assert len({*marks}) == len(marks)  # told apart without colour
    assert figure.get_figwidth() <= 6.9


def test_properties__show_each_kind_of_tag(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    tree = results.load(layout.results)
    found = tree["properties"].to_dataset()
    kinds = [f"kind{number}" for number in range(6)]
    added = [found.sel(property=["pos"]).assign_coords(property=[kind]) * 0 + at for at, kind in enumerate(kinds)]
    tree["properties"] = xr.DataTree(xr.concat([found, *added], "property"))
    axes = properties_figure(tree, study, "ner", "encoder").axes[0]
    assert axes.get_title() == "en"
    lines = {str(line.get_label()): line for line in axes.lines}
    assert [*lines] == ["suffix", "prefix", "ngram", "casing", "pos", *kinds]
    for at, kind in enumerate(kinds):
        assert {*lines[kind].get_ydata()} == {at}
    assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == len(lines)


def test_overview__shows_a_concept_of_most_languages(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    scores = results.load(layout.results)["calign"].to_dataset().calign.sel(checkpoint="ner", stack="encoder")
    layer, clouds = overview.shared_concept(scores, study, layout, "ner", "encoder")
    assert layer == max((float(scores.sel(source="en", target=["de", "fr"], layer=at).sum()), at) for at in (0, 2))[1]
    pairs = {target: aligned_pairs(study, layout, "ner", "encoder", layer, "en", target, 99) for target in ("de", "fr")}
    words: dict[int, dict[str, list[str]]] = {}
    for target, found in pairs.items():
        for pair in found:
            words.setdefault(pair.source_concept, {"en": pair.source_words})[target] = pair.target_words
    drawn = {next(iter(cloud.languages.values())): [*cloud.words] for cloud in clouds}
    assert drawn in words.values()
    assert len(drawn) == max(map(len, words.values())) > 1
    assert next(iter(drawn)) == "en"


def test_overview__rings_what_overlaps(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    drawn = overview.space(study, layout, "base", "encoder", "de+en", 2)
    scores = results.load(layout.results)["colap"].to_dataset()
    share = float(scores.colap.sel(checkpoint="base", stack="encoder", language_set="de+en", layer=2))
    assert drawn.title == f"base, layer 2: {share:.0%} overlap"
    assert drawn.overlapping.sum() == share * len(drawn.overlapping)
    drawn = replace(drawn, overlapping=np.array([True, False, True]))
    [axes] = overview.drawn([], [drawn]).axes
    [dots] = axes.collections
    order = np.argsort(-drawn.tokens.sum(axis=1), kind="stable")
    assert np.isfinite(drawn.places).all()
    np.testing.assert_array_equal(dots.get_offsets(), drawn.places[order])
    ringed = dots.get_edgecolors()[:, 3] > 0
    assert ringed.tolist() == drawn.overlapping[order].tolist()


def test_figures_of_a_pair__are_of_what_was_tuned_on_it(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    drawn = {name: (caption, draw) for name, caption, draw in figures(results.load(layout.results), study, layout)}
    kinds = "sweeps", "k", "clouds-aligned", "clouds-overlapping"
    for group, state in (("de-en", "ner (fine-tuned)"), ("fr-en", "other (fine-tuned)")):
        captions = {
            name: caption
            for name, (caption, _) in drawn.items()
            if name.startswith(kinds) and group in name.replace("+", "-")
        }
        assert [caption for caption in captions.values() if state not in caption] == []
        clouds = [drawn[name][1]() for name in captions if name.startswith("clouds-aligned")]
        assert clouds
        for figure in clouds:
            assert [title.get_text().partition(" of ")[2] for title in figure.texts] == [state]
        legend = drawn[f"sweeps-{group}"][1]().legends[0]
        assert legend.get_title().get_text().startswith(f"layer of {state.split()[0]} encoder")


def test_overview__shows_the_highest_layer_that_has_a_score(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    scores = results.load(layout.results)["calign"].to_dataset().calign
    shallow = scores.where((scores.checkpoint != "base") | (scores.layer == 0))  # which has layer 0 alone
    titles = [
        [axes.get_title() for axes in overview.overview_figure(of, study, layout, ["base", "ner"], "encoder").axes]
        for of in (shallow, scores.where(scores.checkpoint != "base"))
    ]
    maps = [[title for title in of if "overlap" in title] for of in titles]
    assert [title.partition(":")[0] for title in maps[0]] == ["base, layer 0", "ner, layer 0"]
    assert [title.partition(",")[0] for title in maps[1]] == ["ner"]


def test_tables__hold_the_results(reported: SmallStudy) -> None:
    tables = reported.directory / "report" / "tables"
    tree = results.load(str(reported.directory / "results.zarr"))
    header, *rows = csv.reader(io.StringIO((tables / "calign.csv").read_text()))
    assert header == ["languages", "checkpoint", "stack", "state", "0", "2"]
    cells = tree["calign"].to_dataset().calign * 100
    for languages, checkpoint, stack, state, *values in rows:
        source, target = languages.split(" → ")
        expected = cells.sel(source=source, target=target, checkpoint=checkpoint, stack=stack)
        assert [float(v) for v in values] == pytest.approx(expected.values.tolist(), abs=0.051)
        if (checkpoint, source, target) == ("ner", "fr", "en"):
            assert state == "zero-shot"
    _, *rows = csv.reader(io.StringIO((tables / "scores-ner.csv").read_text()))
    assert [row[0] for row in rows] == ["base", "ner", "other"]
    assert rows[1][3].endswith("(zs)")
    assert rows[2][1].endswith("(zs)")
    _, *rows = csv.reader(io.StringIO((tables / "data-ner.csv").read_text()))
    assert [row[:3] for row in rows[:3]] == [["de", "train", "16"], ["de", "dev", "30"], ["de", "test", "30"]]
    text = [line.split("\t") for line in (reported.folder.parent / "data" / "de.dev").read_text().splitlines() if line]
    assert rows[1][3:] == [str(len(text)), str(len({word for word, _ in text}))]
    _, *rows = csv.reader(io.StringIO((tables / "calign-by-k.csv").read_text()))
    by_k = tree["sweeps/calign_by_k"].to_dataset().calign * 100
    for languages, checkpoint, stack, _, k, *values in rows:
        source, target = languages.split(" → ")
        expected = by_k.sel(source=source, target=target, checkpoint=checkpoint, stack=stack, k=int(k))
        assert [float(v) for v in values] == pytest.approx(expected.values.tolist(), abs=0.051)
    header, *rows = csv.reader(io.StringIO((tables / "text.csv").read_text()))
    assert header[-2:] == ["without a vector", "of these too long"]
    statistics = tree["statistics"].to_dataset().sel(checkpoint="base")
    for language, *_, absent, too_long in rows:
        of = statistics.sel(language=language)
        assert [int(absent), int(too_long)] == [int(of.absent_tokens), int(of.too_long_tokens)]


def test_scores__of_several_test_texts_are_columns(reported: SmallStudy) -> None:
    study, _ = load_study(str(reported.file))
    tree = results.load(str(reported.directory / "results.zarr"))
    scores = tree["scores"].to_dataset()
    second = scores.assign(f1=scores.f1 / 2).assign_coords(split=["new"])
    [table] = score_tables(xr.concat([scores, second], "split", data_vars="minimal"), study)
    header, *rows = table.rows
    assert header == ("checkpoint", "language", "test", "new")
    for checkpoint, language, *cells in rows:
        f1 = float(scores.f1.sel(checkpoint=checkpoint, task="ner", language=language, split="test")) * 100
        assert [cell.split()[0] for cell in cells] == [f"{f1:.1f}", f"{f1 / 2:.1f}"]
        assert ("(zs)" in cells[0]) == ((checkpoint, language) in {("ner", "fr"), ("other", "de")})


def test_cross__counts_of_every_layer_add_up(reported: SmallStudy) -> None:
    with (reported.directory / "report" / "tables" / "cross.csv").open() as file:
        rows = [*csv.DictReader(file)]
    cross = results.load(str(reported.directory / "results.zarr"))["cross"].to_dataset()
    assert len(rows) == int(cross.concepts.notnull().sum())
    for row in rows:
        source, target = row["languages"].split(" → ")
        cell = cross.sel(
            checkpoint=row["checkpoint"], stack=row["stack"], language_set=row["mixed text"], source=source,
            target=target, layer=int(row["layer"]),
        )  # fmt: skip
        parts = ("both", "aligned only", "overlapping only", "neither")
        assert [int(row[name]) for name in parts] == [int(cell[name.replace(" ", "_")]) for name in parts]
        assert sum(int(row[name]) for name in parts) == int(cell.concepts)


def test_uncertainty__each_checkpoint_has_its_own_null(reported: SmallStudy) -> None:
    study, _ = load_study(str(reported.file))
    tree = results.load(str(reported.directory / "results.zarr"))
    drawn = tree["uncertainty/calign"].to_dataset()
    figure = uncertainty_figure(tree, study, "calign", "encoder")
    axes = figure.axes[[*study.directions].index(("de", "en"))]
    for number, checkpoint in enumerate(study.checkpoints):
        band = drawn.sel(checkpoint=checkpoint, stack="encoder", source="de", target="en") * 100
        null, curve = axes.lines[2 * number : 2 * number + 2]
        np.testing.assert_array_equal(null.get_ydata(), band.null_types_high)
        assert null.get_color() == curve.get_color() == COLOURS[number]
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {*study.checkpoints, "base", "fine-tuned", "zero-shot", "what nulls reach"}


def test_uncertainty__of_one_layer_is_a_bar(reported: SmallStudy) -> None:
    study, _ = load_study(str(reported.file))
    tree = results.load(str(reported.directory / "results.zarr"))
    names = "calign", "uncertainty/calign"
    one = xr.DataTree.from_dict({f"/{name}": tree[name].to_dataset().sel(layer=[2]) for name in names})
    figure = uncertainty_figure(one, study, "calign", "encoder")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    source, target = study.directions[0]
    bars = [bar for bar in axes.collections if isinstance(bar, LineCollection)]
    for bar, checkpoint in zip(bars, study.checkpoints, strict=True):
        band = one["uncertainty/calign"].to_dataset().sel(
            checkpoint=checkpoint, stack="encoder", source=source, target=target, layer=2
        ) * 100  # fmt: skip
        np.testing.assert_allclose(bar.get_segments(), [[[2, float(band.low)], [2, float(band.high)]]])
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [2]


def test_thresholds__have_room_for_their_nulls(reported: SmallStudy) -> None:
    study, _ = load_study(str(reported.file))
    tree = results.load(str(reported.directory / "results.zarr"))
    path = "uncertainty/calign_by_theta_align"
    tree[path] = tree[path].to_dataset().assign(null_types_high=lambda of: of.null_types_high * 0 + 2.5)
    figure = sweep_figure(tree, study, "ner", "encoder", ("de", "en"))
    assert figure.axes[1].get_ylim()[1] > 250


def test_report__needs_results(bert: str, tmp_path: Path, terminal: Terminal) -> None:
    study = SmallStudy(tmp_path / "s", bert)
    assert "has no results of this study yet; run colign run" in terminal("report", study.file, code=2)


def test_report__names_concepts_that_there_are_not(reported: SmallStudy, terminal: Terminal) -> None:
    for cloud, message in (
        ("base/encoder/en", "expected CHECKPOINT/STACK/SELECTION/LAYER/NUMBER"),
        ("base/encoder/xx/2/0", "has no selection 'xx'"),
        ("base/encoder/en/2/99", "has layers 0, 2 and concepts below 3"),
        ("base/encoder/en/2/¹", "expected CHECKPOINT/STACK/SELECTION/LAYER/NUMBER"),
    ):
        assert message in terminal("report", reported.file, "--cloud", cloud, code=2)


def test_titles__are_labels_or_what_words_share(reported: SmallStudy) -> None:
    study, layout = load_study(str(reported.file))
    shared = forms_shared(store.read(layout.properties("ner", "encoder", "en"), PROPERTIES_OF_PART).sel(layer=2))
    where = "ner", "encoder", "en", 2
    label = label_files.Label(*where, 1, "animals", "me", "2026-01-01", "", "")
    assert label_files.titles(study, layout, [label], *where) == shared | {1: "animals"}
    mixed = label_files.titles(study, layout, [label], "ner", "encoder", "de+en", 2)
    assert mixed == label_files.titles(study.model_copy(update={"properties": None}), layout, [], *where) == {}


def test_clouds__letters_without_a_font_are_named(
    reported: SmallStudy, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        figure = cloud_figure([Cloud("\uf8ff", {"cat\uf8ff": 1}, {"cat\uf8ff": "en"})])
    assert without_font(figure) == {"\uf8ff"}  # of nobody: for private use
    assert any("missing" in str(one.message) for one in given)  # as matplotlib says, and the report leaves out
    labels = reported.folder / "labels.tsv"
    labels.write_text("checkpoint\tstack\tselection\tlayer\tconcept\tlabel\nbase\tencoder\ten\t2\t0\t\uf8ff\n")
    terminal("label", reported.file, "--import", labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.report.figures", lambda *_: [])
        elsewhere = "--to", reported.folder / "other"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert call(patch, "report", reported.file, "--cloud", "base/encoder/en/2/0", *elsewhere) == 0
    assert "drawn as boxes, since no installed font has them: \uf8ff (1 in all)" in capsys.readouterr().err
