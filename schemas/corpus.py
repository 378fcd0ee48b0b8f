"""Corpus and selections: the words of a parallel text, and which of their occurrences are studied."""

from schemas.dataset import Schema, Variable

CORPUS = Schema(
    "corpus",
    "Words of a parallel text; sentence i is the same in every language; tokens lie language by language, in order",
    (
        Variable("language", ("language",), "string", "language of the study", coordinate=True),
        Variable("token_language", ("token",), "int8", "index into language of each token"),
        Variable("token_type", ("token",), "int32", "index into form of each token"),
        Variable("sentence", ("token",), "int32", "number of the sentence that holds the token, from 0"),
        Variable("position", ("token",), "int32", "place of the token in its sentence, from 0"),
        Variable("form", ("type",), "string", "spelling of a word type"),
        Variable("type_language", ("type",), "int8", "index into language of each type"),
        Variable("token_stop", ("language",), "int64", "end of the language's tokens (half-open)"),
        Variable("type_stop", ("language",), "int64", "end of the language's types (half-open)"),
        Variable("sentences", ("language",), "int64", "number of sentences", units="count"),
        Variable(
            "sentence_start",
            ("language", "boundary"),
            "int64",
            "index of the first token of each sentence, and the end of the last",
        ),
    ),
)

SELECTION = Schema(
    "selection",
    "Occurrences of a language whose vectors are kept, in the order of the corpus",
    (Variable("token_id", ("token",), "int64", "index of the selected token in the corpus"),),
)

CLUSTERED = Schema(
    "clustered",
    "Occurrences of one language that are clustered for a pair or a set of languages, in the order of the corpus; an "
    "occurrence is there once for each link that selects it where the rule says so",
    (
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
        Variable("row", ("token",), "int64", "index of the token in the selection of its language, as of its vector"),
    ),
)
