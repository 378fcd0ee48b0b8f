"""What handing out a task costs: tasks a second through `map` and `fold`, with what tasks of a large study are sent.

    python -m tests.benchmarks.scheduler [--tasks 400] [--languages 100]

Empty tasks give the most tasks a second that the handing out sustains. Waiting tasks, of half a second on one worker,
give the overhead of a task: wall-clock seconds of a worker beyond those that it waited. Starting workers is left out.
"""

import argparse
import json
import operator
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.workers.cluster import ClusterWorkers
from jobs import stages
from jobs.layout import Layout
from schemas.machine import Machine
from schemas.task import Key
from tests.benchmarks.inputs import table
from tests.benchmarks.planning import made_study

WAIT = 0.5
"""Seconds of a task that waits."""

SECONDS = 5.0
"""Seconds that each worker waits in all."""


def wait(key: Key, _: Any, seconds: float) -> int:
    """A task that is sent something."""
    time.sleep(seconds)
    return 1


def nothing(key: Key) -> int:
    """An empty part."""
    return 0


def wait_with(key: Key, value: int, _: Any, seconds: float) -> int:
    """A part of a fold that is sent something."""
    time.sleep(seconds)
    return 1


def mapped(workers: ClusterWorkers, count: int, sent: Any, seconds: float) -> float:
    """Seconds of some tasks."""
    keys = [Key("task", (str(number),)) for number in range(count)]
    started = time.perf_counter()
    done = sum(result for _, result in workers.map(wait, keys, sent, seconds))
    assert done == count
    return time.perf_counter() - started


def folded(workers: ClusterWorkers, count: int, sent: Any, seconds: float) -> float:
    """Seconds of some parts."""
    held = workers.hold(nothing, [Key("task", ("all",), start, start + 1) for start in range(count)], 0)
    assert workers.fold(wait_with, held, operator.add, None, 0.0)["all",] == count  # they are loaded
    started = time.perf_counter()
    assert workers.fold(wait_with, held, operator.add, sent, seconds)["all",] == count
    return time.perf_counter() - started


def measure(count: int, languages: int, workers: tuple[int, ...] = (1, 2), wait: float = WAIT) -> list[dict[str, Any]]:
    """One row for each number of workers, verb, and what is sent."""
    with tempfile.TemporaryDirectory() as name:
        sent: dict[str, Any] = {"nothing": None}
        for pairs in ("pivot", "all"):
            study = made_study(Path(name), languages, pairs)
            sent[f"a study, pairs {pairs}"] = stages.context(study, Layout(f"{name}/study"), 1, 2**34)
    found = []
    verbs: dict[str, Callable[..., float]] = {"map": mapped, "fold": folded}
    for number in workers:
        with ClusterWorkers(Machine(type="local", workers=number, memory=1)) as processes:
            while processes.slots < number:
                time.sleep(0.1)
            for verb, timed in verbs.items():
                timed(processes, 8 * number, next(reversed(sent.values())), 0.0)  # everything is imported there
                for what, value in sent.items():
                    empty = timed(processes, count, value, 0.0)
                    some = max(2, round(SECONDS / wait)) * number
                    waited = timed(processes, some, value, wait)
                    found.append(
                        {
                            "workers": number,
                            "verb": verb,
                            "sent": what,
                            "sent_bytes": len(pickle.dumps(value)),
                            "tasks_a_second": count / empty,
                            "overhead_s": waited * number / some - wait,
                        }
                    )
    return found


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--languages", type=int, default=100)
    asked = parser.parse_args()
    found = measure(asked.tasks, asked.languages)
    header = ["workers", "verb", "sent", "kB", "tasks/s", "overhead, ms a task", "of a task of 1 s"]
    shown = [
        [
            row["workers"], row["verb"], row["sent"], round(row["sent_bytes"] / 1000), round(row["tasks_a_second"]),
            1000 * row["overhead_s"], f"{row['overhead_s']:.1%}",
        ]
        for row in found
    ]  # fmt: skip
    sys.stdout.write(table(header, shown) + "\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
