"""Layers of any selections: side by side, each whole on one worker, as far as they fit there and keep all at work.

Such a layer waits for no other worker between its passes, and nothing passes through the driver; it takes the same
steps in the same order as spread over all workers, so its bits are the same.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import store
from engine.allocator import give_back_holes
from engine.concepts import Clustering, cluster, together
from engine.parts import Layer, room
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import BudgetError, InputError, TaskError
from schemas.study import Concepts
from schemas.task import Key

_ROUNDS = 3
"""Layers for each worker from which on it costs little if the last ones leave workers idle."""

_LOOK = 10.0
"""Seconds after which a worker looks whether its store is still there."""


Done = Callable[[Key, float, dict[str, Any]], Any]
"""Told of a layer that is written."""


@dataclass(frozen=True)
class Wanted:
    """Layers of one selection that are to be clustered."""

    task: Clustering
    layers: tuple[int, ...]
    checkpoints: str | None = None
    """Folder for the centroids of every iteration, from which a lost worker or driver goes on."""

    @property
    def keys(self) -> list[Key]:
        """One for each layer."""
        return [Key("concepts", (*self.task.part, str(layer))) for layer in self.layers]


def cluster_all(
    wanted: Sequence[Wanted],
    settings: Concepts,
    workers: Workers,
    progress: Callable[[str], None] = lambda _: None,
    *,
    done: Done,
    lay_out: Callable[[Clustering], None] = lambda _: None,
    start: NDArray[np.floating] | None = None,
) -> Iterator[Key]:
    """Cluster layers of selections; yields the key of each that is done.

    Parameters
    ----------
    done
        Called where a layer was clustered when its results are written, with its key, when it was begun (seconds since
        the epoch), and small numbers.
    lay_out
        Lays out the CONCEPTS dataset of a selection; called before its layers are begun, maybe again.
    start
        (concept, hidden) first centroids of every run and layer, in place of drawn ones.

    Raises
    ------
    InputError, BudgetError
        As `engine.concepts.cluster`.
    """
    if not any(one.layers for one in wanted):
        return
    of = {one.task.part: one for one in wanted}
    memory = room(workers) // workers.slots
    # one process does them all in turn, and tells of every iteration
    whole = chosen(wanted, settings, workers.slots, memory) if workers.apart else []

    def handed_out() -> Iterator[Key]:
        ready = set()
        for key in whole:
            if key.part[:-1] not in ready:
                lay_out(of[key.part[:-1]].task)
                ready.add(key.part[:-1])
            yield key

    if whole:
        progress(f"{len(whole)} layers side by side, each on one worker")
        given = settings, workers.threads, memory, workers.products, start, done
        for key, _ in workers.map(_cluster_layer, handed_out(), of, *given):
            yield key
    began = time.time()
    taken = set(whole)
    for one in wanted:
        if left := [int(key.part[-1]) for key in one.keys if key not in taken]:
            lay_out(one.task)
            say = partial(_say, progress, "/".join(one.task.part))
            for layer, outcome in cluster(
                one.task, left, settings, workers, say, start=start, checkpoints=one.checkpoints
            ):
                key = Key("concepts", (*one.task.part, str(layer)))
                done(key, began, outcome)
                began = time.time()  # of layers that advance together the first has taken the time
                yield key


def _say(progress: Callable[[str], None], name: str, words: str) -> None:
    progress(f"{name}: {words}")


def chosen(wanted: Sequence[Wanted], settings: Concepts, slots: int, memory: int) -> list[Key]:
    """Layers that one worker each clusters, those of many words first.

    Parameters
    ----------
    slots
        Number of workers.
    memory
        Bytes that each may hold.
    """
    fitting = [one for one in wanted if settings.method == "ward" or _fits(one.task, settings, memory)]
    fitting.sort(key=lambda one: -one.task.stops[-1])
    keys = [key for one in fitting for key in one.keys]
    return keys if settings.method == "ward" else keys[spread(len(keys), slots) :]


def _fits(task: Clustering, settings: Concepts, memory: int) -> bool:
    """Whether a layer with all its runs fits the memory (bytes) of one worker."""
    try:
        plan = together(task, task.runs(settings), memory)
    except BudgetError:
        return False
    return plan.keep and len(plan.runs) == 1


def spread(layers: int, workers: int) -> int:
    """How many of some layers that fit one worker are better spread over all, so that none is idle for long.

    Examples
    --------
    >>> [spread(layers, 8) for layers in (5, 6, 8, 9, 14, 21, 25)]
    [5, 0, 0, 1, 0, 5, 0]
    """
    last = layers % workers
    return 0 if layers >= _ROUNDS * workers or 4 * last >= 3 * workers else last


def _cluster_layer(
    key: Key,
    wanted: Mapping[Layer, Wanted],
    settings: Concepts,
    threads: int,
    memory: int,
    products: str,
    start: NDArray[np.floating] | None,
    done: Done,
) -> None:
    """Cluster one layer in this process."""
    give_back_holes()  # of the tasks before
    one = wanted[key.part[:-1]]
    made = _made(one.task)
    began, looked = time.time(), time.monotonic()

    def look(_: str) -> None:
        """End with the run that this belongs to: Dask cannot stop what is at work, and another may have begun."""
        nonlocal looked
        if time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            if _made(one.task) != made:
                raise InputError(f"{one.task.path}: another run has replaced it meanwhile; look at that run")

    with SerialWorkers(threads, memory, products) as here:
        layers = [int(key.part[-1])]
        try:
            for _, outcome in cluster(one.task, layers, settings, here, look, start=start, checkpoints=one.checkpoints):
                done(key, began, outcome)
            return
        except TaskError as error:
            cause = error.__cause__ or error
    raise cause  # which Dask tries again; out here, lest it be the cause of its own cause: Dask would follow for ever


def _made(task: Clustering) -> Any:
    """What tells a store from another in its place."""
    return (store.attributes(task.path) or {}).get("fingerprint")
