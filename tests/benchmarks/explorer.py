"""The explorer of a study of 13 layers and 600 concepts: bytes and seconds until its first view answers.

    python -m tests.benchmarks.explorer TOKENIZER en.txt de.txt fr.txt es.txt ar.txt [--keep FOLDER]

The model is random, with the tokenizer of another: what is written has the size of a real study of as many words. The
peer is an empty page with the same libraries: what the browser needs for those, whatever is shown. A slider is moved in
the end: seconds until curves are drawn anew, with counts that have to be loaded and without.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from playwright.sync_api import Browser
from transformers import AutoTokenizer, BertConfig, BertModel

from tests.benchmarks.inputs import table
from tests.browser import Opened, browser

TRIES = 5


def reported(tokenizer: str, texts: list[str], folder: Path) -> Path:
    """Run a study of these texts and write its report; the folder of the explorer."""
    words = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=12, num_attention_heads=4, intermediate_size=128
    )
    BertModel(config).save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    study = {
        "corpus": {"files": {Path(text).stem: str(Path(text).resolve()) for text in texts}},
        "checkpoints": {"random": {"model": str(folder / "model")}},
        "selection": {"max_count": 10},
        "activations": {"layers": "all"},
        "concepts": {"k": 600, "max_iterations": 20},
        "uncertainty": {"draws": 5},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    for command in ("run", "report"):
        started = time.monotonic()
        subprocess.run(["colign", command, folder / "study.yaml"], check=True, stdout=subprocess.DEVNULL)
        sys.stderr.write(f"{command}: {time.monotonic() - started:.0f} s\n")
    return folder / "study" / "report" / "explorer"


def first_view(opened: Browser, folder: Path) -> float:
    """Seconds from opening the page in a new profile to its curves."""
    page = Opened(opened, folder)
    started = time.monotonic()
    page.page.goto(page.index)
    page.drawn()
    seconds = time.monotonic() - started
    page.close()
    return seconds


def empty(opened: Browser, folder: Path) -> float:
    """The same of a page that loads the libraries alone."""
    page = folder / "empty.html"
    page.write_text('<script src="vega.js"></script>')
    context = opened.new_context()
    shown = context.new_page()
    started = time.monotonic()
    shown.goto(page.as_uri())
    shown.wait_for_function("() => Boolean(window.vegaEmbed)")
    seconds = time.monotonic() - started
    context.close()
    page.unlink()
    return seconds


def moved(opened: Browser, folder: Path) -> list[float]:
    """Seconds from a step of a slider to curves drawn anew: the first step loads counts, the second has them."""
    page = Opened(opened, folder)
    page.show(view="curves")
    slider = page.page.locator("input[name='θ_A']")
    slider.focus()
    found = []
    for _ in range(2):
        before = page.page.evaluate("document.documentElement.dataset.drawn")
        started = time.monotonic()
        slider.press("ArrowLeft")
        page.page.wait_for_function(f"document.documentElement.dataset.drawn !== '{before}'")
        page.drawn()
        found.append(time.monotonic() - started)
    page.close()
    return found


def read_bytes(opened: Browser, folder: Path) -> int:
    """Bytes of every file that the first view asks for."""
    page = Opened(opened, folder)
    page.page.goto(page.index)
    page.drawn()
    names = {address.removeprefix(folder.as_uri()).lstrip("/") for address in page.asked}
    page.close()
    return sum((folder / name).stat().st_size for name in names if (folder / name).is_file())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("text", nargs="+")
    parser.add_argument("--keep", type=Path, help="folder for the study, which stays")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = asked.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        page = place / "study" / "report" / "explorer"
        if not (page / "index.html").exists():
            page = reported(asked.tokenizer, asked.text, place)
        with browser() as opened:
            first_view(opened, page)
            seconds = [(first_view(opened, page), empty(opened, page)) for _ in range(TRIES)]
            loaded, held = moved(opened, page)
            rows: list[list[object]] = [
                ["first view, s (wanted 2)", statistics.median(one for one, _ in seconds)],
                ["libraries alone, s", statistics.median(other for _, other in seconds)],
                ["first view, MB (wanted 5)", read_bytes(opened, page) / 1e6],
                ["slider, counts to load, s", loaded],
                ["slider, counts held, s", held],
                ["whole folder, MB", sum(p.stat().st_size for p in page.rglob("*") if p.is_file()) / 1e6],
            ]
    sys.stdout.write(table(["what", "measured"], rows))


if __name__ == "__main__":
    main()
