"""Clustering of stored vectors against scikit-learn from the same first centroids, in any shards and memory."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_blobs

from engine import backend, concepts, kmeans, store
from engine.concepts import Clustering, chosen_concepts, cluster
from engine.parts import Run, part
from engine.workers.serial import SerialWorkers
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.concepts import CONCEPTS
from schemas.errors import InputError
from schemas.task import Key
from tests.oracles import cuda
from tests.oracles import kmeans as oracle

Folder = Callable[[], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A new folder each time."""
    made = iter(range(10**6))

    def new() -> Path:
        path = tmp_path / str(next(made))
        path.mkdir()
        return path

    return new


def blobs(tokens: int, hidden: int, centres: int, layers: int = 1, seed: int = 0) -> np.ndarray:
    """Float16 vectors (layer, token, hidden), far from the origin, around overlapping centres of uneven size."""
    sizes = np.random.default_rng(seed).multinomial(
        tokens, np.linspace(1, 3, centres) / np.linspace(1, 3, centres).sum()
    )
    drawn = [
        make_blobs(sizes, hidden, cluster_std=2.5, center_box=(-4, 8), random_state=seed + i)[0] for i in range(layers)
    ]
    return np.stack(drawn).astype(np.float16)


def write(path: Path, vectors: np.ndarray, present: np.ndarray, shard: int) -> str:
    """Store an ACTIVATIONS dataset."""
    layers, tokens, hidden = vectors.shape
    store.setup(
        str(path),
        ACTIVATIONS,
        {"layer": layers, "token": tokens, "hidden": hidden},
        {
            "layer": np.arange(layers, dtype=np.int32),
            "token_id": np.arange(tokens),
            "word": np.array([f"w{i % 50}" for i in range(tokens)], object),
            "sentence": np.arange(tokens, dtype=np.int32) // 7,
            "position": np.arange(tokens, dtype=np.int32) % 7,
            "present": present,
        },
        chunks={"layer": 1, "token": max(shard // 4, 1)},
        shards={"layer": 1, "token": shard},
        dtypes={"activation": str(vectors.dtype)},
    )
    store.write_region(str(path), "activation", vectors)
    return str(path)


def run(
    folder: Path,
    vectors: np.ndarray,
    *,
    present: np.ndarray | None = None,
    shard: int = 256,
    memory: int = 2**30,
    threads: int = 1,
    split: int | None = None,
    start: np.ndarray | None = None,
    ks: tuple[int, ...] = (),
    products: str = "auto",
    **settings: Any,
) -> xr.Dataset:
    """Store vectors (in one activations dataset, or in two) and cluster all their layers."""
    layers, tokens, hidden = vectors.shape
    wanted = study.Concepts(**settings)
    kept = np.ones(tokens, bool) if present is None else present
    bounds = [0, *([split] if split else []), tokens]
    sources = [write(folder / f"activations{a}.zarr", vectors[:, a:b], kept[a:b], shard) for a, b in pairwise(bounds)]
    task = Clustering(
        str(folder / "concepts.zarr"),
        tuple(sources),
        ("de", "en")[: len(sources)],
        tuple(bounds[1:]),
        hidden,
        vectors.dtype.itemsize,
        tuple(range(layers)),
        ("base", "encoder", "de"),
        shard,
        ks or (wanted.k,),
    )
    concepts.setup(task, wanted)
    with SerialWorkers(threads=threads, memory=memory, products=products) as workers:
        yielded = dict(cluster(task, task.layers, wanted, workers, start=start))
    found = store.load(task.path, CONCEPTS).load()
    assert sorted(yielded) == list(task.layers)
    for layer, numbers in yielded.items():
        np.testing.assert_array_equal(found.inertia.sel(layer=layer), numbers["inertia"])
        np.testing.assert_array_equal(found.n_iter.sel(layer=layer), numbers["n_iter"])
    return found


@pytest.mark.parametrize(
    ("tokens", "hidden", "k", "seed"), [(1500, 24, 12, 0), (900, 8, 30, 1), (3000, 64, 6, 2), (257, 5, 2, 3)]
)
def test_cluster__equals_scikit_learn(folder: Folder, tokens: int, hidden: int, k: int, seed: int) -> None:
    vectors = blobs(tokens, hidden, 10, seed=seed)
    start = vectors[0, np.random.default_rng(seed).choice(tokens, k, replace=False)].astype(np.float32)
    found = run(folder(), vectors, k=k, start=start)
    expected = oracle.fit(vectors[0], start)
    assert expected.n_iter_ > 2
    np.testing.assert_array_equal(found.concept[0, 0], expected.labels_)
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-6)
    assert found.n_iter.item() == expected.n_iter_
    np.testing.assert_allclose(found.centroid[0, 0], expected.cluster_centers_, atol=1e-4)


@pytest.mark.parametrize(
    "limits", [{"max_iterations": 1}, {"max_iterations": 4}, {"tolerance": 0.0}, {"tolerance": 0.05}]
)
def test_cluster__stops_when_scikit_learn_does(folder: Folder, limits: dict[str, Any]) -> None:
    vectors = blobs(1200, 16, 9, seed=5)
    start = vectors[0, :14].astype(np.float32)
    found = run(folder(), vectors, k=14, start=start, **limits)
    expected = oracle.fit(vectors[0], start, **limits)
    assert found.n_iter.item() == expected.n_iter_
    np.testing.assert_array_equal(found.concept[0, 0], expected.labels_)
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-6)


