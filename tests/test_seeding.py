"""First centroids: k-means++ as scikit-learn 0.24 drew it, and k-means|| whatever the parts, workers and memory."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from engine import backend, kmeans, seeding
from engine.parts import Run
from engine.workers.cluster import ClusterWorkers
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.machine import Machine
from schemas.study import Concepts
from tests.small_vectors import LAYER, Forgetful, Repeating, held_parts, settings
from tests.test_concepts import blobs

RUNS = [Run(0, 6, 3), Run(1, 15, 3), Run(2, 15, 4)]


def seeds(
    rows: np.ndarray,
    runs: list[Run],
    workers: Workers | None = None,
    *,
    shard: int = 128,
    keep: bool = True,
    products: str = "auto",
    seeding_: str = "k-means||",
) -> list[np.ndarray]:
    """First centroids of each run; `workers` are entered here."""
    wanted = settings([run.k for run in runs], seeding=seeding_, seeding_tokens=100)
    with workers or SerialWorkers(products=products) as able:
        held, known = held_parts(rows, able, shard, keep=keep)
        return [found for _, found in seeding.seed(held, known, {LAYER: runs}, wanted, able, None)[LAYER]]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


@pytest.mark.parametrize("way", ["k-means||", "k-means++"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_seed__does_not_depend_on_parts_memory_or_precision(way: str, dtype: str) -> None:
    rows = blobs(700, 9, 8, seed=1)[0].astype(dtype)
    expected = seeds(rows, RUNS, seeding_=way)
    given = {row.tobytes() for row in rows.astype(np.float64)}
    for run, found in zip(RUNS, expected, strict=True):
        assert found.shape == (run.k, 9)
        assert len({row.tobytes() for row in found}) == run.k
        assert {row.tobytes() for row in found} <= given
    for shard in (50, 700):
        assert_same(seeds(rows, RUNS, shard=shard, seeding_=way), expected)
    assert_same(seeds(rows, RUNS, keep=False, seeding_=way), expected)
    assert_same(seeds(rows, RUNS, products="float32", seeding_=way), expected)
    assert_same([seeds(rows, [run], seeding_=way)[0] for run in RUNS], expected)
    for number in range(3):
        assert_same(seeds(rows, RUNS, Forgetful(number, threads=2), seeding_=way), expected)
    assert_same(seeds(rows, RUNS, Repeating(), seeding_=way), expected)


def test_at_once_here__is_bounded_by_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    workers = ClusterWorkers(Machine(type="local", memory=1))
    assert [workers.at_once_here(nbytes) for nbytes in (1, 2**27, 2**28 + 2**27, 2**30)] == [8, 4, 1, 1]
    assert SerialWorkers(3).at_once_here(2**40) == 3


def test_seed__candidates_are_about_as_many_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def thin(rows: np.ndarray, weight: np.ndarray, run: Run, mean: np.ndarray) -> np.ndarray:
        counts.append(len(rows))
        assert weight.sum() == 3000
        return rows[: run.k]

    monkeypatch.setattr(seeding, "_thin", thin)
    seeds(blobs(3000, 12, 30, seed=2)[0], [Run(n, 20, n) for n in range(5)])
    expected = seeding.OVERSAMPLING * 20 * seeding.ROUNDS
    assert all(0.7 * expected < count < 1.3 * expected for count in counts), counts


@pytest.mark.parametrize("seed", range(3))
def test_seed__is_as_good_as_greedy(seed: int) -> None:
    rows = blobs(1500, 8, 12, seed=seed)[0]
    with SerialWorkers() as workers:
        held, known = held_parts(rows, workers, 512)
        wanted = settings([12], seeding="k-means||")
        (one,) = kmeans.fit(held, known, [Run(0, 12, seed)], wanted, workers)[LAYER]
    greedy = KMeans(12, n_init=3, random_state=seed).fit(rows.astype(np.float64))
    gap = rows.astype(np.float64)[:, None] - one.centroids[None]
    assert (gap * gap).sum(axis=2).min(axis=1).sum() <= 1.1 * greedy.inertia_


@pytest.mark.parametrize("distinct", [1, 3])
def test_seed__fewer_distinct_rows_than_concepts(distinct: int) -> None:
    rows = np.repeat(np.arange(distinct, dtype=np.float16)[:, None] * [[1, 2]], 20, axis=0).astype(np.float16)
    (found,) = seeds(rows, [Run(0, 5, 1)], shard=16)
    assert found.shape == (5, 2)
    assert {row.tobytes() for row in found} == {row.tobytes() for row in np.unique(rows.astype(np.float64), axis=0)}
    with SerialWorkers() as workers:
        held, known = held_parts(rows, workers, 16)
        (one,) = kmeans.fit(held, known, [Run(0, 5, 1)], settings([5], seeding="k-means||"), workers)[LAYER]
    assert one.n_iter <= 3
    assert {row.tobytes() for row in np.unique(rows.astype(np.float64), axis=0)} <= {c.tobytes() for c in one.centroids}


def test_method__of_auto_is_k_means_parallel_where_the_sample_is_large() -> None:
    auto = Concepts(seeding_tokens=16384)
    assert seeding.method(600, 10**9, 1024, auto) == "k-means++"  # 128 MiB
    assert seeding.method(13107, 10**9, 1024, auto) == "k-means++"  # 10 rows a concept: just below 1 GiB
    assert seeding.method(13108, 10**9, 1024, auto) == "k-means||"
    assert seeding.method(13108, 10**5, 1024, auto) == "k-means++"  # there are no more rows
    assert seeding.method(13108, 10**9, 1024, Concepts(preset="reference")) == "k-means++"
    assert seeding.method(6, 100, 4, Concepts(seeding="k-means||")) == "k-means||"
    assert seeding.method(10**6, 10**9, 1024, Concepts(seeding="k-means++")) == "k-means++"


def restarts_024(rows: np.ndarray, k: int, seed: int, restarts: int) -> list[list[int]]:
    """Rows that scikit-learn 0.24 draws in each restart, written out with plain loops."""
    random_state, trials = np.random.RandomState(seed), 2 + int(math.log(k))
    every = []
    for _ in range(restarts):
        chosen = [int(random_state.randint(len(rows)))]
        closest = np.array([float(((row - rows[chosen[0]]) ** 2).sum()) for row in rows])
        for _ in range(1, k):
            values = random_state.random_sample(trials) * closest.sum()
            best: Any = None
            for at in np.clip(np.searchsorted(np.cumsum(closest), values), None, len(rows) - 1):
                left = np.minimum(closest, ((rows - rows[at]) ** 2).sum(axis=1))
                if best is None or left.sum() < best[0]:
                    best = (left.sum(), int(at), left)
            _, at, closest = best
            chosen.append(at)
        every.append(chosen)
    return every


@pytest.mark.parametrize(("k", "seed"), [(2, 0), (5, 212), (23, 7), (60, 3)])
def test_seed_rows__equals_scikit_learn_024(k: int, seed: int) -> None:
    rows = blobs(300, 7, 9, seed=seed)[0].astype(np.float64)
    rows -= rows.mean(axis=0)
    for restart, expected in enumerate(restarts_024(rows, k, seed, 4)):
        assert backend.seed_rows(rows, k, seed, reference=restart).tolist() == expected


def test_seed__the_reference_preset_draws_restarts_from_one_generator() -> None:
    rows = blobs(300, 7, 9, seed=5)[0]
    exact = rows.astype(np.float64)
    wanted = Concepts(preset="reference", k=8, seed=212)
    runs = [Run(number, 8, 212 + number) for number in range(3)]
    with SerialWorkers() as workers:
        held, known = held_parts(rows, workers, 100)
        found = seeding.seed(held, known, {LAYER: runs}, wanted, workers, None)[LAYER]
    expected = restarts_024(exact - exact.mean(axis=0), 8, 212, 3)
    for (_, centroids), chosen in zip(found, expected, strict=True):
        np.testing.assert_array_equal(centroids, exact[chosen])
