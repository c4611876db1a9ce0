"""Findings about a master: a value that should be small, or large."""

from __future__ import annotations

import math

from ostcal.measure.findings import Finding, Outcome, outcome_above


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
