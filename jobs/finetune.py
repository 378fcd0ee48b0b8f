"""The commands `colign finetune`, `colign evaluate` and `colign pretrain`: checkpoints outside of studies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from engine import scores, store
from engine.model.recipes import Recipe
from engine.sentences import read_sentences
from jobs import downstream, files
from jobs.arguments import Json
from jobs.outputs import check_checkpoint, check_dataset
from jobs.progress import err, out, print_json
from schemas.downstream import PRIMARY
from schemas.errors import InputError
from schemas.results import SCORES

TaskFile = Annotated[str, typer.Argument(metavar="TASK", help="Task file (YAML): kind, train, dev, test, tuning.")]
Trusted = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings, with your rights.")
]
_MODEL = "Model folder in transformers' format, or hub name."


def finetune_checkpoint(
    task: TaskFile,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    directory: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the tuned checkpoint.")],
    language: Annotated[
        list[str] | None,
        typer.Option("--language", "-l", help="Language to tune on; may be given again (default: all)."),
    ] = None,
    trusted: Trusted = False,
    as_json: Json = False,
) -> None:
    """Tune a checkpoint for a task; a second call after a kill goes on behind the last whole pass.

    The best pass by the task's dev text is kept. On several GPUs: torchrun --nproc-per-node N -m jobs.cli finetune ...
    """
    loaded = files.load_task(task)
    known = {lang for part in loaded.train for lang in loaded.languages(part)}
    if unknown := sorted({*(language or ())} - known):
        raise InputError(f"{task}: train has no text in {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    check_checkpoint(directory)
    with _bar("run again to go on behind the last whole pass") as watch:
        tuned = downstream.tune(loaded, model, language or sorted(known), directory, watch, trusted=trusted)
    if os.environ.get("RANK", "0") != "0":
        return  # the first process of several speaks
    if as_json:
        print_json({"path": directory, "parts": tuned.parts, "examples": tuned.examples, **tuned.outcome})
        return
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in tuned.outcome.items())
    out.print(f"tuned on {tuned.examples:,} sentences ({', '.join(tuned.parts)}): {numbers}", soft_wrap=True)
    out.print(f"checkpoint  {directory}", soft_wrap=True, highlight=False)


def evaluate_checkpoints(
    task: TaskFile,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"{_MODEL} Several are compared.")],
    split: Annotated[
        list[str] | None, typer.Option(help="dev, test or the name of a test text; again for more (default: all test).")
    ] = None,
    path: Annotated[str | None, typer.Option("--out", "-o", metavar="SCORES.zarr", help="Dataset to write.")] = None,
    trusted: Trusted = False,
    as_json: Json = False,
) -> None:
    """Score checkpoints on every language of a task: BLEU, entities' F1, or accuracy and F1 (Tables 1, 2 and 5).

    A checkpoint without a head for the task answers with a random one.
    """
    check_dataset(path, SCORES.name)
    loaded = files.load_task(task)
    splits = split or [*loaded.tests]
    if unknown := [name for name in splits if name not in loaded.splits]:
        raise InputError(f"--split {unknown[0]}: expected {', '.join(loaded.splits)}")
    rows = []
    for model in models:
        with _bar() as watch:
            for row in downstream.evaluate(loaded, model, splits, watch, name=Path(task).stem, trusted=trusted):
                row["state"] = "" if row.pop("head") else "untuned head"
                rows.append({**row, "checkpoint": model.rstrip("/"), "task": Path(task).stem})
    dataset = scores.tabulate(rows)
    if path is not None:
        store.save(path, SCORES, dataset)
    primary = PRIMARY[loaded.kind]
    if as_json:
        print_json({"kind": loaded.kind, "signature": rows[0]["signature"], "scores": rows, "path": path})
        return
    for measure in dict.fromkeys((primary, "f1") if loaded.kind == "classification" else (primary,)):
        out.print(_scores_table(dataset, measure))
    out.print(rows[0]["signature"], soft_wrap=True, highlight=False)
    if path is not None:
        out.print(f"scores  {path}", soft_wrap=True, highlight=False)


def _scores_table(scores: xr.Dataset, measure: str) -> Table:
    """A row for each checkpoint and split, a column for each language."""
    title, scale = ("BLEU", 1) if measure == "bleu" else (f"{measure} (per cent)", 100)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in ("checkpoint", "split"):
        table.add_column(column, overflow="fold")
    for lang in scores.language.values.tolist():
        table.add_column(lang, justify="right", no_wrap=True)
    for checkpoint in scores.checkpoint.values.tolist():
        for name in scores.split.values.tolist():
            found = scores[measure].sel(checkpoint=checkpoint, split=name).isel(task=0).values * scale
            table.add_row(checkpoint, name, *("" if value != value else f"{value:.1f}" for value in found.tolist()))
    return table


def pretrain_encoder(
    texts: Annotated[
        list[str], typer.Argument(metavar="LANG=TEXT...", help="Text of each language, a sentence a line.")
    ],
    directory: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the checkpoint.")],
    words: Annotated[str, typer.Option(help="How a line is cut into words: spaces or regex.")] = "spaces",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = Recipe.steps,
    batch: Annotated[int, typer.Option(min=1, help="Sentences of a step.")] = Recipe.batch,
    vocabulary: Annotated[int, typer.Option(min=1, help="Sub-words of the vocabulary at most.")] = Recipe.vocabulary,
    layers: Annotated[int, typer.Option(min=1, help="Blocks.")] = Recipe.layers,
    hidden: Annotated[int, typer.Option(min=1, help="Length of a vector; a multiple of the heads.")] = Recipe.hidden,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads of a block.")] = Recipe.heads,
    longest: Annotated[int, typer.Option(min=4, help="Sub-words of a sentence at most.")] = Recipe.longest,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = Recipe.learning_rate,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, masks and order.")] = Recipe.seed,
    as_json: Json = False,
) -> None:
    """Train a small BERT from nothing to guess hidden words of several languages, as the demo does.

    On the CPU, in one thread: the same text and seed give the same weights.
    """
    check_checkpoint(directory)
    if words not in ("spaces", "regex"):
        raise InputError(f"--words {words}: expected spaces or regex")
    if hidden % heads:
        raise InputError(f"--hidden {hidden}: expected a multiple of the {heads} heads")
    if learning_rate <= 0:
        raise InputError(f"--learning-rate {learning_rate:g}: expected a number above 0")
    named: dict[str, str] = {}
    for language, path in map(_named, texts):
        if language in named:
            raise InputError(
                f"{language}={path}: {language} has {named[language]} already; give each language one file"
            )
        named[language] = path
    read = {language: list(read_sentences(path, words)) for language, path in named.items()}
    from engine.model.train import pretrain  # noqa: PLC0415  (torch and transformers: seconds)

    recipe = Recipe(
        steps=steps, batch=batch, vocabulary=vocabulary, layers=layers, hidden=hidden, heads=heads, longest=longest,
        learning_rate=learning_rate, seed=seed,
    )  # fmt: skip
    with _bar() as watch:
        losses = pretrain(read, directory, recipe, lambda at, of, loss: watch(at, of, f"loss {loss:.3f}"))
    if as_json:
        print_json({"path": directory, "steps": steps, "first_loss": losses[0], "last_loss": losses[-1]})
        return
    out.print(f"masked-word loss {losses[0]:.2f} → {losses[-1]:.2f} in {steps} steps")
    out.print(f"checkpoint  {directory}", soft_wrap=True, highlight=False)


def _named(text: str) -> tuple[str, str]:
    language, sign, path = text.partition("=")
    if not sign or not language or not path:
        raise InputError(f"{text}: expected a language and its file, such as de=text/de.txt")
    return language, path


@contextlib.contextmanager
def _bar(remedy: str = "nothing was written") -> Iterator[downstream.Progress]:
    """A bar of the work, on standard error."""
    columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err) as shown:
        bar = shown.add_task("", total=None)

        def watch(done: int, total: int, words: str) -> None:
            shown.update(bar, completed=done, total=total, description=words)

        try:
            yield watch
        except KeyboardInterrupt as stop:
            shown.stop()
            err.print(f"stopped; {remedy}")
            raise typer.Exit(130) from stop
