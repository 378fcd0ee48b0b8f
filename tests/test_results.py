"""Scores laid out along their labels: single calls, sweeps, and NaN where nothing was studied."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from engine import calign, colap
from engine.colap import UNITS
from engine.results import SWEEPS, assemble, save, scores
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT, RANKS
from schemas.metrics import Metrics
from schemas.results import CALIGN, CALIGN_SWEEPS, COLAP, COLAP_SWEEPS, STATISTICS

THRESHOLDS = {"theta_align": 0.5, "min_types": 2, "max_size_gap": 0.4}


def aligned_counts(layers: list[int], seed: int, k: int = 9) -> xr.Dataset:
    """Random ALIGNED_TYPES."""
    draw = np.random.default_rng(seed)
    source, target = (draw.integers(0, 9, (len(layers), k)).astype(np.int32) for _ in range(2))
    part = (source[:, :, None] * draw.random((len(layers), k, k)) ** 0.5).round().astype(np.int32)
    up_to = (part * (np.arange(1, RANKS + 1) / RANKS)[:, None, None, None] ** 0.2).round().astype(np.int32)
    return ALIGNED_TYPES.create(
        {
            "layer": np.array(layers, np.int32),
            "rank": np.arange(RANKS, dtype=np.int32),
            "aligned_types": np.diff(up_to, prepend=np.zeros_like(up_to[:1]), axis=0),
            "source_size": source,
            "target_size": target,
            "source_types": source,
            "target_types": target,
        }
    )


def language_counts(layers: list[int], languages: list[str], seed: int) -> xr.Dataset:
    """Random LANGUAGE_COUNT."""
    tokens = np.random.default_rng(seed).integers(0, 9, (len(layers), 12, len(languages)))
    return LANGUAGE_COUNT.create(
        {
            "layer": np.array(layers, np.int32),
            "language": languages,
            "unit": list(UNITS),
            "language_count": np.stack([tokens, (tokens + 1) // 2], axis=-1).astype(np.int64),
        }
    )


def label(checkpoint: str, stack: str, **languages: str) -> dict[str, str]:
    """Labels of a part."""
    return {"checkpoint": checkpoint, "stack": stack} | languages


ALIGNMENT = [
    (label("base", "encoder", source="de", target="en"), [aligned_counts([0, 2], 0)]),
    (label("base", "encoder", source="en", target="de"), [aligned_counts([0, 2], 1)]),
    (label("tuned", "encoder", source="de", target="en"), [aligned_counts([0, 2], 2)]),
    (label("tuned", "decoder", source="de", target="en"), [aligned_counts([2, 5], 3)]),
]
OVERLAP = [
    (label("base", "encoder", language_set="de+en"), [language_counts([0, 2], ["de", "en"], 4)]),
    (label("tuned", "decoder", language_set="de+en+fr"), [language_counts([1], ["de", "en", "fr"], 5)]),
]


def test_scores__lays_out_single_calls_and_nothing_else() -> None:
    found = scores(CALIGN, ALIGNMENT, calign.score, **THRESHOLDS)
    assert found.layer.values.tolist() == [0, 2, 5]
    assert found.checkpoint.values.tolist() == ["base", "tuned"]
    assert found.source.values.tolist() == ["de", "en"]
    assert found.target.values.tolist() == ["en", "de"]
    studied = 0
    for part, (counts,) in ALIGNMENT:
        alone = calign.calign(counts, **THRESHOLDS)
        assert alone.calign.values.any()
        here = found.sel(part).sel(layer=counts.layer)
        for name in alone:
            np.testing.assert_array_equal(here[name], alone[name])
        studied += counts.sizes["layer"]
    for name in found.data_vars:
        if name not in ("hub_share", "mutual_concepts", "mutual_calign"):  # not known of every part
            assert found[name].notnull().sum() == studied
    assert found.attrs["theta_align"] == 0.5


def test_scores__overlap_of_parts_with_other_layers() -> None:
    found = scores(COLAP, OVERLAP, colap.score, theta_overlap=0.3, unit="type")
    assert found.layer.values.tolist() == [0, 1, 2]
    for part, (counts,) in OVERLAP:
        here = found.sel(part)
        np.testing.assert_array_equal(here.sel(layer=counts.layer).colap, colap.colap(counts, unit="type").colap)
        assert here.colap.notnull().sum() == counts.sizes["layer"]


@pytest.mark.parametrize("swept", list(CALIGN_SWEEPS))
def test_scores__sweeps_equal_single_calls(swept: str) -> None:
    found = scores(CALIGN_SWEEPS[swept], ALIGNMENT, calign.score, **(THRESHOLDS | {swept: SWEEPS[swept]}))
    assert found[swept].values.tolist() == list(SWEEPS[swept])
    for (part, (counts,)), value in product(ALIGNMENT, SWEEPS[swept]):
        alone = calign.calign(counts, **(THRESHOLDS | {swept: value}))
        here = found.sel(part).sel({swept: value}).sel(layer=counts.layer)
        for name in alone:
            np.testing.assert_array_equal(here[name], alone[name])
    assert len(np.unique(found.calign.values[~np.isnan(found.calign.values)])) > 3


def test_scores__sweep_of_the_overlap() -> None:
    schema = COLAP_SWEEPS["theta_overlap"]
    found = scores(schema, OVERLAP, colap.score, theta_overlap=SWEEPS["theta_overlap"], unit="token")
    for (part, (counts,)), value in product(OVERLAP, SWEEPS["theta_overlap"]):
        here = found.sel(part).sel(theta_overlap=value, layer=counts.layer)
        np.testing.assert_array_equal(here.colap, colap.colap(counts, theta_overlap=value).colap)


def test_sweeps__hold_the_thresholds_of_the_paper() -> None:
    metrics = Metrics()
    for name, grid in SWEEPS.items():
        assert getattr(metrics, name) in grid
        assert list(grid) == sorted(set(grid))


@pytest.fixture
def statistics() -> dict[str, Any]:
    """Variables of the STATISTICS dataset."""
    per_language = {
        v.name: np.array([3, 4]) for v in STATISTICS.variables if not v.coordinate and v.dims == ("language",)
    }
    return per_language | {
        "language": ["de", "en"], "checkpoint": ["base"], "absent_tokens": np.zeros((1, 2), np.int64),
        "too_long_tokens": np.zeros((1, 2), np.int64)
    }  # fmt: skip


def test_assemble__a_tree_that_plain_xarray_reads(tmp_path: Path, statistics: dict[str, Any]) -> None:
    metrics = Metrics(theta_align=0.5, min_types=2, overlap_unit="type")
    alignment, overlap = ([(part | {"k": 9}, counts) for part, counts in parts] for parts in (ALIGNMENT, OVERLAP))
    tree = assemble(
        alignment,
        overlap,
        [],
        calign.score,
        colap.score,
        calign.score,
        calign.union,
        calign.best,
        metrics,
        9,
        statistics,
        study="{}",
    )
    save(str(tmp_path / "results.zarr"), tree)
    with xr.open_datatree(tmp_path / "results.zarr", engine="zarr", consolidated=False, chunks=None) as found:
        assert {node.path for node in found.subtree if node.has_data} == {
            "/calign", "/colap", "/statistics", "/sweeps/calign_by_theta_align", "/sweeps/calign_by_min_types",
            "/sweeps/calign_by_n_best", "/sweeps/calign_by_max_size_gap", "/sweeps/colap_by_theta_overlap",
            "/sweeps/calign_by_k", "/sweeps/colap_by_k",
        }  # fmt: skip
        for node in tree.subtree:
            xr.testing.assert_identical(found[node.path].to_dataset().load(), node.to_dataset().load())
        main = found["/calign"]
        np.testing.assert_array_equal(found["/sweeps/calign_by_theta_align"].calign.sel(theta_align=0.5), main.calign)
        np.testing.assert_array_equal(found["/sweeps/calign_by_min_types"].calign.sel(min_types=2), main.calign)
        assert found["/colap"].attrs["unit"] == "type"
        assert found.attrs["study"] == "{}"
