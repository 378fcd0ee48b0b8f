"""The commands that carry word vectors to and from other tools: `colign export` and `colign import`."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from engine import paths
from engine.exchange.conceptx import export_conceptx, import_conceptx, vocab_of
from engine.exchange.neurox_hdf5 import export_neurox_hdf5, import_neurox_hdf5
from engine.exchange.neurox_json import export_neurox_json, import_neurox_json
from engine.exchange.stream import Exchanged, Watch, kind
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError

Format = Literal["neurox-json", "neurox-hdf5", "conceptx"]

_ENDINGS: dict[str, Format] = {
    ".json": "neurox-json",
    ".jsonl": "neurox-json",
    ".hdf5": "neurox-hdf5",
    ".h5": "neurox-hdf5",
    ".npy": "conceptx",
}
_EXPORTS: dict[Format, Callable[..., Exchanged]] = {
    "neurox-json": export_neurox_json,
    "neurox-hdf5": export_neurox_hdf5,
    "conceptx": export_conceptx,
}
_IMPORTS: dict[Format, Callable[..., Exchanged]] = {
    "neurox-json": import_neurox_json,
    "neurox-hdf5": import_neurox_hdf5,
    "conceptx": import_conceptx,
}

FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the file (default: by its ending: .json, .hdf5, .npy)."),
]
Vocab = Annotated[
    str | None,
    typer.Option(help="conceptx: file of the keys (default: the name of FILE with «vocab» in place of «point»)."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def export_activations(
    activations: Annotated[str, typer.Argument(metavar="ACT.zarr", help="Store of word vectors.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="File to write; conceptx: of the points.")],
    form: FormatOption = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="Number of a layer to write; may be given again (default: all).")
    ] = None,
    vocab: Vocab = None,
    count_from: Annotated[
        int,
        typer.Option(min=0, max=1, help="conceptx: first occurrence of a word; the paper's alignment scripts have 0."),
    ] = 1,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write word vectors for NeuroX (JSON lines, HDF5) or ConceptX (point and vocab .npy).

    Only words that the store holds are written; for whole sentences, make it with a selection of every word.
    """
    form = form or _guess(out)
    files = [out, *([vocab or vocab_of(out)] if form == "conceptx" else [])]
    if len(set(files)) < len(files):
        raise InputError(f"{out}: named for the points and for the keys; give two names")
    for file in files:
        if "://" in file:
            raise InputError(f"{file}: expected a local path, found a URL; write to a local file and copy it")
        _check_out(file, force, replaceable=Path(file).is_file())
    options: dict[str, Any] = {"vocab": vocab, "count_from": count_from} if form == "conceptx" else {}
    _only_conceptx(form, vocab)
    with _progress() as watch:
        done = _EXPORTS[form](activations, out, layers=layer or None, watch=watch, **options)
    _report(done, form, as_json)


def import_activations(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to read; conceptx: of the points.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="ACT.zarr", help="Store to write.")],
    form: FormatOption = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Number of a layer of FILE, given again for each in order (default: as FILE says, or from 0).",
        ),
    ] = None,
    vocab: Vocab = None,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Type on disk.")] = "float32",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a store of word vectors from those of NeuroX (JSON lines, HDF5) or ConceptX (point and vocab .npy).

    The file is read twice: all of it is checked before anything is written.
    """
    form = form or _guess(file)
    _only_conceptx(form, vocab)
    for given in (file, *([vocab or vocab_of(file)] if form == "conceptx" else [])):
        if not Path(given).is_file():
            raise InputError(f"{given}: expected a {form} file, found {'a folder' if Path(given).is_dir() else 'none'}")
    _check_out(out, force, replaceable=kind(out) == ACTIVATIONS.name)
    options = {"vocab": vocab} if form == "conceptx" else {}
    with _progress() as watch:
        done = _IMPORTS[form](file, out, dtype=dtype, layers=layer or None, watch=watch, **options)
    _report(done, form, as_json)


def _guess(file: str) -> Format:
    try:
        return _ENDINGS[Path(file).suffix.lower()]
    except KeyError:
        raise InputError(
            f"{file}: its ending does not tell the format; give --format neurox-json, neurox-hdf5 or conceptx"
        ) from None


def _only_conceptx(form: Format, vocab: str | None) -> None:
    if vocab and form != "conceptx":
        raise InputError(f"--vocab {vocab}: {form} keeps words and vectors in one file; leave it out")


def _check_out(path: str, force: bool, *, replaceable: bool) -> None:
    """Refuse to write over what is there, and with --force over anything but what this command writes."""
    system, place = paths.filesystem(path)
    if not system.exists(place):
        return
    if not force:
        raise InputError(f"{path}: is there already; choose another name, or replace it with --force")
    if not replaceable:
        raise InputError(f"{path}: is not what this command writes, and --force would delete it; choose another name")


@contextlib.contextmanager
def _progress() -> Iterator[Watch]:
    """A progress bar on standard error, where that is a terminal."""
    err = Console(stderr=True, markup=False, emoji=False)
    columns = (
        TextColumn("{task.description:<5}"), BarColumn(), TaskProgressColumn(show_speed=True), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        yield watch


def _report(done: Exchanged, form: Format, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"format": form, **asdict(done)}, ensure_ascii=False) + "\n")
        return
    layers = ", ".join(map(str, done.layers))
    absent = f"; {done.absent:,} stored words have no vector and were left out" if done.absent else ""
    sys.stdout.write(f"{done.tokens:,} words, layers {layers}, {done.hidden} numbers a vector{absent}\n")
    sys.stdout.writelines(f"{file}\n" for file in done.files)
