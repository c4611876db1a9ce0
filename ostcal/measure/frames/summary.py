"""Findings about the frames of a series: each frame by itself, or one for all where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ostcal.measure.findings import Finding, Outcome

MANY_FRAMES = 3
"""Frames that are named one by one; of long series a quarter."""


def summarize(
    check: str,
    bad: Sequence[Finding],
    text: str,
    *,
    n_frames: int,
    value: float | None = None,
    limit: float | None = None,
    unit: str = "",
) -> list[Finding]:
    """Return the findings that are no pass, or a passing one with `text`, `value`, `limit` and `unit`.

    Of each frame only the first finding counts. Many of them become one about the worst frame, with their number.
    """
    if not bad:
        return [Finding(check=check, outcome=Outcome.PASS, value=value, limit=limit, unit=unit, text=text)]
    by_frame: dict[int | None, Finding] = {}
    for finding in bad:
        by_frame.setdefault(finding.frame, finding)
    whole = by_frame.pop(None, None)
    single = list(by_frame.values())
    if len(single) > max(MANY_FRAMES, n_frames // 4):
        most = max(single, key=lambda finding: (finding.outcome is Outcome.FAIL, abs(finding.value or 0.0)))
        counted = f"{most.text}; it is the worst of {len(single)} of {n_frames} frames"
        whole = replace(most, text=counted if whole is None else f"{whole.text}; {counted}")
        single = []
    return single if whole is None else [whole, *single]


def warning(check: str, value: float, limit: float, text: str, frame: int | None, unit: str = "") -> Finding:
    """Return a warning about a frame, or about the series (``None``)."""
    return Finding(check=check, outcome=Outcome.WARN, value=value, limit=limit, unit=unit, text=text, frame=frame)


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.3g} %"
