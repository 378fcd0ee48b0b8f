"""The serial workers: everything in this process. They define the meaning of the verbs."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from threadpoolctl import threadpool_limits

from engine.workers.attempts import Watch, logged, name_of, resident_bytes, step_of
from engine.workers.protocol import Held, Observer, Poisoned, Usage, failed, ignored, together
from schemas.errors import TaskError
from schemas.task import Key

_SWITCH = 1e-4
"""Seconds after which a waiting thread is let in: threads that wait for one another between short products."""


class SerialWorkers:
    """One process: one task after the other; the parts of a fold side by side on threads, each with its own algebra."""

    slots, planned, apart = 1, 1, False

    def __init__(self, threads: int = 1, memory: int = 2**30, products: str = "auto") -> None:
        self.threads, self.memory, self.products = threads, memory, products
        self.observer: Observer = ignored

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Workers are shared: a copy of an estimator that has them uses the same."""
        return self

    def __enter__(self) -> Self:
        self._limits = threadpool_limits(limits=1)
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        self._pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()
        sys.setswitchinterval(self._switch)

    def at_once_here(self, nbytes: int) -> int:
        return self.threads

    def each(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        return {}

    def require(self, check: Callable[..., None], *args: Any) -> None:
        pass

    def map(
        self,
        function: Callable[..., Any],
        keys: Iterable[Key],
        *args: Any,
        own: Callable[[Key], tuple[Any, ...]] = lambda _: (),
        meanwhile: Callable[[], None] | None = None,
    ) -> Iterator[tuple[Key, Any]]:
        poisoned = Poisoned()
        for key in keys:
            watch = Watch(str(key))
            self.observer(watch.begun, None)
            try:
                result = _call(key, function, key, *args, *own(key))
            except Exception as error:
                self.observer(watch.ended(error.__cause__ or error), None)
                if not isinstance(error, TaskError):
                    raise
                poisoned.add(error)
                continue
            self.observer(watch.ended(), result)
            yield key, result
        poisoned.check()

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        fits = nbytes <= self.memory
        return Held(tuple(keys), load, {key: _call(key, load, key) for key in keys} if fits else None)

    def fold(
        self,
        function: Callable[..., Any],
        held: Held,
        combine: Callable[[Any, Any], Any],
        *args: Any,
        exact: bool = False,
    ) -> dict[tuple[str, ...], Any]:
        def task(key: Key) -> Any:
            value = held.values[key] if held.values is not None else _call(key, held.load, key)
            return _call(key, function, key, value, *args)

        if not held.keys:
            return {}
        watch = Watch(step_of(held.keys), name_of(function), len(held.keys))
        groups = together(held.keys)
        first, last = {group[0] for group in groups}, {group[-1] for group in groups}
        folded: dict[tuple[str, ...], Any] = {}
        group: Any = None
        running: deque[tuple[Key, Future[Any]]] = deque()
        submit = self._pool.submit if self.threads > 1 else _now
        for ahead in (*held.keys, *[None] * self.threads):  # a window of parts in memory, folded in key order
            if ahead is not None:
                running.append((ahead, submit(task, ahead)))
            if running and (ahead is None or len(running) > self.threads):
                key, future = running.popleft()
                result = future.result()
                group = result if key in first else combine(group, result)
                if key in last:
                    folded[key.part] = combine(folded[key.part], group) if key.part in folded else group
        self.observer(watch.ended(), None)
        return folded

    def usage(self) -> Usage:
        return Usage(1, 1, resident_bytes(), 2 * self.memory, "")


def _now(function: Callable[[Key], Any], key: Key) -> Future[Any]:
    """Done in this thread: handing small parts to another one takes longer than they do."""
    future: Future[Any] = Future()
    future.set_result(function(key))
    return future


def _call(key: Key, function: Callable[..., Any], *args: Any) -> Any:
    try:
        with logged(key):
            return function(*args)
    except Exception as error:
        raise failed(key, error) from error
