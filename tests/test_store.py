"""The store: layout, regions of whole shards, commit records, clear failures."""

import contextlib
import errno
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from engine import paths, store
from engine.kernels.shards import shard_ranges
from schemas.activations import ACTIVATIONS
from schemas.corpus import CORPUS, SELECTION
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import SchemaError, StoreError


def make(path: Path, tokens: int = 10, shard: int = 4, chunk: int = 2) -> str:
    store.setup(
        str(path),
        ACTIVATIONS,
        {"layer": 2, "token": tokens, "hidden": 3},
        {"layer": np.arange(2, dtype=np.int32), "token_id": np.arange(tokens)},
        chunks={"layer": 1, "token": chunk},
        shards={"layer": 1, "token": shard},
        dtypes={"activation": "float16"},
        model="m",
    )
    return str(path)


def test_setup__opens_with_xarray_alone(tmp_path: Path) -> None:
    dataset = xr.open_zarr(make(tmp_path / "a.zarr"), consolidated=False)
    assert dataset.activation.dims == ("layer", "token", "hidden")
    assert dataset.activation.dtype == np.float16
    assert dataset.activation.encoding["shards"] == (1, 4, 3)
    assert dataset.activation.encoding["chunks"] == (1, 2, 3)
    assert dataset.activation.attrs["long_name"] == ACTIVATIONS["activation"].meaning
    assert dataset.attrs["model"] == "m"
    assert bool(dataset.activation.isnull().all())


def test_setup__again_keeps_what_was_written(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr")
    rows = np.ones((2, 4, 3), np.float16)
    store.write_region(path, "activation", rows, token=4)
    make(tmp_path / "a.zarr")
    np.testing.assert_array_equal(store.read_rows(path, "activation", np.arange(4, 8), axis=1), rows)


@pytest.mark.parametrize(
    ("start", "length"),
    [(2, 4), (0, 3), (4, 2), (8, 4), (1, 9)],
    ids=["starts inside", "ends inside", "too short", "too long", "almost all"],
)
def test_write_region__refuses_parts_of_shards(tmp_path: Path, start: int, length: int) -> None:
    path = make(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"not a whole number of shards of 4; two writers"):
        store.write_region(path, "activation", np.ones((2, length, 3), np.float16), token=start)


@given(tokens=st.integers(1, 40), shard=st.integers(1, 12))
def test_shard_ranges__hold_every_token_exactly_once(tokens: int, shard: int) -> None:
    ranges = shard_ranges(tokens, shard)
    assert [i for a, b in ranges for i in range(a, b)] == list(range(tokens))
    assert all(a % shard == 0 and (b % shard == 0 or b == tokens) for a, b in ranges)


@pytest.mark.parametrize(("tokens", "shard"), [(1, 4), (4, 4), (5, 4), (9, 4)])
def test_write_region__shards_in_any_order_make_the_whole(tmp_path: Path, tokens: int, shard: int) -> None:
    path = make(tmp_path / "a.zarr", tokens, shard)
    values = np.random.default_rng(0).normal(size=(2, tokens, 3)).astype(np.float16)
    for a, b in reversed(shard_ranges(tokens, shard)):
        store.write_region(path, "activation", values[:, a:b], token=a)
    np.testing.assert_array_equal(store.load(path, ACTIVATIONS).activation.values, values)


def growing(path: str, languages: int = 1, chunk: int = 4) -> str:
    """A CORPUS dataset whose arrays are still empty."""
    sizes = {"language": languages, "token": 0, "type": 0, "boundary": 0}
    chunks = {"token": chunk, "type": chunk, "boundary": chunk, "language": 1}
    store.setup(path, CORPUS, sizes, {}, chunks=chunks, shards={})
    return path


@given(st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=9), st.sets(st.integers(0, 8)), st.integers(1, 6))
def test_growing__holds_all_pieces_in_order(pieces: list[list[int]], flushed: set[int], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = growing(f"{folder}/a.zarr", chunk=chunk)
        column = store.Growing(path, "token_type")
        expected: list[int] = []
        for i, piece in enumerate(pieces):
            column.extend(np.array(piece, np.int32))
            expected += piece
            assert len(column) == len(expected)
            if i in flushed:
                column.flush()
        column.flush()
        held = zarr.open_array(f"{path}/token_type", mode="r")
        assert held[:].tolist() == expected
        assert held.chunks == (chunk,)
        start = len(expected) // 3
        column.replace(start, lambda values: values + 100)
        assert held[:].tolist() == [*expected[:start], *(value + 100 for value in expected[start:])]


def test_growing__rows_of_two_dimensions_and_text(tmp_path: Path) -> None:
    path = growing(str(tmp_path / "a.zarr"), languages=2)
    rows = [[0, 3, 5, 6, 8, 9], [9, 10, 11, 15, 16, 20]]
    for row, values in enumerate(rows):
        starts = store.Growing(path, "sentence_start", row)
        starts.extend(np.array(values[:5]))
        starts.extend(np.array(values[5:]))
        starts.flush()
    forms = store.Growing(path, "form")
    forms.extend(np.array(["a", "été", "日本語", "", "e"], object))
    forms.flush()
    assert zarr.open_array(f"{path}/sentence_start", mode="r")[:].tolist() == rows
    assert store.read_rows(path, "form", np.arange(5)).tolist() == ["a", "été", "日本語", "", "e"]
    with pytest.raises(StoreError, match="conflicting sizes for dimension"):  # half-written
        store.load(path, CORPUS)


def test_read_rows__any_increasing_rows(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr")
    values = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float16)
    for a, b in shard_ranges(10, 4):
        store.write_region(path, "activation", values[:, a:b], token=a)
    for rows in ([0], [1, 5, 9], list(range(10)), [], [0, 0, 2], [1, 1, 1, 8, 9, 9], [3, 4]):
        found = store.read_rows(path, "activation", np.array(rows, int), axis=1, layer=1)
        np.testing.assert_array_equal(found, values[1][rows], strict=True)


def test_read_rows__damaged_shard_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr")
    store.write_region(path, "activation", np.ones((2, 4, 3), np.float16))
    shard = tmp_path / "a.zarr" / "activation" / "c" / "1" / "0" / "0"
    spoilt = bytearray(shard.read_bytes())
    spoilt[3] ^= 0xFF
    shard.write_bytes(spoilt)
    with pytest.raises(StoreError, match=r"a\.zarr/activation: rows 0\.\.4 cannot be read .* damaged, delete"):
        store.read_rows(path, "activation", np.arange(4), axis=1, layer=1)


def test_load__missing_other_kind_and_other_version(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a selection dataset, found none"):
        store.load(str(tmp_path / "none.zarr"), SELECTION)
    with pytest.raises(StoreError, match="expected a selection dataset, found activations"):
        store.load(make(tmp_path / "a.zarr"), SELECTION)
    old = SELECTION.create({"token_id": np.arange(3)})
    old.attrs["format_version"] = 0
    old.to_zarr(tmp_path / "old.zarr", consolidated=False)
    with pytest.raises(SchemaError, match="has format version 0, this Colign reads 2; run the study again"):
        store.load(str(tmp_path / "old.zarr"), SELECTION)


def test_write_text__leaves_no_part(tmp_path: Path) -> None:
    paths.write_text(str(tmp_path / "deep" / "a.json"), "one")
    paths.write_text(str(tmp_path / "deep" / "a.json"), "two")
    assert [(p.name, p.read_text()) for p in (tmp_path / "deep").iterdir()] == [("a.json", "two")]


def test_write_bytes__leaves_nothing_of_a_file_for_which_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, path: str, value: bytes) -> None:
        Path(path).touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", full)
    with pytest.raises(StoreError, match="the disk is full"):
        paths.write_bytes(str(tmp_path / "a.json"), b"content")
    assert [*tmp_path.iterdir()] == []


def test_sweep_partial_files__removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "a" / "c" / "0.1234.partial").write_text("half")
    (tmp_path / "a" / "c" / "0").write_text("whole")
    assert paths.sweep_partial_files(str(tmp_path)) == 1
    assert [p.name for p in (tmp_path / "a" / "c").iterdir()] == ["0"]


