"""The command line."""

import logging
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
import xarray as xr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from engine import lease, ledger
from engine.environment import versions
from engine.paths import unanswered
from engine.workers.attempts import name_tasks_in_logs
from engine.workers.create import create
from jobs import (
    clustering,
    convert,
    demo,
    files,
    finetune,
    link,
    linking,
    models,
    sizes,
    stages,
    status,
    templates,
    verify,
)
from jobs.arguments import Json, MachineFile, Out, StudyPath
from jobs.calign import calign_of
from jobs.cluster import assign_vectors, cluster_vectors
from jobs.colap import colap_of
from jobs.describe import describe_concepts
from jobs.dictionary import make_dictionary
from jobs.extract import extract_vectors
from jobs.label import label_concepts
from jobs.layout import Layout
from jobs.plan import check_budget, clustering_table, links_table, rows, size
from jobs.progress import Printed, err, out, print_json, progress, stoppable
from jobs.report import write_report
from jobs.run import check_text, records, run
from jobs.selections import Text, read_text
from jobs.show import aligned_pairs, counted_layers
from jobs.sweep import sweep
from schemas.credentials import REMEDY, redacted
from schemas.errors import ColignError, InputError
from schemas.machine import QUEUED, Machine
from schemas.study import Study

app = typer.Typer(
    help="Measure whether a multilingual model keeps the same concepts for different languages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_LAYERS_WITH_DECIMALS = 7
"""More layers than this are printed as whole per cents, so that a line fits 80 columns."""

Grow = Annotated[
    bool,
    typer.Option("--grow", help="Take up more sentences, languages, layers or another selection; vectors are kept."),
]


def _tell_versions(asked: bool) -> None:
    if asked:
        out.print(versions().replace(", ", "\n"), highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_versions, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Take the options before a command."""


@app.command("run")
def run_study(
    study: StudyPath,
    out_dir: Out = None,
    machine: MachineFile = None,
    grow: Grow = False,
    take_over: Annotated[bool, typer.Option("--take-over", help="Take the directory from a run that is gone.")] = False,
    reported: Annotated[bool, typer.Option("--report", help="Then write its report, as colign report does.")] = False,
) -> None:
    """Run a study; what is done already is kept, so running again goes on where it stopped."""
    loaded, layout = files.load_study(study, out_dir)
    results = execute(loaded, layout, files.load_machine(machine), grow=grow, take_over=take_over)
    report(results, loaded, layout)
    if reported:
        write_report(study, out_dir=out_dir)


@app.command()
def plan(
    study: StudyPath, out_dir: Out = None, machine: MachineFile = None, grow: Grow = False, as_json: Json = False
) -> None:
    """Print tasks, disk and memory of a study before anything runs; exit code 2 when the machine cannot hold it."""
    loaded, layout = files.load_study(study, out_dir)
    limits = files.load_machine(machine)
    context = stages.context(loaded, layout, limits.threads or 1, limits.memory_bytes)
    done, _ = records(context, grow=grow)
    if check_text(context, done, grow=grow):
        done = {}
    text = read_text(loaded, layout, done)
    planned = stages.stages(context, text, limits.memory_bytes)
    found = rows(planned, done)
    tasks = [task for stage in planned for task in stage.clusterings]
    clusters = clustering.rows(tasks, loaded.concepts, limits)
    links = linking.rows(loaded, context.given, text.sentences, text.tokens, limits.memory_bytes)
    if as_json:
        vectors_disk = sizes.disk(context, text)
        print_json(
            {
                "directory": layout.root,
                "stages": found,
                "text": asdict(text),
                "links": links,
                "vectors": vectors_disk,
                "clustering": clusters,
            }
        )
    else:
        print_text(text)
        out.print(links_table(links, loaded.links.aligner))
        if text.selected:
            print_disk(sizes.disk(context, text))
        print_stages(found, "projected peak of a worker")
        if not text.selected:
            out.print(
                "vectors, concepts and counts: planned, and held against the machine, when the words are linked and "
                "before any model runs, because the links select",
                soft_wrap=True,
            )
        if clusters:
            out.print(clustering_table(clusters))
        for task in {e.model: e for e in context.extractions.values()}.values():
            if sizes.offloaded(task):
                out.print(f"{task.model}: its weights exceed the room for them and are read again in every pass")
    check_budget(planned, done, limits.memory_bytes, layout)
    models.check_texts(loaded, done)


@app.command()
def show(
    study: StudyPath,
    source: Annotated[str, typer.Option(help="Language whose concepts are shown.")],
    target: Annotated[str, typer.Option(help="Language that they translate into.")],
    checkpoint: Annotated[str | None, typer.Option(help="Checkpoint (default: the last).")] = None,
    stack: Annotated[str | None, typer.Option(help="Stack (default: the first).")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer (default: the highest).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 10,
    out_dir: Out = None,
    as_json: Json = False,
) -> None:
    """Print the largest aligned pairs of concepts with their words."""
    loaded, layout = files.load_study(study, out_dir)
    checkpoint = checkpoint or list(loaded.checkpoints)[-1]
    stack = stack or loaded.activations.stacks[0]
    if layer is None:
        layer = max(counted_layers(loaded, layout, checkpoint, stack, source, target))
    pairs = aligned_pairs(loaded, layout, checkpoint, stack, layer, source, target, top)
    if as_json:
        print_json({"checkpoint": checkpoint, "stack": stack, "layer": layer, "pairs": [asdict(p) for p in pairs]})
        return
    table = Table("aligned", source, target, title=f"{checkpoint}, {stack}, layer {layer}", show_lines=True)
    for pair in pairs:
        table.add_row(
            f"{pair.aligned_types} of {pair.source_types} types",
            " ".join(pair.source_words[:25]),
            " ".join(pair.target_words[:25]),
        )
    out.print(table)


@app.command("demo")
def run_demo(
    directory: Annotated[str, typer.Argument(help="Where the demo writes.")] = "demo",
    machine: MachineFile = None,
) -> None:
    """The paper in miniature: train two small checkpoints on a text of our own, then run the whole study."""
    limits = files.load_machine(machine)
    study_file = demo.prepare(directory, lambda words: err.print(words, highlight=False))
    loaded, layout = files.load_study(study_file)
    results = execute(loaded, layout, limits)
    report(results, loaded, layout)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the study file, for completion in editors."""
    sys.stdout.write(files.json_schema() + "\n")


@app.command("verify")
def verify_study(
    study: StudyPath,
    out_dir: Out = None,
    machine: MachineFile = None,
    sample: Annotated[int, typer.Option(min=0, help="Shards of vectors to compute again and compare.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Which shards those are.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Take back what is damaged: run does it again.")] = False,
    as_json: Json = False,
) -> None:
    """Check every stored byte against its checksum, and some vectors against the model; exit code 1 on damage."""
    loaded, layout = files.load_study(study, out_dir)
    limits = files.load_machine(machine)
    context = stages.context(loaded, layout, limits.threads or 1, limits.memory_bytes)
    done, _ = records(context)
    text = verify.sizes(context, done)
    planned = stages.stages(context, text, limits.memory_bytes)
    with Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=err) as shown:
        bar = shown.add_task("")
        found = verify.verify(
            context,
            planned,
            done,
            sample=sample,
            seed=seed,
            watch=lambda words, at, total: shown.update(bar, description=words, completed=at, total=total),
        )
    taken = []
    if repair:
        with lease.held(layout.lease):
            taken = verify.take_back(context, planned, done, found)
    damaged = {why: [str(key) for key in keys] for why, keys in found.damaged.items()}
    if as_json:
        numbers = {"bytes": found.nbytes, "equal": found.equal, "close": found.close}
        print_json({"directory": layout.root, **numbers, "damaged": damaged, "taken_back": taken})
    else:
        for why, names in damaged.items():
            out.print(f"{', '.join(names)}: {why}", soft_wrap=True)
        out.print(
            f"{size(found.nbytes)} read; of {found.equal + found.close} shards computed again {found.equal} equal to "
            f"the bit, {found.close} within rounding; {sum(map(len, damaged.values()))} tasks damaged",
            soft_wrap=True,
        )
        if damaged:
            out.print(
                f"taken back: colign run {study} does them again"
                if repair
                else f"colign verify {study} --repair takes them back, then colign run {study} does them again"
            )
    if damaged:
        raise typer.Exit(1)


app.command("status")(status.status)
app.command("extract")(extract_vectors)
app.command("link")(link.link_words)
app.command("aer")(link.compare_links)
app.command("import")(convert.import_file)
app.command("export")(convert.export_file)
app.command("cluster")(cluster_vectors)
app.command("assign")(assign_vectors)
app.command("describe")(describe_concepts)
app.command("calign")(calign_of)
app.command("colap")(colap_of)
app.command("sweep")(sweep)
app.command("dictionary")(make_dictionary)
app.command("label")(label_concepts)
app.command("report")(write_report)
app.command("template")(templates.write_template)
app.command("pretrain")(finetune.pretrain_encoder)
app.command("finetune")(finetune.finetune_checkpoint)
app.command("evaluate")(finetune.evaluate_checkpoints)


def execute(
    study: Study, layout: Layout, machine: Machine, *, grow: bool = False, take_over: bool = False
) -> xr.DataTree:
    """Run a study with a progress bar on standard error."""
    if machine.type in QUEUED:
        err.print(f"waiting for a first worker of type {machine.type}; Ctrl-C gives up")
    began = time.time()
    with stoppable(), create(machine) as workers, progress(workers) as watch:
        results = run(study, layout, workers, machine.memory_bytes, watch, grow=grow, take_over=take_over)
    attempts = ledger.load(layout.ledger, layout.journal)
    if attempts is not None and (attempts.started >= began).any():
        err.print(status.summary(attempts.isel(attempt=attempts.started >= began), layout.root))
    return results


def report(results: xr.DataTree, study: Study, layout: Layout) -> None:
    """Print the scores and where everything lies."""
    for name, title, labels in (
        ("calign", "CALIGN: % of concepts aligned, by layer", ("source", "target")),
        ("colap", "COLAP: % of concepts that overlap, by layer", ("language_set",)),
    ):
        scores = results[name].to_dataset()[name] * 100
        layers = scores.layer.values.tolist()
        decimals = 1 if len(layers) <= _LAYERS_WITH_DECIMALS else 0
        table = Table(title=title, box=None, padding=(0, 1, 0, 0))
        for column in ("languages", "checkpoint", "stack", "state"):
            table.add_column(column, no_wrap=True)
        for layer in layers:
            table.add_column(str(layer), justify="right", no_wrap=True)
        for cell in scores.stack(row=("stack", *labels, "checkpoint")).transpose("row", "layer"):
            if not cell.isnull().all():
                stack, *languages, checkpoint = cell.row.item()
                state = study.fine_tuning(checkpoint, *(lang for group in languages for lang in group.split("+")))
                values = ["" if value != value else f"{value:.{decimals}f}" for value in cell.values.tolist()]
                table.add_row(" → ".join(languages), checkpoint, stack, state, *values)
        out.print(table)
    statistics = results["statistics"].to_dataset()
    for checkpoint in statistics.checkpoint.values.tolist():
        found = statistics.sel(checkpoint=checkpoint)
        numbers = zip(*(found[name].values for name in ("language", "absent_tokens", "too_long_tokens")), strict=True)
        if counts := [f"{lang} {n:,} ({long:,} in too long sentences)" for lang, n, long in numbers if n]:
            out.print(f"{checkpoint}: selected words without a vector: {', '.join(counts)}", soft_wrap=True)
    out.print(f"results  {layout.results}", soft_wrap=True, highlight=False)
    for figure in ("calign", "colap"):
        out.print(f"figure   {layout.figure(figure)}.png", soft_wrap=True, highlight=False)
    out.print(
        f'in xarray: xr.open_datatree("{layout.results}", engine="zarr", consolidated=False)["calign"].to_dataset()',
        soft_wrap=True,
        highlight=False,
    )


def print_text(text: Text) -> None:
    """Print the sizes of a text (as Tables 3 to 5 of the paper)."""
    table = Table("language", "sentences", "tokens", "types", "selected tokens", "selected types", title="text")
    for lang in text.tokens:
        numbers = [text.sentences, text.tokens[lang], text.types[lang]]
        if text.selected:
            numbers += [text.selected_tokens[lang], text.selected_types[lang]]
        table.add_row(lang, *(f"{n:,}" for n in numbers))
    out.print(table)


def print_disk(rows: list[dict[str, str | int]]) -> None:
    """Print what vectors take on disk, by layer and language."""
    table = Table("checkpoint", "stack", "language", "layers", "each layer", "all", title="vectors on disk")
    for row in rows:
        names = (str(row[name]) for name in ("checkpoint", "stack", "language", "layers"))
        table.add_row(*names, size(float(row["layer_bytes"])), size(float(row["bytes"])))
    out.print(table)


def print_stages(found: list[dict[str, int | str]], memory: str) -> None:
    """Print tasks, disk and memory of each stage."""
    table = Table("stage", "tasks", "done", "disk", memory, title="plan")
    for row in found:
        table.add_row(
            str(row["stage"]), str(row["tasks"]), str(row["done"]), size(float(row["disk"])), size(float(row["memory"]))
        )
    out.print(table)


def main() -> None:
    """Run a command; errors that the user can act upon are one message and an exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[Printed()])
    name_tasks_in_logs()
    try:
        if secret := [redacted(given) for given in sys.argv[1:] if redacted(given) != given]:
            raise InputError(f"{secret[0]}: holds credentials; {REMEDY}")
        app()
    except ColignError as error:
        err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a disk or a network that fails; the message of the system names the file
        why = f"error: {redacted(str(error))}; run again when it is mended, finished tasks are kept"
        err.print(why, style="red", soft_wrap=True)
        sys.exit(1)
    except Exception as error:
        if (said := unanswered(error)) is None:
            raise
        err.print(f"error: {redacted(said)}", style="red", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
