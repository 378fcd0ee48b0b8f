"""Small texts as CORPUS datasets, and selections, by plain loops."""

from collections.abc import Mapping, Sequence

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


def selected(types: Sequence[int], min_count: int, max_count: int, seed: int) -> list[int]:
    """Places of the occurrences that are kept: of each type with min_count, the evenly spread min(count, max_count).

    A type with n occurrences starts at a random one, s; of its occurrence i is kept when (i + s)·max_count mod n is
    below max_count.
    """
    places: dict[int, list[int]] = {}
    for at, one in enumerate(types):
        places.setdefault(one, []).append(at)
    counts = np.array([len(places.get(one, [])) for one in range(max(places, default=-1) + 1)])
    starts = np.random.default_rng(seed).integers(0, np.maximum(counts, 1)).tolist()
    kept = []
    for one, found in places.items():
        n = len(found)
        for i, at in enumerate(found):
            phase = (i + starts[one]) * max_count % n
            if n >= min_count and (n <= max_count or phase < max_count):
                kept.append(at)
    return sorted(kept)
