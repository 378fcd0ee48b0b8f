"""Copies of finished vectors from the device to host memory, beside the work that goes on there."""

import queue
from dataclasses import dataclass
from typing import Any

import torch

_BUFFERS = 2
"""Pinned buffers: one is filled while the other is written to the store."""


@dataclass
class Copy:
    """One block on its way to host memory."""

    host: torch.Tensor
    """The block in host memory; whole once `wait` has returned."""
    home: "queue.Queue[torch.Tensor | None] | None" = None
    """Where the pinned buffer goes back to."""
    pinned: torch.Tensor | None = None
    """The buffer that holds the block."""
    began: Any = None
    ended: Any = None
    """CUDA events around the copy."""

    def wait(self) -> float:
        """Return when the block is whole, with the seconds that the copy took; 0 where there was nothing to copy."""
        if self.ended is None:
            return 0.0
        self.ended.synchronize()
        return float(self.began.elapsed_time(self.ended)) / 1000

    def release(self) -> None:
        """Give the buffer to the next copy; the block is no longer valid. Again: nothing."""
        if self.home is not None:
            self.home.put(self.pinned)
            self.home = None  # or two copies would share the buffer


class Transfers:
    """Copies through two pinned buffers on a stream of their own, so that the model never waits for a copy.

    On the CPU a block is where it must be already, and nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._free: queue.Queue[torch.Tensor | None] = queue.Queue()
        for _ in range(_BUFFERS):
            self._free.put(None)  # allocated when its size is known

    def start(self, block: torch.Tensor, ready: Any) -> Copy:
        """Begin to copy a block.

        A buffer is free again when its block has been written and released: a disk that cannot keep up stops the
        model here, and only here.

        Parameters
        ----------
        ready
            CUDA event after which the block is whole; None on the CPU.
        """
        if self._stream is None:
            return Copy(block)
        pinned = self._free.get()
        if pinned is None or pinned.numel() < block.numel() or pinned.dtype != block.dtype:
            pinned = torch.empty(block.numel(), dtype=block.dtype, pin_memory=True)
        host = pinned[: block.numel()].view(block.shape)
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._stream.wait_event(ready)
        with torch.cuda.stream(self._stream):
            began.record(self._stream)
            host.copy_(block, non_blocking=True)
            ended.record(self._stream)
        block.record_stream(self._stream)  # its memory may be used again only after the copy
        return Copy(host, self._free, pinned, began, ended)
