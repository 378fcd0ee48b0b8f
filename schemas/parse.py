"""Validation of files that people write, with messages that name the key and the remedy."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.credentials import REMEDY, with_credentials
from schemas.errors import InputError
from schemas.section import ALONE, LISTED


def parse(model: type[BaseModel], values: Any, where: str) -> Any:
    """Validate a mapping read from a file; every problem is named with its key, and a typing slip with the nearest key.

    A URL with credentials is a problem, and is not repeated.

    Raises
    ------
    InputError
        The message lists all problems at once.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: expected a mapping of keys to values, found {type(values).__name__}")
    if secret := [f"  {key}: {shown} holds credentials" for key, shown in with_credentials(values)]:
        raise InputError("\n".join([f"{where}: {len(secret)} problem(s)", *secret, REMEDY]))
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(model, problem) for problem in error.errors()]
        raise InputError("\n".join([f"{where}: {len(lines)} problem(s)", *lines])) from error


def _explain(model: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"] if part not in (ALONE, LISTED)]
    key = ".".join(location) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        known = _keys(model, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"  {key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"  {key}: required, but not given"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    found = problem.get("input")
    if problem["type"] == "string_pattern_mismatch":
        message = "a name begins with a letter or digit and holds only letters, digits and _ . -"
    if problem["type"] == "string_type" and isinstance(found, bool | int | float):
        message = "expected text; YAML reads some words, such as no, as something else: write it in quotes"
    shown = f" (found {found!r})" if isinstance(found, str | int | float | bool | None) else ""
    return f"  {key}: {message}{shown}"


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the section at a location of the file."""
    schema: Any = model.model_json_schema()
    node = schema
    for part in location:
        entries = list(node.get("patternProperties", {}).values())  # a mapping from names to sections
        node = node.get("properties", {}).get(part) or (entries[0] if entries else {})
        node = next((one for one in node.get("anyOf", []) if "$ref" in one), node)  # a section or null
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].split("/")[-1]]
    return sorted(node.get("properties", {}))
