"""What a command may write over."""

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem

from engine import lease, paths, store
from jobs.files import load_study
from jobs.outputs import check_checkpoint, check_dataset
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import InputError
from schemas.results import SCORES
from tests.small_study import SmallStudy


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
    check_dataset(f"file://{tmp_path}/new/x.zarr", LANGUAGE_COUNT.name)


def test_memory_of_the_process_is_refused(tmp_path: Path) -> None:
    said = r"memory://study/a: the memory of this process, expected a place that outlives it; give a folder, or a URL"
    with pytest.raises(InputError, match=said):
        check_dataset("memory://study/a", LANGUAGE_COUNT.name)
    with pytest.raises(InputError, match=said):
        load_study(str(SmallStudy(tmp_path, "model").file), "memory://study/a")


class Buckets(MemoryFileSystem):  # type: ignore[misc]
    """A store that makes any bucket which is written into."""

    protocol = ("buckets", "gs")
    store: dict[str, Any] = {}  # noqa: RUF012  (as the class that it comes from)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("buckets://").strip("/")


def test_buckets_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("buckets", Buckets, clobber=True)
    monkeypatch.setattr(lease, "_SETTLED", 0.0)
    url = "buckets://mistaken/study"
    said = rf"{url}.*: there is no bucket mistaken; mend its name, or make it with gcloud storage .* gs://mistaken"
    with pytest.raises(InputError, match=said):
        check_dataset(url, SCORES.name)
    with pytest.raises(InputError, match=said), lease.held(f"{url}/lease.json"):
        pass
    with pytest.raises(InputError, match=said):
        paths.write_text(f"{url}/study.yaml", "text")
    assert (Buckets.store, Buckets.pseudo_dirs) == ({}, [""])
    Buckets.pseudo_dirs.append("mistaken")
    check_dataset(url, SCORES.name)
    with lease.held(f"{url}/lease.json"):
        assert [*Buckets.store] == ["mistaken/study/lease.json"]


def test_paths_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match=r"x.zarr: .*file is a file, expected a folder; choose another name"):
        check_dataset(str(tmp_path / "file" / "x.zarr"), SCORES.name)
    for given in (tmp_path / "file", tmp_path / "file" / "made"):
        with pytest.raises(InputError, match=r"file: a file, expected a folder; choose another"):
            check_checkpoint(str(given))
