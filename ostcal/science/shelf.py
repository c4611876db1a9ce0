"""A library as many frames are compared with it: what does not depend on the time of a frame is found once.

Masters of equal settings, exposure and temperature are compared with a frame together. What fits a frame is kept for
all frames of its settings; what is left for each frame is which of the masters that fit alike is nearest in time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar, overload

from ostcal.build.match_darks import why_unfit, why_unfit_temperature
from ostcal.frames import CameraSettings, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import optics_differ, says_angle
from ostcal.inputs.sensor_temperature import STEADY_C
from ostcal.inputs.stated_settings import count_unstated, unstated_optics, unstated_settings
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.in_time import Merit, Timeline, TimeRules
from ostcal.naming import filter_identity
from ostcal.science.fitting import flat_unfit
from ostcal.science.matched import MatchRules, is_near_exposure, is_same_exposure, usable_masters
from ostcal.science.unrecorded import OpenSettings, OpenTolerances, open_settings

_T = TypeVar("_T")

TEMPERATURE_STEP_C = 0.5
"""Darks nearer to each other than this are of one temperature: the time decides, not 0.1 degrees."""
MOST_KEPT = 2000
"""Frames of different settings for which it is kept what fits them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Alike:
    """Masters that fit a frame equally well, its time aside."""

    masters: Sequence[LibraryMaster]
    rules: MatchRules
    timeline: Timeline

    @classmethod
    def of(cls, masters: Sequence[LibraryMaster], rules: MatchRules, in_time: TimeRules) -> Alike:
        """Return masters in time."""
        timeline = Timeline([master.record.merit for master in masters], in_time)
        return cls(masters=masters, rules=rules, timeline=timeline)

    @cached_property
    def places(self) -> dict[int, int]:
        """The places of the masters by their identity."""
        return {id(master): place for place, master in enumerate(self.masters)}

    def first(self, taken_at: datetime | None, *, is_of_age: bool = False) -> LibraryMaster | None:
        """Return the master for a moment; ``None`` where one within its age is wanted and there is none."""
        if not is_of_age or taken_at is None or not self._limits:
            return self.masters[self.timeline.first(taken_at)]
        near = range(len(self.masters)) if None in self._limits else self.timeline.within(taken_at, self._longest_days)
        of_age = [i for i in near if not self.rules.too_old(self.masters[i], taken_at)]
        return self.masters[self.timeline.first(taken_at, of_age)] if of_age else None

    @cached_property
    def _limits(self) -> set[float | None]:
        """Most days of the kinds of the masters; none where no kind has a limit."""
        limits = {self.rules.max_ages.of(kind) for kind in {master.key.frame_type for master in self.masters}}
        return set() if limits == {None} else limits

    @cached_property
    def _longest_days(self) -> float:
        return max(limit for limit in self._limits if limit is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Equals:
    """Masters of a library that differ in their times alone."""

    key: GroupKey
    numbers: tuple[int, ...]
    """Their places in the library."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Masters that fit a frame."""

    equals: Equals
    unstated: int
    """Settings of the frame that they leave open."""

    @property
    def key(self) -> GroupKey:
        """What the masters are compared by."""
        return self.equals.key


RankedMasters = list[tuple[tuple[int, tuple[float, ...]], Alike]]
"""Masters that fit a frame, by what they leave open and by other distances, the nearest first."""


class Shelf(Sequence[LibraryMaster]):
    """The masters of a library."""

    def __init__(self, library: Iterable[LibraryMaster], rules: MatchRules) -> None:
        self._library = tuple(master.at_sensor_temperature for master in library)
        self.rules = rules
        self._alike: dict[tuple[FrameType, tuple[int, ...]], Alike] = {}
        self._of_camera: dict[GroupKey, list[Fit]] = {}
        self._flats: dict[GroupKey, list[Fit]] = {}
        self._frames: dict[GroupKey, FrameFits] = {}
        self._last: FrameFits | None = None
        self._beside: dict[int, list[Merit]] = {}
        self._left_out: dict[int, list[LibraryMaster]] = {}

    @overload
    def __getitem__(self, index: int) -> LibraryMaster: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LibraryMaster]: ...
    def __getitem__(self, index: int | slice) -> LibraryMaster | Sequence[LibraryMaster]:
        """Return a master, or some, as of any sequence."""
        return self._library[index]

    def __len__(self) -> int:
        """Return the number of the masters."""
        return len(self._library)

    @cached_property
    def usable(self) -> list[LibraryMaster]:
        """Those that may be chosen."""
        return usable_masters(self._library, self.rules)

    @cached_property
    def darks(self) -> list[LibraryMaster]:
        """Darks and biases that may be chosen."""
        return [m for m in self.usable if m.key.frame_type in (FrameType.DARK, FrameType.BIAS)]

    @cached_property
    def flats(self) -> list[LibraryMaster]:
        """Flats that may be chosen."""
        return [m for m in self.usable if m.key.frame_type is FrameType.FLAT]

    @cached_property
    def _equals(self) -> list[Equals]:
        same: defaultdict[GroupKey, list[int]] = defaultdict(list)
        shared: dict[CameraSettings, CameraSettings] = {}  # comparing an object with itself takes no time
        for number, master in enumerate(self.usable):
            settings = shared.setdefault(master.key.settings, master.key.settings)
            same[replace(master.key, night=None, session_start=None, settings=settings)].append(number)
        return [Equals(key=key, numbers=tuple(numbers)) for key, numbers in same.items()]

    @cached_property
    def binnings(self) -> list[tuple[int, int]]:
        """Those of the masters."""
        return sorted({equals.key.settings.binning for equals in self._equals})

    def masters_of(self, fits: Iterable[Fit]) -> list[LibraryMaster]:
        """Return masters in the order of the library."""
        return [self.usable[number] for number in sorted(n for fit in fits for n in fit.equals.numbers)]

    def alike(self, kind: FrameType, equals: Iterable[Equals]) -> Alike:
        """Return masters in time, by the rules of a kind."""
        return self._in_time(kind, tuple(sorted(number for one in equals for number in one.numbers)))

    def stored(self, equals: Equals) -> Alike | None:
        """Return those of some darks in time that are in the store; ``None`` where none is."""
        numbers = tuple(n for n in equals.numbers if isinstance(self.usable[n].plane, StorePlane))
        return self._in_time(FrameType.DARK, numbers) if numbers else None

    def _in_time(self, kind: FrameType, numbers: tuple[int, ...]) -> Alike:
        if (kind, numbers) not in self._alike:
            masters = [self.usable[number] for number in numbers]
            self._alike[kind, numbers] = Alike.of(masters, self.rules, self.rules.in_time(kind))
        return self._alike[kind, numbers]

    def ranked(self, kind: FrameType, found: Iterable[tuple[Fit, tuple[float, ...]]]) -> RankedMasters:
        """Put masters in order of what they leave open and of other distances."""
        same: defaultdict[tuple[int, tuple[float, ...]], list[Equals]] = defaultdict(list)
        for fit, distance in found:
            same[fit.unstated, distance].append(fit.equals)
        return [(rank, self.alike(kind, same[rank])) for rank in sorted(same)]

    def fits(self, key: GroupKey) -> FrameFits:
        """Return what fits a frame."""
        if self._last is not None and self._last.key is key:
            return self._last
        found = self._frames.get(key)
        if found is None:
            if len(self._frames) >= MOST_KEPT:
                self._frames.clear()
            found = self._frames[key] = FrameFits(self, key)
        self._last = found
        return found

    def of_camera(self, key: GroupKey) -> list[Fit]:
        """Return the darks and biases that fit a frame but for exposure and temperature."""
        plain = replace(key, temperature_c=None, exposure_time_s=0.0, filter_name=None, optics=Optics())
        if plain not in self._of_camera:
            self._of_camera[plain] = [
                Fit(equals=equals, unstated=count_unstated(plain, equals.key))
                for equals in self._equals
                if equals.key.frame_type in (FrameType.DARK, FrameType.BIAS) and not why_unfit(plain, equals.key, 0.0)
            ]
        return self._of_camera[plain]

    def all_biases(self, key: GroupKey) -> list[Fit]:
        """Return all biases, with what they leave open of a frame."""
        return [
            Fit(equals=equals, unstated=count_unstated(key, equals.key))
            for equals in self._equals
            if equals.key.frame_type is FrameType.BIAS
        ]

    def flats_of_filter(self, key: GroupKey) -> list[Fit]:
        """Return the flats that fit a frame but for the light path."""
        plain = replace(key, temperature_c=None, exposure_time_s=0.0, optics=Optics())
        if plain not in self._flats:
            self._flats[plain] = [
                Fit(equals=equals, unstated=count_unstated(plain, equals.key))
                for equals in self._equals
                if equals.key.frame_type is FrameType.FLAT and not flat_unfit(plain, equals.key, self.rules)
            ]
        return self._flats[plain]

    def beside(self, master: LibraryMaster) -> list[Merit]:
        """Return the masters like another one, of its session or window; of any time if all are one session."""
        if id(master) not in self._beside:
            numbers = self._looking_alike.get(_looks(master.key), ())
            self._beside[id(master)] = self._beside_among(master, numbers) if numbers else []
        return self._beside[id(master)]

    def _beside_among(self, master: LibraryMaster, numbers: tuple[int, ...]) -> list[Merit]:
        alike = self._in_time(master.key.frame_type, numbers)
        place = alike.places.get(id(master))
        near = alike.timeline.session_and_window(place) if place is not None else ()
        return [other.record.merit for i in near if self._is_like(master, other := alike.masters[i])]

    def left_out(self, master: LibraryMaster) -> list[LibraryMaster]:
        """Return the masters like another one that may not be chosen, for they failed or are a mixture."""
        if id(master) not in self._left_out:
            others = self._unusable_looking_alike.get(_looks(master.key), ())
            self._left_out[id(master)] = [other for other in others if self._is_like(master, other)]
        return self._left_out[id(master)]

    def _is_like(self, master: LibraryMaster, other: LibraryMaster) -> bool:
        """Return whether two masters of equal looks are of one temperature and light path."""
        ours, its = master.key, other.key
        if other is master or not _has_temperature(ours, its) or says_angle(ours.optics) != says_angle(its.optics):
            return False
        return not optics_differ(its.optics, ours.optics, self.rules.rotation_tolerance_deg)

    @cached_property
    def _looking_alike(self) -> dict[tuple[object, ...], tuple[int, ...]]:
        alike: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
        for number, master in enumerate(self.usable):
            alike[_looks(master.key)].append(number)
        return {looks: tuple(numbers) for looks, numbers in alike.items()}

    @cached_property
    def _unusable_looking_alike(self) -> dict[tuple[object, ...], list[LibraryMaster]]:
        alike: defaultdict[tuple[object, ...], list[LibraryMaster]] = defaultdict(list)
        usable = {id(master) for master in self.usable}
        for master in self._library:
            if id(master) not in usable:
                alike[_looks(master.key)].append(master)
        return alike


