"""Clocks that cannot be right: the future, times that go back, and nights at the far side of the Earth."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.clocks import clock_jumps, in_the_future, is_ahead
from ostcal.inputs.grouping import Frame, GroupRules, group_frames

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
START = datetime(2026, 1, 10, 18, tzinfo=UTC)


def frame(label: str, when: datetime | None, **metadata: object) -> Frame:
    values = {"frame_type": FrameType.BIAS, "exposure_time_s": 0.0, "width": 8, "height": 6} | metadata
    return Frame(
        label=label,
        metadata=FrameMetadata(date_obs=when, settings=CameraSettings(camera="C"), **values),  # type: ignore[arg-type]
    )


def minutes(*numbers: float, stem: str = "night/bias_{:04d}.fits") -> list[Frame]:
    return [frame(stem.format(i), START + timedelta(minutes=number)) for i, number in enumerate(numbers, 1)]


# --- the future ---


def test_a_day_ahead_may_be_a_zone_and_more_may_not() -> None:
    assert not is_ahead(NOW + timedelta(hours=24), NOW)
    assert is_ahead(NOW + timedelta(hours=24, seconds=1), NOW)
    assert not is_ahead(None, NOW)


def test_frames_of_the_future_are_one_line_of_their_group() -> None:
    wrong = [frame(f"bias_{i}.fits", NOW + timedelta(days=3650, minutes=i)) for i in range(4)]
    groups = group_frames([*wrong, *minutes(*range(5))], GroupRules()).groups
    assert len(groups) == 2
    (line,) = in_the_future(groups, NOW)
    assert "all taken in the future (DATE-OBS up to 2036-11-18, such as bias_0.fits)" in line
    assert in_the_future(groups, NOW + timedelta(days=4000)) == []


# --- jumps ---


def test_times_in_the_order_of_the_numbers_are_not_said() -> None:
    found = minutes(*range(12), 300, 301, 4000)
    assert clock_jumps(Random(3).sample(found, len(found))) == []


def test_one_frame_days_apart_from_its_neighbours_is_said() -> None:
    (line,) = clock_jumps(minutes(0, 1, 2, 3 + 3 * 1440, 4, 5, 6))
    assert line.startswith("night/bias_0004.fits: its time (DATE-OBS) is 3 days from that of bias_000")
    assert "the other 6 are in order" in line
    (line,) = clock_jumps(minutes(0, 1, 2, 3 - 5 * 1440, 4, 5, 6))
    assert line.startswith("night/bias_0004.fits: its time (DATE-OBS) is 5 days from")


def test_a_clock_that_is_put_back_is_said_where_it_was() -> None:
    (line,) = clock_jumps(minutes(0, 10, 20, 30, -20, -10, 0, 10))
    assert line.startswith("night/bias_0005.fits: its time (DATE-OBS) is 50 min before that of bias_0004.fits")


def test_frames_of_a_zarr_series_are_in_the_order_of_their_index() -> None:
    (line,) = clock_jumps(minutes(0, 1, 2, 3, -60, 5, stem="darks/exp_5.000s.zarr#{}"))
    assert line.startswith("darks/exp_5.000s.zarr#5: its time (DATE-OBS) is 63 min from that of exp_5.000s.zarr#")


@pytest.mark.parametrize(
    "found",
    [
        minutes(5, 3, 1, 4, 2, 0, 6),  # an order of its own
        minutes(1, 1.0 - 1 / 60, 1, 2),  # a clock that is put right by a second
        [*minutes(0, 1, 2), *minutes(-3, -2, -1, stem="other/bias_{:04d}.fits")],
        [*minutes(0, 1, 2), *minutes(-3, -2, -1, stem="night/bias_b_{:04d}.fits")],
        [frame(f"Capture_18_0{i // 4}_{15 * (i % 4):02d}.fits", START + timedelta(seconds=15 * i)) for i in range(9)],
        [frame(f"bias_{t}s.fits", START - timedelta(minutes=t)) for t in (1, 60, 600)],
        [frame(name, START - timedelta(minutes=i)) for i, name in enumerate(("a.fits", "b.fits", "c.fits"))],
    ],
)
def test_names_that_say_nothing_of_time_are_not_held_against_clocks(found: list[Frame]) -> None:
    assert clock_jumps(found) == []


def test_other_exposures_and_filters_are_series_of_their_own() -> None:
    reds = [
        frame(f"f_{i}.fits", START + timedelta(minutes=i), frame_type=FrameType.FLAT, filter_name="R") for i in range(4)
    ]
    blues = [
        frame(f"f_{i}.fits", START - timedelta(minutes=20 - i), frame_type=FrameType.FLAT, filter_name="B")
        for i in range(4, 8)
    ]
    assert clock_jumps([*reds, *blues]) == []


def test_undated_frames_are_passed_over() -> None:
    found = minutes(0, 1, 2, 3)
    found[2] = frame(found[2].label, None)
    assert clock_jumps(found) == []


# --- nights by local noon ---


@pytest.mark.parametrize("longitude_deg", [-180.0, -179.9, -155.5, -90.0, 0.0, 90.0, 149.1, 179.9, 180.0])
def test_nights_are_from_local_noon_to_noon_at_every_longitude(longitude_deg: float) -> None:
    """Flats of dusk and dawn of a night are one session, and those of the next dusk another one."""
    noon_utc = datetime(2026, 1, 10, 12, tzinfo=UTC) - timedelta(hours=longitude_deg / 15)

    def flats(hours_from_noon: float) -> list[Frame]:
        return [
            frame(
                f"{hours_from_noon}_{i}.fits",
                noon_utc + timedelta(hours=hours_from_noon, minutes=i),
                frame_type=FrameType.FLAT,
                exposure_time_s=2.0,
                longitude_deg=longitude_deg,
            )
            for i in range(4)
        ]

    groups = group_frames(
        [*flats(0.2), *flats(7), *flats(17), *flats(23.8), *flats(24.2), *flats(31)], GroupRules()
    ).groups
    assert [len(group.frames) for group in groups] == [16, 8]
    first, second = (group.key.night for group in groups)
    assert first is not None
    assert second is not None
    assert second - first == timedelta(days=1)
    evening_utc = noon_utc + timedelta(hours=6)
    assert first == date(evening_utc.year, evening_utc.month, evening_utc.day)
