"""CALIGN × COLAP: which concepts of mixed text are aligned, overlap, do both or neither (Sections 2.3 and 4.2)."""

import numpy as np
from numpy.typing import NDArray


def score(
    pairs: NDArray[np.bool_], overlapping: NDArray[np.bool_], held: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Cross-tabulate the same concepts of mixed text.

    A concept is aligned here when its types of the source language translate into the types of the target language of
    some concept of the same clustering, itself included.

    Parameters
    ----------
    pairs
        (layer, source_concept, target_concept) aligned pairs between the parts of concepts in each language, as
        `engine.calign.aligned` tells them.
    overlapping
        (layer, concept) as `engine.colap.overlapping` tells them.
    held
        (layer, concept) concepts that hold a token.

    Returns
    -------
    Arrays (layer): both, aligned_only, overlapping_only, neither (their sum is `concepts`, those with a token),
    aligned_to_itself (aligned concepts whose types translate into the same concept), and phi, the correlation of being
    aligned and overlapping, in [-1, 1]; NaN where one of them holds for all or for none.
    """
    aligned, overlapping = pairs.any(axis=2) & held, overlapping & held
    cells = {
        "both": aligned & overlapping,
        "aligned_only": aligned & ~overlapping,
        "overlapping_only": overlapping & ~aligned,
        "neither": held & ~aligned & ~overlapping,
        "concepts": held,
        "aligned_to_itself": np.diagonal(pairs, axis1=1, axis2=2) & held,
    }
    found = {name: cell.sum(axis=1).astype(np.float64) for name, cell in cells.items()}
    ones, others = (found["both"] + found[f"{name}_only"] for name in ("aligned", "overlapping"))
    whole = found["concepts"]
    spread = np.sqrt(ones * (whole - ones) * others * (whole - others))
    phi = (found["both"] * whole - ones * others) / np.where(spread > 0, spread, np.nan)
    return found | {"phi": phi}
