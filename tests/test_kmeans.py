"""K-means over parts: the same bits together or alone, from any memory, precision and workers, stopped and resumed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine import concepts, kmeans, store
from engine.checkpoints import Checkpoints
from engine.parts import Run, fitting, room
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import BudgetError, InputError
from tests.oracles import kmeans as oracle
from tests.small_vectors import (
    LAYER,
    Forgetful,
    Repeating,
    StoppedError,
    assert_same,
    bits,
    clustered,
    held_parts,
    runs_of,
    settings,
    stored,
)
from tests.test_concepts import blobs

KS, SEEDS = (5, 12), (40, 41)
DTYPES = ("float16", "float32")


def fits(
    rows: np.ndarray,
    runs: list[Run],
    workers: Workers | None = None,
    *,
    shard: int = 128,
    products: str = "auto",
    keep: bool = True,
    values: dict[str, Any] | None = None,
    **options: Any,
) -> list[tuple[Any, ...]]:
    """All that each run of one layer ends with; `workers` are entered here."""
    wanted = settings([run.k for run in runs], seed=SEEDS[0], **(values or {}))
    with workers or SerialWorkers(products=products) as able:
        held, known = held_parts(rows, able, shard, keep=keep)
        return [bits(one) for one in kmeans.fit(held, known, runs, wanted, able, **options)[LAYER]]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return blobs(700, 10, 9, seed=1)[0]


@pytest.fixture(scope="module")
def alone(rows: np.ndarray) -> list[tuple[Any, ...]]:
    """What every run ends with when it is the only one."""
    return [fits(rows, [run])[0] for run in runs_of(KS, SEEDS)]


@pytest.mark.parametrize("seeding", ["k-means++", "k-means||"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fit__runs_together_equal_each_alone(dtype: str, seeding: str) -> None:
    rows = (blobs(600, 10, 9, seed=2)[0] * np.float16(0.37)).astype(dtype) / np.dtype(dtype).type(3)
    runs, values = runs_of(KS, SEEDS), {"seeding": seeding, "seeding_tokens": 100}
    together = fits(rows, runs, values=values)
    assert together == [fits(rows, [run], values=values)[0] for run in runs]
    assert len({n_iter for n_iter, *_ in together}) > 1  # runs drop out one after another
    assert together == fits(rows, runs, values=values, products="float32")
    assert together == fits(rows, runs, values=values, shard=90)
    assert together == fits(rows, runs, values=values, keep=False)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("keep", [True, False])
def test_fit__lost_memory_changes_no_bit(rows: np.ndarray, alone: list[tuple[Any, ...]], seed: int, keep: bool) -> None:
    found = fits(rows, runs_of(KS, SEEDS), Forgetful(seed, threads=2), keep=keep)
    assert found == alone


def test_fit__calls_made_twice_change_no_bit(rows: np.ndarray, alone: list[tuple[Any, ...]]) -> None:
    assert fits(rows, runs_of(KS, SEEDS), Repeating()) == alone
    values = {"seeding": "k-means||"}
    assert fits(rows, runs_of(KS, SEEDS), Repeating(), values=values) == fits(rows, runs_of(KS, SEEDS), values=values)


@pytest.mark.parametrize("where", ["convert", "norms", "multiply", "distances"])
def test_fit__a_call_that_fails_halfway_and_is_retried_changes_no_bit(
    rows: np.ndarray, alone: list[tuple[Any, ...]], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may run out in the middle of a pass; Dask then calls again, with the same part."""
    products = kmeans.backend.kernels().products("auto")
    whole, calls = getattr(products, where), [0]

    def failing(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 5, 11, 29, 60):
            raise MemoryError
        return whole(*args)

    monkeypatch.setattr(products, where, failing)
    monkeypatch.setattr("engine.kernels.lloyd.BLOCK_ROWS", 50)

    class Retrying(SerialWorkers):
        def fold(self, function: Any, held: Any, combine: Any, *args: Any, **options: Any) -> Any:
            def patient(*task: Any) -> Any:
                while True:
                    try:
                        return function(*task)
                    except MemoryError:
                        continue

            return super().fold(patient, held, combine, *args, **options)

    start = np.asarray(rows[:5], np.float64)
    values = {"max_iterations": 4}
    found = fits(rows, [Run(0, 5, 40)], Retrying(), start=start, values=values)
    monkeypatch.undo()
    assert calls[0] >= 5
    assert found == fits(rows, [Run(0, 5, 40)], start=start, values=values)