@pytest.mark.parametrize("outliers", [1, 3])
def test_cluster__empty_concepts_take_the_farthest_rows_as_in_scikit_learn(folder: Folder, outliers: int) -> None:
    vectors = blobs(700, 12, 6, seed=7)
    start = vectors[0, :8].astype(np.float32)
    start[:outliers] = 500 + 100 * np.arange(outliers)[:, None]  # no row is nearest to these
    found = run(folder(), vectors, k=8, start=start)
    expected = oracle.fit(vectors[0], start)
    assert set(found.concept.values.ravel().tolist()) == set(range(8))
    ours, theirs = found.concept.values.ravel(), expected.labels_
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))  # several empty concepts are filled in another order
    assert len(pairs) == 8
    if outliers == 1:
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-6)
    assert found.n_iter.item() == expected.n_iter_


@pytest.mark.parametrize("how", [{"memory": 20_000}, {"threads": 3}, {"memory": 20_000, "threads": 2}])
def test_cluster__memory_and_threads_never_change_a_bit(folder: Folder, how: dict[str, int]) -> None:
    vectors = blobs(500, 16, 9, layers=2, seed=11)
    settings = {"k": 7, "shard": 128, "max_iterations": 12}
    xr.testing.assert_identical(run(folder(), vectors, **settings), run(folder(), vectors, **settings, **how))


def test_cluster__as_many_layers_together_as_fit_change_no_bit(folder: Folder) -> None:
    vectors = blobs(500, 8, 9, layers=3, seed=12)
    one_layer = vectors[0].nbytes + 500 * 20 + 6 * 10 * 8 * 8
    xr.testing.assert_identical(run(folder(), vectors, k=10), run(folder(), vectors, k=10, memory=2 * one_layer))


@pytest.mark.parametrize("shard", [32, 100, 512, 4096])
def test_cluster__shard_size_never_changes_a_bit(folder: Folder, shard: int) -> None:
    vectors = blobs(1100, 16, 9, layers=2, seed=13)
    once, other = run(folder(), vectors, k=10, shard=256), run(folder(), vectors, k=10, shard=shard)
    for name in ("concept", "centroid", "n_iter", "chosen"):
        np.testing.assert_array_equal(once[name], other[name])
    np.testing.assert_allclose(once.inertia, other.inertia, rtol=1e-12)  # a float64 sum of quotients, not exact


@given(shard=st.integers(1, 40), seed=st.integers(0, 1000))
def test_relocation__does_not_depend_on_shards(shard: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(20, 3)).astype(np.float16)
    centroids = np.full((9, 3), 50.0)
    centroids[:3] = rows[:3]
    model = kmeans.Model(kmeans.Fit(Run(0, 9, 0), centroids), np.zeros(3, np.float32))
    passes = {("0",): kmeans.Pass((model,), 0.0, "auto")}
    counts = {("0",): {0: 6}}

    def far(start: int, stop: int) -> Any:
        key = Key("concepts", ("0",), start, stop)
        return kmeans._farthest(
            key, part(key, lambda _: (rows[start:stop], np.arange(stop - start)), 0, True), passes, counts
        )

    parts = [far(start, min(start + shard, 20)) for start in range(0, 20, shard)]
    found = parts[0]
    for one in parts[1:]:
        found = kmeans._farther(found, one, counts)
    for one, other in zip(found[0], far(0, 20)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_cluster__absent_tokens_are_left_out(folder: Folder) -> None:
    vectors = blobs(800, 12, 8, layers=2, seed=17)
    present = np.random.default_rng(0).random(800) < 0.7
    present[128:192] = False  # a whole shard
    vectors[:, ~present] = np.nan
    found = run(folder(), vectors, present=present, k=9, shard=64, restarts=2)
    only = run(folder(), vectors[:, present], k=9, shard=64, restarts=2)
    assert (found.concept.values[:, :, ~present] == -1).all()
    np.testing.assert_array_equal(found.concept.values[:, :, present], only.concept)
    np.testing.assert_allclose(found.inertia, only.inertia, rtol=1e-12)


def test_cluster__a_present_vector_that_is_not_finite_is_refused(folder: Folder) -> None:
    vectors = blobs(300, 4, 3, seed=18)
    vectors[0, 170, 2] = np.inf
    present = np.ones(300, bool)
    present[[3, 131, 150]] = False
    with pytest.raises(InputError, match=r"layer 0, token 170 .*not finite"):
        run(folder(), vectors, present=present, k=3, shard=64)


def test_cluster__fewer_vectors_than_concepts_are_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"base/encoder/de/0: 5 vectors cannot form 6 concepts; lower concepts.k"):
        run(folder(), blobs(5, 4, 2), k=6)


