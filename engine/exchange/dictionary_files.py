"""Files of dictionaries, read and checked line by line; what a line holds is said in dictionaries.py."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

from engine import paths
from engine.lexicon import LARGEST, ROUNDING
from schemas.errors import InputError

Format = Literal["text", "json", "moses", "muse", "tsv", "zarr"]
FORMATS: tuple[Format, ...] = get_args(Format)
HEADER = "source\ttarget\tprobability\tcount"
LIKE: dict[Format, str] = {
    "text": "word -> word: Probability = p, Count = n",
    "json": '{word: {word: {"Count": n, "Probability": p}}}',
    "moses": "target source p, or target source n total, divided by single spaces",
    "muse": "word word, divided by a space or a tab",
    "tsv": "source, target, probability and count, divided by tabs",
}
"""What a line of each format is like, for messages."""
NULL = "NULL"
"""What Moses links words to that have no link."""

_ENDINGS: dict[str, Format] = {
    "zarr": "zarr", "json": "json", "tsv": "tsv", "txt": "text", "f2e": "moses", "e2f": "moses",
}  # fmt: skip
_LINE = re.compile(r"(.*):\s*Probability\s*=\s*([^\s,]+)\s*,\s*Count\s*=\s*(\S+)\s*")
_OBJECT = re.compile(r'\s*\{\s*"(?:[^"\\\x00-\x1f]|\\.)*"\s*:')  # a brace alone may be a word
_ARROW = re.compile("(?= -> )")  # of two that share a space, both
_HALF = re.compile("[\ud800-\udfff]")  # surrogates, which JSON can spell alone


class Entry(NamedTuple):
    """A translation as a file lists it."""

    source: str
    target: str
    probability: float
    links: int
    """Count; 0 where the file gives none."""
    line: int
    """From 1; 0 where a file is not read by lines."""


def text_of(path: str) -> str:
    """Content of a file or URL, `.gz` unpacked.

    Raises
    ------
    InputError
        There is none, it is damaged, or not UTF-8.
    """
    system, place = paths.filesystem(path)
    try:
        data: bytes = system.cat_file(place)
        data = gzip.decompress(data) if path.endswith(".gz") else data
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a dictionary") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); copy it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a dictionary") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8; convert the file, for example with "
            "iconv -t UTF-8"
        ) from error


def ending(path: str) -> Format | None:
    """Format by the ending of a name, .gz aside; None where that tells none."""
    return _ENDINGS.get(path.rstrip("/").lower().removesuffix(".gz").rpartition(".")[2])


def guess(path: str, text: str) -> Format:
    """Format of a file: by its ending, or by its first line, since several formats end in .txt or .tsv.

    Raises
    ------
    InputError
        Neither tells it.
    """
    named = ending(path)
    if named in ("json", "moses"):
        return named
    _, line = next(_lines(text), (0, ""))
    fields = line.split(" ")
    if _LINE.fullmatch(line):
        return "text"
    if line == HEADER:
        return "tsv"
    if _OBJECT.match(text):
        return "json"
    if len(fields) in (3, 4) and _is_number(fields[-1]):
        return "moses"
    if len(_pair(line)) == 2:
        return "muse"
    raise InputError(
        f"{path}, first line: {line[:60]!r} does not tell the format, nor does the name; give one of "
        f"{', '.join(FORMATS)}"
    )


def counts_of(path: str) -> str:
    """Name of the file of counts beside a file of Moses.

    Examples
    --------
    >>> counts_of("model/lex.f2e.gz")
    'model/lex.counts.f2e.gz'
    """
    packed = ".gz" if path.endswith(".gz") else ""
    folder, slash, name = path.removesuffix(".gz").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return folder + slash + (f"{stem}.counts.{suffix}" if dot else f"{name}.counts") + packed


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Every line but blank ones: its number from 1, and what it holds."""
    for number, line in enumerate(text.split("\n"), 1):  # words may hold what else Unicode takes for line ends
        if line.strip():
            yield number, line.removesuffix("\r")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pair(line: str) -> list[str]:
    return [word.strip() for word in line.split("\t")] if "\t" in line else line.split()


def _entry(place: str, number: int, source: str, target: str, probability: str, count: str) -> Entry:
    if not (_is_number(probability) and 0 <= float(probability) <= 1):
        raise InputError(
            f"{place}: the probability is {probability!r}; expected a number from 0 to 1, so write the file anew"
        )
    return Entry(source, target, float(probability), _whole(place, count), number)


