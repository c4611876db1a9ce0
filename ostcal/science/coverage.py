"""Coverage of lights: which bias, dark and flat each of them would be calibrated with, and what is missing.

The masters are chosen by `ostcal.science.choose_masters.FrameMatcher` for each light alone, as `ostcal calibrate`
chooses them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import GroupKey, same_temperature
from ostcal.inputs.light_headers import Light
from ostcal.inputs.sensor_temperature import STEADY_C
from ostcal.library.find import LibraryMaster
from ostcal.naming import night_of, noon_at, quiet_noon
from ostcal.science.cover import KINDS, Cover, CoverageRules, KindCover, LightGroup
from ostcal.science.cover_matchers import CoverMatchers, LightKind, LightOf, MatcherOf
from ostcal.science.match import science_key


def light_coverage(
    lights: Iterable[Light], library: Sequence[LibraryMaster], matcher_of: MatcherOf, rules: CoverageRules
) -> list[LightGroup]:
    """Group lights by night and settings, and say what each group would be calibrated with."""
    matchers = CoverMatchers(library, matcher_of, rules)
    images = _images(lights, matchers, rules)
    covers = [{kind: matchers.cover(kind, image) for kind in KINDS} for image in images]
    shown: dict[tuple[object, ...], int] = {}
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        taken = [cover.identity for cover in covers[number].values()]
        groups[image.night, image.exposure, shown.setdefault(image.kind.shown, len(shown)), *taken].append(number)
    found = [
        _group([images[i] for i in numbers], {kind: [covers[i][kind] for i in numbers] for kind in KINDS})
        for numbers in groups.values()
    ]
    return sorted(found, key=_order)


# ---- lights ----


def _images(lights: Iterable[Light], matchers: CoverMatchers, rules: CoverageRules) -> list[LightOf]:
    """Return the images of lights, each as the extension that the masters have, with its night."""
    found = [(light.path, image.metadata) for light in lights for image in matchers.images_of(light)]
    noon_utc_s = rules.noon_utc_s
    if noon_utc_s is None:
        noon_utc_s = quiet_noon(metadata.date_obs for _, metadata in found if metadata.date_obs is not None)
    kinds: dict[GroupKey, LightKind] = {}

    def image(path: str, metadata: FrameMetadata) -> LightOf:
        longitude_deg = metadata.longitude_deg
        night = night_of(metadata.date_obs, noon_utc_s if longitude_deg is None else noon_at(longitude_deg))
        key = science_key(metadata)
        return LightOf(path=path, metadata=metadata, kind=kinds.setdefault(key, LightKind(key=key)), night=night)

    return [image(path, metadata) for path, metadata in found]


# ---- groups ----


def _group(images: Sequence[LightOf], covers: dict[FrameType, list[KindCover]]) -> LightGroup:
    image = images[0]
    settings = image.key.settings
    oldest = {kind: found[0].older(*found[1:]) for kind, found in covers.items()}
    bias, dark = oldest[FrameType.BIAS], oldest[FrameType.DARK]
    if bias.state is Cover.MISSING and dark.state not in (Cover.UNSCALED, Cover.MISSING):
        bias = KindCover(state=Cover.NOT_NEEDED)
    return LightGroup(
        night=image.night,
        filter=image.key.filter_name,
        exposure_time_s=image.metadata.exposure_time_s,
        temperature_c=_wanted_c(image),
        gain=settings.gain,
        offset=settings.offset,
        binning=settings.binning,
        readout_mode=settings.readout_mode,
        rotation_deg=image.kind.rotation_deg,
        camera=settings.camera,
        camera_id=settings.camera_id,
        extension=settings.extension,
        width=image.key.width,
        height=image.key.height,
        lights=len(images),
        first_light=min(one.path for one in images),
        bias=bias,
        dark=dark,
        flat=oldest[FrameType.FLAT],
    )


def _wanted_c(image: LightOf) -> float | None:
    """Return the temperature of a light: the set point of a sensor that was at it, as darks for it are taken."""
    own_c, set_c = image.key.temperature_c, image.metadata.set_temperature_c
    return set_c if own_c is not None and set_c is not None and same_temperature(own_c, set_c, STEADY_C) else own_c


def _order(group: LightGroup) -> tuple[object, ...]:
    return (
        group.night or date.min,
        group.camera or "",
        group.extension or "",
        group.filter or "",
        group.exposure_time_s or 0.0,
        group.gain or 0.0,
        group.temperature_c or 0.0,
        group.first_light,
    )
