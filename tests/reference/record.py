"""Write what the published scripts of the paper return for the settings of every fixture into its expected.json.

    python -X utf8 -m tests.reference.record SCRIPTS [FIXTURE...]

SCRIPTS is the folder `code` of a checkout of qcri/multilingual-latent-concepts, which is no part of this project;
README.md says how its scripts are called. The settings are read from expected.json; a second call changes no byte.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

_PAIR = re.compile(
    r"^Source Cluster (\d+) Target Cluster (\d+)\nSource Cluster Size (\d+) Target Cluster Size (\d+)\n(\d+) (\d+)$",
    re.MULTILINE,
)
_SUMMARY = re.compile(r"^Source Cluster (\d+) is aligned to Target Clusters: (.+)$", re.MULTILINE)


def calign(scripts: Path, fixture: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """The setting with the pairs that alignClusters.py prints: [source, target, aligned words, types of both]."""
    rules = [str(setting[name]) for name in ("n_best", "theta_align", "size_threshold", "min_types")]
    files = [str(fixture / f"{name}.txt") for name in ("source", "target", "dictionary")]
    command = [sys.executable, "-X", "utf8", str(scripts / "alignClusters.py"), *files, *rules]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    rows = [list(map(int, row)) for row in _PAIR.findall(printed)]
    pairs = sorted([source, target, words, *sizes] for source, target, *sizes, words, _ in rows)
    summary = sorted([int(s), int(t)] for s, of_source in _SUMMARY.findall(printed) for t in of_source.split(", "))
    if summary != [pair[:2] for pair in pairs] or any(row[5] != row[2] for row in rows):
        raise RuntimeError(f"{fixture.name}, {setting}: the pairs and the summary that were printed differ")
    return {**setting, "pairs": pairs}


def colap(scripts: Path, fixture: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """The setting with the concepts that get_overlapping_clusters.py returns."""
    spec = importlib.util.spec_from_file_location("published", scripts / "get_overlapping_clusters.py")
    assert spec is not None
    assert spec.loader is not None
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    found = published.get_overlapping_clusters(
        str(fixture / "mixed.txt"), int(setting["last_sentence_of_first_language"]), float(setting["theta_percent"])
    )
    return {**setting, "overlapping": sorted(int(name.removeprefix("c")) for name in found)}


def record(scripts: Path, fixture: Path) -> int:
    """Write the expected.json of a fixture, one setting a line; returns how many settings it has."""
    file = fixture / "expected.json"
    run: Callable[..., dict[str, Any]] = calign if fixture.name.startswith("calign") else colap
    kept = ("pairs", "overlapping")
    settings = [
        run(scripts, fixture, {name: value for name, value in setting.items() if name not in kept})
        for setting in json.loads(file.read_text("utf-8"))["settings"]
    ]
    lines = ",\n".join(json.dumps(setting) for setting in settings)
    file.write_text(f'{{"settings": [\n{lines}\n]}}\n', "utf-8", newline="\n")
    return len(settings)


if __name__ == "__main__":
    names = sys.argv[2:] or sorted(file.parent.name for file in HERE.glob("*/expected.json"))
    for name in names:
        print(f"{name:24} {record(Path(sys.argv[1]), HERE / name):4} settings")
