"""Peak memory of `colign extract` for few and for many words, beside what the plan projects.

    python -m tests.benchmarks.extraction_memory MODEL TEXT... [--words 20000 --words 2000000] [--compute bfloat16]

The lines of all TEXT are read one after another, over and over, until there are enough words; each run is a process of
its own, whose peak is the largest resident set that the system saw.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.sentences import read_sentences
from tests.benchmarks.inputs import table


def write_text(files: list[str], words: int, path: Path) -> None:
    """A text of about so many words."""
    written = 0
    with path.open("w", encoding="utf-8") as text:
        lines = itertools.chain.from_iterable(read_sentences(file, "spaces") for file in itertools.cycle(files))
        for sentence in lines:
            text.write(" ".join(sentence) + "\n")
            written += len(sentence)
            if written >= words:
                return


def measure(model: str, text: Path, folder: Path, *options: str) -> dict[str, float]:
    """Words, seconds, projected and measured bytes of one extraction."""
    started = time.monotonic()
    command = [sys.executable, "-m", "jobs.cli", "extract", model, str(text), "-o", str(folder / "a.zarr"), "--json"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {
        "words": found["tokens"],
        "seconds": time.monotonic() - started,
        "projected_bytes": found["projected_memory"],
        "peak_bytes": found["peak_memory"],
    }


def main() -> None:
    """Measure, and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", nargs="+")
    parser.add_argument("--words", type=int, action="append")
    parser.add_argument("--compute", default="float32")
    asked = parser.parse_args()
    rows = []
    for words in asked.words or [20_000, 2_000_000]:
        with tempfile.TemporaryDirectory() as name:
            write_text(asked.text, words, Path(name) / "text.txt")
            found = measure(asked.model, Path(name) / "text.txt", Path(name), "--compute", asked.compute)
            rows.append(found)
    shown = [
        [int(r["words"]), round(r["seconds"], 1), *(round(r[k] / 1e6) for k in ("projected_bytes", "peak_bytes"))]
        for r in rows
    ]
    sys.stdout.write(table(["words", "seconds", "projected MB", "peak MB"], shown) + "\n" + json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
