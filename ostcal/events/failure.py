"""Why an event was not delivered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt to deliver an event failed."""

    reason: str
    may_pass: bool
    """Whether another attempt may succeed."""
