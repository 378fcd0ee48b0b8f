"""Running a study: what is missing, stage by stage; then the results."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, concepts, cross, paths, results, store
from engine.records import delete_record, read_records
from engine.sentences import compare_files
from engine.workers.protocol import Workers
from jobs import files, stages, tasks, vectors
from jobs.figures import write_figures
from jobs.layout import Layout
from jobs.plan import check_budget
from jobs.selections import Text, is_linked, read_text
from jobs.stages import Stage
from jobs.tasks import Context
from schemas.corpus import CORPUS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.errors import InputError
from schemas.study import Metrics, Study, digest, sides
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


def run(
    study: Study,
    layout: Layout,
    workers: Workers,
    memory: int,
    watch: Watch = lambda _: None,
    *,
    grow: bool = False,
) -> xr.DataTree:
    """Bring a study to its end, doing only what no record says is done; returns the results, which are also written.

    Parameters
    ----------
    memory
        Bytes that a worker may use; the plan must keep within.
    watch
        Told of every finished task.
    grow
        Whether the text may have got more sentences, and the study other languages, layers, selection or settings of
        later stages. Vectors that are stored are kept; what depends on the change is done again.

    Raises
    ------
    InputError
        The study directory was made with other settings or another text, or the plan exceeds memory or disk.
    TaskError
        A task failed; everything finished before stays.
    """
    study = files.in_stored_order(study, layout)
    context, text, plan, done = prepare(study, layout, workers, memory, grow=grow)
    if are_current(study, layout) and text.selected and not any(stages.missing(stage, set(done)) for stage in plan):
        for stage in plan:
            watch(Event(stage.name, len(stage.keys), len(stage.keys)))
        return results.load(layout.results)
    for stage in plan:
        work(stage, done, context, text, workers, watch)
    if not text.selected:  # the links have selected by now
        context, text, plan, done = prepare(study, layout, workers, memory, grow=grow)
        for stage in plan:
            work(stage, done, context, text, workers, watch)
    return finish(context, text)


def prepare(
    study: Study, layout: Layout, workers: Workers, memory: int, *, grow: bool
) -> tuple[Context, Text, tuple[Stage, ...], dict[str, Record]]:
    """Check a study against its directory and the machine, and take back what no longer holds.

    Returns
    -------
    Configuration of the tasks, sizes of the text, stages, and the records that hold. Parameters and errors as `run`.
    """
    context = stages.context(study, layout, workers.threads, memory)
    done, stale = records(context, grow=grow)
    if check_text(context, done, grow=grow):  # also what the study does not name now, and may name again
        done, stale = {}, [name for name in read_records(layout.records) if name.split("/")[0] in context.fingerprints]
    vectors.check_origins(context.vectors, stale)
    text = read_text(study, layout, done)
    plan = stages.stages(context, text, memory)
    check_budget(plan, done, memory, layout)
    vectors.put_back(context.vectors, done)
    vectors.set_aside(context.vectors, stale)
    files.freeze(study, layout)
    _sweep(layout)
    # first, so that a run which is killed halfway leaves no record of other settings behind; the corpus last of all,
    # because its record says that the text has grown
    for name in sorted(stale, key="corpus".__eq__):
        delete_record(layout.records, name)
    for part in dict.fromkeys(tuple(name.split("/")[1:4]) for name in stale if name.startswith("concepts/")):
        paths.remove(layout.concepts(*part))
    return context, text, plan, done


def _sweep(layout: Layout) -> None:
    """Remove what killed writers left."""
    for folder in layout.folders:
        paths.sweep_partial_files(folder)


def work(
    stage: Stage, done: Mapping[str, Record], context: Context, text: Text, workers: Workers, watch: Watch
) -> None:
    """Do the tasks of a stage that no record says are done."""
    left = stages.missing(stage, set(done))
    finished = len(stage.keys) - len(left)
    watch(Event(stage.name, finished, len(stage.keys)))

    def note(words: str) -> None:
        watch(Event(stage.name, finished, len(stage.keys), words))

    for done_now in _work(stage, left, context, text, workers, note):
        finished += done_now
        watch(Event(stage.name, finished, len(stage.keys)))
    if stage.name == "activations":
        vectors.forget_previous(context.vectors)
    if left:
        _sweep(layout=context.layout)  # of workers that were lost on the way


def records(context: Context, *, grow: bool = False) -> tuple[dict[str, Record], list[str]]:
    """Records of the finished tasks that the study's settings still allow, and the names of those to do again.

    Parameters
    ----------
    grow
        Whether costly tasks may be done again.

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
        if stage in tasks.MODEL_STAGES and not {*sides(part[1])} <= {*context.study.activations.stacks}:
            continue  # nor this stack
        if record.fingerprint == context.fingerprint(Key(stage, tuple(part))):
            kept[name] = record
        elif stage in ("selection", "dictionary", "counts") or grow:  # cost seconds: made again
            stale.append(name)
        else:
            unnamed = "a file under links.files" if context.given else "its settings"
            changed = "; ".join(files.changes(context.study, context.layout)) or unnamed
            remedy = "Choose another directory with --out, restore the settings, or delete the directory"
            if vectors.hold(context.vectors):
                remedy = f"Run with --grow to keep the vectors and do again what depends on the change. {remedy}"
            raise InputError(
                f"{context.layout.root}: made with other settings ({changed}); {name} would have to be done again. "
                f"{remedy}"
            )
    return kept, stale


