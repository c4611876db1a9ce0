"""Tables and pictures for the displays of notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 8px;text-align:left;vertical-align:top"


def facts_table(rows: Iterable[tuple[str, object]]) -> str:
    """Return names and values as a table of two columns; values of ``None`` and empty texts are left out."""
    lines = [
        f'<tr><th style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{escape(str(value))}</td></tr>'
        for name, value in rows
        if value is not None and value != ""
    ]
    return f"<table>{''.join(lines)}</table>"


def rows_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with a head; columns without any value are left out."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    shown = [column for column in range(len(titles)) if any(row[column] for row in texts)]
    head = "".join(f'<th style="{_CELL}">{escape(titles[column])}</th>' for column in shown)
    body = ""
    for row in texts:
        cells = "".join(f'<td style="{_CELL}">{escape(row[column])}</td>' for column in shown)
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(uri: str, caption: str) -> str:
    """Return a picture given as a data URI, with what it shows below it."""
    return (
        f'<figure style="margin:0"><img src="{escape(uri)}" alt="{escape(caption)}" '
        f'style="image-rendering:pixelated;max-width:100%"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def beside(*parts: str) -> str:
    """Return parts side by side, below each other where there is no room."""
    cells = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{cells}</div>'
