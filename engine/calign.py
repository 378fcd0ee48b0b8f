"""CALIGN: concepts of one language whose types translate into one concept of another (Section 2.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.kernels.fractions import at_least, more_than
from schemas.errors import InputError


def with_reverse(counts: xr.Dataset, reverse: xr.Dataset) -> xr.Dataset:
    """The counts of a direction beside those of the other, so that `calign` knows which pairs are aligned in both.

    Parameters
    ----------
    counts, reverse
        ALIGNED_TYPES datasets of the same concepts, reverse from the target to the source.

    Returns
    -------
    The first with reverse_types (rank, layer, source_concept, target_concept): units of the target concept with a
    translation in the source concept.
    """
    dims = ("rank", "layer", "source_concept", "target_concept")
    found = reverse.aligned_types.drop_attrs().rename(source_concept="other")  # names cannot be swapped at once
    found = found.rename(target_concept="source_concept").rename(other="target_concept")
    return counts.assign(reverse_types=found.transpose(*dims))


def best(counts: xr.Dataset, n: int) -> xr.Dataset:
    """Counts of the n best translations alone, in the place of their last rank: quicker to score many times.

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset, with or without reverse_types.
    """
    names = [name for name, variable in counts.data_vars.items() if "rank" in variable.dims]
    summed = {name: counts[name].values[:n].sum(axis=0, dtype=np.int32, keepdims=True) for name in names}
    return counts.isel(rank=[n - 1]).assign({name: (counts[name].dims, values) for name, values in summed.items()})


def union(counts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Counts of one source towards several targets as towards one: «some concept in another language» (Section 2.2).

    Parameters
    ----------
    counts
        ALIGNED_TYPES datasets of the same source concepts, with or without reverse_types.

    Returns
    -------
    ALIGNED_TYPES with the concepts of all targets along target_concept.
    """
    if len(counts) == 1:
        return counts[0]
    of_target = [name for name, variable in counts[0].variables.items() if "target_concept" in variable.dims]
    joined = xr.concat([one[of_target] for one in counts], "target_concept", join="override")
    return counts[0].drop_vars(of_target).assign(joined.variables)


def aligned(
    counts: xr.Dataset,
    *,
    back: bool = False,
    n_best: int = 10,
    theta_align: float = 0.8,
    min_types: int = 5,
    max_size_gap: float = 0.4,
    comparison: str = "at_least",
    size_rule: str = "both",
    min_types_of: str = "both",
) -> NDArray[np.bool_]:
    """Which pairs of concepts are aligned (Sections 2.2 and 3.3).

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset.
    back
        Whether target concepts are to be aligned to source concepts: needs `with_reverse`.
    n_best
        Translations of a type that count, at most the ranks that were counted.
    theta_align
        Fraction of a source concept's units with a translation in the target concept, in [0, 1].
    min_types
        Concepts must have more types than this.
    max_size_gap
        Sizes may differ by at most this fraction of the larger, in [0, 1].
    comparison
        `at_least` lets values at theta_align and max_size_gap pass, `more_than` does not (alignClusters.py).
    size_rule
        `both`, or `source`: a source concept may be larger than the target at will (alignClusters.py).
    min_types_of
        `both` concepts, or the `source` alone (alignClusters.py).

    Returns
    -------
    (layer, source_concept, target_concept) booleans. A concept without types is never aligned by `more_than`.

    Raises
    ------
    InputError
        n_best is more than the ranks that were counted.
    """
    best = _of_best(counts, "reverse_types" if back else "aligned_types", n_best)
    one, other = ("target", "source") if back else ("source", "target")
    held = counts.variables  # bare: labels take longer than to compare the counts of a small study
    found = _pairs(
        best.transpose(0, 2, 1) if back else best,
        [(held[f"{side}_size"].values, held[f"{side}_types"].values) for side in (one, other)],
        theta_align=theta_align,
        min_types=min_types,
        max_size_gap=max_size_gap,
        comparison=comparison,
        size_rule=size_rule,
        min_types_of=min_types_of,
    )
    return found.transpose(0, 2, 1) if back else found


def _of_best(counts: xr.Dataset, name: str, n_best: int) -> NDArray[np.integer]:
    """Counts (layer, source_concept, target_concept) of the n best translations."""
    ranks = counts.variables["rank"].values
    counted = int(ranks[-1]) + 1
    if n_best > counted:
        raise InputError(f"n_best is {n_best}, and translations were counted up to {counted}; count again with more")
    part = counts.variables[name].values[: int(np.searchsorted(ranks, n_best))]
    return np.asarray(part[0] if len(part) == 1 else part.sum(axis=0, dtype=np.int32))


