"""The commands of word links: `colign link` makes or exports them, `colign aer` compares them with gold links."""

import resource
import time
from collections.abc import Iterator
from itertools import zip_longest
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from engine import paths, store
from engine.exchange.given_links import sentence_links
from engine.exchange.link_files import Line, read_lines, write_pharaoh
from engine.kernels.agreement import Agreement, agreement
from engine.links import Pair, memory_needed, sample, sample_size, train
from engine.sentences import read_sentences
from jobs import files
from jobs.arguments import Json
from jobs.clustering import PROCESS
from jobs.convert import Force, check_out
from jobs.linking import named_pair
from jobs.plan import size
from jobs.progress import out, print_json
from schemas.corpus import CORPUS
from schemas.errors import BudgetError, InputError
from schemas.links import LINKS
from schemas.parse import parse
from schemas.study import Links


def link_words(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Text, one sentence a line, .gz is unpacked; or a study, with --pair.")
    ],
    path: Annotated[str, typer.Option("--out", "-o", metavar="OUT.align", help="Pharaoh file to write.")],
    target: Annotated[str | None, typer.Argument(metavar="TGT", help="Line i is the translation of line i.")] = None,
    model: Annotated[Literal["fast_align", "hmm", "ibm4", "eflomal"], typer.Option(help="Aligner.")] = "fast_align",
    symmetrise: Annotated[
        Literal["intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and", "forward", "reverse"],
        typer.Option(help="How the two directions become one set; forward, reverse: one of them alone."),
    ] = "grow-diag-final-and",
    iterations: Annotated[int | None, typer.Option(help="Of each model (default: 5; eflomal: by the text).")] = None,
    seed: Annotated[int, typer.Option(help="Of eflomal; the others draw nothing at random.")] = 0,
    words: Annotated[Literal["spaces", "regex"], typer.Option(help="How a line is cut into words.")] = "spaces",
    pair: Annotated[str | None, typer.Option(help="Export the links of this pair of a study, such as de-en.")] = None,
    machine: Annotated[str | None, typer.Option("--machine", "-m", help="Machine file: memory to stay within.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Link the words of two texts, or export the links that a study has made: a line of 0-0 1-2 for each sentence."""
    if "://" in path:
        raise InputError(f"{path}: expected a local path, found a URL; write to a local file and copy it")
    check_out(path, force, replaceable=Path(path).is_file())
    if (target is None) != (pair is not None):
        raise InputError(
            f"{source}: give two texts to be linked (SRC TGT), or one study and --pair; found "
            f"{'one text' if pair is None else 'two texts and --pair'}"
        )
    if target is None:
        _report(path, _export(source, str(pair), path), as_json=as_json)
        return
    given = {"aligner": model, "symmetrise": symmetrise, "iterations": iterations, "seed": seed}
    settings: Links = parse(Links, given, "options")
    _report(
        path, _link((source, target), words, settings, files.load_machine(machine).memory_bytes, path), as_json=as_json
    )


def _link(
    texts: tuple[str, str], words: Literal["spaces", "regex"], settings: Links, memory: int, path: str
) -> dict[str, Any]:
    """Link two texts, which are read three times: to be counted, to train on, to be linked."""
    started = time.monotonic()
    sentences = tokens = too_long = 0
    for source, target in _pairs(texts, words):
        sentences, tokens = sentences + 1, tokens + len(source) + len(target)
    trained_on = sample_size(sentences, tokens, settings, memory - PROCESS)
    needed = PROCESS + memory_needed(sentences, tokens, trained_on, settings)
    if needed > memory:
        raise BudgetError(
            f"{settings.aligner} needs about {size(needed)} for {trained_on:,} sentences, the machine allows "
            f"{size(memory)}; raise memory in the machine file"
        )
    chosen = iter(sample(sentences, trained_on).tolist())
    wanted = next(chosen, None)

    def sampled() -> Iterator[Pair]:
        nonlocal wanted
        for i, found in enumerate(_pairs(texts, words)):
            if i == wanted:
                wanted = next(chosen, None)
                yield found

    linker = train(sampled(), settings)
    longest = linker.longest

    def counted() -> Iterator[Pair]:
        nonlocal too_long
        for found in _pairs(texts, words):
            too_long += max(map(len, found)) > longest
            yield found

    with paths.explained(path), paths.replaced(path) as part, open(part, "w", encoding="utf-8") as file:
        _, links = write_pharaoh(file, linker.links(counted()))
    return {
        **settings.model_dump(include={"aligner", "symmetrise", "iterations", "seed"}),
        "sentences": sentences,
        "links": links,
        "trained_on": trained_on,
        "sentences_too_long": too_long,
        "seconds": round(time.monotonic() - started, 2),
        "projected_memory": needed,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _pairs(texts: tuple[str, str], words: Literal["spaces", "regex"]) -> Iterator[Pair]:
    """Sentences of two texts side by side.

    Raises
    ------
    InputError
        A text cannot be read, has an empty line, or more lines than the other.
    """
    sides = zip_longest(*(read_sentences(text, words) for text in texts))
    for number, (source, target) in enumerate(sides):
        if source is None or target is None:
            short, long = texts if source is None else texts[::-1]
            raise InputError(
                f"{short}: ends after line {number}, while {long} goes on; line i of both texts must be the same "
                "sentence"
            )
        yield source, target


def _export(source: str, name: str, path: str) -> dict[str, Any]:
    """Write the stored links of a pair of a study."""
    study, layout = files.load_study(source)
    named = named_pair(study, name, "--pair")
    stored = named if named in study.pairs else named[::-1]
    links = store.read(layout.links(*stored), LINKS)
    corpus = store.load(layout.corpus, CORPUS)
    found = sentence_links(corpus, links)
    if stored != named:
        found = (np.array(sorted(rows[:, ::-1].tolist()), np.int64) for rows in found)
    with paths.explained(path), paths.replaced(path) as part, open(part, "w", encoding="utf-8") as file:
        sentences, count = write_pharaoh(file, found)
    kept = {key: links.attrs[key] for key in ("trained_on", "sentences_too_long") if key in links.attrs}
    return {"pair": name, "sentences": sentences, "links": count, **kept}


def _report(path: str, found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"path": path, **found})
        return
    notes = [f"{found['links']:,} links in {found['sentences']:,} sentences"]
    if 0 < found.get("trained_on", 0) < found["sentences"]:
        notes.append(f"trained on {found['trained_on']:,} of them, as many as fit the memory")
    if found.get("sentences_too_long"):
        notes.append(f"{found['sentences_too_long']:,} too long for the aligner have none")
    out.print("; ".join(notes), soft_wrap=True, highlight=False)
    out.print(f"links  {path}", soft_wrap=True, highlight=False)


def compare_links(
    links: Annotated[str, typer.Argument(metavar="OUT.align", help="Links in Pharaoh form, one line a sentence.")],
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Gold links: 0-0 sure, 0p1 or 0?1 possible.")],
    as_json: Json = False,
) -> None:
    """Alignment error rate, precision and recall of word links against gold links (Och & Ney 2003)."""
    found = compare(links, gold)
    numbers = {"precision": found.precision, "recall": found.recall, "aer": found.error_rate}
    if as_json:
        counts = {
            "links": found.links, "sure": found.sure, "possible": found.possible,
            "found_sure": found.found_sure, "found_possible": found.found_possible,
        }  # fmt: skip
        print_json({name: None if isnan(value) else value for name, value in numbers.items()} | counts)
        return
    names = {"precision": "precision", "recall": "recall", "aer": "AER"}
    out.print("  ".join(f"{names[key]} {100 * value:.2f} %" for key, value in numbers.items()), highlight=False)
    out.print(
        f"{found.found_possible:,} of {found.links:,} links are gold; {found.found_sure:,} of {found.sure:,} sure gold "
        f"links are found ({found.possible:,} with the possible ones)",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def compare(links: str, gold: str) -> Agreement:
    """Agreement of two Pharaoh files, line by line.

    Raises
    ------
    InputError
        A file cannot be read or holds anything but links, or they have different numbers of lines.
    """
    total = Agreement()
    lines: Iterator[tuple[Line | None, Line | None]] = zip_longest(read_lines(links), read_lines(gold))
    for number, (one, other) in enumerate(lines):
        if one is None or other is None:
            short, long = (links, gold) if one is None else (gold, links)
            raise InputError(
                f"{short}: ends after line {number}, while {long} goes on; expected a line for each sentence in both: "
                "give the links of the sentences that have gold links, in their order"
            )
        total += agreement(one.links, other.sure, other.possible)
    return total
