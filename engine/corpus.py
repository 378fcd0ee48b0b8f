"""Corpus: parallel text files become one table of tokens and types; then some of the tokens are selected."""

import array
import contextlib
import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping

import fsspec
import numpy as np
import xarray as xr

from engine import store
from engine.kernels.sampling import spread
from engine.text import span
from schemas import study
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError

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


def read_sentences(path: str, rule: str) -> Iterator[list[str]]:
    """Sentences of a text file, one a line; `.gz` is unpacked.

    Raises
    ------
    InputError
        No such file, invalid UTF-8 or an empty sentence; the message gives file, line, what was found and the remedy.
    """
    if not _exists(path):
        raise InputError(f"{path}: no such file; corpus.files names one text file for each language")
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(fsspec.open(path, "rb"))
        lines = stack.enter_context(gzip.open(raw)) if path.endswith(".gz") else raw
        try:
            for number, line in enumerate(lines, 1):
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
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file ({error}); copy it again") from error


def _exists(path: str) -> bool:
    """Whether there is such a text file.

    Raises
    ------
    InputError
        It is a folder.
    """
    system, place = store.filesystem(path)
    if system.isdir(place):
        raise InputError(f"{path}: a folder; corpus.files names one text file for each language")
    return bool(system.exists(place))


def _sha256(path: str) -> str:
    with fsspec.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_files(corpus: xr.Dataset, files: Mapping[str, str]) -> list[str]:
    """Text files whose content is not what the corpus was read from; a file that is gone has not changed."""
    known = json.loads(corpus.attrs.get("sha256", "{}"))
    return [path for lang, path in files.items() if lang in known and _exists(path) and _sha256(path) != known[lang]]


def read_corpus(files: Mapping[str, str], rule: str) -> xr.Dataset:
    """Read a parallel text into a CORPUS dataset (token), (type), (language).

    Tokens lie language by language in text order; types of a language are sorted by form.

    Parameters
    ----------
    files
        Text file of each language; sentence i of every file is the same sentence.
    rule
        How lines are cut into words, see `words`.

    Raises
    ------
    InputError
        A file cannot be read, or the files have different numbers of lines.
    """
    columns: dict[str, list[np.ndarray]] = {"type": [], "sentence": [], "length": []}
    forms: list[str] = []
    token_stop: list[int] = []
    type_stop: list[int] = []
    sentences: list[int] = []
    for path in files.values():
        table: dict[str, int] = {}
        ids, lengths = array.array("i"), array.array("i")
        for sentence in read_sentences(path, rule):
            ids.extend([table.setdefault(word, len(table)) for word in sentence])
            lengths.append(len(sentence))
        if not lengths:
            raise InputError(f"{path}: the file is empty; expected one sentence a line")
        found = list(table)
        order = sorted(range(len(found)), key=found.__getitem__)
        place = np.empty(len(found), np.int32)
        place[order] = np.arange(len(found), dtype=np.int32) + len(forms)
        columns["type"].append(place[np.frombuffer(ids, np.int32)])
        columns["length"].append(np.frombuffer(lengths, np.int32))
        forms.extend(found[i] for i in order)
        sentences.append(len(lengths))
        token_stop.append(len(ids) + (token_stop[-1] if token_stop else 0))
        type_stop.append(len(forms))
    if len(set(sentences)) > 1:
        counts = ", ".join(f"{path}: {n}" for path, n in zip(files.values(), sentences, strict=True))
        raise InputError(
            f"the files of a parallel text must have equal numbers of lines, found {counts}; "
            "line i of every file must be the same sentence"
        )
    lengths_ = np.concatenate(columns["length"])
    first = np.repeat(np.cumsum(lengths_) - lengths_, lengths_)
    tokens = np.diff(token_stop, prepend=0)
    return CORPUS.create(
        {
            "language": list(files),
            "token_language": np.repeat(np.arange(len(files), dtype=np.int8), tokens),
            "token_type": np.concatenate(columns["type"]),
            "sentence": np.repeat(np.tile(np.arange(sentences[0], dtype=np.int32), len(files)), lengths_),
            "position": (np.arange(len(first)) - first).astype(np.int32),
            "form": forms,
            "type_language": np.repeat(np.arange(len(files), dtype=np.int8), np.diff(type_stop, prepend=0)),
            "token_stop": np.asarray(token_stop, np.int64),
            "type_stop": np.asarray(type_stop, np.int64),
            "sentences": np.asarray(sentences, np.int64),
        },
        words=rule,
        sha256=json.dumps({language: _sha256(path) for language, path in files.items()}),
    )


def select(corpus: xr.Dataset, language: str, rule: study.Selection) -> xr.Dataset:
    """Select occurrences of a language's frequent types (Section 3.2) as a SELECTION dataset (token).

    Raises
    ------
    InputError
        No type is frequent enough.
    """
    tokens = span(corpus, language, "token")
    types = span(corpus, language, "type")
    kept = spread(
        corpus.token_type[tokens].values - types.start,
        types.stop - types.start,
        rule.min_count,
        rule.max_count,
        rule.seed,
    )
    if not kept.any():
        raise InputError(
            f"selection.min_count {rule.min_count} leaves no word of language {language!r}; lower it or add text"
        )
    return SELECTION.create({"token_id": np.flatnonzero(kept) + tokens.start}, rule=rule.model_dump_json())
