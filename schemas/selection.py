"""The rules of selection, a part of the study file."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from schemas.section import Section


class Selection(Section):
    """Which occurrences of words are studied (Section 3.2)."""

    preset: Literal["paper", "reference"] = "paper"
    """paper: the values below. reference: those of the published scripts, which are counted_by linked_pair,
    repeat_linked, min_count 0, max_count 15, delete_above 10000000, max_sentence_words 299 and sampling first."""
    counted_by: Literal["type", "linked_pair"] = "type"
    """What the rules of frequency count. type: the tokens of a word type of a language. linked_pair (published
    scripts): the word links between a source and a target type, for the concepts of each language pair, so that a
    language has other concepts in every pair; in mixed text, for COLAP, the tokens of a spelling in all its languages.
    """
    repeat_linked: bool = False
    """With linked_pair: whether a word is clustered once for each of its links that are kept (published scripts), or
    once."""
    min_count: int = Field(default=10, ge=0)
    """Types, or linked pairs, with fewer occurrences are left out (count)."""
    max_count: int = Field(default=20, ge=1)
    """At most this many occurrences of each are kept (count)."""
    delete_above: int | None = Field(default=None, ge=1)
    """Those with more occurrences are left out, all of them (count); default: none. With 9 and min_count 0, words that
    «appear at least 10 times» are filtered out."""
    max_sentence_words: int | None = Field(default=None, ge=1)
    """Sentences with more words than this in any language of the corpus are left out before anything is counted (count
    of words; the published scripts keep fewer than 300); default: none. Word links are made of all sentences."""
    sampling: Literal["seeded", "first"] = "seeded"
    """Which occurrences are kept of more than max_count: some that are spread evenly over the corpus, or the first
    (published scripts). Mixed text has its languages one behind another: with linked_pair, the first occurrences of a
    spelling that they share are those of the first language."""
    seed: int = Field(default=0, ge=0)
    """Seed of where each spread starts."""

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
    "counted_by": "linked_pair",
    "repeat_linked": True,
    "min_count": 0,
    "max_count": 15,
    "delete_above": 10_000_000,
    "max_sentence_words": 299,
    "sampling": "first",
}
"""What the published scripts do and their shell scripts set."""
