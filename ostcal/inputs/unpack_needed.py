"""Packed frames are unpacked for the masters that are made, group by group, as far as disk and memory go."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ostcal.errors import InputError
from ostcal.fits.read import fingerprint
from ostcal.fits.tiles import RUN_BYTES, TileReader
from ostcal.fits.unpack import free_bytes, room_bytes, unpack
from ostcal.frames import FrameType
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import GroupRules, describe, ladders
from ostcal.inputs.groups import Group
from ostcal.inputs.image_sets import group_images
from ostcal.places.paths import make_directory

logger = logging.getLogger(__name__)


def groups_of_packed(sources: Iterable[Source], rules: GroupRules, *, flats: bool) -> list[Group]:
    """Return the groups, as far as headers tell, of which masters may be made and that hold packed frames.

    Frames that are too few for a master are among them where they say what the camera is like: `ladders` of several
    exposures. Without `flats` those of flats are not; bias frames and darks are needed for all kinds. How many frames
    of a group count is left open, as what their samples say may part it.
    """
    sources = list(sources)
    packed = {source.frame.label for source in sources if is_packed(source)}
    if not packed:
        return []
    grouping = group_images((source.frame for source in sources), replace(rules, max_frames=None))
    of_cameras = ladders(grouping.too_small, rules.temperature_tolerance_c)
    groups = [*grouping.groups, *(group for group in of_cameras if _n_exposures(group) > 1)]
    return [
        group
        for group in groups
        if (flats or group.key.frame_type is not FrameType.FLAT) and any(f.label in packed for f in group.frames)
    ]


def _n_exposures(group: Group) -> int:
    return len({frame.metadata.exposure_time_s for frame in group.frames})


def is_packed(source: Source) -> bool:
    """Return whether the samples of a source cannot be read yet."""
    return source.fits is not None and source.fits.packed != "none"


def unpack_groups(
    sources: dict[str, Source],
    groups: Sequence[Group],
    directory: str,
    memory_limit_bytes: int,
    left_out: list[str],
) -> tuple[dict[str, Source], list[str]]:
    """Unpack the frames of groups into `directory`; return all sources, and a line for each group without room.

    A strip of a compressed file cannot be read without unpacking all that lies before it; unpacking once costs one read
    and one write of the frame. Groups that take little room come first. Of a group that the disk has no room for
    nothing is unpacked, and its frames are left out: a master of some of them would be another one. A damaged frame is
    left out alone, with a line in `left_out`.
    """
    result, no_room = dict(sources), list[str]()

    def packed_frames(group: Group) -> list[Source]:
        of_group = (result.get(frame.label) for frame in group.frames)
        return [source for source in of_group if source is not None and is_packed(source)]

    # what has only a checksum is compared in any case: frames of no group tell copies of others
    for label, source in sources.items():
        if source.fits is not None and source.fits.packed == "none" and not source.fits.is_ready:
            try:
                result[label] = replace(source, fits=unpack(source.fits, directory))
            except InputError as error:
                left_out.append(str(error))
                del result[label]
    sizes = [sum(room_bytes(s.fits) for s in packed_frames(group) if s.fits is not None) for group in groups]
    with TileReader(memory_limit_bytes - RUN_BYTES) as tiles:
        for at in sorted(range(len(groups)), key=lambda at: sizes[at]):
            packed = packed_frames(groups[at])
            if not packed:
                continue
            make_directory(directory)
            free = free_bytes(directory)
            if len(packed) > 1 and free is not None and sizes[at] > free:
                no_room.append(_no_room(groups[at], packed, sizes[at], free, directory))
                for frame in groups[at].frames:
                    result.pop(frame.label, None)
                continue
            for source in packed:
                label = source.frame.label
                try:
                    fits = unpack(source.fits, directory, tiles) if source.fits is not None else None
                except InputError as error:
                    left_out += [str(error)] if str(error) not in left_out else []  # of each image of a file the same
                    logger.debug("%s: traceback", label, exc_info=True)
                    del result[label]
                    continue
                result[label] = replace(source, fits=fits, fingerprint=fingerprint(fits) if fits is not None else "")
    return result, no_room


def _no_room(group: Group, packed: Sequence[Source], needed: int, free: int, directory: str) -> str:
    where = os.path.dirname(directory) or "."
    return (
        f"{describe(group)}: not made: unpacking {len(packed)} frames such as {packed[0].frame.label} takes {needed}"
        f" bytes, {where} has {free} free; free space there, or choose another master_frames.output_dir"
    )
