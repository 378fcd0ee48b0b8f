"""Dask clusters of a machine file. With `engine.workers.cluster` and `remote` the only user of dask."""

import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from shutil import which
from threading import current_thread, main_thread
from typing import Any

from dask import config
from dask.distributed import Client, LocalCluster, Security, SSHCluster
from distributed.core import Status
from distributed.utils import get_mp_context

from schemas.errors import ColignError, InputError
from schemas.machine import STARTED, Machine

logger = logging.getLogger(__name__)

_HERE = "127.0.0.1:0"
"""Where dashboards listen unless a machine file says otherwise: they show everybody all that runs."""

_PAUSE = 0.8
"""Share of its limit at which Dask pauses a worker; the limit is set so that this is the memory of the plan."""

_DEFAULTS = {
    "distributed": {
        "admin": {
            "tick": {"interval": "500ms"},
            "large-graph-warning-threshold": "1GiB",
            "low-level-log-length": 100,
        },
        "worker": {"profile": {"interval": "100ms"}},
    }
}
"""Where Dask's configuration does not differ from its defaults: how often it looks at its own event loops, and at what
tasks do (for its dashboard), for tasks take seconds, and fifty and a hundred looks a second cost time; how much a task
may be given, for the centroids of all runs are more than Dask expects; and how many events and sent messages it keeps
for developers, for there are centroids among them.
Processes of this computer, and those that ssh starts, do the same; others have a configuration of their own."""
config.update_defaults(_DEFAULTS)

_LONGEST = 2000
"""Characters of a cause that are shown."""

_TASKS = ("engine.workers.remote", "engine.concepts", "engine.links", "engine.results")
_MODELS = ("engine.model.encode", "transformers.modeling_utils")
"""What worker processes of this computer have imported when they begin; imports of models take seconds of a core in
each process that imports them itself."""

_TIED = "engine.workers.tied"
"""What processes that ssh starts preload."""

_HERE_STARTED = ("local", "cuda")
"""Types whose processes run in the terminal of the run."""


def start(machine: Machine, *, models: bool = True) -> Any:
    """Start the processes of a machine file: a Dask cluster; None for a scheduler that others run.

    Parameters
    ----------
    models
        Whether tasks open models.

    Raises
    ------
    InputError
        What starts them is not installed, or does not take a key of the machine file.
    """
    if machine.type not in STARTED:
        return None
    limit = int(machine.memory_bytes / _PAUSE)
    try:
        with _deaf() if machine.type in _HERE_STARTED else nullcontext():
            choose_method(machine, _TASKS + _MODELS * models)
            cluster = _STARTERS[machine.type](machine, machine.expected, limit)
    except ColignError:
        raise
    except (TypeError, ValueError) as error:  # a key that the class does not take, or misses
        raise InputError(f"machine file: type {machine.type}: {_why(error)}; correct its keys") from error
    except Exception as error:  # the classes, and the clients behind them, have errors of their own
        raise InputError(
            f"machine file: type {machine.type}: the workers cannot be started: {_why(error)}; correct the machine "
            "file, or run again if a process was lost while they started"
        ) from error
    if machine.adaptive is not None:
        cluster.adapt(minimum=machine.adaptive.minimum, maximum=machine.adaptive.maximum)
    return cluster


