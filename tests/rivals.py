"""Processes that want the same lease at the same moment, and a store in which each of them writes over the others."""

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from fsspec import register_implementation
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from engine import lease
from schemas.errors import InputError


class Bucket(DirFileSystem):  # type: ignore[misc]
    """A local folder that is no local disk to those who use it, and writes over what is there when asked to create."""

    protocol = "rivals"
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__("/", LocalFileSystem(), **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("rivals://")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        part = f"{path}.{os.getpid()}"
        self.fs.pipe_file(part, value)
        os.replace(part, path)


def outcomes(url: str, number: int, rounds: int, *, stale: bool, take_over: bool = False) -> list[list[str]]:
    """What befalls each of some processes that ask for a lease at once, round by round: "held", or an error."""
    spawn = multiprocessing.get_context("spawn")
    barrier, said = spawn.Barrier(number), spawn.SimpleQueue()
    options = (url, barrier, said, rounds, stale, take_over)
    children = [spawn.Process(target=_compete, args=(at, *options)) for at in range(number)]
    for child in children:
        child.start()
    found = [said.get() for _ in children]
    for child in children:
        child.join()
    return [list(of) for of in zip(*found, strict=True)]


def _compete(at: int, url: str, barrier: Barrier, said: Any, rounds: int, stale: bool, take_over: bool) -> None:
    register_implementation("rivals", Bucket)
    lease._RENEWED, lease._SETTLED = 0.02, 0.5
    path = Path(url.removeprefix("rivals://"))
    found = []
    for _ in range(rounds):
        if at == 0:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            if stale:
                other = lease._new() | {"token": "gone", "host": "elsewhere"}
                path.write_text(json.dumps(other | ({} if take_over else {"renewed": 0.0})))
        barrier.wait(60)
        outcome = "held"
        with contextlib.ExitStack() as stack:
            try:
                check = stack.enter_context(lease.held(url, take_over=take_over))
            except Exception as error:
                outcome = str(error) if isinstance(error, InputError) else repr(error)
            barrier.wait(60)  # nobody leaves before all have tried
            if outcome == "held":
                outcome = _told(check, path)
            barrier.wait(60)
        found.append(outcome)
        barrier.wait(60)
    said.put(found)


def _told(check: Callable[[], None], path: Path) -> str:
    """What someone hears who holds a lease, in time if it was taken from them."""
    end = time.monotonic() + 10 * (json.loads(path.read_text())["process"] != os.getpid())
    while True:
        try:
            check()
        except InputError as error:
            return str(error)
        if time.monotonic() > end:
            return "held"
        time.sleep(lease._RENEWED)
