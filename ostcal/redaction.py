"""Text without secrets: credentials and tokens in addresses, as logs, reports and documents may show them."""

from __future__ import annotations

import re

HIDDEN = "***"

_USER = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s'\"]*@")
_QUERY = re.compile(r"(?P<address>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s?#'\"]*)(?P<query>[?#][^\s'\"]*)")


def without_secrets(text: str) -> str:
    """Return a text in which addresses keep scheme, server and path: user, password and query are hidden."""
    if "://" not in text:
        return text
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _QUERY.sub(lambda found: f"{found['address']}{found['query'][0]}{HIDDEN}", text)
