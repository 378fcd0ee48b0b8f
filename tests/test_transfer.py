"""Copies through pinned buffers, against a stand-in for torch.cuda that keeps the order of events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from engine.model.transfer import Transfers


class Event:
    """An event of the stand-in; done when `synchronize` has been called on it or a later one."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.waited = False

    def record(self, stream: "Stream") -> None:
        stream.log.append(("record", self))

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: "Event") -> float:
        assert end.waited
        return 1500.0


class Stream:
    """A stream of the stand-in, which logs what is put into it."""

    def __init__(self, device: Any) -> None:
        self.log: list[tuple[str, Any]] = []

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)
        self.log.append(("wait", event))


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Pinned buffers, as they are allocated; copies and events are logged in the stream that is current."""
    buffers: list[torch.Tensor] = []
    current: list[Stream] = []
    empty, copy = torch.empty, torch.Tensor.copy_

    def allocate(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        made = empty(*size, **options)
        if pin_memory:
            buffers.append(made)
        return made

    def copied(self: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        assert non_blocking
        current[-1].log.append(("copy", source))
        return copy(self, source)

    @contextmanager
    def stream(entered: Stream) -> Iterator[None]:
        current.append(entered)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, at: at.log.append(("keep", self)))
    return buffers


def test_start__two_buffers_and_a_third_copy_waits(pinned: list[torch.Tensor]) -> None:
    transfers = Transfers(torch.device("cuda"))
    blocks = [torch.full((2, 3), float(i)) for i in range(5)]
    first, second = (transfers.start(block, Event()) for block in blocks[:2])
    third: list[Any] = []
    thread = threading.Thread(target=lambda: third.append(transfers.start(blocks[2], Event())), daemon=True)
    thread.start()
    thread.join(0.2)
    assert not third  # both buffers hold blocks that are not written yet
    assert (first.host == 0).all()
    assert (second.host == 1).all()
    first.release()
    thread.join(10)
    assert (third[0].host == 2).all()
    assert (second.host == 1).all()
    for block in blocks[3:]:
        second.release()
        second = transfers.start(block, Event())
        assert torch.equal(second.host, block)
    assert len(pinned) == 2


def test_start__the_copy_comes_after_the_block_is_ready(pinned: list[torch.Tensor]) -> None:
    transfers, block, ready = Transfers(torch.device("cuda")), torch.ones(4), Event()
    copy = transfers.start(block, ready)
    assert isinstance(transfers._stream, Stream)
    log = transfers._stream.log
    assert [what for what, _ in log] == ["wait", "record", "copy", "record", "keep"]
    assert log[0][1] is ready
    assert (log[1][1], log[3][1]) == (copy.began, copy.ended)
    assert log[2][1] is log[4][1] is block
    assert not copy.ended.waited
    assert copy.wait() == 1.5
    assert copy.ended.waited


def test_start__a_buffer_grows_with_its_block(pinned: list[torch.Tensor]) -> None:
    transfers = Transfers(torch.device("cuda"))
    for block in (
        torch.ones(2, 2),
        torch.ones(3, 4),
        torch.ones(5, dtype=torch.float16),
        torch.zeros(0),
        torch.ones(7),
    ):
        copy = transfers.start(block, Event())
        assert torch.equal(copy.host, block)
        assert copy.host.dtype == block.dtype
        copy.release()
    assert transfers._free.qsize() == 2


def test_release__again_changes_nothing(pinned: list[torch.Tensor]) -> None:
    transfers = Transfers(torch.device("cuda"))
    copy = transfers.start(torch.ones(2), Event())
    copy.release()
    copy.release()
    assert transfers._free.qsize() == 2
    first, second = (transfers.start(torch.full((2,), float(i)), Event()) for i in range(2))
    assert (first.host.tolist(), second.host.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def test_start__on_the_cpu_nothing_is_copied() -> None:
    block = torch.ones(3)
    copies = [Transfers(torch.device("cpu")).start(block, None) for _ in range(5)]
    assert all(copy.host is block and copy.wait() == 0 for copy in copies)
    for copy in copies:
        copy.release()
