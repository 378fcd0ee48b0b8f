"""Arguments and options that several commands have."""

from typing import Annotated

import typer

StudyPath = Annotated[str, typer.Argument(metavar="STUDY", help="Study file (YAML), or the directory of a study.")]
Out = Annotated[str | None, typer.Option("--out", "-o", help="Study directory (default: beside the study file).")]
MachineFile = Annotated[
    str | None, typer.Option("--machine", "-m", help="Machine file (YAML) (default: this process).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
