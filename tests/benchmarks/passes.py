"""What a pass of K-means costs the driver and the scheduler, by the number of workers, and who adds up what they give.

    python -m tests.benchmarks.passes [--workers 4 16] [--tokens 65536] [--k 600]

One layer is spread over all workers, as one would be that fits none of them. Scheduler, workers and driver are
processes of their own, as on a cluster. Counted is the processor time of the first and the last, which hand out steps,
pass on centroids and take in sums: what they do in a pass no number of workers makes faster. Many workers on few cores
say nothing of the seconds of a pass.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from threadpoolctl import threadpool_limits

from engine import concepts
from engine.concepts import Clustering
from engine.kmeans import sweep
from engine.workers import adding, folding
from engine.workers.cluster import ClusterWorkers
from schemas.machine import Machine
from schemas.study import Concepts
from tests import hosts
from tests.benchmarks.inputs import table
from tests.benchmarks.kmeans import made_activations
from tests.small_vectors import stored

PARTS, HIDDEN, ITERATIONS = 64, 768, 12

FIRST = 2
"""Passes that are not counted: in them workers import, and draw what later ones remember."""


class Counted:
    """Cluster workers whose passes are counted."""

    def __init__(self, workers: ClusterWorkers, scheduler: psutil.Process) -> None:
        self._workers, self._scheduler = workers, scheduler
        self.passes: list[dict[str, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workers, name)

    def fold(self, function: Any, *args: Any, **options: Any) -> Any:
        """As the workers', with what it costs."""
        before, began = self._used(), time.perf_counter()
        found = self._workers.fold(function, *args, **options)
        if function is sweep:
            used = {name: after - before[name] for name, after in self._used().items()}
            self.passes.append({**used, "seconds": time.perf_counter() - began})
        return found

    def _used(self) -> dict[str, float]:
        own, of_scheduler = os.times(), self._scheduler.cpu_times()
        return {"driver": own.user + own.system, "scheduler": of_scheduler.user + of_scheduler.system}


def measure(counts: Sequence[int], tokens: int, k: int) -> list[dict[str, Any]]:
    """One row for each number of workers, and for who adds up: median processor seconds of a pass."""
    found = []
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        task = stored(folder, made_activations(tokens, HIDDEN)[None], (k,), shard=tokens // PARTS)
        settings = Concepts(k=k, max_iterations=ITERATIONS, tolerance=0)
        for count in counts:
            with hosts.cluster(folder, count=count) as processes:
                machine = Machine(type="scheduler-file", scheduler_file=str(processes.file), memory=1)
                with ClusterWorkers(machine) as workers:
                    while workers.slots < count:
                        time.sleep(0.1)
                    for here in (adding.HERE, 10**9):
                        counted = Counted(workers, psutil.Process(processes.scheduler.pid))
                        with patch.object(folding, "HERE", here):
                            _cluster(task, settings, counted)
                        medians = {
                            name: statistics.median(one[name] for one in counted.passes[FIRST:])
                            for name in ("driver", "scheduler", "seconds")
                        }
                        who = "the driver" if here > adding.HERE else f"workers, beyond {adding.HERE}"
                        found.append({"workers": count, "added_up_by": who, **medians})
    return found


def _cluster(task: Clustering, settings: Concepts, workers: Any) -> None:
    concepts.setup(task, settings)
    for _ in concepts.cluster(task, task.layers, settings, workers):
        pass


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--k", type=int, default=600)
    asked = parser.parse_args()
    found = measure(asked.workers, asked.tokens, asked.k)
    header = ["workers", "sums are added up by", "driver, s of processor", "scheduler, s of processor", "seconds"]
    sys.stdout.write(table(header, [[*row.values()] for row in found]) + "\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
