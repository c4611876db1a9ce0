"""Dataclasses to JSON values and back, and their JSON schema: one description for all three, the type hints."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import math
import numbers
import textwrap
import types
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from ostcal.errors import StorageError

T = TypeVar("T")

_LINE = 150
"""Letters of a line of JSON text that is one object."""

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}


def encode(value: Any) -> Any:
    """Return a value as JSON values: dataclasses as objects, times in UTC, numbers that are not finite as ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return None if value is None else str(value)


def decode(kind: type[T], value: Any, place: str) -> T:
    """Read what `encode` returned.

    Parameters
    ----------
    kind : type
        A dataclass; its hints may name dataclasses, tuples, optional values, words (`StrEnum`), times and plain values.
    value : JSON value
    place : str
        What errors call it, such as ``masters[2]``.

    Raises
    ------
    StorageError
        If something is missing or of a wrong kind; it names the place.
    """
    return _decoded(kind, value, place)  # type: ignore[no-any-return]


def _decoded(kind: Any, value: Any, place: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not types.NoneType)
        return None if value is None else _decoded(inner, value, place)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _wrong(place, value, "a list")
        return tuple(_decoded(get_args(kind)[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _decoded_object(kind, value, place)
    if kind is datetime or issubclass(kind, StrEnum):
        return _decoded_word(kind, value, place)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(place, value, f"a {_PLAIN[kind]}")
    return kind(value)


def _decoded_object(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints = get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = _decoded(hints[field.name], value[field.name], f"{place}.{field.name}")
        elif _is_required(field):
            raise StorageError(f"{place}.{field.name} is missing; the file is damaged, make it again")
    return kind(**given)


def _decoded_word(kind: Any, value: Any, place: str) -> Any:
    try:
        return datetime.fromisoformat(value) if kind is datetime else kind(value)
    except (TypeError, ValueError) as error:
        known = "a time as ISO 8601" if kind is datetime else "one of " + ", ".join(kind)
        raise _wrong(place, value, known) from error


def _wrong(place: str, value: Any, wanted: str) -> StorageError:
    return StorageError(f"{place} is {str(value)[:60]!r}, not {wanted}; the file is damaged, make it again")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def json_text(value: Any, indent: str = "") -> str:
    """Return JSON values as text for programs and people: what fits in a line stays in one, and lists of plain values.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    if nested:
        inner = indent + " "
        if isinstance(value, dict):
            items = [f"{json.dumps(key, ensure_ascii=False)}: {json_text(item, inner)}" for key, item in value.items()]
        else:
            items = [json_text(item, inner) for item in value]
        one_line = ", ".join(items)
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        if len(indent) + len(one_line) > _LINE or "\n" in one_line:
            return f"{opening}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{closing}"
        return opening + one_line + closing
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


# ---------------------------------------------------------------------------------------------------------------------
# The schema


def schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of what `encode` makes of a type; dataclasses are added to `definitions` by name."""
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not types.NoneType)
        schema = schema_of(inner, definitions)
        plain = schema.get("type")
        return {**schema, "type": [plain, "null"]} if plain and "enum" not in schema else {"anyOf": [schema, _NULL]}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": schema_of(get_args(kind)[0], definitions)}
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/$defs/{_define(kind, definitions)}"}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(word) for word in kind]}
    # Numbers may be null wherever they may not be finite; a required number never is.
    return {"type": _PLAIN[kind]}


_NULL = {"type": "null"}


def _define(kind: Any, definitions: dict[str, Any]) -> str:
    name = str(kind.__name__)
    if name not in definitions:
        definitions[name] = {}  # kept for a class that holds itself
        hints, texts = get_type_hints(kind), _field_texts(kind)
        properties = {}
        for field in dataclasses.fields(kind):
            properties[field.name] = schema_of(hints[field.name], definitions)
            if field.name in texts:
                properties[field.name]["description"] = texts[field.name]
        definitions[name] = {
            "type": "object",
            "description": inspect.cleandoc(kind.__doc__).splitlines()[0],
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return name


def _field_texts(kind: Any) -> dict[str, str]:
    """Return the texts below the fields of a class, which only its source has."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            target, text = statement.target, following.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                texts[target.id] = " ".join(str(text.value).replace("``", "").replace("`", "").split())
    return texts
