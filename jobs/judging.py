"""How claims are judged: on curves of the kind that they speak of, by what holds of most of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from schemas.study import Study

AGREES, DIFFERS, OPEN = "agrees", "does not agree", "cannot be told"

SHOWN = 8
"""Curves whose numbers are said at most."""


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
class Curve:
    """A measure of a checkpoint by layer."""

    name: str
    checkpoint: str
    stack: str
    languages: tuple[str, ...]
    """CALIGN: source and target; COLAP: those of the mixed text."""
    state: str
    task: str
    """Kind of downstream task that the study tunes the checkpoint for; empty where it tunes it for none."""
    alone: bool
    """Whether the study has this stack alone, as of BERT, and not both of an encoder-decoder model."""
    layers: tuple[int, ...]
    """Layers of the checkpoint that were studied."""
    values: NDArray[np.float64]
    """Per cent (layer), NaN where there is no score."""

    @property
    def lower(self) -> NDArray[np.float64]:
        """Values of the lower half of the layers; of an odd number the middle one is in the upper half."""
        return self.values[: len(self.values) // 2]

    @property
    def upper(self) -> NDArray[np.float64]:
        """Values of the upper half."""
        return self.values[len(self.values) // 2 :]

    def told(self, layers: int) -> bool:
        """Whether every layer has a score, and there are enough layers to speak of a shape."""
        return len(self.layers) >= layers and bool(np.isfinite(self.values).all())


@dataclass(frozen=True)
class Case:
    """Whether something holds of a curve, or of a checkpoint; None: its scores do not tell."""

    name: str
    holds: bool | None
    numbers: str


@dataclass(frozen=True)
class Part:
    """A part of a claim that is judged on its own."""

    name: str
    said: str
    verdict: str


def read_curves(scores: xr.DataArray, study: Study, labels: tuple[str, ...]) -> Iterator[Curve]:
    """Curves of two languages within a stack, whatever their state."""
    for cell in (scores * 100).stack(row=("checkpoint", "stack", *labels)).transpose("row", "layer"):
        checkpoint, stack, *names = map(str, cell.row.item())
        languages = tuple(language for name in names for language in name.split("+"))
        if stack not in study.activations.stacks or len(languages) != 2 or not cell.notnull().any():
            continue
        studied = scores.sel(checkpoint=checkpoint, stack=stack).notnull().any(labels).values
        task = study.checkpoints[checkpoint].tuned_for
        yield Curve(
            f"{checkpoint} {stack} {' → '.join(names)}",
            checkpoint,
            stack,
            languages,
            study.fine_tuning(checkpoint, *languages),
            study.downstream[task].kind if task else "",
            len(study.activations.stacks) == 1,
            tuple(int(layer) for layer in cell.layer.values[studied]),
            cell.values[studied].round(9),
        )


def try_each(
    curves: Iterable[Curve],
    holds: Callable[[Curve], bool | np.bool],
    numbers: Callable[[Curve], str],
    layers: int = 2,
) -> list[Case]:
    """Whether something holds of each curve that has this many layers and a score in all of them."""
    return [
        Case(curve.name, bool(holds(curve)), numbers(curve)) if curve.told(layers) else Case(curve.name, None, "")
        for curve in curves
    ]


def most(name: str, cases: Sequence[Case], none: str, least: int = 1, of: str = "curves") -> Part:
    """A part that holds where most cases do; open where exactly half do, or where there are too few.

    Parameters
    ----------
    none
        What is said where there is no case.
    least
        Cases at least that make a majority.
    """
    if not cases:
        return Part(name, none, OPEN)
    told = [case for case in cases if case.holds is not None]
    right = sum(case.holds is True for case in told)
    numbers = [f"{case.name}: {case.numbers}" for case in told[:SHOWN]]
    numbers += [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    said = f"{right} of {len(told)} {of}" + (f" ({'; '.join(numbers)})" if numbers else "")
    if left := len(cases) - len(told):
        said += f", {left} left out: layers without a score, or too few"
    if len(told) < least or 2 * right == len(told):
        return Part(name, said, OPEN)
    return Part(name, said, AGREES if 2 * right > len(told) else DIFFERS)


def judged(words: str, criterion: str, parts: Sequence[Part]) -> Claim:
    """A claim that agrees where all its parts do, and does not where one does not."""
    verdicts = {part.verdict for part in parts}
    verdict = DIFFERS if DIFFERS in verdicts else AGREES if verdicts == {AGREES} else OPEN
    named = len(parts) > 1
    found = ". ".join(f"{part.name}, {part.verdict}: {part.said}" if named else part.said for part in parts)
    return Claim(words, criterion, found, verdict)
