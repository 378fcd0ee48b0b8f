"""Layers clustered whole on one worker each give the bits of those spread over all, whichever are which."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine import concepts, side_by_side, store
from engine.checkpoints import Checkpoints
from engine.concepts import Clustering
from engine.side_by_side import Pending, cluster_all, spread
from engine.workers.cluster import ClusterWorkers
from engine.workers.serial import SerialWorkers
from schemas.concepts import CONCEPTS
from schemas.errors import InputError, TaskError
from schemas.machine import Machine
from schemas.study import Concepts
from schemas.task import Key
from tests.small_study import call
from tests.small_vectors import assert_same, clustered, settings, stored
from tests.test_concepts import blobs

KS = (3, 6)


class Apart(SerialWorkers):
    """As if tasks ran in other processes, so many at once; keeps what it was given."""

    apart = True

    def __init__(self, slots: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.slots = self.planned = slots
        self.mapped: list[Key] = []

    def map(
        self, function: Callable[..., Any], keys: Iterable[Key], *args: Any, **options: Any
    ) -> Iterator[tuple[Key, Any]]:
        handed = list(keys)
        if function is not concepts.write_words:
            self.mapped += handed
        return super().map(function, handed, *args, **options)


def selections(folder: Path, tokens: Sequence[int] = (300, 500), layers: int = 3) -> list[Clustering]:
    """Selections of several layers each, one smaller than the other."""
    found = []
    for number, count in enumerate(tokens):
        (folder / str(number)).mkdir()
        task = stored(folder / str(number), blobs(count, 8, 4, layers=layers, seed=number), KS)
        found.append(replace(task, part=("base", "encoder", str(number))))
    return found


def all_clustered(
    tasks: Sequence[Clustering], wanted: Concepts, workers: SerialWorkers | ClusterWorkers
) -> list[xr.Dataset]:
    """The CONCEPTS datasets of some selections, with the checks that every layer is told of once."""
    of = [Pending(task, task.layers, f"{task.path}.fit", "f") for task in tasks]
    lay_out = partial(concepts.setup, settings=wanted, fingerprint="f")
    told = [*cluster_all(of, wanted, workers, lay_out=lambda task: lay_out(task))]
    assert sorted(key for key, *_ in told) == sorted(key for one in of for key in one.keys)
    assert all(seconds > 0 and outcome["scatter"] > 0 for _, seconds, outcome in told)
    assert not [task.path for task in tasks if any(Path(f"{task.path}.fit").rglob("*.checkpoint"))]
    return [store.load(task.path, CONCEPTS).load() for task in tasks]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clustering], dict[int, list[xr.Dataset]]]:
    """Selections, and each clustered alone, by number of restarts."""
    tasks = selections(tmp_path_factory.mktemp("selections"))
    return tasks, {n: [clustered(task, settings(KS, restarts=n, tolerance=0)) for task in tasks] for n in (1, 2)}


@given(slots=st.integers(1, 9), memory=st.sampled_from([2**30, 40_000, 30_000]), restarts=st.integers(1, 2))
@examples(max_examples=6, deadline=None)
def test_cluster_all__any_workers_and_memory_give_the_bits_of_one_selection_alone(
    slots: int, memory: int, restarts: int, known: tuple[list[Clustering], dict[int, list[xr.Dataset]]]
) -> None:
    tasks, expected = known
    with tempfile.TemporaryDirectory() as folder, Apart(slots, memory=memory * slots) as workers:
        again = [replace(task, path=f"{folder}/{number}.zarr") for number, task in enumerate(tasks)]
        found = all_clustered(again, settings(KS, restarts=restarts, tolerance=0), workers)
    for one, other in zip(found, expected[restarts], strict=True):
        assert_same(one, other)


def test_cluster_all__on_two_processes(tmp_path: Path) -> None:
    tasks, wanted = selections(tmp_path), settings(KS, seeding="k-means||")
    with ClusterWorkers(Machine(type="local", workers=2, memory=1), models=False) as workers:
        found = all_clustered(tasks, wanted, workers)
    for one, task in zip(found, tasks, strict=True):
        assert_same(one, clustered(task, wanted))


def fail_once(flag: str) -> None:
    """Let this process, or another that is quicker, find the vectors out of reach once."""
    read = concepts.load_rows

    def load(key: Key, task: Clustering) -> Any:
        with suppress(FileExistsError):
            Path(flag).touch(exist_ok=False)
            raise OSError("the store does not answer")
        return read(key, task)

    concepts.load_rows = load


def test_cluster_all__a_passing_error_on_a_worker_is_tried_again(tmp_path: Path) -> None:
    [task], flag = selections(tmp_path, (300,)), tmp_path / "failed"
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1), models=False) as workers:
        workers.each(fail_once, str(flag))
        [found] = all_clustered([task], settings(KS), workers)
    assert flag.exists()
    assert_same(found, clustered(task, settings(KS)))


def test_cluster_all__large_selections_first_and_the_rest_spread(tmp_path: Path) -> None:
    tasks = selections(tmp_path, (300, 500, 400))
    with Apart(4) as workers:
        all_clustered(tasks, settings(KS), workers)
    # nine layers on four workers: one of the largest is spread, the others follow by size
    assert [str(key) for key in workers.mapped] == [
        f"concepts/base/encoder/{name}" for name in ("1/1", "1/2", "2/0", "2/1", "2/2", "0/0", "0/1", "0/2")
    ]


def test_cluster_all__what_does_not_fit_one_worker_is_spread(tmp_path: Path) -> None:
    small, large = tasks = selections(tmp_path, (100, 300))
    wanted = settings(KS)
    memory = concepts.together(replace(small, layers=(0,)), small.runs(wanted), 2**30).nbytes
    with Apart(2, memory=2 * memory) as workers:
        all_clustered(tasks, wanted, workers)
    assert {key.part[2] for key in workers.mapped} == {small.part[2]}
    assert large.part[2] == "1"


def test_cluster_all__one_process_tells_of_every_iteration(tmp_path: Path) -> None:
    said: list[str] = []
    [task] = selections(tmp_path, (300,))
    concepts.setup(task, settings(KS))
    with SerialWorkers() as workers:
        assert len([*cluster_all([Pending(task, task.layers)], settings(KS), workers, said.append)]) == 3
    assert all(words.startswith("base/encoder/0: ") for words in said)
    assert any("iteration" in words for words in said)


def test_cluster_all__ward_stays_here(tmp_path: Path) -> None:
    tasks, wanted = selections(tmp_path, (60, 90), layers=1), settings(KS, method="ward")
    with Apart(2) as workers:
        found = all_clustered(tasks, wanted, workers)
    assert not workers.mapped
    for one, task in zip(found, tasks, strict=True):
        assert_same(one, clustered(task, wanted))


@pytest.mark.parametrize("slots", [1, 7])
def test_cluster_all__words_come_with_the_first_layer(slots: int, tmp_path: Path) -> None:
    [task] = selections(tmp_path, (300,))
    wanted = settings(KS)
    concepts.setup(task, wanted)
    with Apart(slots) as workers:
        assert [*cluster_all([Pending(task, (1, 2))], wanted, workers)]
        assert (store.load(task.path, CONCEPTS).token_id.values < 0).all()
        assert [*cluster_all([Pending(task, (0,))], wanted, workers)]
    assert_same(store.load(task.path, CONCEPTS).load(), clustered(task, wanted))


def test_cluster_all__a_driver_lost_before_it_kept_a_layer_labels_it_again_without_iterating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task] = selections(tmp_path, (300,), layers=1)
    wanted = settings(KS)
    concepts.setup(task, wanted)
    one = Pending(task, (0,), str(tmp_path / "fit"))
    with Apart(1) as workers:
        steps = cluster_all([one], wanted, workers)
        next(steps)  # and is lost
        assert Checkpoints(str(tmp_path / "fit")).load((*task.part, "0"), 0) is not None
        monkeypatch.setattr(concepts.kmeans, "_iterate", lambda *_: pytest.fail("an iteration was done again"))
        assert [*cluster_all([one], wanted, workers)]
    assert not any((tmp_path / "fit").rglob("*.checkpoint"))
    monkeypatch.undo()
    assert_same(store.load(task.path, CONCEPTS).load(), clustered(task, wanted))


def failing_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Key]:
    """Let the first vectors that are read not be there; returns what was asked for."""
    asked: list[Key] = []
    read = concepts.load_rows

    def load(key: Key, task: Clustering) -> Any:
        asked.append(key)
        if len(asked) == 1:
            raise error
        return read(key, task)

    monkeypatch.setattr(concepts, "load_rows", load)
    return asked


def test_cluster_layer__gives_a_passing_error_as_it_is_for_dask_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task] = selections(tmp_path, (300,), layers=1)
    wanted = settings(KS)
    concepts.setup(task, wanted)
    one = Pending(task, (0,))
    given = wanted, 1, 2**30, "auto", None, one
    failing_once(monkeypatch, OSError("the store does not answer"))
    with pytest.raises(OSError, match="the store does not answer") as raised:
        side_by_side._cluster_layer(one.keys[0], *given)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)  # Dask would follow a circle without end
    seconds, outcome = side_by_side._cluster_layer(one.keys[0], *given)
    assert seconds > 0
    assert outcome["scatter"] > 0


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError("no answer"), TaskError, "^concepts/base/encoder/0/0: OSError: no answer; all others"),
        (InputError("damaged"), InputError, "^concepts/base/encoder/0/0/0-128: damaged$"),
    ],
)
def test_cluster_all__errors_name_the_layer_once(
    error: Exception, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task] = selections(tmp_path, (300,), layers=1)
    concepts.setup(task, settings(KS))
    failing_once(monkeypatch, error)
    with Apart(1) as workers, pytest.raises(kind, match=words):
        list(cluster_all([Pending(task, (0,))], settings(KS), workers))


@pytest.mark.parametrize("when", ["before it begins", "in an iteration", "after the last"])
def test_cluster_layer__ends_when_another_run_has_replaced_its_store(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task] = selections(tmp_path, (300,), layers=1)
    wanted = settings(KS, tolerance=0)
    concepts.setup(task, wanted, fingerprint="one")

    def replace_store() -> None:
        store.remove_other(task.path, "other")
        concepts.setup(task, wanted, fingerprint="other")

    def replacing(function: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*args: Any, **options: Any) -> Any:
            found = function(*args, **options)
            replace_store()
            return found

        return replaced

    if when == "before it begins":
        replace_store()
    else:
        name = {"in an iteration": "_told", "after the last": "fit"}[when]
        monkeypatch.setattr(concepts.kmeans, name, replacing(getattr(concepts.kmeans, name)))
    one = Pending(task, (0,), fingerprint="one")
    with pytest.raises(InputError, match="another run has replaced it"):
        side_by_side._cluster_layer(one.keys[0], wanted, 1, 2**30, "auto", None, one)
    assert (store.load(task.path, CONCEPTS).concept.values == -1).all()


@pytest.mark.parametrize("layers", [(0,), (1, 2)])
def test_cluster_all__an_input_that_was_cut_off_is_refused_by_every_layer(
    layers: tuple[int, ...], tmp_path: Path
) -> None:
    [task] = selections(tmp_path, (300,))
    concepts.setup(task, settings(KS))
    for file in Path(task.sources[0]).glob("*/c/1*"):
        if file.parent.parent.name in ("token_id", "present"):
            file.unlink()
    with Apart(1) as workers, pytest.raises(InputError, match="token 128 is not there yet"):
        list(cluster_all([Pending(task, layers)], settings(KS), workers))


def test_cluster_all__tells_its_errors_layer_once(tmp_path: Path) -> None:
    [task] = selections(tmp_path, (300,), layers=1)
    task = replace(task, ks=(400,))
    concepts.setup(task, settings((400,)))
    with Apart(1) as workers, pytest.raises(InputError, match=r"^concepts/base/encoder/0/0: 300 vectors cannot form"):
        list(cluster_all([Pending(task, (0,))], settings((400,)), workers))


def test_cluster_all__a_task_brings_its_own_selection_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = selections(tmp_path, (300, 500))
    seen = []
    monkeypatch.setattr(side_by_side, "_cluster_layer", lambda key, *args: seen.append((key, args)) or (0.1, {}))
    with Apart(2) as workers:
        assert len([*cluster_all([Pending(task, task.layers) for task in tasks], settings(KS), workers)]) == 6
    for key, (*_, one) in seen:
        assert one.task.part == key.part[:-1]


@pytest.mark.parametrize(
    ("machine", "apart", "together", "says"),
    [
        ("{type: serial}", 0, 3, "3 layers"),
        ("{type: local, workers: 2}", 2, 1, "2 side by side, 1 on all"),
        ("{type: local, adaptive: {minimum: 1, maximum: 2}}", 2, 1, "2 side by side, 1 on all"),
        ("{type: local, workers: 8}", 0, 3, "3 layers"),
    ],
)
def test_plan__says_which_layers_are_clustered_side_by_side(
    machine: str, apart: int, together: int, says: str, wide: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    [task], file = selections(tmp_path, (300,)), tmp_path / "machine.yaml"
    file.write_text(machine)
    command = ("cluster", *task.sources, "-o", tmp_path / "c.zarr", "--k", 5, "--plan", "--machine", file)
    assert call(monkeypatch, *command) == 0
    assert says in capsys.readouterr().out
    assert call(monkeypatch, *command, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)["clustering"]
    assert (row["layers_side_by_side"], row["layers_together"]) == (apart, together)


def test_spread__leaves_few_workers_idle() -> None:
    for workers in range(1, 40):
        for layers in range(1, 200):
            whole = layers - spread([7] * layers, workers)
            assert 0 <= whole <= layers
            assert whole >= 0.75 * -(-whole // workers) * workers  # of the rounds that they take
        assert spread([7] * workers, workers) == 0
        assert spread([], workers) == 0


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=60).map(lambda sizes: sorted(sizes, reverse=True)),
    st.integers(1, 20),
)
def test_spread__no_layer_takes_much_longer_than_all_would(sizes: list[int], workers: int) -> None:
    whole = sizes[spread(sizes, workers) :]
    ends = [0] * workers
    for size in whole:
        ends[ends.index(min(ends))] += size
    assert max(ends) <= sum(whole) / workers + 4 / 3 * sum(sizes) / workers
