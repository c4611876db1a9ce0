"""Grouping of images of files of several: whole files with whole files, each image with the same image of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import Frame, GroupRules
from ostcal.inputs.image_sets import group_images, one_of_each_file

RULES = GroupRules()


def images_of(
    file: str,
    *names: str,
    kind: FrameType = FrameType.BIAS,
    exposure_s: float = 0.0,
    width: int = 30,
    **metadata: object,
) -> list[Frame]:
    """Give the images of one file."""
    return [
        Frame(
            label=f"{file}[{name}]",
            file=file,
            place=place + 1,
            metadata=replace(
                FrameMetadata(frame_type=kind, exposure_time_s=exposure_s, width=width + place, height=20),
                settings=CameraSettings(camera="Mosaic", extension=name, gain=1.0 + place),
                **metadata,
            ),
        )
        for place, name in enumerate(names)
    ]


def files_of(n: int, *names: str, stem: str = "b", **keys: object) -> list[Frame]:
    return [image for index in range(n) for image in images_of(f"{stem}{index}.fits", *names, **keys)]  # type: ignore[arg-type]


def test_each_image_is_a_group_of_its_own_over_the_same_files() -> None:
    grouping = group_images(files_of(4, "im1", "im2", "im3"), RULES)
    assert [(g.key.settings.extension, g.key.width, g.key.settings.gain) for g in grouping.groups] == [
        ("im1", 30, 1.0), ("im2", 31, 2.0), ("im3", 32, 3.0),
    ]  # fmt: skip
    assert {tuple(frame.file for frame in group.frames) for group in grouping.groups} == {
        tuple(f"b{index}.fits" for index in range(4))
    }
    assert len({group.files for group in grouping.groups}) == 1
    assert one_of_each_file(grouping.groups) == [grouping.groups[0]]


def test_the_order_of_frames_does_not_matter() -> None:
    frames = files_of(4, "im1", "im2")
    assert group_images(frames[::-1], RULES) == group_images(frames, RULES)


@pytest.mark.parametrize("first", [("im1", "im3"), ("im2", "im3"), ("im1", "im2", "im9")])
def test_a_file_that_lacks_an_image_is_left_out_whatever_it_has(first: tuple[str, ...]) -> None:
    named = dict(zip(("im1", "im2", "im3"), images_of("few.fits", "im1", "im2", "im3"), strict=True))
    few = [named.get(name) or replace(named["im3"], label=f"few.fits[{name}]") for name in first]
    few = [
        replace(f, metadata=replace(f.metadata, settings=replace(f.metadata.settings, extension=name)))
        for f, name in zip(few, first, strict=True)
    ]
    grouping = group_images([*files_of(4, "im1", "im2", "im3"), *few], RULES)
    assert [len(group.frames) for group in grouping.groups] == [4, 4, 4]
    ((frame, reason),) = grouping.unused
    assert frame.label == "few.fits"
    missing = [name for name in ("im1", "im2", "im3") if name not in first]
    assert f"lacks the extension{'s' if len(missing) > 1 else ''} {', '.join(missing)} " in reason


def test_an_image_that_most_files_lack_is_left_out_alone() -> None:
    grouping = group_images([*files_of(4, "im1", "im2"), *images_of("more.fits", "im1", "im2", "im3")], RULES)
    assert [len(group.frames) for group in grouping.groups] == [5, 5]
    assert [frame.label for frame, _ in grouping.unused] == ["more.fits[im3]"]


def test_files_whose_images_have_another_size_are_a_group_of_their_own() -> None:
    frames = [*files_of(4, "im1", "im2"), *files_of(3, "im1", "im2", stem="c", width=50)]
    grouping = group_images(frames, RULES)
    assert [(len(group.frames), group.key.width) for group in grouping.groups] == [(4, 30), (4, 31), (3, 50), (3, 51)]
    assert len({group.files for group in grouping.groups}) == 2
    assert grouping.unused == ()


def test_files_of_one_name_from_two_folders_of_series_are_two_files() -> None:
    twice = files_of(3, "im1", "im2") + [replace(f, label=f"x/{f.label}") for f in files_of(3, "im1", "im2")]
    assert [len(group.frames) for group in group_images(twice, RULES).groups] == [6, 6]


def test_kinds_and_exposures_part_files_as_they_part_frames() -> None:
    darks = files_of(3, "im1", "im2", stem="d", kind=FrameType.DARK, exposure_s=5.0)
    longer = files_of(2, "im1", "im2", stem="e", kind=FrameType.DARK, exposure_s=60.0)
    grouping = group_images([*files_of(3, "im1", "im2"), *darks, *longer], RULES)
    assert [(g.key.frame_type, g.key.exposure_time_s, g.key.settings.extension) for g in grouping.groups] == [
        (FrameType.BIAS, 0.0, "im1"),
        (FrameType.BIAS, 0.0, "im2"),
        (FrameType.DARK, 5.0, "im1"),
        (FrameType.DARK, 5.0, "im2"),
    ]
    assert len(one_of_each_file(grouping.too_small)) == 1
