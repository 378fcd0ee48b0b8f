"""Task functions: each reads datasets, calls one engine function, writes its own region or dataset, and commits."""

import resource
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import properties, store
from engine.activations import Extraction, extract
from engine.aligned import counted, described, numbered
from engine.allocator import give_back_holes, reuse_blocks
from engine.colap import count_languages
from engine.concepts import chosen_by_layer, chosen_concepts, chosen_runs
from engine.corpus import write_corpus
from engine.dictionary import estimate
from engine.exchange.given_links import import_links
from engine.kernels.shards import shard_ranges
from engine.labelled import read_tags
from engine.lexicon import Chosen
from engine.links import link
from engine.records import read_record, write_record
from engine.results import SWEEPS
from engine.selection import linked_tokens, long_sentences, mixed_tokens, write_clustered, write_selections
from engine.text import sentence_offsets
from jobs import models
from jobs.clustering import PROCESS
from jobs.layout import Layout
from jobs.linking import Given
from jobs.selections import clustered_name, clustered_names, concepts_name, is_linked, languages_of
from jobs.sides import Place, compare_in_study, open_side
from jobs.uncertain import scored_alignment, scored_overlap
from schemas import study
from schemas.concepts import CONCEPTS
from schemas.corpus import CORPUS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.links import DICTIONARY, LINKS
from schemas.results import (
    CALIGN_UNCERTAINTY_OF_PART,
    CALIGN_UNCERTAINTY_SWEEPS,
    COLAP_UNCERTAINTY_OF_PART,
    COLAP_UNCERTAINTY_SWEEPS,
    CORRELATIONS,
    PROPERTIES_OF_PART,
    SCORES,
)
from schemas.task import Key, Record

Outcome = dict[str, Any]

MODEL_STAGES = ("activations", "concepts", "counts", "uncertainty", "properties")
"""Stages whose keys begin with a checkpoint."""


Part = tuple[str, ...]


@dataclass(frozen=True)
class Vectors:
    """What the tasks need that write vectors."""

    extractions: Mapping[Part, Extraction]
    """The extraction of each (checkpoint, stack, language)."""
    settings: study.Activations
    """How vectors are made and stored."""
    records: str
    """Folder of the commit records."""
    fingerprints: Mapping[Part, str]
    """Hash of all the settings and inputs that decide a store."""
    origins: Mapping[Part, str]
    """Hash of those that decide one word's vector: stores that share it may take vectors from one another."""


@dataclass(frozen=True)
class Context:
    """What every task of a study may need."""

    study: study.Study
    layout: Layout
    vectors: Vectors
    fingerprints: Mapping[str, str]
    """Hash, by stage, of the settings that decide its result, the model aside."""
    opened: Mapping[str, str]
    """Folder, or hub name with the commit, of what each checkpoint is, or is made of."""
    models: Mapping[str, str]
    """Hash, by checkpoint, of the content of its model."""
    downstream: Mapping[str, str]
    """Hash, by downstream task, of what decides its scores."""
    given: Mapping[tuple[str, str], Given]
    """Links of another tool, by pair."""
    memory: int
    """Bytes that a worker may use."""

    @property
    def extractions(self) -> Mapping[Part, Extraction]:
        """The extraction of each (checkpoint, stack, language)."""
        return self.vectors.extractions

    @property
    def inputs(self) -> str:
        """Hash of the content of models, and of files that are read beside the text."""
        laid_out = [SCORES.version, CORRELATIONS.version] if self.study.scored else []
        return study.digest(self.models, self.downstream, self.fingerprints.get("properties"), *laid_out)

    def fingerprint(self, key: Key) -> str:
        """Hash of all the settings and inputs that decide a task's result."""
        if key.stage == "activations" and key.part[:3] in self.vectors.fingerprints:
            return self.vectors.fingerprints[key.part[:3]]
        if key.stage in ("models", "scores"):
            name, *task = key.part
            return study.digest(key.stage, self.models[name], *(self.downstream[of] for of in task))
        last = [name.split("+") for name in key.part[-2:]]
        between = {pair for pair in product(*last) for pair in (pair, pair[::-1])} if self.given else set()
        links = [given.sha256 for pair, given in self.given.items() if pair in between]
        if key.stage not in MODEL_STAGES:
            return study.digest(self.fingerprints[key.stage], *links) if links else self.fingerprints[key.stage]
        checkpoint, stack, *names = key.part
        names = names[1:] if key.stage == "counts" else names
        parts = [
            (checkpoint, side, language)
            for side, name in zip(study.sides(stack), names, strict=False)
            for language in languages_of(name)
        ]
        sources = [self.extractions[part].source for part in parts if part in self.extractions]
        # which vectors are stored depends on all the pairs and sets that a language is in
        stored = clustered_names(self.study, names[0]) if key.stage == "activations" else []
        rules: list[Any] = []
        if key.stage == "uncertainty":
            metrics = self.study.metrics
            rules = [metrics.overlap] if len(names) == 1 else [metrics.alignment, metrics.denominator, metrics.counting]
        return study.digest(self.fingerprints[key.stage], self.models[checkpoint], sources, *links, *stored, *rules)


