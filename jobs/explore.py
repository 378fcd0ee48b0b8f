"""The explorer: a page beside a report that opens from disk, with the data of a study in packs that it loads."""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from itertools import product
from typing import Any

import numpy as np
import vl_convert
import xarray as xr
from numpy.typing import NDArray

from engine import paths, store
from engine.aligned import NEVER, ranks, spelled
from engine.concepts import chosen_concepts, chosen_runs
from engine.flat import flat
from engine.kernels.fractions import at_least
from engine.lexicon import distinct, fold
from engine.text import some_sentences
from jobs import label_files
from jobs.layout import Layout
from jobs.selections import concepts_name, languages_of, selections, target_groups
from schemas.concepts import CONCEPTS
from schemas.corpus import CORPUS
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.links import DICTIONARY
from schemas.metrics import Metrics
from schemas.results import PROPERTIES_OF_PART
from schemas.study import Study

FLOOR = 0.3
"""Least θ_A that the page can be asked for: pairs of concepts below it are not in its data, which keeps them small."""

SENTENCES_OF_CHUNK = 500
SENTENCES_KEPT = 20_000
"""Sentences of each language from which examples are taken: of more, the first."""

_PAGE = "index.html", "explorer.css"
_VEGA = "vega.js"

_Layers = dict[str, dict[str, list[int]]]
"""Layers by checkpoint and stack."""

Pack = tuple[tuple[str, ...], dict[str, Any]]
"""Path of a pack, and its arrays and other values by name."""


def write_explorer(study: Study, layout: Layout, tree: xr.DataTree, folder: str) -> Iterator[str]:
    """Write the page and its data, pack by pack; yields the path of each file.

    Parameters
    ----------
    tree
        Results of the study.
    folder
        Where index.html goes; files there are replaced.
    """
    paths.remove(paths.join(folder, "data"))  # nothing of another report stays, and half of this one is no page
    own = resources.files("jobs.explorer")
    for name in sorted(one.name for one in own.iterdir() if one.name.endswith(".js") or one.name in _PAGE):
        paths.write_text(path := paths.join(folder, name), own.joinpath(name).read_text(encoding="utf-8"))
        yield path
    yield _write_vega(folder)
    for place, values in _packs(study, layout, tree):
        content = base64.b64encode(packed(values)).decode()
        path = paths.join(folder, "data", *place[:-1], f"{place[-1]}.js")
        paths.write_text(path, f"colign.receive({json.dumps('/'.join(place))}, {json.dumps(content)});\n")
        yield path


def _write_vega(folder: str) -> str:
    """Vega, Vega-Lite and Vega-Embed in one script; a whole one stays."""
    version = f"// Vega {vl_convert.get_vega_version()}, vl-convert {metadata.version('vl-convert-python')}\n"
    path = paths.join(folder, _VEGA)
    if not (paths.read_text(path) or "").startswith(version):
        # within a function, so that its hundreds of names are not those of the page
        paths.write_text(path, f"{version}(() => {{\n{_bundle()}\n}})();\n")
    return path


@cache  # for a process that writes several reports: it takes seconds
def _bundle() -> str:
    return str(vl_convert.javascript_bundle())  # type: ignore[call-arg]  # its stub misses a default


def packed(values: Mapping[str, Any]) -> bytes:
    """Arrays and other values as gzip of: length of a header (uint32), the header (JSON), the arrays at multiples of 8.

    The same values give the same bytes. All numbers are little-endian.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in values.items() if isinstance(value, np.ndarray)}
    others = {name: value for name, value in values.items() if name not in arrays}
    described: dict[str, Any] = {
        name: {"dtype": array.dtype.name, "size": array.size, "offset": 10**12} for name, array in arrays.items()
    }
    start = 4 + len(json.dumps({"values": others, "arrays": described}).encode())
    for name, array in arrays.items():
        start += -start % 8
        described[name]["offset"] = start
        start += array.nbytes
    header = json.dumps({"values": others, "arrays": described}).encode()
    content = bytearray(len(header).to_bytes(4, "little") + header)
    for name, array in arrays.items():
        content += bytes(described[name]["offset"] - len(content))
        content += array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return gzip.compress(bytes(content), mtime=0)


def _smallest(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The same counts in as few bytes as hold them."""
    most = int(values.max(initial=0))
    return values.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32)


