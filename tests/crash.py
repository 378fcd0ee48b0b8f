"""Commands in processes of their own that can be killed: at a moment, or right before a certain change of the disk."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# A clean server, with the libraries imported, forks for each command, and for each worker of Dask here: seconds less
# than a new interpreter.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["tests.crash", "jobs.cli", "engine.model.encode", "transformers.models.bert.modeling_bert"]
)


def serve() -> None:
    """Start the server, before others choose what it imports."""
    forkserver.ensure_running()


def start(
    *arguments: object,
    die_at: int | None = None,
    count: Path | None = None,
    err: Path | None = None,
    slow: tuple[str, float] | None = None,
) -> Any:
    """Begin a command of `colign`.

    Parameters
    ----------
    slow
        Task that waits before it begins, and its seconds.
    die_at
        Number of the change of the disk (from 0) before which the process kills itself.
    count
        Takes the number of changes that a command made.
    err
        Takes what the command prints.
    """
    child = _SERVER.Process(target=_command, args=([*map(str, arguments)], die_at, count, err, slow))
    child.start()
    return child


def run(*arguments: object, **options: Any) -> int:
    """Exit code of a command; negative where a signal ended it."""
    child = start(*arguments, **options)
    child.join()
    return int(child.exitcode)


def kill(child: BaseProcess) -> bool:
    """Kill a process as the kernel does when memory runs out; whether it was still there."""
    alive = child.is_alive()
    if child.pid is not None and alive:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    return alive and child.exitcode == -signal.SIGKILL


def wait_for(condition: Callable[[], bool], child: BaseProcess) -> None:
    """Wait until a condition holds, or the process ended."""
    while child.is_alive() and not condition():
        time.sleep(0.002)


def records(root: Path) -> Mapping[str, float]:
    """When each finished task of a study began, by its name."""
    found = {}
    for path in _files(root / "records"):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[record["key"]] = record["started"]
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder while others write there."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def content(root: Path, *, metadata: bool = False) -> dict[str, bytes]:
    """Bytes of every stored chunk, and of Zarr's metadata where wanted; records, figures and frozen settings aside."""
    aside = ("records", "figures", "study.yaml", "ledger.zarr", "journal")
    return {
        name: path.read_bytes()
        for path in _files(root)
        if not (name := str(path.relative_to(root))).startswith(aside) and (metadata or path.name != "zarr.json")
    }


def assert_equal(found: Path, expected: Path, *, metadata: bool = True) -> None:
    """Check that two study directories hold the same, bit for bit, and that nothing half-written is left."""
    one, other = (content(root, metadata=metadata) for root in (found, expected))
    assert one.keys() ^ other.keys() == set()
    assert [name for name in sorted(one) if one[name] != other[name]] == []
    assert records(found).keys() == records(expected).keys()
    assert [path for path in _files(found) if "partial" in path.name or "previous" in str(path)] == []


def _command(
    arguments: list[str], die_at: int | None, count: Path | None, err: Path | None, slow: tuple[str, float] | None
) -> None:
    import jobs.cli  # noqa: PLC0415  (in the child alone)
    import jobs.run  # noqa: PLC0415
    import jobs.tasks  # noqa: PLC0415

    sys.argv = ["colign", *arguments]
    jobs.run.write_figures = lambda *_: None  # type: ignore[assignment]
    if slow is not None:
        perform = jobs.tasks.perform

        def waiting(key: Any, context: Any) -> Any:
            time.sleep(slow[1] if str(key) == slow[0] else 0)
            return perform(key, context)

        jobs.tasks.perform = waiting
    sink = os.open(err or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    changes = _count_changes(die_at)
    try:
        jobs.cli.main()
    finally:
        if count is not None:
            count.write_text(str(len(changes)))


def _count_changes(die_at: int | None) -> list[str]:
    """Count changes of the disk from now on: files and folders moved, removed or written, by fsspec or zarr."""
    import zarr.storage._local as local  # noqa: PLC0415
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

    changes: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(changes) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            changes.append(name)
            return function(*args, **kwargs)

        return call

    for name in ("mv", "rm", "rm_file", "pipe_file"):
        setattr(LocalFileSystem, name, counted(name, getattr(LocalFileSystem, name)))
    local._put = counted("put", local._put)  # type: ignore[assignment]
    return changes


def start_function(function: Callable[..., None], *arguments: object) -> Any:
    """Begin a function in a process of its own."""
    child = _SERVER.Process(target=function, args=arguments)
    child.start()
    return child
