"""Which frames belong together: pure functions on what is known of the frames."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.naming import night_of, noon_at, quiet_noon

EXPOSURE_TOLERANCE = 1e-3
"""Exposures within 0.1 % are one exposure: shutters report 60.001 s for one frame and 60.002 s for the next."""

TWILIGHT_SHARE = 2 / 3
"""Flats with so many exposures to a frame are twilight flats, although the first few of an evening share the shortest
exposure there is."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of the input, wherever it is stored."""

    label: str
    """File, or series and index: what messages name."""
    metadata: FrameMetadata


@dataclass(frozen=True, kw_only=True)
class GroupRules:
    """What decides where one group ends and the next begins."""

    min_frames: int = 3
    min_exposure_s: float = 0.001
    """Darks of this exposure or shorter are bias frames."""
    temperature_tolerance_c: float = 2.0
    per_session: bool = False
    noon_utc_s: float | None = None
    """Local noon in seconds after 0:00 UTC, where one night ends and the next begins, for frames whose headers do not
    say the longitude; by default that of the other frames of the run, or a time of day at which none was taken."""


@dataclass(frozen=True, kw_only=True)
class GroupKey:
    """What the frames of a group have in common."""

    frame_type: FrameType
    settings: CameraSettings
    width: int
    height: int
    exposure_time_s: float
    """Median of the group's exposures."""
    filter_name: str | None = None
    temperature_c: float | None = None
    bayer_pattern: str | None = None
    dark_subtracted: bool = False
    bias_subtracted: bool = False
    night: date | None = None
    """Where groups are made for each night."""
    noon_utc_s: float | None = field(default=None, compare=False)
    """Local noon in seconds after 0:00 UTC by which nights were told apart; ``None`` for masters of older versions."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Frames that become one master."""

    key: GroupKey
    frames: tuple[Frame, ...]
    twilight: bool = False
    """Flats whose exposures are nearly all different."""


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """All groups, and what was left out with the reason."""

    groups: tuple[Group, ...]
    too_small: tuple[Group, ...]
    unused: tuple[tuple[Frame, str], ...]


def group_frames(frames: Iterable[Frame], rules: GroupRules) -> Grouping:
    """Sort frames into groups that become masters.

    Frames are grouped by kind, size, camera settings, filter (flats), temperature, exposure, and by night where
    `rules.per_session` says so. The result does not depend on the order of `frames`.
    """
    usable: list[Frame] = []
    unused: list[tuple[Frame, str]] = []
    for frame in sorted(frames, key=_chronological):
        reason = _why_unused(frame)
        if reason:
            unused.append((frame, reason))
        else:
            usable.append(_with_kind(frame, rules))
    rules = replace(rules, noon_utc_s=_noon_of_run(usable, rules))
    groups: list[Group] = []
    for hard in _partition(usable, lambda frame: _hard_key(frame, rules)).values():
        for cluster in _temperature_clusters(hard, rules.temperature_tolerance_c):
            groups.extend(_by_exposure(cluster, rules))
    groups.sort(key=_group_order)
    return Grouping(
        groups=tuple(group for group in groups if len(group.frames) >= rules.min_frames),
        too_small=tuple(group for group in groups if len(group.frames) < rules.min_frames),
        unused=tuple(unused),
    )


def _chronological(frame: Frame) -> tuple[str, str]:
    when = frame.metadata.date_obs
    return (when.isoformat() if when else "", frame.label)


def _why_unused(frame: Frame) -> str:
    metadata = frame.metadata
    if metadata.is_master:
        return "it is a master, not a raw frame"
    if metadata.frame_type is None:
        return "its kind is not known: neither IMAGETYP nor the file or directory name says bias, dark or flat"
    if metadata.frame_type is FrameType.LIGHT:
        return "it is a light frame"
    if metadata.exposure_time_s is None and metadata.frame_type is not FrameType.BIAS:
        return "its exposure is not known: neither EXPTIME nor the file or directory name says it"
    if metadata.flat_divided:
        return "it was already divided by a flat"
    if metadata.frame_type is FrameType.DARK and metadata.dark_subtracted:
        return "it is a dark from which a dark was already subtracted"
    return ""


