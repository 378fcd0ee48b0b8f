"""Word vectors read one sentence at a time with transformers alone, and tiny random models to read them from."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    MT5Config,
    MT5Model,
    T5Tokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DROPPED = "\u200b"
"""A zero-width space: no sub-word is left of it."""


def _save(folder: Path, model: Any, tokenizer: Any, scale: float = 0.3) -> str:
    with torch.no_grad():  # larger than the usual initial weights, so that layers and words differ
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(scale * torch.randn_like(weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def save_bert(folder: Path, *, positions: int = 24) -> str:
    """A BERT of 3 blocks whose words are cut into pieces of one to three letters."""
    torch.manual_seed(1)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), "die", "##sen"]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=positions,
    )
    return _save(folder, BertModel(config), tokenizer)


def _pieces(special: Sequence[str]) -> list[tuple[str, float]]:
    words = [(f"▁{c}", -2.0) for c in LETTERS] + [(c, -3.0) for c in LETTERS] + [("▁die", -1.0), ("sen", -1.5)]
    return [*((name, 0.0) for name in special), ("▁", -9.0), *words]


def save_xlmr(folder: Path, *, positions: int = 26) -> str:
    """An XLM-R of 2 blocks; its longest input is two sub-words shorter than `positions`."""
    torch.manual_seed(2)
    vocabulary = _pieces(["<s>", "<pad>", "</s>", "<unk>"])
    config = XLMRobertaConfig(
        vocab_size=len(vocabulary) + 1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return _save(folder, XLMRobertaModel(config), XLMRobertaTokenizer(vocab=vocabulary))


def save_mt5(folder: Path) -> str:
    """An mT5 of 2 encoder and 3 decoder blocks."""
    torch.manual_seed(3)
    vocabulary = _pieces(["<pad>", "</s>", "<unk>"])
    config = MT5Config(
        vocab_size=len(vocabulary) + 100,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    # T5 does not scale its attention scores: larger weights would multiply rounding errors
    return _save(folder, MT5Model(config), T5Tokenizer(vocab=vocabulary, extra_ids=0), scale=0.15)


def _sub_words(tokenizer: Any, sentence: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """Ids of a sentence with its special ones, and the places of each word's sub-words; every word is cut alone."""
    special = tokenizer("")["input_ids"]  # [CLS] [SEP], or </s>
    ids, places = special[:-1], []
    for word in sentence:
        cut = tokenizer(word, add_special_tokens=False)["input_ids"]
        places.append(list(range(len(ids), len(ids) + len(cut))))
        ids = ids + cut
    return ids + special[-1:], places


def read_one_by_one(
    model: str,
    sentences: Sequence[Sequence[str]],
    *,
    stack: str = "encoder",
    pooling: str = "last",
    decoder_position: str = "predict",
    sources: Sequence[Sequence[str]] | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[NDArray[np.floating]]:
    """Vectors (layer, word, hidden) of every word of every sentence; NaN where a word has no sub-word."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModel.from_pretrained(model, dtype=dtype).eval()
    found = []
    for i, sentence in enumerate(sentences):
        ids, places = _sub_words(tokenizer, sentence)
        given = torch.tensor([ids])
        with torch.no_grad():
            if stack == "decoder":
                assert sources is not None
                start = network.config.decoder_start_token_id
                states = network(
                    input_ids=torch.tensor([_sub_words(tokenizer, sources[i])[0]]),
                    decoder_input_ids=torch.tensor([[start, *ids[:-1]]]),
                    output_hidden_states=True,
                ).decoder_hidden_states
            elif network.config.is_encoder_decoder:
                states = network.encoder(input_ids=given, output_hidden_states=True).hidden_states
            else:
                states = network(input_ids=given, output_hidden_states=True).hidden_states
        shift = int(stack == "decoder" and decoder_position == "consume")
        layers = []
        for state in states:
            rows = []
            for place in places:
                pieces = [state[0, p + shift].numpy() for p in place]
                if not pieces:
                    rows.append(np.full(state.shape[-1], np.nan, np.float32))
                elif pooling == "mean":
                    rows.append(np.mean(pieces, axis=0))
                else:
                    rows.append(pieces[0 if pooling == "first" else -1])
            layers.append(np.stack(rows))
        found.append(np.stack(layers))
    return found