def check_text(context: Context, done: Mapping[str, Record], *, grow: bool = False) -> bool:
    """Compare the text files with the stored corpus; files that are gone are not missed.

    Parameters
    ----------
    grow
        Whether texts may have got further sentences.

    Returns
    -------
    Whether they have.

    Raises
    ------
    InputError
        A file has changed since the corpus was read, or has grown and may not, or a language is gone.
    """
    recorded = str(Key("corpus")) in done
    held = store.attributes(context.layout.corpus)
    if held is None or not (recorded or "sha256" in held) or not (done or vectors.has_previous(context.vectors)):
        return False  # not read yet, or nothing relies on it
    texts, root = context.study.corpus.files, context.layout.root
    corpus = store.load(context.layout.corpus, CORPUS)
    states = compare_files(corpus, texts)
    found = {state: [texts[lang] for lang, its in states.items() if its == state] for state in ("grown", "changed")}
    # a killed run with --grow goes on without it once it has forgotten all that was done
    may_grow = grow or not done
    wrong = [state for state, paths in found.items() if paths and not (may_grow and state == "grown")]
    if wrong:
        said = "; ".join(f"{', '.join(found[state])}: {state} since {root} was made" for state in wrong)
        more = "run with --grow to take up what was added, " if "grown" in wrong else ""
        raise InputError(
            f"{said}, so its results are of another text. {more[:1].upper()}{more[1:]}"
            f"{'c' if more else 'C'}hoose another directory with --out, restore the text, or delete the directory"
        )
    if grow and (lost := sorted(set(map(str, corpus.language.values)) - set(texts))):
        raise InputError(
            f"{root}: holds text in {', '.join(lost)}, which the study no longer names; a study grows, so name "
            "it again under corpus.files, or choose another directory with --out"
        )
    return bool(found["grown"])


def _work(
    stage: Stage, left: Sequence[Key], context: Context, text: Text, workers: Workers, note: Callable[[str], None]
) -> Iterator[int]:
    """Do the tasks of a stage that are left; yields how many are done, less those that must be done again."""
    if not left and stage.name != "concepts":
        return
    if stage.name == "activations":
        yield from vectors.work(stage.keys, left, context.vectors, workers, note)
        return
    if stage.name != "concepts":
        for _ in workers.map(tasks.perform, left, context):
            yield 1
        return
    settings = context.study.concepts
    for clustering in stage.clusterings:
        layers = [int(key.part[-1]) for key in left if key.part[:-1] == clustering.part]
        if not layers:
            paths.remove(context.layout.checkpoints(*clustering.part))  # of a run that was killed right before
            continue
        fingerprint = context.fingerprint(Key(stage.name, clustering.part))
        store.remove_other(clustering.path, fingerprint)  # that a killed run had begun
        concepts.setup(clustering, settings, fingerprint=fingerprint)
        checkpoints = paths.join(context.layout.checkpoints(*clustering.part), fingerprint)
        started = time.time()

        def say(words: str, name: str = "/".join(clustering.part)) -> None:
            note(f"{name}: {words}")

        for layer, outcome in concepts.cluster(clustering, layers, settings, workers, say, checkpoints=checkpoints):
            key = Key("concepts", (*clustering.part, str(layer)))
            tasks.commit(key, context.layout.records, context.fingerprint(key), started, outcome)
            yield 1
        paths.remove(context.layout.checkpoints(*clustering.part))


