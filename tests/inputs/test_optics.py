"""Flats of one telescope, focal length and angle of the camera belong together; angles are a circle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from ostcal.fits.headers import metadata_from_header
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.group_names import master_names
from ostcal.inputs.grouping import Frame, GroupRules, group_frames
from ostcal.inputs.optics import optics_differ
from support.fits_samples import header_of

EVENING = datetime(2026, 11, 21, 20, tzinfo=UTC)
RULES = GroupRules()
NINA = {
    "ROTNAME": "Falcon",
    "ROTATOR": 92.1,
    "ROTATANG": 92.1,
    "OBJCTROT": 10,
    "TELESCOP": "Esprit 100ED",
    "FOCALLEN": 550,
}


def optics(**cards: object) -> Optics:
    header = header_of(**cards)
    return metadata_from_header(header, width=8, height=6, path="x.fits").optics


def frames(kind: FrameType, *lights: Optics, n: int = 3) -> list[Frame]:
    """Give n frames of each light path, a minute apart."""
    metadata = FrameMetadata(
        frame_type=kind, exposure_time_s=2.0, width=8, height=6, settings=CameraSettings(camera="C"), filter_name="R"
    )
    made = [light for light in lights for _ in range(n)]
    return [
        Frame(label=f"{i:03d}", metadata=replace(metadata, optics=light, date_obs=EVENING + timedelta(minutes=i)))
        for i, light in enumerate(made)
    ]


def turned(*angles_deg: float) -> list[Optics]:
    return [Optics(rotator_deg=angle) for angle in angles_deg]


def sizes(made: Iterable[Frame], rules: GroupRules = RULES) -> list[int]:
    return sorted(len(group.frames) for group in group_frames(made, rules).groups)


# --- headers ---


def test_the_mechanical_angle_the_telescope_and_the_focal_length_are_read() -> None:
    assert optics(**NINA) == Optics(telescope="Esprit 100ED", focal_length_mm=550.0, rotator_deg=92.1)


@pytest.mark.parametrize("keyword", ["ROTATANG", "ROTATOR", "ROTANGLE", "ROTPOS"])
def test_mechanical_angles_have_many_spellings(keyword: str) -> None:
    assert optics(**{keyword: -10.0}) == Optics(rotator_deg=350.0)


@pytest.mark.parametrize("keyword", ["ROTSKYPA", "POSANGLE", "PA", "ROTPA"])
def test_angles_on_the_sky_are_kept_apart_from_mechanical_ones(keyword: str) -> None:
    assert optics(**{keyword: "370.5"}) == Optics(sky_angle_deg=10.5)


def test_a_meridian_flip_turns_the_sky_and_not_the_camera() -> None:
    east, west = optics(PA=100.0, PIERSIDE="East"), optics(PA=280.0, PIERSIDE="WEST")
    assert east.sky_angle_deg == west.sky_angle_deg == 100.0
    assert not optics_differ(optics(PA=10.0, ROTATANG=45.0), optics(PA=190.0, ROTATANG=45.02))


@pytest.mark.parametrize(
    "cards",
    [
        {"ROTATANG": -999.0},
        {"ROTATANG": "unknown"},
        {"ROTATOR": "Falcon"},
        {"FOCALLEN": 0},
        {"TELESCOP": "  "},
        {"TELESCOP": "unknown"},
        {"OBJCTROT": 30.0},
        {"CROTA2": 30.0},
        {"ROTPPOSN": 30.0},
    ],
)
def test_what_says_nothing_is_not_recorded_and_the_frame_stays_usable(cards: dict[str, object]) -> None:
    found = metadata_from_header(header_of(**cards), width=8, height=6, path="x.fits")
    assert (found.optics, found.unreadable) == (Optics(), ())


# --- two light paths ---


@pytest.mark.parametrize(
    ("a_deg", "b_deg", "fits"),
    [
        *((10, 10, True), (10, 11, True), (10, 11.1, False), (359.6, 0.2, True), (0.2, 359.6, True)),
        *((359, 1, False), (10, 190, False), (10, 100, False), (0, 180, False)),
    ],
)
def test_angles_are_compared_on_the_circle(a_deg: float, b_deg: float, *, fits: bool) -> None:
    for word in ("rotator_deg", "sky_angle_deg"):
        said = optics_differ(Optics(**{word: float(a_deg)}), Optics(**{word: float(b_deg)}))
        assert (said == "") is fits
        assert fits or f"{a_deg:g} deg against {b_deg:g} deg" in said


def test_an_angle_of_the_rotator_is_not_compared_with_one_on_the_sky() -> None:
    assert not optics_differ(Optics(rotator_deg=10.0), Optics(sky_angle_deg=200.0))
    assert not optics_differ(Optics(rotator_deg=10.0), Optics())


def test_telescopes_and_focal_lengths_are_compared() -> None:
    assert not optics_differ(Optics(telescope="Esprit 100ED"), Optics(telescope="ESPRIT-100 ED"))
    said = optics_differ(Optics(telescope="Esprit 100ED"), Optics(telescope="RC8"))
    assert said == "telescope Esprit 100ED against RC8"
    assert not optics_differ(Optics(focal_length_mm=550.0), Optics(focal_length_mm=548.1))
    assert "550 mm against 412 mm" in optics_differ(Optics(focal_length_mm=550.0), Optics(focal_length_mm=412.0))
    assert not optics_differ(Optics(telescope="RC8"), Optics())


# --- groups ---


def test_flats_of_two_angles_are_two_groups_and_their_names_say_which() -> None:
    groups = group_frames(frames(FrameType.FLAT, *turned(45.0, 135.0)), RULES).groups
    assert [group.key.optics.rotator_deg for group in groups] == [45.0, 135.0]
    names = master_names([group.key for group in groups], EVENING)
    assert [name.split("_")[3] for name in names] == ["rot45", "rot135"]


def test_half_a_circle_parts_flats() -> None:
    assert sizes(frames(FrameType.FLAT, *turned(45.0, 225.0))) == [3, 3]


def test_an_angle_near_north_is_one_whatever_the_order() -> None:
    for order in permutations([359.7, 0.0, 0.4]):
        (group,) = group_frames(frames(FrameType.FLAT, *turned(*order), n=1), RULES).groups
        assert (len(group.frames), group.key.optics.rotator_deg) == (3, 0.0)


def test_an_encoder_that_jitters_does_not_part_flats() -> None:
    jitter = [120 + 0.03 * (-1) ** i * i for i in range(9)]
    assert sizes(frames(FrameType.FLAT, *turned(*jitter), n=1)) == [9]


def test_a_flip_of_the_mount_parts_no_flats_with_a_rotator() -> None:
    flipped = [Optics(rotator_deg=45.0, sky_angle_deg=angle) for angle in (100.0, 280.0)]
    (group,) = group_frames(frames(FrameType.FLAT, *flipped), RULES).groups
    assert group.key.optics == Optics(rotator_deg=45.0)


def test_flats_that_record_an_angle_are_apart_from_those_that_do_not() -> None:
    assert sizes(frames(FrameType.FLAT, Optics(rotator_deg=45.0), Optics(), n=4)) == [4, 4]


def test_telescopes_and_reducers_part_flats() -> None:
    paths = [Optics(telescope=name, focal_length_mm=mm) for name, mm in (("A", 550.0), ("A", 412.0), ("B", 550.0))]
    assert sizes(frames(FrameType.FLAT, *paths)) == [3, 3, 3]
    spelled = [Optics(telescope="esprit-100ed", focal_length_mm=mm) for mm in (550.0, 549.2)]
    (group,) = group_frames(frames(FrameType.FLAT, *spelled), RULES).groups
    assert group.key.optics == Optics(telescope="esprit-100ed", focal_length_mm=549.6)


@pytest.mark.parametrize("kind", [FrameType.DARK, FrameType.BIAS])
def test_bias_and_darks_see_no_telescope(kind: FrameType) -> None:
    paths = [Optics(telescope="A", rotator_deg=10.0), Optics(telescope="B", rotator_deg=200.0)]
    (group,) = group_frames(frames(kind, *paths), RULES).groups
    assert group.key.optics == Optics()
