"""Lexical tables: counting them, ranking them, and folding the words of both sides."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from schemas.links import DICTIONARY, FOLDS

Forms = Sequence[str] | NDArray[Any]
Pair = tuple[NDArray[np.integer], NDArray[np.integer]]
"""An array of the source and one of the target."""

# tatweel, Koranic marks, tanwin, harakat, sukun and superscript alef; madda and hamza (U+0653 to U+0655) are letters'
_ARABIC = re.compile("[\u0640\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8"
                     "\u06ea-\u06ed\u08d3-\u08e1\u08e3-\u08ff]")  # fmt: skip

LARGEST = 2**53
"""No count is larger, so that each is exact as a float, too."""
ROUNDING = 0.51e-7
"""Half a unit of the last of Moses' seven decimals, and a little: what differs by no more is the same probability."""


_BLOCK = 1 << 16
"""Words that are Python strings at once: one takes some 60 bytes, where arrays of strings hold 16."""


class Words(Protocol):
    """Strings (word): an array of any kind, or what reads slices of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


@dataclass(frozen=True)
class Chosen:
    """Some of many strings, which are read when a slice of them is asked for."""

    words: xr.DataArray
    """(word) strings, lazily."""
    rows: NDArray[np.integer]
    """(chosen) which of them, increasing."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        rows = self.rows[part]
        low, high = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        found: NDArray[Any] = self.words[low:high].values
        return np.take(found, rows - low)


def distinct(words: Words, groups: NDArray[np.integer] | None = None) -> tuple[list[Any], NDArray[np.int32]]:
    """Distinct words, in the order in which they come first, and the number of each word among them.

    Parameters
    ----------
    words
        (word) strings.
    groups
        (word) where given, words of different groups are different, and what is distinct are pairs (group, word).

    Examples
    --------
    >>> distinct(np.array(["b", "a", "b"])), distinct(np.array(["b", "b"]), np.array([0, 1]))[0]
    ((['b', 'a'], array([0, 1, 0], dtype=int32)), [(0, 'b'), (1, 'b')])
    """
    table: dict[Any, int] = {}
    numbers = np.empty(len(words), np.int32)
    for start in range(0, len(words), _BLOCK):
        part = slice(start, start + _BLOCK)
        block: Iterable[Any] = words[part].tolist()
        if groups is not None:
            block = zip(groups[part].tolist(), block, strict=True)
        numbers[part] = [table.setdefault(one, len(table)) for one in block]
    return [*table], numbers


def fold(words: Forms, rules: Iterable[str]) -> NDArray[np.object_]:
    """Words without the differences that some rules fold.

    Parameters
    ----------
    rules
        `nfc`, `nfkc`: Unicode's composed form, compatibility characters (ligatures, presentation forms) kept or not.
        `arabic`: without tatweel and vowel marks (U+0640, harakat, superscript alef, Koranic marks); alef with hamza,
        dotless ya and ta marbuta stay the letters that they are. `case`: lower case; ß stays, as in texts that other
        tools have lower-cased. The order in which they are given does not matter.

    Returns
    -------
    (word) strings. A word of marks alone stays as it is. Folding twice changes nothing.

    Examples
    --------
    >>> fold(["Éte\u0301", "ﷲ", "كِتاب"], ["case", "nfkc", "arabic"]).tolist()
    ['été', 'الله', 'كتاب']
    """
    given = set(rules)
    form = "NFKC" if "nfkc" in given else "NFC" if "nfc" in given else None

    def one(word: str) -> str:
        found = unicodedata.normalize(form, word) if form else word  # type: ignore[arg-type]
        if "arabic" in given:
            found = _ARABIC.sub("", found) or found
        if "case" in given:
            found = found.lower()
        return unicodedata.normalize(form, found) if form else found  # type: ignore[arg-type]

    table = {word: one(word) for word in dict.fromkeys(_listed(words))} if given else {}
    folded = np.empty(len(words), object)
    folded[:] = [table[word] for word in _listed(words)] if given else _listed(words)
    return folded


def _listed(words: Forms) -> list[str]:
    return words.tolist() if isinstance(words, np.ndarray) else list(words)


@dataclass(frozen=True)
class LexicalTable:
    """Links between word types, counted."""

    source_type: NDArray[np.int64]
    """(entry) source type of each pair of types that has a link, increasing."""
    target_type: NDArray[np.int64]
    """(entry) its target type, increasing within a source type."""
    count: NDArray[np.int64]
    """(entry) links between the two."""
    total: NDArray[np.int64]
    """(source type) links of the type, and its tokens without a link."""


