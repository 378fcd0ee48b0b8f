"""Vectors of a selection, written shard by shard, alone and through a whole study."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import store
from engine.activations import Extraction, compute, extract, layers_of, record_error, setup
from engine.model.encode import Block, open_encoder
from engine.model.shape import describe
from engine.store import load, save
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import RangeError
from schemas.task import Key
from tests.oracles.texts import corpus
from tests.oracles.vectors import DROPPED, read_one_by_one
from tests.small_models import LAYERS, SENTENCES, SOURCES, large, wanted

SHARD = 8


def prepared(
    folder: Path, model: str, lines: list[list[str]], *, stack: str = "encoder", dtype: str = "float32", **changes: Any
) -> tuple[Extraction, np.ndarray]:
    """A laid out extraction of two words in three of some German lines, and their places in the language."""
    open_encoder.cache_clear()
    sources = (SOURCES * 2)[: len(lines)]
    text = corpus({"en": sources, "de": lines}, fingerprint=str(len(lines)))
    save(str(folder / "corpus.zarr"), CORPUS, text)
    start = len([word for line in sources for word in line])
    kept = np.array([i for i in range(start, text.sizes["token"]) if (i - start) % 3])
    save(str(folder / "selection.zarr"), SELECTION, SELECTION.create({"token_id": kept}))
    settings = study.Activations(dtype="float32", shard_tokens=SHARD, chunk_tokens=4, batch_subwords=40)
    options = {name: changes.pop(name) for name in list(changes) if hasattr(wanted(), name)}
    task = Extraction(
        corpus=str(folder / "corpus.zarr"),
        selection=str(folder / "selection.zarr"),
        path=str(folder / "activations.zarr"),
        previous=str(folder / "previous.zarr"),
        model=model,
        shape=describe(model),
        language="de",
        source="en" if stack == "decoder" and describe(model).encoder_decoder else None,
        wanted=wanted(stack, layers_of(model, stack, "all"), batch_subwords=40, **options),
        auto=False,
        keep_bits=None,
        shard_tokens=SHARD,
        threads=1,
        memory=None,
    )
    task = replace(task, **changes)
    setup(task, settings, len(kept), dtype=dtype)
    return task, kept - start


def whole(kept: np.ndarray, start: int = 0) -> Key:
    """One task for all shards, from the shard that begins at `start`."""
    return Key("activations", (), start, len(kept))


def nobody(*_: Any) -> None:
    """Who is told of nothing."""


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_extract__shards_hold_the_vectors_of_the_selection(
    models: dict[str, str], tmp_path: Path, name: str, stack: str
) -> None:
    task, kept = prepared(tmp_path, models[name], SENTENCES, stack=stack, decoder_position="consume", threads=2)
    layers = task.wanted.layers
    told: list[tuple[Key, float, Any]] = []
    outcomes = extract(whole(kept, 8), task, lambda *news: told.append(news))
    outcomes += extract(Key("activations", (), 0, 8), task, lambda *news: told.append(news))
    starts = [*range(8, len(kept), 8), 0]
    assert len(starts) > 3
    assert sorted(key.start for key, *_ in told) == sorted(starts)
    assert {key.start: outcome for key, _, outcome in told} == dict(zip(starts, outcomes, strict=True))
    assert {key.start: key.stop for key, *_ in told} == {a: min(a + 8, len(kept)) for a in starts}
    for start, outcome in zip(starts, outcomes, strict=True):
        tokens = min(8, len(kept) - start)
        assert {n: outcome[n] for n in ("tokens", "computed", "absent", "dropped", "too_long")} == {
            "tokens": tokens, "computed": tokens, "absent": 0, "dropped": 0, "too_long": 0
        }  # fmt: skip
        assert outcome["bytes"] >= len(layers) * tokens * describe(models[name]).hidden * 4
        assert set(outcome["seconds"]) == {"text", "model", "copy", "encode", "disk"}
        assert min(outcome["seconds"].values()) >= 0
        assert json.loads(json.dumps(outcome)) == outcome
    sources = SOURCES if task.source else None
    expected = np.concatenate(
        read_one_by_one(models[name], SENTENCES, stack=stack, sources=sources, decoder_position="consume"), axis=1
    )
    found = load(task.path, ACTIVATIONS)
    np.testing.assert_allclose(found.activation, expected[:, kept], atol=1e-5, rtol=0)
    assert found.present.values.all()
    assert found.layer.values.tolist() == list(layers)
    words = [word for line in SENTENCES for word in line]
    assert found.word.values.tolist() == [words[i] for i in kept]
    once = found.activation.values
    extract(Key("activations", (), 8, 16), replace(task, threads=1), nobody)
    np.testing.assert_array_equal(load(task.path, ACTIVATIONS).activation, once)


def test_extract__counts_words_without_a_vector(bert: str, tmp_path: Path) -> None:
    lines = [["a", DROPPED, DROPPED], ["b"] * 40, ["c", DROPPED, "d"], ["e"] * 5]
    task, kept = prepared(tmp_path, bert, lines)
    outcomes = extract(whole(kept), task, nobody)
    flat = [(word, len(line)) for line in lines for word in line]
    chosen = [flat[i] for i in kept]
    dropped = sum(word == DROPPED for word, _ in chosen)
    too_long = sum(length == 40 for _, length in chosen)
    assert dropped > 0
    assert [sum(o[name] for o in outcomes) for name in ("dropped", "too_long")] == [dropped, too_long]
    assert all(o["absent"] == o["dropped"] + o["too_long"] for o in outcomes)
    found = load(task.path, ACTIVATIONS)
    assert found.present.values.tolist() == [word != DROPPED and length < 40 for word, length in chosen]
    assert np.isnan(found.activation.values[:, ~found.present.values]).all()


def test_extract__bfloat16_measures_its_error(bert: str, tmp_path: Path) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES, compute="bfloat16")
    outcomes = extract(whole(kept), task, nobody)
    record_error(task.path, outcomes)
    found = load(task.path, ACTIVATIONS)
    expected = np.concatenate(read_one_by_one(bert, SENTENCES), axis=1)[:, kept]
    np.testing.assert_allclose(found.activation, expected, atol=0.1, rtol=0)
    assert np.abs(found.activation - expected).max() > 0
    a, b = found.activation.values[:, :SHARD].astype(np.float64), expected[:, :SHARD].astype(np.float64)
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(found.attrs["cosine_with_float32"], cosine.mean(axis=1), atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.attrs["least_cosine"], cosine.min(axis=1), atol=1e-3, rtol=0)
    assert [o for o in outcomes if "cosine" in o] == outcomes[:1]


def test_extract__the_error_is_measured_on_known_vectors_too(bert: str, tmp_path: Path) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES, compute="bfloat16")
    [first, *_] = extract(whole(kept), task, nobody)
    Path(task.path).rename(task.previous)
    task, _ = prepared(tmp_path, bert, SENTENCES, compute="bfloat16")
    [again, *others] = extract(whole(kept), task, nobody)
    assert {o["computed"] for o in (again, *others)} == {0}
    assert again["cosine"] == first["cosine"]
    assert max(again["cosine"]["mean"]) < 1


@pytest.mark.parametrize("keep_bits", [3, 10, 15])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_extract__kept_bits_bound_the_error(bert: str, tmp_path: Path, dtype: str, keep_bits: int) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES, dtype=dtype, keep_bits=keep_bits)
    extract(whole(kept), task, nobody)
    found = load(task.path, ACTIVATIONS)
    assert found.activation.dtype == dtype
    expected = np.concatenate(read_one_by_one(bert, SENTENCES), axis=1)[:, kept]
    bits = min(keep_bits, 10) if dtype == "float16" else keep_bits
    allowed = np.abs(expected) * (2.0 ** -(bits + 1) + (2.0**-11 if dtype == "float16" else 0)) + 1e-5
    assert (np.abs(found.activation.values - expected) <= allowed).all()


def test_extract__takes_known_vectors_and_computes_the_others(bert: str, tmp_path: Path) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES[:9])
    extract(whole(kept), task, nobody)
    old = load(task.path, ACTIVATIONS).activation.values
    Path(task.path).rename(task.previous)
    task, more = prepared(tmp_path, bert, SENTENCES)
    outcomes = extract(whole(more), task, nobody)
    found = load(task.path, ACTIVATIONS)
    np.testing.assert_array_equal(found.activation[:, : len(kept)], old)
    assert sum(o["computed"] for o in outcomes) == len(more) - len(kept)
    Path(task.path).rename(tmp_path / "grown.zarr")
    Path(task.previous).rename(tmp_path / "old.zarr")
    task, _ = prepared(tmp_path, bert, SENTENCES)
    extract(whole(more), task, nobody)
    np.testing.assert_array_equal(load(task.path, ACTIVATIONS).activation, found.activation)  # as if read at once
    expected = np.concatenate(read_one_by_one(bert, SENTENCES), axis=1)[:, more]
    np.testing.assert_allclose(found.activation, expected, atol=1e-5, rtol=0)


def test_extract__a_shard_that_was_not_written_is_computed(bert: str, tmp_path: Path) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES)
    extract(Key("activations", (), 8, 16), task, nobody)
    Path(task.path).rename(task.previous)
    task, _ = prepared(tmp_path, bert, SENTENCES)
    outcomes = extract(whole(kept), task, nobody)
    expected = np.concatenate(read_one_by_one(bert, SENTENCES), axis=1)[:, kept]
    np.testing.assert_allclose(load(task.path, ACTIVATIONS).activation, expected, atol=1e-5, rtol=0)
    assert sum(o["computed"] for o in outcomes) >= len(kept) - 8


@pytest.mark.parametrize("keep_bits", [None, 4])
def test_compute__equals_what_is_stored(bert: str, tmp_path: Path, keep_bits: int | None) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES, keep_bits=keep_bits)
    extract(whole(kept), task, nobody)
    found = load(task.path, ACTIVATIONS)
    vectors, described = compute(Key("activations", (), 8, 16), task)
    np.testing.assert_array_equal(vectors, found.activation[:, 8:16])
    for name, values in described.items():
        np.testing.assert_array_equal(values, found[name][8:16])


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many blocks have been made and not released; the third on a GPU waits until one is released."""
    held = {"made": 0, "held": 0}
    made, release = Block.__init__, Block.release

    def counted(self: Block, *arguments: Any) -> None:
        made(self, *arguments)
        held["made"] += 1
        held["held"] += 1

    def released(self: Block) -> None:
        release(self)
        held["held"] -= 1

    monkeypatch.setattr(Block, "__init__", counted)
    monkeypatch.setattr(Block, "release", released)
    return held


