"""Clouds of the words of concepts: single ones, aligned pairs, and those that mix languages (Figures 3, 6, 10, 14)."""

import bisect
import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from numpy.typing import NDArray

from jobs.figures import COLOURS, STYLE

_LARGEST, _SMALLEST = 15.0, 6.0
"""Sizes of the most and least frequent word, in points, before all are made larger or smaller to fill the frame."""

_LEAST = 5.0
"""Size of a word at least, in points: rather than below it, fewer words are drawn."""

_WORDS = 40
"""Words of a cloud at most."""


SHARED = "several languages"
"""In the place of a word's language, where several spell a word so."""

_ALONE = 0.9
"""Part of a word's tokens that one language has more than, for the word to be its own."""

_ROOM = 0.97
"""Part of a panel's width that its title may have: letters are a little wider at some resolutions than as measured."""


@dataclass(frozen=True)
class Cloud:
    """The words of a concept."""

    title: str
    words: Mapping[str, int]
    """Tokens by word."""
    languages: Mapping[str, str]
    """Language of each word, or SHARED."""

    @classmethod
    def mixed(cls, title: str, words: Sequence[str], languages: Sequence[str]) -> "Cloud":
        """Tokens of several languages; a spelling belongs to one that has more than nine tenths of its tokens.

        Examples
        --------
        >>> cloud = Cloud.mixed("", ["a", "a", "b", "c"], ["de", "en", "en", "de"])
        >>> dict(cloud.languages) == {"a": SHARED, "b": "en", "c": "de"}
        True
        """
        of_word: dict[str, Counter[str]] = {}
        for word, language in zip(words, languages, strict=True):
            of_word.setdefault(word, Counter())[language] += 1
        tokens = {word: of.total() for word, of in of_word.items()}
        most = {word: max(of, key=of.__getitem__) for word, of in of_word.items()}
        alone = {word: of[most[word]] > _ALONE * tokens[word] for word, of in of_word.items()}
        return cls(title, tokens, {word: most[word] if alone[word] else SHARED for word in tokens})

    @classmethod
    def ranked(cls, title: str, words: Sequence[str], language: str) -> "Cloud":
        """Words of one language, the first the largest."""
        return cls(title, {word: len(words) - rank for rank, word in enumerate(words)}, dict.fromkeys(words, language))


