"""The flow as data: which stages a study has, their tasks, and what they need, by arithmetic alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from engine.activations import Extraction, layers_of
from engine.concepts import Clustering
from engine.kernels.shards import shard_ranges
from engine.model.pieces import Wanted
from engine.model.shape import describe, pinned
from engine.seeding import drawing
from jobs import clustering, linking, models
from jobs.clustering import PROCESS
from jobs.layout import Layout
from jobs.selections import Text, clustered_name, clustered_names, described, is_linked, selections, target_groups
from jobs.sizes import TEXT_BLOCKS, TOKEN_BYTES, extraction_memory, layer_bytes
from jobs.tasks import Context, Vectors
from schemas.counts import ALIGNED_TYPES
from schemas.errors import InputError
from schemas.links import DICTIONARY
from schemas.results import CALIGN_UNCERTAINTY_OF_PART, PROPERTIES_OF_PART
from schemas.study import Activations, Study, digest, sides
from schemas.task import Key

_TYPE = 280
"""Bytes of a word type while its text is read: a string, a dictionary entry and numbers (measured: 165, Latin)."""

_LINK = 90
"""Bytes of a word of a pair while its links are selected: indices, types, pairs, and their sorting."""


_COUNTED = 56
"""Bytes of a counted token: its type and concept, and sorting, where no pair of both comes twice; else half of it."""

_TRANSLATIONS = 75
"""Bytes of a token of a pair, of either language, for its dictionaries: links, entries, and types."""


@dataclass(frozen=True)
class Stage:
    """One stage of the flow."""

    name: str
    """Stage name: the head of its keys."""
    keys: tuple[Key, ...]
    """Every task, in the order in which they are handed out."""
    nbytes: int
    """Projected bytes on disk."""
    memory: int
    """Projected peak memory of a worker, in bytes."""
    clusterings: tuple[Clustering, ...] = ()
    """For the concepts stage: one for each checkpoint, stack and selection."""


def fingerprints(study: Study, given: Sequence[str] = (), tags: Sequence[str] = ()) -> dict[str, str]:
    """Hash, by stage, of every setting that decides its result, languages aside (they are in the keys).

    A stage inherits those of the stages it reads. The texts are compared by content.

    Parameters
    ----------
    given
        Hashes of the links of other tools.
    tags
        Hashes of tag files.
    """
    languages = sorted(study.corpus.files)
    limited = study.selection.max_sentence_words is not None  # then what is selected depends on all languages
    rules = digest(study.corpus.words, study.selection.rules, languages if limited else [])
    links = digest(study.corpus.words, study.links.model_dump(mode="json", exclude={"files"}))
    linked = is_linked(study)  # then a stage of its own selects
    selected = digest(rules, links, given) if linked else rules
    activations = digest(selected, study.activations.model_dump(mode="json", exclude=_IN_KEYS))
    concepts = digest(activations, study.concepts, *drawing(study.concepts))
    counted = concepts, links, study.dictionary
    return {
        "corpus": digest(study.corpus.words if linked else rules, languages),
        "links": links,
        "selection": digest(selected, languages, sorted(selections(study))),
        "dictionary": digest(links, study.dictionary, DICTIONARY.version),
        "activations": activations,
        "concepts": concepts,
        "counts": digest(
            *counted,
            [DICTIONARY.version, ALIGNED_TYPES.version],
            study.metrics.counting,
            study.metrics.n_ranks,
        ),
        "properties": digest(concepts, PROPERTIES_OF_PART.version, study.properties, tags),
        "uncertainty": digest(*counted, [DICTIONARY.version, CALIGN_UNCERTAINTY_OF_PART.version], study.uncertainty),
    }


_IN_KEYS = {"stacks", "decoder_source"}
"""Settings of activations that are told by a task's key, or told apart for each key."""


def vector_fingerprint(words: str, settings: Activations) -> str:
    """Hash of the settings that decide one word's vector."""
    which = _IN_KEYS | {"layers", "shard_tokens", "chunk_tokens"}
    return digest(words, settings.model_dump(mode="json", exclude=which))


