"""Faults: whatever is killed, full, lost or damaged, the next run gives the bits of an undisturbed one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import ledger
from engine.workers.cluster import ClusterWorkers
from jobs import files
from jobs.run import run
from schemas.errors import TaskError
from schemas.machine import Machine
from schemas.task import Key
from tests import crash
from tests.hosts import workers_of
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

FEW, MANY = pytest.param(3, id="few"), pytest.param(20, id="many", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("small-model"), positions=64)


def small(folder: Path, model: str) -> SmallStudy:
    """A study of four languages' worth of small shards, all layers, few concepts."""
    study = SmallStudy(folder, model)
    study.set("selection", {"min_count": 1, "max_count": 12})
    study.set("activations", {"shard_tokens": 32, "chunk_tokens": 8})
    study.set("concepts", {"k": 3, "max_iterations": 3})
    return study


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: str) -> SmallStudy:
    study = small(tmp_path_factory.mktemp("undisturbed"), model)
    assert crash.run("run", study.file, count=study.folder / "count") == 0
    return study


@pytest.fixture
def broken(tmp_path: Path, undisturbed: SmallStudy) -> Path:
    """Directory of a finished study that a test may damage."""
    return shutil.copytree(undisturbed.directory, tmp_path / "broken")


@pytest.mark.parametrize("kills", [FEW, MANY])
def test_run__driver_killed_at_random_moments(kills: int, undisturbed: SmallStudy, tmp_path: Path) -> None:
    """Each kill falls where a random number of tasks is done; the moments are spread over the run."""
    chance = random.Random(kills)
    total = len(crash.records(undisturbed.directory))
    killed = 0
    for part in range(kills):
        moment = int((part + chance.random()) * total / kills)
        before = crash.records(tmp_path)
        child = crash.start("run", undisturbed.file, "--out", tmp_path)
        crash.wait_for(lambda: len(crash.records(tmp_path)) >= moment, child)  # noqa: B023
        time.sleep(chance.random() * 0.05)
        killed += crash.kill(child)
        assert before.items() <= crash.records(tmp_path).items(), "a task that was done is done again"
    assert killed >= kills - 1
    before = crash.records(tmp_path)
    assert crash.run("run", undisturbed.file, "--out", tmp_path) == 0
    assert before.items() <= crash.records(tmp_path).items()
    crash.assert_equal(tmp_path, undisturbed.directory)


@pytest.mark.parametrize("kills", [pytest.param(2, id="few"), MANY])
def test_run__killed_before_a_change_of_the_disk(kills: int, undisturbed: SmallStudy, tmp_path: Path) -> None:
    chance = random.Random(kills)
    changes = int((undisturbed.folder / "count").read_text())
    out = tmp_path / "out"
    for part in range(kills):
        moment = int((part + chance.random()) * changes / kills)
        assert crash.run("run", undisturbed.file, "--out", out, die_at=moment) == -signal.SIGKILL
        before = crash.records(out)
        assert crash.run("run", undisturbed.file, "--out", out) == 0
        assert before.items() <= crash.records(out).items()
        crash.assert_equal(out, undisturbed.directory)
        shutil.rmtree(out)


@pytest.mark.parametrize("kills", [pytest.param(1, id="one"), MANY])
def test_run__workers_killed_at_random_moments(kills: int, undisturbed: SmallStudy, tmp_path: Path) -> None:
    """Workers die, the run does not: Dask starts others, and what they did not commit is done again."""
    chance = random.Random(kills)
    out = tmp_path / "out"
    machine = tmp_path / "machine.yaml"
    machine.write_text("{type: local, workers: 2, memory: 2}")
    total = len(crash.records(undisturbed.directory))
    said, killed = tmp_path / "said", 0
    while killed < kills:  # a run on fast workers may end before the last kill
        shutil.rmtree(out, ignore_errors=True)
        child = crash.start("run", undisturbed.file, "--out", out, "-m", machine, err=said)
        driver = psutil.Process(child.pid)
        moments = sorted(chance.randrange(1, total) for _ in range(kills))
        while child.is_alive():
            done = len(crash.records(out))
            if moments and done >= moments[0] and (workers := workers_of(driver)):
                del moments[0]
                time.sleep(chance.random() * 0.05)
                worker = chance.choice(workers)
                if worker.is_running():
                    worker.kill()
                    killed += 1
            time.sleep(0.005)
        child.join()
        assert child.exitcode == 0, said.read_text()[-3000:]
        crash.assert_equal(out, undisturbed.directory, metadata=False)


