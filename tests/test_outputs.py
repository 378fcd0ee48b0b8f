"""What a command may write over."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from engine import store
from jobs.outputs import check_checkpoint, check_dataset
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import InputError
from schemas.results import SCORES


def counts(path: Path) -> None:
    values = {"layer": np.zeros(1, np.int32), "language": ["de"], "unit": ["token"]}
    count = {"language_count": np.zeros((1, 1, 1, 1), np.int64)}
    store.save(str(path), LANGUAGE_COUNT, LANGUAGE_COUNT.create(values | count))


def folder(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("{}")


def damaged(path: Path) -> None:
    counts(path)
    (path / "zarr.json").write_text("{")


MADE = {
    "group": (lambda path: zarr.open_group(path, mode="w"), "a folder that is no such dataset"),
    "old group": (lambda path: zarr.open_group(path, mode="w", zarr_format=2), "a folder that is no such dataset"),
    "array": (lambda path: zarr.create_array(path, shape=3, dtype="int8"), "a folder that is no such dataset"),
    "other dataset": (counts, f"a dataset of {LANGUAGE_COUNT.name}"),
    "damaged": (damaged, "a folder that is no such dataset"),
    "folder": (folder, "a folder that is no such dataset"),
    "file": (lambda path: path.write_text("text"), "a file"),
}


@pytest.mark.parametrize("what", MADE)
def test_dataset__everything_else_is_refused(what: str, tmp_path: Path) -> None:
    make, found = MADE[what]
    path = tmp_path / "x.zarr"
    make(path)
    with pytest.raises(InputError) as raised:
        check_dataset(str(path), SCORES.name)
    assert str(raised.value) == (
        f"{path}: expected nothing there, or a dataset of scores to replace; found {found}: choose another name with "
        "--out"
    )


def test_dataset__what_may_be_written(tmp_path: Path) -> None:
    counts(tmp_path / "own.zarr")
    (tmp_path / "empty").mkdir()
    for given in (None, str(tmp_path / "own.zarr"), str(tmp_path / "empty"), str(tmp_path / "new" / "x.zarr")):
        check_dataset(given, LANGUAGE_COUNT.name)
    check_dataset("memory://outputs/new.zarr", LANGUAGE_COUNT.name)


def test_paths_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match=r"x.zarr: .*file is a file, expected a folder; choose another name"):
        check_dataset(str(tmp_path / "file" / "x.zarr"), SCORES.name)
    for given in (tmp_path / "file", tmp_path / "file" / "made"):
        with pytest.raises(InputError, match=r"file: a file, expected a folder; choose another"):
            check_checkpoint(str(given))
