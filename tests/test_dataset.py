"""Schemas: what may be made, what is refused, and that every message lists everything."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from schemas.activations import ACTIVATIONS
from schemas.concepts import ASSIGNMENTS, CONCEPT_STATISTICS, CONCEPTS
from schemas.corpus import CORPUS, SELECTION
from schemas.counts import ALIGNED_TYPES, LANGUAGE_COUNT
from schemas.dataset import FORMAT_VERSION, Schema, Variable
from schemas.errors import InputError, SchemaError
from schemas.links import DICTIONARY, LINKS
from schemas.results import (
    CALIGN,
    CALIGN_MATRIX,
    CALIGN_SWEEPS,
    COLAP,
    COLAP_OF_STORES,
    COLAP_SWEEPS,
    CROSS,
    STATISTICS,
)  # fmt: skip

ALL = [
    CORPUS, SELECTION, LINKS, DICTIONARY, ACTIVATIONS, CONCEPTS, CONCEPT_STATISTICS, ASSIGNMENTS,
    ALIGNED_TYPES, LANGUAGE_COUNT, CALIGN, COLAP, STATISTICS, *CALIGN_SWEEPS.values(), *COLAP_SWEEPS.values(),
    CALIGN_MATRIX, COLAP_OF_STORES, CROSS,
]  # fmt: skip
SIZES = {dim: i for i, dim in enumerate(sorted({d for s in ALL for v in s.variables for d in v.dims}), 2)}

PAIR = Schema(
    "pair",
    "an example",
    (
        Variable("item", ("item",), "string", "name of the item", coordinate=True),
        Variable("left", ("item",), "int32", "left number", units="count"),
        Variable("right", ("item", "side"), "float", "right vector"),
    ),
)
GOOD: dict[str, Any] = {"item": ["a", "b"], "left": np.zeros(2, "int32"), "right": np.zeros((2, 3), "float16")}


def example(schema: Schema) -> dict[str, Any]:
    """Arrays of zeros that satisfy a schema."""
    arrays: dict[str, Any] = {}
    for v in schema.variables:
        shape = tuple(SIZES[d] for d in v.dims)
        arrays[v.name] = np.zeros(shape, {"string": object, "float": "float16"}.get(v.dtype, v.dtype))
        if v.dtype == "string":
            arrays[v.name][:] = [f"{v.name}{i}" for i in range(shape[0])]
    return arrays


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_schemas__create_explains_itself_and_validates(schema: Schema) -> None:
    dataset = schema.create(example(schema), made_by="test")
    assert schema.validate(dataset) is dataset
    assert dataset.attrs["format_version"] == schema.version
    assert dataset.attrs["colign_dataset"] == schema.name
    assert dataset.attrs["comment"] == schema.meaning
    assert dataset.attrs["made_by"] == "test"
    for v in schema.variables:
        assert dataset[v.name].dims == v.dims
        assert dataset[v.name].attrs["long_name"] == v.meaning


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_schemas__every_variable_has_a_meaning_and_units(schema: Schema) -> None:
    assert schema.meaning
    names = [v.name for v in schema.variables]
    assert len(set(names)) == len(names)
    for v in schema.variables:
        assert len(v.meaning) > 5 or v.meaning == v.name
        assert v.units
        assert v.dtype in ("string", "float") or np.dtype(v.dtype)
        assert all(d.isidentifier() for d in v.dims)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_schemas__each_variable_is_required(schema: Schema) -> None:
    arrays = example(schema)
    for v in schema.variables:
        left = {name: array for name, array in arrays.items() if name != v.name}
        if left and any(v.dims[0] in w.dims for w in schema.variables if w is not v):
            with pytest.raises(SchemaError, match=v.name):
                schema.create(left)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_schemas__another_type_is_refused(schema: Schema) -> None:
    arrays = example(schema)
    for v in schema.variables:
        if v.dtype != "string":
            with pytest.raises(SchemaError, match=f"{v.name}: expected {v.dtype}, found complex64"):
                schema.create(arrays | {v.name: arrays[v.name].astype("complex64")})


def test_create__float_is_float16_or_float32() -> None:
    for dtype in ("float16", "float32"):
        assert PAIR.create(GOOD | {"right": np.zeros((2, 3), dtype)}).right.dtype == dtype
    with pytest.raises(SchemaError, match="right: expected float, found float64"):
        PAIR.create(GOOD | {"right": np.zeros((2, 3))})


@pytest.mark.parametrize("names", [["a", "b"], np.array(["a", "b"]), np.array(["a", "b"], np.dtypes.StringDType())])
def test_create__every_kind_of_text_becomes_variable_length(names: Any) -> None:
    assert PAIR.create(GOOD | {"item": names}).item.dtype.kind in "OT"


def test_create__lengths_that_disagree() -> None:
    with pytest.raises(SchemaError, match=r"dataset pair breaks its schema: .*item"):
        PAIR.create(GOOD | {"left": np.zeros(5, "int32")})


def test_create__lists_all_dimension_violations() -> None:
    with pytest.raises(SchemaError) as raised:
        PAIR.create(GOOD | {"left": np.zeros((2, 2), "int32"), "right": np.zeros(2, "float16"), "what": np.zeros(2)})
    for part in (
        "dataset pair breaks its schema",
        "left: expected dimensions ('item',), found 2 of them",
        "right: expected dimensions ('item', 'side'), found 1 of them",
        "what: not a variable of this dataset",
    ):
        assert part in str(raised.value)


def test_create__lists_violations_of_every_kind() -> None:
    with pytest.raises(SchemaError) as raised:
        PAIR.create({"item": ["a", "b"], "left": np.zeros(2, "int64"), "what": np.zeros(2)})
    for part in ("left: expected int32, found int64", "what: not a variable", "right"):
        assert part in str(raised.value)


def test_validate__lists_every_violation() -> None:
    bad = xr.Dataset(
        {
            "left": ("item", np.zeros(2, "int64")),
            "right": (("side", "item"), np.zeros((3, 2), "float16")),
            "what": ("item", np.zeros(2)),
        },
    )
    with pytest.raises(SchemaError) as raised:
        PAIR.validate(bad)
    message = str(raised.value)
    assert message.startswith("dataset pair breaks its schema: ")
    for part in ("left: expected int32, found int64", "right", "what", "item"):
        assert part in message


def test_validate__looks_once_at_a_structure_and_always_at_the_types(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    look = Schema._unlike
    monkeypatch.setattr(Schema, "_unlike", lambda self, dataset: seen.append(self.name) or look(self, dataset))
    pair = Schema("a pair", "an example", tuple(Variable(name, ("item",), "int32", name) for name in ("left", "right")))
    made = pair.create({"left": np.zeros(2, "int32"), "right": np.zeros(2, "int32")})
    pair.create({"right": np.zeros(3, "int32"), "left": np.zeros(3, "int32")})
    assert len(seen) == 1
    with pytest.raises(SchemaError, match="left: expected int32, found int64"):
        pair.validate(made.assign(left=("item", np.zeros(2, "int64"))))
    with pytest.raises(SchemaError, match="left"):
        pair.validate(made.rename_dims(item="other"))
    with pytest.raises(SchemaError, match="left"):
        pair.validate(made.drop_vars("left"))
    other = Schema("a pair", "an example", (Variable("left", ("item",), "int32", "left"),))
    with pytest.raises(SchemaError, match="right"):
        other.validate(made)


def test_validate__another_version_is_refused_with_the_remedy() -> None:
    dataset = PAIR.create(GOOD)
    dataset.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(SchemaError) as raised:
        PAIR.validate(dataset)
    assert f"format version {FORMAT_VERSION + 1}, this Colign reads {FORMAT_VERSION}" in str(raised.value)
    assert "run the study again in a new directory, or use the Colign that wrote it" in str(raised.value)


def test_errors__bad_data_is_bad_input() -> None:
    assert issubclass(SchemaError, InputError)
    assert SchemaError.exit_code == 2


def test_getitem__a_variable_by_name() -> None:
    assert PAIR["left"].units == "count"
    assert PAIR["item"].attrs == {"long_name": "name of the item"}
    assert PAIR["left"].attrs == {"long_name": "left number", "units": "count"}
