"""Word vectors of tiny random models against transformers, one sentence at a time."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.activations import Extraction, extract, layers_of, setup
from engine.model.encode import Encoder, Wanted, open_encoder
from engine.model.shape import describe
from engine.store import load, save
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError
from schemas.task import Key
from tests.oracles.texts import corpus
from tests.oracles.vectors import DROPPED, LETTERS, read_one_by_one

LAYERS = {("bert", "encoder"): 3, ("xlmr", "encoder"): 2, ("mt5", "encoder"): 2, ("mt5", "decoder"): 3}


def sentences(count: int, seed: int, longest: int = 6) -> list[list[str]]:
    """Random words of one to four letters."""
    draw = random.Random(seed)
    words = [["".join(draw.choices(LETTERS, k=draw.randint(1, 3))) for _ in range(draw.randint(1, longest))]
             for _ in range(count)]  # fmt: skip
    words[0][0] = "diesen"
    return words


SENTENCES, SOURCES = sentences(14, 0), sentences(14, 1)
ALL = [np.arange(len(s)) for s in SENTENCES]


def wanted(stack: str = "encoder", layers: tuple[int, ...] = (0, 1, 2), **settings: Any) -> Wanted:
    """Settings of an extraction in float32."""
    given = {"batch_subwords": 64} | settings
    return Wanted(stack, layers, **given)


def read(encoder: Encoder, *arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and presence."""
    block = encoder.read(*arguments, **options)
    return block.vectors, block.present


@pytest.fixture(scope="module")
def models(bert: str, xlmr: str, mt5: str) -> dict[str, str]:
    """Folder of each model."""
    return {"bert": bert, "xlmr": xlmr, "mt5": mt5}


@pytest.fixture(scope="module")
def encoders(models: dict[str, str]) -> Iterator[dict[str, Encoder]]:
    """Encoder of each model."""
    threads = torch.get_num_threads()
    yield {name: Encoder(path) for name, path in models.items()}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("name", ["bert", "xlmr", "mt5"])
def test_read__encoder_equals_one_sentence_at_a_time(
    models: dict[str, str], encoders: dict[str, Encoder], name: str, pooling: str
) -> None:
    layers = tuple(range(LAYERS[name, "encoder"] + 1))
    vectors, present = read(encoders[name], SENTENCES, ALL, wanted(layers=layers, pooling=pooling))
    expected = np.concatenate(read_one_by_one(models[name], SENTENCES, pooling=pooling), axis=1)
    assert present.all()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("position", ["predict", "consume"])
def test_read__decoder_equals_one_sentence_at_a_time(
    models: dict[str, str], encoders: dict[str, Encoder], position: str, pooling: str
) -> None:
    settings = {"pooling": pooling, "decoder_position": position}
    vectors, present = read(
        encoders["mt5"], SENTENCES, ALL, wanted("decoder", (0, 1, 2, 3), **settings), sources=SOURCES
    )
    expected = read_one_by_one(models["mt5"], SENTENCES, stack="decoder", sources=SOURCES, **settings)
    assert present.all()
    np.testing.assert_allclose(vectors, np.concatenate(expected, axis=1), atol=1e-5, rtol=0)


def test_read__decoder_positions_differ_as_published(encoders: dict[str, Encoder]) -> None:
    first = [np.array([0])] * len(SENTENCES)
    predict, _ = read(encoders["mt5"], SENTENCES, first, wanted("decoder", (0,), pooling="first"), sources=SOURCES)
    assert (predict == predict[:, :1]).all()  # the state before the first sub-word is the start state (D31)
    settings = {"pooling": "first", "decoder_position": "consume"}
    consume, _ = read(encoders["mt5"], SENTENCES, first, wanted("decoder", (0,), **settings), sources=SOURCES)
    assert not (consume == consume[:, :1]).all()


@pytest.mark.parametrize("layers", [(2,), (0, 2), (1, 2), (0, 1)])
def test_read__some_layers_are_those_of_all_layers(encoders: dict[str, Encoder], layers: tuple[int, ...]) -> None:
    for name in encoders:
        every, _ = read(encoders[name], SENTENCES, ALL, wanted())
        some, _ = read(encoders[name], SENTENCES, ALL, wanted(layers=layers))
        np.testing.assert_array_equal(some, every[list(layers)])


