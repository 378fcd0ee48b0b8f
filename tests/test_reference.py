"""The preset `reference` against the numbers that the published scripts give (tests/reference/README.md)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine.aligned import count_aligned
from engine.calign import aligned
from engine.colap import count_languages, overlapping
from engine.exchange.clusters import import_clusters
from engine.exchange.dictionaries import read
from engine.lexicon import ranked
from engine.store import read as read_store
from schemas.concepts import CONCEPTS
from schemas.metrics import Metrics

FOLDER = Path(__file__).parent / "reference"
MOST = 50
"""Translations of a type that a setting asks for at most."""


def settings(folder: Path) -> list[dict[str, Any]]:
    """Settings of a fixture, with what the scripts gave."""
    found: list[dict[str, Any]] = json.loads((folder / "expected.json").read_text())["settings"]
    return found


def concepts_of(path: Path, folder: Path) -> xr.Dataset:
    """A file of clusters as a CONCEPTS dataset."""
    made = str(folder / f"{path.stem}.zarr")
    import_clusters(str(path), made)
    return read_store(made, CONCEPTS)


def fixtures(kind: str) -> list[Any]:
    """Folders of a kind."""
    found = sorted(FOLDER.glob(f"{kind}-*"))
    return [pytest.param(folder, id=folder.name.removeprefix(f"{kind}-")) for folder in found]


def dictionary_of(path: Path) -> xr.Dataset:
    """The dictionary of a fixture; the reader refuses the empty word, which only cut words can be."""
    if path.parent.name != "calign-bars":
        return read(str(path))
    entries = []
    for line in path.read_text().splitlines():
        words, _, given = line.rpartition(": Probability = ")
        probability, count = given.split(", Count = ")
        source, target = (word.strip() for word in words.split("->"))
        entries.append((source, target, float(probability), int(count)))
    kinds = [list(dict.fromkeys(entry[side] for entry in entries)) for side in (0, 1)]
    source_type, target_type = (np.array([kinds[side].index(entry[side]) for entry in entries]) for side in (0, 1))
    place = np.array([sum(other[0] == entry[0] for other in entries[:at]) for at, entry in enumerate(entries)])
    numbers = np.array([entry[2:] for entry in entries])
    return ranked(
        (kinds[0], kinds[1]), source_type, target_type, numbers[:, 0], numbers[:, 1].astype(int), place,
        source="de", target="en",
    )  # fmt: skip


@pytest.mark.parametrize("folder", fixtures("calign"))
def test_aligned__pairs_are_those_of_the_published_script(folder: Path, tmp_path: Path) -> None:
    source, target = (concepts_of(folder / f"{side}.txt", tmp_path) for side in ("source", "target"))
    dictionary = dictionary_of(folder / "dictionary.txt")
    reference = Metrics(preset="reference")
    counts = count_aligned(
        source, target, source.concept.values[0], target.concept.values[0], dictionary, n_ranks=MOST,
        **reference.counting,
    )  # fmt: skip
    some = 0
    for setting in settings(folder):
        n_best = max(setting["n_best"], 1)  # the script keeps one translation where it is asked for none
        rules = {
            "theta_align": setting["theta_align"],
            "max_size_gap": 1 - setting["size_threshold"],
            "min_types": setting["min_types"],
            "n_best": n_best,
        }
        pairs = np.argwhere(aligned(counts, **(reference.alignment | rules))[0])
        part = counts.aligned_types.values[:n_best, 0].sum(axis=0)
        found = [
            [i, j, part[i, j], counts.source_types.values[0, i], counts.target_types.values[0, j]]
            for i, j in pairs.tolist()
        ]
        assert found == setting["pairs"], setting
        some += bool(found)
    assert some > 2


@pytest.mark.parametrize("folder", fixtures("colap"))
def test_overlapping__concepts_are_those_of_the_published_script(folder: Path, tmp_path: Path) -> None:
    mixed = concepts_of(folder / "mixed.txt", tmp_path)
    reference = Metrics(preset="reference")
    some = 0
    for setting in settings(folder):
        language = (mixed.sentence.values > setting["last_sentence_of_first_language"]).astype(np.int8)
        concepts = mixed.assign(language=("token", language)).assign_attrs(languages=["one", "other"])
        counts = count_languages(concepts, concepts.concept.values[0], concepts.sizes["concept_id"])
        theta = setting["theta_percent"] / 100
        found = np.flatnonzero(overlapping(counts, **(reference.overlap | {"theta_overlap": theta}))[0])
        expected = setting["overlapping"]
        if folder.name == "colap-rounding":  # 7/25 * 100 is 28.000000000000004, and we compare exactly
            tokens = counts.language_count.sel(unit="token").values[0]
            at_theta = np.isclose(tokens / tokens.sum(axis=1, keepdims=True), theta).any(axis=1)
            expected = [concept for concept in expected if not at_theta[concept]]
        assert found.tolist() == expected, setting
        some += bool(len(found))
    assert some > 2
