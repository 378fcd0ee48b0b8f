"""First centroids: greedy k-means++ on a sample of a layer, or k-means|| on all of it where the sample is too large."""

import operator
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import backend
from engine.kernels.plusplus import working_bytes
from engine.parts import Layer, Moments, Part, Run
from engine.workers.protocol import Held, Workers
from schemas.study import Concepts
from schemas.task import Key

SAMPLE_BYTES = 2**30
"""Largest float64 sample for k-means++ when the study leaves the choice; a number of the project's, not of the machine:
memory must not change a result."""

_DRAWN_BYTES = 16
"""Bytes of a number of the sample while k-means++ draws from it: as it is stored, and less the mean in float64."""

ROUNDS = 5
"""Rounds of k-means|| (Bahmani et al., VLDB 2012: five are enough)."""

OVERSAMPLING = 2
"""Candidates of a round for each concept, on average."""

_DRAWING = 2
"""Version of how first centroids are drawn: the same seed gives others where it is another."""

Seeds = dict[Layer, list[tuple[Run, NDArray[np.float64]]]]
"""Of each layer the runs, each with its first centroids (concept, hidden)."""


def drawing(settings: Concepts) -> list[int]:
    """What fingerprints of concepts know of how first centroids are drawn; nothing where that has never changed."""
    return [] if settings.method == "ward" or settings.preset == "reference" else [_DRAWING]


def sample_size(k: int, tokens: int, settings: Concepts) -> int:
    """Rows of the sample of k-means++; all of them in the reference preset."""
    if settings.preset == "reference":
        return tokens
    return min(tokens, max(settings.seeding_tokens, 10 * k))


def drawn_bytes(rows: int, hidden: int, k: int) -> int:
    """Bytes that k-means++ takes to draw k rows of a sample."""
    return _DRAWN_BYTES * rows * hidden + working_bytes(rows, k)


def method(k: int, tokens: int, hidden: int, settings: Concepts) -> str:
    """How first centroids are drawn: k-means++ or k-means||."""
    if settings.preset == "reference":
        return "k-means++"
    if settings.seeding != "auto":
        return settings.seeding
    return "k-means++" if sample_size(k, tokens, settings) * hidden * 8 <= SAMPLE_BYTES else "k-means||"


def seed(
    held: Held,
    known: Mapping[Layer, Moments],
    runs: Mapping[Layer, Sequence[Run]],
    settings: Concepts,
    workers: Workers,
    start: NDArray[np.floating] | None,
) -> Seeds:
    """First centroids of some runs of each layer.

    Parameters
    ----------
    known
        Moments of each layer.
    start
        (concept, hidden) centroids that are given, in place of drawn ones.
    """
    if start is not None:
        return {layer: [(run, start.astype(np.float64)) for run in of] for layer, of in runs.items()}
    drawn: Seeds = {layer: [] for layer in runs}
    ways: dict[str, dict[Layer, list[Run]]] = {"k-means++": {}, "k-means||": {}}
    for layer, of in runs.items():
        for run in of:
            way = method(run.k, known[layer].count, len(known[layer].total), settings)
            ways[way].setdefault(layer, []).append(run)
    if ways["k-means++"]:
        _from_sample(drawn, held, known, ways["k-means++"], settings, workers)
    if ways["k-means||"]:
        _from_all(drawn, held, known, ways["k-means||"], workers)
    return drawn


def _of(held: Held, layers: Mapping[Layer, Any]) -> Held:
    return held.of([key for key in held.keys if key.part in layers])


def _starts(held: Held, workers: Workers) -> dict[Key, int]:
    """Number of the first vector of each part among those of its layer."""
    lengths = workers.fold(_length, held, operator.or_)
    starts: dict[Key, int] = {}
    first = dict.fromkeys(lengths, 0)
    for key in held.keys:
        starts[key] = first[key.part]
        first[key.part] += lengths[key.part][key]
    return starts


def _length(key: Key, part: Part) -> dict[Key, int]:
    return {key: len(part.opened()[1])}


def drawn_rows(tokens: int, size: int, seed: int) -> NDArray[np.int64]:
    """Distinct numbers of vectors (sample) below `tokens`, increasing; memory follows the sample, not the tokens.

    Examples
    --------
    >>> drawn_rows(5, 5, seed=1).tolist(), len(drawn_rows(10**12, 7, seed=1))
    ([0, 1, 2, 3, 4], 7)
    """
    return np.sort(np.random.default_rng(seed).choice(tokens, size, replace=False, shuffle=False))


