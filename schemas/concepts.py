"""Concepts: clusters of the vectors of one layer."""

from schemas.dataset import Schema, Variable

CONCEPTS = Schema(
    "concepts",
    "K-means clusters of the vectors of each layer for one selection; a run is one restart",
    (
        Variable("layer", ("layer",), "int32", "0 = embedding output, 1..L = blocks", coordinate=True),
        Variable("concept", ("run", "layer", "token"), "int32", "concept of the token, -1 where it has no vector"),
        Variable("centroid", ("run", "layer", "concept_id", "hidden"), "float32", "mean vector of the concept"),
        Variable("inertia", ("run", "layer"), "float64", "sum of squared distances to the centroids"),
        Variable("n_iter", ("run", "layer"), "int32", "Lloyd iterations", units="count"),
        Variable("k", ("run",), "int32", "number of concepts asked for", units="count"),
        Variable("seed", ("run",), "int64", "seed of the restart"),
        Variable("chosen", ("run", "layer"), "bool", "the restart of least inertia at this layer"),
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
    ),
)
