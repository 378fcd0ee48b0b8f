"""The scikit-learn estimator: scikit-learn's own checks, its results, arrays of every kind, and bad input."""

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray as xr
import zarr
from sklearn.base import clone
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from engine import estimator
from engine.estimator import KMeans
from engine.workers.cluster import ClusterWorkers
from engine.workers.serial import SerialWorkers
from schemas.errors import BudgetError
from schemas.machine import Machine

ROWS, FEATURES, K = 900, 12, 9


@parametrize_with_checks([KMeans(n_jobs=1)])
def test_scikit_learns_own_checks(estimator: KMeans, check: Callable[[KMeans], None]) -> None:
    if check.func.__name__ == "check_array_api_input":  # type: ignore[attr-defined]
        pytest.skip("needs SCIPY_ARRAY_API")
    check(estimator)


def rows(dtype: str = "float32", count: int = ROWS, seed: int = 0) -> np.ndarray:
    """Overlapping blobs away from the origin."""
    drawn = make_blobs(count, FEATURES, centers=7, cluster_std=2.5, center_box=(-4, 8), random_state=seed)[0]
    return drawn.astype(dtype)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of about a hundred rows."""
    monkeypatch.setattr(estimator, "PART_BYTES", 100 * FEATURES * 4)
    monkeypatch.setattr(estimator, "BLOCK_ROWS", 1)


def stored(path: Path, values: np.ndarray, *, chunk: int = 64, shard: int | None = 128, dtype: Any = None) -> Any:
    """A compressed, sharded array of Zarr."""
    array = zarr.create_array(
        str(path),
        shape=values.shape,
        dtype=dtype or values.dtype,
        chunks=(chunk, values.shape[1]),
        shards=None if shard is None else (shard, values.shape[1]),
        compressors=[zarr.codecs.ZstdCodec(level=3)],
    )
    array[...] = values
    return array


def kinds(values: np.ndarray, folder: Path) -> dict[str, Any]:
    """The same vectors in arrays of every kind."""
    return {
        "zarr": stored(folder / "sharded.zarr", values),
        "zarr, chunks alone": stored(folder / "chunked.zarr", values, chunk=70, shard=None),
        "dask": dask.array.from_array(values, chunks=(130, 5)),
        "dask, uneven": dask.array.from_array(values, chunks=((0, 50, 1, len(values) - 51), (values.shape[1],))),
        "xarray of numpy": xr.DataArray(values, dims=("token", "hidden")),
        "xarray of dask": xr.DataArray(values, dims=("token", "hidden")).chunk(token=111),
    }


def assert_same(one: KMeans, other: KMeans) -> None:
    """Check that two fits have the same bits; inertia is a sum in the order of the parts."""
    np.testing.assert_array_equal(one.labels_, other.labels_)
    np.testing.assert_array_equal(one.cluster_centers_, other.cluster_centers_)
    assert one.cluster_centers_.dtype == other.cluster_centers_.dtype
    assert one.n_iter_ == other.n_iter_
    assert one.inertia_ == pytest.approx(other.inertia_, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("seed", [0, 1])
def test_fit__equals_scikit_learn(dtype: str, seed: int) -> None:
    values = rows(dtype, seed=seed)
    start = values[np.random.default_rng(seed).choice(ROWS, K, replace=False)]
    found = KMeans(K, init=start).fit(values)
    truth = Reference(K, init=start.astype(np.float64), n_init=1, algorithm="lloyd").fit(values.astype(np.float64))
    assert truth.n_iter_ > 2
    np.testing.assert_array_equal(found.labels_, truth.labels_)
    assert found.inertia_ == pytest.approx(truth.inertia_, rel=1e-6)
    assert found.n_iter_ == truth.n_iter_
    np.testing.assert_allclose(found.cluster_centers_, truth.cluster_centers_, atol=1e-5)
    assert found.cluster_centers_.dtype == ("float64" if dtype == "float64" else "float32")
    assert found.labels_.dtype == np.int32
    assert found.n_features_in_ == FEATURES


@pytest.mark.parametrize("limits", [{"max_iter": 1}, {"max_iter": 3}, {"tol": 0.0}, {"tol": 0.05}])
def test_fit__stops_when_scikit_learn_does(limits: dict[str, Any]) -> None:
    values = rows()
    found = KMeans(K, init=values[:K], **limits).fit(values)
    start = values[:K].astype(np.float64)
    with warnings.catch_warnings(action="ignore"):  # that it has not converged
        truth = Reference(K, init=start, n_init=1, algorithm="lloyd", **limits).fit(values.astype(np.float64))
    assert found.n_iter_ == truth.n_iter_
    np.testing.assert_array_equal(found.labels_, truth.labels_)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_fit__the_kind_of_array_changes_no_bit(dtype: str, init: str, tmp_path: Path) -> None:
    values = rows(dtype)
    model = KMeans(K, init=init, random_state=3)
    expected = clone(model).fit(values)
    assert expected.n_iter_ > 1
    for name, array in kinds(values, tmp_path).items():
        found = clone(model).fit(array)
        assert_same(found, expected)
        np.testing.assert_array_equal(found.predict(array), expected.labels_, err_msg=name)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("how", [{"memory": 40_000}, {"n_jobs": 3}, {"memory": 40_000, "n_jobs": 2}, {"n_jobs": -1}])
def test_fit__memory_and_threads_change_no_bit(how: dict[str, int], tmp_path: Path) -> None:
    values = rows()
    assert values.nbytes > 40_000
    model = KMeans(K, random_state=4, n_init=3)
    expected = clone(model).fit(values)
    for array in (values, *kinds(values, tmp_path).values()):
        assert_same(clone(model).set_params(**how).fit(array), expected)


def test_fit__streams_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = estimator._read
    monkeypatch.setattr(estimator, "_read", lambda key, X: reads.append(key) or read(key, X))  # type: ignore[func-returns-value]
    array = stored(tmp_path / "a.zarr", rows())
    KMeans(K, random_state=0).fit(array)
    held = len(reads)
    KMeans(K, random_state=0, memory=40_000).fit(array)
    assert held == 1
    assert len(reads) > 5


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fit__big_endian_vectors(dtype: str, tmp_path: Path) -> None:
    values = rows(dtype)
    expected = KMeans(K, random_state=0).fit(values)
    assert_same(KMeans(K, random_state=0).fit(stored(tmp_path / "a.zarr", values, dtype=f">{dtype}")), expected)
    assert_same(KMeans(K, random_state=0).fit(xr.DataArray(values.astype(f">{dtype}"))), expected)
    np.testing.assert_array_equal(expected.predict(values.astype(f">{dtype}")), expected.labels_)


def test_fit__products_change_no_bit() -> None:
    values = rows("float16")
    once, other = (KMeans(K, random_state=5, products=products).fit(values) for products in ("auto", "float32"))
    assert_same(once, other)
    assert once.inertia_ == other.inertia_


def test_fit__restarts_keep_the_best() -> None:
    values = rows()
    several = KMeans(30, n_init=6, random_state=1, seeding_rows=300).fit(values)
    assert several.inertia_ <= KMeans(30, random_state=1, seeding_rows=300).fit(values).inertia_
    squared = ((values.astype(float) - several.cluster_centers_.astype(float)[several.labels_]) ** 2).sum()
    assert several.inertia_ == pytest.approx(squared, rel=1e-9)
    few = KMeans(30, n_init=6, random_state=1, seeding_rows=300, memory=60_000).fit(values)  # not all runs together
    assert_same(few, several)


def test_fit__the_random_state_decides() -> None:
    values = rows()
    model = KMeans(40, seeding_rows=400, max_iter=3)
    once, again, other = (clone(model).set_params(random_state=seed).fit(values) for seed in (1, 1, 2))
    assert_same(once, again)
    assert not np.array_equal(once.cluster_centers_, other.cluster_centers_)
    assert_same(clone(model).set_params(random_state=np.random.RandomState(1)).fit(values), once)
    generator = np.random.RandomState(1)
    first, second = (clone(model, safe=False).set_params(random_state=generator).fit(values) for _ in range(2))
    assert_same(first, once)
    assert not np.array_equal(first.cluster_centers_, second.cluster_centers_)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_predict__is_the_nearest_centroid(dtype: str, tmp_path: Path) -> None:
    values, new = rows(dtype), rows(dtype, 400, seed=8)
    model = KMeans(K, random_state=0).fit(values)
    np.testing.assert_array_equal(model.predict(values), model.labels_)
    gaps = new.astype(np.float64)[:, None] - model.cluster_centers_.astype(np.float64)
    nearest = (gaps**2).sum(axis=2).argmin(axis=1)
    for array in (new, *kinds(new, tmp_path).values()):
        np.testing.assert_array_equal(model.predict(array), nearest)
    np.testing.assert_array_equal(model.predict(new[:1]), nearest[:1])
    np.testing.assert_array_equal(KMeans(K, random_state=0).fit_predict(values), model.labels_)


def test_predict__vectors_of_another_type() -> None:
    model = KMeans(K, random_state=0).fit(rows("float64"))
    new = rows("float32", 300, seed=9)
    np.testing.assert_array_equal(model.predict(new), model.predict(new.astype(np.float64)))
    with pytest.raises(NotFittedError):
        KMeans(K).predict(new)


def test_clone__shares_the_workers() -> None:
    with SerialWorkers(2, 2**30) as workers:
        model = KMeans(K, random_state=0, workers=workers)
        copy = clone(model)
        assert copy.workers is workers
        assert_same(copy.fit(rows()), KMeans(K, random_state=0).fit(rows()))
        assert_same(copy.fit(rows()), model.fit(rows()))  # still entered


def test_fit__on_a_cluster_equals_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("distributed.nanny"), "warning", lambda line, *_: said.append(line))
    values = rows()
    array = stored(tmp_path / "a.zarr", values)
    broken = values.copy()
    broken[345, 1] = np.nan
    expected = KMeans(K, random_state=0, n_init=2).fit(values)
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=0)) as workers:
        model = KMeans(K, random_state=0, n_init=2, workers=workers)
        assert_same(clone(model).fit(array), expected)
        np.testing.assert_array_equal(model.fit(array).predict(array), expected.labels_)
        with pytest.raises(ValueError, match="row 345 holds NaN or infinity"):
            clone(model).fit(stored(tmp_path / "b.zarr", broken))
    assert said == []  # processes that have used torch end by themselves


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_bad_input__numbers_that_are_not_finite(number: float, tmp_path: Path) -> None:
    values = rows()
    values[[345, 700], 3] = number
    for array in kinds(values, tmp_path).values():
        with pytest.raises(ValueError, match="row 345 holds NaN or infinity"):
            KMeans(K, n_jobs=1).fit(array)
        with pytest.raises(ValueError, match="row 345 holds NaN or infinity"):
            KMeans(K, n_jobs=1).fit(rows()).predict(array)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        KMeans(K).fit(values)


def test_bad_input__shape_and_type(tmp_path: Path) -> None:
    values = rows()
    fitted = KMeans(K).fit(values)
    lazy = kinds(values, tmp_path)["dask"]
    for array in (
        lazy[:, 0],
        lazy.astype("int32"),
        lazy.astype("complex64"),
        lazy.astype("longdouble"),
        lazy[None],
        xr.DataArray(3.0),
    ):
        with pytest.raises(ValueError, match=r"expected floating-point vectors \(row, feature\), found"):
            KMeans(K).fit(array)
    with pytest.raises(ValueError, match="whose number is known"):
        KMeans(K).fit(lazy[lazy[:, 0] > 0])
    with pytest.raises(ValueError, match="X has 5 features, but KMeans is expecting 12 features"):
        fitted.predict(lazy[:, :5])
    for empty in (lazy[:0], values[:0], stored(tmp_path / "empty.zarr", values)[:0]):
        with pytest.raises(ValueError, match=r"0 sample\(s\)"):
            fitted.predict(empty)
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        KMeans(K).fit(lazy[:, :0])
    for few in (lazy[:4], values[:4]):
        with pytest.raises(ValueError, match="n_samples=4 should be >= n_clusters=9"):
            KMeans(K).fit(few)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"init": "random"}, "init is 'random'; expected 'auto', 'k-means\\+\\+', 'k-means\\|\\|' or an array"),
        ({"init": np.zeros((3, FEATURES))}, r"init has the shape \(3, 12\); expected \(9, 12\), one row a cluster"),
        ({"init": np.zeros((K, 2))}, r"init has the shape \(9, 2\); expected \(9, 12\)"),
        ({"init": np.full((K, FEATURES), np.nan)}, "init holds NaN or infinity"),
        ({"n_clusters": 0}, "n_clusters is 0; expected a whole number from 1"),
        ({"n_clusters": 2.5}, "n_clusters is 2.5; expected a whole number"),
        ({"n_init": 0}, "n_init is 0; expected"),
        ({"n_init": "auto"}, "n_init is 'auto'; expected"),
        ({"max_iter": 0}, "max_iter is 0; expected"),
        ({"tol": -1.0}, "tol is -1.0; expected a number from 0"),
        ({"tol": np.nan}, "tol is nan; expected a number from 0"),
        ({"products": "float8"}, "products is 'float8'; expected 'auto' or 'float32'"),
        ({"seeding_rows": -3}, "seeding_rows is -3; expected"),
        ({"n_jobs": 0}, "n_jobs is 0; expected"),
        ({"random_state": "x"}, "cannot be used to seed"),
    ],
)
def test_bad_input__parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KMeans(**{"n_clusters": K, **parameters}).fit(rows())


def test_bad_input__memory_too_small(tmp_path: Path) -> None:
    for array in (rows(), stored(tmp_path / "a.zarr", rows())):
        with pytest.raises(BudgetError, match="the array: 900 vectors and 9 concepts need"):
            KMeans(K, memory=10_000).fit(array)


def test_import__takes_no_torch() -> None:
    code = (
        "import sys, numpy; from engine.estimator import KMeans; assert 'torch' not in sys.modules;"
        "model = KMeans(2); repr(model); assert 'torch' not in sys.modules;"
        "model.fit(numpy.eye(4)); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
