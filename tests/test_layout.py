"""Paths of a study: below its directory, and each of one part alone, whatever names a study gives."""

import inspect
import posixpath
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine import paths
from engine.records import read_records, write_record
from jobs.layout import Layout
from jobs.selections import clustered_names, selections, target_groups
from schemas.errors import InputError
from schemas.parse import parse
from schemas.study import Study
from schemas.task import Key, Record
from tests.small_study import SmallStudy

_STARTS = ["a", "b", "A", "1", "a-b", "x" * 150]
_ENDINGS = [".zarr", ".json", ".fit", ".previous", ".partial", ".PARTIAL"]
NAMES = st.builds(
    lambda start, rest: start + "".join(rest),
    st.sampled_from(_STARTS),
    st.lists(st.sampled_from([*_STARTS, "-", ".", "_", "..", *_ENDINGS]), max_size=2),
).filter(lambda name: not name.lower().endswith(tuple(_ENDINGS)))


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """A study that validates, with names that look like one another and like what is added to them."""
    models = draw(st.lists(NAMES, min_size=1, max_size=2, unique_by=str.lower))
    languages = draw(st.lists(NAMES, min_size=2, max_size=4, unique_by=str.lower))
    groups = st.lists(st.lists(st.sampled_from(languages), min_size=2, max_size=4, unique=True), min_size=1, max_size=3)
    pairs = [group[:2] for group in draw(groups)]
    try:
        return Study.model_validate(
            {
                "corpus": {"files": dict.fromkeys(languages, "text")},
                "checkpoints": {name: {"model": "m"} for name in models},
                "pairs": list({frozenset(pair): pair for pair in pairs}.values()),
                "language_sets": list({frozenset(group): group for group in draw(groups)}.values()),
                "activations": {"stacks": draw(st.sampled_from([["encoder"], ["encoder", "decoder"]]))},
                "concepts": {"k": [2, 3]},
                "selection": {"counted_by": draw(st.sampled_from(["type", "linked_pair"]))},
            }
        )
    except ValidationError:
        assume(False)
        raise


def places(study: Study, layout: Layout) -> dict[tuple[str, ...], str]:
    """Every path of a study but that of folders, by what lies there."""
    parts: dict[str, list[Any]] = {name: [()] for name in _SINGLE}
    names = {*study.corpus.files, *(name for lang in study.corpus.files for name in clustered_names(study, lang))}
    stacks = list(product(study.checkpoints, study.activations.stacks))
    between = list(product(study.checkpoints, study.alignment_stacks))
    sets = ["+".join(group) for group in study.language_sets]
    parts["selection"] = [(name,) for name in names]
    parts["links"], parts["dictionary"] = [*study.pairs], [*study.directions]
    for name in ("activations", "previous_activations"):
        parts[name] = [(*stack, language) for stack in stacks for language in study.corpus.files]
    for name in ("concepts", "checkpoints"):
        parts[name] = [(*stack, selection) for stack in stacks for selection in selections(study)]
    parts["aligned_types"] = [(*one, k, *of) for one in between for k in (2, 3) for of in study.directions]
    parts["mixed_aligned_types"] = [(*one, k, *of) for one in stacks for k in (2, 3) for of in study.mixed_directions]
    parts["language_count"] = [(*one, k, of) for one in stacks for k in (2, 3) for of in sets]
    parts["uncertainty"] = [(*one, s, "+".join(t)) for one in between for s, t in target_groups(study)]
    parts["uncertainty"] += [(*one, of) for one in stacks for of in sets]
    parts["model"] = [(name,) for name in study.checkpoints]
    alone = [name for name, languages in selections(study).items() if len(languages) == 1]
    parts["properties"] = [(*one, name) for one in stacks for name in alone]
    parts["figure"] = [("calign.png",)]
    known = {name for name in vars(Layout) if not name.startswith("_")}
    assert known == {*parts, "records", "journal", "folders"}
    found = {}
    for name, of in parts.items():
        for part in of:
            at = getattr(layout, name)
            found[name, *map(str, part)] = at(*part) if inspect.ismethod(at) else at
    for name in {*parts} - {"study", "lease", "results", "figure"}:
        for part in parts[name]:
            key = Key(name, tuple(map(str, part)), 0, 9)
            found["record", name, *key.part] = paths.join(layout.records, f"{key}.json")
    return found


_SINGLE = ("study", "lease", "corpus", "results", "ledger", "labels", "answers")
"""Paths that a study has one of."""


@given(studies(), st.sampled_from(["/disk/a study", "s3://bucket/study", "study.partial"]))
def test_layout__every_path_is_below_the_root_and_of_one_part(study: Study, root: str) -> None:
    found = places(study, Layout(root))
    below = {part: path.removeprefix(f"{root}/") for part, path in found.items()}
    for part, path in below.items():
        assert found[part] == f"{root}/{path}"
        assert posixpath.normpath(path) == path
        assert not path.startswith(("/", ".."))
        assert "\0" not in path
        assert not [name for name in path.split("/") if len(name.encode()) > 240 or name.lower().endswith(".partial")]
    of = {path.lower(): part for part, path in below.items()}
    assert len(of) == len(below)
    for path in of:
        assert not {*of} & {str(folder) for folder in Path(path).parents}  # nothing lies in a dataset but its own


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "/etc", "a/b", "../a", "a\0", "a\n", "a+b", "a@b", ".a", "-a", "a b", "é", "a\\b", "a.partial",
     "a.Zarr", "a.json", "b.previous", "a.fit", "~", "$HOME", "a:b", "a*"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["corpus.files", "checkpoints"])
def test_study__names_that_might_leave_the_directory_are_refused(tmp_path: Path, name: str, key: str) -> None:
    study = SmallStudy(tmp_path, "model")
    section, _, last = key.partition(".")
    (study.values[section][last] if last else study.values[section])[name] = "x.txt" if last else {"model": "m"}
    with pytest.raises(InputError, match=r"a name begins with a letter or digit|which is added to names in paths"):
        parse(Study, study.values, "study.yaml")


def test_study__names_that_some_file_systems_take_for_one(tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, "model")
    study.set("checkpoints", {"Base": {"model": "a"}, "base": {"model": "b"}})
    with pytest.raises(InputError, match="'Base' and 'base' are one name to some file systems; choose another"):
        parse(Study, study.values, "study.yaml")


def test_records__of_a_hundred_languages(tmp_path: Path) -> None:
    key = Key("uncertainty", ("base", "encoder", "en", "+".join(f"l{i:03}" for i in range(100))))
    record = Record(str(key), "f", "host", 1.5, 2.5, 3, {})
    write_record(str(tmp_path), record)
    assert read_records(str(tmp_path)) == {str(key): record}


def test_links__are_followed_and_never_removed_beyond(tmp_path: Path) -> None:
    disk, study = tmp_path / "disk", tmp_path / "study"
    (disk / "deep").mkdir(parents=True)
    (disk / "deep" / "x.partial").touch()
    study.mkdir()
    (study / "activations").symlink_to(disk)
    paths.write_text(f"{study}/activations/a.txt", "stored")
    assert (disk / "a.txt").read_text() == "stored"
    (study / "concepts").mkdir()
    for name in ("link", "link.partial"):
        (study / "concepts" / name).symlink_to(disk)
    assert paths.sweep_partial_files(f"{study}/concepts") == 1  # the link of that name
    paths.remove(f"{study}/concepts/link")
    assert list((study / "concepts").iterdir()) == []
    assert sorted(path.name for path in disk.rglob("*")) == ["a.txt", "deep", "x.partial"]
