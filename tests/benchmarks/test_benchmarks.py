"""Benchmarks run as tests at a tiny size, so that they cannot rot; speed is never asserted here."""

import sys

from tests.benchmarks.kmeans import compare
from tests.benchmarks.measure import measure


def test_compare__same_iterations_and_inertia_as_the_peer() -> None:
    found = compare(tokens=3000, hidden=16, k=20, threads=1, shard=1024)
    assert found["iterations"] == found["peer_iterations"]
    assert found["inertia_relative_difference"] < 1e-6


def test_measure__counts_memory_of_a_command() -> None:
    script = "import time; kept = bytearray(60 * 2**20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(1)"
    found = measure([sys.executable, "-c", script])
    assert found["exit_code"] == 0
    assert 60 * 2**20 < found["peak_bytes"] < 200 * 2**20
