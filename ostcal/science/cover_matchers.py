"""What covers each of many lights: the matcher chooses for every light alone, as `ostcal calibrate` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property

from ostcal.errors import InputError
from ostcal.frames import FrameMetadata, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.light_headers import Light, LightImage
from ostcal.library.find import LibraryMaster
from ostcal.science.choose_masters import FrameMatcher
from ostcal.science.cover import Cover, CoverageRules, KindCover, TakenMaster
from ostcal.science.match_bias import why_no_bias
from ostcal.science.match_distance import Distances, distances_of, rotation_of
from ostcal.science.matched import DarkMix, is_same_exposure

MatcherOf = Callable[[FrameType, Sequence[LibraryMaster]], FrameMatcher]
"""Makes the matcher of darks and bias, or of flats, from masters."""

_STEP_C = 0.1
"""Where no dark fits, lights whose temperatures differ by less are told the same."""
_STEP_DEG = 0.1
"""Where no flat fits, lights whose angles differ by less are told the same."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LightKind:
    """What lights of equal settings are compared by."""

    key: GroupKey

    @cached_property
    def plain_key(self) -> GroupKey:
        """It without exposure, temperature, filter and angles."""
        optics = replace(self.key.optics, rotator_deg=None, sky_angle_deg=None)
        return replace(self.key, temperature_c=None, exposure_time_s=0.0, filter_name=None, optics=optics)

    @cached_property
    def key_of_darks(self) -> GroupKey:
        """What they are compared by with bias and darks, without exposure and temperature."""
        return replace(self.plain_key, optics=Optics())

    @cached_property
    def shown(self) -> tuple[object, ...]:
        """What lights that are shown together have in common, beside their exposure."""
        turn = None if self.rotation_deg is None else round(self.rotation_deg) % 360
        degrees = None if self.key.temperature_c is None else round(self.key.temperature_c)
        return self.plain_key, self.key.filter_name, degrees, turn

    @property
    def rotation_deg(self) -> float | None:
        """How the camera was turned."""
        return rotation_of(self.key.optics)


@dataclass(frozen=True, kw_only=True, eq=False)
class LightOf:
    """An image of a light."""

    path: str
    metadata: FrameMetadata
    kind: LightKind
    night: date | None

    @property
    def key(self) -> GroupKey:
        """What it is compared by."""
        return self.kind.key

    @property
    def taken_at(self) -> datetime | None:
        """The start of its exposure."""
        return self.metadata.date_obs

    @property
    def exposure(self) -> str:
        """Its exposure as far as it matters; "" where it is not known."""
        return "" if self.metadata.exposure_time_s is None else f"{self.key.exposure_time_s:.4g}"


def _settings_for(kind: FrameType, image: LightOf) -> tuple[object, ...]:
    """Return what is equal for lights that nothing fits for one reason."""
    temperature_c, angle_deg = image.key.temperature_c, image.kind.rotation_deg
    if kind is FrameType.FLAT:
        turn = None if angle_deg is None else round(angle_deg / _STEP_DEG)
        return kind, image.kind.plain_key, image.key.filter_name, turn
    step = None if temperature_c is None else round(temperature_c / _STEP_C)
    return kind, image.kind.key_of_darks, image.exposure, step


