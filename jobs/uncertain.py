"""Scores of one layer with how far they can be read as signal, whether of a study or of files."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, uncertainty
from jobs.sides import Comparison, Side, count_languages
from schemas.metrics import Metrics
from schemas.results import COLAP_NULLS, NULLS, uncertain


def scored_alignment(
    comparisons: Sequence[Comparison], layer: int, target_layer: int, metrics: Metrics, *, draws: int, seed: int
) -> tuple[dict[str, float], xr.Dataset]:
    """CALIGN of two layers towards some concept of any target, and the counts behind it.

    Parameters
    ----------
    draws
        Draws of bootstrap and nulls; 0 for neither.

    Returns
    -------
    Variables of CALIGN_MATRIX, NaN where not asked for; ALIGNED_TYPES of the N-best.
    """
    rules = metrics.alignment | {"denominator": metrics.denominator}
    counts = calign.union([one.counts(layer, target_layer, metrics.n_best) for one in comparisons])
    found = {name: float(values[0]) for name, values in calign.score(counts, **rules).items()}
    found |= dict.fromkeys(uncertain(NULLS), np.nan)
    found |= _spread(_restarts(comparisons, layer, target_layer, metrics), found["calign"])
    if draws:
        aligned = np.asarray(calign.aligned(counts, **metrics.alignment).any(axis=2))
        whole = np.asarray(counts.source_types.values > (0 if metrics.denominator == "all" else metrics.min_types))
        found |= _interval(uncertainty.bootstrap(aligned, whole, draws, seed)[:, 0])
        for null in NULLS:
            drawn = _null(comparisons, layer, target_layer, metrics, null, draws, seed)
            found |= _of_null(null, found["calign"], drawn)
    return found, counts


def scored_overlap(
    side: Side, layer: int, metrics: Metrics, *, draws: int, seed: int
) -> tuple[dict[str, float], xr.Dataset]:
    """COLAP of one layer, and the counts behind it.

    Parameters
    ----------
    draws
        Draws of bootstrap and null; 0 for neither.

    Returns
    -------
    Variables of COLAP_OF_STORES, NaN where not asked for; LANGUAGE_COUNT.
    """
    rules = metrics.overlap
    counts = count_languages(side, layer)
    found = {name: float(values[0]) for name, values in colap.score(counts, **rules).items()}
    found |= dict.fromkeys(uncertain(COLAP_NULLS), np.nan)
    runs = side.restarts().tolist()
    restarts = [float(colap.score(count_languages(side, layer, run), **rules)["colap"][0]) for run in runs[1:] and runs]
    found |= _spread(restarts, found["colap"])
    if draws:
        held = counts.language_count.sel(unit="token").sum("language").values > 0
        found |= _interval(uncertainty.bootstrap(colap.overlapping(counts, **rules), held, draws, seed)[:, 0])
        null = [colap.score(one, **rules)["colap"][0] for one in uncertainty.shuffled(counts, draws=draws, seed=seed)]
        found |= _of_null("languages", found["colap"], np.array(null))
    return found, counts


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
    comparisons: Sequence[Comparison], layer: int, target_layer: int, metrics: Metrics, null: str, draws: int, seed: int
) -> NDArray[np.float64]:
    """CALIGN (draw) of one layer where concepts do not correspond."""
    rules = metrics.alignment | {"n_best": 1, "denominator": metrics.denominator}
    made = [
        one.unrelated(layer, target_layer, metrics.n_best, null, draws, seed + number)
        for number, one in enumerate(comparisons)
    ]
    return np.array([calign.score(calign.union(counts), **rules)["calign"][0] for counts in zip(*made, strict=True)])


def _spread(restarts: Sequence[float], chosen: float) -> dict[str, float]:
    every = [chosen, *restarts]  # source and target may have chosen restarts that are no pair of the same seed
    return {"restart_low": min(every), "restart_high": max(every)}


def _interval(drawn: NDArray[np.floating]) -> dict[str, float]:
    low, high = uncertainty.interval(drawn)
    return {"low": float(low), "high": float(high)}


def _of_null(name: str, observed: float, drawn: NDArray[np.floating]) -> dict[str, float]:
    """What is said of the scores (draw) of a null."""
    return {
        f"null_{name}": float(drawn.mean()),
        f"null_{name}_high": float(uncertainty.interval(drawn)[1]),
        f"null_{name}_p": float(uncertainty.exceeding(np.array([observed]), drawn[:, None])[0]),
    }
