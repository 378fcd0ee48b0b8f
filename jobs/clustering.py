"""What clustering will take, by arithmetic alone."""

from engine import ward
from engine.concepts import Clustering, together
from engine.kernels.lloyd import BLOCK_ROWS, PAIR_ROWS
from engine.seeding import method, sample_size
from schemas.study import Concepts


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
    sample = max((sample_size(k, task.stops[-1], settings) for k in sampled), default=0) * task.hidden
    scratch = BLOCK_ROWS * (18 * task.hidden + 6 * max(task.ks)) + 16 * PAIR_ROWS * task.hidden
    shard = min(task.shard_tokens, task.stops[-1]) * task.hidden * task.itemsize
    loaded = 2 * shard if plan.keep else (threads + 1) * 2 * shard
    # while first centroids are drawn nothing else goes on
    working = max(threads * 20 * sample, (threads + 2) * sums + threads * scratch) + loaded
    return plan.nbytes + plan.layers * task.itemsize * sample + working


def passes(
    task: Clustering, settings: Concepts, holdable: int, threads: int, rate: float
) -> dict[str, int | float | str | bool]:
    """What one pass over a selection takes, whole layers and all runs.

    Parameters
    ----------
    rate
        Multiplications and additions a second of one thread in matrix products.
    """
    runs = task.runs(settings)
    plan = together(task, runs, holdable)
    work = 2 * task.stops[-1] * task.hidden * sum(run.k for run in runs)
    return {
        "checkpoint": task.part[0],
        "stack": task.part[1],
        "selection": task.part[2],
        "vectors": task.stops[-1],
        "layers": len(task.layers),
        "layers_together": min(plan.layers, len(task.layers)),
        "runs_together": max(len(of) for of in plan.runs),
        "held": plan.keep,
        "bytes_a_pass": 0 if plan.keep else task.layer_bytes() * len(plan.runs),
        "seconds_a_whole_pass": work / rate / threads,
    }
