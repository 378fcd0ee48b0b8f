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

from engine import paths
from schemas.errors import ColignError, InputError

_RENEWED = 20.0
"""Seconds after which a lease is renewed."""

_STALE = 120.0
"""Seconds without renewal after which a lease no longer holds; clocks of hosts may differ by less."""

_SETTLED = 1.0
"""Seconds that a new lease must stand in a store that may write one over another."""


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
    folder = path.rpartition("/")[0]
    made = paths.is_local(path) and not os.path.exists(folder)
    mine = _new()
    _obtain(path, mine, take_over=take_over)
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
        with contextlib.suppress(OSError, ColignError):  # one that stays ends by itself, and hides no other error
            _remove(path, mine, mine)
        if made:
            with contextlib.suppress(OSError):  # something was written
                os.rmdir(folder)


def holder(path: str) -> dict[str, Any] | None:
    """The lease of who works in a folder: owner, host, process, since (seconds since the epoch); None for nobody."""
    found = _read(path)
    return found if found and _holds(found) else None


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
    """Whether the holder of a lease may still be at work; nobody holds a part of one."""
    if not lease:
        return False
    if lease["host"] == socket.gethostname() and _began(os.getpid()) is not None:
        return bool(_began(lease["process"]) == lease["began"])
    return bool(time.time() - lease["renewed"] < _STALE)


def _obtain(path: str, mine: dict[str, Any], *, take_over: bool = False) -> None:
    """Be the one whose lease lies there; raises InputError that names who is."""
    while not _created(path, mine):
        other = _read(path)
        if other is not None and not other:  # perhaps being written
            time.sleep(1)
            other = _read(path)
        if other is None:  # its holder came to an end
            continue
        if not take_over and _holds(other):
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(other["since"]))
            raise InputError(
                f"{path.rpartition('/')[0]}: {other['owner']} has been working there since {since} (host "
                f"{other['host']}, process {other['process']}); wait for its end, or, if it has none, run again with "
                "--take-over"
            )
        _remove(path, other, mine)


def _remove(path: str, lease: dict[str, Any], mine: dict[str, Any]) -> None:
    """Remove a lease, and never what came into its place meanwhile.

    Who would remove it first obtains a claim, a lease that is named after it, and then looks again. So of those who
    find the same lease stale one removes it, and the others hear who that is.
    """
    claim = f"{path}.{lease.get('token', 'part')}"
    _obtain(claim, mine)
    try:
        found = _read(path)
        if found is not None and found.get("token") == lease.get("token"):
            _delete(path)
    finally:
        _delete(claim)


def _delete(path: str) -> None:
    """Remove a file in one step: `paths.remove` has a name between that is the same for all."""
    system, place = paths.filesystem(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm_file(place)


def _created(path: str, lease: dict[str, Any]) -> bool:
    """Write the file of a lease, unless there is one.

    Few stores but a local disk can create a file only where there is none (fsspec looks, then writes): there it counts
    only once it has stood for a while.
    """
    system, place = paths.filesystem(path)
    with paths.explained(path):
        if paths.is_local(path):
            paths.make_folder(path.rpartition("/")[0])
            try:
                with open(place, "xb", buffering=0) as file:
                    file.write(_packed(lease))
            except (FileExistsError, FileNotFoundError):  # who had made the folder came to an end, and removed it
                return False
            return True
        if _read(path) is not None:
            return False
        paths.make_folder(path.rpartition("/")[0])
        try:
            system.pipe_file(place, _packed(lease), mode="create")
        except FileExistsError:
            return False
    time.sleep(_SETTLED)
    return bool((_read(path) or {}).get("token") == lease["token"])


def _packed(lease: dict[str, Any]) -> bytes:
    """The file of a lease, always of one length: what is renewed in place is whole at any moment."""
    return json.dumps(lease).ljust(1024).encode()


def _read(path: str) -> dict[str, Any] | None:
    """The lease of a file; None where there is no file, nothing where it is a part of one."""
    text = paths.read_text(path)
    return None if text is None else _parsed(text)


def _parsed(text: str | bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found: dict[str, Any] = json.loads(text)
        return found
    return {}


def _renew(path: str, lease: dict[str, Any], ended: Event, lost: Event) -> None:
    while not ended.wait(_RENEWED):
        with contextlib.suppress(OSError, ColignError):  # a store that does not answer for a while
            if not _renewed(path, lease | {"renewed": time.time()}):
                lost.set()
                return


def _renewed(path: str, lease: dict[str, Any]) -> bool:
    """Write a lease over itself; False where it is no longer there."""
    if not paths.is_local(path):
        found = _read(path)
        if found is None or found.get("token") != lease["token"]:
            return False
        paths.write_bytes(path, _packed(lease))
        return True
    try:
        # into the file that was looked at: if it is taken away meanwhile, what came into its place is not touched
        with open(paths.filesystem(path)[1], "r+b", buffering=0) as file:
            if _parsed(file.read()).get("token") != lease["token"]:
                return False
            file.seek(0)
            file.write(_packed(lease))
            return True
    except FileNotFoundError:
        return False
