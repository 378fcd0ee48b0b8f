"""Figures of a study: CALIGN and COLAP by layer, as in Figures 2, 7 and 8 of the paper."""

import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, pairwise
from typing import Any, Literal

import matplotlib.style
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from engine import paths
from jobs.layout import Layout
from schemas.study import Study

LINE_STYLES: dict[str, Literal[":", "-", "--", "-."]] = {
    "base": ":", "fine-tuned": "-", "zero-shot": "--", "untrained": "-.",
}  # fmt: skip
"""Line style of each state of a checkpoint (caption of Figure 2)."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colour-blind safe palette of Okabe and Ito, without the yellow that white paper swallows."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 200},
    "svg": {"metadata": {"Date": None}},
}
"""How each file format is saved; without its date an SVG is the same bytes every time."""

COLUMN_WIDTH = 3.35
PAGE_WIDTH = 6.9
_MOST_COLUMNS = 4
_MOST_MARKERS = 6
_FONT_SIZE = 7.0
STYLE = {
    "axes.labelsize": _FONT_SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": _FONT_SIZE + 1,
    "font.size": _FONT_SIZE,
    "legend.fontsize": _FONT_SIZE,
    "svg.fonttype": "path",
    "svg.hashsalt": "colign",
}


@dataclass(frozen=True)
class _Line:
    """Values of one checkpoint by layer, and how they are drawn."""

    values: npt.NDArray[np.float64]
    """Fractions in [0, 1] (layer), NaN where not studied."""
    state: str
    colour: str
    marker: str = ""
    """Drawn at a few layers; when empty, only a value without neighbours gets a dot."""
    first_marked: int = 0
    """Position of the first layer with a marker; other for other lines, so that markers do not hide each other."""

    @property
    def measured(self) -> bool:
        return bool(np.isfinite(self.values).any())


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: what stands above it, its stack, and its lines."""

    title: str
    stack: str
    lines: tuple[_Line, ...]


def calign_figure(results: xr.DataTree, study: Study) -> Figure:
    """Draw CALIGN by layer, a column for each language pair and a row for each stack (Figure 2).

    Dotted lines are base checkpoints, solid lines fine-tuned on both languages, dashed lines zero-shot; the colour is
    the direction of the pair. Checkpoints that share a state in some panel,
    or one layer only, are told apart by markers.

    Parameters
    ----------
    results
        Results of the study; `/calign` is drawn, in per cent (checkpoint, stack, layer, source, target).
    study
        Names the pairs, and what each checkpoint was tuned on.
    """
    calign = results["calign"]["calign"].sortby("layer")
    checkpoints, stacks = _names(calign, "checkpoint"), _names(calign, "stack")
    panel_states = [Counter(study.fine_tuning(name, *pair) for name in checkpoints) for pair in study.pairs]
    shared = [
        name
        for name in checkpoints
        if (calign.sizes["layer"] == 1 and len(checkpoints) > 1)  # dots have no line style
        or any(
            states[study.fine_tuning(name, *pair)] > 1 for pair, states in zip(study.pairs, panel_states, strict=True)
        )
    ]
    markers = dict(zip(shared, cycle(MARKERS), strict=False))
    panels = [
        _Panel(
            "–".join(pair),
            stack,
            tuple(
                _Line(
                    _by_layer(calign, checkpoint=name, stack=stack, source=source, target=target),
                    study.fine_tuning(name, source, target),
                    colour,
                    markers.get(name, ""),
                    checkpoints.index(name),
                )
                for (source, target), colour in zip((pair, pair[::-1]), COLOURS, strict=False)
                for name in checkpoints
            ),
        )
        for pair in study.pairs
        for stack in stacks
    ]
    directions = [
        Line2D([], [], color=colour, label=label)
        for label, colour in zip(_directions(study.pairs), COLOURS, strict=False)
    ]
    named = [
        Line2D([], [], color="0.3", linestyle="", marker=marker, markersize=3.5, label=name)
        for name, marker in markers.items()
    ]
    return _draw(panels, calign["layer"].values.tolist(), "CALIGN (%)", directions, named)


