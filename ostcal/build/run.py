"""From input directories to masters on disk: the whole way on one page, with plain values and without a config."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ostcal.build.dark_doubt import doubtful_darks
from ostcal.build.mixtures import without_mixtures
from ostcal.build.output_directory import owned
from ostcal.build.plan import Unchanged, plan_masters
from ostcal.build.prepare import prepare_masters
from ostcal.build.publish import Published
from ostcal.build.publish_files import write_files_of_several
from ostcal.build.request import BuildRequest, Watcher
from ostcal.build.strip_jobs import Combined, combine_and_publish, plan_strips
from ostcal.engine.driver import connected
from ostcal.errors import NoFramesError, OstcalError
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import (
    changed_by_others,
    marked_bias_subtracted,
    marked_dark_subtracted,
    marked_uncalibrated,
)
from ostcal.inputs.clocks import clock_jumps, in_the_future
from ostcal.inputs.gather import Source, described, gather_inputs, stack_of, without_copies
from ostcal.inputs.grouping import Frame, Group, Grouping, GroupRules, describe, ladders, with_noon
from ostcal.inputs.image_sets import group_images, one_of_each_file
from ostcal.inputs.level_breaks import level_breaks, said_of_breaks
from ostcal.inputs.nights import doubtful_noon
from ostcal.inputs.processed_copies import without_processed_copies
from ostcal.inputs.unknown_overscan import with_known_overscan
from ostcal.inputs.unpack_needed import groups_of_packed, is_packed, unpack_groups
from ostcal.inputs.unusual_groups import apart_in_time, beyond_max_frames, several_nights, undated, wide_temperatures
from ostcal.inputs.whole_floats import with_whole_floats_as_words
from ostcal.library.find import find_masters
from ostcal.library.verification import without_damaged
from ostcal.measure.limits import FrameLimits
from ostcal.places.night_folders import root_of
from ostcal.places.paths import parent_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What became of a run."""

    made: tuple[Published, ...]
    unchanged: tuple[Unchanged, ...]
    """Masters of earlier runs that need not be made again."""
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    groups: tuple[Group, ...]
    light_folders: tuple[str, ...]
    """Folders in which there are lights too."""
    seconds: dict[str, float]


def build_masters(request: BuildRequest, watcher: Watcher | None = None) -> BuildReport:
    """Make all masters that the input directories allow; a watcher may end the run before work begins.

    Raises
    ------
    NoFramesError
        If there is nothing to work on.
    PlanError
        If the memory limit is too small.
    StorageError
        If the output directory cannot be written, or another run is writing there.
    """
    watcher, clock = watcher or Watcher(), _StageClock()
    unusable, no_room = list[str](), list[str]()
    try:
        with owned(request.output_dir, request.store, request.lock_wait_s) as scratch:
            sources = gather_frames(request, scratch, unusable, no_room)
            clock.lap("inspect")
            selection = select_groups(request, sources)
            clock.lap("group")
            plan = plan_masters(request, selection.groups, sources)
            plan_strips(request, request.execution, plan.to_make)  # too small a memory limit is refused here
            clock.lap("plan")
            if plan.to_make and not watcher.planned([master.group for master in plan.to_make], plan.bytes_to_read):
                raise OstcalError("nothing made: the run was declined")
            clock.lap("confirm")
            for line in (*no_room, *selection.not_made, *plan.errors):
                watcher.failed(line)
            if plan.to_make:
                with connected(request.execution) as execution:
                    if execution.scheduler == "distributed":
                        clock.lap("cluster")
                    of_ladders = [(group, [sources[f.label] for f in group.frames]) for group in selection.ladders]
                    with_stacks = [
                        (group, stack_of(members)) for group, members in of_ladders if not any(map(is_packed, members))
                    ]
                    prepared, notes = prepare_masters(request, execution, plan, with_stacks)
                    remade = without_mixtures(request, plan, prepared, sources)
                    prepared, no_dark = list(remade.prepared), remade.errors
                    for line in no_dark:
                        watcher.failed(line)
                    notes += [*remade.warnings, *doubtful_darks(prepared)]
                    clock.lap("survey")
                    combined = combine_and_publish(request, execution, prepared, watcher)
                    not_written = write_files_of_several(request, prepared, combined.made)
                    clock.lap("combine")
            else:
                request.store.sweep()  # strips that no run continues
                combined, notes, not_written, no_dark = Combined(made=(), left_out=(), errors=()), [], [], ()
    except OstcalError:
        for line in (*unusable, *no_room):  # often the reason
            logger.warning("%s", line)
        raise
    for master in combined.made:
        master.log_statistics()
    if selection.n_lights:
        lights = "1 light frame" if selection.n_lights == 1 else f"{selection.n_lights} light frames"
        logger.info("not used: %s among the input", lights)
    warnings = (*unusable, *selection.left_out, *combined.left_out, *plan.warnings, *selection.missing, *notes)
    return BuildReport(
        made=combined.made,
        unchanged=plan.unchanged,
        warnings=(*warnings, *(line for master in combined.made for line in master.warnings)),
        errors=(*no_room, *selection.not_made, *plan.errors, *no_dark, *combined.errors, *not_written),
        groups=selection.groups,
        light_folders=selection.light_folders,
        seconds=clock.seconds,
    )


