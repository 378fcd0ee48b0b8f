"""Training: reproducible, readable by transformers, and better than before."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from engine.model.recipes import Recipe, TuningRecipe
from engine.model.train import pretrain, train_tokenizer, tune
from schemas.errors import InputError

WORDS = (  # one of each in every sentence, English and German
    "mother:Mutter father:Vater sister:Schwester brother:Bruder uncle:Onkel aunt:Tante",
    "sees:sieht buys:kauft sells:verkauft paints:malt finds:findet",
    "one:eins two:zwei three:drei four:vier five:fünf six:sechs",
    "red:rote blue:blaue green:grüne white:weiße",
    "lamps:Lampen flowers:Blumen shoes:Schuhe bags:Taschen cups:Tassen",
)
LISTS = [[pair.split(":") for pair in words.split()] for words in WORDS]
DRAWN = np.random.default_rng(5).integers(0, 60, (60, len(LISTS)))
PAIRS = [[words[n % len(words)] for words, n in zip(LISTS, row, strict=True)] for row in DRAWN]
ENGLISH = [[english for english, _ in pair] for pair in PAIRS]
GERMAN = [[german for _, german in reversed(pair)] for pair in PAIRS]
TINY = Recipe(steps=40, batch=16, vocabulary=400, layers=2, hidden=32, heads=2, longest=16, learning_rate=3e-3, seed=3)
SHORT = TuningRecipe(steps=120, batch=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = str(tmp_path_factory.mktemp("base"))
    pretrain({"en": ENGLISH, "de": GERMAN}, directory, TINY)
    return directory


@pytest.fixture(scope="module")
def tuned(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = str(tmp_path_factory.mktemp("tuned"))
    tune(base, GERMAN, ENGLISH, directory, SHORT)
    return directory


def states(directory: str, sentences: list[list[str]]) -> list[torch.Tensor]:
    """Top-layer states of each sentence without its special tokens, (sub_word, hidden)."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32, add_pooling_layer=False).eval()
    encoding = tokenizer(sentences, is_split_into_words=True, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(**encoding).last_hidden_state
    return [row[1 : int(mask.sum()) - 1] for row, mask in zip(found, encoding["attention_mask"], strict=True)]


def retrieved(directory: str) -> float:
    """Share of German sentences whose nearest English sentence is the translation."""
    means = (torch.stack([s.mean(0) for s in states(directory, side)]) for side in (GERMAN, ENGLISH))
    german, english = (torch.nn.functional.normalize(mean - mean.mean(0)) for mean in means)
    return float(((german @ english.T).argmax(1) == torch.arange(len(PAIRS))).float().mean())


def test_pretrain__loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    losses = pretrain({"en": ENGLISH, "de": GERMAN}, str(tmp_path), TINY, lambda *step: told.append(step))
    assert told == [(i + 1, TINY.steps, loss) for i, loss in enumerate(losses)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_pretrain__same_seed_same_weights_for_any_threads(base: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pretrain({"en": ENGLISH, "de": GERMAN}, str(tmp_path / "again"), TINY)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    names = sorted(os.listdir(base))
    assert names == sorted(os.listdir(tmp_path / "again"))
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (Path(base) / name).read_bytes()


def test_pretrain__another_seed_gives_other_weights(base: str, tmp_path: Path) -> None:
    pretrain({"en": ENGLISH, "de": GERMAN}, str(tmp_path), Recipe(**{**vars(TINY), "steps": 1, "seed": 4}))
    one, two = (load_file(f"{d}/model.safetensors") for d in (base, tmp_path))
    assert not all(torch.equal(one[k], two[k]) for k in one)


def test_pretrain__neighbours_bring_like_words_together(tmp_path: Path) -> None:
    pretrain({"en": ENGLISH, "de": GERMAN}, str(tmp_path), Recipe(**{**vars(TINY), "steps": 1, "learning_rate": 0.0}))
    vectors = load_file(str(tmp_path / "model.safetensors"))["bert.embeddings.word_embeddings.weight"]
    words = AutoTokenizer.from_pretrained(str(tmp_path)).convert_tokens_to_ids(["one", "two", "lamps"])
    one, two, lamps = torch.nn.functional.normalize(vectors[words])
    assert one @ two > one @ lamps + 0.3


def test_pretrain__model_is_read_by_transformers(base: str) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(os.listdir(base))
    assert [s.shape for s in states(base, ENGLISH[:3])] == [(5, TINY.hidden)] * 3


def test_train_tokenizer__keeps_words_apart_and_cased(base: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoding = tokenizer([["fünf", "blaueblaue", "Lampen", "red"]], is_split_into_words=True)
    words = encoding.word_ids(0)
    assert words[0] is None
    assert words[-1] is None
    assert set(words[1:-1]) == {0, 1, 2, 3}
    assert words.count(1) > 1
    assert "Lampen" in tokenizer.get_vocab()
    assert "lampen" not in tokenizer.get_vocab()
    assert "fünf" in tokenizer.get_vocab()  # accents stay
    assert tokenizer.unk_token_id not in encoding["input_ids"][0]


def test_train_tokenizer__is_the_same_in_another_process() -> None:
    code = (
        "from engine.model.train import train_tokenizer; from tests.test_train import GERMAN;"
        "print(sorted(train_tokenizer(GERMAN, 80).get_vocab().items()))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    assert done.stdout.strip() == str(sorted(train_tokenizer(GERMAN, 80).get_vocab().items()))


def test_tune__brings_translations_together(base: str, tuned: str) -> None:
    assert retrieved(base) < 0.1
    assert retrieved(tuned) > 0.25


def test_tune__keeps_words_of_a_sentence_apart(tuned: str) -> None:
    vectors = torch.nn.functional.normalize(torch.stack(states(tuned, ENGLISH)), dim=-1)
    cosine = vectors @ vectors.mT
    count = cosine.shape[-1]
    assert (cosine.sum((1, 2)) - count).mean() / (count * (count - 1)) < 0.6


def test_tune__changes_weights_and_leaves_the_base(base: str, tuned: str, tmp_path: Path) -> None:
    before = (Path(base) / "model.safetensors").read_bytes()
    losses = tune(base, GERMAN, ENGLISH, str(tmp_path), SHORT)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5
    assert (Path(base) / "model.safetensors").read_bytes() == before
    assert (tmp_path / "model.safetensors").read_bytes() == (Path(tuned) / "model.safetensors").read_bytes() != before


def test_pretrain__bad_text_names_place_and_remedy(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="expected sentences with words, found none; give"):
        pretrain({}, str(out), TINY)
    with pytest.raises(InputError, match=r"text of 'de': expected sentences, found none; give"):
        pretrain({"en": ENGLISH, "de": []}, str(out), TINY)
    with pytest.raises(InputError, match=r"text of 'de', sentence 1: expected a list of words, found \[\]; split"):
        pretrain({"en": ENGLISH, "de": [["ja"], []]}, str(out), TINY)
    with pytest.raises(InputError, match=r"sentence 0: expected a list of words, found 'yes'; split"):
        pretrain({"en": ["yes"]}, str(out), TINY)
    with pytest.raises(InputError, match=r"sentence 0: expected 3 to 16 sub-words, found 42; shorten"):
        pretrain({"en": [["one"] * 40, ["two"]]}, str(out), TINY)
    with pytest.raises(InputError, match=r"vocabulary of at least \d+ .*, found 9; raise"):
        train_tokenizer(ENGLISH, 9)
    assert not out.exists()


def test_tune__bad_pairs_name_place_and_remedy(base: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="found 60 source and 59 target; give the two sides"):
        tune(base, GERMAN, ENGLISH[:-1], str(out), SHORT)
    with pytest.raises(InputError, match="source text: expected sentences, found none"):
        tune(base, [], [], str(out), SHORT)
    with pytest.raises(InputError, match=r"expected a model directory, found no config.json in it; run pretrain"):
        tune(str(tmp_path), GERMAN, ENGLISH, str(out), SHORT)
    assert not out.exists()
