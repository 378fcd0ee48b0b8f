"""The ledger: what workers tell of attempts, written down beside the study while they work, then one dataset.

The journal of a run is small files, because no store but a local disk appends: attempts that are over, a file every few
seconds, and `now.json`, what is being done. When the run ends they become rows of the ledger; those of a run that was
killed do when the next one begins.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import xarray as xr

from engine import paths, store
from engine.workers.protocol import Usage, ignored
from schemas.errors import InputError, StoreError
from schemas.ledger import LEDGER, WORK
from schemas.task import Attempt

_WRITTEN = 2.0
"""Seconds after which the journal is written; later a hundredth of the run's age, so that there are few files."""

Row = dict[str, Any]

logger = logging.getLogger(__name__)


class Ledger:
    """The journal of one run; its methods may be called from any thread."""

    def __init__(self, folder: str, use: Callable[[], Usage]) -> None:
        self._began = time.time()
        self._run = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self._began))}-{uuid.uuid4().hex[:6]}"
        self.folder = paths.join(folder, self._run)
        self._use = use
        self._lock, self._ended = Lock(), Event()
        self._rows: list[Row] = []
        self._running: dict[str, Attempt] = {}
        self._files = 0
        self._stage: Row = {"stage": "", "done": 0, "total": 0, "note": ""}
        self._since: tuple[float, int] = (self._began, 0)
        self._thread = Thread(target=self._keep, daemon=True)

    def take(self, attempt: Attempt, work: Mapping[str, float] | None = None) -> None:
        """Take up an attempt that began or is over; `work` gives seconds in the parts of its work."""
        with self._lock:
            before = self._running.pop(attempt.key, None)
            if attempt.state == "running":
                if before is not None:  # nobody told of its end
                    self._over(_lost(before, time.time()))
                self._running[attempt.key] = attempt
            else:
                self._over(attempt, work)

    def at(self, stage: str, done: int, total: int, note: str) -> None:
        """Say how far the run is."""
        with self._lock:
            if stage != self._stage["stage"]:
                self._since = time.time(), done
            note = note or (self._stage["note"] if stage == self._stage["stage"] else "")
            self._stage = {"stage": stage, "done": done, "total": total, "note": note}

    def _over(self, attempt: Attempt, work: Mapping[str, float] | None = None) -> None:
        if attempt.state != "done":
            why = f": {attempt.note}" if attempt.note else " with its worker"
            logger.warning(
                "%s: %s on %s (process %d)%s", attempt.key, attempt.state, attempt.host, attempt.process, why
            )
        self._rows.append(self._row(attempt, work))

    def _row(self, attempt: Attempt, work: Mapping[str, float] | None = None) -> Row:
        return {**attempt.to_dict(), "run": self._run, "work": dict(work or {})}

    def _keep(self) -> None:
        while not self._ended.wait(max(_WRITTEN, (time.time() - self._began) / 100)):
            with contextlib.suppress(OSError, InputError, StoreError):  # what is not written now is written later
                self.write()

    def start(self) -> None:
        """Begin to write every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """End that, and lose what still runs: nobody waits for it any more, and its worker may be well.

        When the user stops a run in one process, it is the task at work.
        """
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            self._rows += [self._row(_lost(attempt, time.time())) for attempt in self._running.values()]
            self._running = {}

    @property
    def rows(self) -> list[Row]:
        """What is not written yet."""
        return self._rows

    def write(self) -> None:
        """Write what is new."""
        with self._lock:
            rows, running = [*self._rows], [attempt.to_dict() for attempt in self._running.values()]
            now = {"run": self._run, "at": time.time(), **self._stage, **self._rate(), "running": running}
        if rows:
            paths.write_text(paths.join(self.folder, f"{self._files:06}.json"), json.dumps(rows))
            self._files += 1
            with self._lock:
                del self._rows[: len(rows)]
        paths.write_text(paths.join(self.folder, "now.json"), json.dumps(now | {"usage": asdict(self._use())}))

    def _rate(self) -> Row:
        """Tasks of the stage a second in this run, and seconds left at this rate; zeros where nobody knows."""
        since, before = self._since
        done = self._stage["done"] - before
        rate = done / max(time.time() - since, 1e-6)
        return {"rate": rate, "left": (self._stage["total"] - self._stage["done"]) / rate if done > 0 else 0.0}


@contextlib.contextmanager
def kept(
    path: str, folder: str, workers: Any, work: Callable[[Attempt, Any], Mapping[str, float]], holds: Callable[[], None]
) -> Iterator[Ledger]:
    """Keep the ledger of a run: every attempt that workers tell of.

    A ledger that cannot be written stops no run; a warning says what is missing.

    Parameters
    ----------
    path, folder
        The LEDGER dataset, and the folder of journals.
    work
        Seconds in the parts of the work of an attempt, from its result.
    holds
        Raises once another run works in the folder: then it takes up the journal.
    """
    with _warned(path):
        _gather(path, folder, [])
    ledger = Ledger(folder, workers.usage)
    workers.observer = lambda attempt, result: ledger.take(attempt, {} if result is None else work(attempt, result))
    ledger.start()
    try:
        yield ledger
    finally:
        workers.observer = ignored
        ledger.stop()
        with _warned(path):
            holds()
            _gather(path, folder, ledger.rows)


@contextlib.contextmanager
def _warned(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, InputError, StoreError) as error:
        logger.warning("%s: the ledger of attempts is not complete (%s)", path, error)


def now(folder: str) -> Row | None:
    """What the last run that works, or was killed, said of itself; None where all came to their end."""
    found = [json.loads(paths.read_text(file) or "{}") for file in _files(folder) if file.endswith("/now.json")]
    return max(found, key=lambda one: one.get("at", 0.0), default=None)


def load(path: str, folder: str) -> xr.Dataset | None:
    """The LEDGER dataset, with what is only in journals so far; None where nothing was done yet."""
    stored = store.read(path, LEDGER) if store.attributes(path) is not None else None
    rows = _journals(_files(folder))
    return _joined(stored, rows) if rows else stored


def _gather(path: str, folder: str, rows: list[Row]) -> None:
    """Make journals, and further rows, part of the dataset."""
    files = _files(folder)
    rows = _journals(files, end=True) + rows
    if rows:
        stored = store.read(path, LEDGER) if store.attributes(path) is not None else None
        with paths.replaced(path) as part:
            store.save(part, LEDGER, _joined(stored, rows))
    system, place = paths.filesystem(folder)
    if system.isdir(place):  # also where it holds only what a killed writer left
        paths.remove(folder)


def _files(folder: str) -> list[str]:
    """Files of a journal, or of some."""
    system, place = paths.filesystem(folder)
    return sorted(system.unstrip_protocol(file) for file in system.find(place) if file.endswith(".json"))


def _journals(files: list[str], *, end: bool = False) -> list[Row]:
    """Rows of journals; at their end, and first, also of what was running, which is lost unless another row follows."""
    rows: list[Row] = []
    lost: list[Row] = []
    for file in files:
        content = json.loads(paths.read_text(file) or "[]")
        if isinstance(content, list):
            rows += content
            continue
        running = [_lost(Attempt(**one), content["at"]) for one in content["running"]]
        lost += [{**one.to_dict(), "run": content["run"], "work": {}} for one in running]
    return lost + rows if end else rows


def _lost(attempt: Attempt, at: float) -> Attempt:
    return replace(attempt, state="lost", seconds=max(0.0, at - attempt.started))


def _joined(stored: xr.Dataset | None, rows: list[Row]) -> xr.Dataset:
    """A LEDGER dataset of stored and further rows, in order of their beginning."""
    columns = [v for v in LEDGER.variables if v.dims == ("attempt",) and v.name not in ("stage", "number")]
    values: dict[str, Any] = {
        v.name: np.array([row[v.name] for row in rows], object if v.dtype == "string" else v.dtype) for v in columns
    }
    values["work_seconds"] = np.array([[row["work"].get(name, np.nan) for name in WORK] for row in rows])
    if stored is not None:
        values = {name: np.concatenate([stored[name].values, of]) for name, of in values.items()}
    every = zip(*(values[name] for name in ("started", "run", "key", "step", "process")), strict=True)
    places = {row: at for at, row in enumerate(every)}  # of equal ones the last
    order = [places[row] for row in sorted(places)]
    values = {name: of[order] for name, of in values.items()}
    numbers: dict[tuple[str, str], int] = {}
    values["number"] = np.empty(len(order), np.int32)
    for at, task in enumerate(zip(values["key"], values["step"], strict=True)):
        numbers[task] = values["number"][at] = numbers.get(task, 0) + 1
    values["stage"] = np.array([key.split("/")[0] for key in values["key"]], object)
    return LEDGER.create({"work": np.array(WORK, object), **values})
