"""Counts: small and additive; every threshold of the paper is a comparison on them."""

from schemas.dataset import Schema, Variable

LAYER = Variable("layer", ("layer",), "int32", "0 = embedding output, 1..L = blocks", coordinate=True)

ALIGNED_TYPES = Schema(
    "aligned_types",
    "For each pair of concepts, the source types that have an N-best translation in the target concept (Section 2.2)",
    (
        LAYER,
        Variable(
            "aligned_types",
            ("layer", "source_concept", "target_concept"),
            "int32",
            "types of the source concept with a translation in the target concept (A_Cs)",
            units="count",
        ),
        Variable("source_types", ("layer", "source_concept"), "int32", "types of the source concept", units="count"),
        Variable("target_types", ("layer", "target_concept"), "int32", "types of the target concept", units="count"),
    ),
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