def context(study: Study, layout: Layout, threads: int, memory: int) -> Context:
    """Configuration of every task.

    Parameters
    ----------
    memory
        Bytes that a worker may use; weights may take half of it in host memory.

    Raises
    ------
    InputError
        A model cannot be read, or has no such stack or layer.
    """
    settings = study.activations
    extractions: dict[tuple[str, ...], Extraction] = {}
    opened = {name: pinned(checkpoint.model) for name, checkpoint in study.checkpoints.items()}
    for name, checkpoint in study.checkpoints.items():
        shape = describe(opened[name], trusted=checkpoint.trust_remote_code)
        model = layout.model(name) if checkpoint.made else opened[name]
        for stack in settings.stacks:
            wanted = Wanted(
                stack,
                layers_of(opened[name], stack, settings.layers, trusted=checkpoint.trust_remote_code),
                settings.pooling,
                settings.decoder_position,
                settings.compute,
                settings.batch_subwords,
                settings.too_long,
                settings.final_norm,
            )
            for language in study.read_languages:
                extractions[name, stack, language] = Extraction(
                    layout.corpus,
                    layout.selection(language),
                    layout.activations(name, stack, language),
                    layout.previous_activations(name, stack, language),
                    model,
                    shape,
                    language,
                    study.decoder_source(language) if stack == "decoder" and shape.encoder_decoder else None,
                    wanted,
                    settings.dtype == "auto",
                    settings.keep_bits,
                    settings.shard_tokens,
                    threads,
                    memory // 2,
                    checkpoint.trust_remote_code,
                )
    contents = models.identities(study, layout, opened)
    given = linking.links_given(study, layout)
    tags = [models.content(file) for file in study.tag_files]
    hashes = fingerprints(study, sorted(links.sha256 for links in given.values()), tags)
    origin = vector_fingerprint(study.corpus.words, settings)
    vectors = Vectors(
        extractions,
        settings,
        layout.records,
        {
            p: digest(hashes["activations"], contents[p[0]], [task.source], *clustered_names(study, p[2]))
            for p, task in extractions.items()
        },
        {p: digest(origin, contents[p[0]], [task.source]) for p, task in extractions.items()},
    )
    tasks = {name: models.task_hash(task) for name, task in study.downstream.items()}
    return Context(study, layout, vectors, hashes, opened, contents, tasks, given, memory)


