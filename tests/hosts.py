"""Dask clusters of processes of their own, on this host or on hosts of their own, that tests freeze, kill and part."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]

QUICK = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__RETRY__COUNT": "2",
}
"""How soon Dask misses a worker: not minutes, but longer than a worker takes to import what its first task needs."""


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Worker processes of a driver or a nanny: below it, or forked by the process that forked it as well."""
    found = []
    for start in (process, process.parent()):
        with contextlib.suppress(psutil.Error):
            if start is not None and (start is process or _forks(start)):
                found += start.children(recursive=True)
    return [child for child in found if child != process and _works(child)]


def _forks(process: psutil.Process) -> bool:
    """Whether a process is one that others are forked from, or was forked from one: both have the same command."""
    return any("multiprocessing.forkserver" in word for word in process.cmdline())


def _works(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
        spawned = any("spawn_main" in word for word in process.cmdline())
        return spawned or (parent is not None and _forks(process) and _forks(parent))
    except psutil.Error:
        return False


@dataclass
class Host:
    """A network namespace with an address."""

    name: str
    address: str

    def link(self, state: str) -> None:
        """Cut ("down") or restore ("up") its only card to the others."""
        _ip("-n", self.name, "link", "set", "veth", state)


@dataclass
class Cluster:
    """A Dask scheduler and workers, each a command of its own, and the file that says where the scheduler is."""

    scheduler: Any
    workers: list[Any]
    file: Path


def inside(host: Host) -> list[str]:
    """Words before a command that is to run on a host."""
    return ["ip", "netns", "exec", host.name]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Two network namespaces, joined by a pair of virtual cards."""
    hosts = [Host(f"colign-{os.getpid()}-{n}", f"10.213.7.{n}") for n in (1, 2)]
    with ExitStack() as stack:
        for host in hosts:
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "del", host.name)
        _ip("-n", hosts[0].name, "link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", hosts[1].name)
        for host in hosts:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "veth")
            for card in ("lo", "veth"):
                _ip("-n", host.name, "link", "set", card, "up")
        yield hosts


@contextmanager
def cluster(folder: Path, hosts: Sequence[Host] = (), count: int = 2) -> Iterator[Cluster]:
    """Start a scheduler, and some workers with nannies: on this host, or one on each of some."""
    file = folder / f"scheduler-{time.time_ns()}.json"
    env = {**os.environ, **QUICK, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    log = (folder / "dask.log").open("a")

    def begin(host: Host | None, *words: str) -> Any:
        command = [*(inside(host) if host else []), sys.executable, "-m", "dask", *words]
        command += ["--scheduler-file", str(file), "--host", host.address if host else "127.0.0.1", "--no-dashboard"]
        return subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)

    places = list(hosts) or [None] * count
    processes = [begin(places[0], "scheduler", "--port", "0")]
    try:
        wait(file.exists)
        limit = ("--nthreads", "1", "--memory-limit", "2.5GiB", "--death-timeout", "60")
        processes += [begin(host, "worker", *limit) for host in places]
        yield Cluster(processes[0], processes[1:], file)
    finally:
        for process in processes:
            for one in [*workers_of(psutil.Process(process.pid)), process] if process.poll() is None else []:
                one.send_signal(signal.SIGKILL)
            process.wait()
        log.close()


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("what was started does not answer")
        time.sleep(0.05)
