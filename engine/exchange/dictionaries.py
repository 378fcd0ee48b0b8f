"""Dictionaries as other tools write them, and as stores of ours.

text
    `haus -> house: Probability = 0.9, Count = 44`, as the published alignment scripts read it.
json
    `{"haus": {"house": {"Count": 44, "Probability": 0.9}}}`, its other published form.
moses
    `house haus 0.9000000`: target, source, p(target | source) (LexicalTranslationModel.pm: lex.f2e, lex.e2f). With
    counts, `house haus 44 49` in a second file (lex.counts.f2e), which can also be read alone.
muse
    `haus house`: no numbers, so all translations of a word are equally probable.
tsv
    Columns source, target, probability and count, named in the first line.
zarr
    DICTIONARY store.

Numbers are written to the last digit, save Moses' probabilities, which have seven decimals. Entries stand in the order
of source types, then of places, so that those who take the first N of a file get the N best. How words were folded is
known to stores alone.
"""

import gzip
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
import xarray as xr

from engine import paths, store
from engine.exchange.dictionary_files import (
    FORMATS,
    HEADER,
    LIKE,
    NULL,
    READERS,
    Entry,
    Format,
    counts_of,
    ending,
    guess,
    text_of,
)  # fmt: skip
from engine.exchange.stream import kind
from engine.lexicon import ranked, totals
from schemas.errors import InputError
from schemas.links import DICTIONARY


def read(path: str, form: Format | None = None, *, source: str = "source", target: str = "target") -> xr.Dataset:
    """Read a dictionary.

    Parameters
    ----------
    path
        File, `.gz` unpacked, or DICTIONARY store; a path or fsspec URL.
    form
        Format; by default told by the file's ending or first line.
    source, target
        Languages, which files do not name; a store does, and keeps its own.

    Returns
    -------
    DICTIONARY dataset (entry). Counts that the file does not have are 0, and places are those in the file. Equal lines
    are one entry. The rows of Moses' NULL are no entries; the probabilities of the others keep it in their totals.

    Raises
    ------
    InputError
        No such file, or one that is damaged, not UTF-8 or of another format; a line that is no entry; two entries of
        the same words that differ. The message names file, line, what was found, what was expected and the remedy.
    """
    if (held := kind(path)) is not None:
        if form not in (None, "zarr"):
            raise InputError(f"{path}: a store, not a {form} file; leave out the format")
        if held != DICTIONARY.name:
            raise InputError(f"{path}: expected a dictionary, found {held}; give a store or file of a dictionary")
        return store.read(path, DICTIONARY)
    if form == "zarr" or (form is None and ending(path) == "zarr"):
        raise InputError(f"{path}: expected a dictionary store, found none; give a file or a store of a dictionary")
    text = text_of(path)
    form = form or guess(path, text)
    return _dataset(path, READERS[form](path, text), form, source, target)


def _dataset(path: str, entries: Iterable[Entry], form: Format, source: str, target: str) -> xr.Dataset:
    kinds: tuple[dict[str, int], dict[str, int]] = ({}, {})
    place: dict[tuple[int, int], int] = {}
    probability, count, line, at_place = array("d"), array("q"), array("q"), array("q")
    lines: Counter[int] = Counter()  # of each source type, equal ones included: they take places of their own
    for entry in entries:
        pair = kinds[0].setdefault(entry.source, len(kinds[0])), kinds[1].setdefault(entry.target, len(kinds[1]))
        at = place.setdefault(pair, len(place))
        if at == len(line):
            probability.append(entry.probability)
            count.append(entry.links)
            line.append(entry.line)
            at_place.append(lines[pair[0]])
        elif (probability[at], count[at]) != (entry.probability, entry.links):
            raise InputError(
                f"{path}, line {entry.line}: {entry.source!r} -> {entry.target!r} has probability {entry.probability} "
                f"and count {entry.links}, and on line {line[at]} {probability[at]} and {count[at]}; expected each "
                "pair of words once, so leave out one of the lines"
            )
        lines[pair[0]] += 1
    if not place:
        raise InputError(f"{path}: holds no translation; expected at least one, as {LIKE[form]}")
    source_type, target_type = np.array([*place], np.int64).T
    found = 1 / np.bincount(source_type)[source_type] if form == "muse" else np.array(probability)
    forms = [*kinds[0]], [*kinds[1]]
    entered = source_type, target_type, found, np.array(count), np.array(at_place)
    return ranked(forms, *entered, source=source, target=target)


