"""The command `colign extract`: the word vectors of one text, without pairs, concepts and scores."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from engine import lease, store
from engine.activations import open_activations
from engine.model.shape import describe
from engine.records import read_records
from engine.workers.create import create
from jobs import files, vectors
from jobs.layout import Layout
from jobs.outputs import check_place
from jobs.plan import size
from jobs.progress import out, print_json, progress, stoppable
from jobs.run import prepare, work
from schemas.checkpoint import Checkpoint
from schemas.errors import InputError
from schemas.machine import Machine
from schemas.parse import parse
from schemas.selection import Selection
from schemas.study import Activations, Corpus, Study

ALL = 2**62
"""More than any word occurs."""

TEXT = "text"
"""Language of a text that is read alone."""

_MODEL, _SOURCE = "model", "source"


@dataclass(frozen=True)
class Alone(Layout):
    """Where one store of vectors lies; beside it, in `root`, the words and the commit records."""

    path: str

    @property
    def folders(self) -> list[str]:
        """Everything that is written besides the frozen settings."""
        return [self.path, self.corpus, self.records, f"{self.root}/selections"]

    def activations(self, checkpoint: str, stack: str, language: str) -> str:
        """The ACTIVATIONS dataset."""
        return self.path

    def previous_activations(self, checkpoint: str, stack: str, language: str) -> str:
        """ACTIVATIONS dataset of before it grew."""
        return f"{self.path.removesuffix('.zarr')}.previous.zarr"


def study_of(
    model: str,
    text: str,
    source: str | None,
    settings: Mapping[str, Any],
    words: Literal["spaces", "regex"],
    selection: Mapping[str, Any],
    *,
    trusted: bool = False,
) -> Study:
    """A study without pairs, which ends with the vectors of a text; `trusted` as in `engine.model.shape.describe`.

    Raises
    ------
    InputError
        A setting is out of range, or the model needs a source or has no use for one.
    """
    shape = describe(model, trusted=trusted)
    given = dict(settings)
    given["stacks"] = [given.get("stacks") or min(shape.layers, key=("encoder", "decoder").index)]
    reads_source = shape.encoder_decoder and given["stacks"] == ["decoder"]
    if reads_source and source is None:
        raise InputError(f"{model}: its decoder reads TEXT while its encoder reads another: name that with --source")
    if source is not None and not reads_source:
        raise InputError(f"--source {source}: only for --stack decoder of an encoder-decoder model; leave it out")
    texts = {TEXT: text} | ({_SOURCE: source} if source is not None else {})
    if source is not None:
        given["decoder_source"] = {TEXT: _SOURCE}
    for file in texts.values():
        if "://" not in file and not Path(file).exists():
            raise InputError(f"{file}: no such file; expected a text of one sentence a line")
    return Study.model_construct(
        corpus=Corpus.model_construct(files={name: _absolute(file) for name, file in texts.items()}, words=words),
        checkpoints={
            _MODEL: Checkpoint(model=_absolute(model) if Path(model).exists() else model, trust_remote_code=trusted)
        },
        pairs=(),
        language_sets=(),
        selection=parse(Selection, selection, "options"),
        activations=parse(Activations, given, "options"),
    )


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())


def extract_vectors(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder in transformers' format, or hub name.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text file, one sentence a line; .gz is unpacked.")],
    path: Annotated[str, typer.Option("--out", "-o", metavar="ACT.zarr", help="Store of vectors to write.")],
    source: Annotated[
        str | None, typer.Option(help="Text that the encoder reads while the decoder reads TEXT.")
    ] = None,
    stack: Annotated[Literal["encoder", "decoder"] | None, typer.Option(help="Stack (default: the first).")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer to keep; may be given again (default: all).")] = None,
    pooling: Annotated[Literal["last", "first", "mean"], typer.Option(help="Of a word's sub-words.")] = "last",
    decoder_position: Annotated[
        Literal["predict", "consume"] | None,
        typer.Option(help="State that predicts a sub-word, or that has read it (default: as in study files)."),
    ] = None,
    compute: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Type of computation.")] = "float32",
    dtype: Annotated[Literal["float16", "float32", "auto"], typer.Option(help="Type on disk.")] = "float16",
    keep_bits: Annotated[int | None, typer.Option(help="Bits of the mantissa to keep (default: all).")] = None,
    too_long: Annotated[Literal["skip", "window", "error"], typer.Option(help="Sentences beyond the model.")] = "skip",
    final_norm: Annotated[bool, typer.Option(help="Last layer after the model's final norm, or before.")] = True,
    words: Annotated[Literal["spaces", "regex"], typer.Option(help="How a line is cut into words.")] = "spaces",
    min_count: Annotated[int, typer.Option(help="Least occurrences of a word.")] = 1,
    max_count: Annotated[int | None, typer.Option(help="Occurrences of a word to keep (default: all).")] = None,
    delete_above: Annotated[
        int | None, typer.Option(help="Most occurrences of a word that is kept at all (default: any number).")
    ] = None,
    max_sentence_words: Annotated[
        int | None, typer.Option(help="Words of a sentence at most; longer ones are left out first (default: any).")
    ] = None,
    sampling: Annotated[
        Literal["seeded", "first"], typer.Option(help="Which occurrences are kept: spread evenly, or the first.")
    ] = "seeded",
    trusted: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings, with your rights.")
    ] = False,
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", help="Machine file (default: this process).")
    ] = None,
    grow: Annotated[bool, typer.Option("--grow", help="Take up more text, layers or words; vectors are kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Write the word vectors of a text into a store; a second call goes on where the first stopped.

    Beside ACT.zarr lies ACT.text, with the words and the records of what is done.
    """
    place = _absolute(path.rstrip("/"))
    check_place(place)
    settings = {
        "stacks": stack,
        "layers": layer or "all",
        "pooling": pooling,
        "decoder_position": decoder_position,
        "compute": compute,
        "dtype": dtype,
        "keep_bits": keep_bits,
        "too_long": too_long,
        "final_norm": final_norm,
    }
    selection = {
        "min_count": min_count,
        "max_count": max_count or ALL,
        "delete_above": delete_above,
        "max_sentence_words": max_sentence_words,
        "sampling": sampling,
    }
    layout = Alone(f"{place.removesuffix('.zarr')}.text", place)
    study = study_of(model, text, source, settings, words, selection, trusted=trusted)
    if store.attributes(place) is not None and store.attributes(layout.corpus) is None:
        raise InputError(f"{path}: is there already, without its {layout.root}; give another name with --out")
    projected = extract_into(place, study, files.load_machine(machine), grow=grow)
    _report(layout, projected, as_json=as_json)


