"""Word vectors read one sentence at a time with transformers alone, and tiny random models to read them from."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2Model,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaModel,
    LlamaTokenizer,
    MT5Config,
    MT5Model,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DROPPED = "\u200b"
"""A zero-width space: no sub-word is left of it."""
RUNNING_TEXT = (
    "the cat sees the hut and die Katze sieht die Hütte",
    "le chat voit la forêt où l'été dure, и кот видит дом",
    "el niño está aquí; القط يرى البيت الكبير",
    "the son finds a tree : diesen Baum 猫 🙂 has ab cd",
)
"""What the tokenizers of running text are trained on."""


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


def save_bert(folder: Path, *, positions: int = 24, letters: str = LETTERS, seed: int = 1) -> str:
    """A BERT of 3 blocks whose words are cut into pieces of one to three letters."""
    torch.manual_seed(seed)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "die", "##sen"]
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


def _pieces(special: Sequence[str], letters: str) -> list[tuple[str, float]]:
    words = [(f"▁{c}", -2.0) for c in letters] + [(c, -3.0) for c in letters] + [("▁die", -1.0), ("sen", -1.5)]
    return [*((name, 0.0) for name in special), ("▁", -9.0), *words]


def save_xlmr(folder: Path, *, positions: int = 26, letters: str = LETTERS) -> str:
    """An XLM-R of 2 blocks; its longest input is two sub-words shorter than `positions`."""
    torch.manual_seed(2)
    vocabulary = _pieces(["<s>", "<pad>", "</s>", "<unk>"], letters)
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


def save_mt5(folder: Path, *, letters: str = LETTERS) -> str:
    """An mT5 of 2 encoder and 3 decoder blocks."""
    torch.manual_seed(3)
    vocabulary = _pieces(["<pad>", "</s>", "<unk>"], letters)
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


def _merged(lines: Sequence[str], special: Sequence[str], *, size: int, fallback: bool) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges of pairs learnt from some lines: of bytes, or of characters with bytes for unknown ones."""
    tokenizer = Tokenizer(BPE(byte_fallback=fallback, fuse_unk=fallback))
    if fallback:  # as Llama: a space is a visible mark, and the text begins with one
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
        special, alphabet = [*special, *(f"<0x{byte:02X}>" for byte in range(256))], []
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*special], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def save_gpt2(folder: Path, *, positions: int = 64, lines: Sequence[str] = RUNNING_TEXT) -> str:
    """A GPT-2 of 2 blocks whose sub-words are runs of bytes; nothing precedes a sentence."""
    torch.manual_seed(4)
    vocabulary, merges = _merged(lines, ["<|endoftext|>"], size=340, fallback=False)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=positions,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _save(folder, GPT2Model(config), GPT2Tokenizer(vocab=vocabulary, merges=merges), scale=0.2)


def save_llama(folder: Path, *, positions: int = 64, lines: Sequence[str] = RUNNING_TEXT) -> str:
    """A Llama of 3 blocks; `<s>` precedes a sentence, a mark stands for a space, and bytes for unknown characters."""
    torch.manual_seed(5)
    known = [line.replace("猫", "").replace("🙂", "") for line in lines]
    vocabulary, merges = _merged(known, ["<unk>", "<s>", "</s>"], size=380, fallback=True)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,  # of whole vectors: torch computes what is left over by scalars, with other bits
        max_position_embeddings=positions,
    )
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True, legacy=False)
    return _save(folder, LlamaModel(config), tokenizer, scale=0.2)


def save_roberta(folder: Path, *, positions: int = 66, lines: Sequence[str] = RUNNING_TEXT) -> str:
    """A RoBERTa of 2 blocks whose sub-words are runs of bytes; its longest input is two shorter than `positions`."""
    torch.manual_seed(6)
    vocabulary, merges = _merged(lines, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], size=340, fallback=False)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    return _save(folder, RobertaModel(config), RobertaTokenizer(vocab=vocabulary, merges=merges), scale=0.2)