def lexical_table(words: Pair, linked: Pair, sizes: tuple[int, int]) -> LexicalTable:
    """Count links by Moses' lexical rule (LexicalTranslationModel.pm); p(t | s) is count / total.

    A source token without a link counts once towards the total of its type, as its link to NULL does there. A link that
    is given twice counts twice.

    Parameters
    ----------
    words
        (token) type of every token of the source text, and of the target text, from 0.
    linked
        (link) source tokens, and target tokens, that are linked: indices into the texts.
    sizes
        Types of the source, and of the target (count).
    """
    (source_words, target_words), (source_token, target_token) = words, linked
    pair, count = np.unique(
        source_words[source_token].astype(np.int64) * sizes[1] + target_words[target_token], return_counts=True
    )
    source_type, target_type = np.divmod(pair, max(sizes[1], 1))
    unlinked = np.ones(len(source_words), bool)
    unlinked[source_token] = False
    total = np.bincount(source_words[unlinked], minlength=sizes[0])
    total += np.bincount(source_type, count, sizes[0]).astype(np.int64)
    return LexicalTable(source_type, target_type, count.astype(np.int64), total)


def count_words(
    words: Pair, linked: Pair, forms: tuple[Forms, Forms], *, source: str, target: str, rules: Iterable[str] = ()
) -> xr.Dataset:
    """The dictionary of linked texts: `lexical_table` of their folded types, ranked.

    Parameters
    ----------
    words, linked
        As `lexical_table` takes them.
    forms
        Distinct spellings of the types of the source, and of the target.
    source, target
        Languages.
    rules
        How words are folded before links are counted, see `fold`.
    """
    rules = [rule for rule in FOLDS if rule in set(rules)]
    kinds: tuple[Forms, Forms] = forms
    if rules:
        one, one_number = np.unique(fold(forms[0], rules), return_inverse=True)
        other, other_number = np.unique(fold(forms[1], rules), return_inverse=True)
        kinds, words = (one, other), (one_number[words[0]], other_number[words[1]])
    table = lexical_table(words, linked, (len(kinds[0]), len(kinds[1])))
    probability = table.count / table.total[table.source_type]
    entries = table.source_type, table.target_type, probability, table.count
    return ranked(kinds, *entries, source=source, target=target, rules=rules)


def ranked(
    forms: tuple[Forms, Forms],
    source_type: NDArray[np.integer],
    target_type: NDArray[np.integer],
    probability: NDArray[np.floating],
    count: NDArray[np.integer],
    place: NDArray[np.integer] | None = None,
    *,
    source: str,
    target: str,
    rules: Sequence[str] = (),
) -> xr.Dataset:
    """A dictionary of entries in any order: ranked by probability, then count, then target form by code point.

    Parameters
    ----------
    forms
        Distinct spellings of the source types, and of the target types, in any order; those without an entry are left
        out.
    source_type, target_type
        (entry) distinct pairs of indices into them.
    probability, count
        (entry) of the translation; a count that is not known is 0.
    place
        (entry) place among the lines of its source type in the file, from 0; default: rank.
    source, target
        Languages.
    rules
        How the words were folded.

    Returns
    -------
    DICTIONARY dataset (entry).
    """
    one, source_type = _by_form(forms[0], source_type)
    other, target_type = _by_form(forms[1], target_type)
    order = np.lexsort((target_type, -count, -probability, source_type))
    source_type = source_type[order]
    rank = _within(source_type)
    found = rank if place is None else place[order]
    return DICTIONARY.create(
        {
            "source_form": one,
            "target_form": other,
            "source_type": source_type.astype(np.int32),
            "target_type": target_type[order].astype(np.int32),
            "probability": probability[order].astype(np.float64),
            "count": count[order].astype(np.int64),
            "rank": rank.astype(np.int32),
            "place": found.astype(np.int32),
        },
        source=source,
        target=target,
        fold=[*rules],
    )


