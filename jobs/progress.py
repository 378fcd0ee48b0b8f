"""What commands print while they work, and after: progress on standard error, results on standard output."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from jobs.run import Event, Watch

out = Console(markup=False, emoji=False)  # words and paths may look like either
err = Console(stderr=True, markup=False, emoji=False)


@contextlib.contextmanager
def progress() -> Iterator[Watch]:
    """A bar for each stage; a note stays until the next. Ctrl-C ends with exit code 130 and says how to go on."""
    columns = [
        TextColumn("{task.description}", table_column=Column(min_width=12)), BarColumn(20), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    ]  # fmt: skip
    with Progress(*columns, console=err) as shown:
        bars: dict[str, Any] = {}

        def watch(event: Event) -> None:
            if event.stage not in bars:
                bars[event.stage] = shown.add_task(event.stage, total=event.total, note="")
            bar = bars[event.stage]
            shown.update(bar, completed=event.done)
            if event.note:
                shown.update(bar, note=event.note)

        try:
            yield watch
        except KeyboardInterrupt as stop:
            shown.stop()
            err.print("stopped; finished tasks are kept, run again to go on")
            raise typer.Exit(130) from stop


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
