"""Import rules of the design, checked on the syntax tree, so that imports inside functions count too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from engine.results import save
from schemas.counts import LANGUAGE_COUNT

ROOT = Path(__file__).parents[1]
LAYERS = ["schemas", "engine.kernels", "engine", "jobs"]  # low to high
STAGES = {
    f"engine.{stage}" for stage in (
        "corpus", "selection", "links", "activations", "concepts", "statistics", "dictionary", "aligned", "calign",
        "colap", "cross", "uncertainty", "results"
    )
}  # fmt: skip
DASK = tuple(f"engine.workers.{name}" for name in ("cluster", "folding", "launch", "remote"))
OWNER = {  # heavy library -> the modules, or packages, that may import it; most have one
    "zarr": ("engine.store", "engine.places"),
    "torch": ("engine.model", "engine.host", "engine.device"),
    "transformers": "engine.model",
    "tokenizers": "engine.model",
    "sklearn": ("engine.backend", "engine.estimator", "engine.flat", "engine.scoring"),
    "vl_convert": "jobs.explore",
    "sacrebleu": "engine.scoring",
    "seqeval": "engine.scoring",
    "cupy": ("engine.backend", "engine.device"),
    "dask": DASK,
    "distributed": DASK,
    "thot": "engine.links",
    "h5py": "engine.exchange.neurox_hdf5",
}
ALLOWED = {  # layers that may import only these libraries, and the standard library
    "schemas": {"numpy", "xarray", "pydantic", "pandera"},
    "engine.kernels": {"numpy", "scipy"},
}
FOREIGN = {"tests", "deploy"}  # nothing imports these
MAX_LINES = 400


def within(module: str, package: str) -> bool:
    """Whether a module is the package or lies in it."""
    return module == package or module.startswith(package + ".")


def layer(module: str) -> int | None:
    """Index in LAYERS of the longest matching prefix, or None for a foreign module."""
    matches = [i for i, name in enumerate(LAYERS) if within(module, name)]
    return max(matches, key=lambda i: len(LAYERS[i]), default=None)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module name that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if not node.level)


def broken(me: str, text: str) -> Iterator[str]:
    """One sentence for each rule that a module breaks."""
    mine = layer(me)
    assert mine is not None
    if len(text.splitlines()) > MAX_LINES:
        yield f"{me} is longer than {MAX_LINES} lines"
    for name in imported(ast.parse(text)):
        library = name.split(".")[0]
        theirs = layer(name)
        if name.startswith("."):
            yield f"{me} uses a relative import"
            continue
        owners = OWNER.get(library, ())
        owners = (owners,) if isinstance(owners, str) else owners
        if owners and not any(within(me, owner) for owner in owners):
            yield f"{me} imports {library}; only {' and '.join(owners)} may"
        if library in FOREIGN:
            yield f"{me} imports {library}"
        if theirs is not None and theirs > mine:
            yield f"{me} imports upward into {LAYERS[theirs]}"
        elif LAYERS[mine] == "engine.kernels" and theirs is not None and theirs != mine:
            yield f"{me} imports {LAYERS[theirs]}; kernels know nothing of ours"
        if me in STAGES and any(within(name, stage) for stage in STAGES - {me}):
            yield f"stage {me} imports another stage; stages meet only through schemas"
        allowed = ALLOWED.get(LAYERS[mine])
        if allowed and theirs is None and library not in allowed | sys.stdlib_module_names:
            yield f"{me} imports {library}; {LAYERS[mine]} may import only {sorted(allowed)}"


def violations(root: Path) -> list[str]:
    """One sentence for each broken rule under root."""
    found = set()
    for path in sorted(p for top in ("schemas", "engine", "jobs") for p in (root / top).rglob("*.py")):
        me = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found |= set(broken(me, path.read_text()))
    return sorted(found)


def test_import_rules() -> None:
    assert violations(ROOT) == []


def test_stages__exist() -> None:
    assert [stage for stage in STAGES if not (ROOT / f"{stage.replace('.', '/')}.py").exists()] == []


def test_top_level__holds_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= {
        "engine", "jobs", "schemas", "tests", "deploy", "pyproject.toml", "README.md"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("engine/calign.py", "import zarr", "engine.calign imports zarr; only engine.store and engine.places may"),
        (
            "engine/calign.py",
            "import zarr.codecs",
            "engine.calign imports zarr; only engine.store and engine.places may",
        ),
        ("jobs/run.py", "def f():\n    from torch import nn", "jobs.run imports torch; only engine.model and "),
        (
            "engine/workers/serial.py",
            "import dask",
            "engine.workers.serial imports dask; only engine.workers.cluster and engine.workers.folding and ",
        ),
        ("jobs/a.py", "from thot import alignment", "jobs.a imports thot; only engine.links may"),
        ("engine/modelling.py", "import torch", "engine.modelling imports torch; only "),
        ("engine/calign.py", "from engine import colap", "stage engine.calign imports another stage; "),
        ("engine/calign.py", "import engine.colap", "stage engine.calign imports another stage; "),
        ("engine/calign.py", "from engine.links import link", "stage engine.calign imports another stage; "),
        ("engine/store.py", "import jobs.run", "engine.store imports upward into jobs"),
        ("schemas/study.py", "from engine import store", "schemas.study imports upward into engine"),
        ("schemas/study.py", "import scipy", "schemas.study imports scipy; schemas may import only "),
        ("engine/kernels/lloyd.py", "from engine import store", "engine.kernels.lloyd imports upward into engine"),
        ("engine/kernels/lloyd.py", "from schemas import task", "engine.kernels.lloyd imports schemas; kernels know"),
        ("engine/kernels/lloyd.py", "import xarray", "engine.kernels.lloyd imports xarray; engine.kernels may import"),
        ("engine/store.py", "from . import text", "engine.store uses a relative import"),
        ("engine/__init__.py", "from .text import span", "engine uses a relative import"),
        ("jobs/run.py", "from tests.oracles import metrics", "jobs.run imports tests"),
        ("jobs/run.py", "x = 1\n" * (MAX_LINES + 1), f"jobs.run is longer than {MAX_LINES} lines"),
    ],
)
def test_violations__are_found(tmp_path: Path, path: str, text: str, sentence: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_violations__what_is_allowed(tmp_path: Path) -> None:
    allowed = {
        "schemas/study.py": "import json\nimport pydantic\nfrom schemas.errors import InputError",
        "engine/kernels/lloyd.py": "import numpy as np\nfrom scipy import sparse\nfrom engine.kernels import shards",
        "engine/model/encode.py": "import torch\nfrom transformers import AutoModel",
        "engine/links.py": "from thot import alignment\nfrom engine import store\nfrom schemas import study",
        "engine/workers/cluster.py": "def f():\n    import dask\n    import distributed",
        "jobs/run.py": "import rich\nfrom engine import calign, colap\nfrom schemas import task",
        "jobs/long.py": "x = 1\n" * MAX_LINES,
    }
    for path, text in allowed.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert violations(tmp_path) == []


HEAVY = ("torch", "transformers", "dask", "distributed", "cuml", "cupy", "sklearn", "thot", "matplotlib", "h5py")


def printed(*lines: str) -> list[str]:
    """Words that a new Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *lines])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_schemas__import_nothing_heavy() -> None:
    modules = [f"schemas.{path.stem}" for path in (ROOT / "schemas").glob("*.py") if path.stem != "__init__"]
    assert len(modules) > 5
    loaded = f"print('done', *[m for m in {HEAVY} if m in sys.modules])"
    assert printed(*[f"import {module}" for module in modules], loaded) == ["done"]


