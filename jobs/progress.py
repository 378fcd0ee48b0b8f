"""What commands print while they work, and after: progress on standard error, results on standard output."""

import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from engine.workers.protocol import Usage, Workers
from jobs.plan import size
from jobs.run import Event, Watch
from schemas.credentials import redacted

out = Console(markup=False, emoji=False)  # words and paths may look like either
err = Console(stderr=True, markup=False, emoji=False)


class Printed(logging.Handler):
    """Log lines on standard error, above bars; libraries put URLs with what is secret into theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(redacted(self.format(record)), soft_wrap=True, highlight=False)


class _Rate(ProgressColumn):
    """Tasks a second, or seconds a task."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class _Bars(Progress):
    """A bar for each stage, and below them what the workers are busy with."""

    note = ""
    """What goes on inside the stage at work."""

    def __init__(self, workers: Workers | None) -> None:
        self._workers = workers
        columns = [
            TextColumn("{task.description}", table_column=Column(min_width=12)), BarColumn(20), MofNCompleteColumn(),
            _Rate(), TimeElapsedColumn(), TimeRemainingColumn(),
        ]  # fmt: skip
        super().__init__(*columns, console=err)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        if self.note:
            yield Text(self.note)
        if self._workers is not None and not self.finished:
            with contextlib.suppress(OSError):  # a scheduler that does not answer
                yield Text(usage_line(self._workers.usage()))


def usage_line(usage: Usage) -> str:
    """What workers are busy with, for people.

    Examples
    --------
    >>> usage_line(Usage(2, 1, 3 * 2**29, 2**32, "http://127.0.0.1:8787/status"))
    '2 workers, 1 at work, 1.5 GiB of 4.0 GiB; http://127.0.0.1:8787/status'
    """
    many = "1 worker" if usage.workers == 1 else f"{usage.workers} workers"
    page = f"; {usage.dashboard}" if usage.dashboard else ""
    return f"{many}, {usage.busy} at work, {size(usage.memory)} of {size(usage.limit)}{page}"


_STOP = threading.Event()
"""Set by Ctrl-C: Python prints and drops what is raised in the middle of a callback, so the next event looks at it."""

_CALLBACKS = ("_gc_callback", "__del__")
"""Functions that Python calls between two steps of others: Dask's, which measures how long garbage takes, is the one
that a run is in now and then."""


def _asked_to_stop(number: int, frame: FrameType | None) -> None:
    _STOP.set()
    above = frame
    while above is not None and above.f_code.co_name not in _CALLBACKS:
        above = above.f_back
    if above is None:
        signal.default_int_handler(number, frame)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """What Ctrl-C ends with a word on how to go on, and exit code 130."""
    _STOP.clear()
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, _asked_to_stop) if ours else None
    try:
        yield
    except KeyboardInterrupt as stop:
        err.print("stopped; finished tasks are kept, run again to go on")
        raise typer.Exit(130) from stop
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress(workers: Workers | None = None) -> Iterator[Watch]:
    """A bar for each stage, and what goes on in the one at work; its last note stays."""
    with _Bars(workers) as shown:
        bars: dict[str, Any] = {}

        def watch(event: Event) -> None:
            if _STOP.is_set():
                raise KeyboardInterrupt
            if event.stage not in bars:
                end_note()
                bars[event.stage] = shown.add_task(event.stage, total=event.total, completed=event.done)
            shown.update(bars[event.stage], completed=event.done)
            if event.note:
                shown.note = f"{event.stage}: {event.note}"

        def end_note() -> None:
            if shown.note:
                err.print(shown.note, highlight=False, soft_wrap=True)
            shown.note = ""

        yield watch
        end_note()


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
