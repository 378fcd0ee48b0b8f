"""The command `colign sweep`: CALIGN or COLAP over a grid of definitions, from counts that are made once."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from rich.table import Table as Printed

from engine import calign, colap, results, store
from engine.exchange import dictionaries
from jobs import files, options
from jobs.arguments import Json
from jobs.colap import mixed
from jobs.derive import counted
from jobs.layout import Layout
from jobs.options import Compared, is_study, percent
from jobs.outputs import check_dataset
from jobs.progress import out, print_json
from jobs.sides import Comparison, check_same_k, count_languages, open_side
from schemas.dataset import Schema
from schemas.errors import InputError
from schemas.metrics import Metrics
from schemas.results import calign_schema, colap_schema
from schemas.study import Study

_OF_CALIGN = ("n_best", "theta_align", "min_types", "max_size_gap")
_OF_COLAP = ("theta_overlap",)
_WHOLE = ("n_best", "min_types", "k")
_NAME = "sweep"  # of the schema, whatever is swept


def sweep(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY | SOURCE TARGET DICT | CONCEPTS",
            help="A study; concepts of two languages and the dictionary between them; or concepts of mixed text.",
        ),
    ],
    by: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=GRID",
            help=f"What varies: {', '.join((*_OF_CALIGN, *_OF_COLAP, 'k'))}; may be given again. GRID is "
            "START:STOP:STEP, ends included, or values with commas between. k alone sweeps the CALIGN of a study.",
        ),
    ],
    out_path: options.OutPath = None,
    layer: options.LayerOption = None,
    starts: Annotated[list[str] | None, typer.Option(metavar="LANGUAGE=SENTENCE", help="As in colign colap.")] = None,
    reverse: options.Reverse = None,
    preset: options.Preset = None,
    n_best: options.NBest = None,
    settings: options.Settings = None,
    as_json: Json = False,
) -> None:
    """CALIGN or COLAP over a grid of definitions, one dataset with a dimension for each; what is not swept stays."""
    check_dataset(out_path, _NAME)
    grids = _grids(by)
    wanted = [int(k) for k in grids.pop("k", ())]
    of_colap = _metric(grids, inputs)
    given = {"preset": preset, "n_best": n_best}
    if len(inputs) == 1 and is_study(inputs[0]):
        study, layout = files.load_study(inputs[0])
        metrics = options.definitions(study.metrics, given, settings)
        found = _of_study(study, layout, metrics, grids, layer, wanted, of_colap=of_colap)
    else:
        metrics = options.definitions(None, given, settings)
        if of_colap:
            found = _of_mixed(inputs, starts, wanted, metrics, grids, layer)
        else:
            found = _of_files(inputs, reverse, wanted, metrics, grids, layer)
    if out_path is not None:
        store.save(out_path, *found)
    values = found[1]["colap" if of_colap else "calign"]
    if as_json:
        print_json({"metrics": metrics.model_dump(), "dataset": out_path, **_plain(values)})
        return
    _print(values)
    if out_path is not None:
        out.print(f"dataset  {out_path}", soft_wrap=True, highlight=False)


def _grids(by: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Values of each key that varies.

    Raises
    ------
    InputError
        A key is unknown or given twice, or a grid is neither a range nor a list of numbers.
    """
    found: dict[str, tuple[float, ...]] = {}
    for given in by:
        key, equals, grid = given.partition("=")
        if key not in (*_OF_CALIGN, *_OF_COLAP, "k") or not equals:
            raise InputError(
                f"--by {given}: expected KEY=GRID with a key among {', '.join((*_OF_CALIGN, *_OF_COLAP, 'k'))}"
            )
        if key in found:
            raise InputError(f"--by {given}: {key} is given twice; write one grid, such as {key}=1,2,5")
        try:
            if ":" in grid:
                start, stop, step = map(float, grid.split(":"))
                count = int(np.floor((stop - start) / step + 1e-9)) + 1
                values = [round(start + i * step, 9) for i in range(count)]
            else:
                values = [float(value) for value in grid.split(",")]
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(f"--by {given}: expected START:STOP:STEP, or values with commas between") from error
        if not values or values != sorted(set(values)):
            raise InputError(f"--by {given}: expected increasing values, found {values or 'none'}")
        if key in _WHOLE:
            if any(value != int(value) for value in values):
                raise InputError(f"--by {given}: {key} is a whole number")
            values = [int(value) for value in values]
        for value in values:
            if key != "k":
                options.definitions(None, {key: value}, None)  # refuses what the key cannot be
        found[key] = tuple(values)
    return found


def _metric(grids: Mapping[str, Any], inputs: Sequence[str]) -> bool:
    """Whether COLAP is swept.

    Raises
    ------
    InputError
        Keys of both metrics are given.
    """
    both = [[name for name in grids if name in keys] for keys in (_OF_CALIGN, _OF_COLAP)]
    if all(both):
        raise InputError(f"--by {both[0][0]} belongs to CALIGN and --by {both[1][0]} to COLAP; sweep them one by one")
    if both[0] or both[1]:
        return bool(both[1])
    return len(inputs) == 1 and not is_study(inputs[0])


