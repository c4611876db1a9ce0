"""What would become of folders of frames: their groups, what they lack, and where the lights are; nothing is written.

Frames are known by their headers alone. What a run finds in their samples (damage, copies that another program has
processed, darks that were subtracted) is not known here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ostcal.build.flat_darks import rules_of, stored_candidate
from ostcal.build.match_darks import DarkCandidate, NoDark, choose_dark
from ostcal.build.request import BuildRequest
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import marked_uncalibrated
from ostcal.inputs.gather import gather_inputs
from ostcal.inputs.grouping import Frame, Group, GroupKey, describe
from ostcal.inputs.image_sets import group_images, one_of_each_file
from ostcal.inputs.observed import Observed
from ostcal.inputs.sensor_temperature import sensor_key
from ostcal.library.find import LibraryMaster, find_masters
from ostcal.naming import same_filter
from ostcal.places.night_folders import root_of
from ostcal.places.paths import parent_of
from ostcal.science.fitting import dark_unfit, flat_unfit
from ostcal.science.matched import MatchRules, is_near_exposure, is_same_exposure, science_key, usable_masters

_LIGHT = "it is a light frame"


@dataclass(frozen=True, kw_only=True)
class FoundGroup:
    """Frames that belong together."""

    key: GroupKey
    frames: int
    first_frame: str
    """Name of the first of them."""
    becomes: str
    """master (with its night, where another group is of another night), light, or why nothing is made of them."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would become of folders of frames."""

    groups: tuple[FoundGroup, ...]
    lacking: tuple[str, ...]
    """One line for each thing that is missing."""
    unused: tuple[str, ...]
    """One line for files that are not used, and why."""
    light_folders: tuple[str, ...]
    """Folders with lights."""
    masters_on_disk: int
    """Masters that are there already."""

    @property
    def makes_masters(self) -> bool:
        """Return whether a master can be made."""
        return any(group.becomes.startswith("master") for group in self.groups)


def preview_of(request: BuildRequest, rules: MatchRules) -> Preview:
    """Say what a run would make of the frames in the folders of a request.

    Raises
    ------
    NoFramesError
        If there is no file of frames at all.
    """
    inputs = gather_inputs(
        request.input_dirs,
        exclude=root_of(request.library),
        verify=False,
        overscan=request.overscan,
        cubes=request.cubes,
        kinds=request.kinds_of_files,
    )
    sources = marked_uncalibrated(inputs.sources, request.uncalibrated)

    def level_adu(frame: Frame) -> float | None:
        return sources[frame.label].level_adu() if frame.label in sources else None

    grouping = group_images([source.frame for source in sources.values()], request.rules, level_adu)
    masters, small = one_of_each_file(grouping.groups), one_of_each_file(grouping.too_small)
    library = find_masters(request.library) if request.use_masters_on_disk else []
    library = usable_masters(library, rules)
    lights = _lights([source.frame for source in sources.values()], rules)
    keys = [*(group.key for group in grouping.groups), *(master.key for master in library)]
    return Preview(
        groups=(
            *(_found(group.key, group.frames, f"master{_night(group, masters)}") for group in masters),
            *(_found(group.key, group.frames, f"too few, {request.rules.min_frames} needed") for group in small),
            *(_found(key, frames, "light") for key, frames in lights),
        ),
        lacking=(
            *_flats_without_darks(masters, library, request),
            *(line for key, frames in lights for line in _lacking(key, len(frames), keys, rules)),
        ),
        unused=(*inputs.left_out, *_unused([(f, reason) for f, reason in grouping.unused if reason != _LIGHT])),
        light_folders=tuple(sorted({parent_of(frame.label) or "." for _, frames in lights for frame in frames})),
        masters_on_disk=len(library),
    )


def _found(key: GroupKey, frames: Sequence[Frame], becomes: str) -> FoundGroup:
    return FoundGroup(key=key, frames=len(frames), first_frame=frames[0].label, becomes=becomes)


def _night(group: Group, others: Sequence[Group]) -> str:
    """Return the night of a group that differs from another one in its night alone."""
    undated = replace(group.key, night=None, session_start=None, temperature_c=None)
    same = [o for o in others if replace(o.key, night=None, session_start=None, temperature_c=None) == undated]
    return f" of {group.key.night}" if len(same) > 1 and group.key.night is not None else ""


def _unused(frames: Sequence[tuple[Frame, str]]) -> list[str]:
    """Return one line for each reason, with the first of its files."""
    counts = Counter(reason for _, reason in frames)
    first = {reason: frame.label for frame, reason in reversed(frames)}
    return [
        f"{first[reason]}{f' and {count - 1} more' if count > 1 else ''}: not used, {reason}"
        for reason, count in counts.items()
    ]