# ---- frames and groups ----


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The groups that are wanted, and a line for what was found and is not used, or is missing."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    not_made: tuple[str, ...]
    """One line for each kind that was asked for by name, and of which there is no group."""
    n_lights: int
    """Light frames, which are not used."""
    light_folders: tuple[str, ...]
    """Where they are."""
    ladders: tuple[Group, ...] = ()
    """Frames that are too few for masters and say what the camera is like."""


def gather_frames(request: BuildRequest, scratch: str, left_out: list[str], not_made: list[str]) -> dict[str, Source]:
    """Find all usable frames, by label; compressed ones of which masters may be made are unpacked into `scratch`.

    Which these are is judged by headers first. What samples say may join groups, so it is looked at again until no
    group has a packed frame. `left_out` gets a line for everything that cannot be used, also where the search ends in
    an error, and `not_made` one for each group that there is no room to unpack.
    """
    inputs = gather_inputs(
        request.input_dirs,
        exclude=root_of(request.library),
        verify=request.verify,
        overscan=request.overscan,
        cubes=request.cubes,
        kinds=request.kinds_of_files,
    )
    left_out += inputs.left_out
    found, groups = inputs.sources, _groups_to_unpack(request, inputs.sources)
    while True:
        found, no_room = unpack_groups(found, groups, scratch, request.memory_limit_bytes, left_out)
        not_made += no_room
        lines: list[str] = []
        sources = _as_they_are(request, without_copies(found, lines, inputs.excluded), lines)
        groups = _groups_to_unpack(request, sources)
        if not groups:
            left_out += lines
            return sources


def _groups_to_unpack(request: BuildRequest, sources: dict[str, Source]) -> list[Group]:
    if not any(map(is_packed, sources.values())):
        return []
    frames = [source.frame for source in sources.values()]
    rules = with_noon(with_noon_of_masters(request, frames), frames)
    return groups_of_packed(sources.values(), rules, flats=request.make_flats)


def _as_they_are(request: BuildRequest, sources: dict[str, Source], left_out: list[str]) -> dict[str, Source]:
    """Return frames without those that are damaged or were changed, with what their samples say of them."""
    if request.verify:
        sources = without_damaged(sources, left_out, request.execution.workers)
    sources = without_processed_copies(sources, left_out)
    sources = marked_uncalibrated(sources, request.uncalibrated)
    sources = with_whole_floats_as_words(sources, left_out, request.execution.workers)
    sources = with_known_overscan(sources, left_out, request.execution.workers)
    sources = marked_bias_subtracted(sources, left_out)
    if not request.make_flats:
        return sources
    sources = marked_dark_subtracted(sources, left_out)
    left_out += changed_by_others(sources)
    return sources


def with_noon_of_masters(request: BuildRequest, frames: Sequence[Frame]) -> GroupRules:
    """Return the rules of grouping with the noon of older masters of these cameras, where nothing says the longitude.

    The noon that a run guesses from its own frames may be another one in the next run, and a flat would belong to the
    evening before or after.
    """
    rules = request.rules
    is_parted = rules.per_session or rules.session != "none"
    is_known = rules.noon_utc_s is not None or any(f.metadata.longitude_deg is not None for f in frames)
    if is_known or not is_parted:
        return rules
    cameras = {frame.metadata.settings.camera_label for frame in frames}
    masters = (master.key for master in find_masters(request.library))
    known = (key.noon_utc_s for key in masters if key.settings.camera_label in cameras and key.noon_utc_s is not None)
    return replace(rules, noon_utc_s=next(known, None))


