"""What runs in worker processes: tasks as Dask is given them, and how a process is made ready for them."""

import multiprocessing
import operator
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from multiprocessing.util import Finalize
from typing import Any

from dask.distributed import WorkerPlugin, get_worker
from threadpoolctl import threadpool_limits

from engine.allocator import reuse_blocks
from engine.workers.adding import merge
from engine.workers.attempts import Watch, logged, name_of, name_tasks_in_logs
from engine.workers.protocol import failed
from schemas.errors import ColignError, InputError
from schemas.task import Attempt, Key

ATTEMPTS, LOGS = "colign-attempts", "colign-logs"
"""Topics under which workers tell of attempts, and hand on logs, of all runs: a scheduler never forgets a topic."""


class Prepared(WorkerPlugin):  # type: ignore[misc]  # dask ships no types
    """Every worker process, those that replace killed ones included: algebra on one thread, tasks named in the log."""

    name = "colign-prepared"

    def setup(self, worker: Any) -> None:
        threadpool_limits(limits=1)
        reuse_blocks()  # parts may come from another process, which alone has loaded them
        name_tasks_in_logs()
        if multiprocessing.parent_process() is not None:
            Finalize(None, _leave, exitpriority=-(2**31))  # after all that Python itself has to end


def _leave() -> None:
    """End this process as it is: libraries of C++ may wait for ever in their last steps, until a nanny kills them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


_REFUSED: dict[str, ColignError] = {}
"""Why this process does no tasks, by run. It stays when the run has ended: tasks may still wait here."""


class Admission(WorkerPlugin):  # type: ignore[misc]
    """A run's check in every worker process, before its first task, of those that come later too.

    A process that fails it answers every task of that run with the error, which ends the run: if it were closed
    instead, a queue would start it again and again in the same place. One scheduler may serve several runs, of which
    each has a check of its own.
    """

    def __init__(self, run: str, memory: int, check: Callable[..., None] | None = None, *args: Any) -> None:
        self.name = admission(run)
        self._run, self._memory, self._check, self._args = run, memory, check, args

    def setup(self, worker: Any) -> None:
        _REFUSED.pop(self._run, None)
        try:
            limit = worker.memory_manager.memory_limit or 0
            check_worker(worker.address, worker.state.nthreads, limit, self._memory)
            if self._check is not None:
                self._check(*self._args)
        except Exception as error:  # whatever it is, this process cannot be trusted with tasks
            kind = "" if isinstance(error, ColignError) else f"{type(error).__name__}: "
            why = f"worker {worker.address} has come later and cannot be used: {kind}{error}"
            _REFUSED[self._run] = InputError(why)


def admission(run: str) -> str:
    """What Dask calls the check of a run."""
    return f"colign-admission-{run}"


def check_worker(worker: str, threads: int, limit: int, memory: int) -> None:
    """Refuse a worker that has not what plans count on: one task at once, and so much memory; a limit of 0 is none.

    Raises
    ------
    InputError
        It has not; the message says how to start it.
    """
    if threads > 1:
        raise InputError(
            f"worker {worker} runs {threads} tasks at once, and a task's memory is planned for a process of "
            "its own; start workers with --nthreads 1, one process a core"
        )
    has, needs = (round(size / 2**30, 2) for size in (limit, memory))  # as Dask shows them, and people copy them
    if limit and has < needs:
        raise InputError(
            f"worker {worker} may use {has:.2f} GiB, and the plan counts on {needs:.2f} GiB for each, so it would be "
            f"paused or killed at work; write memory: {has:.2f} in the machine file, or start workers with "
            f"--memory-limit {needs:.2f}GiB or more"
        )


def _guarded(run: str, function: Callable[..., Any], key: Key, *args: Any) -> Any:
    """Errors that a user can act upon are results: trying again would not mend them, so Dask must not retry."""
    if run in _REFUSED:
        return failed(key, _REFUSED[run])
    try:
        with logged(key, run):
            return function(key, *args)
    except ColignError as error:
        return failed(key, error)


def _named(run: str, function: Callable[..., Any], key: Key, *args: Any) -> Any:
    """As `_guarded`, for steps of several parts: other errors, which Dask tries again, name the one that failed."""
    try:
        return _guarded(run, function, key, *args)
    except Exception as error:
        raise failed(key, error) from error


def attempt(run: str, function: Callable[..., Any], key: Key, *args: Any) -> tuple[Any, Attempt]:
    """Do a task; its beginning and its failure are told at once, because its worker may be lost."""
    watch = Watch(str(key))
    _tell(run, watch.begun)
    try:
        result = _guarded(run, function, key, *args)
    except Exception as error:
        _tell(run, watch.ended(error))
        raise
    if isinstance(result, ColignError):
        _tell(run, watch.ended(result))
    return result, watch.ended()


@dataclass(frozen=True)
class Given:
    """What all steps of a pass are given; in this, so that Dask does not look for futures in it."""

    args: Sequence[Any]


def given(what: Given) -> Given:
    """It, as the result of a task: Dask makes it again where it is lost."""
    return what


def load(run: str, load: Callable[[Key], Any], group: Sequence[Key]) -> list[Any]:
    """Load the parts of a group, in its order."""
    return [_named(run, load, key) for key in group]


def step(
    run: str,
    function: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    groups: Sequence[Sequence[Key]],
    loaded: list[list[Any]] | Callable[[Key], Any],
    shared: Given,
) -> tuple[Any, Attempt]:
    """Do a step of some keys, and combine the results of each part; what it took is told with them."""
    keys = [key for group in groups for key in group]
    watch = Watch(str(keys[0]), name_of(function), len(keys))
    values = (_named(run, loaded, key) for key in keys) if callable(loaded) else chain.from_iterable(loaded)
    combined: dict[tuple[str, ...], Any] = {}
    for key, value in zip(keys, values, strict=True):
        result = value if isinstance(value, ColignError) else _named(run, function, key, value, *shared.args)
        if isinstance(result, ColignError):
            return result, watch.ended()
        merge(combined, {key.part: result}, combine)
    return combined, watch.ended()


def added(combine: Callable[[Any, Any], Any], *outcomes: tuple[Any, Attempt]) -> tuple[Any, Attempt]:
    """What several steps gave, in one; the first error among them."""
    total: dict[tuple[str, ...], Any] = {}
    for results, attempt in outcomes:
        if isinstance(results, ColignError):
            return results, attempt
        merge(total, results, combine)
    return total, reduce(operator.add, [attempt for _, attempt in outcomes])


def _tell(run: str, attempt: Attempt) -> None:
    get_worker().log_event(ATTEMPTS, {"run": run, "attempt": attempt.to_dict()})
