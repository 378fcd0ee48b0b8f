"""Running a study: what is missing, stage by stage; then the results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from engine import lease, ledger, paths, results, store
from engine.model.shape import is_pinned
from engine.records import delete_record, read_records
from engine.sentences import compare_files
from engine.workers.protocol import Workers
from jobs import files, layers, models, stages, tasks, vectors
from jobs.derive import are_current, derive
from jobs.environment import check_workers
from jobs.figures import write_figures
from jobs.layout import Layout
from jobs.plan import check_budget
from jobs.selections import Text, read_text
from jobs.stages import Stage
from jobs.tasks import Context
from schemas.corpus import CORPUS
from schemas.errors import InputError
from schemas.study import Study, sides
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

_CHEAP = ("selection", "dictionary", "counts", "uncertainty", "properties", "scores")
"""Stages that cost little, and are done again when their settings have changed."""


def run(
    study: Study,
    layout: Layout,
    workers: Workers,
    memory: int,
    watch: Watch = lambda _: None,
    *,
    grow: bool = False,
    take_over: bool = False,
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
    take_over
        Whether to take the directory from another run, which then ends with an error.

    Raises
    ------
    InputError
        The study directory was made with other settings or another text, another run works in it, workers differ, a
        file of a downstream task is not of its form, or the plan exceeds memory or disk.
    TaskError
        A task failed; everything finished before stays.
    """
    with (
        lease.held(layout.lease, take_over=take_over) as check,
        ledger.kept(layout.ledger, layout.journal, workers, vectors.work_of, check) as book,
    ):

        def watched(event: Event) -> None:
            check()
            book.at(event.stage, event.done, event.total, event.note)
            watch(event)

        check_workers(workers, study, layout)
        return _run(study, layout, workers, memory, watched, grow=grow)


def _run(study: Study, layout: Layout, workers: Workers, memory: int, watch: Watch, *, grow: bool) -> xr.DataTree:
    study = files.in_stored_order(study, layout)
    context, text, plan, done = prepare(study, layout, workers, memory, grow=grow)
    if (
        are_current(study, layout, context.inputs)
        and text.selected
        and not any(stages.missing(stage, set(done)) for stage in plan)
    ):
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
        stale = [name for name in read_records(layout.records) if name.split("/")[0] in context.fingerprints]
        done = {name: record for name, record in done.items() if name.split("/")[0] in ("models", "scores")}
    vectors.check_origins(context.vectors, stale)
    text = read_text(study, layout, done)
    plan = stages.stages(context, text, memory)
    check_budget(plan, done, memory, layout)
    models.check_texts(study, done)
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
        if stage in ("models", "scores"):
            if not _is_named(stage, part, context.study):
                continue  # a checkpoint or a task that the study no longer names
        elif stage not in context.fingerprints:
            continue  # of a later version
        if stage in tasks.MODEL_STAGES and part[0] not in context.study.checkpoints:
            continue  # a checkpoint that the study no longer names
        if stage in tasks.MODEL_STAGES and not {*sides(part[1])} <= {*context.study.activations.stacks}:
            continue  # nor this stack
        if record.fingerprint == context.fingerprint(Key(stage, tuple(part))):
            kept[name] = record
        elif stage in _CHEAP or grow:
            stale.append(name)
        else:
            hub = sorted({of for of in context.opened.values() if is_pinned(of)})
            causes = ["a file under links.files"] * bool(context.given)
            causes += [f"a model: {of} now; the vectors' attribute tells what was read" for of in hub]
            unnamed = ", or ".join(causes) or "its settings"
            changed = "; ".join(files.changes(context.study, context.layout)) or unnamed
            remedy = "Choose another directory with --out, restore the settings, or delete the directory"
            if vectors.hold(context.vectors):
                remedy = f"Run with --grow to keep the vectors and do again what depends on the change. {remedy}"
            raise InputError(
                f"{context.layout.root}: made with other settings ({changed}); {name} would have to be done again. "
                f"{remedy}"
            )
    return kept, stale


def _is_named(stage: str, part: Sequence[str], study: Study) -> bool:
    """Whether a study makes such a checkpoint, or scores it on such a task."""
    name, *task = part
    if stage == "scores":
        return (name, *task) in study.scored
    return name in study.checkpoints and study.checkpoints[name].made


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
    yield from layers.work(stage.clusterings, left, context, workers, note)


def finish(context: Context, text: Text) -> xr.DataTree:
    """Derive and write the results and figures."""
    tree = derive(context, text)
    write_figures(tree, context.study, context.layout.root)
    results.save(context.layout.results, tree)  # last: current results mean that all is done
    return tree
