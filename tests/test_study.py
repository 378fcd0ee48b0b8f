"""The study file: defaults, messages, hashes."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.errors import InputError
from schemas.machine import Machine
from schemas.metrics import Metrics
from schemas.parse import parse
from schemas.study import Activations, Concepts, Study, digest

SMALL: dict[str, Any] = {
    "corpus": {"files": {"de": "de.txt", "fr": "fr.txt", "en": "en.txt"}},
    "checkpoints": {"base": {"model": "m"}, "tuned": {"model": "n", "tuned_on": ["de", "en"]}},
}


def changed(**settings: Any) -> dict[str, Any]:
    """The small study with some settings, by dotted key with __ for the dot; None takes a key away."""
    values = copy.deepcopy(SMALL)
    for key, value in settings.items():
        *sections, name = key.split("__")
        at = values
        for section in sections:
            at = at.setdefault(section, {})
        if value is None:
            del at[name]
        else:
            at[name] = value
    return values


def message(values: Any) -> str:
    """The error of a bad study."""
    with pytest.raises(InputError) as raised:
        parse(Study, values, "study.yaml")
    return str(raised.value)


def test_parse__defaults_are_those_of_the_paper() -> None:
    study = parse(Study, SMALL, "study.yaml")
    assert study.pairs == (("de", "en"), ("fr", "en"))
    assert study.language_sets == study.pairs
    metrics = study.metrics
    assert (metrics.n_best, metrics.theta_align, metrics.min_types) == (10, 0.8, 5)
    assert (metrics.max_size_gap, metrics.theta_overlap, study.concepts.k) == (0.4, 0.3, 600)


def test_parse__pairs_given() -> None:
    study = parse(Study, changed(pairs=[["fr", "de"]], pivot="nl"), "study.yaml")
    assert study.pairs == (("fr", "de"),)
    assert study.language_sets == (("fr", "de"),)


def test_parse__another_pivot_and_language_sets() -> None:
    study = parse(Study, changed(pivot="fr", language_sets=[["de", "fr", "en"]]), "study.yaml")
    assert study.pairs == (("de", "fr"), ("en", "fr"))
    assert study.language_sets == (("de", "fr", "en"),)


def test_decoder_source__the_other_language_of_the_first_pair() -> None:
    study = parse(Study, SMALL, "study.yaml")
    assert {lang: study.decoder_source(lang) for lang in ("de", "fr", "en")} == {"de": "en", "fr": "en", "en": "de"}
    study = parse(Study, changed(activations__decoder_source={"en": "fr"}), "study.yaml")
    assert study.decoder_source("en") == "fr"
    assert study.decoder_source("de") == "en"


def test_decoder_source__a_language_of_no_pair_must_be_given_one() -> None:
    values = changed(pairs=[["de", "en"]], language_sets=[["de", "fr"]], activations={"stacks": ["decoder"]})
    study = parse(Study, values, "study.yaml")  # a decoder alone needs no source
    with pytest.raises(InputError, match=r"'fr' is in no pair, .*name a language in activations.decoder_source"):
        study.decoder_source("fr")


def test_fine_tuning__as_seen_from_languages() -> None:
    study = parse(Study, SMALL, "study.yaml")
    assert study.fine_tuning("base", "de", "en") == "base"
    assert study.fine_tuning("tuned", "en", "de") == "fine-tuned"
    assert study.fine_tuning("tuned", "fr", "en") == "zero-shot"


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"chekpoints": {}}, ["chekpoints: unknown key; did you mean 'checkpoints'?"]),
        ({"corpus__filse": {}}, ["corpus.filse: unknown key; did you mean 'files'?"]),
        ({"concepts__restart": 2}, ["concepts.restart: unknown key; did you mean 'restarts'?"]),
        ({"metrics__theta_aling": 0.9}, ["metrics.theta_aling: unknown key; did you mean 'theta_align'?"]),
        ({"checkpoints__base__modle": "x"}, ["checkpoints.base.modle: unknown key; did you mean 'model'?"]),
        ({"checkpoints__tuned__tunedon": []}, ["checkpoints.tuned.tunedon: unknown key; did you mean 'tuned_on'?"]),
        ({"links__xyz": 1}, ["links.xyz: unknown key; known keys: aligner, files, iterations, seed, symmetrise"]),
        ({"checkpoints__base__model": None}, ["checkpoints.base.model: required, but not given"]),
        ({"checkpoints": None}, ["checkpoints: required, but not given"]),
        ({"concepts__k": 1}, ["concepts.k: ", "greater than or equal to 2 (found 1)"]),
        ({"concepts__k": "many"}, ["concepts.k: ", "(found 'many')"]),
        ({"metrics__theta_align": 80}, ["metrics.theta_align: ", "less than or equal to 1 (found 80)"]),
        ({"activations__stacks": []}, ["activations.stacks: "]),
        ({"activations__pooling": "median"}, ["activations.pooling: ", "'last', 'first' or 'mean' (found 'median')"]),
        ({"activations__shard_tokens": 100, "activations__chunk_tokens": 64}, ["shard_tokens 100 is not a multiple"]),
        ({"corpus__files": {"de": "x"}}, ["corpus.files: "]),
        ({"pivot": "nl"}, ["pivot 'nl' is not a language of the corpus ['de', 'fr', 'en']; give pivot or pairs"]),
        ({"pairs": [["de", "nl"]]}, ["pairs names ['nl'], but the corpus has ['de', 'fr', 'en']"]),
        ({"language_sets": [["de"]]}, ["language_sets: ['de'] must name at least two different languages"]),
        ({"pairs": [["de", "de"]]}, ["pairs: ['de', 'de'] must name at least two different languages"]),
        ({"pairs": [["de", "en"], ["en", "de"]]}, ["pairs: the same languages are given twice"]),
        ({"checkpoints__tuned__tuned_on": ["it"]}, ["checkpoints.tuned.tuned_on names ['it']"]),
        ({"activations__decoder_source": {"de": "it"}}, ["activations.decoder_source names ['it']"]),
        ({"activations__layers": [-1]}, ["activations.layers"]),
        ({"corpus": "de.txt"}, ["corpus: ", "(found 'de.txt')"]),
        ({"checkpoints": {"a/b": {"model": "m"}}}, ["checkpoints.a/b"]),
    ],
)
def test_parse__bad_settings_name_key_and_remedy(settings: dict[str, Any], lines: list[str]) -> None:
    found = message(changed(**settings))
    assert found.startswith("study.yaml: ")
    for line in lines:
        assert line in found


def test_parse__all_problems_at_once() -> None:
    found = message(changed(concepts__k=0, links__alinger="hmm", checkpoints__base__modle="x", metrics__n_best=0))
    assert found.splitlines()[0] == "study.yaml: 4 problem(s)"
    assert len(found.splitlines()) == 5


def test_parse__a_seed_that_no_library_takes() -> None:
    assert "concepts.seed" in message(changed(concepts__seed=2**32))


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_parse__not_a_mapping(values: Any) -> None:
    assert message(values).startswith("study.yaml: expected a mapping of keys to values, found ")


FIELDS = [
    (section, name)
    for section, model in Study.model_fields.items()
    if isinstance(model.annotation, type) and issubclass(model.annotation, BaseModel)
    for name in model.annotation.model_fields
]


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_parse__a_dropped_letter_is_recognised_in_every_section(section: str, name: str) -> None:
    if len(name) < 4:
        return
    typo = name[:-2] + name[-1]
    found = message(changed(**{f"{section}__{typo}": 1}))
    assert re.search(rf"{section}\.{typo}: unknown key; did you mean '\w+'\?", found)


def test_digest__changes_with_any_setting_and_with_nothing_else() -> None:
    assert digest(Concepts()) == digest(Concepts(k=600))
    assert len({digest(Concepts()), digest(Concepts(k=601)), digest(Concepts(seed=1)), digest(Concepts(), 1)}) == 4
    assert re.fullmatch(r"[0-9a-f]{16}", digest(Metrics(), {"a": [1]}))


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6))
def test_digest__does_not_depend_on_the_order_of_keys(values: dict[str, Any]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))


@given(
    st.builds(Concepts, k=st.integers(2, 999), tolerance=st.floats(0, 1), seed=st.integers(0, 2**31 - 1)),
    st.builds(Metrics, theta_align=st.floats(0, 1), overlap_unit=st.sampled_from(["token", "type"])),
    st.builds(Activations, layers=st.just("all") | st.lists(st.integers(0, 30), min_size=1, max_size=4).map(tuple)),
)
def test_parse__round_trip_through_json(concepts: Concepts, metrics: Metrics, activations: Activations) -> None:
    values = changed(pairs=[["fr", "de"]])
    study = parse(Study, values | {"concepts": concepts, "metrics": metrics, "activations": activations}, "x")
    again = parse(Study, json.loads(study.model_dump_json()), "x")
    assert again == study
    assert digest(again) == digest(study)


@pytest.mark.parametrize("model", [Study, Machine])
def test_json_schema__explains_every_field(model: type[BaseModel], tmp_path: Path) -> None:
    schema = model.model_json_schema()
    json.dumps(schema)
    for section in (schema, *schema.get("$defs", {}).values()):
        for name, field in section["properties"].items():
            assert field.get("description") or "$ref" in field, name


def test_sections__are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Concepts().k = 3  # type: ignore[misc]


@given(st.data())
def test_mixed_directions__are_those_of_the_pairs_within_each_set(data: st.DataObject) -> None:
    languages = ["de", "en", "es", "fr", "it"]
    some = st.lists(st.sampled_from(languages), min_size=2, max_size=4, unique=True).map(tuple)
    groups = {"max_size": 6, "unique_by": frozenset}
    pairs = data.draw(st.lists(some.map(lambda group: group[:2]), min_size=1, **groups))
    sets = data.draw(st.lists(some, min_size=1, **groups))
    corpus = {"files": {language: f"{language}.txt" for language in languages}}
    study = parse(Study, changed(corpus=corpus, pairs=pairs, language_sets=sets), "study.yaml")
    assert study.mixed_directions == tuple(
        ("+".join(group), *direction) for group in sets for direction in study.directions if {*direction} <= {*group}
    )