def commit(key: Key, records: str, fingerprint: str, started: float, outcome: Outcome) -> Outcome:
    """Write the record that a task is done."""
    write_record(
        records,
        Record(
            str(key),
            fingerprint,
            socket.gethostname(),
            started,
            time.time() - started,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            outcome,
        ),
    )
    return outcome


def perform(key: Key, context: Context) -> Outcome:
    """Do one task and commit it. Doing it again writes the same bytes."""
    started = time.time()
    give_back_holes()  # of the tasks before: a process late in a study held 70 MiB of them
    reuse_blocks()
    outcome = FUNCTIONS[key.stage](key, context)
    return commit(key, context.layout.records, context.fingerprint(key), started, outcome)


def perform_shards(key: Key, vectors: Vectors) -> list[Outcome]:
    """The vectors of some shards that follow one another; each is committed on its own as soon as it is written.

    A task that was lost with its worker goes on behind the shards that it had committed.
    """
    task, fingerprint = vectors.extractions[key.part], vectors.fingerprints[key.part]
    outcomes: list[Outcome] = []
    for start, stop in shard_ranges(key.stop - key.start, task.shard_tokens):
        shard = replace(key, start=key.start + start, stop=key.start + stop)
        record = read_record(vectors.records, str(shard))
        if record is None or record.fingerprint != fingerprint:
            left = replace(key, start=shard.start)
            break
        outcomes.append(record.outcome)
    else:
        return outcomes

    def done(shard: Key, started: float, outcome: Outcome) -> None:
        commit(shard, vectors.records, fingerprint, started, outcome)

    return [*outcomes, *extract(left, task, done)]


def read(key: Key, context: Context) -> Outcome:
    """Read the text, write the corpus; select tokens, where the text alone decides."""
    settings, layout, fingerprint = context.study, context.layout, context.fingerprint(key)
    write_corpus(layout.corpus, settings.corpus.files, settings.corpus.words, fingerprint=fingerprint)
    corpus = store.load(layout.corpus, CORPUS)
    if not is_linked(settings):
        places = {language: layout.selection(language) for language in settings.corpus.files}
        write_selections(places, corpus, settings.selection, fingerprint=fingerprint)
    return {"tokens": corpus.sizes["token"], "types": corpus.sizes["type"]}


def align_words(key: Key, context: Context) -> Outcome:
    """Word links of a pair."""
    layout, (source, target) = context.layout, key.part
    corpus = store.load(layout.corpus, CORPUS)
    if given := context.given.get((source, target)):
        links = import_links(corpus, source, target, given.path, reverse=given.reverse)
    else:
        links = link(corpus, source, target, context.study.links, memory=context.memory - PROCESS)
    store.save(layout.links(source, target), LINKS, links, fingerprint=context.fingerprint(key))
    return {"links": links.sizes["link"], **{name: links.attrs[name] for name in ("trained_on", "sentences_too_long")}}


def select(key: Key, context: Context) -> Outcome:
    """What is clustered of each language in its pairs, by their links, and in mixed text; and all of it together."""
    settings, layout = context.study, context.layout
    corpus, rule = store.load(layout.corpus, CORPUS), settings.selection
    long = long_sentences(corpus, rule.max_sentence_words)
    found: dict[str, dict[str, NDArray[np.int64]]] = {}
    for source, target in settings.pairs:
        tokens = linked_tokens(corpus, store.read(layout.links(source, target), LINKS), rule, long)
        for one, other in ((source, target), (target, source)):
            found.setdefault(one, {})[concepts_name(settings, one, other)] = tokens[one]
    for group in settings.language_sets:
        for language, of_set in mixed_tokens(corpus, group, rule, long).items():
            found.setdefault(language, {})[clustered_name("+".join(group), language)] = of_set
    total = 0
    for language, parts in found.items():
        total += write_clustered(
            layout.selection(language),
            {name: layout.selection(name) for name in parts},
            parts,
            corpus,
            rule=rule.model_dump_json(),
            sentences_left_out=0 if long is None else int(long.sum()),
            fingerprint=context.fingerprint(key),
        )
    return {"tokens": total}