def test_cluster__as_many_concepts_as_vectors(folder: Folder) -> None:
    found = run(folder(), blobs(6, 4, 2), k=6, shard=4)
    assert sorted(found.concept.values.ravel().tolist()) == list(range(6))
    assert found.inertia.item() == pytest.approx(0, abs=1e-6)


def test_cluster__the_chosen_restart_has_the_least_inertia(folder: Folder) -> None:
    found = run(folder(), blobs(600, 6, 9, layers=2, seed=19), k=12, restarts=4, seed=40)
    assert found.seed.values.tolist() == [40, 41, 42, 43]
    assert len(set(found.inertia[:, 0].values.tolist())) > 1
    assert found.chosen.values.sum(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal(found.chosen.values.argmax(axis=0), found.inertia.values.argmin(axis=0))
    labels = chosen_concepts(found, int(found.k[0]))
    for layer in range(2):
        best = int(found.inertia.values[:, layer].argmin())
        np.testing.assert_array_equal(labels[layer], found.concept[best, layer])


def test_cluster__labels_centroids_and_inertia_agree(folder: Folder) -> None:
    vectors = blobs(600, 6, 9, seed=20)
    found = run(folder(), vectors, k=7)
    rows = vectors[0].astype(np.float64)
    squared = ((rows[:, None] - found.centroid[0, 0].values.astype(np.float64)[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.concept[0, 0], squared.argmin(axis=1))
    np.testing.assert_allclose(found.inertia, squared.min(axis=1).sum(), rtol=1e-6)


def test_cluster__a_mixed_selection_is_the_languages_one_after_another(folder: Folder) -> None:
    vectors = blobs(500, 8, 6, seed=21)
    one, two = run(folder(), vectors, k=6, shard=64), run(folder(), vectors, k=6, shard=64, split=210)
    for name in ("concept", "centroid", "inertia"):
        np.testing.assert_array_equal(one[name], two[name])


def test_cluster__the_seed_decides(folder: Folder) -> None:
    vectors = blobs(500, 8, 6, seed=22)
    once, again, other = (run(folder(), vectors, k=20, seed=seed, seeding_tokens=50) for seed in (1, 1, 2))
    xr.testing.assert_identical(once, again)
    assert not np.array_equal(once.concept, other.concept)


def test_cluster__first_centroids_are_rows_of_the_sample(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(500, 8, 6, seed=23)
    samples = []
    draw = backend.seed_rows

    def seen(sample: np.ndarray, k: int, seed: int, threads: int) -> np.ndarray:
        samples.append(sample)
        return draw(sample, k, seed, threads=threads)

    monkeypatch.setattr(backend, "seed_rows", seen)
    run(folder(), vectors, k=5, seeding_tokens=70, shard=64)
    assert samples[0].shape == (70, 8)
    exact = vectors[0].astype(np.float64)
    gaps = np.abs(samples[0][:, None] - (exact - exact.mean(axis=0))).max(axis=2)
    assert gaps.min(axis=1).max() < 1e-12
    assert len({row.tobytes() for row in samples[0]}) == 70


@pytest.mark.parametrize(
    "counts",
    [
        (1, 2),
        (2, 2),
        (3, 4),
    ],
)
def test_cluster__fewer_distinct_vectors_than_concepts_end_at_once(folder: Folder, counts: tuple[int, int]) -> None:
    vectors = np.repeat(np.array([[1, 2], [5, 7]], np.float16), counts, axis=0)[None]
    found = run(folder(), vectors, k=3)
    assert found.inertia.item() == pytest.approx(0, abs=1e-6)
    assert found.n_iter.item() <= 3


@pytest.mark.skipif(cuda.COMPILER is None, reason="needs g++")
def test_cluster__on_a_device_gives_the_same(folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vectors = blobs(700, 12, 6, seed=24)
    start = vectors[0, :8].astype(np.float32)
    start[0] = 500  # relocation, too
    host = run(folder(), vectors, k=8, start=start)
    cuda.pretend(monkeypatch, tmp_path)
    device = run(folder(), vectors, k=8, start=start, threads=2)
    np.testing.assert_array_equal(device.concept, host.concept)
    np.testing.assert_array_equal(device.n_iter, host.n_iter)
    np.testing.assert_allclose(device.centroid, host.centroid, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(device.inertia, host.inertia, rtol=1e-9)


@pytest.mark.slow
def test_cluster__a_realistic_layer_equals_scikit_learn(folder: Folder) -> None:
    vectors = blobs(20000, 96, 150, seed=25)
    start = vectors[0, :200].astype(np.float32)
    found = run(folder(), vectors, k=200, shard=4096, threads=2, start=start)
    expected = oracle.fit(vectors[0], start)
    np.testing.assert_array_equal(found.concept[0, 0], expected.labels_)
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-6)
    assert found.n_iter.item() == expected.n_iter_
