"""Results: the metrics with their numerators and denominators, labelled for selection by name."""

from schemas.dataset import Schema, Variable


def _coordinates(*names: str) -> tuple[Variable, ...]:
    """Coordinates shared by the results."""
    known = {
        "checkpoint": ("string", "state of the model"),
        "stack": ("string", "encoder or decoder; encoder-decoder: source concepts of the one, targets of the other"),
        "layer": ("int32", "0 = embedding output, 1..L = blocks"),
        "source": ("string", "language whose concepts are counted"),
        "target": ("string", "language whose concepts may match; joined by +: a concept of any of these languages"),
        "language_set": ("string", "languages of the mixed text, joined by +"),
        "language": ("string", "language"),
        "n_best": ("int32", "translations of a type that count"),
        "theta_align": ("float64", "least fraction of a concept's types with a translation (θ_A)"),
        "theta_overlap": ("float64", "least fraction of a concept that each of two languages forms (θ_O)"),
        "min_types": ("int32", "concepts with more types than this are considered"),
        "max_size_gap": ("float64", "largest relative difference of two concepts' type counts"),
    }
    return tuple(Variable(n, (n,), known[n][0], known[n][1], coordinate=True) for n in names)


_CALIGN_DIMS = ("checkpoint", "stack", "layer", "source", "target")
_COLAP_DIMS = ("checkpoint", "stack", "layer", "language_set")


def _calign(name: str, *swept: str) -> Schema:
    dims = _CALIGN_DIMS + swept
    return Schema(
        name,
        "CALIGN: concepts of the source language whose types translate into one concept of the target (Section 2.2); "
        "NaN where a pair was not studied",
        (
            *_coordinates(*dims),
            Variable("calign", dims, "float64", "aligned concepts divided by concepts, a fraction in [0, 1]"),
            Variable("aligned_concepts", dims, "float64", "aligned source concepts (numerator)", units="count"),
            Variable(
                "concepts",
                dims,
                "float64",
                "source concepts with a type, or the considered (denominator)",
                units="count",
            ),
            Variable(
                "considered_concepts", dims, "float64", "source concepts with more than min_types types", units="count"
            ),
            Variable("matched_targets", dims, "float64", "distinct target concepts that are matched", units="count"),
            Variable(
                "largest_hub",
                dims,
                "float64",
                "aligned source concepts that match the most matched target",
                units="count",
            ),
            Variable("hub_share", dims, "float64", "share of the aligned concepts in largest_hub, in [0, 1]"),
            Variable(
                "mutual_concepts",
                dims,
                "float64",
                "source concepts aligned to a target concept that is aligned to them",
                units="count",
            ),
            Variable("mutual_calign", dims, "float64", "mutual_concepts divided by concepts, a fraction in [0, 1]"),
        ),
    )


def _colap(name: str, *swept: str) -> Schema:
    dims = _COLAP_DIMS + swept
    return Schema(
        name,
        "COLAP: concepts of mixed text of which at least two languages form a fraction θ_O each (Section 2.3)",
        (
            *_coordinates(*dims),
            Variable("colap", dims, "float64", "overlapping concepts divided by concepts, a fraction in [0, 1]"),
            Variable("overlapping_concepts", dims, "float64", "overlapping concepts (numerator)", units="count"),
            Variable("concepts", dims, "float64", "concepts with a token (denominator)", units="count"),
        ),
    )


CALIGN = _calign("calign")
COLAP = _colap("colap")
CALIGN_SWEEPS = {
    name: _calign(f"calign by {name}", name) for name in ("n_best", "theta_align", "min_types", "max_size_gap")
}
COLAP_SWEEPS = {"theta_overlap": _colap("colap by theta_overlap", "theta_overlap")}

STATISTICS = Schema(
    "statistics",
    "Size of the text, of the selection and of what the model could read",
    (
        *_coordinates("language", "checkpoint"),
        Variable("sentences", ("language",), "int64", "sentences", units="count"),
        Variable("tokens", ("language",), "int64", "tokens", units="count"),
        Variable("types", ("language",), "int64", "types", units="count"),
        Variable("selected_tokens", ("language",), "int64", "selected tokens", units="count"),
        Variable("selected_types", ("language",), "int64", "types of the selected tokens", units="count"),
        Variable(
            "too_long_tokens",
            ("checkpoint", "language"),
            "int64",
            "those of absent_tokens that lie in a sentence longer than the model",
            units="count",
        ),
        Variable(
            "absent_tokens",
            ("checkpoint", "language"),
            "int64",
            "selected tokens without a vector in the first stack: dropped by the tokenizer, or in a sentence too long",
            units="count",
        ),
    ),
)
