"""Word vectors of every layer."""

from schemas.dataset import Schema, Variable

ACTIVATIONS = Schema(
    "activations",
    "Contextual word vectors of one stack of one checkpoint for the selected tokens of one language",
    (
        Variable("layer", ("layer",), "int32", "0 = embedding output, 1..L = blocks", coordinate=True),
        Variable("activation", ("layer", "token", "hidden"), "float", "vector of the word; NaN where not present"),
        Variable("token_id", ("token",), "int64", "index of the token in the corpus"),
        Variable("present", ("token",), "bool", "false where the tokenizer drops the word or the sentence is too long"),
    ),
)
