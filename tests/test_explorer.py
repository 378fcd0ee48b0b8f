"""The explorer in a real browser: what it shows against the xarray results and stores of the study."""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread
from playwright.sync_api import Browser

from engine import calign, colap, results, store
from engine.aligned import matched_words
from engine.concepts import chosen_concepts
from jobs import explore
from jobs.files import load_study
from jobs.layout import Layout
from jobs.selections import concepts_name
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.links import DICTIONARY
from schemas.study import Study
from tests.benchmarks import explorer as benchmark
from tests.browser import Opened, browser
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call

HOSTILE = {
    "the cat": "<script>document.title='broken'</script>", "a dog": '"&quot;\'', "my son": "a|||b",
    "the owl": "x\u202ey", "a boy": "<img/src=x/onerror=document.title='broken'>",
}  # fmt: skip
"""Words that would be markup, ends of quotes or marks of direction, in the places of subjects."""
ARABIC = (["القط", "كلب", "ابني", "بومة", "ولد"], ["يرى", "يحب", "يجد"], ["الكوخ", "شجرة"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def _run(study: SmallStudy) -> SmallStudy:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.write_figures", lambda *_: None)
        patch.setattr("jobs.report.figures", lambda *_: [])
        assert call(patch, "run", study.file) == 0
        labels = study.folder / "labels.tsv"
        header = "checkpoint\tstack\tselection\tlayer\tconcept\tlabel\n"
        checkpoint = next(iter(study.values["checkpoints"]))
        labels.write_text(f"{header}{checkpoint}\tencoder\ten\t2\t1\t<b>animals</b> & people\n")
        assert call(patch, "label", study.file, "--import", labels) == 0
        assert call(patch, "report", study.file) == 0
    return study


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of two checkpoints and four languages, with hostile words, intervals, properties, a label; its report."""
    bert = save_bert(tmp_path_factory.mktemp("bert"), positions=96)  # such words are many sub-words
    study = SmallStudy(tmp_path_factory.mktemp("explorer") / "s", bert)
    text = study.text("en").read_text()
    for plain, hostile in HOSTILE.items():
        text = text.replace(plain, hostile)
    study.text("en").write_text(text)
    study.text("ar").write_text("".join(" ".join(words) + "\n" for words in itertools.product(*ARABIC)))
    study.set("corpus", {"files": {name: f"{name}.txt" for name in ("en", "de", "fr", "ar")}, "words": "spaces"})
    study.set("checkpoints", {"base": {"model": bert}, "tuned": {"model": bert, "tuned_on": ["de", "en"]}})
    study.set("language_sets", [["de", "en"], ["de", "en", "fr"]])
    study.set("activations.layers", [0, 2, 3])
    study.set("concepts.k", 5)
    study.set("metrics", {"min_types": 0, "theta_align": 0.5, "max_size_gap": 0.6})
    study.set("uncertainty", {"draws": 3})
    study.set("properties", {})
    return _run(study)


@pytest.fixture(scope="module")
def stacked(mt5: str, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study of an encoder and a decoder, with linked pairs."""
    study = SmallStudy(tmp_path_factory.mktemp("explorer") / "m", mt5)
    study.set(
        "activations", {"stacks": ["encoder", "decoder"], "layers": [1, 2], "shard_tokens": 32, "chunk_tokens": 16}
    )
    study.set("metrics", {"min_types": 0, "theta_align": 0.3, "max_size_gap": 1.0})
    return _run(study)


def _loaded(study: SmallStudy) -> tuple[Study, Layout, xr.DataTree]:
    found, layout = load_study(str(study.file))
    return found, layout, results.load(layout.results)


@pytest.fixture
def page(chromium: Browser, explored: SmallStudy) -> Iterator[Opened]:
    """The explorer of the first study; nothing may go wrong in it, and nothing be asked of a network."""
    opened = Opened(chromium, explored.directory / "report" / "explorer")
    yield opened
    opened.close()
    assert opened.errors == []
    assert {address.partition(":")[0] for address in opened.asked} <= {"file", "about", "blob", "data"}


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}".replace("%", " %")


def _near(shown: str, value: float) -> bool:
    """Whether a shown percentage is a value; at a half the browser may round the other way."""
    return shown == _percent(value) or abs(float(shown.removesuffix(" %")) / 100 - value) <= 0.000501


def _concepts(layout: Layout, checkpoint: str, stack: str, name: str) -> tuple[xr.Dataset, dict[int, Any]]:
    concepts = store.load(layout.concepts(checkpoint, stack, name), CONCEPTS)
    k = int(concepts.k.values[0])
    return concepts, dict(zip(concepts.layer.values.tolist(), chosen_concepts(concepts, k), strict=True))


RULES = {"n_best": 4, "theta_align": 0.4, "min_types": 1, "max_size_gap": 0.5, "theta_overlap": 0.2}


def test_curves__show_the_results(page: Opened, explored: SmallStudy) -> None:
    study, _, tree = _loaded(explored)
    shown = page.show(view="curves")
    assert shown.title().startswith("study – Colign")
    shown.get_by_text("CALIGN in numbers").click()
    found = page.rows("CALIGN by layer")
    assert len(found) == 2 * 3 * 4  # checkpoints, layers and the first groups
    scores = tree["calign"].to_dataset()
    for checkpoint, languages, state, layer, share, aligned, concepts, mutual in found:
        source, targets = languages.split(" → ")
        where = {"checkpoint": checkpoint, "stack": "encoder", "layer": int(layer)}
        of = scores.sel(where | {"source": source, "target": targets.replace(" or ", "+")})
        assert state == study.fine_tuning(checkpoint, source, *targets.split(" or "))
        assert _near(share, float(of.calign))
        assert (int(aligned), int(concepts)) == (of.aligned_concepts, of.concepts)
        assert _near(mutual, float(of.mutual_calign))
    shown.get_by_text("COLAP in numbers").click()
    for checkpoint, languages, _, layer, share, overlapping, _ in page.rows("COLAP by layer"):
        of = (
            tree["colap"]
            .to_dataset()
            .sel(checkpoint=checkpoint, stack="encoder", language_set=languages, layer=int(layer))
        )
        assert _near(share, float(of.colap))
        assert int(overlapping) == of.overlapping_concepts
    assert "95 % intervals" in shown.locator("figcaption").first.text_content()  # type: ignore[operator]
    assert shown.locator("figure svg").count() == 2
    assert shown.locator("figure [aria-label^='CALIGN by layer']").count() >= 1


def test_curves__answer_to_sliders_and_presets(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = _loaded(explored)
    shown = page.show(view="curves", groups="de → en,en → de or fr or ar".replace(" ", "%20"))
    shown.get_by_text("CALIGN in numbers").click()
    slider = shown.locator("input[name='θ_A']")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    page.drawn()
    assert "theta_align=0.4" in shown.url
    rules = {**study.metrics.alignment, "theta_align": 0.4}
    found = page.rows("CALIGN by layer")
    assert len(found) == 2 * 3 * 2
    for checkpoint, languages, _, layer, share, aligned, _, mutual in found:
        source, targets = languages.split(" → ")
        parts = []
        for target in targets.split(" or "):
            one, other = (store.load(layout.aligned_types(checkpoint, "encoder", 5, *way), ALIGNED_TYPES).compute()
                          for way in ((source, target), (target, source)))  # fmt: skip
            parts.append(calign.with_reverse(one, other))
        expected = calign.score(calign.union(parts), denominator=study.metrics.denominator, **rules)
        at = [0, 2, 3].index(int(layer))
        assert (int(aligned), _near(share, expected["calign"][at])) == (expected["aligned_concepts"][at], True)
        assert _near(mutual, expected["mutual_calign"][at])
    assert "not shown for these" in shown.locator("figcaption").first.text_content()  # type: ignore[operator]
    shown.get_by_role("button", name="reference").click()
    page.drawn()
    assert "comparison=more_than" in shown.url
    assert "size_rule=source" in shown.url
    shown.get_by_role("button", name="this study’s").click()
    page.drawn()
    assert "comparison" not in shown.url


def test_scores__equal_the_engine(page: Opened) -> None:
    rng = np.random.default_rng(7)
    shown = page.show(view="curves")
    for trial in range(25):
        k, layers, ranks = 7, 2, 5
        sizes = rng.integers(0, 12, (2, layers, k))
        types = np.minimum(sizes, rng.integers(0, 12, sizes.shape))
        both = []
        for one, other in ((0, 1), (1, 0)):
            units = rng.integers(0, 3, (ranks, layers, k, k)) * (rng.random((layers, k, k)) < 0.4)
            values = {
                "layer": np.arange(layers, dtype=np.int32), "rank": np.arange(ranks, dtype=np.int32),
                "aligned_types": units.astype(np.int32),
                "source_size": sizes[one].astype(np.int32), "target_size": sizes[other].astype(np.int32),
                "source_types": types[one].astype(np.int32), "target_types": types[other].astype(np.int32),
            }  # fmt: skip
            both.append(ALIGNED_TYPES.create(values))
        rules: dict[str, Any] = {
            "n_best": int(rng.integers(1, ranks + 1)), "theta_align": float(rng.choice([0.3, 0.5, 0.75, 0.8, 1.0])),
            "min_types": int(rng.integers(0, 4)), "max_size_gap": float(rng.choice([0.0, 0.4, 0.7, 1.0])),
            "comparison": str(rng.choice(["at_least", "more_than"])), "size_rule": str(rng.choice(["both", "source"])),
            "min_types_of": str(rng.choice(["both", "source"])), "denominator": str(rng.choice(["all", "considered"])),
        }  # fmt: skip
        packs = [_plain(explore.pairs(counts, 0.3)) for counts in both]
        found = shown.evaluate(
            """([one, other, rules]) => {
                for (const pack of [one, other]) for (const name in pack)
                    if (Array.isArray(pack[name])) pack[name] = Uint32Array.from(pack[name]);
                return [0, 1].map(layer => colign.scores.calign([one], [other], layer, rules));
            }""",
            [*packs, rules],
        )
        expected = calign.score(calign.with_reverse(*both), **rules)
        for name, value in expected.items():
            np.testing.assert_array_equal(
                [np.nan if row[name] is None else row[name] for row in found], value, f"{trial} {name}"
            )

        tokens = rng.integers(0, 5, (layers, k, 3, 2)) * (rng.random((layers, k, 1, 1)) < 0.8)
        counts = LANGUAGE_COUNT.create({
            "layer": np.arange(layers, dtype=np.int32), "language": ["a", "b", "c"], "unit": ["token", "type"],
            "language_count": tokens.astype(np.int64),
        })  # fmt: skip
        over: dict[str, Any] = {
            "theta_overlap": float(rng.choice([0.1, 0.25, 0.3, 1 / 3, 0.5])), "comparison": rules["comparison"],
            "min_languages": [2, 3, "all"][rng.integers(3)],
        }  # fmt: skip
        unit = str(rng.choice(["token", "type"]))
        scored = shown.evaluate(
            "([counts, rules]) => [0, 1].map(layer => colign.scores.colap(counts, layer, rules))",
            [_plain(explore.mixed(counts)), {**over, "overlap_unit": unit}],
        )
        for name, value in colap.score(counts, unit=unit, **over).items():
            np.testing.assert_array_equal([row[name] for row in scored], value)


def _plain(pack: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in pack.items()}


def test_comparisons__are_exact_for_large_counts(page: Opened) -> None:
    shown = page.show(view="curves")
    for part, whole, fraction, comparison, expected in (
        (3, 10, 0.3, "at_least", True), (3, 10, 0.3, "more_than", False), (3, 10, 1 - 0.7, "at_least", True),
        (30_000_000_000, 100_000_000_000, 0.3, "at_least", True),
        (29_999_999_999, 100_000_000_000, 0.3, "at_least", False),
    ):  # fmt: skip
        given = [comparison, part, fraction, whole]
        assert shown.evaluate("given => colign.scores.passes(...given)", given) is expected


def test_concepts__are_found_and_described(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = _loaded(explored)
    concepts, labels = _concepts(layout, "tuned", "encoder", "de")
    words = concepts.word.values
    shown = page.show(view="concepts", checkpoint="tuned", selection="de", layer=2, target="en")
    found = page.rows("Concepts of de")
    tokens = Counter(labels[2].tolist())
    assert [int(row[0]) for row in found] == sorted(tokens, key=lambda c: (-tokens[c], c))
    for concept, _, size, types, *_ in found:
        held = words[labels[2] == int(concept)]
        assert (int(size), int(types)) == (len(held), len(set(held.tolist())))

    shown.get_by_label("Word, label or number").fill("kat")
    page.drawn()
    holding = {int(c) for c in np.unique(labels[2][words == "kater"])}
    assert {int(row[0]) for row in page.rows("Concepts of de")} == holding

    concept = min(holding)
    shown = page.show(view="concepts", checkpoint="tuned", selection="de", layer=2, target="en", concept=concept)
    article = shown.locator("article.concept")
    held = Counter(words[labels[2] == concept].tolist())
    assert article.locator(".cloud a").all_text_contents() == [word for word, _ in sorted(
        held.items(), key=lambda pair: (-pair[1], words.tolist().index(pair[0])))]  # fmt: skip
    sentences = study_lines(explored, "de")
    for item in article.locator(".sentences li").all():
        assert item.locator("mark").text_content() in held
        assert item.locator("bdi").text_content() in sentences
    counts = store.load(layout.aligned_types("tuned", "encoder", 5, "de", "en"), ALIGNED_TYPES).compute()
    pairs = calign.aligned(counts, **study.metrics.alignment)[1]
    partners = {int(row[0].split()[1]): row for row in page.rows("Nearest concepts of en")}
    assert {c for c, row in partners.items() if row[2] == "yes"} == set(np.flatnonzero(pairs[concept]).tolist())
    dictionary = store.read(layout.dictionary("de", "en"), DICTIONARY)
    english, of_english = _concepts(layout, "tuned", "encoder", "en")
    for other, row in partners.items():
        sides = words[labels[2] == concept], english.word.values[of_english[2] == other]
        ours, theirs = ([*dict.fromkeys(side.tolist())] for side in sides)
        matched = matched_words(ours, theirs, dictionary, n_best=study.metrics.n_best, **study.metrics.translations)
        expected = {f"{a} – {b}" for a, b in matched}
        listed = {pair.replace("⟨U+202E⟩", "\u202e") for pair in row[6].split("; ")} - {""}
        assert listed == expected if len(expected) <= 20 else listed <= expected


def study_lines(study: SmallStudy, language: str) -> list[str]:
    """Sentences of a language."""
    return study.text(language).read_text().splitlines()


def test_concepts__sort_by_alignment_purity_and_overlap(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = _loaded(explored)
    page.show(view="concepts", checkpoint="base", selection="de", layer=3, target="en", sort="alignment")
    counts = store.load(layout.aligned_types("base", "encoder", 5, "de", "en"), ALIGNED_TYPES).compute()
    pairs = calign.aligned(counts, **study.metrics.alignment)[2].any(axis=1)
    found = page.rows("Concepts of de")
    assert [row[4] for row in found] == ["yes"] * int(pairs.sum()) + ["no"] * (len(found) - int(pairs.sum()))
    page.show(view="concepts", checkpoint="base", selection="de", layer=3, sort="purity")
    shares = [float(row[6].split()[0]) for row in page.rows("Concepts of de")]
    assert shares == sorted(shares, reverse=True)
    shown = page.show(view="concepts", checkpoint="base", selection="de%2Ben", layer=3, sort="overlap")
    mixed = store.load(layout.language_count("base", "encoder", 5, "de+en"), LANGUAGE_COUNT).compute()
    over = colap.overlapping(mixed, **study.metrics.overlap)[2]
    assert {int(row[0]): row[5] == "yes" for row in page.rows("Concepts of de+en")} == {
        c: bool(over[c]) for c in np.flatnonzero(mixed.language_count.sum(["language", "unit"]).values[2]).tolist()
    }
    assert "de" in (shown.locator(".mix").first.get_attribute("aria-label") or "")


def test_labels_and_hostile_words__show_as_text(page: Opened) -> None:
    shown = page.show(view="concepts", checkpoint="base", selection="en", layer=2, concept=1)
    assert (
        shown.get_by_role("heading", name="Concept 1").text_content().startswith("Concept 1: <b>animals</b> & people")
    )  # type: ignore[union-attr]
    shown.get_by_label("Word, label or number").fill("<b>ani")
    page.drawn()
    assert [row[0] for row in page.rows("Concepts of en")] == ["1"]
    every = set()
    for concept in range(5):
        shown = page.show(view="concepts", checkpoint="base", selection="en", layer=2, concept=concept)
        every |= set(shown.locator(".cloud a").all_text_contents())
    assert {"<script>document.title='broken'</script>", "\"&quot;'", "a|||b", "x⟨U+202E⟩y"} <= every
    assert "<img/src=x/onerror=document.title='broken'>" in every
    for view in ("compare", "map", "follow"):
        state = {"selection": "en", "layer": 2, "concept": 1, "word": "a|||b", "theta_align": 0.3, "max_size_gap": 1}
        other = {"other_selection": "de", "other_layer": 2, "other_checkpoint": "base"}
        shown = page.show(view=view, checkpoint="base", **state, **other)
        assert shown.locator("figure svg").count() >= 1
        assert "broken" not in shown.title()
        assert shown.locator("svg script, svg img").count() == 0


def test_arabic__has_its_own_direction(page: Opened) -> None:
    shown = page.show(view="concepts", checkpoint="base", selection="ar", layer=2, concept=0)
    for element in (shown.locator(".cloud bdi").first, shown.locator(".sentences bdi").first):
        assert element.evaluate("one => getComputedStyle(one).direction") == "rtl"


def test_compare__languages_checkpoints_and_stacks(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = _loaded(explored)
    shown = page.show(view="compare", checkpoint="base", other_checkpoint="base", selection="de", other_selection="en",
                      layer=2, other_layer=2)  # fmt: skip
    counts = store.load(layout.aligned_types("base", "encoder", 5, "de", "en"), ALIGNED_TYPES).compute()
    pairs = calign.aligned(counts, **study.metrics.alignment)[1]
    found = page.rows("Pairs of concepts")
    assert {(int(row[0]), int(row[2])) for row in found} == set(map(tuple, np.argwhere(pairs).tolist()))
    assert found
    assert shown.locator("figure svg").count() == 1

    shown.get_by_role("button", name="Two checkpoints").click()
    page.drawn()
    found = page.rows("Pairs of concepts")
    (_, one), (_, other) = (_concepts(layout, name, "encoder", "de") for name in ("base", "tuned"))
    assert sum(int(row[4]) for row in found) == len(one[2])  # one model twice: every concept is itself
    np.testing.assert_array_equal(one[2], other[2])
    assert {row[5] for row in found} == {"100.0 %"}
    shown.locator("a", has_text=found[0][0]).first.click()
    page.drawn()
    assert "view=concepts" in shown.url


def test_compare__encoder_and_decoder(chromium: Browser, stacked: SmallStudy) -> None:
    study, layout, _ = _loaded(stacked)
    page = Opened(chromium, stacked.directory / "report" / "explorer")
    shown = page.show(view="compare")
    shown.get_by_role("button", name="Encoder and decoder").click()
    page.drawn()
    name = concepts_name(study, *study.pairs[0])
    (_, one), (_, other) = (_concepts(layout, "tiny", stack, name) for stack in ("encoder", "decoder"))
    both = Counter(pair for pair in zip(one[2].tolist(), other[2].tolist(), strict=True) if min(pair) >= 0)
    found = {(int(row[0]), int(row[2])): int(row[4]) for row in page.rows("Pairs of concepts")}
    assert found
    assert found.items() <= both.items()
    shown.get_by_role("button", name="Two languages").click()
    page.drawn()
    shown = page.show(view="curves", stack="encoder-decoder")
    assert shown.locator("figure svg").count() == 1  # no COLAP between two stacks
    assert page.errors == []
    page.close()


def test_follow__counts_occurrences_by_layer(page: Opened, explored: SmallStudy) -> None:
    _, layout, _ = _loaded(explored)
    shown = page.show(view="follow", checkpoint="base", beside="tuned", selection="de", layer=2, word="sieht")
    assert shown.locator("figure svg").count() == 2
    for checkpoint in ("base", "tuned"):
        concepts, labels = _concepts(layout, checkpoint, "encoder", "de")
        shown.locator("details.numbers summary").nth(["base", "tuned"].index(checkpoint)).click()
        at = np.flatnonzero(concepts.word.values == "sieht")
        expected = {(layer, c): n for layer, of in labels.items() for c, n in Counter(of[at].tolist()).items()}
        rows = page.rows(f"Occurrences of «sieht» in {checkpoint}")
        assert {(int(row[0]), int(row[1])): int(row[2]) for row in rows} == expected
    _, labels = _concepts(layout, "base", "encoder", "de")
    shown = page.show(view="follow", checkpoint="base", beside="", selection="de", layer=2, concept=1)
    at = np.flatnonzero(labels[2] == 1)
    rows = page.rows("Occurrences of concept 1")
    assert {(int(row[0]), int(row[1])): int(row[2]) for row in rows} == {
        (layer, c): n for layer, of in labels.items() for c, n in Counter(of[at].tolist()).items()
    }
    shown = page.show(view="follow", checkpoint="base", selection="de", word="siehts")
    assert "sieht" in shown.locator(".results a").all_text_contents()


def test_map__has_a_point_for_each_concept(page: Opened, explored: SmallStudy) -> None:
    _, layout, _ = _loaded(explored)
    _, labels = _concepts(layout, "base", "encoder", "de")
    shown = page.show(view="map", checkpoint="base", selection="de", layer=2)
    points = shown.locator("figure svg .mark-symbol.role-mark path")
    assert points.count() == len(np.unique(labels[2]))
    points.first.click(force=True)
    page.drawn()
    assert "concept=" in shown.url
    assert shown.locator(".chosen .cloud a").count() > 0
    shown = page.show(view="map", checkpoint="base", selection="de%2Ben%2Bfr", layer=2)
    assert "mostly" in (shown.locator("figure svg").text_content() or "")


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
    header, *rows = csv.reader(io.StringIO(Path(waiting.value.path()).read_text()))
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
    shown.go_back()


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
        found = shown.evaluate(
            "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())",
            names,
        )
        paper, soft, ink, faint, link, good, bad, mark = found
        for front, back in (
            (ink, paper),
            (ink, soft),
            (faint, paper),
            (link, paper),
            (good, paper),
            (bad, paper),
            (ink, mark),
        ):
            assert _contrast(front, back) >= 4.5, (scheme, front, back)
        page.close()


def test_first_view__asks_for_little_and_its_benchmark_runs(chromium: Browser, explored: SmallStudy) -> None:
    folder = explored.directory / "report" / "explorer"
    assert benchmark.read_bytes(chromium, folder) < 1.2e6  # nearly all of it libraries
    assert benchmark.first_view(chromium, folder) > 0
    assert benchmark.empty(chromium, folder) > 0
    assert len(benchmark.moved(chromium, folder)) == 2
    assert not (folder / "empty.html").exists()


def test_packs__are_the_same_every_time_and_small() -> None:
    values = {"name": "θ", "numbers": np.arange(10, dtype=np.uint16), "few": np.zeros(0, np.float32)}
    assert explore.packed(values) == explore.packed(dict(values))
    assert len(explore.packed({"zeros": np.zeros(10**6, np.uint32)})) < 5000
