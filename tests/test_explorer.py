"""The explorer in a real browser: what it shows against the xarray results and stores of the study."""

from collections import Counter
from typing import Any

import numpy as np
import xarray as xr
from playwright.sync_api import Browser

from engine import calign, colap, store
from engine.aligned import matched_words
from engine.concepts import chosen_concepts
from jobs import explore
from jobs.layout import Layout
from jobs.selections import concepts_name
from schemas.concepts import CONCEPTS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.links import DICTIONARY
from schemas.results import PROPERTIES_OF_PART
from tests.browser import Opened
from tests.explored import a_browser, a_page, a_study, a_study_of_stacks, loaded  # noqa: F401  (fixtures)
from tests.small_study import SmallStudy


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
    study, _, tree = loaded(explored)
    shown = page.show(view="curves")
    assert shown.title().startswith("study – Colign")
    shown.get_by_text("CALIGN in numbers").click()
    found = page.rows("CALIGN by layer")
    assert len(found) == 2 * 3 * 4  # checkpoints, layers and the first groups
    scores = tree["calign"].to_dataset()
    drawn = tree["uncertainty/calign"].to_dataset()
    for checkpoint, languages, state, layer, share, aligned, concepts, mutual, *bands in found:
        source, targets = languages.split(" → ")
        where = {"checkpoint": checkpoint, "stack": "encoder", "layer": int(layer)}
        of = scores.sel(where | {"source": source, "target": targets.replace(" or ", "+")})
        assert state == study.fine_tuning(checkpoint, source, *targets.split(" or "))
        assert _near(share, float(of.calign))
        assert (int(aligned), int(concepts)) == (of.aligned_concepts, of.concepts)
        assert _near(mutual, float(of.mutual_calign))
        band = drawn.sel(where | {"source": source, "target": targets.replace(" or ", "+")})
        for cell, value in zip(bands, (band.low, band.high, band.null_types_high), strict=True):
            assert _near(cell, float(value))
    shown.get_by_text("COLAP in numbers").click()
    for checkpoint, languages, _, layer, share, overlapping, *_ in page.rows("COLAP by layer"):
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
    study, layout, _ = loaded(explored)
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
            one, other = (store.load(layout.aligned_types(checkpoint, "encoder", 7, *way), ALIGNED_TYPES).compute()
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
    study, layout, _ = loaded(explored)
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
    shared = store.read(layout.properties("tuned", "encoder", "de"), PROPERTIES_OF_PART).sel(layer=2)
    share = float(shared.share.isel(concept=concept).max())
    said = f"{_percent(share)} of its tokens share" if share else "of its tokens share"
    assert (said in (article.text_content() or "")) == (share > 0)
    sentences = study_lines(explored, "de")
    for item in article.locator(".sentences li").all():
        assert item.locator("mark").text_content() in held
        assert item.locator("bdi").text_content() in sentences
    counts = store.load(layout.aligned_types("tuned", "encoder", 7, "de", "en"), ALIGNED_TYPES).compute()
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
    study, layout, _ = loaded(explored)
    page.show(view="concepts", checkpoint="base", selection="de", layer=3, target="en", sort="alignment")
    counts = store.load(layout.aligned_types("base", "encoder", 7, "de", "en"), ALIGNED_TYPES).compute()
    pairs = calign.aligned(counts, **study.metrics.alignment)[2].any(axis=1)
    found = page.rows("Concepts of de")
    assert [row[4] for row in found] == ["yes"] * int(pairs.sum()) + ["no"] * (len(found) - int(pairs.sum()))
    page.show(view="concepts", checkpoint="base", selection="de", layer=3, sort="purity")
    shares = [float(row[6].split()[0]) for row in page.rows("Concepts of de")]
    assert shares == sorted(shares, reverse=True)
    shown = page.show(view="concepts", checkpoint="base", selection="de%2Ben", layer=3, sort="overlap")
    mixed = store.load(layout.language_count("base", "encoder", 7, "de+en"), LANGUAGE_COUNT).compute()
    over = colap.overlapping(mixed, **study.metrics.overlap)[2]
    assert {int(row[0]): row[5] == "yes" for row in page.rows("Concepts of de+en")} == {
        c: bool(over[c]) for c in np.flatnonzero(mixed.language_count.sum(["language", "unit"]).values[2]).tolist()
    }
    assert "de" in (shown.locator(".mix").first.get_attribute("aria-label") or "")


def test_verdicts__follow_the_rules(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = loaded(explored)
    mixed = store.load(layout.language_count("base", "encoder", 7, "de+en"), LANGUAGE_COUNT).compute()
    units = mixed.language_count.sel(unit="type").values[1]
    over = colap.overlapping(mixed, **study.metrics.overlap | {"unit": "type"})[1]
    for concept in np.flatnonzero(units.sum(axis=1)).tolist():
        where = {"selection": "de%2Ben", "layer": 2, "concept": concept, "overlap_unit": "type"}
        shown = page.show(view="concepts", checkpoint="base", **where)
        told = shown.locator(".overlap").text_content() or ""
        assert told.startswith("Overlaps" if over[concept] else "Does not overlap")
        assert told.count("✓") == int((units[concept] >= 0.3 * units[concept].sum() - 1e-9).sum())
    counts = store.load(layout.aligned_types("base", "encoder", 7, "de", "en"), ALIGNED_TYPES).compute()
    loose = {"theta_align": 0.3, "min_types": 0, "max_size_gap": 0.3, "size_rule": "source"}
    pairs = calign.aligned(counts, **study.metrics.alignment | loose)[1]
    for concept in range(7):
        page.show(view="concepts", checkpoint="base", selection="de", layer=2, concept=concept, target="en", **loose)
        rows = page.rows("Nearest concepts of en")
        assert {int(row[0].split()[1]) for row in rows if row[2] == "yes"} == set(
            np.flatnonzero(pairs[concept]).tolist()
        )
        for row in rows:
            gap = float(row[4].split("(")[0].split(",")[1].removesuffix(" % "))
            assert ("✓" in row[4]) == (gap <= 30.0)


def test_search__finds_other_layers(page: Opened, explored: SmallStudy) -> None:
    _, layout, _ = loaded(explored)
    concepts, labels = _concepts(layout, "base", "encoder", "de")
    shown = page.show(view="concepts", checkpoint="base", selection="de", layer=2, search="kat")
    at = concepts.word.values == "kater"
    expected = ", ".join(f"layer {layer}: {len(np.unique(labels[layer][at]))}" for layer in (0, 3))
    assert shown.get_by_text("In other layers").text_content() == f"In other layers: {expected}."


def test_compare__languages_checkpoints_and_stacks(page: Opened, explored: SmallStudy) -> None:
    study, layout, _ = loaded(explored)
    shown = page.show(view="compare", checkpoint="base", other_checkpoint="base", selection="de", other_selection="en",
                      layer=2, other_layer=2)  # fmt: skip
    counts = store.load(layout.aligned_types("base", "encoder", 7, "de", "en"), ALIGNED_TYPES).compute()
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
    study, layout, _ = loaded(stacked)
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
    shown = page.show(view="concepts", stack="decoder", layer=3, selection="de@de-en", concept=0)
    shown.get_by_label("Stack").select_option("encoder")  # which has no layer 3
    page.drawn()
    assert shown.locator("select[name=layer]").input_value() == "2"
    for view in ("curves", "follow", "map"):
        assert page.show(view=view, stack="decoder", word="der").locator("figure svg").count() >= 1
    assert page.errors == []
    page.close()


def test_follow__counts_occurrences_by_layer(page: Opened, explored: SmallStudy) -> None:
    _, layout, _ = loaded(explored)
    shown = page.show(view="follow", checkpoint="base", beside="tuned", selection="de", layer=2, word="sieht")
    assert shown.locator("figure svg").count() == 2
    assert shown.locator("figure svg [aria-label*='U+2068'], figure svg[aria-label*='U+2068']").count() == 0
    for checkpoint in ("base", "tuned"):
        concepts, labels = _concepts(layout, checkpoint, "encoder", "de")
        shown.locator("details.numbers summary").nth(["base", "tuned"].index(checkpoint)).click()
        at = np.flatnonzero(concepts.word.values == "sieht")
        expected = {(layer, c): n for layer, of in labels.items() for c, n in Counter(of[at].tolist()).items()}
        rows = page.rows(f"Occurrences of «\u2068sieht\u2069» in {checkpoint}")
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
    study, layout, _ = loaded(explored)
    _, labels = _concepts(layout, "base", "encoder", "de")
    shown = page.show(view="map", checkpoint="base", selection="de", layer=2)
    points = shown.locator("figure svg .mark-symbol.role-mark path")
    counts = store.load(layout.aligned_types("base", "encoder", 7, "de", "en"), ALIGNED_TYPES).compute()
    aligned = calign.aligned(counts, **study.metrics.alignment)[1].any(axis=1)[np.unique(labels[2])]
    fills = Counter(points.evaluate_all("found => found.map(one => one.getAttribute('fill'))"))
    assert sorted(fills.values()) == sorted(Counter(aligned.tolist()).values())
    assert shown.evaluate("Figures.colours()[0]") in fills
    points.first.click(force=True)
    page.drawn()
    assert "concept=" in shown.url
    assert shown.locator(".chosen .cloud a").count() > 0
    shown = page.show(view="map", checkpoint="base", selection="de%2Ben%2Bfr", layer=2)
    assert "mostly" in (shown.locator("figure svg").text_content() or "")
