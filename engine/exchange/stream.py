"""What every exchange shares: blocks of words on their way between an ACTIVATIONS store and a file of another tool.

Memory is bounded by one shard and one sentence, whatever the size of the files.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import paths, store
from schemas.activations import ACTIVATIONS
from schemas.errors import InputError

BLOCK_BYTES = 2**26
"""Vectors that are read at once: at most this, or one chunk if that is more."""

_LARGEST_NUMBER = 2**31 - 1  # sentence and position are int32


@dataclass(frozen=True)
class Block:
    """Some words one after the other, with their vectors."""

    words: list[str]
    sentences: NDArray[np.int32]
    """Number of the sentence (token)."""
    positions: NDArray[np.int32]
    """Place in the sentence (token)."""
    vectors: NDArray[np.floating]
    """Vectors (layer, token, hidden)."""
    layers: tuple[int, ...]
    """Number of each layer."""
    place: str = ""
    """Where the words were found, for messages: a word's number follows."""
    first: int = 0
    """Number of the first word at that place."""

    def __getitem__(self, tokens: slice) -> "Block":
        return replace(
            self,
            words=self.words[tokens],
            sentences=self.sentences[tokens],
            positions=self.positions[tokens],
            vectors=self.vectors[:, tokens],
        )


@dataclass(frozen=True)
class Exchanged:
    """What an import or export moved."""

    tokens: int
    layers: tuple[int, ...]
    hidden: int
    """Numbers of a vector."""
    absent: int
    """Stored words without a vector, which are not exported."""
    files: tuple[str, ...]
    """What was written."""


Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Nobody looks on."""


def kind(path: str) -> str | None:
    """Name of Colign's dataset that lies there; None where there is another thing or none."""
    return (store.attributes(path) or {}).get("colign_dataset")


def holds_activations(path: str) -> bool:
    """Whether an ACTIVATIONS store lies there."""
    return kind(path) == ACTIVATIONS.name


@contextlib.contextmanager
def whole(
    *names: str, ours: Callable[[str], bool] = holds_activations, what: str = "an activations store"
) -> Iterator[list[str]]:
    """Names under which to write files or folders, which get their own names once all of them are whole.

    What fails on the way leaves nothing behind, and what had the names before stays until then.

    Parameters
    ----------
    ours
        Whether a folder that has one of the names may be replaced.
    what
        What such a folder is, for the message.

    Raises
    ------
    InputError
        A folder that may not be replaced has one of the names.
    """
    for path in names:
        system, place = paths.filesystem(path)
        if system.isdir(place) and not ours(path):
            raise InputError(f"{path}: a folder that is not {what} lies there; choose another name")
    parts = [path if "://" in path else f"{path.rstrip('/')}.partial" for path in names]
    for part in parts:
        paths.remove(part)
    try:
        yield parts
        for path, part in zip(names, parts, strict=True):
            if part != path:
                paths.remove(path)
                Path(part).rename(path)
    except BaseException:
        for part in parts:
            paths.remove(part)
        raise


def number(value: Any, place: str, what: str) -> int:
    """A sentence's number or word's place that a file holds; raises InputError unless it is one that fits int32."""
    text = str(value)
    decimal = text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST_NUMBER))
    if isinstance(value, bool | float) or not decimal or int(text) > _LARGEST_NUMBER:
        raise InputError(
            f"{place}: {what} is {value!r}; expected a whole number from 0 to {_LARGEST_NUMBER}, so write the file anew"
        )
    return int(text)
