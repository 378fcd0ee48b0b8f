"""The kernel of K-means against brute force in float64: labels to the bit, bounds that hold, sums without rounding."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import host
from engine.kernels import lloyd
from engine.kernels.sums import difference, grid

PRODUCTS = [
    pytest.param(host.Products(low=True), id="bfloat16"),  # also where the processor has it not
    pytest.param(host.Products(low=False), id="float32"),
]


def problem(rows: int, k: int, hidden: int, seed: int, dtype: str = "float16") -> tuple[np.ndarray, ...]:
    """Vectors far from the origin around centroids, some centroids equal, some vectors halfway between two."""
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(k, hidden)) + 5
    centroids[rng.integers(k)] = centroids[0]
    values = centroids[rng.integers(k, size=rows)] + rng.normal(scale=0.3, size=(rows, hidden))
    if rows:
        half = rng.integers(rows, size=rows // 5)
        values[half] = (centroids[rng.integers(k, size=len(half))] + centroids[rng.integers(k, size=len(half))]) / 2
    return values.astype(dtype), np.full(hidden, 5, np.float32), centroids


def spread(rows: int, hidden: int, k: int, scale: float, offset: float) -> tuple[np.ndarray, ...]:
    """Vectors without groups, their mean, and some of them as centroids."""
    rng = np.random.default_rng(hidden + k)
    values = (offset + scale * rng.normal(size=(rows, hidden))).astype(np.float16)
    mean = values.astype(np.float64).mean(axis=0).astype(np.float32)
    centroids = values[rng.choice(rows, k, replace=False)].astype(np.float64)
    centroids[0] *= 50  # far from all: its norm must not spoil the bounds of others
    return values, mean, centroids


def nearest(values: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First nearest centroid of every row, and squared distances (row, concept), by differences in float64."""
    gap = values.astype(np.float64)[:, None] - centroids[None]
    squared = (gap * gap).sum(axis=2)
    return squared.argmin(axis=1), squared


def advanced(
    rows: lloyd.Rows,
    mean: np.ndarray,
    centroids: np.ndarray,
    before: np.ndarray | None,
    state: lloyd.State | None,
    products: host.Products,
) -> lloyd.State:
    """One run, one step."""
    prepared = lloyd.Centroids(centroids, before, mean, products)
    return lloyd.advance(rows, mean, [(prepared, state)], products)[0]


problems = st.builds(
    problem,
    st.integers(0, 60),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 10**6),
    st.sampled_from(["float16", "float32"]),
)


@pytest.mark.parametrize("products", PRODUCTS)
@given(problems)
def test_advance__from_nothing_finds_the_first_nearest(products: host.Products, given_: tuple[np.ndarray, ...]) -> None:
    values, mean, centroids = given_
    state = advanced(lloyd.Rows(values), mean, centroids, None, None, products)
    assert state.label.dtype == np.int32
    assert state.label.tolist() == nearest(values, centroids)[0].tolist()


@pytest.mark.parametrize("products", PRODUCTS)
@given(problems, st.lists(st.sampled_from([0.0, 1e-7, 1e-3, 0.03, 0.3, 3.0]), min_size=1, max_size=6), st.data())
def test_advance__step_by_step_labels_and_bounds_hold(
    products: host.Products, given_: tuple[np.ndarray, ...], steps: list[float], data: st.DataObject
) -> None:
    values, mean, centroids = given_
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    rows, state, before = lloyd.Rows(values), None, None
    for size in [0.0, *steps]:
        some = rng.random(len(centroids)) < data.draw(st.sampled_from([0.05, 0.5, 1]))
        now = centroids + some[:, None] * rng.normal(scale=size, size=centroids.shape)
        state = advanced(rows, mean, now, before, state, products)
        label, squared = nearest(values, now)
        assert state.label.tolist() == label.tolist()
        distance = np.sqrt(squared)
        every = np.arange(len(values))
        assert (state.upper >= distance[every, label]).all()
        distance[every, label] = np.inf
        assert (state.lower <= distance.min(axis=1, initial=np.inf)).all()
        centroids, before = now, now


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize(
    ("hidden", "k", "scale", "offset"),
    [(768, 200, 1.0, 0.0), (768, 64, 0.01, 30.0), (300, 33, 100.0, 0.0), (40, 300, 1.0, 1000.0), (768, 200, 1e-4, 0.0)],
)
def test_advance__many_rows_of_many_numbers(
    monkeypatch: pytest.MonkeyPatch, products: host.Products, hidden: int, k: int, scale: float, offset: float
) -> None:
    monkeypatch.setattr(lloyd, "BLOCK_ROWS", 512)
    monkeypatch.setattr(lloyd, "_TRIED", 800)
    values, mean, centroids = spread(1100, hidden, k, scale, offset)
    rows, state, before = lloyd.Rows(values), None, None
    for _ in range(5):
        state = advanced(rows, mean, centroids, before, state, products)
        squared = (values.astype(np.float64) ** 2).sum(axis=1)[:, None] - 2 * values.astype(np.float64) @ centroids.T
        squared += (centroids**2).sum(axis=1)
        found = squared[np.arange(len(values)), state.label]
        np.testing.assert_allclose(found, squared.min(axis=1), atol=1e-10 * (squared.max() + offset**2 * hidden))
        before = centroids
        sums = np.zeros_like(centroids)
        np.add.at(sums, state.label, values.astype(np.float64))
        counts = np.bincount(state.label, minlength=k)
        centroids = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e-19, 1e-12, 1e5, 1e14])
