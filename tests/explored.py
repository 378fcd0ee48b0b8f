"""Studies with a finished explorer, and the explorer opened in a browser; fixtures for the tests that import them."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr
from playwright.sync_api import Browser

from engine import results
from jobs.files import load_study
from jobs.layout import Layout
from schemas.study import Study
from tests.browser import Opened, browser
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

HOSTILE = {
    "the cat": "<script>document.title='broken'</script>", "a dog": '"&quot;\'', "my son": "a|||b",
    "the owl": "x\u202ey", "a boy": "<img/src=x/onerror=document.title='broken'>",
}  # fmt: skip
"""Words that would be markup, ends of quotes or marks of direction, in the places of subjects."""
ARABIC = (["القط", "كلب", "ابني", "بومة", "ولد"], ["يرى", "يحب", "يجد"], ["الكوخ", "شجرة"])


@pytest.fixture(name="chromium", scope="module")
def a_browser() -> Iterator[Browser]:
    """Chromium, for the tests of a module."""
    with browser() as opened:
        yield opened


def run_study(study: SmallStudy, label: str = "") -> SmallStudy:
    """Run a study, give a concept the label (a line of a file of labels), and write the report without figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        patch.setattr("jobs.report.figures", lambda *_: [])
        assert call(patch, "run", study.file) == 0
        if label:
            labels = study.folder / "labels.tsv"
            labels.write_text(f"checkpoint\tstack\tselection\tlayer\tconcept\tlabel\n{label}\n")
            assert call(patch, "label", study.file, "--import", labels) == 0
        assert call(patch, "report", study.file) == 0
    return study


@pytest.fixture(name="explored", scope="session")
def a_study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of two checkpoints and four languages, with hostile words, intervals, properties, a label; its report."""
    return _explored(tmp_path_factory.getbasetemp() / "explored")


@functools.cache  # pytest knows an imported fixture once for each module
def _explored(folder: Path) -> SmallStudy:
    bert = save_bert(folder / "bert", positions=96)  # such words are many sub-words
    study = SmallStudy(folder / "s", bert)
    text = study.text("en").read_text()
    for plain, hostile in HOSTILE.items():
        text = text.replace(plain, hostile)
    study.text("en").write_text(text)
    study.text("ar").write_text("".join(" ".join(words) + "\n" for words in itertools.product(*ARABIC)))
    study.set("corpus", {"files": {name: f"{name}.txt" for name in ("en", "de", "fr", "ar")}, "words": "spaces"})
    study.set("checkpoints", {"base": {"model": bert}, "tuned": {"model": bert, "tuned_on": ["de", "en"]}})
    study.set("language_sets", [["de", "en"], ["de", "en", "fr"]])
    study.set("activations.layers", [0, 2, 3])
    study.set("concepts.k", [7, 4])
    study.set("metrics", {"min_types": 0, "theta_align": 0.5, "max_size_gap": 0.6})
    study.set("uncertainty", {"draws": 3})
    study.set("properties", {})
    return run_study(study, "base\tencoder\ten\t2\t1\t<b>animals</b> & people")


@pytest.fixture(name="stacked", scope="module")
def a_study_of_stacks(mt5: str, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of an encoder and a decoder, which has a layer more, with linked pairs."""
    study = SmallStudy(tmp_path_factory.mktemp("explorer") / "m", mt5)
    activations = {"stacks": ["encoder", "decoder"], "layers": "all", "shard_tokens": 32, "chunk_tokens": 16}
    study.set("activations", activations)
    study.set("selection", {"counted_by": "linked_pair", "min_count": 1, "max_count": 8})
    study.set("metrics", {"min_types": 0, "theta_align": 0.3, "max_size_gap": 1.0})
    return run_study(study)


def loaded(study: SmallStudy) -> tuple[Study, Layout, xr.DataTree]:
    """A study, its places and its results."""
    found, layout = load_study(str(study.file))
    return found, layout, results.load(layout.results)


@pytest.fixture(name="page")
def a_page(chromium: Browser, explored: SmallStudy) -> Iterator[Opened]:
    """The explorer of the first study; nothing may go wrong in it, and nothing be asked of a network."""
    opened = Opened(chromium, explored.directory / "report" / "explorer")
    yield opened
    opened.close()
    assert opened.errors == []
    assert {address.partition(":")[0] for address in opened.asked} <= {"file", "about", "blob", "data"}
