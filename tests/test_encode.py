"""Word vectors of tiny random models of every family against transformers, one sentence at a time."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from engine.model.encode import Encoder
from engine.sentences import read_sentences
from tests.oracles.vectors import read_one_by_one, save_bert, save_gpt2, save_llama, save_mt5, save_xlmr
from tests.small_models import ALL, LAYERS, SENTENCES, SOURCES, every, read, sources_of, wanted

DEMO = resources.files("jobs.demo")
LANGUAGES = ("en", "de", "fr", "es", "ar")


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("name", ["bert", "xlmr", "mt5", "roberta"])
def test_read__encoder_equals_one_sentence_at_a_time(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, pooling: str
) -> None:
    vectors, present = read(encoders[name], SENTENCES, ALL, wanted(layers=every("encoder", name), pooling=pooling))
    expected = np.concatenate(read_one_by_one(models[name], SENTENCES, pooling=pooling), axis=1)
    assert present.all()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("position", ["predict", "consume"])
@pytest.mark.parametrize("name", ["mt5", "gpt2", "llama"])
def test_read__decoder_equals_one_sentence_at_a_time(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, position: str, pooling: str
) -> None:
    settings = {"pooling": pooling, "decoder_position": position}
    given = {"sources": sources_of(name, "decoder")}
    vectors, present = read(
        encoders[name], SENTENCES, ALL, wanted("decoder", every("decoder", name), **settings), **given
    )
    expected = np.concatenate(read_one_by_one(models[name], SENTENCES, stack="decoder", **settings, **given), axis=1)
    assert (present == ~np.isnan(expected[0, :, 0])).all()
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


def made(name: str, folder: Path) -> str:
    """A model that knows the letters of the demo's text, and reads long sentences of it."""
    texts = [DEMO.joinpath(f"{language}.txt").read_text("utf-8") for language in LANGUAGES]
    letters = "".join(sorted(set("".join(texts)) - set(" \n")))
    lines = [line for text in texts for line in text.splitlines()[:50]]
    save: dict[str, Callable[[], str]] = {
        "bert": lambda: save_bert(folder, letters=letters, positions=400),
        "xlmr": lambda: save_xlmr(folder, letters=letters, positions=400),
        "mt5": lambda: save_mt5(folder, letters=letters),
        "gpt2": lambda: save_gpt2(folder, lines=lines, positions=400),
        "llama": lambda: save_llama(folder, lines=lines, positions=400),
    }
    return save[name]()


@pytest.mark.parametrize(
    ("name", "stack"),
    [("bert", "encoder"), ("xlmr", "encoder"), ("mt5", "encoder"), ("mt5", "decoder"), ("gpt2", "decoder"),
     ("llama", "decoder")],
)  # fmt: skip
def test_read__real_sentences_in_five_languages_equal_one_at_a_time(tmp_path: Path, name: str, stack: str) -> None:
    texts = {lang: list(read_sentences(str(DEMO.joinpath(f"{lang}.txt")), "regex"))[:100] for lang in LANGUAGES}
    sentences = [line for lines in texts.values() for line in lines]
    assert len(sentences) == 500
    sources = texts["en"] * 5 if (name, stack) == ("mt5", "decoder") else None
    model = made(name, tmp_path)
    settings = wanted(stack, every(stack, name), batch_subwords=512)
    vectors, present = read(
        Encoder(model), sentences, [np.arange(len(s)) for s in sentences], settings, sources=sources
    )
    position = "predict" if name == "mt5" else "consume"
    expected = read_one_by_one(model, sentences, stack=stack, sources=sources, decoder_position=position)
    assert present.all()
    assert np.abs(vectors - np.concatenate(expected, axis=1)).max() <= 1e-5
    assert vectors.std(axis=1).min() > 0.01  # the words differ


def test_read__decoder_positions_differ_as_published(encoders: dict[str, Encoder]) -> None:
    first = [np.array([0])] * len(SENTENCES)
    predict, _ = read(encoders["mt5"], SENTENCES, first, wanted("decoder", (0,), pooling="first"), sources=SOURCES)
    assert (predict == predict[:, :1]).all()  # the state before the first sub-word is the start state (D31)
    settings = {"pooling": "first", "decoder_position": "consume"}
    consume, _ = read(encoders["mt5"], SENTENCES, first, wanted("decoder", (0,), **settings), sources=SOURCES)
    assert not (consume == consume[:, :1]).all()


@pytest.mark.parametrize("layers", [(2,), (0, 2), (1, 2), (0, 1)])
def test_read__some_layers_are_those_of_all_layers(encoders: dict[str, Encoder], layers: tuple[int, ...]) -> None:
    for name, stack in LAYERS:
        sources = sources_of(name, stack)
        whole, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, every(stack, name)), sources=sources)
        some, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, layers), sources=sources)
        np.testing.assert_array_equal(some, whole[list(layers)])


def test_read__some_positions_are_those_of_all_positions(encoders: dict[str, Encoder]) -> None:
    whole, _ = read(encoders["bert"], SENTENCES, ALL, wanted(pooling="mean"))
    some = [where[i % 2 :: 2] for i, where in enumerate(ALL)]
    offsets = np.cumsum([0, *[len(s) for s in SENTENCES]])
    rows = np.concatenate([offset + where for offset, where in zip(offsets, some, strict=False)]).astype(int)
    found, present = read(encoders["bert"], SENTENCES, some, wanted(pooling="mean"))
    assert present.shape == (len(rows),)
    np.testing.assert_allclose(found, whole[:, rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_read__batch_budget_never_changes_a_bit(encoders: dict[str, Encoder], name: str, stack: str) -> None:
    sources = sources_of(name, stack)
    once, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=4096), sources=sources)
    for budget in (1, 30, 100):
        other, present = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=budget), sources=sources)
        assert present.all()
        np.testing.assert_array_equal(other, once)


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_read__threads_never_change_a_bit(encoders: dict[str, Encoder], name: str, stack: str) -> None:
    sources = sources_of(name, stack)
    once, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=20), sources=sources)
    for threads in (1, 2, 4):
        other, _ = read(
            encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=20), sources=sources, threads=threads
        )
        np.testing.assert_array_equal(other, once)


def test_read__float16_is_float32_rounded(encoders: dict[str, Encoder]) -> None:
    wide, _ = read(encoders["bert"], SENTENCES, ALL, wanted())
    narrow, _ = read(encoders["bert"], SENTENCES, ALL, wanted(), dtype="float16")
    assert narrow.dtype == np.float16
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))


def test_read__nothing_wanted(encoders: dict[str, Encoder]) -> None:
    vectors, present = read(encoders["bert"], [["a"], ["b"]], [np.arange(0)] * 2, wanted())
    assert vectors.shape == (3, 0, 24)
    assert present.shape == (0,)