def _from_sample(
    drawn: Seeds,
    held: Held,
    known: Mapping[Layer, Moments],
    runs: Mapping[Layer, Sequence[Run]],
    settings: Concepts,
    workers: Workers,
) -> None:
    """Greedy k-means++: restarts differ in what is drawn from the sample, not in the sample."""
    rows = {
        layer: {
            k: drawn_rows(known[layer].count, sample_size(k, known[layer].count, settings), settings.seed)
            for k in {run.k for run in of}
        }
        for layer, of in runs.items()
    }
    wanted = {layer: np.unique(np.concatenate([*of.values()])) for layer, of in rows.items()}
    of_layers = _of(held, runs)
    samples = workers.fold(_picked, of_layers, _stack, wanted, _starts(of_layers, workers))

    def draw(layer: Layer, run: Run) -> NDArray[np.float64]:
        sample = samples[layer][np.searchsorted(wanted[layer], rows[layer][run.k])]
        centred = sample.astype(np.float64)
        centred -= known[layer].total / known[layer].count
        if settings.preset == "reference":
            chosen = backend.seed_rows(centred, run.k, settings.seed, reference=run.seed - settings.seed)
        else:
            chosen = backend.seed_rows(centred, run.k, run.seed, threads=max(1, at_once // len(every)))
        return np.asarray(sample[chosen], np.float64)

    every = [(layer, run) for layer, of in runs.items() for run in of]
    needed = max(drawn_bytes(len(at), samples[layer].shape[1], k) for layer, of in rows.items() for k, at in of.items())
    at_once = workers.at_once_here(needed) if backend.array_module() is np else 1  # of the one device
    with ThreadPoolExecutor(at_once) as pool:
        for (layer, run), centroids in zip(every, pool.map(lambda one: draw(*one), every), strict=True):
            drawn[layer].append((run, centroids))


def _picked(key: Key, part: Part, wanted: Mapping[Layer, NDArray[np.int64]], starts: Mapping[Key, int]) -> Any:
    """Vectors (row, hidden) of a part whose numbers among the layer's vectors are wanted."""
    rows, _ = part.opened()
    numbers = wanted[key.part] - starts[key]
    here = numbers[(numbers >= 0) & (numbers < len(rows.values))]
    kernels = backend.kernels()
    return kernels.fetch(rows.values[kernels.put(here)])


def _stack(above: Any, below: Any) -> Any:
    return np.concatenate([above, below])


def _from_all(
    drawn: Seeds,
    held: Held,
    known: Mapping[Layer, Moments],
    runs: Mapping[Layer, Sequence[Run]],
    workers: Workers,
) -> None:
    """k-means||: in each round rows are picked by their squared distance to the candidates so far; the candidates,
    weighted by the rows nearest to each, are then thinned out by greedy k-means++."""
    of_layers, precision = _of(held, runs), workers.products
    starts = _starts(of_layers, workers)
    means = {layer: known[layer].mean for layer in runs}
    first = {layer: [drawn_rows(known[layer].count, 1, run.seed) for run in of] for layer, of in runs.items()}
    wanted = {layer: np.unique(np.concatenate(of)) for layer, of in first.items()}
    samples = workers.fold(_picked, of_layers, _stack, wanted, starts)
    candidates = {
        layer: {
            run.number: samples[layer][np.searchsorted(wanted[layer], at)].astype(np.float64)
            for run, at in zip(of, first[layer], strict=True)
        }
        for layer, of in runs.items()
    }
    for turn in range(ROUNDS):
        spread = workers.fold(_spread, of_layers, _add, candidates, means, precision)
        rates = {
            layer: {run.number: OVERSAMPLING * run.k / max(spread[layer][run.number], 1e-300) for run in of}
            for layer, of in runs.items()
        }
        seeds = {layer: {run.number: run.seed * ROUNDS + turn for run in of} for layer, of in runs.items()}
        picked = workers.fold(_pick, of_layers, _join, candidates, means, precision, rates, seeds, starts)
        candidates = {layer: _join(of, picked[layer]) for layer, of in candidates.items()}
    weights = workers.fold(_weigh, of_layers, _add, candidates, means, precision)
    for layer, of in runs.items():
        for run in of:
            rows, weight = candidates[layer][run.number], weights[layer][run.number]
            drawn[layer].append((run, _thin(rows, weight, run, known[layer].mean)))


Candidates = Mapping[Layer, Mapping[int, NDArray[np.float64]]]
"""Of each layer and run the candidates (candidate, hidden) so far."""


def _nearest(
    key: Key, part: Part, candidates: Candidates, means: Mapping[Layer, NDArray[np.float32]], precision: str
) -> tuple[Any, dict[int, tuple[Any, Any, int]]]:
    """The vectors, and of each run: nearest candidate (row), squared distance (row), and how many were compared.

    What is remembered is compared with the new candidates only.
    """
    xp, kernels = backend.array_module(), backend.kernels()
    products = kernels.products(precision)
    rows, _ = part.opened()
    mean = means[key.part]
    for number, every in candidates[key.part].items():
        label, squared, seen = part.nearest.pop(number, (None, None, 0))
        if seen < len(every):
            new = every[seen:]
            (state,) = kernels.advance(rows, mean, [(kernels.Centroids(new, None, mean, products), None)], products)
            found = kernels.squared_distances(rows.values, new, state.label)
            if seen:
                state.label = xp.where(found < squared, state.label + seen, label)
                found = xp.minimum(found, squared)
            label, squared = state.label, found
        part.nearest[number] = (label, squared, len(every))
    part.remember(rows)
    return rows, part.nearest


def _spread(
    key: Key, part: Part, candidates: Candidates, means: Mapping[Layer, NDArray[np.float32]], precision: str
) -> dict[int, Any]:
    """Sum of squared distances to the nearest candidate, of each run."""
    _, nearest = _nearest(key, part, candidates, means, precision)
    return {number: float(nearest[number][1].sum()) for number in candidates[key.part]}


def _pick(
    key: Key,
    part: Part,
    candidates: Candidates,
    means: Mapping[Layer, NDArray[np.float32]],
    precision: str,
    rates: Mapping[Layer, Mapping[int, float]],
    seeds: Mapping[Layer, Mapping[int, int]],
    starts: Mapping[Key, int],
) -> dict[int, NDArray[np.float64]]:
    """Rows of a part that become candidates of each run, by chance in proportion to their squared distance."""
    kernels = backend.kernels()
    rows, nearest = _nearest(key, part, candidates, means, precision)
    found = {}
    for number, rate in rates[key.part].items():
        squared = kernels.fetch(nearest[number][1])
        numbers = np.arange(starts[key], starts[key] + len(squared), dtype=np.uint64)
        at = np.flatnonzero(uniform(numbers, seeds[key.part][number]) < squared * rate)
        found[number] = kernels.fetch(rows.values[kernels.put(at)]).astype(np.float64)
    return found


def uniform(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row number, the same however rows are cut into parts (SplitMix64).

    Examples
    --------
    >>> rows = np.arange(10**5, dtype=np.uint64)
    >>> round(float(uniform(rows, 1).mean()), 2), bool((uniform(rows, 1)[7:9] == uniform(rows[7:9], 1)).all())
    (0.5, True)
    """
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        (seed * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019) % 2**64
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53, np.float64)


def _weigh(
    key: Key, part: Part, candidates: Candidates, means: Mapping[Layer, NDArray[np.float32]], precision: str
) -> dict[int, Any]:
    """Rows (candidate) that are nearest to each candidate, of each run; what was remembered for that is let go."""
    _, nearest = _nearest(key, part, candidates, means, precision)
    labels = {number: backend.kernels().fetch(nearest[number][0]) for number in candidates[key.part]}
    part.nearest.clear()
    return {
        number: np.bincount(label, minlength=len(candidates[key.part][number])).astype(np.float64)
        for number, label in labels.items()
    }


def _add(one: dict[int, Any], other: dict[int, Any]) -> dict[int, Any]:
    return {number: one[number] + other[number] for number in one}


def _join(one: Mapping[int, Any], other: Mapping[int, Any]) -> dict[int, Any]:
    return {number: np.concatenate([one[number], other[number]]) for number in one}


def _thin(
    rows: NDArray[np.float64], weight: NDArray[np.float64], run: Run, mean: NDArray[np.float32]
) -> NDArray[np.float64]:
    """k of the candidates (candidate, hidden), by greedy k-means++ with their weights (candidate)."""
    if len(rows) < run.k:  # fewer distinct rows than concepts: the others begin empty and are relocated
        return np.concatenate([rows, np.repeat(rows[:1], run.k - len(rows), axis=0)])
    return rows[backend.seed_rows(rows - mean, run.k, run.seed, weight)]
