"""Commit records: written, read, damaged."""

from pathlib import Path

import pytest

from engine.records import read_records, write_record
from schemas.errors import StoreError
from schemas.task import Key, Record


def test_records__round_trip(tmp_path: Path) -> None:
    key = Key("activations", ("base", "encoder", "de"), 0, 4)
    record = Record(str(key), "f", "host", 1.5, 2.5, 3, {"tokens": 4})
    write_record(str(tmp_path), record)
    assert read_records(str(tmp_path)) == {str(key): record}
    assert read_records(str(tmp_path / "none")) == {}


def test_read_records__damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"key": "x"')
    with pytest.raises(StoreError, match=r"x\.json: expected the record of a task, found .* delete the file"):
        read_records(str(tmp_path))