def _with_kind(frame: Frame, rules: GroupRules) -> Frame:
    """Turn darks of the shortest exposure into bias frames; a bias without an exposure has 0 s."""
    metadata = frame.metadata
    exposure_s = metadata.exposure_time_s or 0.0
    # A little above min_exposure is still it: 0.001 s is written as 0.0010000000475 by 32-bit programs.
    is_bias = metadata.frame_type is FrameType.DARK and exposure_s <= rules.min_exposure_s * (1 + EXPOSURE_TOLERANCE)
    kind = FrameType.BIAS if is_bias else metadata.frame_type
    return replace(frame, metadata=replace(metadata, frame_type=kind, exposure_time_s=exposure_s))


def _noon_of_run(frames: Sequence[Frame], rules: GroupRules) -> float:
    """Return local noon for frames that do not record their longitude."""
    if rules.noon_utc_s is not None:
        return rules.noon_utc_s
    noons = [noon_at(f.metadata.longitude_deg) for f in frames if f.metadata.longitude_deg is not None]
    if noons:
        return statistics.median_low(noons)
    return quiet_noon(f.metadata.date_obs for f in frames if f.metadata.date_obs is not None)


def _noon_of(metadata: FrameMetadata, rules: GroupRules) -> float | None:
    return rules.noon_utc_s if metadata.longitude_deg is None else noon_at(metadata.longitude_deg)


def _hard_key(frame: Frame, rules: GroupRules) -> Hashable:
    m = frame.metadata
    is_flat = m.frame_type is FrameType.FLAT
    return (
        m.frame_type,
        m.width,
        m.height,
        m.settings,
        m.filter_name if is_flat else None,
        m.bayer_pattern if is_flat else None,
        m.dark_subtracted if is_flat else False,
        m.bias_subtracted,
        night_of(m.date_obs, _noon_of(m, rules)) if rules.per_session else None,
    )


