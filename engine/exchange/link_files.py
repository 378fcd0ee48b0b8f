"""Word links in Pharaoh's form, as fast_align and Moses write them: a line of `0-0 1-2` for each pair of sentences."""

import gzip
import re
import zlib

import numpy as np
from numpy.typing import NDArray

from engine import paths
from schemas.errors import InputError

_LINK = re.compile(rb"([0-9]{1,9})-([0-9]{1,9})")
_DIGITS = 9
"""Digits of the longest index."""


def read_pharaoh(
    path: str, source_lengths: NDArray[np.integer], target_lengths: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Read the links of a parallel text.

    Parameters
    ----------
    path
        File of a line for each pair of sentences: `i-j` links word i of the source with word j of the target, from 0;
        an empty line has no link. `.gz` is unpacked.
    source_lengths, target_lengths
        Words (sentence) of each side.

    Returns
    -------
    (link, 2) tokens of the source text and of the target text, from 0, in the order of the file.

    Raises
    ------
    InputError
        No such file, another number of lines than sentences, something that is no link, or a link out of range; the
        message names file, line, what was found, what was expected and the remedy.
    """
    data = _bytes(path)
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    if len(raw) and raw[-1] != ord("\n"):
        ends = np.append(ends, len(raw))
    if len(ends) != len(source_lengths):
        raise InputError(
            f"{path}: {len(ends)} lines, and the texts have {len(source_lengths)} sentences; expected a line of links "
            "for each, so give the links of these very texts"
        )
    digit = (raw >= ord("0")) & (raw <= ord("9"))
    bounds = np.flatnonzero(np.diff(digit, prepend=False, append=False))
    start, stop = bounds[0::2], bounds[1::2]
    regular = len(start) % 2 == 0 and bool(((stop - start) <= _DIGITS).all())
    if regular:
        joined, apart = raw[stop[0::2]] if len(stop) else raw[:0], raw[~digit]
        # each pair of numbers has one hyphen between them, there is no other hyphen, and all else is white space
        regular = (
            bool((joined == ord("-")).all() and (start[1::2] == stop[0::2] + 1).all())
            and int((apart == ord("-")).sum()) == len(joined)
            and bool(np.isin(apart, np.frombuffer(b"- \t\r\n", np.uint8)).all())
        )
    if not regular:
        raise _unlike(path, data)
    links = _numbers(raw, start, stop).reshape(-1, 2)
    line = np.searchsorted(ends, start[0::2])
    lengths = np.stack([source_lengths, target_lengths], axis=1)
    if (outside := np.flatnonzero((links >= lengths[line]).any(axis=1))).size:
        at = int(outside[0])
        (i, j), (n, m) = links[at].tolist(), lengths[line[at]].tolist()
        raise InputError(
            f"{path}, line {line[at] + 1}: link {i}-{j} is out of range: the sentences have {n} and {m} words, so "
            f"expected at most {n - 1}-{m - 1}; give the links of these very texts, in their order"
        )
    offsets = np.cumsum(lengths, axis=0, dtype=np.int64) - lengths
    return links + offsets[line]


def _numbers(raw: NDArray[np.uint8], start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values of runs of digits (run)."""
    values = np.zeros(len(start), np.int64)
    for place in range(int((stop - start).max(initial=0))):
        there = stop - start > place
        values[there] += (raw[stop[there] - 1 - place] - np.uint8(ord("0"))) * np.int64(10**place)
    return values


def _unlike(path: str, data: bytes) -> InputError:
    """The error of the first line that holds something else than links."""
    for number, line in enumerate(data.split(b"\n"), 1):
        for word in line.split():
            if not _LINK.fullmatch(word):
                return InputError(
                    f"{path}, line {number}: {word[:40].decode(errors='replace')!r} is no link; expected links such as "
                    "0-0 1-2, divided by spaces, in Pharaoh's form"
                )
    return InputError(f"{path}: expected lines of links such as 0-0 1-2 in Pharaoh's form; write the file anew")


def _bytes(path: str) -> bytes:
    system, place = paths.filesystem(path)
    try:
        data: bytes = system.cat_file(place)
        return gzip.decompress(data) if path.endswith(".gz") else data
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected links in Pharaoh's form, a line for each sentence") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); copy it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a file of links") from error
