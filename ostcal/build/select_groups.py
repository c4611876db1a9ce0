"""Which frames there are, and which groups of them become masters."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ostcal.build.request import BuildRequest
from ostcal.errors import NoFramesError
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import marked_dark_subtracted
from ostcal.inputs.gather import Source, described, gather_inputs, unpacked
from ostcal.inputs.grouping import Group, describe, group_frames
from ostcal.library.verification import without_damaged

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The groups that are wanted, and a line for what was found and is not used, or is missing."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    n_lights: int
    """Light frames, which are not used."""


def gather_frames(request: BuildRequest, scratch: str, left_out: list[str]) -> dict[str, Source]:
    """Find all usable frames, by label.

    Parameters
    ----------
    request : BuildRequest
    scratch : str
        Directory for frames that are unpacked; made where there are some.
    left_out : list of str
        Gets a line for everything that cannot be used, also where the search ends in an error.
    """
    inputs = gather_inputs(request.input_dirs, exclude=request.output_dir, verify=request.verify)
    left_out += inputs.left_out
    sources = unpacked(inputs.sources, scratch, left_out, inputs.excluded)
    if request.verify:
        sources = without_damaged(sources, left_out, request.execution.workers)
    return marked_dark_subtracted(sources, left_out) if request.make_flats else sources


def select_groups(request: BuildRequest, sources: dict[str, Source]) -> Selection:
    """Group frames, and choose the groups that the request asks for.

    Raises
    ------
    NoFramesError
        If there is none.
    """
    grouping = group_frames((source.frame for source in sources.values()), request.rules)
    for group in grouping.groups:
        for frame in group.frames:
            logger.debug("group %s: %s", describe(group), frame.label)
    groups = tuple(group for group in grouping.groups if request.asks_for(group.key.frame_type))
    if not groups:
        wanted = {"bias": request.make_bias, "darks": request.make_darks, "flats": request.make_flats}
        asked = ", ".join(kind for kind, is_wanted in wanted.items() if is_wanted)
        seen = "; ".join(describe(group) for group in (*grouping.groups, *grouping.too_small))
        unused = "; ".join(sorted({reason for _, reason in grouping.unused}))
        raise NoFramesError(
            f"No master can be made of {asked or 'nothing (all create_master_... are false)'} in "
            f"{', '.join(request.input_dirs)}: at least {request.rules.min_frames} frames of one group are needed "
            f"(master_frames.min_frames); found: {seen or 'no bias, dark or flat frames'}"
            + (f"; not used: {unused}" if unused else "")
        )
    left_out = [
        f"{describe(group)}: fewer than min_frames {request.rules.min_frames}, left out ({group.frames[0].label}"
        f"{' and others' if len(group.frames) > 1 else ''})"
        for group in grouping.too_small
        if request.asks_for(group.key.frame_type)
    ]
    left_out += [
        f"{frame.label}: left out, {reason}" for frame, reason in grouping.unused if "light frame" not in reason
    ]
    kinds = {group.key.frame_type for group in groups}
    places = ", ".join(described(directory) for directory in request.input_dirs)
    missing = []
    if request.make_darks and not kinds & {FrameType.DARK, FrameType.BIAS}:
        missing.append(f"no dark frames in {places}: no master dark is made")
    if request.make_flats and FrameType.FLAT not in kinds:
        missing.append(f"no flat frames in {places}: no master flat is made")
    return Selection(
        groups=groups,
        left_out=tuple(left_out),
        missing=tuple(missing),
        n_lights=sum("light frame" in reason for _, reason in grouping.unused),
    )