def _partition(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> dict[Hashable, list[Frame]]:
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return parts


def same_temperature(a_c: float, b_c: float, tolerance_c: float) -> bool:
    """Whether two temperatures are within the tolerance; -33.7 and -31.7 are within 2, whatever floats make of it."""
    return abs(a_c - b_c) <= tolerance_c + 1e-6


def settings_differ(a: CameraSettings, b: CameraSettings) -> str:
    """Name the first setting in which two differ, or "" where they fit; what one does not record fits anything."""
    if a.binning != b.binning:
        return f"binning {_binning(a)} against {_binning(b)}"
    for name in ("camera", "camera_id", "gain", "offset", "readout_mode"):
        x, y = getattr(a, name), getattr(b, name)
        if x is not None and y is not None and x != y:
            return f"{name.replace('_', ' ')} {x} against {y}"
    return ""


def _binning(settings: CameraSettings) -> str:
    return f"{settings.binning[0]}x{settings.binning[1]}"


def _temperature_clusters(frames: list[Frame], tolerance_c: float) -> list[list[Frame]]:
    """Split by set temperature; frames without one, or still far from it, by the temperature they had."""
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    measured: list[tuple[float, Frame]] = []
    for frame in frames:
        set_c, ccd_c = frame.metadata.set_temperature_c, frame.metadata.ccd_temperature_c
        if set_c is not None and (ccd_c is None or same_temperature(ccd_c, set_c, tolerance_c)):
            parts[round(set_c, 1)].append(frame)
        elif ccd_c is not None:
            measured.append((ccd_c, frame))
        else:
            parts[None].append(frame)
    clusters = list(parts.values())
    clusters.extend(_clusters(measured, lambda low, value: same_temperature(low, value, tolerance_c)))
    return clusters


def _clusters(values: list[tuple[float, Frame]], together: Callable[[float, float], bool]) -> list[list[Frame]]:
    """Split sorted values where one is too far from the lowest of its cluster."""
    clusters: list[list[Frame]] = []
    lowest = 0.0
    for value, frame in sorted(values, key=lambda pair: (pair[0], pair[1].label)):
        if not clusters or not together(lowest, value):
            clusters.append([])
            lowest = value
        clusters[-1].append(frame)
    return clusters


def _same_exposure(low_s: float, value_s: float) -> bool:
    return value_s - low_s <= EXPOSURE_TOLERANCE * value_s


def _by_exposure(frames: list[Frame], rules: GroupRules) -> list[Group]:
    clusters = _clusters([(_exposure(frame), frame) for frame in frames], _same_exposure)
    if frames[0].metadata.frame_type is not FrameType.FLAT:
        return [_group(cluster, rules) for cluster in clusters]
    if len(clusters) > 1 and len(clusters) >= TWILIGHT_SHARE * len(frames):
        return [_group(frames, rules, twilight=True)]
    groups = [_group(cluster, rules) for cluster in clusters if len(cluster) >= rules.min_frames]
    rest = [cluster for cluster in clusters if len(cluster) < rules.min_frames]
    n_rest = sum(len(cluster) for cluster in rest)
    # Twilight: most exposures occur once. Two frames at each of two exposures are two (small) groups.
    if len(rest) > 1 and 2 * len(rest) > n_rest:
        groups.append(_group([frame for cluster in rest for frame in cluster], rules, twilight=True))
    else:
        groups.extend(_group(cluster, rules) for cluster in rest)
    return groups


def _exposure(frame: Frame) -> float:
    return frame.metadata.exposure_time_s or 0.0


def _group(frames: list[Frame], rules: GroupRules, twilight: bool = False) -> Group:
    frames = sorted(frames, key=_chronological)
    first = frames[0].metadata
    is_flat = first.frame_type is FrameType.FLAT
    key = GroupKey(
        frame_type=first.frame_type or FrameType.LIGHT,
        settings=first.settings,
        width=first.width,
        height=first.height,
        exposure_time_s=statistics.median(_exposure(frame) for frame in frames),
        filter_name=first.filter_name if is_flat else None,
        temperature_c=_temperature(frames, rules.temperature_tolerance_c),
        bayer_pattern=first.bayer_pattern,
        dark_subtracted=is_flat and first.dark_subtracted,
        bias_subtracted=first.bias_subtracted,
        night=night_of(first.date_obs, _noon_of(first, rules)) if rules.per_session else None,
        noon_utc_s=_noon_of(first, rules),
    )
    return Group(key=key, frames=tuple(frames), twilight=twilight)


def _temperature(frames: Sequence[Frame], tolerance_c: float) -> float | None:
    """Give the set temperature where the frames are at it, else the median of what they had."""
    set_c = [f.metadata.set_temperature_c for f in frames if f.metadata.set_temperature_c is not None]
    measured = [f.metadata.ccd_temperature_c for f in frames if f.metadata.ccd_temperature_c is not None]
    if len(set_c) == len(frames) and len({round(value, 1) for value in set_c}) == 1:
        value = statistics.median(set_c)
        if not measured or same_temperature(statistics.median(measured), value, tolerance_c):
            return value
    return statistics.median(measured) if measured else None


def _group_order(group: Group) -> tuple[object, ...]:
    key = group.key
    return (
        list(FrameType).index(key.frame_type),
        key.filter_name or "",
        key.exposure_time_s,
        key.width * key.height,
        str(key.settings),
        key.temperature_c if key.temperature_c is not None else 999.0,
        str(key.night),
        group.frames[0].label,
    )


def describe(group: Group) -> str:
    """Name a group in a few words: kind, exposure, filter, number of frames."""
    key = group.key
    words = [str(key.frame_type)]
    if key.frame_type is not FrameType.BIAS:
        words.append(f"{key.exposure_time_s:g} s{' (exposures vary)' if group.twilight else ''}")
    if key.filter_name:
        words.append(key.filter_name)
    if key.settings.camera_id:
        words.append(key.settings.camera_id)
    words.append(f"{key.width} x {key.height}")
    if key.settings.binning != (1, 1):
        words.append(f"binned {key.settings.binning[0]}x{key.settings.binning[1]}")
    if key.temperature_c is not None:
        words.append(f"{key.temperature_c:g} C")
    return f"{' '.join(words)}, {len(group.frames)} frame{'' if len(group.frames) == 1 else 's'}"
