"""Clouds of the words of concepts: single ones, aligned pairs, and those that mix languages (Figures 3, 6, 10, 14)."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findSystemFonts, get_font
from matplotlib.text import Text

from jobs.figures import COLOURS, STYLE

_LARGEST, _SMALLEST = 15.0, 6.0
"""Sizes of the most and least frequent word, in points."""

_WORDS = 40
"""Words of a cloud at most."""


@dataclass(frozen=True)
class Cloud:
    """The words of a concept."""

    title: str
    words: Mapping[str, int]
    """Tokens by word."""
    languages: Mapping[str, str]
    """Language of each word."""

    @classmethod
    def ranked(cls, title: str, words: Sequence[str], language: str) -> "Cloud":
        """Words of one language, the first the largest."""
        return cls(title, {word: len(words) - rank for rank, word in enumerate(words)}, dict.fromkeys(words, language))


def cloud_figure(clouds: Sequence[Cloud], title: str = "") -> Figure:
    """Draw clouds side by side: words in rows, the more frequent the larger, colours by language.

    Arabic is shaped and runs from right to left; every script is drawn in an installed font that has it, of DejaVu
    Sans, which comes with matplotlib (Latin, Greek, Cyrillic, Arabic, Hebrew), and those of the system.
    """
    known = sorted({language for cloud in clouds for language in cloud.languages.values()})
    colours = dict(zip(known, COLOURS * (1 + len(known) // len(COLOURS)), strict=False))
    with matplotlib.style.context(cloud_style(clouds), after_reset=True):
        figure = Figure(figsize=(3.35 * min(2, len(clouds)), 2.3 * -(-len(clouds) // 2)))
        FigureCanvasAgg(figure)  # measures words
        columns = min(2, len(clouds))
        grid = figure.subplots(-(-len(clouds) // columns), columns, squeeze=False)
        figure.subplots_adjust(
            left=0.01, right=0.99, top=0.88 if title else 0.92, bottom=0.08, wspace=0.04, hspace=0.25
        )
        for axes in grid.flat[len(clouds) :]:
            axes.set_axis_off()
        for axes, cloud in zip(grid.flat, clouds, strict=False):
            frame(axes, cloud.title)
            fill(axes, cloud, colours)
        if len(known) > 1:
            handles = [matplotlib.lines.Line2D([], [], color=c, linewidth=3, label=n) for n, c in colours.items()]
            figure.legend(handles=handles, ncols=len(handles), loc="lower center", frameon=False, borderaxespad=0)
        if title:
            figure.suptitle(title, fontsize=8)
    return figure


def cloud_style(clouds: Sequence[Cloud]) -> dict[str, Any]:
    """Settings of matplotlib in which the words of clouds can be drawn."""
    return {**STYLE, "font.family": families(clouds)}


def frame(axes: Axes, title: str) -> None:
    """A thin frame without ticks, and a title above it."""
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    for spine in axes.spines.values():
        spine.set(visible=True, color="0.8")
    axes.set_title(title.replace("$", r"\$"), fontsize=7)


def fill(axes: Axes, cloud: Cloud, colours: Mapping[str, str]) -> None:
    """Words in rows that are as wide as the axes, all smaller until every row fits.

    The figure has a canvas that measures words.
    """
    chosen = sorted(cloud.words.items(), key=lambda item: (-item[1], item[0]))[:_WORDS]
    if not chosen:
        return
    most = np.sqrt(chosen[0][1])
    for scale in np.geomspace(2, 0.3, 14):
        sizes = [scale * (_SMALLEST + (_LARGEST - _SMALLEST) * np.sqrt(count) / most) for _, count in chosen]
        drawn = [
            axes.text(0, 0, word.replace("$", r"\$"), fontsize=size, color=colours[cloud.languages[word]])
            for (word, _), size in zip(chosen, sizes, strict=True)
        ]
        if _place(axes, drawn) or scale < 0.31:
            return
        for text in drawn:
            text.remove()


def _place(axes: Axes, drawn: Sequence[Text]) -> bool:
    """Lay words out in centred rows; whether all rows fit."""
    box = axes.get_window_extent()
    extents = [text.get_window_extent() for text in drawn]
    gap = box.width * 0.025
    rows: list[list[int]] = [[]]
    width = 0.0
    for at, extent in enumerate(extents):
        if rows[-1] and width + extent.width > box.width - 2 * gap:
            rows.append([])
            width = 0.0
        rows[-1].append(at)
        width += extent.width + gap
    heights = [1.15 * max(extents[at].height for at in row) for row in rows]
    y = (box.height + sum(heights)) / 2
    for row, height in zip(rows, heights, strict=True):
        x = (box.width - sum(extents[at].width for at in row) - gap * (len(row) - 1)) / 2
        y -= height
        rightward = [unicodedata.bidirectional(drawn[at].get_text()[0]) not in ("R", "AL") for at in row]
        for at in row if any(rightward) else reversed(row):
            drawn[at].set_position((x / box.width, y / box.height))
            x += extents[at].width + gap
    return sum(heights) <= box.height


def families(clouds: Sequence[Cloud]) -> list[str]:
    """DejaVu Sans, and for letters that it lacks the first installed font, by name, that has them."""
    found = ["DejaVu Sans"]
    letters = {ord(c) for cloud in clouds for word in cloud.words for c in word if not c.isspace()}
    lacking = letters - _letters(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf")
    for path in sorted(findSystemFonts(), key=lambda path: (Path(path).name, path)) if lacking else ():
        try:
            has = lacking & _letters(path)
            name = FontProperties(fname=path).get_name() if has else ""
        except (RuntimeError, OSError, ValueError):
            continue  # not a font that can be drawn
        if name:
            matplotlib.font_manager.fontManager.addfont(path)
            found.append(name)
            lacking -= has
        if not lacking:
            break
    return found


def _letters(path: str) -> set[int]:
    return set(get_font(path).get_charmap())