@pytest.mark.parametrize("relocated", [False, True])
def test_fit__equals_scikit_learn(relocated: bool) -> None:
    """Several runs at once, of which some begin with an empty concept."""
    rows = blobs(500, 6, 8, seed=3)[0]
    runs = [Run(0, 7, 0)]
    start = rows[:7].astype(np.float64)
    if relocated:
        start[3] = 900
    with SerialWorkers() as workers:
        held, known = held_parts(rows, workers, 128)
        (one,) = kmeans.fit(held, known, runs, settings([7]), workers, start=start)[LAYER]
    expected = oracle.fit(rows, start)
    assert one.n_iter == expected.n_iter_
    np.testing.assert_allclose(one.centroids, expected.cluster_centers_, atol=1e-6)


@pytest.mark.parametrize("memory", [Forgetful(1), None])
def test_fit__relocation_in_several_runs_equals_scikit_learn(
    memory: Workers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.stack([*blobs(300, 5, 4, seed=4, layers=2)])
    rng = np.random.default_rng(0)
    starts = {number: rows[0, rng.choice(300, k, replace=False)].astype(np.float64) for number, k in enumerate((4, 9))}
    for number, far in ((0, 500.0), (1, 700.0)):
        starts[number][number + 1] = far
    runs = [Run(number, len(start), 0) for number, start in starts.items()]

    def seed(held: Any, known: Any, of: Any, *_: Any) -> Any:
        return {layer: [(run, starts[run.number]) for run in runs_] for layer, runs_ in of.items()}

    monkeypatch.setattr(kmeans.seeding, "seed", seed)
    with memory or SerialWorkers() as workers:
        held, known = held_parts(rows[0], workers, 64)
        found = kmeans.fit(held, known, runs, settings([9]), workers)[LAYER]
    for one in found:
        expected = oracle.fit(rows[0], starts[one.run.number])
        assert one.n_iter == expected.n_iter_
        np.testing.assert_allclose(one.centroids, expected.cluster_centers_, atol=1e-6)


# Through stores


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return blobs(500, 8, 9, layers=2, seed=5)


@pytest.fixture
def whole(tmp_path: Path, vectors: np.ndarray) -> tuple[concepts.Clustering, Any, xr.Dataset]:
    """A clustering, its settings, and what it gives undisturbed."""
    task, wanted = stored(tmp_path, vectors, KS), settings(KS, restarts=2)
    return task, wanted, clustered(task, wanted)


def test_cluster__small_memory_runs_in_groups_with_the_same_bits(whole: Any) -> None:
    task, wanted, expected = whole
    runs, seen = task.runs(wanted), set()
    for memory in (16_000, 20_000, 30_000, 45_000, 60_000, 90_000, 2**22):
        plan = concepts.together(task, runs, memory)
        seen.add((plan.keep, min(len(plan.runs), 4), plan.layers))
        assert [run for group in plan.runs for run in group] == runs
        assert_same(clustered(task, wanted, memory=memory), expected)
    assert {keep for keep, *_ in seen} == {True, False}
    assert {groups for _, groups, _ in seen} >= {1, 2, 4}
    assert {layers for *_, layers in seen} == {1, 2}


@pytest.mark.parametrize("dtype", DTYPES)
def test_cluster__products_threads_and_memory_change_no_bit(dtype: str, tmp_path: Path, vectors: np.ndarray) -> None:
    task, wanted = stored(tmp_path, vectors.astype(dtype) / np.dtype(dtype).type(3), KS), settings(KS)
    expected = clustered(task, wanted)
    assert_same(clustered(task, wanted, products="float32", threads=3), expected)
    assert_same(clustered(task, wanted, products="float32", memory=45_000), expected)
    with Forgetful(7) as forgetful:
        assert_same(clustered(task, wanted, forgetful), expected)
    with Repeating() as repeating:
        assert_same(clustered(task, wanted, repeating), expected)


def test_cluster__what_a_group_of_runs_remembered_is_let_go(whole: Any) -> None:
    """The budget counts the runs of one group."""
    task, wanted, expected = whole
    most = 0

    class Watching(SerialWorkers):
        def fold(self, function: Any, held: Any, combine: Any, *args: Any, **options: Any) -> Any:
            nonlocal most
            found = super().fold(function, held, combine, *args, **options)
            most = max([most, *(len(value.states) for value in held.values.values())])
            return found

    memory = 20_000
    largest = max(len(group) for group in concepts.together(task, task.runs(wanted), memory).runs)
    with Watching(memory=memory) as workers:
        assert_same(clustered(task, wanted, workers), expected)
    assert 0 < most <= largest < 6


@pytest.mark.parametrize(
    ("free", "here", "expected"),
    [
        ({}, None, 1000),  # in this process, without a device
        ({}, 600, 300),
        ({"a": None, "b": None}, None, 1000),
        ({"a": 800, "b": 600}, None, 600),  # parts lie anywhere: twice what fits the smaller
        ({"a": 9000, "b": 9000}, None, 1000),
        ({"a": 800, "b": OSError("lost")}, None, 800),
    ],
)
def test_room__at_most_half_of_what_devices_have_free(
    free: dict[str, Any], here: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Some(SerialWorkers):
        def each(self, function: Any, *args: Any) -> dict[str, Any]:
            return free

    monkeypatch.setattr(kmeans.backend, "free_memory", lambda: here)
    assert room(Some(memory=1000)) == expected


def test_fitting__memory_for_nothing_is_refused_with_numbers() -> None:
    runs = [Run(0, 5, 0), Run(1, 600, 0)]
    needed = 10**6 * 20 + 6 * 600 * 768 * 8
    assert not fitting(10**6, 768, 2, runs, 3, needed, "store").keep
    said = (
        f"store: 1000000 vectors and 600 concepts need {needed / 2**20:.1f} MiB .* and {(needed - 1) / 2**20:.1f} MiB"
    )
    with pytest.raises(BudgetError, match=said):
        fitting(10**6, 768, 2, runs, 3, needed - 1, "store")


def test_cluster__memory_for_nothing_is_refused(whole: Any) -> None:
    task, wanted, _ = whole
    with pytest.raises(BudgetError, match=r"concepts.*: 500 vectors and 12 concepts need 0.0139 MiB"):
        clustered(task, wanted, memory=1000)


@pytest.mark.parametrize("shard", [64, 500])
def test_cluster__the_reference_preset_leaves_out_the_last_present_token(
    shard: int, tmp_path: Path, vectors: np.ndarray
) -> None:
    present = np.random.default_rng(1).random(500) < 0.8
    present[440:] = False
    last = int(np.flatnonzero(present)[-1])
    task = stored(tmp_path, vectors, (6,), present=present, shard=shard)
    assert concepts.last_present(task) == last
    found = clustered(task, settings((6,), preset="reference", restarts=2))
    kept = present.copy()
    kept[last] = False
    np.testing.assert_array_equal(found.concept.values >= 0, np.broadcast_to(kept, found.concept.shape))
    np.testing.assert_array_equal(np.isnan(found.distance.values), np.broadcast_to(~kept, found.concept.shape))
    other = tmp_path / "other"
    other.mkdir()
    fewer = clustered(
        replace(stored(other, vectors, (6,), present=kept, shard=shard)),
        settings((6,), restarts=2, seeding_tokens=10**6),
    )
    # the same rows are clustered, from other random numbers
    np.testing.assert_allclose(found.scatter, fewer.scatter, rtol=1e-12)


def test_last_present__of_nothing_is_none(tmp_path: Path, vectors: np.ndarray) -> None:
    assert concepts.last_present(stored(tmp_path, vectors, (6,), present=np.zeros(500, bool))) is None


def test_cluster__a_store_that_is_being_written_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    task = stored(tmp_path, vectors, (6,))
    store.write_region(task.sources[0], "token_id", np.full(128, -1), token=256)
    with pytest.raises(InputError, match=r"activations.zarr: token 256 is not there yet: the store is being written"):
        clustered(task, settings((6,)))


# A driver that is lost


def stopping(at: int) -> Any:
    """A progress callback that stops the driver at its call number `at`."""
    calls = iter(range(10**6))

    def progress(_: str) -> None:
        if next(calls) == at:
            raise StoppedError

    return progress


@pytest.mark.parametrize("memory", [2**30, 15_000])
def test_cluster__stopped_at_any_iteration_resumes_with_the_same_bits(
    memory: int, vectors: np.ndarray, tmp_path: Path
) -> None:
    task, wanted = stored(tmp_path, vectors[:1], KS, shard=256), settings(KS, max_iterations=5)
    expected = clustered(task, wanted)
    folder = tmp_path / "fit"
    calls: list[str] = []
    assert_same(clustered(task, wanted, memory=memory, checkpoints=str(folder), progress=calls.append), expected)
    assert not folder.exists()
    for at in range(len(calls)):
        with pytest.raises(StoppedError):
            clustered(task, wanted, memory=memory, checkpoints=str(folder), progress=stopping(at))
        left: list[str] = []
        assert_same(clustered(task, wanted, memory=memory, checkpoints=str(folder), progress=left.append), expected)
        # the iteration is not done again; a layer that was written is (its record says that it need not be)
        if memory == 2**30:
            assert len(left) == len(calls) - at - 1
        assert not folder.exists()


def test_cluster__stopped_in_every_iteration_ends_with_the_same_bits(vectors: np.ndarray, tmp_path: Path) -> None:
    task, wanted = stored(tmp_path, vectors[:1], KS, shard=256), settings(KS)
    expected = clustered(task, wanted)
    stops = 0
    while True:
        try:
            found = clustered(task, wanted, checkpoints=str(tmp_path / "fit"), progress=stopping(0))
        except StoppedError:
            stops += 1
        else:
            break
    assert stops == expected.n_iter.max()
    assert_same(found, expected)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [_cut, _flip, lambda path: path.write_bytes(b""), Path.unlink])
def test_fit__a_damaged_last_checkpoint_falls_back_to_the_one_before(
    spoil: Any, rows: np.ndarray, alone: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    runs, kept = runs_of(KS, SEEDS), Checkpoints(str(tmp_path))
    with pytest.raises(StoppedError):
        fits(rows, runs, checkpoints=kept, progress=stopping(4))
    assert [kept.load(LAYER, run.number).n_iter for run in runs] == [5] * len(runs)
    for run in (runs[0], runs[3]):
        spoil(tmp_path / LAYER[-1] / f"{run.number}-5.checkpoint")
    assert [kept.load(LAYER, run.number).n_iter for run in runs] == [5 - (n in (0, 3)) for n in range(len(runs))]
    assert fits(rows, runs, checkpoints=kept) == alone


def test_fit__checkpoints_of_every_run_lost_begin_anew(
    rows: np.ndarray, alone: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    runs, kept = runs_of(KS, SEEDS), Checkpoints(str(tmp_path))
    with pytest.raises(StoppedError):
        fits(rows, runs, checkpoints=kept, progress=stopping(3))
    for path in [*(tmp_path / LAYER[-1]).iterdir()][::2]:
        _cut(path)
    assert fits(rows, runs, checkpoints=kept) == alone


def test_fit__checkpoints_are_of_one_run_of_one_layer(tmp_path: Path, rows: np.ndarray) -> None:
    kept = Checkpoints(str(tmp_path / "one"))
    with pytest.raises(StoppedError):
        fits(rows, [Run(1, 5, 40)], checkpoints=kept, progress=stopping(2))
    assert kept.load(LAYER, 1) is not None
    assert [kept.load(LAYER, 0), kept.load(LAYER, 11), kept.load(("1",), 1)] == [None] * 3
    assert Checkpoints(str(tmp_path / "another")).load(LAYER, 1) is None


def test_fit__fewer_vectors_than_concepts_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("0: 4 vectors cannot form 6 concepts")):
        fits(np.ones((4, 2), np.float16), [Run(0, 3, 0), Run(1, 6, 0)], checkpoints=Checkpoints(str(tmp_path)))
    assert not any(tmp_path.iterdir())
