"""Small parallel texts as files, and their CORPUS dataset."""

from pathlib import Path
from typing import Any

import xarray as xr
from hypothesis import strategies as st

from engine import store
from engine.corpus import write_corpus
from schemas.corpus import CORPUS

sentence = st.lists(st.text("abcéبह日", min_size=1, max_size=3), min_size=1, max_size=6)
parallel = st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(sentence, min_size=n, max_size=n)] * 3))
blocks = st.integers(3, 50)


def write(folder: Path, **texts: str) -> dict[str, str]:
    """Files of a parallel text."""
    files = {}
    for language, text in texts.items():
        files[language] = str(folder / f"{language}.txt")
        Path(files[language]).write_bytes(text.encode())
    return files


def read(files: dict[str, str], rule: str = "spaces", folder: Path | None = None, **options: Any) -> xr.Dataset:
    """Write the corpus beside the first file, unless a folder is given, and load it."""
    path = str((folder or Path(next(iter(files.values()))).parent) / "corpus.zarr")
    write_corpus(path, files, rule, **options)
    return store.read(path, CORPUS)


def joined(texts: dict[str, list[list[str]]]) -> dict[str, str]:
    return {language: "".join(" ".join(line) + "\n" for line in lines) for language, lines in texts.items()}
