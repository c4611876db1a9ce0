"""The JSON schema of a report, made from the classes of the document; ``docs/report.md`` shows it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from ostcal.events import event
from ostcal.report.document import FORMAT, SCHEMA_VERSION, FlaggedFrame, Report
from ostcal.report.json_lines import json_text

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of what `Report.as_json` returns."""
    definitions: dict[str, Any] = {}
    flagged = _schema_of(FlaggedFrame, definitions)
    verdict = {"description": "The worst verdict of all masters.", "enum": ["pass", "warn", "fail", None]}
    derived = {
        "format": {"const": FORMAT},
        "schema_version": {"const": SCHEMA_VERSION},
        "verdict": verdict,
        "flagged_frames": {
            "type": "array",
            "items": flagged,
            "description": "Every finding that names a frame and is not a pass.",
        },
    }
    return schema_of_class(Report, "Report of ostcal", derived, definitions)


def schema_of_class(
    kind: type[Any], title: str, derived: dict[str, Any], definitions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a document: a dataclass, and the properties that are written before it."""
    definitions = {} if definitions is None else definitions
    _schema_of(kind, definitions)
    whole = definitions.pop(kind.__name__)
    properties = derived | whole["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **whole,
        "properties": properties,
        "required": list(properties),
        "$defs": dict(sorted(definitions.items())),
    }


def event_schema() -> dict[str, Any]:
    """Return the schema of what hooks are told; ``docs/automation.md`` shows it."""
    head = {"format": {"const": event.FORMAT}, "schema_version": {"const": event.SCHEMA_VERSION}}
    return schema_of_class(event.Event, "An event of ostcal", head)


def schema_text() -> str:
    """Return the schema as ``docs/report.md`` shows it."""
    return json_text(json_schema())


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a type; dataclasses are added to `definitions` by name."""
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not types.NoneType)
        schema = _schema_of(inner, definitions)
        plain = schema.get("type")
        return {**schema, "type": [plain, "null"]} if plain and "enum" not in schema else {"anyOf": [schema, _NULL]}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _schema_of(get_args(kind)[0], definitions)}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if kind is date:
        return {"type": "string", "format": "date"}
    if kind is Any:
        return {}
    if kind in _PLAIN:
        # Numbers may be null wherever they may not be finite; a required number never is.
        return {"type": _PLAIN[kind]}
    if issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(word) for word in kind]}
    name = str(kind.__name__)
    if name not in definitions:
        definitions[name] = {}  # kept for a class that holds itself
        hints, texts = get_type_hints(kind), _field_texts(kind)
        properties = {}
        for field in dataclasses.fields(kind):
            properties[field.name] = _schema_of(hints[field.name], definitions)
            if field.name in texts:
                properties[field.name]["description"] = texts[field.name]
        definitions[name] = {
            "type": "object",
            "description": inspect.cleandoc(kind.__doc__).splitlines()[0],
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


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
