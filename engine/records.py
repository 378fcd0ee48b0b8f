"""Commit records: a task is done when its record says so, never because a file exists."""

import json

from engine.paths import contents, filesystem, join, read_text, write_text
from schemas.errors import StoreError
from schemas.task import Record


def write_record(folder: str, record: Record) -> None:
    """Commit a task."""
    write_text(join(folder, f"{record.key}.json"), json.dumps(record.to_dict()))


def read_record(folder: str, name: str) -> Record | None:
    """Record of a task, if it is finished."""
    text = read_text(join(folder, f"{name}.json"))
    return None if text is None else Record(**json.loads(text))


def delete_record(folder: str, name: str) -> None:
    """Take back that a task is done."""
    system, place = filesystem(join(folder, f"{name}.json"))
    system.rm_file(place)


def read_records(folder: str) -> dict[str, Record]:
    """Records of every finished task, by key.

    Raises
    ------
    StoreError
        A record is damaged; the message names it and the remedy.
    """
    records = {}
    for path, text in contents(folder, ".json"):
        try:
            record = Record(**json.loads(text))
            if not path.endswith(join("", f"{record.key}.json")):
                raise ValueError("the record of another task")
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{path}: expected the record of a task, found {text[:40]!r}; delete the file, the task is done again"
            ) from error
        records[record.key] = record
    return records
