"""The contract of workers: every implementation means what the serial one means."""

import math
import operator
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic

import dask
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from engine.workers import remote
from engine.workers.adding import Tree
from engine.workers.cluster import ClusterWorkers
from engine.workers.folding import Fold, result_of
from engine.workers.placing import most_together, shared_out
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import InputError, TaskError, WorkersError
from schemas.machine import Machine
from schemas.task import Attempt, Key
from tests import hosts
from tests.contracts import tasks

KEYS = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(9)]
PARTS = [Key("stage", (part,), start=i, stop=i + 1) for part in ("b", "a") for i in range(5)]


@pytest.fixture(scope="module", params=["serial", "serial threads", "local", "address"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    if request.param.startswith("serial"):
        with SerialWorkers(threads=3 if "threads" in request.param else 1) as made:
            yield made
        return
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1)) as local:
        if request.param == "local":
            yield local
            return
        with ClusterWorkers(Machine(type="address", address=local.address, memory=1, retries=1)) as made:
            yield made


def test_map__calls_every_key_once(workers: Workers) -> None:
    assert dict(workers.map(tasks.square, KEYS, 1)) == {key: key.start**2 + 1 for key in KEYS}


def test_map__no_keys(workers: Workers) -> None:
    assert list(workers.map(tasks.square, [])) == []


def test_map__more_keys_than_are_in_flight_at_once(workers: Workers) -> None:
    keys = [Key("many", start=i) for i in range(60)]
    assert sorted(workers.map(tasks.square, keys)) == [(key, key.start**2) for key in keys]


def test_map__user_errors_keep_kind_and_message_and_gain_the_key(workers: Workers) -> None:
    with pytest.raises(InputError, match=r"stage/a/2-3: line 7: expected a word"):
        list(workers.map(tasks.bad_input, KEYS))


def test_map__other_errors_name_key_and_cause(workers: Workers) -> None:
    with pytest.raises(TaskError, match=r"stage/a/2-3: ZeroDivisionError: two"):
        list(workers.map(tasks.broken, KEYS))


def take(found: Iterator[tuple[Key, object]], into: list[Key]) -> None:
    into.extend(key for key, _ in found)


def test_map__does_all_but_a_poisoned_task(workers: Workers) -> None:
    done: list[Key] = []
    with pytest.raises(TaskError, match=r"stage/a/2-3: ZeroDivisionError: two; all others of its stage are done"):
        take(workers.map(tasks.broken, KEYS), done)
    assert sorted(done) == [key for key in KEYS if key.start != 2]


def test_map__stops_at_a_second_failure(workers: Workers) -> None:
    many = [Key("many", start=i) for i in range(200)]
    done: list[Key] = []
    with pytest.raises(TaskError, match=r"many: ValueError: at [01]$"):
        take(workers.map(tasks.broken_below_two, many), done)
    assert len(done) < 20


def test_fold__combines_each_part_in_key_order(workers: Workers) -> None:
    held = workers.hold(tasks.load, PARTS, nbytes=1)
    folded = workers.fold(tasks.name, held, operator.add)
    assert folded == {(p,): [str(key) for key in PARTS if key.part == (p,)] for p in ("b", "a")}


@pytest.mark.parametrize("nbytes", [1, 10**15], ids=["held", "streamed"])
def test_fold__bits_equal_a_plain_loop(workers: Workers, nbytes: int) -> None:
    held = workers.hold(tasks.load, KEYS, nbytes)
    assert (held.values is None) == (nbytes > 1)
    expected = np.float32(0)
    for key in KEYS:
        expected = expected + tasks.load(key) * np.float32(0.1)
    folded = workers.fold(tasks.scaled, held, operator.add, 0.1)
    np.testing.assert_array_equal(folded["a",], expected, strict=True)


@pytest.mark.parametrize("nbytes", [1, 10**15], ids=["held", "streamed"])
def test_fold__many_parts_are_combined_in_groups(workers: Workers, nbytes: int) -> None:
    """Of 300 keys groups of four: their bits are those of a loop over groups, for every kind of workers."""
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(300)]
    folded = workers.fold(tasks.scaled, workers.hold(tasks.load, keys, nbytes), operator.add, 0.1)
    sums = []
    for at in range(0, 300, 4):
        sums.append(tasks.load(keys[at]) * np.float32(0.1))
        for key in keys[at + 1 : at + 4]:
            sums[-1] = sums[-1] + tasks.load(key) * np.float32(0.1)
    expected = sums[0]
    for one in sums[1:]:
        expected = expected + one
    np.testing.assert_array_equal(folded["a",], expected, strict=True)


