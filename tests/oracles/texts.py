"""Small texts as CORPUS datasets, by plain loops."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from schemas.corpus import CORPUS


def corpus(sentences: Mapping[str, Sequence[Sequence[str]]], **provenance: str) -> xr.Dataset:
    """The CORPUS dataset of some sentences (lists of words) of each language."""
    rows: dict[str, list[int]] = {"token_language": [], "token_type": [], "sentence": [], "position": []}
    form: list[str] = []
    type_language: list[int] = []
    token_stop, type_stop = [], []
    for number, lines in enumerate(sentences.values()):
        forms = sorted({word for line in lines for word in line})
        for i, line in enumerate(lines):
            for j, word in enumerate(line):
                rows["token_language"].append(number)
                rows["token_type"].append(len(form) + forms.index(word))
                rows["sentence"].append(i)
                rows["position"].append(j)
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
        },
        **provenance,
    )
