"""COLAP against the loops of Section 2.3, from labelled tokens to the fraction."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from engine.colap import UNITS, colap, count_languages, overlapping
from schemas.counts import LANGUAGE_COUNT
from tests.oracles import metrics
from tests.oracles.texts import corpus
from tests.small_concepts import concepts_dataset as concepts_of

K = 4
LANGUAGES = ["ar", "de", "en"]
hundredths = st.integers(0, 100).map(lambda n: n / 100)
sentence = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=15)


@st.composite
def mixed(draw: st.DrawFn) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """A text in three languages, the tokens of a mixed selection, and their concepts in two layers."""
    text = corpus({language: [draw(sentence)] for language in LANGUAGES})
    tokens = sorted(draw(st.sets(st.integers(0, text.sizes["token"] - 1), min_size=1)))
    labels = st.lists(st.integers(-1, K - 1), min_size=len(tokens), max_size=len(tokens))
    return text, np.array(tokens), np.array([draw(labels) for _ in range(2)], np.int32)


def mixed_concepts(labels: np.ndarray, tokens: np.ndarray, text: xr.Dataset) -> xr.Dataset:
    """The CONCEPTS dataset of the tokens of a mixed selection."""
    words = text.form.values[text.token_type.values[tokens]].tolist()
    found = concepts_of(labels, words, K, languages=LANGUAGES)
    return found.assign(language=found.language.copy(data=text.token_language.values[tokens]))


def counts_dataset(tokens: list[list[int]], types: list[list[int]] | None = None) -> xr.Dataset:
    """LANGUAGE_COUNT of one layer from (concept, language) counts."""
    both = np.stack([np.array(tokens), np.array(types or tokens)], axis=-1)
    return LANGUAGE_COUNT.create(
        {
            "layer": np.array([6], np.int32),
            "language": LANGUAGES[: both.shape[1]],
            "unit": list(UNITS),
            "language_count": both[None].astype(np.int64),
        }
    )


@given(mixed(), hundredths)
def test_colap__equals_the_loops_of_section_2_3(drawn: tuple[xr.Dataset, np.ndarray, np.ndarray], theta: float) -> None:
    text, tokens, labels = drawn
    counts = count_languages(mixed_concepts(labels, tokens, text), labels, K)
    languages, types = text.token_language.values[tokens], text.token_type.values[tokens]
    assert counts.language.values.tolist() == LANGUAGES
    for at, of_layer in enumerate(labels):
        loops = np.array(metrics.language_count(of_layer, types, languages, K, 3))
        assert counts.language_count[at].values.tolist() == loops.tolist()
        for number, unit in enumerate(UNITS):
            found = colap(counts, theta_overlap=theta, unit=unit).isel(layer=at)
            expected = metrics.colap(loops[:, :, number].tolist(), theta)
            assert {name: found[name].item() for name in expected} == expected
            assert 0 <= found.colap <= 1


@given(mixed(), st.lists(hundredths, min_size=2, max_size=6), st.sampled_from(UNITS))
def test_colap__falls_as_theta_rises(
    drawn: tuple[xr.Dataset, np.ndarray, np.ndarray], thetas: list[float], unit: str
) -> None:
    text, tokens, labels = drawn
    counts = count_languages(mixed_concepts(labels, tokens, text), labels, K)
    swept = [colap(counts, theta_overlap=theta, unit=unit).colap.values for theta in sorted(thetas)]
    assert (np.diff(swept, axis=0) <= 0).all()


@pytest.mark.parametrize(
    ("row", "theta", "expected"),
    [
        ([3, 7], 0.3, 1),  # exactly 0.3 of 10
        ([2, 8], 0.3, 0),
        ([3, 7], 1 - 0.7, 1),  # 0.30000000000000004
        ([30, 70], 0.3, 1),
        ([29, 71], 0.3, 0),
        ([5, 5], 0.5, 1),
        ([5, 5], 0.51, 0),
        ([10, 0], 0.3, 0),
        ([10, 0], 0.0, 1),  # every language forms at least nothing
        ([3, 3, 4], 0.3, 1),
        ([4, 3, 3], 0.35, 0),  # a third language takes its share of the whole
        ([4, 4, 2], 0.4, 1),  # two of three languages are enough
    ],
)
def test_colap__exactly_at_the_boundary(row: list[int], theta: float, expected: int) -> None:
    assert colap(counts_dataset([row]), theta_overlap=theta).overlapping_concepts.item() == expected


def test_colap__empty_concepts_are_not_counted() -> None:
    found = colap(counts_dataset([[0, 0], [5, 5], [9, 0], [0, 0]]), theta_overlap=0.0)
    assert found.concepts == 2
    assert found.overlapping_concepts == 2
    assert colap(counts_dataset([[0, 0]])).colap == 0


def test_colap__units_differ() -> None:
    counts = counts_dataset([[10, 10]], [[1, 9]])
    assert colap(counts, unit="token").colap == 1
    assert colap(counts, unit="type").colap == 0


def test_overlapping__all_languages_or_two_and_the_comparison() -> None:
    counts = counts_dataset([[4, 3, 3], [5, 5, 0], [10, 0, 0], [0, 0, 0]])
    assert overlapping(counts)[0].tolist() == [True, True, False, False]
    assert overlapping(counts, min_languages="all")[0].tolist() == [True, False, False, False]
    assert overlapping(counts, min_languages=3)[0].tolist() == [True, False, False, False]
    assert overlapping(counts, comparison="more_than")[0].tolist() == [False, True, False, False]
    assert overlapping(counts, theta_overlap=0.0, comparison="more_than", min_languages="all")[0].sum() == 1
