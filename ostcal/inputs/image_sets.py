"""Files of several images: each image is grouped with the same image of other files, whole files with whole files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from ostcal.frames import CameraSettings
from ostcal.inputs.grouping import Frame, Group, Grouping, GroupRules, LevelOf, group_frames

_WHOLE_FILE = "*"
"""The extension of a frame that stands for all images of its file."""


def group_images(frames: Iterable[Frame], rules: GroupRules, level_adu: LevelOf | None = None) -> Grouping:
    """Group frames as `group_frames` does; of files of several images, each image makes groups of its own.

    The files are grouped first, so that the groups of all images are of the same files (`Group.files`), and follow each
    other. A file that lacks an image which most of its group have is left out, and so is an image that most lack.
    """
    ordinary: list[Frame] = []
    files: defaultdict[str, list[Frame]] = defaultdict(list)
    times: Counter[tuple[str, str | None]] = Counter()
    for frame in frames:
        if not frame.file:
            ordinary.append(frame)
            continue
        image = frame.file, frame.metadata.settings.extension
        times[image] += 1  # of files that were imported from two folders under one name
        file = frame.file if times[image] == 1 else f"{frame.file}|{times[image]}"
        files[file].append(replace(frame, file=file))
    uneven = {name for images in files.values() for name in _uneven(images)}
    whole = {file: _WholeFile.of(images, uneven) for file, images in files.items()}
    grouping = group_frames([*ordinary, *(file.lead for file in whole.values())], rules, level_adu)
    found: list[Group] = []
    unused = list(grouping.unused)
    for group in (*grouping.groups, *grouping.too_small):
        if not group.frames[0].file:
            found.append(group)
            continue
        for same, left_out in _alike([whole[frame.file] for frame in group.frames]):
            unused += left_out
            found += _groups_of_images(group, same)
    return Grouping(
        groups=tuple(group for group in found if len(group.frames) >= rules.min_frames),
        too_small=tuple(group for group in found if len(group.frames) < rules.min_frames),
        unused=tuple(unused),
    )


def one_of_each_file(groups: Iterable[Group]) -> list[Group]:
    """Return the groups without those of further images of the same files."""
    first: dict[str, Group] = {}
    for number, group in enumerate(groups):
        first.setdefault(group.files or str(number), group)
    return list(first.values())


@dataclass(frozen=True, kw_only=True)
class _WholeFile:
    """The images of one file."""

    lead: Frame
    """What they have in common, as a frame."""
    images: Mapping[str, Frame]
    """By extension."""

    @classmethod
    def of(cls, images: Sequence[Frame], uneven: Set[str]) -> _WholeFile:
        """Join images; what is `uneven` in other files says nothing of a file that lacks all images but one."""
        images = sorted(images, key=lambda image: image.place)
        first = images[0].metadata
        shared: dict[str, Any] = {}
        dropped = uneven if len(images) == 1 else _uneven(images)
        for field in fields(CameraSettings):
            default = (1, 1) if field.name == "binning" else None
            shared[field.name] = default if field.name in dropped else getattr(first.settings, field.name)
        settings = CameraSettings(**{**shared, "extension": _WHOLE_FILE})
        subtracted = any(image.metadata.dark_subtracted for image in images)
        metadata = replace(first, settings=settings, width=1, height=1, bayer_pattern=None, dark_subtracted=subtracted)
        label, file = images[0].label, images[0].file
        lead = Frame(label=file if label.startswith(f"{file}[") else label, metadata=metadata, file=file)
        return cls(lead=lead, images={image.metadata.settings.extension or "": image for image in images})

    @property
    def kinds(self) -> dict[str, tuple[object, ...]]:
        """What must be equal in a group, by extension."""
        of_images = {name: image.metadata for name, image in self.images.items()}
        return {name: (m.settings, m.width, m.height, m.bayer_pattern) for name, m in of_images.items()}


def _uneven(images: Sequence[Frame]) -> set[str]:
    """Return the settings in which the images of a file differ: the amplifiers of a detector may have a gain each."""
    names = [field.name for field in fields(CameraSettings)]
    return {name for name in names if len({getattr(image.metadata.settings, name) for image in images}) > 1}


def _alike(files: Sequence[_WholeFile]) -> list[tuple[list[_WholeFile], list[tuple[Frame, str]]]]:
    """Sort files by their images; with each sort, the files and images that are left out."""
    sorts: list[tuple[list[_WholeFile], list[tuple[Frame, str]]]] = []
    rest = list(files)
    while rest:
        most = Counter(tuple(file.kinds.items()) for file in rest).most_common()
        wanted = dict(max(most, key=lambda pair: (pair[1], len(pair[0])))[0])
        same: list[_WholeFile] = []
        left_out: list[tuple[Frame, str]] = []
        others: list[_WholeFile] = []
        for file in rest:
            kinds = file.kinds
            missing = [name for name in wanted if name not in kinds]
            if any(kinds[name] != wanted[name] for name in wanted if name in kinds):
                others.append(file)
            elif missing:
                what = f"extension{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
                left_out.append((file.lead, f"it lacks the {what} that the others of its group have"))
            else:
                beyond = [image for name, image in file.images.items() if name not in wanted]
                left_out += [(image, "the others of its group have no such extension") for image in beyond]
                same.append(replace(file, images={name: file.images[name] for name in wanted}))
        sorts.append((same, left_out))
        rest = others
    return sorts


def _groups_of_images(whole: Group, files: Sequence[_WholeFile]) -> list[Group]:
    """Return a group for each image of files that were grouped as a whole."""
    leads = {frame.file: frame.metadata for frame in whole.frames}
    groups = []
    for name, first in files[0].images.items():
        key = replace(
            whole.key,
            settings=first.metadata.settings,
            width=first.metadata.width,
            height=first.metadata.height,
            bayer_pattern=first.metadata.bayer_pattern,
        )
        frames = []
        for file in files:
            image, lead = file.images[name], leads[file.lead.file]
            metadata = replace(image.metadata, frame_type=lead.frame_type, exposure_time_s=lead.exposure_time_s)
            frames.append(replace(image, metadata=metadata))
        own = replace(whole, key=key, frames=tuple(frames), files=files[0].lead.file)
        groups.append(own)
    return groups
