"""What every part of a study file is."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


ALONE, LISTED = "(alone)", "(listed)"
"""Tags of the two types of a key that takes a value or a list; pydantic puts them into the places of errors."""


def alone_or_listed(value: Any) -> str:
    """Which of the two is meant: only that one explains what is wrong."""
    return LISTED if isinstance(value, list | tuple) else ALONE


def word_or_listed(value: Any) -> str:
    """The same where what may stand alone is a word."""
    return ALONE if isinstance(value, str) else LISTED


_ENDINGS = (".zarr", ".json", ".fit", ".previous", ".partial")
"""What is added to names in paths, so that a name which had it might be taken for another."""


def _without_ending(name: str) -> str:
    if ending := next((one for one in _ENDINGS if name.lower().endswith(one)), None):
        raise ValueError(f"ends in {ending}, which is added to names in paths; choose another name")
    return name


Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Used in paths: letters, digits, _ . -"),
    AfterValidator(_without_ending),
]
