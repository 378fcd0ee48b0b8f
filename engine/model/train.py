"""Training of a small multilingual encoder: masked words in all languages, then one language pair.

`pretrain` learns from single sentences of every language (no parallel signal); `tune` moves the two languages of one
pair together. Both write a directory that `AutoModel` and `AutoTokenizer` read. The same input, seed, libraries and
kind of processor give the same weights, whatever the number of cores.
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
import transformers  # its heavy parts are imported when they are first named
from numpy.typing import NDArray

from engine.model.recipes import Course, Recipe, TuningRecipe
from engine.model.shape import library
from schemas.errors import InputError

Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, steps, loss)`` after every optimiser step; step counts from 1."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD_SCALE, _POSITION_SCALE = 0.05, 0.01  # spread of the first vectors; words weigh more than places
_OUTSIDE, _PADDING = -1, -2  # in place of a word's number: special token, padding


class _Sentence(NamedTuple):
    """Sub-words of a sentence, special tokens included, (sub_word,) int64."""

    ids: NDArray[np.int64]
    words: NDArray[np.int64]  # the number of each sub-word's word


class _Batch(NamedTuple):
    """Sub-words of the sentences of one step, padded on the right, (sentence, sub_word) int64."""

    ids: torch.Tensor
    words: torch.Tensor
    positions: torch.Tensor  # place of each sub-word in its own sentence


def train_tokenizer(sentences: Iterable[Sequence[str]], vocabulary: int, longest: int = 128) -> Any:
    """Learn a cased WordPiece vocabulary.

    Parameters
    ----------
    sentences
        Words of each sentence.
    vocabulary
        Most sub-words, special tokens and single characters included (count).
    longest
        Most sub-words of a sentence, the two special tokens included (count).

    Examples
    --------
    >>> tokenizer = train_tokenizer([["one", "cat"], ["two", "cats"]], vocabulary=30)
    >>> tokenizer([["two", "cat"]], is_split_into_words=True).word_ids(0)[-2:]
    [1, None]
    """
    lines = [" ".join(words) for words in sentences]
    learner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    learner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    characters = sorted({c for line in lines for c in learner.normalizer.normalize_str(line) if not c.isspace()})
    if not characters:
        raise InputError("tokenizer: expected sentences with words, found none; give a text that is not empty")
    # The trainer numbers "##x" in the order of a hash map; naming these first makes the vocabulary reproducible.
    first = [*_SPECIAL, *characters, *("##" + c for c in characters)]
    if vocabulary < len(first):
        raise InputError(
            f"tokenizer: expected a vocabulary of at least {len(first)} (special tokens and the text's characters), "
            f"found {vocabulary}; raise the recipe's vocabulary"
        )
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=first, show_progress=False)
    learner.train_from_iterator(lines, trainer)
    return transformers.BertTokenizer(
        vocab=learner.get_vocab(), do_lower_case=False, strip_accents=False, model_max_length=longest
    )


def pretrain(
    texts: Mapping[str, Sequence[Sequence[str]]],
    directory: str,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train an encoder from scratch to guess hidden words, each sentence by itself.

    Parameters
    ----------
    texts
        For each language, the words of its sentences. Nothing tells the model which sentences are translations of one
        another, nor their language.
    directory
        Where the model and its tokenizer are written once trained; files of the same names are replaced.
    recipe, progress
        Size of the model and course of the training; called after every step.

    Returns
    -------
    Loss of each step: mean cross-entropy of the hidden sub-words (nats).
    """
    recipe = recipe or Recipe()
    tokenizer = train_tokenizer((words for text in texts.values() for words in text), recipe.vocabulary, recipe.longest)
    sentences: list[_Sentence] = []
    for language, text in texts.items():
        sentences += _encode(tokenizer, text, recipe.longest, f"text of {language!r}")
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=recipe.layers,
        hidden_size=recipe.hidden,
        num_attention_heads=recipe.heads,
        intermediate_size=3 * recipe.hidden,
        max_position_embeddings=recipe.longest,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=0.0,  # a quarter of the time otherwise
        pad_token_id=tokenizer.pad_token_id,
    )
    with _undisturbed(recipe.seed) as generator:
        model = transformers.BertForMaskedLM(config)
        _start(model, sentences)
        batches = _batches([len(s.ids) for s in sentences], recipe.batch, generator)

        def loss() -> torch.Tensor:
            batch = _pad([sentences[i] for i in next(batches)], tokenizer.pad_token_id)
            return _masked_loss(model, batch, recipe.masking, tokenizer, generator)

        losses = _optimise(model, loss, recipe, progress)
        save(model, tokenizer, directory)
    return losses


