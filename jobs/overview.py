"""One figure of a whole study: a concept that several languages share, and the space of mixed text (Figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from engine import colap, store
from engine.concepts import chosen_concepts, chosen_runs
from engine.flat import flat
from jobs import label_files
from jobs.clouds import Cloud, cloud_style, colours_of, fill, frame
from jobs.figures import PAGE_WIDTH
from jobs.layout import Layout
from jobs.selections import concepts_name
from jobs.show import by_count, strengths
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.study import Study

_LANGUAGES = 5
"""Languages in which a shared concept is shown at most."""

_LARGEST_DOT = 60.0
"""Area of the largest concept on a map, in square points."""


@dataclass(frozen=True)
class Map:
    """Concepts of mixed text in two dimensions."""

    title: str
    places: NDArray[np.float32]
    """(concept, 2); NaN where there is none."""
    tokens: NDArray[np.integer]
    """(concept, language)."""
    languages: tuple[str, ...]
    overlapping: NDArray[np.bool_]
    """(concept)."""


def checkpoint_of(study: Study, *languages: str) -> str:
    """The checkpoint that stands for some languages: the last tuned on all of them, or the last tuned, or the last."""
    fine = [name for name in study.checkpoints if study.fine_tuning(name, *languages) == "fine-tuned"]
    tuned = [name for name, checkpoint in study.checkpoints.items() if checkpoint.tuned_on]
    return (fine or tuned or [*study.checkpoints])[-1]


def before_and_after(study: Study) -> list[str]:
    """A checkpoint that was not tuned, and the one shown of the mixed text; one alone where there is no other."""
    given = study.checkpoints
    plain = [name for name, checkpoint in given.items() if not checkpoint.tuned_on and not checkpoint.untrained]
    return list(dict.fromkeys(((plain or [*given])[0], checkpoint_of(study, *_most_languages(study)))))


def _most_languages(study: Study) -> tuple[str, ...]:
    """The languages of the mixed text that has most of them, the first of such."""
    return max(study.language_sets, key=len)


def overview_figure(
    scores: xr.DataArray, study: Study, layout: Layout, checkpoints: Sequence[str], stack: str
) -> Figure:
    """Draw a concept of the last checkpoint in several languages, above mixed text in each checkpoint (Figure 1).

    The mixed text is that of the most languages; the layer is one that all of the checkpoints have, or else the last.

    Parameters
    ----------
    scores
        CALIGN (checkpoint, stack, layer, source, target).
    """
    of_stack = scores.sel(stack=stack, checkpoint=list(checkpoints))
    held = of_stack.notnull().any(("source", "target"))
    if not held.all("checkpoint").any():
        checkpoints = checkpoints[-1:]
    last = checkpoints[-1]
    common = held.sel(checkpoint=list(checkpoints)).all("checkpoint").values
    layer, clouds = shared_concept(of_stack.sel(checkpoint=last).isel(layer=common), study, layout, last, stack)
    group = "+".join(_most_languages(study))
    return drawn([*clouds], [space(study, layout, name, stack, group, layer) for name in checkpoints])


def shared_concept(
    scores: xr.DataArray, study: Study, layout: Layout, checkpoint: str, stack: str
) -> tuple[int, list[Cloud]]:
    """The words of a concept of one language, and of those of others that it is aligned to, at one layer.

    Of the source with most targets, at the layer where most of its concepts are aligned on average, it is the concept
    that is aligned to most languages, and of those the one with most aligned types.

    Parameters
    ----------
    scores
        CALIGN (layer, source, target) of the checkpoint and stack.

    Returns
    -------
    The layer, and a cloud of the source and of the languages that match it best; none where nothing is aligned.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for source, target in study.directions:
        groups.setdefault((source, concepts_name(study, source, target)), []).append(target)
    (source, selection), targets = max(groups.items(), key=lambda group: len(group[1]))
    means = scores.sel(source=source, target=targets).mean("target").dropna("layer")
    layer = int(means.layer.values[means.values.size - 1 - int(means.values[::-1].argmax())])
    k = study.concepts.ks[0]
    strength = []
    for target in targets:
        counted = layout.aligned_types(checkpoint, stack, k, source, target)
        counts = store.load(counted, ALIGNED_TYPES).sel(layer=[layer])
        with store.undamaged(counted):
            strength.append(strengths(counts.compute(), study.metrics))
    best = np.stack([one.max(axis=1) for one in strength])
    chosen = int(np.lexsort((best.sum(axis=0), (best > 0).sum(axis=0)))[-1])
    if not best[:, chosen].any():
        return layer, []
    found = [(source, selection, chosen)]
    found += [
        (targets[at], concepts_name(study, targets[at], source), int(strength[at][chosen].argmax()))
        for at in np.argsort(-best[:, chosen], kind="stable")[: _LANGUAGES - 1].tolist()
        if best[at, chosen]
    ]
    known = label_files.read(layout)
    clouds = []
    for language, name, concept in found:
        path = layout.concepts(checkpoint, stack, name)
        concepts = store.load(path, CONCEPTS)
        with store.undamaged(path):
            of_layer = chosen_concepts(concepts, k)[concepts.layer.values.tolist().index(layer)]
            words = by_count(concepts.word.values[of_layer == concept])
        titles = label_files.titles(study, layout, known, checkpoint, stack, name, layer)
        clouds.append(Cloud.ranked(f"{language}: {titles.get(concept, f'{len(words)} types')}", words, language))
    return layer, clouds


