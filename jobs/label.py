"""The command `colign label`: what a language model calls concepts (Section 3.2 of the paper), and files of labels."""

import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from engine import chat, paths, store
from engine.concepts import chosen_concepts
from engine.questions import Cache, Question, Request, key, requests, tokens
from engine.text import some_sentences
from jobs import files
from jobs.arguments import Json, Out, StudyPath
from jobs.convert import check_out
from jobs.label_files import Concept, Label, keep, made_of, read_file, write_file
from jobs.layout import Layout
from jobs.progress import err, out, print_json
from jobs.selections import languages_of, selections
from jobs.sides import check_known
from schemas.concepts import CONCEPTS
from schemas.corpus import CORPUS
from schemas.errors import InputError
from schemas.study import Study

KEY, URL, MODEL = "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"
"""Environment variables of the key, of the address and of the model's name."""

WORDS, SENTENCES = 30, 5
"""Words and example sentences of a prompt at most."""

CONCEPT = """Words: {words}

Sentences in which some of them occur:
{sentences}"""

ONE = f"""Give a short and concise label, of at most five words, that best describes what the following words have \
in common. They were grouped by how a language model represents them in sentences; the label may be about their \
meaning, their grammar or their form.

{CONCEPT}

Answer with the label alone."""

SEVERAL = """For each of the following parts, give a short and concise label, of at most five words, that best \
describes what the words of the part have in common. They were grouped by how a language model represents them in \
sentences; a label may be about their meaning, their grammar or their form. No part has to do with another."""


def label_concepts(
    study: StudyPath,
    model: Annotated[str | None, typer.Option(help=f"Model's name at the address (default: {MODEL}).")] = None,
    url: Annotated[str | None, typer.Option(help=f"OpenAI-compatible address (default: {URL}).")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Checkpoint (default: the last).")] = None,
    stack: Annotated[str | None, typer.Option(help="Stack (default: the first).")] = None,
    selection: Annotated[list[str] | None, typer.Option(help="Language or set; again for more (default: all).")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer; again for more (default: the highest).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Concepts of each layer, those of most words.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Concepts of a request at most.")] = 10,
    longest: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most; more for models that reason.")] = 30,
    per_minute: Annotated[float, typer.Option(min=0.1, help="Requests a minute at most, repeated ones too.")] = 60,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at the same time at most.")] = 4,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Price of a million tokens read and written, for the estimate."),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print what it would take, repeated requests aside, and ask nothing.")
    ] = False,
    import_path: Annotated[str | None, typer.Option("--import", help="Take labels from a file (TSV).")] = None,
    export_path: Annotated[str | None, typer.Option("--export", help="Write all labels to a file (TSV).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --export.")] = False,
    out_dir: Out = None,
    as_json: Json = False,
) -> None:
    """Ask a language model for a label of each concept, or take labels from a file; `report` shows them.

    Address, model and key are read from OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY; with --import or --export a
    model is asked only where --model names one. What it takes is printed before anything is asked; --estimate without
    a model counts every concept. What was answered is kept in answers.jsonl: nothing is asked twice, and a second call
    goes on, with any --batch. --export writes, and --import reads, columns checkpoint, stack, selection, layer,
    concept, label.
    """
    loaded, layout = files.load_study(study, out_dir)
    if export_path is not None:
        system, place = paths.filesystem(export_path)
        check_out(export_path, force, replaceable=system.isfile(place))
    if import_path is None and export_path is None:
        model = model or os.environ.get(MODEL, "").strip() or None
    labels: list[Label] = []
    if import_path is not None:
        if model is not None or estimate:
            raise InputError("label: --import asks no model; leave out --model and --estimate")
        labels = read_file(import_path, loaded, layout)
    elif model is not None or estimate:
        questions = _questions(loaded, layout, checkpoint, stack, selection, layer, top)
        cache = Cache(layout.answers)
        asked = requests(questions.values(), model or "", cache, batch=batch, introduction=SEVERAL, longest=longest)
        found = _estimate(asked, len({*questions.values()}), price)
        if estimate:
            print_json(found) if as_json else out.print(_sentence(found), soft_wrap=True, highlight=False)
            return
        err.print(_sentence(found), soft_wrap=True, highlight=False)
        labels = _asked(questions, asked, str(model), url, layout, cache, per_minute, at_once)
    elif export_path is None:
        raise InputError(f"label: give --model to ask one, or set {MODEL}; or --estimate, --import FILE, --export FILE")
    kept = keep(layout, labels)
    if export_path is not None:
        write_file(export_path, kept)
    if as_json:
        print_json({"labels": [asdict(one) for one in labels], "all": len(kept), "path": layout.labels})
        return
    for one in labels[:20]:
        out.print(f"{one.checkpoint} {one.stack} {one.selection} layer {one.layer}, {one.concept}: {one.label}")
    if len(labels) > 20:
        out.print(f"and {len(labels) - 20} more")
    out.print(f"labels  {export_path or layout.labels} ({len(kept)} in all)", soft_wrap=True, highlight=False)


