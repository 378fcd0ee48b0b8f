"""What the commands of metrics have in common: options, and what they name in a study or among files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.table import Table

from engine import paths
from engine.exchange import dictionaries
from engine.exchange.stream import kind
from jobs import files
from jobs.layout import Layout
from jobs.selections import is_linked
from jobs.sides import Comparison, Place, Side, check_same_k, compare_in_study, open_side
from schemas.errors import InputError
from schemas.metrics import Metrics
from schemas.parse import parse
from schemas.study import Study

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY | SOURCE TARGET DICT",
        help="A study, or concepts (store, or ConceptX's files of clusters) of two languages and the dictionary from "
        "the first to the second.",
    ),
]
SourceOption = Annotated[str | None, typer.Option(help="Study: language whose concepts are counted.")]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(help="Study: language whose concepts may match; given again: some concept in any of them."),
]
CheckpointOption = Annotated[str | None, typer.Option(help="Study: checkpoint (default: the last).")]
TargetCheckpoint = Annotated[
    str | None, typer.Option(help="Study: checkpoint of the target concepts (default: that of the source).")
]
StackOption = Annotated[str | None, typer.Option(help="Study: encoder or decoder (default: the first).")]
TargetStack = Annotated[
    str | None, typer.Option(help="Study: stack of the target concepts (default: that of the source).")
]
LayerOption = Annotated[list[int] | None, typer.Option(help="Layer; may be given again (default: all).")]
KOption = Annotated[int | None, typer.Option("--k", min=1, help="Number of concepts, of several (study: the first).")]
Reverse = Annotated[
    str | None, typer.Option(metavar="DICT", help="Files: dictionary of the other direction, for mutual CALIGN.")
]
Preset = Annotated[Literal["paper", "reference"] | None, typer.Option(help="Definitions of paper or scripts.")]
NBest = Annotated[int | None, typer.Option(help="Translations of a type that count (10).")]
Theta = Annotated[float | None, typer.Option(help="θ_A of CALIGN (0.8), θ_O of COLAP (0.3).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other key of `metrics` in a study file; may be given again."),
]
Draws = Annotated[
    int, typer.Option(min=0, help="Draws of bootstrap and nulls: intervals, and scores where nothing corresponds.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draws.")]
OutPath = Annotated[str | None, typer.Option("--out", "-o", metavar="X.zarr", help="xarray dataset to write.")]


@dataclass(frozen=True)
class Compared:
    """What a command compares, and by which definitions."""

    comparisons: tuple[Comparison, ...]
    metrics: Metrics
    labels: dict[str, str] = field(default_factory=dict)
    """What is compared, for tables and attributes."""

    @property
    def source(self) -> Side:
        return self.comparisons[0].source


def definitions(base: Metrics | None, given: Mapping[str, Any], settings: Sequence[str] | None) -> Metrics:
    """Definitions of the metrics: those of a study or of the paper, and what was given in their place.

    Raises
    ------
    InputError
        A setting is not KEY=VALUE, or the key is unknown or the value wrong.
    """
    changed = {name: value for name, value in given.items() if value is not None}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected KEY=VALUE, such as min_types=5")
        try:
            changed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting}: {value!r} is not a value as in a study file") from error
    if base is None or "preset" in changed:
        found: Metrics = parse(Metrics, changed, "the options")
    else:
        found = parse(Metrics, base.model_dump() | changed, "the options")
    return found


def is_study(path: str) -> bool:
    """Whether a path is a study file or the directory of a study, not a dataset or file of clusters."""
    if path.endswith((".yaml", ".yml")):
        return True
    folder = "://" in path or Path(path).is_dir()
    return folder and kind(path) is None and paths.read_text(Layout(path.rstrip("/")).study) is not None


def compared(
    inputs: Sequence[str],
    metrics: Callable[[Metrics | None], Metrics],
    *,
    source: str | None,
    targets: Sequence[str] | None,
    checkpoints: tuple[str | None, str | None],
    stacks: tuple[str | None, str | None],
    layer: Sequence[int] | None,
    k: int | None,
    reverse: str | None,
) -> Compared:
    """Open what a command compares.

    Raises
    ------
    InputError
        The inputs are neither a study nor two sides and a dictionary, or options do not fit them.
    """
    of_study = {"--source": source, "--target": targets, "--checkpoint": checkpoints[0], "--stack": stacks[0]}
    if len(inputs) == 1:
        if not is_study(inputs[0]):
            raise InputError(f"{inputs[0]}: not a study; give a study, or SOURCE TARGET DICT")
        if reverse:
            raise InputError("--reverse goes with files; a study has both directions")
        study, layout = files.load_study(inputs[0])
        return _in_study(study, layout, metrics(study.metrics), source, targets, checkpoints, stacks, k)
    if len(inputs) != 3:
        raise InputError(f"expected STUDY, or SOURCE TARGET DICT, found {len(inputs)} inputs")
    if given := [name for name, value in of_study.items() if value]:
        raise InputError(f"{', '.join(given)}: go with a study, and {inputs[0]} is a file")
    rules = metrics(None)
    sides = [open_side(path, k, layer) for path in inputs[:2]]
    check_same_k(*sides)
    there = dictionaries.read(inputs[2])
    back = dictionaries.read(reverse) if reverse else None
    labels = {"source": inputs[0], "target": inputs[1]}
    return Compared((Comparison(sides[0], sides[1], there, back, rules.counting),), rules, labels)


def _in_study(
    study: Study,
    layout: Layout,
    metrics: Metrics,
    source: str | None,
    targets: Sequence[str] | None,
    checkpoints: tuple[str | None, str | None],
    stacks: tuple[str | None, str | None],
    k: int | None,
) -> Compared:
    if source is None or not targets:
        raise InputError("name languages of the study with --source and --target")
    if len(targets) > 1 and is_linked(study):
        raise InputError(
            f"{source}: has other concepts in each of its pairs, because the study counts linked pairs; name one "
            "--target"
        )
    checkpoint = checkpoints[0] or list(study.checkpoints)[-1]
    stack = stacks[0] or study.activations.stacks[0]
    one = Place(source, checkpoint, stack)
    others = [Place(target, checkpoints[1] or checkpoint, stacks[1] or stack) for target in targets]
    made = tuple(compare_in_study(study, layout, one, other, metrics.counting, k) for other in others)
    labels = {
        "source": f"{source}, {checkpoint}, {stack}",
        "target": f"{'+'.join(targets)}, {others[0].checkpoint}, {others[0].stack}",
    }
    return Compared(made, metrics, labels)


def check_layers(side: Side, layer: Sequence[int] | None) -> None:
    """Refuse layers that do not exist.

    Raises
    ------
    InputError
        One does not.
    """
    if missing := sorted(set(layer or ()) - set(side.layers)):
        known = ", ".join(map(str, side.layers))
        raise InputError(f"{side.name}: has no layer {missing[0]}; it has {known}: give --layer one of these")


def columns_table(*columns: str) -> Table:
    """A table of numbers without lines, which fits 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def percent(value: float) -> str:
    """A fraction as a table prints it; nothing where it is not known."""
    return "" if value != value else f"{100 * value:.1f}"


def layers_of(found: Compared, layer: Sequence[int] | None, which: str) -> list[tuple[int, int]]:
    """Pairs of layers to compare.

    Raises
    ------
    InputError
        A layer does not exist.
    """
    sides = [found.source, *(one.target for one in found.comparisons)]
    for side in sides:
        check_layers(side, layer)
    wanted = [[number for number in side.layers if not layer or number in layer] for side in sides]
    shared = [number for number in wanted[1] if all(number in of_side for of_side in wanted[2:])]
    if which == "all":
        return list(product(wanted[0], shared))
    if same := [(number, number) for number in wanted[0] if number in shared]:
        return same
    raise InputError("source and target have no layer in common; compare all with --layers all")
