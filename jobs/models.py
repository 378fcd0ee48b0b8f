"""Checkpoints that a study makes of a model, tuned for a downstream task or with weights drawn anew; their scores."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from engine import labelled, paths
from engine.model.shape import Shape, describe, identity
from engine.sentences import read_sentences
from jobs import downstream
from jobs.clustering import PROCESS
from jobs.layout import Layout
from jobs.selections import described
from schemas.checkpoint import Checkpoint
from schemas.downstream import Downstream, Parts
from schemas.errors import InputError
from schemas.study import Study, digest
from schemas.task import Key

_SCORES = 1
"""Version of the scores in records."""

_TRAINED = 20
"""Bytes of a weight while it is trained: itself, its gradient, two moments of AdamW, and its copy in the best pass."""

_SUBWORD = 60
"""Bytes of a sub-word, by layer and element of the hidden state, that its gradient needs: states, projections, inner
layer, dropout."""


_SCORED = 24
"""Bytes of a score of a sub-word at one place of a translation: logits, their logarithms, gradients, copies."""

_BYTE = 64
"""Bytes in memory of a byte of text with its answers: words, sub-words, and where they come from."""


def identities(study: Study, layout: Layout, opened: Mapping[str, str]) -> dict[str, str]:
    """Hash, by checkpoint, of the content of its model, or of all that it is made of; `opened` as in the Context.

    Raises
    ------
    InputError
        A model or a file of a downstream task is missing, or checkpoints are to be made in a directory that is not
        local.
    """
    made = [name for name, checkpoint in study.checkpoints.items() if checkpoint.made]
    if made and "://" in layout.root:
        raise InputError(
            f"{layout.root}: checkpoints ({', '.join(made)}) are made in local study directories alone, transformers "
            "reads no others; make them with colign finetune and name their folders under checkpoints, or give a "
            "local directory with --out"
        )
    found = {}
    for name, checkpoint in study.checkpoints.items():
        found[name] = identity(opened[name], trusted=checkpoint.trust_remote_code)
        if checkpoint.made:
            task = study.downstream.get(checkpoint.tuned_for or "")
            tuning = [] if task is None else [_hash(task, "train", checkpoint), _hash(task, "dev", checkpoint)]
            seed = study.concepts.seed if checkpoint.untrained else None
            found[name] = digest(found[name], seed, checkpoint.tuned_on, tuning)
    return found


def task_hash(task: Downstream) -> str:
    """Hash of all that decides a score, the checkpoint aside."""
    texts = {
        split: {part: [content(file) for file in of] for part, of in parts.items()}
        for split, parts in (task.splits if task.tests else {**task.splits, "test": {}}).items()
    }
    return digest(_SCORES, task.kind, task.beams, task.tuning, texts)


def _hash(task: Downstream, split: str, checkpoint: Checkpoint) -> str:
    parts = task.within(split, checkpoint.tuned_on)
    more = _further_labels(task, parts) if split == "train" else []
    files = {part: [content(file) for file in of] for part, of in parts.items()}
    return digest(task.kind, task.tuning, files, *([more] if more else []))


def _further_labels(task: Downstream, parts: Parts) -> list[str]:
    """Labels of a new head that some parts of the training text lack, and the others have."""
    if task.kind == "translation" or parts.keys() == task.train.keys():
        return []
    every, some = (_labels(task.kind, labelled.check(task.kind, of)) for of in (task.train, parts))
    return sorted({*every} - {*some})


def _labels(kind: str, found: Iterable[str]) -> list[str]:
    """What a new head can answer, of the labels that its training text has."""
    return labelled.with_inside(found) if kind == "tagging" else sorted(found)


def content(path: str) -> str:
    """Hash of a file, unpacked.

    Raises
    ------
    InputError
        There is no such file.
    """
    system, where = paths.filesystem(path)
    if not system.isfile(where):
        raise InputError(
            f"{path}: no such file; expected one of those that the study names under downstream or properties"
        )
    found = hashlib.sha256()
    with paths.unpacked(path) as file:
        while data := file.read(2**20):
            found.update(data)
    return found.hexdigest()[:16]


def memory(shape: Shape, checkpoint: Checkpoint, tasks: Mapping[str, Downstream]) -> int:
    """Projected peak of a process that makes a checkpoint, in bytes."""
    if checkpoint.tuned_for is None:
        return PROCESS + 2 * 4 * shape.parameters
    task = tasks[checkpoint.tuned_for]
    tuning = task.tuning
    subwords = -(-tuning.batch // tuning.accumulate) * tuning.max_subwords
    states = subwords * sum(shape.layers.values()) * shape.hidden * _SUBWORD
    scores = subwords * shape.vocabulary * _SCORED if task.kind == "translation" else 0
    return PROCESS + _TRAINED * shape.parameters + states + scores + _text(task)


def scoring_memory(shape: Shape, task: Downstream) -> int:
    """Projected peak of a process that scores a checkpoint, in bytes: weights are read beside themselves."""
    return PROCESS + 2 * 4 * shape.parameters + _text(task)


def _text(task: Downstream) -> int:
    sizes = (system.size(place) for system, place in map(paths.filesystem, sorted({*task.files})))
    return _BYTE * sum(int(size or 0) for size in sizes)


def check_texts(study: Study, done: Collection[str]) -> None:
    """Read every file of every downstream task, and of tags, unless all that needs them is done: it comes hours later.

    Parameters
    ----------
    done
        Names of the tasks that are done.

    Raises
    ------
    InputError
        As `engine.labelled.read` and `read_tags`; or a text has a label that a checkpoint of the study cannot be tuned
        to give.
    """
    made = [Key("models", (name,)) for name, checkpoint in study.checkpoints.items() if checkpoint.made]
    if not {str(key) for key in (*made, *(Key("scores", part) for part in study.scored))} <= {*done}:
        tuned_for = {checkpoint.tuned_for for checkpoint in study.checkpoints.values()}
        for name, task in study.downstream.items():
            labels = {split: labelled.check(task.kind, parts) for split, parts in task.splits.items()}
            if name in tuned_for:
                _check_labels(name, task, labels)
    if study.properties and not {str(key) for key in described(study)} <= {*done}:
        for language, text in study.corpus.files.items():
            for files in study.properties.tags.values():
                if language in files:
                    labelled.check_tags(files[language], map(len, read_sentences(text, study.corpus.words)))


def _check_labels(name: str, task: Downstream, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse labels, with their places by split, that training text in no language has."""
    known = _labels(task.kind, labels["train"])
    for split, of in labels.items():
        for label, place in of.items():
            if label not in known:
                raise InputError(
                    f"{place}: label {label!r}, which no text under downstream.{name}.train has ({', '.join(known)}), "
                    f"so that no checkpoint learns to give it; correct the file, or take it out of {split}"
                )


