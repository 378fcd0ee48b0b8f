"""Wall-clock seconds and peak memory of a whole command, its worker processes included.

    python tests/benchmarks/measure.py colign run study.yaml

Memory is the proportional set size summed over the process tree (pages shared by processes count once), sampled.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

INTERVAL = 1.0
"""Seconds between two looks at the memory."""


def tree_memory(root: psutil.Process) -> int:
    """Bytes that a process and its descendants hold."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between listing and looking
    return total


def measure(command: Sequence[str]) -> dict[str, float | int]:
    """Run a command; its seconds, peak bytes and exit code."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr)
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, tree_memory(root))
        except psutil.NoSuchProcess:
            break
        time.sleep(INTERVAL)
    code = process.wait()
    return {"seconds": round(time.monotonic() - started, 1), "peak_bytes": peak, "exit_code": code}


if __name__ == "__main__":
    found = measure(sys.argv[1:])
    sys.stdout.write(json.dumps(found) + "\n")
    sys.exit(int(found["exit_code"]))
