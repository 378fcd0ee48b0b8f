"""Studies that grow, and what a grown one must hold."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from jobs import cli, files
from schemas.errors import TaskError
from schemas.machine import Machine
from tests import crash
from tests.small_study import SENTENCES, SmallStudy, call

Change = Callable[[SmallStudy], None]


def small(folder: Path, models: dict[str, str], family: str = "bert") -> SmallStudy:
    study = SmallStudy(folder, models[family])
    study.set("activations", {"layers": [1, 3] if family == "bert" else [1, 2], "shard_tokens": 32, "chunk_tokens": 16,
                              "dtype": "float32"})  # fmt: skip
    return study


def more(study: SmallStudy, start: int = 0, stop: int = 9) -> None:
    """Append sentences of new and of known words to every text."""
    for lang in study.values["corpus"]["files"]:
        known = SENTENCES.get(lang, SENTENCES["fr"])
        added = [f"{known[-i].split()[0]} {known[i]} {'xyz'[i % 3] * 3}" for i in range(start, stop)]
        with study.text(lang).open("a") as file:
            file.write("\n".join(added) + "\n")


def language(study: SmallStudy, name: str = "it", *, first: bool = False) -> None:
    """Add a language, at the end of the study file or before the others."""
    lines = len(study.text("en").read_text().splitlines())
    words = ("il gatto", "un cane", "mio figlio")
    study.text(name).write_text("".join(f"{words[i % 3]} vede {'la casa' if i % 2 else 'me'}\n" for i in range(lines)))
    old = study.values["corpus"]["files"]
    study.set("corpus.files", {name: f"{name}.txt"} | old if first else old | {name: f"{name}.txt"})


GROWTHS: dict[str, Change] = {
    "sentences": more,
    "language": language,
    "language before others": lambda study: language(study, "aa", first=True),
    "layers": lambda study: study.set("activations.layers", [0, 1, 2, 3]),
    "fewer layers": lambda study: study.set("activations.layers", [3]),
    "more words": lambda study: study.set("selection.max_count", 9),
    "other words": lambda study: study.set("selection", {"min_count": 6, "max_count": 7}),
    "first words": lambda study: study.set("selection", {"min_count": 2, "max_count": 6, "sampling": "first"}),
    "fewer words": lambda study: study.set("selection", {"min_count": 2, "delete_above": 9, "max_sentence_words": 6}),
    "other shards": lambda study: study.set("activations.shard_tokens", 48),
    "all at once": lambda study: [more(study), language(study), study.set("activations.layers", "all"),
                                  study.set("selection.max_count", 9)][0],
}  # fmt: skip


@dataclass
class Vectors:
    """A store of vectors, with words told by sentence and position."""

    dataset: xr.Dataset

    @classmethod
    def of(cls, directory: Path, lang: str, stack: str = "encoder") -> "Vectors":
        path = directory / "activations" / "tiny" / stack / f"{lang}.zarr"
        return cls(xr.open_zarr(path, consolidated=False, chunks=None).load())

    def by_place(self) -> dict[tuple[int, int], dict[int, bytes]]:
        """Bits of the vectors of each present word, by layer."""
        values, layers = self.dataset.activation.values, self.dataset.layer.values.tolist()
        places = zip(self.dataset.sentence.values.tolist(), self.dataset.position.values.tolist(), strict=True)
        present = self.dataset.present.values
        return {
            place: {layer: values[at, i].tobytes() for at, layer in enumerate(layers)}
            for i, place in enumerate(places)
            if present[i]
        }


def outcomes(directory: Path) -> dict[str, dict[str, Any]]:
    """What shards of vectors returned, by name of the task."""
    found = {}
    for path in (directory / "records" / "activations").rglob("*.json"):
        record = json.loads(path.read_text())
        found[record["key"]] = record["outcome"]
    return found


def grow(study: SmallStudy, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    return call(monkeypatch, "run", study.file, *options)


def assert_stops(study: SmallStudy, *options: str) -> None:
    """A run ends where a test has put a division by zero."""
    loaded, layout = files.load_study(str(study.file))
    with pytest.raises((ZeroDivisionError, TaskError), match="division by zero"):
        cli.execute(loaded, layout, Machine(), grow="--grow" in options)


def fresh_twin(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of a study that had its text and settings from the start; its languages stand in the stored order."""
    stored = xr.open_zarr(study.directory / "corpus.zarr", consolidated=False).language.values.tolist()
    texts, pairs = study.values["corpus"]["files"], [[lang, "en"] for lang in study.values["corpus"]["files"]]
    study.set("corpus.files", {lang: texts[lang] for lang in stored})
    study.set("pairs", [pair for pair in pairs if pair[0] != "en"])
    twin = study.folder / "twin"
    assert call(monkeypatch, "run", study.file, "--out", twin) == 0
    study.set("corpus.files", texts)
    return twin


def _stored(content: bytes) -> object:
    """What a file holds; of the settings of a group only their hash, as they name stacks that it does not hold."""
    if not content.startswith(b"{"):
        return content
    metadata = json.loads(content)
    metadata.get("attributes", {}).pop("settings", None)
    return metadata


def assert_grown(study: SmallStudy, twin: Path, stack: str = "encoder") -> None:
    """A grown study holds what its twin holds: vectors within rounding, all that does not depend on them exactly."""
    ours, theirs = (crash.content(root, metadata=True) for root in (study.directory, twin))
    assert ours.keys() ^ theirs.keys() == set()
    of_text = ("corpus.zarr", "selections", "links", "dictionaries")
    exact = {name for name in ours if name.startswith(of_text)}
    exact |= {name for name in ours if name.startswith("activations") and "/activation/c/" not in name}
    assert [name for name in sorted(exact) if _stored(ours[name]) != _stored(theirs[name])] == []
    for lang in study.values["corpus"]["files"]:
        one, other = (Vectors.of(root, lang, stack).dataset for root in (study.directory, twin))
        assert one.activation.dtype == other.activation.dtype
        np.testing.assert_allclose(one.activation.values, other.activation.values, rtol=0, atol=1e-5)
    assert crash.records(study.directory).keys() == crash.records(twin).keys()
    assert not [path for path in study.directory.rglob("*") if ".previous." in path.name or "partial" in path.name]


def assert_concepts_are_of_these_vectors(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that follows from the vectors is what they give when it is computed anew."""
    before = crash.content(study.directory, metadata=True)
    for stage in ("concepts", "counts"):
        shutil.rmtree(study.directory / stage)
        shutil.rmtree(study.directory / "records" / stage)
    shutil.rmtree(study.directory / "results.zarr")
    assert grow(study, monkeypatch) == 0
    after = crash.content(study.directory, metadata=True)
    assert after.keys() ^ before.keys() == set()
    assert [name for name in sorted(after) if after[name] != before[name]] == []


def copy_of(study: SmallStudy, folder: Path) -> SmallStudy:
    """A study at another place, which its stores do not know."""
    copy = SmallStudy(folder, study.model)
    shutil.copytree(study.folder, folder, dirs_exist_ok=True)
    copy.values = json.loads(json.dumps(study.values))
    copy.write()
    return copy
