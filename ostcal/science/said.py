"""What is said of the masters that were chosen: settings they leave open, times, ages; of each master once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from ostcal.frames import FrameType
from ostcal.inputs.clocks import is_ahead
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import says_angle
from ostcal.inputs.stated_settings import ANGLE
from ostcal.library.ages import AgeLog, DatedMaster
from ostcal.library.find import LibraryMaster
from ostcal.library.in_time import better_than_nearest
from ostcal.naming import night_of
from ostcal.science.matched import MatchedMasters
from ostcal.science.shelf import FrameFits, Shelf
from ostcal.science.unrecorded import taken_unasked

LONG_DAYS = 366.0
"""Frames of one master that are further apart had a clock that was wrong."""
LONGEST_NIGHT = timedelta(hours=16)
"""From the first flats of the dusk to the last ones of the dawn, where it is not known when noon is."""


def notes_of(used: Sequence[LibraryMaster], key: GroupKey, taken_at: datetime | None, shelf: Shelf) -> Iterator[str]:
    """Yield a line for each master that leaves a setting open, or was taken although another one is nearer in time."""
    fits, now = shelf.fits(key), shelf.rules.now
    for master in used:
        kind, name = master.key.frame_type, master.record.name
        yield from fits.made("open", [master], partial(_open_of, key, master, fits))
        beside = shelf.beside(master)
        better = better_than_nearest(master.record.merit, beside, taken_at, shelf.rules.in_time(kind)) if beside else ""
        if better:
            yield f"{kind} {name} is taken: {better}"
        if left_out := _left_out(master, taken_at, shelf):
            yield left_out
        observed = master.record.observed
        if observed is not None and is_ahead(observed.middle, now) and not is_ahead(taken_at, now):
            yield (
                f"{kind} {name}: its frames were taken in the future ({observed.middle:%Y-%m-%d}, DATE-OBS), as of a "
                "clock that was wrong: it is taken because no other fits as well"
            )
        if mixed := _several_nights(master):
            yield mixed
        if observed is not None and (days := (observed.last - observed.first).days) > LONG_DAYS:
            yield (
                f"{kind} {name}: its frames were taken over {days} days, {observed.first:%Y-%m-%d} to "
                f"{observed.last:%Y-%m-%d} (DATE-OBS), as if a clock was wrong: their median counts"
            )


def _several_nights(master: LibraryMaster) -> str:
    """Say that a flat is of several nights: dust moves between them; "" where it is of one, or nobody can tell."""
    key, observed = master.key, master.record.observed
    if key.frame_type is not FrameType.FLAT or key.session_start is not None or observed is None:
        return ""
    first, last = (night_of(when, key.noon_utc_s) for when in (observed.first, observed.last))
    taken_over = observed.last - observed.first
    is_one_night = first == last or (key.noon_utc_s is None and taken_over <= LONGEST_NIGHT)
    if is_one_night or taken_over.days > LONG_DAYS:
        return ""
    return (
        f"flat {master.record.name} combines several nights, {first} to {last}: where dust moved between them, "
        "its shadows are half corrected; take a set of flats in each night"
    )


def _open_of(key: GroupKey, master: LibraryMaster, fits: FrameFits) -> list[str]:
    """Return a line for what a master leaves open, and one for what the frame does."""
    lines: list[str] = []
    kind, name = master.key.frame_type, master.record.name
    ours, its = key.optics, master.key.optics
    open_settings = fits.unstated(master)
    if ANGLE in open_settings and says_angle(its):
        open_settings = tuple(one for one in open_settings if one != ANGLE)
        words = ("on the sky", "of its rotator")
        words = words if its.rotator_deg is None else words[::-1]
        angles_deg = [o.sky_angle_deg if o.rotator_deg is None else o.rotator_deg for o in (its, ours)]
        lines.append(
            f"{kind} {name} records its angle {words[0]} ({angles_deg[0]:g} deg), the frame that {words[1]} "
            f"({angles_deg[1]:g} deg): they cannot be compared, it is taken because no {kind} of the angle fits"
        )
    if open_settings:
        lines.append(
            f"{kind} {name} does not record {' and '.join(open_settings)}: it is taken because no {kind} that does fits"
        )
    if unasked := list(taken_unasked(key, master.key)):
        lines.append(
            f"{kind} {name} is of {' and '.join(unasked)}, which the frame does not record: "
            f"no {kind} of another fits as well"
        )
    return lines


def _left_out(master: LibraryMaster, taken_at: datetime | None, shelf: Shelf) -> str:
    """Return the line about the nearest master that was left out for its quality, if it is nearer; "" otherwise."""
    rules = shelf.rules.in_time(master.key.frame_type)
    others = shelf.left_out(master)
    if not others:
        return ""
    nearest = min(others, key=lambda other: (other.record.merit.distance(taken_at, rules), other.record.name))
    if nearest.record.merit.distance(taken_at, rules) >= master.record.merit.distance(taken_at, rules):
        return ""
    why = "it is a mixture of two levels" if nearest.record.has_two_levels else "it failed its quality control"
    kind = master.key.frame_type
    return (
        f"{kind} {nearest.record.name} was taken nearer in time and is left out, {why}: {master.record.name} is taken"
    )


@dataclass(frozen=True, kw_only=True)
class FrameAges(AgeLog):
    """Collects how old the masters of science frames are, and which frames do not say when they were taken."""

    now: datetime | None = None
    _undated_frames: list[str] = field(default_factory=list)
    _frames_ahead: list[str] = field(default_factory=list)

    def add(self, label: str, chosen: MatchedMasters) -> None:
        """Note the ages of the masters of a frame."""
        if chosen.taken_at is None:
            self._undated_frames.append(label)
        elif is_ahead(chosen.taken_at, self.now):
            self._frames_ahead.append(f"{label} ({chosen.taken_at:%Y-%m-%d})")
        masters = (
            DatedMaster(kind=master.key.frame_type, name=master.record.name, observed=master.record.observed)
            for master in chosen.used
        )
        self.note(label, chosen.taken_at, masters)

    @property
    def remarks(self) -> list[str]:
        """A line about all masters that are older than a month, and one about times that are not known."""
        lines = self.old
        if self._undated_frames:
            lines.append(
                f"{_first_of(self._undated_frames)}: no DATE-OBS says when it was taken: of masters that fit alike the "
                "one taken last is used, and no age is known"
            )
        if self._frames_ahead:
            lines.append(
                f"{_first_of(self._frames_ahead)}: taken in the future (DATE-OBS), as of a clock that is wrong: ages "
                "are counted from it, and of masters that fit alike the one taken last is used; correct DATE-OBS"
            )
        if self.undated:
            lines.append(
                f"no DATE-OBS says when the frames of {', '.join(self.undated)} were taken: no age is known, "
                "and masters that say it go before"
            )
        return lines


def _first_of(labels: Sequence[str]) -> str:
    return f"{labels[0]} and {len(labels) - 1} more" if len(labels) > 1 else labels[0]
