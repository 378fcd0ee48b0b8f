"""The activations stage of a study: stores laid out or grown, shards handed out in groups, and what they took."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from engine import activations, paths, store
from engine.records import delete_record, read_records
from engine.workers.protocol import Workers
from jobs.tasks import Outcome, Part, Vectors, perform_shards
from schemas.corpus import SELECTION
from schemas.errors import InputError
from schemas.task import Attempt, Key, Record

_TASKS_A_WORKER = 8
"""Tasks that each worker gets at least while shards suffice: enough for an even load."""

_SHARDS_A_TASK = 64
"""Shards of a task at most; a task that is lost is done again from its first unwritten shard."""

_WORK = {"text": "text", "model": "model", "copy": "copy", "encode": "compression", "disk": "disk"}

logger = logging.getLogger(__name__)


def groups(keys: Sequence[Key], slots: int) -> Iterator[Key]:
    """Keys of shards that follow one another, joined into tasks; each shard is in exactly one.

    Examples
    --------
    >>> [str(key) for key in groups([Key("a", ("p",), i, i + 2) for i in range(0, 40, 2)], 1)]
    ['a/p/0-6', 'a/p/6-12', 'a/p/12-18', 'a/p/18-24', 'a/p/24-30', 'a/p/30-36', 'a/p/36-40']
    """
    size = min(_SHARDS_A_TASK, -(-len(keys) // (_TASKS_A_WORKER * slots)))
    joined: Key | None = None
    shards = 0
    for key in keys:
        if joined is not None and (joined.part, joined.stop) == (key.part, key.start) and shards < size:
            joined, shards = Key(key.stage, key.part, joined.start, key.stop), shards + 1
            continue
        if joined is not None:
            yield joined
        joined, shards = key, 1
    if joined is not None:
        yield joined


def work(
    keys: Sequence[Key], left: Sequence[Key], vectors: Vectors, workers: Workers, note: Callable[[str], None]
) -> Iterator[int]:
    """Write the vectors that are left; yields the number of shards that are done, less those to be done again.

    Parameters
    ----------
    keys
        All shards of the stage.
    left
        Those without a record.
    note
        Told how fast it goes.
    """
    wide: dict[Part, str] = {}
    watched = _Watched(left, note)
    for part in dict.fromkeys(key.part for key in left):
        _lay_out(part, vectors)
    yield from _hand_out(left, vectors, workers, watched, wide)
    for part, reason in wide.items():
        logger.warning("%s: %s; its vectors are stored as float32", "/".join(part), reason)
        again = [key for key in keys if key.part == part]
        yield -_undo(again, vectors)
        paths.remove(vectors.extractions[part].path)
        _lay_out(part, vectors, dtype="float32")
        yield from _hand_out(again, vectors, workers, watched, {})
    watched.end()


def _hand_out(
    left: Sequence[Key], vectors: Vectors, workers: Workers, watched: "_Watched", wide: dict[Part, str]
) -> Iterator[int]:
    """Map tasks over workers; those of a part in which a value did not fit are no longer handed out."""
    tasks: Iterable[Key] = (key for key in groups(left, workers.slots) if key.part not in wide)
    for key, outcomes in workers.map(perform_shards, tasks, vectors):
        written = [outcome for outcome in outcomes if "overflow" not in outcome]
        for outcome in outcomes:
            if "overflow" in outcome:
                wide[key.part] = outcome["overflow"]
        activations.record_error(vectors.extractions[key.part].path, written)
        watched.add(written)
        yield len(written)


def _lay_out(part: Part, vectors: Vectors, dtype: str | None = None) -> None:
    """Make the store of a part, if it is not there; a store of other settings is replaced."""
    task = vectors.extractions[part]
    fingerprint = vectors.fingerprints[part]
    store.remove_other(task.path, fingerprint)
    chosen = dtype or vectors.settings.dtype
    if chosen == "auto":  # a store that was made wide stays so, and so does what grows from it
        made = [path for path in (task.path, task.previous) if path and store.attributes(path) is not None]
        chosen = str(store.dtype(made[0], "activation")) if made else "float16"
    selection = store.load(task.selection, SELECTION)
    activations.setup(
        task,
        vectors.settings,
        selection.sizes["token"],
        dtype=chosen,
        fingerprint=fingerprint,
        origin=vectors.origins[part],
    )


def _undo(keys: Sequence[Key], vectors: Vectors) -> int:
    """Delete the records of some shards; returns how many there were."""
    records = read_records(vectors.records)
    done = [str(key) for key in keys if str(key) in records]
    for name in done:
        delete_record(vectors.records, name)
    return len(done)


def hold(vectors: Vectors) -> bool:
    """Whether every stored vector is one that the study's settings and models give."""
    held = {part: store.attributes(task.path) for part, task in vectors.extractions.items()}
    return all(found is None or found.get("origin") == vectors.origins[part] for part, found in held.items())


