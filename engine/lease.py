"""One writer at a time: a file that says who works in a folder, renewed while they do."""

import contextlib
import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from engine import paths
from schemas.errors import InputError

_RENEWED = 20.0
"""Seconds after which a lease is renewed."""

_STALE = 120.0
"""Seconds without renewal after which a lease no longer holds; clocks of hosts may differ by less."""


@contextlib.contextmanager
def held(path: str, *, take_over: bool = False) -> Iterator[Callable[[], None]]:
    """Be the only one who works in a folder; yields a function that raises once someone has taken over.

    A lease ends with its holder: at once where its process was killed on this host, else when it was not renewed for
    two minutes.

    Parameters
    ----------
    path
        File of the lease, on any file system; it is gone when the work ends.
    take_over
        Whether the lease of another is taken.

    Raises
    ------
    InputError
        Another holds it; names owner, host, process and time, and the remedy.
    """
    system, place = paths.filesystem(path)
    folder = system._parent(place)
    made = isinstance(system, LocalFileSystem) and not system.exists(folder)
    mine = _new()
    with paths.explained(folder):
        system.makedirs(folder, exist_ok=True)
    while not _created(path, mine):
        other = _read(path) or _read_again(path)
        if other is not None and not take_over and _holds(other):
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(other["since"]))
            raise InputError(
                f"{folder}: {other['owner']} has been working there since {since} (host {other['host']}, process "
                f"{other['process']}); wait for its end, or, if it has none, run again with --take-over"
            )
        paths.remove(path)
    ended, lost = Event(), Event()
    renewing = Thread(target=_renew, args=(path, mine, ended, lost), daemon=True)
    renewing.start()

    def check() -> None:
        if lost.is_set():
            raise InputError(f"{folder}: someone has taken over; what was finished is kept")

    try:
        yield check
    finally:
        ended.set()
        renewing.join()
        if (_read(path) or mine)["token"] == mine["token"]:
            paths.remove(path)
        if made:
            with contextlib.suppress(OSError):  # something was written
                os.rmdir(folder)


def holder(path: str) -> dict[str, Any] | None:
    """The lease of who works in a folder: owner, host, process, since (seconds since the epoch); None for nobody."""
    found = _read(path)
    return found if found is not None and _holds(found) else None


def _new() -> dict[str, Any]:
    now = time.time()
    return {
        "token": uuid.uuid4().hex,
        "owner": _owner(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "began": _began(os.getpid()),
        "since": now,
        "renewed": now,
    }


def _owner() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"user {os.getuid()}"


def _began(process: int) -> str | None:
    """When a process of this host began, in ticks: numbers of processes come again. None where that is not told."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _holds(lease: dict[str, Any]) -> bool:
    """Whether the holder of a lease may still be at work."""
    if lease["host"] == socket.gethostname() and _began(os.getpid()) is not None:
        return bool(_began(lease["process"]) == lease["began"])
    return bool(time.time() - lease["renewed"] < _STALE)


def _created(path: str, lease: dict[str, Any]) -> bool:
    """Write the file of a lease, unless there is one."""
    system, place = paths.filesystem(path)
    with paths.explained(path):
        try:
            system.pipe_file(place, json.dumps(lease).encode(), mode="create")
        except FileExistsError:
            return False
    return True


def _read(path: str) -> dict[str, Any] | None:
    """The lease of a file; None where there is none, or a part of one."""
    text = paths.read_text(path)
    with contextlib.suppress(ValueError):
        found: dict[str, Any] = json.loads(text or "")
        return found
    return None


def _read_again(path: str) -> dict[str, Any] | None:
    """The lease of a file that was perhaps being written a moment ago."""
    time.sleep(1)
    return _read(path)


def _renew(path: str, lease: dict[str, Any], ended: Event, lost: Event) -> None:
    while not ended.wait(_RENEWED):
        with contextlib.suppress(OSError, InputError):  # a store that does not answer for a while
            found = _read(path)
            if found is None or found["token"] != lease["token"]:
                lost.set()
                return
            if not ended.is_set():
                paths.write_text(path, json.dumps(lease | {"renewed": time.time()}))
