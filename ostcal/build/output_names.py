"""Names of masters and of their files: the masters of all images of files of several go into one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from ostcal.frames import FrameType
from ostcal.inputs.group_names import image_name, master_names, numbered
from ostcal.inputs.grouping import Group
from ostcal.vocabulary import MasterNames

_Named = TypeVar("_Named")


def by_files(named: Sequence[tuple[Group, _Named]]) -> list[list[tuple[Group, _Named]]]:
    """Gather the groups whose masters go into one file."""
    gathered: dict[str, list[tuple[Group, _Named]]] = {}
    for number, (group, name) in enumerate(named):
        gathered.setdefault(group.files or str(number), []).append((group, name))
    return list(gathered.values())


def output_names(
    kind: FrameType, members: Sequence[tuple[int, Group]], made_at: datetime, words: MasterNames = "short"
) -> list[tuple[int, str, str]]:
    """Return place, name of the master, and name of its file without ending, for groups of one kind."""
    files = by_files([(group, place) for place, group in members])
    keys = []
    for same in files:
        key = replace(same[0][0].key, frame_type=kind)
        if len(same) > 1:
            gains = {group.key.settings.gain for group, _ in same}  # of each amplifier its own
            shared = replace(key.settings, extension=None, gain=gains.pop() if len(gains) == 1 else None)
            key = replace(key, settings=shared)
        keys.append(key)
    ordinary, images = [], []
    for file, same in zip(master_names(keys, made_at, words), files, strict=True):
        for group, place in same:
            extension = group.key.settings.extension
            if extension is None:
                ordinary.append((place, file, file))
            else:
                images.append((place, image_name(file, extension), file))
    names = numbered([name for _, name, _ in (*ordinary, *images)])
    return [(place, name, file) for name, (place, _, file) in zip(names, (*ordinary, *images), strict=True)]
