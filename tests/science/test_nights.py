"""The night of a science frame is cut at the same noon as those of the masters, wherever the observatory is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ostcal import CalibrationApplier
from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.group_names import series_names
from ostcal.inputs.grouping import Frame, Group, GroupRules, group_frames
from ostcal.library.attributes import record_from_attributes
from ostcal.library.find import find_masters
from ostcal.library.store import MasterStore
from ostcal.naming import night_of, noon_at, quiet_noon
from support import night as n
from support.night import Night

FIRST, SECOND = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)


def at(day: datetime, text: str) -> datetime:
    """Return a moment of a day, ``10:30``; hours from 24 on are those of the next day."""
    hours, minutes = text.split(":")
    return day + timedelta(hours=int(hours), minutes=int(minutes))


def write_evening(night: Night, day: datetime, flats: str, darks: tuple[str, ...], **cards: object) -> None:
    """Write flats from a time on, and a dark at each of some times."""
    name = f"{day:%d}"
    levels = (20000, 21000, 19500)
    n.write_frames(
        night.flats / name, n.flat_frames(1.0, levels), "Flat Frame", 1.0, start=at(day, flats), FILTER="L", **cards
    )
    for number, (text, frame) in enumerate(zip(darks, n.dark_frames(1.0, len(darks)), strict=True)):
        n.write_frames(night.darks / f"{name}_{number}", frame[None], "Dark Frame", 1.0, start=at(day, text), **cards)


def flat_night(night: Night, taken: datetime, **cards: object) -> date | None:
    """Return the night of the flat that a light frame of this time takes."""
    folder = night.root / f"lights_{taken:%d%H%M}"
    (path,) = n.write_frames(folder, n.flat_frames(1.0, (9000,)), "Light Frame", 1.0, start=taken, FILTER="L", **cards)
    flat = CalibrationApplier(night.config()).find_masters(path).flat
    assert flat is not None
    return flat.key.night


def test_a_light_of_an_evening_in_sydney_takes_the_flat_of_that_evening(tmp_path: Path) -> None:
    """12:00 UTC is 23:00 in Sydney: a light of 21:30 local was given the flat of the evening before."""
    night = Night(tmp_path)
    for day in (FIRST, SECOND):
        write_evening(night, day, "09:15", ("10:00", "13:00", "16:30"))
    assert not night.run(per_session=True).is_error
    assert flat_night(night, at(SECOND, "10:30")) == date(2026, 11, 21)
    assert flat_night(night, at(SECOND, "13:30")) == date(2026, 11, 21)
    assert flat_night(night, at(SECOND, "17:00")) == date(2026, 11, 21)
    assert flat_night(night, at(FIRST, "10:30")) == flat_night(night, at(FIRST, "18:00")) == date(2026, 11, 20)


def test_the_longitude_in_the_headers_gives_noon_where_the_frames_leave_it_open(tmp_path: Path) -> None:
    """Dusk flats at 09:15 and darks at 17:00 UTC leave 12:00 UTC quiet, which is the middle of the night there."""
    night = Night(tmp_path)
    for day in (FIRST, SECOND):
        write_evening(night, day, "09:15", ("17:00", "17:10", "17:20"), SITELONG="151 12 27")
    assert not night.run(per_session=True).is_error
    nights = {(m.key.frame_type, m.key.night) for m in find_masters(str(night.masters))}
    assert nights == {(kind, day.date()) for kind in (FrameType.DARK, FrameType.FLAT) for day in (FIRST, SECOND)}
    assert flat_night(night, at(SECOND, "10:30")) == date(2026, 11, 21)
    assert flat_night(night, at(SECOND, "16:00"), SITELONG=151.2) == date(2026, 11, 21)


def test_flats_of_a_later_run_are_given_the_noon_of_the_masters_before(tmp_path: Path) -> None:
    """Darks at 12:30 UTC are made first; flats at 09:15 alone leave 12:00 quiet."""
    night = Night(tmp_path)
    for day in (FIRST, SECOND):
        write_evening(night, day, "09:15", ("10:00", "12:30", "16:30"))
    assert not night.run_darks(per_session=True).is_error
    shutil.rmtree(night.darks)
    night.darks.mkdir()
    assert not night.run_flats(per_session=True).is_error
    flats = {m.key.night for m in find_masters(str(night.masters)) if m.key.frame_type is FrameType.FLAT}
    assert flats == {FIRST.date(), SECOND.date()}
    assert flat_night(night, at(SECOND, "12:30")) == date(2026, 11, 21)


def test_a_master_keeps_its_noon_and_older_stores_have_none(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day in (FIRST, SECOND):
        write_evening(night, day, "09:15", ("10:00", "13:00", "16:30"))
    night.run(per_session=True)
    store = MasterStore(night.masters / "masters.zarr")
    name = next(name for name in store.names() if "flat" in name)
    attributes = store.attributes(name)
    assert record_from_attributes(name, attributes).key.noon_utc_s == attributes["noon_utc_s"]
    assert attributes["noon_utc_s"] == pytest.approx(3165, abs=60)  # the middle of 16:30 to 09:15
    del attributes["noon_utc_s"]
    assert record_from_attributes(name, attributes).key.noon_utc_s is None


@pytest.mark.parametrize("noon", ["noon", float("nan"), -1.0, 86401.0, [1.0]])
def test_a_damaged_noon_is_a_damaged_master(tmp_path: Path, noon: object) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 1.0)
    night.run_darks()
    store = MasterStore(night.masters / "masters.zarr")
    (name,) = store.names()
    with pytest.raises(Exception, match="its attributes are damaged"):
        record_from_attributes(name, store.attributes(name) | {"noon_utc_s": noon})


# --- the noon of a run ---

LONGITUDES = {"Hawaii": -155.5, "La Palma": -17.9, "Greenwich": 0.0, "Sydney": 151.2, "Fiji": 178.0, "Samoa": -172.0}


def frames_at(*moments: datetime, longitude_deg: float | None = None) -> list[Frame]:
    metadata = FrameMetadata(
        frame_type=FrameType.DARK, exposure_time_s=5.0, width=9, height=9, longitude_deg=longitude_deg
    )
    return [Frame(label=str(when), metadata=replace(metadata, date_obs=when)) for when in moments]


def groups_of(frames: list[Frame]) -> tuple[Group, ...]:
    return group_frames(frames, GroupRules(min_frames=1, per_session=True)).groups


@pytest.mark.parametrize("site", LONGITUDES)
@pytest.mark.parametrize("hours", [(-6, 5), (-11, 11), (-1, 1)])
def test_a_night_is_whole_at_every_longitude(site: str, hours: tuple[int, int]) -> None:
    longitude_deg = LONGITUDES[site]
    midnight = datetime(2026, 11, 21, tzinfo=UTC) - timedelta(hours=longitude_deg / 15)
    nights = [midnight, midnight + timedelta(days=1)]
    moments = [start + timedelta(hours=hour) for start in nights for hour in hours]
    groups = groups_of(frames_at(*moments, longitude_deg=longitude_deg))
    assert [len(group.frames) for group in groups] == [2, 2]
    first, second = (group.key.night for group in groups)
    assert first is not None
    assert second == first + timedelta(days=1)
    light = moments[0] + timedelta(minutes=30)
    assert night_of(light, groups[0].key.noon_utc_s or 0.0) == first


def test_frames_that_record_no_longitude_take_that_of_the_run() -> None:
    dusk, dawn = at(SECOND, "09:15"), at(SECOND, "18:30")
    assert [group.key.night for group in groups_of(frames_at(dusk, dawn))] == [date(2026, 11, 20), date(2026, 11, 21)]
    with_site = frames_at(dusk, longitude_deg=151.2) + frames_at(dawn)
    assert [group.key.night for group in groups_of(with_site)] == [date(2026, 11, 21)]


def test_two_sites_in_one_run_have_each_their_noon() -> None:
    sydney = frames_at(at(SECOND, "09:15"), at(SECOND, "18:30"), longitude_deg=151.2)
    hawaii = frames_at(at(SECOND, "05:00"), at(SECOND, "15:00"), longitude_deg=-155.5)
    assert [len(group.frames) for group in groups_of(sydney + hawaii)] == [4]


def test_a_single_frame_and_old_dates_have_a_night() -> None:
    (alone,) = groups_of(frames_at(at(SECOND, "12:00")))
    assert alone.key.night == date(2026, 11, 21)
    (old,) = groups_of(frames_at(datetime(1893, 4, 1, 20, tzinfo=UTC)))
    assert old.key.night == date(1893, 4, 1)
    (undated_time,) = groups_of(frames_at(datetime(2026, 11, 21, tzinfo=UTC)))
    assert undated_time.key.night == date(2026, 11, 20)
    assert night_of(None) is None
    assert night_of(datetime(1, 1, 1, tzinfo=UTC)) == date(1, 1, 1)


def test_noon_follows_the_longitude() -> None:
    assert [noon_at(d) / 3600 for d in (0, 15, -15, 180, -180)] == [12, 11, 13, 0, 0]
    assert quiet_noon([]) == 43200.0


def test_imported_twilight_flats_are_named_after_the_noon_of_their_run() -> None:
    """From 10:30 to 11:15 UTC in Sydney: one evening, which 12:00 UTC would give to the day before."""
    metadata = FrameMetadata(frame_type=FrameType.FLAT, exposure_time_s=1.0, width=9, height=9)
    flats = [
        Frame(
            label=str(i),
            metadata=replace(
                metadata, exposure_time_s=1.0 + i, date_obs=at(SECOND, "10:30") + timedelta(minutes=9 * i)
            ),
        )
        for i in range(6)
    ]
    for per_session in (False, True):
        groups = group_frames(flats, GroupRules(per_session=per_session)).groups
        assert series_names(groups) == ["twilight_20261121"]
