"""Definitions of CALIGN and COLAP, as a study file gives them."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schemas.counts import RANKS
from schemas.section import Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class Metrics(Section):
    """Definitions and thresholds of CALIGN and COLAP (Section 3.3); changing them computes no stage again, save those
    that choose translations, which count again, and what is drawn for `uncertainty`."""

    preset: Literal["paper", "reference"] = "paper"
    """paper: the equations and Section 3.3. reference: what the published scripts compute, which is comparison
    more_than, size_rule source, min_types_of source, translations_by file and words before_bars."""
    n_best: int = Field(default=10, ge=1, le=500)
    """Translations of a source type that count."""
    translations_by: Literal["probability", "file"] = "probability"
    """Which N are the best: the most probable, or the first in the file that a dictionary was read from."""
    min_probability: Fraction = 0.0
    """Translations less probable than this do not count."""
    max_sources: int | None = Field(default=None, ge=1)
    """Source types for which a target type may count: those with most links; default: all of them."""
    words: Literal["whole", "before_bars"] = "whole"
    """Words of concepts as they are, or up to their first |||."""
    align_unit: Literal["type", "token"] = "type"
    """Whether θ_A and the size gap count types (Section 3.3) or their tokens (the formula of Section 2.2)."""
    theta_align: Fraction = 0.8
    """Least fraction of a source concept's types with a translation in the target concept (θ_A)."""
    min_types: int = Field(default=5, ge=0)
    """Only concepts with more types than this are considered."""
    min_types_of: Literal["both", "source"] = "both"
    """Which of two concepts must have more than min_types."""
    max_size_gap: Fraction = 0.4
    """Two concepts' type counts may differ by at most this fraction."""
    size_rule: Literal["both", "source"] = "both"
    """both: neither concept may be smaller by more than max_size_gap; source: the source concept alone may not."""
    comparison: Literal["at_least", "more_than"] = "at_least"
    """Whether a value exactly at θ_A, θ_O or the size gap passes."""
    denominator: Literal["all", "considered"] = "all"
    """Source concepts of which CALIGN is the fraction: all that hold a type, or those with more than min_types."""
    theta_overlap: Fraction = 0.3
    """Least fraction of a mixed concept that each language must form (θ_O)."""
    overlap_unit: Literal["token", "type"] = "token"
    """Whether θ_O counts tokens (Section 2.3) or types."""
    min_languages: Annotated[int, Field(ge=2)] | Literal["all"] = 2
    """Languages that must each form θ_O of an overlapping concept: at least two (Section 2.3), or all (Section 3.3)."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "reference":
            return {**REFERENCE_METRICS, **values}
        return values

    @property
    def translations(self) -> dict[str, Any]:
        """Settings that choose translations: arguments of `engine.aligned.matched_words`."""
        return self.model_dump(include={"translations_by", "min_probability", "max_sources", "words"})

    @property
    def counting(self) -> dict[str, Any]:
        """Settings that decide what is counted: arguments of `engine.aligned.numbered`."""
        return self.translations | {"unit": self.align_unit}

    @property
    def n_ranks(self) -> int:
        """Ranks of translations that are told apart in the counts."""
        return max(self.n_best, RANKS)

    @property
    def alignment(self) -> dict[str, Any]:
        """Definition of an aligned pair: arguments of `engine.calign.aligned`."""
        names = {"n_best", "theta_align", "min_types", "min_types_of", "max_size_gap", "size_rule", "comparison"}
        return self.model_dump(include=names)

    @property
    def overlap(self) -> dict[str, Any]:
        """Definition of an overlapping concept: arguments of `engine.colap.overlapping`."""
        rules = self.model_dump(include={"theta_overlap", "min_languages", "comparison"})
        return rules | {"unit": self.overlap_unit}


REFERENCE_METRICS = {
    "comparison": "more_than",
    "size_rule": "source",
    "min_types_of": "source",
    "translations_by": "file",
    "words": "before_bars",
}
"""What the published scripts do otherwise than the paper."""
