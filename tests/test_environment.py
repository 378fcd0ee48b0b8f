"""What is compared before work starts, in one table of what differs."""

import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask
import pytest
from dask.utils import parse_bytes
from distributed import LocalCluster

from engine import environment, lease
from engine.workers import launch, remote
from engine.workers.cluster import ClusterWorkers
from engine.workers.serial import SerialWorkers
from jobs import files
from jobs.environment import check_workers
from jobs.layout import Layout
from schemas.errors import InputError
from schemas.machine import Machine
from schemas.study import Study
from schemas.task import Key
from tests.contracts import tasks
from tests.small_study import SmallStudy

ROOT = Path(__file__).parents[1]


class Others(SerialWorkers):
    """Workers that bring what a test says."""

    def __init__(self, *changes: dict[str, str] | Exception) -> None:
        super().__init__()
        self.changes = changes

    def each(self, function: Any, *args: Any) -> dict[str, Any]:
        return {
            f"tcp://{number}": change if isinstance(change, Exception) else function(*args) | change
            for number, change in enumerate(self.changes)
        }


@pytest.fixture
def studied(tmp_path: Path, bert: str) -> tuple[Study, Layout]:
    return files.load_study(str(SmallStudy(tmp_path, bert).file))


def test_check__workers_of_this_computer_are_alike(studied: tuple[Study, Layout]) -> None:
    with lease.held(studied[1].lease), ClusterWorkers(Machine(type="local", workers=2, memory=1)) as workers:
        assert len({found["colign"] for found in workers.each(environment.describe, "", "", []).values()}) == 1
        assert os.getpid() not in workers.each(os.getpid).values()
        assert {*workers.each(prepared).values()} == {(True, "1")}  # modules of models, and one thread of BLAS
        check_workers(workers, *studied)
        assert [path.name for path in Path(studied[1].root).iterdir()] == ["lease.json"]


def prepared() -> tuple[bool, str | None]:
    return "transformers.modeling_utils" in sys.modules, os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("machine", "said", "expected"),
    [
        ({"type": "local"}, None, "forkserver"),
        ({"type": "local"}, "spawn", "spawn"),
        ({"type": "local", "env": {"HF_HUB_OFFLINE": "1"}}, None, "spawn"),  # which is read as libraries are imported
        ({"type": "cuda"}, None, "spawn"),
    ],
    ids=["local", "as Dask's configuration says", "an environment", "GPUs"],
)
def test_local_workers__how_they_start(
    machine: dict[str, Any], said: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "distributed.worker.multiprocessing-method"
    started = []
    monkeypatch.setattr(launch.forkserver, "ensure_running", lambda: started.append(dict(os.environ)))
    if said is not None:
        monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", said)
    before = dict(os.environ)
    with dask.config.set({method: "spawn"}):
        launch.choose_method(Machine(**machine), ("engine.concepts",))
        assert dask.config.get(method) == expected
    assert dict(os.environ) == before
    assert len(started) == (expected == "forkserver")
    for env in started:
        assert env["PYTHONPATH"].split(os.pathsep) == [os.path.abspath(folder) for folder in sys.path]
        assert env["PYTHONSAFEPATH"] == env["OMP_NUM_THREADS"] == "1"


def test_check__everything_that_differs_is_in_one_table(studied: tuple[Study, Layout]) -> None:
    study, layout = studied
    text = study.corpus.files["de"]
    gpu = {"GPUs": "NVIDIA H100"}  # which the process that hands out tasks need not have
    with lease.held(layout.lease):
        check_workers(Others(gpu, gpu), *studied)
        with pytest.raises(InputError) as found:
            check_workers(Others(gpu, gpu | {"numpy": "1.0", text: "is missing"}, {"numpy": "1.0"}), *studied)
    lines = str(found.value).splitlines()
    here = environment._version("numpy")
    assert lines[1:-1] == [
        f"  numpy: {here} here, 1.0 on 2 of 3 workers (tcp://1, tcp://2)",
        "  GPUs: NVIDIA H100 on the first worker, none on 1 of 3 workers (tcp://2)",
        f"  {text}: is there here, is missing on 1 of 3 workers (tcp://1)",
    ]
    assert "install the same packages on all of them, and mount" in lines[-1]


def test_check__a_worker_without_colign_is_named(studied: tuple[Study, Layout]) -> None:
    missing = ModuleNotFoundError("No module named 'engine'")
    with pytest.raises(InputError, match=r"1 of 2 workers cannot run Colign \(tcp://1: ModuleNotFoundError: No module"):
        check_workers(Others({}, missing), *studied)


def test_describe__a_directory_of_the_same_name_elsewhere_is_told_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "lease.json")
    with lease.held(path):
        assert environment.describe(str(tmp_path), path, [])[str(tmp_path)].startswith("is there, of lease ")
    assert environment.describe(str(tmp_path), path, [])[str(tmp_path)] == "another place, or not mounted"
    closed = environment._access("/proc/nowhere", "/proc/self/status")
    assert closed.startswith("cannot be written (")


