"""The frames to take for lights that masters do not cover: how many, how long they take, how much space they need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ostcal.capture.budget import series_cost
from ostcal.capture.place import SeriesPlace
from ostcal.capture.series_plan import SeriesPlan, SeriesSink
from ostcal.frames import CameraSettings, FrameType
from ostcal.library.find import LibraryMaster
from ostcal.naming import same_filter
from ostcal.science.cover import KINDS, FramesToTake, LightGroup

_FLAT_EXPOSURE_S = 1.0
"""What flats of a filter without any master are reckoned with; the exposure is found when they are taken."""


@dataclass(frozen=True, kw_only=True)
class CaptureAmounts:
    """What the configuration says of frames that are taken."""

    frames: Mapping[FrameType, int]
    """Frames of a series."""
    bias_exposure_s: float = 0.001
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
    return sorted(found, key=_order)


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
        FrameType.FLAT: _flat_exposure_s(group, library),
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


def _flat_exposure_s(group: LightGroup, library: Sequence[LibraryMaster]) -> float:
    """Return the exposure of the newest flat of the filter, which the next will hardly differ from."""
    wanted = group.filter or ""
    flats = (master for master in library if master.key.frame_type is FrameType.FLAT)
    same = (master.key.exposure_time_s for master in flats if same_filter(master.key.filter_name or "", wanted))
    return next(same, _FLAT_EXPOSURE_S)


def _order(series: FramesToTake) -> tuple[Any, ...]:
    return (
        KINDS.index(series.kind),
        series.camera or "",
        series.filter or "",
        series.gain or 0.0,
        series.temperature_c or 0.0,
        series.exposure_time_s or 0.0,
    )
