"""Statistics of concepts against plain loops, in any order of tokens and any chunks."""

import math
import statistics as plain
import tempfile
from collections import Counter
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from engine import store
from engine.statistics import describe, language_tokens, words_of
from schemas.concepts import CONCEPT_STATISTICS, CONCEPTS
from schemas.errors import SchemaError

LANGUAGES = ["de", "en", "fr"]
COUNTS = ("tokens", "types", "languages", "empty", "smallest", "median", "largest", "entropy", "stability")


def concepts_of(
    labels: np.ndarray,
    words: list[str],
    language: list[int],
    *,
    ks: list[int],
    distance: np.ndarray | None = None,
    scatter: list[float] | None = None,
    layers: list[int] | None = None,
    chosen: np.ndarray | None = None,
) -> xr.Dataset:
    """A CONCEPTS dataset of labels (run, layer, token); unless given, the first run of each k is chosen."""
    runs, depth, tokens = labels.shape
    if distance is None:
        distance = np.ones(labels.shape)
    if chosen is None:
        chosen = np.repeat([[ks.index(k) == run] for run, k in enumerate(ks)], depth, axis=1)
    return CONCEPTS.create(
        {
            "layer": np.array(layers or range(depth), np.int32),
            "concept": labels.astype(np.int32),
            "distance": np.where(labels < 0, np.nan, distance).astype(np.float32),
            "centroid": np.zeros((runs, depth, max(ks), 2), np.float32),
            "inertia": np.arange(runs * depth, dtype=np.float64).reshape(runs, depth),
            "scatter": np.array(scatter or [50.0] * depth),
            "n_iter": np.ones((runs, depth), np.int32),
            "k": np.array(ks, np.int32),
            "seed": np.arange(runs) + 7,
            "chosen": chosen,
            "token_id": np.arange(tokens) + 100,
            "language": np.array(language, np.int8),
            "word": words,
            "sentence": np.zeros(tokens, np.int32),
            "position": np.arange(tokens, dtype=np.int32),
        },
        languages=LANGUAGES,
    )


@st.composite
def drawn(draw: st.DrawFn) -> xr.Dataset:
    """Concepts of two layers and up to four runs; words recur across languages, distances tie."""
    tokens = draw(st.integers(1, 25))
    ks = draw(st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=tokens, max_size=tokens))

    absent = np.array([each(st.integers(0, 5).map(lambda n: n == 0)) for _ in range(2)])
    labels = np.array([[each(st.integers(0, k - 1)) for _ in range(2)] for k in ks])
    labels[:, absent] = -1
    distance = np.array([[each(st.sampled_from([0.0, 0.5, 1.25, 3.0])) for _ in range(2)] for _ in ks])
    scatter = draw(st.lists(st.sampled_from([0.0, math.nan, 7.0, 90.0]), min_size=2, max_size=2))
    words, language = each(st.sampled_from(["in", "der", "größe", "", "كتب"])), each(st.integers(0, 2))
    return concepts_of(labels, words, language, ks=ks, distance=distance, scatter=scatter)


def looped(concepts: xr.Dataset, run: int, layer: int, central: int) -> dict[str, Any]:
    """Statistics of one run and layer by loops."""
    labels, distance = concepts.concept.values[run, layer].tolist(), concepts.distance.values[run, layer].tolist()
    words, language = concepts.word.values.tolist(), concepts.language.values.tolist()
    k, ids = int(concepts.k[run]), concepts.sizes["concept_id"]
    found: dict[str, Any] = {name: [] for name in COUNTS[:3]}
    found |= {"mean_distance": [], "largest_distance": [], "central_token": []}
    for concept in range(ids):
        here = [token for token, label in enumerate(labels) if label == concept]
        found["tokens"].append(len(here))
        found["types"].append(len({(language[t], words[t]) for t in here}))
        found["languages"].append(len({language[t] for t in here}))
        found["mean_distance"].append(sum(distance[t] for t in here) / len(here) if here else math.nan)
        found["largest_distance"].append(max((distance[t] for t in here), default=math.nan))
        nearest: dict[str, int] = {}
        for t in sorted(here, key=lambda t: (distance[t], t)):
            nearest.setdefault(words[t], t)
        found["central_token"].append(([*nearest.values()] + [-1] * central)[:central])
    sizes = found["tokens"][:k]
    filled = [n for n in sizes if n]
    found["empty"] = len(sizes) - len(filled)
    found["smallest"], found["largest"] = min(filled, default=0), max(sizes)
    found["median"] = plain.median(sizes)
    found["entropy"] = math.nan
    if filled and k > 1:
        found["entropy"] = -sum(n / sum(filled) * math.log(n / sum(filled)) for n in filled) / math.log(k)
    scatter = float(concepts.scatter[layer])
    found["explained_variance"] = 1 - float(concepts.inertia[run, layer]) / scatter if scatter else math.nan
    present = [token for token, label in enumerate(labels) if label >= 0]
    others = [r for r in range(concepts.sizes["run"]) if r != run and int(concepts.k[r]) == k]
    found["stability"] = math.nan
    if present and others:
        of_others = [concepts.concept.values[other, layer][present] for other in others]
        found["stability"] = plain.fmean(adjusted_rand_score([labels[t] for t in present], o) for o in of_others)
    return found


