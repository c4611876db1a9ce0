"""The text of a JSON file that programs and people read."""

from __future__ import annotations

import json
from typing import Any

_LINE = 150
"""Letters of a line of JSON text that is one object."""


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
