"""Coverage of lights: which bias, dark and flat each of them would be calibrated with, and what is missing.

The masters are chosen by `ostcal.science.choose_masters.FrameMatcher`, as `ostcal calibrate` chooses them. Lights that
are alike are asked about once: of those of one night and equal settings the first and the last, and those between them
only where these two take different masters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.light_headers import Light
from ostcal.library.find import LibraryMaster
from ostcal.naming import night_of, noon_at, quiet_noon
from ostcal.science.choose_masters import FrameMatcher
from ostcal.science.cover import KINDS, Cover, CoverageRules, KindCover, LightGroup
from ostcal.science.cover_matchers import CoverMatchers, LightOf, MatcherOf, settings_for, with_shared_settings
from ostcal.science.match import science_key

_Run = tuple[Sequence[LightOf], KindCover]
"""Lights in order of time, and what covers all of them."""


def light_coverage(
    lights: Iterable[Light], library: Sequence[LibraryMaster], matcher_of: MatcherOf, rules: CoverageRules
) -> list[LightGroup]:
    """Group lights by night and settings, and say what each group would be calibrated with."""
    known: dict[CameraSettings, CameraSettings] = {}
    matchers = CoverMatchers(with_shared_settings(library, known), matcher_of, rules)
    images = _images(lights, matchers.whole(FrameType.DARK), rules, known)
    covers = {kind: _covers_of(kind, images, matchers.cover) for kind in KINDS}
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        turn = None if image.rotation_deg is None else round(image.rotation_deg) % 360
        shown = image.plain_key, image.key.filter_name, image.exposure, image.degrees, turn
        groups[image.night, *shown, *(covers[kind][number].identity for kind in KINDS)].append(number)
    found = [
        _group([images[i] for i in numbers], {kind: [covers[kind][i] for i in numbers] for kind in KINDS})
        for numbers in groups.values()
    ]
    return sorted(found, key=_order)


# ---- lights ----


def _images(
    lights: Iterable[Light],
    matcher: FrameMatcher,
    rules: CoverageRules,
    known: dict[CameraSettings, CameraSettings],
) -> list[LightOf]:
    """Return the images of lights, each as the extension that the masters have, with its night."""
    found = [(light.path, image.metadata) for light in lights for image in matcher.images_of(light.images)]
    quiet = quiet_noon(metadata.date_obs for _, metadata in found if metadata.date_obs is not None)

    def image(path: str, metadata: FrameMetadata) -> LightOf:
        metadata = replace(metadata, settings=known.setdefault(metadata.settings, metadata.settings))
        longitude_deg = metadata.longitude_deg
        night = night_of(metadata.date_obs, quiet if longitude_deg is None else noon_at(longitude_deg))
        key = science_key(metadata, rules.temperature_tolerance_c)
        return LightOf(path=path, metadata=metadata, key=key, night=night)

    return [image(path, metadata) for path, metadata in found]


def _covers_of(
    kind: FrameType, images: Sequence[LightOf], cover_of: Callable[[FrameType, LightOf], KindCover]
) -> list[KindCover]:
    """Return what covers each image, by masters of one kind; images of one night and equal settings at once."""
    cells: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        cells[image.night, *settings_for(kind, image)].append(number)
    covers: dict[int, KindCover] = {}
    for numbers in cells.values():
        numbers.sort(key=lambda number: images[number].time_order)
        start = 0
        for run, cover in _runs([images[number] for number in numbers], lambda image: cover_of(kind, image)):
            covers |= dict.fromkeys(numbers[start : start + len(run)], cover)
            start += len(run)
    return [covers[number] for number in range(len(images))]


def _runs(images: Sequence[LightOf], cover_of: Callable[[LightOf], KindCover]) -> list[_Run]:
    """Split images of one night and equal settings, in order of time, where their masters change.

    Each master is the nearest during one span of time, so that images between two that take the same masters take
    them too.
    """
    first = cover_of(images[0])
    if len(images) == 1 or images[0].taken_at == images[-1].taken_at:
        return [(images, first)]
    last = cover_of(images[-1])
    if first.identity == last.identity:
        return [(images, first.older(last))]
    if len(images) == 2:
        return [(images[:1], first), (images[1:], last)]
    middle = len(images) // 2
    runs = _runs(images[:middle], cover_of)
    for run, cover in _runs(images[middle:], cover_of):
        if cover.identity == runs[-1][1].identity:
            runs[-1] = ([*runs[-1][0], *run], runs[-1][1].older(cover))
        else:
            runs.append((run, cover))
    return runs


# ---- groups ----


def _group(images: Sequence[LightOf], covers: dict[FrameType, list[KindCover]]) -> LightGroup:
    image = images[0]
    settings = image.key.settings
    oldest = {kind: found[0].older(*set(found[1:])) for kind, found in covers.items()}
    bias, dark = oldest[FrameType.BIAS], oldest[FrameType.DARK]
    if bias.state is Cover.MISSING and dark.state not in (Cover.UNSCALED, Cover.MISSING):
        bias = KindCover(state=Cover.NOT_NEEDED)
    return LightGroup(
        night=image.night,
        filter=image.key.filter_name,
        exposure_time_s=image.metadata.exposure_time_s,
        temperature_c=image.key.temperature_c,
        gain=settings.gain,
        offset=settings.offset,
        binning=settings.binning,
        readout_mode=settings.readout_mode,
        rotation_deg=image.rotation_deg,
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
