"""What the paper says of the shape of its curves, and whether a study agrees (Sections 4.1 and 4.2, Figures 2 to 9).

A claim is judged on curves of the kind that the paper speaks of, and on no others: within one stack, of two languages,
of a base checkpoint or one tuned on these languages. What the paper says of two kinds is judged of each apart.
"""

from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.properties import kinds_of_tags
from jobs.judging import AGREES, DIFFERS, OPEN, SHOWN, Case, Claim, Curve, Part, judged, most, read_curves, try_each
from jobs.selections import languages_of
from schemas.metrics import Metrics
from schemas.study import Study

__all__ = ["Claim", "claims"]

_NOTABLE = 1.0
"""Percentage points of a change at least; less is none."""

_AROUND = 10.0
"""Percentage points that a value may lie above or below what the paper gives as "around" or "up to"."""

_FALL = 0.1
"""Part of what was before that a dip takes away at least."""

_K = 600
"""Concepts of each layer in the paper."""

_DEFINITIONS = (Metrics(), Metrics(preset="reference"))
"""Metrics of the paper's text and of its scripts."""

_MOST = "; where exactly half of the curves do, it cannot be told"
_TREND = f"{_MOST}, nor from one curve"
_NO_TRANSLATOR = "no decoder of an encoder-decoder model that the study tunes for translation (tuned_for)"
_DIP = (
    f"the last layer studied lies below the largest of the upper half before it by at least {_NOTABLE:g} point and "
    f"{100 * _FALL:g} % of it"
)


def claims(results: xr.DataTree, study: Study) -> list[Claim]:
    """Every claim with the study's numbers."""
    calign = [*read_curves(results["calign"].to_dataset().calign, study, ("source", "target"))]
    colap = [*read_curves(results["colap"].to_dataset().colap, study, ("language_set",))]
    return [
        _rises(calign, study),
        _beside_paper(_largest(calign), study),
        _tuned_above_base(calign, study),
        _beside_paper(_base_is_low(calign), study),
        _decoder_dips(calign),
        _encoder_dips(calign),
        _beside_paper(_peaks(colap), study),
        _beside_paper(_peaks_of(colap, "fr", "French", 80.0), study),
        _beside_paper(_peaks_of(colap, "ar", "Arabic", 25.0), study),
        _beside_paper(_decoder_is_low(colap), study),
        _beside_paper(_stays_high(colap), study),
        _lexical_falls(results, study),
    ]


def _beside_paper(claim: Claim, study: Study) -> Claim:
    """A claim that gives a number, with a word on what the study does otherwise than the paper's number was made."""
    if claim.verdict == OPEN:
        return claim
    k = study.concepts.ks[0]
    others = [f"K = {k}, in the paper {_K}"] if k != _K else []
    others += ["metrics of other definitions than the paper's"] if study.metrics not in _DEFINITIONS else []
    found = f"{claim.found}. Here: {'; '.join(others)}" if others else claim.found
    return Claim(claim.words, claim.criterion, found, claim.verdict)


def _rises(calign: list[Curve], study: Study) -> Claim:
    stacks = study.activations.stacks
    kinds = [
        (state, stack)
        for state, stack in product(("fine-tuned", "base"), stacks)
        if any(c.state == state for c in calign) and ((state, stack) != ("base", "decoder") or len(stacks) == 1)
    ]
    parts = [
        most(
            f"{state} {stack}",
            try_each(
                [c for c in calign if (c.state, c.stack) == (state, stack)],
                lambda c: c.upper.mean() >= c.lower.mean() + _NOTABLE and c.upper.max() > c.lower.max(),
                lambda c: f"{c.lower.mean():.1f} → {c.upper.mean():.1f}, {_top(c)}",
            ),
            "no such curves",
            least=2,
        )
        for state, stack in kinds
    ]
    return judged(
        "CALIGN rises with depth and peaks in the higher layers (Section 4.1, Figure 2)",
        f"in most curves the upper half of the layers has a mean at least {_NOTABLE:g} point above that of the lower "
        "half, and the largest value; so in tuned and in base checkpoints, in encoder and in decoder, as far as the "
        f"study has them, but for the base's decoder, which the paper finds hardly aligned{_TREND}",
        parts or [Part("", "no curves of base or tuned checkpoints", OPEN)],
    )


