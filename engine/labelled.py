"""Text with answers, for downstream tasks: tagged words (CoNLL), labelled texts (TSV), translations (text, IWSLT)."""

import csv
import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import paths
from schemas.errors import InputError

_TAG = re.compile(r"O|[BI]-.+")
_SEGMENT_TAG = re.compile(r"<(/?)seg\b[^<>]*(>?)", re.IGNORECASE)
_LANGUAGE = re.compile(r"^[a-z]{2,3}:(?=.)")  # PAN-X writes en:word
_HEADER = ["sentence", "label"]


@dataclass(frozen=True)
class Examples:
    """Inputs of a task and their answers, one by one."""

    inputs: Sequence[Any]
    """Words of a sentence (tagging), or a text."""
    answers: Sequence[Any]
    """Tags of the words, the label, or the translation."""
    left_out: int = 0
    """Pairs of sentences of which one is empty."""

    def __len__(self) -> int:
        return len(self.inputs)


def read(kind: str, parts: Mapping[str, Sequence[str]]) -> dict[str, Examples]:
    """Read the files of a task.

    Parameters
    ----------
    kind
        tagging, classification or translation.
    parts
        Files by language, or by SOURCE-TARGET.

    Raises
    ------
    InputError
        No such file, or one that is not of its form; gives file, line, what was found and what was expected.
    """
    readers: dict[str, Callable[..., Examples]] = {
        "tagging": read_tagged, "classification": read_classified, "translation": read_translated,
    }  # fmt: skip
    return {part: readers[kind](*files) for part, files in parts.items()}


