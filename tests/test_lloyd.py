"""One sweep against brute force, in any parts, on host and device arrays."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels import lloyd
from tests.oracles.kmeans import DEVICE_MODULE, Device


def problem(rows: int, k: int, hidden: int, seed: int, dtype: str = "float16") -> tuple[np.ndarray, ...]:
    """Rows, their mean and centroids less the mean; many rows lie near one centroid."""
    random = np.random.default_rng(seed)
    centres = random.normal(scale=3, size=(k, hidden))
    values = (centres[random.integers(k, size=rows)] + random.normal(size=(rows, hidden)) + 1.5).astype(dtype)
    mean = np.full(hidden, 1.5, np.float32)
    return values, mean, centres.astype(np.float32)


def distances(values: np.ndarray, mean: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(row, concept) squared distances in float64, by differences."""
    centred = (values.astype(np.float32) - mean).astype(np.float64)
    return ((centred[:, None, :] - centroids[None].astype(np.float64)) ** 2).sum(axis=2)


problems = st.builds(
    problem,
    st.integers(0, 60),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(0, 10**6),
    st.sampled_from(["float16", "float32"]),
)


@given(problems)
def test_nearest__no_centroid_is_nearer(given_: tuple[np.ndarray, ...]) -> None:
    values, mean, centroids = given_
    labels = lloyd.nearest(values, mean, centroids)
    squared = distances(values, mean, centroids)
    assert labels.dtype == np.int32
    found = squared[np.arange(len(values)), labels]
    np.testing.assert_allclose(found, squared.min(axis=1), rtol=1e-4, atol=1e-4)


def test_nearest__the_first_of_equal_centroids() -> None:
    centroids = np.array([[9, 9], [1, 2], [1, 2], [-1, -2]], np.float32)
    rows = np.array([[1, 2], [2, 2]], np.float16)
    assert lloyd.nearest(rows, np.zeros(2, np.float32), centroids).tolist() == [1, 1]


@given(problems)
def test_sums_by_label__equals_a_loop(given_: tuple[np.ndarray, ...]) -> None:
    values, mean, centroids = given_
    labels = lloyd.nearest(values, mean, centroids)
    expected = np.zeros(centroids.shape)
    for row, label in zip(values.astype(np.float32) - mean, labels, strict=True):
        expected[label] += row
    np.testing.assert_allclose(lloyd.sums_by_label(values, mean, labels, len(centroids)), expected, atol=1e-9)


@given(problems, st.lists(st.integers(0, 60), max_size=4))
def test_sweep__parts_add_up_to_the_whole_bit_for_bit(given_: tuple[np.ndarray, ...], cuts: list[int]) -> None:
    values, mean, centroids = given_
    values = values.astype(np.float16)  # sums of float16 numbers are exact in float64
    whole = lloyd.sweep(values, mean, centroids)
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [lloyd.sweep(values[a:b], mean, centroids) for a, b in pairwise(bounds)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    np.testing.assert_array_equal(total.sums, whole.sums)
    np.testing.assert_array_equal(total.counts, whole.counts)
    assert whole.counts.sum() == len(values)


def test_sweep__the_digest_changes_with_one_label() -> None:
    values, mean, centroids = problem(3000, 5, 8, 0)
    once = lloyd.sweep(values, mean, centroids)
    assert once.labels == lloyd.sweep(values, mean, centroids).labels
    moved = values.copy()
    moved[2999] = centroids[(lloyd.nearest(values, mean, centroids)[2999] + 1) % 5] + mean
    assert once.labels != lloyd.sweep(moved, mean, centroids).labels


@given(problems)
def test_squared_distances__equals_a_loop(given_: tuple[np.ndarray, ...]) -> None:
    values, mean, centroids = given_
    labels = lloyd.nearest(values, mean, centroids)
    expected = distances(values, mean, centroids)[np.arange(len(values)), labels]
    found = lloyd.squared_distances(values, mean, centroids, labels)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(problems, st.integers(1, 70))
def test_farthest__by_falling_distance(given_: tuple[np.ndarray, ...], count: int) -> None:
    values, mean, centroids = given_
    labels = lloyd.nearest(values, mean, centroids)
    squared = distances(values, mean, centroids)[np.arange(len(values)), labels]
    order = sorted(range(len(values)), key=lambda i: -squared[i])[:count]
    distance, label, row = lloyd.farthest(values, mean, centroids, labels, count)
    np.testing.assert_allclose(distance, squared[order], rtol=1e-9, atol=1e-12)
    assert label.tolist() == labels[order].tolist()
    np.testing.assert_allclose(row, values[order].astype(np.float32) - mean, rtol=1e-6)


def test_blocks__more_rows_than_a_block_equal_brute_force() -> None:
    values, mean, centroids = problem(2 * lloyd.BLOCK_ROWS + 17, 12, 16, 3)
    squared = distances(values, mean, centroids)
    labels = lloyd.nearest(values, mean, centroids)
    np.testing.assert_array_equal(labels, squared.argmin(axis=1))
    np.testing.assert_allclose(lloyd.squared_distances(values, mean, centroids, labels), squared.min(axis=1), rtol=1e-9)


@pytest.mark.parametrize("rows", [0, 1, 1024, 2500])
def test_sweep__device_arrays_give_the_same(rows: int) -> None:
    values, mean, centroids = problem(rows, 7, 12, 4)
    on_device = [array.view(Device) for array in (values, mean, centroids)]
    host, device = lloyd.sweep(values, mean, centroids), lloyd.sweep(*on_device, xp=DEVICE_MODULE)
    assert type(device.sums) is np.ndarray
    np.testing.assert_allclose(device.sums, host.sums, atol=1e-9)
    np.testing.assert_array_equal(device.counts, host.counts)
    assert device.labels == host.labels
    labels = lloyd.nearest(values, mean, centroids)
    once = lloyd.farthest(values, mean, centroids, labels, 3)
    other = lloyd.farthest(*on_device, labels.view(Device), 3, xp=DEVICE_MODULE)
    for one, two in zip(once, other, strict=True):
        np.testing.assert_allclose(np.asarray(two), one, atol=1e-9)
