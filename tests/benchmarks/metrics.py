"""CALIGN and COLAP beside the published script, in one run.

    python -m tests.benchmarks.metrics [--published CODE/alignClusters.py] [--types 20000] [--languages 5]
                                       [--large]

Seconds are of the processor (user and system), so that other work on the machine does not count. The input is drawn:
600 concepts a side, each of 85 tokens, 10 translations a type, and target concepts that hold translations of one source
concept to a degree, so that some of them align. `--large` adds a million types a side, in a process of its
own, with its peak memory.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from engine import calign, colap
from engine.aligned import Words, counted, one_layer
from engine.colap import UNITS
from engine.kernels import counting
from engine.results import SWEEPS, Table
from schemas.counts import LANGUAGE_COUNT
from schemas.metrics import Metrics
from schemas.results import CALIGN_SWEEPS, COLAP_SWEEPS

K, PER_CONCEPT, N_BEST = 600, 85, 10


def seconds(work: Callable[[], Any], times: int = 3) -> float:
    """Least processor seconds of a call."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def drawn(types: int, seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, ...]]:
    """Concept and type (token) of two sides, and source type, target type and rank (entry) of the translations.

    A concept of the target holds translations of one concept of the source, as many as its purity says.
    """
    rng = np.random.default_rng(seed)
    per_concept = PER_CONCEPT * max(1, types // 20_000)
    concepts = np.repeat(np.arange(K, dtype=np.int32), per_concept)
    one = rng.integers(0, types, len(concepts), dtype=np.int32)
    translation = rng.integers(0, types, (types, N_BEST), dtype=np.int32)
    other = translation[one, rng.integers(0, N_BEST, len(one))]
    random = rng.random(len(one)) > np.repeat(rng.uniform(0.3, 1.0, K), per_concept)
    other[random] = rng.integers(0, types, int(random.sum()))
    source = np.repeat(np.arange(types, dtype=np.int32), N_BEST)
    rank = np.tile(np.arange(N_BEST, dtype=np.int32), types)
    return [(concepts, one), (concepts, other)], (source, translation.ravel(), rank)


def write_files(folder: Path, sides: list[tuple[np.ndarray, np.ndarray]], entries: tuple[np.ndarray, ...]) -> list[str]:
    """The same input as files of the published script."""
    paths = []
    for name, (concepts, types) in zip("st", sides, strict=True):
        paths.append(str(folder / f"{name}.txt"))
        with open(paths[-1], "w") as file:
            file.writelines(
                f"{name}{t}|||0|||{i}|||0|||{c}\n"
                for i, (c, t) in enumerate(zip(concepts.tolist(), types.tolist(), strict=True))
            )
    paths.append(str(folder / "dictionary.txt"))
    with open(paths[-1], "w") as file:
        file.writelines(
            f"s{s} -> t{t}: Probability = {1 / (r + 1):.4f}, Count = {20 - r}\n"
            for s, t, r in zip(*(column.tolist() for column in entries), strict=True)
        )
    return paths


def published(script: str, paths: list[str]) -> float:
    """Processor seconds of the published script with the paper's thresholds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*paths, str(N_BEST), "0.8", "0.6", "5"]
        subprocess.run([sys.executable, "-X", "utf8", script, *arguments], check=True, cwd=folder, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sweep(metrics: Metrics, full: xr.Dataset, mixed: xr.Dataset) -> None:
    """All sweeps of Figure 30 of one layer and pair."""
    where = {"checkpoint": "c", "stack": "encoder", "source": "a", "target": "b", "language_set": "a+b"}
    labels = {name: [value] for name, value in where.items()} | {"layer": [0]}
    few = calign.best(full, N_BEST)
    for name, schema in CALIGN_SWEEPS.items():
        rules = metrics.alignment | {name: SWEEPS[name]}
        Table(schema, labels, calign.score, **rules).put(where, full if name == "n_best" else few)
    for name, schema in COLAP_SWEEPS.items():
        Table(schema, labels, colap.score, **(metrics.overlap | {name: SWEEPS[name]})).put(where, mixed)


def mixed_counts(concepts: np.ndarray, types: np.ndarray) -> xr.Dataset:
    """LANGUAGE_COUNT of one layer, with every other type of another language."""
    tokens = counting.language_count(concepts, types, types % 2, K, 2)
    return LANGUAGE_COUNT.create(
        {"layer": np.array([0], np.int32), "language": ["a", "b"], "unit": list(UNITS), "language_count": tokens[None]}
    )


def direction(seed: int, types: int, layers: int) -> None:
    """Everything of one direction of a pair: counts of 20 ranks and all sweeps of every layer."""
    sides, entries = drawn(types, seed)
    words = Words(sides[0][1], sides[1][1], types, types, entries, "type")
    for _ in range(layers):
        full = one_layer(counted(words, sides[0][0], sides[1][0], (K, K), 20))
        sweep(Metrics(), full, mixed_counts(*sides[0]))


def study(languages: int, types: int, layers: int = 13) -> None:
    """Print the seconds of all pairs of some languages on two processes."""
    directions = languages * (languages - 1)
    started = time.perf_counter()
    with ProcessPoolExecutor(2) as processes:
        list(processes.map(direction, range(directions), [types] * directions, [layers] * directions))
    took = time.perf_counter() - started
    print(f"{languages} languages, {directions} directions, {layers} layers, counts of 20 ranks and all sweeps, "
          f"2 processes: {took:.0f} s by the clock")  # fmt: skip


def large(types: int) -> None:
    """Count a layer of so many types a side and print the peak memory of this process."""
    sides, entries = drawn(types, 1)
    words = Words(sides[0][1], sides[1][1], types, types, entries, "type")
    took = seconds(lambda: counted(words, sides[0][0], sides[1][0], (K, K), N_BEST), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{types:,} types a side, {len(sides[0][0]):,} tokens, {len(words.entries[0]):,} translations: "
          f"{took:.2f} s, peak {peak:.0f} MiB (imports included)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", help="alignClusters.py of the published repository")
    parser.add_argument("--types", type=int, default=20_000, help="types a side")
    parser.add_argument("--languages", type=int, help="also all pairs of so many languages, in 13 layers")
    parser.add_argument("--large", action="store_true", help="also a million types a side")
    parser.add_argument("--only-large", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_large:
        large(given.only_large)
        return
    sides, entries = drawn(given.types, 1)
    words = Words(sides[0][1], sides[1][1], given.types, given.types, entries, "type")
    metrics = Metrics()

    def one_setting() -> xr.Dataset:
        counts = one_layer(counted(words.best(N_BEST), sides[0][0], sides[1][0], (K, K), 1))
        return calign.calign(counts, **(metrics.alignment | {"n_best": 1}))

    print(f"{K} x {K} concepts, {given.types:,} types a side, {N_BEST}-best, processor seconds, CPU")
    ours = seconds(one_setting, 7)
    print(f"one setting, counts and CALIGN ({one_setting().calign.item():.2f})    {ours:.4f}")
    if given.published:
        with tempfile.TemporaryDirectory() as folder:
            theirs = published(given.published, write_files(Path(folder), sides, words.entries))
        print(f"the published script                      {theirs:.1f}    {theirs / ours:,.0f} times as long")

    full = one_layer(counted(words, sides[0][0], sides[1][0], (K, K), 20))
    mixed = mixed_counts(*sides[0])
    counting_all = seconds(lambda: counted(words, sides[0][0], sides[1][0], (K, K), 20))
    swept = seconds(lambda: sweep(metrics, full, mixed))
    points = sum(len(SWEEPS[name]) for name in (*CALIGN_SWEEPS, *COLAP_SWEEPS))
    print(f"counts of 20 ranks                        {counting_all:.4f}")
    print(f"all sweeps of Figure 30 ({points} points)      {swept:.3f}    with counts {swept + counting_all:.3f}")
    if given.languages:
        study(given.languages, given.types)
    if given.large:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.metrics", "--only-large", "1000000"], check=True)


if __name__ == "__main__":
    main()