def colap_figure(results: xr.DataTree, study: Study) -> Figure:
    """Draw COLAP by layer, a column for each checkpoint and a row for each stack (Figures 7 and 8).

    The colour is the set of languages whose text is mixed; the line style is the state of the checkpoint for these
    languages, as in `calign_figure`.

    Parameters
    ----------
    results
        Results of the study; `/colap` is drawn, in per cent (checkpoint, stack, layer, language_set).
    study
        Names the language sets, and what each checkpoint was tuned on.
    """
    colap = results["colap"]["colap"].sortby("layer")
    stacks = _names(colap, "stack")
    styles = {
        languages: (COLOURS[i % len(COLOURS)], ("", *MARKERS)[i // len(COLOURS) % (len(MARKERS) + 1)])
        for i, languages in enumerate(study.language_sets)
    }
    panels = [
        _Panel(
            name,
            stack,
            tuple(
                _Line(
                    _by_layer(colap, checkpoint=name, stack=stack, language_set="+".join(languages)),
                    study.fine_tuning(name, *languages),
                    colour,
                    marker,
                )
                for languages, (colour, marker) in styles.items()
            ),
        )
        for name in _names(colap, "checkpoint")
        for stack in stacks
    ]
    sets = [
        Line2D([], [], color=colour, marker=marker, markersize=3.5, label="+".join(languages))
        for languages, (colour, marker) in styles.items()
    ]
    return _draw(panels, colap["layer"].values.tolist(), "COLAP (%)", sets)


def write_figures(results: xr.DataTree, study: Study, directory: str) -> list[str]:
    """Write `figures/calign` and `figures/colap` below a study directory, as PNG and SVG (Figures 2, 7 and 8).

    Parameters
    ----------
    results, study
        As for `calign_figure` and `colap_figure`.
    directory
        Study directory: a local path or any fsspec URL; missing folders are made.

    Returns
    -------
    list of str
        The paths written. The same results give the same bytes.
    """
    written = []
    for name, draw in _FIGURES.items():
        figure = draw(results, study)
        for suffix, options in FORMATS.items():
            content = io.BytesIO()
            with matplotlib.style.context(STYLE, after_reset=True):
                figure.savefig(content, format=suffix, **options)
            path = Layout(directory.rstrip("/")).figure(f"{name}.{suffix}")
            paths.write_bytes(path, content.getvalue())
            written.append(path)
    return written


_FIGURES: dict[str, Callable[[xr.DataTree, Study], Figure]] = {"calign": calign_figure, "colap": colap_figure}


def _names(array: xr.DataArray, dim: str) -> list[str]:
    return [str(name) for name in array[dim].values]


def _by_layer(array: xr.DataArray, **labels: str) -> npt.NDArray[np.float64]:
    return np.asarray(array.sel(labels).transpose("layer").values, dtype=np.float64)


def _directions(pairs: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """Names of the two directions, as short as all pairs allow.

    Examples
    --------
    >>> _directions([("de", "en")])
    ('de → en', 'en → de')
    >>> _directions([("de", "en"), ("fr", "en")])
    ('other → en', 'en → other')
    >>> _directions([("de", "en"), ("fr", "es")])
    ('first → second', 'second → first')
    """
    first, second = ({pair[side] for pair in pairs} for side in (0, 1))
    left = first.pop() if len(first) == 1 else "other"
    right = second.pop() if len(second) == 1 else "other"
    if left == right == "other":
        left, right = "first", "second"
    return f"{left} → {right}", f"{right} → {left}"


def _draw(panels: Sequence[_Panel], layers: list[int], quantity: str, *legends: Sequence[Line2D]) -> Figure:
    """Lay the panels out, a column for each title; many columns continue below, in as many rows as there are stacks."""
    titles, stacks = (list(dict.fromkeys(names)) for names in zip(*((p.title, p.stack) for p in panels), strict=True))
    blocks = math.ceil(len(titles) / _MOST_COLUMNS)
    columns = math.ceil(len(titles) / blocks)
    width = COLUMN_WIDTH if columns == 1 else PAGE_WIDTH
    panel_width = width / columns - 0.3
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(width, 4), layout="constrained")
        grid = figure.subplots(blocks * len(stacks), columns, sharex=True, sharey=True, squeeze=False)
        empty = set(grid.flat)
        for panel in panels:
            block, column = divmod(titles.index(panel.title), columns)
            row = block * len(stacks) + stacks.index(panel.stack)
            axes = grid[row, column]
            empty.remove(axes)
            _plot(axes, panel.lines, layers)
            if panel.stack == stacks[0]:
                axes.set_title(panel.title)
            if column == 0:
                axes.set_ylabel(f"{panel.stack}\n{quantity}" if len(stacks) > 1 else quantity)
            if panel.stack == stacks[-1] and block * columns + column + columns >= len(titles):  # nothing below
                axes.set_xlabel("layer")
                axes.tick_params(labelbottom=True)
        for axes in empty:
            axes.set_axis_off()
        lines = [line for panel in panels for line in panel.lines if line.measured]
        _scale(grid[0, 0], layers, lines, panel_width)
        legend_rows = _legend(figure, lines, legends) if lines else 0
        panel_height = min(max(0.8 * panel_width, 1.15), 1.9)
        figure.set_figheight(blocks * len(stacks) * panel_height + blocks * 0.2 + 0.3 + 0.16 * legend_rows)
    return figure


def _plot(axes: Axes, lines: Sequence[_Line], layers: list[int]) -> None:
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_FONT_SIZE, width=0.6, length=2.5, pad=2)
    for line in lines:
        if not line.measured:
            continue
        finite = np.pad(np.isfinite(line.values), 1)
        marked = finite[1:-1] & ~finite[:-2] & ~finite[2:]
        if line.marker:
            stride = math.ceil(len(layers) / _MOST_MARKERS)
            marked[line.first_marked % stride :: stride] = True
        axes.plot(
            layers,
            100 * line.values,
            color=line.colour,
            linestyle=LINE_STYLES[line.state],
            linewidth=1.2,
            marker=(line.marker or "o") if marked.any() else "",
            markersize=3.5,
            markeredgewidth=0,
            clip_on=False,  # a line at 0 % lies on the axis
            zorder=3,
            markevery=np.flatnonzero(marked).tolist() or None,
        )
    if not any(line.measured for line in lines):
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color="0.45")