def space(study: Study, layout: Layout, checkpoint: str, stack: str, group: str, layer: int) -> Map:
    """Where the concepts of mixed text lie at a layer: t-SNE of their centroids."""
    path, k = layout.concepts(checkpoint, stack, group), study.concepts.ks[0]
    concepts = store.load(path, CONCEPTS)
    with store.undamaged(path):
        at = concepts.layer.values.tolist().index(layer)
        centroids = concepts.centroid[int(chosen_runs(concepts, k)[at]), at].values[:k]
    counts = store.read(layout.language_count(checkpoint, stack, k, group), LANGUAGE_COUNT).sel(layer=[layer])
    rules = study.metrics.overlap
    share = float(colap.colap(counts, **rules).colap.values[0])
    tokens = counts.language_count.sel(unit="token").isel(layer=0).transpose("concept", "language")
    return Map(
        f"{checkpoint}, layer {layer}: {share:.0%} overlap",
        flat(centroids, study.concepts.seed),
        tokens.values,
        tuple(tokens.language.values.tolist()),
        colap.overlapping(counts, **rules)[0],
    )


def drawn(clouds: Sequence[Cloud], maps: Sequence[Map]) -> Figure:
    """Draw clouds above maps.

    A dot is a concept: its area is its tokens, its colour the language of most of them, and a black ring says that it
    overlaps.
    """
    colours = colours_of(
        chain((one for cloud in clouds for one in cloud.languages.values()), *(of.languages for of in maps))
    )
    rows: list[Sequence[Cloud | Map]] = [row for row in (clouds, maps) if row]
    heights = [1.7 if row is clouds else 2.6 for row in rows]
    with matplotlib.style.context(cloud_style(clouds), after_reset=True):
        figure = Figure(figsize=(PAGE_WIDTH, sum(heights) + 0.4))
        FigureCanvasAgg(figure)  # measures words
        room = 0.3 / (sum(heights) + 0.4)
        grid = figure.add_gridspec(
            len(rows), 1, height_ratios=heights, left=0.01, right=0.99, bottom=room, top=1 - room, hspace=0.16
        )
        for at, row in enumerate(rows):
            inner = grid[at].subgridspec(1, len(row), wspace=0.03)
            for place, one in enumerate(row):
                axes = figure.add_subplot(inner[place])
                frame(axes, one.title)
                if isinstance(one, Cloud):
                    fill(axes, one, colours)
                else:
                    _scatter(axes, one, colours)
        handles = [Line2D([], [], color=c, linewidth=3, label=name) for name, c in colours.items()]
        if maps:
            ring = Line2D([], [], marker="o", markerfacecolor="none", markeredgecolor="black", linestyle="none")
            ring.set_label("overlaps")
            handles.append(ring)
        figure.legend(handles=handles, ncols=min(len(handles), 8), loc="lower center", frameon=False, borderaxespad=0.2)
    return figure


def _scatter(axes: Axes, of: Map, colours: dict[str, str]) -> None:
    size = of.tokens.sum(axis=1)
    held = np.isfinite(of.places).all(axis=1) & (size > 0)
    order = np.flatnonzero(held)[np.argsort(-size[held], kind="stable")]  # small ones lie above large ones
    most = [colours[of.languages[language]] for language in of.tokens[order].argmax(axis=1)]
    axes.scatter(
        of.places[order, 0],
        of.places[order, 1],
        s=_LARGEST_DOT * size[order] / max(1, int(size.max())),
        c=to_rgba_array(most, 0.8),
        edgecolors=["black" if ring else "none" for ring in of.overlapping[order]],
        linewidths=0.7,
    )
    axes.autoscale()
    axes.margins(0.04)