def cloud_figure(clouds: Sequence[Cloud], title: str = "") -> Figure:
    """Draw clouds side by side: words in rows, the more frequent the larger, colours by language.

    Arabic is shaped and runs from right to left; every script is drawn in an installed font that has it, of DejaVu
    Sans, which comes with matplotlib (Latin, Greek, Cyrillic, Arabic, Hebrew), and those of the system.
    """
    colours = colours_of(language for cloud in clouds for language in cloud.languages.values())
    columns = min(2, len(clouds))
    rows = -(-len(clouds) // columns)
    above, below, between = 0.38 if title else 0.2, 0.2, 0.22  # inches: titles, the legend, titles of further rows
    height = above + below + rows * 1.85 + (rows - 1) * between
    with matplotlib.style.context(cloud_style(clouds), after_reset=True):
        figure = Figure(figsize=(3.35 * columns, height))
        FigureCanvasAgg(figure)  # measures words
        grid = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(
            left=0.01, right=0.99, top=1 - above / height, bottom=below / height, wspace=0.04, hspace=between / 1.85
        )
        for axes in grid.flat[len(clouds) :]:
            axes.set_axis_off()
        for axes, cloud in zip(grid.flat, clouds, strict=False):
            frame(axes, cloud.title)
            fill(axes, cloud, colours)
        if len(colours) > 1:
            handles = [matplotlib.lines.Line2D([], [], color=c, linewidth=3, label=n) for n, c in colours.items()]
            figure.legend(handles=handles, ncols=len(handles), loc="lower center", frameon=False, borderaxespad=0)
        if title:
            _write(figure.suptitle("", fontsize=8, y=1 - 0.04 / height, va="top"), title, _ROOM * figure.bbox.width)
    return figure


def colours_of(languages: Iterable[str]) -> dict[str, str]:
    """Colours of some languages, by name, and grey behind them where words are of several."""
    given = {*languages}
    known = sorted(given - {SHARED})
    colours = dict(zip(known, COLOURS * (1 + len(known) // len(COLOURS)), strict=False))
    return colours | ({SHARED: "0.45"} if SHARED in given else {})


def cloud_style(clouds: Sequence[Cloud]) -> dict[str, Any]:
    """Settings of matplotlib in which the words of clouds can be drawn."""
    return {
        **STYLE,
        "font.family": families(letters(chain.from_iterable((cloud.title, *cloud.words) for cloud in clouds)))[0],
    }


def frame(axes: Axes, title: str) -> None:
    """A thin frame without ticks, and above it a title that is cut to its width.

    The figure has a canvas that measures words.
    """
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    for spine in axes.spines.values():
        spine.set(visible=True, color="0.8")
    _write(axes.set_title("", fontsize=7), title, _ROOM * axes.get_window_extent().width)


def _write(text: Text, words: str, room: float) -> None:
    """Give a text these words; where they are wider than the room (pixels), as many letters as fit and an ellipsis."""

    def width(kept: int) -> float:
        shown = words if kept == len(words) else f"{words[:kept].rstrip()}…"
        text.set_text(shown.replace("$", r"\$"))
        return text.get_window_extent().width

    if width(len(words)) > room:
        fit = bisect.bisect_right(range(1, len(words)), room, key=width)  # of 1, 2, ... letters
        width(fit)


def fill(axes: Axes, cloud: Cloud, colours: Mapping[str, str]) -> None:
    """Words in rows that are as wide as the axes, all smaller until every row fits, then fewer.

    The figure has a canvas that measures words.
    """
    chosen = sorted(cloud.words.items(), key=lambda item: (-item[1], item[0]))[:_WORDS]
    if not chosen:
        return
    texts = [
        axes.text(0, 0, word.replace("$", r"\$"), fontsize=_LARGEST, color=colours[cloud.languages[word]])
        for word, _ in chosen
    ]
    extents = [text.get_window_extent() for text in texts]  # once: they grow with the size of the font
    shapes = 1.03 * np.array([(extent.width, extent.height) for extent in extents]) / _LARGEST  # and rounding
    counts = np.array([count for _, count in chosen])
    relative = _SMALLEST + (_LARGEST - _SMALLEST) * np.sqrt(counts / counts[0])
    box = axes.get_window_extent()
    gap = box.width * 0.025
    tries = [(scale, len(chosen)) for scale in np.geomspace(2, 0.4, 24)]
    tries += [(0.4, words) for words in range(len(chosen) - 1, 0, -1)]
    for scale, words in tries:
        sizes = np.maximum(_LEAST, scale * relative[:words])
        widths, heights = (shapes[:words] * sizes[:, None]).T
        rows = _rows(widths, box.width - 2 * gap, gap)
        tall = [1.15 * heights[row].max() for row in rows]
        if sum(tall) <= box.height and widths.max() <= box.width:
            break
    for text in texts[words:]:
        text.remove()
    y = (box.height + sum(tall)) / 2
    for row, height in zip(rows, tall, strict=True):
        x = (box.width - widths[row].sum() - gap * (len(row) - 1)) / 2
        y -= height
        for at in _in_direction(row, [_runs_left(texts[at].get_text()) for at in row]):
            texts[at].set(position=(x / box.width, (y + 0.2 * height) / box.height), fontsize=sizes[at])  # above tails
            x += widths[at] + gap


def _runs_left(word: str) -> bool | None:
    """Whether the first letter with a direction runs from right to left; None of numbers and marks, which have none."""
    strong = (kind for kind in map(unicodedata.bidirectional, word) if kind in ("L", "R", "AL"))
    return {"L": False, "R": True, "AL": True, None: None}[next(strong, None)]


def _in_direction(row: Sequence[int], leftward: Sequence[bool | None]) -> list[int]:
    """Words of a row from left to right on the page: those that run from right to left stand so, one after the other.

    What has no direction goes with what stands before it, and at the beginning with what comes behind it.

    Examples
    --------
    >>> _in_direction([0, 1, 2, 3], [None, True, None, False]), _in_direction([0, 1], [None, None])
    ([2, 1, 0, 3], [0, 1])
    """
    runs: list[tuple[bool, list[int]]] = []
    known = next((left for left in leftward if left is not None), False)
    for at, left in zip(row, leftward, strict=True):
        known = known if left is None else left
        if not runs or runs[-1][0] != known:
            runs.append((known, []))
        runs[-1][1].append(at)
    return [at for left, run in runs for at in (reversed(run) if left else run)]


def _rows(widths: NDArray[np.float64], room: float, gap: float) -> list[list[int]]:
    """Words in rows, each as full as there is room for."""
    rows: list[list[int]] = [[]]
    taken = 0.0
    for at, width in enumerate(widths.tolist()):
        if rows[-1] and taken + width > room:
            rows.append([])
            taken = 0.0
        rows[-1].append(at)
        taken += width + gap
    return rows


def letters(texts: Iterable[str]) -> frozenset[str]:
    """Letters of some texts."""
    return frozenset(c for text in texts for c in text if not c.isspace())


def without_font(figure: Figure) -> frozenset[str]:
    """Letters of a figure that no installed font has: they are drawn as boxes."""
    return families(letters(text.get_text() for text in figure.findobj(Text)))[1]


@functools.cache
def families(wanted: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Fonts for some letters, by name, and the letters that no installed font has.

    The fonts are DejaVu Sans, and for letters that it lacks the first installed ones, by name, that have them.
    """
    found = ["DejaVu Sans"]
    lacking = {ord(c) for c in wanted} - _letters(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf")
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
    return found, frozenset(map(chr, lacking))


def _letters(path: str) -> set[int]:
    return set(get_font(path).get_charmap())
