"""One single-threaded worker beside two, for extraction and for K-means, and what two processes can reach here at all.

    python -m tests.benchmarks.scaling MODEL TEXT [--words 163840] [--tokens 393216] [--pairs 5] [--peers 1]
        [--only "K-means, small layers"]

Runs with one and two workers of a LocalCluster take turns on the same input; starting processes, loading the model
(extraction) and importing are left out: the workers do a little of the same before. The peer is the ceiling of this
machine: two processes of one worker each, without a scheduler between them, that do the same work on an input of
their own at the same time, against one that does it alone (turbo, memory bandwidth and caches are shared). Of a
doubling, what that ceiling lacks is lost to the machine, and what two workers lack of the ceiling to Colign: uneven
loads, what the driver does while workers wait, messages. K-means of one layer is spread over both workers; small
layers are clustered side by side, each whole on one. Numbers of words and tokens that make an even number of equal
shards leave the first of these out.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from engine import backend, concepts, paths
from engine.model.encode import open_encoder
from engine.side_by_side import Pending, cluster_all
from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from jobs import extract, stages, vectors
from jobs.layout import Layout
from jobs.selections import read_text
from jobs.tasks import perform
from schemas.machine import Machine
from schemas.study import Concepts, Study
from schemas.task import Key
from tests.benchmarks.extraction_memory import write_text
from tests.benchmarks.inputs import table
from tests.benchmarks.kmeans import made_activations
from tests.small_vectors import stored

MEMORY = 4 * 2**30
K, HIDDEN, ITERATIONS = 600, 768, 20
SHARD = 4096
"""Words of a shard of extraction: fewer than a study's, so that a short run has an even load."""

Job = Callable[[Workers, str], Any]
"""Does the whole work on some workers, in a folder of its own."""


def _study(model: str, text: str) -> Study:
    shards = {"shard_tokens": SHARD, "chunk_tokens": SHARD}
    return extract.study_of(model, text, None, shards, "spaces", {"min_count": 1, "max_count": 10**9})


def extraction(workers: Workers, folder: str, model: str, text: str) -> float:
    """Seconds of the vectors of a text; reading the text is left out."""
    paths.remove(folder)
    study, layout = _study(model, text), Layout(folder)
    context = stages.context(study, layout, 1, MEMORY)
    perform(Key("corpus"), context)
    [*_, stage] = stages.stages(context, read_text(study, layout, {"corpus"}), MEMORY)
    started = time.perf_counter()
    for _ in vectors.work(stage.keys, stage.keys, context.vectors, workers, lambda _: None):
        pass
    return time.perf_counter() - started


def clustering(workers: Workers, folder: str, source: str, tokens: int, layers: int, of: tuple[int, int, int]) -> float:
    """Seconds of K-means, from laying out the store to the last label; `of`: hidden, K, words of a part."""
    paths.remove(folder)
    hidden, k, shard = of
    settings = Concepts(k=k, max_iterations=ITERATIONS, tolerance=0)
    numbers = tuple(range(layers))
    task = concepts.Clustering(
        f"{folder}/concepts.zarr", (source,), ("de",), (tokens,), hidden, 2, numbers, ("base", "encoder", "de"), shard,
        (k,),
    )  # fmt: skip
    started = time.perf_counter()
    concepts.setup(task, settings)
    for _ in cluster_all([Pending(task, numbers)], settings, workers):
        pass
    return time.perf_counter() - started