def test_commands__open_no_model_before_they_need_one() -> None:
    """Torch, transformers and scikit-learn take most of the seconds of a start, of commands and of every worker."""
    slow = ("torch", "transformers", "sklearn", "scipy.stats", "sacrebleu", "seqeval")
    loaded = f"print('done', *[m for m in {slow} if m in sys.modules])"
    assert printed("import jobs.cli, jobs.tasks", loaded) == ["done"]


def test_results__plain_xarray_reads_them_where_nothing_heavy_is_installed(tmp_path: Path) -> None:
    # xarray itself imports Dask where it is installed, to ask whether an array is one of Dask's: hence the ban
    counts = LANGUAGE_COUNT.create(
        {
            "layer": np.array([0], np.int32),
            "language": ["de", "en"],
            "unit": ["token", "type"],
            "language_count": np.full((1, 1, 2, 2), 3),
        }
    )
    path = str(tmp_path / "results.zarr")
    save(path, xr.DataTree.from_dict({"/counts": counts}))
    found = printed(
        f"sys.modules.update(dict.fromkeys({(*HEAVY, 'engine', 'schemas', 'jobs')}))",
        "import xarray as xr",
        f"opened = xr.open_datatree({path!r}, engine='zarr', consolidated=False)",
        "print(opened['counts'].language_count.sel(language='de', unit='type').item())",
    )
    assert found == ["3"]
