"""Time and cost of studies of 1, 10 and 100 TB against the number of workers, from rates in the one table below.

    python -m tests.benchmarks.simulation [--figure tests/benchmarks/simulation.svg]
    python -m tests.benchmarks.simulation --check MODEL FOLDER     (FOLDER: parallel texts, such as de.txt and en.txt)

Stages, tasks, sizes and their grouping are those of the engine (`jobs.stages`, `jobs.vectors.groups`,
`jobs.linking.rows`); only seconds are assumed. Workers take tasks in the order of their keys as they come free, no
faster than the driver hands them out. Layers that fit a worker are clustered there; of those that are spread over all,
a pass of K-means, of which parts on one worker go together, begins when centroids have come to all workers, from one to
the next, and ends when all that tasks give is added up: by workers, a few at a time, where it is much.
A study is that of `tests.benchmarks.planning`: 100 languages, all paired with one, 13 layers of a 12 x 384 encoder.

--check measures the rates in a run of half a text with one worker, predicts the whole text with one and with two, runs
both, and prints the error of every stage.
"""

import argparse
import heapq
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure

from engine import concepts
from engine.concepts import Clustering
from engine.side_by_side import Pending, chosen
from engine.workers.adding import HERE, TOGETHER
from engine.workers.cluster import ClusterWorkers
from engine.workers.placing import PARTS, most_together
from engine.workers.protocol import group_size
from jobs import files, linking, stages
from jobs.layout import Layout
from jobs.run import Event, run
from jobs.selections import Text, read_text
from jobs.stages import Stage
from jobs.tasks import Context
from jobs.vectors import groups
from schemas.machine import Machine
from schemas.study import Concepts
from tests.benchmarks.inputs import table
from tests.benchmarks.planning import made_study, made_text


@dataclass(frozen=True)
class Rates:
    """What a worker, the store and the driver do in a second, and what the work takes."""

    words: float
    """Words that a worker's model reads a second, all layers."""
    products: float
    """Multiplications and additions of K-means a second of a worker."""
    local: float
    """Bytes a second between a worker and the store."""
    store: float
    """Bytes a second of the store, all workers together."""
    process: float
    """Bytes a second that the driver, or a worker, takes in from others."""
    task: float
    """Seconds of driver and scheduler for each task."""
    step: float
    """Seconds of driver and scheduler for each task of a pass of K-means: it is sent less."""
    passes: float
    """Passes of K-means over the vectors, seeding, moments and labels among them."""
    compared: float
    """Share of the concepts that a vector is compared with in a pass."""
    links: float
    """Seconds of linking for each that `linking.rows` gives."""
    corpus: float
    """Words read and selected a second, by one worker."""
    tokens: float
    """Words of a pair, or of a set, that are counted a second; once for each layer, and once for its dictionary."""
    memory: float
    """Bytes that a worker may use; half of them hold vectors."""
    price: float
    """US dollars of a worker and hour."""


ASSUMED: tuple[tuple[str, float, float, str], ...] = (
    # rate, worker of 1 CPU core, worker of 1 GPU, source
    ("words", 1.3e3, 1.0e6, "core: README's 327 words/s a core, 12 x 768, x 4; GPU: vendor's BERT, A100"),
    ("products", 80e9, 20e12, "core: torch, float32, by kmeans.py; GPU: 30 % of H100's float32, assumed"),
    ("local", 0.5e9, 2e9, "core: codecs.py, none + crc32c; GPU: assumed, several writers"),
    ("store", 20e9, 20e9, "assumed: a parallel file system, or an object store in one region"),
    ("process", 1e9, 1e9, "assumed: 10 Gbit/s"),
    ("task", 5e-3, 5e-3, "scheduler.py: 4 to 8 ms"),
    ("step", 3.5e-3, 3.5e-3, "passes.py: 0.04 s a pass of 4 workers, 0.10 s of 16"),
    ("passes", 60, 60, "assumed: 50 iterations, 10 for seeding, moments and labels"),
    ("compared", 0.3, 1.0, "core: bounds spare most, README «Concepts alone»; GPU: whole passes"),
    ("links", 1.0, 1.0, "alignment.py, in engine.links.COST; links are made on CPU cores in both columns"),
    ("corpus", 3e5, 3e5, "assumed; one worker reads the text"),
    ("tokens", 1e6, 1e6, "assumed; metrics.py and dictionary.py measure more for the counting alone"),
    ("memory", 16 * 2**30, 80 * 2**30, "what the prices include; GPU: an H100's, and as much of its host's"),
    ("price", 0.13, 3.0, "assumed: cloud, on demand, a core (two threads) with 16 GiB; an H100"),
)  # fmt: skip
"""Every number that is not the engine's own, with where it comes from."""


