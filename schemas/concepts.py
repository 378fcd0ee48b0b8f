"""Concepts: clusters of the vectors of one layer, and what they are like."""

from schemas.dataset import Schema, Variable

_LAYER = Variable("layer", ("layer",), "int32", "0 = embedding output, 1..L = blocks", coordinate=True)
_K = Variable("k", ("run",), "int32", "number of concepts asked for", units="count")
_SEED = Variable("seed", ("run",), "int64", "seed of the restart; -1 where none was used")
_CHOSEN = Variable(
    "chosen", ("run", "layer"), "bool", "the restart of least inertia among those of its k at this layer"
)

CONCEPTS = Schema(
    "concepts",
    "Clusters of the vectors of each layer for one selection; a run is one restart with one number of concepts",
    (
        _LAYER,
        Variable("concept", ("run", "layer", "token"), "int32", "concept of the token, -1 where it has no vector"),
        Variable(
            "distance",
            ("run", "layer", "token"),
            "float32",
            "distance of the token's vector to the centroid of its concept; NaN where it has no vector",
        ),
        Variable(
            "centroid",
            ("run", "layer", "concept_id", "hidden"),
            "float32",
            "mean vector of the concept; NaN from k on in a run of fewer concepts than another",
        ),
        Variable("inertia", ("run", "layer"), "float64", "sum of squared distances to the centroids"),
        Variable("scatter", ("layer",), "float64", "sum of squared distances to the mean vector of the layer"),
        Variable("n_iter", ("run", "layer"), "int32", "Lloyd iterations", units="count"),
        _K,
        _SEED,
        _CHOSEN,
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
        Variable("language", ("token",), "int8", "index of the token's language in the attribute `languages`"),
        Variable("word", ("token",), "string", "the word"),
        Variable("sentence", ("token",), "int32", "number of the sentence that holds the token, from 0"),
        Variable("position", ("token",), "int32", "place of the token in its sentence, from 0"),
    ),
    version=3,
)

CONCEPT_STATISTICS = Schema(
    "concept statistics",
    "What the concepts of a CONCEPTS dataset are like, each and layer by layer",
    (
        _LAYER,
        _K,
        _SEED,
        _CHOSEN,
        Variable("tokens", ("run", "layer", "concept_id"), "int64", "tokens of the concept", units="count"),
        Variable("types", ("run", "layer", "concept_id"), "int64", "distinct words of each language", units="count"),
        Variable("languages", ("run", "layer", "concept_id"), "int32", "languages with a token in it", units="count"),
        Variable(
            "mean_distance", ("run", "layer", "concept_id"), "float64", "mean distance of its tokens to the centroid"
        ),
        Variable(
            "largest_distance", ("run", "layer", "concept_id"), "float64", "largest distance of a token to the centroid"
        ),
        Variable(
            "central_token",
            ("run", "layer", "concept_id", "rank"),
            "int64",
            "index in the CONCEPTS dataset of the token nearest to the centroid of each of its most central words "
            "(spellings), nearest first; -1 where it has fewer words",
        ),
        Variable("empty", ("run", "layer"), "int32", "concepts without a token", units="count"),
        Variable("smallest", ("run", "layer"), "int64", "tokens of the smallest concept that has any", units="count"),
        Variable("median", ("run", "layer"), "float64", "median of the tokens of the concepts", units="count"),
        Variable("largest", ("run", "layer"), "int64", "tokens of the largest concept", units="count"),
        Variable(
            "entropy", ("run", "layer"), "float64", "entropy of the concepts' sizes / log k, in [0, 1]; NaN for k = 1"
        ),
        Variable(
            "explained_variance", ("run", "layer"), "float64", "1 - inertia / scatter, in [0, 1]; NaN where not known"
        ),
        Variable(
            "stability",
            ("run", "layer"),
            "float64",
            "mean adjusted Rand index with the other restarts of the same k; NaN where there is none",
        ),
    ),
)

ASSIGNMENTS = Schema(
    "assignments",
    "Nearest concepts of further word vectors, of the chosen run of each layer of a CONCEPTS dataset",
    (
        _LAYER,
        Variable("concept", ("layer", "token"), "int32", "nearest concept, -1 where the token has no vector"),
        Variable("distance", ("layer", "token"), "float32", "distance to its centroid; NaN where there is no vector"),
        Variable(
            "margin",
            ("layer", "token"),
            "float32",
            "by how much the second nearest centroid is farther; NaN where there is no vector",
        ),
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
        Variable("word", ("token",), "string", "the word"),
        Variable("sentence", ("token",), "int32", "number of the sentence that holds the token, from 0"),
        Variable("position", ("token",), "int32", "place of the token in its sentence, from 0"),
    ),
)
