r"""NeuroX activations as JSON lines, one sentence a line.

Written by `neurox.data.writer.JSONActivationsWriter` (NeuroX 1.0.9), read by `neurox.data.loader.load_activations`:

    {"linex_index": 0, "features": [{"token": "cat", "layers": [{"index": 0, "values": [0.12573022, ...]}, ...]}, ...]}

Its documentation says `linex_idx`, its code writes `linex_index`; both are read here. Values have 8 decimals. NeuroX
counts `index` from 0 among the layers of the file; here it is the number of the layer, which NeuroX's loader ignores.
"""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.exchange.new_store import import_blocks
from engine.exchange.stored import Stored
from engine.exchange.stream import Block, Exchanged, Watch, number, unwatched, whole
from schemas.errors import InputError

_LAYER = '{"index": 0, "values": [0.5, ...]}'
_WORD = f'{{"token": "word", "layers": [{_LAYER}]}}'
_LINE = f'{{"linex_index": 0, "features": [{_WORD}]}}'


def export_neurox_json(
    activations: str, path: str, *, layers: Sequence[int] | None = None, watch: Watch = unwatched
) -> Exchanged:
    """Write the present words of a store, one line for each sentence that has any.

    Parameters
    ----------
    activations
        Path of the ACTIVATIONS store.
    path
        The file; NeuroX's loader knows it by the ending .json.
    layers
        Numbers of the layers to write, by default all.
    """
    stored = Stored(activations, layers)
    done = 0
    with whole(path) as (part,), open(part, "w", encoding="ascii") as file:
        for sentence in stored.sentences():
            file.write(_line(sentence))
            done += len(sentence.words)
            watch("write", done, stored.tokens)
    return Exchanged(stored.tokens, stored.layers, stored.hidden, stored.absent, (path,))


def _line(sentence: Block) -> str:
    # One format call a vector takes half the time of json.dumps, which looks for the shortest form of each number.
    values = ", ".join(["%.8f"] * sentence.vectors.shape[2])
    heads = [f'{{"index": {layer}, "values": [' for layer in sentence.layers]
    features = []
    for token, word in enumerate(sentence.words):
        rows = sentence.vectors[:, token].tolist()
        vectors = ", ".join([head + values % tuple(row) + "]}" for head, row in zip(heads, rows, strict=True)])
        features.append(f'{{"token": {json.dumps(word)}, "layers": [{vectors}]}}')
    return f'{{"linex_index": {sentence.sentences[0]}, "features": [{", ".join(features)}]}}\n'


def import_neurox_json(
    source: str,
    path: str,
    *,
    dtype: str = "float32",
    layers: Sequence[int] | None = None,
    watch: Watch = unwatched,
) -> Exchanged:
    """Write a new ACTIVATIONS store from a file; `position` counts the words of a line.

    Parameters
    ----------
    source
        The file. A line is held in memory, the file never is; it is read twice.
    path
        Path of the new store.
    dtype
        Type on disk: float16 or float32.
    layers
        Numbers of the file's layers, in its order, in place of `index`; give them for what NeuroX wrote with
        `filter_layers` or `decompose_layers`, since it counts `index` from 0 there.
    """
    return import_blocks(
        source,
        path,
        lambda what: _sentences(source, watch, what),
        dtype=dtype,
        layers=layers,
        format="neurox-json",
    )


def _sentences(source: str, watch: Watch, what: str) -> Generator[Block, None, None]:
    size, done, before = Path(source).stat().st_size, 0, -1
    with open(source, "rb") as file:
        if (start := file.read(64).lstrip()) and not start.startswith(b"{"):
            raise InputError(  # before a line is read, which in a file of another kind may be all of it
                f"{source}: expected lines of JSON such as {_LINE}, found {start[:20]!r}; give the file that "
                "NeuroX wrote"
            )
        file.seek(0)
        for i, line in enumerate(file, 1):
            done += len(line)
            if line.strip():
                block = _sentence(line, f"{source}, line {i}")
                if block.words:
                    if block.sentences[0] <= before:
                        raise InputError(
                            f"{source}, line {i}: linex_index {block.sentences[0]} follows {before}; expected "
                            "increasing ones, so number the lines from 0 in their order"
                        )
                    before = int(block.sentences[0])
                yield block
            watch(what, done, size)


def _sentence(line: bytes, place: str) -> Block:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: byte {line[error.start]:#04x} is not UTF-8; convert the file") from error
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else ", which is the last one: the file may have been cut off"
        raise InputError(
            f"{place}: not valid JSON ({error}){cut}; write the file anew, or leave out the line"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("features"), list):
        raise InputError(f"{place}: expected {_LINE}, found {_short(record)}; give the file that NeuroX wrote")
    name = next((n for n in ("linex_index", "linex_idx") if n in record), "linex_index")
    sentence = number(record.get(name), place, name)
    features: list[Any] = record["features"]
    for i, feature in enumerate(features):
        _check_word(feature, f"{place}, token {i}")
    vectors = _vectors(features, place)
    return Block(
        [feature["token"] for feature in features],
        np.full(len(features), sentence, np.int32),
        np.arange(len(features), dtype=np.int32),
        vectors,
        tuple(layer["index"] for layer in features[0]["layers"]) if features else (),
        f"{place}, token",
    )


def _check_word(feature: Any, place: str) -> None:
    if not isinstance(feature, dict) or not isinstance(feature.get("token"), str):
        raise InputError(f"{place}: expected a word such as {_WORD}, found {_short(feature)}; write it anew")
    layers = feature.get("layers")
    if not isinstance(layers, list) or not layers:
        raise InputError(f"{place} ({feature['token']!r}): has no layers; expected at least one, so leave out the word")
    for layer in layers:
        if not (isinstance(layer, dict) and type(layer.get("index")) is int and isinstance(layer.get("values"), list)):
            raise InputError(
                f"{place} ({feature['token']!r}): expected layers such as {_LAYER}, found {_short(layer)}; "
                "write the file anew"
            )


def _vectors(features: list[Any], place: str) -> NDArray[np.floating]:
    """Vectors (layer, token, hidden) of checked words, all of the same layers and length."""
    if not features:
        return np.empty((0, 0, 0))
    first = [layer["index"] for layer in features[0]["layers"]]
    hidden = len(features[0]["layers"][0]["values"])
    for i, feature in enumerate(features):
        where = f"{place}, token {i} ({feature['token']!r})"
        found = [layer["index"] for layer in feature["layers"]]
        if found != first:
            raise InputError(
                f"{where}: its layers are {', '.join(map(str, found))}; expected {', '.join(map(str, first))} as at "
                "token 0; a store holds the same layers of every word, so write the file anew"
            )
        for layer in feature["layers"]:
            if len(layer["values"]) != hidden:
                raise InputError(
                    f"{where}, layer {layer['index']}: a vector has {len(layer['values'])} numbers; expected {hidden} "
                    "as at token 0; a store holds vectors of one length, so write the file anew"
                )
            if not set(map(type, layer["values"])) <= {float, int}:
                other = next(value for value in layer["values"] if type(value) not in (float, int))
                raise InputError(f"{where}, layer {layer['index']}: expected numbers, found {_short(other)}; repair it")
    try:
        values = np.array([[layer["values"] for layer in feature["layers"]] for feature in features], np.float64)
    except OverflowError as error:
        raise InputError(f"{place}: holds a whole number beyond float64; expected values of vectors") from error
    return values.swapaxes(0, 1)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:50]} ..."
