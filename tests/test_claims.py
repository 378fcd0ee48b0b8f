"""Whether a study agrees with what the paper says of its curves: made-up curves that do, that do not, and too few."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr

from jobs.claims import Claim, claims
from jobs.judging import read_curves
from schemas.metrics import Metrics
from schemas.study import Study

NAN = float("nan")
YES, NO, OPEN = "agrees", "does not agree", "cannot be told"
NAMES = (
    "rises", "largest", "tuned above base", "base is low", "decoder dips", "encoder dips", "peaks", "French", "Arabic",
    "decoder is low", "stays high", "lexical falls",
)  # fmt: skip

BERT = {
    "random": {"model": "bert", "untrained": True},
    "base": {"model": "bert"},
    "ner": {"model": "bert", "tuned_for": "ner", "tuned_on": ["de", "en"]},
    "sst": {"model": "bert", "tuned_for": "sst", "tuned_on": ["de", "en"]},
    "given": {"model": "bert-of-others", "tuned_on": ["de", "en"]},
}
MT5 = {
    "random": {"model": "mt5", "untrained": True},
    "base": {"model": "mt5"},
    "mt": {"model": "mt5", "tuned_for": "ted", "tuned_on": ["de", "en"]},
    "mt-fr": {"model": "mt5", "tuned_for": "ted", "tuned_on": ["fr", "en"]},
    "sst": {"model": "mt5", "tuned_for": "sst", "tuned_on": ["de", "en"]},
    "given": {"model": "mt5-of-others", "tuned_on": ["de", "en"]},
}
GPT = {
    "base": {"model": "gpt"},
    "mt": {"model": "gpt", "tuned_for": "ted", "tuned_on": ["de", "en"]},
}


def study(checkpoints: Mapping[str, Any], k: int = 600) -> Study:
    """A study of de, fr and ar with en; BERT has an encoder alone, GPT a decoder."""
    files = {language: f"{language}.txt" for language in ("en", "de", "fr", "ar")}
    stacks = ["encoder", "decoder"] if checkpoints is MT5 else ["decoder"] if checkpoints is GPT else ["encoder"]
    train = {"de": "de", "en": "en"}
    return Study.model_validate(
        {
            "corpus": {"files": files},
            "checkpoints": checkpoints,
            "activations": {"stacks": stacks},
            "concepts": {"k": k},
            "downstream": {
                "ner": {"kind": "tagging", "train": train},
                "sst": {"kind": "classification", "train": train},
                "ted": {"kind": "translation", "train": {"de-en": ["de", "en"], "fr-en": ["fr", "en"]}},
            },
        }
    )


def table(name: str, dims: Sequence[str], cells: Mapping[str, Sequence[float]]) -> xr.Dataset:
    """Fractions along labels and layer, from values in per cent by their labels; what is not among them is NaN."""
    rows = [tuple(labels.split()) for labels in cells]
    known = [list(dict.fromkeys(row[at] for row in rows)) for at in range(len(dims))]
    layers = max(map(len, cells.values()))
    values = np.full((*map(len, known), layers), NAN)
    for row, curve in zip(rows, cells.values(), strict=True):
        values[tuple(labels.index(label) for labels, label in zip(known, row, strict=True))][: len(curve)] = curve
    coordinates = {**dict(zip(dims, known, strict=True)), "layer": range(layers)}
    return xr.Dataset({name: ((*dims, "layer"), values / 100)}, coordinates)


def curves(
    calign: Mapping[str, Sequence[float]] | None = None, colap: Mapping[str, Sequence[float]] | None = None
) -> xr.DataTree:
    """Results of curves in per cent, by "checkpoint stack source target" and "checkpoint stack language_set"."""
    nodes = {
        "/calign": table(
            "calign", ("checkpoint", "stack", "source", "target"), calign or {"base encoder de en": [NAN]}
        ),
        "/colap": table("colap", ("checkpoint", "stack", "language_set"), colap or {"base encoder de+en": [NAN]}),
    }
    return xr.DataTree.from_dict(nodes)


def both_ways(name: str, *values: float) -> dict[str, tuple[float, ...]]:
    """The same curve from de to en and from en to de."""
    return {f"{name} de en": values, f"{name} en de": values}


def judged(name: str, tree: xr.DataTree, of: Study) -> Claim:
    found = dict(zip(NAMES, claims(tree, of), strict=True))
    for claim in found.values():
        assert claim.verdict in (YES, NO, OPEN)
        assert claim.words
        assert claim.criterion
        assert claim.found
    return found[name]


RISING, FLAT, FALLING = (10, 20, 30, 40), (10, 10, 10.5, 10.5), (40, 30, 20, 10)


@pytest.mark.parametrize(
    ("name", "checkpoints", "calign", "verdict"),
    [
        ("rises", BERT, both_ways("ner encoder", *RISING), YES),
        ("rises", BERT, both_ways("ner encoder", *FLAT), NO),  # half a point
        ("rises", BERT, both_ways("ner encoder", 41, 0, 40, 40), NO),  # in the mean, but the peak is below
        ("rises", BERT, both_ways("ner encoder", 0, 0, 0, 0), NO),
        ("rises", BERT, both_ways("ner encoder", *RISING) | both_ways("base encoder", *FALLING), NO),
        ("rises", BERT, both_ways("base encoder", *RISING), YES),
        ("rises", BERT, {"ner encoder de en": RISING}, OPEN),  # one curve
        ("rises", BERT, {"ner encoder de en": RISING, "ner encoder en de": FALLING}, OPEN),  # a tie
        ("rises", BERT, both_ways("ner encoder", 10, NAN, 30, 40) | {"base encoder fr en": RISING}, OPEN),
        ("rises", BERT, both_ways("random encoder", *RISING), OPEN),
        ("rises", BERT, {"ner encoder fr en": RISING, "ner encoder en fr": RISING}, OPEN),  # zero-shot
        ("rises", BERT, {"base encoder de en+fr": RISING, "base encoder en de+fr": RISING}, OPEN),
        ("rises", MT5, both_ways("mt encoder", *RISING) | both_ways("mt decoder", *FALLING), NO),
        ("rises", MT5, both_ways("mt encoder", *RISING) | both_ways("mt encoder-decoder", *FALLING), OPEN),
        ("rises", MT5, both_ways("mt encoder", *RISING) | both_ways("mt decoder", *RISING)
         | both_ways("mt encoder-decoder", *FALLING) | both_ways("mt decoder-encoder", *FALLING), YES),
        ("rises", MT5, both_ways("base encoder", *RISING) | both_ways("base decoder", 1, 1, 1, 1), YES),
        ("rises", GPT, both_ways("base decoder", *RISING), YES),
        ("largest", BERT, both_ways("ner encoder", 10, 52), YES),
        ("largest", BERT, both_ways("ner encoder", 10, 52.5), NO),
        ("largest", BERT, {"ner encoder de en": (10, 31), "ner encoder en de": (10, 42)}, NO),
        ("largest", BERT, {"ner encoder en de": (10, 42)}, OPEN),
        ("largest", BERT, both_ways("sst encoder", 10, 42) | both_ways("given encoder", 10, 42), OPEN),
        ("largest", BERT, both_ways("base encoder", 10, 42) | both_ways("random encoder", 10, 42), OPEN),
        ("tuned above base", BERT, both_ways("base encoder", 5, 10) | both_ways("ner encoder", 0, 11), YES),
        ("tuned above base", BERT, both_ways("base encoder", 5, 10) | both_ways("ner encoder", 9, 10.9), NO),
        ("tuned above base", BERT, both_ways("base encoder", 0, 0) | both_ways("ner encoder", 0, 0), NO),
        ("tuned above base", BERT, both_ways("ner encoder", 0, 11), OPEN),
        ("tuned above base", BERT, both_ways("random encoder", 0, 1) | both_ways("ner encoder", 0, 11), OPEN),
        ("tuned above base", BERT, both_ways("base encoder", 5, NAN) | both_ways("ner encoder", 0, 11), OPEN),
        ("tuned above base", MT5, both_ways("base encoder", 5, 10) | both_ways("mt encoder", 0, 20)
         | both_ways("base encoder-decoder", 5, 10) | both_ways("mt encoder-decoder", 0, 20), OPEN),
        ("tuned above base", MT5, both_ways("base encoder", 5, 10) | both_ways("mt encoder", 0, 20)
         | both_ways("base decoder", 1, 1) | both_ways("mt decoder", 1, 1), NO),
        ("tuned above base", MT5, both_ways("base encoder", 5, 10) | both_ways("mt encoder", 0, 20)
         | both_ways("base decoder", 1, 1) | both_ways("mt decoder", 1, 9), YES),
        ("base is low", MT5, both_ways("base encoder", 8, 20) | both_ways("base decoder", 1, 2.9), YES),
        ("base is low", MT5, both_ways("base encoder", 8, 20) | both_ways("base decoder", 1, 3), NO),
        ("base is low", MT5, both_ways("base encoder", 8, 21) | both_ways("base decoder", 1, 2.9), NO),
        ("base is low", MT5, both_ways("base encoder", 1, 2) | both_ways("base decoder", 1, 2), NO),
        ("base is low", MT5, both_ways("base encoder", 8, 20), OPEN),
        ("base is low", MT5, both_ways("base decoder", 1, 2) | both_ways("random encoder", 8, 20), OPEN),
        ("base is low", BERT, both_ways("base encoder", 8, 30), OPEN),
        ("decoder dips", MT5, both_ways("mt decoder", 5, 10, 20, 18), YES),
        ("decoder dips", MT5, both_ways("mt decoder", 5, 10, 20, 18.5), NO),  # less than a tenth
        ("decoder dips", MT5, both_ways("mt decoder", 0, 1, 2, 1.5), NO),  # less than a point
        ("decoder dips", MT5, both_ways("mt decoder", 40, 10, 10, 10), NO),  # long before
        ("decoder dips", MT5, both_ways("mt decoder", 20, 10), OPEN),
        ("decoder dips", MT5, both_ways("mt decoder", 5, 10, 20, NAN) | {"mt decoder fr en": RISING}, OPEN),
        ("decoder dips", MT5, both_ways("mt encoder", 5, 10, 20, 10), OPEN),
        ("decoder dips", MT5, both_ways("mt encoder-decoder", 5, 10, 20, 10), OPEN),
        ("decoder dips", MT5, both_ways("base decoder", 5, 10, 20, 10), OPEN),
        ("decoder dips", MT5, both_ways("sst decoder", 5, 10, 20, 10) | both_ways("given decoder", 5, 9, 8, 1), OPEN),
        ("encoder dips", BERT, both_ways("ner encoder", 5, 10, 20, 10) | both_ways("sst encoder", 5, 10, 9, 8), YES),
        ("encoder dips", BERT, both_ways("ner encoder", 5, 10, 20, 10) | both_ways("sst encoder", 5, 10, 9, 9), NO),
        ("encoder dips", BERT, both_ways("sst encoder", 5, 10, 20, 10), YES),
        ("encoder dips", BERT, both_ways("given encoder", 5, 10, 20, 10), OPEN),
        ("encoder dips", BERT, both_ways("base encoder", 5, 10, 20, 10), OPEN),
        ("encoder dips", MT5, both_ways("sst encoder", 5, 10, 20, 10), OPEN),
    ],
)  # fmt: skip
def test_calign_claims(
    name: str, checkpoints: Mapping[str, Any], calign: Mapping[str, Sequence[float]], verdict: str
) -> None:
    assert judged(name, curves(calign), study(checkpoints)).verdict == verdict


@pytest.mark.parametrize(
    ("name", "checkpoints", "colap", "verdict"),
    [
        ("peaks", BERT, {"base encoder de+en": (40, 9), "ner encoder de+en": (9, 60)}, YES),
        ("peaks", BERT, {"base encoder de+en": (39, 9), "ner encoder de+en": (9, 61)}, NO),
        ("peaks", BERT, {"base encoder de+en": (39, 9), "ner encoder de+en": (9, 60)}, OPEN),
        ("peaks", BERT, {"base encoder de+en": (9, 50)}, OPEN),  # one curve is not most settings
        ("peaks", BERT, {"base encoder de+en": (9, 50), "random encoder de+en": (9, 50)}, OPEN),
        ("peaks", BERT, {"base encoder de+en": (9, 50), "ner encoder fr+en": (9, 50)}, OPEN),
        ("peaks", BERT, {"base encoder de+en": (9, 50), "base encoder de+fr+en": (9, 50)}, OPEN),
        ("peaks", MT5, {"base encoder de+en": (9, 50), "mt encoder de+en": (9, 50), "mt decoder de+en": (9, 9)}, YES),
        ("French", MT5, {"base decoder fr+en": (9, 70)}, YES),
        ("French", MT5, {"base decoder en+fr": (9, 69)}, NO),
        ("French", MT5, {"base decoder fr+en": (9, NAN), "base decoder de+en": (9, 80)}, OPEN),
        ("French", MT5, {"base encoder fr+en": (9, 80), "base decoder de+fr": (9, 80)}, OPEN),
        ("French", MT5, {"random decoder fr+en": (9, 80), "mt decoder fr+en": (9, 80)}, OPEN),
        ("French", MT5, {"mt-fr decoder fr+en": (9, 80), "mt-fr encoder fr+en": (9, 80)}, OPEN),
        ("French", GPT, {"base decoder fr+en": (9, 80)}, OPEN),
        ("French", BERT, {"base encoder fr+en": (9, 80)}, OPEN),
        ("Arabic", MT5, {"base decoder ar+en": (9, 35), "base decoder fr+en": (9, 9)}, YES),
        ("Arabic", MT5, {"base decoder ar+en": (9, 36)}, NO),
        ("Arabic", MT5, {"base decoder fr+en": (9, 25)}, OPEN),
        ("decoder is low", MT5, {"mt decoder de+en": (9, 19, 4)}, YES),
        ("decoder is low", MT5, {"mt decoder de+en": (9, 20, 4)}, NO),
        ("decoder is low", MT5, {"mt decoder de+en": (9, 19, 5)}, NO),
        ("decoder is low", MT5, {"mt decoder de+en": (9, 19, NAN), "mt decoder fr+en": (9, 9, 9)}, OPEN),
        ("decoder is low", MT5, {"mt decoder fr+en": (9, 9, 4), "base decoder de+en": (9, 9, 4)}, OPEN),
        ("decoder is low", GPT, {"mt decoder de+en": (9, 19, 4)}, OPEN),
        ("decoder is low", MT5, {"mt encoder de+en": (9, 9, 4), "sst decoder de+en": (9, 9, 4)}, OPEN),
        ("stays high", BERT, {"ner encoder de+en": (10, 50, 40, 25)}, YES),
        ("stays high", BERT, {"ner encoder de+en": (10, 50, 40, 24)}, NO),  # less than half
        ("stays high", BERT, {"ner encoder de+en": (10, 20, 20, 19)}, NO),  # never high
        ("stays high", BERT, {"ner encoder de+en": (10, 50, 9, 40)}, NO),  # drops before the last layer
        ("stays high", BERT, {"ner encoder de+en": (50, 40)}, OPEN),
        ("stays high", BERT, {"sst encoder de+en": (10, 50, 40, 25), "ner encoder fr+en": (9, 50, 40, 25)}, OPEN),
        ("stays high", BERT, {"base encoder de+en": (10, 50, 40, 25), "given encoder de+en": (9, 50, 40, 25)}, OPEN),
    ],
)
def test_colap_claims(
    name: str, checkpoints: Mapping[str, Any], colap: Mapping[str, Sequence[float]], verdict: str
) -> None:
    assert judged(name, curves(colap=colap), study(checkpoints)).verdict == verdict


def shared(cells: Mapping[str, Sequence[float]], considered: float = 100) -> xr.DataTree:
    """Results of concepts with a property, by "checkpoint stack selection property"; others were not looked for."""
    found = 100 * table("concepts", ("checkpoint", "stack", "selection", "property"), cells)
    found["considered"] = found.concepts.where(found.concepts.isnull(), considered)
    tree = curves()
    tree["/properties"] = xr.DataTree(found.expand_dims(rule=["conceptx"]))
    return tree


def described(
    name: str, suffix: Sequence[float], tag: Sequence[float], kind: str = "pos"
) -> dict[str, Sequence[float]]:
    """Concepts with a common suffix and with a common tag; nearly all have one casing."""
    counts = {"suffix": suffix, "casing": [90] * len(suffix), "lexical": [95] * len(suffix), kind: tag, "tagged": tag}
    return {f"{name} {of}": values for of, values in counts.items()}


FALLS, RISES, STAYS = (40, 30, 20, 10), (10, 20, 30, 40), (20, 20, 20, 20)


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        (described("base encoder en", FALLS, RISES), YES),
        (described("base encoder en@de-en", FALLS, RISES), YES),
        (described("base encoder en", FALLS, STAYS), NO),
        (described("base encoder en", STAYS, RISES), NO),
        (described("base encoder en", (20, 20, 19.5, 19.5), RISES), NO),  # half a point
        (described("base encoder en", FALLS, RISES) | described("ner encoder en", FALLS, RISES), YES),
        (described("base encoder en", FALLS, RISES) | described("ner encoder en", (21, 21, 20, 22), RISES), OPEN),
        (described("base encoder en", FALLS, RISES) | described("ner encoder en", RISES, RISES)
         | described("sst encoder en", RISES, RISES), NO),
        (described("base encoder en", (90, 90, 0, 0), RISES) | described("ner encoder en", RISES, RISES)
         | described("sst encoder en", RISES, RISES), NO),  # overall it falls, in most checkpoints it does not
        # what must not count: untrained, a language without tags, zero-shot, a decoder, a layer without a score
        (described("base encoder en", FALLS, RISES) | described("random encoder en", (0, 0, 99, 99), STAYS), YES),
        (described("base encoder en", FALLS, RISES) | {"base encoder de suffix": (0, 0, 99, 99)}, YES),
        (described("ner encoder en", FALLS, RISES) | described("ner encoder fr", (0, 0, 99, 99), STAYS), YES),
        (described("base encoder en", FALLS, RISES) | described("base decoder en", (0, 0, 99, 99), STAYS), YES),
        (described("base encoder en", FALLS, RISES) | described("base encoder de", (0, NAN, 99, 99), STAYS), YES),
        (described("random encoder en", FALLS, RISES), OPEN),
        (described("base decoder en", FALLS, RISES), OPEN),
        (described("base encoder en", (40, NAN, 20, 10), RISES), OPEN),
        (described("base encoder en", (40,), (10,)), OPEN),
        ({"base encoder en suffix": FALLS, "base encoder en lexical": FALLS}, OPEN),
    ],
)  # fmt: skip
def test_lexical_claim(cells: Mapping[str, Sequence[float]], verdict: str) -> None:
    assert judged("lexical falls", shared(cells), study(BERT)).verdict == verdict


def test_lexical_claim__where_nothing_was_described() -> None:
    claim = judged("lexical falls", curves(), study(BERT))
    assert claim.verdict == OPEN
    assert claim.found.startswith("needs tags")
    nothing = shared(described("base encoder en", FALLS, RISES), considered=0)
    assert judged("lexical falls", nothing, study(BERT)).verdict == OPEN


def test_lexical_claim__rests_on_semantic_tags_where_there_are_any() -> None:
    cells = described("base encoder en", FALLS, RISES, kind="semantic")
    assert "(kinds of tags: semantic)" in judged("lexical falls", shared(cells), study(BERT)).found
    mixed = shared(cells | {"base encoder en pos": STAYS, "base encoder en tagged": STAYS})
    assert judged("lexical falls", mixed, study(BERT)).verdict == YES
    other = shared(described("base encoder en", FALLS, RISES))
    assert "(kinds of tags: pos)" in judged("lexical falls", other, study(BERT)).found


def test_lexical_claim__says_its_numbers_overall_and_by_checkpoint() -> None:
    cells = described("base encoder en", FALLS, RISES) | described("ner encoder en", (20, 20, 10, 10), RISES)
    found = judged(
        "lexical falls", shared(cells | described("ner encoder de", (1, NAN, 1, 1), RISES)), study(BERT)
    ).found
    assert "overall, agrees: suffix 27.5 → 12.5 %, tag 15.0 → 35.0 %" in found
    assert "1 left out" in found
    assert "by checkpoint, agrees: 2 of 2 checkpoints (base: suffix 35.0 → 15.0 %, tag 15.0 → 35.0 %; ner: " in found


def test_read_curves__are_of_two_languages_within_a_stack() -> None:
    cells = (
        both_ways("mt encoder", *RISING) | both_ways("mt encoder-decoder", *RISING) | {"mt encoder de en+fr": RISING}
    )
    scores = curves(cells | {"mt decoder de en": (1, NAN)})["calign"].to_dataset().calign
    read = {curve.name: curve for curve in read_curves(scores, study(MT5), ("source", "target"))}
    assert [*read] == ["mt encoder de → en", "mt encoder en → de", "mt decoder de → en"]
    assert read["mt encoder de → en"].values.tolist() == [*RISING]
    assert read["mt decoder de → en"].layers == (0,)  # the only one of the decoder with a score
    assert {(curve.state, curve.task, curve.alone) for curve in read.values()} == {("fine-tuned", "translation", False)}


def test_claims__of_two_stacks_say_both_numbers() -> None:
    tree = curves(both_ways("base encoder", 8, 20) | both_ways("base decoder", 1, 4))
    assert judged("base is low", tree, study(MT5)).found == (
        "encoder, agrees: 2 of 2 curves (base encoder de → en: at most 20.0; base encoder en → de: at most 20.0). "
        "decoder, does not agree: 0 of 2 curves (base decoder de → en: at most 4.0; base decoder en → de: at most 4.0)"
    )
    tree = curves(both_ways("base encoder", 8, 20))
    found = judged("base is low", tree, study(MT5)).found
    assert "decoder, cannot be told: no curve of it in a base checkpoint" in found


def test_claims__say_what_was_left_out() -> None:
    cells = both_ways("ner encoder", *RISING) | {"given encoder de en": (10, NAN, 30, 40), "base encoder fr en": RISING}
    claim = judged("rises", curves(cells | {"given encoder fr en": RISING}), study(BERT))
    assert "2 of 2 curves (ner encoder de → en: 15.0 → 35.0, largest 40.0 in layer 3; " in claim.found
    assert ", 1 left out: layers without a score, or too few" in claim.found
    many = {f"base encoder {one} {other}": RISING for one in ("en", "de", "fr", "ar") for other in ("en", "de", "fr")}
    assert "; and 4 more)" in judged("rises", curves(many), study(BERT)).found


def test_claims__know_the_last_layer_of_each_checkpoint() -> None:
    """A model of fewer layers than another has no scores in the layers that it has not."""
    cells = both_ways("ner encoder", 5, 10, 20, 10) | both_ways("base encoder", 5, 5, 5, 5, 5, 5)
    claim = judged("encoder dips", curves(cells), study(BERT))
    assert claim.verdict == YES
    assert "20.0 → 10.0 in layer 3" in claim.found
    assert judged("tuned above base", curves(cells), study(BERT)).verdict == OPEN  # other layers, other halves


def test_claims__compare_a_tuned_checkpoint_with_the_base_of_its_own_model() -> None:
    two = {"other": {"model": "xlmr"}, **BERT}
    cells = both_ways("other encoder", 50, 50) | both_ways("base encoder", 5, 10) | both_ways("ner encoder", 0, 20)
    assert judged("tuned above base", curves(cells), study(two)).verdict == YES
    cells = both_ways("other encoder", 5, 10) | both_ways("ner encoder", 0, 20)
    assert judged("tuned above base", curves(cells), study(two)).verdict == OPEN
    given = both_ways("given encoder", 0, 20)
    assert judged("tuned above base", curves(given | both_ways("base encoder", 5, 10)), study(BERT)).verdict == YES
    assert judged(
        "tuned above base",
        curves(given | cells | both_ways("base encoder", 5, 10)),
        study({name: two[name] for name in ("other", "base", "given", "ner")}),
    ).found.startswith("2 of 2 curves (ner encoder")  # of two bases none is known to be the one that was tuned


def test_claims__say_where_numbers_were_made_otherwise() -> None:
    tree = curves(both_ways("ner encoder", 10, 42))
    assert judged("largest", tree, study(BERT, k=100)).found.endswith(". Here: K = 100, in the paper 600")
    assert "Here:" not in judged("largest", tree, study(BERT)).found
    assert "Here:" not in judged("largest", curves(), study(BERT, k=100)).found
    for metrics, said in (({"preset": "reference"}, False), ({"theta_align": 0.2}, True)):
        given = study(BERT).model_copy(update={"metrics": Metrics(**metrics)})
        assert ("Here: metrics of other definitions" in judged("largest", tree, given).found) == said


def test_claims__show_peaks_elsewhere_where_the_figure_has_none() -> None:
    claim = judged("French", curves(colap={"base encoder fr+en": (9, 75), "ner encoder de+en": (9, 9)}), study(BERT))
    assert claim.verdict == OPEN
    assert claim.found.endswith("; elsewhere it peaks at: base encoder fr+en 75.0")
    assert "elsewhere" not in judged("Arabic", curves(), study(BERT)).found