def _packs(study: Study, layout: Layout, tree: xr.DataTree) -> Iterator[Pack]:
    layers: _Layers = {}
    k = study.concepts.ks[0]
    corpus = store.load(layout.corpus, CORPUS)
    numbers = {name: str(number) for number, name in enumerate(selections(study))}
    words = {name: _words(study, layout, name) for name in numbers}
    for name, found in words.items():
        yield ("words", numbers[name]), found
    for language in corpus.language.values.tolist():
        yield from _text(corpus, str(language))
    for source, target in study.directions:
        forms = [words[concepts_name(study, *both)]["forms"] for both in ((source, target), (target, source))]
        yield ("dictionary", f"{source}-{target}"), _dictionary(study, layout, source, target, *forms)
    labels = label_files.read(layout)
    for checkpoint, stack, name in product(study.checkpoints, study.activations.stacks, selections(study)):
        for layer, values in _concepts(study, layout, checkpoint, stack, name):
            of_stack = layers.setdefault(checkpoint, {}).setdefault(stack, [])
            of_stack += [] if layer in of_stack else [layer]
            called = label_files.called(labels, checkpoint, stack, name, layer)
            yield ("concepts", checkpoint, stack, numbers[name], str(layer)), values | {"labels": called}
    for checkpoint, both, (source, target) in product(study.checkpoints, study.alignment_stacks, study.directions):
        counts = store.load(layout.aligned_types(checkpoint, both, k, source, target), ALIGNED_TYPES)
        yield ("calign", checkpoint, both, f"{source}-{target}"), pairs(counts, _floor(study))
    for checkpoint, stack, group in product(study.checkpoints, study.activations.stacks, study.language_sets):
        name = "+".join(group)
        yield (
            ("colap", checkpoint, stack, numbers[name]),
            mixed(store.load(layout.language_count(checkpoint, stack, k, name), LANGUAGE_COUNT)),
        )
    yield ("study",), _summary(study, layout, tree, layers)


def _floor(study: Study) -> float:
    return min(FLOOR, study.metrics.theta_align)


def pairs(counts: xr.Dataset, floor: float) -> dict[str, Any]:
    """Pairs of concepts that may be aligned at a θ_A of `floor` or more, with their counts for every N-best.

    Parameters
    ----------
    counts
        ALIGNED_TYPES dataset; a layer of it is in memory at a time.

    Returns
    -------
    `start` (layer + 1) bounds of the pairs of each layer; `source`, `target` (pair); `units` (pair, n) source units
    with one of the n + 1 best translations in the target; sizes and types (layer, concept) of both sides.
    """
    starts, kept = [0], []
    for at in range(counts.sizes["layer"]):
        with store.undamaged(counts.encoding.get("source", "counts")):
            layer = counts.isel(layer=at).compute()
        units = layer.aligned_types.transpose("rank", "source_concept", "target_concept").values
        held = layer.source_types.values[:, None] > 0
        reached = units.sum(axis=0, dtype=np.int32)
        one, other = np.nonzero(at_least(reached, floor, layer.source_size.values[:, None]) & held)
        kept.append((one, other, units[:, one, other].cumsum(axis=0, dtype=np.int32).T))
        starts.append(starts[-1] + len(one))
    source, target, of_pair = (np.concatenate(part) for part in zip(*kept, strict=True))
    sizes = {
        name: _smallest(counts[name].values.ravel())
        for name in ("source_size", "target_size", "source_types", "target_types")
    }
    return {
        "layers": counts.layer.values.tolist(),
        "ranks": counts.sizes["rank"],
        "k": counts.sizes["source_concept"],
        "start": np.asarray(starts, np.uint32),
        "source": _smallest(source),
        "target": _smallest(target),
        "units": _smallest(of_pair.ravel()),
        **sizes,
    }


