"""Task functions that worker processes can import."""

import logging
import os
import pathlib
import signal
import time
from collections import Counter
from typing import Any

import numpy as np
from distributed import Status, get_worker

from schemas.errors import InputError
from schemas.task import Key


def square(key: Key, offset: int = 0) -> int:
    return key.start**2 + offset


def slow_first(key: Key) -> int:
    time.sleep(0.3 if key.start == 0 else 0.0)
    return key.start


def wait(key: Key, seconds: float) -> None:
    time.sleep(seconds)


def write(key: Key, folder: str) -> int:
    (pathlib.Path(folder) / str(key.start)).write_bytes(bytes(10**6))
    return key.start


def warn(key: Key) -> None:
    logging.getLogger("engine.of-a-test").warning("seen %d", key.start)


def process(key: Key, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse() -> None:
    raise InputError("refused")


def bad_input(key: Key) -> int:
    if key.start == 2:
        raise InputError("line 7: expected a word, found none; add one")
    return key.start


def broken(key: Key) -> int:
    if key.start == 2:
        raise ZeroDivisionError("two")
    return key.start


def broken_below_two(key: Key) -> int:
    if key.start < 2:
        raise ValueError(f"at {key.start}")
    return key.start


def meet(key: Key, folder: str) -> bool:
    """Both of two tasks return True only when they run at the same time."""
    (pathlib.Path(folder) / str(key.start)).touch()
    until = time.time() + 10
    while time.time() < until:
        if len(list(pathlib.Path(folder).iterdir())) == 2:
            return True
        time.sleep(0.01)
    return False


def die_once(key: Key, folder: str) -> int:
    """Kill this process the first time that key 1 is done; counts invocations as files."""
    seen = pathlib.Path(folder) / f"{key.start}-{time.time_ns()}"
    seen.touch()
    if key.start == 1 and len(list(pathlib.Path(folder).glob("1-*"))) == 1:
        time.sleep(0.1)  # else nobody hears that it has begun
        os.kill(os.getpid(), signal.SIGKILL)
    return key.start


class Fatal:
    """What kills the second process that takes it, but for the one that made it."""

    def __init__(self, folder: str, maker: int) -> None:
        self.folder, self.maker = folder, maker

    def __reduce__(self) -> tuple[Any, ...]:
        return taken, (self.folder, self.maker)


def taken(folder: str, maker: int) -> Fatal:
    if os.getpid() != maker:
        (pathlib.Path(folder) / f"{os.getpid()}-{time.time_ns()}").touch()
        if len({path.name.split("-")[0] for path in pathlib.Path(folder).iterdir()}) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return Fatal(folder, maker)


def pause(key: Key, value: Any, seconds: float) -> Counter[str]:
    """Make this worker take no tasks for a while, at the first key."""
    if key.start == 0:
        worker = get_worker()

        def paused(until: float) -> None:
            worker.status = Status.paused if time.time() < until else Status.running
            if time.time() < until:
                worker.loop.call_later(0.01, paused, until)  # its look at its memory would let it go on

        worker.loop.add_callback(paused, time.time() + seconds)
        time.sleep(0.5)
    return counted(key, value)


def load(key: Key) -> np.ndarray:
    return np.random.default_rng(key.start).normal(size=8).astype(np.float32)


def load_counted(key: Key, folder: str) -> np.ndarray:
    (pathlib.Path(folder) / f"{key}-{time.time_ns()}".replace("/", "_")).touch()
    return load(key)


def scaled(key: Key, value: np.ndarray, factor: float) -> np.ndarray:
    return value * np.float32(factor)


def counted(key: Key, value: Any) -> Counter[str]:
    return Counter([str(key)])


def place(key: Key, value: Any, shared: Any) -> Counter[str]:
    time.sleep(0.05 if key.start % 3 else 0)  # uneven, so that one worker ends first
    return Counter([f"{key} in {os.getpid()}"])


def bad_step(key: Key, value: Any) -> int:
    return bad_input(key)


def broken_step(key: Key, value: Any) -> int:
    return broken(key)


def die_once_in_a_step(key: Key, value: Any, folder: str) -> Counter[str]:
    die_once(key, folder)
    return counted(key, value)


def name(key: Key, value: Any) -> list[str]:
    return [str(key)]


def span(key: Key, seconds: float) -> tuple[int, float, float]:
    """Wait; process, and when it began and ended."""
    began = time.time()
    time.sleep(seconds)
    return os.getpid(), began, time.time()


class Mortal:
    """Adds, and is counted, on workers; the first few additions there end their process, after a moment."""

    def __init__(self, folder: str, maker: int, kills: int) -> None:
        self.folder, self.maker, self.kills = pathlib.Path(folder), maker, kills

    def __call__(self, one: Any, other: Any) -> Any:
        if os.getpid() != self.maker:
            (self.folder / str(time.time_ns())).touch()
            if len(list(self.folder.iterdir())) <= self.kills:
                time.sleep(0.3)  # so that the next steps are done
                os.kill(os.getpid(), signal.SIGKILL)
        return one + other