def _top(curve: Curve) -> str:
    return f"largest {curve.values.max():.1f} in layer {curve.layers[int(curve.values.argmax())]}"


def _is_tuned_encoder(curve: Curve, *kinds: str) -> bool:
    """Whether the curve is of a model of an encoder alone, tuned on its languages for a task of a kind."""
    return curve.state == "fine-tuned" and curve.stack == "encoder" and curve.alone and curve.task in kinds


def _is_tuned_translator(curve: Curve) -> bool:
    """Whether the curve is of the decoder of an encoder-decoder model tuned to translate its languages."""
    tuned = curve.state == "fine-tuned" and curve.task == "translation"
    return tuned and curve.stack == "decoder" and not curve.alone


def _largest(calign: list[Curve]) -> Claim:
    curves = [c for c in calign if _is_tuned_encoder(c, "tagging") and c.languages == ("de", "en")]
    low, high = 42 - _AROUND, 42 + _AROUND
    part = most(
        "",
        try_each(curves, lambda c: low <= c.values.max() <= high, _top),
        "no curve de → en of an encoder that the study tunes for tagging (tuned_for) on de and en",
    )
    return judged(
        "Up to 42 % of German-English concepts align in mBERT tuned for NER (Section 4.1, Figure 2c)",
        f"the largest value, de → en, of an encoder tuned for tagging is {low:g} to {high:g} %{_MOST}",
        [part],
    )


def _tuned_above_base(calign: list[Curve], study: Study) -> Claim:
    bases = {c.name: _base_of(c, calign, study) for c in calign if c.state == "fine-tuned"}

    def case(curve: Curve) -> Case:
        base = bases[curve.name]
        if base is None or not (curve.told(2) and base.told(2)) or curve.layers != base.layers:
            return Case(curve.name, None, "")
        one, other = float(base.upper.mean()), float(curve.upper.mean())
        return Case(curve.name, other >= one + _NOTABLE, f"{one:.1f} → {other:.1f}")

    none = "no tuned checkpoint beside the base of its model"
    parts = [
        most(stack, [case(c) for c in calign if c.stack == stack and bases.get(c.name)], none, least=2)
        for stack in study.activations.stacks
    ]
    return judged(
        "Tuned checkpoints align more than the base, above all in higher layers (Section 4.1, Figures 2, 11 to 13)",
        "in most curves of tuned checkpoints the mean over the upper half of the layers is at least "
        f"{_NOTABLE:g} point above that of the base of the same model; so in each stack{_TREND}",
        parts,
    )


def _base_of(tuned: Curve, calign: list[Curve], study: Study) -> Curve | None:
    """The curve of the base that a checkpoint was tuned from; where the study was given it tuned, of the only base."""
    bases = [c for c in calign if c.state == "base" and (c.stack, c.languages) == (tuned.stack, tuned.languages)]
    model = study.checkpoints[tuned.checkpoint].model
    same = [c for c in bases if study.checkpoints[c.checkpoint].model == model]
    if same or study.checkpoints[tuned.checkpoint].tuned_for:
        return same[0] if same else None
    return bases[0] if len(bases) == 1 else None


def _base_is_low(calign: list[Curve]) -> Claim:
    ranges: dict[str, Callable[[float], bool]] = {"encoder": lambda top: 3 <= top <= 20, "decoder": lambda top: top < 3}
    parts = [
        most(
            stack,
            try_each(
                [c for c in calign if c.state == "base" and c.stack == stack and not c.alone],
                lambda c, fits=fits: fits(float(c.values.max())),  # type: ignore[misc]
                lambda c: f"at most {c.values.max():.1f}",
            ),
            "no curve of it in a base checkpoint of an encoder-decoder model",
        )
        for stack, fits in ranges.items()
    ]
    return judged(
        "The base of mT5 aligns up to 20 % in the encoder, less than 3 % in the decoder (Section 4.1, Figures 2a, 2b)",
        "most curves of the encoder have a largest value of 3 to 20 %, and most of the decoder one below 3 %, in base "
        f"checkpoints of encoder-decoder models{_MOST}",
        parts,
    )


