"""Nights end at local noon of the site, in every command, although no header says the longitude."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import MasterFrameCreator, Status
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

NIGHTS = 3
DUSK_H, DAWN_H = 18, 30
"""Local hours after midnight of the day on which a night begins."""


def pattern(night: int) -> Any:
    """Return the light of a night: the camera is turned between nights."""
    y, x = np.mgrid[: n.SHAPE[0], : n.SHAPE[1]]
    slope = ((x / n.SHAPE[1]) - 0.5, (y / n.SHAPE[0]) - 0.5, 0.5 - (x / n.SHAPE[1]))[night]
    return 1 + 0.3 * slope


def utc(night: int, local_h: float, longitude_deg: float) -> datetime:
    return datetime(2026, 3, 10 + night, tzinfo=UTC) + timedelta(hours=local_h - longitude_deg / 15)


def write_nights(night: Night, longitude_deg: float, *hours: float) -> None:
    """Write flats of three nights, at hours of local time, and the bias of the first."""
    n.write_frames(night.darks, n.bias_frames(), "Bias Frame", 0.0, start=utc(0, 20, longitude_deg))
    for number in range(NIGHTS):
        for hour in hours:
            light = 1000 + 20000 * pattern(number)
            stack = n.samples(5, light, noise=70, seed=round(10 * hour) + number)
            start, stem = utc(number, hour, longitude_deg), f"f{number}_{hour:g}"
            n.write_frames(night.flats, stack, "Flat Frame", 1.0, stem=stem, start=start, FILTER="R")


def config(night: Night, site: dict[str, float] | None) -> dict[str, Any]:
    return night.config() | ({"site": site} if site is not None else {})


def make(night: Night, site: dict[str, float] | None) -> Status:
    return MasterFrameCreator(config(night, site)).create_all_master_frames()


def doubts(status: Status) -> list[str]:
    return [line for line in status.details["warnings"] if "site.longitude" in line]


@pytest.mark.parametrize("longitude", [-155.0, -150.0, 0.0, 150.0, 175.0])
def test_evening_and_morning_of_a_night_are_one_session(tmp_path: Path, longitude: float) -> None:
    night = Night(tmp_path)
    write_nights(night, longitude, DUSK_H, DAWN_H)
    site = {"latitude": -33.0, "longitude": longitude}
    status = make(night, site)
    assert not status.is_error
    assert doubts(status) == []
    assert len(status.data["flat"]) == NIGHTS
    flats = [(path, *read_with_astropy(path)) for path in status.data["flat"]]
    assert [header["NCOMBINE"] for _, _, header in flats] == [10] * NIGHTS
    for number, (_, image, _) in enumerate(sorted(flats, key=lambda flat: str(flat[0]))):
        assert np.abs(image / (pattern(number) / pattern(number).mean()) - 1).max() < 0.03
    lights = tmp_path / "lights"
    lights.mkdir()
    for number in range(NIGHTS):
        for hour in (DUSK_H + 1, DAWN_H - 1):
            light = n.samples(1, 1000 + 2000 * pattern(number), seed=number)[0]
            date = utc(number, hour, longitude).isoformat()[:-6]
            cards = {"IMAGETYP": "Light", "EXPTIME": 1.0, "DATE_OBS": date, "FILTER": "R", **n.CAMERA}
            write_frame(lights / f"l{number}_{hour}.fits", light, **cards)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config(night, site)), encoding="utf-8")
    outcome = n.ostcal("calibrate", lights, "--config", path, "--output-dir", tmp_path / "cal", "--dark", "none")
    assert outcome.exit_code == 0, outcome.text
    document = json.loads(n.ostcal("coverage", lights, "--config", path, "--json").stdout)
    assert {(group["night"], group["lights"]) for group in document["coverage"]["groups"]} == {
        (utc(number, DUSK_H, longitude).date().isoformat(), 2) for number in range(NIGHTS)
    }


def test_the_longitude_of_headers_goes_before_that_of_the_site(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 150.0, DUSK_H, DAWN_H)
    n.write_frames(
        night.flats,
        n.flat_frames(1.0, [20000] * 5),
        "Flat Frame",
        1.0,
        stem="own",
        start=utc(0, DUSK_H, 0.0),
        SITELONG=0.0,
        FILTER="V",
    )
    assert len(make(night, {"latitude": 0.0, "longitude": 150.0}).data["flat"]) == NIGHTS + 1


def test_where_nothing_tells_the_day_from_the_night_it_is_said_once(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 150.0, DUSK_H, DAWN_H)
    (line,) = doubts(make(night, None))
    assert "nights are taken to end at" in line


@pytest.mark.parametrize("hours", [(DUSK_H,), (DAWN_H,), (DUSK_H, DUSK_H + 1)])
def test_flats_of_evenings_alone_leave_no_doubt(tmp_path: Path, hours: tuple[float, ...]) -> None:
    night = Night(tmp_path)
    write_nights(night, 150.0, *hours)
    status = make(night, None)
    assert doubts(status) == []
    assert len(status.data["flat"]) == NIGHTS