def count_translations(key: Key, context: Context) -> Outcome:
    """The dictionaries of both directions of a pair."""
    layout, (source, target) = context.layout, key.part
    corpus = store.load(layout.corpus, CORPUS)
    links = store.read(layout.links(source, target), LINKS)
    entries = 0
    for one, other in ((source, target), (target, source)):
        dictionary = estimate(corpus, links, one, other, context.study.dictionary.fold)
        store.save(layout.dictionary(one, other), DICTIONARY, dictionary, fingerprint=context.fingerprint(key))
        entries += dictionary.sizes["entry"]
    return {"entries": entries}


def count(key: Key, context: Context) -> Outcome:
    """Counts behind CALIGN (part ends in source, target), COLAP (in a language set) or their cross-table (in both)."""
    layout = context.layout
    checkpoint, stack, number, *names = key.part
    k = int(number)
    if len(names) == 1:
        path = layout.concepts(checkpoint, stack, names[0])
        concepts = store.load(path, CONCEPTS)
        with store.undamaged(path):
            counts = count_languages(concepts, chosen_by_layer(concepts, k), k)
        path = layout.language_count(checkpoint, stack, k, names[0])
        store.save(path, LANGUAGE_COUNT, counts, fingerprint=context.fingerprint(key))
        return {"concepts": int(np.prod(counts.language_count.shape[:2]))}
    *mixed, source, target = names
    pairs = (source, target), (target, source)
    selections = mixed * 2 or [concepts_name(context.study, *pair) for pair in pairs]
    tokens = [
        _Tokens(layout.concepts(checkpoint, side, selection), language, k)
        for side, selection, language in zip(study.sides(stack), selections, (source, target), strict=True)
    ]
    path = (layout.mixed_aligned_types if mixed else layout.aligned_types)(checkpoint, stack, k, *names)
    return _count_aligned(path, context, tokens, k, layout.dictionary(source, target), context.fingerprint(key))


class _Tokens:
    """Words of one language with their concepts, of which little is in memory at once."""

    def __init__(self, path: str, language: str, k: int) -> None:
        self.path, self._concepts = path, store.load(path, CONCEPTS)
        with store.undamaged(path):
            names = [str(name) for name in np.atleast_1d(self._concepts.attrs["languages"])]
            self._rows = np.flatnonzero(self._concepts.language.values == names.index(language)).astype(np.int32)
            self._runs = chosen_runs(self._concepts, k)
            self.layers = self._concepts.layer.values
        self.words = Chosen(self._concepts.word, self._rows)

    def of_layer(self, layer: int) -> NDArray[np.int32]:
        """Concept (token) of each in the chosen restart of a layer, which is given by its place among them."""
        with store.undamaged(self.path):
            return np.asarray(self._concepts.concept[self._runs[layer], layer].values[self._rows])


def _count_aligned(
    path: str, context: Context, tokens: list[_Tokens], k: int, dictionary: str, fingerprint: str
) -> Outcome:
    """Counts of one direction, written layer by layer: all ranks of all layers may not fit memory."""
    one, other = tokens
    metrics, translations = context.study.metrics, store.read(dictionary, DICTIONARY)
    with store.undamaged(one.path), store.undamaged(other.path):
        words = numbered(one.words, other.words, translations, **metrics.counting)
    layers, *at = np.intersect1d(one.layers, other.layers, return_indices=True)
    store.remove_other(path, fingerprint)
    store.setup(
        path,
        ALIGNED_TYPES,
        {"rank": metrics.n_ranks, "layer": len(layers), "source_concept": k, "target_concept": k},
        {"layer": layers, "rank": np.arange(metrics.n_ranks, dtype=np.int32)},
        chunks={"layer": 1},
        shards={},
        fingerprint=fingerprint,
        **described(translations, **metrics.counting),
    )
    rows: dict[str, list[NDArray[np.int32]]] = {}
    for index, (i, j) in enumerate(zip(*at, strict=True)):
        found = counted(words, one.of_layer(i), other.of_layer(j), (k, k), metrics.n_ranks)
        store.write_region(path, "aligned_types", found.pop("aligned_types")[:, None], layer=index)
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
    for name, of_layers in rows.items():
        store.write_region(path, name, np.stack(of_layers))
    return {"concepts": len(layers) * k * k}


