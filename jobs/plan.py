"""Planning: what a study will take, from arithmetic alone; refuses what exceeds the machine."""

from collections.abc import Collection, Sequence
from typing import Any

from rich.table import Table

from engine import paths
from jobs.layout import Layout
from jobs.stages import Stage, missing
from schemas.errors import BudgetError


def size(nbytes: float) -> str:
    """A number of bytes for people.

    Examples
    --------
    >>> size(1536), size(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def check_budget(stages: Sequence[Stage], done: Collection[str], memory: int, layout: Layout) -> None:
    """Refuse a plan that the machine cannot hold.

    Parameters
    ----------
    memory
        Bytes that a worker may use.

    Raises
    ------
    BudgetError
        With the numbers and the settings that would lower them.
    """
    for stage in stages:
        if missing(stage, set(done)) and stage.memory > memory:
            raise BudgetError(
                f"stage {stage.name}: a worker needs about {size(stage.memory)}, the machine allows {size(memory)}; "
                "raise memory in the machine file, or lower activations.shard_tokens, activations.batch_subwords or "
                "concepts.k"
            )
    needed = sum(s.nbytes * len(missing(s, set(done))) // max(len(s.keys), 1) for s in stages)
    free = paths.free_bytes(layout.root)
    if free is not None and needed > free:
        raise BudgetError(
            f"{layout.root}: the study will write about {size(needed)}, the disk has {size(free)} free; choose another "
            "directory with --out, fewer layers, or a smaller selection.max_count"
        )


def rows(stages: Sequence[Stage], done: Collection[str]) -> list[dict[str, int | str]]:
    """One row a stage: tasks, tasks done, projected bytes on disk and peak memory of a worker."""
    return [
        {
            "stage": s.name,
            "tasks": len(s.keys),
            "done": len(s.keys) - len(missing(s, set(done))),
            "disk": s.nbytes,
            "memory": s.memory,
        }
        for s in stages
    ]


def links_table(found: Sequence[dict[str, Any]], aligner: str) -> Table:
    """What `jobs.linking.rows` found, to be printed."""
    table = Table("pair", "by", "sentences", "trained on", "memory", "on one core", title="word links")
    for row in found:
        table.add_row(
            row["pair"], "file" if row["file"] else aligner, f"{row['sentences']:,}", f"{row['trained_on']:,}",
            size(row["memory"]), f"about {row['seconds']:,.0f} s",
        )  # fmt: skip
    return table


def _held(row: dict[str, Any]) -> str:
    """What is held of a selection at once, and where."""
    if not row["held"]:
        return f"{row['runs_together']} runs, no vectors"
    side_by_side, together = row["layers_side_by_side"], row["layers_together"]
    if not side_by_side:
        return f"{together} layers"
    return f"{side_by_side} side by side" + (f", {together} on all" if together else "")


def clustering_table(found: Sequence[dict[str, Any]]) -> Table:
    """What `jobs.clustering.rows` found, to be printed."""
    if not found or "runs" not in found[0]:
        table = Table("selection", "vectors", "layers", "memory", title="clustering")
        for row in found:
            table.add_row(row["selection"], f"{row['vectors']:,}", str(row["layers"]), size(row["memory"]))
        return table
    columns = ("selection", "vectors", "layers", "runs", "in memory", "read a pass", "whole pass", "memory")
    table = Table(*columns, title="clustering: a pass over all layers and runs")
    for row in found:
        table.add_row(
            row["selection"], f"{row['vectors']:,}", str(row["layers"]), str(row["runs"]),
            _held(row),
            size(row["bytes_read_a_pass"]), f"{row['seconds_a_whole_pass']:.2g} s", size(row["memory"]),
        )  # fmt: skip
    return table
