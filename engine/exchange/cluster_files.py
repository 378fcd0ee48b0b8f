"""Files of clusters, read and checked line by line; what a line holds is said in clusters.py.

Words are not held: a token is known by 16 bytes that stand for its key, and its line is looked for again when a message
needs it.
"""

import contextlib
import re
from array import array
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exchange.conceptx import fields
from engine.exchange.stream import Watch, number
from schemas.errors import InputError

NAMES = "clusters-*.txt"
"""Names of the files in the folder of a layer."""
FOLDER = re.compile(r"layer([0-9]+)")
"""Name of the folder of a layer."""

_LINE = "word|||occurrence|||sentence|||token|||cluster"
_LAYOUT = f"layer0/{NAMES}, layer1/{NAMES} and so on"
_LONGEST_LINE = 2**16  # bytes: a file without line ends is refused before it fills the memory
_LARGEST_CLUSTER = 10**6 - 1  # statistics hold numbers for every concept up to the largest
_WATCHED = 2**16  # tokens between two reports


def files_of(source: str, layers: Sequence[int] | None) -> dict[int, Path]:
    """File of each layer, in increasing order; `import_clusters` says what `source` and `layers` are.

    Raises
    ------
    InputError
        There is no such file or layer, or it is not clear which file is meant.
    """
    path = Path(source)
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(
            f"{source}: holds pickled objects, which are never loaded, since they can run any code; give the text "
            f"file of the same clustering ({NAMES})"
        )
    if path.is_dir():
        return _layout(path, layers)
    if not path.is_file():
        raise InputError(f"{source}: expected a file of clusters or a folder of {_LAYOUT}, found none")
    if layers and (len(layers) > 1 or layers[0] < 0):
        raise InputError(
            f"{source}: is one layer, and its number was given as {', '.join(map(str, layers))}; give one from 0 with "
            "--layer"
        )
    match = FOLDER.fullmatch(path.absolute().parent.name)
    return {layers[0] if layers else number(match[1], source, "the layer") if match else 0: path}


def _layout(path: Path, layers: Sequence[int] | None) -> dict[int, Path]:
    folders: dict[int, Path] = {}
    for folder in sorted(path.iterdir()):
        if (match := FOLDER.fullmatch(folder.name)) and folder.is_dir():
            layer = number(match[1], str(folder), "the layer")
            if layer in folders:
                raise InputError(f"{path}: {folders[layer].name} and {folder.name} are both layer {layer}; remove one")
            folders[layer] = folder
    if not folders:
        raise InputError(f"{path}: holds no folder of a layer; expected {_LAYOUT}")
    if missing := sorted(set(layers or ()) - set(folders)):
        raise InputError(f"{path}: has no layer {missing[0]}; it has {', '.join(map(str, sorted(folders)))}")
    files: dict[int, Path] = {}
    for layer in sorted(set(layers or folders)):
        names = sorted(file.name for file in folders[layer].glob(NAMES))
        if len(names) != 1:
            raise InputError(
                f"{folders[layer]}: expected one file {NAMES}, found {', '.join(names) or 'none'}; give a single file "
                "with --layer, or a folder with one file in the folder of each layer"
            )
        files[layer] = folders[layer] / names[0]
    one, *others = files.values()
    if other := next((file for file in others if file.name != one.name), None):
        raise InputError(
            f"{other}: expected {one.name} as in {one.parent}; a store holds layers of the same clustering, so choose "
            "layers with --layer"
        )
    return files


