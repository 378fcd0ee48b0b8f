"""How a dataset is declared, made and checked: every variable once, with name, dimensions, type and meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandera.errors
import pandera.xarray as px
import xarray as xr

from schemas.errors import SchemaError

FORMAT_VERSION = 2
"""Version of the datasets on disk that say no other; a store of another version is refused with the remedy."""

CONVENTIONS = "CF-1.12"


@dataclass(frozen=True)
class Variable:
    """One variable of a dataset."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    """A numpy type name, `string`, or `float` for float16 and float32 alike."""
    meaning: str
    """One sentence; written to the variable's `long_name`."""
    units: str = "1"
    coordinate: bool = False

    def holds(self, dtype: np.dtype[Any]) -> bool:
        """Whether an array of this numpy type may be stored in the variable."""
        if self.dtype == "string":
            return dtype.kind in "OUT"
        if self.dtype == "float":
            return dtype in (np.dtype("float16"), np.dtype("float32"))
        return dtype == np.dtype(self.dtype)

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes that make the variable explain itself on disk."""
        return {"long_name": self.meaning} | ({} if self.dtype == "string" else {"units": self.units})


@dataclass(frozen=True)
class Schema:
    """The variables of one kind of dataset; `create` and `validate` are the only ways in."""

    name: str
    meaning: str
    variables: tuple[Variable, ...]
    version: int = FORMAT_VERSION
    """Format version of this kind of dataset; larger where it changed since."""

    def __getitem__(self, name: str) -> Variable:
        return next(v for v in self.variables if v.name == name)

    def attributes(self, **provenance: Any) -> dict[str, Any]:
        """Dataset attributes: what it is, its version and how it was made."""
        return {
            "Conventions": CONVENTIONS,
            "title": f"Colign {self.name}",
            "comment": self.meaning,
            "colign_dataset": self.name,
            "format_version": self.version,
        } | provenance

    def create(self, variables: Mapping[str, Any], **provenance: Any) -> xr.Dataset:
        """Return a validated dataset of the named arrays.

        Parameters
        ----------
        variables
            An array for each variable of the schema, in the dimension order of the schema.
        provenance
            Further dataset attributes: the configuration that made it, its hash, package versions.

        Raises
        ------
        SchemaError
            A variable is missing, unknown, or has other dimensions or another type.

        Examples
        --------
        >>> pair = Schema("pair", "an example", (Variable("left", ("item",), "int32", "left number"),))
        >>> pair.create({"left": np.zeros(2, "int32")}).left.attrs["long_name"]
        'left number'
        >>> pair.create({"left": np.zeros(2, "int64")})
        Traceback (most recent call last):
        ...
        schemas.errors.SchemaError: dataset pair breaks its schema: left: expected int32, found int64
        """
        known = {v.name: v for v in self.variables}
        data: dict[str, Any] = {}
        coords: dict[str, Any] = {}
        problems: list[str] = []
        for name, value in variables.items():
            if name not in known:
                problems.append(f"{name}: not a variable of this dataset")
                continue
            variable = known[name]
            array = value if hasattr(value, "dtype") else np.asarray(value)
            if variable.dtype == "string":  # StringDType and object are `string` on disk, fixed-width text is not
                array = np.asarray(array, dtype=object)
            if array.ndim != len(variable.dims):
                problems.append(f"{name}: expected dimensions {variable.dims}, found {array.ndim} of them")
                continue
            (coords if variable.coordinate else data)[name] = (variable.dims, array, variable.attrs)
        try:
            dataset = xr.Dataset(data, coords, self.attributes(**provenance))
        except ValueError as error:  # xarray's message names the dimension and both sizes
            raise SchemaError(self._broken([*problems, str(error)])) from error
        return self.validate(dataset, problems)

    def _broken(self, problems: Sequence[str]) -> str:
        return f"dataset {self.name} breaks its schema: " + "; ".join(problems)

    def validate(self, dataset: xr.Dataset, found_before: Sequence[str] = ()) -> xr.Dataset:
        """Return the dataset, or raise `SchemaError` with every violation at once, those found before included."""
        found = dataset.attrs.get("format_version", self.version)
        if found != self.version:
            raise SchemaError(
                f"dataset {self.name} has format version {found}, this Colign reads {self.version}; "
                "run the study again in a new directory, or use the Colign that wrote it"
            )
        variables = {v.name: dataset[v.name] for v in self.variables if v.name in dataset.variables}
        problems = [*found_before]
        problems += [
            f"{name}: expected {self[name].dtype}, found {array.dtype}"
            for name, array in variables.items()
            if not self[name].holds(array.dtype)
        ]
        structure = frozenset((name, held.dims, name in dataset.coords) for name, held in dataset.variables.items())
        if (self, structure) not in _SOUND:
            problems += self._unlike(dataset)
        if problems:
            raise SchemaError(self._broken(problems))
        _SOUND.add((self, structure))
        return dataset

    def _unlike(self, dataset: xr.Dataset) -> list[str]:
        """How names, dimensions and coordinates of a dataset differ from those declared."""
        structure = px.DatasetSchema(
            name=self.name,
            data_vars={v.name: px.DataVar(dims=v.dims, nullable=True) for v in self.variables if not v.coordinate},
            coords={v.name: px.Coordinate(dims=v.dims, nullable=True) for v in self.variables if v.coordinate},
            strict=True,
        )
        problems = []
        try:
            structure.validate(dataset, lazy=True)
        except pandera.errors.SchemaErrors as errors:
            for failure in errors.schema_errors:
                where = getattr(failure.schema, "name", None)
                problems.append(f"{where}: {failure}" if where and where != self.name else str(failure))
        return problems


_SOUND: set[tuple[Schema, frozenset[Any]]] = set()
"""Schemas with the structures that were found to be theirs: a look at each takes pandera milliseconds, and opening a
dataset is most of the work on small ones."""
