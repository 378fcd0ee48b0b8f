"""Tables of a study, as those of the paper, in Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import xarray as xr

from engine import labelled
from engine.records import read_records
from jobs.layout import Layout
from jobs.plan import size
from schemas.downstream import PRIMARY, Downstream
from schemas.errors import InputError
from schemas.study import Study

_MARKS = {"zero-shot": "zs", "untrained": "untrained", "base": "base", "fine-tuned": "ft"}
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"→": r"$\rightarrow$", "\\": r"\textbackslash{}"}
)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first row is the header."""

    name: str
    """Name of its files."""
    caption: str
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown, numbers to the right."""
        header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in self.rows)
        rule = ["---" if left else "---:" for left in self._left()]
        lines = [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
        return f"{self.caption}\n\n" + "\n".join(lines) + "\n"

    def csv(self) -> str:
        """The table with commas."""
        sink = io.StringIO()
        csv.writer(sink, lineterminator="\n").writerows(self.rows)
        return sink.getvalue()

    def latex(self) -> str:
        """The table as a LaTeX float, for the package booktabs."""
        header, *rows = (" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in self.rows)
        columns = "".join("l" if left else "r" for left in self._left())
        head = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule"]
        foot = [r"\bottomrule", r"\end{tabular}", rf"\caption{{{self.caption.translate(_LATEX)}}}", r"\end{table}"]
        return "\n".join([*head, *rows, *foot]) + "\n"

    def _left(self) -> list[bool]:
        """Whether each column holds words."""
        return [
            not all(cell[:1].isdigit() or cell[:1] in ("", "-", "−") for cell in column[1:])
            for column in zip(*self.rows, strict=True)
        ]


def tables(results: xr.DataTree, study: Study, layout: Layout) -> Iterator[Table]:
    """Every table that a study's data allow.

    Scores of downstream tasks (Tables 1 and 2), sizes of their data (Tables 3 to 5), sizes of the parallel text, CALIGN
    and COLAP by layer, correlations with scores, and what the stages took (beside Appendix F).
    """
    if "scores" in results:
        yield from _scores(results["scores"].to_dataset(), study)
    for name, task in study.downstream.items():
        with suppress(InputError):  # the files are gone
            yield _data(name, task)
    yield _text(results["statistics"].to_dataset())
    for measure, labels in (("calign", ("source", "target")), ("colap", ("language_set",))):
        yield _by_layer(results[measure].to_dataset()[measure], study, labels)
    if "correlations" in results:
        yield _correlations(results["correlations"].to_dataset())
    yield _budget(layout)


def _scores(scores: xr.Dataset, study: Study) -> Iterator[Table]:
    for task in scores.task.values.tolist():
        of = scores.sel(task=task, split="test")
        kind = study.downstream[task].kind
        primary = PRIMARY[kind]
        held = of[primary].notnull()
        languages = [lang for lang in of.language.values.tolist() if held.sel(language=lang).any()]
        rows = [("checkpoint", *languages)]
        for checkpoint in of.checkpoint.values.tolist():
            if held.sel(checkpoint=checkpoint).any():
                cells = (of.sel(checkpoint=checkpoint, language=lang) for lang in languages)
                rows.append((checkpoint, *(_score(cell, primary) for cell in cells)))
        what = {"bleu": "BLEU", "f1": "F1 (per cent)", "accuracy": "Accuracy (per cent)"}[primary]
        yield Table(
            f"scores-{task}",
            f"{what} on the test text of {task} ({of.signature.item()}); ft: tuned on the language, zs: on others",
            tuple(rows),
        )


def _score(cell: xr.Dataset, primary: str) -> str:
    value = float(cell[primary]) * (1 if primary == "bleu" else 100)
    state = cell.state.item()
    mark = f" ({_MARKS[state]})" if state == "zero-shot" else ""
    return "" if value != value else f"{value:.{2 if primary == 'bleu' and value < 1 else 1}f}{mark}"


def _data(name: str, task: Downstream) -> Table:
    tagging = task.kind == "tagging"
    rows = [("language", *(split for split in ("train", "dev", "test")), *(("tokens",) if tagging else ()))]
    found = {split: labelled.read(task.kind, getattr(task, split)) for split in ("train", "dev", "test")}
    for part in dict.fromkeys(part for of in found.values() for part in of):
        counts = [f"{len(of[part]):,}" if part in of else "" for of in found.values()]
        tokens = sum(len(words) for of in found.values() if part in of for words in of[part].inputs) if tagging else 0
        rows.append((part, *counts, *((f"{tokens:,}",) if tagging else ())))
    return Table(f"data-{name}", f"Sentences of {name} ({task.kind})", tuple(rows))


def _text(statistics: xr.Dataset) -> Table:
    names = ("sentences", "tokens", "types", "selected_tokens", "selected_types")
    header = ("language", *(name.replace("_", " ") for name in names))
    rows = (
        (lang, *(f"{int(statistics[name].sel(language=lang)):,}" for name in names))
        for lang in statistics.language.values.tolist()
    )
    return Table("text", "Parallel text, and what is studied of it", (header, *rows))


def _by_layer(scores: xr.DataArray, study: Study, labels: Sequence[str]) -> Table:
    layers = scores.layer.values.tolist()
    rows = [("languages", "checkpoint", "stack", "state", *map(str, layers))]
    for cell in (scores * 100).stack(row=("stack", *labels, "checkpoint")).transpose("row", "layer"):
        if not cell.isnull().all():
            stack, *languages, checkpoint = cell.row.item()
            state = study.fine_tuning(checkpoint, *(lang for group in languages for lang in group.split("+")))
            values = ("" if value != value else f"{value:.1f}" for value in cell.values.tolist())
            rows.append((" → ".join(languages), checkpoint, stack, state, *values))
    name = str(scores.name)
    return Table(name, f"{name.upper()} (per cent of concepts) by layer", tuple(rows))


def _correlations(found: xr.Dataset) -> Table:
    rows = [("task", "measure", "stack", "layer", "rho", "95 % interval", "p", "points")]
    for task, measure, stack in (
        (t, m, s) for t in found.task.values for m in found.measure.values for s in found["stack"].values
    ):
        for layer in found.layer.values.tolist():
            cell = found.sel(task=task, measure=measure, stack=stack, layer=layer)
            if float(cell.rho) == float(cell.rho):
                values = f"{float(cell.rho):.2f}", f"{float(cell.low):.2f} to {float(cell.high):.2f}"
                more = f"{float(cell.p):.3f}", f"{int(cell.points)}"
                rows.append((str(task), str(measure), str(stack), str(layer), *values, *more))
    return Table(
        "correlations",
        "Rank correlation with the scores of downstream tasks, over checkpoints and languages",
        tuple(rows),
    )


def _budget(layout: Layout) -> Table:
    stages: dict[str, list[float]] = {}
    for name, record in read_records(layout.records).items():
        at = stages.setdefault(name.split("/")[0], [0, 0.0, 0.0])
        at[0] += 1
        at[1] += record.seconds
        at[2] = max(at[2], record.peak_memory)
    rows = [("stage", "tasks", "seconds of all tasks", "largest peak memory of a process")]
    rows += [
        (stage, f"{tasks:,.0f}", f"{seconds:,.0f}", size(peak)) for stage, (tasks, seconds, peak) in stages.items()
    ]
    return Table(
        "budget",
        "What the stages took, as measured (the paper's extraction needed 500 GB of memory, a clustering 30 GB)",
        tuple(rows),
    )


FORMS: Mapping[str, str] = {"md": "markdown", "csv": "csv", "tex": "latex"}
"""Endings of a table's files, and the methods that write them."""