class Row(NamedTuple):
    """One line of a file of clusters."""

    line: int
    """From 1."""
    end: int
    """Bytes of the file up to its end."""
    word: str
    occurrence: int
    sentence: int
    position: int
    cluster: int

    @property
    def key(self) -> str:
        """All but the cluster, with numbers as they are usually written."""
        return f"{self.word}|||{self.occurrence}|||{self.sentence}|||{self.position}"

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the key: equal ones do not happen by chance."""
        return blake2b(self.key.encode(), digest_size=16).digest()


def rows_of(file: Path) -> Generator[Row, None, None]:
    """Every line but blank ones.

    Raises
    ------
    InputError
        A line is no token of a cluster, or not text.
    """
    line = end = 0
    with open(file, "rb") as opened:
        while raw := opened.readline(_LONGEST_LINE + 1):
            line, end = line + 1, end + len(raw)
            place = f"{file}, line {line}"
            if len(raw) > _LONGEST_LINE:
                raise InputError(
                    f"{place}: expected {_LINE}, found more than {_LONGEST_LINE} bytes ({raw[:40]!r}...); give the "
                    "text file that ConceptX wrote"
                )
            try:
                text = raw.decode().removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{place}: byte {raw[error.start]:#04x} is not UTF-8; convert the file, for example with iconv -t "
                    "UTF-8, if it is text at all"
                ) from error
            if line == 1:
                text = text.removeprefix("\ufeff")  # a byte order mark, as in a text of the corpus
            if not text.strip():
                continue
            if "\r" in text:
                raise InputError(
                    f"{place}: {text!r} holds a carriage return; expected one token a line, so end lines with a line "
                    "feed"
                )
            word, numbers = fields(text, place, _LINE, "give the file of clusters that ConceptX wrote")
            if numbers[3] > _LARGEST_CLUSTER:
                raise InputError(
                    f"{place} ({text!r}): the cluster is {numbers[3]}; expected a whole number from 0 to "
                    f"{_LARGEST_CLUSTER}, so number the clusters anew"
                )
            yield Row(line, end, word, *numbers)


@dataclass(frozen=True)
class Listed:
    """What a file of clusters lists, in its order, but for the words."""

    file: Path
    digests: NDArray[np.uint64]
    """Key of each token (token, 2)."""
    order: NDArray[np.intp]
    """Indices that sort the digests, equal ones in the order of the file (token)."""
    concepts: NDArray[np.int32]
    """Cluster (token)."""

    def row(self, token: int) -> Row:
        """The line of a token, which is looked for from the beginning of the file."""
        with contextlib.closing(rows_of(self.file)) as rows:
            if row := next(islice(rows, token, None), None):
                return row
        raise changed(self.file)


def changed(file: Path) -> InputError:
    """The error of a file that is not what it was when it was checked."""
    return InputError(f"{file}: changed while it was read; import it again when it is at rest")


def check(file: Path, watch: Watch, before: int, total: int) -> Listed:
    """Read a file; `before` bytes of `total` were read in others.

    Raises
    ------
    InputError
        A line is wrong, a token is listed twice, or none is.
    """
    digests, clusters = bytearray(), array("i")
    for row in rows_of(file):
        digests += row.digest
        clusters.append(row.cluster)
        if not len(clusters) % _WATCHED:
            watch("check", before + row.end, total)
    if not clusters:
        raise InputError(f"{file}: holds no tokens; expected at least one line {_LINE}")
    watch("check", before + file.stat().st_size, total)
    found = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    listed = Listed(file, found, np.lexsort(found.T), np.array(clusters, np.int32))
    ordered = found[listed.order]
    if (twice := np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))).size:
        at = twice[np.argmin(listed.order[twice + 1])]
        one, other = (listed.row(int(listed.order[i])) for i in (at, at + 1))
        raise InputError(
            f"{file}, line {other.line}: {other.key} is in cluster {other.cluster}, and on line {one.line} in cluster "
            f"{one.cluster}; expected each token once, so leave out one of the lines"
        )
    return listed


def matched(listed: Listed, first: Listed) -> NDArray[np.int32]:
    """Clusters (token) of another file in the order of the first.

    Raises
    ------
    InputError
        A token is only in one of them.
    """
    if not np.array_equal(listed.digests[listed.order], first.digests[first.order]):
        both = np.concatenate([listed.digests, first.digests])
        order = np.lexsort(both.T)
        same = (both[order[1:]] == both[order[:-1]]).all(axis=1)
        token = int(order[~(np.append(same, False) | np.append(False, same))].min())  # each file lists a token once
        mine, theirs = (listed, first) if token < len(listed.order) else (first, listed)
        row = mine.row(token if mine is listed else token - len(listed.order))
        raise InputError(
            f"{mine.file}, line {row.line}: {row.key} is not in {theirs.file}; the files of all layers must list the "
            "same tokens, so leave out what some do not have, or import each layer alone"
        )
    concepts = np.empty_like(listed.concepts)
    concepts[first.order] = listed.concepts[listed.order]
    return concepts
