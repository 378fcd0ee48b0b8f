"""Results: the metrics with their numerators and denominators, labelled for selection by name."""

from collections.abc import Iterable
from dataclasses import replace

from schemas.dataset import FORMAT_VERSION, Schema, Variable


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
        "task": ("string", "downstream task"),
        "selection": ("string", "language, or language@pair, whose concepts these are"),
        "property": ("string", "what the words of a concept share"),
        "rule": ("string", "when they share it: conceptx or large-scale-lca"),
        "measure": ("string", "calign or colap"),
        "split": ("string", "text of the task that was answered: test, or the name of one of several"),
        "n_best": ("int32", "translations of a type that count"),
        "theta_align": ("float64", "least fraction of a concept's types with a translation (θ_A)"),
        "theta_overlap": ("float64", "least fraction of a concept that each of two languages forms (θ_O)"),
        "target_layer": ("int32", "layer of the target concepts"),
        "store": ("string", "path of the concepts"),
        "k": ("int32", "number of concepts asked for"),
        "min_types": ("int32", "concepts with more types than this are considered"),
        "max_size_gap": ("float64", "largest relative difference of two concepts' type counts"),
    }
    return tuple(Variable(n, (n,), known[n][0], known[n][1], coordinate=True) for n in names)


_CALIGN_DIMS = ("checkpoint", "stack", "layer", "source", "target")
_COLAP_DIMS = ("checkpoint", "stack", "layer", "language_set")


def calign_schema(name: str, dims: tuple[str, ...], *further: Variable) -> Schema:
    """Schema of CALIGN along some dimensions, with further variables."""
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
            *further,
        ),
    )


def colap_schema(name: str, dims: tuple[str, ...], *further: Variable) -> Schema:
    """Schema of COLAP along some dimensions, with further variables."""
    return Schema(
        name,
        "COLAP: concepts of mixed text of which at least two languages form a fraction θ_O each (Section 2.3)",
        (
            *_coordinates(*dims),
            Variable("colap", dims, "float64", "overlapping concepts divided by concepts, a fraction in [0, 1]"),
            Variable("overlapping_concepts", dims, "float64", "overlapping concepts (numerator)", units="count"),
            Variable("concepts", dims, "float64", "concepts with a token (denominator)", units="count"),
            *further,
        ),
    )


CALIGN = calign_schema("calign", _CALIGN_DIMS)
COLAP = colap_schema("colap", _COLAP_DIMS)
CALIGN_SWEEPS = {
    name: calign_schema(f"calign by {name}", (*_CALIGN_DIMS, name))
    for name in ("n_best", "theta_align", "min_types", "max_size_gap")
}
CALIGN_BY_K = calign_schema("calign by k", (*_CALIGN_DIMS, "k"))
COLAP_BY_K = colap_schema("colap by k", (*_COLAP_DIMS, "k"))
COLAP_SWEEPS = {"theta_overlap": colap_schema("colap by theta_overlap", (*_COLAP_DIMS, "theta_overlap"))}


def _uncertainty(score: str, dims: tuple[str, ...], nulls: dict[str, str]) -> tuple[Variable, ...]:
    """Variables that say how far a score can be read as signal; NaN where not asked for."""
    found = [
        Variable("low", dims, "float64", "lower end of the bootstrap interval over concepts (2.5 % of draws below)"),
        Variable("high", dims, "float64", "upper end of the bootstrap interval over concepts (2.5 % of draws above)"),
        Variable("restart_low", dims, "float64", f"least {score} among the restarts of the clustering"),
        Variable("restart_high", dims, "float64", f"largest {score} among the restarts of the clustering"),
    ]
    for null, meaning in nulls.items():
        found += [
            Variable(f"null_{null}", dims, "float64", f"mean {score} with {meaning}"),
            Variable(f"null_{null}_high", dims, "float64", f"97.5 % of {score} with {meaning} lie below"),
            Variable(
                f"null_{null}_p",
                dims,
                "float64",
                f"how often the {score} found is reached with {meaning}: (1 + draws as large) / (1 + draws)",
            ),
        ]
    return tuple(found)


NULLS = {
    "types": "types dealt anew to concepts of the same sizes, within frequency bands",
    "dictionary": "target types of the dictionary permuted within frequency bands",
}
"""What does not correspond in a null of CALIGN, by name."""

COLAP_NULLS = {"languages": "languages shuffled"}
"""The same of COLAP."""


