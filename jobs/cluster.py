"""The commands `colign cluster` and `colign assign`: concepts of stores of vectors, without a study."""

import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from engine import concepts, paths, store
from engine.assign import assign
from engine.concepts import Clustering
from engine.exchange.stream import kind
from engine.records import read_records
from engine.seeding import drawing
from engine.side_by_side import Pending, cluster_all
from engine.workers.create import create
from jobs import clustering, files, tasks
from jobs.arguments import Json, MachineFile
from jobs.describe import describe_concepts
from jobs.extract import ALL, TEXT, extract_into, study_of
from jobs.outputs import check_dataset, check_place
from jobs.plan import clustering_table, size
from jobs.progress import out, print_json, progress, stoppable
from jobs.run import Event
from schemas.activations import ACTIVATIONS
from schemas.concepts import ASSIGNMENTS, CONCEPTS
from schemas.errors import BudgetError, InputError
from schemas.machine import Machine
from schemas.parse import parse
from schemas.study import Concepts, digest
from schemas.task import Key

_NONE = Concepts()
_GLANCE = 64
"""Vectors of each layer that are looked at."""


def cluster_vectors(
    activations: Annotated[
        list[str], typer.Argument(metavar="ACT.zarr...", help="Stores of word vectors; several are clustered together.")
    ],
    path: Annotated[str, typer.Option("--out", "-o", metavar="CONCEPTS.zarr", help="Store of concepts to write.")],
    k: Annotated[list[int] | None, typer.Option(min=2, help="Number of concepts; may be given again (600).")] = None,
    restarts: Annotated[int | None, typer.Option(min=1, help="Seedings; the best is chosen (1).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first restart.")] = _NONE.seed,
    layer: Annotated[list[int] | None, typer.Option(help="Layer; may be given again (default: all).")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language of each store, in order (default: as the stores say).")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="First centroids: a .npy (concept, hidden) of numbers, for every run and layer.")
    ] = None,
    seeding: Annotated[
        Literal["auto", "k-means++", "k-means||"], typer.Option(help="How first centroids are drawn.")
    ] = _NONE.seeding,
    method: Annotated[Literal["kmeans", "ward"], typer.Option(help="ward: agglomerative, small stores.")] = "kmeans",
    preset: Annotated[
        Literal["colign", "reference"], typer.Option(help="reference: as the published scripts.")
    ] = "colign",
    max_iterations: Annotated[int, typer.Option(min=1, help="Iterations at most.")] = _NONE.max_iterations,
    tolerance: Annotated[float, typer.Option(min=0, help="Shift at which to stop.")] = _NONE.tolerance,
    memory: Annotated[
        float | None, typer.Option(min=0.001, help="GiB that a worker may use (default: the machine file's).")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and do nothing.")] = False,
    machine: MachineFile = None,
    as_json: Json = False,
) -> None:
    """Cluster the vectors of each layer; run again it goes on after the last iteration."""
    path = path.rstrip("/")
    stores = [_opened(one) for one in activations]
    ks = tuple(dict.fromkeys(k or _NONE.ks))
    values: dict[str, Any] = {
        "k": max(ks), "seed": seed, "seeding": seeding, "method": method, "preset": preset,
        "max_iterations": max_iterations, "tolerance": tolerance,
    }  # fmt: skip
    settings = parse(Concepts, values | ({"restarts": restarts} if restarts else {}), "options")
    limits = files.load_machine(machine)
    if memory is not None:
        limits = limits.model_copy(update={"memory": memory})
    layers = _layers(activations, stores, layer)
    start = None if init is None else _given(init, stores[0].sizes["hidden"], ks)
    if start is not None and method == "ward":
        raise InputError(f"--init {init}: Ward's clustering begins with single vectors; leave out --init")
    if start is not None and settings.restarts > 1:
        raise InputError(f"--init {init}: all {settings.restarts} restarts would be the same; give --restarts 1")
    task = Clustering(
        path,
        tuple(activations),
        tuple(language or map(_language, stores, activations)),
        tuple(int(n) for n in np.cumsum([one.sizes["token"] for one in stores])),
        stores[0].sizes["hidden"],
        max(one.activation.dtype.itemsize for one in stores),
        tuple(layers),
        (Path(path).stem,),
        _shard(stores[0]),
        ks,
        stored=tuple(int(n) for n in stores[0].layer.values),
    )  # fmt: skip
    if len(task.languages) != len(activations):
        raise InputError(f"{len(task.languages)} languages for {len(activations)} stores; give --language once a store")
    _check_memory(task, settings, limits)
    check_place(path)
    if plan:
        _print_plan(task, settings, limits, as_json=as_json)
        return
    known = [
        (one.attrs.get("fingerprint") or _glance(one, name), one.sizes["token"], str(one.activation.dtype))
        for one, name in zip(stores, activations, strict=True)
    ]
    given = None if start is None else start.tolist()
    fingerprint = digest(settings, task.ks, layers, task.languages, known, given, *drawing(settings))
    working = f"{path.removesuffix('.zarr')}.fit"
    if (there := _state(path, fingerprint)) is None:
        _check_tokens(task, stores, settings)
        _work(task, layers, settings, limits, working, fingerprint, start)
    elif not there:
        raise InputError(
            f"{path}: is there already, of other vectors or settings; choose another name with --out, or delete it"
        )
    _clear(working)
    describe_concepts(path, as_json=as_json)


def _work(
    task: Clustering, layers: list[int], settings: Concepts, limits: Machine, working: str, fingerprint: str, start: Any
) -> None:
    """Cluster the layers that no record says are done; wrong input leaves nothing of what was begun here."""
    if fresh := not store.attributes(task.path):
        _clear(working)  # records of a store that was deleted since
        known = {"sources": list(task.sources), "vectors": _reading(task.sources[0])}
        with paths.replaced(task.path) as place:
            concepts.setup(replace(task, path=place), settings, fingerprint=fingerprint, **known)
    else:
        paths.sweep_partial_files(task.path)
    try:
        _cluster(task, layers, settings, limits, working, fingerprint, start)
    except InputError:
        if fresh and not read_records(paths.join(working, "records")):
            paths.remove(task.path)
            _clear(working)
        raise
    store.describe(task.path, complete=True)


def _clear(working: str) -> None:
    """Remove what is kept between two calls, and what a killed call left of it."""
    paths.remove(working)
    paths.sweep_partial_files(working)


def _cluster(
    task: Clustering, layers: list[int], settings: Concepts, limits: Machine, working: str, fingerprint: str, start: Any
) -> None:
    records = paths.join(working, "records")
    done = {name for name, record in read_records(records).items() if record.fingerprint == fingerprint}
    left = [layer for layer in layers if str(Key("concepts", (*task.part, str(layer)))) not in done]
    finished = len(layers) - len(left)
    with stoppable(), create(limits, models=False) as workers, progress(workers) as watch:

        def say(words: str = "") -> None:
            watch(Event("concepts", finished, len(layers), words))

        say()
        kept = paths.join(working, fingerprint)
        pending = Pending(task, tuple(left), kept, fingerprint)
        for key, seconds, outcome in cluster_all([pending], settings, workers, say, start=start):
            tasks.commit(key, records, fingerprint, time.time() - seconds, outcome)
            finished += 1
            say()


def _reading(path: str) -> str:
    """How the vectors of a store were made, as JSON; `assign` reads further text alike."""
    held = store.attributes(path) or {}
    return json.dumps(json.loads(held.get("settings") or "{}") | {"stack": held.get("stack")})


def _state(path: str, fingerprint: str) -> bool | None:
    """Whether what lies there is the finished result of these settings; None: nothing, or it is begun."""
    system, place = paths.filesystem(path)
    if not system.exists(place):
        return None
    held = store.attributes(path)
    if held is None or held.get("fingerprint") != fingerprint:
        if held is None and not list(system.ls(place)):
            return None
        return False
    return True if held.get("complete") else None


def _opened(path: str) -> Any:
    if (found := kind(path)) != ACTIVATIONS.name:
        raise InputError(
            f"{path}: expected a store of word vectors, found {f'a dataset of {found}' if found else 'none'}; make one "
            "with colign extract or colign import"
        )
    return store.load(path, ACTIVATIONS)


def _glance(vectors: Any, path: str) -> str:
    """What tells a store without a fingerprint, as imports are, from another: its first vectors."""
    with store.undamaged(path):
        first = np.ascontiguousarray(vectors.activation[:, :_GLANCE].values)
    return hashlib.sha256(first.tobytes()).hexdigest()


def _language(vectors: Any, path: str) -> str:
    named = vectors.attrs.get("language", TEXT)  # `colign extract` knows of no language
    return Path(path).stem if named == TEXT else str(named)


def _layers(names: list[str], stores: list[Any], wanted: list[int] | None) -> list[int]:
    """Layers to cluster, which all stores have."""
    first = [int(n) for n in stores[0].layer.values]
    for name, one in zip(names, stores, strict=True):
        theirs = [int(n) for n in one.layer.values]
        if missing := sorted(set(wanted or ()) - set(theirs)):
            raise InputError(f"{name}: has no layer {missing[0]}; it has {', '.join(map(str, theirs))}")
        if theirs != first or one.sizes["hidden"] != stores[0].sizes["hidden"]:
            raise InputError(
                f"{name}: layers {theirs} of {one.sizes['hidden']} numbers, and {names[0]} has {first} of "
                f"{stores[0].sizes['hidden']}; give stores of one model and the same layers"
            )
    return sorted(set(wanted)) if wanted else first


def _shard(vectors: Any) -> int:
    """Tokens of a part: whole shards of the store, and few enough for one worker."""
    encoding = vectors.activation.encoding
    return int((encoding.get("shards") or encoding["chunks"])[1])


def _check_tokens(task: Clustering, stores: list[Any], settings: Concepts) -> None:
    """Refuse stores that are being written, and fewer vectors than concepts, before anything is laid out."""
    count = 0
    for name, one in zip(task.sources, stores, strict=True):
        with store.undamaged(name):
            if (unwritten := np.flatnonzero(one.token_id.values < 0)).size:
                raise InputError(
                    f"{name}: token {unwritten[0]} is not there yet: the store is being written, or its writing was "
                    "cut off; let what writes it come to its end, or run it again"
                )
            count += int(one.present.values.sum())
    count -= settings.preset == "reference" and settings.method == "kmeans"  # leaves out the last
    if count < max(task.ks):
        raise InputError(
            f"{'+'.join(task.sources)}: {max(count, 0)} vectors cannot form {max(task.ks)} concepts; lower --k or give "
            "more words"
        )


def _given(path: str, hidden: int, ks: tuple[int, ...]) -> Any:
    try:
        start = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npy ({error}); write it with numpy.save") from error
    if not isinstance(start, np.ndarray):
        raise InputError(f"{path}: expected one array, found several; write it with numpy.save")
    if start.ndim != 2 or start.shape != (ks[0], hidden) or len(ks) > 1 or start.dtype.kind != "f":
        raise InputError(
            f"{path}: expected numbers ({ks[0]}, {hidden}), found {start.dtype} {start.shape}; one row a concept, and "
            "one --k"
        )
    if not np.isfinite(start).all():
        row = int(np.argmin(np.isfinite(start).all(axis=1)))
        raise InputError(f"{path}: row {row} holds NaN or infinity; every first centroid must be finite")
    return start


def _check_memory(task: Clustering, settings: Concepts, limits: Machine) -> None:
    needed = clustering.PROCESS + clustering.memory(task, settings, limits.memory_bytes // 2, limits.threads or 2)
    if needed > limits.memory_bytes:
        raise BudgetError(
            f"{task.path}: needs about {size(needed)}, the machine allows {size(limits.memory_bytes)}; raise --memory, "
            "or lower --k or --restarts"
        )


def _print_plan(task: Clustering, settings: Concepts, limits: Machine, *, as_json: bool) -> None:
    found = clustering.rows([task], settings, limits)
    if as_json:
        print_json({"clustering": found})
    else:
        out.print(clustering_table(found))


def assign_vectors(
    concept_store: Annotated[str, typer.Argument(metavar="CONCEPTS.zarr", help="Store of concepts.")],
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Store of word vectors, or with --model a text, one sentence a line.")
    ],
    model: Annotated[str | None, typer.Option(help="Model that reads the text, in transformers' format.")] = None,
    path: Annotated[
        str | None, typer.Option("--out", "-o", metavar="OUT.zarr", help="Store to write (default: print lines).")
    ] = None,
    k: Annotated[int | None, typer.Option(help="Number of concepts, where there are several.")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer; may be given again (default: all of both).")] = None,
    machine: MachineFile = None,
    as_json: Json = False,
) -> None:
    """Nearest concept, distance and margin (how much farther the second nearest is) of every word vector."""
    if (found := kind(concept_store)) != CONCEPTS.name:
        raise InputError(
            f"{concept_store}: expected a store of concepts, found {f'a dataset of {found}' if found else 'none'}; "
            "make one with colign cluster"
        )
    check_dataset(path, ASSIGNMENTS.name)
    if model is None:
        _opened(source)
    limits = files.load_machine(machine)
    with _vectors_of(source, model, concept_store, layer, limits) as vectors, create(limits, models=False) as workers:
        assigned = assign(concept_store, vectors, workers, k=k, layers=layer)
        assigned.attrs["activations"] = source
    if path is not None:
        store.save(path, ASSIGNMENTS, assigned, **assigned.attrs)
        counts = {"tokens": assigned.sizes["token"], "layers": assigned.layer.values.tolist()}
        if as_json:
            print_json({"path": path, **counts})
        else:
            out.print(f"{counts['tokens']:,} words x {len(counts['layers'])} layers  {path}", soft_wrap=True)
        return
    names = ("word", "sentence", "position", "layer", "concept", "distance", "margin")
    lines = _lines(assigned)
    if as_json:
        print_json({"assignments": [dict(zip(names, line, strict=True)) for line in lines]})
        return
    print("\t".join(names), file=sys.stderr)  # rich would put blanks for tabs
    for word, sentence, position, number, concept, distance, margin in lines:
        sys.stdout.write(f"{word}\t{sentence}\t{position}\t{number}\t{concept}\t{distance:.6g}\t{margin:.6g}\n")


@contextlib.contextmanager
def _vectors_of(
    source: str, model: str | None, concept_store: str, layers: list[int] | None, limits: Machine
) -> Iterator[str]:
    """The store that is given, or for a while one of a text, read as the vectors of the concepts were."""
    if model is None:
        yield source
        return
    stored = json.loads((store.attributes(concept_store) or {}).get("vectors") or "{}")
    if not stored:
        raise InputError(
            f"{concept_store}: does not say how its vectors were read; read the text alike with colign extract, and "
            "give that store"
        )
    settings = {name: stored[name] for name in _READING if name in stored}
    held = store.load(concept_store, CONCEPTS).layer.values.tolist()
    if missing := sorted(set(layers or ()) - set(held)):
        raise InputError(f"{concept_store}: has no layer {missing[0]}; it has {', '.join(map(str, held))}")
    settings["layers"] = layers or held
    settings["stacks"] = stored.get("stack")
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/vectors.zarr"
        extract_into(
            place, study_of(model, source, None, settings, "spaces", {"min_count": 1, "max_count": ALL}), limits
        )
        yield place


_READING = ("final_norm", "pooling", "decoder_position", "too_long", "compute", "dtype")
"""Settings of activations by which a further text must be read."""


def _lines(assigned: Any) -> list[tuple[Any, ...]]:
    """One line a word and layer, of words that have a vector."""
    columns = [assigned[name].values for name in ("word", "sentence", "position")]
    found = []
    for at, number in enumerate(assigned.layer.values.tolist()):
        of_layer = [assigned[name].values[at] for name in ("concept", "distance", "margin")]
        for token in np.flatnonzero(of_layer[0] >= 0).tolist():
            word, sentence, position = (column[token] for column in columns)
            concept, distance, margin = (column[token] for column in of_layer)
            found.append(
                (str(word), int(sentence), int(position), number, int(concept), float(distance), float(margin))
            )
    return found