def assumed(column: int) -> Rates:
    """Rates of workers of one kind: column 1, a core; 2, a GPU."""
    return Rates(**{row[0]: row[column] for row in ASSUMED})  # type: ignore[arg-type]


def makespan(seconds: Iterable[float], workers: int, handing_out: float) -> float:
    """When the last of some tasks ends that are taken in order as workers come free, one handed out after another."""
    free = [0.0] * workers
    last = 0.0
    for number, taken in enumerate(seconds):
        end = max(heapq.heappop(free), number * handing_out) + taken
        heapq.heappush(free, end)
        last = max(last, end)
    return last


def sizes_of_tasks(stage: Stage, workers: int) -> list[int]:
    """Words of each task of extraction."""
    return [key.stop - key.start for key in groups(stage.keys, workers)]


def simulate(
    context: Context,
    text: Text,
    planned: Sequence[Stage],
    workers: int,
    rates: Rates,
) -> dict[str, float]:
    """Seconds of each stage."""
    study = context.study
    bandwidth = min(rates.local, rates.store / workers)
    found: dict[str, float] = {}
    for stage in planned:
        seconds: Iterable[float] = ()
        if stage.name == "corpus":
            seconds = [sum(text.tokens.values()) / rates.corpus]
        elif stage.name == "links":
            rows = linking.rows(study, context.given, text.sentences, text.tokens, context.memory)
            seconds = [row["seconds"] * rates.links for row in rows]
        elif stage.name == "dictionary":
            seconds = [sum(text.tokens[lang] for lang in key.part) / rates.tokens for key in stage.keys]
        elif stage.name == "activations":
            sizes = sizes_of_tasks(stage, workers)
            each = max(1 / rates.words, stage.nbytes / sum(sizes) / bandwidth)  # writing goes on beside the model
            seconds = [tokens * each for tokens in sizes]
        elif stage.name == "counts":
            layers = len(next(iter(context.extractions.values())).wanted.layers)
            seconds = [
                sum(text.selected_tokens[lang] for name in key.part[3:] for lang in name.split("+"))
                * layers / rates.tokens
                for key in stage.keys
            ]  # fmt: skip
        if stage.name == "concepts":
            found[stage.name] = _concepts(context, stage, workers, rates)
        else:
            found[stage.name] = makespan(seconds, workers, rates.task)
    return found


