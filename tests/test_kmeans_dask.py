"""K-means on Dask: the bits of the serial workers, whatever number of processes there is and whichever are killed."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic

import psutil
import pytest

from engine.workers.cluster import ClusterWorkers
from schemas.machine import Machine
from tests.hosts import workers_of
from tests.small_vectors import assert_same, clustered, settings, stored
from tests.test_concepts import blobs

KS = (5, 9)


@contextmanager
def killer(seed: int, pause: float, most: int = 2) -> Iterator[list[int]]:
    """Kill a random worker process of this one after random pauses (seconds, at most), a few times; gives those that
    were killed.
    """
    chance, ended, killed = random.Random(seed), threading.Event(), list[int]()

    def work() -> None:
        while len(killed) < most and not ended.wait(chance.uniform(0.3, 1) * pause):
            found = workers_of(psutil.Process())
            if found:
                victim = chance.choice(found)
                victim.kill()
                killed.append(victim.pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("processes", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_cluster__dask_equals_serial(processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, wanted = stored(tmp_path, blobs(500, 8, 9, layers=2, seed=5), KS), settings(KS, seeding="k-means||")
    expected = clustered(task, wanted)
    with ClusterWorkers(Machine(type="local", workers=processes, memory=1, retries=3)) as workers:
        assert_same(clustered(task, wanted, workers), expected)
        monkeypatch.setattr(ClusterWorkers, "memory", 30_000)
        assert_same(clustered(task, wanted, workers), expected)


@pytest.mark.parametrize(
    ("processes", "kills", "here"),
    [(2, 2, 8), *(pytest.param(n, 20, here, marks=pytest.mark.slow) for n in (1, 2, 4) for here in (0, 8))],
)
@pytest.mark.filterwarnings("ignore")
def test_cluster__killed_workers_change_no_bit(
    processes: int, kills: int, here: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what steps give is added up on workers."""
    monkeypatch.setattr("engine.workers.folding.HERE", here)
    task, wanted = stored(tmp_path, blobs(500, 8, 9, layers=2, seed=6), KS), settings(KS, tolerance=0, restarts=2)
    expected = clustered(task, wanted)
    done = 0
    with ClusterWorkers(Machine(type="local", workers=processes, memory=1, retries=3)) as workers:
        started = monotonic()
        assert_same(clustered(task, wanted, workers), expected)
        took = monotonic() - started
        seeds = count(kills)  # another one each time: where nobody was killed in time, the moments are others
        while done < kills:
            with killer(next(seeds), took) as killed:
                found = clustered(task, wanted, workers)
            assert_same(found, expected)
            done += len(killed)
