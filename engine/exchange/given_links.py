"""Word links that another tool has made of a study's text: a Pharaoh file, or a mapping_dict.json.

The mapping, which the published scripts read, is an object of lists by sentence number, each entry the words of a
phrase in both languages, joined by a space, and their positions: {"0": [["das Haus", "the house", [0, 1], [0, 1]]]}.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import paths
from engine.exchange.link_files import read_pharaoh
from engine.text import sentence_offsets, some_sentences
from schemas.errors import InputError
from schemas.links import LINKS

_BATCH = 1000
"""Sentences whose words are held at once."""
_READ = 2**20
"""Bytes that are hashed at once."""


def identity(path: str) -> tuple[str, int]:
    """SHA-256 of a file of links, unpacked, and the number of its lines; a file in another package is the same."""
    system, place = paths.filesystem(path)
    if not system.isfile(place):
        found = "a folder" if system.exists(place) else "none"
        raise InputError(f"{path}: expected a file of word links, found {found}; links.files names one for each pair")
    content, lines, last = hashlib.sha256(), 0, b"\n"
    with paths.unpacked(path) as file:
        while data := file.read(_READ):
            content.update(data)
            lines += data.count(b"\n")
            last = data[-1:]
    return content.hexdigest(), lines + (last != b"\n")


def is_mapping(path: str) -> bool:
    """Whether a file of links is a mapping_dict.json, by its name."""
    return path.removesuffix(".gz").endswith(".json")


def import_links(corpus: xr.Dataset, source: str, target: str, path: str, *, reverse: bool = False) -> xr.Dataset:
    """Read the links of a pair that another tool has made of the same text.

    Parameters
    ----------
    corpus
        CORPUS dataset, opened lazily.
    source, target
        Languages of the pair.
    path
        Pharaoh file, read in a stream, or mapping_dict.json, held whole.
    reverse
        Whether the first language of the file is the target.

    Returns
    -------
    LINKS dataset (link), ordered by source token, then target token.

    Raises
    ------
    InputError
        The file has not a line for each sentence, a link is out of range, or words differ from the text.
    """
    named = (target, source) if reverse else (source, target)
    starts = [sentence_offsets(corpus, language) for language in named]
    if is_mapping(path):
        links = _read_mapping(path, corpus, named)
    else:
        links = read_pharaoh(path, np.diff(starts[0]), np.diff(starts[1]))
    links = links + np.array([starts[0][0], starts[1][0]])
    links = links[:, ::-1] if reverse else links
    links = np.unique(links, axis=0) if len(links) else links
    return LINKS.create(
        {"source_token": links[:, 0].copy(), "target_token": links[:, 1].copy()},
        source=source,
        target=target,
        file=path.rpartition("/")[2],
        sha256=identity(path)[0],
        trained_on=0,
        sentences_too_long=0,
    )


def lines_differ(path: str, found: int, sentences: int) -> str:
    """Says that a file of links has another number of lines than the text has sentences."""
    return (
        f"{path}: {found} lines, and the text has {sentences} sentences; expected a line of links for each, and an "
        "empty one for a sentence without links, so link the very text of corpus.files"
    )


def _read_mapping(path: str, corpus: xr.Dataset, languages: tuple[str, str]) -> NDArray[np.int64]:
    """Links (link, 2) as tokens of both texts, from 0; phrases link each word to each."""
    with paths.unpacked(path) as file:
        try:
            mapping = json.load(file)
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}; expected the mapping_dict.json of one pair") from error
    starts = [sentence_offsets(corpus, language) for language in languages]
    sentences = len(starts[0]) - 1
    if not isinstance(mapping, dict):
        raise InputError(f"{path}: expected an object of entries by sentence number, found {type(mapping).__name__}")
    for name in mapping:
        if not (name.isascii() and name.isdecimal() and int(name) < sentences and str(int(name)) == name):
            raise InputError(
                f"{path}: expected numbers of sentences from 0 to {sentences - 1}, found {name!r}; give the mapping of "
                "the text that the corpus holds"
            )
    links = array("q")
    for first in range(0, sentences, _BATCH):
        numbers = np.arange(first, min(first + _BATCH, sentences))
        texts = [some_sentences(corpus, language, numbers) for language in languages]
        for number, *words in zip(numbers.tolist(), *texts, strict=True):
            offset = [int(start[number] - start[0]) for start in starts]
            for i, j in _links_of(f"{path}, sentence {number}", mapping.get(str(number), []), words):
                links.extend((i + offset[0], j + offset[1]))
    return np.array(links, np.int64).reshape(-1, 2)


def _links_of(place: str, entries: Any, sentences: list[list[str]]) -> Iterator[tuple[int, int]]:
    """Links of the entries of a sentence, whose words are given in both languages."""
    if not isinstance(entries, list):
        raise InputError(f"{place}: expected a list of entries, found {entries!r}")
    for at, entry in enumerate(entries, 1):
        spelt, positions = _checked_entry(f"{place}, entry {at}", entry)
        for words, indices, sentence in zip(spelt, positions, sentences, strict=True):
            _check_words(f"{place}, entry {at}", words, indices, sentence)
        yield from product(*positions)


def _checked_entry(place: str, entry: Any) -> tuple[tuple[str, str], tuple[list[int], list[int]]]:
    match entry:
        case [str(source), str(target), [*one], [*other]] if all(type(i) is int and i >= 0 for i in one + other):
            return (source, target), (one, other)
    raise InputError(f'{place}: expected ["source words", "target words", [positions], [positions]], found {entry!r}')


def _check_words(place: str, words: str, positions: list[int], sentence: list[str]) -> None:
    found = [sentence[i] if i < len(sentence) else None for i in positions]
    if found != words.split(" "):
        raise InputError(
            f"{place}: expected {words!r} at words {positions}, found {found} in a sentence of {len(sentence)} words, "
            "counted from 0; give the mapping of the text as it is cut into words here (corpus.words)"
        )


def sentence_links(corpus: xr.Dataset, links: xr.Dataset) -> Iterator[NDArray[np.int64]]:
    """Positions (link, side) of the linked words of each sentence, from a LINKS dataset."""
    starts = [sentence_offsets(corpus, str(links.attrs[side])) for side in ("source", "target")]
    tokens = [links[name].values for name in ("source_token", "target_token")]
    bounds = np.searchsorted(tokens[0], starts[0])
    for i, (a, b) in enumerate(pairwise(bounds.tolist())):
        yield np.stack([tokens[0][a:b] - starts[0][i], tokens[1][a:b] - starts[1][i]], axis=1)
