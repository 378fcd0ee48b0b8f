"""Links counted in a second, as arrays and as a plain loop over the same links counts them.

    python -m tests.benchmarks.dictionary [--links 1000000 10000000] [--types 100000]

Words are drawn by Zipf's law, a sentence has 25 of them on either side and a link for each source word on average.
`count` is Moses' rule alone, `dictionary` also ranks, spells and checks; `read` is the file of links in Pharaoh's form.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.exchange.link_files import read_pharaoh
from engine.lexicon import count_words, lexical_table

SENTENCE = 25
"""Words of a sentence."""


def made(n: int, types: int, seed: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Types (token) of two texts, and links (link, 2) between their tokens, n of each."""
    rng = np.random.default_rng(seed)
    one, other = (np.minimum(rng.zipf(1.3, n), types).astype(np.int32) - 1 for _ in range(2))
    source = np.sort(rng.integers(0, n, n))
    target = np.minimum(source // SENTENCE * SENTENCE + rng.integers(0, SENTENCE, n), n - 1)
    return one, other, np.stack([source, target], axis=1)


def looped(source: list[int], target: list[int], links: list[list[int]]) -> dict[tuple[int, int], float]:
    """Moses' rule as its script has it: one link after the other, in dictionaries."""
    count: Counter[tuple[int, int]] = Counter()
    total: Counter[int] = Counter()
    linked = set()
    for i, j in links:
        count[source[i], target[j]] += 1
        total[source[i]] += 1
        linked.add(i)
    for i, word in enumerate(source):
        if i not in linked:
            total[word] += 1
    return {pair: n / total[pair[0]] for pair, n in count.items()}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def compare(n: int, types: int) -> dict[str, float]:
    """Links a second of each way; the tables are checked to be the same."""
    one, other, links = made(n, types)
    linked = links[:, 0], links[:, 1]
    seconds = {}
    seconds["count"], table = timed(lambda: lexical_table((one, other), linked, (types, types)))
    forms = [f"w{i}" for i in range(types)]
    seconds["dictionary"], dictionary = timed(
        lambda: count_words((one, other), linked, (forms, forms), source="a", target="b")
    )
    lists = one.tolist(), other.tolist(), links.tolist()
    seconds["loop"], expected = timed(lambda: looped(*lists))
    pairs = zip(table.source_type.tolist(), table.target_type.tolist(), strict=True)
    assert dict(zip(pairs, (table.count / table.total[table.source_type]).tolist(), strict=True)) == expected
    assert dictionary.sizes["entry"] == len(expected)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/links.align"
        lengths = np.diff(np.append(np.arange(0, n, SENTENCE), n))
        starts = np.searchsorted(links[:, 0], np.append(np.arange(0, n, SENTENCE), n))
        within = (links - links[:, :1] // SENTENCE * SENTENCE).tolist()
        rows = (within[a:b] for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        Path(path).write_text("".join(" ".join(f"{i}-{j}" for i, j in row) + "\n" for row in rows))
        seconds["read"], found = timed(lambda: read_pharaoh(path, lengths, lengths))
    assert np.array_equal(found, links)
    return {name: n / taken for name, taken in seconds.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--types", type=int, default=10**5)
    given = parser.parse_args()
    compare(100, given.types)  # what is done once in a process
    for n in given.links:
        speeds = compare(n, given.types)
        row = ", ".join(f"{name} {speed / 1e6:.2f}" for name, speed in speeds.items())
        sys.stdout.write(f"{n:,} links; million links a second: {row}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
