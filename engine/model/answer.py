"""Answers of a checkpoint to a downstream task: tags, labels, translations."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache

from engine.model.heads import Head, encode, threads_for

_SUBWORDS = 4096
"""Sub-words of a batch, padding included."""


def answer(
    head: Head,
    inputs: Sequence[Any],
    longest: int,
    beams: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Any]:
    """What a checkpoint answers to each input, on the GPU if there is one.

    Parameters
    ----------
    longest
        Sub-words of an input, and of a translation, at most. Words that are cut off, or that the tokenizer drops, are
        tagged O.
    beams
        Beams of the search for a translation; 1: greedy.
    progress
        Told how many inputs are answered, of how many.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = head.model.to(device).eval()
    encodings = [encode(head, given, longest) for given in inputs]
    found: list[Any] = [None] * len(inputs)
    done = 0
    for batch in _batches([len(encoding["input_ids"]) for encoding in encodings]):
        rows = [{name: encodings[i][name] for name in ("input_ids", "attention_mask")} for i in batch]
        padded = head.tokenizer.pad(rows, return_tensors="pt").to(device)
        with threads_for(head), torch.inference_mode():
            if head.kind == "translation":
                options = {"max_new_tokens": longest, "num_beams": beams, "do_sample": False}
                out = network.generate(**padded, **options, past_key_values=_cache(head))
            else:
                best = network(**padded).logits.argmax(-1).cpu().tolist()
        if head.kind == "translation":
            found_now = [text.strip() for text in head.tokenizer.batch_decode(out, skip_special_tokens=True)]
        elif head.kind == "classification":
            found_now = [head.labels[number] for number in best]
        else:
            words = ((encodings[i].word_ids(), len(inputs[i])) for i in batch)
            found_now = [_tags(head, *of, numbers) for of, numbers in zip(words, best, strict=True)]
        for i, one in zip(batch, found_now, strict=True):
            found[i] = one
        done += len(batch)
        progress(done, len(inputs))
    return found


def _cache(head: Head) -> Any:
    """Room for the decoder's states; the one that transformers makes has as many layers as the encoder."""
    blocks = head.shape.layers
    return None if blocks["encoder"] == blocks["decoder"] else EncoderDecoderCache(DynamicCache(), DynamicCache())


def _tags(head: Head, words: Sequence[int | None], count: int, numbers: Sequence[int]) -> list[str]:
    """Tag of each word: that of its first sub-word."""
    tags = ["O"] * count
    for word, number in reversed(list(zip(words, numbers, strict=False))):  # padding lies behind
        if word is not None:
            tags[word] = head.labels[number]
    return tags


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of inputs of similar length, the longest first, of at most so many sub-words together."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > _SUBWORDS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
