"""Faults of every kind against whole studies on Dask workers, with a fixed seed; a table of how each came out.

    python -m tests.chaos                        every scenario; 50 workers killed; about 20 minutes on 2 cores
    python -m tests.chaos --only frozen --faults 3 --seed 7

Each scenario disturbs runs of one study until the faults are spent, lets it end, and compares every stored bit with an
undisturbed run and the ledger with what may be done again: a task that was lost, never one that was done. Exit code 1
when anything differs. `network` needs root and `ip`, `disk` root and `mount`, `store` moto's server and s3fs.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import xarray as xr

from engine import ledger
from tests import crash
from tests.hosts import QUICK, ROOT, Cluster, Host, cluster, inside, two_hosts, wait, workers_of
from tests.oracles.vectors import save_bert
from tests.small_study import SENTENCES, SmallStudy

STAGES = ("corpus", "links", "dictionary", "activations", "concepts", "counts")

_RUN = "import sys, jobs.run; jobs.run.write_figures = lambda *_: None; import jobs.cli; jobs.cli.main()"
"""The command line without figures, which take seconds and are not compared."""


@dataclass
class Outcome:
    """How a scenario came out."""

    faults: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    """Faults by the stage that they fell into."""
    runs: int = 0
    messages: list[str] = field(default_factory=list)
    """Errors of runs that ended early."""
    lost: int = 0
    """Attempts that were lost or failed."""
    twice: int = 0
    """Tasks that were done twice."""
    seconds: float = 0.0
    differs: str = ""

    def struck(self, stage: str) -> None:
        self.faults += 1
        self.stages[stage] = self.stages.get(stage, 0) + 1
        sys.stderr.write(f"fault {self.faults}, in {stage}\n")


@dataclass
class Arena:
    """A study, its undisturbed run, and how its runs are started."""

    folder: Path
    chance: random.Random
    faults: int
    study: SmallStudy
    out: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def undisturbed(self) -> Path:
        return self.folder / "undisturbed"

    def machine(self, **values: Any) -> Path:
        return self.study.machine(**({"memory": 2} | values))

    def joined(self, found: Cluster) -> Path:
        """A machine file of a running cluster."""
        return self.machine(type="scheduler-file", scheduler_file=str(found.file))

    def start(self, machine: Path | None, out: str | None = None, prefix: Sequence[str] = ()) -> Any:
        """Begin a run; its output goes to a file that `said` reads."""
        command = [*prefix, sys.executable, "-c", _RUN, "run", str(self.study.file), "--out", out or str(self.out)]
        command += [] if machine is None else ["--machine", str(machine)]
        with (self.folder / "said").open("w") as sink:
            return subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **QUICK, **self.env}, cwd=ROOT
            )

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def stage(self) -> str:
        """Stage at work: the first that is not whole, by the records."""
        done = crash.records(self.out)
        for stage in STAGES:
            if sum(name.startswith(f"{stage}/") or name == stage for name in done) < self.tasks[stage]:
                return stage
        return "results"

    @property
    def tasks(self) -> Mapping[str, int]:
        """Tasks of each stage of the undisturbed run."""
        if not hasattr(self, "_tasks"):
            names = list(crash.records(self.undisturbed))
            self._tasks = {s: sum(name == s or name.startswith(f"{s}/") for name in names) for s in STAGES}
        return self._tasks


def arena(folder: Path, chance: random.Random, faults: int) -> Arena:
    """Make the study and run it undisturbed, in one process."""
    study = SmallStudy(folder / "s", save_bert(folder / "model", positions=64))
    for lang, lines in SENTENCES.items():
        study.text(lang).write_text("\n".join(lines * 10) + "\n")
    study.set("selection", {"min_count": 1, "max_count": 60})
    study.set("activations", {"shard_tokens": 64, "chunk_tokens": 16})
    study.set("concepts", {"k": 8, "max_iterations": 12, "tolerance": 0.0, "restarts": 2})
    made = Arena(folder, chance, faults, study, folder / "out")
    process = made.start(None, str(made.undisturbed))
    if process.wait():
        raise SystemExit(made.said())
    return made


def judge(made: Arena, outcome: Outcome) -> None:
    """Compare the study directory with the undisturbed run, and the ledger with what may be done again."""
    try:
        crash.assert_equal(made.out, made.undisturbed, metadata=False)
    except AssertionError as error:
        outcome.differs = f"{outcome.differs} {error}".strip()[:400]
    attempts = ledger.load(str(made.out / "ledger.zarr"), str(made.out / "journal"))
    if attempts is None:
        outcome.differs = f"{outcome.differs} no ledger".strip()
        return
    tasks = attempts.isel(attempt=attempts.step.values == "")
    outcome.lost += int((tasks.state.values != "done").sum())
    outcome.twice += done_twice(tasks)
    told = outcome.differs or "bits equal"
    sys.stderr.write(f"{outcome.runs} runs, {outcome.lost} attempts lost, {outcome.twice} done twice: {told}\n")


def done_twice(tasks: xr.Dataset) -> int:
    """Tasks that more than one attempt has done; copying words into concepts is no task, as it has no record."""
    names = Counter(tasks.key.values[(tasks.state.values == "done") & (tasks.stage.values != "concepts")].tolist())
    return sum(count - 1 for count in names.values())


def strike(made: Arena, outcome: Outcome, process: Any, blow: Callable[[], bool], stages: Iterator[str]) -> None:
    """Let a blow fall into each stage in turn, at random moments, while a run lasts and faults are left."""
    wanted = next(stages)
    while process.poll() is None and outcome.faults < made.faults:
        stage = made.stage()
        if stage == wanted or (stage in STAGES and STAGES.index(stage) > STAGES.index(wanted)):
            time.sleep(made.chance.random() * 0.5)
            if process.poll() is None and blow():
                outcome.struck(stage)
                wanted, before = next(stages), wanted
                if STAGES.index(wanted) <= STAGES.index(before):
                    break
        time.sleep(0.01)
    process.wait()
    outcome.runs += 1
    if process.returncode:
        outcome.messages.append(_error(made.said()))


def _error(said: str) -> str:
    """The message of a run that failed; a traceback is a defect."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if not lines or "Traceback (most recent call last)" in said.split("error: ")[-1]:
        return f"NO CLEAR MESSAGE: {said[-600:]}"
    return lines[-1]


