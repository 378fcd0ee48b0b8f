"""What every part of a study file is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
