"""How small encoders are trained; apart from `engine.model.train`, so that commands can name it without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """What both trainings have in common."""

    steps: int
    """Optimiser steps (count)."""
    batch: int = 32
    """Sentences, or sentence pairs, of one step (count)."""
    learning_rate: float = 1e-3
    """Highest learning rate of AdamW; it rises over the first tenth of the steps, then falls evenly to zero."""
    masking: float = 0.25
    """Share of words that are hidden and must be guessed, in (0, 1]."""
    seed: int = 0
    """Seed of the first weights, of the order of sentences, of masks and of dropout."""


@dataclass(frozen=True)
class Recipe(Course):
    """How `pretrain` builds and trains the encoder; the defaults are for 750 sentences in each of five languages."""

    steps: int = 1200
    vocabulary: int = 6000
    """Most sub-words of the vocabulary, special tokens and single characters included (count)."""
    layers: int = 4
    """Transformer blocks (count)."""
    hidden: int = 128
    """Width of the hidden states; a multiple of `heads`."""
    heads: int = 4
    """Attention heads of each block (count)."""
    longest: int = 128
    """Most sub-words of a sentence, the two special tokens included (count)."""
    dropout: float = 0.1
    """Share of hidden values set to zero while training, in [0, 1)."""


@dataclass(frozen=True)
class TuningRecipe(Course):
    """How `tune` trains a base encoder on one language pair."""

    steps: int = 300
    ranking: float = 1.0
    """Weight of the ranking of translations beside the masked-word loss, at least 0."""
    temperature: float = 0.1
    """Divisor of the similarities before the softmax over the batch."""
