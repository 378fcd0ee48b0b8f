"""The demo: its text, and its flow on checkpoints trained for a moment."""

import sys
import unicodedata
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
import xarray as xr

from engine.model.recipes import Recipe, TuningRecipe
from jobs import cli, demo


def lines(language: str) -> list[str]:
    return resources.files("jobs.demo").joinpath(f"{language}.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("language", demo.LANGUAGES)
def test_text__is_aligned_clean_and_without_repeats(language: str) -> None:
    found = lines(language)
    assert len(found) == len(lines("en")) >= 600
    assert all(line == line.strip() == unicodedata.normalize("NFC", line) and line for line in found)
    assert len(set(found)) >= 0.99 * len(found)
    assert all(
        (unicodedata.name(c).startswith("ARABIC")) == (language == "ar") for line in found for c in line if c.isalpha()
    )


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for a moment instead of a minute."""
    small = partial(Recipe, steps=4, layers=2, hidden=32, heads=2, vocabulary=900, batch=8)
    monkeypatch.setattr(demo, "Recipe", small)
    monkeypatch.setattr(demo, "TuningRecipe", partial(TuningRecipe, steps=2, batch=4))


@pytest.mark.usefixtures("moment")
def test_demo__writes_a_whole_study_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["colign", "demo", str(tmp_path)])
    for trained in (True, False):
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        printed = capsys.readouterr()
        assert ("training the base encoder on 3,750 sentences" in printed.err) == trained
        assert "fr → en" in printed.out
        assert "zero-shot" in printed.out
        assert f'xr.open_datatree("{tmp_path.resolve()}/study/results.zarr"' in printed.out
    results = xr.open_datatree(tmp_path / "study" / "results.zarr", engine="zarr", consolidated=False)
    directions, towards_any_of_four = 8, 1
    assert results["calign"].sizes == {"checkpoint": 2, "stack": 1, "layer": 3, "source": 5, "target": 6}
    assert int(results["calign"].to_dataset().calign.notnull().sum()) == 2 * 3 * (directions + towards_any_of_four)
    assert (tmp_path / "study" / "figures" / "calign.png").stat().st_size > 10_000
