"""How vectors are computed and stored: final norm, bfloat16, bits kept, values that do not fit, threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from engine.model.encode import Encoder, cosine_with_float32
from engine.rounding import round_bits
from schemas.errors import InputError, RangeError
from tests.small_models import ALL, LAYERS, SENTENCES, changed, every, read, sources_of, wanted


def test_read__values_that_overflow_float16_are_refused(mt5: str, tmp_path: Path) -> None:
    model = Encoder(changed(mt5, tmp_path / "large", {"shared.weight": 1e6}))
    with pytest.raises(
        RangeError,
        match=r"layer 0, sentence of \d+ words starting '.+': a value of \S+ does not fit float16; .*float32",
    ) as raised:
        read(model, SENTENCES, ALL, wanted(), dtype="float16")
    assert any(f"starting {' '.join(s[:6])!r}" in str(raised.value) for s in SENTENCES)
    vectors, present = read(model, SENTENCES, ALL, wanted(), dtype="float32")
    assert present.all()
    assert np.isfinite(vectors).all()


def test_read__the_sentence_that_overflows_is_named(mt5: str, tmp_path: Path) -> None:
    folder = Path(changed(mt5, tmp_path / "one", {}))
    weights = load_file(folder / "model.safetensors")
    tokenizer = Encoder(mt5)._tokenizer
    weights["shared.weight"][tokenizer.convert_tokens_to_ids("▁q")] *= 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    given = [["a", "b"], ["c", "q", "d"], ["e"]]
    with pytest.raises(RangeError, match=r"layer 0, sentence of 3 words starting 'c q d'"):
        read(Encoder(str(folder)), given, [np.arange(len(s)) for s in given], wanted(), dtype="float16")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_read__a_model_that_gives_no_numbers_is_named(bert: str, tmp_path: Path, dtype: str) -> None:
    model = changed(bert, tmp_path / "bert", {"layer.1.output.dense.bias": float("nan")})
    with pytest.raises(InputError, match=r"layer 2, sentence .*not a number; its weights are damaged") as raised:
        read(Encoder(model), SENTENCES, ALL, wanted(), dtype=dtype)
    assert not isinstance(raised.value, RangeError)


def test_read__a_layer_that_is_not_kept_may_overflow(mt5: str, tmp_path: Path) -> None:
    model = Encoder(changed(mt5, tmp_path / "large", {"shared.weight": 1e6}))  # the last layer is scaled by a norm
    vectors, present = read(model, SENTENCES, ALL, wanted(layers=(2,)), dtype="float16")
    assert present.all()
    assert np.isfinite(vectors).all()


NORMED = {
    ("mt5", "encoder"): "encoder",
    ("mt5", "decoder"): "decoder",
    ("llama", "decoder"): "",
    ("gpt2", "decoder"): "",
}
"""Stacks that end in a norm, and where in the model they are."""


@pytest.mark.parametrize(("name", "stack"), list(NORMED))
def test_read__without_the_final_norm_is_the_raw_last_block(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, stack: str
) -> None:
    last = LAYERS[name, stack]
    settings, sources = wanted(stack, every(stack, name), decoder_position="consume"), sources_of(name, stack)
    normed, present = read(encoders[name], SENTENCES, ALL, settings, sources=sources)
    raw_model = Encoder(models[name], final_norm=False)
    raw, _ = read(raw_model, SENTENCES, ALL, settings, sources=sources)
    assert present.all()
    np.testing.assert_array_equal(raw[:-1], normed[:-1])
    assert np.abs(raw[-1] - normed[-1]).max() > 0.1

    network = AutoModel.from_pretrained(models[name]).eval()
    at: Any = network.get_submodule(NORMED[name, stack])
    block = (at.block if hasattr(at, "block") else at.layers if hasattr(at, "layers") else at.h)[-1]
    norm = at.final_layer_norm if hasattr(at, "final_layer_norm") else at.norm if hasattr(at, "norm") else at.ln_f
    states: list[torch.Tensor] = []
    block.register_forward_hook(lambda module, given, out: states.append(out[0] if isinstance(out, tuple) else out))
    encoder = encoders[name]
    tokenised = encoder.tokenise(SENTENCES, ALL, settings, sources)
    for piece in tokenised.pieces:
        with torch.no_grad():
            if stack == "encoder":
                at(input_ids=torch.tensor([piece.ids]))
            elif name == "mt5":
                network(input_ids=torch.tensor([piece.source]), decoder_input_ids=torch.tensor([piece.ids]))
            else:
                network(input_ids=torch.tensor([piece.ids]))
            expected = states[-1][0, piece.last]
            after = norm(expected)
        np.testing.assert_allclose(raw[-1, piece.rows], expected, atol=2e-5, rtol=0)
        np.testing.assert_allclose(normed[-1, piece.rows], after, atol=1e-5, rtol=0)
    only, _ = read(raw_model, SENTENCES, ALL, wanted(stack, (last,), decoder_position="consume"), sources=sources)
    np.testing.assert_array_equal(only[0], raw[-1])


def test_read__models_without_a_final_norm_do_not_change(models: dict[str, str], encoders: dict[str, Encoder]) -> None:
    for name in ("bert", "xlmr", "roberta"):
        settings = wanted(layers=every("encoder", name))
        raw, _ = read(Encoder(models[name], final_norm=False), SENTENCES, ALL, settings)
        np.testing.assert_array_equal(raw, read(encoders[name], SENTENCES, ALL, settings)[0])


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_cosine_with_float32__equals_an_independent_computation(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, stack: str
) -> None:
    settings, sources = wanted(stack, every(stack, name), compute="bfloat16"), sources_of(name, stack)
    low = Encoder(models[name], "bfloat16")
    assert {p.dtype for p in low._network.parameters()} == {torch.bfloat16}
    narrow, present = read(low, SENTENCES, ALL, settings, sources=sources)
    exact, _ = read(encoders[name], SENTENCES, ALL, settings, sources=sources)
    a, b = (v[:, present].astype(np.float64) for v in (narrow, exact))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(b).max()
    tokenised = low.tokenise(SENTENCES, ALL, settings, sources)
    found = cosine_with_float32(low, models[name], settings, None, tokenised, 64)
    assert cosine.min() > 0.98
    np.testing.assert_allclose(found["mean"], cosine.mean(axis=1), atol=1e-4, rtol=0)
    np.testing.assert_allclose(found["least"], cosine.min(axis=1), atol=1e-3, rtol=0)


KINDS = st.sampled_from([(np.float16, 16, 10), (np.float32, 32, 23)])


@given(st.data(), KINDS, st.integers(1, 22))
def test_round_bits__error_is_bounded(data: st.DataObject, kind: tuple[Any, int, int], keep: int) -> None:
    dtype, width, bits = kind
    values = data.draw(arrays(dtype, (2, 5), elements=st.floats(width=width, allow_nan=True, allow_infinity=True)))
    before = values.copy()
    rounded = round_bits(values, keep)
    np.testing.assert_array_equal(values, before)  # not in place
    assert rounded.dtype == dtype
    assert rounded.shape == values.shape
    finite = np.isfinite(values)
    np.testing.assert_array_equal(rounded[~finite], values[~finite])
    assert np.isfinite(rounded[finite]).all()
    exact, found = values[finite].astype(np.float64), rounded[finite].astype(np.float64)
    smallest = float(np.finfo(dtype).smallest_normal)  # below it the steps no longer shrink
    bound = np.maximum(np.abs(exact), smallest) * 2.0 ** -(keep + 1)
    assert (np.abs(found - exact) <= (bound if keep < bits else 0)).all()
    np.testing.assert_array_equal(round_bits(rounded, keep), rounded)
    kept = rounded[finite & (np.abs(rounded) < 2.0 ** (np.finfo(dtype).maxexp - 1))].view(f"u{width // 8}")
    assert (kept & ((1 << max(bits - keep, 0)) - 1) == 0).all()  # so that they compress


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("keep", [1, 7, 10, 22])
def test_round_bits__extremes(dtype: Any, keep: int) -> None:
    info = np.finfo(dtype)
    extremes = np.array(
        [info.max, info.min, info.tiny, info.smallest_subnormal, 0, -0.0, 1, np.inf, -np.inf, np.nan], dtype
    )
    rounded = round_bits(extremes, keep)
    np.testing.assert_array_equal(rounded[:3], extremes[:3])  # the largest would become infinite
    np.testing.assert_array_equal(rounded[4:], extremes[4:])
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(extremes))


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_read__again_gives_the_same_bits(models: dict[str, str], name: str, stack: str) -> None:
    sources, settings = sources_of(name, stack), wanted(stack, batch_subwords=30, pooling="mean")
    once, _ = read(Encoder(models[name]), SENTENCES, ALL, settings, sources=sources)
    for threads in (1, 3, 8):
        again, _ = read(Encoder(models[name]), SENTENCES, ALL, settings, sources=sources, threads=threads)
        np.testing.assert_array_equal(again, once)


def test_result__of_many_blocks_at_once(encoders: dict[str, Encoder]) -> None:
    encoder, settings = encoders["bert"], wanted(batch_subwords=10)
    tokenised = encoder.tokenise(SENTENCES, ALL, settings)
    expected, _ = read(encoder, SENTENCES, ALL, settings)
    with ThreadPoolExecutor(2) as pool:
        readings = [encoder.start(tokenised, settings, "float32", pool, 2) for _ in range(6)]
        blocks = [reading.result() for reading in readings]
    for block in blocks:
        np.testing.assert_array_equal(block.vectors, expected)