def shelf_of(library: Sequence[LibraryMaster], rules: MatchRules) -> Shelf:
    """Return a library as frames are compared with it."""
    if isinstance(library, Shelf) and (library.rules is rules or library.rules == rules):
        return library
    return Shelf(library, rules)


def first_of(ranked: RankedMasters, taken_at: datetime | None, rules: MatchRules) -> LibraryMaster | None:
    """Return the master for a moment: what it leaves open counts first, then whether it is within its age.

    ``None`` where nothing fits, or with ``strict`` nothing that is not too old.
    """
    for (unstated, _), alike in ranked:
        if unstated > ranked[0][0][0] and not rules.strict:
            break
        found = alike.first(taken_at, is_of_age=True)
        if found is not None:
            return found
    return ranked[0][1].first(taken_at) if ranked and not rules.strict else None


class FrameFits:
    """What of a library fits frames of equal settings."""

    def __init__(self, shelf: Shelf, key: GroupKey) -> None:
        self._shelf = shelf
        self.key = key
        self._bias: tuple[datetime | None, LibraryMaster | None] | None = None
        self._made: dict[tuple[str | int, ...], Any] = {}

    @cached_property
    def of_camera(self) -> list[Fit]:
        """Darks and biases that fit but for exposure and temperature."""
        fits = self._shelf.of_camera(self.key)
        if self.key.temperature_c is None:
            return fits
        lacking = [fit for fit in fits if fit.key.temperature_c is None]
        if not lacking:
            return fits
        return [replace(fit, unstated=fit.unstated + (fit.key.temperature_c is None)) for fit in fits]

    @cached_property
    def plain(self) -> list[Fit]:
        """Those of them within the tolerance of the temperature, a bias too."""
        tolerance_c = self._shelf.rules.temperature_tolerance_c
        return [fit for fit in self.of_camera if not why_unfit_temperature(self.key, fit.key, tolerance_c)]

    @cached_property
    def wide(self) -> list[Fit]:
        """Those of them within the tolerances of the temperature: that of biases is wide."""
        rules = self._shelf.rules
        tolerances_c = rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c
        return [fit for fit in self.of_camera if not why_unfit_temperature(self.key, fit.key, *tolerances_c)]

    @cached_property
    def biases(self) -> RankedMasters:
        """The biases: one of the temperature, else the nearest to it, goes first."""
        return self.biases_among(self.wide)

    def bias_at(self, taken_at: datetime | None) -> LibraryMaster | None:
        """Return the bias of a frame of a moment, for which it is asked more than once."""
        if self._bias is None or self._bias[0] != taken_at:
            self._bias = taken_at, first_of(self.biases, taken_at, self._shelf.rules)
        return self._bias[1]

    def biases_among(self, fits: Iterable[Fit]) -> RankedMasters:
        """Return the biases of some masters, by what they leave open and by their temperature."""
        found = [(fit, (self._degrees(fit),)) for fit in fits if fit.key.frame_type is FrameType.BIAS]
        return self._shelf.ranked(FrameType.BIAS, found)

    def _degrees(self, fit: Fit) -> float:
        is_near = not why_unfit_temperature(self.key, fit.key, self._shelf.rules.temperature_tolerance_c)
        a_c, b_c = self.key.temperature_c, fit.key.temperature_c
        return 0.0 if is_near or a_c is None or b_c is None else abs(a_c - b_c)

    @cached_property
    def near(self) -> RankedMasters:
        """Darks of nearly the exposure: what they leave open, exposure to what clocks tell, temperature."""
        rules = self._shelf.rules
        fits = [fit for fit in self.plain if is_near_exposure(self.key, fit.key, rules)]
        return self._shelf.ranked(
            FrameType.DARK, [(fit, (self._steps(fit), degrees_apart(self.key, fit.key))) for fit in fits]
        )

    def _steps(self, fit: Fit) -> int:
        apart_s = abs(fit.key.exposure_time_s - self.key.exposure_time_s)
        return 0 if is_same_exposure(self.key, fit.key) else round(1e3 * apart_s / self.key.exposure_time_s)

    @cached_property
    def sums(self) -> list[Fit]:
        """Biases, and darks of which the bias was subtracted if that of the frame was not, and the other way round."""
        key = self.key
        others = self._shelf.fits(replace(key, bias_subtracted=not key.bias_subtracted)).plain
        darks = [fit for fit in others if fit.key.frame_type is FrameType.DARK]
        raw = self._shelf.fits(replace(key, bias_subtracted=False)).wide if darks else []
        return [*darks, *(fit for fit in raw if fit.key.frame_type is FrameType.BIAS)]

    @cached_property
    def of_any_temperature(self) -> list[Fit]:
        """Darks that fit but for exposure and temperature, and all biases: these need fit the darks alone."""
        darks = [fit for fit in self.of_camera if fit.key.frame_type is FrameType.DARK]
        return [*darks, *self._shelf.all_biases(self.key)] if darks else []

    @cached_property
    def stored_temperatures(self) -> int:
        """Number of the temperatures of these darks, of those in the store."""
        darks = [fit for fit in self.of_any_temperature if fit.key.frame_type is FrameType.DARK]
        stored = [fit for fit in darks if self._shelf.stored(fit.equals) is not None]
        return len({fit.key.temperature_c for fit in stored} - {None})

    @cached_property
    def levels(self) -> list[int]:
        """How many settings darks and biases leave open, ascending."""
        return sorted({fit.unstated for fit in (*self.wide, *self.sums)})

    def made(self, what: str, masters: Sequence[LibraryMaster], make: Callable[[], _T]) -> _T:
        """Return what is made of masters for these frames; it is made once."""
        known: tuple[str | int, ...] = (what, *map(id, masters))
        if known not in self._made:
            self._made[known] = make()
        found: _T = self._made[known]
        return found

    @cached_property
    def flat_fits(self) -> list[Fit]:
        """The flats; r is R where only one of them is there; where both are, they are two filters."""
        key, rules = self.key, self._shelf.rules
        fits = [
            replace(fit, unstated=fit.unstated + len(unstated_optics(key.optics, fit.key.optics)))
            for fit in self._shelf.flats_of_filter(key)
            if not optics_differ(fit.key.optics, key.optics, rules.rotation_tolerance_deg)
        ]
        if not key.filter_name:
            return fits
        ours = filter_identity(key.filter_name)
        exact = [fit for fit in fits if filter_identity(fit.key.filter_name or "") == ours]
        return exact if exact else fits

    @cached_property
    def open_of_flats(self) -> OpenSettings:
        """What the frame does not record and the flats differ in."""
        return self._open(FrameType.FLAT, [fit for fits in self._of_all_binnings for fit in fits.flat_fits])

    @cached_property
    def open_of_darks(self) -> OpenSettings:
        """What the frame does not record and the darks differ in: those of its exposure, if there are any."""
        of_camera = [fit for fits in self._of_all_binnings for fit in fits.of_camera]
        darks = [fit for fit in of_camera if fit.key.frame_type is FrameType.DARK]
        near = [fit for fit in darks if is_near_exposure(self.key, fit.key, self._shelf.rules)]
        return self._open(FrameType.DARK, near or darks)

    @cached_property
    def _of_all_binnings(self) -> list[FrameFits]:
        """What fits frames of its binning; where it is not recorded, of all binnings that there are."""
        if self.key.states_binning:
            return [self]
        settings = self.key.settings
        others = [replace(settings, binning=binning) for binning in self._shelf.binnings if binning != settings.binning]
        return [self, *(self._shelf.fits(replace(self.key, settings=other)) for other in others)]

    def _open(self, kind: FrameType, fits: Sequence[Fit]) -> OpenSettings:
        rules = self._shelf.rules
        tolerances = OpenTolerances(
            temperature_c=rules.temperature_tolerance_c, rotation_deg=rules.rotation_tolerance_deg
        )
        return open_settings(kind, self.key, [(fit.key, fit.unstated) for fit in fits], tolerances)

    def unstated(self, master: LibraryMaster) -> tuple[str, ...]:
        """Name the settings that a master leaves open."""
        return self.made("unstated", [master], lambda: unstated_settings(self.key, master.key))

    @cached_property
    def flats(self) -> RankedMasters:
        """The flats, by what they leave open."""
        allowed = [fit for fit in self.flat_fits if self.open_of_flats.allows(fit.key)]
        return self._shelf.ranked(FrameType.FLAT, [(fit, ()) for fit in allowed])


def degrees_apart(frame: GroupKey, master: GroupKey) -> int:
    """Return the steps of temperature from a frame to a master, where these count."""
    if master.frame_type is FrameType.BIAS or frame.temperature_c is None or master.temperature_c is None:
        return 0
    apart_c = abs(master.temperature_c - frame.temperature_c)
    return 0 if apart_c <= STEADY_C + 1e-6 else max(1, round(apart_c / TEMPERATURE_STEP_C))


def _looks(key: GroupKey) -> tuple[object, ...]:
    """Return what is equal for masters of one kind, settings, exposure and filter."""
    size = key.width, key.height
    return key.frame_type, size, key.filter_name, key.bias_subtracted, round(key.exposure_time_s, 2), key.settings


def _has_temperature(a: GroupKey, b: GroupKey) -> bool:
    """Return whether temperatures differ by less than 1, where they count."""
    is_flat, a_c, b_c = a.frame_type is FrameType.FLAT, a.temperature_c, b.temperature_c
    return is_flat or a_c is None or b_c is None or abs(a_c - b_c) < 1