def _why(error: BaseException) -> str:
    """The innermost cause: others say no more than that something failed, or print the values of keys, with secrets."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error) or type(error).__name__
    return said if len(said) < _LONGEST else f"{said[:_LONGEST]}…"


def connect(machine: Machine, cluster: Any, timeout: str) -> Client:
    """A client of what was started, or of a scheduler that others run.

    Raises
    ------
    InputError
        Nothing says where the scheduler is, or the address and Dask's settings of TLS do not go together.
    OSError
        It does not answer in time.
    """
    try:
        return _client(machine, cluster, timeout)
    except (TypeError, RuntimeError) as error:
        raise InputError(
            f"{where(machine)}: {error}; an address that begins with tls:// and the certificates of Dask's own "
            "configuration belong together: set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"
        ) from error


def _client(machine: Machine, cluster: Any, timeout: str) -> Client:
    if cluster is not None:
        return Client(cluster, timeout=timeout)
    if machine.scheduler_file is not None:
        _check_file(machine.scheduler_file)
        return Client(scheduler_file=machine.scheduler_file, timeout=timeout)
    address = machine.address or configured()
    if not address:
        raise InputError(
            "machine file: type address needs the key address, such as tcp://host:8786, or the environment variable "
            "DASK_SCHEDULER_ADDRESS; found neither"
        )
    return Client(address, timeout=timeout)


def _check_file(path: str) -> None:
    """Look into the file of a scheduler: of one that is not there a client says nothing, of a wrong one no cause."""
    try:
        text = Path(path).read_bytes()
        told = json.loads(text) if text else ""
        named = isinstance(told, dict) and isinstance(told.get("address"), str)
        what = "" if named else "found no address in it" if text else "found an empty file"
    except FileNotFoundError:
        what = "no such file"
    except OSError as error:
        what = str(error.strerror)
    except ValueError:
        what = "found no JSON in it"
    if what:
        raise InputError(
            f"{path}: {what}; expected what a scheduler writes that is started with --scheduler-file: start it, run "
            "again if it has only begun, or correct the machine file"
        )


def where(machine: Machine) -> str:
    """What messages call the place of the scheduler."""
    return str(machine.address or machine.scheduler_file or configured() or machine.type)


def configured() -> str | None:
    """Address of the scheduler that Dask's own configuration names: by a file, or by DASK_SCHEDULER_ADDRESS."""
    address: str | None = config.get("scheduler-address", None)
    return address


