"""A study of three languages and thirty short sentences that runs in a second, and the command line in this process."""

import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import cli

_PARTS = {
    "en": (["the cat", "a dog", "my son", "the owl", "a boy"], ["sees", "likes", "finds"], ["the hut", "a tree"]),
    "de": (
        ["der kater", "ein hund", "mein sohn", "der uhu", "ein kind"],
        ["sieht", "mag", "hat"],
        ["das haus", "obst"],
    ),
    "fr": (["le chat", "un chien", "mon fils", "un hibou", "un ami"], ["voit", "aime", "a"], ["la hutte", "un arbre"]),
}
SENTENCES = {lang: [" ".join(words) for words in itertools.product(*parts)] for lang, parts in _PARTS.items()}


@dataclass
class SmallStudy:
    """A folder with texts and a study file, which a test may spoil before it gives a command."""

    folder: Path
    model: str
    values: dict[str, Any] = field(default_factory=dict)
    """Content of the study file."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for lang, lines in SENTENCES.items():
            self.text(lang).write_text("\n".join(lines) + "\n")
        self.values = {
            "corpus": {"files": {lang: f"{lang}.txt" for lang in SENTENCES}},
            "checkpoints": {"tiny": {"model": self.model}},
            "selection": {"min_count": 2, "max_count": 4},
            "activations": {"layers": [2], "shard_tokens": 32, "chunk_tokens": 16},
            "concepts": {"k": 3, "max_iterations": 5},
        }
        self.write()

    @property
    def file(self) -> Path:
        """The study file."""
        return self.folder / "study.yaml"

    @property
    def directory(self) -> Path:
        """The study directory."""
        return self.folder / "study"

    def text(self, language: str) -> Path:
        """Text file of a language."""
        return self.folder / f"{language}.txt"

    def write(self) -> None:
        """Write the study file."""
        self.file.write_text(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True))

    def set(self, key: str, value: Any) -> None:
        """Change a setting, by its dotted key, in the study file."""
        *sections, name = key.split(".")
        at = self.values
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
        self.write()

    def machine(self, **settings: Any) -> Path:
        """A machine file."""
        path = self.folder / "machine.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def files(self) -> Mapping[Path, bytes]:
        """Content of every file of the study directory."""
        return {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Give a command as in a shell; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["colign", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


class Terminal:
    """Commands of one test and what they print."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = monkeypatch, capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        found = call(self._patch, *arguments)
        captured = self._capture.readouterr()
        assert found == code, captured.err
        return captured.err if code else captured.out

    def json(self, *arguments: object) -> Any:
        return json.loads(self(*arguments, "--json"))
