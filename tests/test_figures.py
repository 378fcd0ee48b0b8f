"""Figures of simulated results: line styles, values, axes, empty panels, and files with the same bytes every time."""

import io
from itertools import pairwise
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from jobs.figures import COLOURS, calign_figure, colap_figure, write_figures
from schemas.results import CALIGN, COLAP
from schemas.study import Study

BASE = {"model": "m"}
TUNED = {"model": "m", "tuned_on": ["de", "en"]}
LAYERS = [0, 1, 3, 6, 9, 12]


def simulate(
    languages: list[str],
    checkpoints: dict[str, dict[str, Any]],
    stacks: list[str],
    layers: list[int],
    measured: bool = True,
) -> tuple[xr.DataTree, Study]:
    """Results of a study whose pairs and language sets are random, everything else NaN."""
    study = Study.model_validate(
        {
            "corpus": {"files": {language: f"{language}.txt" for language in languages}},
            "checkpoints": checkpoints,
            "activations": {"stacks": stacks},
        }
    )
    random = np.random.default_rng(7)
    names = list(checkpoints)
    sets = ["+".join(group) for group in study.language_sets]
    calign = np.full((len(names), len(stacks), len(layers), len(languages), len(languages)), np.nan)
    colap = np.full((len(names), len(stacks), len(layers), len(sets)), np.nan)
    if measured:
        for pair in study.pairs:
            for source, target in (pair, pair[::-1]):
                at = (..., languages.index(source), languages.index(target))
                calign[at] = random.uniform(0, 0.6, calign.shape[:3])
        colap = random.uniform(0, 0.9, colap.shape)
    shared = {"checkpoint": names, "stack": stacks, "layer": np.array(layers, "int32")}
    numbers = (
        "aligned_concepts", "concepts", "considered_concepts", "matched_targets", "largest_hub", "hub_share",
        "mutual_concepts", "mutual_calign",
    )  # fmt: skip
    tree = {
        "/calign": CALIGN.create(
            shared | {"source": languages, "target": languages, "calign": calign} | dict.fromkeys(numbers, 600 * calign)
        ),
        "/colap": COLAP.create(
            shared
            | {"language_set": sets, "colap": colap, "overlapping_concepts": 600 * colap, "concepts": 600 * colap}
        ),
    }
    return xr.DataTree.from_dict(tree), study


@pytest.fixture
def paper() -> tuple[xr.DataTree, Study]:
    """Four pairs with English, two stacks, a base checkpoint and one tuned on German and English."""
    return simulate(["de", "fr", "es", "ar", "en"], {"base": BASE, "mt": TUNED}, ["encoder", "decoder"], LAYERS)


def panels(figure: Figure) -> list[Axes]:
    """Axes that are shown, from left to right and top to bottom."""
    return [axes for axes in figure.axes if axes.axison]


def legend(figure: Figure) -> dict[str, Any]:
    return {h.get_label(): h for h in figure.legends[0].legend_handles if h.get_label().strip()}


def line(axes: Axes, colour: str, style: str) -> Any:
    (found,) = [ln for ln in axes.lines if ln.get_color() == colour and ln.get_linestyle() == style]
    return found


def test_calign_is_in_per_cent_by_layer(paper: tuple[xr.DataTree, Study]) -> None:
    results, study = paper
    calign = results["calign"]["calign"]
    figure = calign_figure(results, study)
    grid = np.reshape(panels(figure), (2, 4))
    for row, stack in enumerate(("encoder", "decoder")):
        for column, (first, second) in enumerate(study.pairs):
            axes = grid[row, column]
            assert len(axes.lines) == 4
            tuned = "-" if first == "de" else "--"
            for checkpoint, style in (("base", ":"), ("mt", tuned)):
                for source, target, colour in ((first, second, COLOURS[0]), (second, first, COLOURS[1])):
                    expected = calign.sel(checkpoint=checkpoint, stack=stack, source=source, target=target)
                    drawn = line(axes, colour, style)
                    np.testing.assert_array_equal(drawn.get_xdata(), LAYERS)
                    np.testing.assert_array_equal(drawn.get_ydata(), 100 * expected.values)


