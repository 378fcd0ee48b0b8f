"""A whole study whose layers are many times the memory of all workers together: who pauses, spills or is killed?

    python -m tests.benchmarks.larger_than_memory [--times 10] [--folder /a/large/disk]

The model is a language model of 2048 numbers a vector and next to no weights in its block, so that vectors are large
and cheap; words are random. Workers get the least memory that the plan accepts, and the text has as many words as make
one layer of the mixed text so many times the memory of both workers. Prints the events of Dask's scheduler, bytes that
were spilled, and the measured peak of the processes beside the projected one.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from engine.records import read_records
from engine.workers.cluster import ClusterWorkers
from jobs import files, stages
from jobs.run import run
from jobs.selections import Text
from schemas.machine import Machine
from schemas.study import Study
from tests.benchmarks.inputs import table

HIDDEN, SHARD = 2048, 2048
WORDS, TYPES = 20, 1000
"""Words of a sentence, word types of a language."""

LANGUAGES = ("de", "en")
WORKERS = 2
_STEP = 32 * 2**20
"""The least memory is sought in such steps."""


def save_model(folder: Path) -> None:
    """A language model whose embeddings are wide and whose only block costs nothing."""
    words = {"<unk>": 0} | {f"{lang}{i}": 1 + i + TYPES * n for n, lang in enumerate(LANGUAGES) for i in range(TYPES)}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=HIDDEN, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)


def write_texts(folder: Path, tokens: int) -> None:
    """Random sentences; word i of one language is mostly translated by word i of the other."""
    rng = np.random.default_rng(0)
    with (folder / "de.txt").open("w") as one, (folder / "en.txt").open("w") as other:
        for _ in range(tokens // WORDS):
            words = rng.integers(TYPES, size=WORDS)
            one.write(" ".join(f"de{i}" for i in words) + "\n")
            words = np.where(rng.random(WORDS) < 0.9, words, rng.integers(TYPES, size=WORDS))
            other.write(" ".join(f"en{i}" for i in words) + "\n")


def write_study(folder: Path) -> Path:
    """The study file."""
    values = {
        "corpus": {"files": {language: f"{language}.txt" for language in LANGUAGES}},
        "checkpoints": {"wide": {"model": "./model"}},
        "selection": {"min_count": 1, "max_count": 10**9},
        "links": {"iterations": 1},
        "activations": {"stacks": ["decoder"], "layers": [1], "shard_tokens": SHARD, "chunk_tokens": 512},
        "concepts": {"k": 8, "max_iterations": 1, "seeding_tokens": 1024},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def text_of(tokens: int) -> Text:
    """Sizes of the text."""
    each, types = dict.fromkeys(LANGUAGES, tokens), dict.fromkeys(LANGUAGES, TYPES)
    return Text(tokens // WORDS, each, types, each, types, {})


def projected(study: Study, layout: Any, tokens: int, memory: int) -> dict[str, int]:
    """Projected bytes of a worker in each stage."""
    context = stages.context(study, layout, 1, memory)
    return {stage.name: stage.memory for stage in stages.stages(context, text_of(tokens), memory)}


def least(study: Study, layout: Any, times: float) -> tuple[int, int]:
    """The least memory of a worker (bytes) that the plan accepts, and words of a language for it."""
    memory = 512 * 2**20
    while True:
        tokens = int(times * WORKERS * memory / (HIDDEN * 2 * len(LANGUAGES))) // WORDS * WORDS
        if max(projected(study, layout, tokens, memory).values()) <= memory:
            return memory, tokens
        memory += _STEP


def _state(dask_worker: Any) -> dict[str, int]:
    """Bytes that a worker has ever spilled, and the peak of its process."""
    spilled = getattr(dask_worker.data, "cumulative_metrics", {})
    return {
        "spilled": int(sum(value for name, value in spilled.items() if name[0].startswith("disk-write"))),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "pid": os.getpid(),
    }


def _logged(dask_scheduler: Any) -> list[tuple[str, str]]:
    """What the scheduler noted of workers: action and status."""
    events = [event for topic in dask_scheduler.get_events().values() for _, event in topic if isinstance(event, dict)]
    return [(str(event.get("action")), str(event.get("status"))) for event in events]


def measure(folder: Path, times: float) -> dict[str, Any]:
    """Run the study in a folder on an ample disk; what befell the workers."""
    save_model(folder / "model")
    write_texts(folder, WORDS)
    study, layout = files.load_study(str(write_study(folder)))
    memory, tokens = least(study, layout, times)
    write_texts(folder, tokens)
    with ClusterWorkers(Machine(type="local", workers=WORKERS, memory=memory / 2**30)) as workers:
        workers._client.wait_for_workers(WORKERS)
        before = workers.each(_state)
        run(study, layout, workers, memory)
        after = workers.each(_state)
        logged = workers._client.run_on_scheduler(_logged)
    peaks: dict[str, int] = {}
    for record in read_records(layout.records).values():
        stage = record.key.split("/")[0]
        peaks[stage] = max(peaks.get(stage, 0), record.peak_memory)
    return {
        "memory": memory,
        "layer_bytes": len(LANGUAGES) * tokens * HIDDEN * 2,
        "times": len(LANGUAGES) * tokens * HIDDEN * 2 / (WORKERS * memory),
        "same_processes": {w: s["pid"] for w, s in before.items()} == {w: s["pid"] for w, s in after.items()},
        "paused": sum(status == "paused" for _, status in logged),
        "removed": sum(action == "remove-worker" for action, _ in logged),
        "spilled": sum(state["spilled"] for state in after.values()),
        "peak": max(state["peak"] for state in after.values()),
        "peak_so_far": peaks,
        "projected": projected(study, layout, tokens, memory),
        "actions": sorted({action for action, _ in logged}),
    }


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--folder", help="where to write (default: the folder of temporary files)")
    asked = parser.parse_args()
    if asked.folder:
        Path(asked.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = measure(Path(folder), asked.times)
    mb = 2**20
    shown = [
        [stage, round(nbytes / mb), round(found["peak_so_far"][stage] / mb) if stage in found["peak_so_far"] else ""]
        for stage, nbytes in found["projected"].items()
    ]
    sys.stdout.write(table(["stage", "projected MiB", "peak so far, MiB"], shown) + "\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
