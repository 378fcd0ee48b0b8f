"""The flow as data: which stages a study has, their tasks, and what they need, by arithmetic alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import store
from engine.activations import Extraction, layers_of
from engine.concepts import Clustering
from engine.corpus import measure, stored_sizes
from engine.kernels.lloyd import BLOCK_ROWS, SUM_ROWS
from engine.kernels.shards import shard_ranges
from engine.model.encode import Shape, Wanted, describe, identity
from engine.text import BLOCK
from jobs.layout import Layout
from jobs.tasks import Context
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError
from schemas.study import Study, digest
from schemas.task import Key

_PROCESS = 400 * 2**20
"""Resident bytes of a worker process with torch and transformers imported, before any data (measured: 380 MiB)."""

_BLOCKS = 128 * BLOCK
"""Bytes of the blocks of text in memory while it is read or written (measured: 29 MiB)."""

_TYPE = 280
"""Bytes of a word type while its text is read: a string, a dictionary entry and numbers (measured: 165, Latin)."""

_FORM = 48
"""Bytes of a word type in the vocabulary of a stored text: UTF-8 and an offset, twice while it is put together."""


@dataclass(frozen=True)
class Text:
    """Sizes of the text, known before any model runs."""

    sentences: int
    tokens: dict[str, int]
    types: dict[str, int]
    selected_tokens: dict[str, int]
    selected_types: dict[str, int]


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


def read_text(study: Study, layout: Layout, *, stored: bool) -> Text:
    """Sizes of a study's text: from its store when that is done, else from the files, which are read once, in a stream.

    Raises
    ------
    InputError
        A file cannot be read, the files have different numbers of lines, or no word of a language is frequent enough.
    """
    if stored:
        sizes = stored_sizes(
            store.load(layout.corpus, CORPUS),
            {lang: store.load(layout.selection(lang), SELECTION) for lang in study.corpus.files},
        )
    else:
        sizes = measure(study.corpus.files, study.corpus.words, study.selection)
    return Text(
        next(iter(sizes.values())).sentences,
        {lang: size.tokens for lang, size in sizes.items()},
        {lang: size.types for lang, size in sizes.items()},
        {lang: size.selected_tokens for lang, size in sizes.items()},
        {lang: size.selected_types for lang, size in sizes.items()},
    )


def fingerprints(study: Study) -> dict[str, str]:
    """Hash, by stage, of every setting that decides its result; a stage inherits those of the stages it reads."""
    corpus = digest(study.corpus.words, list(study.corpus.files), study.selection)  # the texts are compared by content
    links = digest(corpus, study.links)
    decoded = study.corpus.files if "decoder" in study.activations.stacks else ()
    activations = digest(corpus, study.activations, {language: study.decoder_source(language) for language in decoded})
    concepts = digest(activations, study.concepts)
    return {
        "corpus": corpus,
        "links": links,
        "dictionary": links,
        "activations": activations,
        "concepts": concepts,
        "counts": digest(concepts, links, study.metrics.n_best),
    }


def context(study: Study, layout: Layout, threads: int) -> Context:
    """Configuration of every task.

    Raises
    ------
    InputError
        A model cannot be read, or has no such stack or layer.
    """
    settings = study.activations
    extractions: dict[tuple[str, ...], Extraction] = {}
    for name, checkpoint in study.checkpoints.items():
        for stack in settings.stacks:
            layers = layers_of(checkpoint.model, stack, settings.layers)
            wanted = Wanted(
                stack, layers, settings.pooling, settings.decoder_position, settings.dtype, settings.batch_subwords
            )
            for language in study.corpus.files:
                extractions[name, stack, language] = Extraction(
                    layout.corpus,
                    layout.activations(name, stack, language),
                    checkpoint.model,
                    language,
                    study.decoder_source(language) if stack == "decoder" else None,
                    wanted,
                    threads,
                )
    models = {name: identity(checkpoint.model) for name, checkpoint in study.checkpoints.items()}
    return Context(study, layout, extractions, fingerprints(study), models)


def stages(context: Context, text: Text, memory: int) -> tuple[Stage, ...]:
    """All stages of a study with their tasks, projected bytes and memory. Reads no data and computes no task.

    Parameters
    ----------
    memory
        Bytes that a worker may use; clustering holds vectors in at most half of it and streams what does not fit.

    Raises
    ------
    InputError
        Fewer words are selected than concepts wanted.
    """
    study = context.study
    links = tuple(Key("links", pair) for pair in study.pairs)
    links_memory = max(sum(text.tokens[lang] for lang in pair) for pair in study.pairs) * 300  # measured: 225 a token
    words = sum(text.tokens.values())
    return (
        Stage(
            "corpus",
            (Key("corpus"),),
            words * 4 + sum(text.types.values()) * 8,
            _PROCESS + max(text.types.values()) * _TYPE + _BLOCKS,  # language by language, in blocks of tokens
        ),
        Stage(
            "links", links, sum(text.tokens[s] + text.tokens[t] for s, t in study.pairs) * 4, _PROCESS + links_memory
        ),
        Stage(
            "dictionary",
            tuple(Key("dictionary", pair) for pair in study.pairs),
            sum(text.types[s] + text.types[t] for s, t in study.pairs) * 40,
            _PROCESS + links_memory // 4,
        ),
        _activations(context, text),
        _concepts(context, text, memory // 2),
        _counts(context, text),
    )


def _itemsize(study: Study) -> int:
    return np.dtype(study.activations.dtype).itemsize


def _activations(context: Context, text: Text) -> Stage:
    study = context.study
    settings = study.activations
    keys: list[Key] = []
    nbytes = memory = 0
    for part, task in context.extractions.items():
        shape = describe(task.model)
        tokens = text.selected_tokens[task.language]
        layer_token = shape.hidden * _itemsize(study)
        keys += [Key("activations", part, a, b) for a, b in shard_ranges(tokens, settings.shard_tokens)]
        nbytes += tokens * len(task.wanted.layers) * layer_token
        shard = min(tokens, settings.shard_tokens) * len(task.wanted.layers) * layer_token
        memory = max(memory, _forward(shape, task, settings.batch_subwords) + 2 * shard)
    sentences = min(settings.shard_tokens, text.sentences) * max(text.tokens.values()) // text.sentences * 80
    reading = 2 * (sentences + max(text.types.values()) * _FORM) + _BLOCKS  # 2: a decoder has a source
    return Stage("activations", tuple(keys), nbytes, _PROCESS + memory + reading)


def _forward(shape: Shape, task: Extraction, subwords: int) -> int:
    """Bytes of the weights and of one forward pass in every thread: kept states, and a block's inner activations."""
    return 4 * shape.parameters + task.threads * subwords * shape.hidden * 4 * (len(task.wanted.layers) + 12)


