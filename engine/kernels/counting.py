"""Counts behind CALIGN and COLAP: boolean sparse products and bincounts.

Products are boolean: with int8 entries, 256 shared translations would add up to 0 (Section 2.2 asks only whether any).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def membership(
    concepts: NDArray[np.integer], types: NDArray[np.integer], n_concepts: int, n_types: int
) -> sparse.csr_array:
    """Boolean (concept, type): whether a token of the type lies in the concept; tokens of concept -1 are left out."""
    kept = concepts >= 0
    pairs = np.unique(concepts[kept].astype(np.int64) * n_types + types[kept])
    return sparse.csr_array(
        (np.ones(len(pairs), bool), (pairs // n_types, pairs % n_types)), shape=(n_concepts, n_types)
    )


def aligned_types(
    source: sparse.csr_array, dictionary: sparse.csr_array, target: sparse.csr_array
) -> NDArray[np.int32]:
    """Types of each source concept with a translation in each target concept (A_Cs of Section 2.2).

    Parameters
    ----------
    source, target
        Boolean (concept, type) memberships.
    dictionary
        Boolean (source type, target type): T(w_s, w_t) > 0 among the N-best.

    Returns
    -------
    (source_concept, target_concept) int32 counts of source types.

    Examples
    --------
    >>> one = sparse.csr_array(np.array([[True, True]]))
    >>> aligned_types(one, sparse.csr_array(np.array([[True], [False]])), sparse.csr_array(np.array([[True]])))
    array([[1]], dtype=int32)
    """
    reaches = dictionary @ target.T  # (source type, target concept), boolean: some translation lies in the concept
    return (source.astype(np.int32) @ reaches.astype(np.int32)).toarray()


def language_count(
    concepts: NDArray[np.integer],
    types: NDArray[np.integer],
    languages: NDArray[np.integer],
    n_concepts: int,
    n_languages: int,
) -> NDArray[np.int64]:
    """Tokens and types of each language in each concept, (concept, language, unit) with units token, type."""
    kept = concepts >= 0
    cell = concepts[kept].astype(np.int64) * n_languages + languages[kept]
    tokens = np.bincount(cell, minlength=n_concepts * n_languages)
    n_types = int(types.max(initial=0)) + 1
    distinct = np.unique(cell * n_types + types[kept]) // n_types  # a type belongs to one language
    kinds = np.bincount(distinct, minlength=n_concepts * n_languages)
    return np.stack([tokens, kinds], axis=-1).reshape(n_concepts, n_languages, 2)
