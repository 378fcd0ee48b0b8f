"""The command `colign template`: the paper's studies, ready to run."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine import paths
from jobs import files
from jobs.arguments import Json
from jobs.outputs import check_folder
from jobs.progress import out, print_json
from schemas.errors import InputError
from schemas.study import Study

NAMES = ("mbert-ner", "xlmr-sst2", "mt5-ted")


def read(name: str) -> str:
    """Text of a study file."""
    return resources.files("jobs.studies").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def needed(study: Study) -> list[str]:
    """Files that a study reads, models aside."""
    tasks = (file for task in study.downstream.values() for file in task.files)
    return [*study.corpus.files.values(), *tasks, *study.tag_files]


def write_template(
    name: Annotated[Literal["mbert-ner", "xlmr-sst2", "mt5-ted"], typer.Argument(help="Study of the paper.")],
    directory: Annotated[str, typer.Argument(help="Where its file is written.")] = ".",
    as_json: Json = False,
) -> None:
    """Write a study of the paper, with tuning, all states and layers; then put its files beside it and run it."""
    path = Path(directory) / f"{name}.yaml"
    check_folder(directory)
    if path.exists():
        raise InputError(f"{path}: is there already; choose another directory")
    paths.write_text(str(path), read(name))
    study, _ = files.load_study(str(path))
    missing = [file for file in needed(study) if not Path(file).exists()]
    if as_json:
        print_json({"path": str(path), "missing": missing})
        return
    out.print(f"study  {path}", soft_wrap=True, highlight=False)
    if missing:
        shown = "".join(f"\n  {file}" for file in missing)
        out.print(f"put its {len(missing)} files there, or change the paths:{shown}", soft_wrap=True, highlight=False)
    out.print(f"then: colign run {path} --report", soft_wrap=True, highlight=False)
