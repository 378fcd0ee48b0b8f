"""Corpus: parallel text files become one table of tokens and types."""

import array
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from engine import paths, store
from engine.sentences import Content, check_parallel, read_sentences
from engine.text import BLOCK
from schemas.corpus import CORPUS


def write_corpus(path: str, files: Mapping[str, str], rule: str, *, block: int = BLOCK, **provenance: Any) -> None:
    """Read a parallel text into a CORPUS dataset (token), (type), (language), which replaces what was there.

    Tokens lie language by language in text order; types of a language are sorted by form. Every file is read once; in
    memory are the types of one language and a few blocks. On a local disk a corpus is whole or not there, because its
    hashes of the text must outlive a killed run.

    Parameters
    ----------
    files
        Text file of each language; sentence i of every file is the same sentence.
    rule
        How lines are cut into words, see `words`.
    block
        Tokens that are gathered before they are written, and values of a stored chunk (count).

    Raises
    ------
    InputError
        A file cannot be read, or the files have different numbers of lines; what was there stays.
    """
    with paths.replaced(path) as part:
        _write_corpus(part, files, rule, block, **provenance)


def _write_corpus(path: str, files: Mapping[str, str], rule: str, block: int, **provenance: Any) -> None:
    sizes = {"language": len(files), "token": 0, "type": 0, "boundary": 0}
    lengths = {"token": block, "boundary": block, "type": max(block // 4, 1)}  # a form takes more than a number
    values = {"language": list(files)}
    store.setup(path, CORPUS, sizes, values, chunks=lengths | {"language": 1}, shards={}, words=rule, **provenance)
    contents = {language: Content() for language in files}
    sentences, token_stop, type_stop = [], [], []
    columns = {
        name: store.Growing(path, name)
        for name in ("token_type", "token_language", "sentence", "position", "form", "type_language")
    }
    for number, (language, file) in enumerate(files.items()):
        starts = store.Growing(path, "sentence_start", number)
        lines = read_sentences(file, rule, contents[language])
        _write_language(columns, starts, number, lines, block)
        sentences.append(len(starts) - 1)
        token_stop.append(len(columns["token_type"]))
        type_stop.append(len(columns["form"]))
    check_parallel(files, sentences)
    for name, found in (("sentences", sentences), ("token_stop", token_stop), ("type_stop", type_stop)):
        store.write_region(path, name, np.array(found, np.int64))
    store.describe(
        path,
        sha256=json.dumps({language: content.sha256 for language, content in contents.items()}),
        bytes=json.dumps({language: content.nbytes for language, content in contents.items()}),
    )


def _write_language(
    columns: Mapping[str, store.Growing],
    starts: store.Growing,
    number: int,
    sentences: Iterable[list[str]],
    block: int,
) -> None:
    """Write the tokens and types of one language: numbered as they appear first, then by form, in place."""
    first_token, first_type = len(columns["token_type"]), len(columns["form"])
    table: dict[str, int] = {}
    ids, lengths = array.array("i"), array.array("i")
    starts.extend(np.array([first_token], np.int64))

    def write() -> None:
        length = np.array(lengths, np.int32)
        stop = np.cumsum(length, dtype=np.int64)
        n, first_sentence = len(ids), len(starts) - 1
        columns["token_type"].extend(np.array(ids, np.int32))
        columns["token_language"].extend(np.full(n, number, np.int8))
        columns["sentence"].extend(np.repeat(np.arange(len(length), dtype=np.int32) + np.int32(first_sentence), length))
        columns["position"].extend((np.arange(n) - np.repeat(stop - length, length)).astype(np.int32))
        starts.extend(stop + (len(columns["token_type"]) - n))
        del ids[:], lengths[:]

    for sentence in sentences:
        ids.extend([table.setdefault(word, len(table)) for word in sentence])
        lengths.append(len(sentence))
        if len(ids) >= block:
            write()
    write()
    forms = sorted(table)
    place = np.empty(len(forms), np.int32)
    place[np.fromiter(map(table.__getitem__, forms), np.int32, len(forms))] = np.arange(
        first_type, first_type + len(forms), dtype=np.int32
    )
    for first in range(0, len(forms), block):
        part = forms[first : first + block]
        columns["form"].extend(np.array(part, object))
        columns["type_language"].extend(np.full(len(part), number, np.int8))
    for column in (*columns.values(), starts):
        column.flush()
    columns["token_type"].replace(first_token, place.__getitem__)
