"""Peak memory and seconds of one task of counting, in a process of its own.

    python -m tests.benchmarks.counting_memory study.yaml CHECKPOINT STACK K de+en
    python -m tests.benchmarks.counting_memory study.yaml CHECKPOINT STACK K de en
    python -m tests.benchmarks.counting_memory study.yaml CHECKPOINT STACK K de+en de en

The study must have its concepts; the counts are written again, with the same content.
"""

import resource
import sys
import time

from jobs import files, stages
from jobs.tasks import count
from schemas.task import Key

MEMORY = 2**31
"""Bytes of a worker, by which nothing of counting goes."""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Print MiB before and at most, and seconds."""
    path, *part = sys.argv[1:]
    study, layout = files.load_study(path)
    context = stages.context(study, layout, 1, MEMORY)
    before, started = _peak(), time.monotonic()
    count(Key("counts", tuple(part)), context)
    seconds = time.monotonic() - started
    sys.stdout.write(f"{' '.join(part)}: before {before} MiB, at most {_peak()} MiB, {seconds:.1f} s\n")


if __name__ == "__main__":
    main()