def test_write_region__full_disk_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.zarr")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.Array.__setitem__", full)
    with pytest.raises(StoreError, match="the disk is full; free space and run again, finished tasks are kept"):
        store.write_region(path, "activation", np.ones((2, 4, 3), np.float16))


def test_paths__may_be_urls() -> None:
    root = "memory://colign-test"
    paths.write_text(f"{root}/deep/a.txt", "text")
    assert paths.read_text(f"{root}/deep/a.txt") == "text"
    assert paths.free_bytes(root) is None
    assert paths.sweep_partial_files(root) == 0


def counts(value: int) -> xr.Dataset:
    """A small dataset."""
    values = np.full((1, 3, 2, 2), value)
    names = {"layer": np.array([1], np.int32), "language": ["de", "en"], "unit": ["token", "type"]}
    return LANGUAGE_COUNT.create(names | {"language_count": values})


@pytest.mark.parametrize("files", range(12))
def test_save__an_attempt_that_is_lost_midway_leaves_what_another_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    path = str(tmp_path / "a.zarr")
    store.save(path, LANGUAGE_COUNT, counts(7), fingerprint="same")
    whole = {file: file.read_bytes() for file in (tmp_path / "a.zarr").rglob("*") if file.is_file()}
    write, left = paths.write_bytes, [files]

    def lost(name: str, content: bytes) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(name, content)

    monkeypatch.setattr(paths, "write_bytes", lost)
    with contextlib.suppress(KeyboardInterrupt):
        store.save(path, LANGUAGE_COUNT, counts(7), fingerprint="same")
    assert {file: file.read_bytes() for file in (tmp_path / "a.zarr").rglob("*") if file.is_file()} == whole
    assert len(whole) < 12  # or some would have no fault


@pytest.mark.parametrize("before", ["other", "none", "damaged", "nothing"])
def test_save__replaces_what_is_of_other_settings_or_damaged(tmp_path: Path, before: str) -> None:
    path = tmp_path / "a.zarr"
    if before != "nothing":
        given = {} if before == "none" else {"fingerprint": "before" if before == "other" else "now"}
        store.save(str(path), LANGUAGE_COUNT, counts(1), **given)
        (path / "stray").write_text("of another layout")
    if before == "damaged":
        (path / "zarr.json").write_text("{")
    store.save(str(path), LANGUAGE_COUNT, counts(2), fingerprint="now")
    assert (
        store.read(str(path), LANGUAGE_COUNT).language_count.values.tolist() == counts(2).language_count.values.tolist()
    )
    assert not (path / "stray").exists()
