"""COLAP: concepts of mixed text that hold words of several languages (Section 2.3)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.kernels import counting
from engine.kernels.fractions import at_least, more_than
from engine.lexicon import Chosen, distinct
from schemas.counts import LANGUAGE_COUNT

UNITS = ("token", "type")


def count_languages(concepts: xr.Dataset, of_tokens: Iterable[NDArray[np.integer]], k: int) -> xr.Dataset:
    """Count the tokens and types of each language in each concept of mixed text.

    Parameters
    ----------
    concepts
        CONCEPTS dataset of a selection of several languages.
    of_tokens
        (layer, token) concepts of its chosen restarts; one layer after another is taken.
    k
        Number of concepts.

    Returns
    -------
    LANGUAGE_COUNT dataset (layer, concept, language, unit).
    """
    columns = concepts.language.values
    names = [str(name) for name in np.atleast_1d(concepts.attrs["languages"])]
    # the same spelling in two languages is two types
    _, types = distinct(Chosen(concepts.word, np.arange(len(columns))), columns)
    counted = [counting.language_count(layer, types, columns, k, len(names)) for layer in of_tokens]
    return LANGUAGE_COUNT.create(
        {
            "layer": concepts.layer.values,
            "language": names,
            "unit": list(UNITS),
            "language_count": np.stack(counted),
        }
    )


def overlapping(
    counts: xr.Dataset,
    *,
    theta_overlap: float = 0.3,
    unit: str = "token",
    min_languages: int | str = 2,
    comparison: str = "at_least",
) -> NDArray[np.bool_]:
    """Which concepts overlap: several languages form θ_O of them each (O_C of Section 2.3).

    Parameters
    ----------
    counts
        LANGUAGE_COUNT dataset.
    theta_overlap
        Fraction of the concept that a language must form, in [0, 1].
    unit
        What is counted: `token` (Section 2.3) or `type`.
    min_languages
        Languages that must, at least 2 (Section 2.3), or `all` of the dataset (Section 3.3).
    comparison
        `at_least` lets a fraction of exactly theta_overlap pass, `more_than` does not (get_overlapping_clusters.py).

    Returns
    -------
    (layer, concept) booleans.
    """
    counted = _counted(counts, unit)
    size = counted.sum(axis=2, keepdims=True)
    compare = at_least if comparison == "at_least" else more_than
    wanted = counted.shape[2] if min_languages == "all" else int(min_languages)
    enough = compare(counted, theta_overlap, size).sum(axis=2) >= wanted
    return np.asarray(enough & (size[:, :, 0] > 0))


def _counted(counts: xr.Dataset, unit: str) -> NDArray[np.integer]:
    """Counts (layer, concept, language) of tokens or types."""
    held = counts.variables["language_count"].transpose("layer", "concept", "language", "unit").values
    return np.asarray(held[..., counts.variables["unit"].values.tolist().index(unit)])


def score(counts: xr.Dataset, *, unit: str = "token", **rules: Any) -> dict[str, NDArray[np.float64]]:
    """COLAP and its parts as bare arrays (layer); see `colap`."""
    found = overlapping(counts, unit=unit, **rules).sum(axis=1)
    concepts = (_counted(counts, unit).sum(axis=2) > 0).sum(axis=1)
    values = {"colap": found / np.maximum(concepts, 1), "overlapping_concepts": found, "concepts": concepts}
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def colap(counts: xr.Dataset, *, unit: str = "token", **rules: Any) -> xr.Dataset:
    """Fraction of concepts that overlap (COLAP, Section 2.3), with its parts; arguments as `overlapping`.

    Returns
    -------
    Dataset (layer): colap in [0, 1], overlapping_concepts, concepts (those that hold a token).
    """
    found = score(counts, unit=unit, **rules)
    return xr.Dataset({name: ("layer", values) for name, values in found.items()}, {"layer": counts.layer.values})
