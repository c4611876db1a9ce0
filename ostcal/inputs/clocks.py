"""Clocks that cannot be right: times in the future, and times that contradict the order of the frames of a series."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ostcal.inputs.grouping import Frame, Group, describe
from ostcal.inputs.image_sets import one_of_each_file

AHEAD = timedelta(days=1)
"""Times may be this far ahead of the clock of this computer: clocks of other zones are not in the future."""

_LEAST_JUMP_S = 2.0
_LEAST_FRAMES = 3
_MOST_DESCENTS = 1 / 5
"""Share of the frames that may be earlier than the one before: names of more have another order than the times."""
_NUMBER = re.compile(r"(\d+)\D*$")
_SERIES_PLACE = re.compile(r"(.*)#(\d+)")


def is_ahead(when: datetime | None, now: datetime | None) -> bool:
    """Return whether a time is in the future, beyond what zones explain."""
    return when is not None and now is not None and when > now + AHEAD


def in_the_future(groups: Sequence[Group], now: datetime) -> list[str]:
    """Return a line for each group with frames that were taken in the future."""
    lines = []
    for group in one_of_each_file(groups):
        ahead = [frame for frame in group.frames if is_ahead(frame.metadata.date_obs, now)]
        if ahead:
            latest = max(when for frame in ahead if (when := frame.metadata.date_obs) is not None)
            what = "all" if len(ahead) == len(group.frames) else str(len(ahead))
            lines.append(
                f"{describe(group)}: {what} taken in the future (DATE-OBS up to {latest:%Y-%m-%d}, such as "
                f"{ahead[0].label}), as of a clock that is wrong: their time is not used where lights choose masters; "
                "correct DATE-OBS"
            )
    return lines


@dataclass(frozen=True, kw_only=True)
class _Numbered:
    """A frame of a series of files or of a zarr series, with its number in it."""

    number: int
    label: str
    when: datetime


def clock_jumps(frames: Iterable[Frame]) -> list[str]:
    """Return a line for each series whose times contradict the numbers of its frames.

    A series is a zarr series, or the files of a folder whose names differ in their last number alone. Where more than a
    few frames are not in the order of their numbers, the numbers say nothing of time.
    """
    series: dict[tuple[object, ...], dict[int, _Numbered]] = defaultdict(dict)
    unclear: set[tuple[object, ...]] = set()
    for frame in frames:
        metadata = frame.metadata
        place, number = _place_of(frame.file or frame.label)
        if metadata.date_obs is None or number is None:
            continue
        key = (place, metadata.frame_type, metadata.exposure_time_s, metadata.filter_name)
        known = series[key].setdefault(number, _Numbered(number=number, label=frame.label, when=metadata.date_obs))
        if known.label != frame.label and not frame.file:
            unclear.add(key)
    lines = (
        _jump_in(sorted(found.values(), key=lambda one: one.number)) for k, found in series.items() if k not in unclear
    )
    return [line for line in lines if line]


def _place_of(label: str) -> tuple[str, int | None]:
    """Return the series of a frame and its number in it."""
    if match := _SERIES_PLACE.fullmatch(label):
        return match[1], int(match[2])
    folder, name = os.path.split(label)
    stem = name.split(".fit")[0].removesuffix(".xisf").removesuffix(".fts")
    found = _NUMBER.search(stem)
    return (f"{folder}/{stem[: found.start()]}", int(found[1])) if found else (label, None)


def _jump_in(series: Sequence[_Numbered]) -> str:
    """Say where the times of a series go back; "" where they do not, or its numbers are no order of time."""
    n = len(series)
    if n < _LEAST_FRAMES or series[-1].number - series[0].number > 2 * n:
        return ""
    back = [(a, b) for a, b in pairwise(series) if (a.when - b.when).total_seconds() > _LEAST_JUMP_S]
    if not back or len(back) > max(1, int(n * _MOST_DESCENTS)):
        return ""
    advice = "as if a clock jumped; correct DATE-OBS where it is wrong"
    odd = _out_of_order(series)
    if len(odd) == 1 and n > _LEAST_FRAMES:
        (place,) = odd
        others = [one for i, one in enumerate(series) if abs(i - place) == 1]
        apart_s, other = min((abs((series[place].when - one.when).total_seconds()), one.label) for one in others)
        return (
            f"{series[place].label}: its time (DATE-OBS) is {_span(apart_s)} from that of {os.path.basename(other)} "
            f"beside it, and the other {n - 1} are in order, {advice}"
        )
    first, second = back[0]
    more = f" (and {len(back) - 1} more)" if len(back) > 1 else ""
    return (
        f"{second.label}: its time (DATE-OBS) is {_span((first.when - second.when).total_seconds())} before that of "
        f"{os.path.basename(first.label)}, which has the lower number{more}, {advice}"
    )


def _out_of_order(series: Sequence[_Numbered]) -> list[int]:
    """Return the places of the fewest frames without which the times never go back."""
    tails: list[float] = []
    ends: list[int] = []
    before: list[int | None] = []
    for place, frame in enumerate(series):
        when_s = frame.when.timestamp()
        at = bisect_right(tails, when_s)
        before.append(ends[at - 1] if at else None)
        tails[at:], ends[at:] = [when_s, *tails[at + 1 :]], [place, *ends[at + 1 :]]
    kept, last = set[int](), ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [place for place in range(len(series)) if place not in kept]


def _span(seconds: float) -> str:
    for unit, length_s in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds:.3g} s"
