"""The protocol of workers; see `engine.workers.serial` for its meaning in full."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from schemas.errors import ColignError, TaskError
from schemas.task import Attempt, Key


@dataclass(frozen=True)
class Held:
    """Loaded parts of some data, one for each key."""

    keys: tuple[Key, ...]
    """The parts, in the order in which results are folded."""
    load: Callable[[Key], Any]
    """Loads one part; run again whenever a part is not, or no longer, in memory."""
    values: dict[Key, Any] | None
    """The parts in memory, or references to groups of them on workers by their first key; None when they do not fit and
    are streamed."""

    def of(self, keys: Sequence[Key]) -> "Held":
        """The same data, less all keys of some parts."""
        return Held(tuple(keys), self.load, self.values)


_GROUPS, _GROUP = 64, 64
"""Groups that a part has at least before its keys are handed out together, and keys of a group at most."""


def group_size(count: int) -> int:
    """Keys that are one task, of a part that has so many."""
    return min(_GROUP, max(1, count // _GROUPS))


def together(keys: Sequence[Key]) -> list[tuple[Key, ...]]:
    """Keys of a part that follow one another, in groups that are one task each: single ones take milliseconds.

    Examples
    --------
    >>> [len(group) for group in together([Key("s", ("a",), i, i + 1) for i in range(400)])][-3:]
    [6, 6, 4]
    >>> len(together([Key("s", ("a",), i, i + 1) for i in range(100)]))
    100
    """
    sizes = {part: group_size(count) for part, count in Counter(key.part for key in keys).items()}
    groups: list[list[Key]] = []
    for key in keys:
        if groups and groups[-1][0].part == key.part and len(groups[-1]) < sizes[key.part]:
            groups[-1].append(key)
        else:
            groups.append([key])
    return [tuple(group) for group in groups]


@dataclass(frozen=True)
class Usage:
    """What workers are busy with at a moment."""

    workers: int
    """Processes that there are."""
    busy: int
    """Of them at work."""
    memory: int
    """Bytes that they hold."""
    limit: int
    """Bytes that they may hold."""
    dashboard: str
    """Address of Dask's page about them; empty where there is none."""


Observer = Callable[[Attempt, Any], None]
"""Told of an attempt that begins, is done (with its result) or failed."""


def ignored(attempt: Attempt, result: Any) -> None:
    """The observer that does nothing."""


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
    def planned(self) -> int:
        """Tasks that run at once when all workers are there that were asked for."""

    @property
    def products(self) -> str:
        """Precision in which clustering may look for candidates, see `engine.host.products`; changes no result."""

    @property
    def apart(self) -> bool:
        """Whether tasks run in other processes than this one."""

    observer: Observer
    """Told, from any thread, of every attempt at a task of `map`, and of every `fold` once it is done."""

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

    def map(
        self,
        function: Callable[..., Any],
        keys: Iterable[Key],
        *args: Any,
        own: Callable[[Key], tuple[Any, ...]] = lambda _: (),
        meanwhile: Callable[[], None] | None = None,
    ) -> Iterator[tuple[Key, Any]]:
        """Yield (key, function(key, *args, *own(key))) as tasks end, in any order. Keys are taken as workers come free.

        Parameters
        ----------
        own
            Gives what only one key needs, so that it does not go with the others.
        meanwhile
            For tasks that take long: called every few seconds while they are waited for. No such task waits on a worker
            behind another.

        Raises
        ------
        TaskError
            A task failed; names its key and cause. Of one failure all other tasks are done before it is raised; at a
            second one, or an error that a user can act upon, no more are begun. Tasks that ended stay done.
        """

    def hold(self, load: Callable[[Key], Any], keys: Sequence[Key], nbytes: int) -> Held:
        """Load the parts once if their `nbytes` fit the memory, else remember how to stream them."""

    def fold(
        self,
        function: Callable[..., Any],
        held: Held,
        combine: Callable[[Any, Any], Any],
        *args: Any,
        exact: bool = False,
    ) -> dict[tuple[str, ...], Any]:
        """For each `part` of the keys, the results of function(key, value, *args) combined in key order.

        `combine` must be associative but for rounding: the results of each group of `together` are combined first, then
        those of the groups, so that the bits depend on the keys alone. An `exact` one is not rounded and has no order:
        then any results may be combined first, such as those of one worker before they travel.
        """

    def at_once_here(self, nbytes: int) -> int:
        """Steps, of so many bytes each, that this process may take side by side while the workers wait.

        As many as the threads of tasks that run in it, else as its cores and half of what a worker may use allow.
        """

    def usage(self) -> Usage:
        """What the workers are busy with now, or were some seconds ago; OSError where what knows it does not answer."""


class Poisoned:
    """The task of a map that cannot be done, while the others are; a second one shows that more is wrong."""

    def __init__(self) -> None:
        self._error: TaskError | None = None

    def add(self, error: TaskError) -> None:
        """Remember a task that failed; raises the first error when it is the second."""
        if self._error is not None:
            raise self._error
        self._error = error

    def check(self) -> None:
        """Raise the error of the task that failed, if any, now that all others are done."""
        if self._error is not None:
            raise TaskError(f"{self._error}; all others of its stage are done and kept") from self._error


def failed(key: Key, error: BaseException) -> ColignError:
    """The error of a task, with its key. Errors that a user can act upon keep their kind and message."""
    if isinstance(error, ColignError):
        return type(error)(f"{key}: {error}") if not str(error).startswith(str(key)) else error
    return TaskError(f"{key}: {type(error).__name__}: {error}")
