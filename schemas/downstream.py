"""Downstream tasks that checkpoints are tuned for and scored on (Section 3.1): what they are given and how."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.section import Section

PRIMARY = {"tagging": "f1", "classification": "accuracy", "translation": "bleu"}
"""The score that a kind is known by (Tables 1, 2 and 5 of the paper)."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Files = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1, max_length=2)]
"""One file; of a translation two, the source and the target."""

Parts = dict[str, Files]
"""Files by language; of a translation by SOURCE-TARGET, such as de-en."""


class Tuning(Section):
    """How a checkpoint is tuned."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training text."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Highest learning rate of AdamW: it rises over the first part of the steps, then falls evenly to zero."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Part of the steps over which the learning rate rises."""
    batch: int = Field(default=32, ge=1)
    """Sentences of one step, over all GPUs."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which the sentences of a step go through the model: more take less memory, and the step stays what it
    is."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW."""
    max_subwords: int = Field(default=128, ge=4)
    """Sub-words of a sentence at most; the rest is cut off."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of a new head's weights, of the order of sentences and of dropout."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Type of computation; weights stay float32."""

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be divided into {self.accumulate} equal parts (accumulate)")
        return self


class Downstream(Section):
    """A downstream task: its data, and how a checkpoint is tuned for it."""

    kind: Literal["tagging", "classification", "translation"]
    """tagging: files in CoNLL form, a word and its tag (IOB2) a line, an empty line after each sentence.
    classification: tab-separated files with the header sentence, label. translation: two files of one sentence a line,
    or in the XML of IWSLT."""
    train: Parts = Field(default={})
    """Text to tune on."""
    dev: Parts = Field(default={})
    """Text by which the best pass over the training text is chosen; without it the last one is kept."""
    test: Parts = Field(default={})
    """Text to score on."""
    tuning: Tuning = Tuning()
    """How a checkpoint is tuned."""
    beams: int = Field(default=1, ge=1)
    """Beams of the search for a translation; 1: greedy."""

    @model_validator(mode="after")
    def _files_of_kind(self) -> Self:
        pairs = self.kind == "translation"
        for split in ("train", "dev", "test"):
            for name, files in getattr(self, split).items():
                if pairs and (name.count("-") != 1 or len(files) != 2):
                    raise ValueError(
                        f"{split}.{name}: a translation has SOURCE-TARGET: [source file, target file], such as de-en"
                    )
                if not pairs and len(files) != 1:
                    raise ValueError(f"{split}.{name}: {self.kind} has one file for each language")
        return self

    @property
    def files(self) -> list[str]:
        """Every file of the task."""
        return [file for split in (self.train, self.dev, self.test) for of in split.values() for file in of]

    def languages(self, part: str) -> tuple[str, ...]:
        """Languages of a part: one, or source and target."""
        return tuple(part.split("-")) if self.kind == "translation" else (part,)

    def within(self, split: str, languages: tuple[str, ...]) -> Parts:
        """Parts of a split in some languages."""
        parts: Parts = getattr(self, split)
        return {part: files for part, files in parts.items() if {*self.languages(part)} <= {*languages}}
