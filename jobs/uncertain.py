"""Scores of one layer with how far they can be read as signal, whether of a study or of files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, uncertainty
from engine.results import SWEEPS
from jobs.sides import Comparison, Side, count_languages
from schemas.metrics import Metrics
from schemas.results import COLAP_NULLS, NULLS, SWEPT_NULLS, uncertain


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

        def interval(**point: Any) -> tuple[float, float]:
            given = metrics.alignment | point
            whole = counts.source_types.values > (0 if metrics.denominator == "all" else given["min_types"])
            return _interval(np.asarray(calign.aligned(counts, **given).any(axis=2)), whole, draws, seed)

        found["low"], found["high"] = interval()
        found |= _along(sweeps, interval)
        for null in NULLS:
            points = _points([name for name in sweeps if null in SWEPT_NULLS[name]])
            drawn = _null(comparisons, layer, target_layer, metrics, null, draws, seed, points)
            found |= _of_null(null, found["calign"], drawn[:, 0]) | _nulls_along(null, points, drawn)
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

        def interval(**point: Any) -> tuple[float, float]:
            return _interval(colap.overlapping(counts, **(rules | point)), held, draws, seed)

        found["low"], found["high"] = interval()
        found |= _along(sweeps, interval)
        points = _points(sweeps)
        drawn = np.array(
            [
                [colap.score(one, **(rules | point))["colap"][0] for point in points]
                for one in uncertainty.shuffled(counts, draws=draws, seed=seed)
            ]
        )
        found |= _of_null("languages", found["colap"], drawn[:, 0]) | _nulls_along("languages", points, drawn)
    return found, counts


def _points(sweeps: Sequence[str]) -> list[dict[str, float]]:
    """The study's own thresholds, and each threshold along each sweep."""
    return [{}, *({name: value} for name in sweeps for value in SWEEPS[name])]


def _along(sweeps: Sequence[str], interval: Callable[..., tuple[float, float]]) -> dict[str, NDArray[np.float64]]:
    """Ends of the intervals (threshold) along each sweep."""
    found = {}
    for name in sweeps:
        ends = np.array([interval(**{name: value}) for value in SWEEPS[name]])
        found[f"low_by_{name}"], found[f"high_by_{name}"] = ends.T
    return found


def _nulls_along(
    null: str, points: Sequence[Mapping[str, float]], drawn: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """What is said of the scores (draw, point) of a null along each sweep."""
    found = {}
    for name in dict.fromkeys(name for point in points for name in point):
        of_name = drawn[:, [name in point for point in points]]
        found[f"null_{null}_by_{name}"] = of_name.mean(axis=0)
        found[f"null_{null}_high_by_{name}"] = uncertainty.interval(of_name)[1]
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
    rules: dict[str, Any] = {**metrics.alignment, "n_best": 1, "denominator": metrics.denominator}
    made = [
        one.unrelated(layer, target_layer, metrics.n_best, null, draws, seed + number)
        for number, one in enumerate(comparisons)
    ]
    drawn = (calign.union(counts) for counts in zip(*made, strict=True))
    return np.array([[calign.score(one, **{**rules, **point})["calign"][0] for point in points] for one in drawn])


def _spread(restarts: Sequence[float], chosen: float) -> dict[str, float]:
    every = [chosen, *restarts]  # source and target may have chosen restarts that are no pair of the same seed
    return {"restart_low": min(every), "restart_high": max(every)}


def _interval(
    numerator: NDArray[np.bool_], denominator: NDArray[np.bool_], draws: int, seed: int
) -> tuple[float, float]:
    low, high = uncertainty.interval(uncertainty.bootstrap(numerator, denominator, draws, seed)[:, 0])
    return float(low), float(high)


def _of_null(name: str, observed: float, drawn: NDArray[np.floating]) -> dict[str, float]:
    """What is said of the scores (draw) of a null."""
    return {
        f"null_{name}": float(drawn.mean()),
        f"null_{name}_high": float(uncertainty.interval(drawn)[1]),
        f"null_{name}_p": float(uncertainty.exceeding(np.array([observed]), drawn[:, None])[0]),
    }
