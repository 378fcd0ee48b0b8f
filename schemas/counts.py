"""Counts: small and additive; every threshold of the paper is a comparison on them."""

from schemas.dataset import Schema, Variable

LAYER = Variable("layer", ("layer",), "int32", "0 = embedding output, 1..L = blocks", coordinate=True)

RANKS = 20
"""Ranks of translations that a study tells apart, unless its N-best is larger (Figure 30a ends at 20)."""

ALIGNED_TYPES = Schema(
    "aligned_types",
    "For each pair of concepts, the source types that have a translation in the target concept, by the rank of the "
    "best one (Section 2.2); the attribute `unit` says whether types or their tokens are counted",
    (
        LAYER,
        Variable("rank", ("rank",), "int32", "rank of a translation, from 0", coordinate=True),
        Variable(
            "aligned_types",
            ("rank", "layer", "source_concept", "target_concept"),
            "int32",
            "units of the source concept whose best translation in the target concept has this rank; their sum over "
            "ranks below N is A_Cs for N-best translations",
            units="count",
        ),
        Variable("source_size", ("layer", "source_concept"), "int32", "units of the source concept", units="count"),
        Variable("target_size", ("layer", "target_concept"), "int32", "units of the target concept", units="count"),
        Variable("source_types", ("layer", "source_concept"), "int32", "types of the source concept", units="count"),
        Variable("target_types", ("layer", "target_concept"), "int32", "types of the target concept", units="count"),
    ),
    version=3,
)

LANGUAGE_COUNT = Schema(
    "language_count",
    "How many tokens and types of each language a concept of mixed text holds (Section 2.3)",
    (
        LAYER,
        Variable("language", ("language",), "string", "language", coordinate=True),
        Variable("unit", ("unit",), "string", "what is counted: token or type", coordinate=True),
        Variable(
            "language_count",
            ("layer", "concept", "language", "unit"),
            "int64",
            "tokens or types of the language in the concept (|C ∩ L_i|)",
            units="count",
        ),
    ),
)
