"""Dask workers, whoever starts them: tasks in any order, results in the order of their keys."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from dask.distributed import Future, LocalCluster, as_completed
from dask.utils import funcname
from distributed.client import ClosedClientError
from distributed.diagnostics.plugin import ForwardLoggingPlugin
from threadpoolctl import threadpool_limits

from engine.workers import launch, remote
from engine.workers.attempts import step_of
from engine.workers.folding import AHEAD, GONE, LOOK, Fold, lost, result_of
from engine.workers.protocol import Held, Observer, Poisoned, Usage, ignored, together
from engine.workers.queued import Queue
from schemas.errors import InputError, TaskError
from schemas.machine import QUEUED, STARTED, Machine
from schemas.task import Attempt, Key

_ANSWER = "30s"
"""Longest wait for a scheduler to answer."""

_LOGGERS = ("engine", "jobs")
"""Packages whose log is handed on from workers to this process."""


class ClusterWorkers:
    """Dask workers. Results are folded in key order where it shows, so their bits equal those of the serial workers."""

    apart = True

    def __init__(self, machine: Machine, *, models: bool = True) -> None:
        """Prepare workers; entering starts or reaches them. `models` as in `engine.workers.launch.start`."""
        self._machine, self._models = machine, models
        self._run = uuid4().hex[:8]  # a scheduler of others may serve several runs
        self.threads, self.products = machine.threads or 1, str(machine.products)
        self._cluster: Any = None
        self._queue: Queue | None = None
        self._ended = Event()
        self._seen: tuple[float, list[str]] = (-LOOK, [])
        self._used: tuple[float, Usage] | None = None
        self.observer: Observer = ignored

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Workers are shared: a copy of an estimator that has them uses the same."""
        return self

    def __enter__(self) -> Self:
        try:
            self._cluster = launch.start(self._machine, models=self._models)
            self._client = launch.connect(self._machine, self._cluster, _ANSWER)
            if self._machine.type == "slurm":
                self._queue = Queue(self._cluster)
                self._queue.wait(self._client)
            else:
                self._client.wait_for_workers(1, timeout=None if self._machine.type in QUEUED else _ANSWER)
            self._insist(self._client.register_plugin, remote.Prepared())
            for worker, state in self._client.scheduler_info().get("workers", {}).items():
                remote.check_worker(worker, state["nthreads"], state["memory_limit"], self._counted)
            self.require()  # the same of those that come later
            self._client.subscribe_topic(remote.ATTEMPTS, self._told)
            self._client.subscribe_topic(remote.LOGS, self._logged)
            for name in _LOGGERS:
                forward = ForwardLoggingPlugin(name, logging.WARNING, remote.LOGS)
                self._insist(self._client.register_plugin, forward, f"{remote.LOGS}-{name}")
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
        self._limits = threadpool_limits(limits=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_limits"):
            self._limits.restore_original_limits()
        self._ended.set()
        if hasattr(self, "_client"):
            self._sign_off()
            self._client.close()
        if self._cluster is not None:
            launch.close(self._cluster)

    def _sign_off(self) -> None:
        """Take this run's check from a scheduler that goes on: it would be made of all that come, and never hold."""
        if self._cluster is None and self._client.status == "running":
            ask = self._client.scheduler.unregister_worker_plugin
            with suppress(*GONE, ValueError):  # lost meanwhile, or none is there
                self._client.sync(ask, name=remote.admission(self._run), callback_timeout=_ANSWER)

    def _keep_whole(self, cluster: LocalCluster) -> None:
        """Start processes again in the place of those that were lost; Dask itself gives up one that dies as it starts.

        Without this a run whose last process is lost would wait forever.
        """
        count = len(cluster.worker_spec)
        while not self._ended.wait(LOOK):
            cluster.scale(count)

    @property
    def slots(self) -> int:
        """Tasks that run at once: one in each process."""
        return max(1, len(self._there()))

    def _there(self) -> list[str]:
        """Addresses of the processes. They come and go, so this is looked up now and then."""
        when, found = self._seen
        if monotonic() - when > LOOK:
            with suppress(*GONE):  # what is handed out tells
                found = [*self._client.nthreads()]
            self._seen = monotonic(), found
        return found

    @property
    def planned(self) -> int:
        return max(self.slots, self._machine.most)

    @property
    def memory(self) -> int:
        """Half of the processes' memory is for held parts, the other half for the work."""
        return self._machine.memory_bytes * self.slots // 2

    @property
    def _counted(self) -> int:
        """Memory that plans count on for each process of others; one that the run starts has what was asked for."""
        return 0 if self._machine.type in STARTED else self._machine.memory_bytes

    def at_once_here(self, nbytes: int) -> int:
        return max(1, min(len(os.sched_getaffinity(0)), self._machine.memory_bytes // 2 // nbytes))

    def usage(self) -> Usage:
        if self._used is None or monotonic() - self._used[0] > LOOK:
            self._used = monotonic(), self._look()
        return self._used[1]

    def _look(self) -> Usage:
        told = self._client.scheduler_info()
        if "workers" not in told:  # Dask gives nothing instead of an error
            raise OSError("the scheduler does not answer")
        workers = told["workers"].values()
        return Usage(
            len(workers),
            sum(worker["metrics"].get("executing", 0) > 0 for worker in workers),
            sum(worker["metrics"].get("memory", 0) for worker in workers),
            sum(worker["memory_limit"] for worker in workers),
            self._client.dashboard_link or "",
        )

    def _told(self, event: tuple[float, dict[str, Any]]) -> None:
        """An attempt has begun or failed on a worker, of this run or of another."""
        if event[1].get("run") == self._run:
            self.observer(Attempt(**event[1]["attempt"]), None)  # beside what Dask adds

    def _logged(self, event: tuple[float, dict[str, Any]]) -> None:
        """A worker has logged something, in a task of this run or outside of tasks."""
        if event[1].get("colign_run") in ("", None, self._run):
            record = logging.makeLogRecord(event[1])
            logging.getLogger(record.name).handle(record)

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        return str(self._client.scheduler.address)

    def _submit(self, function: Callable[..., Any], *args: Any, at: str = "", first: bool = False) -> Future:
        """Hand out a task.

        Parameters
        ----------
        at
            The worker that it is given to unless lost. One that is idle may still take it.
        first
            Whether it goes before others that wait there.
        """
        how: dict[str, Any] = {"workers": at, "allow_other_workers": True} if at else {}
        key = f"{funcname(function)}-{self._run}-{uuid4().hex}"
        try:
            return self._client.submit(
                function, *args, key=key, retries=self._machine.retries, priority=int(first), **how
            )
        except ClosedClientError as error:
            raise lost(error) from error

    def _insist(self, ask: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Ask something of every process, again where one was lost meanwhile."""
        for left in reversed(range(self._machine.retries + 1)):
            try:
                return ask(*args, **options)
            except (*GONE, KeyError, ValueError) as error:
                if not left:
                    raise lost(error) from error
                sleep(LOOK)
        return None

    def each(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        found = self._client.run(function, *args, on_error="return")
        return {worker: value for worker, value in found.items() if not isinstance(value, OSError)}  # lost on the way

    def require(self, check: Callable[..., None] | None = None, *args: Any) -> None:
        self._insist(self._client.register_plugin, remote.Admission(self._run, self._counted, check, *args))

    def map(
        self,
        function: Callable[..., Any],
        keys: Iterable[Key],
        *args: Any,
        own: Callable[[Key], tuple[Any, ...]] = lambda _: (),
        meanwhile: Callable[[], None] | None = None,
    ) -> Iterator[tuple[Key, Any]]:
        waiting = iter(keys)
        running: dict[Future, Key] = {}
        ended = as_completed()
        # Dask counts the loss of a worker against every task that waits there
        ahead = AHEAD if meanwhile is None else 1

        def hand_out() -> None:
            while len(running) < self.planned * ahead and (key := next(waiting, None)) is not None:
                future = self._submit(remote.attempt, self._run, function, key, *args, *own(key))
                running[future] = key
                ended.add(future)

        hand_out()
        poisoned = Poisoned()
        while running:
            if not self._has_ended(ended):
                hand_out()  # there may be more workers
                if meanwhile is not None:
                    meanwhile()
                continue
            future = next(ended)
            key = running.pop(future)
            try:
                result, attempt = result_of(key, future, self._check_queue)
            except TaskError as error:
                poisoned.add(error)
                hand_out()
                continue
            self.observer(attempt, result)
            hand_out()
            yield key, result
        poisoned.check()

    def _has_ended(self, futures: as_completed) -> bool:
        """Whether one of some futures has ended, maybe after a while."""
        with futures.thread_condition:
            ended = futures.thread_condition.wait_for(futures.has_ready, LOOK)
        if not ended:
            self._check_queue()
        return ended

    def _check_queue(self) -> None:
        """End a run that waits for jobs of which none is left."""
        if self._queue is not None and not self._there():
            self._queue.check(came=True)

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        fits = nbytes <= self.memory
        groups = together(keys) if fits else []
        values = {group[0]: self._submit(remote.load, self._run, load, group) for group in groups}
        return Held(tuple(keys), load, values if fits else None)

    def fold(
        self,
        function: Callable[..., Any],
        held: Held,
        combine: Callable[[Any, Any], Any],
        *args: Any,
        exact: bool = False,
    ) -> dict[tuple[str, ...], Any]:
        whole = Fold(
            self._client, self._run, self._submit, self._there, self._check_queue, function, held, combine, args, exact
        )
        folded, taken = whole.folded()
        if taken is not None:
            self.observer(replace(taken, key=step_of(held.keys)), None)
        return folded
