"""What the words of a concept share: beginnings, endings, letters, casing (lexical), or tags (Figure 9, Appendix B)."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from engine.labelled import SEVERAL
from schemas.results import PROPERTIES, PROPERTIES_OF_PART

AFFIX = 2
"""Letters of a beginning or ending at least."""

NGRAM = 3
"""Letters of a run within words at least."""

FORMS = 2
"""Different words that have a beginning, an ending or a run of letters at least, for a concept to share it."""

LEXICAL = ("suffix", "prefix", "ngram", "casing")
"""What words share by their form."""


def describe(
    words: NDArray[np.object_],
    labels: NDArray[np.integer],
    layers: Sequence[int],
    k: int,
    tags: Mapping[str, NDArray[np.object_]] | None = None,
) -> xr.Dataset:
    """The largest share of the tokens of each concept that share an ending, a beginning, a run of letters, or a tag.

    Of endings the shortest ones that count decide the share, since a longer one can have no more words; the label is
    the longest that has as many, as it is of runs of letters. An ending is shorter than its word. A word counts for the
    one ending it has, whatever the others of the concept: no list of endings is needed, and every language has its own.
    Without a list every word has an ending, a beginning and runs of letters, so these count where at least FORMS
    different words have them: a word that a concept repeats shares nothing with itself.
    ConceptX looks for the endings of an English list instead (`trivialLabels`), where the last of the list that fits
    wins.

    Parameters
    ----------
    words
        (token) words of one language.
    labels
        (layer, token) concepts, below k.
    layers
        Numbers of the layers.
    k
        Number of concepts.
    tags
        (token) tags by the name of their kind, of any tagger; several of a word with `|||` between them.

    Returns
    -------
    PROPERTIES_OF_PART dataset (layer, concept, property).
    """
    forms, kinds = np.unique(words, return_inverse=True)
    spelt = [str(form) for form in forms.tolist()]
    shared: dict[str, Callable[[NDArray[np.integer]], tuple[float, str]]] = {
        "suffix": lambda tokens: _affix(spelt, kinds[tokens], ending=True),
        "prefix": lambda tokens: _affix(spelt, kinds[tokens], ending=False),
        "ngram": lambda tokens: _ngram(spelt, kinds[tokens]),
        "casing": lambda tokens: _most(_casing(spelt[kind]) for kind in kinds[tokens].tolist()),
    }
    for name, of in (tags or {}).items():
        shared[name] = lambda tokens, of=of: _most_tag(of[tokens].tolist())  # type: ignore[misc]
    shape = len(layers), k, len(shared)
    share, label = np.zeros(shape), np.full(shape, "", object)
    types, tokens = np.zeros(shape[:2], np.int32), np.zeros(shape[:2], np.int32)
    for at, of_layer in enumerate(labels):
        order = np.argsort(of_layer, kind="stable")
        stops = np.searchsorted(of_layer[order], np.arange(k + 1))
        for concept in np.flatnonzero(np.diff(stops)).tolist():
            rows = order[stops[concept] : stops[concept + 1]]
            types[at, concept], tokens[at, concept] = len(np.unique(kinds[rows])), len(rows)
            for index, most in enumerate(shared.values()):
                share[at, concept, index], label[at, concept, index] = most(rows)
    return PROPERTIES_OF_PART.create(
        {
            "layer": np.asarray(layers, np.int32),
            "property": np.asarray([*shared], object),
            "share": share,
            "label": label,
            "types": types,
            "tokens": tokens,
        }
    )


def _most(names: Iterable[str], total: int = 0) -> tuple[float, str]:
    """Share (of a total, or of them all) and name of the most frequent; of equals the first by name.

    Empty names belong to nothing.
    """
    counts = Counter(names)
    total = total or counts.total()
    counts.pop("", None)
    if not counts:
        return 0.0, ""
    name, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return count / total, name


def _most_tag(tags: Sequence[str]) -> tuple[float, str]:
    """Share of tokens with the most frequent tag, and its name; a token with several counts for each.

    Examples
    --------
    >>> _most_tag(["noun|||verb", "verb", "", "noun|||noun"])
    (0.5, 'noun')
    """
    return _most((tag for of in tags for tag in {*of.split(SEVERAL)}), len(tags))


def _most_of_several(tokens: Mapping[str, int], forms: Mapping[str, int]) -> tuple[str, int]:
    """What most tokens have of all that FORMS different words have, and how many (count); of equals the first by name.

    Examples
    --------
    >>> _most_of_several({"ing": 2, "rn": 9}, {"ing": 2, "rn": 1}), _most_of_several({"rn": 9}, {"rn": 1})
    (('ing', 2), ('', 0))
    """
    several = ((name, count) for name, count in tokens.items() if forms[name] >= FORMS)
    return min(several, key=lambda item: (-item[1], item[0]), default=("", 0))


def _affix(spelt: Sequence[str], kinds: NDArray[np.integer], *, ending: bool) -> tuple[float, str]:
    found, counts = np.unique(kinds, return_counts=True)
    forms = [spelt[kind][::-1] if ending else spelt[kind] for kind in found.tolist()]  # endings become beginnings
    heads: Counter[str] = Counter()
    having: Counter[str] = Counter()
    for form, count in zip(forms, counts.tolist(), strict=True):
        if len(form) > AFFIX:
            heads[form[:AFFIX]] += count
            having[form[:AFFIX]] += 1
    head, count = _most_of_several(heads, having)
    if not count:
        return 0.0, ""
    same = [form for form in forms if len(form) > AFFIX and form.startswith(head)]
    longest = _common(same)
    return count / int(counts.sum()), longest[::-1] if ending else longest


def _common(forms: Sequence[str]) -> str:
    """The longest beginning of all that is shorter than each.

    Examples
    --------
    >>> _common(["walked", "walking", "walks"])
    'walk'
    >>> _common(["walk", "walks"])
    'wal'
    """
    first, last = min(forms), max(forms)
    most = min(len(form) for form in forms) - 1
    length = next((i for i in range(min(most, len(first), len(last))) if first[i] != last[i]), most)
    return first[:length]


def _ngram(spelt: Sequence[str], kinds: NDArray[np.integer]) -> tuple[float, str]:
    found, counts = np.unique(kinds, return_counts=True)
    grams: Counter[str] = Counter()
    having: Counter[str] = Counter()
    for kind, count in zip(found.tolist(), counts.tolist(), strict=True):
        form = spelt[kind]
        for gram in {form[i : i + NGRAM] for i in range(len(form) - NGRAM + 1)} if len(form) > NGRAM else ():
            grams[gram] += count
            having[gram] += 1
    gram, count = _most_of_several(grams, having)
    if not count:
        return 0.0, ""
    return count / int(counts.sum()), _grown(gram, [form for kind in found.tolist() if gram in (form := spelt[kind])])


def _grown(gram: str, forms: Sequence[str]) -> str:
    """The longest run of letters around a gram that all have which have the gram, shorter than each that is longer.

    Examples
    --------
    >>> _grown("log", ["biology", "geologist", "logs"]), _grown("log", ["biology", "geologist", "zoology"])
    ('log', 'olog')
    """
    longer = [form for form in forms if len(form) > len(gram)]
    shortest = min(longer, key=lambda form: (len(form), form))
    runs = (
        shortest[start : start + length]
        for length in range(len(shortest) - 1, len(gram), -1)
        for start in range(len(shortest) - length + 1)
    )
    return next((run for run in runs if gram in run and all(run in form for form in longer)), gram)


def _casing(form: str) -> str:
    """How a word is written, where that says something: not of lower case, nor of scripts without cases.

    Examples
    --------
    >>> [_casing(form) for form in ("Oslo", "USA", "iPhone", "tree", "2020", "القط")]
    ['title', 'upper', 'mixed', '', 'digits', '']
    """
    if any(c.isdigit() for c in form):
        return "digits"
    if not any(c.isupper() for c in form):
        return ""
    if form.isupper():
        return "upper" if len(form) > 1 else "title"
    return "title" if form[0].isupper() and not any(c.isupper() for c in form[1:]) else "mixed"


RULES = {"conceptx": (0.9, 0), "large-scale-lca": (0.95, 5)}
"""Of each rule the least share of a concept's tokens (ConceptX: more than 90 %; Large-Scale LCA: at least 95 %), and
the types above which a concept counts."""


def score(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Concepts that have each property, by each rule.

    Parameters
    ----------
    part
        PROPERTIES_OF_PART dataset (layer, concept, property).

    Returns
    -------
    `concepts` and `considered` (layer, property, rule): property is that of the part, then `lexical`, any of the form,
    and, where there are tags, `tagged`, any of these.
    """
    names = part.property.values.tolist()
    share, types = part.share.values, part.types.values
    lexical = [names.index(name) for name in LEXICAL]
    tagged = [index for index, name in enumerate(names) if name not in LEXICAL]
    found, considered = [], []
    for name, (least, above) in RULES.items():
        held = share > least if name == "conceptx" else share >= least
        counted = types > above
        has = held & counted[..., None]
        groups = [has, has[..., lexical].any(-1, keepdims=True)]
        groups += [has[..., tagged].any(-1, keepdims=True)] if tagged else []
        found.append(np.concatenate(groups, -1).sum(1).astype(float))
        considered.append(np.broadcast_to(counted.sum(1, dtype=float)[:, None], found[-1].shape))
    return {"concepts": np.stack(found, -1), "considered": np.stack(considered, -1)}


