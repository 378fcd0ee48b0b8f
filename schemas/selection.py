"""The rules of selection, a part of the study file."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from schemas.section import Section


class Selection(Section):
    """Which occurrences of a word type are studied (Section 3.2); every rule counts tokens of its language."""

    preset: Literal["paper", "reference"] = "paper"
    """paper: the values below. reference: those of the published scripts, which are min_count 0, max_count 15,
    delete_above 10000000, max_sentence_words 299 and sampling first."""
    min_count: int = Field(default=10, ge=0)
    """Types with fewer occurrences in their language are left out (count of tokens)."""
    max_count: int = Field(default=20, ge=1)
    """At most this many occurrences of a type are kept (count of tokens)."""
    delete_above: int | None = Field(default=None, ge=1)
    """Types with more occurrences are left out, all of them (count of tokens); default: none. With 9 and min_count 0,
    words that «appear at least 10 times» are filtered out."""
    max_sentence_words: int | None = Field(default=None, ge=1)
    """Sentences with more words than this in any language of the corpus are left out before anything is counted (count
    of words; the published scripts keep fewer than 300); default: none. Word links are made of all sentences."""
    sampling: Literal["seeded", "first"] = "seeded"
    """Which occurrences of a type with more than max_count are kept: some that are spread evenly over the corpus, or
    the first ones of its language (the published scripts)."""
    seed: int = Field(default=0, ge=0)
    """Seed of where the spread of each type starts."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "reference":
            return {**REFERENCE_SELECTION, **values}
        return values

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.delete_above is not None and self.delete_above < self.min_count:
            raise ValueError(
                f"delete_above {self.delete_above} is less than min_count {self.min_count}, so no word would be left; "
                "lower min_count or raise delete_above"
            )
        return self

    @property
    def rules(self) -> dict[str, Any]:
        """Settings that decide what is selected; the preset is in them."""
        return self.model_dump(exclude={"preset"})


REFERENCE_SELECTION = {
    "min_count": 0,
    "max_count": 15,
    "delete_above": 10_000_000,
    "max_sentence_words": 299,
    "sampling": "first",
}
"""What both published shell scripts set."""
