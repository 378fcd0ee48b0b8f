"""Tables of a study, as those of the paper, in Markdown, CSV and LaTeX."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np
import xarray as xr

from engine import labelled
from engine.records import read_records
from jobs.layout import Layout
from jobs.plan import size
from schemas.downstream import PRIMARY, Downstream
from schemas.errors import InputError
from schemas.study import Study

_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"}
    | {"→": r"$\rightarrow$", "\\": r"\textbackslash{}"}
)


_PAGE = 40
"""Rows that a page of LaTeX has room for."""


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
        """The table as a LaTeX float, for the package booktabs; one longer than a page breaks, by longtable."""
        header, *rows = (" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in self.rows)
        columns = "".join("l" if left else "r" for left in self._left())
        caption = rf"\caption{{{self.caption.translate(_LATEX)}}}\label{{tab:{self.name}}}"
        if len(rows) > _PAGE:
            head = [rf"\begin{{longtable}}{{{columns}}}", caption + r" \\", r"\toprule", header, r"\midrule"]
            again = [r"\endfirsthead", r"\toprule", header, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
            return "\n".join([*head, *again, *rows, r"\end{longtable}"]) + "\n"
        head = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule"]
        return "\n".join([*head, *rows, r"\bottomrule", r"\end{tabular}", caption, r"\end{table}"]) + "\n"

    def _left(self) -> list[bool]:
        """Whether each column holds words."""
        return [
            not all(cell[:1].isdigit() or cell[:1] in ("", "-", "−") for cell in column[1:])
            for column in zip(*self.rows, strict=True)
        ]


def tables(results: xr.DataTree, study: Study, layout: Layout) -> Iterator[Table]:
    """Every table that a study's data allow.

    Scores of downstream tasks (Tables 1 and 2), sizes of their data (Tables 3 to 5), sizes of the parallel text, CALIGN
    and COLAP by layer, and by numbers of concepts (footnote 4), what both say of the same concepts, correlations with
    scores, and what the stages took (beside Appendix F).
    """
    if "scores" in results:
        yield from score_tables(results["scores"].to_dataset(), study)
    for name, task in study.downstream.items():
        with suppress(InputError):  # the files are gone
            yield data_table(name, task)
    yield _text(results["statistics"].to_dataset())
    for measure, labels in (("calign", ("source", "target")), ("colap", ("language_set",))):
        yield _by_layer(results[measure].to_dataset()[measure], study, labels)
        if len(study.concepts.ks) > 1:
            yield _by_layer(results[f"sweeps/{measure}_by_k"].to_dataset()[measure], study, labels, ("k",))
    if "cross" in results:
        yield _cross(results["cross"].to_dataset(), study)
    if "correlations" in results:
        yield _correlations(results["correlations"].to_dataset())
    yield _budget(layout)


def score_tables(scores: xr.Dataset, study: Study) -> Iterator[Table]:
    """Scores of each task: a column for each language (Table 2), or for each of several texts to score on (Table 1).

    Of texts with labels both the accuracy and the mean F1 of the labels.
    """
    kinds = {task: study.downstream[task].kind for task in scores.task.values.tolist()}
    shown = [(task, PRIMARY[kind]) for task, kind in kinds.items()]
    shown += [(task, "f1") for task, kind in kinds.items() if kind == "classification"]
    for task, primary in shown:
        of = scores.sel(task=task)
        held = of[primary].notnull()
        languages = [lang for lang in of.language.values.tolist() if held.sel(language=lang).any()]
        splits = [split for split in of.split.values.tolist() if held.sel(split=split).any()]
        several = len(splits) > 1
        rows = [("checkpoint", *(("language", *splits) if several else languages))]
        for checkpoint in of.checkpoint.values.tolist():
            if held.sel(checkpoint=checkpoint).any():
                cells = [
                    [_score(of.sel(checkpoint=checkpoint, language=lang, split=split), primary) for split in splits]
                    for lang in languages
                ]
                if several:
                    rows += [(checkpoint, lang, *row) for lang, row in zip(languages, cells, strict=True) if any(row)]
                else:
                    rows.append((checkpoint, *chain.from_iterable(cells)))
        what = {"bleu": "BLEU", "f1": "F1 (per cent)", "accuracy": "Accuracy (per cent)"}[primary]
        yield Table(
            f"scores-{task}" if primary == PRIMARY[kinds[task]] else f"scores-{task}-{primary}",
            f"{what} on the test text of {task} ({of.signature.item()}); zs: zero-shot, tuned on other languages",
            tuple(rows),
        )


def _score(cell: xr.Dataset, primary: str) -> str:
    value = float(cell[primary]) * (1 if primary == "bleu" else 100)
    mark = " (zs)" if cell.state.item() == "zero-shot" else ""
    return "" if value != value else f"{value:.{2 if primary == 'bleu' and value < 1 else 1}f}{mark}"


def data_table(name: str, task: Downstream) -> Table:
    """Size of the text of a task, for each language and split (Tables 3 to 5).

    Raises
    ------
    InputError
        A file is gone, or not of its form.
    """
    translation = task.kind == "translation"
    further = ("target tokens", "target types", "left out") if translation else ()
    found = {split: labelled.read(task.kind, parts) for split, parts in task.splits.items()}
    rows = [("language", "split", "sentences", "tokens", "types", *further)]
    for part in dict.fromkeys(part for of in found.values() for part in of):
        for split, of in found.items():
            if part in of:
                examples = of[part]
                counts = [len(examples), *_words(examples.inputs)]
                counts += [*_words(examples.answers), examples.left_out] if translation else []
                rows.append((part, split, *(f"{count:,}" for count in counts)))
    left_out = "; left out: pairs of which a side is empty" if translation else ""
    return Table(f"data-{name}", f"Text of {name} ({task.kind}), tokens as the files cut them{left_out}", tuple(rows))


def _words(sentences: Sequence[str | Sequence[str]]) -> tuple[int, int]:
    """Tokens and types of sentences, at white space where they are not cut."""
    counts = Counter(chain.from_iterable(one.split() if isinstance(one, str) else one for one in sentences))
    return counts.total(), len(counts)


def _text(statistics: xr.Dataset) -> Table:
    names = ("sentences", "tokens", "types", "selected_tokens", "selected_types")
    by = statistics.checkpoint.values.tolist()
    skipped = {name: statistics[f"{name}_tokens"] for name in ("absent", "too_long")}
    if all((of == of.isel(checkpoint=0)).all() for of in skipped.values()):
        by = by[:1]  # most often they have one tokenizer
    of_each = [(name, checkpoint) for checkpoint in by for name in skipped]
    header = [name.replace("_", " ") for name in ("language", *names)]
    for name, checkpoint in of_each:
        what = {"absent": "without a vector", "too_long": "of these too long"}[name]
        header.append(f"{what} ({checkpoint})" if len(by) > 1 else what)
    rows = []
    for lang in statistics.language.values.tolist():
        counts = [statistics[name].sel(language=lang) for name in names]
        counts += [skipped[name].sel(checkpoint=checkpoint, language=lang) for name, checkpoint in of_each]
        rows.append((lang, *(f"{int(count):,}" for count in counts)))
    caption = (
        "Parallel text, and what is studied of it; without a vector: dropped by the tokenizer, or in sentences too long"
    )
    return Table("text", caption, (tuple(header), *rows))


def _by_layer(scores: xr.DataArray, study: Study, labels: Sequence[str], by: tuple[str, ...] = ()) -> Table:
    layers = scores.layer.values.tolist()
    rows = [("languages", "checkpoint", "stack", "state", *(name.upper() for name in by), *map(str, layers))]
    for cell in (scores * 100).stack(row=("stack", *labels, "checkpoint", *by)).transpose("row", "layer"):
        if not cell.isnull().all():
            stack, *given = cell.row.item()
            languages, checkpoint, point = given[: len(labels)], given[len(labels)], given[len(labels) + 1 :]
            state = study.fine_tuning(checkpoint, *(lang for group in languages for lang in group.split("+")))
            values = ("" if value != value else f"{value:.1f}" for value in cell.values.tolist())
            rows.append((" → ".join(languages), checkpoint, stack, state, *map(str, point), *values))
    name = str(scores.name)
    behind = "".join(f" and {name.upper()}" for name in by)
    return Table("-by-".join((name, *by)), f"{name.upper()} (per cent of concepts) by layer{behind}", tuple(rows))


def _cross(found: xr.Dataset, study: Study) -> Table:
    counts = ("both", "aligned_only", "overlapping_only", "neither", "aligned_to_itself")
    header = (
        "mixed text",
        "languages",
        "checkpoint",
        "stack",
        "state",
        "layer",
        *(c.replace("_", " ") for c in counts),
    )
    rows = [(*header, "phi")]
    dims = ("stack", "language_set", "source", "target", "checkpoint", "layer")
    for cell in (found.isel(at) for at in _places(found.concepts.transpose(*dims))):
        stack, mixed, source, target, checkpoint, layer = (cell[dim].item() for dim in dims)
        where = (mixed, f"{source} → {target}", checkpoint, stack, study.fine_tuning(checkpoint, source, target))
        phi = float(cell.phi)
        values = (f"{float(cell[name]):.0f}" for name in counts)
        rows.append((*where, str(layer), *values, "" if phi != phi else f"{phi:.2f}"))
    return Table(
        "cross",
        "Concepts of mixed text: how many translate from one language into the other (aligned), mix languages "
        "(overlapping), or both; and the correlation of the two, phi (Sections 2.3 and 4.2)",
        tuple(rows),
    )


def _places(scores: xr.DataArray) -> Iterator[dict[str, int]]:
    """Index along each dimension of every value that is there."""
    for at in np.argwhere(scores.notnull().values).tolist():
        yield dict(zip(map(str, scores.dims), at, strict=True))


def _correlations(found: xr.Dataset) -> Table:
    rows = [("task", "measure", "stack", "layer", "rho", "95 % interval", "p", "points")]
    for task, measure, stack in (
        (t, m, s) for t in found.task.values for m in found.measure.values for s in found["stack"].values
    ):
        for layer in found.layer.values.tolist():
            cell = found.sel(task=task, measure=measure, stack=stack, layer=layer)
            if float(cell.rho) == float(cell.rho):
                interval = f"{float(cell.low):.2f} to {float(cell.high):.2f}" if cell.low.notnull() else ""
                values = f"{float(cell.rho):.2f}", interval
                more = f"{float(cell.p):.3f}", f"{int(cell.points)}"
                rows.append((str(task), str(measure), str(stack), str(layer), *values, *more))
    return Table(
        "correlations",
        "Rank correlation with the scores of downstream tasks, over checkpoints, save untrained ones, and languages, "
        "which are drawn, and for p dealt anew, as wholes: of few checkpoints intervals are wide, or none can be given",
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