def make(study: Study, layout: Layout, checkpoint: str, model: str) -> dict[str, Any]:
    """Make a checkpoint of a model and write it; returns what tuning reports, and the hash of the content written."""
    settings, folder = study.checkpoints[checkpoint], layout.model(checkpoint)
    trusted = settings.trust_remote_code
    if settings.tuned_for is None:
        from engine.model.heads import draw_anew  # noqa: PLC0415  (torch and transformers: seconds)

        draw_anew(model, study.concepts.seed, folder, trusted=trusted)
        outcome: dict[str, Any] = {}
    else:
        task = study.downstream[settings.tuned_for]
        tuned = downstream.tune(task, model, settings.tuned_on, folder, trusted=trusted)
        outcome = {"parts": list(tuned.parts), "examples": tuned.examples, **tuned.outcome}
    return {**outcome, "content": identity(folder, trusted=trusted)}


def score(study: Study, layout: Layout, checkpoint: str, task: str, model: str) -> dict[str, Any]:
    """Scores of a checkpoint on the test text of a task: of a model, or of what the study has made of it."""
    state = study.checkpoints[checkpoint]
    folder = layout.model(checkpoint) if state.made else model
    rows = downstream.evaluate(study.downstream[task], folder, name=task, trusted=state.trust_remote_code)
    return {"scores": [{"checkpoint": checkpoint, "task": task, **row} for row in rows]}


def state(study: Study, row: Mapping[str, Any]) -> str:
    """State of a checkpoint as seen from the language of a score, or from both of a translation."""
    languages = study.downstream[row["task"]].languages(row["language"])
    return study.fine_tuning(row["checkpoint"], *languages)


def check(study: Study, layout: Layout, checkpoint: str, content: str) -> None:
    """Compare a checkpoint that the study made with the hash that was recorded.

    Raises
    ------
    InputError
        It is gone, or is another.
    """
    folder = layout.model(checkpoint)
    trusted = study.checkpoints[checkpoint].trust_remote_code
    describe(folder, trusted=trusted)
    if identity(folder, trusted=trusted) != content:
        raise InputError(f"{folder}: is not the checkpoint that was made here")
