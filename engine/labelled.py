"""Text with answers, for downstream tasks: tagged words (CoNLL), labelled texts (TSV), translations (text, IWSLT)."""

import csv
import html
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import paths
from schemas.errors import InputError

_TAG = re.compile(r"O|[BI]-.+")
_NO_TAG = re.compile(r"O|_|.*_UNK")  # of taggers of entities, of CoNLL-U, and of ConceptX
SEVERAL = "|||"
"""Stands between several tags of one word, as in ConceptX's labels."""

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
    file: str = ""
    """File that they were read from; none of translations."""
    lines: Sequence[int] = ()
    """Line of it at which each input begins; the words of a sentence follow, one a line."""

    def __len__(self) -> int:
        return len(self.inputs)

    def other(self, labels: Collection[str]) -> tuple[str, str] | None:
        """The first label, or tag, that is not one of some, and its place; None where there is none."""
        for number, answer in enumerate(self.answers):
            for at, label in enumerate([answer] if isinstance(answer, str) else answer):
                if label not in labels:
                    known = f"{self.file}, line {self.lines[number] + at}" if self.lines else f"example {number + 1}"
                    return label, known
        return None


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


def check(kind: str, parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Read the files of a task as `read` does, with its parameters and errors, and keep nothing of them but labels.

    Returns
    -------
    File and line at which each label, or tag, comes first; nothing of translations.
    """
    if kind == "translation":
        for files in parts.values():
            for _ in _translated(*files):
                pass
        return {}
    found: dict[str, str] = {}
    for (file,) in parts.values():
        for line, _, answer in (_tagged if kind == "tagging" else _classified)(file):
            for at, label in enumerate([answer] if isinstance(answer, str) else answer):
                found.setdefault(label, f"{file}, line {line + at}")
    return found


def read_tagged(path: str) -> Examples:
    """Sentences in CoNLL form: a word, white space, further columns, its tag in IOB2; an empty line ends a sentence.

    Lines of `-DOCSTART-` are left out, and a language before the word (`en:word`, as PAN-X has it) when all have it.
    """
    lines, words, tags = zip(*_tagged(path), strict=True)
    if all(_LANGUAGE.match(word) for sentence in words for word in sentence):
        words = tuple([_LANGUAGE.sub("", word) for word in sentence] for sentence in words)
    return Examples([*words], [*tags], file=path, lines=lines)


def _tagged(path: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """First line, words and tags of every sentence."""
    sentences, begins = 0, 0
    words: list[str] = []
    tags: list[str] = []
    for number, line in chain(_lines(path), [(0, "")]):  # the last sentence ends as the others do
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                yield begins, words, tags
                sentences += 1
            words, tags = [], []
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        tag = columns[-1].strip()
        if len(columns) < 2 or not columns[0].strip() or not _TAG.fullmatch(tag):
            raise InputError(
                f"{path}, line {number}: expected a word and a tag such as O, B-PER, I-PER; found {line!r}"
            )
        before = tags[-1] if tags else "O"
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise InputError(
                f"{path}, line {number}: tag {tag} after {before}: in IOB2 every entity begins with a B- tag; convert "
                "the file (IOB1 leaves the first B- out)"
            )
        begins = begins if words else number
        words.append(columns[0].strip())
        tags.append(tag)
    if not sentences:
        raise InputError(f"{path}: holds no sentence; expected a word and its tag on each line")


def read_classified(path: str) -> Examples:
    """Labelled texts: tab-separated, with the header `sentence<TAB>label` (as GLUE's SST-2 has it)."""
    lines, texts, labels = zip(*_classified(path), strict=True)
    return Examples([*texts], [*labels], file=path, lines=lines)


def _classified(path: str) -> Iterator[tuple[int, str, str]]:
    """Line, text and label of every text."""
    lines = _lines(path)
    number, header = next(lines, (1, ""))
    if header.split("\t") != _HEADER:
        raise InputError(f"{path}, line {number}: expected the header 'sentence<TAB>label', found {header!r}")
    texts = 0
    for number, line in lines:
        if not line.strip():
            continue
        columns = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if len(columns) != 2 or not all(column.strip() for column in columns):
            raise InputError(f"{path}, line {number}: expected a text, a tab and its label; found {line!r}")
        yield number, columns[0].strip(), columns[1].strip()
        texts += 1
    if not texts:
        raise InputError(f"{path}: holds no text; expected one and its label on each line")


def read_translated(source: str, target: str) -> Examples:
    """Sentences and their translations, line by line, or the segments of IWSLT's XML; empty pairs are left out.

    Of `train.tags.*` files the lines of metadata, which begin with a tag, are left out.
    """
    pairs = [*_translated(source, target)]
    both = [pair for pair in pairs if all(pair)]
    return Examples([one for one, _ in both], [other for _, other in both], len(pairs) - len(both))


def _translated(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Every sentence and its translation, of which one may be empty."""
    counts, both = [0, 0], 0
    for one, other in zip_longest(_sentences(source), _sentences(target)):
        counts = [count + (text is not None) for count, text in zip(counts, (one, other), strict=True)]
        if one is not None and other is not None:
            yield one, other
            both += bool(one and other)
    if counts[0] != counts[1]:
        raise InputError(
            f"{source} and {target}: expected equally many sentences, found {counts[0]} and {counts[1]}; "
            "sentence i of one is the translation of sentence i of the other"
        )
    if not both:
        raise InputError(f"{source} and {target}: hold no sentence with a translation")


def read_tags(
    path: str, lengths: NDArray[np.integer], sentence: NDArray[np.integer], position: NDArray[np.integer]
) -> NDArray[np.object_]:
    """Tags of some words from a file with a line for each sentence and a tag for each of its words.

    A `.json` file, as ConceptX's labels, has a list of such lines.

    Parameters
    ----------
    lengths
        (sentence) words of each sentence of the text, studied or not: a tag too many would shift those behind it.
    sentence, position
        (token) numbers of the words' sentences and their places in them, from 0.

    Returns
    -------
    (token) tags; of several of a word, all, with SEVERAL between them. Empty where the file says that a word has none:
    `O`, `_`, or what ends in `_UNK`.

    Raises
    ------
    InputError
        A line has not as many tags as its sentence has words, or the file not as many lines as the text.
    """
    found = np.empty(len(sentence), object)
    order = np.argsort(sentence, kind="stable")
    stops = np.searchsorted(sentence[order], np.arange(len(lengths)), side="right")
    start = 0
    for tags, stop in zip(_tag_lines(path, lengths.tolist()), stops.tolist(), strict=True):
        for at in order[start:stop].tolist():
            several = (tag for tag in tags[position[at]].split(SEVERAL) if not _NO_TAG.fullmatch(tag))
            found[at] = sys.intern(SEVERAL.join(several))  # few tags have many words
        start = stop
    return found


def check_tags(path: str, lengths: Iterable[int]) -> None:
    """Read a file of tags as `read_tags` does, with its errors, and keep nothing of it."""
    for _ in _tag_lines(path, lengths):
        pass


def _tag_lines(path: str, lengths: Iterable[int]) -> Iterator[list[str]]:
    """Tags of each sentence of a text, which has so many words."""
    tagged = read = 0
    is_list = path.removesuffix(".gz").endswith(".json")
    what = "item" if is_list else "line"
    lines = _listed(path) if is_list else (line for _, line in _lines(path))
    for line, length in zip_longest(lines, lengths):
        tagged += line is not None
        read += length is not None
        if line is None or length is None:
            continue  # to the end, to say how many there are
        tags = line.split()
        if len(tags) != length:
            raise InputError(
                f"{path}, {what} {tagged}: found {len(tags)} tags, expected {length}, one for each word of the "
                "sentence on that line of the text; tag the text line by line as corpus.words cuts it into words, "
                "without marks of begin or end"
            )
        yield tags
    if tagged != read:
        raise InputError(
            f"{path}: found {tagged} lines, expected {read}, one for each line of the text; tag the whole text, line "
            "by line"
        )


def _listed(path: str) -> list[str]:
    """Strings of a list in JSON."""
    try:
        found = json.loads("\n".join(line for _, line in _lines(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not of the form of JSON ({error.msg}); expected a list of a string for each "
            "sentence"
        ) from error
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise InputError(f"{path}: expected a list of a string for each sentence: the tags of its words, with spaces")
    return found


def _sentences(path: str) -> Iterator[str]:
    """Sentences of one side of a translation."""
    lines = _lines(path)
    name = path.rpartition("/")[2]
    if name.removesuffix(".gz").endswith((".xml", ".sgm")):
        found = 0
        for segment in _segments(path, "\n".join(line for _, line in lines)):
            yield " ".join(html.unescape(segment).split())
            found += 1
        if not found:
            raise InputError(f"{path}: expected segments (<seg id=...>...</seg>), found none")
        return
    with_metadata = name.startswith("train.tags.")
    for _, line in lines:
        if not (with_metadata and line.lstrip().startswith("<")):
            yield line.strip()


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
        raise InputError(f"{path}: no such file; expected one of those that the study names for each language")
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
    return with_inside(answers) if kind == "tagging" else sorted(answers)


def with_inside(tags: Iterable[str]) -> list[str]:
    """Some tags, sorted, with the I- tag of every B- tag, and O: what a model that is tuned on them can answer."""
    found = {*tags}
    return sorted(found | {f"I-{tag[2:]}" for tag in found if tag.startswith("B-")} | {"O"})
