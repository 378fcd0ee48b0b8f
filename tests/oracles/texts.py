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
) -> list[int]:
    """Places in the text of the occurrences that are kept: of each type that is neither too rare nor too frequent.

    A type with n occurrences starts at a random one, s. Of its m = min(n, max_count), the occurrence i is kept when
    (i + s)·m mod n is below m, or the first m are kept. Sentences that are left out count nowhere.
    """
    places: dict[Hashable, list[int]] = {}
    kinds = sorted({word for sentence in sentences for word in sentence})  # type: ignore[type-var]
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
