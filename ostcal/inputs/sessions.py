"""Sessions and windows: which frames were taken near enough in time to be one master."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

WINDOW_DAYS = 30.0
"""Bias and darks of a month are one master: electronics and hot pixels change from season to season."""
SESSION_HOURS = 6.0
"""A longer time without a frame ends a session, where these are told apart by hours."""


def windows(nights: Sequence[date], window_days: float) -> list[list[int]]:
    """Split nights into windows, and return the places of each, the oldest window first.

    The newest window ends with the newest night. What is older is split from its oldest night on, so that the windows
    of a year stay the same when another night is added.
    """
    longest = timedelta(days=window_days)
    order = sorted(range(len(nights)), key=lambda place: (nights[place], place))
    newest = [place for place in order if nights[order[-1]] - nights[place] <= longest]
    found: list[list[int]] = []
    for place in order[: len(order) - len(newest)]:
        if not found or nights[place] - nights[found[-1][0]] > longest:
            found.append([])
        found[-1].append(place)
    return [*found, newest] if newest else found


def split_between(
    nights: Sequence[date], places: Sequence[int], breaks: Sequence[tuple[date, date]]
) -> list[list[int]]:
    """Split the places of a window where one of `breaks`, (last night, next night), lies between two of its nights."""
    parts: list[list[int]] = []
    for place in sorted(places, key=lambda place: (nights[place], place)):
        last = nights[parts[-1][-1]] if parts else None
        if last is None or any(last <= after and before <= nights[place] for after, before in breaks):
            parts.append([])
        parts[-1].append(place)
    return parts


def session_starts(times: Sequence[tuple[datetime, float]], session_hours: float) -> list[datetime]:
    """Return for each frame the start of its session; `times` are starts and exposures in seconds, in any order.

    A session ends where no frame is taken for more than `session_hours`.
    """
    longest = timedelta(hours=session_hours)
    starts: dict[int, datetime] = {}
    session: datetime | None = None
    end: datetime | None = None
    for place in sorted(range(len(times)), key=lambda place: times[place]):
        start, exposure_s = times[place]
        if session is None or end is None or start - end > longest:
            session = start
        end = max(end or start, start + timedelta(seconds=exposure_s))
        starts[place] = session
    return [starts[place] for place in range(len(times))]
