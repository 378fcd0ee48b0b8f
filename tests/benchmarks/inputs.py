"""What the benchmarks share: real sentences, models to read them, batches, and tables on stdout."""

import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import Metaspace
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel
from transformers import XLMRobertaTokenizer as XLMRTokenizer

from engine.sentences import read_sentences

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

Sentence = list[str]


def some_lines(path: str, count: int) -> list[Sentence]:
    """Sentences of a tokenised text, spread evenly over it: line i of parallel files stays parallel."""
    lines = list(read_sentences(path, "spaces"))
    return [lines[i] for i in np.linspace(0, len(lines) - 1, min(count, len(lines))).astype(int)]


def _save(folder: Path, network: Any, tokenizer: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def save_random_bert(folder: Path, tokenizer_of: str, *, blocks: int = 12, hidden: int = 768) -> str:
    """A BERT with random weights (of base size unless told otherwise) and the tokenizer of a real one."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.model_max_length = 512
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save(folder, BertModel(config), tokenizer)


def save_random_xlmr(
    folder: Path, sentences: Sequence[Sentence], *, blocks: int = 12, hidden: int = 768, pieces: int = 10000
) -> str:
    """An XLM-R with random weights and a unigram tokenizer trained on real text, so that sub-words are realistic."""
    torch.manual_seed(0)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=pieces, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator((" ".join(sentence) for sentence in sentences), trainer)
    scores = [(piece, 0.0) for piece in special]
    scores += [(piece, score) for piece, score in _scores(tokenizer) if piece not in special]
    config = XLMRobertaConfig(
        vocab_size=len(scores) + 1,  # and <mask>
        hidden_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return _save(folder, XLMRobertaModel(config), XLMRTokenizer(vocab=scores, model_max_length=512))


def _scores(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    """Pieces of a trained unigram tokenizer with their log-probabilities."""
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def batches(lengths: Sequence[int], budget: int, *, padded: bool) -> list[list[int]]:
    """Indices of sentences of like length, or without padding of one; at most `budget` sub-words, or one sentence."""
    found: list[list[int]] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        alike = found and (padded or lengths[i] == lengths[found[-1][0]])
        if alike and lengths[i] * (len(found[-1]) + 1) <= budget:
            found[-1].append(i)
        else:
            found.append([i])
    return found


class Bare:
    """A network that does no more than a batched forward pass: the ceiling of any extraction."""

    def __init__(
        self, model: str, sentences: Sequence[Sentence], budget: int, compute: str = "float32", *, padded: bool = True
    ) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        self.network = AutoModel.from_pretrained(model, dtype=getattr(torch, compute)).eval()
        found = tokenizer([list(s) for s in sentences], is_split_into_words=True, add_special_tokens=True)
        self.word_ids = [found.word_ids(i) for i in range(len(sentences))]
        self.members = batches([len(ids) for ids in found["input_ids"]], budget, padded=padded)
        self.inputs = []
        for members in self.members:
            width = max(len(found["input_ids"][i]) for i in members)
            ids = torch.full((len(members), width), int(tokenizer.pad_token_id), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(members):
                ids[row, : len(found["input_ids"][i])] = torch.tensor(found["input_ids"][i])
                mask[row, : len(found["input_ids"][i])] = 1
            self.inputs.append((ids, mask))

    def states(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Hidden states of every layer of a batch."""
        ids, mask = self.inputs[batch]
        with torch.inference_mode():
            return self.network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states

    def run(self, threads: int, *, side_by_side: bool) -> None:
        """All batches, one after the other on all threads, or side by side on one thread each."""
        torch.set_num_threads(1 if side_by_side else threads)
        with ThreadPoolExecutor(threads if side_by_side else 1) as pool:
            for _ in pool.map(lambda batch: len(self.states(batch)), range(len(self.inputs))):
                pass

    def vectors(self) -> NDArray[np.float32]:
        """Vectors (layer, word, hidden) of every word that has sub-words: its last one."""
        rows: dict[int, NDArray[np.float32]] = {}
        for batch, members in enumerate(self.members):
            states = torch.stack(self.states(batch)).float().numpy()  # (layer, sentence, subword, hidden)
            for row, i in enumerate(members):
                last = {word: at for at, word in enumerate(self.word_ids[i]) if word is not None}
                rows[i] = states[:, row, [last[word] for word in sorted(last)]]
        return np.concatenate([rows[i] for i in sorted(rows)], axis=1)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers are shown to three digits."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(header), ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
