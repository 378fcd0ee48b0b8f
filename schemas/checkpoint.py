"""Checkpoints of a study: states of a model."""

from typing import Literal, Self

from pydantic import model_validator

from schemas.section import Name, Section

State = Literal["base", "fine-tuned", "zero-shot", "untrained"]
"""State of a checkpoint as seen from some languages."""


class Checkpoint(Section):
    """One state of a model."""

    model: str
    """Folder in transformers' format, or a hub name, which may end in @ and a revision (by default the newest when the
    study is run); a path that starts with a dot starts at the study file."""
    tuned_on: tuple[Name, ...] = ()
    """Languages of the fine-tuning text; a pair outside them is zero-shot; empty for a base checkpoint."""
    tuned_for: Name | None = None
    """Downstream task that the study tunes the model for, on its text in the languages of tuned_on; default: the model
    is what it is."""
    scored_on: tuple[Name, ...] | None = None
    """Downstream tasks that it is scored on; default: its own, or all where it was not tuned for one."""
    untrained: bool = False
    """Whether the study draws the model's weights anew at random: a control of what the architecture alone gives."""
    trust_remote_code: bool = False
    """Whether Python code that the model's folder or repository brings may run, as some models need: on every worker,
    and with your rights."""

    @property
    def made(self) -> bool:
        """Whether the study makes it of the model."""
        return self.untrained or self.tuned_for is not None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.untrained and (self.tuned_on or self.tuned_for):
            raise ValueError("untrained goes without tuned_on and tuned_for; name the tuned one apart")
        if self.tuned_for is not None and not self.tuned_on:
            raise ValueError(f"tuned_for {self.tuned_for}: name the languages of its text in tuned_on")
        return self