def warm(model: str) -> None:
    """Load the model and import what products need."""
    open_encoder(model, "float32", True, MEMORY // 2, False)
    backend.product_rate(HIDDEN, K, "auto")


def _alone(job: Job, model: str, folder: str, together: Any, answers: Any) -> None:
    with SerialWorkers(1, MEMORY // 2) as workers:
        try:
            warm(model)
        except BaseException:
            together.abort()  # the others would wait for ever
            raise
        together.wait()
        answers.put(job(workers, folder))


def peer(job: Job, model: str, folder: str, count: int) -> float:
    """Seconds of the slowest of some processes that each do the whole work alone, side by side."""
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(count), spawn.Queue()
    processes = [
        spawn.Process(target=_alone, args=(job, model, f"{folder}/peer{number}", together, answers))
        for number in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a peer failed, see above")
    return max(answers.get() for _ in processes)


def compare(job: Job, model: str, folder: str, pairs: int, peers: int) -> dict[str, Any]:
    """Median speed-ups of two workers, and of two independent processes, with the seconds of every run."""
    seconds: dict[str, list[float]] = {"1": [], "2": [], "peer 1": [], "peer 2": []}
    for number in range(pairs):
        for count in (1, 2) if number % 2 else (2, 1):
            with ClusterWorkers(Machine(type="local", workers=count, memory=MEMORY / 2**30)) as workers:
                while workers.slots < count:
                    time.sleep(0.1)
                workers.each(warm, model)
                seconds[str(count)].append(job(workers, f"{folder}/run"))
            if number < peers:
                seconds[f"peer {count}"].append(peer(job, model, folder, count))
    speed_up = statistics.median(one / two for one, two in zip(seconds["1"], seconds["2"], strict=True))
    ceiling = statistics.median(2 * one / two for one, two in zip(seconds["peer 1"], seconds["peer 2"], strict=True))
    return {
        "seconds": seconds,
        "speed_up": speed_up,
        "ceiling": ceiling,
        "of_ceiling": speed_up / ceiling,
        "lost_to_the_machine": 1 - ceiling / 2,
        "lost_to_colign": (ceiling - speed_up) / 2,
        "one_worker_to_one_process": statistics.median(seconds["1"]) / statistics.median(seconds["peer 1"]),
    }


def measure(
    model: str, texts: list[str], words: int, tokens: int, pairs: int, peers: int, only: str | None = None
) -> dict[str, dict[str, Any]]:
    """Extraction of so many words, and K-means of so many made vectors, if any; or one of them alone."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        text = Path(folder) / "text.txt"
        write_text(texts, words, text)
        jobs: dict[str, Job] = {"extraction": partial(extraction, model=model, text=str(text))}
        if tokens:
            for name, count, layers, of in (
                ("K-means", tokens, 1, (HIDDEN, K, 16384)),
                ("K-means, small layers", max(tokens // 12, 1), 6, (HIDDEN // 2, 64, 1024)),  # tasks of milliseconds
            ):
                made = np.stack([made_activations(count, of[0]).astype(np.float16)] * layers)
                place = Path(folder) / name.replace(", ", "-").replace(" ", "-")
                place.mkdir()
                source = stored(place, made, of[1:2], shard=of[2]).sources[0]
                jobs[name] = partial(clustering, source=source, tokens=count, layers=layers, of=of)
        return {name: compare(job, model, folder, pairs, peers) for name, job in jobs.items() if only in (None, name)}


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", nargs="+")
    for name, value in (("words", 163_840), ("tokens", 393_216), ("pairs", 5), ("peers", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", choices=("extraction", "K-means", "K-means, small layers"), help="one work alone")
    asked = parser.parse_args()
    if not 1 <= asked.peers <= asked.pairs:
        parser.error(f"--peers {asked.peers}: expected 1 to {asked.pairs}, in how many of the pairs the peers run, too")
    found = measure(asked.model, asked.text, asked.words, asked.tokens, asked.pairs, asked.peers, asked.only)
    header = ["", "1 worker, s", "2 workers, s", "speed-up", "ceiling", "lost to the machine", "lost to Colign"]
    shown = [
        [
            name, statistics.median(row["seconds"]["1"]), statistics.median(row["seconds"]["2"]), row["speed_up"],
            row["ceiling"], f"{row['lost_to_the_machine']:.1%}", f"{row['lost_to_colign']:.1%}",
        ]
        for name, row in found.items()
    ]  # fmt: skip
    sys.stdout.write(table(header, shown) + "\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
