"""Corpus: parallel text files become one table of tokens and types; then some of the tokens are selected."""

import array
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from engine import paths, store
from engine.kernels.sampling import Spread, kept
from engine.text import BLOCK, blocks, span
from schemas import study
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError

_READ = 2**20
"""Bytes of a text that are read at once when it is compared."""

_MARKS = "".join(re.escape(chr(c)) for c in range(0x300, 0xE01F0) if unicodedata.category(chr(c)).startswith("M"))
_WORD = re.compile(rf"(?:[^\W_][{_MARKS}]*)+|(?:[^\w\s]|_)[{_MARKS}]*")


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
    return line.split() if rule == "spaces" else _WORD.findall(line)


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
        raise InputError(f"{path}: no such file; corpus.files names one text file for each language")
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
        raise InputError(f"{path}: a folder; corpus.files names one text file for each language")
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


@dataclass(frozen=True)
class Sizes:
    """Sizes of the text of a language (counts)."""

    sentences: int
    tokens: int
    types: int
    selected_tokens: int
    selected_types: int


def measure(files: Mapping[str, str], rule: str, selection: study.Selection) -> dict[str, Sizes]:
    """Sizes of each language of a parallel text, with no more in memory than the counts of one language's types.

    Raises
    ------
    InputError
        What `write_corpus` and `write_selection` would raise.
    """
    sizes = {}
    for language, path in files.items():
        counts: Counter[str] = Counter()
        sentences = 0
        for sentence in read_sentences(path, rule):
            counts.update(sentence)
            sentences += 1
        count = np.fromiter(counts.values(), np.int64, len(counts))
        marked = kept(count, selection.min_count, selection.max_count)
        sizes[language] = Sizes(
            sentences, int(count.sum()), len(count), int(marked.sum()), int(np.count_nonzero(marked))
        )
    _check_parallel(files, [size.sentences for size in sizes.values()])
    for language, size in sizes.items():
        _check_selected(language, size.selected_tokens, selection)
    return sizes


def stored_sizes(corpus: xr.Dataset, selections: Mapping[str, xr.Dataset]) -> dict[str, Sizes]:
    """Sizes of each language of a CORPUS dataset, given its SELECTION dataset; reads no tokens."""
    sizes = {}
    for number, (language, selection) in enumerate(selections.items()):
        tokens, types = (span(corpus, language, unit) for unit in ("token", "type"))
        sizes[language] = Sizes(
            int(corpus.sentences.values[number]),
            tokens.stop - tokens.start,
            types.stop - types.start,
            selection.sizes["token"],
            int(selection.attrs["types"]),
        )
    return sizes


def _check_parallel(files: Mapping[str, str], sentences: Sequence[int]) -> None:
    if len(set(sentences)) > 1:
        counts = ", ".join(f"{path}: {n}" for path, n in zip(files.values(), sentences, strict=True))
        raise InputError(
            f"the files of a parallel text must have equal numbers of lines, found {counts}; "
            "line i of every file must be the same sentence"
        )


def _check_selected(language: str, tokens: int, rule: study.Selection) -> None:
    if not tokens:
        raise InputError(
            f"selection.min_count {rule.min_count} leaves no word of language {language!r}; lower it or add text"
        )


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
    _check_parallel(files, sentences)
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


def write_selection(
    path: str, corpus: xr.Dataset, language: str, rule: study.Selection, *, block: int = BLOCK, **provenance: Any
) -> int:
    """Select occurrences of a language's frequent types (Section 3.2) into a SELECTION dataset, replacing any there.

    Parameters
    ----------
    corpus
        CORPUS dataset, opened lazily; it is read twice, in blocks.
    block
        Tokens of a block, and values of a stored chunk (count).

    Returns
    -------
    Number of tokens selected; the dataset's attribute `types` is the number of their types.

    Raises
    ------
    InputError
        No type is frequent enough.
    """
    tokens, types = (span(corpus, language, unit) for unit in ("token", "type"))
    count = np.zeros(types.stop - types.start, np.int64)
    for found in blocks(corpus, "token_type", tokens, block):
        np.add.at(count, found - types.start, 1)
    marked = kept(count, rule.min_count, rule.max_count)
    total = int(marked.sum())
    _check_selected(language, total, rule)
    paths.remove(path)
    store.setup(
        path,
        SELECTION,
        {"token": 0},
        {},
        chunks={"token": block},
        shards={},
        rule=rule.model_dump_json(),
        types=int(np.count_nonzero(marked)),
        **provenance,
    )
    token_id = store.Growing(path, "token_id")
    spread = Spread(count, rule.min_count, rule.max_count, rule.seed)
    start = tokens.start
    for found in blocks(corpus, "token_type", tokens, block):
        token_id.extend(np.flatnonzero(spread.mark(found - types.start)) + start)
        start += len(found)
    token_id.flush()
    return total