def _asked(
    questions: Mapping[Concept, Question],
    asked: Sequence[Request],
    model: str,
    url: str | None,
    layout: Layout,
    cache: Cache,
    per_minute: float,
    at_once: int,
) -> list[Label]:
    """Ask, and return the labels of all concepts; where something fails, what was answered before is stored."""
    if not asked:
        return _answered(questions, model, layout, cache)
    url, secret = url or os.environ.get(URL, "").strip(), os.environ.get(KEY, "").strip()
    if not url:
        raise InputError(f"label: no address; give --url or set {URL}, such as http://localhost:8000/v1")
    if not (secret.isascii() and secret.isprintable()):
        raise InputError(f"label: {KEY} holds signs that no key has; set it anew")  # never shows it
    if "://" in layout.root:
        raise InputError(
            f"{layout.root}: answers are kept in local study directories alone; copy the study, or --import"
        )
    try:
        with Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=err
        ) as shown:
            bar = shown.add_task("", total=None)
            chat.ask(
                asked,
                url,
                model,
                secret or None,
                cache,
                per_minute=per_minute,
                at_once=at_once,
                progress=lambda done, total: shown.update(bar, completed=done, total=total),
            )
    except BaseException:
        keep(layout, _answered(questions, model, layout, cache))
        raise
    return _answered(questions, model, layout, cache)


def _answered(questions: Mapping[Concept, Question], model: str, layout: Layout, cache: Cache) -> list[Label]:
    """Labels of the concepts whose question is answered."""
    made = functools.cache(functools.partial(made_of, layout))
    return [
        Label(
            **asdict(concept),
            label=answer.text,
            model=answer.model,
            date=answer.date,
            concepts=made(concept.checkpoint, concept.stack, concept.selection),
            prompt_sha256=answer.prompt_sha256,
        )
        for concept, question in questions.items()
        if (answer := cache.get(key(model, question.alone)))
    ]


def _estimate(asked: Sequence[Request], questions: int, price: tuple[float, float] | None) -> dict[str, Any]:
    """What requests take: tokens that are written are what is allowed; the cost is None where no price is given."""
    left = sum(len(request.questions) for request in asked)
    given, written = sum(tokens(request.text) for request in asked), sum(request.tokens_written for request in asked)
    cost = None if price is None else (given * price[0] + written * price[1]) / 1e6
    sizes = {"requests": len(asked), "concepts": left, "answered_before": questions - left}
    return sizes | {"tokens_read": given, "tokens_written": written, "cost": cost}


def _sentence(found: Mapping[str, Any]) -> str:
    cost = "" if found["cost"] is None else f"; cost: about {found['cost']:,.4f} at most"
    return (
        f"requests: {found['requests']:,}, about {found['concepts']:,} concepts (answered before: "
        f"{found['answered_before']:,}); tokens: about {found['tokens_read']:,} to read, at most "
        f"{found['tokens_written']:,} to write{cost}"
    )


def _questions(
    study: Study,
    layout: Layout,
    checkpoint: str | None,
    stack: str | None,
    selection: list[str] | None,
    layer: list[int] | None,
    top: int,
) -> dict[Concept, Question]:
    checkpoint, stack = checkpoint or [*study.checkpoints][-1], stack or study.activations.stacks[0]
    known = selections(study)
    check_known(checkpoint=(checkpoint, [*study.checkpoints]), stack=(stack, study.activations.stacks))
    for name in selection or ():
        check_known(selection=(name, [*known]))
    found: dict[Concept, Question] = {}
    corpus = store.load(layout.corpus, CORPUS)
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
                texts = _examples(corpus, languages_of(name), sentence[rows], tongue[rows])
                found[Concept(checkpoint, stack, name, number, concept)] = question(words[rows].tolist(), texts)
    return found


def _largest(labels: NDArray[np.integer], words: NDArray[np.object_], k: int, top: int) -> list[int]:
    """Concepts of most types."""
    _, kinds = np.unique(words, return_inverse=True)
    pairs = np.unique(np.stack([labels, kinds])[:, labels >= 0], axis=1)
    types = np.bincount(pairs[0], minlength=k)
    return [int(c) for c in np.argsort(-types, kind="stable")[:top] if types[c]]


def _examples(
    corpus: xr.Dataset, languages: list[str], sentence: NDArray[np.integer], tongue: NDArray[np.integer]
) -> list[str]:
    """Sentences of the first, the last and evenly spread tokens of a concept."""
    chosen = np.unique(np.linspace(0, len(sentence) - 1, min(SENTENCES, len(sentence))).astype(int))
    texts = []
    for at in chosen.tolist():
        (words,) = some_sentences(corpus, languages[int(tongue[at])], np.array([sentence[at]]))
        texts.append(" ".join(words))
    return list(dict.fromkeys(texts))


def question(words: Sequence[str], sentences: Sequence[str]) -> Question:
    """The question about a concept: its most frequent words, and sentences with some of them."""
    most = [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:WORDS]]
    shown = {"words": ", ".join(most), "sentences": "\n".join(f"- {sentence}" for sentence in sentences)}
    return Question(ONE.format(**shown), CONCEPT.format(**shown))
