"""Matchers of many lights: each sees the masters that may be taken, so that a choice among thousands takes no time.

Masters of equal settings, exposure and temperature are looked at together. What a matcher of a part of the library
chooses is what that of the whole library would: the part holds all masters that fit, and where none fits, or one only
after its dark current is scaled, the next larger part is asked.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property

from ostcal.errors import InputError
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.grouping import GroupKey, same_temperature, settings_differ
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.find import LibraryMaster
from ostcal.naming import same_filter
from ostcal.science.choose_masters import FrameMatcher
from ostcal.science.cover import Cover, CoverageRules, KindCover, TakenMaster
from ostcal.science.match_distance import distances_of, rotation_of
from ostcal.science.matched import DarkMix, is_same_exposure

MatcherOf = Callable[[FrameType, Sequence[LibraryMaster]], FrameMatcher]
"""Makes the matcher of darks and bias, or of flats, from masters."""

_STEP_C = 0.1
"""Lights whose temperatures differ by less take the same masters."""
_STEP_DEG = 0.1
"""Lights whose angles differ by less take the same flats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LightOf:
    """An image of a light, and what it is compared by."""

    path: str
    metadata: FrameMetadata
    key: GroupKey
    night: date | None

    @property
    def taken_at(self) -> datetime | None:
        """The start of its exposure."""
        return self.metadata.date_obs

    @property
    def time_order(self) -> tuple[float, str]:
        """What puts images in order of time."""
        return self.taken_at.timestamp() if self.taken_at else 0.0, self.path

    @property
    def exposure(self) -> str:
        """Its exposure as far as it matters; "" where it is not known."""
        return "" if self.metadata.exposure_time_s is None else f"{self.key.exposure_time_s:.4g}"

    @cached_property
    def plain_key(self) -> GroupKey:
        """What it is compared by without exposure, temperature, filter and angles."""
        optics = replace(self.key.optics, rotator_deg=None, sky_angle_deg=None)
        return replace(self.key, temperature_c=None, exposure_time_s=0.0, filter_name=None, optics=optics)

    @cached_property
    def key_of_darks(self) -> GroupKey:
        """What it is compared by with bias and darks, without exposure and temperature."""
        return replace(self.plain_key, optics=Optics())

    @property
    def rotation_deg(self) -> float | None:
        """How the camera was turned."""
        return rotation_of(self.key.optics)

    @property
    def degrees(self) -> int | None:
        """Its temperature as people read it."""
        return None if self.key.temperature_c is None else round(self.key.temperature_c)


def settings_for(kind: FrameType, image: LightOf) -> tuple[object, ...]:
    """Return what is equal for lights that take the same masters of a kind at the same time."""
    temperature_c, angle_deg = image.key.temperature_c, image.rotation_deg
    if kind is FrameType.FLAT:
        turn = None if angle_deg is None else round(angle_deg / _STEP_DEG)
        return kind, image.plain_key, image.key.filter_name, turn
    exposure = image.exposure if kind is FrameType.DARK else ""
    step = None if temperature_c is None else round(temperature_c / _STEP_C)
    return kind, image.key_of_darks, exposure, step


