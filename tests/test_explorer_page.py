"""The explorer as a page: text of any kind, links, downloads, phones, keyboard, contrast."""

import csv
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from playwright.sync_api import Browser

from jobs import explore
from tests.benchmarks import explorer as benchmark
from tests.browser import Opened
from tests.explored import a_browser, a_page, a_study  # noqa: F401  (fixtures)
from tests.small_study import SmallStudy, call


def test_labels_and_hostile_words__show_as_text(page: Opened) -> None:
    shown = page.show(view="concepts", checkpoint="base", selection="en", layer=2, concept=1)
    assert (
        shown.get_by_role("heading", name="Concept 1").text_content().startswith("Concept 1: <b>animals</b> & people")
    )  # type: ignore[union-attr]
    shown.get_by_label("Word, label or number").fill("<b>ani")
    page.drawn()
    assert [row[0] for row in page.rows("Concepts of en")] == ["1"]
    every = set()
    for concept in range(7):
        shown = page.show(view="concepts", checkpoint="base", selection="en", layer=2, concept=concept)
        every |= set(shown.locator(".cloud a").all_text_contents())
    assert {"<script>document.title='broken'</script>", "\"&quot;'", "a|||b", "x⟨U+202E⟩y"} <= every
    assert "<img/src=x/onerror=document.title='broken'>" in every
    for view, word in (("compare", ""), ("map", ""), ("follow", "a|||b"), ("follow", "x%E2%80%AEy")):
        state = {"selection": "en", "layer": 2, "concept": 1, "word": word, "theta_align": 0.3, "max_size_gap": 1}
        other = {"other_selection": "de", "other_layer": 2, "other_checkpoint": "base"}
        shown = page.show(view=view, checkpoint="base", **state, **other)
        assert shown.locator("figure svg").count() >= 1
        assert "broken" not in shown.title()
        assert shown.locator("svg script, svg img").count() == 0
        assert "\u202e" not in shown.locator(".results").inner_text()


def test_arabic__has_its_own_direction(page: Opened) -> None:
    shown = page.show(view="concepts", checkpoint="base", selection="ar", layer=2, concept=0)
    for element in (shown.locator(".cloud bdi").first, shown.locator(".sentences bdi").first):
        assert element.evaluate("one => getComputedStyle(one).direction") == "rtl"


def test_links_and_downloads(page: Opened) -> None:
    shown = page.show(view="curves", theta_align=0.7, checkpoints="base")
    with shown.expect_download() as waiting:
        shown.get_by_role("button", name="SVG").first.click()
    assert waiting.value.suggested_filename == "calign.svg"
    svg = Path(waiting.value.path()).read_text()
    assert svg.startswith("<svg")
    assert "CALIGN" in svg
    with shown.expect_download() as waiting:
        shown.get_by_role("button", name="PNG").first.click()
    assert imread(io.BytesIO(Path(waiting.value.path()).read_bytes())).std() > 0.01
    shown.get_by_text("CALIGN in numbers").click()
    with shown.expect_download() as waiting:
        shown.locator("section.table").first.get_by_role("button", name="CSV").click()
    header, *rows = csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8-sig")))
    assert header[:4] == ["checkpoint", "languages", "state", "layer"]
    assert {row[0] for row in rows} == {"base"}
    assert 0 <= float(rows[0][4]) <= 1
    link = shown.url
    again = page.context.new_page()
    again.goto(link)
    again.wait_for_function("document.documentElement.dataset.drawn")
    assert again.locator("input[name='θ_A']").input_value() == "0.7"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.get_by_role("button", name="Copy link").click()
    shown.get_by_role("button", name="Copied").wait_for()
    shown.get_by_role("link", name="Concepts").click()
    page.drawn()
    shown.go_back()
    page.drawn()
    assert shown.url == link
    assert shown.locator("input[name='θ_A']").input_value() == "0.7"


def test_thresholds__stay_from_view_to_view(page: Opened) -> None:
    shown = page.show(view="curves")
    shown.locator("input[name='θ_A']").press("ArrowRight")
    page.drawn()
    shown.get_by_role("link", name="Concepts").click()
    page.drawn()
    assert shown.locator("input[name='θ_A']").input_value() == "0.51"
    shown.get_by_label("Word, label or number").fill("kat")
    page.drawn()
    shown.get_by_role("link", name="Map").click()
    page.drawn()
    assert "search=kat" in shown.url


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("n_best=999", "n_best 999; this study has 1 to 20"),
        ("theta_align=-1", "theta_align -1; this study has 0.3 to 1"),
        ("theta_align=x", "theta_align x; this study has 0.3 to 1"),
        ("min_languages=9", "min_languages 9; this study has 2, 3, all"),
        ("comparison=equal", "comparison equal; this study has at_least, more_than"),
        ("view=concepts&layer=abc", "layer abc; this study has 0, 2, 3"),
        ("view=compare&other_selection=it", "other_selection it; this study has en, de, fr, ar, de+en, de+en+fr"),
        ("view=%3Cb%3E", "view <b>; this study has curves, concepts, compare, follow, map"),
    ],
)
def test_values_that_are_none__are_told(page: Opened, given: str, told: str) -> None:
    page.page.goto(f"{page.index}#{given}")
    assert page.page.get_by_role("alert").text_content() == f"The link names {told}. Show its curves"


