"""The frames to take for lights that masters do not cover: how many, how long they take, how much space they need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ostcal.capture.budget import series_cost
from ostcal.capture.place import SeriesPlace
from ostcal.capture.series_plan import SeriesPlan, SeriesSink
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.library.find import LibraryMaster
from ostcal.naming import mode_identity, same_filter
from ostcal.science.cover import KINDS, Cover, FramesToTake, LightGroup

_FLAT_EXPOSURE_S = 1.0
"""What flats of a filter without any master are reckoned with; the exposure is found when they are taken."""


@dataclass(frozen=True, kw_only=True)
class CaptureAmounts:
    """What the configuration says of frames that are taken."""

    frames: Mapping[FrameType, int]
    """Frames of a series."""
    bias_exposure_s: float = 0.001
    flat_exposure_s: float | None = None
    """Exposure of all flats, where it is known before they are taken."""
    with_flat_darks: bool = True
    """Whether flats need darks."""
    temperature_tolerance_c: float = 1.0
    """How far the temperature of a dark of flats may be from that of the flats."""
    sink: SeriesSink = field(default_factory=lambda: SeriesSink(directory=""))


def frames_to_take(
    groups: Iterable[LightGroup], library: Sequence[LibraryMaster], amounts: CaptureAmounts
) -> list[FramesToTake]:
    """List the series that the groups lack: bias first, then darks, then flats."""
    lacking: defaultdict[tuple[Any, ...], list[LightGroup]] = defaultdict(list)
    for group in groups:
        for kind, cover in group.covers.items():
            if cover.is_lacking and not (kind is FrameType.DARK and group.exposure_time_s is None):
                lacking[_series_of(group, kind)].append(group)
    found = [_series(series[0], same, library, amounts) for series, same in lacking.items()]
    if amounts.with_flat_darks:
        found += _darks_of_flats(found, lacking.values(), library, amounts)
    return sorted(found, key=_order)


def _darks_of_flats(
    found: Sequence[FramesToTake],
    groups: Iterable[Sequence[LightGroup]],
    library: Sequence[LibraryMaster],
    amounts: CaptureAmounts,
) -> list[FramesToTake]:
    """List the darks of the flats among the frames to take, where their exposure is known and no dark has it."""
    darks = list(found)
    for flats, same in zip(found, groups, strict=True):
        exposure_s = _known_flat_exposure_s(flats.filter, library, amounts)
        if flats.kind is not FrameType.FLAT or exposure_s is None or exposure_s <= amounts.bias_exposure_s:
            continue
        group = replace(max(same, key=lambda one: one.lights), exposure_time_s=exposure_s)
        wanted = replace(_series(FrameType.DARK, [group], library, amounts), temperature_c=flats.temperature_c)
        wanted = replace(wanted, lights=flats.lights, why=str(Cover.MISSING))
        if not any(_has_dark(master, group, wanted, amounts) for master in library) and not any(
            _is_like(one, wanted) for one in darks
        ):
            darks.append(wanted)
    return darks[len(found) :]


def _has_dark(master: LibraryMaster, group: LightGroup, wanted: FramesToTake, amounts: CaptureAmounts) -> bool:
    """Return whether a master is a dark of the exposure, with the settings and about the temperature of flats."""
    key, settings = master.key, master.key.settings
    pairs = (
        (settings.gain, wanted.gain),
        (settings.offset, wanted.offset),
        (_mode_of(settings.readout_mode), _mode_of(wanted.readout_mode)),
        (settings.camera, wanted.camera),
    )
    return (
        key.frame_type is FrameType.DARK
        and master.record.verdict != "fail"
        and _is_same(key.exposure_time_s, wanted.exposure_time_s)
        and (key.width, key.height, settings.binning) == (group.width, group.height, wanted.binning)
        and all(there is None or asked is None or there == asked for there, asked in pairs)
        and _is_near(key.temperature_c, wanted.temperature_c, amounts.temperature_tolerance_c)
    )


def _mode_of(name: str | None) -> str | None:
    return mode_identity(name) if name is not None else None


def _is_near(one_c: float | None, other_c: float | None, tolerance_c: float) -> bool:
    return one_c is None or other_c is None or abs(one_c - other_c) <= tolerance_c


def _is_same(one_s: float | None, other_s: float | None) -> bool:
    return one_s is not None and other_s is not None and is_one_exposure(one_s, other_s)


def _is_like(one: FramesToTake, wanted: FramesToTake) -> bool:
    """Return whether a series serves as the darks of flats."""
    return _is_same(one.exposure_time_s, wanted.exposure_time_s) and wanted == replace(
        one, exposure_time_s=wanted.exposure_time_s, lights=wanted.lights, why=wanted.why, time_s=wanted.time_s
    )


def _series_of(group: LightGroup, kind: FrameType) -> tuple[Any, ...]:
    """Return what is equal for groups that one series serves: temperature matters to darks, light paths to flats."""
    settings = (group.gain, group.offset, group.binning, group.readout_mode, group.camera, group.camera_id)
    size = group.width, group.height
    if kind is FrameType.DARK:
        degrees = None if group.temperature_c is None else round(group.temperature_c)
        return kind, settings, size, f"{group.exposure_time_s:.4g}", degrees
    if kind is FrameType.FLAT:
        angle = None if group.rotation_deg is None else round(group.rotation_deg) % 360
        return kind, settings, size, group.filter, angle
    return kind, settings, size


def _series(
    kind: FrameType, groups: Sequence[LightGroup], library: Sequence[LibraryMaster], amounts: CaptureAmounts
) -> FramesToTake:
    group = max(groups, key=lambda group: group.lights)
    temperatures = Counter[float]()
    for one in groups:
        if one.temperature_c is not None:
            temperatures[round(one.temperature_c, 1)] += one.lights
    is_flat = kind is FrameType.FLAT
    exposure_s = {
        FrameType.BIAS: amounts.bias_exposure_s,
        FrameType.DARK: group.exposure_time_s,
        FrameType.FLAT: _known_flat_exposure_s(group.filter, library, amounts) or _FLAT_EXPOSURE_S,
    }[kind]
    plan = SeriesPlan(
        name="",
        frame_type=kind,
        exposure_time_s=exposure_s,
        n_frames=amounts.frames[kind],
        settings=CameraSettings(),
        light=is_flat,
    )
    shape = group.height, group.width
    cost = series_cost(plan, amounts.sink, SeriesPlace(location="", series=None), shape)
    return FramesToTake(
        kind=kind,
        exposure_time_s=None if is_flat else exposure_s,
        frames=amounts.frames[kind],
        gain=group.gain,
        offset=group.offset,
        binning=group.binning,
        readout_mode=group.readout_mode,
        filter=group.filter if is_flat else None,
        temperature_c=temperatures.most_common(1)[0][0] if temperatures else None,
        rotation_deg=group.rotation_deg if is_flat else None,
        camera=group.camera,
        camera_id=group.camera_id,
        time_s=round(cost.time_s, 1),
        n_bytes=cost.n_bytes,
        lights=sum(group.lights for group in groups),
        why=str(group.covers[kind].state),
    )


def _known_flat_exposure_s(
    filter_name: str | None, library: Sequence[LibraryMaster], amounts: CaptureAmounts
) -> float | None:
    """Return the exposure of the flats: as configured, else of the newest flat of the filter, which hardly differs."""
    if amounts.flat_exposure_s is not None:
        return amounts.flat_exposure_s
    flats = (master.key for master in library if master.key.frame_type is FrameType.FLAT)
    same = (key.exposure_time_s for key in flats if same_filter(key.filter_name or "", filter_name or ""))
    return next(same, None)


def _order(series: FramesToTake) -> tuple[Any, ...]:
    return (
        KINDS.index(series.kind),
        series.camera or "",
        series.filter or "",
        series.gain or 0.0,
        series.temperature_c or 0.0,
        series.exposure_time_s or 0.0,
    )
