"""The command `colign label`: what a language model calls concepts (Section 3.2 of the paper), and files of labels."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from engine import chat, paths, store
from engine.concepts import chosen_concepts
from engine.text import some_sentences
from jobs import files
from jobs.arguments import Json, Out, StudyPath
from jobs.layout import Layout
from jobs.progress import err, out, print_json
from jobs.selections import languages_of, selections
from jobs.sides import check_known
from schemas.concepts import CONCEPTS
from schemas.corpus import CORPUS
from schemas.errors import InputError
from schemas.results import LABELS
from schemas.study import Study

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
"""Environment variables of the key and of the address."""

WORDS, SENTENCES = 30, 5
"""Words and example sentences of a prompt at most."""

PROMPT = """Give a short and concise label, of at most five words, that best describes what the following words have \
in common. They were grouped by how a language model represents them in sentences; the label may be about their \
meaning, their grammar or their form.

Words: {words}

Sentences in which some of them occur:
{sentences}

Answer with the label alone."""


@dataclass(frozen=True)
class Concept:
    """A concept, by name."""

    checkpoint: str
    stack: str
    selection: str
    layer: int
    concept: int


@dataclass(frozen=True)
class Label(Concept):
    """What a concept is called."""

    label: str
    model: str
    date: str
    concepts: str
    """Hash of what made the concepts."""
    prompt_sha256: str


def label_concepts(
    study: StudyPath,
    model: Annotated[str | None, typer.Option(help="Model's name at the address; asks it.")] = None,
    url: Annotated[str | None, typer.Option(help=f"OpenAI-compatible address (default: {URL}).")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Checkpoint (default: the last).")] = None,
    stack: Annotated[str | None, typer.Option(help="Stack (default: the first).")] = None,
    selection: Annotated[list[str] | None, typer.Option(help="Language or set; again for more (default: all).")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer; again for more (default: the highest).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Concepts of each layer, those of most words.")] = 20,
    per_minute: Annotated[float, typer.Option(min=0.1, help="Requests a minute at most.")] = 60,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at the same time at most.")] = 4,
    price: Annotated[
        tuple[float, float], typer.Option(help="Price of a million tokens read and written, for the estimate.")
    ] = (0.0, 0.0),
    estimate: Annotated[bool, typer.Option("--estimate", help="Print what it would take, and ask nothing.")] = False,
    import_path: Annotated[str | None, typer.Option("--import", help="Take labels from a file (TSV).")] = None,
    export_path: Annotated[str | None, typer.Option("--export", help="Write all labels to a file (TSV).")] = None,
    out_dir: Out = None,
    as_json: Json = False,
) -> None:
    """Ask a language model for a label of each concept, or take labels from a file; `report` shows them.

    The key is read from OPENAI_API_KEY. What was answered is kept in answers.jsonl: nothing is asked twice, and a
    second call goes on. --export writes, and --import reads, columns checkpoint, stack, selection, layer, concept,
    label.
    """
    loaded, layout = files.load_study(study, out_dir)
    labels: list[Label] = []
    if import_path is not None:
        labels = list(_imported(import_path, loaded, layout))
    elif model is not None or estimate:
        prompts = _prompts(loaded, layout, checkpoint, stack, selection, layer, top)
        if estimate:
            _print_estimate(list(prompts.values()), price, as_json=as_json)
            return
        labels = _asked(prompts, str(model), url or os.environ.get(URL), layout, per_minute, at_once)
    elif export_path is None:
        raise InputError("label: give --model to ask one, --estimate, --import FILE or --export FILE")
    kept = {astuple(one)[:5]: one for one in [*read(layout), *labels]}
    if labels:
        _save(layout, list(kept.values()))
    if export_path is not None:
        paths.write_text(export_path, _tsv(list(kept.values())))
    if as_json:
        print_json({"labels": [asdict(one) for one in labels], "all": len(kept), "path": layout.labels})
        return
    for one in labels[:20]:
        out.print(f"{one.checkpoint} {one.stack} {one.selection} layer {one.layer}, {one.concept}: {one.label}")
    if len(labels) > 20:
        out.print(f"and {len(labels) - 20} more")
    out.print(f"labels  {export_path or layout.labels} ({len(kept)} in all)", soft_wrap=True, highlight=False)


def read(layout: Layout) -> list[Label]:
    """All labels of a study's concepts as they are now; none where nothing was labelled."""
    if store.attributes(layout.labels) is None:
        return []
    held = store.read(layout.labels, LABELS)
    columns = [held[field.name].values.tolist() for field in fields(Label)]
    every = [Label(*row) for row in zip(*columns, strict=True)]
    return [one for one in every if one.concepts == _made_of(layout, one)]


