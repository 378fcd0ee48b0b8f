"""Encoders of the tiny models of `tests.oracles.vectors`, sentences that they read, and copies with other weights."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from engine.model.encode import Encoder
from engine.model.pieces import Wanted
from tests.oracles.vectors import LETTERS

LAYERS = {
    ("bert", "encoder"): 3, ("xlmr", "encoder"): 2, ("roberta", "encoder"): 2, ("mt5", "encoder"): 2,
    ("mt5", "decoder"): 3, ("gpt2", "decoder"): 2, ("llama", "decoder"): 3,
}  # fmt: skip
"""Blocks of each stack."""


def sentences(count: int, seed: int, longest: int = 6) -> list[list[str]]:
    """Random words of one to three letters."""
    draw = random.Random(seed)
    words = [["".join(draw.choices(LETTERS, k=draw.randint(1, 3))) for _ in range(draw.randint(1, longest))]
             for _ in range(count)]  # fmt: skip
    words[0][0] = "diesen"
    return words


SENTENCES, SOURCES = sentences(14, 0), sentences(14, 1)
ALL = [np.arange(len(s)) for s in SENTENCES]


def every(stack: str, name: str) -> tuple[int, ...]:
    """All layers of a stack."""
    return tuple(range(LAYERS[name, stack] + 1))


def wanted(stack: str = "encoder", layers: tuple[int, ...] = (0, 1, 2), **settings: Any) -> Wanted:
    """Settings of an extraction in float32."""
    given = {"batch_subwords": 64} | settings
    return Wanted(stack, layers, **given)


def sources_of(name: str, stack: str) -> list[list[str]] | None:
    """What the encoder reads while the decoder of an encoder-decoder model reads `SENTENCES`."""
    return SOURCES if (name, stack) == ("mt5", "decoder") else None


def read(encoder: Encoder, *arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and presence."""
    block = encoder.read(*arguments, **options)
    return block.vectors, block.present


def changed(model: str, folder: Path, change: dict[str, Any]) -> str:
    """A copy of a model with some weights multiplied, or left out where the factor is None."""
    shutil.copytree(model, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name, factor in change.items():
        [known] = [key for key in weights if key.endswith(name)]
        if factor is None:
            del weights[known]
        else:
            weights[known] = weights[known] * factor
    save_file(weights, file, metadata={"format": "pt"})
    return str(folder)


def large(model: str, folder: Path, *sub_words: str) -> str:
    """A copy of the mT5 with huge embeddings of some sub-words."""
    tokenizer = Encoder(model)._tokenizer
    path = Path(changed(model, folder, {}))
    weights = load_file(path / "model.safetensors")
    for sub_word in sub_words:
        weights["shared.weight"][tokenizer.convert_tokens_to_ids(sub_word)] *= 1e6
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)