def to_the_end(made: Arena, outcome: Outcome, machine: Path | None, prefix: Sequence[str] = ()) -> None:
    """Run again, undisturbed, until it ends."""
    for _ in range(3):
        process = made.start(machine, prefix=prefix)
        process.wait()
        outcome.runs += 1
        if not process.returncode:
            return
        outcome.messages.append(_error(made.said()))
    outcome.differs = "three undisturbed runs failed"


def killed(made: Arena) -> Outcome:
    """Worker processes get SIGKILL, in every stage in turn."""
    outcome, stages = Outcome(), cycle(STAGES)
    machine = made.machine(type="local", workers=2)
    while outcome.faults < made.faults and not outcome.differs:
        shutil.rmtree(made.out, ignore_errors=True)
        process = made.start(machine)
        driver = psutil.Process(process.pid)

        def blow(driver: psutil.Process = driver) -> bool:
            if found := workers_of(driver):
                made.chance.choice(found).kill()
            return bool(found)

        strike(made, outcome, process, blow, stages)
        if process.returncode:
            to_the_end(made, outcome, machine)
        judge(made, outcome)
    return outcome


def on_two_hosts(made: Arena, blow_of: Callable[[Cluster], Callable[[], bool]], hosts: Sequence[Host] = ()) -> Outcome:
    """Blows against a cluster of two workers; its study begins anew when every stage had its blow."""
    outcome, stages = Outcome(), cycle(("links", "activations", "concepts", "counts"))
    while outcome.faults < made.faults and not outcome.differs:
        shutil.rmtree(made.out, ignore_errors=True)
        with cluster(made.folder, hosts) as found:
            machine = made.joined(found)
            process = made.start(machine, prefix=inside(hosts[0]) if hosts else ())
            strike(made, outcome, process, blow_of(found), stages)
            if process.returncode:
                to_the_end(made, outcome, machine, prefix=inside(hosts[0]) if hosts else ())
        judge(made, outcome)
    return outcome


def frozen(made: Arena) -> Outcome:
    """A worker gets SIGSTOP, is missed, its tasks are done elsewhere, and it goes on where it was (SIGCONT)."""

    def blow_of(found: Cluster) -> Callable[[], bool]:
        def blow() -> bool:
            below = workers_of(psutil.Process(made.chance.choice(found.workers).pid))
            if below:
                below[0].suspend()
                time.sleep(made.chance.choice((3, 45)))  # Dask misses it after 30
                with contextlib.suppress(psutil.NoSuchProcess):  # its nanny has missed it, too, and started another
                    below[0].resume()
            return bool(below)

        return blow

    return on_two_hosts(made, blow_of)


def scheduler(made: Arena) -> Outcome:
    """The scheduler of a running cluster gets SIGKILL; the study is run again on another."""
    outcome, stages = Outcome(), cycle(("links", "activations", "concepts", "counts"))
    while outcome.faults < made.faults and not outcome.differs:
        shutil.rmtree(made.out, ignore_errors=True)
        before = outcome.faults
        while outcome.faults == before:
            with cluster(made.folder) as found:
                process = made.start(made.joined(found))

                def blow(found: Cluster = found) -> bool:
                    found.scheduler.kill()
                    return True

                strike(made, outcome, process, blow, stages)
                if not process.returncode and outcome.faults > before:
                    outcome.differs = "the run did not notice that its scheduler was gone"
        with cluster(made.folder) as found:
            to_the_end(made, outcome, made.joined(found))
        judge(made, outcome)
    return outcome