def called(labels: Iterable[Label], checkpoint: str, stack: str, selection: str, layer: int) -> dict[int, str]:
    """Labels of the concepts of a layer, by number."""
    where = checkpoint, stack, selection, layer
    return {one.concept: one.label for one in labels if (one.checkpoint, one.stack, one.selection, one.layer) == where}


def _made_of(layout: Layout, concept: Concept) -> str:
    """Hash of what made a concept."""
    held = store.attributes(layout.concepts(concept.checkpoint, concept.stack, concept.selection)) or {}
    return str(held.get("fingerprint"))


def _save(layout: Layout, labels: list[Label]) -> None:
    columns = zip(*map(astuple, labels), strict=True)
    values = {
        field.name: np.asarray(column, np.int32 if field.name in ("layer", "concept") else object)
        for field, column in zip(fields(Label), columns, strict=True)
    }
    store.save(layout.labels, LABELS, LABELS.create(values))


def _asked(
    prompts: dict[Concept, str], model: str, url: str | None, layout: Layout, per_minute: float, at_once: int
) -> list[Label]:
    if not url:
        raise InputError(f"label: no address; give --url or set {URL}, such as http://localhost:8000/v1")
    if "://" in layout.root:
        raise InputError(
            f"{layout.root}: answers are kept in local study directories alone; copy the study, or --import"
        )
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=err) as shown:
        bar = shown.add_task("", total=len(prompts))
        answers = chat.ask(
            list(prompts.values()),
            url,
            model,
            os.environ.get(KEY),
            chat.Cache(layout.answers),
            per_minute=per_minute,
            at_once=at_once,
            progress=lambda done, total: shown.update(bar, completed=done, total=total),
        )
        return [
            Label(
                **asdict(concept),
                label=answer.text,
                model=answer.model,
                date=answer.date,
                concepts=_made_of(layout, concept),
                prompt_sha256=answer.prompt_sha256,
            )
            for concept, answer in zip(prompts, answers, strict=True)
        ]


def _print_estimate(prompts: list[str], price: tuple[float, float], *, as_json: bool) -> None:
    given = sum(map(chat.tokens, prompts))
    written = 10 * len(prompts)
    cost = (given * price[0] + written * price[1]) / 1e6
    if as_json:
        print_json({"requests": len(prompts), "tokens_read": given, "tokens_written": written, "cost": cost})
        return
    out.print(f"{len(prompts):,} requests, about {given:,} tokens to read and {written:,} to write: {cost:,.2f}")