class CoverMatchers:
    """Says what covers a light."""

    def __init__(self, library: Sequence[LibraryMaster], matcher_of: MatcherOf, rules: CoverageRules) -> None:
        self._rules = rules
        self._darks = matcher_of(FrameType.DARK, library)
        self._flats = matcher_of(FrameType.FLAT, self._darks.library)
        self._refusals: dict[tuple[object, ...], str] = {}
        self._distances: dict[tuple[int, int], Distances] = {}

    def images_of(self, light: Light) -> Sequence[LightImage]:
        """Return the images of a light as they are calibrated."""
        return self._darks.images_of(light.images)

    def cover(self, kind: FrameType, image: LightOf) -> KindCover:
        """Return what covers a light, by masters of a kind."""
        if kind is FrameType.FLAT:
            return self._flat(image)
        if not self._rules.with_darks:
            return KindCover(state=Cover.LEFT_OUT)
        return self._dark(image) if kind is FrameType.DARK else self._bias(image)

    def _bias(self, image: LightOf) -> KindCover:
        bias = self._darks.match_bias(image.metadata, image.key)
        if bias is None:
            settings = _settings_for(FrameType.BIAS, image)
            if settings not in self._refusals:
                matcher = self._darks
                why = why_no_bias(image.key, matcher.library, matcher.rules, image.taken_at)
                self._refusals[settings] = why
            return KindCover(state=Cover.MISSING, reason=self._refusals[settings])
        cover = KindCover(state=Cover.COVERED, masters=(self._taken(image, bias),), description=bias.record.name)
        return self._aged(image, cover, [bias])

    def _dark(self, image: LightOf) -> KindCover:
        try:
            matched = self._darks.match_metadata(image.metadata, image.key)
        except InputError as error:
            return self._refusal(FrameType.DARK, image, error)
        dark = matched.dark
        if dark is None:
            return KindCover(state=Cover.LEFT_OUT)
        cover = KindCover(
            state=Cover.COVERED,
            masters=tuple(self._taken(image, part.master) for part in dark.parts),
            description=dark.description,
            warnings=(*matched.warnings, *matched.notes),
        )
        is_bias_alone = not dark.has_dark_current and not _is_of_exposure(image, dark)
        if is_bias_alone and (image.metadata.exposure_time_s or 0.0) > 0:
            why = " ".join(matched.warnings) or "a bias leaves the dark current in"
            return replace(cover, state=Cover.MISSING, reason=why, warnings=())
        if dark.unscaled or dark.other_temperature:
            return replace(cover, state=Cover.UNSCALED, reason=dark.unscaled or dark.other_temperature)
        is_scaled = dark.scaled or dark.synthetic is not None
        cover = replace(cover, state=Cover.SCALED) if is_scaled else cover
        return self._aged(image, cover, [part.master for part in dark.parts])

    def _flat(self, image: LightOf) -> KindCover:
        try:
            matched = self._flats.match_metadata(image.metadata, image.key)
        except InputError as error:
            return self._refusal(FrameType.FLAT, image, error)
        if matched.flat is None:
            return KindCover(state=Cover.LEFT_OUT)
        cover = KindCover(
            state=Cover.COVERED,
            masters=(self._taken(image, matched.flat),),
            description=matched.flat.record.name,
            warnings=(*matched.warnings, *matched.notes),
        )
        return self._aged(image, cover, [matched.flat])

    def _refusal(self, kind: FrameType, image: LightOf, error: InputError) -> KindCover:
        """Return what is said of lights of some settings: of the first of them. To say it all masters are compared."""
        settings = _settings_for(kind, image)
        if settings not in self._refusals:
            self._refusals[settings] = str(error)
        return KindCover(state=Cover.MISSING, reason=self._refusals[settings])

    def _taken(self, image: LightOf, master: LibraryMaster) -> TakenMaster:
        observed, taken_at = master.record.observed, image.taken_at
        known = id(image.kind), id(master)
        if known not in self._distances:
            self._distances[known] = distances_of(image.key, master.key)
        return TakenMaster(
            name=master.record.name,
            kind=master.key.frame_type,
            verdict=master.record.verdict,
            age_days=round(observed.age_days(taken_at), 3) if observed is not None and taken_at is not None else None,
            distances=self._distances[known],
        )

    def _aged(self, image: LightOf, cover: KindCover, masters: Iterable[LibraryMaster]) -> KindCover:
        """Return the cover as aged where one of its masters is older than it may be."""
        for master in masters:
            too_old = self._too_old(image, master)
            if too_old:
                return replace(cover, state=Cover.AGED, reason=f"{master.record.name}: {too_old}")
        return cover

    def _too_old(self, image: LightOf, master: LibraryMaster) -> str:
        return self._darks.rules.too_old(master, image.taken_at)


def _is_of_exposure(image: LightOf, dark: DarkMix) -> bool:
    return len(dark.parts) == 1 and is_same_exposure(image.key, dark.parts[0].master.key)
