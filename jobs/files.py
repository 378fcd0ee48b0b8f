"""Study and machine files: reading, resolving paths, freezing, telling two studies apart."""

import json
from pathlib import Path
from typing import Any

import yaml

from engine import paths, store
from engine.workers import launch
from jobs.layout import Layout
from jobs.outputs import check_place
from schemas.corpus import CORPUS
from schemas.downstream import Downstream
from schemas.errors import ColignError, InputError
from schemas.machine import Machine
from schemas.parse import parse
from schemas.study import Properties, Study


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping names every key once; of two, the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read_yaml(path: str) -> Any:
    text = paths.read_text(path)
    if text is None:
        raise InputError(f"{path}: no such file")
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise InputError(f"{path}: not valid YAML: {problem}") from error
    if values is None:
        raise InputError(f"{path}: expected a mapping of keys to values, found an empty file")
    return values


def _beside(path: str, study_file: str) -> str:
    """A path of a study file, made absolute: relative ones start at the file."""
    if "://" in path or Path(path).is_absolute():
        return path
    if "://" in study_file:
        return f"{study_file.rpartition('/')[0]}/{path.removeprefix('./')}"
    return str((Path(study_file).resolve().parent / path).resolve())


def load_study(path: str, out: str | None = None) -> tuple[Study, Layout]:
    """Read a study file, or the frozen one of a study directory.

    Parameters
    ----------
    path
        Study file, or study directory.
    out
        Study directory; default: the study file's name without suffix, beside it.

    Raises
    ------
    InputError
        The file is missing, is not YAML or is not valid (lists every problem); a file lies where the directory goes, or
        nothing stays there.
    """
    frozen = Layout(path.rstrip("/")).study
    if ("://" not in path and Path(path).is_dir()) or ("://" in path and paths.read_text(frozen) is not None):
        if paths.read_text(frozen) is None:
            raise InputError(f"{path}: not a study directory (no study.yaml); give a study file or a directory of one")
        if out and out.rstrip("/") != path.rstrip("/"):
            raise InputError(f"{path}: is a study directory already; --out {out} goes with a study file")
        return parse(Study, _read_yaml(frozen), frozen), Layout(_absolute(path))
    values = _read_yaml(path)
    study: Study = parse(Study, values, path)
    files = {language: _beside(file, path) for language, file in study.corpus.files.items()}
    checkpoints = {
        name: checkpoint.model_copy(
            update={"model": _beside(checkpoint.model, path) if checkpoint.model.startswith(".") else checkpoint.model}
        )
        for name, checkpoint in study.checkpoints.items()
    }
    links = {pair: _beside(file, path) for pair, file in study.links.files.items()}
    study = study.model_copy(
        update={
            "corpus": study.corpus.model_copy(update={"files": files}),
            "links": study.links.model_copy(update={"files": links}),
            "checkpoints": checkpoints,
            "properties": _tagged(study.properties, path),
            "downstream": {name: _placed(task, path) for name, task in study.downstream.items()},
        }
    )
    beside = path.rpartition(".")[0] if "://" in path else str(Path(path).resolve().with_suffix(""))
    root = _absolute(out) if out else beside
    if out:
        check_place(out)
    if "://" not in root and Path(root).is_file():
        raise InputError(f"{root}: a file, where the study directory would be; choose a directory with --out")
    if Layout(root).study == _absolute(path):
        raise InputError(
            f"{path}: lies where the study directory {root} keeps its frozen copy and would be overwritten; choose "
            "another directory with --out"
        )
    return study, Layout(root)


def load_task(path: str) -> Downstream:
    """Read a task file; relative paths in it start at the file.

    Raises
    ------
    InputError
        The file is missing, is not YAML or is not valid (lists every problem).
    """
    task: Downstream = parse(Downstream, _read_yaml(path), path)
    return _placed(task, path)


def _placed(task: Downstream, path: str) -> Downstream:
    """A task with absolute paths."""
    placed = {
        split: {part: tuple(_beside(file, path) for file in of) for part, of in parts.items()}
        for split, parts in task.splits.items()
    }
    known = {name: placed.pop(name) for name in ("train", "dev")}
    return task.model_copy(update={**known, "test": placed if {*placed} - {"test"} else placed.get("test", {})})


def _tagged(properties: Properties | None, path: str) -> Properties | None:
    """Properties with absolute paths."""
    if properties is None:
        return None
    tags = {kind: {lang: _beside(file, path) for lang, file in of.items()} for kind, of in properties.tags.items()}
    return properties.model_copy(update={"tags": tags})


def _absolute(path: str) -> str:
    """A path that means the same for every process, whatever its working directory."""
    return path.rstrip("/") if "://" in path else str(Path(path).resolve())


def load_machine(path: str | None) -> Machine:
    """Read a machine file; without one, the scheduler of Dask's configuration, or this computer in one process."""
    if path:
        machine: Machine = parse(Machine, _read_yaml(path), path)
        return machine
    return Machine(type="address" if launch.configured() else "serial")


def freeze(study: Study, layout: Layout) -> None:
    """Write the study into its directory."""
    paths.write_text(layout.study, yaml.safe_dump(json.loads(study.model_dump_json()), sort_keys=False))


def in_stored_order(study: Study, layout: Layout) -> Study:
    """The study with the languages of its directory first: indices of their tokens hold when others are added."""
    if known := _stored_languages(layout):
        order = sorted(study.corpus.files, key=[*known, *study.corpus.files].index)
        texts = {language: study.corpus.files[language] for language in order}
        return study.model_copy(update={"corpus": study.corpus.model_copy(update={"files": texts})})
    return study


def _stored_languages(layout: Layout) -> list[str]:
    """Languages of a study directory in their order: that of its corpus, or of the frozen study before there is one."""
    try:
        return [str(language) for language in store.load(layout.corpus, CORPUS).language.values]
    except ColignError:  # none yet, or damaged
        try:
            return [*_read_yaml(layout.study)["corpus"]["files"]]
        except (InputError, KeyError, TypeError):
            return []


def changes(study: Study, layout: Layout) -> list[str]:
    """Settings that differ from the frozen study, as «key: old → new»."""
    if paths.read_text(layout.study) is None:
        return []
    old = _flat(_read_yaml(layout.study))
    new = _flat(json.loads(study.model_dump_json()))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, 'not given')} → {new.get(key, 'not given')}" for key in keys]


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    return {k: v for key, value in values.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}


def json_schema() -> str:
    """JSON Schema of the study file, for completion in editors."""
    return json.dumps(Study.model_json_schema(), indent=2, ensure_ascii=False)
