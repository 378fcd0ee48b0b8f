"""Centroids in two dimensions, to be looked at."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

_FEWEST = 5
"""Points below which there is nothing to lay out but a plane through them."""

_PERPLEXITY = 30.0


def flat(points: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Lay points out so that near ones are near: t-SNE, begun at the first two principal components.

    Parameters
    ----------
    points
        (point, hidden) vectors; a row of NaN is no point.
    seed
        The same points and seed give the same layout on the same libraries.

    Returns
    -------
    (point, 2) float32; NaN where there is no point.

    Examples
    --------
    >>> flat(np.array([[0.0, 0, 0], [3, 0, 0], [np.nan, 0, 0]]), seed=0).round(2).tolist()
    [[-1.5, 0.0], [1.5, 0.0], [nan, nan]]
    """
    found = np.full((len(points), 2), np.nan, np.float32)
    held = np.isfinite(points).all(axis=1)
    vectors = points[held].astype(np.float64)
    if len(vectors) < _FEWEST or not (vectors != vectors[:1]).any():
        found[held] = _plane(vectors)
        return found
    from sklearn.manifold import TSNE  # noqa: PLC0415  (a second, which no other command must take)

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    layout = TSNE(init="pca", perplexity=perplexity, max_iter=500, random_state=seed, n_jobs=1)
    with threadpool_limits(1):  # its threads would wait for one another more than they work, on so few points
        found[held] = layout.fit_transform(vectors)
    return found


def _plane(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """First two principal components, each with its largest part positive at the end of its axis."""
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    placed = centred @ axes.T
    return np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))
