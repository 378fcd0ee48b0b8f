"""Models of a hub, from a server on this machine: the newest or a named revision, one and the same in all of a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine import store
from schemas.activations import ACTIVATIONS
from tests.hosts import ROOT
from tests.hub import served
from tests.oracles.vectors import save_bert

FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40

_COMMANDS = """
import contextlib, json, sys
import jobs.cli

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["colign", *arguments]
    try:
        jobs.cli.main()
    except SystemExit as end:
        if end.code:
            sys.stderr.write(f"exit code {end.code}\\n")
"""
"""Commands in one process, as the hub's address is read when a library of it is imported."""


def run(folder: Path, env: dict[str, str], *commands: list[str]) -> str:
    found = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        env={**os.environ, "HF_HOME": str(folder / "cache"), "COLUMNS": "200", **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stderr


def test_hub__newest_and_named_revision(tmp_path: Path) -> None:
    text = tmp_path / "en.txt"
    text.write_text("the house is small\na small dog\n")
    models = {c: Path(save_bert(tmp_path / c[0], positions=64, seed=n)) for n, c in enumerate((FIRST, SECOND))}
    models[THIRD] = tmp_path / "pickled"
    models[THIRD].mkdir()
    shutil.copy(models[FIRST] / "config.json", models[THIRD])
    (models[THIRD] / "pytorch_model.bin").touch()
    given = {
        "first": str(models[FIRST]),
        "second": str(models[SECOND]),
        "pinned": f"lab/bert@{FIRST}",
        "newest": "lab/bert",
        "unknown": "lab/bert@v9",
        "pickled": "lab/bert@pickled",
        "mistaken": f"{models[FIRST]}@v2",
    }
    commands = [["extract", model, str(text), "--out", str(tmp_path / name)] for name, model in given.items()]
    with served("lab/bert", models, {"main": SECOND, "pickled": THIRD}) as (env, asked):
        said = run(tmp_path, env, *commands)
        assert sum(line == f"GET lab/bert/resolve/{SECOND}/model.safetensors" for line in asked) == 1
    assert "error: lab/bert@v9: expected a model folder" in said
    assert "error: lab/bert@pickled: has no weights in safetensors" in said
    assert f"error: {models[FIRST]}@v2: expected a model folder" in said  # a folder has no revisions
    assert said.count("exit code") == said.count("exit code 2") == 3
    found = {name: store.load(str(tmp_path / name), ACTIVATIONS) for name in ("first", "second", "pinned", "newest")}
    vectors = {name: dataset.activation.values for name, dataset in found.items()}
    np.testing.assert_array_equal(vectors["pinned"], vectors["first"])
    np.testing.assert_array_equal(vectors["newest"], vectors["second"])
    assert not np.array_equal(vectors["first"], vectors["second"])
    assert (found["pinned"].model, found["newest"].model) == (f"lab/bert@{FIRST}", f"lab/bert@{SECOND}")
    # from the cache, with no hub in reach
    again = run(tmp_path, {"HF_HUB_OFFLINE": "1"}, ["extract", "lab/bert", str(text), "--out", str(tmp_path / "again")])
    assert "exit code" not in again
    np.testing.assert_array_equal(store.load(str(tmp_path / "again"), ACTIVATIONS).activation.values, vectors["second"])
