"""What a process brings with it: code, packages and devices, and what it sees of a study."""

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from engine import paths
from schemas.errors import InputError

_PACKAGES = (
    "numpy", "scipy", "xarray", "zarr", "numcodecs", "dask", "distributed", "fsspec", "torch", "transformers",
    "tokenizers", "scikit-learn", "sil-thot", "accelerate", "sacrebleu", "seqeval", "cupy-cuda13x", "cuml-cu13",
)  # fmt: skip

_DECIDING = (
    "colign", "dask", "numpy", "scikit-learn", "scipy", "sil-thot", "tokenizers", "torch", "transformers", "xarray",
    "zarr",
)  # fmt: skip

OWN = ("machine", "GPUs")
"""What workers must share with one another, but not with the process that hands out their tasks."""

REMEDY = "install the same packages on all of them, and mount text, models and study directory at the same place"


@cache
def versions() -> str:
    """Versions of the packages that decide results and bytes on disk."""
    return ", ".join(f"{name} {version(name)}" for name in _DECIDING)


def describe(directory: str, lease: str, needed: Sequence[str]) -> dict[str, str]:
    """What this process brings and sees, by what it is; two processes that say the same give the same bits.

    Parameters
    ----------
    directory
        A study directory, in which a file is written and removed.
    lease
        Its lease, by which a directory of the same name elsewhere is told apart.
    needed
        Files and folders that tasks read.
    """
    found = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "colign": _code(),
        **{name: _version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "GPUs": _gpus(),
        directory: _access(directory, lease),
    }
    return found | {path: _presence(path) for path in needed}


def compare(agreed: Mapping[str, str], directory: str, lease: str, needed: Sequence[str]) -> None:
    """Compare this process with what others bring and see; parameters as of `describe`.

    Raises
    ------
    InputError
        Something differs; the message is one table of it.
    """
    found = describe(directory, lease, needed)
    if rows := [
        f"  {what}: {found[what]} here, {value} there" for what, value in agreed.items() if found[what] != value
    ]:
        raise InputError("\n".join(["it differs from those that began:", *rows, REMEDY]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def _code() -> str:
    """Short hash of Colign's own files: an installed version may be edited."""
    found = hashlib.sha256()
    for package in ("schemas", "engine", "jobs"):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(f for f in Path(place).rglob("*") if f.suffix in (".py", ".cu")):
                found.update(str(file.relative_to(place)).encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _gpus() -> str:
    """Names of NVIDIA's GPUs, as their driver lists them."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        names += [line.partition(":")[2].strip() for line in file.read_text().splitlines() if line.startswith("Model")]
    return ", ".join(names) or "none"


def _access(directory: str, lease: str) -> str:
    """How a directory is seen: that it is there, and whose lease it has, or what is wrong."""
    try:
        holder = paths.read_text(lease)
        if holder is None:
            return "another place, or not mounted"
        probe = paths.join(directory, f"{uuid.uuid4().hex}.partial")
        paths.write_text(probe, "")
        paths.remove(probe)
    except Exception as error:  # whatever a file system raises is what there is to say
        return f"cannot be written ({type(error).__name__}: {error})"
    return f"is there, of lease {json.loads(holder)['token'][:8]}"


def _presence(path: str) -> str:
    try:
        system, place = paths.filesystem(path)
        return "is there" if system.exists(place) else "is missing"
    except Exception as error:
        return f"cannot be read ({type(error).__name__}: {error})"