def kinds_of_tags(names: Iterable[str]) -> list[str]:
    """Which of the properties of a PROPERTIES dataset are kinds of tags, in their order.

    Examples
    --------
    >>> kinds_of_tags(["suffix", "casing", "pos", "semantic", "lexical", "tagged"])
    ['pos', 'semantic']
    """
    return [name for name in names if name not in (*LEXICAL, "lexical", "tagged")]


def forms_shared(part: xr.Dataset) -> dict[int, str]:
    """Ending, beginning or letters that a concept's words share by ConceptX's rule, by concept: -ing, un- or -olog-.

    Parameters
    ----------
    part
        PROPERTIES_OF_PART dataset of one layer (concept, property).
    """
    least, _ = RULES["conceptx"]
    found: dict[int, str] = {}
    for name, form in (("ngram", "-{}-"), ("prefix", "{}-"), ("suffix", "-{}")):  # of several the last
        of = part.sel(property=name)
        labels = of.label.values.tolist()
        found |= {concept: form.format(labels[concept]) for concept in np.flatnonzero(of.share.values > least).tolist()}
    return found


def tabulate(parts: Sequence[tuple[Mapping[str, str], xr.Dataset]]) -> xr.Dataset:
    """Concepts with each property, along their labels.

    Parameters
    ----------
    parts
        Labels checkpoint, stack and selection, and the PROPERTIES_OF_PART dataset that they name.

    Returns
    -------
    PROPERTIES dataset; NaN where a property was not looked for.
    """
    names: dict[str, list[Any]] = {
        name: list(dict.fromkeys(labels[name] for labels, _ in parts)) for name in ("checkpoint", "stack", "selection")
    }
    layers = sorted({int(layer) for _, part in parts for layer in part.layer.values})
    known = list(dict.fromkeys(str(name) for _, part in parts for name in part.property.values))
    tagged = [name for name in known if name not in LEXICAL]
    of = [*LEXICAL, *tagged, "lexical", *(["tagged"] if tagged else [])]
    shape = *map(len, (names["checkpoint"], names["stack"], layers, names["selection"], of)), len(RULES)
    values = {name: np.full(shape, np.nan) for name in ("concepts", "considered")}
    for labels, part in parts:
        own = [str(name) for name in part.property.values]
        own += ["lexical", *(["tagged"] if len(own) > len(LEXICAL) else [])]
        i, j, m = (names[name].index(labels[name]) for name in ("checkpoint", "stack", "selection"))
        at = [layers.index(int(layer)) for layer in part.layer.values]
        columns = [of.index(name) for name in own]
        for name, found in score(part).items():
            for row, layer in enumerate(at):
                values[name][i, j, layer, m, columns] = found[row]
    coordinates = {name: np.asarray(found, object) for name, found in names.items()}
    coordinates |= {"property": np.asarray(of, object), "rule": np.asarray([*RULES], object)}
    return PROPERTIES.create({**coordinates, "layer": np.asarray(layers, np.int32), **values})
