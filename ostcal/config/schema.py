"""The JSON schema of a configuration, from the models: editors complete keys with it, and mark what is wrong."""

from __future__ import annotations

from typing import Any

from ostcal.config.sections import ALIASES, SECTIONS, section_of
from ostcal.config.values import Section, to_plain

SCHEMA_FILE = "ostcal.schema.json"
"""The name that `config init` gives it."""
_CONSTRAINTS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""pydantic leaves them under its own names behind a validator."""


def config_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a configuration; sections of other programs are allowed."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        schema = model.model_json_schema()
        groups = {sub.__name__: sub for entry in model.model_fields.values() if (sub := section_of(entry)) is not None}
        definitions |= {group: _plain(groups[group], of_group) for group, of_group in schema.pop("$defs", {}).items()}
        definitions[model.__name__] = _plain(model, schema)
        properties[name] = _or_nothing({"$ref": f"#/$defs/{model.__name__}"})
    properties |= {alias: properties[name] for alias, name in ALIASES.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of ostcal",
        "type": "object",
        "properties": properties,
        "$defs": dict(sorted(definitions.items())),
    }


def _plain(model: type[Section], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a group without what only pydantic knows, each key with its meaning and its unit."""
    defaults = to_plain(model().model_dump())
    keys = {name: _key({**entry, "default": defaults[name]}) for name, entry in schema.get("properties", {}).items()}
    meaning = str(schema.get("description", "")).splitlines()
    return {
        "type": "object",
        "description": meaning[0] if meaning else "",
        "properties": keys,
        "additionalProperties": bool(schema.get("additionalProperties", False)),
    }


def _key(entry: dict[str, Any]) -> dict[str, Any]:
    unit = entry.get("unit")
    kept = {name: value for name, value in entry.items() if name not in ("title", "unit", "is_secret")}
    is_group = "$ref" in str(entry)
    if is_group:
        kept.pop("default", None)
    if unit:
        kept["description"] = f"{kept.get('description', '')} [{unit}]"
    checked: dict[str, Any] = _constrained(kept)
    return _or_nothing(checked) if is_group else checked


def _constrained(value: Any) -> Any:
    """Return a schema with constraints under the names of JSON schema."""
    if isinstance(value, list):
        return [_constrained(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = dict(_CONSTRAINTS)
    if value.get("type") == "array" and "minLength" in value:
        names["minLength"] = "minItems"
    if "anyOf" in value:  # a size in bytes or as text: the bounds are those of the number
        value = {name: item for name, item in value.items() if name not in _CONSTRAINTS}
    return {names.get(name, name): _constrained(item) for name, item in value.items()}


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a group whose keys may all be left out."""
    return {"anyOf": [schema, {"type": "null"}]}