def _class(module: str, name: str, extra: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise InputError(
            f"machine file: {module} is not installed; install it with: pip install 'colign[{extra}]'"
        ) from error


def _encrypted() -> bool:
    """Whether Dask's own configuration asks for TLS, which its clusters of other hosts overlook."""
    return bool(config.get("distributed.comm.require-encryption", None))


def _certificates() -> Security:
    """The certificates of Dask's own configuration; without one of them jobs would start, and find no scheduler."""
    found = Security()
    for role in ("scheduler", "worker", "client"):
        for what, path in found.get_tls_config_for_role(role).items():
            if what in ("ca_file", "cert", "key") and path is None:
                raise ValueError(
                    f"Dask's configuration requires encryption, and has no {what} of the {role}; set "
                    f"DASK_DISTRIBUTED__COMM__TLS__{'CA_FILE' if what == 'ca_file' else f'{role}__{what}'.upper()}"
                )
    return found


def choose_method(machine: Machine, modules: Sequence[str]) -> None:
    """Have worker processes forked from one that has imported modules, unless Dask's configuration says how they start.

    That process runs nothing else and has no threads, so that nothing is forked at work. Where GPUs are used, or an
    environment is given, each process starts anew: libraries look at it when they are imported.
    """
    key = "distributed.worker.multiprocessing-method"
    if config.get(key, None, config=config.collect()) is not None:  # defaults aside
        return
    told = "env" in machine.further or config.get("distributed.nanny.environ", None)
    forked = machine.type == "local" and not told
    config.set({key: "forkserver" if forked else "spawn"})
    if forked:
        get_mp_context().set_forkserver_preload(list(modules))  # in the place of those that Dask chooses, once
        with _environment():
            forkserver.ensure_running()


@contextmanager
def _environment() -> Iterator[None]:
    """The environment of Dask's workers, in which libraries are looked for where this process does."""
    asked = config.get("distributed.nanny.pre-spawn-environ", None) or {}
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in asked.items() if value is not None} | before)
    os.environ.update({"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _local(machine: Machine, count: int, limit: int) -> Any:
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=limit,
        **({"processes": True, "dashboard_address": _HERE} | machine.further),
    )


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes of this computer that never hear Ctrl-C in the terminal, which is for the run: it ends them.

    What is blocked stays so in every process and thread that is started meanwhile. Otherwise they die of it, each with
    a traceback, before the run can say how to go on. A Ctrl-C that comes meanwhile counts when they have started, for
    Dask cannot close what has half begun.
    """
    if current_thread() is not main_thread():
        yield
        return
    resource_tracker.ensure_running()  # lets all through again once it has started
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))  # threads of before hear it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


def _cuda(machine: Machine, count: int, limit: int) -> Any:
    some = {} if machine.workers is None and machine.adaptive is None else {"n_workers": count}
    cluster = _class("dask_cuda", "LocalCUDACluster", "gpu")
    return cluster(**some, threads_per_worker=1, memory_limit=limit, **({"dashboard_address": _HERE} | machine.further))


def _slurm(machine: Machine, count: int, limit: int) -> Any:
    processes = int(machine.further.get("processes", 1))
    asked = {"cores": processes, "processes": processes, "memory": f"{processes * limit} B"}
    given: dict[str, Any] = asked | machine.further
    if _encrypted() and "security" not in given:
        given["security"] = _certificates()
    own = config.get("jobqueue.slurm.scheduler-options", None) or {}
    given["scheduler_options"] = {"dashboard_address": _HERE} | own | given.get("scheduler_options", {})
    interrupted = signal.getsignal(signal.SIGINT)
    kind = _class("dask_jobqueue", "SLURMCluster", "slurm")
    signal.signal(signal.SIGINT, interrupted)  # its import makes Ctrl-C an end without a word and with exit code 0
    if which("sbatch") is None:
        raise InputError(
            "machine file: type slurm: this computer has no command sbatch, with which jobs are submitted; run Colign "
            "where it is, such as on a login node"
        )
    cluster = kind(**given)
    _submit(cluster, -(-count // processes))
    if machine.adaptive is not None:
        cluster.new_spec = {**cluster.new_spec, "cls": _later(cluster.new_spec["cls"])}
    return cluster


def _submit(cluster: Any, jobs: int) -> None:
    """Hand in the first jobs, and wait for the answers: of those that `scale` hands in nobody hears, and none come."""
    for _ in range(jobs):
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(_handed_in, cluster)
    except BaseException as error:
        close(cluster)
        if isinstance(error, _REFUSALS):
            raise InputError(
                f"machine file: type slurm: a job could not be submitted: {_said(error)}; correct its keys "
                "(queue, account, walltime, memory and the like), or run again if SLURM was out of reach"
            ) from error
        raise


async def _handed_in(cluster: Any) -> None:
    await cluster


_REFUSALS = (RuntimeError, ValueError, OSError)
"""What a job raises that is not submitted."""


def _said(error: Exception) -> str:
    """What the command said that submits jobs."""
    return " ".join((str(error).partition("stderr:")[2] or str(error)).split())


def _later(job: Any) -> Any:
    """Jobs like `job` that come when others are there: that one is refused is no error, but a line in the log."""

    async def start(self: Any) -> None:
        try:
            await job.start(self)
        except _REFUSALS as error:
            logger.warning("a job could not be submitted, the run goes on without it: %s", _said(error))
            self.status = Status.running  # for Dask it waits in the queue, until there is less work

    return type(job.__name__, (job,), {"start": start})


def close(cluster: Any) -> None:
    """End what was started."""
    for process in getattr(cluster, "workers", {}).values():
        if hasattr(process, "job_id"):  # one that is refused never says that it has ended, for which Dask looks
            process.status = Status.failed
    cluster.close()


def _ssh(machine: Machine, count: int, limit: int) -> Any:
    given = dict(machine.further)
    workers = {"nthreads": 1, "n_workers": count, "memory_limit": limit, "preload_nanny": [_TIED]}
    workers |= given.pop("worker_options", {})
    scheduler = {"preload": [_TIED], "dashboard_address": _HERE} | ({"protocol": "tls"} if _encrypted() else {})
    scheduler |= given.pop("scheduler_options", {})
    _class("asyncssh", "connect", "ssh")
    said = _Lines()
    logging.getLogger("distributed.deploy.ssh").addHandler(said)
    try:
        return SSHCluster(worker_options=workers, scheduler_options=scheduler, **given)
    except Exception as error:
        if "failed to start" in str(error) and said.lines:  # all that Dask says of what it read there
            raise RuntimeError("\n  ".join([_why(error), *said.lines])) from None
        raise
    finally:
        logging.getLogger("distributed.deploy.ssh").removeHandler(said)


class _Lines(logging.Handler):
    """The last lines that processes on other hosts wrote."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=10)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _kubernetes(machine: Machine, count: int, limit: int) -> Any:
    command = ["dask", "worker", "--nthreads", "1", "--memory-limit", str(limit)]
    given = {"n_workers": count, "worker_command": command} | machine.further
    cluster = _class("dask_kubernetes.operator", "KubeCluster", "kubernetes")(**given)
    if "custom_cluster_spec" in given and machine.workers is not None:  # which has a number of its own
        cluster.scale(count)
    return cluster


_STARTERS: dict[str, Callable[[Machine, int, int], Any]] = {
    "local": _local,
    "cuda": _cuda,
    "slurm": _slurm,
    "ssh": _ssh,
    "kubernetes": _kubernetes,
}
