"""Checkpoints with a head for a downstream task: loading them, and how examples become batches."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)

from engine.model.load import check_vocabulary, load_tokenizer
from engine.model.shape import Shape, check_trust, describe, origin
from engine.model.train import save
from schemas.errors import InputError

_CLASSES = {
    "tagging": AutoModelForTokenClassification,
    "classification": AutoModelForSequenceClassification,
    "translation": AutoModelForSeq2SeqLM,
}

_ENDINGS = {"tagging": "ForTokenClassification", "classification": "ForSequenceClassification"}
"""How the names of classes with such a head end."""

_SMALL = 256
"""Length of a vector below which one thread is as fast as several, and ten times as fast on a busy machine."""

IGNORED = -100
"""Label of sub-words that count for no loss."""


@dataclass(frozen=True)
class Head:
    """A checkpoint, its tokenizer, and the labels that it gives."""

    kind: str
    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    """Labels by number; none for translations."""
    trained: bool
    """Whether the checkpoint brought the head; otherwise its weights are random."""
    shape: Shape
    """What the checkpoint reads."""


def open_head(model: str, kind: str, labels: Sequence[str], seed: int, *, trusted: bool = False) -> Head:
    """Load a checkpoint with a head for a task; one that it does not bring is drawn at random from a seed.

    Parameters
    ----------
    labels
        Labels of a new head; a head that the checkpoint brings has its own.
    trusted
        As in `engine.model.shape.describe`.

    Raises
    ------
    InputError
        The checkpoint cannot be loaded, lacks weights below the head, or cannot do the task.
    """
    shape = describe(model, trusted=trusted)
    if kind == "translation" and not shape.encoder_decoder:
        raise InputError(f"{model}: has no encoder and decoder, so it cannot translate; choose mT5 or its like")
    tokenizer = load_tokenizer(model, trusted=trusted)
    config = AutoConfig.from_pretrained(**origin(model, trusted=trusted))
    brings = any(name.endswith(_ENDINGS.get(kind, "ForConditionalGeneration")) for name in config.architectures or ())
    if kind in _ENDINGS and not brings:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _load(model, kind, config, trusted=trusted)
    check_vocabulary(model, tokenizer, network)
    tokenizer.padding_side = "right"  # tags are found from the left
    if tokenizer.pad_token is None:  # language models have none
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id
    own = tuple(config.id2label[number] for number in range(config.num_labels)) if kind in _ENDINGS else ()
    return Head(kind, network, tokenizer, own, brings, shape)


def _load(model: str, kind: str, config: Any, *, trusted: bool) -> Any:
    try:
        network, info = _CLASSES[kind].from_pretrained(
            **origin(model, trusted=trusted),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        check_trust(model, error)
        raise InputError(f"{model}: cannot be loaded for {kind}: {' '.join(str(error).split())}") from error
    below = network.base_model_prefix + "."
    missing = sorted(
        name
        for name in info["missing_keys"]
        if (name.startswith(below) or kind == "translation") and "pooler" not in name
    )
    if missing:
        raise InputError(
            f"{model}: the checkpoint lacks weights of the model ({missing[0]} and {len(missing) - 1} more); use a "
            "checkpoint that matches its config.json"
        )
    return network


@contextlib.contextmanager
def threads_for(head: Head) -> Iterator[None]:
    """Compute with as many threads as pay: one where vectors are short, which also makes the same bits everywhere."""
    before = torch.get_num_threads()
    try:
        if head.shape.hidden < _SMALL:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def draw_anew(model: str, seed: int, directory: str, *, trusted: bool = False) -> None:
    """Write a checkpoint of a model's architecture and tokenizer whose weights are drawn anew, as before any training.

    Raises
    ------
    InputError
        The model's configuration or tokenizer cannot be read.
    """
    describe(model, trusted=trusted)
    tokenizer = load_tokenizer(model, trusted=trusted)
    config = AutoConfig.from_pretrained(**origin(model, trusted=trusted))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=trusted, **_code(config, model))
    save(network, tokenizer, directory)


def _code(config: Any, model: str) -> dict[str, Any]:
    """Revision of the code that a configuration names, where it lies in the model's own repository."""
    own = not any("--" in str(where) for where in getattr(config, "auto_map", {}).values())
    revision = origin(model).get("revision")
    return {"code_revision": revision} if own and revision and hasattr(config, "auto_map") else {}


def encode(head: Head, given: Any, longest: int) -> Any:
    """Sub-words of an input, cut at so many (transformers' BatchEncoding)."""
    longest = min(longest, head.shape.max_subwords or longest)
    return head.tokenizer(given, truncation=True, max_length=longest, is_split_into_words=head.kind == "tagging")


def example(head: Head, given: Any, answer: Any, longest: int) -> dict[str, Any]:
    """Sub-words of an input with the numbers of its answer, `labels`, for a step of training.

    Of the sub-words of a word the first carries the word's tag and the others count for nothing (as in Devlin et al.
    2019, Section 5.3).
    """
    encoding = encode(head, given, longest)
    row = {"input_ids": encoding["input_ids"], "attention_mask": encoding["attention_mask"]}
    if head.kind == "translation":
        labels: Any = head.tokenizer(text_target=answer, truncation=True, max_length=longest)["input_ids"]
    elif head.kind == "classification":
        labels = head.labels.index(answer)
    else:
        labels = _tags_of_subwords(encoding.word_ids(), [head.labels.index(tag) for tag in answer])
    return {**row, "labels": labels}


def _tags_of_subwords(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """Examples
    --------
    >>> _tags_of_subwords([None, 0, 0, 2, None], [5, 6, 7])
    [-100, 5, -100, 7, -100]
    """
    before: list[int | None] = [None, *words[:-1]]
    return [IGNORED if word is None or word == last else tags[word] for word, last in zip(words, before, strict=True)]


def collator(head: Head) -> Any:
    """What pads examples to a batch."""
    if head.kind == "tagging":
        return DataCollatorForTokenClassification(head.tokenizer, label_pad_token_id=IGNORED)
    if head.kind == "classification":
        return DataCollatorWithPadding(head.tokenizer)
    return DataCollatorForSeq2Seq(head.tokenizer, model=head.model, label_pad_token_id=IGNORED)
