"""A fold over parts on Dask workers, in steps that are done where the parts lie."""

from asyncio import run_coroutine_threadsafe
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dask.distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError

from engine.workers import remote
from engine.workers.adding import HERE, Tree, merge
from engine.workers.placing import Group, Step, grouped, most_together, shared_out
from engine.workers.protocol import Held, failed, together
from schemas.errors import ColignError, TaskError, WorkersError
from schemas.task import Attempt, Key

LOOK = 2.0
"""Seconds after which lost processes are looked for."""

AHEAD = 4
"""Tasks in flight for each worker thread: enough to keep workers busy, few enough to keep results and graph small."""

_FEW = 2
"""Steps of held parts in flight for each worker: they are long, and one more waits while another is done."""

_DEALT = 2
"""Tasks a worker up to which Dask gives tasks to those that have what they need; of more it gives to who is idle."""

GONE = (OSError, CancelledError, AttributeError, ClosedClientError)
"""What Dask's client raises when the scheduler or workers are lost; one that has given up looks in vain for its own."""

Folded = tuple[dict[tuple[str, ...], Any], Attempt | None]
"""What steps gave for each part, and all that they took; None: there was no step."""


class _ForgottenError(Exception):
    """Dask will never do what is waited for."""


@dataclass(frozen=True)
class Fold:
    """One fold; see `engine.workers.protocol.Workers.fold`."""

    client: Client
    run: str
    """Name of the run, which those of its tasks hold."""
    submit: Callable[..., Future]
    """Hands out a task; see `engine.workers.cluster.ClusterWorkers`."""
    there: Callable[[], Sequence[str]]
    """Gives the addresses of the workers that there are now."""
    check: Callable[[], None]
    """Raises an error when no worker is there or can come; called now and then while steps are waited for."""
    function: Callable[..., Any]
    held: Held
    combine: Callable[[Any, Any], Any]
    args: Sequence[Any]
    exact: bool

    @cached_property
    def groups(self) -> list[Group]:
        """Keys that are held together."""
        return together(self.held.keys)

    def folded(self) -> Folded:
        """Do the steps, wherever each may be done, again if Dask forgets any."""
        try:
            return self._folded(self.places())
        except _ForgottenError:
            return self._folded({})

    def _folded(self, places: Mapping[Group, str]) -> Folded:
        few = self.exact and self.held.values is not None
        most = most_together(len(self.groups), self._slots()) if few else 1
        steps = grouped(self.groups, places, most) if few else [(one,) for one in self.groups]
        done = self._in_order(steps, places, _FEW if few and places else AHEAD)
        if self.exact and len(steps) > HERE:
            done = self._added_up(done, placed=bool(places))
        found: dict[tuple[str, ...], Any] = {}
        taken: Attempt | None = None
        for key, future in done:
            results, attempt = result_of(key, future, self.check)
            merge(found, results, self.combine)
            taken = attempt if taken is None else taken + attempt
        return found, taken

    def _slots(self) -> int:
        return max(1, len(self.there()))

    def _in_order(self, steps: Sequence[Step], places: Mapping[Group, str], ahead: int) -> Iterator[tuple[Key, Future]]:
        """Steps that are done, each with its first key, in their order; at most a window of them is under way."""
        # not a broadcast, which never ends when a process is lost in it
        shared = self.submit(remote.given, remote.Given(self.args))
        running: dict[Step, tuple[Future, str]] = {}

        def submit(step: Step, at: str = "") -> tuple[Future, str]:
            values = self.held.values
            loaded = self.held.load if values is None else [values[group[0]] for group in step]
            at = at if at in self.there() else ""
            future = self.submit(remote.step, self.run, self.function, self.combine, step, loaded, shared, at=at)
            return future, future.key if at else ""

        waiting = iter(steps)
        for step in steps:
            while len(running) < self._slots() * ahead and (following := next(waiting, None)) is not None:
                running[following] = submit(following, places.get(following[0], ""))
            while not self._is_done(*running[step]):
                for one, (future, name) in running.items():  # with it those that were forgotten at the same time
                    if one == step or (name and not future.done() and not self._is_at_work(name)):
                        running[one] = submit(one)
            yield step[0][0], running.pop(step)[0]

    def _added_up(self, done: Iterator[tuple[Key, Future]], *, placed: bool) -> Iterator[tuple[Key, Future]]:
        """A few sums of what many steps gave, each with a key that it is of.

        Parameters
        ----------
        placed
            Whether steps were given to certain workers: Dask may forget one whose result is lost.
        """

        def add(some: list[tuple[Key, Future]]) -> tuple[Key, Future]:
            return some[0][0], self.submit(remote.added, self.combine, *(future for _, future in some), first=True)

        tree = Tree(add)
        for one in done:
            tree.put(one)
        for key, future in tree.left:
            if not self._is_done(future, self.run if placed else ""):
                raise _ForgottenError
            yield key, future

    def _is_done(self, future: Future, name: str) -> bool:
        """Wait for a task; False if it may never be done: Dask forgets one whose worker is gone, or paused if all are.

        One that only waits for what it needs looks the same; nothing of it is done yet, so it can be given out again.

        Parameters
        ----------
        name
            What the keys hold of those tasks one of which is at work while it can still be done; empty: it always can.
        """
        while not future.done():
            try:
                future.exception(LOOK)
            except TimeoutError:
                self.check()
                if name and not self._is_at_work(name):
                    return bool(future.done())
        return True

    def _is_at_work(self, name: str) -> bool:
        """Whether a worker has a task whose key holds this name."""
        with suppress(*GONE):
            return any(name in key for keys in self.client.processing().values() for key in keys)
        return True

    def places(self) -> dict[Group, str]:
        """Workers at which groups are done: where they lie, for Dask copies cheaply and knows not what they remember.

        Of those that are streamed it deals out by itself all but the first, as many as it takes at once: they would all
        go to the worker that has what is shared.
        """
        if self.held.values is None:
            return dict(zip(self.groups, [*self.there()] * _DEALT, strict=False))
        futures = {group: self.held.values[group[0]] for group in self.groups}
        try:
            for future in futures.values():
                self._is_done(future, "")  # wait for it; what is wrong is told by the results
            known = self.client.who_has([*futures.values()])
        except GONE:
            return {}
        lying = {group: known[future.key] for group, future in futures.items() if known[future.key]}
        return shared_out(lying, self.there())