@pytest.mark.parametrize("nbytes", [1, 10**15], ids=["held", "streamed"])
def test_fold__exact_results_are_each_counted_once(workers: Workers, nbytes: int) -> None:
    keys = [
        Key("stage", (part,), start=i, stop=i + 1) for part in "abc" for i in range({"a": 1, "b": 23, "c": 300}[part])
    ]
    folded = workers.fold(tasks.counted, workers.hold(tasks.load, keys, nbytes), operator.add, exact=True)
    assert folded == {(part,): Counter(str(key) for key in keys if key.part == (part,)) for part in "abc"}


def test_fold__exact_results_of_errors_name_the_key(workers: Workers) -> None:
    held = workers.hold(tasks.load, KEYS, nbytes=1)
    with pytest.raises(InputError, match=r"^stage/a/2-3: line 7"):
        workers.fold(tasks.bad_step, held, operator.add, exact=True)
    with pytest.raises(TaskError, match=r"^stage/a/2-3: ZeroDivisionError: two"):
        workers.fold(tasks.broken_step, held, operator.add, exact=True)
    assert workers.fold(tasks.name, held.of([]), operator.add, exact=True) == {}


def test_fold__errors_in_the_middle_of_a_group_name_their_key(workers: Workers) -> None:
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(300)]
    with pytest.raises(InputError, match=r"stage/a/2-3: line 7"):
        workers.fold(tasks.name, workers.hold(tasks.bad_input, keys, nbytes=1), operator.add)


def test_fold__some_of_the_keys(workers: Workers) -> None:
    held = workers.hold(tasks.load, PARTS, nbytes=1).of(PARTS[:2])
    assert workers.fold(tasks.name, held, operator.add) == {("b",): [str(key) for key in PARTS[:2]]}


@pytest.mark.parametrize(("nbytes", "loads"), [(1, 1), (10**15, 3)], ids=["held", "streamed"])
def test_hold__loads_once_when_the_parts_fit(workers: Workers, tmp_path: Path, nbytes: int, loads: int) -> None:
    held = workers.hold(partial(tasks.load_counted, folder=str(tmp_path)), KEYS, nbytes)
    for _ in range(3):
        workers.fold(tasks.name, held, operator.add)
    assert len(os.listdir(tmp_path)) == loads * len(KEYS)


def test_hold__errors_of_loading_name_the_key(workers: Workers) -> None:
    with pytest.raises(InputError, match=r"stage/a/2-3: line 7"):
        workers.fold(tasks.name, workers.hold(tasks.bad_input, KEYS, nbytes=1), operator.add)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("nbytes", [1, 10**15], ids=["held", "streamed"])
def test_hold__other_errors_of_loading_name_key_and_cause(workers: Workers, nbytes: int, exact: bool) -> None:
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(300)]
    with pytest.raises(TaskError, match=r"^stage/a/2-3: ZeroDivisionError: two"):
        workers.fold(tasks.name, workers.hold(tasks.broken, keys, nbytes), operator.add, exact=exact)


@pytest.fixture
def cluster() -> Iterator[ClusterWorkers]:
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=1)) as made:
        yield made


def test_map__cluster_tasks_overlap(cluster: ClusterWorkers, tmp_path: Path) -> None:
    assert dict(cluster.map(tasks.meet, KEYS[:2], str(tmp_path))) == dict.fromkeys(KEYS[:2], True)


def test_map__killed_worker_is_replaced_and_only_its_tasks_run_again(cluster: ClusterWorkers, tmp_path: Path) -> None:
    assert dict(cluster.map(tasks.die_once, KEYS, str(tmp_path))) == {key: key.start for key in KEYS}
    runs = [name.split("-")[0] for name in os.listdir(tmp_path)]
    assert runs.count("1") == 2
    assert len(runs) <= len(KEYS) + 2 * 4  # nothing but what was in flight on the killed worker