def selections(study: Study) -> dict[str, tuple[str, ...]]:
    """Languages of each selection, by name: every language alone, and the mixed sets."""
    return {lang: (lang,) for lang in study.corpus.files} | {"+".join(group): group for group in study.language_sets}


def _concepts(context: Context, text: Text, holdable: int) -> Stage:
    study = context.study
    settings = study.concepts
    keys: list[Key] = []
    clusterings = []
    nbytes = memory = 0
    for name, checkpoint in study.checkpoints.items():
        hidden = describe(checkpoint.model).hidden
        for stack in study.activations.stacks:
            for selection, languages in selections(study).items():
                stops = np.cumsum([text.selected_tokens[lang] for lang in languages])
                if stops[-1] < settings.k:
                    raise InputError(
                        f"{selection}: {stops[-1]} vectors cannot form {settings.k} concepts; lower concepts.k or "
                        "select more words"
                    )
                layers = context.extractions[name, stack, languages[0]].wanted.layers
                clustering = Clustering(
                    context.layout.concepts(name, stack, selection),
                    tuple(context.layout.activations(name, stack, lang) for lang in languages),
                    tuple(int(s) for s in stops),
                    hidden,
                    _itemsize(study),
                    layers,
                    (name, stack, selection),
                    study.activations.shard_tokens,
                )
                clusterings.append(clustering)
                threads = context.extractions[name, stack, languages[0]].threads
                keys += [Key("concepts", (*clustering.part, str(layer))) for layer in layers]
                model = settings.k * hidden * 4
                nbytes += settings.restarts * len(layers) * (int(stops[-1]) * 4 + model)
                held = min(len(layers) * clustering.layer_bytes(), holdable)
                sample = min(int(stops[-1]), max(settings.seeding_tokens, 10 * settings.k)) * hidden
                block = SUM_ROWS * hidden * 12 + BLOCK_ROWS * settings.k * 4
                working = threads * (20 * sample + block + 4 * model)
                memory = max(memory, held + len(layers) * (6 * model + _itemsize(study) * sample) + working)
    return Stage("concepts", tuple(keys), nbytes, _PROCESS + memory, tuple(clusterings))


def _counts(context: Context, text: Text) -> Stage:
    study = context.study
    parts: list[tuple[str, ...]] = []
    nbytes = memory = layers = 0
    k = study.concepts.k
    for name in study.checkpoints:
        for stack in study.activations.stacks:
            layers = len(context.extractions[name, stack, next(iter(study.corpus.files))].wanted.layers)
            directions = [direction for s, t in study.pairs for direction in ((s, t), (t, s))]
            parts += [(name, stack, *direction) for direction in directions]
            parts += [(name, stack, "+".join(group)) for group in study.language_sets]
            nbytes += len(directions) * layers * k * k  # mostly zeros: about a quarter of four bytes a cell
            memory = max(memory, 3 * layers * k * k * 4)
    keys = tuple(Key("counts", part) for part in parts)
    selected = sum(text.selected_tokens.values()) * (40 + 4 * layers)  # concepts of every layer, types, sorting
    return Stage("counts", keys, nbytes, _PROCESS + memory + selected + _BLOCKS)


def missing(stage: Stage, done: Sequence[str] | set[str]) -> list[Key]:
    """Tasks of a stage without a record, in order."""
    return [key for key in stage.keys if str(key) not in done]
