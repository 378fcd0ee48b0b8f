"""Verifying a study: every stored byte against its checksum, and a sample of vectors against the model."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine import activations, paths, store
from engine.records import delete_record
from jobs import models
from jobs.selections import Text, clustered_names, is_linked, languages_of, read_text
from jobs.stages import Stage
from jobs.tasks import Context
from schemas.activations import ACTIVATIONS
from schemas.concepts import CONCEPTS
from schemas.corpus import CLUSTERED, CORPUS, SELECTION
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.dataset import Schema
from schemas.errors import ColignError, SchemaError, StoreError
from schemas.links import DICTIONARY, LINKS
from schemas.results import CALIGN_UNCERTAINTY_OF_PART, COLAP_UNCERTAINTY_OF_PART, PROPERTIES_OF_PART
from schemas.task import Key, Record

_ROUNDING = {("float32", "float16"): 2e-3, ("float32", "float32"): 1e-4}
"""Largest difference that other batches of the same sentences explain, by types of computation and storage, as a share
of the layer's largest number; for bfloat16 the next."""

_ROUNDING_BFLOAT16 = 5e-2


@dataclass
class Verified:
    """What verifying found."""

    nbytes: int = 0
    """Bytes, as they are in memory, that were read and found whole."""
    equal: int = 0
    """Recomputed shards whose vectors are equal to the bit."""
    close: int = 0
    """Recomputed shards that differ by rounding alone: those of a store that grew were computed in other batches."""
    damaged: dict[str, list[Key]] = field(default_factory=dict)
    """Tasks whose results do not hold, by what is wrong."""


def verify(
    context: Context,
    stages: Sequence[Stage],
    done: Mapping[str, Record],
    *,
    sample: int,
    seed: int,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> Verified:
    """Read everything that the records of a study say is done, and compute some shards of vectors again.

    Parameters
    ----------
    sample
        Number of shards to compute again.
    seed
        Which ones.
    watch
        Told (what goes on, tasks read, tasks in all).
    """
    found = Verified()
    keys = [key for stage in stages for key in stage.keys if str(key) in done]
    for number, key in enumerate(keys):
        watch(f"reading {key}", number, len(keys))
        try:
            if key.stage == "models":
                models.check(context.study, context.layout, key.part[0], done[str(key)].outcome["content"])
            found.nbytes += sum(store.check(path, schema, **where) for path, schema, where in _written_by(key, context))
        except ColignError as error:
            found.damaged.setdefault(str(error), []).append(key)
    wrong = {key for names in found.damaged.values() for key in names}
    # without the words nothing can be computed
    shards = [key for key in keys if key.stage == "activations" and not wrong & {key, Key("corpus")}]
    for index in np.random.default_rng(seed).permutation(len(shards))[:sample]:
        key = shards[index]
        watch(f"computing {key}", len(keys), len(keys))
        difference = _compare(key, context)
        found.equal += difference == 0
        found.close += 0 < difference <= 1
        if difference > 1:
            said = f"{context.extractions[key.part].path}: computing again gives other vectors"
            found.damaged.setdefault(said, []).append(key)
    return found


def sizes(context: Context, done: Collection[str]) -> Text:
    """Sizes of a study's text, from the files where the stored corpus cannot be read."""
    study, layout = context.study, context.layout
    try:
        return read_text(study, layout, done)
    except (StoreError, SchemaError):
        return read_text(study, layout, ())


def _written_by(key: Key, context: Context) -> Iterator[tuple[str, Schema, dict[str, tuple[int, int]]]]:
    """Datasets that a task wrote, each with the range of its dimensions that it wrote."""
    layout, part = context.layout, key.part
    if key.stage == "activations":
        yield context.extractions[part].path, ACTIVATIONS, {"token": (key.start, key.stop)}
    elif key.stage == "corpus":
        yield layout.corpus, CORPUS, {}
        for language in () if is_linked(context.study) else context.study.corpus.files:
            yield layout.selection(language), SELECTION, {}
    elif key.stage == "selection":
        for language in context.study.read_languages:
            yield layout.selection(language), SELECTION, {}
            for name in clustered_names(context.study, language):
                yield layout.selection(name), CLUSTERED, {}
    elif key.stage == "links":
        yield layout.links(*part), LINKS, {}
    elif key.stage == "dictionary":
        yield layout.dictionary(*part), DICTIONARY, {}
        yield layout.dictionary(*part[::-1]), DICTIONARY, {}
    elif key.stage == "concepts":
        layers = context.extractions[part[0], part[1], languages_of(part[2])[0]].wanted.layers
        at = layers.index(int(part[3]))
        yield layout.concepts(*part[:3]), CONCEPTS, {"layer": (at, at + 1)}
    elif key.stage in ("models", "scores"):
        return  # a folder of transformers' own, and a record
    elif key.stage == "properties":
        yield layout.properties(*part), PROPERTIES_OF_PART, {}
    elif key.stage == "uncertainty":
        yield layout.uncertainty(*part), COLAP_UNCERTAINTY_OF_PART if len(part) == 3 else CALIGN_UNCERTAINTY_OF_PART, {}
    else:
        checkpoint, stack, k, *names = part
        where = checkpoint, stack, int(k)
        if len(names) == 1:
            yield layout.language_count(*where, *names), LANGUAGE_COUNT, {}
        else:
            path_of = layout.aligned_types if len(names) == 2 else layout.mixed_aligned_types
            yield path_of(*where, *names), ALIGNED_TYPES, {}


def _compare(key: Key, context: Context) -> float:
    """Compute a shard again: 0 where the store equals it to the bit, at most 1 where only rounding differs."""
    task = context.extractions[key.part]
    vectors, described = activations.compute(key, task)
    rows = np.arange(key.start, key.stop)
    if any(not np.array_equal(store.read_rows(task.path, name, rows), values) for name, values in described.items()):
        return np.inf
    allowed = _ROUNDING.get((task.wanted.compute, str(vectors.dtype)), _ROUNDING_BFLOAT16)
    if task.keep_bits is not None:
        allowed += 2.0**-task.keep_bits
    worst = 0.0
    for at in range(len(vectors)):
        stored = store.read_rows(task.path, "activation", rows, axis=1, layer=at).astype(np.float32)
        again = vectors[at].astype(np.float32)
        if not np.array_equal(np.isnan(stored), np.isnan(again)):
            return np.inf
        largest = np.nanmax(np.abs(again), initial=1e-30)
        worst = max(worst, float(np.nanmax(np.abs(stored - again), initial=0.0) / largest / allowed))
    return worst


def take_back(context: Context, stages: Sequence[Stage], done: Collection[str], found: Verified) -> list[str]:
    """Delete the records of what is damaged, so that the next run does it again; returns their names.

    A dataset that cannot even be opened is removed, with the records of every task that wrote into it.
    """
    keys = [key for stage in stages for key in stage.keys if str(key) in done]
    wrong = {key for damaged in found.damaged.values() for key in damaged}
    for path, schema in {(path, schema) for key in wrong for path, schema, _ in _written_by(key, context)}:
        try:
            store.load(path, schema)
        except ColignError:
            wrong |= {key for key in keys if path in [written for written, *_ in _written_by(key, context)]}
            paths.remove(path)
    names = sorted(str(key) for key in wrong)
    for name in names:
        delete_record(context.layout.records, name)
    return names
