"""Layers of any selections: side by side, each whole on one worker, as far as they fit there and keep all at work.

Such a layer waits for no other worker between its passes, and nothing passes through the driver; it takes the same
steps in the same order as spread over all workers, so its bits are the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import paths, store
from engine.allocator import give_back_holes
from engine.concepts import Clustering, cluster, together
from engine.parts import room
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import BudgetError, InputError, TaskError
from schemas.study import Concepts
from schemas.task import Key

_ROUNDS = 3
"""Layers for each worker from which on it costs little if the last ones leave workers idle."""

_BUSY = 0.75
"""Share of the workers that are at work when layers are left as they are, and not spread."""


@dataclass(frozen=True)
class Pending:
    """Layers of one selection that are to be clustered."""

    task: Clustering
    layers: tuple[int, ...]
    checkpoints: str | None = None
    """Folder for the centroids of every iteration, from which a lost worker or driver goes on."""
    fingerprint: str | None = None
    """That of the dataset which is written."""

    @property
    def keys(self) -> list[Key]:
        """One for each layer."""
        return [Key("concepts", (*self.task.part, str(layer))) for layer in self.layers]


def cluster_all(
    pending: Sequence[Pending],
    settings: Concepts,
    workers: Workers,
    progress: Callable[[str], None] = lambda _: None,
    *,
    lay_out: Callable[[Clustering], None] = lambda _: None,
    start: NDArray[np.floating] | None = None,
) -> Iterator[tuple[Key, float, dict[str, Any]]]:
    """Cluster layers of selections; yields what is written: key, seconds that it took, and small numbers.

    Parameters
    ----------
    lay_out
        Lays out the CONCEPTS dataset of a selection; called before its layers are begun, maybe again.
    start
        (concept, hidden) first centroids of every run and layer, in place of drawn ones.

    Raises
    ------
    InputError, BudgetError
        As `engine.concepts.cluster`.
    """
    if not any(one.layers for one in pending):
        return
    of = {one.task.part: one for one in pending}
    memory = room(workers) // workers.slots
    # one process does them all in turn, and tells of every iteration
    whole = chosen(pending, settings, workers.planned, memory) if workers.apart else []

    def handed_out() -> Iterator[Key]:
        ready = set()
        for key in whole:
            if key.part[:-1] not in ready:
                lay_out(of[key.part[:-1]].task)
                ready.add(key.part[:-1])
            yield key

    def own(key: Key) -> tuple[Pending]:
        return (of[key.part[:-1]],)

    def told() -> None:
        progress(f"{len(whole)} layers side by side, each on one worker")

    given = settings, workers.threads, memory, workers.products, start
    if whole:
        told()
        for key, (seconds, outcome) in workers.map(_cluster_layer, handed_out(), *given, own=own, meanwhile=told):
            yield key, seconds, outcome
            if (folder := of[key.part[:-1]].checkpoints) is not None:
                paths.remove(paths.join(folder, key.part[-1]))  # now that what was yielded is kept
    began = time.monotonic()
    taken = set(whole)
    for one in pending:
        if left := [key for key in one.keys if key not in taken]:
            lay_out(one.task)
            say = partial(_say, progress, "/".join(one.task.part))
            layers = [int(key.part[-1]) for key in left]
            for layer, outcome in cluster(
                one.task, layers, settings, workers, say, start=start, checkpoints=one.checkpoints
            ):
                # of layers that advance together the first has taken the time
                yield left[layers.index(layer)], time.monotonic() - began, outcome
                began = time.monotonic()


def _say(progress: Callable[[str], None], name: str, words: str) -> None:
    progress(f"{name}: {words}")


def chosen(pending: Sequence[Pending], settings: Concepts, workers: int, memory: int) -> list[Key]:
    """Layers that one worker each clusters, those of many words first. Ward's stay in the driver: SciPy's trees hold a
    process up for so long that Dask would take it for lost.

    Parameters
    ----------
    memory
        Bytes that each worker may hold.
    """
    if settings.method == "ward":
        return []
    fitting = [one for one in pending if _fits(one.task, settings, memory)]
    fitting.sort(key=lambda one: -one.task.stops[-1])
    sizes = [one.task.stops[-1] for one in fitting for _ in one.layers]
    return [key for one in fitting for key in one.keys][spread(sizes, workers) :]


def _fits(task: Clustering, settings: Concepts, memory: int) -> bool:
    """Whether a layer with all its runs fits the memory (bytes) of one worker."""
    try:
        plan = together(task, task.runs(settings), memory)
    except BudgetError:
        return False
    return plan.keep and len(plan.runs) == 1


def spread(sizes: Sequence[int], workers: int) -> int:
    """How many of the first of some layers are better spread over all workers, so that none is idle for long.

    Parameters
    ----------
    sizes
        Vectors of each layer, decreasing.

    Examples
    --------
    >>> [spread([1] * layers, 8) for layers in (5, 6, 8, 9, 14, 21, 25)]
    [5, 0, 0, 1, 0, 5, 0]
    >>> spread([100] * 13 + [1] * 1300, 64)  # others are done long before a large one would be
    13
    """
    left, large = sum(sizes), 0
    while large < len(sizes) and sizes[large] * workers * _BUSY > left:
        left -= sizes[large]
        large += 1
    rest = len(sizes) - large
    last = rest % workers
    return large + (0 if rest >= _ROUNDS * workers or last >= _BUSY * workers else last)


def _cluster_layer(
    key: Key,
    settings: Concepts,
    threads: int,
    memory: int,
    products: str,
    start: NDArray[np.floating] | None,
    one: Pending,
) -> tuple[float, dict[str, Any]]:
    """Cluster one layer in this process; its checkpoints stay until what this returns is kept."""
    give_back_holes()  # of the tasks before
    began = time.monotonic()

    def look(*_: str) -> None:
        """End with the run that this belongs to: Dask cannot stop what is at work, and another may have begun."""
        if (store.attributes(one.task.path) or {}).get("fingerprint") != one.fingerprint:
            raise InputError(f"{one.task.path}: another run has replaced it meanwhile; look at that run")

    look()
    with SerialWorkers(threads, memory, products) as here:
        layers = [int(key.part[-1])]
        try:
            steps = cluster(
                one.task, layers, settings, here, look,
                start=start, checkpoints=one.checkpoints, before_labels=look,
            )  # fmt: skip
            _, outcome = next(steps)
            return time.monotonic() - began, outcome
        except TaskError as error:
            cause = error.__cause__ or error
    raise cause  # which Dask tries again; out here, lest it be the cause of its own cause: Dask would follow for ever
