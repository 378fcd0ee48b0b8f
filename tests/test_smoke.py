"""Installations: that container files name what there is, and what the smoke test says of right ones and others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """An environment in which colign is this clone's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in (("colign", "-m jobs.cli "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": path, "TMPDIR": str(tmp_path)}


def smoke(told: dict[str, str], *arguments: object) -> tuple[int, str]:
    command = ["bash", ROOT / "deploy" / "smoke.sh", *arguments]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_containers__install_what_the_project_asks_for_by_pinned_tools(kind: str) -> None:
    recipe = (ROOT / "deploy" / f"Containerfile.{kind}").read_text()
    constraints = (ROOT / "deploy" / f"constraints-{kind}.txt").read_text()
    (listing,) = re.findall(r"python -c '(.*?)' *\\\n", recipe, re.DOTALL)
    code = [sys.executable, "-c", listing.replace("\\\n", "")]
    asked = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    names = {re.split(r"[^\w-]", line)[0].lower() for line in asked if line}
    pinned = {line.split("==")[0].lower() for line in constraints.splitlines()}
    assert {"torch", "s3fs"} <= names <= pinned
    (pattern,) = re.findall(r"grep -E '(.*?)'", recipe)
    tools = [line for line in constraints.splitlines() if re.search(pattern, line)]
    assert {tool.split("==")[0] for tool in tools} == {"pip", "setuptools", "setuptools-scm", "wheel"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "none.yaml"], "none.yaml: no such machine file"),
        (["-m", "{here}/machine.yaml"], "name a new folder that this computer and all workers see, with -o"),
        (["-o", "{here}"], "is there already, or cannot be made"),
        (["machine.yaml"], "usage: smoke.sh"),
        (["-x"], "usage: smoke.sh"),
    ],
)
def test_smoke__a_bad_call_says_what_to_change(
    arguments: list[str], message: str, told: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "machine.yaml").write_text("type: local\n")
    code, said = smoke(told, *(argument.replace("{here}", str(tmp_path)) for argument in arguments))
    assert (code, message in said) == (2, True), said


@pytest.mark.slow
def test_smoke__a_right_installation_leaves_nothing(told: dict[str, str], tmp_path: Path) -> None:
    code, said = smoke(told)
    assert (code, "well: the same bits as in one process" in said) == (0, True), said
    assert [*tmp_path.glob("tmp.*")] == [], "its folder"


@pytest.mark.slow
def test_smoke__other_bits_and_what_cannot_run_are_told_apart(told: dict[str, str], tmp_path: Path) -> None:
    machine = tmp_path / "machine.yaml"
    machine.write_text("type: local\nworkers: 1\ncolour: red\n")
    code, said = smoke(told, "-m", machine, "-o", tmp_path / "refused")
    assert (code, "colour" in said, "the run failed" in said) == (2, True, True), said
    (tmp_path / "bin" / "colign").write_text(
        f"""#!/bin/sh
{sys.executable} -m jobs.cli "$@" || exit
case "$*" in *many*) find "$4/concepts" -path '*/c/*' -type f -exec sh -c 'echo other > "$1"' - {{}} \\; ;; esac
"""
    )
    machine.write_text("type: serial\n")
    code, said = smoke(told, "-m", machine, "-o", tmp_path / "other")
    assert (code, "the bits of concepts differ from those of one process" in said) == (1, True), said