def read_tagged(path: str) -> Examples:
    """Sentences in CoNLL form: a word, white space, further columns, its tag in IOB2; an empty line ends a sentence.

    Lines of `-DOCSTART-` are left out, and a language before the word (`en:word`, as PAN-X has it) when all have it.
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    before = "O"
    for number, line in _lines(path):
        if not line.strip() or line.startswith("-DOCSTART-"):
            before = "O"
            if sentences[-1]:
                sentences.append([])
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        tag = columns[-1].strip()
        if len(columns) < 2 or not columns[0].strip() or not _TAG.fullmatch(tag):
            raise InputError(
                f"{path}, line {number}: expected a word and a tag such as O, B-PER, I-PER; found {line!r}"
            )
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise InputError(
                f"{path}, line {number}: tag {tag} after {before}: in IOB2 every entity begins with a B- tag; convert "
                "the file (IOB1 leaves the first B- out)"
            )
        sentences[-1].append((columns[0].strip(), tag))
        before = tag
    found = [sentence for sentence in sentences if sentence]
    if not found:
        raise InputError(f"{path}: holds no sentence; expected a word and its tag on each line")
    if all(_LANGUAGE.match(word) for sentence in found for word, _ in sentence):
        found = [[(_LANGUAGE.sub("", word), tag) for word, tag in sentence] for sentence in found]
    return Examples([[word for word, _ in one] for one in found], [[tag for _, tag in one] for one in found])


def read_classified(path: str) -> Examples:
    """Labelled texts: tab-separated, with the header `sentence<TAB>label` (as GLUE's SST-2 has it)."""
    lines = _lines(path)
    number, header = next(lines, (1, ""))
    if header.split("\t") != _HEADER:
        raise InputError(f"{path}, line {number}: expected the header 'sentence<TAB>label', found {header!r}")
    texts, labels = [], []
    for number, line in lines:
        if not line.strip():
            continue
        columns = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if len(columns) != 2 or not all(column.strip() for column in columns):
            raise InputError(f"{path}, line {number}: expected a text, a tab and its label; found {line!r}")
        texts.append(columns[0].strip())
        labels.append(columns[1].strip())
    if not texts:
        raise InputError(f"{path}: holds no text; expected one and its label on each line")
    return Examples(texts, labels)


def read_translated(source: str, target: str) -> Examples:
    """Sentences and their translations, line by line, or the segments of IWSLT's XML; empty pairs are left out.

    Of `train.tags.*` files the lines of metadata, which begin with a tag, are left out.
    """
    sides = [_sentences(path) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{source} and {target}: expected equally many sentences, found {len(sides[0])} and {len(sides[1])}; "
            "sentence i of one is the translation of sentence i of the other"
        )
    both = [pair for pair in zip(*sides, strict=True) if all(pair)]
    if not both:
        raise InputError(f"{source} and {target}: hold no sentence with a translation")
    return Examples([one for one, _ in both], [other for _, other in both], len(sides[0]) - len(both))


def read_tags(path: str, sentence: NDArray[np.integer], position: NDArray[np.integer]) -> NDArray[np.object_]:
    """Tags of some words from a file with a line for each sentence and a tag for each of its words.

    Parameters
    ----------
    sentence, position
        (token) numbers of the words' sentences and their places in them, from 0.

    Returns
    -------
    (token) tags.

    Raises
    ------
    InputError
        The file lacks a sentence, or a line a word.
    """
    tags = [line.split() for _, line in _lines(path)]
    found = np.empty(len(sentence), object)
    for at, (number, place) in enumerate(zip(sentence.tolist(), position.tolist(), strict=True)):
        if number >= len(tags):
            raise InputError(
                f"{path}: has {len(tags)} lines, and the text a sentence {number + 1}: expected one for each"
            )
        if place >= len(tags[number]):
            raise InputError(
                f"{path}, line {number + 1}: expected a tag for each word, at least {place + 1}, found "
                f"{len(tags[number])}; tag the text as it was cut into words (corpus.words)"
            )
        found[at] = tags[number][place]
    return found


def _sentences(path: str) -> list[str]:
    lines = _lines(path)
    name = path.rpartition("/")[2]
    if name.removesuffix(".gz").endswith((".xml", ".sgm")):
        whole = "\n".join(line for _, line in lines)
        found = [" ".join(html.unescape(segment).split()) for segment in _segments(path, whole)]
        if not found:
            raise InputError(f"{path}: expected segments (<seg id=...>...</seg>), found none")
        return found
    if name.startswith("train.tags."):
        return [line.strip() for _, line in lines if not line.lstrip().startswith("<")]
    return [line.strip() for _, line in lines]


def _segments(path: str, whole: str) -> Iterator[str]:
    """Text of every segment; tags that do not come in turn are an error, for text of two segments would be one."""
    opened: re.Match[str] | None = None
    for tag in _SEGMENT_TAG.finditer(whole):
        closes, ends = tag.groups()
        if not ends or bool(closes) != bool(opened):
            expected = "</seg>" if opened else "<seg id=...>"
            before = f" behind {opened.group()!r} of line {_line(whole, opened)}" if opened else ""
            raise InputError(
                f"{path}, line {_line(whole, tag)}: expected {expected}{before}, found {tag.group()!r}; every segment "
                "is <seg id=...>...</seg>: correct the file, or copy it again"
            )
        if opened:
            yield whole[opened.end() : tag.start()]
        opened = None if closes else tag
    if opened:
        raise InputError(
            f"{path}, line {_line(whole, opened)}: expected </seg> behind {opened.group()!r}, found the end of the "
            "file; every segment is <seg id=...>...</seg>: correct the file, or copy it again"
        )


def _line(whole: str, tag: re.Match[str]) -> int:
    """Line at which a tag begins."""
    return whole.count("\n", 0, tag.start()) + 1


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Numbers and text of the lines of a file, in Unicode's composed form; `.gz` is unpacked."""
    system, place = paths.filesystem(path)
    if not system.isfile(place):
        raise InputError(f"{path}: no such file; train, dev and test of a task name one for each language")
    with paths.unpacked(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: byte {error.object[error.start]:#04x} at column {error.start} is not "
                    "UTF-8; convert the file, for example with iconv -t UTF-8"
                ) from error
            yield number, unicodedata.normalize("NFC", text.rstrip("\r\n"))


def labels_of(kind: str, examples: Mapping[str, Examples]) -> list[str]:
    """Labels or tags that occur, sorted; every B- tag with its I- tag; none of translations.

    Examples
    --------
    >>> labels_of("tagging", {"en": Examples([["a", "b"]], [["B-X", "O"]])})
    ['B-X', 'I-X', 'O']
    """
    answers: set[str] = set()
    if kind == "translation":
        return []
    for part in examples.values():
        answers.update(chain.from_iterable(part.answers) if kind == "tagging" else part.answers)
    if kind == "tagging":
        answers |= {f"I-{tag[2:]}" for tag in answers if tag.startswith("B-")} | {"O"}
    return sorted(answers)