def mixed(counts: xr.Dataset) -> dict[str, Any]:
    """Tokens and types of each language in each concept, (layer, concept, language) each."""
    values = counts.language_count.transpose("layer", "concept", "language", "unit").compute()
    units = {str(unit): _smallest(values.sel(unit=unit).values.ravel()) for unit in values.unit.values}
    return {
        "layers": counts.layer.values.tolist(),
        "languages": [str(name) for name in counts.language.values],
        "k": counts.sizes["concept"],
        **units,
    }


def _words(study: Study, layout: Layout, name: str) -> dict[str, Any]:
    """Words of a selection, and of each occurrence its word, sentence and position: the same in every checkpoint."""
    path = layout.concepts(next(iter(study.checkpoints)), study.activations.stacks[0], name)
    concepts = store.load(path, CONCEPTS)
    with store.undamaged(path):
        order = np.array([languages_of(name).index(str(one)) for one in np.atleast_1d(concepts.attrs["languages"])])
        table, numbers = distinct(concepts.word.values, order[concepts.language.values])
        found = {
            "word": _smallest(numbers),
            "sentence": _smallest(concepts.sentence.values),
            "position": _smallest(concepts.position.values),
        }
    return found | {"forms": [form for _, form in table], "form_language": [language for language, _ in table]}