def test_advance__very_small_and_very_large_numbers(products: host.Products, dtype: str, scale: float) -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(400, 30)) * scale).astype(dtype)
    centroids = values[:25].astype(np.float64) + 0.1 * scale
    rows, mean = lloyd.Rows(values), np.zeros(30, np.float32)
    state = advanced(rows, mean, centroids, None, None, products)
    assert state.label.tolist() == nearest(values, centroids)[0].tolist()
    now = centroids + rng.normal(size=centroids.shape) * scale * 0.2
    state = advanced(rows, mean, now, centroids, state, products)
    assert state.label.tolist() == nearest(values, now)[0].tolist()


def test_advance__several_runs_share_a_pass() -> None:
    values, mean, centroids = problem(3000, 30, 12, 5)
    products = host.products("auto")
    some = [centroids, centroids[:7], centroids[3:]]
    runs = [(lloyd.Centroids(c, None, mean, products), None) for c in some]
    together = lloyd.advance(lloyd.Rows(values), mean, runs, products)
    for c, state in zip(some, together, strict=True):
        assert state.label.tolist() == advanced(lloyd.Rows(values), mean, c, None, None, products).label.tolist()


def test_advance__moves_little_and_looks_at_little(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(300, 64)) * 3
    values = (centroids[rng.integers(300, size=4000)] + rng.normal(size=(4000, 64))).astype(np.float16)
    rows, mean = lloyd.Rows(values), np.zeros(64, np.float32)
    state = advanced(rows, mean, centroids, None, None, host.products("auto"))
    seen = []
    compare = lloyd._compare

    def counted(block: Any, centroids: Any, state: Any, at: np.ndarray, count: int) -> None:
        seen.append(len(at) * count)
        compare(block, centroids, state, at, count)

    monkeypatch.setattr(lloyd, "_compare", counted)
    now = centroids.copy()
    now[:3] += 0.05
    advanced(rows, mean, now, centroids, state, host.products("auto"))
    assert sum(seen) < 0.1 * 4000 * 300


@pytest.mark.parametrize("tried", [0, 10**9])
def test_advance__rows_crowded_by_coarse_products_are_compared_in_float32(
    monkeypatch: pytest.MonkeyPatch, tried: int
) -> None:
    monkeypatch.setattr(lloyd, "_TRIED", tried)
    values, mean, centroids = spread(2000, 768, 200, 1.0, 0.0)
    settled = []
    exactly = lloyd.squared_distances

    def counted(rows: Any, centroids: Any, labels: Any, at: Any | None = None) -> Any:
        settled.append(len(labels))
        return exactly(rows, centroids, labels, at)

    rows, state, before = lloyd.Rows(values), None, None
    for step in range(3):
        now = centroids + step * 0.05
        with monkeypatch.context() as patch:
            patch.setattr(lloyd, "squared_distances", counted)
            state = advanced(rows, mean, now, before, state, host.Products(low=True))
        expected = advanced(lloyd.Rows(values), mean, now, None, None, host.Products(low=False))
        assert state.label.tolist() == expected.label.tolist()
        before = now
    assert sum(settled) < 3 * len(values) * lloyd._CROWDED / 2  # without it 50 times as many