def _dips(name: str, curves: Iterable[Curve], none: str) -> Part:
    def before(curve: Curve) -> float:
        return float(curve.upper[:-1].max())

    cases = try_each(
        curves,
        lambda c: before(c) - c.values[-1] >= max(_NOTABLE, _FALL * before(c)),
        lambda c: f"{before(c):.1f} → {c.values[-1]:.1f} in layer {c.layers[-1]}",
        layers=3,
    )
    return most(name, cases, none)


def _decoder_dips(calign: list[Curve]) -> Claim:
    return judged(
        "CALIGN falls in the final layers of the decoder of mT5 tuned to translate (Section 4.1, Figure 2b)",
        f"in most curves of a decoder tuned for translation, of an encoder-decoder model, {_DIP}{_MOST}",
        [_dips("", filter(_is_tuned_translator, calign), _NO_TRANSLATOR)],
    )


def _encoder_dips(calign: list[Curve]) -> Claim:
    kinds = [kind for kind in ("tagging", "classification") if any(_is_tuned_encoder(c, kind) for c in calign)]
    parts = [_dips(kind, [c for c in calign if _is_tuned_encoder(c, kind)], "") for kind in kinds]
    none = "no encoder-only model that the study tunes for tagging or classification (tuned_for)"
    return judged(
        "CALIGN dips in the last layer of mBERT tuned for NER and of XLM-R tuned for SST-2 (Section 4.1, Figures 2c, "
        "2d)",
        f"in most curves of an encoder-only model tuned for tagging, and so for classification, {_DIP}{_MOST}",
        parts or [Part("", none, OPEN)],
    )


def _peaks(colap: list[Curve]) -> Claim:
    curves = [c for c in colap if c.state in ("base", "fine-tuned")]
    low, high = 50 - _AROUND, 50 + _AROUND
    cases = try_each(curves, lambda c: low <= c.values.max() <= high, lambda c: f"{c.values.max():.1f}")
    return judged(
        "COLAP peaks at some 50 % in most settings (Section 4.2, Figures 7 and 8)",
        f"most curves, of base and tuned checkpoints and any stack, peak at {low:g} to {high:g} %{_TREND}",
        [most("", cases, "no curves of two languages in base or tuned checkpoints", least=2)],
    )


def _peaks_of(colap: list[Curve], language: str, called: str, about: float) -> Claim:
    """The peak of a language with English, where Figure 7c has it: the text calls 7b and 7d tuned, 7d a decoder."""
    curves = [c for c in colap if {*c.languages} == {language, "en"} and c.state in ("base", "fine-tuned")]
    shown = [c for c in curves if c.state == "base" and c.stack == "decoder" and not c.alone]
    others = "; ".join(f"{c.name} {np.nanmax(c.values):.1f}" for c in curves[:SHOWN])
    none = f"no {language}+en in the decoder of a base checkpoint of an encoder-decoder model"
    low, high = about - _AROUND, about + _AROUND
    cases = try_each(shown, lambda c: low <= c.values.max() <= high, lambda c: f"{c.values.max():.1f}")
    return judged(
        f"COLAP with English peaks at some {about:g} % for {called} (Section 4.2, Figure 7c)",
        f"most curves of {language}+en in the decoder of the base of an encoder-decoder model, which by the text is "
        f"Figure 7c, peak at {low:g} to {high:g} %{_MOST}",
        [most("", cases, f"{none}; elsewhere it peaks at: {others}" if others else none)],
    )


def _decoder_is_low(colap: list[Curve]) -> Claim:
    cases = try_each(
        filter(_is_tuned_translator, colap),
        lambda c: c.values.max() < 20 and c.values[-1] < 5,
        lambda c: f"{_top(c)}, in the upper half {c.upper.max():.1f}, in layer {c.layers[-1]} {c.values[-1]:.1f}",
    )
    return judged(
        "COLAP of the decoder of mT5 tuned to translate stays below 20 %, and falls below 5 % in the final layers "
        "(Section 4.2, Figure 7d)",
        "most curves of a decoder tuned for translation, of an encoder-decoder model, stay below 20 % in all layers "
        f"and below 5 % in the last layer studied{_MOST}",
        [most("", cases, _NO_TRANSLATOR)],
    )