def test_run__a_poisoned_task_ends_the_run_after_its_retries(undisturbed: SmallStudy, tmp_path: Path) -> None:
    """It fails each time; the other tasks of its stage are done and kept, and once it is mended the study goes on."""
    out, calls = tmp_path / "out", tmp_path / "calls"
    calls.mkdir()
    study, layout = files.load_study(str(undisturbed.file), str(out))
    with ClusterWorkers(Machine(type="local", workers=2, memory=2, retries=2)) as workers:
        workers.each(poison, "dictionary/de/en", str(calls))
        with pytest.raises(TaskError, match=r"dictionary/de/en: ZeroDivisionError: poisoned; all others of its stage"):
            run(study, layout, workers, 2**31)
    before = crash.records(out)
    assert before.keys() == {"corpus", "links/de/en", "links/fr/en", "dictionary/fr/en"}
    assert len(list(calls.glob("dictionary_de_en*"))) == 1 + 2
    attempts = ledger.load(layout.ledger, layout.journal)
    assert attempts is not None
    failed = attempts.isel(attempt=attempts.state.values == "failed")
    assert {*failed.key.values} == {"dictionary/de/en"}
    assert {*failed.note.values} == {"ZeroDivisionError: poisoned"}
    assert failed.number.values.tolist() == [1, 2, 3]
    assert crash.run("run", undisturbed.file, "--out", out) == 0
    assert before.items() <= crash.records(out).items()
    crash.assert_equal(out, undisturbed.directory, metadata=False)


