"""How much is tried: a share of it by default, so that all tests end in a quarter of an hour on two cores.

``OSTCAL_THOROUGH=1`` tries all of it, as a weekly run does. Numbers of their own: ``OSTCAL_KILLS``,
``OSTCAL_FUZZ_MUTATIONS``, ``OSTCAL_FAULT_TRIALS``.
"""

from __future__ import annotations

import os

IS_THOROUGH = bool(os.environ.get("OSTCAL_THOROUGH"))
SHARE = 4
"""A quarter of the examples, kills and mutations finds nearly all that the whole does; seeds are fixed."""


def amount(whole: int, name: str = "") -> int:
    """Return how many of `whole` are tried: what the variable `name` says, all, or a share of at least five."""
    given = os.environ.get(name) if name else None
    if given:
        return int(given)
    return whole if IS_THOROUGH else max(min(whole, 5), whole // SHARE)
