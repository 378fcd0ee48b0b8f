"""The machine file: where a study runs; it never changes a result."""

import difflib
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.section import Section

STARTED = ("local", "cuda", "slurm", "ssh", "kubernetes")
"""Types whose workers are started, and ended, by the run: their further keys go to the class that starts them."""

QUEUED = ("slurm", "kubernetes")
"""Types whose workers may come late."""

_SETTLED = {
    "n_workers": "write workers",
    "threads_per_worker": "leave it out: a process does one task at a time",
    "nthreads": "leave it out: a process does one task at a time",
    "memory_limit": "write memory",
}
"""What the classes call keys that are settled here."""

_MAPPING, _LIST = "a mapping of names to values", "a list"
_FORMS: dict[str, tuple[tuple[type, ...], str]] = {
    "hosts": ((list,), "a list of names"),
    "worker_options": ((dict,), _MAPPING),
    "scheduler_options": ((dict,), _MAPPING),
    "connect_options": ((dict, list), f"{_MAPPING}, or a list of one for each host"),
    "env": ((dict, list), _MAPPING),
    "env_extra": ((list,), _LIST),
    "job_script_prologue": ((list,), _LIST),
    "job_extra_directives": ((list,), _LIST),
    "worker_extra_args": ((list,), _LIST),
}
"""What the classes take for some keys, and how to call it: their own messages do not name the key."""


class Adaptive(Section):
    """Workers that come and go with the work."""

    minimum: int = Field(default=1, ge=1)
    """Workers at least."""
    maximum: int = Field(ge=1)
    """Workers at most."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}; exchange them")
        return self


class Machine(BaseModel):
    """Workers and their limits; further keys go to the class that starts the workers of a type."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    type: Literal["serial", "local", "cuda", "slurm", "ssh", "kubernetes", "address", "scheduler-file"] = "serial"
    """In this process; on Dask processes of this computer (distributed.LocalCluster); one for each of its GPUs
    (dask_cuda.LocalCUDACluster); in SLURM jobs (dask_jobqueue.SLURMCluster); on hosts reached by ssh
    (distributed.SSHCluster, key `hosts`, the first of which also gets the scheduler); in pods of the Dask operator
    (dask_kubernetes.operator.KubeCluster); on a running Dask scheduler, by its address or its file."""
    address: str | None = None
    """Scheduler address such as tcp://host:8786, for type address; default: Dask's own setting `scheduler-address`,
    which DASK_SCHEDULER_ADDRESS sets."""
    scheduler_file: str | None = None
    """File that a scheduler wrote with --scheduler-file, for type scheduler-file."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that are started, on every host for type ssh; default: 2, on cuda one for each GPU, and where others
    start them, all that there are."""
    adaptive: Adaptive | None = None
    """Start and end processes as there is work, in place of a fixed number."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one task; default: all cores for type serial, else 1. Never changes a stored bit."""
    memory: float = Field(default=4.0, gt=0, le=2**20)
    """Memory that one worker may use, in GiB; a plan that needs more is refused."""
    products: Literal["auto", "float32"] = "auto"
    """Products of clustering: auto finds candidates in bfloat16 where the processor is faster in it, and settles what
    its rounding leaves open; float32 never does. Never changes a stored bit."""
    retries: int = Field(default=2, ge=0)
    """Times that a failed task is tried again on a Dask cluster."""

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        fields = type(self).model_fields
        for key in self.further:
            if key in _SETTLED:
                raise ValueError(f"{key}: {_SETTLED[key]}")
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.8)
            if near or self.type not in STARTED:
                hint = f"did you mean {near[0]!r}?" if near else f"type {self.type} has none but {', '.join(fields)}"
                raise ValueError(f"{key}: unknown key; {hint}")
        if self.type == "scheduler-file" and not self.scheduler_file:
            raise ValueError("type scheduler-file needs the key scheduler_file, the file that the scheduler wrote")
        if self.type == "ssh" and not self.further.get("hosts"):
            raise ValueError("type ssh needs the key hosts, a list of names; the first also gets the scheduler")
        self._check_forms()
        types: dict[str, Sequence[str]] = {
            "address": ["address"],
            "scheduler_file": ["scheduler-file"],
            "workers": STARTED,
            "adaptive": [kind for kind in STARTED if kind != "ssh"],  # whose hosts are listed
        }
        for key, allowed in types.items():
            if getattr(self, key) is not None and self.type not in allowed:
                raise ValueError(f"{key} goes with type {' or '.join(allowed)}, found {self.type}; leave it out")
        if self.workers is not None and self.adaptive is not None:
            raise ValueError("workers and adaptive are two ways to say how many; leave out one")
        return self

    def _check_forms(self) -> None:
        for key, value in self.further.items():
            kinds, form = _FORMS.get(key, ((object,), ""))
            if not isinstance(value, kinds):
                raise ValueError(f"{key}: expected {form}, found {type(value).__name__}; write it as one")
        if other := [host for host in self.further.get("hosts", []) if not isinstance(host, str)]:
            raise ValueError(f"hosts: expected a list of names, found {type(other[0]).__name__} in it; write names")
        processes = self.further.get("processes")
        if self.type == "local" and processes not in (None, True):
            raise ValueError("processes: leave it out, for workers are processes; workers says how many")
        if self.type == "slurm" and "processes" in self.further and (type(processes) is not int or processes < 1):
            raise ValueError(f"processes: expected how many there are in a job, found {processes!r}; write 1 or more")

    @property
    def expected(self) -> int:
        """Processes that a plan counts with."""
        if self.adaptive is not None:
            return self.adaptive.minimum
        return self.workers or (2 if self.type in ("local", "slurm", "ssh", "kubernetes") else 1)

    @property
    def most(self) -> int:
        """Processes when all are there that are asked for."""
        return self.expected if self.adaptive is None else self.adaptive.maximum

    @property
    def further(self) -> dict[str, Any]:
        """Keys for the class that starts the workers."""
        return dict(self.model_extra or {})

    @property
    def memory_bytes(self) -> int:
        """Memory that one worker may use, in bytes."""
        return int(self.memory * 2**30)
