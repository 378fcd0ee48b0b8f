"""K-means of layers that lie in parts on workers: all restarts and all numbers of concepts in one pass an iteration.

Lloyd's algorithm with scikit-learn's rules: stop when no row changes concept, or when the summed squared shift of the
centroids falls to tolerance × mean variance; an empty concept takes the row farthest from its centroid. Centroids are
float64 means of exact sums (`engine.kernels.sums`), so every bit of them follows from rows and first centroids: the
number of workers, what they remember, and what was lost with one of them never show.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import backend, seeding
from engine.checkpoints import Checkpoints
from engine.kernels.lloyd import Rows, State
from engine.kernels.sums import Difference
from engine.parts import Layer, Moments, Part, Run
from engine.workers.protocol import Held, Workers
from schemas.errors import InputError
from schemas.study import Concepts
from schemas.task import Key

LARGEST = 1e15
"""Largest number of a vector whose square, summed up, fits float32."""


@dataclass
class Fit:
    """State of one run of one layer."""

    run: Run
    centroids: NDArray[np.float64]
    """(concept, hidden)."""
    before: NDArray[np.float64] | None = None
    """(concept, hidden) centroids of the iteration before."""
    sums: NDArray[np.float64] | None = None
    """(concept, hidden) exact sums of the rows of each concept; None: not known."""
    counts: NDArray[np.int64] | None = None
    """(concept) rows of each concept."""
    n_iter: int = 0
    done: bool = False
    shifts: list[float] = field(default_factory=list)
    """Squared shift of the centroids in each iteration since it was begun or taken up again."""
    moved: int = 0
    """Rows that changed concept in the last iteration."""
    inertia: float = math.nan
    """Sum of squared distances of the last iteration's concepts to their means."""


