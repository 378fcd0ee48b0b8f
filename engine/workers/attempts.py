"""What one attempt at a task takes, measured in the process that makes it, and its key in every line of the log."""

import contextlib
import logging
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.credentials import redacted
from schemas.task import Attempt, Key

_TASK: ContextVar[tuple[str, str]] = ContextVar("task", default=("", ""))
"""Key of the task at work, and the run that it is of."""


class Watch:
    """Measures one attempt from its making on."""

    def __init__(self, name: str, step: str = "", calls: int = 1) -> None:
        self.begun = Attempt(name, time.time(), socket.gethostname(), os.getpid(), step, calls=calls)
        self._cpu, self._bytes = time.process_time(), _file_bytes()

    def ended(self, error: BaseException | None = None) -> Attempt:
        """The attempt, as it is now over."""
        read, written = (now - then for now, then in zip(_file_bytes(), self._bytes, strict=True))
        return replace(
            self.begun,
            state="done" if error is None else "failed",
            seconds=time.time() - self.begun.started,
            cpu_seconds=time.process_time() - self._cpu,
            bytes_read=read,
            bytes_written=written,
            peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            note="" if error is None else redacted(f"{type(error).__name__}: {error}"),
        )


@contextlib.contextmanager
def logged(key: Key, run: str = "") -> Iterator[None]:
    """Name a task in every line that is logged while it is done, and its run in every record of one."""
    token = _TASK.set((str(key), run))
    try:
        yield
    finally:
        _TASK.reset(token)


def name_tasks_in_logs() -> None:
    """Have every line of the log of this process begin with the task at work, where there is one."""
    made = logging.getLogRecordFactory()
    if getattr(made, "names_tasks", False):
        return

    def named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        key, record.colign_run = _TASK.get()
        if key:
            record.msg, record.args = f"{key}: {record.getMessage()}", None
        return record

    named.names_tasks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(named)


def _file_bytes() -> tuple[int, int]:
    """Bytes that this process has read from and written to files; zeros where the system does not tell."""
    with contextlib.suppress(OSError):
        said = dict(line.split(b": ") for line in Path("/proc/self/io").read_bytes().splitlines())
        return int(said[b"rchar"]), int(said[b"wchar"])  # what sockets carry is not in them
    return 0, 0


def step_of(keys: Sequence[Key]) -> str:
    """Name of what some keys have in common.

    Examples
    --------
    >>> step_of([Key("concepts", ("base", "de", "1"), 0, 8), Key("concepts", ("base", "de", "2"), 0, 8)])
    'concepts/base/de'
    """
    first = keys[0].part
    shared = next((n for n, names in enumerate(zip(*(k.part for k in keys), strict=False)) if len({*names}) > 1), None)
    return str(Key(keys[0].stage, first[:shared]))


def name_of(function: Callable[..., Any]) -> str:
    """Name of the function that does a step.

    Examples
    --------
    >>> name_of(_file_bytes)
    'file_bytes'
    """
    return str(getattr(function, "__name__", type(function).__name__)).strip("_")


def resident_bytes() -> int:
    """Memory that this process holds now."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
