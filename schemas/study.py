"""The study file: everything that decides the results, validated on load; unknown keys are errors."""

import hashlib
import json
from collections import Counter
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from schemas.checkpoint import Checkpoint, State
from schemas.downstream import Downstream
from schemas.errors import InputError
from schemas.links import Fold
from schemas.metrics import Metrics
from schemas.section import ALONE, LISTED, Name, Section, alone_or_listed, word_or_listed
from schemas.selection import Selection


class Corpus(Section):
    """The parallel text."""

    files: dict[Name, str] = Field(min_length=2, max_length=127)
    """Text file of each language, one sentence a line, `.gz` allowed; a relative path starts at the study file."""
    words: Literal["spaces", "regex"] = "spaces"
    """How a line is cut into words: at white space (tokenised text), or into runs of letters and single marks."""


class Links(Section):
    """Word alignment (Section 3.2)."""

    aligner: Literal["fast_align", "hmm", "ibm4", "eflomal"] = "fast_align"
    """Model of sil-thot that is trained in both directions."""
    symmetrise: Literal[
        "intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and", "forward", "reverse"
    ] = "grow-diag-final-and"
    """How the two directions become one set of links; forward: one source word, at most, for each target word, from
    one direction alone; reverse: one target word for each source word."""
    iterations: int | None = Field(default=None, ge=1)
    """Training iterations of each direction, and of each model that hmm and ibm4 begin with; default: 5. Eflomal:
    sweeps of its last model; default: fewer the longer the text is."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of Eflomal's samplers; the other aligners draw nothing at random."""
    files: dict[str, str] = Field(default_factory=dict)
    """Links of another tool, by pair such as de-en: a Pharaoh file (a line of 0-0 1-2 for each sentence; `.gz`
    allowed), or mapping_dict.json; the other settings do not matter to the pair. A relative path starts at the study
    file."""


class Dictionary(Section):
    """Translations of words, counted from the links (Section 2.2)."""

    fold: tuple[Fold, ...] = ()
    """Differences between words that are overlooked: `case`; `arabic`, vowel marks and tatweel; `nfc`, `nfkc`, forms of
    Unicode. Words that become equal are one type."""


class Activations(Section):
    """Which word vectors are kept, and how they are made (Section 2.1)."""

    stacks: tuple[Literal["encoder", "decoder"], ...] = Field(default=("encoder",), min_length=1)
    """Stacks of the model: encoder, decoder or both. BERT and XLM-R classes have no decoder, language models such as
    GPT-2 or Llama no encoder."""
    layers: Annotated[
        Annotated[Literal["all"], Tag(ALONE)]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), Tag(LISTED)],
        Discriminator(word_or_listed),
    ] = "all"
    """Layers to keep: 0 is the embedding output, 1..L the blocks."""
    final_norm: bool = True
    """Whether the last layer is the one after the model's final norm (T5 and language models have one), as
    transformers gives it; false: the raw output of the last block."""
    pooling: Literal["last", "first", "mean"] = "last"
    """How the vectors of a word's sub-words become one."""
    decoder_position: Literal["predict", "consume"] | None = None
    """Decoder state of a sub-word: the one that predicts it, or the one that has read it; default: predict for
    encoder-decoder models (published scripts), consume for language models."""
    decoder_source: dict[Name, Name] = Field(default={})
    """For each language read by the decoder of an encoder-decoder model, the one that the encoder reads; default: its
    pair's other language."""
    too_long: Literal["skip", "window", "error"] = "skip"
    """Sentences longer than the model: their words have no vector and are counted; or overlapping windows are read and
    each word is taken from the one in which it has most context (the decoder of an encoder-decoder model skips them:
    its source cannot be cut to match); or the run stops."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and activations while the model runs; bfloat16 is faster, its error is measured and stored."""
    dtype: Literal["float16", "float32", "auto"] = "float16"
    """Type on disk; auto: float32 for a store with a value that does not fit float16."""
    keep_bits: int | None = Field(default=None, ge=1, le=22)
    """Bits of the mantissa to keep: numbers are rounded and compress to less (float16 has 10 bits, float32 23)."""
    batch_subwords: int | None = Field(default=None, ge=1)
    """Sub-words of one forward pass, padding included. Default: 512 on the CPU, where it never changes a bit, and 16384
    on a GPU, where it does."""
    shard_tokens: int = Field(default=16384, ge=1)
    """Tokens of a shard: the unit of work, of writing and of resuming."""
    chunk_tokens: int = Field(default=2048, ge=1)
    """Tokens of a chunk: the unit of reading; divides shard_tokens."""

    @model_validator(mode="after")
    def _whole_chunks(self) -> Self:
        if self.shard_tokens % self.chunk_tokens:
            raise ValueError(
                f"shard_tokens {self.shard_tokens} is not a multiple of chunk_tokens {self.chunk_tokens}; "
                "choose a shard of whole chunks"
            )
        return self


