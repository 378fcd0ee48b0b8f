"""Running a study: what is missing, stage by stage; then the results."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from engine import activations, calign, colap, concepts, results, store
from engine.corpus import compare_files
from engine.records import delete_record, read_records
from engine.workers.protocol import Workers
from jobs import files, stages, tasks
from jobs.figures import write_figures
from jobs.layout import Layout
from jobs.plan import check_budget
from jobs.stages import Stage, Text
from jobs.tasks import Context, Outcome
from schemas.corpus import CORPUS, SELECTION
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.errors import InputError
from schemas.study import Study, digest
from schemas.task import Key, Record


@dataclass(frozen=True)
class Event:
    """Something that a watcher of a run may want to show."""

    stage: str
    """Stage at work."""
    done: int
    """Tasks of the stage that are done."""
    total: int
    """Tasks of the stage."""
    note: str = ""
    """What goes on inside a long task."""


Watch = Callable[[Event], None]


def run(study: Study, layout: Layout, workers: Workers, memory: int, watch: Watch = lambda _: None) -> xr.DataTree:
    """Bring a study to its end, doing only what no record says is done; returns the results, which are also written.

    Parameters
    ----------
    memory
        Bytes that a worker may use; the plan must keep within.
    watch
        Told of every finished task.

    Raises
    ------
    InputError
        The study directory was made with other settings or another text, or the plan exceeds memory or disk.
    TaskError
        A task failed; everything finished before stays.
    """
    context = stages.context(study, layout, workers.threads)
    done, stale = records(context)
    check_text(context, done)
    text = stages.read_text(study, layout, stored=str(Key("corpus")) in done)
    plan = stages.stages(context, text, memory)
    check_budget(plan, done, memory, layout)
    files.freeze(study, layout)
    for folder in layout.folders:
        store.sweep_partial_files(folder)
        store.remove(f"{folder}.partial")
    for name in stale:  # first, so that a run which is killed halfway leaves no record of other settings behind
        delete_record(layout.records, name)
    if are_current(study, layout) and not any(stages.missing(stage, set(done)) for stage in plan):
        for stage in plan:
            watch(Event(stage.name, len(stage.keys), len(stage.keys)))
        return store.load_tree(layout.results)
    for stage in plan:
        left = stages.missing(stage, set(done))
        finished = len(stage.keys) - len(left)
        watch(Event(stage.name, finished, len(stage.keys)))

        def note(words: str, stage: Stage = stage) -> None:
            watch(Event(stage.name, finished, len(stage.keys), words))  # noqa: B023 (called in this turn of the loop)

        for _ in _work(stage, left, context, text, workers, note):
            finished += 1
            watch(Event(stage.name, finished, len(stage.keys)))
    return finish(context, text)


def records(context: Context) -> tuple[dict[str, Record], list[str]]:
    """Records of the finished tasks that the study's settings still allow, and the names of those to do again.

    Raises
    ------
    InputError
        Costly tasks were done with other settings; names what changed and the remedy.
    """
    found = read_records(context.layout.records)
    kept, stale = {}, []
    for name, record in found.items():
        stage, *part = name.split("/")
        if stage not in context.fingerprints:
            continue  # of a later version
        if stage in tasks.MODEL_STAGES and part[0] not in context.study.checkpoints:
            continue  # a checkpoint that the study no longer names
        if record.fingerprint == context.fingerprint(Key(stage, tuple(part))):
            kept[name] = record
        elif stage == "counts":  # counts cost seconds and follow the number of translations: made again
            stale.append(name)
        else:
            changed = "; ".join(files.changes(context.study, context.layout)) or "its settings"
            raise InputError(
                f"{context.layout.root}: made with other settings ({changed}); {name} would have to be done again. "
                "Choose another directory with --out, restore the settings, or delete the directory"
            )
    return kept, stale


def check_text(context: Context, done: Mapping[str, Record]) -> None:
    """Compare the text files with the stored corpus; files that are gone are not missed.

    Raises
    ------
    InputError
        A file has grown or changed since the corpus was read.
    """
    if str(Key("corpus")) not in done:
        return
    texts, root = context.study.corpus.files, context.layout.root
    states = compare_files(store.load(context.layout.corpus, CORPUS), texts)
    found = {state: [texts[lang] for lang, its in states.items() if its == state] for state in ("grown", "changed")}
    if said := "; ".join(
        f"{', '.join(paths)}: {state} since {root} was made" for state, paths in found.items() if paths
    ):
        raise InputError(
            f"{said}, so its results are of another text. Choose another directory with --out, restore the text, or "
            "delete the directory"
        )


def _work(
    stage: Stage, left: Sequence[Key], context: Context, text: Text, workers: Workers, note: Callable[[str], None]
) -> Iterator[Outcome]:
    """Do the tasks of a stage that are left."""
    if not left:
        return
    if stage.name == "activations":
        for part in dict.fromkeys(key.part for key in left):
            selection = store.load(context.layout.selection(part[-1]), SELECTION)
            activations.setup(
                context.extractions[part],
                selection,
                context.study.activations,
                fingerprint=context.fingerprint(Key(stage.name, part)),
            )
    if stage.name != "concepts":
        for _, outcome in workers.map(tasks.perform, left, context):
            yield outcome
        return
    settings = context.study.concepts
    for clustering in stage.clusterings:
        layers = [int(key.part[-1]) for key in left if key.part[:-1] == clustering.part]
        if not layers:
            continue
        languages = stages.selections(context.study)[clustering.part[-1]]
        token_id = np.concatenate(
            [store.load(context.layout.selection(lang), SELECTION).token_id.values for lang in languages]
        )
        concepts.setup(
            clustering, token_id, settings, fingerprint=context.fingerprint(Key(stage.name, clustering.part))
        )
        started = time.time()

        def say(words: str, name: str = "/".join(clustering.part)) -> None:
            note(f"{name}: {words}")

        for layer, outcome in concepts.cluster(clustering, layers, settings, workers, say):
            yield tasks.commit(Key("concepts", (*clustering.part, str(layer))), context, started, outcome)


def finish(context: Context, text: Text) -> xr.DataTree:
    """Derive and write the results and figures; costs seconds, so thresholds may change at will."""
    study, layout = context.study, context.layout
    alignment, overlap = [], []
    for checkpoint in study.checkpoints:
        for stack in study.activations.stacks:
            where = {"checkpoint": checkpoint, "stack": stack}
            for source, target in [d for s, t in study.pairs for d in ((s, t), (t, s))]:
                counts = store.load(layout.aligned_types(checkpoint, stack, source, target), ALIGNED_TYPES)
                alignment.append((where | {"source": source, "target": target}, counts))
            for group in study.language_sets:
                name = "+".join(group)
                mixed = store.load(layout.language_count(checkpoint, stack, name), LANGUAGE_COUNT)
                overlap.append((where | {"language_set": name}, mixed))
    tree = results.assemble(
        alignment,
        overlap,
        calign.calign,
        colap.colap,
        study.metrics,
        _statistics(context, text),
        preset=study.metrics.preset,
        study=study.model_dump_json(),
        study_hash=digest(study),
        versions=store.versions(),
    )
    write_figures(tree, study, layout.root)
    store.save_tree(layout.results, tree)  # last: current results mean that all is done
    return tree


def are_current(study: Study, layout: Layout) -> bool:
    """Whether the written results are of this study, thresholds included."""
    attributes = store.attributes(layout.results)
    return attributes is not None and attributes.get("study_hash") == digest(study)


def _statistics(context: Context, text: Text) -> dict[str, Any]:
    languages = list(text.tokens)
    checkpoints = list(context.study.checkpoints)
    stack = context.study.activations.stacks[0]
    absent = np.zeros((len(checkpoints), len(languages)), np.int64)
    for name, record in read_records(context.layout.records).items():
        parts = name.split("/")
        if parts[0] == "activations" and parts[1] in checkpoints and parts[2] == stack:
            absent[checkpoints.index(parts[1]), languages.index(parts[3])] += record.outcome["absent"]
    numbers = {
        "tokens": text.tokens, "types": text.types,
        "selected_tokens": text.selected_tokens, "selected_types": text.selected_types,
    }  # fmt: skip
    return {
        "language": languages,
        "checkpoint": checkpoints,
        "sentences": np.full(len(languages), text.sentences, np.int64),
        "absent_tokens": absent,
    } | {name: np.array([found[lang] for lang in languages], np.int64) for name, found in numbers.items()}