def test_cells__are_no_formulas(page: Opened) -> None:
    shown = page.show(view="curves")
    cells = ["=1+1", "-2", 'a"b', "x;=1", 3, None]
    text = shown.evaluate("cells => Page.csv(['name'], cells.map(cell => [cell]))", cells)
    assert text == '\ufeff"name"\r\n"\'=1+1"\r\n"\'-2"\r\n"a""b"\r\n"x;=1"\r\n3\r\n\r\n'


def test_a_report__leaves_nothing_of_one_before(explored: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = explored.directory / "report" / "explorer"
    old = folder / "data" / "text" / "it" / "0.js"
    old.parent.mkdir(parents=True)
    old.write_text("sentences of a language that is no more")
    monkeypatch.setattr("jobs.report.figures", lambda *_: [])
    bundle = (folder / "vega.js").stat().st_mtime_ns
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path != old}
    assert call(monkeypatch, "report", explored.file) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (folder / "vega.js").stat().st_mtime_ns == bundle  # which takes seconds to make


def test_bad_links_and_missing_files__are_told(
    page: Opened, explored: SmallStudy, chromium: Browser, tmp_path: Path
) -> None:
    page.page.goto(f"{page.index}#view=concepts&checkpoint=none")
    told = page.page.get_by_role("alert")
    assert told.text_content().startswith("The link names checkpoint none; this study has base, tuned.")  # type: ignore[union-attr]
    folder = tmp_path / "copied"
    for path in (explored.directory / "report" / "explorer").rglob("*"):
        if path.is_file() and "concepts" not in path.parts:
            copied = folder / path.relative_to(explored.directory / "report" / "explorer")
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
    lacking = Opened(chromium, folder)
    lacking.page.goto(f"{lacking.index}#view=concepts")
    assert "is missing; copy the whole folder" in lacking.page.get_by_role("alert").text_content()  # type: ignore[operator]
    lacking.close()


@pytest.mark.parametrize("view", ["curves", "concepts", "compare", "follow", "map"])
def test_views__fit_a_phone_in_the_dark_and_name_their_controls(
    chromium: Browser, explored: SmallStudy, view: str
) -> None:
    folder = explored.directory / "report" / "explorer"
    page = Opened(chromium, folder, viewport={"width": 390, "height": 800}, color_scheme="dark", has_touch=True)
    shown = page.show(view=view, concept=1, selection="en", layer=2, word="sees")
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"
    unnamed = shown.evaluate(
        """() => [...document.querySelectorAll('input, select, button, a')]
            .filter(one => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim())
            .map(one => one.outerHTML)"""
    )
    assert unnamed == []
    assert shown.locator("nav a[aria-current=page]").text_content() == view.capitalize()
    for figure in shown.locator("figure svg").all():
        assert figure.get_attribute("aria-label") or figure.locator("[aria-label]").count()
    assert page.errors == []
    page.close()


def test_keyboard__reaches_everything(page: Opened) -> None:
    shown = page.show(view="concepts", checkpoint="base", selection="de", layer=2)
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.textContent") == "Skip to the view"
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.id") == "view"
    shown.get_by_label("Sort by").focus()
    shown.keyboard.press("ArrowDown")
    page.drawn()
    assert "sort=types" in shown.url
    assert shown.evaluate("document.activeElement.tagName") == "SELECT"  # drawing again keeps the place
    first = shown.locator("td[data-column=concept] a").first
    first.focus()
    shown.keyboard.press("Enter")
    page.drawn()
    assert shown.locator("article.concept").count() == 1


def _contrast(one: str, other: str) -> float:
    """Ratio of two colours' relative luminance (WCAG 2.2)."""
    light = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])))
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_contrast__is_enough_in_light_and_dark(chromium: Browser, explored: SmallStudy) -> None:
    for scheme in ("light", "dark"):
        page = Opened(chromium, explored.directory / "report" / "explorer", color_scheme=scheme)
        shown = page.show(view="curves")
        names = ["--paper", "--soft", "--ink", "--faint", "--link", "--good", "--bad", "--mark"]
        names += [f"--language-{i}" for i in range(6)]
        found = shown.evaluate(
            "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())",
            names,
        )
        paper, soft, ink, faint, link, good, bad, mark, *languages = found
        on_paper = [(front, paper) for front in (ink, faint, link, good, bad, *languages)]
        for front, back in (*on_paper, (ink, soft), (ink, mark)):
            assert _contrast(front, back) >= 4.5, (scheme, front, back)
        page.close()


def test_first_view__asks_for_little_and_its_benchmark_runs(chromium: Browser, explored: SmallStudy) -> None:
    folder = explored.directory / "report" / "explorer"
    assert benchmark.read_bytes(chromium, folder) < 1.2e6  # nearly all of it libraries
    assert benchmark.first_view(chromium, folder) > 0
    assert benchmark.empty(chromium, folder) > 0
    assert len(benchmark.moved(chromium, folder)) == 2
    assert not (folder / "empty.html").exists()


def test_readme__shows_pictures_that_are_there() -> None:
    root = Path(__file__).parents[1]
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (root / "README.md").read_text())
    assert len(names) >= 2
    assert [name for name in names if not (root / name).is_file()] == []


def test_packs__are_the_same_every_time_and_small() -> None:
    values = {"name": "θ", "numbers": np.arange(10, dtype=np.uint16), "few": np.zeros(0, np.float32)}
    made = {time.sleep(seconds) or explore.packed(values) for seconds in (0, 1.1)}  # gzip knows seconds
    assert len(made) == 1
    assert len(explore.packed({"zeros": np.zeros(10**6, np.uint32)})) < 5000
