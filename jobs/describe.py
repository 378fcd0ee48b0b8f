"""The command `colign describe`: what the concepts of one CONCEPTS store are like."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from rich.table import Table

from engine import paths, store
from engine.exchange.stream import kind
from engine.statistics import describe, language_tokens, words_of
from jobs.outputs import check_dataset
from jobs.progress import out, print_json
from schemas.concepts import CONCEPT_STATISTICS, CONCEPTS
from schemas.errors import InputError

_OVERALL = ("tokens", "empty", "smallest", "median", "largest", "entropy", "explained_variance", "stability")


@dataclass(frozen=True)
class _Chosen:
    """The restart that was chosen of one number of concepts at one layer."""

    layer: int
    k: int
    run: int
    """Index of the run in the store."""
    seed: int
    at: tuple[int, int]
    """Indices of run and layer in the datasets at hand."""


def describe_concepts(
    concepts: Annotated[str, typer.Argument(metavar="CONCEPTS.zarr", help="Store of concepts.")],
    out_path: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="STATS.zarr", help="Store to write with the statistics of every run."),
    ] = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Number of a layer whose concepts are printed; may be given again."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Concepts of each layer that are printed, the largest first.")] = 10,
    k: Annotated[
        list[int] | None, typer.Option("--k", min=1, help="Number of concepts; may be given again (default: all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Print sizes, entropy, explained variance and stability of concepts, and the largest of them with their words.

    Of the restarts with one number of concepts (k) the one of least inertia is printed; -o writes all of them. Least,
    median and most are tokens of a concept. Explained is the share of the variance that lies between concepts.
    """
    check_dataset(out_path, CONCEPT_STATISTICS.name)
    opened = _open(concepts)
    layers = _wanted(concepts, "layer", opened.layer.values, layer)
    runs = _wanted(concepts, "k", opened.k.values, k)
    late = _not_clustered(concepts, opened.isel(layer=layers), asked=bool(layer))
    if out_path is not None:
        layers, runs = list(range(opened.sizes["layer"])), list(range(opened.sizes["run"]))
    part = opened.isel(run=runs, layer=layers)
    with store.undamaged(concepts):
        statistics = describe(part)
        printed = [
            one for one in _chosen(statistics, runs) if (not layer or one.layer in layer) and (not k or one.k in k)
        ]
        lines = [_line(statistics, one) for one in printed]
        largest = [_largest(part, statistics, one, top) for one in printed] if layer else []
    if out_path is not None:
        store.save(out_path, CONCEPT_STATISTICS, statistics, concepts=concepts)
    if as_json:
        shown = (
            [line | {"largest_concepts": rows} for line, rows in zip(lines, largest, strict=True)] if layer else lines
        )
        print_json({"concepts": concepts, "statistics": out_path, "layers": shown, "not_clustered": late})
        return
    _print_lines(concepts, lines)
    if late:
        out.print(f"not clustered yet: layer {', '.join(map(str, late))}")
    for line, rows in zip(lines, largest, strict=False):
        _print_concepts(line, rows)
    if out_path is not None:
        out.print(f"statistics  {out_path}", soft_wrap=True, highlight=False)


def _open(path: str) -> xr.Dataset:
    """The lazy CONCEPTS dataset.

    Raises
    ------
    InputError
        There is no store, or it holds something else, or was written by another version.
    """
    system, place = paths.filesystem(path)
    expected = f"{path}: expected a store of concepts, as a study writes to its folder concepts; found"
    if not system.exists(place):
        raise InputError(f"{expected} nothing there: name another path, or run the study")
    if (found := kind(path)) != CONCEPTS.name:
        raise InputError(f"{expected} {f'a dataset of {found}' if found else 'something else'}: name another path")
    return store.load(path, CONCEPTS)


def _wanted(path: str, what: str, known: Any, given: list[int] | None) -> list[int]:
    """Indices of the values that were asked for; of all where none were."""
    if unknown := sorted(set(given or ()) - set(known.tolist())):
        raise InputError(
            f"{path}: has no {what} {', '.join(map(str, unknown))}; it has "
            f"{', '.join(map(str, np.unique(known).tolist()))}: give --{what} one of these"
        )
    return [i for i, value in enumerate(known.tolist()) if not given or value in given]


