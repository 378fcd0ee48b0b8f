"""What is selected and clustered in a study, by name, and how large it is.

Where types are counted, every language has one selection, and mixed text is made of those of its languages. Where
linked pairs are counted, each pair has a selection in either language, `de@de-en`, and each set one of its mixed text,
`de+en`; what a selection takes of a language is listed in a CLUSTERED dataset.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product

from engine import store
from engine.selection import measure, stored_sizes
from jobs.layout import Layout
from schemas.corpus import CLUSTERED, CORPUS, SELECTION
from schemas.study import Study
from schemas.task import Key


@dataclass(frozen=True)
class Text:
    """Sizes of the text, known before any model runs; where linked pairs are counted, what is selected is not among
    them before the words are linked.
    """

    sentences: int
    tokens: dict[str, int]
    types: dict[str, int]
    selected_tokens: dict[str, int]
    selected_types: dict[str, int]
    clustered_tokens: dict[str, int]
    """Tokens of each CLUSTERED dataset."""

    @property
    def selected(self) -> bool:
        """Whether the selection is known."""
        return bool(self.selected_tokens)


def read_text(study: Study, layout: Layout, done: Collection[str]) -> Text:
    """Sizes of a study's text: from its store when that is done, else from the files, which are read in a stream.

    Parameters
    ----------
    done
        Names of the finished tasks.

    Raises
    ------
    InputError
        A file cannot be read, the files have different numbers of lines, or no word of a language is frequent enough.
    """
    clustered: dict[str, int] = {}
    known = not is_linked(study) or {str(Key("corpus")), str(Key("selection"))} <= set(done)
    if str(Key("corpus")) in done:
        languages = (study.read_languages if is_linked(study) else tuple(study.corpus.files)) if known else ()
        sizes = stored_sizes(
            store.load(layout.corpus, CORPUS),
            {lang: store.load(layout.selection(lang), SELECTION) for lang in languages},
        )
        for name in (name for language in languages for name in clustered_names(study, language)):
            clustered[name] = store.load(layout.selection(name), CLUSTERED).sizes["token"]
    else:
        sizes = measure(study.corpus.files, study.corpus.words, study.selection)
    return Text(
        next(iter(sizes.values())).sentences,
        {lang: size.tokens for lang, size in sizes.items()},
        {lang: size.types for lang, size in sizes.items()},
        {lang: size.selected_tokens for lang, size in sizes.items() if known},
        {lang: size.selected_types for lang, size in sizes.items() if known},
        clustered,
    )


def is_linked(study: Study) -> bool:
    """Whether linked pairs are counted."""
    return study.selection.counted_by == "linked_pair"


def selections(study: Study) -> dict[str, tuple[str, ...]]:
    """Languages of each selection, by name: every language alone, or in each of its pairs, and the mixed sets."""
    if is_linked(study):
        alone = {_in_pair(language, pair): (language,) for pair in study.pairs for language in pair}
    else:
        alone = {lang: (lang,) for lang in study.corpus.files}
    return alone | {"+".join(group): group for group in study.language_sets}


def described(study: Study) -> tuple[Key, ...]:
    """Tasks that describe what words share: each selection of one language, of every checkpoint and stack."""
    alone = [name for name, languages in selections(study).items() if len(languages) == 1]
    return tuple(Key("properties", part) for part in product(study.checkpoints, study.activations.stacks, alone))


def concepts_name(study: Study, language: str, other: str) -> str:
    """Name of the selection whose concepts are those of a language in its pair with another."""
    if not is_linked(study):
        return language
    pair = next(pair for pair in study.pairs if set(pair) == {language, other})
    return _in_pair(language, pair)


def _in_pair(language: str, pair: tuple[str, str]) -> str:
    return f"{language}@{'-'.join(pair)}"


def target_groups(study: Study) -> list[tuple[str, tuple[str, ...]]]:
    """Source and targets of every score: each direction, and each language towards all that it is paired with.

    Where linked pairs are counted, a language has other concepts in each of its pairs, and there are directions alone.
    """
    targets: dict[str, list[str]] = {}
    for source, target in study.directions:
        targets.setdefault(source, []).append(target)
    return [
        (source, group)
        for source, found in targets.items()
        for group in (*((target,) for target in found), *([(*found,)] if found[1:] and not is_linked(study) else []))
    ]


def clustered_name(selection: str, language: str) -> str:
    """Name of the CLUSTERED dataset of what a selection takes of a language.

    Examples
    --------
    >>> clustered_name("de@de-en", "de"), clustered_name("de+en", "de")
    ('de@de-en', 'de@de+en')
    """
    return selection if "@" in selection else f"{language}@{selection}"


def clustered_names(study: Study, language: str) -> list[str]:
    """Names of all CLUSTERED datasets of a language, sorted; none where types are counted."""
    if not is_linked(study):
        return []
    return sorted(clustered_name(name, language) for name, of in selections(study).items() if language in of)


def languages_of(selection: str) -> list[str]:
    """Languages of a selection, by its name.

    Examples
    --------
    >>> languages_of("de"), languages_of("de@de-en"), languages_of("de+en")
    (['de'], ['de'], ['de', 'en'])
    """
    return selection.partition("@")[0].split("+")
