"""What the paper says of the shape of its curves, and whether a study agrees (Sections 4.1 and 4.2, Figures 2 to 9)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from schemas.study import Study

AGREES, DIFFERS, OPEN = "agrees", "does not agree", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what a study finds."""

    words: str
    """What the paper says."""
    criterion: str
    """When a study agrees."""
    found: str
    """The study's numbers."""
    verdict: str
    """agrees, does not agree, or cannot be told."""


@dataclass(frozen=True)
class _Curve:
    """A measure of a checkpoint by layer, in per cent."""

    checkpoint: str
    stack: str
    languages: str
    state: str
    layers: tuple[int, ...]
    values: NDArray[np.float64]

    @property
    def name(self) -> str:
        return f"{self.checkpoint} {self.stack} {self.languages}"

    @property
    def upper(self) -> float:
        """Mean of the upper half of the layers."""
        return float(self.values[len(self.values) // 2 :].mean())

    @property
    def lower(self) -> float:
        """Mean of the lower half."""
        return float(self.values[: max(1, len(self.values) // 2)].mean())


def claims(results: xr.DataTree, study: Study) -> list[Claim]:
    """Every claim with the study's numbers."""
    calign = [*_curves(results["calign"].to_dataset().calign, study, ("source", "target"))]
    calign = [curve for curve in calign if "+" not in curve.languages]
    colap = [*_curves(results["colap"].to_dataset().colap, study, ("language_set",))]
    properties = results["properties"].to_dataset() if "properties" in results else None
    return [
        _rises(calign), _tuned_above_base(calign), _base_is_low(calign, study), _dips(calign), _peaks(colap),
        _decoder_is_low(colap), _stays_high(colap), _lexical_falls(properties),
    ]  # fmt: skip


def _curves(scores: xr.DataArray, study: Study, labels: tuple[str, ...]) -> Iterator[_Curve]:
    for cell in (scores * 100).stack(row=("checkpoint", "stack", *labels)).transpose("row", "layer"):
        checkpoint, stack, *languages = cell.row.item()
        kept = cell.notnull().values
        if kept.any():
            state = study.fine_tuning(checkpoint, *(lang for group in languages for lang in group.split("+")))
            layers = tuple(int(layer) for layer in cell.layer.values[kept])
            yield _Curve(checkpoint, stack, " → ".join(languages), state, layers, cell.values[kept])


def _judged(words: str, criterion: str, found: str, agrees: bool | None) -> Claim:
    return Claim(
        words,
        criterion,
        found or "no such curves in this study",
        OPEN if agrees is None else AGREES if agrees else DIFFERS,
    )


def _share(
    words: str, criterion: str, curves: list[_Curve], holds: Callable[[_Curve], bool], numbers: Callable[[_Curve], str]
) -> Claim:
    """A claim that holds of a study when it holds of most of some curves."""
    if not curves:
        return _judged(words, criterion, "", None)
    right = [curve for curve in curves if holds(curve)]
    said = "; ".join(f"{curve.name}: {numbers(curve)}" for curve in curves[:8])
    more = f"; and {len(curves) - 8} more" if len(curves) > 8 else ""
    return _judged(
        words, criterion, f"{len(right)} of {len(curves)} curves. {said}{more}", 2 * len(right) > len(curves)
    )


def _rises(calign: list[_Curve]) -> Claim:
    curves = [curve for curve in calign if curve.state == "fine-tuned" and len(curve.layers) > 1]
    top = max(curves, key=lambda curve: float(curve.values.max()), default=None)
    claim = _share(
        "CALIGN rises with depth in tuned checkpoints, to some 42 % (mBERT tuned for NER, de-en)",
        "in most curves of tuned checkpoints the upper half of the layers lies above the lower half",
        curves,
        lambda curve: curve.upper > curve.lower,
        lambda curve: f"{curve.lower:.1f} → {curve.upper:.1f}",
    )
    if top is None:
        return claim
    most = f" Largest: {top.values.max():.1f} ({top.name}, layer {top.layers[int(top.values.argmax())]})."
    return Claim(claim.words, claim.criterion, claim.found + most, claim.verdict)


def _tuned_above_base(calign: list[_Curve]) -> Claim:
    base = {(curve.stack, curve.languages): curve for curve in calign if curve.state == "base"}
    curves = [c for c in calign if c.state == "fine-tuned" and (c.stack, c.languages) in base]
    return _share(
        "Tuned checkpoints align more than the base in upper layers",
        "in most pairs the mean of the tuned checkpoint over the upper half of the layers exceeds the base's",
        curves,
        lambda c: c.upper > base[c.stack, c.languages].upper,
        lambda c: f"{base[c.stack, c.languages].upper:.1f} → {c.upper:.1f}",
    )


def _base_is_low(calign: list[_Curve], study: Study) -> Claim:
    both = len(study.activations.stacks) == 2
    limits = {"encoder": 20.0, "decoder": 3.0}
    curves = [c for c in calign if c.state == "base" and c.stack in limits] if both else []
    return _share(
        "The base of an encoder-decoder model aligns little: at most 20 % in the encoder, less than 3 % in the decoder",
        "most curves of base checkpoints stay within these limits (of mT5-base at K = 600)",
        curves,
        lambda c: float(c.values.max()) <= limits[c.stack],
        lambda c: f"at most {c.values.max():.1f}",
    )


def _dips(calign: list[_Curve]) -> Claim:
    curves = [c for c in calign if c.state == "fine-tuned" and len(c.layers) > 2]
    return _share(
        "CALIGN of tuned checkpoints dips in the last layers",
        "in most of their curves the last layer lies below the largest before it",
        curves,
        lambda c: float(c.values[-1]) < float(c.values[:-1].max()),
        lambda c: f"{c.values[:-1].max():.1f} → {c.values[-1]:.1f}",
    )


def _peaks(colap: list[_Curve]) -> Claim:
    curves = [c for c in colap if c.state == "fine-tuned" and c.stack == "encoder"]
    return _share(
        "COLAP peaks at some 50 % typically; at some 80 % for French and 25 % for Arabic",
        "most curves of tuned encoders peak between 25 and 80 %",
        curves,
        lambda c: 25 <= float(c.values.max()) <= 80,
        lambda c: f"{c.values.max():.1f}",
    )


def _decoder_is_low(colap: list[_Curve]) -> Claim:
    curves = [c for c in colap if c.state == "fine-tuned" and c.stack == "decoder"]
    return _share(
        "COLAP of a tuned decoder stays below 20 %, and falls below 5 % in the last layers",
        "most of their curves stay below 20 % and end below 5 %",
        curves,
        lambda c: float(c.values.max()) < 20 and float(c.values[-1]) < 5,
        lambda c: f"at most {c.values.max():.1f}, last {c.values[-1]:.1f}",
    )


def _stays_high(colap: list[_Curve]) -> Claim:
    curves = [c for c in colap if c.state == "fine-tuned" and c.stack == "encoder" and len(c.layers) > 2]
    return _share(
        "COLAP of a tuned encoder stays high in the last layers (mBERT tuned for NER)",
        "in most of their curves the last layer has at least half of the peak",
        curves,
        lambda c: float(c.values[-1]) >= float(c.values.max()) / 2,
        lambda c: f"peak {c.values.max():.1f}, last {c.values[-1]:.1f}",
    )


def _lexical_falls(properties: xr.Dataset | None) -> Claim:
    words = "Lexical concepts become fewer and semantic ones more with depth"
    criterion = (
        "lexical concepts: fewer in the upper half of the layers than in the lower; those with a common tag: more"
    )
    if properties is None or "tagged" not in properties.property.values:
        return _judged(words, criterion, "needs properties with tags in the study file", None)
    share = (properties.concepts / properties.considered * 100).isel(rule=0)
    means = share.mean(["checkpoint", "stack", "selection"])
    half = means.sizes["layer"] // 2
    found = {
        name: [float(means.sel(property=name).isel(layer=at).mean()) for at in (slice(half), slice(half, None))]
        for name in ("lexical", "tagged")
    }
    said = "; ".join(f"{name}: {low:.1f} → {high:.1f} %" for name, (low, high) in found.items())
    agrees = found["lexical"][1] < found["lexical"][0] and found["tagged"][1] > found["tagged"][0]
    return _judged(words, criterion, said, agrees)