class CoverMatchers:
    """Says what covers a light, by matchers that are made once for lights of equal settings."""

    def __init__(self, library: Sequence[LibraryMaster], matcher_of: MatcherOf, rules: CoverageRules) -> None:
        self._matcher_of = matcher_of
        self._rules = rules
        self._library = library
        self._whole = {kind: matcher_of(kind, self._library) for kind in (FrameType.DARK, FrameType.FLAT)}
        self._alike: defaultdict[GroupKey, list[int]] = defaultdict(list)
        for number, master in enumerate(self._library):
            self._alike[replace(master.key, night=None)].append(number)
        self._parts: dict[tuple[object, ...], FrameMatcher] = {}
        self._refusals: dict[tuple[object, ...], str] = {}

    def whole(self, kind: FrameType) -> FrameMatcher:
        """Return the matcher of all masters."""
        return self._whole[kind]

    def cover(self, kind: FrameType, image: LightOf) -> KindCover:
        """Return what covers a light, by masters of a kind."""
        if kind is FrameType.FLAT:
            return self._flat(image)
        if not self._rules.with_darks:
            return KindCover(state=Cover.LEFT_OUT)
        return self._dark(image) if kind is FrameType.DARK else self._bias(image)

    def _bias(self, image: LightOf) -> KindCover:
        bias = self._part(FrameType.BIAS, image, _may_be_bias).match_bias(image.metadata)
        if bias is None:
            gain = image.key.settings.gain
            of_gain = f", gain {gain:g}" if gain is not None else ""
            why = f"no master bias fits ({image.key.width} x {image.key.height}{of_gain}); make one"
            return KindCover(state=Cover.MISSING, reason=why)
        cover = KindCover(state=Cover.COVERED, masters=(_taken(image, bias),), description=bias.record.name)
        return self._aged(image, cover, [bias])

    def _dark(self, image: LightOf) -> KindCover:
        matched = None
        with contextlib.suppress(InputError):  # the masters of other exposures and temperatures decide
            matched = self._part(FrameType.DARK, image, self._may_be_its_dark, "near").match_metadata(image.metadata)
        if matched is None or matched.dark is None or not self._is_plain(image, matched.dark):
            matched = None
            with contextlib.suppress(InputError):  # darks of other temperatures are told from none at all
                matched = self._part(FrameType.DARK, image, self._may_be_dark_now, "now").match_metadata(image.metadata)
        if matched is None or matched.dark is None or not _is_stated(image, matched.dark):
            try:
                matched = self._part(FrameType.DARK, image, _may_be_dark).match_metadata(image.metadata)
            except InputError:
                return self._refusal(FrameType.DARK, image)
        dark = matched.dark
        if dark is None:
            return KindCover(state=Cover.LEFT_OUT)
        cover = KindCover(
            state=Cover.COVERED,
            masters=tuple(_taken(image, part.master) for part in dark.parts),
            description=dark.description,
            warnings=(*matched.warnings, *matched.notes),
        )
        is_bias_alone = not dark.has_dark_current and not _is_of_exposure(image, dark)
        if is_bias_alone and (image.metadata.exposure_time_s or 0.0) > 0:
            why = " ".join(matched.warnings) or "a bias leaves the dark current in"
            return replace(cover, state=Cover.MISSING, reason=why, warnings=())
        if dark.unscaled:
            return replace(cover, state=Cover.UNSCALED, reason=dark.unscaled)
        is_scaled = dark.scaled or dark.synthetic is not None
        cover = replace(cover, state=Cover.SCALED) if is_scaled else cover
        return self._aged(image, cover, [part.master for part in dark.parts])

    def _flat(self, image: LightOf) -> KindCover:
        try:
            matched = self._part(FrameType.FLAT, image, _may_be_flat).match_metadata(image.metadata)
        except InputError:
            return self._refusal(FrameType.FLAT, image)
        if matched.flat is None:
            return KindCover(state=Cover.LEFT_OUT)
        cover = KindCover(
            state=Cover.COVERED,
            masters=(_taken(image, matched.flat),),
            description=matched.flat.record.name,
            warnings=(*matched.warnings, *matched.notes),
        )
        return self._aged(image, cover, [matched.flat])

    def _refusal(self, kind: FrameType, image: LightOf) -> KindCover:
        """Ask the matcher of all masters, whose message names the nearest of them."""
        settings = settings_for(kind, image)
        if settings not in self._refusals:
            try:
                self._whole[kind].match_metadata(image.metadata)
            except InputError as error:
                self._refusals[settings] = str(error)
        return KindCover(state=Cover.MISSING, reason=self._refusals.get(settings, ""))

    def _aged(self, image: LightOf, cover: KindCover, masters: Iterable[LibraryMaster]) -> KindCover:
        """Return the cover as aged where one of its masters is older than it may be."""
        for master in masters:
            too_old = self._too_old(image, master)
            if too_old:
                return replace(cover, state=Cover.AGED, reason=f"{master.record.name}: {too_old}")
        return cover

    def _too_old(self, image: LightOf, master: LibraryMaster) -> str:
        return self.whole(FrameType.DARK).rules.too_old(master, image.taken_at)

    def _part(
        self, kind: FrameType, image: LightOf, may_be: Callable[[GroupKey, GroupKey], bool], which: str = ""
    ) -> FrameMatcher:
        """Return the matcher of the masters that may be taken for lights of these settings."""
        settings = (which, *settings_for(kind, image))
        if settings not in self._parts:
            numbers = [n for key, alike in self._alike.items() if may_be(image.key, key) for n in alike]
            masters = [self._library[number] for number in sorted(numbers)]
            self._parts[settings] = self._matcher_of(
                FrameType.FLAT if kind is FrameType.FLAT else FrameType.DARK, masters
            )
        return self._parts[settings]

    def _is_plain(self, image: LightOf, dark: DarkMix) -> bool:
        """Return whether a dark goes before all others: of the exposure, in time, stating all that the light does."""
        if dark.scaled or dark.unscaled or dark.synthetic or not _is_of_exposure(image, dark):
            return False
        master = dark.parts[0].master
        return not unstated_settings(image.key, master.key) and not self._too_old(image, master)

    def _may_be_dark_now(self, key: GroupKey, dark: GroupKey) -> bool:
        """Return whether a dark may have a part in the dark of a light of its temperature."""
        is_near = dark.frame_type is FrameType.BIAS or self._has_temperature(key, dark)
        return is_near and _may_be_dark(key, dark) and not settings_differ(dark.settings, key.settings)

    def _has_temperature(self, key: GroupKey, dark: GroupKey) -> bool:
        a_c, b_c = key.temperature_c, dark.temperature_c
        return a_c is None or b_c is None or same_temperature(a_c, b_c, self._rules.temperature_tolerance_c)

    def _may_be_its_dark(self, key: GroupKey, dark: GroupKey) -> bool:
        """Return whether a dark may be the one of the exposure and the temperature of a light."""
        return self._has_temperature(key, dark) and is_same_exposure(key, dark) and _may_be_dark(key, dark)


