"""What a command may write over: its own kind of dataset, and nothing else. Looked at before any work is done."""

from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from engine import paths
from engine.exchange.stream import kind
from schemas.errors import InputError, StoreError


def check_place(path: str) -> None:
    """Refuse a URL of --out where nothing stays, or can be written.

    Raises
    ------
    InputError
        It is the memory of this process, or a bucket that is not there.
    """
    system, _ = paths.filesystem(path)
    if system.protocol == "memory":
        raise InputError(
            f"{path}: the memory of this process, expected a place that outlives it; give a folder, or a URL of a "
            "store, with --out"
        )
    paths.in_bucket(path)


def check_dataset(path: str | None, schema: str) -> None:
    """Refuse a path at which something lies that a dataset would delete, or be mixed with.

    Nothing, an empty folder and a dataset of the same schema may lie there: a command that is given again replaces
    what it wrote.

    Parameters
    ----------
    path
        What --out names; None where nothing is to be written.
    schema
        Name of the dataset's schema.

    Raises
    ------
    InputError
        Something else lies there, or the path leads through a file.
    """
    if path is None:
        return
    check_place(path)
    system, place = paths.filesystem(path)
    if not system.exists(place):
        if isinstance(system, LocalFileSystem) and (file := _file_above(place)):
            raise InputError(f"{path}: {file} is a file, expected a folder; choose another name with --out")
        return
    if system.isdir(place) and not system.ls(place, detail=False):
        return
    try:
        name = kind(path)
    except StoreError:  # its metadata are damaged, or it is an array
        name = None
    if name == schema:
        return
    other = "a folder that is no such dataset" if system.isdir(place) else "a file"
    raise InputError(
        f"{path}: expected nothing there, or a dataset of {schema} to replace; found "
        f"{f'a dataset of {name}' if name else other}: choose another name with --out"
    )


def check_checkpoint(directory: str) -> None:
    """Refuse a folder whose checkpoint would be written over, and what is no folder.

    Raises
    ------
    InputError
        A checkpoint lies there, or a file.
    """
    check_folder(directory)
    if (Path(directory) / "config.json").exists():
        raise InputError(f"{directory}: holds a checkpoint already; choose another folder with --out")


def check_folder(directory: str) -> None:
    """Refuse a local path that is, or leads through, a file."""
    if file := _file_above(directory):
        raise InputError(f"{file}: a file, expected a folder; choose another name")


def _file_above(place: str) -> str | None:
    """The file that a local path names or leads through, if it does."""
    here = Path(place)
    return next((str(one) for one in (here, *here.parents) if one.exists() and not one.is_dir()), None)