def lost(error: BaseException) -> WorkersError:
    """The error of a run whose scheduler or workers are gone."""
    return WorkersError(
        f"the Dask scheduler, or every worker, was lost ({error}); start it again, then run again to go on, finished "
        "tasks are kept"
    )


def result_of(key: Key, future: Future, check: Callable[[], None]) -> tuple[Any, Attempt]:
    """What a task gave, waited for, and what it took; raises its error, with its key.

    Parameters
    ----------
    check
        As of `Fold`: a result may be lost with its worker on the way.
    """
    client = future.client
    arriving = run_coroutine_threadsafe(client.gather(future, asynchronous=True), client.loop.asyncio_loop)
    try:
        while not wait([arriving], LOOK).done:
            check()
        result, attempt = arriving.result()
    except CancelledError as error:
        raise failed(key, lost(error)) from error
    except TaskError:  # of a step, which has named its key
        raise
    except KilledWorker as error:
        raise TaskError(
            f"{key}: {error.allowed_failures + 1} workers were lost while they did it, the last at "
            f"{error.last_worker.address}; their logs say why (too little memory?). Run again to go on, finished tasks "
            "are kept"
        ) from error
    except Exception as error:
        raise failed(key, error) from error
    finally:
        arriving.cancel()
    if isinstance(result, ColignError):
        raise result
    return result, attempt