def test_read__some_positions_are_those_of_all_positions(encoders: dict[str, Encoder]) -> None:
    every, _ = read(encoders["bert"], SENTENCES, ALL, wanted(pooling="mean"))
    some = [where[i % 2 :: 2] for i, where in enumerate(ALL)]
    offsets = np.cumsum([0, *[len(s) for s in SENTENCES]])
    rows = np.concatenate([offset + where for offset, where in zip(offsets, some, strict=False)]).astype(int)
    found, present = read(encoders["bert"], SENTENCES, some, wanted(pooling="mean"))
    assert present.shape == (len(rows),)
    np.testing.assert_allclose(found, every[:, rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_read__batch_budget_never_changes_a_bit(encoders: dict[str, Encoder], name: str, stack: str) -> None:
    sources = SOURCES if stack == "decoder" else None
    once, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=4096), sources=sources)
    for budget in (1, 30, 100):
        other, present = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=budget), sources=sources)
        assert present.all()
        np.testing.assert_array_equal(other, once)


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_read__threads_never_change_a_bit(encoders: dict[str, Encoder], name: str, stack: str) -> None:
    sources = SOURCES if stack == "decoder" else None
    once, _ = read(encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=20), sources=sources)
    for threads in (2, 4):
        other, _ = read(
            encoders[name], SENTENCES, ALL, wanted(stack, batch_subwords=20), sources=sources, threads=threads
        )
        np.testing.assert_array_equal(other, once)


def test_read__float16_is_float32_rounded(encoders: dict[str, Encoder]) -> None:
    wide, _ = read(encoders["bert"], SENTENCES, ALL, wanted())
    narrow, _ = read(encoders["bert"], SENTENCES, ALL, wanted(), dtype="float16")
    assert narrow.dtype == np.float16
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))


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


def test_read__nothing_wanted(encoders: dict[str, Encoder]) -> None:
    vectors, present = read(encoders["bert"], [["a"], ["b"]], [np.arange(0)] * 2, wanted())
    assert vectors.shape == (3, 0, 24)
    assert present.shape == (0,)


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


def test_read__values_that_overflow_float16_are_refused(mt5: str, tmp_path: Path) -> None:
    model = Encoder(changed(mt5, tmp_path / "large", {"shared.weight": 1e6}))
    with pytest.raises(
        InputError,
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
    with pytest.raises(InputError, match=r"layer 0, sentence of 3 words starting 'c q d'"):
        read(Encoder(str(folder)), given, [np.arange(len(s)) for s in given], wanted(), dtype="float16")


@pytest.mark.parametrize(
    ("name", "weight"),
    [("bert", "layer.1.attention.self.query.weight"), ("xlmr", "word_embeddings.weight"), ("mt5", "shared.weight")],
)
def test_encoder__missing_weights_are_refused(models: dict[str, str], tmp_path: Path, name: str, weight: str) -> None:
    model = changed(models[name], tmp_path / name, {weight: None})
    with pytest.raises(InputError, match=r"the checkpoint lacks weights of the model .* would be random"):
        Encoder(model)


def test_encoder__a_missing_pooler_is_no_loss(bert: str, tmp_path: Path, encoders: dict[str, Encoder]) -> None:
    model = Encoder(changed(bert, tmp_path / "bert", {"pooler.dense.weight": None, "pooler.dense.bias": None}))
    np.testing.assert_array_equal(
        read(model, SENTENCES, ALL, wanted())[0], read(encoders["bert"], SENTENCES, ALL, wanted())[0]
    )


def test_encoder__no_weights_at_all(bert: str, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"bert: cannot be loaded"):
        Encoder(str(tmp_path / "bert"))


def test_encoder__a_damaged_file_of_weights(bert: str, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    file = tmp_path / "bert" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"bert: cannot be loaded"):
        Encoder(str(tmp_path / "bert"))


def test_encoder__weights_of_another_shape_than_the_configuration(bert: str, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    file = tmp_path / "bert" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 99}))
    with pytest.raises(
        InputError, match=r"bert: weight \S*word_embeddings.weight has shape .*, expected .*99.*matches its config.json"
    ):
        Encoder(str(tmp_path / "bert"))


