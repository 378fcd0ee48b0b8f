"""Names of tasks, and the records that say that they are done."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Key:
    """Names one task; every error and every record carries it.

    Examples
    --------
    >>> str(Key("activations", ("base", "encoder", "de"), 0, 16384))
    'activations/base/encoder/de/0-16384'
    """

    stage: str
    """Stage of the flow."""
    part: tuple[str, ...] = ()
    """What of the stage: checkpoint, stack, languages, layer; as the stage defines."""
    start: int = 0
    """First token of a range."""
    stop: int = 0
    """End of the range (half-open); 0 when the task has no range."""

    def __str__(self) -> str:
        span = (f"{self.start}-{self.stop}",) if self.stop else ()
        return "/".join((self.stage, *self.part, *span))


@dataclass(frozen=True)
class Record:
    """One finished task. A task is done because its record says so, never because a file exists."""

    key: str
    """Name of the task."""
    fingerprint: str
    """Hash of the settings and inputs that decided its result."""
    host: str
    """Computer that did it."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    """Wall-clock seconds."""
    peak_memory: int
    """Largest resident memory of the process so far, in bytes."""
    outcome: dict[str, Any]
    """Small numbers that the task returned."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