def _text(corpus: xr.Dataset, language: str) -> Iterator[Pack]:
    """The sentences of a language, as lists of words."""
    whole = min(int(corpus.sentences.sel(language=language)), SENTENCES_KEPT)
    for start in range(0, whole, SENTENCES_OF_CHUNK):
        numbers = np.arange(start, min(start + SENTENCES_OF_CHUNK, whole))
        chunk = str(start // SENTENCES_OF_CHUNK)
        yield ("text", language, chunk), {"sentences": some_sentences(corpus, language, numbers)}


def _dictionary(
    study: Study, layout: Layout, source: str, target: str, source_words: list[str], target_words: list[str]
) -> dict[str, Any]:
    """Translations between words of two selections: `of_source` (word) is its form in the dictionary, -1 for none."""
    dictionary = store.read(layout.dictionary(source, target), DICTIONARY)
    rules = study.metrics.translations
    words = rules.pop("words")
    rank = ranks(dictionary, **rules)
    kept = rank < min(study.metrics.n_ranks, NEVER)
    places = {}
    for side, own in (("source", source_words), ("target", target_words)):
        forms = {form: i for i, form in enumerate(dictionary[f"{side}_form"].values.tolist())}
        folded = fold(spelled(np.array(own, object), words), dictionary.attrs["fold"]).tolist()
        places[side] = np.array([forms.get(form, -1) for form in folded], np.int32)
        kept &= np.isin(dictionary[f"{side}_type"].values, places[side])
    found: dict[str, Any] = {"rank": _smallest(rank[kept])}
    for side, place in places.items():
        used, number = np.unique(dictionary[f"{side}_type"].values[kept], return_inverse=True)
        renamed = np.full(dictionary.sizes[side] + 1, -1, np.int32)  # the last is that of -1
        renamed[used] = np.arange(len(used))
        found[side] = _smallest(number)
        found[f"of_{side}"] = renamed[place]
        found[f"{side}_form"] = dictionary[f"{side}_form"].values[used].tolist()
    return found


def _concepts(
    study: Study, layout: Layout, checkpoint: str, stack: str, name: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of each layer the concept of every occurrence (k: none), its place on the map, and what its words share."""
    path = layout.concepts(checkpoint, stack, name)
    concepts = store.load(path, CONCEPTS)
    k = study.concepts.ks[0]
    properties = None
    if study.properties is not None and len(languages_of(name)) == 1:
        properties = store.read(layout.properties(checkpoint, stack, name), PROPERTIES_OF_PART)
    with store.undamaged(path):
        labels = chosen_concepts(concepts, k)
        runs = chosen_runs(concepts, k)
        for at, layer in enumerate(concepts.layer.values.tolist()):
            centroids = concepts.centroid[int(runs[at]), at].values[:k]
            found = {
                "k": k,
                "concept": _smallest(np.where(labels[at] < 0, k, labels[at])),
                "map": flat(centroids, study.concepts.seed),
                "properties": [],
                "share": np.empty(0, np.float32),
                "shared": [],
            }
            if properties is not None:
                part = properties.sel(layer=layer)
                found["properties"] = [str(one) for one in part.property.values]
                found["share"] = part.share.transpose("concept", "property").values.astype(np.float32)
                found["shared"] = part.label.transpose("concept", "property").values.tolist()
            yield int(layer), found


@dataclass(frozen=True)
class _Curve:
    """Scores by layer of one checkpoint, stack and group of languages."""

    labels: dict[str, Any]
    where: dict[str, str]
    languages: tuple[str, ...]


def _curves(study: Study, tree: xr.DataTree, measure: str, curves: list[_Curve]) -> list[dict[str, Any]]:
    """Scores of the study's own thresholds, with intervals and what the null reaches where they were drawn."""
    scores = tree[measure].to_dataset()
    drawn = tree[f"uncertainty/{measure}"].to_dataset() if "uncertainty" in tree else None
    null = "null_types_high" if measure == "calign" else "null_languages_high"
    found = []
    for curve in curves:
        of = scores.sel(curve.where).sortby("layer")
        of = of.isel(layer=np.flatnonzero(of[measure].notnull().values))
        values: dict[str, Any] = {name: _numbers(of[name]) for name in sorted(map(str, of.data_vars))}
        values |= {"low": None, "high": None, "null": None}
        if drawn is not None:
            band = drawn.sel(curve.where).sel(layer=of.layer)
            values |= {"low": _numbers(band.low), "high": _numbers(band.high), "null": _numbers(band[null])}
        state = study.fine_tuning(curve.where["checkpoint"], *curve.languages)
        layers = [int(layer) for layer in of.layer.values]
        found.append(curve.where | curve.labels | {"state": state, "layers": layers} | values)
    return found


def _numbers(values: xr.DataArray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values.values]


def _summary(study: Study, layout: Layout, tree: xr.DataTree, layers: _Layers) -> dict[str, Any]:
    """What the first view needs: names, definitions, and every curve of the study's own thresholds."""
    calign = [
        _Curve(
            {"targets": list(targets), "group": f"{source} → {' or '.join(targets)}"},
            {"checkpoint": checkpoint, "stack": stack, "source": source, "target": "+".join(targets)},
            (source, *targets),
        )
        for checkpoint, stack, (source, targets) in product(
            study.checkpoints, study.alignment_stacks, target_groups(study)
        )
    ]
    colap = [
        _Curve(
            {"group": "+".join(group)},
            {"checkpoint": checkpoint, "stack": stack, "language_set": "+".join(group)},
            group,
        )
        for checkpoint, stack, group in product(study.checkpoints, study.activations.stacks, study.language_sets)
    ]
    return {
        "name": layout.root.rstrip("/").rpartition("/")[2],
        "checkpoints": [
            {"name": name, "tuned_on": list(one.tuned_on), "untrained": one.untrained}
            for name, one in study.checkpoints.items()
        ],
        "stacks": list(study.activations.stacks),
        "alignment_stacks": list(study.alignment_stacks),
        "layers": layers,
        "selections": {name: list(languages) for name, languages in selections(study).items()},
        "directions": study.directions,
        "concepts_of": {f"{one}→{other}": concepts_name(study, one, other) for one, other in study.directions},
        "ranks": study.metrics.n_ranks,
        "floor": _floor(study),
        "metrics": study.metrics.model_dump(),
        "presets": {name: Metrics.model_validate({"preset": name}).model_dump() for name in ("paper", "reference")},
        "counted": f"by {study.metrics.translations_by}, {study.metrics.align_unit}s",
        "sentences_of_chunk": SENTENCES_OF_CHUNK,
        "sentences_kept": SENTENCES_KEPT,
        "curves": {
            "calign": _curves(study, tree, "calign", calign),
            "colap": _curves(study, tree, "colap", colap),
        },
    }