def _of_study(
    study: Study,
    layout: Layout,
    metrics: Metrics,
    grids: dict[str, tuple[float, ...]],
    layer: Sequence[int] | None,
    ks: Sequence[int],
    *,
    of_colap: bool,
) -> tuple[Schema, xr.Dataset]:
    """The sweep of everything that a study has counted."""
    if metrics.counting != study.metrics.counting:
        raise InputError(
            "which translations count is settled when a study counts; change it in the study file and run it again"
        )
    if missing := sorted({*ks} - {*study.concepts.ks}):
        raise InputError(
            f"--by k: the study has no k = {missing[0]}; it has {', '.join(map(str, study.concepts.ks))}; add numbers "
            "to concepts.k in the study file and run it with --grow, which clusters again"
        )
    alignment, overlap = counted(study, layout, ks or study.concepts.ks[:1])
    parts = [
        (label, [one.sel(layer=[at for at in one.layer.values if not layer or at in layer]) for one in counts])
        for label, counts in (overlap if of_colap else alignment)
    ]
    names = ["language_set"] if of_colap else ["source", "target"]
    dims = ("checkpoint", "stack", "layer", *names, *(["k"] if ks else []), *grids)
    schema = (colap_schema if of_colap else calign_schema)(_NAME, dims)
    rules = metrics.overlap if of_colap else metrics.alignment | {"denominator": metrics.denominator}
    score = colap.score if of_colap else calign.score
    return schema, results.scores(schema, parts, score, calign.union, **{**rules, **grids})


def _of_files(
    inputs: Sequence[str],
    reverse: str | None,
    ks: Sequence[int],
    metrics: Metrics,
    grids: dict[str, tuple[float, ...]],
    layer: Sequence[int] | None,
) -> tuple[Schema, xr.Dataset]:
    """The sweep of two sides and a dictionary, for every number of concepts wanted."""
    if len(inputs) != 3:
        raise InputError(f"CALIGN needs STUDY, or SOURCE TARGET DICT; found {len(inputs)} inputs")
    there = dictionaries.read(inputs[2])
    back = dictionaries.read(reverse) if reverse else None
    n_ranks = int(max(grids.get("n_best", (metrics.n_best,))))
    made: list[Compared] = []
    for k in ks or (None,):
        sides = [open_side(path, k, layer) for path in inputs[:2]]
        check_same_k(*sides)
        made.append(Compared((Comparison(sides[0], sides[1], there, back, metrics.counting),), metrics))
    layers = [one for one, _ in options.layers_of(made[0], layer, "same")]
    rules = metrics.alignment | {"denominator": metrics.denominator}
    labels = {"k": [compared.source.k for compared in made], "layer": layers}
    schema = calign_schema(_NAME, ("k", "layer", *grids))
    table = results.Table(schema, labels, calign.score, **{**rules, **grids})
    for compared, at in product(made, layers):
        table.put({"k": compared.source.k}, compared.comparisons[0].counts(at, at, n_ranks))
    return schema, table.dataset()


def _of_mixed(
    inputs: Sequence[str],
    starts: Sequence[str] | None,
    ks: Sequence[int],
    metrics: Metrics,
    grids: dict[str, tuple[float, ...]],
    layer: Sequence[int] | None,
) -> tuple[Schema, xr.Dataset]:
    """The sweep of a clustering of mixed text, for every number of concepts wanted."""
    if len(inputs) != 1:
        raise InputError(f"COLAP needs STUDY, or one clustering of mixed text; found {len(inputs)} inputs")
    sides = [mixed(open_side(inputs[0], k, layer), starts) for k in ks or (None,)]
    options.check_layers(sides[0], layer)
    layers = list(layer or sides[0].layers)
    labels = {"k": [side.k for side in sides], "layer": layers}
    schema = colap_schema(_NAME, ("k", "layer", *grids))
    table = results.Table(schema, labels, colap.score, **{**metrics.overlap, **grids})
    for side, at in product(sides, layers):
        table.put({"k": side.k}, count_languages(side, at))
    return schema, table.dataset()


def _plain(values: xr.DataArray) -> dict[str, Any]:
    """An array with its coordinates as JSON holds it; null for NaN."""
    flat = values.values.astype(object)
    flat[np.isnan(values.values)] = None
    return {
        "dims": list(values.dims),
        "coordinates": {name: values[name].values.tolist() for name in values.dims},
        str(values.name): flat.tolist(),
    }


def _print(values: xr.DataArray) -> None:
    """A row for each combination of labels, a column for each value of the last grid."""
    *rows, last = values.dims
    out.print(f"{str(values.name).upper()}, %, by {last}")
    table = Printed(*(str(d) for d in rows if values.sizes[d] > 1))
    for value in values[last].values.tolist():
        table.add_column(str(value), justify="right")
    for at in np.ndindex(*(values.sizes[d] for d in rows)):
        cells = values.isel(dict(zip(rows, at, strict=True)))
        if not cells.isnull().all():
            names = [str(cells[d].item()) for d in rows if values.sizes[d] > 1]
            table.add_row(*names, *(percent(float(value)) for value in cells.values))
    out.print(table)