def stages(context: Context, text: Text, memory: int) -> tuple[Stage, ...]:
    """All stages of a study with their tasks, projected bytes and memory. Reads no data and computes no task.

    A study without pairs ends with its vectors. Where linked pairs are counted, stages that follow the selection are
    known when it is done.

    Parameters
    ----------
    memory
        Bytes that a worker may use; clustering holds vectors in at most half of it and streams what does not fit.

    Raises
    ------
    InputError
        Fewer words are selected than concepts wanted, or a file of links has not a line for each sentence.
    """
    study = context.study
    words = sum(text.tokens.values())
    corpus = Stage(
        "corpus",
        (Key("corpus"),),
        words * 4 + sum(text.types.values()) * 8,
        # language by language, in blocks of tokens, and a mark for each sentence
        PROCESS + max(text.types.values()) * _TYPE + text.sentences + TEXT_BLOCKS,
    )
    if not study.pairs:
        return corpus, _activations(context, text)
    made = tuple(_models(context))
    links = tuple(Key("links", pair) for pair in study.pairs)
    linking.check_lines(context.given, text.sentences)
    linked = linking.rows(study, context.given, text.sentences, text.tokens, memory)
    pair_tokens = [text.tokens[s] + text.tokens[t] for s, t in study.pairs]
    of_text: tuple[Stage, ...] = (
        corpus,
        Stage("links", links, sum(pair_tokens) * 4, max(row["memory"] for row in linked)),
        Stage(
            "dictionary",
            tuple(Key("dictionary", pair) for pair in study.pairs),
            sum(text.types[s] + text.types[t] for s, t in study.pairs) * 40,
            PROCESS + max(pair_tokens) * _TRANSLATIONS,
        ),
    )
    if is_linked(study):
        of_text += (_selection(study, text),)
        if not text.selected:
            return of_text
    of_vectors = _activations(context, text), _concepts(context, text, memory // 2), _counts(context, text)
    return (*of_text, *made, *of_vectors, *_uncertainty(context, text), *_properties(context, text))


def _models(context: Context) -> Iterator[Stage]:
    """The stages that make checkpoints and score them on downstream tasks, where a study asks for it."""
    study = context.study
    shapes = {name: context.extractions[name, study.activations.stacks[0], study.read_languages[0]].shape
              for name in study.checkpoints}  # fmt: skip
    for name, task in study.scored:
        if study.downstream[task].kind == "translation" and not shapes[name].encoder_decoder:
            raise InputError(
                f"checkpoints.{name}: has no encoder and decoder, so it cannot be scored on {task}, a translation; "
                "name the tasks that it can do in its scored_on"
            )
    if made := {name: checkpoint for name, checkpoint in study.checkpoints.items() if checkpoint.made}:
        yield Stage(
            "models",
            tuple(Key("models", (name,)) for name in made),
            sum(4 * shapes[name].parameters for name in made),
            max(models.memory(shapes[name], checkpoint, study.downstream) for name, checkpoint in made.items()),
        )
    if study.scored:
        needed = max(models.scoring_memory(shapes[name], study.downstream[task]) for name, task in study.scored)
        yield Stage("scores", tuple(Key("scores", part) for part in study.scored), 0, needed)


def _selection(study: Study, text: Text) -> Stage:
    groups = (*study.pairs, *study.language_sets)
    words = sum(text.tokens[lang] for group in groups for lang in group)
    pair = max(sum(text.tokens[lang] for lang in pair) for pair in study.pairs)
    types = max((sum(text.types[lang] for lang in group) for group in study.language_sets), default=0)
    # links of one pair, sorted; forms of one set; all that is selected, at most every word of every pair and set
    needed = PROCESS + pair * _LINK + types * _TYPE + words * 8 + text.sentences + TEXT_BLOCKS
    return Stage("selection", (Key("selection"),), words * 16, needed)


def _itemsize(study: Study) -> int:
    return 2 if study.activations.dtype == "float16" else 4  # auto may become float32


def _activations(context: Context, text: Text) -> Stage:
    study = context.study
    settings = study.activations
    keys: list[Key] = []
    nbytes = memory = 0
    for part, task in context.extractions.items():
        tokens = text.selected_tokens[task.language]
        keys += [Key("activations", part, a, b) for a, b in shard_ranges(tokens, settings.shard_tokens)]
        nbytes += len(task.wanted.layers) * layer_bytes(task, tokens, settings) + tokens * TOKEN_BYTES
        memory = max(memory, extraction_memory(task, text, settings))
    return Stage("activations", tuple(keys), nbytes, memory)


def clusterings(context: Context, text: Text) -> list[Clustering]:
    """What is clustered: one for each checkpoint, stack and selection.

    Raises
    ------
    InputError
        Fewer words are selected than concepts wanted.
    """
    study = context.study
    settings = study.concepts
    found = []
    for name in study.checkpoints:
        for stack in study.activations.stacks:
            for selection, languages in selections(study).items():
                first = context.extractions[name, stack, languages[0]]
                parts = [clustered_name(selection, lang) for lang in languages] if is_linked(study) else []
                sizes = [text.clustered_tokens[part] for part in parts]
                stops = np.cumsum(sizes or [text.selected_tokens[lang] for lang in languages])
                if stops[-1] < max(settings.ks):
                    raise InputError(
                        f"{selection}: {stops[-1]} vectors cannot form {max(settings.ks)} concepts; lower concepts.k "
                        "or select more words"
                    )
                found.append(
                    Clustering(
                        context.layout.concepts(name, stack, selection),
                        tuple(context.layout.activations(name, stack, lang) for lang in languages),
                        languages,
                        tuple(int(s) for s in stops),
                        first.shape.hidden,
                        _itemsize(study),
                        first.wanted.layers,
                        (name, stack, selection),
                        study.activations.shard_tokens,
                        settings.ks,
                        rows=tuple(context.layout.selection(part) for part in parts),
                    )
                )
    return found


def _concepts(context: Context, text: Text, holdable: int) -> Stage:
    settings = context.study.concepts
    found = clusterings(context, text)
    threads = next(iter(context.extractions.values())).threads
    return Stage(
        "concepts",
        tuple(Key("concepts", (*task.part, str(layer))) for task in found for layer in task.layers),
        sum(task.stored_bytes(settings) for task in found),
        PROCESS + max(clustering.memory(task, settings, holdable, threads) for task in found),
        tuple(found),
    )


def _counts(context: Context, text: Text) -> Stage:
    study = context.study
    parts: list[tuple[str, ...]] = []
    nbytes = layers = 0
    for name, between, k in product(study.checkpoints, study.alignment_stacks, study.concepts.ks):
        layers = len(context.extractions[name, sides(between)[0], study.read_languages[0]].wanted.layers)
        directions: list[tuple[str, ...]] = [*study.directions]
        if between in study.activations.stacks:
            parts += [(name, between, str(k), "+".join(group)) for group in study.language_sets]
            directions += study.mixed_directions if k == study.concepts.ks[0] else ()
        parts += [(name, between, str(k), *direction) for direction in directions]
        nbytes += len(directions) * layers * k**2 * study.metrics.n_ranks // 16  # almost all are zero
    cells = max(study.concepts.ks) ** 2 * study.metrics.n_ranks
    keys = tuple(Key("counts", part) for part in parts)
    selected = _counted_together(study, text) * _COUNTED
    entries = (min(text.tokens[s] + text.tokens[t], text.types[s] * text.types[t]) for s, t in study.pairs)
    dictionary = max(entries) * _TRANSLATIONS
    return Stage("counts", keys, nbytes, PROCESS + 5 * cells * 4 + selected + dictionary + TEXT_BLOCKS)


def _counted_together(study: Study, text: Text) -> int:
    """Tokens behind the largest count: of both languages of a pair, or of a set."""
    if is_linked(study):
        names = [[f"{lang}@{'-'.join(pair)}" for lang in pair] for pair in study.pairs]
        names += [[clustered_name("+".join(group), lang) for lang in group] for group in study.language_sets]
        return max(sum(text.clustered_tokens[name] for name in group) for group in names)
    return max(sum(text.selected_tokens[lang] for lang in group) for group in (*study.pairs, *study.language_sets))


def _uncertainty(context: Context, text: Text) -> Iterator[Stage]:
    """The stage that draws, where a study asks for draws."""
    study = context.study
    settings = study.concepts
    if not study.uncertainty.draws:
        return
    layers = max(len(task.wanted.layers) for task in context.extractions.values())
    keys = []
    for name, between in product(study.checkpoints, study.alignment_stacks):
        groups = study.language_sets if between in study.activations.stacks else ()
        keys += [Key("uncertainty", (name, between, "+".join(group))) for group in groups]
        keys += [Key("uncertainty", (name, between, source, "+".join(of))) for source, of in target_groups(study)]
    cells = 6 * 4 * settings.ks[0] ** 2 * study.metrics.n_ranks  # of both directions; a null's, and as they are made
    token = _TYPE + 4 * layers * settings.restarts * len(settings.ks)
    needed = max(
        sum(text.selected_tokens[lang] for lang in (source, *of)) * token
        + sum(cells + _TRANSLATIONS * (text.tokens[source] + text.tokens[target]) for target in of)
        for source, of in target_groups(study)
    )
    mixed = max((sum(text.selected_tokens[lang] for lang in of) * token for of in study.language_sets), default=0)
    memory = PROCESS + max(needed, mixed) + TEXT_BLOCKS
    yield Stage("uncertainty", tuple(keys), len(keys) * layers * 128, memory)


def missing(stage: Stage, done: Sequence[str] | set[str]) -> list[Key]:
    """Tasks of a stage without a record, in order."""
    return [key for key in stage.keys if str(key) not in done]


def _properties(context: Context, text: Text) -> Iterator[Stage]:
    """The stage that describes concepts, where a study asks for it."""
    study = context.study
    if study.properties is None:
        return
    keys = described(study)
    layers = max(len(task.wanted.layers) for task in context.extractions.values())
    most = max([*text.selected_tokens.values(), *text.clustered_tokens.values()])
    cells = layers * study.concepts.ks[0] * (5 + len(study.properties.tags))
    # words, tags and places of tokens, their concepts by layer, letters of types of one concept, lengths of sentences
    memory = PROCESS + most * (3 * _TYPE + 8 * layers) + cells * 100 + text.sentences * 32
    yield Stage("properties", keys, len(keys) * cells * 16, memory)