def select_groups(request: BuildRequest, sources: dict[str, Source]) -> Selection:
    """Group frames, and choose the groups that the request asks for.

    Raises
    ------
    NoFramesError
        If there is none.
    """
    wanted = request.kinds
    frames = [source.frame for source in sources.values()]

    def level_adu(frame: Frame) -> float | None:
        return sources[frame.label].level_adu() if frame.label in sources else None

    def samples_of(frame: Frame) -> NDArray[np.float64] | None:
        return sources[frame.label].sampled_rows_adu() if frame.label in sources else None

    stated, quality = with_noon_of_masters(request, frames), request.publishing.quality
    rules = with_noon(stated, frames)
    breaks = level_breaks(frames, rules, samples_of, quality.frames if quality is not None else FrameLimits())
    rules = replace(rules, level_breaks=breaks)
    grouping = group_images(frames, rules, level_adu)
    for group in grouping.groups:
        for frame in group.frames:
            logger.debug("group %s: %s", describe(group), frame.label)
    groups = tuple(group for group in grouping.groups if group.key.frame_type in wanted)
    if not groups:
        kinds = {"bias": request.make_bias, "darks": request.make_darks, "flats": request.make_flats}
        asked = ", ".join(kind for kind, is_asked in kinds.items() if is_asked)
        raise NoFramesError(
            f"No master can be made of {asked or 'nothing (all create_master_... are false)'} in "
            f"{', '.join(request.input_dirs)}: {_why_none(grouping, frames, request.rules.min_frames)}"
        )
    small = [group for group in one_of_each_file(grouping.too_small) if group.key.frame_type in wanted]
    of_cameras = tuple(ladders(grouping.too_small, request.rules.temperature_tolerance_c))
    left_out = _too_few(small, of_cameras, rules)
    left_out += [
        f"{frame.label}: left out, {reason}" for frame, reason in grouping.unused if "light frame" not in reason
    ]
    found = {group.key.frame_type for group in groups}
    wide = [line for group in groups if (line := wide_temperatures(group, request.rules))]
    wide += [line for group in one_of_each_file(groups) if (line := several_nights(group, request.rules))]
    wide += [line for group in one_of_each_file(groups) if (line := beyond_max_frames(group))]
    wide += undated(groups)
    wide += doubtful_noon([frame for frame in frames if frame.metadata.frame_type in wanted], stated)
    wide += said_of_breaks(breaks, [*groups, *small])
    wide += in_the_future(groups, datetime.now(UTC))
    wide += clock_jumps(frame for frame in frames if frame.metadata.frame_type in wanted)
    places = ", ".join(described(directory) for directory in request.input_dirs)
    missing, not_made = wide, []
    makes = found | ({FrameType.DARK} if FrameType.BIAS in found else set())  # bias frames are a dark too
    for kind in (kind for kind in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT) if kind in wanted - makes):
        if kind in request.required:
            not_made.append(_not_made(kind, small, places))
        elif kind is not FrameType.BIAS:
            missing.append(f"no {kind} frames in {places}: no master {kind} is made")
    return Selection(
        groups=groups,
        left_out=tuple(left_out),
        missing=tuple(missing),
        not_made=tuple(not_made),
        n_lights=sum("light frame" in reason for _, reason in grouping.unused),
        light_folders=tuple(
            sorted({parent_of(frame.label) or "." for frame, reason in grouping.unused if "light frame" in reason})
        ),
        ladders=of_cameras,
    )


def _why_none(grouping: Grouping, frames: Sequence[Frame], min_frames: int) -> str:
    """Say why frames are no group of which a master can be made."""
    if not frames:
        return "none of the files there can be used"
    seen = "; ".join(describe(group) for group in (*grouping.groups, *grouping.too_small))
    unused = "; ".join(sorted({reason for _, reason in grouping.unused}))
    lights = all("light frame" in reason for _, reason in grouping.unused)
    if not seen and lights:
        what = "the one frame there is a light" if len(frames) == 1 else f"all {len(frames)} frames there are lights"
        return f"{what}; name the folders of bias frames, darks and flats"
    return (
        f"at least {min_frames} frames of one group are needed (master_frames.min_frames);"
        f" found: {seen or 'no bias, dark or flat frames'}" + (f"; not used: {unused}" if unused else "")
    )


def _not_made(kind: FrameType, small: Sequence[Group], places: str) -> str:
    """Say that a kind that was asked for by name has no group, and what to do."""
    key = {FrameType.BIAS: "create_master_bias", FrameType.DARK: "create_master_darks"}.get(kind, "create_master_flats")
    few = any(group.key.frame_type is kind for group in small)
    found = f"no group of {kind} frames in {places} is large enough" if few else f"no {kind} frames in {places}"
    return f"{found}: no master {kind} is made; take more, or set master_frames.{key} to false"


def _too_few(groups: Sequence[Group], of_cameras: Sequence[Group], rules: GroupRules) -> list[str]:
    """Return a line for each group that is too small for a master; groups of a ladder have one together."""
    min_frames = rules.min_frames
    lines = []
    for ladder in of_cameras:
        labels = {frame.label for frame in ladder.frames}
        steps = [group for group in groups if group.frames[0].label in labels]
        if len(steps) < 2:
            continue
        groups = [group for group in groups if group not in steps]
        first, last = steps[0].key.exposure_time_s, steps[-1].key.exposure_time_s
        n = sum(len(group.frames) for group in steps)
        lines.append(
            f"{ladder.key.frame_type} frames of {first:g} to {last:g} s, {n} in all: fewer than min_frames "
            f"{min_frames} of each exposure, no master (such as {ladder.frames[0].label})"
        )
    for group in groups:
        others = " and others" if len(group.frames) > 1 else ""
        lines.append(
            f"{describe(group)}{apart_in_time(group, rules)}: fewer than min_frames {min_frames}, left out"
            f" ({group.frames[0].label}{others})"
        )
    return lines


class _StageClock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
        logger.debug("timing: %s %.3f s", stage, self.seconds[stage])