ConceptCount = Annotated[int, Field(ge=2)]


class Concepts(Section):
    """K-means (Section 2.1, 3.2)."""

    preset: Literal["colign", "reference"] = "colign"
    """reference: ten restarts and without the last token of a selection, as the published scripts with scikit-learn
    0.24; seed and stop are the same in both."""
    method: Literal["kmeans", "ward"] = "kmeans"
    """ward: agglomerative clustering (footnote 3), for as many vectors as their distances fit memory."""
    k: Annotated[
        Annotated[ConceptCount, Tag(ALONE)] | Annotated[tuple[ConceptCount, ...], Field(min_length=1), Tag(LISTED)],
        Discriminator(alone_or_listed),
    ] = 600
    """Concepts of each layer. Of several numbers the first is studied, and all are scored under /sweeps."""
    restarts: int = Field(default=1, ge=1)
    """Independent seedings; the one of least inertia is chosen at each layer."""
    seed: int = Field(default=212, ge=0, lt=2**31)
    """Seed of the first restart; the next ones count up."""
    max_iterations: int = Field(default=300, ge=1)
    """Lloyd iterations at most."""
    tolerance: float = Field(default=1e-4, ge=0)
    """Stop when the centroids' summed squared shift falls to this share of the mean variance (scikit-learn's rule)."""
    seeding: Literal["auto", "k-means++", "k-means||"] = "auto"
    """First centroids: greedy k-means++ on a sample, k-means|| on all vectors; auto: k-means++ while the sample takes
    at most 1 GiB."""
    seeding_tokens: int = Field(default=16384, ge=1)
    """Tokens of the seeded sample from which greedy k-means++ draws first centroids; at least 10 for each concept."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "reference":
            return {"restarts": REFERENCE_RESTARTS, **values}
        return values

    @field_validator("k")
    @classmethod
    def _distinct(cls, k: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(k, tuple) and len(set(k)) < len(k):
            raise ValueError(f"{list(k)} names a number twice; name each once")
        return k[0] if isinstance(k, tuple) and len(k) == 1 else k  # so that one number is one setting

    @property
    def ks(self) -> tuple[int, ...]:
        """Every number of concepts, first the one that is studied."""
        return self.k if isinstance(self.k, tuple) else (self.k,)


REFERENCE_RESTARTS = 10
"""Restarts of scikit-learn 0.24 unless told otherwise."""


class Uncertainty(Section):
    """How far scores can be read as signal, which the paper leaves open."""

    draws: int = Field(default=0, ge=0)
    """Draws of the bootstrap over concepts, and of each null; the spread over restarts is given beside them. 0: none
    of it. A null counts anew in every draw, and again when a threshold has changed."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the draws."""


