"""Machine files: what is refused, what goes to the class that starts workers, Dask's own ways to a scheduler."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from dask.distributed import Client, LocalCluster, default_client
from distributed import Status
from distributed.comm import CommClosedError

from engine.workers import launch
from engine.workers.cluster import ClusterWorkers
from jobs import files
from schemas.errors import InputError, WorkersError
from schemas.machine import Machine
from schemas.parse import parse
from schemas.task import Key
from tests.contracts import tasks

KEYS = [Key("stage", ("a",), start=i, stop=i + 1) for i in range(9)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": 3}, "worker: unknown key; did you mean 'workers'?"),
        ({"type": "slurm", "memroy": 3}, "memroy: unknown key; did you mean 'memory'?"),
        ({"queue": "gpu"}, "queue: unknown key; type serial has none but type, address"),
        ({"type": "local", "n_workers": 3}, "n_workers: write workers"),
        ({"type": "local", "threads_per_worker": 3}, "threads_per_worker: leave it out: a process does one task"),
        ({"type": "cuda", "memory_limit": "3 GB"}, "memory_limit: write memory"),
        (
            {"type": "address", "workers": 2},
            "workers goes with type local or cuda or slurm or ssh or kubernetes, found",
        ),
        ({"type": "local", "address": "tcp://a:1"}, "address goes with type address, found local; leave it out"),
        ({"type": "scheduler-file"}, "needs the key scheduler_file"),
        ({"type": "ssh"}, "needs the key hosts, a list of names"),
        ({"type": "ssh", "hosts": ["a", "b"], "adaptive": {"maximum": 3}}, "adaptive goes with .*, found ssh"),
        ({"type": "local", "workers": 2, "adaptive": {"maximum": 3}}, "two ways to say how many; leave out one"),
        ({"type": "local", "adaptive": {"minimum": 4, "maximum": 3}}, "maximum 3 is below minimum 4; exchange them"),
        ({"type": "local", "adaptive": {"minimum": 0, "maximum": 3}}, "adaptive.minimum: .*greater than or equal to 1"),
        ({"memory": float("inf")}, r"memory: .*less than or equal to 1048576 \(found inf\)"),
        ({"memory": 1e300}, r"memory: .*less than or equal to 1048576"),
        ({"type": "ssh", "hosts": "localhost"}, "hosts: expected a list of names, found str"),
        ({"type": "ssh", "hosts": ["a", 5]}, "hosts: expected a list of names, found int in it"),
        ({"type": "ssh", "hosts": ["a"], "worker_options": 5}, "worker_options: expected a mapping of .* found int"),
        ({"type": "slurm", "scheduler_options": [5]}, "scheduler_options: expected a mapping of .* found list"),
        ({"type": "slurm", "job_script_prologue": "module load"}, "job_script_prologue: expected a list, found str"),
        ({"type": "slurm", "processes": "two"}, "processes: expected how many there are in a job, found 'two'"),
        ({"type": "local", "env": 5}, "env: expected a mapping of names to values, found int"),
        ({"type": "local", "processes": False}, "processes: leave it out, for workers are processes"),
        ({"type": "local", "adaptive": {"maximum": 3, "wait": 3}}, "adaptive.wait: unknown key; known keys: max"),
    ],
)
def test_machine__bad_keys_are_explained(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Machine, values, "machine.yaml")


class Started(SimpleNamespace):
    """A cluster that remembers how it was made, and how many jobs were handed in."""

    def __init__(self, **given: Any) -> None:
        super().__init__(given=given, scaled=None, adapted=None, worker_spec={})

    def scale(self, count: int) -> None:
        self.scaled = count

    def new_worker_spec(self) -> dict[str, Any]:
        return {f"job {len(self.worker_spec)}": {}}

    def sync(self, _: Any, cluster: Any) -> None:
        self.scaled = len(cluster.worker_spec)

    def adapt(self, **given: int) -> None:
        self.adapted = given


LIMIT = int(2 * 2**30 / 0.8)
DASHBOARD = {"dashboard_address": "127.0.0.1:0"}
COMMAND = ["dask", "worker", "--nthreads", "1", "--memory-limit", str(LIMIT)]


@pytest.mark.parametrize(
    ("values", "given", "scaled"),
    [
        ({"type": "slurm", "workers": 3, "queue": "cpu"},
         {"cores": 1, "processes": 1, "memory": f"{LIMIT} B", "queue": "cpu",
          "scheduler_options": DASHBOARD}, 3),
        ({"type": "slurm", "workers": 8, "processes": 4},
         {"cores": 4, "processes": 4, "memory": f"{4 * LIMIT} B", "scheduler_options": DASHBOARD}, 2),
        ({"type": "slurm", "workers": 1, "security": True, "scheduler_options": {"port": 8786}},
         {"cores": 1, "processes": 1, "memory": f"{LIMIT} B", "security": True,
          "scheduler_options": DASHBOARD | {"port": 8786}}, 1),
        ({"type": "cuda"}, {"threads_per_worker": 1, "memory_limit": LIMIT, **DASHBOARD}, None),
        ({"type": "cuda", "workers": 2, "rmm_pool_size": "8GB"},
         {"n_workers": 2, "threads_per_worker": 1, "memory_limit": LIMIT, "rmm_pool_size": "8GB", **DASHBOARD},
         None),
        ({"type": "kubernetes", "image": "colign:1", "adaptive": {"maximum": 5}},
         {"n_workers": 1, "image": "colign:1", "worker_command": COMMAND}, None),
        ({"type": "ssh", "workers": 2, "hosts": ["a", "b"], "worker_options": {"local_directory": "/x"}},
         {"hosts": ["a", "b"],
          "worker_options": {"nthreads": 1, "n_workers": 2, "memory_limit": LIMIT, "local_directory": "/x",
                             "preload_nanny": ["engine.workers.tied"]},
          "scheduler_options": {"preload": ["engine.workers.tied"], **DASHBOARD}}, None),
        ({"type": "kubernetes", "workers": 3, "custom_cluster_spec": "cluster.yaml"},
         {"n_workers": 3, "custom_cluster_spec": "cluster.yaml", "worker_command": COMMAND}, 3),
    ],
)  # fmt: skip
def test_start__hands_further_keys_to_the_class(
    values: dict[str, Any], given: dict[str, Any], scaled: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_class", lambda *_: Started)
    monkeypatch.setattr(launch, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(launch, "SSHCluster", Started)
    cluster = launch.start(parse(Machine, {"memory": 2} | values, "machine.yaml"))
    assert (cluster.given, cluster.scaled) == (given, scaled)
    assert cluster.adapted == ({"minimum": 1, "maximum": 5} if "adaptive" in values else None)


TICK, PROFILE = "distributed.admin.tick.interval", "distributed.worker.profile.interval"


@pytest.mark.parametrize(("chosen", "expected"), [(None, "500ms"), ("70ms", "70ms")])
def test_launch__dask_looks_less_often_unless_its_configuration_says_how_often(
    chosen: str | None, expected: str
) -> None:
    code = f"import dask, engine.workers.launch as _; print(*map(dask.config.get, ['{TICK}', '{PROFILE}']))"
    given = {} if chosen is None else {"DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": chosen}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | given, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [expected, "100ms"]


def test_launch__processes_of_this_computer_look_as_often() -> None:
    with dask.config.set({TICK: "70ms"}), ClusterWorkers(Machine(type="local", workers=1, memory=1)) as workers:
        assert {*workers.each(dask.config.get, TICK).values()} == {"70ms"}


def test_start__without_certificates_no_job_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_class", lambda *_: Started)
    names = {f"distributed.comm.tls.{role}.{what}": "x" for role in ("scheduler", "client") for what in ("key", "cert")}
    settings = names | {"distributed.comm.require-encryption": True, "distributed.comm.tls.ca-file": "x"}
    with (
        dask.config.set(settings),
        pytest.raises(InputError, match=r"of the worker; set DASK_DISTRIBUTED__COMM__TLS__WORKER__(CERT|KEY)"),
    ):
        launch.start(Machine(type="slurm", workers=1))


def test_start__leaves_ctrl_c_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("dask_jobqueue")]:
        monkeypatch.delitem(sys.modules, module)
    before = signal.getsignal(signal.SIGINT)
    found = launch._class
    monkeypatch.setattr(launch, "_class", lambda *names: found(*names) and Started)
    monkeypatch.setattr(launch, "which", lambda name: f"/bin/{name}")
    launch.start(Machine(type="slurm"))
    assert "dask_jobqueue.runner" in sys.modules
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("kind", "extra"), [("kubernetes", "kubernetes"), ("cuda", "gpu"), ("slurm", "slurm")])
def test_start__what_is_not_installed_is_named(kind: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dask_kubernetes.operator", "dask_cuda", "dask_jobqueue"):
        monkeypatch.setitem(sys.modules, module, None)
    message = rf"^machine file: \S+ is not installed; install it with: pip install 'colign\[{extra}\]'$"
    with pytest.raises(InputError, match=message):
        launch.start(parse(Machine, {"type": kind}, "machine.yaml"))


def test_start__the_cause_is_named_and_no_value_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**given: Any) -> None:  # as dask-jobqueue does
        raise ValueError(f"very likely: job_kwargs={given}") from TypeError("unexpected keyword argument 'colour'")

    monkeypatch.setattr(launch, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(launch, "_class", lambda *_: refuse)
    further = {"type": "slurm", "colour": "red", "job_script_prologue": ["export KEY=secret"]}
    with pytest.raises(InputError, match=r"type slurm: unexpected keyword argument 'colour'; correct its keys$"):
        launch.start(parse(Machine, further, "machine.yaml"))
    monkeypatch.setattr(launch, "forkserver", SimpleNamespace(ensure_running=lambda: None))
    with pytest.raises(InputError, match="type local: the workers cannot be started: 'nope' is not a valid network"):
        launch.start(parse(Machine, {"type": "local", "interface": "nope"}, "machine.yaml"))


def test_start__a_key_that_the_class_does_not_take_is_named() -> None:
    machine = Machine(type="local", workers=1, colour="red")  # type: ignore[call-arg]
    with (
        pytest.raises(InputError, match=r"type local: the workers cannot be started: .*colour"),
        ClusterWorkers(machine),
    ):
        pass


REFUSING = """
echo "sbatch: error: invalid partition specified: nope" >&2
exit 1
"""
QUEUEING = """
cp "$1" {folder}/job
(sleep 3; exec sh {folder}/job) > {folder}/log 2>&1 &
echo Submitted batch job 7
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes commands sbatch, which does what a script says, and scancel."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(script: str) -> None:
        for name, text in (("sbatch", script.format(folder=tmp_path)), ("scancel", "")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
            (tmp_path / name).chmod(0o755)

    return make


@pytest.mark.parametrize("how", [{"workers": 3}, {"adaptive": {"minimum": 2, "maximum": 3}}])
def test_slurm__a_job_that_is_refused_ends_the_run_with_what_sbatch_says(
    how: dict[str, Any], sbatch: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    sbatch(REFUSING)
    with pytest.raises(InputError) as error:
        ClusterWorkers(parse(Machine, {"type": "slurm", "queue": "nope", **how}, "machine.yaml")).__enter__()
    assert "could not be submitted: sbatch: error: invalid partition specified: nope; correct" in str(error.value)
    del error
    gc.collect()  # which tells of errors that nobody has taken
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


def test_slurm__a_job_that_waits_in_the_queue_is_waited_for(
    sbatch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch(QUEUEING)
    monkeypatch.setattr("engine.workers.cluster._ANSWER", "2s")
    with ClusterWorkers(Machine(type="slurm", workers=1, memory=1)) as workers:
        assert len(dict(workers.map(tasks.process, KEYS, 0))) == len(KEYS)


def test_slurm__a_job_that_is_refused_later_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Job:
        status = Status.created

        async def start(self) -> None:
            raise RuntimeError("Command exited\nstdout:\n\nstderr:\nsbatch: error: no room\n")

    job = launch._later(Job)()
    asyncio.run(job.start())
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["sbatch: error: no room"]
    assert job.status == Status.running


def test_slurm__without_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "which", lambda _: None)
    with pytest.raises(InputError, match=r"this computer has no command sbatch, .* run Colign where it is"):
        launch.start(Machine(type="slurm"))


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Path]:
    """File of a scheduler with one worker that others run."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), "--port", "0",
               "--no-dashboard", "--host", "127.0.0.1"]  # fmt: skip
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1",
              "--no-dashboard", "--no-nanny", "--memory-limit", "0"]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **quiet)]
    while not file.exists():
        time.sleep(0.05)
    running.append(subprocess.Popen(worker, **quiet))
    yield file
    for process in reversed(running):
        process.kill()
        process.wait()


def test_connect__by_a_schedulers_file_and_by_dasks_own_setting(
    scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {key: key.start**2 for key in KEYS}
    with ClusterWorkers(Machine(type="scheduler-file", scheduler_file=str(scheduler))) as workers:
        assert dict(workers.map(tasks.square, KEYS)) == expected
        address = workers.address
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    dask.config.refresh()
    try:
        with ClusterWorkers(files.load_machine(None)) as workers:
            assert (workers.address, dict(workers.map(tasks.square, KEYS))) == (address, expected)
    finally:
        monkeypatch.undo()
        dask.config.refresh()
    with pytest.raises(InputError, match="or the environment variable DASK_SCHEDULER_ADDRESS; found neither"):
        launch.connect(Machine(type="address"), None, "1s")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; expected what a scheduler writes that is started with --scheduler-file: start it"),
        (b"", "found an empty file; expected what .* run again if it has only begun"),
        (b"{}", "found no address in it"),
        (b'["address"]', "found no address in it"),
        (b'{"address": 5}', "found no address in it"),
        (b'{"addr', "found no JSON in it"),
        (b"\xff\xfe", "found no JSON in it"),
        ("a folder", "Is a directory"),
    ],
)
def test_connect__a_file_that_no_scheduler_wrote(content: bytes | str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    with pytest.raises(InputError, match=rf"scheduler\.json: {message}"):
        launch.connect(Machine(type="scheduler-file", scheduler_file=str(file)), None, "1s")


@pytest.mark.slow
def test_adaptive__processes_come_with_the_work() -> None:
    machine = parse(Machine, {"type": "local", "memory": 1, "adaptive": {"maximum": 2}}, "machine.yaml")
    with ClusterWorkers(machine) as workers:
        assert workers.slots == 1
        keys = [Key("stage", (str(i),)) for i in range(16)]
        assert 2 in {workers.slots for _ in workers.map(tasks.wait, keys, 3)}


def test_enter__a_process_that_is_lost_while_it_is_made_ready_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; what answers to none of the retries is said to be lost, and nothing stays open."""
    asked: list[str] = []
    register = Client.register_plugin

    def losing(client: Client, plugin: Any, *args: Any, **options: Any) -> Any:
        asked.append(type(plugin).__name__)
        if asked.count(asked[-1]) <= losses:
            raise CommClosedError("Stream is closed")
        return register(client, plugin, *args, **options)

    monkeypatch.setattr(Client, "register_plugin", losing)
    monkeypatch.setattr("engine.workers.cluster.LOOK", 0.1)
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster:
        machine = Machine(type="address", address=cluster.scheduler_address, retries=1)
        losses = 1
        with ClusterWorkers(machine) as workers:
            assert dict(workers.map(tasks.square, KEYS)) == {key: key.start**2 for key in KEYS}
        assert asked[:4] == ["Prepared", "Prepared", "Admission", "Admission"]
        asked.clear()
        losses = 2
        with pytest.raises(WorkersError, match=r"was lost .*Stream is closed"), ClusterWorkers(machine):
            pass
    with pytest.raises(ValueError, match="No clients found"):
        default_client()


def test_map__workers_that_come_while_a_task_takes_long_are_given_others() -> None:
    told: list[float] = []
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster,
        ClusterWorkers(Machine(type="address", address=cluster.scheduler_address)) as workers,
        ThreadPoolExecutor(1) as pool,
    ):
        found = workers.map(tasks.span, KEYS[:2], 9.0, meanwhile=lambda: told.append(time.time()))
        both = pool.submit(lambda: [span for _, span in found])
        time.sleep(1)
        cluster.scale(2)
        one, other = sorted(both.result(), key=lambda span: span[1])
    assert one[0] != other[0]
    assert other[1] < one[2]
    assert len([when for when in told if when < one[2]]) >= 2


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "deploy").glob("*.yaml")), ids=lambda path: path.stem
)
def test_deploy__machine_files_are_valid(path: Path) -> None:
    assert files.load_machine(str(path)).memory_bytes > 0
