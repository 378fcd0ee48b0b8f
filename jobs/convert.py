"""The commands that carry word vectors and concepts to and from other tools: `colign export` and `colign import`."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from engine import paths
from engine.exchange.clusters import ExchangedClusters, export_clusters, holds_clusters, import_clusters
from engine.exchange.conceptx import export_conceptx, import_conceptx, vocab_of
from engine.exchange.neurox_hdf5 import export_neurox_hdf5, import_neurox_hdf5
from engine.exchange.neurox_json import export_neurox_json, import_neurox_json
from engine.exchange.stream import Exchanged, Watch, kind
from jobs.arguments import Json
from jobs.outputs import check_place
from schemas.activations import ACTIVATIONS
from schemas.concepts import CONCEPTS
from schemas.dataset import Schema
from schemas.errors import InputError

Format = Literal["neurox-json", "neurox-hdf5", "conceptx", "conceptx-clusters"]


@dataclass(frozen=True)
class _Format:
    """How files of a format are written and read."""

    write: Callable[..., Exchanged | ExchangedClusters]
    read: Callable[..., Exchanged | ExchangedClusters]
    schema: Schema = ACTIVATIONS
    """The store on the other side."""
    writes: tuple[str, ...] = ()
    """Options of `write` beside the layers."""
    reads: tuple[str, ...] = ("dtype",)
    """Options of `read` beside the layers."""
    holds: str = "vectors"
    """What a file holds beside words."""


_FORMATS: dict[Format, _Format] = {
    "neurox-json": _Format(export_neurox_json, import_neurox_json),
    "neurox-hdf5": _Format(export_neurox_hdf5, import_neurox_hdf5),
    "conceptx": _Format(export_conceptx, import_conceptx, writes=("vocab", "count_from"), reads=("vocab", "dtype")),
    "conceptx-clusters": _Format(
        export_clusters, import_clusters, CONCEPTS, writes=("k", "count_from"), reads=("language",), holds="clusters"
    ),
}
_ENDINGS: dict[str, Format] = {
    ".json": "neurox-json",
    ".jsonl": "neurox-json",
    ".hdf5": "neurox-hdf5",
    ".h5": "neurox-hdf5",
    ".npy": "conceptx",
    ".txt": "conceptx-clusters",
    ".pkl": "conceptx-clusters",  # which says why it is not read
}
_UNFIT = {  # why a format does not take an option; one that is not here changes nothing then
    "vocab": "keeps words and {holds} in one file",
    "k": "has no number of clusters",
    "language": "becomes a store that names no language",
    "dtype": "holds no vectors",
}

FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the file (default: by its ending: .json, .hdf5, .npy, .txt)."),
]
Vocab = Annotated[
    str | None,
    typer.Option(help="conceptx: file of the keys (default: the name of FILE with «vocab» in place of «point»)."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def export_file(
    stored: Annotated[str, typer.Argument(metavar="STORE", help="Store of word vectors or of concepts.")],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write; conceptx: of the points; concepts in layers: a folder."
        ),
    ],
    form: FormatOption = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="Number of a layer to write; may be given again (default: all).")
    ] = None,
    vocab: Vocab = None,
    count_from: Annotated[
        int,
        typer.Option(min=0, max=1, help="ConceptX: first occurrence of a word; the paper's alignment scripts have 0."),
    ] = 1,
    k: Annotated[
        int | None, typer.Option(help="Concepts: the number of them, where the store has runs of several.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write word vectors for NeuroX (JSON lines, HDF5) or ConceptX (.npy), or concepts as ConceptX's cluster files.

    Only words that the store holds are written; for whole sentences, make it with a selection of every word. Concepts
    are those of the restart of least inertia; several layers become FILE/layer0/clusters-K.txt and so on.
    """
    form = form or ("conceptx-clusters" if kind(stored) == CONCEPTS.name else _guess(out, ACTIVATIONS))
    options = _options(form, _FORMATS[form].writes, vocab=vocab, count_from=count_from, k=k)
    files = [out, *([vocab or vocab_of(out)] if form == "conceptx" else [])]
    if len(set(files)) < len(files):
        raise InputError(f"{out}: named for the points and for the keys; give two names")
    for file in files:
        if "://" in file:
            raise InputError(f"{file}: expected a local path, found a URL; write to a local file and copy it")
        check_out(
            file, force, replaceable=Path(file).is_file() or (form == "conceptx-clusters" and holds_clusters(file))
        )
    with _progress() as watch:
        done = _FORMATS[form].write(stored, out, layers=layer or None, watch=watch, **options)
    _report(done, form, as_json)


def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File to read; conceptx: of the points; clusters: also a folder.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="STORE", help="Store to write.")],
    form: FormatOption = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Number of a layer of FILE, given again for each in order (default: as FILE says, or from 0); for a "
            "folder, of a layer to read (default: all).",
        ),
    ] = None,
    vocab: Vocab = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="Type of vectors on disk (default: float32).")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Clusters: language of the words (default: text).")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a store of word vectors from NeuroX (JSON lines, HDF5) or ConceptX (.npy), or of concepts from its clusters.

    Clusters are read from one text file, or from FILE/layer0/clusters-K.txt and so on. All is checked before anything
    is written.
    """
    form = form or _guess(file)
    options = _options(form, _FORMATS[form].reads, vocab=vocab, dtype=dtype, language=language)
    for given in (file, *([vocab or vocab_of(file)] if form == "conceptx" else [])):
        folder = Path(given).is_dir()
        if not Path(given).is_file() and not (folder and form == "conceptx-clusters"):
            raise InputError(f"{given}: expected a {form} file, found {'a folder' if folder else 'none'}")
    check_out(out, force, replaceable=kind(out) == _FORMATS[form].schema.name)
    with _progress() as watch:
        done = _FORMATS[form].read(file, out, layers=layer or None, watch=watch, **options)
    _report(done, form, as_json)


def _guess(file: str, schema: Schema | None = None) -> Format:
    """Format by the ending of a file, among those of stores of one kind."""
    forms = [form for form in _FORMATS if schema in (None, _FORMATS[form].schema)]
    form = _ENDINGS.get(Path(file).suffix.lower())
    if form is None and Path(file).is_dir():
        form = "conceptx-clusters"
    if form not in forms:
        *others, last = forms
        raise InputError(f"{file}: its ending does not tell the format; give --format {', '.join(others)} or {last}")
    return form


def _options(form: Format, takes: tuple[str, ...], **given: Any) -> dict[str, Any]:
    """The options that were given and that the format takes; refuses those that cannot be meant."""
    for name, value in given.items():
        if value is not None and name not in takes and name in _UNFIT:
            why = _UNFIT[name].format(holds=_FORMATS[form].holds)
            raise InputError(f"--{name} {value}: {form} {why}; leave it out")
    return {name: value for name, value in given.items() if value is not None and name in takes}


def check_out(path: str, force: bool, *, replaceable: bool) -> None:
    """Refuse to write over what is there, and with --force over anything but what this command writes."""
    check_place(path)
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


def _report(done: Exchanged | ExchangedClusters, form: Format, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"format": form, **asdict(done)}, ensure_ascii=False) + "\n")
        return
    layers = ", ".join(map(str, done.layers))
    size = f"{done.k} concepts" if isinstance(done, ExchangedClusters) else f"{done.hidden} numbers a vector"
    absent = f"; {done.absent:,} stored words have no vector and were left out" if done.absent else ""
    sys.stdout.write(f"{done.tokens:,} words, layers {layers}, {size}{absent}\n")
    sys.stdout.writelines(f"{file}\n" for file in done.files)
