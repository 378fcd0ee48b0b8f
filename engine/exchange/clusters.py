"""Files of clusters as ConceptX's clustering scripts write them: `clusters-600.txt`, `clusters-kmeans-600.txt`.

One token a line, `word|||occurrence|||sentence|||token|||cluster`: the key of conceptx.py and the number of the cluster
from 0. The Transformers Concept Net lays a model out as a folder with one such file a layer,
`model/layer{i}/clusters-600.txt`. Pickled clusterings, which the scripts write as well, are never loaded.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import store
from engine.exchange.cluster_files import FOLDER, NAMES, Listed, changed, check, files_of, matched, rows_of
from engine.exchange.conceptx import keys_of
from engine.exchange.stream import Block, Watch, kind, unwatched, whole
from engine.kernels.shards import shard_ranges
from schemas import study
from schemas.concepts import CONCEPTS
from schemas.errors import InputError

BLOCK_TOKENS = 2**16
"""Tokens that are exported at once: at most this, or one chunk if that is more."""
SHARD_TOKENS: int = study.Activations().shard_tokens
"""Tokens that are held to be written as one shard."""


@dataclass(frozen=True)
class ExchangedClusters:
    """What an import or export of clusters moved."""

    tokens: int
    """Tokens of each layer."""
    layers: tuple[int, ...]
    k: int
    """Number of concepts."""
    absent: int
    """Stored tokens without a concept, which are not exported."""
    files: tuple[str, ...]
    """What was written."""


def export_clusters(
    concepts: str,
    path: str,
    *,
    layers: Sequence[int] | None = None,
    k: int | None = None,
    count_from: int = 1,
    watch: Watch = unwatched,
) -> ExchangedClusters:
    """Write the concepts of the chosen restart of each layer, block by block, in the order of the store.

    Tokens without a concept are left out; occurrences are those among the tokens that are written.

    Parameters
    ----------
    concepts
        Path of the CONCEPTS store.
    path
        Where one layer is written: a file. Where several are: a folder of files `layer{i}/clusters-{k}.txt`.
    layers
        Numbers of the layers, by default all.
    k
        Number of concepts of the run; needed where the store has several.
    count_from
        Number of a word's first occurrence: 1 as in ConceptX, 0 as in the alignment scripts of the paper.

    Raises
    ------
    InputError
        The store is none of concepts, lacks what was asked for, has several numbers of concepts and none was chosen,
        holds no token that has a concept, or a word with a line break; the name does not fit the number of layers.
    """
    stored = _Stored(concepts, layers, k)
    several = len(stored.layers) > 1
    if several and Path(path).suffix.lower() == ".txt":
        raise InputError(
            f"{path}: a file holds one layer, and this would be {', '.join(map(str, stored.layers))}; choose one with "
            "--layer, or name a folder"
        )
    if not several and Path(path).is_dir():
        raise InputError(f"{path}: a folder lies there, and one layer is written to a file; choose another name")
    names = [f"/layer{layer}/clusters-{stored.k}.txt" for layer in stored.layers] if several else [""]
    seen: Counter[str] = Counter()
    tokens = 0
    with whole(path, ours=holds_clusters, what="of clusters alone") as (part,), contextlib.ExitStack() as opened:
        files = []
        for name in names:
            if several:
                Path(part + name).parent.mkdir(parents=True)
            files.append(opened.enter_context(open(part + name, "w", encoding="utf-8", newline="\n")))
        for block, found in stored.blocks():
            starts = keys_of(block, seen, count_from)
            for file, numbers in zip(files, found, strict=True):
                file.writelines(f"{key}|||{concept}\n" for key, concept in zip(starts, numbers.tolist(), strict=True))
            tokens += len(block.words)
            watch("write", tokens, stored.tokens)
        if not tokens:
            raise InputError(f"{concepts}: holds no token that has a concept, so there is nothing to export")
        watch("write", stored.tokens, stored.tokens)
    written = tuple(path.rstrip("/") + name for name in names)
    return ExchangedClusters(tokens, stored.layers, stored.k, stored.tokens - tokens, written)


def holds_clusters(path: str) -> bool:
    """Whether a folder holds files of clusters in the layout of several layers, and no other file."""
    files = (file for file in Path(path).rglob("*") if not file.is_dir())
    first = next(files, None)
    return first is not None and all(
        file.match(NAMES) and FOLDER.fullmatch(file.parent.name) and file.parent.parent == Path(path)
        for file in chain((first,), files)
    )


class _Stored:
    """The chosen restarts of a CONCEPTS store, to be read block by block."""

    def __init__(self, path: str, layers: Sequence[int] | None, k: int | None) -> None:
        if (found := kind(path)) != CONCEPTS.name:
            raise InputError(
                f"{path}: expected a concepts store, found {found or 'none'}; give one that `colign run` wrote below "
                "concepts/, or that `colign import` wrote"
            )
        dataset = store.load(path, CONCEPTS)
        self.path = path
        self.tokens: int = dataset.sizes["token"]
        held = self._read("layer", 0, dataset.sizes["layer"]).tolist()
        counts = self._read("k", 0, dataset.sizes["run"])
        chosen = self._read("chosen", 0, dataset.sizes["run"])
        if missing := sorted(set(layers or ()) - set(held)):
            raise InputError(f"{path}: has no layer {missing[0]}; it has {', '.join(map(str, held))}")
        every = sorted(set(counts.tolist()))
        if k is None and len(every) > 1:
            raise InputError(f"{path}: has runs of {', '.join(map(str, every))} concepts; choose one with --k")
        if k is not None and k not in every:
            raise InputError(f"{path}: has no run of {k} concepts; it has {', '.join(map(str, every))}")
        self.k: int = every[0] if k is None else k
        self.layers = tuple(number for number in held if layers is None or number in layers)
        self._at = []  # run and index of each layer
        for layer in self.layers:
            index = held.index(layer)
            runs = np.flatnonzero(chosen[:, index] & (counts == self.k))
            if not len(runs):
                raise InputError(
                    f"{path}, layer {layer}: no run of {self.k} concepts is finished; run the study to its end first"
                )
            self._at.append((int(runs[0]), index))
        chunk: int = dataset.concept.encoding["chunks"][2]
        self._rows = max(chunk, BLOCK_TOKENS // chunk * chunk)

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return store.read_rows(self.path, name, np.arange(start, stop))

    def blocks(self) -> Iterator[tuple[Block, NDArray[np.int32]]]:
        """Tokens that have a concept, without vectors, and their concepts (layer, token)."""
        for start, stop in shard_ranges(self.tokens, self._rows):
            rows = np.arange(start, stop)
            found = np.stack([store.read_rows(self.path, "concept", rows, axis=2, run=r, layer=i) for r, i in self._at])
            present = found >= 0
            if (present != present[0]).any():
                layer, token = np.argwhere(present != present[0])[0]
                raise InputError(
                    f"{self.path}, token {start + token}: has a concept in only one of the layers {self.layers[0]} and "
                    f"{self.layers[layer]}, and files of several layers list the same tokens; export each with --layer"
                )
            block = Block(
                [str(word) for word in self._read("word", start, stop)[present[0]]],
                self._read("sentence", start, stop)[present[0]].astype(np.int32),
                self._read("position", start, stop)[present[0]].astype(np.int32),
                np.empty((0, int(present[0].sum()), 0), np.float32),
                (),
            )
            if broken := next((word for word in block.words if "\n" in word or "\r" in word), None):
                raise InputError(
                    f"{self.path}: the word {broken!r} holds a line break, which a file of lines cannot keep; make the "
                    "store again from a text without it"
                )
            yield block, found[:, present[0]]


def import_clusters(
    source: str,
    path: str,
    *,
    layers: Sequence[int] | None = None,
    language: str | None = None,
    watch: Watch = unwatched,
) -> ExchangedClusters:
    """Write a new CONCEPTS store of one run from a file of clusters, or from a folder with a file for each layer.

    All is checked before anything is stored. The tokens keep the order of the (first) file. The files of a folder must
    list the same tokens, but in any order: ConceptX writes cluster after cluster, so that the order differs from layer
    to layer. A token is its word, occurrence, sentence and place. A store has one run, so that the layer folders must
    hold one file each, of the same name; numbers of clusters stay as they are, also where some are missing, and k is
    the largest plus 1. What such files do not say is NaN: distances, inertia and scatter; centroids have 0 numbers.

    Memory: 28 bytes a token and 4 for each layer, up to 60 more while a layer is compared with the first.

    Parameters
    ----------
    source
        One file, or a folder of files `layer{i}/clusters-*.txt`.
    path
        Path of the new store.
    layers
        For one file the number of its layer, by default that of the folder `layer{i}` which holds it, otherwise 0. For
        a folder the numbers of the layers to read, by default all.
    language
        Name of the language of the tokens, by default `text`.

    Raises
    ------
    InputError
        A line is wrong, a token is listed twice, files list different tokens, or it is not clear which file is meant.
    """
    files = files_of(source, layers)
    before, total = 0, sum(file.stat().st_size for file in files.values())
    first: Listed | None = None
    concepts: list[NDArray[np.int32]] = []
    for file in files.values():
        listed = check(file, watch, before, total)
        before += file.stat().st_size
        first = first or listed
        concepts.append(listed.concepts if first is listed else matched(listed, first))
    assert first is not None
    found = np.stack(concepts)
    with whole(path, ours=lambda name: kind(name) == CONCEPTS.name, what="a concepts store") as (part,):
        _write(part, first, found, tuple(files), watch, languages=[language or "text"], source=source)
    return ExchangedClusters(found.shape[1], tuple(files), int(found.max()) + 1, 0, (path,))


def _write(
    path: str, first: Listed, concepts: NDArray[np.int32], layers: tuple[int, ...], watch: Watch, **provenance: Any
) -> None:
    """Lay out the store and fill it shard by shard, with the words of the first file, which is read again."""
    count, tokens = concepts.shape
    k = int(concepts.max()) + 1
    store.setup(
        path,
        CONCEPTS,
        {"run": 1, "layer": count, "token": tokens, "concept_id": k, "hidden": 0},
        {
            "layer": np.array(layers, np.int32),
            "inertia": np.full((1, count), np.nan),
            "scatter": np.full(count, np.nan),
            "n_iter": np.zeros((1, count), np.int32),
            "k": np.array([k], np.int32),
            "seed": np.array([-1]),
            "chosen": np.ones((1, count), bool),
        },
        chunks={"run": 1, "layer": 1, "token": SHARD_TOKENS, "hidden": 1},
        shards={},
        format="conceptx-clusters",
        **provenance,
    )
    with contextlib.closing(rows_of(first.file)) as lines:
        for start, stop in shard_ranges(tokens, SHARD_TOKENS):
            rows = list(islice(lines, stop - start))
            digests = np.frombuffer(b"".join(row.digest for row in rows), np.uint64).reshape(-1, 2)
            if not np.array_equal(digests, first.digests[start:stop]):
                raise changed(first.file)
            if [row.cluster for row in rows] != first.concepts[start:stop].tolist():
                raise changed(first.file)
            columns: dict[str, NDArray[Any]] = {
                "concept": concepts[None, :, start:stop],
                "distance": np.full((1, count, len(rows)), np.nan, np.float32),
                "token_id": np.arange(start, stop),
                "language": np.zeros(len(rows), np.int8),
                "word": np.array([row.word for row in rows], object),
                "sentence": np.array([row.sentence for row in rows], np.int32),
                "position": np.array([row.position for row in rows], np.int32),
            }
            for name, values in columns.items():
                store.write_region(path, name, values, token=start)
            watch("write", stop, tokens)
        if next(lines, None) is not None:
            raise changed(first.file)
