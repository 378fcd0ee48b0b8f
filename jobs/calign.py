"""The command `colign calign`: CALIGN of files, or between any two places of a study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import typer
import xarray as xr
from rich.table import Table

from engine import store
from jobs import options
from jobs.arguments import Json
from jobs.options import Compared, columns_table, percent
from jobs.outputs import check_dataset
from jobs.progress import out, print_json
from jobs.show import AlignedPair, largest_pairs
from jobs.uncertain import scored_alignment
from schemas.results import CALIGN_MATRIX, NULLS


def calign_of(
    inputs: options.Inputs,
    source: options.SourceOption = None,
    target: options.TargetOption = None,
    checkpoint: options.CheckpointOption = None,
    target_checkpoint: options.TargetCheckpoint = None,
    stack: options.StackOption = None,
    target_stack: options.TargetStack = None,
    layer: options.LayerOption = None,
    layers: Annotated[
        Literal["same", "all"], typer.Option(help="Compare each layer with itself, or with every layer of the target.")
    ] = "same",
    k: options.KOption = None,
    reverse: options.Reverse = None,
    preset: options.Preset = None,
    n_best: options.NBest = None,
    theta: options.Theta = None,
    settings: options.Settings = None,
    pairs: Annotated[int, typer.Option(min=0, help="Aligned pairs to print of each layer, with their words.")] = 0,
    draws: options.Draws = 0,
    seed: options.Seed = 0,
    out_path: options.OutPath = None,
    as_json: Json = False,
) -> None:
    """CALIGN: the share of concepts whose words translate into one concept of the other side, layer by layer.

    Between languages, and in a study also between stacks, checkpoints and layers; a language compared with itself has
    every word as its own translation.
    """
    check_dataset(out_path, CALIGN_MATRIX.name)
    found = options.compared(
        inputs,
        lambda base: options.definitions(base, {"preset": preset, "n_best": n_best, "theta_align": theta}, settings),
        source=source,
        targets=target,
        checkpoints=(checkpoint, target_checkpoint),
        stacks=(stack, target_stack),
        layer=layer,
        k=k,
        reverse=reverse,
    )
    at = options.layers_of(found, layer, layers)
    rows, shown = [], []
    for one, other in at:
        row, _ = scored_alignment(found.comparisons, one, other, found.metrics, draws=draws, seed=seed)
        rows.append({"layer": one, "target_layer": other} | row)
        if pairs:
            shown += [(one, other, pair) for pair in _pairs(found, one, other, pairs)]
    dataset = _matrix(rows, found)
    if out_path is not None:
        store.save(out_path, CALIGN_MATRIX, dataset)
    if as_json:
        listed = [{"layer": one, "target_layer": other, **asdict(pair)} for one, other, pair in shown]
        known = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        print_json(
            {**found.labels, "metrics": found.metrics.model_dump(), "layers": known, "pairs": listed if pairs else None}
        )
        return
    if layers == "all":
        _print_matrix(dataset, found)
    else:
        _print_layers(rows, found, draws)
    _print_pairs(shown)
    if out_path is not None:
        out.print(f"dataset  {out_path}", soft_wrap=True, highlight=False)


def _matrix(rows: Sequence[Mapping[str, float]], found: Compared) -> xr.Dataset:
    """Scores laid out along both layers."""
    ones, others = (sorted({int(row[name]) for row in rows}) for name in ("layer", "target_layer"))
    values: dict[str, Any] = {"layer": np.array(ones, np.int32), "target_layer": np.array(others, np.int32)}
    names = [v.name for v in CALIGN_MATRIX.variables if not v.coordinate]
    for name in names:
        values[name] = np.full((len(ones), len(others)), np.nan)
        for row in rows:
            values[name][ones.index(int(row["layer"])), others.index(int(row["target_layer"]))] = row[name]
    return CALIGN_MATRIX.create(values, metrics=found.metrics.model_dump_json(), **found.labels)


def _pairs(found: Compared, one: int, other: int, top: int) -> Iterator[AlignedPair]:
    """The largest aligned pairs of two layers, target by target."""
    for c in found.comparisons:
        counts = c.counts(one, other, found.metrics.n_best)
        tokens = [(c.source.words, c.source.labels(one)), (c.target.words, c.target.labels(other))]
        yield from largest_pairs(counts, tokens, c.dictionary, found.metrics, top)


def _print_layers(rows: Sequence[Mapping[str, float]], found: Compared, draws: int) -> None:
    title = f"CALIGN, %: {found.labels['source']} → {found.labels['target']}"
    columns = ["layer", "CALIGN", "aligned", "of", "mutual", "targets", "hub"]
    columns += ["95 %", "types", "p", "dict.", "p"] if draws else []
    spread = any(row["restart_low"] != row["restart_high"] for row in rows)
    table = columns_table(*columns, *(["restarts"] if spread else []))
    out.print(title, soft_wrap=True, highlight=False)
    for row in rows:
        cells = [
            f"{row['layer']:.0f}",
            percent(row["calign"]),
            f"{row['aligned_concepts']:.0f}",
            f"{row['concepts']:.0f}",
            percent(row["mutual_calign"]),
            f"{row['matched_targets']:.0f}",
            percent(row["hub_share"]),
        ]
        if draws:
            cells.append(f"{percent(row['low'])}–{percent(row['high'])}")
            for null in NULLS:
                cells += [percent(row[f"null_{null}"]), f"{row[f'null_{null}_p']:.3f}"]
        if spread:
            cells.append(f"{percent(row['restart_low'])}–{percent(row['restart_high'])}")
        table.add_row(*cells)
    out.print(table)
    out.print("hub: share of the aligned concepts that match the most matched one", soft_wrap=True)
    if draws:
        out.print(f"types: {NULLS['types']}; dict.: {NULLS['dictionary']}", soft_wrap=True)


def _print_matrix(dataset: xr.Dataset, found: Compared) -> None:
    title = f"CALIGN, %: {found.labels['source']} (rows) → {found.labels['target']} (columns)"
    out.print(title, soft_wrap=True, highlight=False)
    table = Table("layer")
    for other in dataset.target_layer.values.tolist():
        table.add_column(str(other), justify="right")
    for one, values in zip(dataset.layer.values.tolist(), dataset.calign.values.tolist(), strict=True):
        table.add_row(str(one), *map(percent, values))
    out.print(table)


def _print_pairs(shown: Sequence[tuple[int, int, AlignedPair]]) -> None:
    if not shown:
        return
    table = Table("layers", "aligned", "source", "target", "translations", show_lines=True)
    for one, other, pair in shown:
        table.add_row(
            f"{one}" if one == other else f"{one} → {other}",
            f"{pair.aligned_types} of {pair.source_types}",
            " ".join(pair.source_words[:15]),
            " ".join(pair.target_words[:15]),
            " ".join(f"{s}={t}" for s, t in pair.matched[:15]),
        )
    out.print(table)
