"""The command `colign status`: how far a study is, during a run and after it, and what its runs took."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import xarray as xr
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text as Line

from engine import lease, ledger, paths
from engine.workers.protocol import Usage
from jobs import files, stages, vectors
from jobs.arguments import Json, Out, StudyPath
from jobs.derive import are_current
from jobs.layout import Layout
from jobs.plan import rows, size
from jobs.progress import out, print_json, usage_line
from jobs.run import records
from jobs.selections import read_text
from schemas.machine import Machine
from schemas.study import Study
from schemas.task import Record

_FOLLOWED = 2.0
"""Seconds between two looks at a study that is followed."""

_SHOWN = 20
"""Tasks at work that are printed."""


def status(
    study: StudyPath,
    out_dir: Out = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the run ends.")] = False,
    as_json: Json = False,
) -> None:
    """Say how far a study is, what is being done, how long it took and how much memory it used."""
    loaded, layout = files.load_study(study, out_dir)
    found = state(loaded, layout)
    if as_json:
        print_json(found)
        return
    if not follow:
        out.print(shown(found, study), soft_wrap=True)
        return
    with Live(shown(found, study), console=out, auto_refresh=False) as live:
        while found["run"]:
            time.sleep(_FOLLOWED)
            found = state(loaded, layout)
            live.update(shown(found, study), refresh=True)


def state(study: Study, layout: Layout) -> dict[str, Any]:
    """How far a study is, in plain values.

    Raises
    ------
    InputError
        The study directory was made with other settings or another text.
    """
    context = stages.context(study, layout, 1, Machine().memory_bytes)
    done, _ = records(context)
    planned = stages.stages(context, read_text(study, layout, done), Machine().memory_bytes)
    failed = _failures(ledger.load(layout.ledger, layout.journal))
    extracted = vectors.outcomes(done.values())
    found: list[dict[str, Any]] = []
    for row, stage in zip(rows(planned, done), planned, strict=True):
        finished = [done[str(key)] for key in stage.keys if str(key) in done]
        found.append(
            {
                **row,
                "seconds": round(busy_seconds(finished), 1),
                "peak_memory": max((r.peak_memory for r in finished), default=0),
                **failed.get(stage.name, {"failed": 0, "lost": 0}),
            }
        )
    return {
        "directory": layout.root,
        "complete": all(row["tasks"] == row["done"] for row in found) and are_current(study, layout),
        "stages": found,
        "extraction": vectors.totals(extracted),
        "limit": vectors.limit(extracted) if extracted else "",
        "run": lease.holder(layout.lease),
        "now": ledger.now(layout.journal),
    }


def shown(found: dict[str, Any], study: str) -> RenderableType:
    """What is printed of a study's state."""
    table = Table("stage", "tasks", "done", "seconds", "peak of a worker", "failed", "lost", title=found["directory"])
    for line in found["stages"]:
        cells = [str(line[name]) for name in ("stage", "tasks", "done", "seconds")]
        table.add_row(*cells, size(float(line["peak_memory"])), *(str(line[name] or "") for name in ("failed", "lost")))
    parts: list[RenderableType] = [table]
    if found["limit"]:
        parts.append(Line(f"activations: {found['limit']}"))
    if found["run"]:
        parts += _at_work(found["run"], found["now"])
    elif found["complete"]:
        parts.append(Line("complete"))
    else:
        killed = ", the last run did not come to its end" if found["now"] else ""
        parts.append(Line(f"not complete{killed}: colign run {study} goes on"))
    return Group(*parts)


def _at_work(holder: dict[str, Any], now: dict[str, Any] | None) -> list[RenderableType]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    parts: list[RenderableType] = [
        Line(f"at work since {since}: {holder['owner']} on {holder['host']}, process {holder['process']}")
    ]
    if now is None:  # a moment after it began
        return parts
    left = f", about {now['left']:,.0f} s left" if now["left"] else ""
    note = f"; {now['note']}" if now["note"] else ""
    parts.append(Line(f"{now['stage']} {now['done']} of {now['total']}, {now['rate']:.3g} tasks/s{left}{note}"))
    parts.append(Line(f"{usage_line(Usage(**now['usage']))}; as of {max(0.0, time.time() - now['at']):.0f} s ago"))
    if now["running"]:
        table = Table("task at work", "host", "process", "for seconds", box=None)
        for one in sorted(now["running"], key=lambda attempt: attempt["started"])[:_SHOWN]:
            table.add_row(one["key"], one["host"], str(one["process"]), f"{max(0.0, time.time() - one['started']):.0f}")
        if len(now["running"]) > _SHOWN:
            table.add_row(f"and {len(now['running']) - _SHOWN} more")
        parts.append(table)
    return parts


def _failures(attempts: xr.Dataset | None) -> dict[str, dict[str, int]]:
    """Attempts that failed or were lost, by stage."""
    found: dict[str, dict[str, int]] = {}
    for stage, how in () if attempts is None else zip(attempts.stage.values, attempts.state.values, strict=True):
        if how != "done":
            found.setdefault(stage, {"failed": 0, "lost": 0})[how] += 1
    return found


def summary(attempts: xr.Dataset, root: str) -> Table:
    """What some attempts in a study directory took, stage by stage; nobody counts the bytes of a URL."""
    columns = ("stage", "attempts", "busy", "processor", "read", "written", "peak", "failed", "lost")
    table = Table(*columns, title="this run: seconds busy, of processors; bytes; peak of a worker", box=None)
    for name in dict.fromkeys(attempts.stage.values.tolist()):
        of = attempts.isel(attempt=attempts.stage.values == name)
        spans = list(zip(of.started.values.tolist(), of.seconds.values.tolist(), strict=True))
        failed = _failures(of).get(name, {})
        moved = [size(float(column.sum())) for column in (of.bytes_read, of.bytes_written)]
        table.add_row(
            name, str(of.sizes["attempt"]), f"{busy(spans):,.1f} s", f"{float(of.cpu_seconds.sum()):,.1f} s",
            *(moved if paths.is_local(root) else ["not known"] * 2),
            size(float(of.peak_memory.max())), *(str(failed.get(how) or "") for how in ("failed", "lost")),
        )  # fmt: skip
    return table


def busy_seconds(records: Sequence[Record]) -> float:
    """Seconds in which at least one of some tasks was being done."""
    return busy([(record.started, record.seconds) for record in records])


def busy(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that spans (start, length) cover together.

    Examples
    --------
    >>> busy([(0.0, 2.0), (1.0, 2.0), (5.0, 1.0)])
    4.0
    """
    total = until = 0.0
    for started, seconds in sorted(spans):
        end = started + seconds
        total += max(0.0, end - max(until, started))
        until = max(until, end)
    return total
