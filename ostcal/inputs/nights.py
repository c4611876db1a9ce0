"""Whether it is known where nights end: by the longitude in headers or of the site, else by the frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

from ostcal.frames import FrameType
from ostcal.inputs.grouping import Frame, GroupRules, why_unused, with_noon
from ostcal.naming import DAY_S, NOON_UTC_S, night_of, quiet_times

_LEAST_DAY_S = 5 * 3600.0
"""A shorter time of day without frames is a pause in the night, not the day."""


def doubtful_noon(frames: Sequence[Frame], rules: GroupRules) -> list[str]:
    """Say that nothing tells the day from the night, where this decides which frames are of one night.

    `rules` are those before `with_noon`. Evening and morning flats of several nights leave two gaps in the day.
    """
    if rules.noon_utc_s is not None or any(frame.metadata.longitude_deg is not None for frame in frames):
        return []
    times = [f.metadata.date_obs for f in frames if _is_parted(f, rules) and f.metadata.date_obs is not None]
    used_s = with_noon(rules, frames).noon_utc_s
    long = [middle_s for middle_s, length_s in quiet_times(times) if length_s >= _LEAST_DAY_S]
    others = [other_s for other_s in long if _parted(times, other_s) != _parted(times, used_s)]
    if not others:
        return []
    return [
        f"neither headers (SITELONG) nor site.longitude say where the frames were taken: nights are taken to end at"
        f" {_clock(used_s)} UTC, and {' or '.join(map(_clock, others))} UTC is possible too, which parts frames"
        " of evenings and mornings otherwise; set site.latitude and site.longitude"
    ]


def _is_parted(frame: Frame, rules: GroupRules) -> bool:
    if why_unused(frame.metadata) or rules.session == "hours":
        return False
    return rules.per_session or (frame.metadata.frame_type is FrameType.FLAT and rules.session == "night")


def _parted(times: Sequence[datetime], noon_utc_s: float | None) -> set[frozenset[datetime]]:
    """Return the times that are of one night, for each night."""
    nights: defaultdict[date | None, set[datetime]] = defaultdict(set)
    for when in times:
        nights[night_of(when, noon_utc_s)].add(when)
    return {frozenset(same) for same in nights.values()}


def _clock(noon_utc_s: float | None) -> str:
    minutes = round((NOON_UTC_S if noon_utc_s is None else noon_utc_s) % DAY_S / 60)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"