@given(drawn(), st.integers(1, 4))
def test_describe__equals_loops(concepts: xr.Dataset, central: int) -> None:
    found = describe(concepts, central)
    assert CONCEPT_STATISTICS.validate(found) is found
    for run in range(concepts.sizes["run"]):
        for layer in range(concepts.sizes["layer"]):
            here = found.isel(run=run, layer=layer)
            for name, expected in looped(concepts, run, layer, central).items():
                np.testing.assert_allclose(here[name].values, expected, rtol=1e-12, atol=1e-12, err_msg=name)
    for name in ("layer", "k", "seed", "chosen"):
        assert found[name].values.tolist() == concepts[name].values.tolist()
    assert found.attrs["languages"] == LANGUAGES


@given(drawn(), st.randoms(use_true_random=False))
def test_describe__order_of_tokens_does_not_matter(concepts: xr.Dataset, random: Any) -> None:
    order = list(range(concepts.sizes["token"]))
    random.shuffle(order)
    found, other = describe(concepts), describe(concepts.isel(token=order))
    for name in COUNTS:
        np.testing.assert_array_equal(found[name].values, other[name].values, err_msg=name)
    for name in ("mean_distance", "largest_distance"):
        np.testing.assert_allclose(found[name].values, other[name].values, err_msg=name)
    distances = [
        [concepts.distance.values[0, 0][token] for token in tokens if token >= 0]
        for tokens in (
            found.central_token.values[0, 0, 0],
            [order[t] if t >= 0 else -1 for t in other.central_token.values[0, 0, 0].tolist()],
        )
    ]
    assert distances[0] == distances[1]


@given(drawn(), st.integers(1, 30), st.integers(1, 2))
def test_describe__chunks_do_not_matter(concepts: xr.Dataset, chunk: int, layers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store.setup(
            f"{folder}/concepts.zarr",
            CONCEPTS,
            concepts.sizes,
            {name: array.values for name, array in concepts.variables.items()},
            chunks={"run": 1, "layer": layers, "token": chunk},
            shards={},
            languages=LANGUAGES,
        )
        xr.testing.assert_identical(describe(store.load(f"{folder}/concepts.zarr", CONCEPTS)), describe(concepts))


@given(drawn(), st.data())
def test_describe__of_some_runs_and_layers_is_part_of_all(concepts: xr.Dataset, data: st.DataObject) -> None:
    k = data.draw(st.sampled_from(concepts.k.values.tolist()))
    part = {"run": np.flatnonzero(concepts.k.values == k), "layer": [data.draw(st.integers(0, 1))]}
    xr.testing.assert_identical(describe(concepts.isel(part)), describe(concepts).isel(part))


@given(drawn())
def test_describe__parts_add_up(concepts: xr.Dataset) -> None:
    found = describe(concepts)
    present = (concepts.concept >= 0).sum("token")
    assert found.tokens.sum("concept_id").values.tolist() == present.values.tolist()
    assert (found.languages <= found.types).all()
    assert (found.types <= found.tokens).all()
    assert ((found.central_token >= 0).sum("rank") <= found.types).all()
    for name, least in (("entropy", 0), ("stability", -1)):
        values = found[name].values[~np.isnan(found[name].values)]
        assert ((values >= least) & (values <= 1)).all()


def test_describe__entropy_of_even_and_of_single_concepts() -> None:
    even, single = np.repeat(np.arange(7), 11), np.full(77, 3)
    found = describe(concepts_of(np.stack([even, single])[:, None], ["a"] * 77, [0] * 77, ks=[7, 7]))
    assert found.entropy.values[:, 0].tolist() == [pytest.approx(1), 0]
    assert found.entropy.max() <= 1
    assert found.empty.values[:, 0].tolist() == [0, 6]


def test_describe__many_tokens_do_not_overflow() -> None:
    labels = np.repeat([[np.arange(200_000) % 2, np.arange(200_000) // 100_000]], 1, axis=0).transpose(1, 0, 2)
    found = describe(concepts_of(labels, ["a"] * 200_000, [0] * 200_000, ks=[2, 2]))
    expected = adjusted_rand_score(labels[0, 0], labels[1, 0])
    np.testing.assert_allclose(found.stability.values, expected, rtol=1e-12)


@given(drawn())
def test_words_of__the_words_of_the_central_tokens(concepts: xr.Dataset) -> None:
    found = describe(concepts, 3)
    words = concepts.word.values.tolist()
    for run in range(concepts.sizes["run"]):
        expected = [[words[t] for t in ts if t >= 0] for ts in found.central_token.values[run, 1].tolist()]
        assert words_of(concepts, found, run, 1) == expected
        assert all(len(set(of_one)) == len(of_one) for of_one in expected)


@given(drawn())
def test_language_tokens__equal_counters(concepts: xr.Dataset) -> None:
    found = language_tokens(concepts, 0, 1)
    pairs = Counter(zip(concepts.concept.values[0, 1].tolist(), concepts.language.values.tolist(), strict=True))
    assert {cell: int(n) for cell, n in np.ndenumerate(found) if n} == {c: n for c, n in pairs.items() if c[0] >= 0}


@pytest.mark.parametrize(
    ("labels", "language", "sentence"),
    [
        ([0, 2], [0, 0], "concept of run 0, layer 4: expected -1 to 1, found 0 to 2; cluster again"),
        ([-2, 1], [0, 0], "concept of run 0, layer 4: expected -1 to 1, found -2 to 1; cluster again"),
        ([0, 1], [0, 3], "language: expected indices from 0 to 2, found 0 to 3; cluster again"),
        ([0, 1], [-1, 0], "language: expected indices from 0 to 2, found -1 to 0; cluster again"),
    ],
)
def test_describe__out_of_range(labels: list[int], language: list[int], sentence: str) -> None:
    with pytest.raises(SchemaError) as raised:
        describe(concepts_of(np.array([[labels]]), ["a", "b"], language, ks=[2], layers=[4]))
    assert str(raised.value) == sentence
