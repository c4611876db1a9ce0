"""Lights take the flats of their own night although others have clocks that were wrong: the truth is in the pixels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

NIGHT = datetime(2026, 6, 10, 20, tzinfo=UTC)


def shadow(column: int) -> NDArray[np.float64]:
    """Return dust that takes 30 % of the light at a column."""
    return 1 - 0.3 * (np.abs(np.arange(n.SHAPE[1]) - column) < 3) * np.ones(n.SHAPE)


def write_flats(night: Night, name: str, column: int, start: datetime, **cards: Any) -> None:
    frames = [
        n.samples(1, 1000 + adu * shadow(column), noise=50, seed=adu + column) for adu in (20000, 20500, 21000, 19800)
    ]
    stack = np.concatenate(frames)
    n.write_frames(night.flats / name, stack, "Flat Frame", 2.0, stem=name, start=start, FILTER="L", **cards)


def calibrated(night: Night, *, start: datetime = NIGHT, **cards: Any) -> tuple[float, list[str]]:
    """Calibrate a light with dust at column 6; return its level there against that at column 20, and what is said."""
    light = n.samples(1, 1000 + 8000 * shadow(6), noise=5, seed=77)
    folder = night.root / f"lights_{len(cards)}"
    (path,) = n.write_frames(folder, light, "Light Frame", 2.0, start=start, FILTER="L", **cards)
    status = CalibrationApplier(night.config()).calibrate_files([path], night.root / "out", overwrite=True)
    assert not status.is_error, status.message
    (file,) = (night.root / "out").glob("*.fits")
    image, _ = read_with_astropy(file)
    return float(np.median(image[:, 5:8]) / np.median(image[:, 19:22])), status.details["warnings"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (datetime.now(UTC) + timedelta(days=3650), "4 frames: all taken in the future"),
        (datetime(1970, 1, 1, tzinfo=UTC), "DATE-OBS is of 1970-01-01, as of a clock that was never set"),
        (datetime(2000, 1, 1, 0, 5, tzinfo=UTC), "DATE-OBS is of 2000-01-01, as of a clock that was never set"),
    ],
)
def test_flats_of_a_wrong_clock_do_not_displace_those_of_the_night(tmp_path: Path, wrong: datetime, said: str) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 2.0, n.bias_frames(seed=5))
    write_flats(night, "true", 6, NIGHT - timedelta(days=20))
    write_flats(night, "wrong", 20, wrong)
    status = night.run()
    assert len(status.data["flat"]) == 2
    assert [line for line in status.details["warnings"] if said in line]
    assert calibrated(night)[0] == pytest.approx(1, abs=0.01)
    assert calibrated(night, DATE_OBS=None)[0] == pytest.approx(1, abs=0.01)


def test_a_light_of_a_clock_that_was_never_set_takes_the_newest_flats_and_it_is_said(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 2.0, n.bias_frames(seed=5))
    write_flats(night, "old", 20, NIGHT - timedelta(days=40))
    write_flats(night, "new", 6, NIGHT - timedelta(days=2))
    assert not night.run().is_error
    level, said = calibrated(night, start=datetime(1970, 1, 1, tzinfo=UTC))
    assert level == pytest.approx(1, abs=0.01)
    assert [line for line in said if "as of a clock that was never set: it counts as without a date" in line]


def test_flats_of_two_local_nights_with_local_dates_are_two_masters(tmp_path: Path) -> None:
    """Local dates without a zone, 12 hours ahead of DATE-UTC: each light takes the flat of its own night."""
    night = Night(tmp_path)
    n.write_darks(night, 2.0, n.bias_frames(seed=5))
    zone = timedelta(hours=12)
    for column, day in ((6, 0), (20, 1)):
        start = NIGHT + timedelta(days=day)
        utc = start.isoformat(timespec="milliseconds")[:-6]
        write_flats(night, f"of_{day}", column, start + zone, DATE_UTC=utc, SITELONG=179.5, SITELAT=-40.0)
    status = night.run()
    assert len(status.data["flat"]) == 2
    assert [line for line in status.details["warnings"] if "DATE-OBS is +12 h from DATE-UTC" in line]
    assert calibrated(night, start=NIGHT + timedelta(hours=3))[0] == pytest.approx(1, abs=0.01)


def test_undated_bias_combined_with_dated_ones_is_one_line_with_the_number(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    n.write_frames(night.darks / "undated", n.bias_frames(3, seed=9), "Bias Frame", 0.001, DATE_OBS=None)
    said = night.run_darks().details["warnings"]
    (line,) = (line for line in said if "without a date" in line)
    assert "10 frames: 3 of them without a date (DATE-OBS), combined with the 7 that have one" in line


def test_a_clock_that_jumps_in_a_series_is_said(tmp_path: Path) -> None:
    night = Night(tmp_path)
    paths = n.write_frames(night.darks / "bias", n.bias_frames(8), "Bias Frame", 0.001)
    odd = n.bias_frames(1, seed=44)
    paths[4].unlink()
    n.write_frames(night.darks / "bias" / "odd", odd, "Bias Frame", 0.001, start=n.START + timedelta(days=4))
    (night.darks / "bias" / "odd" / "bias_000.fits").rename(paths[4])
    said = night.run_darks().details["warnings"]
    assert [line for line in said if line.startswith(f"{paths[4]}: its time (DATE-OBS) is 4 days from")]
