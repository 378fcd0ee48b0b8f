"""Clustering's kernels on a GPU, or on a pretended one, against those of the CPU and brute force."""

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import kmeans_plusplus

from engine import backend, device, host
from engine.estimator import KMeans
from engine.kernels.lloyd import Rows
from engine.kernels.sums import grid
from tests.oracles import cuda
from tests.test_lloyd import nearest, problem, problems, spread

PRECISIONS = ["auto", "float32"]

pytestmark = pytest.mark.skipif(
    backend.array_module() is np and cuda.COMPILER is None, reason="needs a CUDA device and cupy, or g++"
)


@pytest.fixture(scope="module", autouse=True)
def _pretended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Without a GPU a pretended one."""
    with pytest.MonkeyPatch.context() as patch:
        if backend.array_module() is np:
            cuda.pretend(patch, tmp_path_factory.mktemp("cuda"))
        yield


def test_kernels__are_twins() -> None:
    for name in host.__all__:
        on_host, there = getattr(host, name), getattr(device, name)
        first, second = (list(inspect.signature(one).parameters) for one in (on_host, there))
        assert first[: len(second)] == second, name  # `at` is for the host's own use


def labels_of(values: np.ndarray, mean: np.ndarray, centroids: np.ndarray, precision: str) -> np.ndarray:
    """Labels (row) of one pass on the device."""
    products = device.products(precision)
    prepared = device.Centroids(centroids, None, mean, products)
    (state,) = device.advance(Rows(device.put(values)), mean, [(prepared, None)], products)
    return device.fetch(state.label)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(problems)
def test_advance__finds_the_first_nearest(precision: str, given_: tuple[np.ndarray, ...]) -> None:
    values, mean, centroids = given_
    assert labels_of(values, mean, centroids, precision).tolist() == nearest(values, centroids)[0].tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e-19, 1e-12, 1e5, 1e14])
def test_advance__very_small_and_very_large_numbers(precision: str, dtype: str, scale: float) -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(400, 30)) * scale).astype(dtype)
    centroids = values[:25].astype(np.float64) + 0.1 * scale
    found = labels_of(values, np.zeros(30, np.float32), centroids, precision)
    assert found.tolist() == nearest(values, centroids)[0].tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("hidden", "k", "scale", "offset"),
    [(768, 150, 1.0, 0.0), (768, 64, 0.01, 30.0), (300, 33, 100.0, 0.0), (40, 1, 1, 9)],
)
def test_advance__many_rows_equal_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, precision: str, hidden: int, k: int, scale: float, offset: float
) -> None:
    monkeypatch.setattr(device, "BLOCK_ROWS", 128)
    values, mean, centroids = spread(301, hidden, k, scale, offset)
    products = host.products(precision)
    expected = host.advance(Rows(values), mean, [(host.Centroids(centroids, None, mean, products), None)], products)
    assert labels_of(values, mean, centroids, precision).tolist() == expected[0].label.tolist()


@given(problems, st.integers(1, 3))
def test_difference__has_the_bits_of_the_cpu(given_: tuple[np.ndarray, ...], seed: int) -> None:
    values, _, centroids = given_
    k = len(centroids)
    before, after = np.random.default_rng(seed).integers(k, size=(2, len(values))).astype(np.int32)
    unit = grid(float(np.abs(values).max(initial=0)), len(values), values.dtype)
    there, then, now = (device.put(array) for array in (values, before, after))
    for old, former in ((None, None), (before, then)):
        expected = host.difference(values, old, after, k, unit)
        some = device.difference(there, former, now, k, unit)
        for found in (some.host(), pickle.loads(pickle.dumps(some))):
            assert found.moved == expected.moved
            for name in ("concepts", "sums", "counts"):
                assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
        twice = (some + some).host()
        assert twice.sums.tolist() == (expected + expected).sums.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_distances_farthest_and_moments__equal_those_of_the_cpu(dtype: str) -> None:
    values, _, centroids = problem(3000, 37, 50, 4, dtype)
    labels = nearest(values, centroids)[0].astype(np.int32)
    there, theirs = device.put(values), device.put(labels)
    expected: Any = host.squared_distances(values, centroids, labels)
    np.testing.assert_allclose(device.fetch(device.squared_distances(there, centroids, theirs)), expected, rtol=1e-12)
    for found, wanted in zip(
        device.farthest(there, centroids, theirs, 9), host.farthest(values, centroids, labels, 9), strict=True
    ):
        np.testing.assert_allclose(device.fetch(found), wanted, rtol=1e-12)
    for found, wanted in zip(device.moments(there), host.moments(values), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_plusplus__draws_what_scikit_learn_draws(weighted: bool) -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(2000, 40)) * rng.gamma(1, size=(2000, 1))
    weights = rng.integers(1, 9, 2000).astype(np.float64) if weighted else np.ones(2000)
    for seed in range(5):
        _, expected = kmeans_plusplus(rows, 60, random_state=seed, sample_weight=weights)
        assert device.plusplus(rows, 60, np.random.RandomState(seed), weights).tolist() == expected.tolist()


def test_seed_rows__draws_what_the_cpu_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(9).normal(size=(900, 20))
    weights = np.random.default_rng(9).integers(0, 5, 900).astype(np.float64)
    there = [backend.seed_rows(rows, 40, seed, given).tolist() for seed in range(3) for given in (None, weights)]
    monkeypatch.setattr(backend, "array_module", lambda: np)
    assert there == [
        backend.seed_rows(rows, 40, seed, given).tolist() for seed in range(3) for given in (None, weights)
    ]


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_estimator__gives_what_the_cpu_gives(monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    values, _, _ = problem(400, 12, 24, 3)
    there = KMeans(12, init=init, n_init=2, random_state=1, n_jobs=2).fit(values)
    streamed = KMeans(12, init=init, n_init=2, random_state=1, n_jobs=2, memory=28_000).fit(values)
    monkeypatch.setattr(backend, "array_module", lambda: np)
    monkeypatch.setattr(backend, "kernels", lambda: host)
    here = KMeans(12, init=init, n_init=2, random_state=1, n_jobs=2).fit(values)
    assert there.labels_.tolist() == here.labels_.tolist()
    assert there.cluster_centers_.tolist() == here.cluster_centers_.tolist()
    assert streamed.cluster_centers_.tolist() == here.cluster_centers_.tolist()
    assert there.inertia_ == pytest.approx(here.inertia_, rel=1e-12)
    assert there.n_iter_ == here.n_iter_
