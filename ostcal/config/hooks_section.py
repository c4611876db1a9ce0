"""The section ``hooks``: who is told of events."""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, Strict
from pydantic_core import PydanticCustomError

from ostcal.config.values import Allowed, Positive, Retries, Section, Text, Texts, key
from ostcal.vocabulary import HookEvent

_EVENTS = get_args(HookEvent)


def _tuple(value: object) -> object:
    """Convert a list, or one word, to a tuple."""
    if isinstance(value, str):
        return (str(value),)
    return tuple(str(word) if isinstance(word, str) else word for word in value) if isinstance(value, list) else value


_Events = Annotated[
    tuple[HookEvent, ...],
    BeforeValidator(_tuple, json_schema_input_type=HookEvent | list[HookEvent]),
    PlainSerializer(list),
    Allowed(f"a list of {', '.join(_EVENTS)}"),
]


def _with_port(address: object) -> object:
    """Pass an address on whose port, if it has one, is from 1 to 65535."""
    if isinstance(address, str):
        try:
            port = urlsplit(address).port
        except ValueError:
            port = 0
        if port == 0:
            raise PydanticCustomError("port", "the port of the address must be a number from 1 to 65535")
    return address


_WebAddress = Annotated[
    Text,
    Strict(),
    BeforeValidator(_with_port),
    Field(pattern=r"^https?://([^/?#\s@]*@)?[A-Za-z0-9._\[\]:-]+([/?#]\S*)?$"),
    Allowed("an address such as https://example.org/hook, with a port up to 65535 if it has one"),
]


class HooksSection(Section):
    """A command and a web server that are told of events; neither delays an exposure or ends a run."""

    on: _Events = key(_EVENTS, "Events that are told.")
    command: Texts = key(
        (),
        "Program and arguments, run without a shell for each event, which is JSON on its standard input.",
        is_secret=True,
    )
    url: _WebAddress | None = key(
        None, "Address to which each event is sent as JSON (POST); null is none.", is_secret=True
    )
    timeout: Positive = key(10.0, "Longest time of one command or one request; then it is ended.", "seconds")
    retries: Retries = key(3, "Number of retries of a request that fails, with increasing pauses.")

    def without_secrets(self) -> HooksSection:
        """Return the section as logs and reports may show it: arguments and addresses may hold tokens."""
        shown = (self.command[0], "***") if len(self.command) > 1 else self.command
        return self.model_copy(update={"command": shown, "url": "***" if self.url is not None else None})
