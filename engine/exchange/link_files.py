"""Word links in Pharaoh's form, as fast_align and Moses write them: a line of `0-0 1-2` for each pair of sentences.

Gold links that are possible but not sure are written `0p1` or `0?1`.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from engine import paths
from schemas.errors import InputError

_LINK = re.compile(rb"([0-9]{1,9})-([0-9]{1,9})")
_GOLD = re.compile(rb"([0-9]{1,9})([-p?])([0-9]{1,9})")
_DIGITS = 9
"""Digits of the longest index."""
_BLOCK = 2**20
"""Bytes that are read at once, and the rest of their last line: few enough to stay in the processor's cache."""
_DIGIT = np.isin(np.arange(256), [*b"0123456789"])
_KNOWN = np.isin(np.arange(256), [*b"0123456789- \t\r\n"])

Link = tuple[int, int]
"""Positions of a source and a target word in their sentences."""


@dataclass(frozen=True)
class Line:
    """The links of one pair of sentences."""

    sure: frozenset[Link]
    possible: frozenset[Link]
    """Links that are not sure."""

    @property
    def links(self) -> frozenset[Link]:
        """All links."""
        return self.sure | self.possible


def read_lines(path: str) -> Iterator[Line]:
    """Read the links of each pair of sentences, sure and possible ones, in a stream; `.gz` is unpacked.

    Raises
    ------
    InputError
        No such file, or something that is no link.
    """
    system, place = paths.filesystem(path)
    if not system.isfile(place):
        found = "a folder" if system.exists(place) else "none"
        raise InputError(f"{path}: expected a file of links in Pharaoh's form, found {found}")
    with paths.unpacked(path) as lines:
        for number, line in enumerate(lines, 1):
            marked: dict[bool, set[Link]] = {True: set(), False: set()}
            for word in line.split():
                match = _GOLD.fullmatch(word)
                if match is None:
                    raise InputError(
                        f"{path}, line {number}: {word[:40].decode(errors='replace')!r} is no link; expected links "
                        "such as 0-0 1-2, and 0p1 for a possible one, divided by spaces, in Pharaoh's form"
                    )
                marked[match[2] == b"-"].add((int(match[1]), int(match[3])))
            yield Line(frozenset(marked[True]), frozenset(marked[False]))


def write_pharaoh(file: TextIO, sentences: Iterable[NDArray[np.integer]]) -> tuple[int, int]:
    """Write links (link, side) of each sentence, by position; returns how many sentences and links."""
    count = links = 0
    for found in sentences:
        file.write(" ".join(f"{i}-{j}" for i, j in found.tolist()) + "\n")
        count += 1
        links += len(found)
    return count, links


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
    lengths = [np.asarray(found, np.int64) for found in (source_lengths, target_lengths)]
    starts = [np.cumsum(found) - found for found in lengths]
    found = [np.empty((0, 2), np.int64)]
    firsts = np.unique(np.searchsorted(ends, np.arange(0, len(raw), _BLOCK))).tolist()
    for first, last in pairwise([*firsts, len(ends)] if firsts else []):
        lines = slice(first, last)
        at = slice(int(ends[first - 1]) + 1 if first else 0, int(ends[last - 1]) + 1)
        links = _links(raw[at])
        if links is None:
            raise _unlike(path, data)
        start, pairs = links
        per_line = np.diff(np.searchsorted(start, ends[lines] - at.start), prepend=0)
        words = [np.repeat(length[lines], per_line) for length in lengths]
        if (outside := np.flatnonzero((pairs[:, 0] >= words[0]) | (pairs[:, 1] >= words[1]))).size:
            link = int(outside[0])
            line = first + int(np.searchsorted(np.cumsum(per_line), link, side="right")) + 1
            n, m = (int(length[link]) for length in words)
            raise InputError(
                f"{path}, line {line}: link {pairs[link, 0]}-{pairs[link, 1]} is out of range: the sentences have {n} "
                f"and {m} words, so expected at most {n - 1}-{m - 1}; give the links of these very texts, in their "
                "order"
            )
        for side in (0, 1):
            pairs[:, side] += np.repeat(starts[side][lines], per_line)
        found.append(pairs)
    return np.concatenate(found)


def _links(raw: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """First byte of each link (link), and its two numbers (link, 2); None where there is anything else than links."""
    digit = np.zeros(len(raw) + 2, bool)
    digit[1:-1] = _DIGIT[raw]
    bounds = np.flatnonzero(digit[1:] != digit[:-1])
    start, stop = bounds[0::2], bounds[1::2]
    # each pair of numbers has one hyphen between them, there is no other hyphen, and all else is white space
    if (
        len(start) % 2
        or int((stop - start).max(initial=0)) > _DIGITS
        or (start[1::2] != stop[0::2] + 1).any()
        or (raw[stop[0::2]] != ord("-")).any()
        or np.count_nonzero(raw == ord("-")) != len(start) // 2
        or not _KNOWN[raw].all()
    ):
        return None
    return start[0::2], _numbers(raw, start, stop).reshape(-1, 2)


def _numbers(raw: NDArray[np.uint8], start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values of runs of digits (run)."""
    digits = stop - start
    values = raw[stop - 1].astype(np.int64) - ord("0")
    longer = np.arange(len(start))
    for place in range(1, int(digits.max(initial=0))):
        longer = longer[digits[longer] > place]
        values[longer] += (raw[stop[longer] - 1 - place].astype(np.int64) - ord("0")) * 10**place
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
