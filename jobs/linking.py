"""What word links take, by arithmetic alone, and the files that bring a pair's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import store
from engine.exchange import given_links
from engine.links import memory_needed, sample_size, seconds_needed
from jobs.clustering import PROCESS
from jobs.layout import Layout
from schemas.errors import InputError
from schemas.study import Links, Study

_GIVEN = 100
"""Bytes of a token, of either language, while a file of its links is read: characters and numbers of a link."""


@dataclass(frozen=True)
class Given:
    """Links of a pair that another tool has made."""

    path: str
    reverse: bool
    """Whether the first language of the file is the second of the pair."""
    sha256: str
    """Hash of the file, unpacked."""
    lines: int | None
    """Lines of the file; None if they do not count sentences, or the file is gone and its links are stored."""


def links_given(study: Study, layout: Layout) -> dict[tuple[str, str], Given]:
    """The files under links.files, by pair; one that is gone once its links are stored is not missed.

    Raises
    ------
    InputError
        There is no such file, or no such pair, or a pair has two files.
    """
    found: dict[tuple[str, str], Given] = {}
    for name, path in study.links.files.items():
        named = named_pair(study, name, "links.files")
        pair = named if named in study.pairs else named[::-1]
        if pair in found:
            raise InputError(f"links.files: {found[pair].path} and {path} are both of {name}; give one file a pair")
        try:
            sha256, lines = given_links.identity(path)
        except InputError:
            stored = (store.attributes(layout.links(*pair)) or {}).get("sha256")
            if stored is None:
                raise
            found[pair] = Given(path, pair != named, stored, None)
        else:
            found[pair] = Given(path, pair != named, sha256, None if given_links.is_mapping(path) else lines)
    return found


def named_pair(study: Study, name: str, where: str) -> tuple[str, str]:
    """Languages of a pair that is written as de-en, in either order.

    Raises
    ------
    InputError
        There is no such pair.
    """
    pairs = {f"{source}-{target}": (source, target) for source, target in study.directions}
    if name not in pairs:
        raise InputError(f"{where}: found {name!r}, which is no pair of the study; expected one of {', '.join(pairs)}")
    return pairs[name]


def check_lines(given: Mapping[tuple[str, str], Given], sentences: int) -> None:
    """Refuse a file of links with another number of lines than the text has sentences.

    Raises
    ------
    InputError
        Names the file, both numbers and the remedy.
    """
    for file in given.values():
        if file.lines is not None and file.lines != sentences:
            raise InputError(given_links.lines_differ(file.path, file.lines, sentences))


def need(settings: Links, sentences: int, tokens: int, memory: int) -> dict[str, int | float]:
    """What linking a pair takes: sentences that are trained on, projected peak in bytes, and seconds on one core.

    Parameters
    ----------
    tokens
        Tokens of both languages (count).
    memory
        Bytes that a worker may use.
    """
    trained = sample_size(sentences, tokens, settings, memory - PROCESS)
    return {
        "trained_on": trained,
        "memory": PROCESS + memory_needed(sentences, tokens, trained, settings),
        "seconds": round(seconds_needed(sentences, tokens, trained, settings), 1),
    }


def rows(
    study: Study, given: Mapping[tuple[str, str], Given], sentences: int, tokens: Mapping[str, int], memory: int
) -> list[dict[str, Any]]:
    """One row a pair: what its links will take, or the file that brings them."""
    found: list[dict[str, Any]] = []
    for source, target in study.pairs:
        both = tokens[source] + tokens[target]
        row: dict[str, Any] = {"pair": f"{source}-{target}", "sentences": sentences}
        if (source, target) in given:
            needed = {"trained_on": 0, "memory": PROCESS + both * _GIVEN, "seconds": 0.0}
            found.append({**row, "file": given[source, target].path, **needed})
        else:
            found.append({**row, "file": None, **need(study.links, sentences, both, memory)})
    return found
