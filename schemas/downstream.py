"""Downstream tasks that checkpoints are tuned for and scored on (Section 3.1): what they are given and how."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from schemas.section import ALONE, LISTED, Name, Section

PRIMARY = {"tagging": "f1", "classification": "accuracy", "translation": "bleu"}
"""The score that a kind is known by (Tables 1, 2 and 5 of the paper)."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Files = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1, max_length=2)]
"""One file; of a translation two, the source and the target."""

Parts = dict[str, Files]
"""Files by language; of a translation by SOURCE-TARGET, such as de-en."""


def _one_or_several(value: Any) -> str:
    several = isinstance(value, Mapping) and any(isinstance(of, Mapping) for of in value.values())
    return LISTED if several else ALONE


Sets = Annotated[
    Annotated[Parts, Tag(ALONE)] | Annotated[dict[Name, Parts], Tag(LISTED)], Discriminator(_one_or_several)
]
"""Files of one text, or of several by name."""


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
    test: Sets = Field(default={})
    """Text to score on; or several by name, each a split of its own: {test11: {de-en: [...]}, test12: {...}}."""
    tuning: Tuning = Tuning()
    """How a checkpoint is tuned."""
    beams: int = Field(default=1, ge=1)
    """Beams of the search for a translation; 1: greedy."""

    @model_validator(mode="after")
    def _files_of_kind(self) -> Self:
        pairs = self.kind == "translation"
        if taken := sorted({"train", "dev"} & {*self.tests}):
            raise ValueError(f"test.{taken[0]}: is another text of the task; choose another name")
        if empty := [name for name, parts in self.tests.items() if not parts]:
            raise ValueError(f"test.{empty[0]}: names no file; expected one for each language")
        for where, split in self._places.items():
            for name, files in self.splits[split].items():
                if pairs and (name.count("-") != 1 or len(files) != 2):
                    raise ValueError(
                        f"{where}.{name}: a translation has SOURCE-TARGET: [source file, target file], such as de-en"
                    )
                if not pairs and len(files) != 1:
                    raise ValueError(f"{where}.{name}: {self.kind} has one file for each language")
        return self

    @property
    def files(self) -> list[str]:
        """Every file of the task."""
        return [file for parts in self.splits.values() for of in parts.values() for file in of]

    @property
    def tests(self) -> dict[str, Parts]:
        """Every text to score on by the name of its split: `test`, where there is one without a name."""
        if _one_or_several(self.test) == LISTED:
            return {str(name): dict(parts) for name, parts in self.test.items()}  # type: ignore[arg-type]
        return {"test": self.test} if self.test else {}  # type: ignore[dict-item]

    @property
    def _places(self) -> dict[str, str]:
        """Splits by the place in the file at which they are named."""
        named = _one_or_several(self.test) == LISTED
        return {f"test.{name}" if named and name in self.tests else name: name for name in self.splits}

    @property
    def splits(self) -> dict[str, Parts]:
        """Every text by the name of its split: train, dev, and those to score on."""
        return {"train": self.train, "dev": self.dev, **self.tests}

    def languages(self, part: str) -> tuple[str, ...]:
        """Languages of a part: one, or source and target."""
        return tuple(part.split("-")) if self.kind == "translation" else (part,)

    def within(self, split: str, languages: tuple[str, ...]) -> Parts:
        """Parts of a split in some languages."""
        return {part: files for part, files in self.splits[split].items() if {*self.languages(part)} <= {*languages}}
