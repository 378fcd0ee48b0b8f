"""Text files: their sentences and words, and whether a file is still what was read."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import xarray as xr

from engine import paths
from schemas.errors import InputError

_READ = 2**20
"""Bytes of a text that are read at once when it is compared."""


@cache
def _word() -> re.Pattern[str]:
    """A word of running text: letters and digits, or one mark, each with what combines with it."""
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0xE01F0) if unicodedata.category(chr(c)).startswith("M"))
    return re.compile(rf"[^\W_]+(?:[{marks}]+[^\W_]*)*|(?:[^\w\s]|_)[{marks}]*")


def words(line: str, rule: str) -> list[str]:
    """Words of a line of text, in Unicode's composed form (NFC).

    Parameters
    ----------
    rule
        `spaces`: the text is tokenised already; any Unicode white space divides. `regex`: runs of letters and digits,
        and every other mark alone; combining marks stay with their letter.

    Examples
    --------
    >>> words("L'été, déjà!", "regex")
    ['L', "'", 'été', ',', 'déjà', '!']
    """
    line = unicodedata.normalize("NFC", line)
    return line.split() if rule == "spaces" else _word().findall(line)


class Content:
    """What was read of a text: its length and hash, unpacked."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.nbytes = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the text."""
        self._hash.update(data)
        self.nbytes += len(data)

    @property
    def sha256(self) -> str:
        """Hash of the bytes so far."""
        return self._hash.hexdigest()


def read_sentences(path: str, rule: str, content: Content | None = None) -> Iterator[list[str]]:
    """Sentences of a text file, one a line; `.gz` is unpacked.

    Parameters
    ----------
    content
        Takes every line that is read.

    Raises
    ------
    InputError
        No such file, invalid UTF-8, an empty sentence or no sentence at all; the message gives file, line, what was
        found and the remedy.
    """
    if not _exists(path):
        raise InputError(f"{path}: no such file; expected the text of a language, one sentence a line")
    number = 0
    with paths.unpacked(path) as lines:
        for number, line in enumerate(lines, 1):
            if content is not None:
                content.add(line)
            try:
                found = words(line.decode("utf-8-sig" if number == 1 else "utf-8"), rule)
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: byte {error.object[error.start]:#04x} at column {error.start} is not "
                    "UTF-8; convert the file, for example with iconv -t UTF-8"
                ) from error
            if not found:
                raise InputError(
                    f"{path}, line {number}: empty sentence; a parallel text has a sentence on every line: remove "
                    f"line {number} from the files of all languages"
                )
            yield found
    if not number:
        raise InputError(f"{path}: the file is empty; expected one sentence a line")


def _exists(path: str) -> bool:
    """Whether there is such a text file.

    Raises
    ------
    InputError
        It is a folder.
    """
    system, place = paths.filesystem(path)
    if system.isdir(place):
        raise InputError(f"{path}: a folder; expected the text of a language, one sentence a line, in a file")
    return bool(system.exists(place))


def compare_files(corpus: xr.Dataset, files: Mapping[str, str]) -> dict[str, str]:
    """Say of the text file of each language whether it is still what the corpus was read from.

    Returns
    -------
    By language: `same`; `grown`, the text that was read with further lines behind it; `changed`; or `gone`, no such
    file. Only the unpacked text counts, so a file may be packed again.

    Raises
    ------
    InputError
        A file is a folder, or a damaged gzip file.
    """
    hashes, lengths = (json.loads(corpus.attrs.get(name, "{}")) for name in ("sha256", "bytes"))
    return {
        language: _compare(path, hashes[language], lengths[language]) if _exists(path) else "gone"
        for language, path in files.items()
        if language in hashes
    }


def _compare(path: str, sha256: str, nbytes: int) -> str:
    content, last = Content(), b""
    with paths.unpacked(path) as file:
        while data := file.read(min(_READ, nbytes - content.nbytes)):
            content.add(data)
            last = data[-1:]
        more = file.read(2)
    if content.sha256 != sha256:
        return "changed"
    if not more:
        return "same"
    return "grown" if last == b"\n" or more[:1] == b"\n" or more == b"\r\n" else "changed"


def check_parallel(files: Mapping[str, str], sentences: Sequence[int]) -> None:
    """Check that text files have equal numbers of sentences.

    Raises
    ------
    InputError
        Names every file with its number.
    """
    if len(set(sentences)) > 1:
        counts = ", ".join(f"{path}: {n}" for path, n in zip(files.values(), sentences, strict=True))
        raise InputError(
            f"the files of a parallel text must have equal numbers of lines, found {counts}; "
            "line i of every file must be the same sentence"
        )