def _swept(score: str, dims: tuple[str, ...], nulls: dict[str, str], by: str = "") -> tuple[Variable, ...]:
    """Variables of intervals and nulls along a threshold; `by` goes behind their names."""
    found = [v for v in _uncertainty(score, dims, nulls) if not v.name.startswith("restart") and v.name[-2:] != "_p"]
    return tuple(replace(v, name=v.name + by) for v in found)


def uncertain(nulls: Iterable[str]) -> list[str]:
    """Names of the variables of uncertainty."""
    ends = ("", "_high", "_p")
    return ["low", "high", "restart_low", "restart_high", *(f"null_{null}{end}" for null in nulls for end in ends)]


_MATRIX_DIMS = ("layer", "target_layer")
CALIGN_MATRIX = calign_schema("calign of layers", _MATRIX_DIMS, *_uncertainty("CALIGN", _MATRIX_DIMS, NULLS))
"""One comparison, layer by layer: NaN where two layers were not compared."""

COLAP_OF_STORES = colap_schema(
    "colap of stores",
    ("store", "layer"),
    *_uncertainty("COLAP", ("store", "layer"), COLAP_NULLS),
)
"""Several clusterings of mixed text, layer by layer."""


def _uncertainty_schema(what: str, variables: tuple[Variable, ...], version: int = FORMAT_VERSION) -> Schema:
    dims = dict.fromkeys(dim for variable in variables for dim in variable.dims)
    return Schema(
        f"uncertainty of {what}",
        "How far scores can be read as signal: intervals, restarts, and nulls, in which nothing corresponds; NaN where "
        "there were no draws",
        (*_coordinates(*dims), *variables),
        version,
    )


def _of_part(score: str, nulls: dict[str, str], sweeps: Iterable[str]) -> tuple[Variable, ...]:
    along = [_swept(score, ("layer", name), nulls, f"_by_{name}") for name in sweeps]
    return (*_uncertainty(score, ("layer",), nulls), *(variable for found in along for variable in found))


CALIGN_UNCERTAINTY = _uncertainty_schema("calign", _uncertainty("CALIGN", _CALIGN_DIMS, NULLS))
COLAP_UNCERTAINTY = _uncertainty_schema("colap", _uncertainty("COLAP", _COLAP_DIMS, COLAP_NULLS))
CALIGN_UNCERTAINTY_SWEEPS = {
    name: _uncertainty_schema(f"calign by {name}", _swept("CALIGN", (*_CALIGN_DIMS, name), NULLS))
    for name in ("n_best", "theta_align", "min_types")
}
COLAP_UNCERTAINTY_SWEEPS = {
    name: _uncertainty_schema(f"colap by {name}", _swept("COLAP", (*_COLAP_DIMS, name), COLAP_NULLS))
    for name in ("theta_overlap",)
}
CALIGN_UNCERTAINTY_OF_PART = _uncertainty_schema(
    "calign by layer", _of_part("CALIGN", NULLS, CALIGN_UNCERTAINTY_SWEEPS), version=4
)
COLAP_UNCERTAINTY_OF_PART = _uncertainty_schema(
    "colap by layer", _of_part("COLAP", COLAP_NULLS, COLAP_UNCERTAINTY_SWEEPS), version=3
)
"""The same of one pair or set of one checkpoint, with that along the thresholds of Figure 30."""

CROSS = Schema(
    "cross",
    "CALIGN x COLAP on the concepts of mixed text: aligned concepts translate into the target language's part of some "
    "concept of the same clustering (Sections 2.3 and 4.2)",
    (
        *_coordinates(*(_CROSS_DIMS := ("checkpoint", "stack", "layer", "language_set", "source", "target"))),
        Variable("both", _CROSS_DIMS, "float64", "concepts that are aligned and overlap", units="count"),
        Variable("aligned_only", _CROSS_DIMS, "float64", "concepts that are aligned alone", units="count"),
        Variable("overlapping_only", _CROSS_DIMS, "float64", "concepts that overlap alone", units="count"),
        Variable("neither", _CROSS_DIMS, "float64", "concepts that do neither", units="count"),
        Variable("concepts", _CROSS_DIMS, "float64", "concepts with a token: the sum of these four", units="count"),
        Variable(
            "aligned_to_itself",
            _CROSS_DIMS,
            "float64",
            "aligned concepts whose types translate into the same concept",
            units="count",
        ),
        Variable("phi", _CROSS_DIMS, "float64", "correlation of being aligned and overlapping, in [-1, 1]"),
    ),
)

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

_SCORE_DIMS = ("checkpoint", "task", "language", "split")