def _concepts(context: Context, stage: Stage, workers: int, rates: Rates) -> float:
    """Layers that fit one worker side by side, each whole on one; then the others, spread over all."""
    settings = context.study.concepts
    pending = [Pending(task, task.layers) for task in stage.clusterings]
    whole = chosen(pending, settings, workers, context.memory // 2)
    of = {one.part: one for one in stage.clusterings}
    bandwidth = min(rates.local, rates.store / workers)
    alone = {part: _pass(task, settings, task.stops[-1], rates) * rates.passes
             + task.layer_bytes() / bandwidth for part, task in of.items()}  # fmt: skip
    total = makespan((alone[key.part[:-1]] for key in whole), workers, rates.task)
    for part, layers in (
        Counter(key.part[:-1] for key in stage.keys) - Counter(key.part[:-1] for key in whole)
    ).items():
        total += _spread(of[part], layers, context, workers, rates)
    return total


def _pass(task: Clustering, settings: Concepts, rows: float, rates: Rates) -> float:
    """Seconds of the products of some rows with all concepts of all runs."""
    k = sum(run.k for run in task.runs(settings))
    return rows * 2 * task.hidden * k * rates.compared / rates.products


def _spread(task: Clustering, layers: int, context: Context, workers: int, rates: Rates) -> float:
    """Passes over layers of one selection: workers read and compute, and the driver adds up what every task gives.

    As many layers go together as the workers hold; what they cannot hold is read in every pass.
    """
    settings = context.study.concepts
    runs = task.runs(settings)
    plan = concepts.together(task, runs, context.memory // 2 * workers)
    at_once = min(plan.layers, layers)
    tokens = task.stops[-1]
    parts = -(-tokens // task.shard_tokens)
    groups_of_layer = -(-parts // group_size(parts))
    tasks = results = groups = at_once * groups_of_layer
    if plan.keep:  # what lies on one worker, of all layers, goes in a few steps, with a result of each layer
        each = -(-groups // workers)
        of_part = -(-groups_of_layer // workers)  # of each layer on a worker
        tasks = -(-groups // each) * -(-each // min(most_together(groups, workers), PARTS * of_part))
        results = max(tasks, at_once * min(groups_of_layer, workers))
    rows = at_once * tokens / tasks
    busy = min(workers, tasks)
    products = _pass(task, settings, rows, rates)
    reading = rows * task.hidden * task.itemsize / min(rates.local, rates.store / busy)
    centroids = at_once * 8 * sum(run.k for run in runs) * task.hidden / rates.process
    sums = tasks // (TOGETHER - 1) if tasks > HERE else 0
    added = (min(results, HERE * at_once) if sums else results) / at_once * centroids * rates.compared
    # rounds of tasks, or the driver, whichever is slower
    a_pass = max(-(-tasks // busy) * (products if plan.keep else max(products, reading)), (tasks + sums) * rates.step,
                 added)  # fmt: skip
    a_pass += math.log2(busy + 1) * 2 * centroids  # those of the iteration before go with them
    a_pass += math.log(tasks, TOGETHER) * TOGETHER * centroids * rates.compared if sums else 0
    return -(-layers // at_once) * (rates.passes * a_pass + (-(-tasks // busy) * reading if plan.keep else 0))


def project(terabytes: Sequence[float], workers: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each size, kind and number of workers."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        study = made_study(Path(folder), 100, "pivot")
        for (column, kind), size in product(enumerate(("core", "GPU"), start=1), terabytes):
            rates = assumed(column)
            context = stages.context(study, Layout(f"{folder}/study"), 1, int(rates.memory))
            text = made_text(study, int(size * 1e12 / (13 * 384 * 2)))
            planned = stages.stages(context, text, context.memory)
            for count in workers:
                seconds = simulate(context, text, planned, count, rates)
                hours = sum(seconds.values()) / 3600
                found.append(
                    {
                        "terabytes": size,
                        "kind": kind,
                        "workers": count,
                        "hours": hours,
                        "dollars": hours * count * rates.price,
                        "stages": seconds,
                    }
                )
    return found


def draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Hours against workers, a curve for each size and kind."""
    mpl.rcParams["svg.hashsalt"] = "colign"
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    for kind, style in (("core", "-"), ("GPU", "--")):
        for number, size in enumerate(dict.fromkeys(row["terabytes"] for row in rows)):
            some = [row for row in rows if (row["kind"], row["terabytes"]) == (kind, size)]
            axes.loglog(
                [row["workers"] for row in some], [row["hours"] for row in some], style, marker=".",
                color=f"C{number}", label=f"{size:g} TB, {kind}",
            )  # fmt: skip
    axes.set(xlabel="workers (a core, or a GPU)", ylabel="hours of a study")
    axes.legend(ncols=2)
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def _timed(study_file: Path, out: str, workers: int) -> tuple[dict[str, float], Context, Text, tuple[Stage, ...]]:
    """Seconds of each stage of a real run, started workers and loaded models included in none but the model's."""
    study, layout = files.load_study(str(study_file), out)
    machine = Machine(type="local", workers=workers, memory=3)
    ends: dict[str, float] = {}
    begun: dict[str, float] = {}

    def watch(event: Event) -> None:
        begun.setdefault(event.stage, time.perf_counter())
        ends[event.stage] = time.perf_counter()

    with ClusterWorkers(machine) as processes:
        while processes.slots < workers:
            time.sleep(0.1)
        run(study, layout, processes, machine.memory_bytes, watch)
    context = stages.context(study, layout, 1, machine.memory_bytes)
    text = read_text(study, layout, ["corpus"])
    return (
        {name: ends[name] - begun[name] for name in ends},
        context,
        text,
        stages.stages(context, text, machine.memory_bytes),
    )


def calibrate(seconds: dict[str, float], context: Context, text: Text, planned: Sequence[Stage]) -> Rates:
    """Rates under which the simulation of one worker gives the measured seconds of each stage."""
    unit = Rates(1, 1e30, 1e30, 1e30, 1e30, 0, 0, 1, 1, 1, 1, 1, context.memory, 0)
    simulated = simulate(context, text, planned, 1, unit)
    once = simulate(context, text, planned, 1, Rates(**{**vars(unit), "products": 1}))
    # dictionaries and counts have one rate in the table; here the stage that takes longer decides
    counted = max(("dictionary", "counts"), key=seconds.__getitem__)
    return Rates(
        words=simulated["activations"] / seconds["activations"],
        products=once["concepts"] / seconds["concepts"],
        local=1e30,
        store=1e30,
        process=1e30,
        task=0,
        step=0,
        passes=1,
        compared=1,
        links=seconds["links"] / simulated["links"],
        corpus=simulated["corpus"] / seconds["corpus"],
        tokens=simulated[counted] / seconds[counted],
        memory=context.memory,
        price=0,
    )


def check(model: str, texts: Path) -> list[list[Any]]:
    """Predicted and measured seconds of each stage, for the whole text with one and two workers."""
    found: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sorted(texts.glob("*.txt"))
        study_files = []
        for share in (2, 1):
            place = folder / f"part{share}"
            place.mkdir()
            for path in paths:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                (place / path.name).write_text("".join(lines[: len(lines) // share]), encoding="utf-8")
            values = {
                "corpus": {"files": {path.stem: path.name for path in paths}},
                "pivot": paths[0].stem,
                "checkpoints": {"base": {"model": str(Path(model).resolve())}},
                "selection": {"min_count": 1, "max_count": 10**9},
                "activations": {"shard_tokens": 1024, "chunk_tokens": 1024},
                "concepts": {"k": 20, "max_iterations": 20, "tolerance": 0},
            }
            (place / "study.yaml").write_text(yaml.safe_dump(values))
            study_files.append(place / "study.yaml")
        rates = calibrate(*_timed(study_files[0], str(folder / "half"), 1))
        for workers in (1, 2):
            seconds, context, text, planned = _timed(study_files[1], str(folder / f"whole{workers}"), workers)
            predicted = simulate(context, text, planned, workers, rates)
            predicted["all"], seconds["all"] = sum(predicted.values()), sum(seconds.values())
            for stage, expected in predicted.items():
                found.append([workers, stage, expected, seconds[stage], f"{expected / seconds[stage] - 1:+.0%}"])
    return found


def main() -> None:
    """Print tables and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", help="write the curves to this file")
    parser.add_argument("--check", nargs=2, metavar=("MODEL", "FOLDER"))
    asked = parser.parse_args()
    if asked.check:
        found = check(asked.check[0], Path(asked.check[1]))
        sys.stdout.write(table(["workers", "stage", "predicted, s", "measured, s", "error"], found) + "\n")
        return
    rows = project((1, 10, 100), (1, 8, 64, 512))
    sys.stdout.write(table(["assumed", "a core", "a GPU", "source"], ASSUMED) + "\n\n")
    shown = [
        [
            f"{row['terabytes']:g} TB", row["kind"], row["workers"], row["hours"], round(row["dollars"]),
            max(row["stages"], key=row["stages"].__getitem__),
        ]
        for row in rows
    ]  # fmt: skip
    sys.stdout.write(table(["vectors", "worker", "workers", "hours", "US$", "longest stage"], shown) + "\n")
    sys.stdout.write(json.dumps(rows) + "\n")
    if asked.figure:
        draw(rows, asked.figure)


if __name__ == "__main__":
    main()
