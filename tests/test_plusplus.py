"""First centroids by rejection: the distribution of greedy k-means++, enumerated, and scikit-learn's quality."""

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from sklearn.cluster import kmeans_plusplus

from engine import backend
from engine.kernels import plusplus as drawing
from engine.kernels.plusplus import plusplus
from tests.test_concepts import blobs


def enumerated(rows: np.ndarray, weights: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Chance of each sequence of rows that greedy k-means++ may draw, by going through all candidates of all steps."""
    gaps = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    sequences = {(first,): weight / weights.sum() for first, weight in enumerate(weights)}
    for _ in range(k - 1):
        longer: dict[tuple[int, ...], float] = defaultdict(float)
        for sequence, chance in sequences.items():
            closest = gaps[list(sequence)].min(axis=0)
            shares = closest * weights / (closest * weights).sum()
            for candidates in product(range(len(rows)), repeat=2 + int(np.log(k))):
                best = min(candidates, key=lambda one: float((np.minimum(closest, gaps[one]) * weights).sum()))
                longer[*sequence, best] += chance * float(np.prod(shares[list(candidates)]))
        sequences = longer
    return {sequence: chance for sequence, chance in sequences.items() if chance}


@pytest.mark.parametrize("batch", [3, 5, 256])
@pytest.mark.parametrize(("k", "weighted"), [(2, False), (3, False), (3, True)])
def test_plusplus__draws_by_the_chances_of_its_definition(
    k: int, weighted: bool, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "BATCH", batch)
    numbers = np.random.default_rng(5)
    rows = numbers.normal(size=(5, 2)) * [[1], [1], [1], [3], [0.3]]
    weights = np.array([1.0, 0, 5, 2, 0.5]) if weighted else np.ones(5)
    chances = enumerated(rows, weights, k)
    assert sum(chances.values()) == pytest.approx(1)
    draws = 4000
    found = Counter(tuple(plusplus(np, rows, weights, k, seed).tolist()) for seed in range(draws))
    assert found.keys() <= chances.keys()
    often = [sequence for sequence, chance in chances.items() if chance * draws >= 5]
    rare = [sequence for sequence in chances if sequence not in set(often)]
    counts = [found[sequence] for sequence in often] + [sum(found[sequence] for sequence in rare)]
    expected = [chances[sequence] * draws for sequence in often] + [sum(chances[s] for s in rare) * draws]
    some = np.array(expected) > 1e-6
    assert chisquare(np.array(counts)[some], np.array(expected)[some]).pvalue > 1e-3


def test_plusplus__threads_change_no_bit() -> None:
    rows = blobs(12_289, 24, 40, seed=4)[0].astype(np.float64)
    weights = np.random.default_rng(2).random(len(rows))
    expected = plusplus(np, rows, weights, 60, 1)
    assert backend.seed_rows(rows, 60, 1, weights).tolist() == expected.tolist()
    assert backend.seed_rows(rows, 60, 1, weights, threads=3).tolist() == expected.tolist()
    with ThreadPoolExecutor(2) as pool:
        some = np.arange(0, len(rows), 7)
        squares = (rows**2).sum(1)
        blocks, whole = (drawing._to_all(np, rows, squares, some, way) for way in (pool.map, map))
    np.testing.assert_array_equal(blocks, whole)
    np.testing.assert_allclose(blocks[:, ::50], cdist(rows[some], rows[::50], "sqeuclidean"), rtol=1e-9, atol=1e-9)


def test_plusplus__memory_for_one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = blobs(500, 6, 10, seed=4)[0].astype(np.float64)
    monkeypatch.setattr(drawing, "NUMBERS", 500 * 7)
    assert drawing.batch_of(500, 20) == drawing.trials(20) == 4 != drawing.batch_of(500, 4)
    assert len(set(plusplus(np, rows, np.ones(500), 20, 1).tolist())) == 20


@pytest.mark.parametrize("weighted", [False, True])
def test_plusplus__is_as_good_as_scikit_learn(weighted: bool) -> None:
    rows = blobs(2000, 12, 30, seed=3)[0].astype(np.float64)
    weights = np.random.default_rng(3).random(2000) + 0.1 if weighted else np.ones(2000)

    def left(chosen: np.ndarray) -> float:
        gaps = ((rows[:, None] - rows[chosen][None]) ** 2).sum(axis=2).min(axis=1)
        return float(gaps @ weights)

    ours = [left(plusplus(np, rows, weights, 40, seed)) for seed in range(30)]
    theirs = [left(kmeans_plusplus(rows, 40, random_state=seed, sample_weight=weights)[1]) for seed in range(30)]
    spread = np.hypot(np.std(ours), np.std(theirs)) / np.sqrt(30)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * spread


def test_plusplus__rows_are_distinct_while_there_are_some() -> None:
    rows = np.repeat(np.random.default_rng(1).normal(size=(7, 3)), 20, axis=0)
    for seed in range(20):
        chosen = plusplus(np, rows, np.ones(140), 7, seed)
        assert sorted(chosen // 20) == list(range(7))
    same = np.zeros((9, 3))
    assert len(set(plusplus(np, same, np.ones(9), 4, 0).tolist())) == 1


def test_plusplus__never_draws_what_weighs_nothing() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 3))
    weights = np.arange(50) % 2 * 1.0
    for seed in range(20):
        assert (plusplus(np, rows, weights, 20, seed) % 2 == 1).all()
