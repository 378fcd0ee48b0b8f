"""Downstream tasks: their files, tuning a checkpoint for one, and scoring it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import labelled
from engine.labelled import Examples, labels_of
from engine.model.shape import pinned
from engine.scoring import score
from schemas.downstream import Downstream
from schemas.errors import InputError

Progress = Callable[[int, int, str], None]
"""Called with what is done, of how much, and words for people."""


def quiet(done: int, total: int, words: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Tuned:
    """What tuning reports."""

    parts: tuple[str, ...]
    """Parts of the training text."""
    examples: int
    """Sentences of the training text."""
    outcome: dict[str, float]
    """`steps`, `loss`, and the score of the best pass."""


def tune(
    task: Downstream,
    model: str,
    languages: Sequence[str],
    directory: str,
    progress: Progress = quiet,
    *,
    trusted: bool = False,
) -> Tuned:
    """Tune a checkpoint for a task on the text of some languages, and write it.

    Raises
    ------
    InputError
        The task has no text to tune on in these languages, or its files or the model are wrong.
    """
    from engine.model.finetune import finetune  # noqa: PLC0415  (torch and transformers: seconds)

    parts = task.within("train", tuple(languages))
    if not parts:
        has = ", ".join(task.train) or "nothing"
        raise InputError(f"train of the task has {has}, and none of it is in {', '.join(languages)}")
    train = labelled.read(task.kind, parts)
    dev = labelled.read(task.kind, task.within("dev", tuple(languages)))
    outcome = finetune(
        pinned(model),
        task.kind,
        train,
        dev,
        task.tuning,
        directory,
        lambda step, steps, loss: progress(step, steps, f"loss {loss:.3f}"),
        labels=_labels(task),
        trusted=trusted,
    )
    return Tuned(tuple(parts), sum(map(len, train.values())), outcome)


def evaluate(
    task: Downstream,
    model: str,
    splits: Sequence[str] | None = None,
    progress: Progress = quiet,
    *,
    name: str = "this task",
    trusted: bool = False,
) -> Iterator[dict[str, Any]]:
    """Scores of a checkpoint on every part of some splits of a task; of all its texts to score on by default.

    A checkpoint without a head for the task answers with a random one, as the base of Table 2 of the paper must.

    Parameters
    ----------
    name
        What messages call the task.

    Yields
    ------
    `language` (or SOURCE-TARGET), `split`, `examples` (count), whether the `head` was trained, and the scores of
    `engine.scoring.score`.

    Raises
    ------
    InputError
        The task has no text in these splits, its files or the model are wrong, or a text has a label that the
        checkpoint, tuned before, does not know.
    """
    from engine.model.answer import answer  # noqa: PLC0415  (torch and transformers: seconds)
    from engine.model.heads import open_head  # noqa: PLC0415  (as above)

    names = [*task.tests] if splits is None else [*splits]
    if unknown := [split for split in names if split not in task.splits]:
        raise InputError(f"the task has no split {unknown[0]!r}; it has {', '.join(task.splits)}")
    texts = {split: _all(task, split) for split in names}
    if not any(texts.values()):
        raise InputError(f"the task has no text to score on: name files under {' or '.join(names) or 'test'}")
    labels = _labels(task) or labels_of(task.kind, next(filter(None, texts.values())))
    head = open_head(pinned(model), task.kind, labels, task.tuning.seed, trusted=trusted)
    if head.trained and task.kind != "translation":
        _check_labels(texts, head.labels, model, name)
    total = sum(len(examples) for of in texts.values() for examples in of.values())
    before = 0
    for split, of in texts.items():
        for part, examples in of.items():

            def told(done: int, _: int, words: str = f"{split} {part}", start: int = before) -> None:
                progress(start + done, total, words)

            found = answer(head, examples.inputs, task.tuning.max_subwords, task.beams, told)
            row = {"language": part, "split": split, "examples": len(examples), "head": head.trained}
            yield {**row, "kind": task.kind, **score(task.kind, examples.answers, found)}
            before += len(examples)


def _check_labels(texts: Mapping[str, Mapping[str, Examples]], known: Sequence[str], model: str, name: str) -> None:
    """Refuse texts, by split and part, with a label that a checkpoint was not tuned for."""
    for split, of in texts.items():
        for part, examples in of.items():
            if found := examples.other({*known}):
                label, place = found
                raise InputError(
                    f"{place} ({name}, {split}, {part}): label {label!r}, but {model} was tuned for the labels "
                    f"{', '.join(known)}; correct the file, tune on text with this label under train, or do not score "
                    "this checkpoint on this task (in a study: scored_on)"
                )


def _labels(task: Downstream) -> list[str]:
    """Labels of a new head: all of the training text, whatever its languages, so that every checkpoint has the same."""
    return [] if task.kind == "translation" else labels_of(task.kind, _all(task, "train"))


def _all(task: Downstream, split: str) -> dict[str, Examples]:
    return labelled.read(task.kind, task.splits[split])
