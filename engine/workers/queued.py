"""What has become of SLURM jobs: workers that are waited for may never come."""

import logging
import os
import re
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from schemas.errors import ColignError, InputError, WorkersError

logger = logging.getLogger(__name__)

_LOOK, _SLOW = 10.0, 30.0
"""Seconds between questions to squeue, and those after which an answer is given up."""

_SURE = 4
"""Looks at a queue without jobs after which none is expected: one may be shown late, sent again or get a follower."""

_GONE = "no longer in the queue"
_ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
    _GONE,
)  # fmt: skip
"""States of jobs that have ended, which squeue knows for some minutes, and of those that it does not know."""

_JOBS, _LINES, _BYTES = 4, 10, 2000
"""Jobs that a message names, and lines and bytes at the end of a log that it shows, at most."""


class Queue:
    """Jobs of a `dask_jobqueue.SLURMCluster`. While squeue does not answer they are waited for."""

    def __init__(self, cluster: Any) -> None:
        self._cluster, self._jobs = cluster, _submitted(cluster)
        self._asked, self._empty = monotonic(), 0
        self._said: Counter[str] = Counter()

    def wait(self, client: Any) -> None:
        """Wait for a first worker, as long as one can come."""
        while True:
            try:
                client.wait_for_workers(1, timeout=_LOOK)
                return
            except TimeoutError:
                self.check(came=False)

    def check(self, *, came: bool) -> None:
        """Where there is no worker: look now and then whether one can still come; `came`: whether there has been one.

        Raises
        ------
        InputError, WorkersError
            All jobs have ended, before a first worker came; after it.
        """
        if monotonic() - self._asked < _LOOK:
            return
        self._jobs |= _submitted(self._cluster)
        found = _squeue(self._jobs)
        self._asked = monotonic()
        if found is None:
            return
        states = {job: found.get(job, _GONE) for job in self._jobs}
        waiting = Counter(state for state in states.values() if not state.startswith(_ENDED))
        self._empty = 0 if waiting else self._empty + 1
        if self._empty >= _SURE:
            raise self._over(states, came)
        if waiting and waiting != self._said:
            jobs = ", ".join(f"{count} {state}" for state, count in waiting.most_common())
            logger.warning("no worker is there, SLURM's jobs are waited for: %s", jobs)
            self._said = waiting

    def _over(self, states: dict[str, str], came: bool) -> ColignError:
        named = ", ".join(f"job {job}: {state}" for job, state in [*states.items()][-_JOBS:])
        few = f"the last {_JOBS} of {len(states)}: " if len(states) > _JOBS else ""
        logs = [path for job, header in reversed(self._jobs.items()) for path in _logs(job, header)]
        said = f"nothing can be read here in their logs, such as {logs[0]}"
        for path in logs:
            with suppress(OSError):
                if end := path.read_bytes()[-_BYTES:].decode(errors="replace").strip():
                    said = "\n  ".join([f"{path} ends with", *end.splitlines()[-_LINES:]])
                    break
        what = f"and all SLURM jobs have ended ({few}{named}); {said}\n"
        if came:
            return WorkersError(f"every worker was lost, {what}run again to go on, finished tasks are kept")
        return InputError(
            f"machine file: type slurm: no worker came, {what}correct python, job_script_prologue, memory, interface "
            "and the like in the machine file, or what is installed on the nodes, and run again"
        )


def _submitted(cluster: Any) -> dict[str, str]:
    """Directives of the jobs by their numbers, those that were refused aside."""
    return {job.job_id: job.job_header for job in [*cluster.workers.values()] if job.job_id}


def _squeue(jobs: dict[str, str]) -> dict[str, str] | None:
    """States, with reasons, of those jobs that squeue knows; None where it does not answer."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={','.join(jobs)}", "--format=%A|%T (%r)"]
    if other := re.search(r"^#SBATCH (?:-M|--clusters?)[ =]*(\S+)", "\n".join(jobs.values()), re.MULTILINE):
        command.append(f"--clusters={other[1]}")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}  # they hide jobs
    try:
        told = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=_SLOW, check=True).stdout
    except subprocess.CalledProcessError as error:
        return {} if "Invalid job id" in error.stderr else None  # it forgets jobs, and says so of a single one
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    rows = (line.strip().partition("|") for line in told.splitlines())
    return {job: state.removesuffix(" (None)") for job, _, state in rows}


def _logs(job: str, header: str) -> list[Path]:
    """Where a job writes what it says."""
    named = re.findall(r"^#SBATCH (?:-e|-o|--error|--output)[ =]*(\S+)", header, re.MULTILINE)
    return [Path(re.sub("%[jJA]", job, name)).absolute() for name in named or ["slurm-%j.out"]]
