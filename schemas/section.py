"""What every part of a study file is."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def alone_or_listed(value: Any) -> str:
    """Which of two types is meant where a key takes a value or a list of some: only that one explains what is wrong.

    In the places of errors the tag stands in parentheses, by which `schemas.parse` leaves it out.
    """
    return "(listed)" if isinstance(value, list | tuple) else "(alone)"