@pytest.mark.parametrize("name", ["bert", "xlmr", "mt5"])
def test_encoder__a_folder_without_a_tokenizer(models: dict[str, str], tmp_path: Path, name: str) -> None:
    shutil.copytree(models[name], tmp_path / name, ignore=lambda _, files: [f for f in files if "token" in f])
    with pytest.raises(InputError, match=rf"{name}: has no tokenizer, every word would be unknown; .*save_pretrained"):
        Encoder(str(tmp_path / name))


def test_describe__shapes(models: dict[str, str]) -> None:
    bert, xlmr, mt5 = (describe(models[name]) for name in ("bert", "xlmr", "mt5"))
    assert (bert.hidden, bert.layers, bert.max_subwords) == (24, {"encoder": 3}, 24)
    assert (xlmr.hidden, xlmr.layers, xlmr.max_subwords) == (16, {"encoder": 2}, 24)
    assert (mt5.hidden, mt5.layers, mt5.max_subwords) == (16, {"encoder": 2, "decoder": 3}, None)


@pytest.mark.parametrize("name", ["bert", "xlmr", "mt5"])
def test_describe__parameters_are_roughly_right(
    models: dict[str, str], encoders: dict[str, Encoder], name: str
) -> None:
    true = sum(p.numel() for p in encoders[name]._network.parameters())
    assert 0.6 * true < describe(models[name]).parameters < 1.7 * true


def test_describe__no_such_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a model folder .* or a hub name"):
        describe(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"expected a model folder .* or a hub name"):
        describe(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such type"}))
    with pytest.raises(InputError, match=r"expected a model folder .* or a hub name"):
        describe(str(tmp_path))


def test_layers_of__the_study_setting(bert: str, mt5: str) -> None:
    assert layers_of(bert, "encoder", "all") == (0, 1, 2, 3)
    assert layers_of(mt5, "decoder", "all") == (0, 1, 2, 3)
    assert layers_of(bert, "encoder", (3, 0, 3)) == (0, 3)


def test_layers_of__what_the_model_lacks_is_refused(bert: str, mt5: str) -> None:
    with pytest.raises(InputError, match=r"has no decoder; activations.stacks may name \['encoder'\]"):
        layers_of(bert, "decoder", "all")
    with pytest.raises(InputError, match=r"has no layer 4; its encoder has layers 0 to 3"):
        layers_of(bert, "encoder", (0, 4))
    with pytest.raises(InputError, match=r"has no layer 3; its encoder has layers 0 to 2"):
        layers_of(mt5, "encoder", (3,))


@pytest.mark.parametrize(("name", "stack"), [("bert", "encoder"), ("mt5", "decoder")])
def test_extract__shards_hold_the_vectors_of_the_selection(
    models: dict[str, str], tmp_path: Path, name: str, stack: str
) -> None:
    open_encoder.cache_clear()
    text = corpus({"en": SOURCES, "de": SENTENCES})
    save(str(tmp_path / "corpus.zarr"), CORPUS, text)
    start = len([word for line in SOURCES for word in line])
    kept = np.array([i for i in range(start, text.sizes["token"]) if i % 3])
    settings = study.Activations(dtype="float32", shard_tokens=8, chunk_tokens=4, batch_subwords=40)
    layers = layers_of(models[name], stack, "all")
    task = Extraction(
        str(tmp_path / "corpus.zarr"),
        str(tmp_path / "activations.zarr"),
        models[name],
        "de",
        "en" if stack == "decoder" else None,
        wanted(stack, layers, batch_subwords=40),
        1,
    )
    setup(task, SELECTION.create({"token_id": kept}), settings)
    keys = [Key("activations", (), a, min(a + 8, len(kept))) for a in range(0, len(kept), 8)]
    for key in reversed(keys):
        outcome = extract(key, task)
        assert outcome == {
            "tokens": key.stop - key.start,
            "absent": 0,
            "bytes": len(layers) * (key.stop - key.start) * describe(models[name]).hidden * 4,
        }
    found = load(task.path, ACTIVATIONS)
    expected = np.concatenate(read_one_by_one(models[name], SENTENCES, stack=stack, sources=SOURCES), axis=1)
    np.testing.assert_allclose(found.activation, expected[:, kept - start], atol=1e-5, rtol=0)
    assert found.present.values.all()
    assert found.layer.values.tolist() == list(layers)
    once = found.activation.values
    extract(keys[1], task)
    np.testing.assert_array_equal(load(task.path, ACTIVATIONS).activation, once)
