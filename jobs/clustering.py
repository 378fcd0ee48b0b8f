"""What clustering will take, by arithmetic alone."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine import ward
from engine.backend import product_rate
from engine.concepts import Clustering, together
from engine.kernels.lloyd import BLOCK_ROWS, PAIR_ROWS
from engine.seeding import drawn_bytes, method, sample_size
from engine.side_by_side import Pending, chosen
from schemas.machine import Machine
from schemas.study import Concepts

PROCESS = 530 * 2**20
"""Resident bytes of a process with everything imported and a small model loaded, before any data (measured: 520 MiB for
the command line, which also imports figures, 464 MiB for what a worker imports)."""


def memory(task: Clustering, settings: Concepts, holdable: int, threads: int) -> int:
    """Projected bytes of a process that clusters, beside the process itself.

    Parameters
    ----------
    holdable
        Bytes that may be held over all layers that are clustered together.
    """
    if settings.method == "ward":
        return ward.memory(task.stops[-1], task.hidden)
    runs = task.runs(settings)
    plan = together(task, runs, holdable)
    some = max(plan.runs, key=lambda of: sum(run.k for run in of))
    sums = sum(run.k for run in some) * task.hidden * 8
    sampled = [run.k for run in runs if method(run.k, task.stops[-1], task.hidden, settings) == "k-means++"]
    sizes = {k: sample_size(k, task.stops[-1], settings) for k in sampled}
    sample = max(sizes.values(), default=0) * task.hidden
    scratch = BLOCK_ROWS * (18 * task.hidden + 6 * max(task.ks)) + 16 * PAIR_ROWS * task.hidden
    shard = min(task.shard_tokens, task.stops[-1]) * task.hidden * task.itemsize
    loaded = 2 * shard if plan.keep else (threads + 1) * 2 * shard
    # while first centroids are drawn nothing else goes on
    drawing = threads * max((drawn_bytes(rows, task.hidden, k) for k, rows in sizes.items()), default=0)
    working = max(drawing, (threads + 2) * sums + threads * scratch) + loaded
    return plan.nbytes + plan.layers * task.itemsize * sample + working


def rows(tasks: Sequence[Clustering], settings: Concepts, limits: Machine) -> list[dict[str, Any]]:
    """One row a selection: what fits memory together, and what a pass over all layers and runs takes on this machine.

    Seconds are those of a pass that compares every vector with every concept, at the speed of products measured here;
    most passes of a run compare a tenth to a half of that.
    """
    threads = limits.threads or (len(os.sched_getaffinity(0)) if limits.type == "serial" else 1)
    workers = limits.expected
    holdable = limits.memory_bytes // 2 * workers
    found = []
    pending = [Pending(task, task.layers) for task in tasks]
    apart = limits.type != "serial"
    whole = Counter(key.part[:-1] for key in chosen(pending, settings, limits.most, limits.memory_bytes // 2) if apart)
    rates: dict[tuple[int, int], float] = {}
    for task in tasks:
        row = {"selection": "/".join(task.part), "vectors": task.stops[-1], "layers": len(task.layers)}
        needed = PROCESS + memory(task, settings, holdable, threads)
        if settings.method == "ward":
            found.append({**row, "memory": needed})
            continue
        runs = task.runs(settings)
        plan = together(task, runs, holdable)
        work = 2 * task.stops[-1] * task.hidden * sum(run.k for run in runs) * len(task.layers)
        shape = task.hidden, max(task.ks)
        if shape not in rates:  # measuring takes a moment, and a study has thousands of selections
            rates[shape] = product_rate(*shape, limits.products)
        found.append(
            {
                **row,
                "runs": len(runs),
                "layers_side_by_side": whole[task.part],
                "layers_together": min(plan.layers, len(task.layers) - whole[task.part]),
                "runs_together": max(len(of) for of in plan.runs),
                "held": plan.keep,
                "bytes_read_a_pass": 0 if plan.keep else task.layer_bytes() * len(plan.runs) * len(task.layers),
                "seconds_a_whole_pass": work / (rates[shape] * threads * workers),
                "memory": needed,
            }
        )
    return found
