"""Text of others as terminals, logs and pages may show it: nothing in it commands, hides or reorders what is shown."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Final

_COMMANDS: Final = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What JSON may hold as it is, and terminals act upon: DEL, C1, and what has no width or changes the direction."""

IN_LOG_ONLY: Final[Mapping[str, object]] = {"in_log_only": True}
"""``extra`` of a log line that is too long for a screen."""


def is_in_log_only(record: logging.LogRecord) -> bool:
    """Return whether a line is written into log files alone."""
    return bool(getattr(record, "in_log_only", False))


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text in which characters that are not printed are escaped, as ``\x1b`` or ``\u202e``.

    These are control characters (C0, C1), those that change the direction of text, line separators, lone surrogates
    of file names that are no UTF-8, and all spaces but the usual one. Characters in `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_json(document: str) -> str:
    r"""Return a JSON document with the same values in which no character commands a terminal; JSON escapes the rest."""
    return _COMMANDS.sub(lambda found: json.dumps(found[0])[1:-1], document)