class Model:
    """Centroids of one run on their way to the parts."""

    def __init__(self, fit: Fit, mean: NDArray[np.float32]) -> None:
        """Freeze a run as it is."""
        self.number, self.iteration, self.k = fit.run.number, fit.n_iter, fit.run.k
        self.centroids, self.before, self.mean = fit.centroids, fit.before, mean
        self.whole = fit.sums is None
        """Whether sums from nothing are wanted in place of differences."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_prepared", "_prepared_before")}

    def prepared(self, products: Any, *, before: bool = False) -> Any:
        """The centroids in the form of a pass, made once a process; `before`: those of the iteration before."""
        name = "_prepared_before" if before else "_prepared"
        if name not in vars(self):
            exact, older = (self.before, None) if before else (self.centroids, self.before)
            assert exact is not None
            vars(self)[name] = backend.kernels().Centroids(exact, older, self.mean, products)
        return vars(self)[name]


@dataclass(frozen=True)
class Pass:
    """What a pass over the parts of a layer needs."""

    models: tuple[Model, ...]
    unit: float
    precision: str

    @cached_property
    def mean(self) -> NDArray[np.float32]:
        """(hidden) mean vector."""
        return self.models[0].mean


def moments(held: Held, workers: Workers) -> dict[Layer, Moments]:
    """Moments of each layer."""
    return workers.fold(_moments, held, operator.add)


def _moments(key: Key, part: Part) -> Moments:
    rows, _ = part.opened()
    total, squares, largest = backend.kernels().moments(rows.values)
    return Moments(len(rows.values), total, squares, largest, str(rows.values.dtype))


def fit(
    held: Held,
    known: Mapping[Layer, Moments],
    runs: Sequence[Run],
    settings: Concepts,
    workers: Workers,
    *,
    start: NDArray[np.floating] | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[Layer, list[Fit]]:
    """Cluster every layer of the parts, all runs together; a run that has stopped drops out.

    Parameters
    ----------
    known
        Moments of each layer.
    start
        (concept, hidden) first centroids of every run, in place of drawn ones.
    checkpoints
        Where centroids are kept after every iteration, and taken from when there are any.

    Raises
    ------
    InputError
        There are fewer vectors than concepts at a layer.
    """
    for layer, found in known.items():
        if found.largest > LARGEST:
            raise InputError(
                f"{Key('concepts', layer)}: a number of {found.largest:.3g} is too large for float32 products; "
                f"expected at most {LARGEST:.0e}, so scale the vectors"
            )
        if wanted := [run.k for run in runs if run.k > found.count]:
            raise InputError(
                f"{Key('concepts', layer)}: {found.count} vectors cannot form {max(wanted)} concepts; lower concepts.k "
                "or select more words"
            )
    fits: dict[Layer, list[Fit]] = {layer: [] for layer in known}
    fresh: dict[Layer, list[Run]] = {layer: [] for layer in known}
    for layer in known:
        for run in runs:
            saved = None if checkpoints is None else checkpoints.load(layer, run.number)
            if saved is None:
                fresh[layer].append(run)
            else:
                fits[layer].append(Fit(run, saved.centroids, saved.before, n_iter=saved.n_iter, done=saved.done))
    for layer, drawn in seeding.seed(held, known, fresh, settings, workers, start).items():
        for run, centroids in drawn:
            fits[layer].append(Fit(run, centroids))
            if checkpoints is not None:
                checkpoints.save(layer, run.number, 0, centroids, done=False)
        fits[layer].sort(key=lambda one: one.run.number)
    while active := {layer: [one for one in of if not one.done] for layer, of in fits.items() if not all(
        one.done for one in of
    )}:  # fmt: skip
        _iterate(active, held, known, settings, workers)
        for layer, of in active.items():
            for one in of:
                if checkpoints is not None:
                    checkpoints.save(layer, one.run.number, one.n_iter, one.centroids, done=one.done)
        progress(_told(active, known, settings))
    return fits


def _iterate(
    active: Mapping[Layer, list[Fit]],
    held: Held,
    known: Mapping[Layer, Moments],
    settings: Concepts,
    workers: Workers,
) -> None:
    """Advance runs by one iteration."""
    passes = {
        layer: Pass(tuple(Model(one, known[layer].mean) for one in of), known[layer].unit, workers.products)
        for layer, of in active.items()
    }
    found = workers.fold(sweep, held.of([k for k in held.keys if k.part in active]), _merge, passes, exact=True)
    starved: dict[Layer, dict[int, int]] = {}
    for layer, of in active.items():
        for one in of:
            change: Difference = found[layer][one.run.number].host()
            if one.sums is None or one.counts is None:
                one.sums, one.counts = np.zeros_like(one.centroids), np.zeros(one.run.k, np.int64)
            one.sums[change.concepts] += change.sums
            one.counts[change.concepts] += change.counts
            one.moved = change.moved
            if empty := int((one.counts == 0).sum()):
                starved.setdefault(layer, {})[one.run.number] = empty
    spare: dict[Layer, dict[int, Any]] = {}
    if starved:
        rows = held.of([k for k in held.keys if k.part in starved])
        spare = workers.fold(_farthest, rows, partial(_farther, counts=starved), passes, starved)
    for layer, of in active.items():
        for one in of:
            _settle(one, spare.get(layer, {}).get(one.run.number), known[layer], settings)


def _settle(one: Fit, spare: Any, known: Moments, settings: Concepts) -> None:
    """New centroids from the sums, and whether to stop."""
    new = _centroids(one, spare)
    within = known.total / known.count
    assert one.counts is not None
    gap = new - within
    scatter = float(known.variance.sum()) * known.count
    one.inertia = max(scatter - float((one.counts[:, None] * gap * gap).sum()), 0.0)
    shift = float(((new - one.centroids) ** 2).sum())
    one.shifts.append(shift)
    one.n_iter += 1
    if one.n_iter > 1 and one.moved == 0:
        one.done = True  # no label changed: the centroids are those of the labels already
        one.before, one.centroids = one.centroids, one.centroids
        return
    limit = settings.tolerance * float(known.variance.mean())
    one.done = shift <= limit or one.n_iter == settings.max_iterations
    one.before, one.centroids = one.centroids, new


def _centroids(one: Fit, spare: tuple[NDArray[Any], ...] | None) -> NDArray[np.float64]:
    """Means (concept, hidden); an empty concept takes the next farthest row, which leaves its own concept.

    As in scikit-learn nothing is moved when every row lies on its centroid (fewer distinct rows than concepts).
    """
    assert one.sums is not None
    assert one.counts is not None
    sums, counts = one.sums, one.counts.astype(np.float64)
    if spare is not None and spare[0][0] > 0:
        sums = sums.copy()
        for concept, label, row in zip(np.flatnonzero(one.counts == 0), spare[1], spare[2], strict=False):
            sums[label] -= row
            counts[label] -= 1
            sums[concept], counts[concept] = row, 1
    # a concept that keeps no row keeps its centroid
    return np.asarray(np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], one.centroids))


def sweep(key: Key, part: Part, passes: Mapping[Layer, Pass]) -> dict[int, Difference]:
    """What one iteration changes in the sums of each run, from one part."""
    wanted = passes[key.part]
    rows, _ = part.opened()
    before = _known(part, rows, wanted)
    old = {number: state.label.copy() for number, state in before.items()}
    after = _advance(part, rows, wanted, before)
    found = {}
    for model in wanted.models:
        labels, now = old.get(model.number), after[model.number].label
        former = None if model.whole else labels
        change = backend.kernels().difference(rows.values, former, now, model.k, wanted.unit)
        if model.whole and labels is not None:
            change = replace(change, moved=int((labels != now).sum()))
        found[model.number] = change
    return found


def _known(part: Part, rows: Rows, wanted: Pass) -> dict[int, State]:
    """States of the centroids before; those that are not remembered are found again."""
    kernels = backend.kernels()
    products = kernels.products(wanted.precision)
    found, lost = {}, []
    for model in wanted.models:
        iteration, state = part.states.pop(model.number, (-1, None))
        if state is not None and iteration == model.iteration - 1:
            found[model.number] = state
        elif model.before is not None:
            lost.append(model)
    runs = [(model.prepared(products, before=True), None) for model in lost]
    if runs:
        states = kernels.advance(rows, wanted.mean, runs, products)
        found |= {model.number: state for model, state in zip(lost, states, strict=True)}
    return found


def _advance(part: Part, rows: Rows, wanted: Pass, before: Mapping[int, State]) -> dict[int, State]:
    """States of the present centroids, which the part remembers."""
    kernels = backend.kernels()
    products = kernels.products(wanted.precision)
    runs = [(model.prepared(products), before.get(model.number)) for model in wanted.models]
    states = kernels.advance(rows, wanted.mean, runs, products)
    part.remember(rows)
    for model, state in zip(wanted.models, states, strict=True):
        part.states[model.number] = (model.iteration, state)
    return {model.number: state for model, state in zip(wanted.models, states, strict=True)}


Labels = dict[int, tuple[NDArray[np.int32], NDArray[np.float64]]]
"""Of each run the concept (row) of every vector of a part, and its squared distance (row) to the centroid."""


def label(key: Key, part: Part, passes: Mapping[Layer, Pass]) -> tuple[NDArray[np.int64], Labels]:
    """Places (row) of the vectors in the part, and their labels."""
    wanted = passes[key.part]
    kernels = backend.kernels()
    rows, places = part.opened()
    found: Labels = {}
    after = _advance(part, rows, wanted, _known(part, rows, wanted))
    for model in wanted.models:
        labels = after[model.number].label
        squared = kernels.squared_distances(rows.values, model.centroids, labels)
        found[model.number] = (kernels.fetch(labels), kernels.fetch(squared))
        del part.states[model.number]  # its last pass: the memory is that of the runs that follow
    return places, found


def final(
    fits: Mapping[Layer, list[Fit]], known: Mapping[Layer, Moments], precision: str, dtype: Any = np.float32
) -> dict[Layer, Pass]:
    """The last pass: every vector to its nearest centroid, rounded to the type that is given out."""
    passes = {}
    for layer, of in fits.items():
        models = []
        for one in of:
            stored = one.centroids.astype(dtype).astype(np.float64)
            before = one.before if one.before is not None else one.centroids
            models.append(Model(replace(one, centroids=stored, before=before), known[layer].mean))
        passes[layer] = Pass(tuple(models), known[layer].unit, precision)
    return passes


def _farthest(
    key: Key, part: Part, passes: Mapping[Layer, Pass], starved: Mapping[Layer, Mapping[int, int]]
) -> dict[int, tuple[NDArray[Any], ...]]:
    """Of each run with empty concepts, the rows of a part that are farthest from their centroids."""
    wanted = passes[key.part]
    kernels = backend.kernels()
    rows, _ = part.opened()
    products = kernels.products(wanted.precision)
    found = {}
    for model in wanted.models:
        if model.number in starved[key.part]:
            iteration, state = part.states.get(model.number, (-1, None))
            if state is None or iteration != model.iteration:
                (state,) = kernels.advance(rows, wanted.mean, [(model.prepared(products), None)], products)
            count = starved[key.part][model.number]
            far = kernels.farthest(rows.values, model.centroids, state.label, count)
            found[model.number] = tuple(map(kernels.fetch, far))
    return found


def _farther(one: dict[int, Any], other: dict[int, Any], counts: Mapping[Layer, Mapping[int, int]]) -> dict[int, Any]:
    """The farthest rows of two parts; ties keep key order."""
    merged = {}
    for number in one:
        count = max(of.get(number, 0) for of in counts.values())
        joined = [np.concatenate(pair) for pair in zip(one[number], other[number], strict=True)]
        order = np.argsort(-joined[0], kind="stable")[:count]
        merged[number] = tuple(values[order] for values in joined)
    return merged


def _merge(one: dict[int, Difference], other: dict[int, Difference]) -> dict[int, Difference]:
    return {number: one[number] + other[number] for number in one}


def _told(active: Mapping[Layer, list[Fit]], known: Mapping[Layer, Moments], settings: Concepts) -> str:
    """One line on where the runs stand."""
    every = [(known[layer], one) for layer, of in active.items() for one in of]
    going = [pair for pair in every if not pair[1].done]
    of, one = max(every, key=lambda pair: pair[1].moved / pair[0].count)
    left = max((_left(one, of, settings) for of, one in going), default=0)
    return (
        f"iteration {max(one.n_iter for _, one in every)}, {len(going)} of {len(every)} runs go on: inertia "
        f"{one.inertia:.6g}, {one.moved / of.count:.2%} moved, about {left} iterations left"
    )


def _left(one: Fit, of: Moments, settings: Concepts) -> int:
    """Iterations until the shift has fallen to the limit, if it goes on falling as it did lately."""
    most = settings.max_iterations - one.n_iter
    recent = [shift for shift in one.shifts[-8:] if shift > 0]
    limit = settings.tolerance * float(of.variance.mean())
    if len(recent) < 2 or limit <= 0 or recent[-1] >= recent[0]:
        return most
    rate = math.log(recent[0] / recent[-1]) / (len(recent) - 1)
    return min(most, max(1, math.ceil(math.log(recent[-1] / limit) / rate)))
