"""What a check found: an outcome with its number and its limit, about a master, a series or one frame of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ostcal.codec import to_values_with_nulls


class Outcome(StrEnum):
    """How a check ended; the order is that of severity."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


_SEVERITY = {outcome: rank for rank, outcome in enumerate(Outcome)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    """Its word, such as ``level jump``: the same in reports, files and limits."""
    outcome: Outcome
    value: float | None
    """What was measured; ``None`` if there is no number."""
    limit: float | None
    """The limit that decided: that of a warning for `PASS` and `WARN`, that of a failure for `FAIL`."""
    unit: str = ""
    text: str
    """One line for readers, with number and limit."""
    frame: int | None = None
    """Index of the frame in its series; ``None`` if it is about all of them or about the master."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values; numbers that are not finite become ``None``."""
        values: dict[str, Any] = to_values_with_nulls(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Finding:
        """Read what `as_dict` returned.

        Raises
        ------
        KeyError, ValueError
            If something is missing or of an unknown kind.
        """
        return cls(
            check=str(values["check"]),
            outcome=Outcome(values["outcome"]),
            value=values["value"],
            limit=values["limit"],
            unit=str(values["unit"]),
            text=str(values["text"]),
            frame=values["frame"],
        )


def worst(findings: Iterable[Finding]) -> Outcome:
    """Return the most severe outcome; `PASS` without findings."""
    return max((finding.outcome for finding in findings), key=_SEVERITY.__getitem__, default=Outcome.PASS)


def outcome_above(value: float, warn_above: float, fail_above: float = math.inf) -> tuple[Outcome, float]:
    """Judge a value that should be small; return the outcome and the limit that decided."""
    if value > fail_above:
        return Outcome.FAIL, fail_above
    return (Outcome.WARN if value > warn_above else Outcome.PASS), warn_above


def finding_above(
    check: str, value: float, warn_above: float, text: str, *, fail_above: float = math.inf, unit: str = ""
) -> Finding:
    """Judge a value that should be small."""
    outcome, limit = outcome_above(value, warn_above, fail_above)
    if outcome is Outcome.FAIL and value <= 1:
        text += f"; failed above {100 * fail_above:.3g} %"
    return Finding(check=check, outcome=outcome, value=value, limit=limit, unit=unit, text=text)


def finding_below(check: str, value: float, warn_below: float, text: str, *, fail_below: float = 0.0) -> Finding:
    """Judge a value that should be large."""
    if value < fail_below:
        return Finding(check=check, outcome=Outcome.FAIL, value=value, limit=fail_below, text=text)
    outcome = Outcome.WARN if value < warn_below else Outcome.PASS
    return Finding(check=check, outcome=outcome, value=value, limit=warn_below, text=text)