def _not_clustered(path: str, concepts: xr.Dataset, *, asked: bool) -> list[int]:
    """Numbers of the layers that a study has laid out and not clustered yet.

    Raises
    ------
    InputError
        One of them was asked for, or there is no other.
    """
    with store.undamaged(path):
        ready = concepts.chosen.values.any(axis=0)
    late = [int(number) for number in concepts.layer.values[~ready]]
    if late and (asked or not ready.any()):
        raise InputError(
            f"{path}: expected concepts of layer {', '.join(map(str, late))}, found that it is not clustered yet; run "
            "the study to its end"
        )
    return late


def _chosen(statistics: xr.Dataset, runs: list[int]) -> list[_Chosen]:
    """The chosen runs by layer and number of concepts; none of a layer that is not clustered yet."""
    found = [
        _Chosen(
            int(statistics.layer[layer]),
            int(statistics.k[run]),
            runs[run],
            int(statistics.seed[run]),
            (run, layer),
        )
        for run, layer in np.argwhere(statistics.chosen.values).tolist()
    ]
    return sorted(found, key=lambda one: (one.layer, one.k, one.run))


def _line(statistics: xr.Dataset, one: _Chosen) -> dict[str, Any]:
    """What is said of all concepts of a run at a layer; None for what is not known."""
    here = statistics.isel(run=one.at[0], layer=one.at[1])
    numbers = {name: here[name].values.sum().item() for name in _OVERALL}  # tokens are those of all concepts together
    known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    return {"layer": one.layer, "k": one.k, "run": one.run, "seed": one.seed, **known}


def _largest(concepts: xr.Dataset, statistics: xr.Dataset, one: _Chosen, top: int) -> list[dict[str, Any]]:
    """The concepts of most tokens, each with its tokens by language and its central words."""
    here = statistics.isel(run=one.at[0], layer=one.at[1])
    words = words_of(concepts, statistics, *one.at)
    of_languages = language_tokens(concepts, *one.at)
    names = concepts.attrs.get("languages") or [str(i) for i in range(of_languages.shape[1])]
    tokens = here.tokens.values
    found = []
    for concept in np.argsort(-tokens, kind="stable")[:top].tolist():
        if tokens[concept]:
            order = np.argsort(-of_languages[concept], kind="stable").tolist()
            found.append(
                {
                    "concept": concept,
                    "tokens": int(tokens[concept]),
                    "types": int(here.types[concept]),
                    "languages": {names[i]: int(of_languages[concept, i]) for i in order if of_languages[concept, i]},
                    "mean_distance": float(here.mean_distance[concept]),
                    "words": words[concept],
                }
            )
    return found


def _print_lines(path: str, lines: list[dict[str, Any]]) -> None:
    table = Table(title=path, box=None, padding=(0, 1, 0, 0))
    columns = (
        "layer", "k", "run", "tokens", "empty", "least", "median", "most", "entropy", "explained", "stability"
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            *(f"{line[name]:,}" for name in ("layer", "k", "run", "tokens", "empty", "smallest")),
            f"{line['median']:,.1f}",
            f"{line['largest']:,}",
            *("" if line[name] is None else f"{line[name]:.3f}" for name in _OVERALL[-3:]),
        )
    out.print(table)


def _print_concepts(line: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    title = f"layer {line['layer']}, run {line['run']}: the {len(rows)} largest of {line['k']} concepts"
    table = Table("concept", "tokens", "types", "languages", "distance", "central words", title=title, show_lines=True)
    for row in rows:
        table.add_row(
            str(row["concept"]),
            f"{row['tokens']:,}",
            f"{row['types']:,}",
            " ".join(f"{name}:{count:,}" for name, count in row["languages"].items()),
            f"{row['mean_distance']:.4g}",
            " ".join(row["words"]),
        )
    out.print(table)
