"""Downstream tasks that a tiny model learns in a second: words of the first half of the alphabet, and their number."""

import random
from pathlib import Path
from typing import Any

from tests.oracles.vectors import LETTERS


def _sentences(count: int, seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [draw.choices(LETTERS, k=draw.randint(2, 6)) for _ in range(count)]


def tagging(
    folder: Path, languages: tuple[str, ...] = ("de", "en", "fr"), count: int = 120, **more: Any
) -> dict[str, Any]:
    """A task file's content: a letter of the first half of the alphabet is a place."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, str]] = {}
    for number, (split, lang) in enumerate((s, lg) for s in ("train", "dev", "test") for lg in languages):
        rows = _sentences(count if split == "train" else 30, number)
        text = "\n".join("".join(f"{w}\t{'B-LOC' if w < 'n' else 'O'}\n" for w in row) for row in rows)
        (folder / f"{lang}.{split}").write_text(text)
        files.setdefault(split, {})[lang] = str(folder / f"{lang}.{split}")
    tuning = {"epochs": 8, "learning_rate": 5e-3, "batch": 8, "max_subwords": 16}
    return {"kind": "tagging", **files, "tuning": tuning}


def classification(folder: Path, count: int = 120) -> dict[str, Any]:
    """The same for texts of one letter."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, str]] = {}
    for number, split in enumerate(("train", "dev", "test")):
        rows = _sentences(count if split == "train" else 30, number)
        lines = [f"{row[0]}\t{'early' if row[0] < 'n' else 'late'}" for row in rows]
        (folder / split).write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
        files[split] = {"en": str(folder / split)}
    return {"kind": "classification", **files, "tuning": {"epochs": 8, "learning_rate": 5e-3, "batch": 8}}


def translation(folder: Path, count: int = 150) -> dict[str, Any]:
    """Every sentence is the same, so that a translation can be learnt in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, list[str]]] = {}
    for number, split in enumerate(("train", "dev", "test")):
        rows = _sentences(count if split == "train" else 10, number)
        (folder / f"{split}.de").write_text("".join(" ".join(row) + "\n" for row in rows))
        (folder / f"{split}.en").write_text("die a b c die\n" * len(rows))
        files[split] = {"de-en": [str(folder / f"{split}.{lang}") for lang in ("de", "en")]}
    tuning = {"epochs": 6, "learning_rate": 2e-2, "batch": 16, "max_subwords": 12}
    return {"kind": "translation", **files, "tuning": tuning}