def _scale(axes: Axes, layers: list[int], lines: Sequence[_Line], panel_width: float) -> None:
    """Set the axes that all panels share: every layer has a tick, as many have a number as there is room for."""
    peak = max((100 * float(np.nanmax(line.values)) for line in lines), default=100.0)
    axes.set_ylim(0, 1.05 * max(peak, 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    margin = 0.03 * (layers[-1] - layers[0]) or 1.0
    axes.set_xlim(layers[0] - margin, layers[-1] + margin)
    axes.xaxis.set_major_locator(FixedLocator(layers))
    numbered = set(_spread(layers, points=72 * panel_width / (layers[-1] - layers[0] + 2 * margin)))
    axes.xaxis.set_major_formatter(lambda layer, _: f"{layer:g}" if layer in numbered else "")


def _spread(layers: list[int], points: float) -> Iterator[int]:
    """Layers whose numbers fit side by side, on an axis with this many points (1/72 inch) to a layer.

    Examples
    --------
    >>> list(_spread([0, 1, 3, 6, 9, 12], points=9))
    [0, 1, 3, 6, 9, 12]
    >>> list(_spread(list(range(13)), points=9))
    [0, 2, 4, 6, 8, 10, 12]
    """
    digit, gap = 0.64 * _FONT_SIZE, 2.5
    sizes = [digit * len(str(layer)) for layer in layers]
    steps = [points * (b - a) for a, b in pairwise(layers)]
    if all(step >= (a + b) / 2 + gap for step, a, b in zip(steps, sizes, sizes[1:], strict=False)):
        yield from layers
        return
    last = -math.inf
    for layer in layers:
        if points * (layer - last) >= max(sizes) + gap:
            yield layer
            last = layer


def _legend(figure: Figure, lines: Sequence[_Line], legends: Sequence[Sequence[Line2D]]) -> int:
    """Explain the line styles that occur, then each legend, a row or more each; returns the number of rows."""
    states = [
        Line2D([], [], color="0.3", linestyle=style, label=state)
        for state, style in LINE_STYLES.items()
        if any(line.state == state for line in lines)
    ]
    groups = [group for group in (states, *legends) if group]
    longest = max(len(str(entry.get_label())) for entry in chain(*groups))
    most = max(int((figure.get_figwidth() - 0.1) / (0.45 + 0.058 * longest)), 1)
    if sum(map(len, groups)) <= most:
        rows = [list(chain(*groups))]
    else:
        rows = [list(group[i : i + most]) for group in groups for i in range(0, len(group), most)]
    columns = max(map(len, rows))
    blank = Line2D([], [], linestyle="", label=" ")
    padded = [row + [blank] * (columns - len(row)) for row in rows]
    figure.legend(
        handles=list(chain(*zip(*padded, strict=True))),  # a legend fills its columns first
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.4,
        borderaxespad=0.2,
    )
    return len(rows)