def write(dictionary: xr.Dataset, path: str, form: Format | None = None) -> tuple[str, ...]:
    """Write a dictionary in the place of what is there, each file whole or not at all.

    Parameters
    ----------
    dictionary
        DICTIONARY dataset.
    path
        File, packed where it ends in `.gz`, or store; a path or fsspec URL.
    form
        Format; by default told by the ending. `moses` writes a file of counts too, where counts and totals are known,
        and removes one that lies there where they are not.

    Returns
    -------
    The files that were written.

    Raises
    ------
    InputError
        The ending tells no format, or a word cannot be written in it; nothing is written then.
    """
    form = form or ending(path)
    if form is None:
        raise InputError(f"{path}: its ending does not tell the format; give one of {', '.join(FORMATS)}")
    if form == "zarr":
        with paths.replaced(path) as part:
            store.save(part, DICTIONARY, dictionary)
        return (path,)
    listed = dictionary.isel(entry=np.lexsort((dictionary.place.values, dictionary.source_type.values)))
    _check_words(path, form, listed)
    if form == "json":
        table: dict[str, dict[str, dict[str, float]]] = {}
        for source, target, probability, count in _rows(listed):
            table.setdefault(source, {})[target] = {"Count": count, "Probability": probability}
        _put(path, [json.dumps(table, ensure_ascii=False, indent=1), "\n"])
        return (path,)
    beside = counts_of(path)
    total = totals(listed)[listed.source_type.values] if form == "moses" else np.empty(0)
    if total.all() and total.size:
        _put(beside, (f"{t} {s} {n} {m}\n" for (s, t, _, n), m in zip(_rows(listed), total.tolist(), strict=True)))
    elif form == "moses":
        paths.remove(beside)
    head = [f"{HEADER}\n"] if form == "tsv" else []
    _put(path, chain(head, (_LINES[form](*row) for row in _rows(listed))))
    return (path, beside) if total.all() and total.size else (path,)


_LINES: dict[Format, Callable[[str, str, float, int], str]] = {
    "text": lambda s, t, p, n: f"{s} -> {t}: Probability = {p!r}, Count = {n}\n",
    "moses": lambda s, t, p, n: f"{t} {s} {p:.7f}\n",
    "muse": lambda s, t, p, n: f"{s}\t{t}\n",
    "tsv": lambda s, t, p, n: f"{s}\t{t}\t{p!r}\t{n}\n",
}
_UNFIT: dict[Format, tuple[str, str]] = {  # in source words, in target words
    "text": (r"\n|^\s|\s\Z| -> | ->\Z", r"\n|^\s|\s\Z| -> |^-> "),
    "json": (r"(?!)", r"(?!)"),
    "moses": (rf"[ \n]|^{NULL}\Z", rf"[ \n]|^{NULL}\Z"),
    "muse": (r"[\t\n]|^\s|\s\Z", r"[\t\n]|^\s|\s\Z"),
    "tsv": (r"[\t\n]", r"[\t\n]"),
}
"""What would be read as something else."""


def _check_words(path: str, form: Format, dictionary: xr.Dataset) -> None:
    for name, pattern in zip(("source_form", "target_form"), _UNFIT[form], strict=True):
        unfit = re.compile(pattern)
        for word in dictionary[name].values.tolist():
            if unfit.search(word):
                raise InputError(
                    f"{path}: the word {word!r} cannot be written in the format {form}, whose lines are {LIKE[form]}; "
                    "choose json"
                )


def _rows(dictionary: xr.Dataset) -> Iterator[tuple[str, str, float, int]]:
    """Source form, target form, probability and count of each entry."""
    forms = (dictionary[f"{side}_form"].values[dictionary[f"{side}_type"].values] for side in ("source", "target"))
    columns = *forms, dictionary.probability.values, dictionary["count"].values
    return zip(*(column.tolist() for column in columns), strict=True)


def _put(path: str, lines: Iterable[str]) -> None:
    content = "".join(lines).encode()
    paths.write_bytes(path, gzip.compress(content, mtime=0) if path.endswith(".gz") else content)
