"""Loading checkpoints: what is refused, weights larger than memory, several files, other types."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, GPT2Config

from engine.activations import layers_of
from engine.model.encode import Encoder
from engine.model.load import load_tokenizer
from engine.model.shape import describe
from schemas.errors import InputError
from tests.oracles.vectors import read_one_by_one
from tests.small_models import ALL, LAYERS, SENTENCES, changed, every, read, sources_of, wanted


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


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "stack"), [("bert", "encoder"), ("mt5", "encoder"), ("mt5", "decoder"), ("gpt2", "decoder")]
)
def test_encoder__weights_larger_than_memory_give_the_same_vectors(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stack: str, compute: str
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments = (SENTENCES, ALL, wanted(stack, every(stack, name), compute=compute))
    expected, _ = read(Encoder(models[name], compute), *arguments, sources=sources_of(name, stack))
    offloaded = Encoder(models[name], compute, memory=1000)
    found, present = read(offloaded, *arguments, sources=sources_of(name, stack), threads=4)
    assert "disk" in offloaded._network.hf_device_map.values()
    assert (present == np.isfinite(found[0, :, 0])).all()
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    assert os.listdir(tmp_path) == []


def test_encoder__weights_of_a_language_model_may_be_offloaded(gpt2: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    torch.manual_seed(0)
    config = GPT2Config.from_pretrained(gpt2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # its weights have a prefix
    AutoTokenizer.from_pretrained(gpt2).save_pretrained(tmp_path)
    settings = wanted("decoder")
    expected, _ = read(Encoder(str(tmp_path)), SENTENCES, ALL, settings)
    found, _ = read(Encoder(str(tmp_path), memory=1000), SENTENCES, ALL, settings)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_encoder__enough_memory_offloads_nothing(bert: str) -> None:
    parameters = describe(bert).parameters
    assert not Encoder(bert, memory=4 * parameters)._spread
    assert not Encoder(bert, "bfloat16", memory=2 * parameters)._spread
    pytest.importorskip("accelerate")
    assert Encoder(bert, "bfloat16", memory=2 * parameters - 1)._spread


def test_encoder__spreading_needs_accelerate(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.integrations.accelerate, "is_accelerate_available", lambda: False)
    with pytest.raises(InputError, match=r"larger than the memory for weights .* pip install accelerate, or give"):
        Encoder(bert, memory=1000)


@pytest.mark.parametrize(("name", "stack"), list(LAYERS))
def test_encoder__weights_of_another_type_are_computed_in_float32(
    models: dict[str, str], tmp_path: Path, name: str, stack: str
) -> None:
    AutoModel.from_pretrained(models[name], dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models[name]).save_pretrained(tmp_path)
    assert {str(w.dtype) for w in load_file(tmp_path / "model.safetensors").values()} == {"torch.bfloat16"}
    model, sources = Encoder(str(tmp_path)), sources_of(name, stack)
    assert {p.dtype for p in model._network.parameters()} == {torch.float32}
    found, present = read(model, SENTENCES, ALL, wanted(stack, decoder_position="consume"), sources=sources)
    expected = read_one_by_one(str(tmp_path), SENTENCES, stack=stack, decoder_position="consume", sources=sources)
    assert present.all()
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1)[:3], atol=1e-5, rtol=0)


def _in_several_files(model: str, folder: Path) -> str:
    AutoModel.from_pretrained(model).save_pretrained(folder, max_shard_size="8KB")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("memory", [None, 1000])
def test_encoder__weights_in_several_files(models: dict[str, str], tmp_path: Path, memory: int | None) -> None:
    for name in ("bert", "mt5"):
        folder = _in_several_files(models[name], tmp_path / name)
        assert len(list((tmp_path / name).glob("*.safetensors"))) > 2
        assert describe(folder).parameters == describe(models[name]).parameters
        found, _ = read(Encoder(folder, memory=memory), SENTENCES, ALL, wanted())
        np.testing.assert_array_equal(found, read(Encoder(models[name]), SENTENCES, ALL, wanted())[0])


def test_encoder__one_of_several_files_is_missing(bert: str, tmp_path: Path) -> None:
    folder = _in_several_files(bert, tmp_path / "bert")
    sorted((tmp_path / "bert").glob("*.safetensors"))[1].unlink()
    with pytest.raises(InputError, match=r"bert: cannot be loaded"):
        Encoder(folder)


def test_describe__counts_the_weights_that_are_loaded(models: dict[str, str], tmp_path: Path) -> None:
    for name, model in models.items():
        true = sum(w.numel() for w in load_file(Path(model) / "model.safetensors").values())
        assert describe(model).parameters == true
        shutil.copytree(model, tmp_path / name)
        save_file({"other": torch.zeros(9999)}, tmp_path / name / "consolidated.safetensors")
        assert describe(str(tmp_path / name)).parameters == true  # a second form of the same weights


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 99, (2).to_bytes(8, "little") + b"[]",
                                     (8).to_bytes(8, "little") + b'{"a": 1}'])  # fmt: skip
def test_describe__damaged_weights_are_named_when_loaded(bert: str, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").write_bytes(content)
    assert describe(str(tmp_path / "bert")).parameters > 0
    with pytest.raises(InputError, match=r"bert: cannot be loaded"):
        Encoder(str(tmp_path / "bert"))


def test_encoder__reads_a_tokenizer_that_is_a_sentencepiece_model_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n".join(SENTENCES[0]) + "\nder hund und die katze\n" * 9)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "spiece"), vocab_size=40, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    config = transformers.MT5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.MT5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    shutil.copy(tmp_path / "spiece.model", tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    assert tokenizer(["der", "hund"], is_split_into_words=True).word_ids()[0] == 0
    assert "".join(tokenizer.tokenize("der hund")).replace("▁", " ").strip() == "der hund"