def with_shared_settings(
    library: Sequence[LibraryMaster], known: dict[CameraSettings, CameraSettings]
) -> list[LibraryMaster]:
    """Return masters of which equal settings are one object: comparing one with itself takes no time."""
    shared = []
    for master in library:
        settings = known.setdefault(master.key.settings, master.key.settings)
        record = replace(master.record, key=replace(master.key, settings=settings))
        shared.append(replace(master, record=record))
    return shared


def _may_be_bias(key: GroupKey, bias: GroupKey) -> bool:
    return (
        bias.frame_type is FrameType.BIAS and _has_size(key, bias) and not settings_differ(bias.settings, key.settings)
    )


def _may_be_dark(key: GroupKey, dark: GroupKey) -> bool:
    """Return whether a dark, or a bias, may have a part in the dark of a light; a bias need fit the dark alone."""
    if dark.frame_type is FrameType.FLAT or not _has_size(key, dark):
        return False
    return dark.frame_type is FrameType.BIAS or not settings_differ(dark.settings, key.settings)


def _may_be_flat(key: GroupKey, flat: GroupKey) -> bool:
    if flat.frame_type is not FrameType.FLAT or not _has_size(key, flat):
        return False
    if key.filter_name and flat.filter_name and not same_filter(key.filter_name, flat.filter_name):
        return False
    return not settings_differ(flat.settings, key.settings)


def _has_size(a: GroupKey, b: GroupKey) -> bool:
    return (a.width, a.height) == (b.width, b.height)


def _is_stated(image: LightOf, dark: DarkMix) -> bool:
    """Return whether all darks of a mix state what the light does: a bias that fits them fits the light."""
    darks = [part.master.key for part in dark.parts if part.master.key.frame_type is FrameType.DARK]
    return bool(darks) and not any(unstated_settings(image.key, key) for key in darks)


def _is_of_exposure(image: LightOf, dark: DarkMix) -> bool:
    return len(dark.parts) == 1 and is_same_exposure(image.key, dark.parts[0].master.key)


def _taken(image: LightOf, master: LibraryMaster) -> TakenMaster:
    observed, taken_at = master.record.observed, image.taken_at
    return TakenMaster(
        name=master.record.name,
        kind=master.key.frame_type,
        verdict=master.record.verdict,
        age_days=round(observed.age_days(taken_at), 3) if observed is not None and taken_at is not None else None,
        distances=distances_of(image.key, master.key),
    )