class Properties(Section):
    """What the words of concepts share (Figure 9, Appendix B)."""

    tags: dict[Name, dict[Name, str]] = Field(default={})
    """Tag files by kind, such as semantic, and language: a line for each line of its text with a tag for each of its
    words, as corpus.words cuts them, between spaces, of any tagger; `.gz` allowed. `O`, `_` and what ends in `_UNK`
    say that a word has no tag: it counts as a word that shares none. Several tags of a word stand with `|||` between
    them, and each counts. A `.json` file holds the lines as a list. A relative path starts at the study file."""

    @field_validator("tags")
    @classmethod
    def _own_names(cls, tags: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        if taken := sorted({"suffix", "prefix", "ngram", "casing", "lexical", "tagged"} & {*tags}):
            raise ValueError(f"{taken[0]!r} is what words share without tags; choose another name")
        return tags


def sides(stack: str) -> tuple[str, str]:
    """Stacks of the source and of the target concepts.

    Examples
    --------
    >>> sides("encoder"), sides("encoder-decoder")
    (('encoder', 'encoder'), ('encoder', 'decoder'))
    """
    one, _, other = stack.partition("-")
    return one, other or one


class Study(Section):
    """A study of concepts in the layers of multilingual checkpoints."""

    corpus: Corpus
    """The parallel text."""
    checkpoints: dict[Name, Checkpoint] = Field(min_length=1)
    """States of the model, by the name used in the results."""
    pivot: Name = "en"
    """The language that every other one is paired with when `pairs` is not given."""
    pairs: tuple[tuple[Name, Name], ...] = ()
    """Language pairs, each scored in both directions; default: every language with the pivot."""
    language_sets: tuple[tuple[Name, ...], ...] = ()
    """Languages mixed for COLAP; default: the pairs."""
    selection: Selection = Selection()
    """Which occurrences are studied."""
    links: Links = Links()
    """Word alignment."""
    dictionary: Dictionary = Dictionary()
    """Translations."""
    activations: Activations = Activations()
    """Word vectors."""
    concepts: Concepts = Concepts()
    """Clustering."""
    metrics: Metrics = Metrics()
    """Thresholds."""
    uncertainty: Uncertainty = Uncertainty()
    """Intervals and nulls."""
    properties: Properties | None = None
    """Lexical and semantic concepts (Figure 9), where wanted: {} counts the lexical ones."""
    downstream: dict[Name, Downstream] = Field(default={})
    """Downstream tasks, by name: what checkpoints are tuned for (tuned_for) and scored on. A tuned checkpoint is scored
    on its own task, any other on all."""

    @field_validator("pairs", "language_sets")
    @classmethod
    def _distinct(cls, groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for group in groups:
            if len(group) < 2 or len(set(group)) < len(group):
                raise ValueError(f"{list(group)} must name at least two different languages")
        if len({frozenset(g) for g in groups}) < len(groups):
            raise ValueError("the same languages are given twice; both directions of a pair are always computed")
        return groups

    @model_validator(mode="before")
    @classmethod
    def _default_pairs(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("corpus"), dict):
            return values
        languages = values["corpus"].get("files")
        if not isinstance(languages, dict):
            return values
        pivot = values.get("pivot", "en")
        if not values.get("pairs") and pivot in languages:
            values = values | {"pairs": [[language, pivot] for language in languages if language != pivot]}
        if not values.get("language_sets") and values.get("pairs"):
            values = values | {"language_sets": values["pairs"]}
        return values

    @model_validator(mode="after")
    def _known_languages(self) -> Self:
        languages = list(self.corpus.files)
        if not self.pairs:
            raise ValueError(f"pivot {self.pivot!r} is not a language of the corpus {languages}; give pivot or pairs")
        named = {
            "pairs": {lang for pair in self.pairs for lang in pair},
            "language_sets": {lang for group in self.language_sets for lang in group},
            "activations.decoder_source": {*self.activations.decoder_source, *self.activations.decoder_source.values()},
        } | {f"checkpoints.{n}.tuned_on": set(c.tuned_on) for n, c in self.checkpoints.items()}
        if self.properties is not None:
            named |= {f"properties.tags.{kind}": set(files) for kind, files in self.properties.tags.items()}
        for where, used in named.items():
            if unknown := sorted(used - set(languages)):
                raise ValueError(f"{where} names {unknown}, but the corpus has {languages}")
        return self

    @model_validator(mode="after")
    def _known_tasks(self) -> Self:
        for name, checkpoint in self.checkpoints.items():
            if unknown := sorted({*(checkpoint.scored_on or ())} - {*self.downstream}):
                known = ", ".join(self.downstream) or "none"
                raise ValueError(f"checkpoints.{name}.scored_on names {unknown[0]!r}; downstream has {known}")
            if checkpoint.tuned_for is None:
                continue
            if checkpoint.tuned_for not in self.downstream:
                known = ", ".join(self.downstream) or "none"
                raise ValueError(f"checkpoints.{name}.tuned_for names {checkpoint.tuned_for!r}; downstream has {known}")
            task = self.downstream[checkpoint.tuned_for]
            if not task.within("train", checkpoint.tuned_on):
                raise ValueError(
                    f"downstream.{checkpoint.tuned_for}.train has {', '.join(task.train) or 'nothing'}, and none of it "
                    f"is in {', '.join(checkpoint.tuned_on)} (checkpoints.{name}.tuned_on)"
                )
        return self

    @model_validator(mode="after")
    def _distinct_paths(self) -> Self:
        paths = Counter(f"{a}-{b}".lower() for s, t in self.pairs for a, b in ((s, t), (t, s)))
        if same := sorted(path for path, count in paths.items() if count > 1):
            raise ValueError(f"two pairs would be written as {same[0]!r}; give the languages other names")
        for names in (self.corpus.files, self.checkpoints):
            for one, other in combinations(names, 2):
                if one.lower() == other.lower():
                    raise ValueError(f"{one!r} and {other!r} are one name to some file systems; choose another")
        return self

    @property
    def mixed_directions(self) -> tuple[tuple[str, str, str], ...]:
        """Language set, source and target of every direction within mixed text."""
        places = {frozenset(pair): place for place, pair in enumerate(self.pairs)}
        return tuple(
            ("+".join(group), *direction)
            for group in self.language_sets
            for place in sorted(places[both] for both in map(frozenset, combinations(group, 2)) if both in places)
            for direction in (self.pairs[place], self.pairs[place][::-1])
        )

    @property
    def read_languages(self) -> tuple[str, ...]:
        """Languages whose vectors are kept: all of them; without pairs the first alone, and others are its source.

        Where linked pairs are counted, those in a pair or a set.
        """
        if self.selection.counted_by == "type":
            return tuple(self.corpus.files)[: None if self.pairs else 1]
        used = {language for group in (*self.pairs, *self.language_sets) for language in group}
        return tuple(language for language in self.corpus.files if language in used)

    @property
    def alignment_stacks(self) -> tuple[str, ...]:
        """Stacks between which CALIGN is computed: each with itself, and each of two with the other."""
        stacks = self.activations.stacks
        return stacks if len(stacks) == 1 else (*stacks, "encoder-decoder", "decoder-encoder")

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Source and target of every pair, both ways."""
        return tuple(direction for s, t in self.pairs for direction in ((s, t), (t, s)))

    def decoder_source(self, language: str) -> str:
        """Language that the encoder reads while the decoder of an encoder-decoder model reads `language`.

        Raises
        ------
        InputError
            Nothing says which.
        """
        if language in self.activations.decoder_source:
            return self.activations.decoder_source[language]
        for one, other in self.pairs:
            if language in (one, other):
                return other if language == one else one
        raise InputError(
            f"{language!r} is in no pair, so nothing says what the encoder reads while the decoder reads it; "
            "name a language in activations.decoder_source"
        )

    @property
    def tag_files(self) -> tuple[str, ...]:
        """Every file of tags."""
        kinds = self.properties.tags.values() if self.properties else ()
        return tuple(file for files in kinds for file in files.values())

    @property
    def scored(self) -> tuple[tuple[str, str], ...]:
        """Checkpoint and downstream task of every scoring."""
        return tuple(
            (name, task)
            for name, checkpoint in self.checkpoints.items()
            for task, settings in self.downstream.items()
            if settings.test
            and (checkpoint.tuned_for in (None, task) if checkpoint.scored_on is None else task in checkpoint.scored_on)
        )

    def fine_tuning(self, checkpoint: str, *languages: str) -> State:
        """State of a checkpoint as seen from some languages (line styles of Figure 2)."""
        if self.checkpoints[checkpoint].untrained:
            return "untrained"
        tuned_on = self.checkpoints[checkpoint].tuned_on
        if not tuned_on:
            return "base"
        return "fine-tuned" if set(languages) <= set(tuned_on) else "zero-shot"


def digest(*parts: Any) -> str:
    """Short hash of the settings that decide a result.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps([p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
