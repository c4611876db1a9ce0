"""JSON as text for programs and people: what fits in a line stays in one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ostcal.codec import to_values_with_nulls

_LINE = 150
"""Letters of a line that is one object."""


def json_text(value: Any, indent: str = "") -> str:
    """Return JSON values as text for programs and people: what fits in a line stays in one, and lists of plain values.

    ValueError if a number is not finite.
    """
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {json_text(item, inner)}" for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [json_text(item, inner) for item in value]
    else:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    one_line = ", ".join(items)
    if len(indent) + len(one_line) > _LINE or "\n" in one_line:
        return f"{opening}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{closing}"
    return opening + one_line + closing


def json_of_item(value: Any) -> str:
    """Return the text of a dataclass in a list of a document."""
    return json_text(to_values_with_nulls(value), "  ")


def document_parts(values: Mapping[str, Any], lists: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield the text of a large object in parts, as `json_text` writes it.

    In place of the values that `lists` names too there are lists of these texts (`json_of_item`), of which a few are
    held at a time.
    """
    before = "{\n "
    for key, value in values.items():
        yield f"{before}{json.dumps(key)}: "
        if key in lists:
            yield from _list_parts(iter(lists[key]))
        else:
            yield json_text(value, " ")
        before = ",\n "
    yield "\n}"


def _list_parts(items: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for item in items:
        held.append(item)
        if "\n" in item or len(" ") + len(", ".join(held)) > _LINE:
            break
    else:
        yield f"[{', '.join(held)}]"
        return
    before = "[\n  "
    for item in itertools.chain(held, items):
        yield before + item
        before = ",\n  "
    yield "\n ]"