@given(problems, st.integers(1, 3))
def test_difference__equals_a_loop(given_: tuple[np.ndarray, ...], seed: int) -> None:
    values, _, centroids = given_
    k = len(centroids)
    rng = np.random.default_rng(seed)
    before, after = rng.integers(k, size=(2, len(values))).astype(np.int32)
    unit = grid(float(np.abs(values).max(initial=0)), len(values), values.dtype)
    for old in (None, before):
        found = difference(values, old, after, k, unit)
        sums, counts = np.zeros(centroids.shape), np.zeros(k, np.int64)
        for i, row in enumerate(values.astype(np.float64)):
            if old is None or old[i] != after[i]:
                sums[after[i]] += row
                counts[after[i]] += 1
                if old is not None:
                    sums[old[i]] -= row
                    counts[old[i]] -= 1
        dense = np.zeros(centroids.shape)
        dense[found.concepts] = found.sums
        np.testing.assert_allclose(dense, sums, atol=1e-12)
        assert np.array_equal(np.bincount(found.concepts, found.counts, minlength=k), counts)
        assert found.moved == (len(values) if old is None else (old != after).sum())


@given(
    st.integers(0, 10**6), st.sampled_from(["float16", "float32"]), st.lists(st.integers(0, 200), max_size=4),
    st.floats(1e-4, 1e3),
)  # fmt: skip
def test_difference__parts_in_any_order_and_steps_have_the_bits_of_the_whole(
    seed: int, dtype: str, cuts: list[int], scale: float
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(200, 3)) * scale * 10.0 ** rng.integers(-3, 2, size=(200, 1))).astype(dtype)
    values[~np.isfinite(values)] = 1
    unit = grid(float(np.abs(values).max()), 200, dtype)
    first, second = rng.integers(6, size=(2, 200)).astype(np.int32)
    whole = difference(values, None, second, 6, unit)
    bounds = sorted({0, *cuts, 200})
    parts = [difference(values[a:b], None, first[a:b], 6, unit) for a, b in pairwise(bounds)]
    parts += [difference(values[a:b], first[a:b], second[a:b], 6, unit) for a, b in pairwise(bounds)]
    rng.shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    dense = np.zeros((6, 3))
    dense[total.concepts] = total.sums
    assert np.array_equal(dense[whole.concepts], whole.sums)
    for concept, summed in zip(whole.concepts, whole.sums, strict=True):
        exact = [sum((Fraction(float(v)) for v in column), Fraction()) for column in values[second == concept].T]
        for found, expected in zip(summed, exact, strict=True):
            rounding = 0 if unit == 0 else unit / 2 * (second == concept).sum()
            assert abs(Fraction(float(found)) - expected) <= Fraction(rounding)


def test_squared_distances__have_the_same_bits_alone_and_among_others() -> None:
    rng = np.random.default_rng(1)
    values, centroids = rng.normal(size=(500, 77)).astype(np.float16), rng.normal(size=(9, 77))
    labels = rng.integers(9, size=500)
    found = lloyd.squared_distances(values, centroids, labels)
    np.testing.assert_allclose(found, nearest(values, centroids)[1][np.arange(500), labels], rtol=1e-12)
    for i in (0, 3, 499):
        alone = lloyd.squared_distances(values[i : i + 1], centroids, labels[i : i + 1])
        assert alone[0] == found[i]
        assert lloyd.squared_distances(values, centroids, labels[i : i + 1], np.array([i]))[0] == found[i]


@given(problems, st.integers(1, 70))
def test_farthest__by_falling_distance(given_: tuple[np.ndarray, ...], count: int) -> None:
    values, _, centroids = given_
    labels, squared = nearest(values, centroids)
    own = squared[np.arange(len(values)), labels]
    order = sorted(range(len(values)), key=lambda i: -own[i])[:count]
    distance, label, row = lloyd.farthest(values, centroids, labels, count)
    np.testing.assert_allclose(distance, own[order], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(squared[order, label] if order else distance, distance, rtol=1e-9, atol=1e-12)
    assert row.shape == (len(order), values.shape[1])
