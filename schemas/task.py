"""Names of tasks, and the records that say that they are done."""

from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task, or at one step of all the tasks of a part: what it took, and how it ended."""

    key: str
    """Name of the task, or of the part."""
    started: float
    """Seconds since the epoch."""
    host: str
    """Computer at work."""
    process: int
    """Number of the process there; 0 where several took part."""
    step: str = ""
    """Step of a part, such as one pass of K-means; empty for a task."""
    state: str = "running"
    """running, done, failed, or lost with its worker."""
    seconds: float = 0.0
    """Wall-clock seconds."""
    cpu_seconds: float = 0.0
    """Processor seconds of the process, summed over calls."""
    bytes_read: int = 0
    """Bytes that the process read from files, not from URLs, summed over calls; 0 where the system does not tell."""
    bytes_written: int = 0
    """Bytes that the process wrote to files, likewise; a study in an object store writes none."""
    peak_memory: int = 0
    """Largest resident memory of the process so far, in bytes."""
    calls: int = 1
    """Calls that are summed."""
    note: str = ""
    """Why it failed."""

    def __add__(self, other: "Attempt") -> "Attempt":
        """Both together, as calls of one step."""
        end = max(self.started + self.seconds, other.started + other.seconds)
        started = min(self.started, other.started)
        return replace(
            self,
            started=started,
            host=self.host if self.host == other.host else "several",
            process=self.process if (self.host, self.process) == (other.host, other.process) else 0,
            seconds=end - started,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            peak_memory=max(self.peak_memory, other.peak_memory),
            calls=self.calls + other.calls,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
