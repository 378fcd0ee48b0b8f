"""Scores of one layer with how far they can be read as signal, whether of a study or of files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, uncertainty
from engine.results import SWEEPS
from jobs.sides import Comparison, Side, count_languages
from schemas.metrics import Metrics
from schemas.results import COLAP_NULLS, NULLS, uncertain


def scored_alignment(
    comparisons: Sequence[Comparison],
    layer: int,
    target_layer: int,
    metrics: Metrics,
    *,
    draws: int,
    seed: int,
    sweeps: Sequence[str] = (),
) -> tuple[dict[str, Any], xr.Dataset]:
    """CALIGN of two layers towards some concept of any target, and the counts behind it.

    Parameters
    ----------
    draws
        Draws of bootstrap and nulls; 0 for neither.
    sweeps
        Thresholds along which intervals and nulls are drawn, too.

    Returns
    -------
    Variables of CALIGN_MATRIX, NaN where not asked for, and of CALIGN_UNCERTAINTY_OF_PART along sweeps; ALIGNED_TYPES
    of the N-best, or of all ranks.
    """
    rules = metrics.alignment | {"denominator": metrics.denominator}
    ranks = metrics.n_ranks if "n_best" in sweeps else metrics.n_best
    counts = calign.union([one.counts(layer, target_layer, ranks) for one in comparisons])
    found: dict[str, Any] = {name: float(values[0]) for name, values in calign.score(counts, **rules).items()}
    found |= dict.fromkeys(uncertain(NULLS), np.nan)
    found |= _spread(_restarts(comparisons, layer, target_layer, metrics), found["calign"])
    if draws:
        points = _points(sweeps)
        given = [metrics.alignment | point for point in points]
        hits = np.concatenate([calign.aligned(counts, **one).any(axis=2) for one in given])
        least = [0 if metrics.denominator == "all" else one["min_types"] for one in given]
        whole = np.concatenate([counts.source_types.values > types for types in least])
        found |= _intervals(points, uncertainty.bootstrap(hits, whole, draws, seed))
        for null in NULLS:
            drawn = _null(comparisons, layer, target_layer, metrics, null, draws, seed, points)
            found |= _of_null(null, found["calign"], points, drawn)
    return found, counts


def scored_overlap(
    side: Side, layer: int, metrics: Metrics, *, draws: int, seed: int, sweeps: Sequence[str] = ()
) -> tuple[dict[str, Any], xr.Dataset]:
    """COLAP of one layer, and the counts behind it.

    Parameters
    ----------
    draws
        Draws of bootstrap and null; 0 for neither.
    sweeps
        Thresholds along which intervals and nulls are drawn, too.

    Returns
    -------
    Variables of COLAP_OF_STORES, NaN where not asked for, and of COLAP_UNCERTAINTY_OF_PART along sweeps;
    LANGUAGE_COUNT.
    """
    rules = metrics.overlap
    counts = count_languages(side, layer)
    found: dict[str, Any] = {name: float(values[0]) for name, values in colap.score(counts, **rules).items()}
    found |= dict.fromkeys(uncertain(COLAP_NULLS), np.nan)
    runs = side.restarts().tolist()
    restarts = [float(colap.score(count_languages(side, layer, run), **rules)["colap"][0]) for run in runs[1:] and runs]
    found |= _spread(restarts, found["colap"])
    if draws:
        held = counts.language_count.sel(unit="token").sum("language").values > 0
        points = _points(sweeps)
        hits = np.concatenate([colap.overlapping(counts, **(rules | point)) for point in points])
        found |= _intervals(points, uncertainty.bootstrap(hits, np.repeat(held, len(points), axis=0), draws, seed))
        drawn = np.array(
            [
                [colap.score(one, **(rules | point))["colap"][0] for point in points]
                for one in uncertainty.shuffled(counts, draws=draws, seed=seed)
            ]
        )
        found |= _of_null("languages", found["colap"], points, drawn)
    return found, counts


def _points(sweeps: Sequence[str]) -> list[dict[str, float]]:
    """The study's own thresholds, and each threshold along each sweep."""
    return [{}, *({name: value} for name in sweeps for value in SWEEPS[name])]


def _along(
    points: Sequence[Mapping[str, float]], drawn: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Scores (draw, threshold) along each sweep, with what goes behind names."""
    for name in dict.fromkeys(name for point in points for name in point):
        yield f"_by_{name}", drawn[:, [name in point for point in points]]


def _intervals(points: Sequence[Mapping[str, float]], drawn: NDArray[np.float64]) -> dict[str, Any]:
    """What is said of the bootstrap's scores (draw, point)."""
    low, high = uncertainty.interval(drawn[:, 0])
    found: dict[str, Any] = {"low": float(low), "high": float(high)}
    for behind, of_name in _along(points, drawn):
        found[f"low{behind}"], found[f"high{behind}"] = uncertainty.interval(of_name)
    return found


def _restarts(comparisons: Sequence[Comparison], layer: int, target_layer: int, metrics: Metrics) -> list[float]:
    """CALIGN of every restart of the source with the same restart of the targets; none where there is one alone."""
    rules = metrics.alignment | {"denominator": metrics.denominator}
    runs = [side.restarts().tolist() for side in (comparisons[0].source, *(one.target for one in comparisons))]
    scored = []
    for of_source, *of_targets in list(zip(*runs, strict=False))[1:] and zip(*runs, strict=False):
        counts = [
            one.counts(layer, target_layer, metrics.n_best, (of_source, run))
            for one, run in zip(comparisons, of_targets, strict=True)
        ]
        scored.append(float(calign.score(calign.union(counts), **rules)["calign"][0]))
    return scored


def _null(
    comparisons: Sequence[Comparison],
    layer: int,
    target_layer: int,
    metrics: Metrics,
    null: str,
    draws: int,
    seed: int,
    points: Sequence[Mapping[str, float]],
) -> NDArray[np.float64]:
    """CALIGN (draw, point) where concepts do not correspond, with some thresholds in place of the study's."""
    rules: dict[str, Any] = {**metrics.alignment, "denominator": metrics.denominator}
    by_rank = any("n_best" in point for point in points)
    if not by_rank:
        rules["n_best"] = 1
    n_best = metrics.n_ranks if by_rank else metrics.n_best
    made = [
        one.unrelated(layer, target_layer, n_best, null, draws, seed + number, by_rank=by_rank)
        for number, one in enumerate(comparisons)
    ]
    drawn = (calign.union(counts) for counts in zip(*made, strict=True))
    return np.array([calign.along(one, points, **rules)[0] for one in drawn])


def _spread(restarts: Sequence[float], chosen: float) -> dict[str, float]:
    every = [chosen, *restarts]  # source and target may have chosen restarts that are no pair of the same seed
    return {"restart_low": min(every), "restart_high": max(every)}


def _of_null(
    name: str, observed: float, points: Sequence[Mapping[str, float]], drawn: NDArray[np.float64]
) -> dict[str, Any]:
    """What is said of the scores (draw, point) of a null."""
    own = drawn[:, 0]
    found: dict[str, Any] = {
        f"null_{name}": float(own.mean()),
        f"null_{name}_high": float(uncertainty.interval(own)[1]),
        f"null_{name}_p": float(uncertainty.exceeding(np.array([observed]), own[:, None])[0]),
    }
    for behind, of_name in _along(points, drawn):
        found[f"null_{name}{behind}"] = of_name.mean(axis=0)
        found[f"null_{name}_high{behind}"] = uncertainty.interval(of_name)[1]
    return found
