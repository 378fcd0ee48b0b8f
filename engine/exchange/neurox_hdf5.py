"""NeuroX activations as HDF5: the only user of h5py.

Written by `neurox.data.writer.HDF5ActivationsWriter` (NeuroX 1.0.9), read by `neurox.data.loader.load_activations`: a
float32 dataset (layer, word, hidden) for each sentence, named by its number, also where there is one layer only; and
`sentence_to_index`, a dataset of one JSON string that maps each sentence, its words joined by blanks, to that name. A
sentence that was there before gets " (Occurrence 2)" and so on. NeuroX's documentation says `sentence_to_idx`; both are
read here. The JSON string holds the words of all sentences and is held in memory: the format allows nothing else.
"""

import json
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine.exchange.new_store import import_blocks
from engine.exchange.stored import Stored
from engine.exchange.stream import Block, Exchanged, Watch, number, unwatched, whole
from schemas.errors import InputError

_INDEX = ("sentence_to_index", "sentence_to_idx")


def _h5py() -> Any:
    try:
        import h5py  # noqa: PLC0415  (optional: only those who use HDF5 files need it)
    except ImportError as error:
        raise InputError(
            "HDF5 files need h5py, which is not installed; install it (pip install h5py) or use neurox-json"
        ) from error
    return h5py


def export_neurox_hdf5(
    activations: str, path: str, *, layers: Sequence[int] | None = None, watch: Watch = unwatched
) -> Exchanged:
    """Write the present words of a store, a dataset for each sentence that has any, named by the sentence's number.

    Parameters
    ----------
    activations
        Path of the ACTIVATIONS store.
    path
        The file; NeuroX's loader knows it by the ending .hdf5.
    layers
        Numbers of the layers to write, by default all; the file does not keep the numbers.

    Raises
    ------
    InputError
        A word holds a blank, at which readers would cut it; h5py is not installed.
    """
    h5py = _h5py()
    stored = Stored(activations, layers)
    index: dict[str, str] = {}
    occurrences: dict[str, int] = {}
    done = 0
    with whole(path) as (part,), h5py.File(part, "w") as file:
        for sentence in stored.sentences():
            name = str(sentence.sentences[0])
            if blank := [word for word in sentence.words if " " in word]:
                raise InputError(
                    f"{activations}, sentence {name}: the word {blank[0]!r} holds a blank, at which readers of HDF5 "
                    "files would cut it; export as neurox-json"
                )
            text = key = " ".join(sentence.words)
            count = occurrences.get(text, 1)
            while key in index:
                count += 1
                key = f"{text} (Occurrence {count})"
            occurrences[text] = count
            index[key] = name
            file.create_dataset(name, data=sentence.vectors.astype(np.float32))
            done += len(sentence.words)
            watch("write", done, stored.tokens)
        file.create_dataset(_INDEX[0], (1,), dtype=h5py.string_dtype())[0] = json.dumps(index)
    return Exchanged(stored.tokens, stored.layers, stored.hidden, stored.absent, (path,))


def import_neurox_hdf5(
    source: str,
    path: str,
    *,
    dtype: str = "float32",
    layers: Sequence[int] | None = None,
    watch: Watch = unwatched,
) -> Exchanged:
    """Write a new ACTIVATIONS store from a file; `position` counts the words of a sentence.

    Parameters
    ----------
    source
        The file. A sentence and the index are held in memory, the file never is; it is read twice.
    path
        Path of the new store.
    dtype
        Type on disk: float16 or float32.
    layers
        Numbers of the file's layers, in its order; the file does not say, and the default counts from 0.
    """
    h5py = _h5py()
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise InputError(
            f"{source}: cannot be read as HDF5 ({error}); give the file that NeuroX wrote, with the ending .hdf5"
        ) from error
    with file:
        order = _index(file, source)
        return import_blocks(
            source,
            path,
            lambda what: _sentences(file, order, source, watch, what),
            dtype=dtype,
            layers=layers,
            format="neurox-hdf5",
        )


def _index(file: Any, source: str) -> list[tuple[int, str, str]]:
    """Number, dataset and text of each sentence, by number."""
    name = next((n for n in _INDEX if n in file), None)
    if name is None:
        raise InputError(
            f"{source}: has no dataset {_INDEX[0]}, which maps sentences to datasets; found "
            f"{', '.join(list(file)[:3]) or 'nothing'}; give the file that NeuroX wrote, closed by its writer"
        )
    try:
        held = np.atleast_1d(file[name][()]).tolist()
        index = json.loads(held[0])
    except (ValueError, TypeError, IndexError, AttributeError, OSError, RuntimeError) as error:
        raise InputError(f"{source}, {name}: expected one JSON string, found {error}; write the file anew") from error
    if not isinstance(index, dict):
        raise InputError(f"{source}, {name}: expected a JSON object of sentences, found {type(index).__name__}")
    order = sorted((number(value, f"{source}, {name}", "a dataset"), str(value), key) for key, value in index.items())
    for (one, _, text), (other, _, again) in pairwise(order):
        if one == other:
            raise InputError(f"{source}, {name}: {text!r} and {again!r} are both dataset {one}; write the file anew")
    if missing := [dataset for _, dataset, _ in order if dataset not in file]:
        raise InputError(f"{source}: {name} names dataset {missing[0]!r}, which is not there; write the file anew")
    if len(order) != len(file) - 1:
        named = {dataset for _, dataset, _ in order}
        other = next(dataset for dataset in file if dataset not in named and dataset != name)
        raise InputError(f"{source}: {name} does not name dataset {other!r}, so its words are not known; leave it out")
    return order


def _sentences(
    file: Any, order: list[tuple[int, str, str]], source: str, watch: Watch, what: str
) -> Generator[Block, None, None]:
    for done, (sentence, name, text) in enumerate(order, 1):
        place = f'{source}, dataset "{name}"'
        dataset = file[name]
        shape = getattr(dataset, "shape", None)
        if shape is None or len(shape) != 3 or dataset.dtype.kind != "f":
            raise InputError(
                f"{place}: expected numbers (layers, words, hidden), found {getattr(dataset, 'dtype', 'a group')} "
                f"{shape or ''}; write the file anew, one layer included as the first dimension"
            )
        words = _words(text, shape[1], place)
        try:
            vectors = np.asarray(dataset[()])
        except (OSError, RuntimeError) as error:
            raise InputError(f"{place}: cannot be read ({error}); the file is damaged, write it anew") from error
        yield Block(
            words,
            np.full(len(words), sentence, np.int32),
            np.arange(len(words), dtype=np.int32),
            vectors,
            tuple(range(shape[0])),
            f"{place}, word",
        )
        watch(what, done, len(order))


def _words(text: str, count: int, place: str) -> list[str]:
    """Words of an entry of the index; the number of vectors tells whether " (Occurrence n)" belongs to them."""
    words = text.split(" ") if count or text else []
    if len(words) == count + 2 and words[-2] == "(Occurrence" and words[-1][:-1].isdecimal() and words[-1][-1] == ")":
        return words[:-2]
    if len(words) != count:
        raise InputError(
            f"{place}: has {count} vectors for the {len(words)} words {text[:60]!r}; expected one vector a word, so "
            "write the file anew"
        )
    return words
