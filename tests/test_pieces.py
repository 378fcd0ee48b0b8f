"""Sentences cut into inputs of the model: long ones, windows, dropped words, batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from engine.kernels.pooling import best_window, windows
from engine.model.encode import Encoder
from engine.model.pieces import Piece, Rules, batches, tokenise
from schemas.errors import InputError
from tests.oracles.vectors import DROPPED, read_one_by_one, running_sub_words
from tests.small_models import every, read, wanted


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_read__dropped_words_are_absent(models: dict[str, str], encoders: dict[str, Encoder], pooling: str) -> None:
    given = [["ab", DROPPED, "diesen"], [DROPPED], ["c"], [DROPPED, DROPPED, "x"]]
    vectors, present = read(
        encoders["bert"], given, [np.arange(len(s)) for s in given], wanted(layers=(0, 1, 2, 3), pooling=pooling)
    )
    assert present.tolist() == [True, False, True, False, True, False, False, True]
    assert np.isnan(vectors[:, ~present]).all()
    expected = np.concatenate(read_one_by_one(models["bert"], given, pooling=pooling), axis=1)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["bert", "xlmr"])
def test_read__sentences_longer_than_the_model_are_absent(encoders: dict[str, Encoder], name: str) -> None:
    given = [["a"] * 22, ["a"] * 23, ["b"]]  # 24 sub-words with the special ones, 25, 3
    vectors, present = read(encoders[name], given, [np.array([0, 21]), np.array([0, 22]), np.array([0])], wanted())
    assert present.tolist() == [True, True, False, False, True]
    assert np.isnan(vectors[:, 2:4]).all()
    assert np.isfinite(vectors[:, present]).all()


def test_read__mt5_has_no_longest_sentence(models: dict[str, str], encoders: dict[str, Encoder]) -> None:
    given = [["a", "b"] * 300]
    vectors, present = read(encoders["mt5"], given, [np.arange(600)], wanted())
    assert present.all()
    np.testing.assert_allclose(vectors, read_one_by_one(models["mt5"], given)[0], atol=1e-5, rtol=0)


@given(length=st.integers(1, 200), capacity=st.integers(1, 60))
def test_windows__cover_every_sub_word_within_capacity(length: int, capacity: int) -> None:
    ranges = windows(length, capacity)
    assert {i for low, high in ranges for i in range(low, high)} == set(range(length))
    assert all(high - low == min(capacity, length) for low, high in ranges)
    assert ranges == sorted(set(ranges))


@given(st.data(), st.integers(1, 80), st.integers(1, 20), st.booleans())
def test_best_window__has_most_context(data: st.DataObject, length: int, capacity: int, causal: bool) -> None:
    ranges = windows(length, capacity)
    spans = data.draw(st.lists(st.tuples(st.integers(0, length - 1), st.integers(0, 6)), min_size=1))
    spans = [(a, min(a + more, length - 1)) for a, more in spans]
    first, last = (np.array(ends) for ends in zip(*spans, strict=True))
    for (a, b), found in zip(spans, best_window(first, last, ranges, causal=causal), strict=True):
        context = {}
        for number, (low, high) in enumerate(ranges):
            if low <= a and b < high:
                left = float("inf") if low == 0 and not causal else a - low
                right = float("inf") if causal or high == length else high - 1 - b
                context[number] = min(left, right)
        assert found == (max(context, key=lambda n: (context[n], -n)) if context else -1)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=40), st.integers(1, 60), st.booleans())
def test_batches__hold_each_piece_once_within_the_budget(
    lengths: list[tuple[int, int]], budget: int, padded: bool
) -> None:
    none = np.arange(0)
    pieces = [Piece([0] * n, none, none, none, i, [0] * source) for i, (n, source) in enumerate(lengths)]
    groups = batches(pieces, budget, padded=padded)
    assert sorted(piece.sentence for group in groups for piece in group) == list(range(len(lengths)))
    for group in groups:  # what the encoder and the decoder read
        read = max(max(len(p.ids) for p in group), max(len(p.source) for p in group)) * len(group)
        assert read <= budget or len(group) == 1
        assert padded or len({(len(p.ids), len(p.source)) for p in group}) == 1


LONG = [
    [chr(97 + i % 26) for i in range(60)],
    ["a", "b"],
    ["die"] * 22,
    ["ab", "cd"] * 9,
    ["x" * 30, "a", DROPPED, *"bcdefghijk"],  # a word longer than a window, and one of which nothing is left
]


def by_hand(
    model: str, sentence: Sequence[str], limit: int, special: tuple[int, int], stack: str, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (layer, word, hidden) of last sub-words, NaN where none, each window read alone; and where not."""
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    joined = "Ġ" in tokenizer.get_vocab() or "<0x00>" in tokenizer.get_vocab()
    prefix, suffix = special
    if joined:
        ids, places = running_sub_words(tokenizer, sentence)
    else:
        cut = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in sentence]
        ends = tokenizer("")["input_ids"]
        ids, places = ends[:prefix], []
        for pieces in cut:
            places.append(list(range(len(ids), len(ids) + len(pieces))))
            ids = ids + pieces
        ids = ids + ends[prefix:]
    body = ids[prefix : len(ids) - suffix]
    room = limit - prefix - suffix
    starts = [0]
    while starts[-1] + room < len(body):
        starts.append(min(starts[-1] + max(1, room // 2), len(body) - room))
    best: dict[int, tuple[float, int]] = {}
    for number, start in enumerate(starts):
        for word, place in enumerate(places):
            if not place:
                continue
            a, b = (place[0] - prefix + min(shift, 0)), place[-1] - prefix
            a = max(a, 0)
            if a >= start and b < start + room:
                left = float("inf") if stack == "encoder" and start == 0 else a - start
                ends_here = stack == "decoder" or start + room >= len(body)
                context = min(left, float("inf") if ends_here else start + room - 1 - b)
                if word not in best or context > best[word][0]:
                    best[word] = context, number
    vectors: Any = None
    for number, start in enumerate(starts):
        inputs = ids[:prefix] + body[start : start + room] + ids[len(ids) - suffix :]
        assert len(inputs) <= limit
        with torch.no_grad():
            states = network(input_ids=torch.tensor([inputs]), output_hidden_states=True).hidden_states
        if vectors is None:
            vectors = np.full((len(states), len(sentence), states[0].shape[-1]), np.nan, np.float32)
        for word, (_, window) in best.items():
            at = places[word][-1] - start + shift
            if window == number and places[word][0] + shift >= 0:
                vectors[:, word] = [state[0, at].numpy() for state in states]
    return vectors, ~np.isnan(vectors[0, :, 0])


@pytest.mark.parametrize(
    ("name", "special", "stack", "position"),
    [("bert", (1, 1), "encoder", None), ("xlmr", (1, 1), "encoder", None), ("roberta", (1, 1), "encoder", None),
     ("gpt2", (0, 0), "decoder", "consume"), ("gpt2", (0, 0), "decoder", "predict"),
     ("llama", (1, 0), "decoder", "consume"), ("llama", (1, 0), "decoder", "predict")],
)  # fmt: skip
def test_read__windows_equal_those_read_by_hand(
    models: dict[str, str],
    encoders: dict[str, Encoder],
    name: str,
    special: tuple[int, int],
    stack: str,
    position: str | None,
) -> None:
    limit = encoders[name].shape.max_subwords
    assert limit is not None
    long = [[*words, *words, *words] if limit > 24 else words for words in LONG]
    if stack == "decoder" or name == "roberta":  # byte-level sub-words lose nothing
        long = [[word if word != DROPPED else "q" for word in words] for words in long]
        long[-1][0] = "x" * 2 * limit
    chosen = wanted(stack, every(stack, name), too_long="window", decoder_position=position)
    block = encoders[name].read(long, [np.arange(len(s)) for s in long], chosen)
    shift = -1 if position == "predict" else 0
    parts = [by_hand(models[name], words, limit, special, stack, shift) for words in long]
    expected, present = (
        np.concatenate(found, axis=axis) for found, axis in zip(zip(*parts, strict=True), (1, 0), strict=True)
    )
    np.testing.assert_array_equal(block.present, present)
    np.testing.assert_allclose(block.vectors, expected, atol=1e-5, rtol=0)
    lost = [word for words in long for word in words if len(word) > limit]
    gone = [word for words in long for word in words if word == DROPPED and name == "bert"]  # unknown to the others
    first = len(long) if (name, position) == ("gpt2", "predict") else 0
    assert len(lost) > 0
    # the first word of the last sentence is both unpredicted and too long: it is counted once
    assert (block.too_long, block.dropped) == (len(lost) - (first > 0), len(gone) + first)
    assert block.too_long + block.dropped == (~block.present).sum()


def test_read__words_of_long_sentences_are_counted(encoders: dict[str, Encoder]) -> None:
    given = [["a"] * 22, ["a", DROPPED, *["b"] * 22], ["b"], [DROPPED]]
    positions = [np.array([0, 21]), np.array([0, 1, 22]), np.array([0]), np.array([0])]
    block = encoders["bert"].read(given, positions, wanted())
    assert block.present.tolist() == [True, True, False, False, False, True, False]
    assert (block.too_long, block.dropped) == (2, 2)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_read__a_long_sentence_may_stop_the_run(encoders: dict[str, Encoder], name: str) -> None:
    stack = "decoder" if encoders[name].shape.causal else "encoder"
    limit = encoders[name].shape.max_subwords
    given = [["b"], [*"abcdefgh"] * limit]
    with pytest.raises(
        InputError,
        match=rf"sentence of {8 * limit} words starting 'a b c d e f': \d+ sub-words, the model reads at most {limit}; "
        "set activations.too_long to skip or window, or shorten the sentence",
    ):
        read(encoders[name], given, [np.array([0]), np.array([3])], wanted(stack, too_long="error"))
    vectors, present = read(encoders[name], given, [np.array([0]), np.arange(0)], wanted(stack, too_long="error"))
    assert present.tolist() == [True]  # nothing is wanted of the long one
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "roberta"])
def test_read__the_longest_sentence_fits(models: dict[str, str], encoders: dict[str, Encoder], name: str) -> None:
    stack, limit = "encoder" if name == "roberta" else "decoder", encoders[name].shape.max_subwords
    tokenizer = AutoTokenizer.from_pretrained(models[name])
    words = ["die"]
    while len(tokenizer(" ".join([*words, "die"]))["input_ids"]) <= limit:
        words.append("die")
    vectors, present = read(encoders[name], [words], [np.arange(len(words))], wanted(stack, every(stack, name)))
    assert present.all()
    [expected] = read_one_by_one(models[name], [words], stack=stack, decoder_position="consume")
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "lost"), [("gpt2", 3), ("llama", 0)])
def test_read__nothing_predicts_the_first_word_without_a_start_token(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, lost: int
) -> None:
    given, chosen = [["die", "cat"], ["猫"], ["été", "x"]], {"decoder_position": "predict", "pooling": "first"}
    block = encoders[name].read(given, [np.arange(len(s)) for s in given], wanted("decoder", **chosen))
    assert block.present.tolist() == [lost == 0, True, lost == 0, lost == 0, True]
    assert (block.dropped, block.too_long) == (lost, 0)
    expected = read_one_by_one(models[name], given, stack="decoder", **chosen)
    np.testing.assert_allclose(block.vectors, np.concatenate(expected, axis=1)[:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "llama", "roberta"])
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_read__any_script_equals_one_sentence_at_a_time(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, pooling: str
) -> None:
    given = [["猫🙂", "(", "é", ")", "القط"], ["e\u0301", "и", "кот", "👩‍👩‍👧"], ["\u00a0x", "…", "'s", "l'été"], ["x"]]
    stack = "encoder" if name == "roberta" else "decoder"
    chosen = wanted(stack, every(stack, name), pooling=pooling)
    vectors, present = read(encoders[name], given, [np.arange(len(s)) for s in given], chosen)
    expected = read_one_by_one(models[name], given, stack=stack, pooling=pooling, decoder_position="consume")
    assert present.all()
    np.testing.assert_allclose(vectors, np.concatenate(expected, axis=1), atol=1e-5, rtol=0)


def test_read__an_empty_source_is_read(encoders: dict[str, Encoder]) -> None:
    block = encoders["mt5"].read([["a"], ["b"]], [np.array([0])] * 2, wanted("decoder"), sources=[[], ["c"]])
    assert block.present.all()
    assert np.isfinite(block.vectors).all()


@pytest.mark.parametrize(("limit", "too_long"), [(3, 0), (2, 1)])
def test_tokenise__the_decoder_reads_a_start_token_for_the_last(
    encoders: dict[str, Encoder], limit: int, too_long: int
) -> None:
    tokenizer, words = encoders["mt5"]._tokenizer, [["a", "b"]]  # two sub-words and </s>
    for shift in (0, 1):
        rules = Rules(limit, "skip", causal=False, joined=False, shift=shift, start=7)
        tokenised = tokenise(tokenizer, words, [np.array([0, 1])], rules, sources=[["c"]])
        assert tokenised.too_long == 2 * too_long
        assert [piece.ids[0] for piece in tokenised.pieces] == [7] * (1 - too_long)
        assert [len(piece.ids) for piece in tokenised.pieces] == [3] * (1 - too_long)
        assert [piece.last.tolist() for piece in tokenised.pieces] == [[shift, 1 + shift]] * (1 - too_long)
