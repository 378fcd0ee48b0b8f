"""Alignment error rate of every aligner and symmetrisation on gold links, beside another tool's on the same sentences.

    python -m tests.benchmarks.alignment SRC TGT GOLD [--more SRC TGT]... [--aligner fast_align --aligner hmm]
        [--lower] [--other NAME=OUT.align]... [--write TEXT] [--json]

The aligners are trained on the sentences with gold links and, behind them, on the further parallel texts; the gold
sentences alone are compared. `--write TEXT` writes what they are trained on as fast_align reads it (`source |||
target`) and stops, so that another tool can be run on the same; of its output the first lines are compared::

    fast_align -i TEXT -d -o -v > F; fast_align -i TEXT -d -o -v -r > R
    atools -i F -j R -c grow-diag-final-and > OUT.align

Seconds are of processor time, both directions together: training, and linking all sentences. Bytes are resident, what
both models hold after training a token of both languages, above what the process held before.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from engine.exchange.link_files import Line, read_lines
from engine.kernels.agreement import Agreement, agreement
from engine.links import Linker, Pair, train
from engine.sentences import read_sentences
from schemas.study import Links
from tests.benchmarks.inputs import table

ALIGNERS = ("fast_align", "hmm", "eflomal", "ibm4")
SYMMETRISATIONS = (
    "forward", "reverse", "intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and",
)  # fmt: skip


def read_pairs(texts: Sequence[Sequence[str]], *, lower: bool) -> list[Pair]:
    """Sentences of some parallel texts, one behind another."""
    pairs: list[Pair] = []
    for source, target in texts:
        for one, other in zip(read_sentences(source, "spaces"), read_sentences(target, "spaces"), strict=True):
            pairs.append(([word.lower() for word in one], [word.lower() for word in other]) if lower else (one, other))
    return pairs


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def score(found: Iterator[Any], gold: Sequence[Line]) -> dict[str, float]:
    """Per cent of agreement of some links (link, side) with the gold links of the same sentences."""
    total = Agreement()
    for links, line in zip(found, gold, strict=True):
        total += agreement({(i, j) for i, j in links}, line.sure, line.possible)
    return {
        "precision": round(100 * total.precision, 1),
        "recall": round(100 * total.recall, 1),
        "aer": round(100 * total.error_rate, 1),
    }


def compare(pairs: Sequence[Pair], gold: Sequence[Line], aligner: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Scores of an aligner by symmetrisation, and what it took."""
    before, started = resident(), time.process_time()
    trained = train(pairs, Links(aligner=aligner))
    training, held = time.process_time() - started, resident() - before
    rows = []
    for name in SYMMETRISATIONS:
        forward, backward = trained.forward, trained.backward
        linker = Linker(None if name == "reverse" else forward, None if name == "forward" else backward, name)
        rows.append({"aligner": aligner, "symmetrise": name, **score(linker.links(pairs[: len(gold)]), gold)})
    started = time.process_time()
    for _ in trained.links(pairs):
        pass
    linking = time.process_time() - started
    tokens = sum(len(words) for pair in pairs for words in pair)
    cost = {
        "aligner": aligner,
        "sentences": len(pairs),
        "tokens": tokens,
        "training s": round(training, 1),
        "linking s": round(linking, 1),
        "training s / 1000": round(1000 * training / tokens, 4),
        "linking s / 1000": round(1000 * linking / tokens, 4),
        "bytes a token": round(held / tokens),
    }
    return rows, cost


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs=2, metavar=("SRC", "TGT"))
    parser.add_argument("gold", metavar="GOLD")
    parser.add_argument("--more", nargs=2, action="append", default=[], metavar=("SRC", "TGT"))
    parser.add_argument("--aligner", action="append", choices=ALIGNERS)
    parser.add_argument("--other", action="append", default=[], metavar="NAME=OUT.align")
    parser.add_argument("--lower", action="store_true")
    parser.add_argument("--write", metavar="TEXT")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    gold = list(read_lines(options.gold))
    pairs = read_pairs([options.texts, *options.more], lower=options.lower)
    if options.write:
        lines = (f"{' '.join(source)} ||| {' '.join(target)}\n" for source, target in pairs)
        Path(options.write).write_text("".join(lines))
        return
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    for given in options.other:
        name, _, path = given.partition("=")
        others = (line.links for line in list(read_lines(path))[: len(gold)])
        rows.append({"aligner": name, "symmetrise": Path(path).stem, **score(others, gold)})
    spawn = multiprocessing.get_context("spawn")
    for aligner in options.aligner or ALIGNERS:
        with ProcessPoolExecutor(1, mp_context=spawn) as alone:  # memory that another has freed would be taken again
            found, cost = alone.submit(compare, pairs, gold, aligner).result()
        rows += found
        costs.append(cost)
    if options.json:
        sys.stdout.write(json.dumps({"scores": rows, "costs": costs}) + "\n")
        return
    for found in filter(None, (rows, costs)):
        sys.stdout.write(table(list(found[0]), [list(row.values()) for row in found]) + "\n\n")


if __name__ == "__main__":
    main()