def check_origins(vectors: Vectors, stale: Sequence[str]) -> None:
    """Check that vectors which will be taken over are those that the study's settings and models give.

    Parameters
    ----------
    stale
        Names of the records that no longer hold.

    Raises
    ------
    InputError
        The settings that decide a vector have changed.
    """
    outdated = _outdated(vectors, stale)
    for part, task in vectors.extractions.items():
        for path in (task.path, task.previous) if part in outdated else (task.previous,):
            held = store.attributes(path) if path else None
            if held is not None and held.get("origin") != vectors.origins[part]:
                raise InputError(
                    f"{path}: was made with another model or with settings that change every vector; a study grows by "
                    "sentences, languages, layers and selection. Restore them, or choose another directory with --out"
                )


def _outdated(vectors: Vectors, stale: Sequence[str]) -> dict[Part, int]:
    """Stores of vectors that no longer fit the study, with the number of their tokens that were done."""
    found: dict[Part, int] = {}
    for name in stale:
        stage, *part = name.split("/")
        where = tuple(part[:-1])
        if stage == "activations" and where in vectors.extractions:
            start, stop = map(int, part[-1].split("-"))
            found[where] = found.get(where, 0) + stop - start
    return found


def set_aside(vectors: Vectors, stale: Sequence[str]) -> None:
    """Make stores of vectors that no longer fit the study's text or settings the previous ones, to take vectors from.

    Of a study that grows again before it is whole, a store that was not written in full gives way to the one before.

    Parameters
    ----------
    stale
        Names of the records that no longer hold.
    """
    for part, tokens in _outdated(vectors, stale).items():
        path, previous = vectors.extractions[part].path, vectors.extractions[part].previous
        if previous is None or store.attributes(path) is None:
            continue
        if store.attributes(previous) is None or tokens == store.size(path, "token_id"):
            paths.move(path, previous)
        else:
            paths.remove(path)


def put_back(vectors: Vectors, done: Collection[str]) -> None:
    """Give stores their names again that a killed run set aside, where the study grows no longer."""
    held = {tuple(name.split("/")[1:4]) for name in done if name.startswith("activations/")}
    for part in held & set(vectors.extractions):
        path, previous = vectors.extractions[part].path, vectors.extractions[part].previous
        if previous is None or store.attributes(path) is not None:
            continue
        if (store.attributes(previous) or {}).get("fingerprint") == vectors.fingerprints[part]:
            paths.move(previous, path)


def has_previous(vectors: Vectors) -> bool:
    """Whether there are stores to take vectors from."""
    return any(task.previous and store.attributes(task.previous) is not None for task in vectors.extractions.values())


def forget_previous(vectors: Vectors) -> None:
    """Remove what was set aside, once the new stores are whole."""
    for task in vectors.extractions.values():
        if task.previous is not None:
            paths.remove(task.previous)


class _Watched:
    """How fast the stage goes."""

    def __init__(self, left: Sequence[Key], note: Callable[[str], None]) -> None:
        self._tokens = sum(key.stop - key.start for key in left)
        self._note, self._started = note, time.monotonic()
        self._outcomes: list[Outcome] = []

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes += outcomes
        done = sum(outcome["tokens"] for outcome in self._outcomes)
        seconds = max(time.monotonic() - self._started, 1e-6)
        sentences, nbytes = (sum(outcome[name] for outcome in self._outcomes) for name in ("sentences", "bytes"))
        left = (self._tokens - done) * seconds / max(done, 1)
        self._note(
            f"{sentences:,} sentences, {done / seconds:,.0f} words/s, {nbytes / seconds / 1e6:,.1f} MB/s, "
            f"{max(left, 0):,.0f} s left"
        )

    def end(self) -> None:
        if self._outcomes:
            self._note(limit(self._outcomes))


def totals(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds in each part of the work, and bytes stored, of some shards together."""
    seconds = {part: sum(outcome["seconds"][name] for outcome in outcomes) for name, part in _WORK.items()}
    return {**seconds, "bytes": sum(outcome["bytes"] for outcome in outcomes)}


def work_of(attempt: Attempt, result: Any) -> dict[str, float]:
    """Seconds in each part of the work of an attempt that wrote vectors."""
    if not attempt.key.startswith("activations/"):
        return {}
    seconds = totals([outcome for outcome in result if "seconds" in outcome])
    return {part: seconds[part] for part in _WORK.values()}


def limit(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Which part of the work took longest, with seconds and bytes of each.

    Parts overlap: text, vectors and writing of three shards go on side by side.

    Examples
    --------
    >>> limit([{"seconds": {"text": 0.5, "model": 9.0, "copy": 0.0, "encode": 1.0, "disk": 2.0}, "bytes": 3_000_000}])
    'limit: model (text 0.5 s, model 9.0 s, copy 0.0 s, compression 1.0 s, disk 2.0 s; 3.0 MB)'
    """
    seconds = totals(outcomes)
    nbytes = seconds.pop("bytes")
    longest = max(seconds, key=lambda name: seconds[name])
    each = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return f"limit: {longest} ({each}; {nbytes / 1e6:,.1f} MB)"


def outcomes(records: Iterable[Record]) -> list[Outcome]:
    """Outcomes of the shards among some records."""
    return [record.outcome for record in records if record.key.startswith("activations/")]