def poison(task: str, folder: str) -> None:
    """Make a task of this process fail each time, and count the calls of its stage."""
    import jobs.tasks  # noqa: PLC0415  (in the worker)

    stage = task.split("/")[0]
    healthy = jobs.tasks.FUNCTIONS[stage]

    def poisoned(key: Key, context: Any) -> Any:
        (Path(folder) / f"{key}-{time.time_ns()}".replace("/", "_")).touch()
        if str(key) == task:
            raise ZeroDivisionError("poisoned")
        return healthy(key, context)

    jobs.tasks.FUNCTIONS[stage] = poisoned


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("times", [pytest.param(3, id="few"), MANY])
def test_run__a_full_disk(times: int, disk: Path, undisturbed: SmallStudy, tmp_path: Path) -> None:
    """The disk fills up, is made larger by a little, fills up again, until the study fits."""
    needed = sum(-(-path.stat().st_size // 4096) * 4 for path in undisturbed.directory.rglob("*") if path.is_file())
    said, full = tmp_path / "said", 0
    for part in range(1, times + 1):
        size = max(200, needed * part // (times + 1))
        subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
        before = crash.records(disk / "out")
        code = crash.run("run", undisturbed.file, "--out", disk / "out", err=said)
        message = said.read_text()
        assert code == 1, message
        assert "Traceback" not in message
        assert "the disk is full; free space and run again, finished tasks are kept" in message, message
        assert before.items() <= crash.records(disk / "out").items()
        full += 1
    assert full == times
    subprocess.run(["mount", "-o", f"remount,size={2 * needed}k", disk], check=True)
    assert crash.run("run", undisturbed.file, "--out", disk / "out", err=said) == 0, said.read_text()
    crash.assert_equal(disk / "out", undisturbed.directory)


# Damage


STORES = ["activations", "concepts", "counts", "links", "dictionaries", "corpus.zarr", "selections"]


def verify(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, dict[str, list[str]]]:
    """Exit code of `colign verify`, and the damaged tasks by what is wrong."""
    capsys.readouterr()
    code = call(monkeypatch, "verify", directory, "--json", "--sample", "0", *options)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, json.loads(printed.out)["damaged"] if printed.out else pytest.fail(printed.err)


def check_repair(
    directory: Path, undisturbed: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Damage is found, taken back and mended; returns the tasks that it concerned."""
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    code, damaged = verify(directory, monkeypatch, capsys)
    assert code == 1
    assert verify(directory, monkeypatch, capsys, "--repair") == (1, damaged)
    tasks = {task for tasks in damaged.values() for task in tasks}
    assert not tasks & crash.records(directory).keys()
    before = crash.records(directory)
    assert call(monkeypatch, "run", directory) == 0, capsys.readouterr().err
    assert before.items() <= crash.records(directory).items()
    crash.assert_equal(directory, undisturbed.directory)
    assert verify(directory, monkeypatch, capsys) == (0, {})
    return sorted(tasks)


def task_of(chunk: Path, directory: Path) -> str:
    """Beginning of the name of the task that wrote a chunk."""
    stage, *part = chunk.relative_to(directory).parts
    names = {"corpus.zarr": "corpus", "selections": "corpus", "dictionaries": "dictionary"}
    if stage == "activations":
        return f"{stage}/{part[0]}/{part[1]}/{part[2].removesuffix('.zarr')}/"
    if stage in ("concepts", "counts"):
        return f"{stage}/{part[0]}/{part[1]}/"
    return names.get(stage, stage)


@pytest.mark.parametrize("flips", [FEW, MANY])
@pytest.mark.parametrize(
    "store",
    [name if name == "counts" else pytest.param(name, marks=pytest.mark.slow) for name in STORES],
)
def test_verify__finds_a_flipped_bit(
    store: str,
    flips: int,
    broken: Path,
    undisturbed: SmallStudy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A random bit of a random chunk, of every array: data, checksums and index of shards."""
    chance = random.Random(f"{store} {flips}")
    chunks = sorted(path for path in (broken / store).rglob("*") if path.is_file() and path.name != "zarr.json")
    flips = flips if store == "activations" else max(1, flips // 5)
    arrays = sorted({path.parts[path.parts.index("c") - 1] for path in chunks})
    chance.shuffle(arrays)
    for turn in range(flips):
        of_array = [path for path in chunks if path.parts[path.parts.index("c") - 1] == arrays[turn % len(arrays)]]
        path = chance.choice(of_array)
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        tasks = check_repair(broken, undisturbed, monkeypatch, capsys)
        assert all(task.startswith(task_of(path, broken)) for task in tasks), (path, tasks)


SHARD = "activations/tiny/encoder/de.zarr/activation/c/1/0/0"
LAST = "activations/tiny/encoder/de.zarr/activation/c/1/{last}/0"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b'{"zarr_format": 3, "node_')


def delete(path: Path) -> None:
    path.unlink()


Damage = tuple[str, Callable[[Path], None], str, list[str]]

DAMAGES: list[Damage] = [
    ("shard cut", cut, SHARD, ["activations/tiny/encoder/de/0-32"]),
    ("shard empty", empty, SHARD, ["activations/tiny/encoder/de/0-32"]),
    ("shard gone", delete, SHARD, ["activations/tiny/encoder/de/0-32"]),
    ("last shard cut", cut, LAST, ["activations/tiny/encoder/de/{last}"]),
    ("last words cut", cut, "activations/tiny/encoder/de.zarr/word/c/{last}", ["activations/tiny/encoder/de/{last}"]),
    ("array garbled", garble,
     "activations/tiny/encoder/de.zarr/activation/zarr.json", ["activations/tiny/encoder/de/"]),
    ("array gone", delete, "activations/tiny/encoder/de.zarr/present/zarr.json", ["activations/tiny/encoder/de/"]),
    ("group garbled", garble, "activations/tiny/encoder/de.zarr/zarr.json", ["activations/tiny/encoder/de/"]),
    ("group gone", delete, "activations/tiny/encoder/de.zarr/zarr.json", ["activations/tiny/encoder/de/"]),
    ("concepts", cut, "concepts/tiny/encoder/de+en.zarr/concept/c/0/2/0", ["concepts/tiny/encoder/de+en/2"]),
    ("concepts gone", delete, "concepts/tiny/encoder/de.zarr/zarr.json", ["concepts/tiny/encoder/de/"]),
    ("concepts' tokens", cut, "concepts/tiny/encoder/de.zarr/token_id/c/0", ["concepts/tiny/encoder/de/"]),
    ("counts", garble, "counts/tiny/encoder/3/de-en.zarr/zarr.json", ["counts/tiny/encoder/3/de/en"]),
    ("counts of sets", delete,
     "counts/tiny/encoder/3/de+en.zarr/language_count/c/0/0/0/0", ["counts/tiny/encoder/3/de+en"]),
    ("links", garble, "links/de-en.zarr/source_token/zarr.json", ["links/de/en"]),
    ("dictionary", cut, "dictionaries/en-de.zarr/probability/c/0", ["dictionary/de/en"]),
    ("corpus garbled", garble, "corpus.zarr/zarr.json", ["corpus"]),
    ("corpus gone", delete, "corpus.zarr/zarr.json", ["corpus"]),
    ("corpus' words", cut, "corpus.zarr/form/c/0", ["corpus"]),
    ("corpus' tokens", delete, "corpus.zarr/token_type/c/0", ["corpus"]),
    ("corpus' languages", garble, "corpus.zarr/language/c/0", ["corpus"]),
    ("selection", cut, "selections/fr.zarr/token_id/c/0", ["corpus"]),
    ("selection garbled", garble, "selections/fr.zarr/zarr.json", ["corpus"]),
]  # fmt: skip


TOGETHER = ["shard cut", "last words cut", "concepts", "counts of sets", "links", "dictionary", "corpus' words"]
"""Damages of different files that the fast test mends in one go; each alone is slow."""


@pytest.mark.filterwarnings("ignore:Object at .* is not recognized")
@pytest.mark.parametrize(
    "damages",
    [
        pytest.param([damage for damage in DAMAGES if damage[0] in TOGETHER], id="together"),
        *[pytest.param([damage], id=damage[0], marks=pytest.mark.slow) for damage in DAMAGES],
    ],
)
def test_verify__damage_is_found_and_mended(
    damages: list[Damage],
    broken: Path,
    undisturbed: SmallStudy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards = [name.split("/")[-1] for name in crash.records(broken) if name.startswith("activations/tiny/encoder/de/")]
    last = max(shards, key=lambda span: int(span.split("-")[0]))
    for _, spoil, place, _ in damages:
        spoil(broken / place.format(last=len(shards) - 1))
    tasks = [task.format(last=last) for *_, tasks in damages for task in tasks]
    found = check_repair(broken, undisturbed, monkeypatch, capsys)
    assert all(any(name.startswith(task) for task in tasks) for name in found), found
    assert {task for task in tasks if not task.endswith("/")} <= set(found)