def test_extract__releases_every_block(bert: str, tmp_path: Path, blocks: dict[str, int]) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES)
    extract(whole(kept), task, nobody)
    assert blocks["made"] == -(-len(kept) // SHARD)
    compute(Key("activations", (), 0, 8), task)
    assert blocks["held"] == 0


def test_extract__releases_what_cannot_be_written(
    bert: str, tmp_path: Path, blocks: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, kept = prepared(tmp_path, bert, SENTENCES)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(store, "write_region", full)
    with pytest.raises(OSError, match="disk full"):
        extract(whole(kept), task, nobody)
    assert blocks["made"] > 0
    assert blocks["held"] == 0


def test_extract__a_value_that_does_not_fit_stops_or_is_told(mt5: str, tmp_path: Path) -> None:
    lines = [["a", "b", "c"]] * 9 + [["d", "q", "q"]] + [["e", "f", "g"]] * 6
    task, kept = prepared(tmp_path, large(mt5, tmp_path / "large", "▁q"), lines, dtype="float16")
    with pytest.raises(RangeError, match=r"layer 0, sentence of 3 words starting 'd q q': a value of .* float16"):
        extract(whole(kept), task, nobody)
    told: list[int] = []
    outcomes = extract(whole(kept), replace(task, auto=True), lambda key, *_: told.append(key.start))
    [wrong] = [i for i, outcome in enumerate(outcomes) if "overflow" in outcome]
    assert outcomes[wrong]["overflow"].startswith("layer 0, sentence of 3 words starting 'd q q'")
    assert sorted(told) == [i * SHARD for i in range(len(outcomes)) if i != wrong]
