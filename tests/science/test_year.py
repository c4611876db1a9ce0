"""A year of 52 sessions: every light gets what an oracle chooses, which knows the year and nothing of the program.

Dust drifts over the sensor, a filter is exchanged, the camera is turned, a week is too warm for the cooler, and one set
of darks is spoilt. Every other session has no flats, and darks are taken every fourth session alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier, MasterFrameCreator, Status
from support.fits_samples import read_with_astropy, write_frame

SHAPE = (24, 40)
SESSIONS = range(52)
FIRST = datetime(2026, 1, 7, tzinfo=UTC)
N_FRAMES, N_SPOILT = 3, 4  # half of the spoilt ones are 400 ADU higher
BIAS, RATE, FLAT_ADU, SKY_ADU = 1000.0, 2.0, 20000.0, 3000.0
FILTER_CHANGE, ROTATION, WARM, SPOILT = 20, 30, (26, 27), 8


def evening(session: int, hours: float = 0.0) -> datetime:
    """Return the time of a session, some hours after 18:00 UTC."""
    return FIRST + timedelta(days=7 * session, hours=18 + hours)


def filters(session: int) -> tuple[str, str]:
    return ("L", "R") if session < FILTER_CHANGE else ("L", "Ha")


def angle(session: int) -> float:
    return 12.0 if session < ROTATION else 102.0


def temperature(session: int) -> float:
    return -5.0 if session in WARM else -10.0


def has_flats(session: int) -> bool:
    return session % 2 == 0


def has_darks(session: int) -> bool:
    return session % 4 == 0 or session == WARM[1]


def dust(session: int) -> NDArray[np.float64]:
    """Return the light of a session: a shadow of 30 % that moves by a column each week."""
    columns = np.arange(SHAPE[1])
    shadow = 1 - 0.3 * np.exp(-((columns - 3 - session * 0.65) ** 2) / 4)
    return np.broadcast_to(shadow if session < ROTATION else shadow[::-1], SHAPE)


def dark_rate(session: int) -> NDArray[np.float64]:
    """Return the dark current, ADU/s: it doubles in 5 degrees, and grows along the rows."""
    glow = np.linspace(0.5, 1.5, SHAPE[0])[:, None]
    return np.broadcast_to(RATE * glow * 2 ** ((temperature(session) + 10) / 5), SHAPE)


# --- the oracle: from the truth of the year alone ---


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Sessions whose masters a light should take, and how many days before it they were taken."""

    flat: int
    dark: int
    flat_days: float
    dark_days: float
    bias_days: float


def nearest(light_at: datetime, sessions: list[int], hours: float, series_s: float) -> tuple[int, float]:
    """Return the session whose series was taken nearest to a light, and its age in days."""
    ages = {
        session: (light_at - evening(session, hours)).total_seconds() / 86400 - series_s / 2 / 86400
        for session in sessions
    }
    session = min(ages, key=lambda one: abs(ages[one]))
    return session, ages[session]


def oracle(session: int, name: str, light_at: datetime) -> Chosen:
    flats = [s for s in SESSIONS if has_flats(s) and name in filters(s) and angle(s) == angle(session)]
    darks = [s for s in SESSIONS if has_darks(s) and s != SPOILT and temperature(s) == temperature(session)]
    biases = [s for s in SESSIONS if has_darks(s) and temperature(s) == temperature(session)]
    flat, flat_days = nearest(light_at, flats, 0.0 if name == "L" else 0.5, 2 * 4.0 + 1.0)
    dark, dark_days = nearest(light_at, darks, 8.0, 2 * 63.0 + 60.0)
    _, bias_days = nearest(light_at, biases, 7.5, 2 * 3.0)
    return Chosen(flat=flat, dark=dark, flat_days=flat_days, dark_days=dark_days, bias_days=bias_days)


# --- the frames of the year ---