def along(
    counts: xr.Dataset, points: Sequence[Mapping[str, float]], *, denominator: str = "all", **rules: Any
) -> NDArray[np.float64]:
    """CALIGN (layer, point) with several values of n_best, theta_align and min_types in place of those of the rules.

    The pairs that pass the loosest of them are found once, so that a point costs next to nothing. Each of the three is
    among the rules, or in every point.
    """
    given: list[dict[str, Any]] = [{**rules, **point} for point in points]
    loosest = {name: min(one[name] for one in given) for name in ("theta_align", "min_types")}
    loosest["n_best"] = max(one["n_best"] for one in given)
    layer, source, target = np.unravel_index(np.flatnonzero(pairs := aligned(counts, **(rules | loosest))), pairs.shape)
    compare = at_least if rules.get("comparison", "at_least") == "at_least" else more_than
    by_rank = counts.aligned_types.values[:, layer, source, target]
    best = np.concatenate([np.zeros_like(by_rank[:1]), by_rank.cumsum(axis=0, dtype=np.int32)])
    counted = counts.aligned_types["rank"].values
    size, every = counts.source_size.values[layer, source], counts.source_types.values
    types = every[layer, source]
    if rules.get("min_types_of", "both") == "both":
        types = np.minimum(types, counts.target_types.values[layer, target])
    found = np.zeros((len(every), len(points)))
    for at, one in enumerate(given):
        part = best[np.searchsorted(counted, one["n_best"])]
        kept = compare(part, one["theta_align"], size) & (types > one["min_types"])
        hit = np.zeros(every.shape, bool)
        hit[layer[kept], source[kept]] = True
        whole = (every > (0 if denominator == "all" else one["min_types"])).sum(axis=1)
        found[:, at] = hit.sum(axis=1) / np.maximum(whole, 1)
    return found


def _pairs(
    part: NDArray[np.integer],
    sides: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    *,
    theta_align: float,
    min_types: int,
    max_size_gap: float,
    comparison: str,
    size_rule: str,
    min_types_of: str,
) -> NDArray[np.bool_]:
    """The pairs that pass, by the cheapest rule first: only cells with enough units are looked at further."""
    (source_size, source_types), (target_size, target_types) = sides
    compare = at_least if comparison == "at_least" else more_than
    found = np.asarray(compare(part, theta_align, source_size[:, :, None]))
    at = np.unravel_index(np.flatnonzero(found), found.shape)  # several times as fast as nonzero
    layer, one, other = at
    source, target = source_size[layer, one], target_size[layer, other]
    if size_rule == "both":
        close = compare(np.minimum(source, target), 1 - max_size_gap, np.maximum(source, target))
    else:
        close = compare(source, 1 - max_size_gap, target) & (target > 0)
    types = source_types[layer, one]
    if min_types_of == "both":
        types = np.minimum(types, target_types[layer, other])
    found[at] = close & (types > min_types)
    return found


def score(counts: xr.Dataset, *, denominator: str = "all", **rules: Any) -> dict[str, NDArray[np.float64]]:
    """CALIGN and its parts as bare arrays (layer); see `calign`."""
    pairs = aligned(counts, **rules)
    numerator = pairs.any(axis=2).sum(axis=1)
    types = counts.variables["source_types"].values
    held = (types > 0).sum(axis=1)
    considered = (types > rules.get("min_types", 5)).sum(axis=1)
    whole = held if denominator == "all" else considered
    sources_of_target = pairs.sum(axis=1)
    largest = sources_of_target.max(axis=1, initial=0)
    mutual = np.full(len(whole), np.nan)
    if "reverse_types" in counts.variables:
        mutual = (pairs & aligned(counts, back=True, **rules)).any(axis=2).sum(axis=1)
    values = {
        "calign": numerator / np.maximum(whole, 1),
        "aligned_concepts": numerator,
        "concepts": whole,
        "considered_concepts": considered,
        "matched_targets": (sources_of_target > 0).sum(axis=1),
        "largest_hub": largest,
        "hub_share": np.where(numerator > 0, largest / np.maximum(numerator, 1), np.nan),
        "mutual_concepts": mutual,
        "mutual_calign": mutual / np.maximum(whole, 1),
    }
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def calign(counts: xr.Dataset, *, denominator: str = "all", **rules: Any) -> xr.Dataset:
    """Fraction of source concepts aligned to some target concept (CALIGN, Section 2.2), with its parts.

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset; with those of the other direction (`with_reverse`) pairs aligned in both are told.
    denominator
        `all`: every source concept that holds a type, the paper's «percentage of concepts from language s»;
        `considered`: those with more than min_types types.
    rules
        Arguments of `aligned`.

    Returns
    -------
    Dataset (layer): calign in [0, 1], aligned_concepts, concepts (the denominator), considered_concepts (more than
    min_types types), matched_targets (distinct target concepts matched), largest_hub (source concepts that match the
    most matched one), hub_share (its share of the aligned, in [0, 1]; NaN where none is), mutual_concepts (aligned to
    a concept that is aligned to them), mutual_calign (their fraction, in [0, 1]); NaN where the other direction is not
    known.
    """
    found = score(counts, denominator=denominator, **rules)
    return xr.Dataset({name: ("layer", values) for name, values in found.items()}, {"layer": counts.layer.values})