def _prompts(
    study: Study,
    layout: Layout,
    checkpoint: str | None,
    stack: str | None,
    selection: list[str] | None,
    layer: list[int] | None,
    top: int,
) -> dict[Concept, str]:
    checkpoint, stack = checkpoint or [*study.checkpoints][-1], stack or study.activations.stacks[0]
    known = selections(study)
    check_known(checkpoint=(checkpoint, [*study.checkpoints]), stack=(stack, study.activations.stacks))
    for name in selection or ():
        check_known(selection=(name, [*known]))
    found: dict[Concept, str] = {}
    for name in selection or known:
        path = layout.concepts(checkpoint, stack, name)
        concepts = store.load(path, CONCEPTS)
        layers = [int(number) for number in concepts.layer.values]
        for number in layer or layers[-1:]:
            if number not in layers:
                raise InputError(f"{path}: has no layer {number}; it has {', '.join(map(str, layers))}")
        with store.undamaged(path):
            labels = chosen_concepts(concepts, study.concepts.ks[0])
            words, sentence = concepts.word.values, concepts.sentence.values
            tongue = concepts.language.values
        for number in layer or layers[-1:]:
            of_layer = labels[layers.index(number)]
            for concept in _largest(of_layer, words, study.concepts.ks[0], top):
                rows = np.flatnonzero(of_layer == concept)
                texts = _examples(layout, languages_of(name), sentence[rows], tongue[rows])
                found[Concept(checkpoint, stack, name, number, concept)] = prompt(words[rows].tolist(), texts)
    return found


def _largest(labels: NDArray[np.integer], words: NDArray[np.object_], k: int, top: int) -> list[int]:
    """Concepts of most types."""
    _, kinds = np.unique(words, return_inverse=True)
    pairs = np.unique(np.stack([labels, kinds])[:, labels >= 0], axis=1)
    types = np.bincount(pairs[0], minlength=k)
    return [int(c) for c in np.argsort(-types, kind="stable")[:top] if types[c]]


def _examples(
    layout: Layout, languages: list[str], sentence: NDArray[np.integer], tongue: NDArray[np.integer]
) -> list[str]:
    """Sentences of the first, the last and evenly spread tokens of a concept."""
    corpus = store.load(layout.corpus, CORPUS)
    chosen = np.unique(np.linspace(0, len(sentence) - 1, min(SENTENCES, len(sentence))).astype(int))
    texts = []
    for at in chosen.tolist():
        (words,) = some_sentences(corpus, languages[int(tongue[at])], np.array([sentence[at]]))
        texts.append(" ".join(words))
    return list(dict.fromkeys(texts))


def prompt(words: list[str], sentences: list[str]) -> str:
    """The question about a concept: its most frequent words, and sentences with some of them."""
    most = [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:WORDS]]
    return PROMPT.format(words=", ".join(most), sentences="\n".join(f"- {sentence}" for sentence in sentences))


_COLUMNS = ("checkpoint", "stack", "selection", "layer", "concept", "label")


def _tsv(labels: list[Label]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="\t", lineterminator="\n")
    writer.writerow([field.name for field in fields(Label)])
    writer.writerows(astuple(one) for one in sorted(labels, key=astuple))
    return sink.getvalue()


def _imported(path: str, study: Study, layout: Layout) -> Iterator[Label]:
    text = paths.read_text(path)
    if text is None:
        raise InputError(f"{path}: no such file; expected labels, tab-separated: {', '.join(_COLUMNS)}")
    reader = csv.DictReader(io.StringIO(text), delimiter="\t")
    if lacking := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
        raise InputError(f"{path}, line 1: expected the columns {', '.join(_COLUMNS)}; {', '.join(lacking)} is missing")
    known, k = selections(study), study.concepts.ks[0]
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        number, concept = (row[name] or "" for name in ("layer", "concept"))
        if not (number.isdigit() and concept.isdigit() and int(concept) < k and row["label"]):
            raise InputError(f"{where}: expected a layer, a concept below {k} and a label; found {list(row.values())}")
        for name, names in (("checkpoint", [*study.checkpoints]), ("selection", [*known])):
            if row[name] not in names:
                raise InputError(f"{where}: the study has no {name} {row[name]!r}; it has {', '.join(names)}")
        date = row.get("date") or datetime.now(UTC).isoformat("T", "seconds")
        named = Concept(row["checkpoint"], row["stack"], row["selection"], int(number), int(concept))
        yield Label(
            **asdict(named),
            label=row["label"],
            model=row.get("model") or path,
            date=date,
            concepts=_made_of(layout, named),
            prompt_sha256=row.get("prompt_sha256") or "",
        )
