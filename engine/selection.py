"""Selection: which occurrences of the words of a parallel text are studied."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import paths, store
from engine.kernels.sampling import Sample, kept
from engine.sentences import check_parallel, read_sentences
from engine.text import BLOCK, blocks, gather, span
from schemas.corpus import CLUSTERED, SELECTION
from schemas.dataset import Schema
from schemas.errors import InputError
from schemas.selection import Selection


@dataclass(frozen=True)
class Sizes:
    """Sizes of the text of a language (counts)."""

    sentences: int
    tokens: int
    types: int
    selected_tokens: int = 0
    selected_types: int = 0


def measure(files: Mapping[str, str], rule: str, selection: Selection) -> dict[str, Sizes]:
    """Sizes of each language of a parallel text, with no more in memory than the counts of one language's types.

    A limit of sentences makes it read every file twice, and remember a byte a sentence. Where linked pairs are
    counted, it is not known what will be selected: those sizes are 0.

    Raises
    ------
    InputError
        What `write_corpus` and `write_selections` would raise.
    """
    sizes = {}
    by_type = selection.counted_by == "type"
    long = _long_lines(files, rule, selection.max_sentence_words if by_type else None)
    for language, path in files.items():
        counts: Counter[str] = Counter()
        left_out: Counter[str] = Counter()
        sentences = 0
        for sentence in read_sentences(path, rule):
            counts.update(sentence)
            if long and long[sentences]:
                left_out.update(sentence)
            sentences += 1
        count = np.fromiter(counts.values(), np.int64, len(counts))
        sizes[language] = Sizes(sentences, int(count.sum()), len(count))
        if by_type:
            without = np.fromiter((left_out[word] for word in counts), np.int64, len(counts))
            keep = _kept(count - without, selection)
            sizes[language] = replace(
                sizes[language], selected_tokens=int(keep.sum()), selected_types=int(np.count_nonzero(keep))
            )
    check_parallel(files, [size.sentences for size in sizes.values()])
    for language, size in sizes.items() if by_type else ():
        _check_selected(f"language {language!r}", size.selected_tokens, selection)
    return sizes


def stored_sizes(corpus: xr.Dataset, selections: Mapping[str, xr.Dataset]) -> dict[str, Sizes]:
    """Sizes of each language of a CORPUS dataset, given the SELECTION datasets that there are; reads no tokens."""
    sizes = {}
    for number, language in enumerate(map(str, corpus.language.values)):
        tokens, types = (span(corpus, language, unit) for unit in ("token", "type"))
        of_text = int(corpus.sentences.values[number]), tokens.stop - tokens.start, types.stop - types.start
        selection = selections.get(language)
        selected = (selection.sizes["token"], int(selection.attrs["types"])) if selection is not None else ()
        sizes[language] = Sizes(*of_text, *selected)
    return sizes


def _kept(count: NDArray[np.int64], rule: Selection) -> NDArray[np.int64]:
    return kept(count, rule.min_count, rule.max_count, rule.delete_above)


def _check_selected(what: str, tokens: int, rule: Selection) -> None:
    if not tokens:
        limits = {"delete_above": rule.delete_above, "max_sentence_words": rule.max_sentence_words}
        also = " and ".join(f"selection.{name} {limit}" for name, limit in limits.items() if limit is not None)
        raise InputError(
            f"selection.min_count {rule.min_count}{' with ' + also if also else ''} leaves no word of {what}; lower it "
            f"or {'raise the other, or ' if also else ''}add text"
        )


def _long_lines(files: Mapping[str, str], rule: str, most: int | None) -> bytearray:
    """Whether each sentence of a parallel text has more words than `most` in any language; empty without a limit."""
    long = bytearray()
    if most is None:
        return long
    for path in files.values():
        for number, sentence in enumerate(read_sentences(path, rule)):
            if number == len(long):
                long.append(0)
            long[number] |= len(sentence) > most
    return long


def long_sentences(corpus: xr.Dataset, most: int | None, *, block: int = BLOCK) -> NDArray[np.bool_] | None:
    """Whether each sentence has more words than `most` in any language of a corpus (sentence); None without a limit."""
    if most is None:
        return None
    long = np.zeros(int(corpus.sentences.values[0]), bool)
    whole = slice(0, corpus.sizes["token"])
    columns = (blocks(corpus, name, whole, block) for name in ("sentence", "position"))
    for sentence, position in zip(*columns, strict=True):
        long[sentence[position == most]] = True
    return long


def write_selections(
    places: Mapping[str, str], corpus: xr.Dataset, rule: Selection, *, block: int = BLOCK, **provenance: Any
) -> dict[str, int]:
    """Select occurrences of the words of each language (Section 3.2) into SELECTION datasets, replacing any there.

    Parameters
    ----------
    places
        Path of the SELECTION dataset of each language.
    corpus
        CORPUS dataset, opened lazily; each language is read twice, in blocks.
    rule
        Sentences beyond `max_sentence_words` in any language of the corpus are left out first; the frequency rules
        count what is left.
    block
        Tokens of a block, and values of a stored chunk (count).

    Returns
    -------
    Number of tokens selected, by language. A dataset's attribute `types` is the number of their types, and
    `sentences_left_out` that of the sentences left out.

    Raises
    ------
    InputError
        The rules leave no word of a language.
    """
    long = long_sentences(corpus, rule.max_sentence_words, block=block)
    provenance |= {"rule": rule.model_dump_json(), "sentences_left_out": 0 if long is None else int(long.sum())}
    totals = {}
    for language, path in places.items():
        types = span(corpus, language, "type")
        numbers = {language: np.arange(types.stop - types.start)}
        keep, marked = _sampled(corpus, numbers, rule, long, block)
        totals[language] = int(keep.sum())
        _check_selected(f"language {language!r}", totals[language], rule)
        columns = {"token_id": (tokens for _, tokens in marked)}
        _write(path, SELECTION, columns, block, types=int(np.count_nonzero(keep)), **provenance)
    return totals


def _sampled(
    corpus: xr.Dataset,
    numbers: Mapping[str, NDArray[np.int64]],
    rule: Selection,
    long: NDArray[np.bool_] | None,
    block: int,
) -> tuple[NDArray[np.int64], Iterator[tuple[str, NDArray[np.int64]]]]:
    """Select in the texts of some languages, one behind another.

    Parameters
    ----------
    numbers
        (type) for each type of each language, what its occurrences count as.

    Returns
    -------
    How many occurrences are kept of each number (count), and blocks of the tokens that are, with their language.
    """
    count = np.zeros(max(int(of_types.max()) for of_types in numbers.values()) + 1, np.int64)
    for language, of_types in numbers.items():
        for _, types in _candidates(corpus, language, long, block):
            np.add.at(count, of_types[types], 1)
    keep = _kept(count, rule)
    sample = Sample(count, keep, _seed(rule))
    marked = (
        (language, tokens[sample.mark(of_types[types])])
        for language, of_types in numbers.items()
        for tokens, types in _candidates(corpus, language, long, block)
    )
    return keep, marked


def _seed(rule: Selection) -> int | None:
    return rule.seed if rule.sampling == "seeded" else None


def _write(
    path: str, schema: Schema, columns: Mapping[str, Iterable[NDArray[np.int64]]], block: int, **attributes: Any
) -> None:
    """Write columns (token) of numbers that come in blocks."""
    with paths.replaced(path) as made:
        store.setup(made, schema, {"token": 0}, {}, chunks={"token": block}, shards={}, **attributes)
        for name, values in columns.items():
            column = store.Growing(made, name)
            for part in values:
                column.extend(part)
            column.flush()


def mixed_tokens(
    corpus: xr.Dataset,
    languages: Sequence[str],
    rule: Selection,
    long: NDArray[np.bool_] | None = None,
    *,
    block: int = BLOCK,
) -> dict[str, NDArray[np.int64]]:
    """Select in mixed text: sentences of one language behind those of another, a spelling counted in all of them.

    Parameters
    ----------
    languages
        Languages in their order.
    long
        (sentence) marks sentences that are left out.

    Returns
    -------
    By language (token): increasing indices into the corpus.

    Raises
    ------
    InputError
        The rules leave no word.
    """
    table: dict[str, int] = {}
    numbers = {}
    for language in languages:
        forms = blocks(corpus, "form", span(corpus, language, "type"), max(block // 4, 1))
        found = [table.setdefault(form, len(table)) for part in forms for form in part.tolist()]
        numbers[language] = np.array(found, np.int64)
    keep, marked = _sampled(corpus, numbers, rule, long, block)
    _check_selected(f"the mixed text {'+'.join(languages)}", int(keep.sum()), rule)
    tokens: dict[str, list[NDArray[np.int64]]] = {language: [] for language in languages}
    for language, some in marked:
        tokens[language].append(some)
    return {language: np.concatenate(parts) for language, parts in tokens.items()}


def linked_tokens(
    corpus: xr.Dataset,
    links: xr.Dataset,
    rule: Selection,
    long: NDArray[np.bool_] | None = None,
    *,
    block: int = BLOCK,
) -> dict[str, NDArray[np.int64]]:
    """Select word links of a language pair by the frequency of their two types together, and take their words.

    The published script does so (parallel_frequency_filter_data.py): a pair of types counts once for each link.

    Parameters
    ----------
    links
        LINKS dataset (link), ordered by source token, then target token.
    rule
        `repeat_linked`: a word is there once for each of its links that are kept.
    long
        (sentence) marks sentences that are left out.

    Returns
    -------
    By language (token): increasing indices into the corpus, possibly repeated.

    Raises
    ------
    InputError
        The rules leave no link.
    """
    names = str(links.attrs["source"]), str(links.attrs["target"])
    tokens = [links[name].values for name in ("source_token", "target_token")]
    if long is not None:
        studied = ~long[gather(corpus, "sentence", tokens[0], size=block)]
        tokens = [side[studied] for side in tokens]
    source, target = (gather(corpus, "token_type", side, size=block).astype(np.int64) for side in tokens)
    _, pair = np.unique(source * corpus.sizes["type"] + target, return_inverse=True)
    count = np.bincount(pair)
    keep = _kept(count, rule)
    _check_selected(f"the linked pairs of {'-'.join(names)}", int(keep.sum()), rule)
    marked = Sample(count, keep, _seed(rule)).mark(pair)
    order = np.sort if rule.repeat_linked else np.unique
    return {name: order(side[marked]) for name, side in zip(names, tokens, strict=True)}


def write_clustered(
    path: str,
    places: Mapping[str, str],
    tokens: Mapping[str, NDArray[np.int64]],
    corpus: xr.Dataset,
    *,
    block: int = BLOCK,
    **provenance: Any,
) -> int:
    """Write what is clustered of one language, by pair or set, and the selection of all of it, replacing any there.

    Parameters
    ----------
    path
        Path of the SELECTION dataset.
    places, tokens
        Path of the CLUSTERED dataset, and increasing indices (token) into the corpus, of each pair or set.

    Returns
    -------
    Number of tokens selected.
    """
    union = np.unique(np.concatenate([*tokens.values()]))
    types = len(np.unique(gather(corpus, "token_type", union, size=block)))
    _write(path, SELECTION, {"token_id": [union]}, block, types=types, **provenance)
    for name, some in tokens.items():
        rows = np.searchsorted(union, some)
        _write(places[name], CLUSTERED, {"token_id": [some], "row": [rows]}, block, **provenance)
    return len(union)


def _candidates(
    corpus: xr.Dataset, language: str, long: NDArray[np.bool_] | None, block: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Blocks of a language's tokens outside long sentences: indices into the corpus, and types from the first."""
    tokens, first = span(corpus, language, "token"), span(corpus, language, "type").start
    names = ("token_type",) if long is None else ("token_type", "sentence")
    start = tokens.start
    for types, *sentence in zip(*(blocks(corpus, name, tokens, block) for name in names), strict=True):
        ids = np.arange(start, start + len(types))
        start += len(types)
        studied = slice(None) if long is None else ~long[sentence[0]]
        yield ids[studied], types[studied] - first