WITH_OTHER_NUMPY = """
from engine import environment
environment._version = lambda name, version=environment._version: "1.0" if name == "numpy" else version(name)
"""


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Lets a further worker process join a scheduler, once it has run some code."""
    running = []

    def start(address: str, code: str = "", threads: int = 1, memory: str = "0") -> None:
        before = tmp_path / f"before{len(running)}.py"
        before.write_text(code)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", str(threads),
                   "--no-dashboard", "--no-nanny", "--preload", str(before), "--memory-limit", memory]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, **quiet))

    yield start
    for process in running:
        process.kill()
        process.wait()


def processes(workers: ClusterWorkers) -> Iterator[set[int]]:
    """Numbers of the processes that have done tasks, as tasks end."""
    done = set()
    for _, process in workers.map(tasks.process, (Key("stage", (str(i),)) for i in range(3000)), 0.02):
        done.add(process)
        yield done


def test_check__a_worker_that_comes_later_is_compared_before_its_first_task(
    studied: tuple[Study, Layout], join: Callable[..., None]
) -> None:
    with lease.held(studied[1].lease), ClusterWorkers(Machine(type="local", workers=1, memory=1)) as workers:
        check_workers(workers, *studied)
        join(workers.address)
        done = next(done for done in processes(workers) if len(done) == 2)
        join(workers.address, WITH_OTHER_NUMPY)
        here, again = environment._version("numpy"), []
        message = rf"stage/\d+: worker \S* has come later and cannot .* began:\n  numpy: 1\.0 here, {here} there\ninst"
        with pytest.raises(InputError, match=message):
            again.extend(processes(workers))
        assert again[-1] <= done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "threads", "message"),
    [
        ("", 2, "later and cannot be used: worker .* runs 2 tasks at once, .* --nthreads 1"),
        (
            "import engine.environment as e\ne.describe = None",
            1,
            "later and cannot be used: TypeError: 'NoneType' object",
        ),
    ],
)
def test_check__a_worker_that_comes_later_and_cannot_work(
    studied: tuple[Study, Layout], join: Callable[..., None], code: str, threads: int, message: str
) -> None:
    done: list[set[int]] = []
    with lease.held(studied[1].lease), ClusterWorkers(Machine(type="local", workers=1, memory=1)) as workers:
        check_workers(workers, *studied)
        join(workers.address, code, threads)
        with pytest.raises(InputError, match=message):
            done.extend(processes(workers))
    assert len(done[-1]) == 1


@pytest.mark.parametrize(
    ("limit", "needs", "message"),
    [
        (
            "520MiB",
            4.0,
            "may use 0.51 GiB, and the plan counts on 4.00 GiB .* memory: 0.51 .* --memory-limit 4.00G",
        ),
        ("4GB", 4.0, "may use 3.73 GiB, and the plan counts on 4.00 GiB"),
        ("4GB", 3.73, None),  # as Dask shows it
        ("4GiB", 4.0, None),
        (0, 4.0, None),
    ],
)
def test_check_worker__memory(limit: str | int, needs: float, message: str | None) -> None:
    memory = Machine(memory=needs).memory_bytes
    with pytest.raises(InputError, match=message) if message else nullcontext():
        remote.check_worker("tcp://one", 1, parse_bytes(limit), memory)


def test_workers__of_others_with_too_little_memory_are_refused_before_work_starts(join: Callable[..., None]) -> None:
    """Also those that come later."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        join(address, memory="1GiB")
        with (
            pytest.raises(InputError, match=r"may use 1\.00 GiB, and the plan counts on 2\.00 GiB"),
            ClusterWorkers(Machine(type="address", address=address, memory=2)),
        ):
            pass
        with ClusterWorkers(Machine(type="address", address=address, memory=1)) as workers:
            assert next(processes(workers))
            join(address, memory="520MiB")
            with pytest.raises(InputError, match=r"come later .* may use 0\.51 GiB, and the plan counts on 1\.00 GiB"):
                list(processes(workers))


def test_workers__a_check_holds_for_its_run_alone_and_ends_with_it() -> None:
    """A scheduler may serve several runs; one that has ended, or looks at other files, must not stop the others."""
    key = Key("stage")
    with ClusterWorkers(Machine(type="local", workers=1, memory=1)) as workers:
        machine = Machine(type="address", address=workers.address, memory=1)
        with ClusterWorkers(machine) as one, ClusterWorkers(machine) as other:
            one.require(tasks.refuse)
            held = one.hold(tasks.load, [key], nbytes=1)
            with pytest.raises(InputError, match="come later and cannot be used: refused"):
                dict(one.map(tasks.process, [key], 0))
            with pytest.raises(InputError, match="come later and cannot be used: refused"):
                one.fold(tasks.name, held, operator.add)
            assert len(dict(other.map(tasks.process, [key], 0))) == 1
            other.require(tasks.refuse)
            one.require()
            assert len(dict(one.map(tasks.process, [key], 0))) == 1
            assert {*workers.each(admissions).values()} == {3}
        assert {*workers.each(admissions).values()} == {1}
        assert len(dict(workers.map(tasks.process, [key], 0))) == 1


def admissions(dask_worker: Any) -> int:
    """Checks that this process would make again."""
    return sum("admission" in name for name in dask_worker.plugins)


def test_workers__end_though_their_scheduler_was_lost() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster:
        workers = ClusterWorkers(Machine(type="address", address=cluster.scheduler_address)).__enter__()
        cluster.close()
        began = time.monotonic()
        workers.__exit__(None, None, None)
    assert time.monotonic() - began < 10