def write_series(
    folder: Path, kind: str, image: NDArray[np.float64], exposure_s: float, start: datetime, **cards: Any
) -> None:
    """Write the frames of a series, three seconds apart, with the noise of read-out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(start.timestamp()))
    for index in range(N_SPOILT if cards.get("SPOILT") else N_FRAMES):
        at = start + timedelta(seconds=index * (exposure_s + 3))
        spoilt = 400.0 if cards.get("SPOILT") and index % 2 else 0.0
        frame = np.clip(np.rint(image + spoilt + rng.normal(0, 3, SHAPE)), 0, 65535).astype(np.uint16)
        own = {key: value for key, value in cards.items() if key != "SPOILT"}
        values = {"IMAGETYP": kind, "EXPTIME": exposure_s, "DATE_OBS": at.isoformat()[:-6], "INSTRUME": "Year"}
        stem = f"{kind.split()[0].lower()}_{cards.get('FILTER', '')}{exposure_s:g}_{index}.fits"
        write_frame(folder / stem, frame, **values, **{"GAIN": 100, "OFFSET": 30, **own})


def write_year(root: Path) -> None:
    for session in SESSIONS:
        cold = {"SET_TEMP": temperature(session), "CCD_TEMP": temperature(session)}
        folder = root / "raw" / f"{session:02d}"
        turned = {"ROTATANG": angle(session), "SITELONG": 11.6}
        for number, name in enumerate(filters(session)):
            if has_flats(session):
                image = BIAS + dark_rate(session) + FLAT_ADU * dust(session)
                write_series(
                    folder / name,
                    "Flat Frame",
                    image,
                    1.0,
                    evening(session, 0.5 * number),
                    FILTER=name,
                    **cold,
                    **turned,
                )
        if has_darks(session):
            image = BIAS + 60 * dark_rate(session)
            spoilt = {"SPOILT": True} if session == SPOILT else {}
            write_series(
                folder / "dark", "Dark Frame", image, 60.0, evening(session, 8), **cold, **spoilt, SITELONG=11.6
            )
            write_series(
                folder / "bias", "Bias Frame", np.full(SHAPE, BIAS), 0.0, evening(session, 7.5), **cold, SITELONG=11.6
            )


def write_lights(root: Path) -> Iterator[tuple[Path, int, str, datetime]]:
    """Write a light of each filter and session; give its path, session, filter and time."""
    for session in SESSIONS:
        for number, name in enumerate(filters(session)):
            at = evening(session, 2 + number)
            image = BIAS + 60 * dark_rate(session) + SKY_ADU * dust(session)
            path = root / "lights" / f"light_{session:02d}_{name}.fits"
            path.parent.mkdir(exist_ok=True)
            write_frame(
                path,
                image.astype(np.float32),
                IMAGETYP="Light Frame",
                EXPTIME=60.0,
                DATE_OBS=at.isoformat()[:-6],
                INSTRUME="Year",
                GAIN=100,
                OFFSET=30,
                FILTER=name,
                SET_TEMP=temperature(session),
                CCD_TEMP=temperature(session),
                ROTATANG=angle(session),
                SITELONG=11.6,
            )
            yield path, session, name, at


@cache
def session_of_master(path: Path) -> int:
    """Return the session of the frames that a master names in its HISTORY."""
    _, header = read_with_astropy(path)
    return int("".join(str(line) for line in header["HISTORY"]).partition("raw/")[2][:2])


@dataclass(frozen=True, kw_only=True)
class Year:
    """The year with its masters and calibrated lights."""

    root: Path
    lights: tuple[tuple[Path, int, str, datetime], ...]
    status: Status

    def calibrated(self, light: Path) -> tuple[NDArray[np.float32], Any]:
        return read_with_astropy(self.root / "cal" / f"{light.stem}_cal.fits")

    def session_of(self, header: Any, prefix: str) -> int:
        """Return the session of a master that a header names."""
        return session_of_master(self.root / "masters" / f"{header[f'{prefix}NAME']}.fits")


def config(root: Path, raw: Path, **keys: Any) -> dict[str, Any]:
    return {
        "dark_capture": {"output_dir": str(raw)},
        "flat_capture": {"output_dir": str(raw)},
        "master_frames": {"output_dir": str(root / "masters"), "per_session": True, **keys},
        "quality": {"report": False},
        "compute": {"workers": 2},
    }


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    root = tmp_path_factory.mktemp("year")
    write_year(root)
    lights = tuple(write_lights(root))
    made = MasterFrameCreator(config(root, root / "raw")).create_all_master_frames()
    assert len(made.data["flat"]) == 2 * sum(map(has_flats, SESSIONS)), made.details
    # an old session is made again, last of all: it must not matter
    again = MasterFrameCreator(config(root, root / "raw" / "00", only_changed=False)).create_all_master_frames()
    assert len(again.data["flat"]) == 2, again.details
    status = CalibrationApplier(config(root, root / "raw")).calibrate_files([path for path, *_ in lights], root / "cal")
    return Year(root=root, lights=lights, status=status)


def test_every_light_is_calibrated(year: Year) -> None:
    assert not year.status.is_error, year.status.details["errors"][:3]
    assert len(year.status.data["calibrated"]) == len(year.lights) == 2 * len(SESSIONS)


def test_every_light_takes_the_masters_that_the_oracle_chooses(year: Year) -> None:
    wrong = []
    for path, session, name, at in year.lights:
        _, header = year.calibrated(path)
        wanted = oracle(session, name, at)
        found = year.session_of(header, "FLAT"), year.session_of(header, "DARK")
        if found != (wanted.flat, wanted.dark):
            wrong.append((path.name, found, wanted))
    assert not wrong


def test_all_ages_in_headers_are_right(year: Year) -> None:
    for path, session, name, at in year.lights:
        _, header = year.calibrated(path)
        wanted = oracle(session, name, at)
        ages = header["AGEFLAT"], header["AGEDARK"], header["AGEBIAS"]
        assert ages == pytest.approx((wanted.flat_days, wanted.dark_days, wanted.bias_days), abs=2e-4), path.name


def test_the_dust_is_gone_where_the_session_has_flats(year: Year) -> None:
    """Pixels, not names: with the flat of another week 0.7 and 1.4 stand where 1.0 is right."""
    for path, session, _, _ in year.lights:
        values, _ = year.calibrated(path)
        ratio = values / np.median(values)
        if has_flats(session):
            assert np.abs(ratio - 1).max() < 0.02, path.name
        else:
            assert np.abs(ratio - 1).max() > 0.02, path.name


def test_the_warm_week_has_darks_of_its_own_and_the_spoilt_set_is_passed_by(year: Year) -> None:
    darks = {
        (session, name): year.session_of(year.calibrated(path)[1], "DARK") for path, session, name, _ in year.lights
    }
    assert {darks[session, "L"] for session in WARM} == {WARM[1]}
    assert darks[SPOILT, "L"] in (4, 12)
    assert SPOILT not in darks.values()


def test_the_spoilt_set_is_not_taken_where_failed_masters_are_allowed(year: Year) -> None:
    """Its master is at neither of its two levels; other failures may be a matter of taste."""
    ((light, at),) = ((path, at) for path, session, name, at in year.lights if (session, name) == (SPOILT, "L"))
    applier = CalibrationApplier(config(year.root, year.root / "raw"))
    dark = applier.find_masters(light, allow_failed=True).dark
    assert dark is not None
    sessions = [session_of_master(year.root / "masters" / f"{part.master.record.name}.fits") for part in dark.parts]
    assert sessions == [oracle(SPOILT, "L", at).dark]
