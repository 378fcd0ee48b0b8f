"""Small texts as CORPUS datasets, and selections, by plain loops."""

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
import xarray as xr

from schemas.corpus import CORPUS


def corpus(sentences: Mapping[str, Sequence[Sequence[str]]], **provenance: str) -> xr.Dataset:
    """The CORPUS dataset of some sentences (lists of words) of each language."""
    rows: dict[str, list[int]] = {"token_language": [], "token_type": [], "sentence": [], "position": []}
    form: list[str] = []
    type_language: list[int] = []
    token_stop, type_stop, sentence_start = [], [], []
    for number, lines in enumerate(sentences.values()):
        forms = sorted({word for line in lines for word in line})
        starts = [len(rows["sentence"])]
        for i, line in enumerate(lines):
            starts.append(starts[-1] + len(line))
            for j, word in enumerate(line):
                rows["token_language"].append(number)
                rows["token_type"].append(len(form) + forms.index(word))
                rows["sentence"].append(i)
                rows["position"].append(j)
        sentence_start.append(starts)
        form += forms
        type_language += [number] * len(forms)
        token_stop.append(len(rows["sentence"]))
        type_stop.append(len(form))
    return CORPUS.create(
        {
            "language": list(sentences),
            "token_language": np.array(rows["token_language"], np.int8),
            "token_type": np.array(rows["token_type"], np.int32),
            "sentence": np.array(rows["sentence"], np.int32),
            "position": np.array(rows["position"], np.int32),
            "form": form,
            "type_language": np.array(type_language, np.int8),
            "token_stop": np.array(token_stop, np.int64),
            "type_stop": np.array(type_stop, np.int64),
            "sentences": np.array([len(lines) for lines in sentences.values()], np.int64),
            "sentence_start": np.array(sentence_start, np.int64),
        },
        **provenance,
    )


def selected(
    sentences: Sequence[Sequence[Hashable]],
    *,
    min_count: int,
    max_count: int,
    delete_above: int | None = None,
    first: bool = False,
    seed: int = 0,
    left_out: Collection[int] = (),
    order: Sequence[Hashable] | None = None,
) -> list[int]:
    """Places in the text of the occurrences that are kept: of each type that is neither too rare nor too frequent.

    A type with n occurrences starts at a random one, s. Of its m = min(n, max_count), the occurrence i is kept when
    (i + s)·m mod n is below m, or the first m are kept. Sentences that are left out count nowhere. Starts are drawn in
    an order of the types, that of their spelling if none is given.
    """
    places: dict[Hashable, list[int]] = {}
    kinds = order or sorted({word for sentence in sentences for word in sentence})  # type: ignore[type-var]
    at = 0
    for number, sentence in enumerate(sentences):
        for word in sentence:
            if number not in left_out:
                places.setdefault(word, []).append(at)
            at += 1
    counts = np.array([len(places.get(word, [])) for word in kinds])
    starts = np.random.default_rng(seed).integers(0, np.maximum(counts, 1)).tolist()
    kept = []
    for word, start in zip(kinds, starts, strict=True):
        found = places.get(word, [])
        n = len(found)
        if n < min_count or (delete_above is not None and n > delete_above):
            continue
        m = min(n, max_count)
        kept += [place for i, place in enumerate(found) if (i < m if first else (i + start) * m % n < m)]
    return sorted(kept)


def selected_links(
    links: Sequence[Sequence[tuple[int, int]]],
    words: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    *,
    min_count: int,
    max_count: int,
    delete_above: int,
    max_words: int,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Sentence and position of the source and target words of the links that the published scripts keep, in order.

    They count every linked pair of words, pass over those that are too rare or too frequent, and put the words of the
    first max_count links of each other pair behind those that they have: once for each link.

    Parameters
    ----------
    links
        For each sentence, positions of linked words, in text order.
    words
        Sentences of the source and the target; only those of fewer words than max_words on both sides are read.
    """
    read = [i for i in range(len(links)) if all(len(side[i]) < max_words for side in words)]
    frequency: dict[tuple[str, str], int] = {}
    for i in read:
        for s, t in links[i]:
            pair = words[0][i][s], words[1][i][t]
            frequency[pair] = frequency.get(pair, 0) + 1
    seen = dict.fromkeys(frequency, 0)
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for i in read:
        for s, t in links[i]:
            pair = words[0][i][s], words[1][i][t]
            if frequency[pair] > delete_above or frequency[pair] < min_count:
                continue
            seen[pair] += 1
            if seen[pair] <= max_count:
                sides[0].append((i, s))
                sides[1].append((i, t))
    return sides
