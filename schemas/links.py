"""Word links between two languages, and the dictionary counted from them."""

from typing import Literal, get_args

from schemas.dataset import Schema, Variable

Fold = Literal["nfc", "nfkc", "arabic", "case"]
"""Differences between words that a dictionary may overlook."""
FOLDS: tuple[Fold, ...] = get_args(Fold)

LINKS = Schema(
    "links",
    "Word-alignment links between two languages of a corpus, ordered by source token, then target token",
    (
        Variable("source_token", ("link",), "int64", "index in the corpus of the source token"),
        Variable("target_token", ("link",), "int64", "index in the corpus of the target token"),
    ),
)

DICTIONARY = Schema(
    "dictionary",
    "Translations T(w_s, w_t) of word types (Section 2.2), ordered by source type, then rank; the languages are the "
    "attributes `source` and `target`, the folding of both sides the attribute `fold`",
    (
        Variable("source_form", ("source",), "string", "spelling of each source type, distinct, by code point"),
        Variable("target_form", ("target",), "string", "spelling of each target type, distinct, by code point"),
        Variable("source_type", ("entry",), "int32", "index into source_form"),
        Variable("target_type", ("entry",), "int32", "index into target_form"),
        Variable("probability", ("entry",), "float64", "p(target | source), unlinked source tokens included"),
        Variable("count", ("entry",), "int64", "number of links between the two types; 0 if not known", units="count"),
        Variable("rank", ("entry",), "int32", "rank among the source type's translations, from 0 (N-best = rank < n)"),
        Variable(
            "place",
            ("entry",),
            "int32",
            "place among the source type's translations in the file it was read from, from 0; equals rank in others",
        ),
    ),
    version=3,
)
