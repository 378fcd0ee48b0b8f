"""Selection: which occurrences of the words of a parallel text are studied, known from the text alone."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine import paths, store
from engine.kernels.sampling import Sample, kept
from engine.sentences import check_parallel, read_sentences
from engine.text import BLOCK, blocks, span
from schemas.corpus import SELECTION
from schemas.errors import InputError
from schemas.selection import Selection


@dataclass(frozen=True)
class Sizes:
    """Sizes of the text of a language (counts)."""

    sentences: int
    tokens: int
    types: int
    selected_tokens: int
    selected_types: int


def measure(files: Mapping[str, str], rule: str, selection: Selection) -> dict[str, Sizes]:
    """Sizes of each language of a parallel text, with no more in memory than the counts of one language's types.

    A limit of sentences makes it read every file twice, and remember a byte a sentence.

    Raises
    ------
    InputError
        What `write_corpus` and `write_selections` would raise.
    """
    sizes = {}
    long = _long_lines(files, rule, selection.max_sentence_words)
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
        without = np.fromiter((left_out[word] for word in counts), np.int64, len(counts))
        keep = _kept(count - without, selection)
        sizes[language] = Sizes(sentences, int(count.sum()), len(count), int(keep.sum()), int(np.count_nonzero(keep)))
    check_parallel(files, [size.sentences for size in sizes.values()])
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


def _kept(count: NDArray[np.int64], rule: Selection) -> NDArray[np.int64]:
    return kept(count, rule.min_count, rule.max_count, rule.delete_above)


def _check_selected(language: str, tokens: int, rule: Selection) -> None:
    if not tokens:
        names = [name for name in ("delete_above", "max_sentence_words") if getattr(rule, name) is not None]
        also = "".join(f" with selection.{name} {getattr(rule, name)}" for name in names)
        raise InputError(
            f"selection.min_count {rule.min_count}{also} leaves no word of language {language!r}; lower it or "
            f"{'raise the other, or ' if also else ''}add text"
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


def _long_sentences(corpus: xr.Dataset, most: int, block: int) -> NDArray[np.bool_]:
    """Whether each sentence of a CORPUS dataset has more words than `most` in any language (sentence)."""
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
    most = rule.max_sentence_words
    long = None if most is None else _long_sentences(corpus, most, block)
    left_out = 0 if long is None else int(long.sum())
    return {
        language: _write(path, corpus, language, rule, long, block, sentences_left_out=left_out, **provenance)
        for language, path in places.items()
    }


def _write(
    path: str,
    corpus: xr.Dataset,
    language: str,
    rule: Selection,
    long: NDArray[np.bool_] | None,
    block: int,
    **provenance: Any,
) -> int:
    types = span(corpus, language, "type")
    count = np.zeros(types.stop - types.start, np.int64)
    for _, found in _candidates(corpus, language, long, block):
        np.add.at(count, found, 1)
    keep = _kept(count, rule)
    total = int(keep.sum())
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
        types=int(np.count_nonzero(keep)),
        **provenance,
    )
    token_id = store.Growing(path, "token_id")
    sample = Sample(count, keep, rule.seed if rule.sampling == "seeded" else None)
    for tokens, found in _candidates(corpus, language, long, block):
        token_id.extend(tokens[sample.mark(found)])
    token_id.flush()
    return total


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
