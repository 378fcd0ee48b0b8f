"""The command `colign colap`: COLAP of clusterings of mixed text."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr

from engine import colap, store
from jobs import files, options
from jobs.arguments import Json
from jobs.options import columns_table, is_study, percent
from jobs.outputs import check_dataset
from jobs.progress import out, print_json
from jobs.sides import Side, open_side
from jobs.uncertain import scored_overlap
from schemas.errors import InputError
from schemas.metrics import Metrics
from schemas.results import COLAP_OF_STORES


def colap_of(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY | CONCEPTS...", help="A study, or concepts of mixed text: stores, or ConceptX's files."
        ),
    ],
    starts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=SENTENCE",
            help="Files: a language, and the number of the first sentence in it; given for each, in order.",
        ),
    ] = None,
    layer: options.LayerOption = None,
    k: options.KOption = None,
    preset: options.Preset = None,
    theta: options.Theta = None,
    settings: options.Settings = None,
    top: Annotated[int, typer.Option(min=0, help="Overlapping concepts to print of each layer, with words.")] = 0,
    draws: options.Draws = 0,
    seed: options.Seed = 0,
    out_path: options.OutPath = None,
    as_json: Json = False,
) -> None:
    """COLAP: the share of concepts of mixed text that hold words of several languages, layer by layer."""
    check_dataset(out_path, COLAP_OF_STORES.name)
    sides, base = _sides(inputs, layer, k, starts)
    metrics = options.definitions(base, {"preset": preset, "theta_overlap": theta}, settings)
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for side in sides:
        options.check_layers(side, layer)
        for at in layer or side.layers:
            row, counts = scored_overlap(side, at, metrics, draws=draws, seed=seed)
            rows.append({"store": side.name, "layer": at} | row)
            if top:
                shown += _largest(side, counts, metrics, at, top)
    dataset = _dataset(rows, metrics)
    if out_path is not None:
        store.save(out_path, COLAP_OF_STORES, dataset)
    if as_json:
        known = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        print_json({"metrics": metrics.model_dump(), "layers": known, "concepts": shown if top else None})
        return
    _print(rows, draws)
    for concept in shown:
        words = "; ".join(f"{language}: {' '.join(some)}" for language, some in concept["words"].items())
        out.print(f"layer {concept['layer']}, concept {concept['concept']}  {words}", soft_wrap=True, highlight=False)
    if out_path is not None:
        out.print(f"dataset  {out_path}", soft_wrap=True, highlight=False)


def _sides(
    inputs: Sequence[str], layer: Sequence[int] | None, k: int | None, starts: Sequence[str] | None
) -> tuple[list[Side], Metrics | None]:
    """Clusterings of mixed text, and the definitions of their study."""
    if len(inputs) == 1 and is_study(inputs[0]):
        study, layout = files.load_study(inputs[0])
        if starts:
            raise InputError("--starts goes with files; a study knows its languages")
        found = [
            open_side(layout.concepts(checkpoint, stack, "+".join(group)), k or study.concepts.ks[0])
            for checkpoint in study.checkpoints
            for stack in study.activations.stacks
            for group in study.language_sets
        ]
        return found, study.metrics
    return [mixed(open_side(path, k, layer), starts) for path in inputs], None


def mixed(side: Side, starts: Sequence[str] | None) -> Side:
    """Concepts with the languages of their tokens, which files of clusters tell by the number of the sentence."""
    if starts:
        names, firsts = [], []
        for given in starts:
            name, equals, first = given.partition("=")
            if not equals or not first.isdigit():
                raise InputError(f"--starts {given}: expected LANGUAGE=SENTENCE, such as en=3000")
            names.append(name)
            firsts.append(int(first))
        if len(set(names)) < len(names) or firsts != sorted(set(firsts)):
            raise InputError(f"--starts {', '.join(starts)}: name each language once, by increasing first sentence")
        language = np.searchsorted(firsts, side.concepts.sentence.values, side="right") - 1
        if (language < 0).any():
            raise InputError(
                f"{side.name}: sentence {int(side.concepts.sentence.values[language < 0][0])} comes before the first "
                f"of --starts ({starts[0]}); give the first language from sentence 0"
            )
        concepts = side.concepts.assign(language=("token", language.astype(np.int8))).assign_attrs(languages=names)
        side = replace(side, concepts=concepts)
    languages = [str(name) for name in np.atleast_1d(side.concepts.attrs["languages"])]
    if len(languages) < 2:
        raise InputError(
            f"{side.name}: has words of one language ({languages[0]}), and "
            "COLAP needs concepts of mixed text; for a file of clusters say with --starts where each language begins"
        )
    return side


def _largest(side: Side, counts: xr.Dataset, metrics: Metrics, layer: int, top: int) -> list[dict[str, Any]]:
    """The largest overlapping concepts of a layer, with the most frequent words of each language."""
    found = colap.overlapping(counts, **metrics.overlap)[0]
    size = counts.language_count.sel(unit="token").sum("language").values[0] * found
    labels, languages = side.labels(layer), side.concepts.language.values
    shown = []
    for concept in np.argsort(-size, kind="stable")[: min(top, int(found.sum()))].tolist():
        words = {}
        for number, name in enumerate(np.atleast_1d(side.concepts.attrs["languages"]).tolist()):
            of_language, count = np.unique(
                side.words[(labels == concept) & (languages == number)].astype(object), return_counts=True
            )
            words[name] = of_language[np.argsort(-count, kind="stable")][:15].tolist()
        shown.append({"store": side.name, "layer": layer, "concept": concept, "words": words})
    return shown


def _dataset(rows: Sequence[dict[str, Any]], metrics: Metrics) -> xr.Dataset:
    """Scores laid out along stores and layers."""
    names, layers = ([*dict.fromkeys(row[name] for row in rows)] for name in ("store", "layer"))
    layers.sort()
    values: dict[str, Any] = {"store": np.array(names, object), "layer": np.array(layers, np.int32)}
    for variable in COLAP_OF_STORES.variables:
        if not variable.coordinate:
            values[variable.name] = np.full((len(names), len(layers)), np.nan)
            for row in rows:
                values[variable.name][names.index(row["store"]), layers.index(row["layer"])] = row[variable.name]
    return COLAP_OF_STORES.create(values, metrics=metrics.model_dump_json())


def _print(rows: Sequence[dict[str, Any]], draws: int) -> None:
    columns = ["layer", "COLAP", "overlapping", "of"]
    columns += ["95 %", "shuffled", "p"] if draws else []
    spread = any(row["restart_low"] != row["restart_high"] for row in rows)
    for name, of_store in groupby(rows, key=lambda row: row["store"]):
        table = columns_table(*columns, *(["restarts"] if spread else []))
        for row in of_store:
            cells = [str(row["layer"]), percent(row["colap"])]
            cells += [f"{row['overlapping_concepts']:.0f}", f"{row['concepts']:.0f}"]
            if draws:
                cells += [f"{percent(row['low'])}–{percent(row['high'])}"]
                cells += [percent(row["null_languages"]), f"{row['null_languages_p']:.3f}"]
            if spread:
                cells.append(f"{percent(row['restart_low'])}–{percent(row['restart_high'])}")
            table.add_row(*cells)
        out.print(f"COLAP, %: {name}", soft_wrap=True, highlight=False)
        out.print(table)
