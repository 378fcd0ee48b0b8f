"""What metrics compare, whether it lies in a study or in files: concepts, and the dictionary between their words."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import calign, colap, store, uncertainty
from engine.aligned import Words, counted, numbered, one_layer
from engine.exchange.clusters import import_clusters
from engine.exchange.stream import kind
from jobs.layout import Layout
from jobs.selections import concepts_name, is_linked
from schemas.concepts import CONCEPTS
from schemas.errors import InputError
from schemas.links import DICTIONARY
from schemas.study import Study


@dataclass(frozen=True)
class Side:
    """Concepts of one text."""

    name: str
    """What messages call it: a path."""
    concepts: xr.Dataset
    """CONCEPTS dataset."""
    k: int
    """Number of concepts."""

    @cached_property
    def words(self) -> NDArray[Any]:
        """Words (token)."""
        with store.undamaged(self.name):
            return np.asarray(self.concepts.word.values)

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers."""
        return [int(layer) for layer in self.concepts.layer.values]

    @property
    def size(self) -> int:
        """Numbers of concepts are below it; files of clusters may lack the last ones, so their k does not tell it."""
        return self.concepts.sizes["concept_id"] if "format" in self.concepts.attrs else self.k

    def restarts(self) -> NDArray[np.intp]:
        """Runs with this number of concepts."""
        return np.flatnonzero(self.concepts.k.values == self.k)

    def labels(self, layer: int, run: int | None = None) -> NDArray[np.int32]:
        """Concept (token) of each token at a layer, in the chosen restart or in the run named.

        Raises
        ------
        InputError
            There is no such layer, or it is not clustered yet.
        """
        if layer not in self.layers:
            raise InputError(f"{self.name}: has no layer {layer}; it has {', '.join(map(str, self.layers))}")
        at = self.layers.index(layer)
        with store.undamaged(self.name):
            if run is None:
                runs = self.restarts()
                chosen = runs[self.concepts.chosen.values[runs, at]]
                if not len(chosen):
                    raise InputError(f"{self.name}: layer {layer} is not clustered yet; run the study to its end")
                run = int(chosen[0])
            return np.asarray(self.concepts.concept[run, at].values)


