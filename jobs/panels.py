"""Further figures: sweeps over thresholds (Figure 30), intervals with nulls, lexical and semantic concepts."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from engine.properties import LEXICAL, kinds_of_tags
from jobs.figures import COLOURS, COLUMN_WIDTH, LINE_STYLES, MARKERS, PAGE_WIDTH, STYLE
from schemas.study import Study

THRESHOLDS = {
    "calign_by_n_best": ("n_best", "N-best translations"),
    "calign_by_theta_align": ("theta_align", "θ_A"),
    "calign_by_min_types": ("min_types", "types of a concept, more than"),
    "colap_by_theta_overlap": ("theta_overlap", "θ_O"),
}
"""Sweeps of Figure 30 a to d: the dimension that varies, and what stands below."""

ALIGNED = {name: of for name, of in THRESHOLDS.items() if name.startswith("calign")}
"""Those of CALIGN: of concepts of two stacks there is no COLAP."""

NUMBERS = {"calign_by_k": ("k", "concepts (K)"), "colap_by_k": ("k", "concepts (K)")}
"""Sweeps over the number of concepts (footnote 4)."""

_MOST_COLUMNS = 4


def sweep_figure(
    results: xr.DataTree,
    study: Study,
    checkpoint: str,
    stack: str,
    pair: tuple[str, str],
    sweeps: Mapping[str, tuple[str, str]] = THRESHOLDS,
) -> Figure:
    """Draw CALIGN and COLAP of a pair against each threshold, a line for each layer (Figure 30).

    A dotted line marks the study's own threshold. Where the study drew intervals, a band shows that of the highest
    layer with a score, and a grey one what concepts of the same layer reach in which nothing corresponds (97.5 % of its
    draws).
    """
    studied = studied_layers(results["calign"].to_dataset().calign, checkpoint, stack, pair)
    own: dict[str, Any] = {**study.metrics.alignment, **study.metrics.overlap, "k": study.concepts.ks[0]}
    banded = ""
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(PAGE_WIDTH if len(sweeps) > 2 else COLUMN_WIDTH, 1.9), layout="constrained")
        axes = figure.subplots(1, len(sweeps))
        for at, (name, (dim, below)) in zip(axes, sweeps.items(), strict=True):
            tree = results[f"sweeps/{name}"].to_dataset()
            measure = name.split("_")[0]
            where = _where(tree, checkpoint, stack, pair)
            if where is None:
                _empty(at)
                continue
            scores = tree[measure].sel(where).sortby(dim) * 100
            layers = scores.layer.values.tolist()
            shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(layers)))
            for layer, shade in zip(layers, shades, strict=True):
                at.plot(scores[dim].values, scores.sel(layer=layer).values, color=shade, linewidth=1, label=f"{layer}")
            highest = max(float(scores.max()), 1.0)
            at.axvline(own[dim], color="0.6", linewidth=0.6, linestyle=":", zorder=0)
            if studied and "uncertainty" in results and name in results["uncertainty"].children:
                drawn = results[f"uncertainty/{name}"].to_dataset().sel(where) * 100
                ends = drawn.sel(layer=studied[-1])
                shade = shades[layers.index(studied[-1])]
                highest = max(highest, float(ends.high.max()))
                at.fill_between(drawn[dim].values, ends.low, ends.high, color=shade, alpha=0.25, linewidth=0)
                banded = f"; band: 95 % interval of layer {studied[-1]}"
                null = "null_types_high" if measure == "calign" else "null_languages_high"
                if null in drawn:  # results of before 0.8.0 have none along N-best
                    at.fill_between(drawn[dim].values, 0, ends[null], color="0.9", linewidth=0, zorder=-1)
                    highest = max(highest, float(ends[null].max()))
                    banded += ", grey: what its null reaches"
            at.set_xlabel(below)
            at.set_ylim(0, 1.05 * highest)
            at.set_title(f"{measure.upper()} (%)")
            _grid(at, whole=scores[dim].dtype.kind == "i")
        handles, names = axes[0].get_legend_handles_labels()
        title = f"layer of {checkpoint} {stack}, {' → '.join(pair)}{banded}"
        most = 13 if len(sweeps) > 2 else 6
        figure.legend(
            handles, names, title=title, ncols=min(len(names), most), loc="outside lower center", frameon=False
        )
    return figure


def studied_layers(calign: xr.DataArray, checkpoint: str, stack: str, pair: tuple[str, str]) -> list[int]:
    """Layers that have a score of a pair, from low to high.

    Parameters
    ----------
    calign
        CALIGN (checkpoint, stack, layer, source, target).
    """
    scores = calign.sel(checkpoint=checkpoint, stack=stack, source=pair[0], target=pair[1]).sortby("layer")
    return [int(layer) for layer in scores.layer.values[scores.notnull().values]]


def _where(tree: xr.Dataset, checkpoint: str, stack: str, pair: tuple[str, str]) -> dict[str, str] | None:
    """Labels of a pair; None where it was not studied."""
    labels = {"checkpoint": checkpoint, "stack": stack}
    if "source" in tree.dims:
        return labels | {"source": pair[0], "target": pair[1]}
    sets = [name for name in tree.language_set.values.tolist() if {*name.split("+")} == {*pair}]
    return labels | {"language_set": sets[0]} if sets else None


def uncertainty_figure(results: xr.DataTree, study: Study, measure: str, stack: str) -> Figure:
    """Draw CALIGN or COLAP by layer with its bootstrap interval, and a thin line at what its null reaches.

    A panel for each pair; colours and markers are checkpoints, of curves, intervals and nulls, line styles states. The
    null of CALIGN deals types anew to concepts of the same sizes; that of COLAP shuffles languages.
    """
    scores, drawn = (results[name].to_dataset() for name in (measure, f"uncertainty/{measure}"))
    null = "null_types_high" if measure == "calign" else "null_languages_high"
    ways = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    looks = dict(zip(map(str, scores.checkpoint.values), ways, strict=False))
    states: dict[str, Any] = {}
    groups = [*study.directions] if measure == "calign" else [*study.language_sets]
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(PAGE_WIDTH, 1.5 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for at in grid.flat[len(groups) :]:
            at.set_axis_off()
        for at, group in zip(grid.flat, groups, strict=False):
            labels = (
                {"source": group[0], "target": group[1]} if measure == "calign" else {"language_set": "+".join(group)}
            )
            for checkpoint, (colour, marker) in looks.items():
                where = labels | {"checkpoint": checkpoint, "stack": stack}
                line, band = scores[measure].sel(where) * 100, drawn.sel(where) * 100
                _interval(at, line.layer.values, band.low.values, band.high.values, colour)
                at.plot(
                    line.layer.values, band[null], color=colour, linewidth=0.5, marker="_", markersize=5, alpha=0.8,
                )  # fmt: skip
                state = study.fine_tuning(checkpoint, *group)
                states[state] = LINE_STYLES[state]
                at.plot(
                    line.layer.values, line, color=colour, linestyle=states[state], linewidth=1.2, marker=marker,
                    markersize=2.5,
                )  # fmt: skip
            at.set_title((" → " if measure == "calign" else "+").join(group))
            _grid(at)
        for number, at in enumerate(grid.flat[: len(groups)]):
            if number + columns >= len(groups):  # nothing below
                at.set_xlabel("layer")
                at.tick_params(labelbottom=True)
        for row in grid:
            row[0].set_ylabel(f"{measure.upper()} (%)")
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=3, linewidth=1.2, label=checkpoint)
            for checkpoint, (colour, marker) in looks.items()
        ]
        handles += [Line2D([], [], color="0.3", linestyle=style, label=state) for state, style in states.items()]
        handles.append(Line2D([], [], color="0.3", linewidth=0.5, marker="_", markersize=5, label="what nulls reach"))
        figure.legend(handles=handles, ncols=min(6, len(handles)), loc="outside lower center", frameon=False)
    return figure


def _interval(at: Axes, layers: NDArray[np.integer], low: Any, high: Any, colour: str) -> None:
    """Shade an interval by layer; at a layer without a neighbour, of which there is nothing to shade, as a bar."""
    at.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
    known = np.pad(np.isfinite(low), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    at.vlines(layers[alone], low[alone], high[alone], color=colour, alpha=0.3, linewidth=4)


def properties_figure(results: xr.DataTree, study: Study, checkpoint: str, stack: str) -> Figure:
    """Draw the number of lexical and semantic concepts of a checkpoint by layer (Figure 9).

    A panel for each selection of one language; colours and markers are properties, of which every kind of tag is one,
    line styles states. The rule is ConceptX's: more than 90 % of a concept's tokens.
    """
    found = results["properties"].to_dataset().sel(rule="conceptx", stack=stack, checkpoint=checkpoint)
    names = [*LEXICAL, *kinds_of_tags(map(str, found.property.values))]
    selections = found.selection.values.tolist()
    columns = min(_MOST_COLUMNS, len(selections))
    rows = -(-len(selections) // columns)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(COLUMN_WIDTH if columns == 1 else PAGE_WIDTH, 1.5 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for at in grid.flat[len(selections) :]:
            at.set_axis_off()
        states = {}
        for number, (at, selection) in enumerate(zip(grid.flat, selections, strict=False)):
            state = study.fine_tuning(checkpoint, selection.partition("@")[0])
            style = states[state] = LINE_STYLES[state]
            for index, name in enumerate(names):
                colour = COLOURS[index % len(COLOURS)]
                marker = MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]  # another where the colour comes again
                line = found.concepts.sel(selection=selection, property=name)
                at.plot(
                    line.layer.values, line.values, color=colour, linestyle=style, linewidth=1.2, marker=marker,
                    markersize=3, label=name, clip_on=False,
                )  # fmt: skip
            at.set_title(selection)
            _grid(at)
            if number + columns >= len(selections):  # nothing below
                at.set_xlabel("layer")
                at.tick_params(labelbottom=True)
        for row in grid:
            row[0].set_ylabel("concepts")
        grid[0, 0].set_ylim(0, 1.05 * max(float(found.concepts.sel(property=names).max()), 1.0))
        handles, _ = grid.flat[0].get_legend_handles_labels()
        handles = [Line2D([], [], color=h.get_color(), marker=h.get_marker(), markersize=3, label=h.get_label())
                   for h in handles]  # fmt: skip
        handles += [Line2D([], [], color="0.3", linestyle=style, label=state) for state, style in states.items()]
        figure.legend(
            handles=handles, title=f"{checkpoint} {stack}", ncols=min(8, len(handles)), loc="outside lower center",
            frameon=False,
        )  # fmt: skip
    return figure


def _grid(axes: Axes, *, whole: bool = True) -> None:
    """Lines behind the curves; below, whole numbers alone."""
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(width=0.6, length=2.5, pad=2)


def _empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not studied", transform=axes.transAxes, ha="center", va="center", color="0.45")
