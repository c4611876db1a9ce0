"""Grouping of frames that belong together: pure functions of what is known of the frames."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise

from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.bias_temperatures import bias_clusters
from ostcal.inputs.groups import Frame as Frame
from ostcal.inputs.groups import Group as Group
from ostcal.inputs.groups import Grouping as Grouping
from ostcal.inputs.groups import GroupKey as GroupKey
from ostcal.inputs.groups import GroupRules as GroupRules
from ostcal.inputs.groups import LevelOf as LevelOf
from ostcal.inputs.optics import common_optics, optics_clusters, optics_differ, telescope_identity
from ostcal.inputs.sessions import session_starts, split_between, windows
from ostcal.naming import filter_identity, night_of, noon_at, quiet_noon, same_mode

EXPOSURE_TOLERANCE = 1e-3
"""Exposures within 0.1 % are one exposure: shutters report 60.001 s for one frame and 60.002 s for the next."""
REPORTED_SPREAD = 0.0101
"""Exposures of one setting lie within 1 %: some cameras report what a clock measured, 0.25 s +- 0.5 %."""
BIAS_SPREAD_S = 1e-4
"""Exposures of bias frames that differ by less are one: no charge is collected in microseconds."""

LADDER_SLOPE = 0.5
"""Flats whose light grows at least with this power of their exposure are a ladder of a steady lamp; in the twilight the
exposure follows the light, and the level stays about the same."""

LADDER_SPAN = 1.5
"""Ratio of the longest exposure to the shortest from which on levels tell a ladder from twilight."""

_LADDER_FRAMES = 100
"""Frames that are looked at, evenly spread."""

TWILIGHT_SHARE = 2 / 3
"""Flats with so many exposures to a frame are twilight flats, although the first few of an evening share the shortest
exposure there is."""


def group_frames(frames: Iterable[Frame], rules: GroupRules, level_adu: LevelOf | None = None) -> Grouping:
    """Sort frames into groups that become masters.

    Frames are grouped by kind, size, camera settings, filter and rotation (flats), temperature, exposure, and by time:
    flats by session, bias and darks by `rules.window_days`, or by session where `rules.per_session` says so. Flats of
    sessions with too few of them for a group are grouped over these. The result does not depend on the order of
    `frames`. `level_adu` tells flats of many exposures of a steady lamp, which are no group, from twilight flats;
    without it all are taken for twilight flats.
    """
    usable: list[Frame] = []
    unused: list[tuple[Frame, str]] = []
    for frame in sorted(frames, key=_by_start):
        reason = why_unused(frame.metadata)
        if reason:
            unused.append((frame, reason))
            continue
        metadata, exposure_s = frame.metadata, _exposure_s(frame)
        kind = metadata.frame_type
        # A little above min_exposure is still it: 0.001 s is written as 0.0010000000475 by 32-bit programs.
        if kind is FrameType.DARK and exposure_s <= rules.min_exposure_s * (1 + REPORTED_SPREAD):
            kind = FrameType.BIAS
        usable.append(replace(frame, metadata=replace(metadata, frame_type=kind, exposure_time_s=exposure_s)))
    usable = _with_one_spelling(usable)
    rules = with_noon(rules, usable)
    if rules.session == "hours":
        usable = _with_sessions(usable, rules)
    is_ladder = _is_ladder_with(level_adu, usable)
    groups = _groups_of(usable, rules, is_ladder)
    if rules.session != "none" and not rules.per_session:
        small = [group for group in groups if _is_of_small_session(group, rules)]
        groups = [group for group in groups if not _is_of_small_session(group, rules)]
        frames_of_small = [frame for group in small for frame in group.frames]
        groups += _groups_of(frames_of_small, replace(rules, session="none"), is_ladder, flats_in_windows=True)
    groups.sort(
        key=lambda group: (
            list(FrameType).index(group.key.frame_type),
            group.key.filter_name or "",
            group.key.exposure_time_s,
            group.key.width * group.key.height,
            str(group.key.settings),
            group.key.temperature_c if group.key.temperature_c is not None else 999.0,
            str(group.key.night),
            str(group.key.session_start),
            group.frames[0].label,
        )
    )
    return Grouping(
        groups=tuple(group for group in groups if len(group.frames) >= rules.min_frames),
        too_small=tuple(group for group in groups if len(group.frames) < rules.min_frames),
        unused=tuple(unused),
    )


def with_noon(rules: GroupRules, frames: Iterable[Frame]) -> GroupRules:
    """Return the rules with the noon of frames whose headers do not say the longitude, from all that can be used."""
    if rules.noon_utc_s is not None:
        return rules
    usable = [frame.metadata for frame in frames if not why_unused(frame.metadata)]
    noons = [noon_at(m.longitude_deg) for m in usable if m.longitude_deg is not None]
    dates = [m.date_obs for m in usable if m.date_obs is not None]
    return replace(rules, noon_utc_s=statistics.median_low(noons) if noons else quiet_noon(dates))


def _groups_of(
    frames: Iterable[Frame],
    rules: GroupRules,
    is_ladder: Callable[[list[Frame]], bool],
    *,
    flats_in_windows: bool = False,
) -> list[Group]:
    alike: dict[GroupKey, list[Frame]] = defaultdict(list)
    for frame in frames:
        alike[_fixed_key(frame, rules)].append(frame)
    groups: list[Group] = []
    for same in alike.values():
        is_flat = same[0].metadata.frame_type is FrameType.FLAT
        for night, near in _in_windows(same, rules) if is_flat and flats_in_windows else [(None, same)]:
            found = [
                group
                for turned in _turned_alike(near, rules)
                for cluster in _temperature_clusters(turned, rules)
                for group in _by_exposure(cluster, rules, is_ladder)
            ]
            groups += [replace(g, key=replace(g.key, night=night or g.key.night)) for g in found]
    return groups


def _is_of_small_session(group: Group, rules: GroupRules) -> bool:
    """Return whether flats of a session are too few for a master."""
    is_of_session = group.key.frame_type is FrameType.FLAT and group.key.night is not None
    return is_of_session and len(group.frames) < rules.min_frames


def _with_sessions(frames: list[Frame], rules: GroupRules) -> list[Frame]:
    """Give each frame the start of its session: that of the frames of its kind and camera."""
    alike: dict[tuple[FrameType | None, str | None, str | None], list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.metadata.date_obs is not None:
            settings = frame.metadata.settings
            alike[frame.metadata.frame_type, settings.camera, settings.camera_id].append(frame)
    starts: dict[str, datetime] = {}
    for same in alike.values():
        times = [(f.metadata.date_obs, _exposure_s(f)) for f in same if f.metadata.date_obs is not None]
        for frame, start in zip(same, session_starts(times, rules.session_hours), strict=True):
            starts[frame.label] = start
    return [replace(frame, session_start=starts.get(frame.label)) for frame in frames]


def _in_windows(frames: list[Frame], rules: GroupRules) -> list[tuple[date | None, list[Frame]]]:
    """Split frames that are alike into windows of nights; with each its last night where there are several.

    A window ends where the level changes (`GroupRules.level_breaks`). Frames without a date go with the others where
    these are of one window, else they are apart.
    """
    noons = [_fixed_key(frame, rules).noon_utc_s for frame in frames]
    nights = [night_of(f.metadata.date_obs, noon) for f, noon in zip(frames, noons, strict=True)]
    dated = [(night, frame) for night, frame in zip(nights, frames, strict=True) if night is not None]
    if not dated or rules.window_days is None:
        return [(None, frames)]
    days = [night for night, _ in dated]
    one, exposure_s = frames[0].metadata, statistics.median(map(_exposure_s, frames))
    is_flat = one.frame_type is FrameType.FLAT
    of_frames = [b for b in rules.level_breaks if not is_flat and b.is_of(one.settings, exposure_s)]
    breaks = [(b.after, b.before) for b in of_frames]
    found = [
        part
        for places in windows(days, rules.window_days)
        for part in (split_between(days, places, breaks) if breaks else [places])
    ]
    if len(found) == 1:
        return [(None, frames)]
    parts: list[tuple[date | None, list[Frame]]] = [
        (max(dated[place][0] for place in places), [dated[place][1] for place in places]) for places in found
    ]
    undated = [frame for night, frame in zip(nights, frames, strict=True) if night is None]
    return [*parts, (None, undated)] if undated else parts


def _windowed(frames: list[Frame], rules: GroupRules) -> list[Group]:
    """Make the groups of bias or darks of one exposure: one for each window, of its newest frames."""
    groups = []
    for night, near in _in_windows(frames, rules):
        newest = sorted(near, key=_by_start)
        n_older = max(0, len(newest) - rules.max_frames) if rules.max_frames is not None else 0
        group = _group(newest[n_older:], rules)
        groups.append(replace(group, key=replace(group.key, night=night or group.key.night), n_older=n_older))
    return groups


def same_temperature(a_c: float, b_c: float, tolerance_c: float) -> bool:
    """Return whether two temperatures are within the tolerance; -33.7 and -31.7 are within 2, in spite of rounding."""
    return abs(a_c - b_c) <= tolerance_c + 1e-6


def settings_differ(a: CameraSettings, b: CameraSettings) -> str:
    """Name the first setting in which two differ, or return ""; a setting that one does not record fits anything.

    Images of files of several fit those of the same extension only.
    """
    if a is b:
        return ""
    if a.extension != b.extension:
        return f"extension {a.extension or 'none'} against {b.extension or 'none'}"
    if a.binning != b.binning:
        return f"binning {a.binning[0]}x{a.binning[1]} against {b.binning[0]}x{b.binning[1]}"
    if (a.coadds or 1) != (b.coadds or 1):  # cameras that add up say so
        return f"coadds {a.coadds or 1} against {b.coadds or 1}"
    for name in (
        *("camera", "camera_id", "gain", "offset", "readout_mode"),
        *("iso", "subframe_origin", "row_order", "flip"),
    ):
        x, y = getattr(a, name), getattr(b, name)
        if x is not None and y is not None and x != y and not (name == "readout_mode" and same_mode(x, y)):
            return f"{name.replace('_', ' ')} {x} against {y}"
    return ""


def describe(group: Group) -> str:
    """Describe a group in a few words: kind, exposure, filter, number of frames."""
    key = group.key
    words = [str(key.frame_type)]
    if key.frame_type is not FrameType.BIAS:
        words.append(f"{key.exposure_time_s:g} s{' (exposures vary)' if group.twilight else ''}")
    if key.filter_name:
        words.append(key.filter_name)
    if key.settings.camera_id:
        words.append(key.settings.camera_id)
    if key.settings.extension is not None:
        words.append(f"[{key.settings.extension}]")
    words.append(f"{key.width} x {key.height}")
    if key.settings.binning != (1, 1):
        words.append(f"binned {key.settings.binning[0]}x{key.settings.binning[1]}")
    if key.temperature_c is not None:
        words.append(f"{key.temperature_c:g} C")
    return f"{' '.join(words)}, {len(group.frames)} frame{'' if len(group.frames) == 1 else 's'}"


def _by_start(frame: Frame) -> tuple[str, str]:
    when = frame.metadata.date_obs
    return (when.isoformat() if when else "", frame.label)


def _exposure_s(frame: Frame) -> float:
    return frame.metadata.exposure_time_s or 0.0


def why_unused(metadata: FrameMetadata) -> str:
    """Say why a frame cannot be combined to a master; "" if it can."""
    if metadata.is_master:
        return "it is a master, not a raw frame"
    if metadata.unreadable and metadata.frame_type is not FrameType.LIGHT:
        return "; ".join(metadata.unreadable)
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


def _fixed_key(frame: Frame, rules: GroupRules) -> GroupKey:
    """Return what must be equal in a group; exposure and temperature, which may differ a little, are left open."""
    metadata = frame.metadata
    is_flat = metadata.frame_type is FrameType.FLAT
    noon_utc_s = rules.noon_utc_s if metadata.longitude_deg is None else noon_at(metadata.longitude_deg)
    is_apart = rules.per_session or (is_flat and rules.session != "none")
    session_start = frame.session_start if is_apart and rules.session == "hours" else None
    return GroupKey(
        frame_type=metadata.frame_type or FrameType.LIGHT,
        settings=metadata.settings,
        width=metadata.width,
        height=metadata.height,
        exposure_time_s=0.0,
        filter_name=metadata.filter_name if is_flat else None,
        optics=Optics(telescope=telescope_identity(metadata.optics.telescope)) if is_flat else Optics(),
        bayer_pattern=metadata.bayer_pattern if is_flat else None,
        dark_subtracted=is_flat and metadata.dark_subtracted,
        bias_subtracted=metadata.bias_subtracted,
        night=night_of(session_start or metadata.date_obs, noon_utc_s) if is_apart else None,
        session_start=session_start,
        noon_utc_s=noon_utc_s,
    )


def _turned_alike(frames: list[Frame], rules: GroupRules) -> list[list[Frame]]:
    """Split flats by the focal length and the angle of the camera; bias and darks see neither."""
    if frames[0].metadata.frame_type is not FrameType.FLAT:
        return [frames]
    clusters = optics_clusters([frame.metadata.optics for frame in frames], rules.rotation_tolerance_deg)
    return [[frames[index] for index in cluster] for cluster in clusters]


def _temperature_clusters(frames: list[Frame], rules: GroupRules) -> list[list[Frame]]:
    """Split by set temperature; frames without one, or still far from it, by the temperature they had."""
    tolerance_c = rules.temperature_tolerance_c
    if frames[0].metadata.frame_type is FrameType.BIAS:
        return _bias_temperature_clusters(frames, rules)
    parts: dict[float | None, list[Frame]] = defaultdict(list)
    measured: list[tuple[float, Frame]] = []
    for frame in frames:
        set_c, ccd_c = frame.metadata.set_temperature_c, frame.metadata.ccd_temperature_c
        if set_c is not None and (ccd_c is None or same_temperature(ccd_c, set_c, tolerance_c)):
            parts[round(set_c, 1)].append(frame)
        elif ccd_c is not None:
            measured.append((ccd_c, frame))
        else:
            parts[None].append(frame)
    return [*parts.values(), *_clusters(measured, lambda low, value: same_temperature(low, value, tolerance_c))]


def _bias_temperature_clusters(frames: list[Frame], rules: GroupRules) -> list[list[Frame]]:
    """Split bias frames by the temperature they had, else by the set point; those without any are a group."""
    known: list[tuple[Frame, float]] = []
    unknown: list[Frame] = []
    for frame in frames:
        ccd_c, set_c = frame.metadata.ccd_temperature_c, frame.metadata.set_temperature_c
        temperature_c = set_c if ccd_c is None else ccd_c
        if temperature_c is None:
            unknown.append(frame)
        else:
            known.append((frame, temperature_c))
    clusters = bias_clusters(
        [temperature_c for _, temperature_c in known],
        near_c=rules.temperature_tolerance_c,
        widest_c=rules.bias_temperature_tolerance_c,
    )
    return [*([unknown] if unknown else []), *([known[index][0] for index in cluster] for cluster in clusters)]


def _clusters(values: list[tuple[float, Frame]], are_near: Callable[[float, float], bool]) -> list[list[Frame]]:
    """Split sorted values where one is too far from the lowest of its cluster."""
    clusters: list[list[Frame]] = []
    lowest = 0.0
    for value, frame in sorted(values, key=lambda pair: (pair[0], pair[1].label)):
        if not clusters or not are_near(lowest, value):
            clusters.append([])
            lowest = value
        clusters[-1].append(frame)
    return clusters


def ladders(groups: Iterable[Group], tolerance_c: float) -> list[Group]:
    """Join groups that are too small for masters where only the exposure differs: single frames, ascending in exposure.

    What is left alone has two frames at least, or nothing can be compared.
    """
    alike: list[list[Group]] = []
    for group in groups:
        same = next((one for one in alike if _differ_in_exposure(one[0].key, group.key, tolerance_c)), None)
        if same is None:
            alike.append(same := [])
        same.append(group)
    joined = []
    for same in alike:
        frames = sorted((frame for group in same for frame in group.frames), key=lambda f: (_exposure_s(f), f.label))
        if len(frames) > 1:
            joined.append(Group(key=same[0].key, frames=tuple(frames), ladder=True))
    return joined


def _differ_in_exposure(a: GroupKey, b: GroupKey, tolerance_c: float) -> bool:
    if optics_differ(a.optics, b.optics):
        return False
    one, other = (replace(key, exposure_time_s=0.0, temperature_c=None, optics=Optics()) for key in (a, b))
    if one != other:
        return False
    if a.temperature_c is None or b.temperature_c is None:
        return a.temperature_c == b.temperature_c
    return same_temperature(a.temperature_c, b.temperature_c, tolerance_c)


def _is_ladder_with(level_adu: LevelOf | None, frames: Sequence[Frame]) -> Callable[[list[Frame]], bool]:
    """Return what tells flats of a steady lamp from those of the twilight, by the levels of their exposures."""

    def pedestal_adu(key: FrameMetadata) -> float:
        """Return the level without light: of the shortest bias or dark of the camera."""
        dark = [f for f in frames if f.metadata.frame_type in (FrameType.BIAS, FrameType.DARK) and _fits(f, key)]
        levels = [level_adu(f) for f in sorted(dark, key=_exposure_s)[:3]] if level_adu is not None else []
        return statistics.median([level for level in levels if level is not None] or [0.0])

    def is_ladder(flats: list[Frame]) -> bool:
        exposures = [_exposure_s(frame) for frame in flats]
        if level_adu is None or min(exposures) <= 0 or max(exposures) < LADDER_SPAN * min(exposures):
            return False
        zero_adu = pedestal_adu(flats[0].metadata)
        points = []
        for frame in flats[:: -(-len(flats) // _LADDER_FRAMES)]:
            level = level_adu(frame)
            if level is not None and level > zero_adu:
                points.append((math.log(_exposure_s(frame)), math.log(level - zero_adu)))
        slopes = [
            (b[1] - a[1]) / (b[0] - a[0])
            for a, b in itertools.combinations(points, 2)
            if abs(b[0] - a[0]) > math.log(LADDER_SPAN) / 2
        ]
        return bool(slopes) and statistics.median(slopes) > LADDER_SLOPE

    return is_ladder


def _fits(frame: Frame, flat: FrameMetadata) -> bool:
    has_size = (frame.metadata.width, frame.metadata.height) == (flat.width, flat.height)
    return has_size and not settings_differ(frame.metadata.settings, flat.settings)


def _by_exposure(frames: list[Frame], rules: GroupRules, is_ladder: Callable[[list[Frame]], bool]) -> list[Group]:
    """Split frames that are alike by exposure; flats of the twilight sky, which nearly all differ, stay together.

    Flats of many exposures of a steady lamp do not: each exposure is a group.
    """
    clusters = _exposure_clusters(frames, rules.min_frames)
    if frames[0].metadata.frame_type is not FrameType.FLAT:
        return [group for cluster in clusters for group in _windowed(cluster, rules)]
    if len(clusters) > 1 and len(clusters) >= TWILIGHT_SHARE * len(frames):
        if is_ladder(frames):
            return [_group(cluster, rules) for cluster in clusters]
        return [_group(frames, rules, twilight=True)]
    groups = [_group(cluster, rules) for cluster in clusters if len(cluster) >= rules.min_frames]
    rest = [cluster for cluster in clusters if len(cluster) < rules.min_frames]
    n_rest = sum(len(cluster) for cluster in rest)
    # Twilight: most exposures occur once. Two frames at each of two exposures are two (small) groups.
    singles = [frame for cluster in rest for frame in cluster]
    if len(rest) > 1 and 2 * len(rest) > n_rest and not is_ladder(singles):
        groups.append(_group(singles, rules, twilight=True))
    else:
        groups.extend(_group(cluster, rules) for cluster in rest)
    return groups


def _exposure_clusters(frames: list[Frame], min_frames: int) -> list[list[Frame]]:
    """Split frames by exposure: a clock reports some 1 % around one setting, two settings are two sharp values."""
    kind = frames[0].metadata.frame_type
    least_s = BIAS_SPREAD_S if kind is FrameType.BIAS else 0.0

    def within(share: float, of: list[Frame]) -> list[list[Frame]]:
        values = [(_exposure_s(frame), frame) for frame in of]
        return _clusters(values, lambda low_s, value_s: value_s - low_s <= max(share * value_s, least_s))

    sharp, wide = within(EXPOSURE_TOLERANCE, frames), within(REPORTED_SPREAD, frames)
    if kind is FrameType.FLAT and len(sharp) >= TWILIGHT_SHARE * len(frames) and not _are_settings(wide, min_frames):
        return sharp  # the sky changes from frame to frame
    clusters: list[list[Frame]] = []
    for cluster in wide:
        settings = within(EXPOSURE_TOLERANCE, cluster)
        clusters += settings if all(len(setting) > 1 for setting in settings) else [cluster]
    return clusters


def _are_settings(clusters: list[list[Frame]], min_frames: int) -> bool:
    """Return whether clusters in ascending order are settings of a lamp: enough frames of each, and none in between."""
    ends = [(_exposure_s(cluster[0]), _exposure_s(cluster[-1])) for cluster in clusters]
    are_apart = all(after[0] - before[1] > 2 * REPORTED_SPREAD * after[0] for before, after in pairwise(ends))
    return are_apart and all(len(cluster) >= min_frames for cluster in clusters)


def _with_one_spelling(frames: list[Frame]) -> list[Frame]:
    """Give the filters of flats that differ in spelling only (Ha, HA, H-alpha) the spelling of most frames."""
    of_flats = [f.metadata.filter_name for f in frames if f.metadata.frame_type is FrameType.FLAT]
    spellings = Counter(name for name in of_flats if name)
    chosen: dict[str, str] = {}
    for name, _ in sorted(spellings.items(), key=lambda pair: (-pair[1], pair[0])):
        chosen.setdefault(filter_identity(name), name)
    spelled: list[Frame] = []
    for frame in frames:
        own = frame.metadata.filter_name or None
        one = chosen.get(filter_identity(own), own) if own else None
        spelled.append(frame if one == own else replace(frame, metadata=replace(frame.metadata, filter_name=one)))
    return spelled


def _group(frames: list[Frame], rules: GroupRules, twilight: bool = False) -> Group:
    """Make a group; its temperature is the set point where the frames are at it, else the median of what they had."""
    frames = sorted(frames, key=_by_start)
    set_c = [f.metadata.set_temperature_c for f in frames if f.metadata.set_temperature_c is not None]
    measured_c = [f.metadata.ccd_temperature_c for f in frames if f.metadata.ccd_temperature_c is not None]
    temperature_c = statistics.median(measured_c) if measured_c else None
    if len(set_c) == len(frames) and len({round(value, 1) for value in set_c}) == 1:
        middle_c = statistics.median(set_c)
        if temperature_c is None or same_temperature(temperature_c, middle_c, rules.temperature_tolerance_c):
            temperature_c = middle_c
    first = frames[0].metadata
    is_flat = first.frame_type is FrameType.FLAT
    key = replace(
        _fixed_key(frames[0], rules),
        exposure_time_s=statistics.median(_exposure_s(frame) for frame in frames),
        optics=common_optics([f.metadata.optics for f in frames]) if is_flat else Optics(),
        temperature_c=temperature_c,
        bayer_pattern=first.bayer_pattern,
        states_binning=all(frame.metadata.states_binning for frame in frames),
    )
    return Group(key=key, frames=tuple(frames), twilight=twilight)
