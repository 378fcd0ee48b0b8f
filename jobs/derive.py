"""Results of a study, from what its stages have stored."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, cross, properties, results, scores, store
from engine.environment import versions
from engine.records import read_records
from jobs import models
from jobs.correlate import correlations
from jobs.layout import Layout
from jobs.selections import Text, selections, target_groups
from jobs.tasks import Context
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.metrics import Metrics
from schemas.results import (
    CALIGN_UNCERTAINTY,
    CALIGN_UNCERTAINTY_OF_PART,
    CALIGN_UNCERTAINTY_SWEEPS,
    COLAP_UNCERTAINTY,
    COLAP_UNCERTAINTY_OF_PART,
    COLAP_UNCERTAINTY_SWEEPS,
    PROPERTIES_OF_PART,
)
from schemas.study import Study, digest
from schemas.task import Key


def derive(context: Context, text: Text) -> xr.DataTree:
    """All results of what is stored; costs seconds, so thresholds may change at will."""
    study, layout = context.study, context.layout
    alignment, overlap = counted(study, layout, study.concepts.ks)
    mixed = [
        (labels | {"source": source, "target": target}, [_mixed(layout, labels, counts, source, target)])
        for labels, (counts,) in overlap
        for group, source, target in study.mixed_directions
        if (group, study.concepts.ks[0]) == (labels["language_set"], labels["k"])
    ]
    tree = results.assemble(
        alignment,
        overlap,
        mixed,
        calign.score,
        colap.score,
        partial(_cross, metrics=study.metrics),
        calign.union,
        calign.best,
        study.metrics,
        study.concepts.ks[0],
        _statistics(context, text),
        preset=study.metrics.preset,
        study=study.model_dump_json(),
        study_hash=digest(study),
        text_hash=_text_hash(layout),
        inputs_hash=context.inputs,
        versions=versions(),
    )
    for node, dataset in _drawn(study, layout):
        tree[node] = xr.DataTree(dataset)
    if study.properties is not None:
        tree["/properties"] = xr.DataTree(_described(study, layout))
    if study.scored:
        held = read_records(layout.records)
        found = [row for part in study.scored for row in held[str(Key("scores", part))].outcome["scores"]]
        rows = [{**row, "state": models.state(study, row)} for row in found]
        table = scores.tabulate(rows)
        tree["/scores"] = xr.DataTree(table)
        tree["/correlations"] = xr.DataTree(correlations(tree, table, study))
    return tree


def _mixed(layout: Layout, labels: Mapping[str, Any], counts: xr.Dataset, source: str, target: str) -> xr.Dataset:
    """ALIGNED_TYPES within mixed text, with the language_count of the same concepts."""
    where = labels["checkpoint"], labels["stack"], labels["k"], labels["language_set"]
    found = store.load(layout.mixed_aligned_types(*where, source, target), ALIGNED_TYPES)
    both = found.assign(language_count=counts.language_count)
    both.encoding = found.encoding
    return both


def _cross(counts: xr.Dataset, *, metrics: Metrics) -> dict[str, NDArray[np.float64]]:
    """The cross-table of what `_mixed` gives."""
    held = counts.language_count.sum(["language", "unit"]).transpose("layer", "concept").values > 0
    pairs = calign.aligned(counts, **metrics.alignment)
    return cross.score(pairs, colap.overlapping(counts, **metrics.overlap), held)


def counted(study: Study, layout: Layout, ks: Sequence[int]) -> tuple[list[results.Part], list[results.Part]]:
    """Stored counts behind CALIGN and behind COLAP for some numbers of concepts, with their labels."""
    alignment: list[results.Part] = []
    overlap: list[results.Part] = []
    for checkpoint, stack, k in product(study.checkpoints, study.alignment_stacks, ks):
        alignment += _alignment(study, layout, checkpoint, stack, k)
    for checkpoint, stack, k in product(study.checkpoints, study.activations.stacks, ks):
        for name in map("+".join, study.language_sets):
            mixed = store.load(layout.language_count(checkpoint, stack, k, name), LANGUAGE_COUNT)
            overlap.append(({"checkpoint": checkpoint, "stack": stack, "language_set": name, "k": k}, [mixed]))
    return alignment, overlap


def _alignment(study: Study, layout: Layout, checkpoint: str, stack: str, k: int) -> Iterator[results.Part]:
    """Counts of every direction, and of each language of several pairs towards all its targets together."""
    made: dict[tuple[str, str], xr.Dataset] = {}

    @cache  # each is the reverse of another
    def held(side: str, source: str, target: str) -> xr.Dataset:
        return store.load(layout.aligned_types(checkpoint, side, k, source, target), ALIGNED_TYPES)

    for source, target in study.directions:
        counts = held(stack, source, target)
        reverse = held("-".join(reversed(stack.split("-"))), target, source)
        both = calign.with_reverse(counts, reverse)
        both.encoding = counts.encoding
        made[source, target] = both
    for source, targets in target_groups(study):
        labels = {"checkpoint": checkpoint, "stack": stack, "source": source, "target": "+".join(targets), "k": k}
        yield labels, [made[source, target] for target in targets]


def _drawn(study: Study, layout: Layout) -> Iterator[tuple[str, xr.Dataset]]:
    """Intervals, spread and nulls of the scores, with their places in the tree; none where they were not asked for."""
    if not study.uncertainty.draws:
        return
    alignment: list[results.Part] = []
    overlap: list[results.Part] = []
    for checkpoint, stack in product(study.checkpoints, study.alignment_stacks):
        for source, targets in target_groups(study):
            path = layout.uncertainty(checkpoint, stack, source, target := "+".join(targets))
            labels = {"checkpoint": checkpoint, "stack": stack, "source": source, "target": target}
            alignment.append((labels, [store.read(path, CALIGN_UNCERTAINTY_OF_PART)]))
    for checkpoint, stack in product(study.checkpoints, study.activations.stacks):
        for name in map("+".join, study.language_sets):
            found = store.read(layout.uncertainty(checkpoint, stack, name), COLAP_UNCERTAINTY_OF_PART)
            overlap.append(({"checkpoint": checkpoint, "stack": stack, "language_set": name}, [found]))
    for measure, schema, swept, parts in (
        ("calign", CALIGN_UNCERTAINTY, CALIGN_UNCERTAINTY_SWEEPS, alignment),
        ("colap", COLAP_UNCERTAINTY, COLAP_UNCERTAINTY_SWEEPS, overlap),
    ):
        yield f"/uncertainty/{measure}", results.scores(schema, parts, _as_stored)
        for name, along in swept.items():
            thresholds: Any = {name: results.SWEEPS[name]}
            yield f"/uncertainty/{measure}_by_{name}", results.scores(along, parts, _as_stored, **thresholds)


def _described(study: Study, layout: Layout) -> xr.Dataset:
    """Lexical and semantic concepts of every clustering of one language, by layer."""
    alone = [name for name, languages in selections(study).items() if len(languages) == 1]
    parts = [
        ({"checkpoint": checkpoint, "stack": stack, "selection": name}, layout.properties(checkpoint, stack, name))
        for checkpoint, stack, name in product(study.checkpoints, study.activations.stacks, alone)
    ]
    return properties.tabulate([(labels, store.load(path, PROPERTIES_OF_PART)) for labels, path in parts])


def _as_stored(part: xr.Dataset, **point: float) -> dict[str, NDArray[np.float64]]:
    """Variables (layer) of a part, or those along a threshold, at a value of it and without it in their names."""
    behind = "".join(f"_by_{name}" for name in point)
    at = {name: part.variables[name].values.tolist().index(value) for name, value in point.items()}
    return {
        name.removesuffix(behind): part.variables[name].isel(at, missing_dims="ignore").values
        for name in map(str, part.data_vars)
        if behind in name
    }


def are_current(study: Study, layout: Layout, inputs: str | None = None) -> bool:
    """Whether the written results are of this study and its text, thresholds included.

    Parameters
    ----------
    inputs
        `Context.inputs`, where the content of models and of further files is to be compared, too.
    """
    attributes = store.attributes(layout.results)
    expected = {"study_hash": digest(study), "text_hash": _text_hash(layout)}
    expected |= {} if inputs is None else {"inputs_hash": inputs}
    return attributes is not None and expected.items() <= attributes.items()


def _text_hash(layout: Layout) -> str:
    """Hash of the text that the corpus was read from."""
    return digest((store.attributes(layout.corpus) or {}).get("sha256"))


def _statistics(context: Context, text: Text) -> dict[str, Any]:
    languages = list(text.tokens)
    checkpoints = list(context.study.checkpoints)
    stack = context.study.activations.stacks[0]
    absent, too_long = np.zeros((2, len(checkpoints), len(languages)), np.int64)
    for name, record in read_records(context.layout.records).items():
        parts = name.split("/")
        if parts[0] == "activations" and parts[1] in checkpoints and parts[2] == stack:
            cell = checkpoints.index(parts[1]), languages.index(parts[3])
            absent[cell] += record.outcome["absent"]
            too_long[cell] += record.outcome["too_long"]
    numbers = {
        "tokens": text.tokens, "types": text.types,
        "selected_tokens": text.selected_tokens, "selected_types": text.selected_types,
    }  # fmt: skip
    return {
        "language": languages,
        "checkpoint": checkpoints,
        "sentences": np.full(len(languages), text.sentences, np.int64),
        "absent_tokens": absent,
        "too_long_tokens": too_long,
    } | {name: np.array([found[lang] for lang in languages], np.int64) for name, found in numbers.items()}
