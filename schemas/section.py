"""What every part of a study file is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


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
