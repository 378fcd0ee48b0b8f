"""Fine-tuning a checkpoint for a downstream task, with transformers' Trainer."""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers  # its heavy parts are imported when they are first named

from engine.labelled import Examples, labels_of
from engine.model.heads import IGNORED, Head, collator, example, open_head, threads_for
from engine.model.shape import identity
from engine.model.train import save
from engine.scoring import score
from schemas.downstream import PRIMARY, Tuning
from schemas.errors import InputError
from schemas.study import digest

Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, steps, loss)``; steps count from 1."""


def finetune(
    model: str,
    kind: str,
    train: Mapping[str, Examples],
    dev: Mapping[str, Examples],
    settings: Tuning,
    directory: str,
    progress: Progress = lambda step, steps, loss: None,
    *,
    labels: Iterable[str] = (),
    trusted: bool = False,
) -> dict[str, float]:
    """Tune a checkpoint on all parts of a text together, and write the best of its passes.

    After every pass the checkpoint is scored on all of `dev`: entities' F1, accuracy, or, of translations, the loss;
    the best pass is kept, without `dev` the last. A second call after one that was killed goes on behind its last
    whole pass. Under `torchrun` all processes train together and the first writes.

    Parameters
    ----------
    model
        Folder in transformers' format, or hub name.
    train, dev
        Examples by part.
    directory
        Local folder for the tuned checkpoint with its tokenizer; what a killed call had done lies beside it.
    labels
        Labels of a new head beyond those in `train`, as of languages that are only tested.
    trusted
        As in `engine.model.shape.describe`.

    Returns
    -------
    `steps`, `loss` (mean training loss), and the score of the best pass where there is `dev`.

    Raises
    ------
    InputError
        No training text, a label in `dev` that the head does not give, or a checkpoint that cannot do the task.
    """
    if not any(map(len, train.values())):
        raise InputError(f"{directory}: no text to tune on; name files under train for the languages asked for")
    names = sorted({*labels, *labels_of(kind, train)})
    head = open_head(model, kind, names, settings.seed, trusted=trusted)
    for split, parts in (("train", train), ("dev", dev)):
        _check_labels(head, model, split, parts)
    rows, checked = (_encoded(head, examples, settings.max_subwords) for examples in (train, dev))
    texts = [
        {"inputs": part.inputs, "answers": part.answers, "left_out": part.left_out}  # wherever the files lie
        for of in (train, dev)
        for part in of.values()
    ]
    made = digest(identity(model, trusted=trusted), kind, settings, head.labels, *texts)
    work = f"{directory}.fit/{made}"
    trainer = _trainer(head, rows, checked, settings, work, progress)
    last = _last_whole(work)
    with threads_for(head):
        outcome = trainer.train(resume_from_checkpoint=last)
    found = {"steps": float(outcome.global_step), "loss": _mean_loss(trainer.state.log_history)}
    if checked and trainer.state.best_metric is not None:
        name = "loss" if kind == "translation" else PRIMARY[kind]
        found[f"dev_{name}"] = float(trainer.state.best_metric)
    trainer.accelerator.wait_for_everyone()  # others may still read the best pass
    if trainer.is_world_process_zero():
        save(trainer.model, head.tokenizer, directory)
        shutil.rmtree(os.path.dirname(work), ignore_errors=True)
    return found


def _check_labels(head: Head, model: str, split: str, parts: Mapping[str, Examples]) -> None:
    """Refuse text with a label that the head cannot learn.

    Raises
    ------
    InputError
        There is one; names its place, what the head gives, and what can be done.
    """
    if head.kind == "translation":
        return
    for part, examples in parts.items():
        if found := examples.other({*head.labels}):
            label, place = found
            known = ", ".join(head.labels)
            why, remedy = (
                (f"{model} was tuned before, for the labels {known}", "tune the checkpoint that it was made from")
                if head.trained
                else (f"the text under train has {known}", "add text with it under train")
            )
            raise InputError(f"{place} ({split}, {part}): label {label!r}, but {why}; correct the file, or {remedy}")


def _encoded(head: Head, parts: Mapping[str, Examples], longest: int) -> list[dict[str, Any]]:
    return [
        example(head, given, answer, longest)
        for examples in parts.values()
        for given, answer in zip(examples.inputs, examples.answers, strict=True)
    ]


def _trainer(
    head: Head,
    rows: list[dict[str, Any]],
    checked: list[dict[str, Any]],
    settings: Tuning,
    work: str,
    progress: Progress,
) -> Any:
    chosen = "eval_loss" if head.kind == "translation" else f"eval_{PRIMARY[head.kind]}"
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # of torchrun
    each = max(1, math.ceil(settings.batch / settings.accumulate / processes))
    arguments = transformers.TrainingArguments(
        output_dir=work,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=each,
        per_device_eval_batch_size=each,
        gradient_accumulation_steps=settings.accumulate,
        bf16=settings.compute == "bfloat16",
        eval_strategy="epoch" if checked else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=bool(checked),
        metric_for_best_model=chosen if checked else None,
        greater_is_better=head.kind != "translation" if checked else None,
        prediction_loss_only=head.kind == "translation",
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # A process trains on one GPU, its first: a worker of a machine of type cuda sees those of all others, too, and the
    # Trainer would spread each step over them.
    arguments._n_gpu = min(1, arguments.n_gpu)
    # The heads of BERT, XLM-R, mT5 and their like take the number of a step's labels and overlook it. The Trainer would
    # leave the dividing to them, and follow the gradient as many times as a step has batches and processes.
    head.model.accepts_loss_kwargs = False
    trainer = transformers.Trainer(
        model=head.model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=checked or None,
        data_collator=collator(head),
        processing_class=head.tokenizer,
        compute_metrics=None if head.kind == "translation" else _scored(head),
        preprocess_logits_for_metrics=_best,
        callbacks=[_Told(progress)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _last_whole(work: str) -> str | None:
    """The last pass that was saved whole: its trainer_state.json is written last."""
    numbers = [int(Path(state).parent.name.split("-")[1]) for state in glob(f"{work}/checkpoint-*/trainer_state.json")]
    return f"{work}/checkpoint-{max(numbers)}" if numbers else None


def _mean_loss(logged: Iterable[Mapping[str, Any]]) -> float:
    """Mean training loss of all steps, of which each log has the mean since the log before.

    The Trainer's own divides what it has seen since it was begun or taken up again by the steps of all.
    """
    total, before = 0.0, 0
    for log in logged:
        if "loss" in log:
            total += log["loss"] * (log["step"] - before)
            before = log["step"]
    return total / max(before, 1)


def _best(logits: Any, _: Any) -> Any:
    """Numbers of the labels; encoder-decoder models give states behind their logits."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)


def _scored(head: Head) -> Callable[[Any], dict[str, float]]:
    """Scores of the numbers that the Trainer collects; every word is scored by its first sub-word."""

    def scored(prediction: Any) -> dict[str, float]:
        found, answers = prediction.predictions, prediction.label_ids
        if head.kind == "tagging":
            kept = answers != IGNORED
            names = np.asarray(head.labels, object)
            pairs = [(names[a[k]].tolist(), names[f[k]].tolist()) for a, f, k in zip(answers, found, kept, strict=True)]
            values = score("tagging", [a for a, _ in pairs], [f for _, f in pairs])
        else:
            values = score("classification", answers.tolist(), found.tolist())
        return {name: value for name, value in values.items() if name != "signature"}

    return scored


class _Told(transformers.TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Tells how far the training is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Log the last step, too: only losses that are logged are gathered from all processes."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Log what is since the last log, before the pass is saved: one that goes on behind it would not know it."""
        control.should_log = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Take the loss of the last steps."""
        if logs and "loss" in logs:
            self._progress(state.global_step, state.max_steps, float(logs["loss"]))