def tune(
    base: str,
    source: Sequence[Sequence[str]],
    target: Sequence[Sequence[str]],
    directory: str,
    recipe: TuningRecipe | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train an encoder of `pretrain` further, on the sentences of one language pair.

    Two losses are added: guessing hidden words of the joined pair (translation language modelling), and ranking the
    right translation above the others of the batch by the likeness of their words. The ranking sees the embedding
    output only: there a word does not know its sentence, so that the ranking brings translations together; higher up
    it would make all words of a sentence alike and spoil their clusters.

    Parameters
    ----------
    base, directory
        Model that `pretrain` wrote, and where the tuned one is written; files of the same names are replaced.
    source, target
        Words of the sentences; sentence i of one is the translation of sentence i of the other.
    recipe, progress
        Losses and course of the training; called after every step.

    Returns
    -------
    Weighted sum of the losses of each step (nats).
    """
    recipe = recipe or TuningRecipe()
    if len(source) != len(target):
        raise InputError(
            f"sentence pairs: expected as many target as source sentences, found {len(source)} source and "
            f"{len(target)} target; give the two sides of one parallel text"
        )
    if not os.path.isfile(os.path.join(base, "config.json")):
        raise InputError(f"{base}: expected a model directory, found no config.json in it; run pretrain first")
    with _undisturbed(recipe.seed) as generator:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        model = transformers.BertForMaskedLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        longest = model.config.max_position_embeddings
        left = _encode(tokenizer, source, longest, "source text")
        right = _encode(tokenizer, target, longest, "target text")
        batches = _batches([len(s.ids) + len(t.ids) for s, t in zip(left, right, strict=True)], recipe.batch, generator)

        def loss() -> torch.Tensor:
            chosen = next(batches)
            s, t = (_pad([side[i] for i in chosen], tokenizer.pad_token_id) for side in (left, right))
            masked = _masked_loss(model, _join(s, t), recipe.masking, tokenizer, generator)
            return masked + recipe.ranking * _ranking_loss(model, s, t, recipe.temperature)

        losses = _optimise(model, loss, recipe, progress)
        save(model, tokenizer, directory)
    return losses


def _encode(tokenizer: Any, text: Sequence[Sequence[str]], longest: int, where: str) -> list[_Sentence]:
    """Sub-words of each sentence; one that is longer than the model, or has none, is an error."""
    if not text:
        raise InputError(f"{where}: expected sentences, found none; give a text that is not empty")
    result = []
    for number, words in enumerate(text):
        if isinstance(words, str) or not words:
            found = f"expected a list of words, found {words!r}"
            raise InputError(f"{where}, sentence {number}: {found}; split it into words, remove it if it has none")
        encoding = tokenizer(list(words), is_split_into_words=True, verbose=False)
        ids, places = encoding["input_ids"], encoding.word_ids()
        if not 2 < len(ids) <= longest:
            found = f"expected 3 to {longest} sub-words, found {len(ids)}"
            raise InputError(f"{where}, sentence {number}: {found}; shorten it or raise the recipe's longest")
        outside = [_OUTSIDE if place is None else place for place in places]
        result.append(_Sentence(np.array(ids, np.int64), np.array(outside, np.int64)))
    return result


def _start(model: Any, sentences: Sequence[_Sentence]) -> None:
    """First word vectors from the words' neighbours, first output bias from their frequencies.

    Some thousand sentences are too few to learn words from random vectors in a minute; the neighbours left and right
    of a word (their positive pointwise mutual information, factorised) already put number beside number.
    """
    words = model.bert.embeddings.word_embeddings.weight
    size, width = words.shape
    before = np.concatenate([s.ids[:-1] for s in sentences])
    after = np.concatenate([s.ids[1:] for s in sentences])
    cells = np.concatenate([before * (2 * size) + after, after * (2 * size) + size + before])
    cells, count = np.unique(cells, return_counts=True)
    row, column = np.divmod(cells, 2 * size)
    of_row = np.bincount(row, count, size)
    of_column = np.bincount(column, count, 2 * size) ** 0.75  # smoothed, so that rare neighbours weigh less
    value = np.log(count / of_row[row] / (of_column[column] / of_column.sum()))
    index = torch.from_numpy(np.stack([row, column])[:, value > 0])
    values = torch.from_numpy(value[value > 0]).float()
    matrix = torch.sparse_coo_tensor(index, values, (size, 2 * size), check_invariants=True).coalesce()
    with torch.no_grad():
        left, strength, _ = torch.svd_lowrank(matrix, q=min(width, size), niter=6)
        vectors = torch.nn.functional.pad(left * strength.sqrt(), (0, width - len(strength)))
        length = vectors.norm(dim=1, keepdim=True)
        scaled = vectors / length.clamp_min(1e-6) * (_WORD_SCALE * math.sqrt(width))
        words.copy_(torch.where(length > 1e-6, scaled, words))
        torch.nn.init.normal_(model.bert.embeddings.position_embeddings.weight, std=_POSITION_SCALE)
        share = np.bincount(np.concatenate([s.ids for s in sentences]), minlength=size) + 0.5
        model.cls.predictions.bias.copy_(torch.from_numpy(np.log(share / share.sum())))


def _batches(lengths: Sequence[int], size: int, generator: np.random.Generator) -> Iterator[list[int]]:
    """Indices of sentences of similar length, without end; each pass holds every sentence exactly once."""
    while True:
        order = generator.permutation(len(lengths))
        order = order[np.argsort(np.asarray(lengths)[order], kind="stable")]
        parts = [order[i : i + size].tolist() for i in range(0, len(order), size)]
        for number in generator.permutation(len(parts)):
            yield parts[number]


def _pad(sentences: Sequence[_Sentence], padding: int) -> _Batch:
    shape = len(sentences), max(len(s.ids) for s in sentences)
    ids, words = np.full(shape, padding, np.int64), np.full(shape, _PADDING, np.int64)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence.ids)], words[row, : len(sentence.ids)] = sentence
    return _Batch(torch.from_numpy(ids), torch.from_numpy(words), torch.arange(shape[1]).repeat(shape[0], 1))


def _join(left: _Batch, right: _Batch) -> _Batch:
    """Each source sentence with its translation; both count their positions from 0, so that neither comes second."""
    words = torch.where(right.words >= 0, right.words + left.words.max() + 1, right.words)
    return _Batch(*(torch.cat(pair, 1) for pair in zip(left, right._replace(words=words), strict=True)))


def _masked_loss(
    model: Any, batch: _Batch, share: float, tokenizer: Any, generator: np.random.Generator
) -> torch.Tensor:
    """Mean cross-entropy of hidden words: 80 % are replaced by [MASK], 10 % by another sub-word, 10 % stay."""
    words, ids = batch.words.numpy(), batch.ids.numpy()
    drawn = generator.random((len(words), int(words.max()) + 1)) < share
    chosen = np.take_along_axis(drawn, np.maximum(words, 0), 1) & (words >= 0)
    if not chosen.any():
        chosen.flat[np.flatnonzero(words >= 0)[0]] = True
    kind = generator.random(words.shape)
    other = generator.integers(len(_SPECIAL), len(tokenizer), words.shape)
    ids = np.select([chosen & (kind < 0.8), chosen & (kind < 0.9)], [tokenizer.mask_token_id, other], ids)
    present = batch.words != _PADDING
    states = model.bert(
        input_ids=torch.from_numpy(ids),
        attention_mask=None if bool(present.all()) else present.long(),
        position_ids=batch.positions,
    ).last_hidden_state
    place = torch.from_numpy(chosen)  # scores of hidden sub-words only: most of the vocabulary's cost is saved
    return torch.nn.functional.cross_entropy(model.cls(states[place]), batch.ids[place])


def _ranking_loss(model: Any, left: _Batch, right: _Batch, temperature: float) -> torch.Tensor:
    """Cross-entropy of the right translation among the sentences of the batch, mean of both directions.

    The likeness of two sentences: each sub-word takes its best cosine with one of the other; their mean, both ways.
    """
    vectors = (model.bert.embeddings(input_ids=b.ids, position_ids=b.positions) for b in (left, right))
    s, t = (torch.nn.functional.normalize(v, dim=-1) for v in vectors)
    in_s, in_t = left.words >= 0, right.words >= 0
    cosine = torch.einsum("smh,tnh->stmn", s, t)
    forward = cosine.masked_fill(~in_t[None, :, None, :], -1).amax(3).masked_fill(~in_s[:, None, :], 0).sum(2)
    backward = cosine.masked_fill(~in_s[:, None, :, None], -1).amax(2).masked_fill(~in_t[None, :, :], 0).sum(2)
    scores = (forward / in_s.sum(1)[:, None] + backward / in_t.sum(1)[None, :]) / (2 * temperature)
    answer, loss = torch.arange(len(scores)), torch.nn.functional.cross_entropy
    return (loss(scores, answer) + loss(scores.T, answer)) / 2


def _optimise(model: Any, loss: Callable[[], torch.Tensor], recipe: Course, progress: Progress | None) -> list[float]:
    """Minimise `loss` with AdamW; returns its value at each step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    rise = max(1, recipe.steps // 10)

    def rate(step: int) -> float:
        return min((step + 1) / rise, (recipe.steps - step) / max(1, recipe.steps - rise))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    losses = []
    model.train()
    for step in range(1, recipe.steps + 1):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(value.item())
        if progress:
            progress(step, recipe.steps, losses[-1])
    return losses


def save(model: Any, tokenizer: Any, directory: str) -> None:
    """Write aside, then move the files in; config.json comes last, so that a directory that holds it is complete."""
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".part-") as part:
        tokenizer.save_pretrained(part)
        model.save_pretrained(part)
        for name in sorted(os.listdir(part), key=lambda name: (name == "config.json", name)):
            os.replace(os.path.join(part, name), os.path.join(directory, name))


@contextlib.contextmanager
def _undisturbed(seed: int) -> Iterator[np.random.Generator]:
    """A generator, and torch seeded for a while, in one thread.

    One thread: the weights do not depend on the number of cores, and a busy machine does not stall small matrices.
    """
    library()
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            torch.set_num_threads(1)
            yield np.random.default_rng(seed)
        finally:
            torch.set_num_threads(threads)