def draw(key: Key, context: Context) -> Outcome:
    """How far CALIGN (part ends in a source and its targets) or COLAP (in a language set) can be read as signal."""
    settings, layout = context.study, context.layout
    checkpoint, stack, *names = key.part
    metrics, asked = settings.metrics, settings.uncertainty.model_dump()
    if len(names) == 1:
        schema = COLAP_UNCERTAINTY_OF_PART
        side = open_side(layout.concepts(checkpoint, stack, names[0]), settings.concepts.ks[0])
        sweeps = [*COLAP_UNCERTAINTY_SWEEPS]
        rows = {layer: scored_overlap(side, layer, metrics, **asked, sweeps=sweeps)[0] for layer in side.layers}
    else:
        schema = CALIGN_UNCERTAINTY_OF_PART
        sides = [Place(names[0], checkpoint, study.sides(stack)[0])]
        sides += [Place(target, checkpoint, study.sides(stack)[1]) for target in names[1].split("+")]
        of = [compare_in_study(settings, layout, sides[0], other, metrics.counting) for other in sides[1:]]
        layers = sorted(set(of[0].source.layers).intersection(*(one.target.layers for one in of)))
        sweeps = [*CALIGN_UNCERTAINTY_SWEEPS]
        rows = {layer: scored_alignment(of, layer, layer, metrics, **asked, sweeps=sweeps)[0] for layer in layers}
    values: dict[str, Any] = {name: np.array(SWEEPS[name], schema[name].dtype) for name in sweeps}
    values["layer"] = np.array([*rows], np.int32)
    for name in (variable.name for variable in schema.variables if not variable.coordinate):
        values[name] = np.array([row[name] for row in rows.values()])
    path = layout.uncertainty(*key.part)
    store.save(path, schema, schema.create(values), fingerprint=context.fingerprint(key))
    return {"layers": len(rows)}


def describe_properties(key: Key, context: Context) -> Outcome:
    """What the words of the concepts of one language share."""
    layout, settings = context.layout, context.study
    checkpoint, stack, selection = key.part
    path = layout.concepts(checkpoint, stack, selection)
    concepts = store.load(path, CONCEPTS)
    (language,) = languages_of(selection)
    with store.undamaged(path):
        where = concepts.sentence.values, concepts.position.values
        words, layers = concepts.word.values, concepts.layer.values.tolist()
        labels = chosen_concepts(concepts, settings.concepts.ks[0])
    of = settings.properties.tags if settings.properties else {}
    lengths = np.diff(sentence_offsets(store.load(layout.corpus, CORPUS), language))
    tags = {kind: read_tags(files[language], lengths, *where) for kind, files in of.items() if language in files}
    found = properties.describe(words, labels, layers, settings.concepts.ks[0], tags)
    store.save(layout.properties(*key.part), PROPERTIES_OF_PART, found, fingerprint=context.fingerprint(key))
    return {"concepts": int((found.types.values > 0).sum())}


def make_model(key: Key, context: Context) -> Outcome:
    """A checkpoint that the study makes."""
    (name,) = key.part
    return models.make(context.study, context.layout, name, context.opened[name])


def score_model(key: Key, context: Context) -> Outcome:
    """Scores of a checkpoint on a downstream task; the record holds them."""
    name, task = key.part
    return models.score(context.study, context.layout, name, task, context.opened[name])


FUNCTIONS: dict[str, Callable[[Key, Context], Outcome]] = {
    "corpus": read,
    "links": align_words,
    "selection": select,
    "dictionary": count_translations,
    "models": make_model,
    "scores": score_model,
    "counts": count,
    "uncertainty": draw,
    "properties": describe_properties,
}
"""The task function of each mapped stage; `concepts` are driven by `jobs.layers`, `activations` are done by
`perform_shards`."""