SCORES = Schema(
    "scores",
    "How checkpoints do downstream tasks (Tables 1, 2 and 5); NaN where a score does not belong to a task, or was not "
    "asked for",
    (
        *_coordinates(*_SCORE_DIMS),
        Variable(
            "state",
            _SCORE_DIMS[:3],
            "string",
            "base, fine-tuned or zero-shot, as seen from the language",
            coordinate=True,
        ),
        Variable("kind", ("task",), "string", "tagging, classification or translation"),
        Variable("signature", ("task",), "string", "tool of the scores, its version and settings"),
        Variable("bleu", _SCORE_DIMS, "float64", "BLEU of the translations, in [0, 100]"),
        Variable("f1", _SCORE_DIMS, "float64", "F1 of entities, or the mean of labels' F1, a fraction in [0, 1]"),
        Variable("precision", _SCORE_DIMS, "float64", "precision of entities, a fraction in [0, 1]"),
        Variable("recall", _SCORE_DIMS, "float64", "recall of entities, a fraction in [0, 1]"),
        Variable("accuracy", _SCORE_DIMS, "float64", "texts with the right label, a fraction in [0, 1]"),
        Variable("examples", _SCORE_DIMS, "float64", "sentences that were answered", units="count"),
    ),
    version=3,
)

_CORRELATION_DIMS = ("task", "measure", "stack", "layer")

CORRELATIONS = Schema(
    "correlations",
    "Rank correlation (Spearman) of CALIGN and COLAP with the scores of downstream tasks, over checkpoints, save "
    "untrained ones, and languages (Section 4.1); NaN where fewer than three of them have both, or all are equal",
    (
        *_coordinates(*_CORRELATION_DIMS),
        Variable("rho", _CORRELATION_DIMS, "float64", "rank correlation, in [-1, 1]"),
        Variable(
            "low",
            _CORRELATION_DIMS,
            "float64",
            "lower end of its bootstrap interval, of checkpoints and languages; NaN where many draws are constant",
        ),
        Variable("high", _CORRELATION_DIMS, "float64", "upper end of its bootstrap interval"),
        Variable(
            "p",
            _CORRELATION_DIMS,
            "float64",
            "how often checkpoints and languages dealt anew correlate as much, either way",
        ),
        Variable("points", _CORRELATION_DIMS, "float64", "pairs of a checkpoint and a language", units="count"),
    ),
    version=4,
)

_PART_DIMS = ("layer", "concept", "property")

PROPERTIES_OF_PART = Schema(
    "properties of concepts",
    "What the words of each concept of one language share: endings, beginnings, runs of letters, casing, tags",
    (
        *_coordinates("layer", "property"),
        Variable(
            "share",
            _PART_DIMS,
            "float64",
            "largest share of the concept's tokens that have one in common; of beginnings, endings and runs of letters "
            "those that two or more of its types have",
        ),
        Variable("label", _PART_DIMS, "string", "what they have in common"),
        Variable("types", ("layer", "concept"), "int32", "types of the concept", units="count"),
        Variable("tokens", ("layer", "concept"), "int32", "tokens of the concept", units="count"),
    ),
    version=5,
)

_PROPERTY_DIMS = ("checkpoint", "stack", "layer", "selection", "property", "rule")

PROPERTIES = Schema(
    "properties",
    "Lexical and semantic concepts by layer (Figure 9); conceptx: more than 90 % of a concept's tokens share it; "
    "large-scale-lca: at least 95 %, of concepts with more than 5 types",
    (
        *_coordinates(*_PROPERTY_DIMS),
        Variable("concepts", _PROPERTY_DIMS, "float64", "concepts with the property", units="count"),
        Variable("considered", _PROPERTY_DIMS, "float64", "concepts that the rule considers", units="count"),
    ),
)

LABELS = Schema(
    "labels",
    "What a language model, or a person, calls concepts (Section 3.2)",
    (
        Variable("checkpoint", ("labelled",), "string", "state of the model"),
        Variable("stack", ("labelled",), "string", "encoder or decoder"),
        Variable("selection", ("labelled",), "string", "language, language@pair or set whose concept it is"),
        Variable("layer", ("labelled",), "int32", "0 = embedding output, 1..L = blocks"),
        Variable("concept", ("labelled",), "int32", "number of the concept"),
        Variable("label", ("labelled",), "string", "what it is called"),
        Variable("model", ("labelled",), "string", "who called it so: a language model, or the file it was read from"),
        Variable("date", ("labelled",), "string", "when (ISO 8601, UTC)"),
        Variable("concepts", ("labelled",), "string", "hash of what made the concepts: labels of others are not shown"),
        Variable(
            "prompt_sha256",
            ("labelled",),
            "string",
            "hash of model and prompt, as asked alone; empty where there was none",
        ),
    ),
)
