"""The JSON schema of a report, made from the classes of the document; ``docs/report.md`` shows it."""

from __future__ import annotations

from typing import Any

from ostcal.report.codec import json_text, schema_of
from ostcal.report.document import FORMAT, SCHEMA_VERSION, FlaggedFrame, Report


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of what `Report.as_json` returns."""
    definitions: dict[str, Any] = {}
    schema_of(Report, definitions)
    flagged = schema_of(FlaggedFrame, definitions)
    whole = definitions.pop("Report")
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
    properties = derived | whole["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of ostcal",
        **whole,
        "properties": properties,
        "required": list(properties),
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as ``docs/report.md`` shows it."""
    return json_text(json_schema())
