"""Counts behind CALIGN and COLAP: sparse products and bincounts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def membership(
    concepts: NDArray[np.integer],
    types: NDArray[np.integer],
    n_concepts: int,
    n_types: int,
    *,
    tokens: bool = False,
) -> sparse.csr_matrix:
    """Float32 (concept, type): 1 where a token of the type lies in the concept, or how many do with `tokens`.

    Tokens of concept -1 are left out.
    """
    cells, count = _cells(concepts, types, n_types)
    starts = np.searchsorted(cells, np.arange(n_concepts + 1) * n_types)
    values = count.astype(np.float32) if tokens else np.ones(len(cells), np.float32)
    return sparse.csr_matrix(
        (values, (cells % n_types).astype(np.int32), starts.astype(np.int32)), shape=(n_concepts, n_types)
    )


def _cells(
    concepts: NDArray[np.integer], types: NDArray[np.integer], n_types: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs as concept x n_types + type (cell), increasing, and the tokens (cell) of each; 9 bytes a token."""
    cells = concepts.astype(np.int64)
    cells *= n_types
    cells += types
    cells.sort()
    cells = cells[np.searchsorted(cells, 0) :]  # those of concept -1 come first
    first = np.ones(len(cells), bool)
    np.not_equal(cells[1:], cells[:-1], out=first[1:])
    at = np.flatnonzero(first)
    return cells[at], np.diff(at, append=len(cells))


_BLOCK = 1 << 16
"""Source types at once: about ten of their translations lie in a few concepts each, which takes tens of MB."""


_FLOAT32_RANKS = 60
"""Ranks whose weights float32 holds: the least is 4^-59, and its smallest number 2^-126."""


def aligned_types(
    source: sparse.csr_matrix,
    target: sparse.csr_matrix,
    entries: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]],
    ranks: int,
    xp: Any = np,
    matrices: Any = sparse,
) -> NDArray[np.int32]:
    """Types of each source concept with a translation in each target concept, by the rank of the best one.

    The sum over ranks below N is A_Cs of Section 2.2 for N-best translations. The best rank comes out of one sparse
    product: entries weigh 4^-rank, an entry of a source type has its rank alone, and the sum of all worse ones is less
    than half of the best, so that the exponent of a sum tells it.

    Parameters
    ----------
    source, target
        (concept, type) memberships; values of the source are what a type counts.
    entries
        Source type, target type and rank (entry) of the translations; only rank 0 may hold several of a source type.
        Those with a rank not below `ranks` are left out.
    ranks
        Ranks that are told apart, at most 500.
    xp, matrices
        Modules of arrays and of sparse matrices on them: numpy and scipy.sparse, or cupy and cupyx.scipy.sparse.

    Returns
    -------
    (rank, source_concept, target_concept) counts. Sums in float32 are exact up to 2^24 in a concept.

    Examples
    --------
    >>> one, two = sparse.csr_matrix(np.array([[1.0, 1.0]])), sparse.csr_matrix(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> aligned_types(one, two, (np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0, 1, 0])), 2)[:, 0]
    array([[1, 1],
           [0, 1]], dtype=int32)
    """
    n_concepts, n_source = source.shape
    n_target = target.shape[0]
    wide = xp.float32 if ranks <= _FLOAT32_RANKS else xp.float64
    types, translation, rank = _by_type(entries, ranks)
    weights = xp.ldexp(xp.ones(len(rank), wide), xp.asarray(-2 * rank, dtype=xp.int32))
    starts = np.searchsorted(types, np.arange(n_source + 1)).astype(np.int32)
    rows = weights, xp.asarray(translation, dtype=xp.int32), xp.asarray(starts)
    dictionary = matrices.csr_matrix(rows, shape=(n_source, target.shape[1]))
    concepts_of = matrices.csr_matrix(target.T.tocsr().astype(wide))
    of_source = matrices.csc_matrix(source.tocsc()) if n_source > _BLOCK else matrices.csr_matrix(source)
    found = xp.zeros((n_concepts, ranks * n_target), xp.int32)
    for start in range(0, n_source, _BLOCK):
        block = slice(start, start + _BLOCK)
        reached = (
            dictionary[block] if n_source > _BLOCK else dictionary
        ) @ concepts_of  # (source type, target concept)
        by_rank = reached
        if ranks == 1:
            reached.data[:] = 1
        else:
            best = xp.maximum((1 - xp.frexp(reached.data)[1]) // 2, 0)
            column = best * n_target + reached.indices
            ones = (xp.ones(len(column), xp.float32), column, reached.indptr)
            by_rank = matrices.csr_matrix(ones, shape=(reached.shape[0], ranks * n_target))
        some = of_source[:, block].tocsr() if n_source > _BLOCK else of_source
        found += (some @ by_rank).toarray().astype(xp.int32)
    counts = found.reshape(n_concepts, ranks, n_target).transpose(1, 0, 2)
    return np.ascontiguousarray(counts if xp is np else counts.get())


def _by_type(
    entries: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]], ranks: int
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Translations of a rank below `ranks`, in the order of their source types, in which dictionaries mostly are."""
    types, translation, rank = entries
    kept = rank < ranks
    if not kept.all():
        types, translation, rank = types[kept], translation[kept], rank[kept]
    if (types[1:] < types[:-1]).any():
        order = np.argsort(types, kind="stable")
        types, translation, rank = types[order], translation[order], rank[order]
    return types, translation, rank


def language_count(
    concepts: NDArray[np.integer],
    types: NDArray[np.integer],
    languages: NDArray[np.integer],
    n_concepts: int,
    n_languages: int,
) -> NDArray[np.int64]:
    """Tokens and types of each language in each concept, (concept, language, unit) with units token, type."""
    n_types = int(types.max(initial=0)) + 1
    language_of = np.zeros(n_types, languages.dtype)  # a type belongs to one language
    language_of[types] = languages
    cells, count = _cells(concepts, types, n_types)
    at, kind = np.divmod(cells, n_types, out=(cells, np.empty_like(cells)))
    at *= n_languages
    at += language_of[kind]
    tokens, kinds = (np.bincount(at, of, n_concepts * n_languages).astype(np.int64) for of in (count, None))
    return np.stack([tokens, kinds], axis=-1).reshape(n_concepts, n_languages, 2)