def _whole(place: str, text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LARGEST:
        return int(text)
    raise InputError(
        f"{place}: the count is {text!r}; expected a whole number from 0 to {LARGEST}, so write the file anew"
    )


def _unlike(place: str, line: str, form: Format) -> InputError:
    return InputError(f"{place}: expected {LIKE[form]}, found {line[:120]!r}; mend the line, or give another format")


def _read_text(path: str, text: str) -> Iterator[Entry]:
    for number, line in _lines(text):
        place = f"{path}, line {number}"
        found = _LINE.fullmatch(line)
        words = found[1] if found else ""
        at = [match.start() for match in _ARROW.finditer(words)]
        if len(at) > 1:
            raise InputError(
                f"{place}: {line[:120]!r} has several ' -> ', so where its first word ends is not clear; expected one, "
                "so give the dictionary as json"
            )
        pair = [words[: at[0]], words[at[0] + 4 :]] if at else words.split("->")
        source, target = (word.strip() for word in pair) if len(pair) == 2 else ("", "")
        if not (found and source and target):
            raise _unlike(place, line, "text")
        yield _entry(place, number, source, target, found[2], found[3])


def _read_json(path: str, text: str) -> Iterator[Entry]:
    def once(found: list[tuple[str, object]]) -> dict[str, object]:
        table: dict[str, object] = {}
        for key, value in found:
            if table.setdefault(key, value) != value:
                raise InputError(
                    f"{path}: {key!r} is given twice in one object, as {_short(table[key])} and {_short(value)}; "
                    "expected each pair of words once, so leave out one"
                )
        return table

    try:
        table = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}; expected {LIKE['json']}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected {LIKE['json']}, found {_short(table)}; write the file anew")
    for source, found in table.items():
        if not isinstance(found, dict):
            raise InputError(f"{path}, {source!r}: expected {LIKE['json']}, found {_short(found)}; write it anew")
        for target, numbers in found.items():
            place = f"{path}, {source!r}, {target!r}"
            if not source or not target or _HALF.search(source + target):
                raise InputError(f"{place}: a word is empty or half a character; expected words, so leave it out")
            if not isinstance(numbers, dict) or set(numbers) != {"Count", "Probability"}:
                raise InputError(f"{place}: expected Count and Probability, found {_short(numbers)}; write it anew")
            probability, count = (json.dumps(numbers[name]) for name in ("Probability", "Count"))
            yield _entry(place, 0, source, target, probability, count)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _read_moses(path: str, text: str) -> Iterator[Entry]:
    beside = counts_of(path)
    system, place = paths.filesystem(beside)
    _, first = next(_lines(text), (0, ""))
    if len(first.strip(" ").split(" ")) == 4:
        yield from _read_counts(path, text)
    elif not system.exists(place):
        yield from _read_lex(path, text)
    else:
        counted = {(entry.source, entry.target): entry for entry in _read_counts(beside, text_of(beside))}
        for entry in _read_lex(path, text):
            exact = counted.get((entry.source, entry.target))
            if exact is None or abs(exact.probability - entry.probability) > ROUNDING:
                found = "there is no such row" if exact is None else f"it is {exact.probability:.7f}"
                raise InputError(
                    f"{path}, line {entry.line}: p({entry.target} | {entry.source}) is {entry.probability:.7f}, and by "
                    f"{beside} {found}; expected both of one run, so replace one or remove the counts"
                )
            yield exact._replace(line=entry.line)


def _read_lex(path: str, text: str) -> Iterator[Entry]:
    for number, (place, (target, source, probability)) in _moses_fields(path, text, 3):
        if NULL not in (source, target):
            yield _entry(place, number, source, target, probability, "0")


def _read_counts(path: str, text: str) -> Iterator[Entry]:
    for number, (place, (target, source, *numbers)) in _moses_fields(path, text, 4):
        count, total = (_whole(place, value) for value in numbers)
        if not 0 < count <= total:
            raise InputError(
                f"{place}: {count} links of {total}; expected at least one and at most all, so write the file anew"
            )
        if NULL not in (source, target):
            yield Entry(source, target, count / total, count, number)


def _moses_fields(path: str, text: str, width: int) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    for number, line in _lines(text):
        fields = line.strip(" ").split(" ")
        if len(fields) != width or not all(fields):
            raise _unlike(f"{path}, line {number}", line, "moses")
        yield number, (f"{path}, line {number}", fields)


def _read_muse(path: str, text: str) -> Iterator[Entry]:
    for number, line in _lines(text):
        words = _pair(line)
        if len(words) != 2 or not all(words):
            raise _unlike(f"{path}, line {number}", line, "muse")
        yield Entry(words[0], words[1], 1.0, 0, number)


def _read_tsv(path: str, text: str) -> Iterator[Entry]:
    lines = _lines(text)
    first, header = next(lines, (1, ""))
    if header != HEADER:
        raise InputError(
            f"{path}, line {first}: expected the columns {HEADER!r}, found {header[:120]!r}; begin with them"
        )
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) != 4 or not all(fields):
            raise _unlike(f"{path}, line {number}", line, "tsv")
        yield _entry(f"{path}, line {number}", number, *fields)


READERS: dict[Format, Callable[[str, str], Iterator[Entry]]] = {
    "text": _read_text,
    "json": _read_json,
    "moses": _read_moses,
    "muse": _read_muse,
    "tsv": _read_tsv,
}
"""The entries of a file, given its path and content."""