def _sub_words(tokenizer: Any, sentence: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """Ids of a sentence with its special ones, and the places of each word's sub-words; every word is cut alone."""
    special = tokenizer("")["input_ids"]  # [CLS] [SEP], or </s>
    ids, places = special[:-1], []
    for word in sentence:
        cut = tokenizer(word, add_special_tokens=False)["input_ids"]
        places.append(list(range(len(ids), len(ids) + len(cut))))
        ids = ids + cut
    return ids + special[-1:], places


_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}
"""Byte of each letter of byte-level sub-words, as GPT-2 was published: printable bytes are their own letters."""


def _bytes_of(sub_word: str, marked: bool) -> bytes:
    if sub_word.startswith("<0x") and len(sub_word) == 6:
        return bytes([int(sub_word[3:5], 16)])
    if marked:
        return sub_word.replace("▁", " ").encode()
    return bytes(_BYTE_OF[letter] for letter in sub_word)


def running_sub_words(tokenizer: Any, sentence: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """As `_sub_words`, of words joined by spaces: the bytes of the sub-words, one after another, are those of the text.

    A sub-word belongs to each word that it shares a byte with.
    """
    text = " ".join(sentence).encode()
    ids = tokenizer(" ".join(sentence))["input_ids"]
    names = tokenizer.convert_ids_to_tokens(ids)
    special, marked = set(tokenizer.all_special_ids), any("▁" in name for name in names)
    pieces = [b"" if i in special else _bytes_of(name, marked) for i, name in zip(ids, names, strict=True)]
    if b"".join(pieces) == b" " + text:  # Llama's mark before the text
        first = next(at for at, piece in enumerate(pieces) if piece)
        pieces[first] = pieces[first][1:]
    assert b"".join(pieces) == text
    owner = [number for number, word in enumerate(sentence) for _ in [*word.encode(), 0]][:-1]
    spaces = {at for at, byte in enumerate(text) if byte == 32}
    places: list[list[int]] = [[] for _ in sentence]
    at = 0
    for place, piece in enumerate(pieces):
        for word in sorted({owner[i] for i in range(at, at + len(piece)) if i not in spaces}):
            places[word].append(place)
        at += len(piece)
    return ids, places


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
    """Vectors (layer, word, hidden) of every word of every sentence; NaN where a word has no sub-word or no state."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModel.from_pretrained(model, dtype=dtype).eval()
    kind = network.config.model_type
    alone = stack == "decoder" and not network.config.is_encoder_decoder
    cut = running_sub_words if kind in ("gpt2", "llama", "roberta") else _sub_words
    found = []
    for i, sentence in enumerate(sentences):
        ids, places = cut(tokenizer, sentence)
        given = torch.tensor([ids])
        with torch.no_grad():
            if alone:
                states = network(input_ids=given, output_hidden_states=True, use_cache=False).hidden_states
            elif stack == "decoder":
                assert sources is not None
                start = network.config.decoder_start_token_id
                states = network(
                    input_ids=torch.tensor([cut(tokenizer, sources[i])[0]]),
                    decoder_input_ids=torch.tensor([[start, *ids[:-1]]]),
                    output_hidden_states=True,
                ).decoder_hidden_states
            elif network.config.is_encoder_decoder:
                states = network.encoder(input_ids=given, output_hidden_states=True).hidden_states
            else:
                states = network(input_ids=given, output_hidden_states=True).hidden_states
        # a decoder that follows an encoder reads its text one place later
        shift = int(stack == "decoder" and decoder_position == "consume") - int(alone)
        layers = [np.stack([_word(state[0].numpy(), place, shift, pooling) for place in places]) for state in states]
        found.append(np.stack(layers))
    return found


def _word(states: NDArray[np.floating], places: Sequence[int], shift: int, pooling: str) -> NDArray[np.floating]:
    """Vector of a word from the states (sub-word, hidden) of its sub-words."""
    if not places or places[0] + shift < 0:
        return np.full(states.shape[-1], np.nan, states.dtype)
    pieces = [states[place + shift] for place in places]
    if pooling == "mean":
        return np.mean(pieces, axis=0)
    return pieces[0 if pooling == "first" else -1]