def extract_into(place: str, study: Study, limits: Machine, *, grow: bool = False) -> int:
    """Write the word vectors of a study without pairs; returns the projected peak of a worker in bytes."""
    layout = Alone(f"{place.removesuffix('.zarr')}.text", place)
    with stoppable(), lease.held(layout.lease), create(limits) as workers, progress(workers) as watch:
        context, sizes, plan, done = prepare(
            files.in_stored_order(study, layout), layout, workers, limits.memory_bytes, grow=grow
        )
        for stage in plan:
            work(stage, done, context, sizes, workers, watch)
    return plan[-1].memory


def _report(layout: Alone, projected: int, *, as_json: bool) -> None:
    records = read_records(layout.records).values()
    outcomes = vectors.outcomes(records)
    peak = max(record.peak_memory for record in records)
    dataset = open_activations(layout.path)
    counts = {name: sum(outcome[name] for outcome in outcomes) for name in ("tokens", "dropped", "too_long")}
    if as_json:
        memory = {"projected_memory": projected, "peak_memory": peak}
        numbers = {**counts, "sizes": dict(dataset.sizes), "seconds": vectors.totals(outcomes), **memory}
        print_json({"path": layout.path, **numbers})
        return
    out.print(
        f"{counts['tokens']:,} words x {dataset.sizes['layer']} layers x {dataset.sizes['hidden']}, "
        f"{dataset.activation.dtype}; without a vector: {counts['dropped']:,} dropped by the tokenizer, "
        f"{counts['too_long']:,} in sentences that are too long",
        soft_wrap=True,
    )
    if error := dataset.attrs.get("cosine_with_float32"):
        out.print(f"least mean cosine of a layer with float32: {min(error):.5f}")
    out.print(vectors.limit(outcomes), soft_wrap=True)
    out.print(f"peak memory {size(peak)}, projected {size(projected)}")
    out.print(f"vectors  {layout.path}", soft_wrap=True, highlight=False)
    sys.stdout.flush()