def driver(made: Arena) -> Outcome:
    """The process that hands out tasks gets SIGKILL, with its own workers; the study is run again."""
    outcome, stages = Outcome(), cycle(STAGES)
    machine = made.machine(type="local", workers=2)
    shutil.rmtree(made.out, ignore_errors=True)
    while outcome.faults < made.faults and not outcome.differs:
        process = made.start(machine)

        def blow(process: Any = process) -> bool:
            process.kill()
            return True

        strike(made, outcome, process, blow, stages)
        if not process.returncode:
            judge(made, outcome)
            shutil.rmtree(made.out)
        elif outcome.messages:
            outcome.messages.pop()  # a killed process says nothing
    to_the_end(made, outcome, machine)
    judge(made, outcome)
    return outcome


def network(made: Arena) -> Outcome:
    """Two hosts (network namespaces); the link to the second is cut for longer than Dask waits, and restored."""
    with two_hosts() as hosts:

        def blow() -> bool:
            hosts[1].link("down")
            time.sleep(made.chance.choice((3, 45)))
            hosts[1].link("up")
            return True

        return on_two_hosts(made, lambda _: blow, hosts)


def store(made: Arena) -> Outcome:
    """An object store answers with 503 for a while: shorter, and longer, than its client tries again."""
    import s3fs  # noqa: PLC0415  (not everyone has it)

    outcome, stages = Outcome(), cycle(STAGES)
    flag, local = made.folder / "failing", made.out
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made.env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    os.environ.update(made.env)
    server = subprocess.Popen([sys.executable, "-m", "tests.failing_s3", str(port), str(flag)], cwd=ROOT)
    machine, there = made.machine(type="local", workers=2), "s3://bucket/out"
    try:
        wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        remote = s3fs.S3FileSystem(use_listings_cache=False)
        remote.mkdir("bucket")
        while outcome.faults < made.faults and not outcome.differs:
            if remote.exists("bucket/out"):
                remote.rm("bucket/out", recursive=True)
            process = made.start(machine, there)
            wanted = next(stages)
            while process.poll() is None and not remote.glob(f"bucket/out/records/{wanted}*"):
                time.sleep(0.05)
            flag.touch()
            time.sleep(made.chance.choice((1, 30)))
            outcome.struck(wanted)
            code = process.poll()
            flag.unlink()
            for _ in range(3):
                code = process.wait()
                outcome.runs += 1
                if not code:
                    break
                outcome.messages.append(_error(made.said()))
                process = made.start(machine, there)
            shutil.rmtree(local, ignore_errors=True)
            remote.get("bucket/out", str(local), recursive=True)
            judge(made, outcome)
    finally:
        server.kill()
        server.wait()
    return outcome


def disk(made: Arena) -> Outcome:
    """The disk is full, is made larger by a little, is full again, until the study fits."""
    outcome = Outcome()
    place, machine = made.folder / "disk", made.machine(type="local", workers=2)
    place.mkdir()
    needed = sum(-(-p.stat().st_size // 4096) * 4 for p in made.undisturbed.rglob("*") if p.is_file())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], check=True)
    made.out = place / "out"
    try:
        for part in range(1, made.faults + 1):
            size = max(200, needed * part // (made.faults + 1))
            subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)
            before = crash.records(made.out)
            process = made.start(machine)
            code = process.wait()
            outcome.runs += 1
            outcome.struck(made.stage())
            if not code:
                outcome.differs = "a study of too many bytes came to its end"
            outcome.messages.append(_error(made.said()))
            if not before.items() <= crash.records(made.out).items():
                outcome.differs = "a record was lost"
        subprocess.run(["mount", "-o", f"remount,size={4 * needed}k", place], check=True)
        to_the_end(made, outcome, machine)
        judge(made, outcome)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        made.out = made.folder / "out"
    return outcome


SCENARIOS: dict[str, tuple[Callable[[Arena], Outcome], int]] = {
    "killed": (killed, 50),
    "frozen": (frozen, 4),
    "scheduler": (scheduler, 4),
    "driver": (driver, 6),
    "network": (network, 4),
    "store": (store, 6),
    "disk": (disk, 6),
}
"""Each scenario, and its number of faults."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SCENARIOS), action="append", help="scenario; may be given again")
    parser.add_argument("--faults", type=int, help="faults of each scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the studies")
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="colign-chaos-"))
    bad = False
    try:
        for name in given.only or SCENARIOS:
            scenario, faults = SCENARIOS[name]
            (folder / name).mkdir()
            made = arena(folder / name, random.Random(f"{given.seed} {name}"), given.faults or faults)
            began = time.monotonic()
            outcome = scenario(made)
            outcome.seconds = time.monotonic() - began
            unclear = any(message.startswith("NO CLEAR") for message in outcome.messages)
            wrong = bool(outcome.differs) or outcome.twice > 0 or unclear
            bad |= wrong
            verdict = outcome.differs or ("an unclear message" if unclear else "bits equal")
            sys.stdout.write(
                f"{name:10} {outcome.faults} faults {json.dumps(outcome.stages)}, {outcome.runs} runs, {outcome.lost} "
                f"attempts lost, {outcome.twice} done twice, {outcome.seconds:.0f} s: {verdict}\n"
            )
            for message in dict.fromkeys(outcome.messages):
                sys.stdout.write(f"           {message}\n")
            sys.stdout.flush()
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return int(bad)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clusters end with it, too
    sys.exit(main())