def _stays_high(colap: list[Curve]) -> Claim:
    cases = try_each(
        [c for c in colap if _is_tuned_encoder(c, "tagging")],
        lambda c: c.upper.min() >= max(20, c.values.max() / 2),
        lambda c: f"{_top(c)}, least of the upper half {c.upper.min():.1f}, in layer {c.layers[-1]} {c.values[-1]:.1f}",
        layers=3,
    )
    return judged(
        "COLAP of mBERT tuned for NER stays high, without the drop of the decoder (Section 4.2, Figure 8b)",
        "in most curves of an encoder-only model tuned for tagging no layer of the upper half lies below 20 %, nor "
        f"below half of the largest value{_MOST}",
        [most("", cases, "no encoder-only model that the study tunes for tagging (tuned_for)")],
    )


def _lexical_falls(results: xr.DataTree, study: Study) -> Claim:
    words = "Lexical concepts, of one suffix, become fewer with depth and semantic ones more (Appendix B, Figure 9)"
    criterion = (
        "from the lower half of the layers to the upper the share of concepts with a common suffix falls by at least "
        f"{_NOTABLE:g} point, and that with a common tag rises by as much: both in the mean and in most checkpoints "
        "(half of them: cannot be told); in encoders of base and tuned checkpoints, of languages with tags, "
        "semantic ones where there are any"
    )
    halves, left = _halves(results, study)
    cases = [Case(name, *_shifts(np.mean(of, axis=0))) if of else Case(name, None, "") for name, of in halves.items()]
    rows = [row for of in halves.values() for row in of]
    if not rows:
        none = "needs tags under properties in the study file, and layers with scores in an encoder that was trained"
        return judged(words, criterion, [Part("", none, OPEN)])
    holds, numbers = _shifts(np.mean(rows, axis=0))
    numbers += f" (kinds of tags: {', '.join(_kinds(results))})"
    numbers += f", {left} left out: layers without a score, or too few" if left else ""
    return judged(
        words,
        criterion,
        [
            Part("overall", numbers, AGREES if holds else DIFFERS),
            most("by checkpoint", cases, "", of="checkpoints"),
        ],
    )


def _kinds(results: xr.DataTree) -> list[str]:
    """Kinds of tags that the claim rests on: semantic, or all where none is called so."""
    kinds = kinds_of_tags(map(str, results["properties"].to_dataset().property.values))
    return ["semantic"] if "semantic" in kinds else kinds


def _shifts(halves: NDArray[np.float64]) -> tuple[bool, str]:
    """Whether suffixes fall and tags rise (property, half), and the numbers."""
    (suffix, suffix_above), (tag, tag_above) = halves.tolist()
    holds = suffix - suffix_above >= _NOTABLE and tag_above - tag >= _NOTABLE
    return holds, f"suffix {suffix:.1f} → {suffix_above:.1f} %, tag {tag:.1f} → {tag_above:.1f} %"


def _halves(results: xr.DataTree, study: Study) -> tuple[dict[str, list[NDArray[np.float64]]], int]:
    """Shares of concepts (property, half) of each language with tags, by checkpoint, and how many had to be left out.

    Properties are a common suffix and a common tag; shares are per cent of the concepts considered.
    """
    halves: dict[str, list[NDArray[np.float64]]] = {}
    left = 0
    found = results["properties"].to_dataset().sel(rule="conceptx") if "properties" in results else None
    if found is None or "tagged" not in found.property.values or "encoder" not in found["stack"].values:
        return halves, left
    tag = "semantic" if "semantic" in found.property.values else "tagged"
    share = found.concepts / found.considered.where(found.considered > 0) * 100
    share = share.sel(stack="encoder", property=["suffix", tag]).transpose(..., "property", "layer")
    for checkpoint, selection in product(map(str, share.checkpoint.values), map(str, share.selection.values)):
        state = study.fine_tuning(checkpoint, *languages_of(selection))
        values = share.sel(checkpoint=checkpoint, selection=selection).values
        if state not in ("base", "fine-tuned") or np.isnan(values[1]).all():
            continue
        studied = share.sel(checkpoint=checkpoint).notnull().any(("selection", "property")).values
        values = values[:, studied].round(9)
        of_checkpoint = halves.setdefault(checkpoint, [])
        if values.shape[1] < 2 or np.isnan(values).any():
            left += 1
            continue
        half = values.shape[1] // 2
        of_checkpoint.append(np.stack([values[:, :half].mean(1), values[:, half:].mean(1)], 1))
    return halves, left