def test_calign_axes_are_named(paper: tuple[xr.DataTree, Study]) -> None:
    figure = calign_figure(*paper)
    grid = np.reshape(panels(figure), (2, 4))
    assert [axes.get_title() for axes in grid[0]] == ["de–en", "fr–en", "es–en", "ar–en"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["encoder\nCALIGN (%)", "decoder\nCALIGN (%)"]
    assert {axes.get_xlabel() for axes in grid[0]} == {""}
    assert {axes.get_xlabel() for axes in grid[1]} == {"layer"}
    assert len({axes.get_ylim() for axes in grid.flat}) == 1
    assert grid[0, 0].get_ylim()[0] == 0
    for axes in grid.flat:
        assert axes.get_xticks().tolist() == LAYERS


def test_legend_explains_states_and_directions(paper: tuple[xr.DataTree, Study]) -> None:
    entries = legend(calign_figure(*paper))
    assert list(entries) == ["base", "fine-tuned", "zero-shot", "other → en", "en → other"]
    assert [entries[s].get_linestyle() for s in ("base", "fine-tuned", "zero-shot")] == [":", "-", "--"]
    assert [entries[d].get_color() for d in ("other → en", "en → other")] == list(COLOURS[:2])


def test_colap_is_in_per_cent_by_layer(paper: tuple[xr.DataTree, Study]) -> None:
    results, study = paper
    figure = colap_figure(results, study)
    grid = np.reshape(panels(figure), (2, 2))
    assert [axes.get_title() for axes in grid[0]] == ["base", "mt"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["encoder\nCOLAP (%)", "decoder\nCOLAP (%)"]
    for row, stack in enumerate(("encoder", "decoder")):
        for column, checkpoint in enumerate(("base", "mt")):
            assert len(grid[row, column].lines) == 4
            for languages, colour in zip(study.language_sets, COLOURS, strict=False):
                style = ":" if checkpoint == "base" else "-" if "de" in languages else "--"
                expected = results["colap"]["colap"].sel(
                    checkpoint=checkpoint, stack=stack, language_set="+".join(languages)
                )
                drawn = line(grid[row, column], colour, style)
                np.testing.assert_array_equal(drawn.get_xdata(), LAYERS)
                np.testing.assert_array_equal(drawn.get_ydata(), 100 * expected.values)
    assert set(legend(figure)) == {"base", "fine-tuned", "zero-shot", "de+en", "fr+en", "es+en", "ar+en"}


def test_one_checkpoint_of_one_pair() -> None:
    results, study = simulate(["de", "en"], {"base": BASE}, ["encoder"], list(range(13)))
    figure = calign_figure(results, study)
    (axes,) = panels(figure)
    assert axes.get_ylabel() == "CALIGN (%)"
    assert [ln.get_linestyle() for ln in axes.lines] == [":", ":"]
    assert list(legend(figure)) == ["base", "de → en", "en → de"]
    assert list(legend(colap_figure(results, study))) == ["base", "de+en"]


def test_no_values_give_an_empty_panel_that_says_so(tmp_path: Any) -> None:
    results, study = simulate(["de", "en"], {"base": BASE}, ["encoder"], [0, 6], measured=False)
    for draw in (calign_figure, colap_figure):
        figure = draw(results, study)
        (axes,) = panels(figure)
        assert not axes.lines
        assert not figure.legends
        assert [text.get_text() for text in axes.texts] == ["no values"]
    assert len(write_figures(results, study, str(tmp_path))) == 4


def test_only_the_panel_without_values_is_empty(paper: tuple[xr.DataTree, Study]) -> None:
    results, study = paper
    calign = results["calign"].to_dataset()
    calign["calign"] = calign["calign"].where(calign["stack"] == "encoder")
    figure = calign_figure(xr.DataTree.from_dict({"/calign": calign}), study)
    assert [len(axes.lines) for axes in panels(figure)] == [4] * 4 + [0] * 4
    assert [len(axes.texts) for axes in panels(figure)] == [0] * 4 + [1] * 4


def test_a_value_without_neighbours_is_a_dot() -> None:
    results, study = simulate(["de", "en"], {"base": BASE}, ["encoder"], [0, 1, 2, 3, 4])
    calign = results["calign"].to_dataset()
    calign["calign"] = calign["calign"].where(calign["layer"] != 1)
    for drawn in calign_figure(xr.DataTree.from_dict({"/calign": calign}), study).axes[0].lines:
        assert drawn.get_marker() == "o"
        assert drawn.get_markevery() == [0]


def test_checkpoints_of_one_state_have_markers() -> None:
    checkpoints = {"base": BASE, "a": TUNED, "b": {"model": "m", "tuned_on": ["fr", "en"]}}
    results, study = simulate(["de", "fr", "es", "en"], checkpoints, ["encoder"], LAYERS)
    figure = calign_figure(results, study)
    markers = {name: legend(figure)[name].get_marker() for name in ("a", "b")}  # both zero-shot for Spanish
    assert len(set(markers.values())) == 2
    spanish = panels(figure)[2]
    forward = [ln for ln in spanish.lines if ln.get_color() == COLOURS[0]]
    assert [(ln.get_linestyle(), ln.get_marker()) for ln in forward] == [
        (":", ""),
        ("--", markers["a"]),
        ("--", markers["b"]),
    ]


def test_dots_of_one_layer_tell_checkpoints_apart() -> None:
    results, study = simulate(["de", "en"], {"base": BASE, "mt": TUNED}, ["encoder"], [6])
    figure = calign_figure(results, study)
    entries = list(figure.legends[0].legend_handles)
    markers = {h.get_marker() for h in entries if h.get_label() in ("base", "mt")} - {"None"}
    assert {drawn.get_marker() for drawn in figure.axes[0].lines} == markers - {""}
    assert len(markers - {""}) == 2


def test_more_language_sets_than_colours_have_markers() -> None:
    languages = ["de", "fr", "es", "ar", "it", "nl", "pt", "sv", "en"]
    results, study = simulate(languages, {"base": BASE}, ["encoder"], LAYERS)
    drawn = [(ln.get_color(), ln.get_marker()) for ln in panels(colap_figure(results, study))[0].lines]
    assert len(set(drawn)) == 8
    assert drawn[0][0] == drawn[7][0]


def test_results_read_from_disk_draw_the_same(paper: tuple[xr.DataTree, Study], tmp_path: Any) -> None:
    results, study = paper
    results.to_zarr(tmp_path / "results.zarr", zarr_format=3, consolidated=False)
    with xr.open_datatree(tmp_path / "results.zarr", engine="zarr", consolidated=False) as read:
        for drawn, expected in zip(calign_figure(read, study).axes, calign_figure(results, study).axes, strict=True):
            for one, other in zip(drawn.lines, expected.lines, strict=True):
                np.testing.assert_array_equal(one.get_ydata(), other.get_ydata())


def test_many_pairs_continue_below() -> None:
    results, study = simulate(["de", "fr", "es", "ar", "it", "en"], {"base": BASE}, ["encoder"], LAYERS)
    figure = calign_figure(results, study)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles == ["de–en", "fr–en", "es–en", "ar–en", "it–en"]
    assert [axes.get_xlabel() for axes in panels(figure)] == ["", "", "layer", "layer", "layer"]


@pytest.mark.parametrize("layers", [LAYERS, list(range(13)), list(range(25)), [0, 1, 3, 6, 12, 18, 24], [6], [12, 0]])
def test_numbers_of_layers_do_not_touch(layers: list[int]) -> None:
    results, study = simulate(
        ["de", "fr", "es", "ar", "en"], {"base": BASE, "mt": TUNED}, ["encoder", "decoder"], layers
    )
    figure = calign_figure(results, study)
    figure.canvas.draw()
    for axes in panels(figure)[4:]:
        assert axes.get_xticks().tolist() == sorted(layers)
        shown = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert shown
        assert all(left.x1 < right.x0 for left, right in pairwise(shown))


def test_text_is_readable_at_print_size(paper: tuple[xr.DataTree, Study]) -> None:
    for draw in (calign_figure, colap_figure):
        figure = draw(*paper)
        figure.canvas.draw()
        assert figure.get_figwidth() <= 7
        assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7


def test_write_figures_writes_the_same_bytes_every_time(paper: tuple[xr.DataTree, Study], tmp_path: Any) -> None:
    first = write_figures(*paper, str(tmp_path / "one"))
    second = write_figures(*paper, f"{tmp_path}/two/")
    names = ["calign.png", "calign.svg", "colap.png", "colap.svg"]
    assert first == [f"{tmp_path}/one/figures/{name}" for name in names]
    for name in names:
        content = (tmp_path / "one" / "figures" / name).read_bytes()
        assert content == (tmp_path / "two" / "figures" / name).read_bytes()
        assert b"<dc:date>" not in content
    assert len(second) == 4
    height, width = imread(first[0]).shape[:2]
    assert width == 1380  # 6.9 inches at 200 dots an inch
    assert height > 400


def test_write_figures_to_a_url(paper: tuple[xr.DataTree, Study]) -> None:
    written = write_figures(*paper, "memory://study")
    with fsspec.open(written[0]) as file:
        assert imread(io.BytesIO(file.read())).ndim == 3
    fsspec.filesystem("memory").rm("/study", recursive=True)
