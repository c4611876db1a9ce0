"""The JSON answers of an Alpaca server."""

from __future__ import annotations

import json
from typing import Any

from ostcal.devices.failures import ReplyError, refusal, shortened


def parse_reply(text: bytes) -> dict[str, Any]:
    """Give the members of an answer; raises `ReplyError` where it is no JSON object."""
    try:
        reply = json.loads(text.decode("utf-8-sig", errors="replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise ReplyError(
            f"the answer is no JSON but {shortened(repr(text[:60]))}; is this an Alpaca server?"
        ) from error
    if not isinstance(reply, dict):
        raise ReplyError("the answer is no JSON object; is this an Alpaca server?")
    return reply


def check_reply(reply: dict[str, Any]) -> None:
    """Raise `RefusedError` where the answer carries an error of the device."""
    number = reply.get("ErrorNumber") or 0
    if isinstance(number, bool) or not isinstance(number, int):
        raise ReplyError(f"the answer has ErrorNumber {shortened(repr(number))}, which is no number")
    if number != 0:
        raise refusal(number, str(reply.get("ErrorMessage") or ""))
