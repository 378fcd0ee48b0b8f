"""Dask workers, whoever starts them: tasks in any order, results in the order of their keys."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from multiprocessing.util import Finalize
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from dask.distributed import Future, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker, wait
from threadpoolctl import threadpool_limits

from engine.workers import launch
from engine.workers.attempts import Watch, logged, name_of, name_tasks_in_logs, step_of
from engine.workers.protocol import Held, Observer, Poisoned, Usage, failed, ignored, together
from schemas.errors import ColignError, InputError, TaskError, WorkersError
from schemas.machine import QUEUED, Machine
from schemas.task import Attempt, Key

_ANSWER = "30s"
"""Longest wait for a scheduler to answer."""

_LOOK = 2.0
"""Seconds after which lost processes are looked for."""

_LOGGERS = ("engine", "jobs")
"""Packages whose log is handed on from workers to this process."""

_TOPIC = "colign-attempts"
"""Topic under which workers tell of attempts."""

_AHEAD = 4
"""Tasks in flight for each worker thread: enough to keep workers busy, few enough to keep results and graph small."""


class ClusterWorkers:
    """Dask workers. Every result is folded in key order, so the bits equal those of the serial workers."""

    def __init__(self, machine: Machine) -> None:
        """Prepare workers; entering starts or reaches them."""
        self._machine = machine
        self.threads, self.products = machine.threads or 1, str(machine.products)
        self._cluster: Any = None
        self._ended = Event()
        self._seen: tuple[float, int] = (-_LOOK, 0)
        self._used: tuple[float, Usage] | None = None
        self.observer: Observer = ignored

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Workers are shared: a copy of an estimator that has them uses the same."""
        return self

    def __enter__(self) -> Self:
        try:
            self._cluster = launch.start(self._machine)
            self._client = launch.connect(self._machine, self._cluster, _ANSWER)
            self._client.wait_for_workers(1, timeout=None if self._machine.type in QUEUED else _ANSWER)
            self._client.register_plugin(_Prepared())
            self._client.register_plugin(_Admission())  # in the place of what another run may have left
            self._client.subscribe_topic(_TOPIC, self._told)
            for name in _LOGGERS:
                self._client.forward_logging(name, logging.WARNING)
        except (OSError, ValueError) as error:  # no answer; no worker; not an address
            self.__exit__(None, None, None)  # a client left open would stay the one that Dask computes with
            raise InputError(
                f"no Dask scheduler with a worker answers at {launch.where(self._machine)} within {_ANSWER} ({error}); "
                "start them, or correct the address in the machine file (tls:// where they use TLS)"
            ) from error
        except BaseException:  # also while it waits in a queue
            self.__exit__(None, None, None)
            raise
        if isinstance(self._cluster, LocalCluster) and self._machine.adaptive is None:
            Thread(target=self._keep_whole, args=(self._cluster,), daemon=True).start()
        for worker, threads in self._client.nthreads().items():
            try:
                _check_threads(worker, threads)
            except InputError:
                self.__exit__(None, None, None)
                raise
        self._limits = threadpool_limits(limits=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_limits"):
            self._limits.restore_original_limits()
        self._ended.set()
        if hasattr(self, "_client"):
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _keep_whole(self, cluster: LocalCluster) -> None:
        """Start processes again in the place of those that were lost; Dask itself gives up one that dies as it starts.

        Without this a run whose last process is lost would wait forever.
        """
        count = len(cluster.worker_spec)
        while not self._ended.wait(_LOOK):
            cluster.scale(count)

    @property
    def slots(self) -> int:
        """Tasks that run at once: one in each process. Processes come and go, so this is looked up now and then."""
        when, count = self._seen
        if monotonic() - when > _LOOK:
            count = max(1, len(self._client.nthreads()))
            self._seen = monotonic(), count
        return count

    @property
    def memory(self) -> int:
        """Half of the processes' memory is for held parts, the other half for the work."""
        return self._machine.memory_bytes * self.slots // 2

    def at_once_here(self, nbytes: int) -> int:
        return max(1, min(len(os.sched_getaffinity(0)), self._machine.memory_bytes // 2 // nbytes))

    def usage(self) -> Usage:
        if self._used is None or monotonic() - self._used[0] > _LOOK:
            self._used = monotonic(), self._look()
        return self._used[1]

    def _look(self) -> Usage:
        workers = self._client.scheduler_info()["workers"].values()
        return Usage(
            len(workers),
            sum(worker["metrics"].get("executing", 0) > 0 for worker in workers),
            sum(worker["metrics"].get("memory", 0) for worker in workers),
            sum(worker["memory_limit"] for worker in workers),
            self._client.dashboard_link or "",
        )

    def _told(self, event: tuple[float, dict[str, Any]]) -> None:
        """An attempt has begun or failed on a worker."""
        self.observer(Attempt(**event[1]["attempt"]), None)  # beside what Dask adds

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        return str(self._client.scheduler.address)

    def _submit(self, function: Callable[..., Any], *args: Any) -> Future:
        return self._client.submit(function, *args, pure=False, retries=self._machine.retries)

    def _share(self, args: Sequence[Any]) -> list[Any]:
        """Send what all tasks need to every process."""
        for left in reversed(range(self._machine.retries + 1)):
            try:
                return list(self._client.scatter(list(args), broadcast=True, hash=False)) if args else []
            except (
                OSError,
                TimeoutError,
                KeyError,
                ValueError,
                CancelledError,
            ) as error:  # a process was lost meanwhile
                if not left:
                    raise _lost(error) from error
                sleep(_LOOK)
        return []

    def each(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        found = self._client.run(function, *args, on_error="return")
        return {worker: value for worker, value in found.items() if not isinstance(value, OSError)}  # lost on the way

    def require(self, check: Callable[..., None], *args: Any) -> None:
        self._client.register_plugin(_Admission(check, *args))

    def map(self, function: Callable[..., Any], keys: Iterable[Key], *args: Any) -> Iterator[tuple[Key, Any]]:
        waiting = iter(keys)
        running: dict[Future, Key] = {}
        ended = as_completed()

        def hand_out() -> None:
            while len(running) < self.slots * _AHEAD and (key := next(waiting, None)) is not None:
                future = self._submit(_attempt, function, key, *args)
                running[future] = key
                ended.add(future)

        hand_out()
        poisoned = Poisoned()
        for future in ended:
            key = running.pop(future)
            try:
                result, attempt = _result(key, future)
            except TaskError as error:
                poisoned.add(error)
                hand_out()
                continue
            self.observer(attempt, result)
            hand_out()
            yield key, result
        poisoned.check()

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        fits = nbytes <= self.memory
        values = {group[0]: self._submit(_load, load, group) for group in together(keys)} if fits else None
        return Held(tuple(keys), load, values)

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[[Any, Any], Any], *args: Any
    ) -> dict[tuple[str, ...], Any]:
        shared = self._share(args)
        taken: Attempt | None = None

        def submit(group: tuple[Key, ...]) -> Future:
            loaded = held.load if held.values is None else held.values[group[0]]
            return self._submit(_step, function, combine, group, loaded, *shared)

        folded: dict[tuple[str, ...], Any] = {}
        running: dict[tuple[Key, ...], Future] = {}
        groups = together(held.keys)
        waiting = iter(groups)
        for group in groups:  # results are taken in key order; at most a window of them exists at once
            while len(running) < self.slots * _AHEAD and (following := next(waiting, None)) is not None:
                running[following] = submit(following)
            for _ in range(self._machine.retries):
                with suppress(CancelledError):
                    wait(running[group])
                if not running[group].cancelled():
                    break
                # every process that had what is shared was lost: unlike results, Dask cannot make it again
                shared = self._share(args)
                running = {other: submit(other) for other in running}
            result, attempt = _result(group[0], running.pop(group))
            part = group[0].part
            folded[part] = combine(folded[part], result) if part in folded else result
            taken = attempt if taken is None else taken + attempt
        if taken is not None:
            self.observer(replace(taken, key=step_of(held.keys)), None)
        return folded


class _Prepared(WorkerPlugin):  # type: ignore[misc]  # dask ships no types
    """Every worker process, those that replace killed ones included: algebra on one thread, tasks named in the log."""

    name = "colign-prepared"

    def setup(self, worker: Any) -> None:
        threadpool_limits(limits=1)
        name_tasks_in_logs()
        if multiprocessing.parent_process() is not None:
            Finalize(None, _leave, exitpriority=-(2**31))  # after all that Python itself has to end


def _leave() -> None:
    """End this process as it is: libraries of C++ may wait for ever in their last steps, until a nanny kills them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


class _Admission(WorkerPlugin):  # type: ignore[misc]
    """A check in every worker process, before its first task, of those that come later too; without one, none.

    A process that fails it answers every task with the error, which ends the run: if it were closed instead, a queue
    would start it again and again in the same place.
    """

    name = "colign-admission"
    refusal: ColignError | None = None
    """Of this process."""

    def __init__(self, check: Callable[..., None] | None = None, *args: Any) -> None:
        self._check, self._args = check, args

    def setup(self, worker: Any) -> None:
        _Admission.refusal = None
        if self._check is None:
            return
        try:
            _check_threads(worker.address, worker.state.nthreads)
            self._check(*self._args)
        except Exception as error:  # whatever it is, this process cannot be trusted with tasks
            kind = "" if isinstance(error, ColignError) else f"{type(error).__name__}: "
            _Admission.refusal = InputError(f"worker {worker.address} has come later and cannot be used: {kind}{error}")


def _check_threads(worker: str, threads: int) -> None:
    if threads > 1:
        raise InputError(
            f"worker {worker} runs {threads} tasks at once, and a task's memory is planned for a process of "
            "its own; start workers with --nthreads 1, one process a core"
        )


def _guarded(function: Callable[..., Any], key: Key, *args: Any) -> Any:
    """Errors that a user can act upon are results: trying again would not mend them, so Dask must not retry."""
    if _Admission.refusal is not None:
        return _Admission.refusal
    try:
        with logged(key):
            return function(key, *args)
    except ColignError as error:
        return error


def _attempt(function: Callable[..., Any], key: Key, *args: Any) -> tuple[Any, Attempt]:
    """Do a task; its beginning and its failure are told at once, because its worker may be lost."""
    watch = Watch(str(key))
    _tell(watch.begun)
    try:
        result = _guarded(function, key, *args)
    except Exception as error:
        _tell(watch.ended(error))
        raise
    if isinstance(result, ColignError):
        _tell(watch.ended(result))
    return result, watch.ended()


def _load(load: Callable[[Key], Any], group: Sequence[Key]) -> list[Any]:
    return [_guarded(load, key) for key in group]


def _step(
    function: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    group: Sequence[Key],
    loaded: list[Any] | Callable[[Key], Any],
    *args: Any,
) -> tuple[Any, Attempt]:
    """Do a step of some parts that follow one another, and combine the results; what it took is told with them."""
    watch = Watch(str(group[0]), name_of(function), len(group))
    combined: Any = None
    for number, key in enumerate(group):
        value = _guarded(loaded, key) if callable(loaded) else loaded[number]
        result = value if isinstance(value, ColignError) else _guarded(function, key, value, *args)
        if isinstance(result, ColignError):
            return failed(key, result), watch.ended()
        combined = combine(combined, result) if number else result
    return combined, watch.ended()


def _tell(attempt: Attempt) -> None:
    get_worker().log_event(_TOPIC, {"attempt": attempt.to_dict()})


def _lost(error: BaseException) -> WorkersError:
    return WorkersError(
        f"the Dask scheduler, or every worker, was lost ({error}); start it again, then run again to go on, finished "
        "tasks are kept"
    )


def _result(key: Key, future: Future) -> Any:
    try:
        result, attempt = future.result()
    except CancelledError as error:
        raise failed(key, _lost(error)) from error
    except KilledWorker as error:
        raise TaskError(
            f"{key}: {error.allowed_failures + 1} workers were lost while they did it, the last at "
            f"{error.last_worker.address}; their logs say why (too little memory?). Run again to go on, finished tasks "
            "are kept"
        ) from error
    except Exception as error:
        raise failed(key, error) from error
    if isinstance(result, ColignError):
        raise failed(key, result)
    return result, attempt
