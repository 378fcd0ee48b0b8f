"""The machine file: where a study runs; it never changes a result."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.section import Section


class Machine(Section):
    """Workers and their limits."""

    type: Literal["serial", "local", "address"] = "serial"
    """In this process; on Dask processes of this computer; on a running Dask scheduler."""
    address: str | None = None
    """Scheduler address such as tcp://host:8786, for type address."""
    workers: int = Field(default=2, ge=1)
    """Processes of type local."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one task; default: all cores for type serial, else 1. Never changes a stored bit."""
    memory: float = Field(default=4.0, gt=0)
    """Memory that one worker may use, in GiB; a plan that needs more is refused."""
    products: Literal["auto", "float32"] = "auto"
    """Products of clustering: auto finds candidates in bfloat16 where the processor is faster in it, and settles what
    its rounding leaves open; float32 never does. Never changes a stored bit."""
    retries: int = Field(default=2, ge=0)
    """Times that a failed task is tried again on a Dask cluster."""

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        if self.type == "address" and not self.address:
            raise ValueError("type address needs the key address, such as tcp://host:8786, found none")
        return self

    @property
    def memory_bytes(self) -> int:
        """Memory that one worker may use, in bytes."""
        return int(self.memory * 2**30)