def finish(context: Context, text: Text) -> xr.DataTree:
    """Derive and write the results and figures; costs seconds, so thresholds may change at will."""
    study, layout = context.study, context.layout
    alignment, overlap = counted(study, layout)
    mixed = [
        (labels | {"source": source, "target": target}, [_mixed(layout, labels, counts, source, target)])
        for labels, (counts,) in overlap
        for group, source, target in study.mixed_directions
        if group == labels["language_set"]
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
        _statistics(context, text),
        preset=study.metrics.preset,
        study=study.model_dump_json(),
        study_hash=digest(study),
        text_hash=_text_hash(layout),
        versions=store.versions(),
    )
    write_figures(tree, study, layout.root)
    results.save(layout.results, tree)  # last: current results mean that all is done
    return tree


def _mixed(layout: Layout, labels: Mapping[str, str], counts: xr.Dataset, source: str, target: str) -> xr.Dataset:
    """ALIGNED_TYPES within mixed text, with the language_count of the same concepts."""
    where = labels["checkpoint"], labels["stack"], labels["language_set"]
    found = store.load(layout.mixed_aligned_types(*where, source, target), ALIGNED_TYPES)
    both = found.assign(language_count=counts.language_count)
    both.encoding = found.encoding
    return both


def _cross(counts: xr.Dataset, *, metrics: Metrics) -> dict[str, NDArray[np.float64]]:
    """The cross-table of what `_mixed` gives."""
    held = counts.language_count.sum(["language", "unit"]).transpose("layer", "concept").values > 0
    pairs = calign.aligned(counts, **metrics.alignment)
    return cross.score(pairs, colap.overlapping(counts, **metrics.overlap), held)


def counted(study: Study, layout: Layout) -> tuple[list[results.Part], list[results.Part]]:
    """Stored counts behind CALIGN and behind COLAP, with their labels."""
    alignment: list[results.Part] = []
    overlap: list[results.Part] = []
    for checkpoint in study.checkpoints:
        for stack in study.alignment_stacks:
            alignment += _alignment(study, layout, checkpoint, stack)
        for stack in study.activations.stacks:
            for group in study.language_sets:
                name = "+".join(group)
                mixed = store.load(layout.language_count(checkpoint, stack, name), LANGUAGE_COUNT)
                overlap.append(({"checkpoint": checkpoint, "stack": stack, "language_set": name}, [mixed]))
    return alignment, overlap


def _alignment(study: Study, layout: Layout, checkpoint: str, stack: str) -> Iterator[results.Part]:
    """Counts of every direction, and of each language of several pairs towards all its targets together."""
    targets: dict[str, dict[str, xr.Dataset]] = {}
    for source, target in study.directions:
        counts, reverse = (
            store.load(layout.aligned_types(checkpoint, *direction), ALIGNED_TYPES)
            for direction in ((stack, source, target), ("-".join(reversed(stack.split("-"))), target, source))
        )
        both = calign.with_reverse(counts, reverse)
        both.encoding = counts.encoding
        targets.setdefault(source, {})[target] = both
    for source, found in targets.items():
        named = {target: [counts] for target, counts in found.items()}
        if len(found) > 1 and not is_linked(study):  # else a language has other concepts in each of its pairs
            named["+".join(found)] = list(found.values())
        for target, parts in named.items():
            yield {"checkpoint": checkpoint, "stack": stack, "source": source, "target": target}, parts


def are_current(study: Study, layout: Layout) -> bool:
    """Whether the written results are of this study and its text, thresholds included."""
    attributes = store.attributes(layout.results)
    expected = {"study_hash": digest(study), "text_hash": _text_hash(layout)}
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
