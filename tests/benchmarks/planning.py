"""Seconds and memory of planning a study far larger than this machine, when none, half and all of its tasks are done.

    python -m tests.benchmarks.planning [--tokens 1e9] [--languages 100] [--pairs pivot] [--pairs all]

A study of 1e9 words in 100 languages, whose every word is studied in the 13 layers of a 12 x 384 encoder, stores 10 TB
of vectors. No text is read: its sizes are made up. Records are written as its tasks would write them, on the local
disk. Each row is a process of its own that does what `colign plan` and the start of `colign run` do; memory is its peak
above what it takes once everything is imported.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from transformers import BertConfig

from engine.records import write_record
from jobs import clustering, linking, run, sizes, stages
from jobs.layout import Layout
from jobs.plan import check_budget, rows
from jobs.selections import Text
from jobs.tasks import Context
from schemas.errors import BudgetError
from schemas.machine import Machine
from schemas.study import Study
from schemas.task import Key, Record
from tests.benchmarks.inputs import table

WORDS_A_SENTENCE = 20
TYPES = 400_000
"""Word types of a language."""

_MACHINE = Machine(type="address", address="tcp://none:1", memory=16.0)


def made_study(folder: Path, languages: int, pairs: str, **settings: Any) -> Study:
    """A study of many languages and one checkpoint of a 12 x 384 encoder, each paired with a pivot or with all."""
    if not (folder / "config.json").exists():
        BertConfig(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536, vocab_size=250_000
        ).save_pretrained(folder)
    names = [f"l{number}" for number in range(languages)]
    values: dict[str, Any] = {
        "corpus": {"files": {name: f"/corpus/{name}.txt.gz" for name in names}},
        "pivot": names[0],
        "checkpoints": {"base": {"model": str(folder)}},
        **settings,
    }
    if pairs == "all":
        values["pairs"] = [*combinations(names, 2)]
    return Study.model_validate(values)


def made_text(study: Study, tokens: int) -> Text:
    """Sizes of a text in which every word is selected."""
    each = dict.fromkeys(study.corpus.files, tokens // len(study.corpus.files))
    types = dict.fromkeys(each, min(TYPES, *each.values()))
    return Text(max(each.values()) // WORDS_A_SENTENCE, each, types, each, types, {})


def done_with(key: Key, context: Context) -> Record:
    """What a task leaves behind."""
    outcome: dict[str, Any] = {"concepts": 600 * 600}
    if key.stage == "activations":
        tokens = key.stop - key.start
        outcome = {
            "tokens": tokens, "computed": tokens, "sentences": tokens // WORDS_A_SENTENCE, "absent": 12, "dropped": 7,
            "too_long": 5, "bytes": tokens * 9984,
            "seconds": {"text": 1.0371, "model": 19.1243, "copy": 0.0271, "encode": 0.2123, "disk": 0.4131},
        }  # fmt: skip
    if key.stage == "concepts":
        outcome = {"n_iter": [81], "inertia": [18276341.281736], "scatter": 98172634.19872}
    return Record(str(key), context.fingerprint(key), "host-17", 1.7e9, 21.3, 812 * 2**20, outcome)


class _Steps:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def plan(study: Study, layout: Layout, tokens: int) -> dict[str, Any]:
    """Seconds of each step of planning a study, its tasks, and bytes at the peak."""
    before, step = _peak(), _Steps()
    memory = _MACHINE.memory_bytes
    with step("context"):
        context = stages.context(study, layout, 1, memory)
    with step("records"):
        done, _ = run.records(context)
    text = made_text(study, tokens)
    with step("stages"):
        planned = stages.stages(context, text, memory)
    with step("budget"), contextlib.suppress(BudgetError):  # this disk is too small, which is known at the end
        check_budget(planned, done, memory, layout)
    with step("rows"):
        found = rows(planned, done)
    with step("missing"):
        left = sum(len(stages.missing(stage, done)) for stage in planned)
    with step("tables"):
        sizes.disk(context, text)
        linking.rows(study, context.given, text.sentences, text.tokens, memory)
        clustering.rows([task for stage in planned for task in stage.clusterings], study.concepts, _MACHINE)
    return {
        "tasks": sum(int(row["tasks"]) for row in found),
        "left": left,
        "bytes": sum(stage.nbytes for stage in planned),
        "worker_bytes": {stage.name: stage.memory for stage in planned},
        "seconds": step.seconds,
        "peak_bytes": _peak() - before,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_records(study: Study, layout: Layout, tokens: int, share: float) -> None:
    """Records of the first share of each stage's tasks."""
    context = stages.context(study, layout, 1, _MACHINE.memory_bytes)
    for stage in stages.stages(context, made_text(study, tokens), _MACHINE.memory_bytes):
        for key in [*stage.keys][: round(share * len(stage.keys))]:
            write_record(layout.records, done_with(key, context))


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=1e9)
    parser.add_argument("--languages", type=int, default=100)
    parser.add_argument("--pairs", action="append", choices=["pivot", "all"])
    parser.add_argument("--done", action="append", type=float, help="share of the tasks (default: 0, 0.5 and 1)")
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # the process of one row
    asked = parser.parse_args()
    tokens = int(asked.tokens)
    if asked.folder:
        study = made_study(Path(asked.folder), asked.languages, asked.pairs[0])
        found = plan(study, Layout(f"{asked.folder}/study"), tokens)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    shown, every = [], []
    for pairs in asked.pairs or ["pivot", "all"]:
        for share in asked.done or (0.0, 0.5, 1.0):
            with tempfile.TemporaryDirectory() as folder:
                study = made_study(Path(folder), asked.languages, pairs)
                if share:
                    write_records(study, Layout(f"{folder}/study"), tokens, share)
                command = [sys.executable, "-m", "tests.benchmarks.planning", "--folder", folder, "--pairs", pairs]
                command += ["--tokens", str(tokens), "--languages", str(asked.languages)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = {"pairs": pairs, "done": share, **json.loads(done.stdout)}
            every.append(found)
            steps = found["seconds"]
            shown.append(
                [pairs, f"{share:.0%}", found["tasks"], *steps.values(), sum(steps.values()), found["peak_bytes"] / 1e6]
            )
    header = ["pairs", "done", "tasks", *(f"{name}, s" for name in every[0]["seconds"]), "all, s", "peak MB"]
    sys.stdout.write(table(header, shown) + "\n" + json.dumps(every) + "\n")


if __name__ == "__main__":
    main()
