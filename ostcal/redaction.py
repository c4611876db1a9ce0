"""Text without secrets: credentials and tokens in addresses, as logs, reports and documents may show them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "***"

_USER = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s'\"]*@")
_QUERY = re.compile(r"(?P<address>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s?#'\"]*)(?P<query>[?#][^\s'\"]*)")


def without_secrets(text: str) -> str:
    """Return a text in which addresses keep scheme, server and path: user, password and query are hidden."""
    if "://" not in text:
        return text
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _QUERY.sub(lambda found: f"{found['address']}{found['query'][0]}{HIDDEN}", text)


def values_without_secrets(value: Any) -> Any:
    """Return JSON values whose texts are `without_secrets`."""
    if isinstance(value, dict):
        return {key: values_without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [values_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def server_of(url: str) -> str:
    """Return scheme and server of an address; its path may be the secret, as of the webhooks of chats."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