# ---- flats ----


def _flats_without_darks(groups: Sequence[Group], library: Sequence[LibraryMaster], request: BuildRequest) -> list[str]:
    """Return a line for each group of flats that no dark and no bias fits."""
    of_run = [
        DarkCandidate(
            name=describe(group), key=sensor_key(group), observed=Observed.of(f.metadata for f in group.frames)
        )
        for group in groups
        if group.key.frame_type is not FrameType.FLAT
    ]
    on_disk = [stored_candidate(m) for m in library if m.key.frame_type is not FrameType.FLAT]
    if request.synthetic_bias is not None:
        return []
    lines = []
    for group in groups:
        key = group.key
        if key.frame_type is not FrameType.FLAT or key.dark_subtracted or key.bias_subtracted:
            continue
        choice = choose_dark(group, [*of_run, *on_disk], rules_of(request))
        if isinstance(choice, NoDark):
            lines.append(f"{describe(group)}: {choice.message}")
    return lines


# ---- lights ----


def _lights(frames: Sequence[Frame], rules: MatchRules) -> list[tuple[GroupKey, list[Frame]]]:
    """Group lights that take the same masters, whatever their temperature within a degree and the telescope's turn."""
    alike: defaultdict[tuple[object, ...], list[Frame]] = defaultdict(list)
    keys: dict[tuple[object, ...], GroupKey] = {}
    files: set[str] = set()
    for frame in frames:
        metadata = frame.metadata
        is_done = metadata.is_master or metadata.flat_divided or metadata.dark_subtracted
        if metadata.frame_type is not FrameType.LIGHT or is_done or frame.file in files:
            continue
        files |= {frame.file} - {""}  # of a file of several images the first stands for all
        key = science_key(frame.metadata)
        degrees = None if key.temperature_c is None else round(key.temperature_c)
        same = (key.settings, key.width, key.height, key.filter_name, key.exposure_time_s, degrees, key.bayer_pattern)
        keys.setdefault(same, key)
        alike[same].append(frame)
    return [(keys[same], found) for same, found in alike.items()]


def _lacking(key: GroupKey, n_lights: int, masters: Sequence[GroupKey], rules: MatchRules) -> list[str]:
    """Say what lights of one kind lack: a dark, and a flat."""
    lights = f"{n_lights} light{'' if n_lights == 1 else 's'}"
    lines = []
    darks = [m for m in masters if m.frame_type is FrameType.DARK]
    biases = [m for m in masters if m.frame_type is FrameType.BIAS]
    fitting = [m for m in darks if not dark_unfit(key, m, rules)]
    if not any(is_same_exposure(key, m) or is_near_exposure(key, m, rules) for m in fitting):
        exposures = ", ".join(sorted({f"{m.exposure_time_s:g} s" for m in fitting}, key=lambda s: float(s[:-2])))
        has_bias = any(not dark_unfit(key, m, rules) for m in biases)
        if fitting and (has_bias or len(fitting) > 1):
            note = f"; dark current would be scaled from {exposures}, which is less exact"
        elif has_bias:
            note = f"; the bias alone would be subtracted{_reason(key, darks, dark_unfit, rules)}"
        else:
            note = _reason(key, darks, dark_unfit, rules) or f"; there are {exposures}" if darks else ""
        lines.append(f"no darks of {key.exposure_time_s:g} s{_where(key)} for {lights}{note}")
    flats = [m for m in masters if m.frame_type is FrameType.FLAT]
    named = [m for m in flats if same_filter(m.filter_name or "", key.filter_name or "") or not m.filter_name]
    if not any(not flat_unfit(key, m, rules) for m in named):
        of = f" of filter {key.filter_name}" if key.filter_name else ""
        lines.append(f"no flats{of} for {lights}{_reason(key, flats, flat_unfit, rules)}")
    return lines


def _reason(
    key: GroupKey,
    masters: Sequence[GroupKey],
    unfit: Callable[[GroupKey, GroupKey, MatchRules], str],
    rules: MatchRules,
) -> str:
    """Say what differs in those that there are."""
    reasons = Counter(reason for master in masters if (reason := unfit(key, master, rules)))
    return f"; those there differ: {reasons.most_common(1)[0][0]}" if reasons else ""


def _where(key: GroupKey) -> str:
    """Return the settings that darks must have."""
    words = [
        f"gain {key.settings.gain:g}" if key.settings.gain is not None else "",
        f"{key.temperature_c:g} C" if key.temperature_c is not None else "",
    ]
    shown = ", ".join(word for word in words if word)
    return f" ({shown})" if shown else ""