def _by_form(forms: Forms, types: NDArray[np.integer]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The forms of some types, sorted by code point, and the types as indices into them."""
    kinds, number = np.unique(types, return_inverse=True)
    spelt = np.empty(len(kinds), object)
    spelt[:] = [forms[kind] for kind in kinds.tolist()]
    order = np.argsort(spelt, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return spelt[order], place[number]


def _within(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """(item) number of each item among those of its group, from 0; items of a group follow one another."""
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))


def _closed(source_type: NDArray[np.integer], place: NDArray[np.integer]) -> NDArray[np.int64]:
    """(entry) places of the same order, from 0 and without gaps in each source type."""
    order = np.lexsort((place, source_type))
    found = np.empty(len(order), np.int64)
    found[order] = _within(source_type[order])
    return found


def totals(dictionary: xr.Dataset) -> NDArray[np.int64]:
    """Links of each source type, and its tokens without one (source): what counts were divided by; 0 if not known.

    It is known where it explains all probabilities of the type to Moses' seven decimals.
    """
    types, count = dictionary.source_type.values, dictionary["count"].values
    probability = dictionary.probability.values
    sizes = dictionary.sizes["source"]
    first = dictionary["rank"].values == 0  # the most probable one tells most digits
    found = np.zeros(sizes, np.int64)
    most = np.maximum(probability[first], 1 / LARGEST)
    found[types[first]] = np.rint(np.minimum(count[first] / most, LARGEST))
    shown = count / np.maximum(found[types], 1)
    wrong = (found[types] == 0) | (count == 0) | (np.abs(shown - probability) > ROUNDING)
    found[types[wrong]] = 0
    return found


def folded(dictionary: xr.Dataset, rules: Iterable[str]) -> xr.Dataset:
    """A dictionary with its words folded; entries that become equal are one.

    Counts add up, and probabilities are those of the added counts. Where counts are not known, the probabilities of
    targets that become equal add up, and those of source types that become equal are averaged, each with the same
    weight. Places follow the first of the entries that became one. Words that have no entry do not count; where there
    is a text, fold in `count_words`.

    Parameters
    ----------
    dictionary
        DICTIONARY dataset.
    rules
        See `fold`; those by which it was folded before stay.
    """
    rules = [rule for rule in FOLDS if rule in {*rules, *dictionary.attrs["fold"]}]
    one, one_number = np.unique(fold(dictionary.source_form.values, rules), return_inverse=True)
    other, other_number = np.unique(fold(dictionary.target_form.values, rules), return_inverse=True)
    types = dictionary.source_type.values
    pair = one_number[types] * max(len(other), 1) + other_number[dictionary.target_type.values]
    pair, first, entry, merged = np.unique(pair, return_index=True, return_inverse=True, return_counts=True)
    source_type, target_type = np.divmod(pair, max(len(other), 1))

    total = totals(dictionary)
    known = np.ones(len(one), bool)
    known[one_number[total == 0]] = False
    count = np.bincount(entry, dictionary["count"].values, len(pair)).astype(np.int64)
    count[entry[dictionary["count"].values == 0]] = 0  # of a sum with an unknown part nothing is known
    whole = np.bincount(one_number, total, len(one))[source_type]
    sources = np.bincount(one_number, minlength=len(one))[source_type]
    mean = np.bincount(entry, dictionary.probability.values, len(pair)) / np.maximum(sources, 1)
    probability = np.divide(count, whole, out=mean.copy(), where=known[source_type])
    alone = (merged == 1) & (sources == 1)
    probability[alone] = dictionary.probability.values[first[alone]]

    place = np.full(len(pair), np.iinfo(np.int64).max)
    np.minimum.at(place, entry, dictionary.place.values * np.int64(len(types)) + np.arange(len(types)))
    languages = {name: dictionary.attrs[name] for name in ("source", "target")}
    entries = source_type, target_type, np.minimum(probability, 1.0), count, _closed(source_type, place)
    return ranked((one, other), *entries, rules=rules, **languages)


def best(dictionary: xr.Dataset, n: int) -> xr.Dataset:
    """A dictionary of the n best translations of each source type; their places close up."""
    kept = dictionary.isel(entry=dictionary["rank"].values < n)
    names = ("source_type", "target_type", "probability", "count")
    source_type, target_type, probability, count = (kept[name].values for name in names)
    forms = dictionary.source_form.values, dictionary.target_form.values
    languages = {name: dictionary.attrs[name] for name in ("source", "target")}
    entries = source_type, target_type, probability, count, _closed(source_type, kept.place.values)
    return ranked(forms, *entries, rules=dictionary.attrs["fold"], **languages)
