"""Workers whose only job is to refuse: who asks them to compute anything fails the test."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from engine.workers.protocol import Held, Observer, Usage, ignored
from schemas.task import Key


class RaisingWorkers:
    threads = 1
    memory = 2**40
    observer: Observer = staticmethod(ignored)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def each(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        return {}

    def map(
        self, function: Callable[..., Any], keys: Sequence[Key], *args: Any, **options: Any
    ) -> Iterator[tuple[Key, Any]]:
        raise AssertionError(f"asked to map {len(keys)} tasks, {keys[0]} first")

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        raise AssertionError(f"asked to hold {len(keys)} parts")

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[[Any, Any], Any], *args: Any
    ) -> dict[tuple[str, ...], Any]:
        raise AssertionError(f"asked to fold {len(held.keys)} parts")

    def usage(self) -> Usage:
        return Usage(0, 0, 0, 0, "")
