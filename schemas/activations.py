"""Word vectors of every layer."""

from schemas.dataset import Schema, Variable

ACTIVATIONS = Schema(
    "activations",
    "Contextual word vectors of one stack of one checkpoint for the selected tokens of one language",
    (
        Variable(
            "layer",
            ("layer",),
            "int32",
            "0 = embedding output, 1..L = blocks; the last one after the model's final norm, if it has one",
            coordinate=True,
        ),
        Variable("activation", ("layer", "token", "hidden"), "float", "vector of the word; NaN where not present"),
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
        Variable("word", ("token",), "string", "the word"),
        Variable("sentence", ("token",), "int32", "number of the sentence that holds the token, from 0"),
        Variable("position", ("token",), "int32", "place of the token in its sentence, from 0"),
        Variable("present", ("token",), "bool", "false where the tokenizer drops the word or the sentence is too long"),
    ),
)
