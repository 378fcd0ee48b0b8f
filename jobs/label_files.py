"""Labels of a study's concepts: stored with it, and as files that people and other tools read and write."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from functools import cache

import numpy as np

from engine import paths, store
from engine.properties import forms_shared
from engine.questions import one_line
from jobs.layout import Layout
from jobs.selections import languages_of, selections
from schemas.concepts import CONCEPTS
from schemas.errors import InputError
from schemas.results import LABELS, PROPERTIES_OF_PART
from schemas.study import Study


@dataclass(frozen=True)
class Concept:
    """A concept, by name."""

    checkpoint: str
    stack: str
    selection: str
    layer: int
    concept: int


@dataclass(frozen=True)
class Label(Concept):
    """What a concept is called."""

    label: str
    model: str
    date: str
    concepts: str
    """Hash of what made the concepts."""
    prompt_sha256: str
    """Hash of the model's name and the prompt for this concept alone, also where several were asked together."""


_COLUMNS = (*(field.name for field in fields(Concept)), "label")
"""Columns that a file needs; the others of a label are known, or empty."""


def read(layout: Layout) -> list[Label]:
    """All labels of a study's concepts as they are now; none where nothing was labelled."""
    if store.attributes(layout.labels) is None:
        return []
    held = store.read(layout.labels, LABELS)
    columns = [held[field.name].values.tolist() for field in fields(Label)]
    every = [Label(*row) for row in zip(*columns, strict=True)]
    made = {place: made_of(layout, *place) for place in {_place(one) for one in every}}
    return [one for one in every if one.concepts == made[_place(one)]]


def keep(layout: Layout, labels: Iterable[Label]) -> list[Label]:
    """Store labels, in place of those that their concepts had; returns all labels of the study."""
    labels = [*labels]
    kept = [*{astuple(one)[:5]: one for one in [*read(layout), *labels]}.values()]
    if labels:
        columns = zip(*map(astuple, kept), strict=True)
        values = {
            field.name: np.asarray(column, np.int32 if field.name in ("layer", "concept") else object)
            for field, column in zip(fields(Label), columns, strict=True)
        }
        store.save(layout.labels, LABELS, LABELS.create(values))
    return kept


def called(labels: Iterable[Label], checkpoint: str, stack: str, selection: str, layer: int) -> dict[int, str]:
    """Labels of the concepts of a layer, by number."""
    where = checkpoint, stack, selection, layer
    return {one.concept: one.label for one in labels if (*_place(one), one.layer) == where}


def titles(
    study: Study, layout: Layout, labels: Iterable[Label], checkpoint: str, stack: str, selection: str, layer: int
) -> dict[int, str]:
    """What stands above concepts of a layer, by number: their labels, or what their words share by form, as -ing."""
    shared: dict[int, str] = {}
    if study.properties is not None and len(languages_of(selection)) == 1:
        part = store.read(layout.properties(checkpoint, stack, selection), PROPERTIES_OF_PART)
        shared = forms_shared(part.sel(layer=layer))
    return shared | called(labels, checkpoint, stack, selection, layer)


def made_of(layout: Layout, checkpoint: str, stack: str, selection: str) -> str:
    """Hash of what made the concepts of a selection."""
    held = store.attributes(layout.concepts(checkpoint, stack, selection)) or {}
    return str(held.get("fingerprint"))


def _place(one: Concept) -> tuple[str, str, str]:
    return one.checkpoint, one.stack, one.selection


def write_file(path: str, labels: Iterable[Label]) -> None:
    """Write labels to a file, tab-separated, with a line that names the columns."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="\t", lineterminator="\n")
    writer.writerow([field.name for field in fields(Label)])
    writer.writerows(astuple(one) for one in sorted(labels, key=astuple))
    paths.write_text(path, sink.getvalue())


def read_file(path: str, study: Study, layout: Layout) -> list[Label]:
    """Read labels from a tab-separated file whose first line names its columns, in any order.

    Raises
    ------
    InputError
        There is no such file, it lacks a column, or a line names what the study does not have, names the concept of
        an earlier line, or has labels of concepts that were made otherwise.
    StoreError
        The study has no concepts yet where a line names some.
    """
    text = paths.read_text(path)
    if text is None:
        raise InputError(f"{path}: no such file; expected labels, tab-separated: {', '.join(_COLUMNS)}")
    # spreadsheets write a byte order mark
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter="\t", strict=True)
    try:
        if lacking := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise InputError(
                f"{path}, line 1: expected the columns {', '.join(_COLUMNS)}; {', '.join(lacking)} is missing"
            )
        return [*_labels(reader, path, study, layout)]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.reader.line_num}: not of the form of tab-separated values ({error}); double a "
            "quote, and put what holds one into quotes"
        ) from error


def _labels(reader: "csv.DictReader[str]", path: str, study: Study, layout: Layout) -> Iterator[Label]:
    names = {"checkpoint": [*study.checkpoints], "stack": study.activations.stacks, "selection": [*selections(study)]}
    k, line_of = study.concepts.ks[0], dict[Concept, int]()
    layers, made = cache(lambda *place: _layers(layout, *place)), cache(lambda *place: made_of(layout, *place))
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        number, concept = (row[name] or "" for name in ("layer", "concept"))
        label = one_line(row["label"] or "")
        if not (number.isdecimal() and concept.isdecimal() and int(concept) < k and label):
            raise InputError(f"{where}: expected a layer, a concept below {k} and a label; found {list(row.values())}")
        if None in row:  # where csv puts them
            raise InputError(f"{where}: expected {len(reader.fieldnames or ())} columns, found more: {row[None]}")
        for name, known in names.items():
            if row[name] not in known:
                raise InputError(f"{where}: the study has no {name} {row[name]!r}; it has {', '.join(known)}")
        named = Concept(row["checkpoint"], row["stack"], row["selection"], int(number), int(concept))
        if named.layer not in layers(*_place(named)):
            known_layers = ", ".join(map(str, layers(*_place(named))))
            raise InputError(f"{where}: {named.selection} has no layer {named.layer}; it has {known_layers}")
        if named in line_of:
            raise InputError(f"{where}: labels the concept of line {line_of[named]} again; leave one of them out")
        line_of[named] = reader.line_num
        if (row.get("concepts") or made(*_place(named))) != made(*_place(named)):
            raise InputError(
                f"{where}: is about other concepts than the study has now, or was made of another study; to take it "
                "all the same, leave out the column concepts"
            )
        yield Label(
            **asdict(named),
            label=label,
            model=row.get("model") or path,
            date=row.get("date") or datetime.now(UTC).isoformat("T", "seconds"),
            concepts=made(*_place(named)),
            prompt_sha256=row.get("prompt_sha256") or "",
        )


def _layers(layout: Layout, checkpoint: str, stack: str, selection: str) -> list[int]:
    """Layers whose concepts a study has."""
    return [int(n) for n in store.load(layout.concepts(checkpoint, stack, selection), CONCEPTS).layer.values]