@pytest.mark.parametrize("count", [1, 2])
def test_fold__killed_worker_loses_few_exact_results(count: int, tmp_path: Path) -> None:
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in (*range(20, 36), 1, *range(40, 56))]
    with ClusterWorkers(Machine(type="local", workers=count, memory=1, retries=1)) as workers:
        held = workers.hold(tasks.load, keys, nbytes=1)
        found = workers.fold(tasks.die_once_in_a_step, held, operator.add, str(tmp_path), exact=True)
    assert found == {("a",): Counter(map(str, keys))}
    runs = [name.split("-")[0] for name in os.listdir(tmp_path)]
    assert runs.count("1") == 2
    assert len(runs) <= len(keys) + 2 * most_together(len(keys), count)  # the step at work, and one not taken yet


@pytest.mark.parametrize("exact", [False, True])
def test_fold__worker_killed_by_what_all_need_is_replaced(cluster: ClusterWorkers, exact: bool, tmp_path: Path) -> None:
    cluster._client.wait_for_workers(2)
    held = cluster.hold(tasks.load, KEYS, nbytes=1)
    found = cluster.fold(tasks.place, held, operator.add, tasks.Fatal(str(tmp_path), os.getpid()), exact=exact)
    assert {place.split()[0] for counts in found.values() for place in counts} == {str(key) for key in KEYS}
    assert len({path.name.split("-")[0] for path in tmp_path.iterdir()}) >= 2  # of which one was lost


def test_fold__what_many_steps_give_is_added_up_on_workers(cluster: ClusterWorkers, tmp_path: Path) -> None:
    keys = [Key("stage", (part,), start=i, stop=i + 1) for part in "ab" for i in range(40)]
    streamed = cluster.hold(tasks.load, keys, nbytes=10**15)
    add = tasks.Mortal(str(tmp_path), os.getpid(), kills=0)

    folded = cluster.fold(tasks.counted, streamed, add, exact=True)
    assert folded == {(part,): Counter(str(key) for key in keys if key.part == (part,)) for part in "ab"}
    on_workers = len(list(tmp_path.iterdir()))
    assert 78 - 8 <= on_workers <= 78  # of 80 results of two parts, what the driver adds are a few sums
    few = cluster.hold(tasks.load, keys[:8], nbytes=10**15)
    assert cluster.fold(tasks.counted, few, add, exact=True) == {("a",): Counter(map(str, keys[:8]))}
    assert len(list(tmp_path.iterdir())) == on_workers


@pytest.mark.parametrize(("count", "kills"), [(1, 1), (2, 1), (2, 2)])
def test_fold__sums_that_are_lost_with_their_worker_are_made_again(count: int, kills: int, tmp_path: Path) -> None:
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(20)]
    add = tasks.Mortal(str(tmp_path), os.getpid(), kills)
    with ClusterWorkers(Machine(type="local", workers=count, memory=1, retries=3)) as workers:
        folded = workers.fold(tasks.counted, workers.hold(tasks.load, keys, nbytes=10**15), add, exact=True)
    assert folded == {("a",): Counter(map(str, keys))}
    assert len(list(tmp_path.iterdir())) > kills


