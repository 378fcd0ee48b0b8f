"""Word links in the files of other tools: Pharaoh lines, and the mapping_dict.json of the published scripts.

A line of a Pharaoh file holds the links of a sentence, such as `0-0 1-2`: the word of the first language and that of
the second, counted from 0. Gold links that are possible but not sure are written `0p1` or `0?1`. The mapping is an
object of lists by sentence number, each entry the words of a phrase in both languages, joined by a space, and their
positions.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TextIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import paths
from engine.text import sentence_offsets, some_sentences
from schemas.errors import InputError
from schemas.links import LINKS

_LINK = re.compile(r"([0-9]+)([-p?])([0-9]+)")
_BATCH = 1000
"""Sentences whose words are held at once."""
_READ = 2**20
"""Bytes that are hashed at once."""

Link = tuple[int, int]


@dataclass(frozen=True)
class Line:
    """The links of one sentence."""

    sure: frozenset[Link]
    possible: frozenset[Link]
    """Links that are not sure."""

    @property
    def links(self) -> frozenset[Link]:
        """All links."""
        return self.sure | self.possible


def read_pharaoh(path: str) -> Iterator[Line]:
    """The links of each sentence of a Pharaoh file, one a line; `.gz` is unpacked.

    Raises
    ------
    InputError
        No such file, or a line that holds anything but links.
    """
    _check_file(path)
    with paths.unpacked(path) as lines:
        for number, line in enumerate(lines, 1):
            sure: set[Link] = set()
            possible: set[Link] = set()
            for word in line.split():
                match = _LINK.fullmatch(word.decode("utf-8", "replace"))
                if match is None:
                    raise InputError(
                        f"{path}, line {number}: expected links such as 0-0 1-2, and 0p1 for a possible one, found "
                        f"{word.decode('utf-8', 'replace')!r}; give a file in Pharaoh format, as fast_align writes it"
                    )
                (possible if match[2] != "-" else sure).add((int(match[1]), int(match[3])))
            yield Line(frozenset(sure), frozenset(possible))


def _check_file(path: str) -> None:
    system, place = paths.filesystem(path)
    if not system.isfile(place):
        found = "a folder" if system.exists(place) else "none"
        raise InputError(f"{path}: expected a file of word links, found {found}")


def write_pharaoh(file: TextIO, sentences: Iterable[NDArray[np.integer]]) -> tuple[int, int]:
    """Write links (link, side) of each sentence, by position; returns how many sentences and links."""
    count = links = 0
    for found in sentences:
        file.write(" ".join(f"{i}-{j}" for i, j in found.tolist()) + "\n")
        count += 1
        links += len(found)
    return count, links


def identity(path: str) -> tuple[str, int]:
    """SHA-256 of a file of links, unpacked, and the number of its lines; a file in another package is the same."""
    _check_file(path)
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
    starts = [sentence_offsets(corpus, language) for language in (source, target)]
    order = (1, 0) if reverse else (0, 1)
    if is_mapping(path):
        lines = _read_mapping(path, corpus, (target, source) if reverse else (source, target))
    else:
        lines = ((f"line {i}", line.links) for i, line in enumerate(read_pharaoh(path), 1))
    found = array("q"), array("q")
    sentences = len(starts[0]) - 1
    count = 0
    for count, (place, links) in enumerate(lines, 1):
        if count > sentences:
            break
        lengths = [int(start[count] - start[count - 1]) for start in starts]
        _check_range(f"{path}, {place}", links, [lengths[side] for side in order])
        for link in sorted((link[order[0]], link[order[1]]) for link in links):
            for side, tokens in enumerate(found):
                tokens.append(int(starts[side][count - 1]) + link[side])
    if count != sentences:
        raise InputError(lines_differ(path, "more" if count > sentences else str(count), sentences))
    return LINKS.create(
        {"source_token": np.frombuffer(found[0], np.int64), "target_token": np.frombuffer(found[1], np.int64)},
        source=source,
        target=target,
        file=path.rpartition("/")[2],
        sha256=identity(path)[0],
        trained_on=0,
        sentences_too_long=0,
    )


def lines_differ(path: str, found: str, sentences: int) -> str:
    """Says that a file of links has another number of lines than the text has sentences."""
    return (
        f"{path}: expected a line of links for each of the {sentences} sentences of the text, found {found}; link the "
        "text as the corpus has it, with an empty line for a sentence without links"
    )


def _check_range(where: str, links: Iterable[Link], lengths: list[int]) -> None:
    for i, j in links:
        if i >= lengths[0] or j >= lengths[1]:
            raise InputError(
                f"{where}: link {i}-{j} is out of range, the sentences have {lengths[0]} and {lengths[1]} words, "
                "counted from 0; link the text as it is cut into words here (corpus.words), the languages in the "
                "order of the pair's name"
            )


def _read_mapping(path: str, corpus: xr.Dataset, languages: tuple[str, str]) -> Iterator[tuple[str, frozenset[Link]]]:
    """Where the links of each sentence are, and the links; phrases link each word to each."""
    with paths.unpacked(path) as file:
        try:
            mapping = json.load(file)
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}; expected the mapping_dict.json of one pair") from error
    sentences = len(sentence_offsets(corpus, languages[0])) - 1
    if not isinstance(mapping, dict):
        raise InputError(f"{path}: expected an object of entries by sentence number, found {type(mapping).__name__}")
    for name in mapping:
        if not (name.isascii() and name.isdecimal() and int(name) < sentences and str(int(name)) == name):
            raise InputError(
                f"{path}: expected numbers of sentences from 0 to {sentences - 1}, found {name!r}; give the mapping of "
                "the text that the corpus holds"
            )
    for first in range(0, sentences, _BATCH):
        numbers = np.arange(first, min(first + _BATCH, sentences))
        texts = [some_sentences(corpus, language, numbers) for language in languages]
        for number, *sides in zip(numbers.tolist(), *texts, strict=True):
            entries, links = mapping.get(str(number), []), set()
            for at, entry in enumerate(entries, 1):
                place = f"{path}, sentence {number}, entry {at}"
                spelt, positions = _checked_entry(place, entry)
                for words, indices, sentence in zip(spelt, positions, sides, strict=True):
                    _check_words(place, words, indices, sentence)
                links |= {(i, j) for i in positions[0] for j in positions[1]}
            yield f"sentence {number}", frozenset(links)


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
