"""COLAP: concepts of mixed text that hold words of several languages (Section 2.3)."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.kernels import counting
from engine.kernels.fractions import at_least
from engine.text import gather
from schemas.counts import LANGUAGE_COUNT

UNITS = ("token", "type")


def count_languages(concepts: xr.Dataset, of_tokens: NDArray[np.integer], corpus: xr.Dataset) -> xr.Dataset:
    """Count the tokens and types of each language in each concept of mixed text.

    Parameters
    ----------
    concepts
        CONCEPTS dataset of a selection of several languages.
    of_tokens
        (layer, token) concepts of its chosen restarts.

    Returns
    -------
    LANGUAGE_COUNT dataset (layer, concept, language, unit).
    """
    token_id = np.asarray(concepts.token_id.values)
    languages = gather(corpus, "token_language", token_id)
    present = np.unique(languages)
    types = gather(corpus, "token_type", token_id)
    columns = np.searchsorted(present, languages)
    counted = [
        counting.language_count(layer, types, columns, concepts.sizes["concept_id"], len(present))
        for layer in of_tokens
    ]
    return LANGUAGE_COUNT.create(
        {
            "layer": concepts.layer.values,
            "language": corpus.language.values[present],
            "unit": list(UNITS),
            "language_count": np.stack(counted),
        }
    )


def colap(counts: xr.Dataset, *, theta_overlap: float = 0.3, unit: str = "token") -> xr.Dataset:
    """Fraction of concepts of which at least two languages form θ_O each (COLAP, Section 2.3), with its parts.

    Parameters
    ----------
    counts
        LANGUAGE_COUNT dataset.
    theta_overlap
        Least fraction of the concept that a language must form, in [0, 1].
    unit
        What is counted: `token` (Section 2.3) or `type`.

    Returns
    -------
    Dataset (layer): colap in [0, 1], overlapping_concepts, concepts (those that hold a token).
    """
    counted = counts.language_count.sel(unit=unit).transpose("layer", "concept", "language").values
    size = counted.sum(axis=2, keepdims=True)
    forms = at_least(counted, theta_overlap, size)
    overlapping = ((forms.sum(axis=2) >= 2) & (size[:, :, 0] > 0)).sum(axis=1)
    concepts = (size[:, :, 0] > 0).sum(axis=1)
    return xr.Dataset(
        {
            "colap": ("layer", overlapping / np.maximum(concepts, 1)),
            "overlapping_concepts": ("layer", overlapping.astype(np.float64)),
            "concepts": ("layer", concepts.astype(np.float64)),
        },
        {"layer": counts.layer.values},
    )