def test_fold__sums_that_are_lost_while_no_other_worker_takes_tasks_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask never does again what was given to a worker that is gone if none took tasks when it went."""
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(20)]
    add = tasks.Mortal(str(tmp_path), os.getpid(), kills=1)
    with ClusterWorkers(Machine(type="local", workers=2, memory=1, retries=3)) as workers:
        workers._client.wait_for_workers(2)
        paused, killed = workers._client.nthreads()
        monkeypatch.setattr(
            Fold, "places", lambda fold: {g: killed if n else paused for n, g in enumerate(fold.groups)}
        )
        streamed = workers.hold(tasks.load, keys, nbytes=10**15)
        assert workers.fold(tasks.pause, streamed, add, 2.5, exact=True) == {("a",): Counter(map(str, keys))}


def test_result_of__one_that_is_lost_on_its_way_is_waited_for_while_it_can_come() -> None:
    looks: list[float] = []

    def check() -> None:
        looks.append(monotonic())
        if len(looks) == 2:
            raise WorkersError("no worker can come")

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as started, Client(started) as client:
        there = client.submit(remote.added, operator.add, ({}, Attempt("a", 0.0, "here", 1)), pure=False)
        assert result_of(KEYS[0], there, check)[0] == {}
        started.scale(0)
        hosts.wait(lambda: not client.nthreads())
        with pytest.raises(WorkersError, match="no worker can come"):
            result_of(KEYS[0], there, check)


@given(st.lists(st.integers(-9, 9), max_size=300))
def test_tree__adds_each_once_and_holds_few(numbers: list[int]) -> None:
    tree = Tree(sum)
    for number in numbers:
        tree.put(number)
    assert sum(tree.left) == sum(numbers)
    assert len(tree.left) <= 3 * (1 + math.log(max(len(numbers), 1), 4))


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 8))
def test_shared_out__moves_only_what_is_beyond_a_share(lying: list[int], workers: int) -> None:
    """Parts that each lie on one worker; those numbered from `workers` on are gone."""
    there = [f"w{number}" for number in range(workers)]
    groups = {(Key("stage", ("a",), start=i, stop=i + 1),): [f"w{number}"] for i, number in enumerate(lying)}
    share = -(-len(lying) // workers)
    found = shared_out(groups, there)
    assert found.keys() == groups.keys()
    assert max(Counter(place for place in found.values() if place in there).values(), default=0) <= share
    moved = sum(found[group] != place for group, (place,) in groups.items())
    assert moved == sum(max(0, count - share) for count in Counter(lying).values())


def test_fold__step_for_a_worker_that_went_while_none_took_tasks_is_given_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of tasks that it could give to no worker Dask never looks again at those whose worker is gone."""
    gone = "tcp://127.0.0.1:9"
    with ClusterWorkers(Machine(type="local", workers=1, memory=1, retries=1)) as workers:
        held = workers.hold(tasks.load, KEYS, nbytes=1)
        workers.fold(tasks.name, held, operator.add)
        monkeypatch.setattr(Fold, "places", lambda fold: dict.fromkeys(fold.groups, gone))
        monkeypatch.setattr(workers, "_seen", (monotonic() + 2, [gone]))  # as if it had been seen until now
        submit, given = workers._submit, list[str]()
        monkeypatch.setattr(
            workers, "_submit", lambda *args, at="", **more: (given.append(at), submit(*args, at=at, **more))[1]
        )
        assert workers.fold(tasks.pause, held, operator.add, 1.5) == {("a",): Counter(map(str, KEYS))}
    assert given.count(gone) >= 5  # the four that are under way, and the one after the first
    assert "" in given


@pytest.mark.parametrize("exact", [False, True])
def test_fold__held_parts_stay_on_their_worker(exact: bool) -> None:
    """A copy would take memory, and lack what the part has learnt; only what is beyond a worker's share may go."""
    keys = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(24)]
    machine = Machine(type="local", workers=2, memory=1, retries=1)
    with dask.config.set({"distributed.scheduler.work-stealing": False}), ClusterWorkers(machine) as cluster:
        cluster._client.wait_for_workers(2)
        held = cluster.hold(tasks.load, keys, nbytes=1)
        cluster.fold(tasks.name, held, operator.add)
        places: Counter[str] = Counter()
        for _ in range(4):
            places += cluster.fold(tasks.place, held, operator.add, "shared", exact=exact)["a",]
    of_each = Counter(place.split()[0] for place in places)
    assert of_each == Counter(map(str, keys))


def test_fold__what_lies_on_a_worker_goes_in_few_steps_over_all_parts() -> None:
    """A pass of K-means over small selections is decided by the number of tasks, not by the work."""
    keys = [Key("stage", (part,), start=i, stop=i + 1) for part in "abcdef" for i in range(20)]
    machine = Machine(type="local", workers=2, memory=1, retries=1)
    given: list[object] = []
    with dask.config.set({"distributed.scheduler.work-stealing": False}), ClusterWorkers(machine) as cluster:
        cluster._client.wait_for_workers(2)
        held = cluster.hold(tasks.load, keys, nbytes=1)
        cluster.fold(tasks.name, held, operator.add)
        submit = cluster._submit
        cluster._submit = lambda function, *args, **more: (given.append(function), submit(function, *args, **more))[1]  # type: ignore[method-assign]
        folded = cluster.fold(tasks.counted, held, operator.add, exact=True)
    assert folded == {(part,): Counter(str(key) for key in keys if key.part == (part,)) for part in "abcdef"}
    assert len(given) <= 8  # of 120 groups