def open_side(path: str, k: int | None = None, layer: Sequence[int] | None = None) -> Side:
    """Concepts of a store, or of ConceptX's files of clusters, which are read into memory.

    Raises
    ------
    InputError
        It is neither, has no such number of concepts, or has several and none was chosen.
    """
    if (found := kind(path)) == CONCEPTS.name:
        concepts = store.load(path, CONCEPTS)
    elif found is not None or not Path(path).exists():
        raise InputError(f"{path}: expected a store of concepts or a file of clusters, found {found or 'none'}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            made = f"{folder}/concepts.zarr"
            import_clusters(path, made, layers=layer)
            concepts = store.read(made, CONCEPTS)
    every = sorted({int(number) for number in concepts.k.values})
    if k is None and len(every) > 1:
        raise InputError(f"{path}: has runs of {', '.join(map(str, every))} concepts; choose one with --k")
    if k is not None and k not in every and "format" not in concepts.attrs:
        raise InputError(f"{path}: has no run of {k} concepts; it has {', '.join(map(str, every))}")
    return Side(path, concepts, k if k in every else every[0])


def count_languages(side: Side, layer: int, run: int | None = None) -> xr.Dataset:
    """LANGUAGE_COUNT of one layer of mixed text, in the chosen restart or in the run named."""
    return colap.count_languages(side.concepts.sel(layer=[layer]), side.labels(layer, run)[None], side.size)


def check_same_k(source: Side, target: Side) -> None:
    """Refuse concepts of different numbers: CALIGN's size rule compares them. Files of clusters may lack the last ones.

    Raises
    ------
    InputError
        The numbers differ.
    """
    listed = any("format" in side.concepts.attrs for side in (source, target))
    if source.k != target.k and not listed:
        raise InputError(
            f"{source.name} has {source.k} concepts and {target.name} has {target.k}; CALIGN compares concepts of one "
            "clustering's size: cluster both with the same --k"
        )


@dataclass(frozen=True)
class Comparison:
    """A source and a target with the translations between their words."""

    source: Side
    target: Side
    dictionary: xr.Dataset
    """DICTIONARY from the source to the target language."""
    reverse: xr.Dataset | None
    """DICTIONARY of the other direction, for mutual CALIGN."""
    rules: Mapping[str, Any]
    """Arguments of `engine.aligned.numbered`."""

    @cached_property
    def words(self) -> Words:
        """Words and translations as numbers."""
        return numbered(self.source.words, self.target.words, self.dictionary, **self.rules)

    @cached_property
    def back(self) -> Words | None:
        """The same from the target to the source."""
        if self.reverse is None:
            return None
        return numbered(self.target.words, self.source.words, self.reverse, **self.rules)

    def counts(
        self, layer: int, target_layer: int, n_ranks: int, runs: tuple[int | None, int | None] = (None, None)
    ) -> xr.Dataset:
        """ALIGNED_TYPES of one layer, of the chosen restarts, with reverse_types where the other direction is known; or
        of the runs named, without."""
        one, other = self.source.labels(layer, runs[0]), self.target.labels(target_layer, runs[1])
        found = one_layer(counted(self.words, one, other, (self.source.size, self.target.size), n_ranks), layer)
        if self.back is None or runs != (None, None):
            return found
        back = counted(self.back, other, one, (self.target.size, self.source.size), n_ranks)
        return calign.with_reverse(found, one_layer(back, layer))

    def unrelated(
        self, layer: int, target_layer: int, n_best: int, null: str, draws: int, seed: int, *, by_rank: bool
    ) -> Iterator[xr.Dataset]:
        """ALIGNED_TYPES of one layer where concepts do not correspond: by rank, or (rank 0) of any of the N-best."""
        words, side = self.words, uncertainty.NULLS.index(null)
        tokens, count = ((words.source, words.n_source), (words.target, words.n_target))[side]
        types = (self.dictionary.source_type, self.dictionary.target_type)[side].values
        links = np.bincount(types, weights=self.dictionary["count"].values, minlength=count).astype(np.int64)
        frequency = np.maximum(links, np.bincount(tokens, minlength=count))  # of words selected more often than linked
        one, other = self.source.labels(layer), self.target.labels(target_layer)
        kept, ranks = (words.within(n_best), n_best) if by_rank else (words.best(n_best), 1)
        for drawn in uncertainty.unrelated(
            kept.entries, np.unique(tokens), frequency, null=null, draws=draws, seed=seed
        ):
            found = counted(replace(kept, entries=drawn), one, other, (self.source.size, self.target.size), ranks)
            yield one_layer(found, layer)


def identity(words: NDArray[Any], language: str) -> xr.Dataset:
    """The DICTIONARY of a language into itself: every word is its own translation."""
    forms = np.unique(words.astype(object))
    numbers = np.arange(len(forms), dtype=np.int32)
    zeros = np.zeros(len(forms), np.int32)
    return DICTIONARY.create(
        {
            "source_form": forms,
            "target_form": forms,
            "source_type": numbers,
            "target_type": numbers,
            "probability": np.ones(len(forms)),
            "count": zeros.astype(np.int64),
            "rank": zeros,
            "place": zeros,
        },
        source=language,
        target=language,
        fold=[],
    )


@dataclass(frozen=True)
class Place:
    """Where in a study concepts lie."""

    language: str
    checkpoint: str
    stack: str


def check_known(**named: tuple[str, Sequence[str]]) -> None:
    """Refuse a name that a study does not have; by what it names, the name and those that there are.

    Raises
    ------
    InputError
        One is unknown.
    """
    for what, (value, values) in named.items():
        if value not in values:
            raise InputError(f"the study has no {what} {value!r}; it has {', '.join(values)}")


def compare_in_study(
    study: Study, layout: Layout, source: Place, target: Place, rules: Mapping[str, Any], k: int | None = None
) -> Comparison:
    """Concepts of a study; a language compared with itself has every word as its own translation.

    Parameters
    ----------
    k
        Number of concepts; default: the first of the study.

    Raises
    ------
    InputError
        The study has no such language, checkpoint, stack or pair.
    StoreError
        The study has not come so far.
    """
    for place in (source, target):
        check_known(
            language=(place.language, list(study.corpus.files)),
            checkpoint=(place.checkpoint, list(study.checkpoints)),
            stack=(place.stack, study.activations.stacks),
        )
    direction = source.language, target.language
    itself = source.language == target.language
    if itself and is_linked(study):
        raise InputError(
            f"{source.language}: has other concepts in each of its pairs, because the study counts linked pairs; name "
            "two stores of concepts in place of the study"
        )
    if not itself:
        check_known(pair=("-".join(direction), [f"{s}-{t}" for s, t in study.directions]))
    names = direction if itself else [concepts_name(study, *pair) for pair in (direction, direction[::-1])]
    sides = [
        open_side(layout.concepts(place.checkpoint, place.stack, name), k or study.concepts.ks[0])
        for place, name in zip((source, target), names, strict=True)
    ]
    if itself:
        words = np.concatenate([side.words for side in sides])
        one = identity(words, source.language)
        return Comparison(sides[0], sides[1], one, one, rules)
    there, back = (
        store.read(layout.dictionary(*pair), DICTIONARY) for pair in (direction, (direction[1], direction[0]))
    )
    return Comparison(sides[0], sides[1], there, back, rules)
