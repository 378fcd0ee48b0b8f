"""The serial workers: everything in this process, one task after the other. They define the meaning of the verbs."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from threadpoolctl import threadpool_limits

from engine.workers.protocol import Held, failed
from schemas.task import Key


class SerialWorkers:
    """One process; `threads` share the blocks of a task, each with single-threaded linear algebra."""

    def __init__(self, threads: int = 1, memory: int = 2**30) -> None:
        self.threads, self.memory = threads, memory

    def __enter__(self) -> Self:
        self._limits = threadpool_limits(limits=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.restore_original_limits()

    def map(self, function: Callable[..., Any], keys: Sequence[Key], *args: Any) -> Iterator[tuple[Key, Any]]:
        for key in keys:
            yield key, _call(key, function, key, *args)

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        fits = nbytes <= self.memory
        return Held(tuple(keys), load, {key: _call(key, load, key) for key in keys} if fits else None)

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[[Any, Any], Any], *args: Any
    ) -> dict[tuple[str, ...], Any]:
        folded: dict[tuple[str, ...], Any] = {}
        for key in held.keys:
            value = held.values[key] if held.values is not None else _call(key, held.load, key)
            result = _call(key, function, key, value, *args)
            folded[key.part] = combine(folded[key.part], result) if key.part in folded else result
        return folded


def _call(key: Key, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        raise failed(key, error) from error
