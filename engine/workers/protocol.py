"""The protocol of workers; see `engine.workers.serial` for its meaning in full."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from schemas.errors import ColignError, TaskError
from schemas.task import Key


@dataclass(frozen=True)
class Held:
    """Loaded parts of some data, one for each key."""

    keys: tuple[Key, ...]
    """The parts, in the order in which results are folded."""
    load: Callable[[Key], Any]
    """Loads one part; run again whenever a part is not, or no longer, in memory."""
    values: dict[Key, Any] | None
    """The parts in memory (or references to them on workers); None when they do not fit and are streamed."""

    def of(self, keys: Sequence[Key]) -> "Held":
        """The same data, less some keys."""
        return Held(tuple(keys), self.load, self.values)


class Workers(Protocol):
    """Computes tasks. Results never depend on the kind or number of workers."""

    @property
    def threads(self) -> int:
        """Threads that one task may use."""

    @property
    def memory(self) -> int:
        """Memory in bytes that parts may take while they are held, over all workers that there are now."""

    @property
    def slots(self) -> int:
        """Tasks that run at once on the workers that there are now."""

    @property
    def products(self) -> str:
        """Precision in which clustering may look for candidates, see `engine.backend.products`; changes no result."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def each(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        """function(*args), or the error that it raises, in every process but this one, by the process's name."""

    def require(self, check: Callable[..., None], *args: Any) -> None:
        """Run check(*args) in every process but this one, before the first task of those that come later.

        A task that is given to a process in which it raises fails with its error.
        """

    def map(self, function: Callable[..., Any], keys: Iterable[Key], *args: Any) -> Iterator[tuple[Key, Any]]:
        """Yield (key, function(key, *args)) as tasks end, in any order. Keys are taken as workers come free.

        Raises
        ------
        TaskError
            A task failed; names its key and cause. Tasks that ended before it stay done.
        """

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        """Load the parts once if their `nbytes` fit the memory, else remember how to stream them."""

    def fold(
        self, function: Callable[..., Any], held: Held, combine: Callable[[Any, Any], Any], *args: Any
    ) -> dict[tuple[str, ...], Any]:
        """For each `part` of the keys, the results of function(key, value, *args) combined in key order."""


def failed(key: Key, error: BaseException) -> ColignError:
    """The error of a task, with its key. Errors that a user can act upon keep their kind and message."""
    if isinstance(error, ColignError):
        return type(error)(f"{key}: {error}") if not str(error).startswith(str(key)) else error
    return TaskError(f"{key}: {type(error).__name__}: {error}")
