"""A light takes the flat of its session and the darks of its window, in masters and in calibrated frames."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ostcal import CalibrationApplier
from ostcal.library.find import find_masters
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

JANUARY = datetime(2026, 1, 10, 18, tzinfo=UTC)
JUNE = datetime(2026, 6, 10, 18, tzinfo=UTC)
LEVEL = {JANUARY: 1000, JUNE: 1400}


def write_light(night: Night, start: datetime, level: float) -> Path:
    frame, stem = n.samples(1, level + 500, seed=7), f"{start:%m%d%H}"
    (path,) = n.write_frames(night.root / "lights", frame, "Light Frame", 2.0, stem=stem, start=start, FILTER="L")
    return path


@pytest.mark.parametrize("hours", [26, -22])
def test_flats_and_lights_of_june_take_the_level_of_june(tmp_path: Path, hours: int) -> None:
    """The bias of June is 400 ADU higher: flats minus the other bias would be 2 % off, a light 400 ADU."""
    night = Night(tmp_path)
    vignetting = 1 - 0.5 * np.broadcast_to(np.arange(n.SHAPE[1]) / n.SHAPE[1], n.SHAPE)
    for start, level in LEVEL.items():
        bias = n.samples(8, level, seed=level)
        n.write_frames(night.darks / f"{start:%m}", bias, "Bias Frame", 0.0, start=start)
        flats = n.samples(6, level + 4000 * vignetting, noise=20, seed=level + 1)
        when = start + timedelta(hours=hours)
        n.write_frames(night.flats / f"{start:%m}", flats, "Flat Frame", 2.0, start=when, FILTER="L")
    assert not night.run().is_error
    applier = CalibrationApplier(night.config())
    for start, level in LEVEL.items():
        path = write_light(night, start + timedelta(hours=hours + 3), level)
        masters = applier.find_masters(path)
        assert masters.dark is not None
        assert masters.flat is not None
        assert masters.flat.key.night == (start + timedelta(hours=hours)).date()
        image, _ = read_with_astropy(night.masters / f"{masters.flat.record.name}.fits")
        columns = image.mean(axis=0) / image.mean()
        np.testing.assert_allclose(columns, vignetting[0] / vignetting.mean(), atol=0.004)
        assert not applier.calibrate_file(path, tmp_path / "cal").is_error
        sky, _ = read_with_astropy(tmp_path / "cal" / f"{path.stem}_cal.fits")
        assert np.median(sky * vignetting / vignetting.mean()) == pytest.approx(500, abs=3)


def test_flats_of_dawn_do_not_take_the_place_of_those_of_dusk(tmp_path: Path) -> None:
    """The flats of dusk are the noisier ones of the night, and nevertheless those of the lights of the evening."""
    night = Night(tmp_path)
    n.write_frames(night.darks, n.bias_frames(), "Bias Frame", 0.0, start=JANUARY)
    for hour, count in ((0, 3), (11, 12)):
        stack = n.flat_frames(1.0, [20_000 + 10 * i for i in range(count)], seed=hour)
        start = JANUARY + timedelta(hours=hour)
        n.write_frames(night.flats / f"{hour}", stack, "Flat Frame", 1.0, start=start, FILTER="L")
    assert not night.run(session="hours").is_error
    flats = [m for m in find_masters(str(night.masters)) if str(m.key.frame_type) == "flat"]
    assert {(m.key.session_start, m.record.n_frames) for m in flats} == {
        (JANUARY, 3), (JANUARY + timedelta(hours=11), 12),
    }  # fmt: skip
    applier = CalibrationApplier(night.config(session="hours"))
    for hours, of in ((2, 0), (9, 11)):
        flat = applier.find_masters(write_light(night, JANUARY + timedelta(hours=hours), 1000)).flat
        assert flat is not None
        assert flat.key.session_start == JANUARY + timedelta(hours=of)


def test_a_flat_of_two_nights_is_named_where_it_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two flats of each night are too few: they are one master, in which dust that moved is in two places."""
    night = Night(tmp_path)
    n.write_frames(night.darks, n.bias_frames(), "Bias Frame", 0.0, start=JANUARY)
    vignetting = 1 - 0.5 * np.broadcast_to(np.arange(n.SHAPE[1]) / n.SHAPE[1], n.SHAPE)
    for day in (0, 4):
        flats = n.samples(2, 1000 + 4000 * vignetting, noise=20, seed=day)
        n.write_frames(
            night.flats / f"{day}", flats, "Flat Frame", 1.0, start=JANUARY + timedelta(days=day), FILTER="L"
        )
    for day in (10, 10.01):
        flats = n.samples(2, 1000 + 4000 * vignetting, noise=20, seed=int(100 * day))
        start = JANUARY + timedelta(days=day)
        n.write_frames(night.flats / f"{day}", flats, "Flat Frame", 1.0, start=start, FILTER="R")
    assert not night.run().is_error
    path = write_light(night, JANUARY + timedelta(hours=3), 1000)
    assert not CalibrationApplier(night.config()).calibrate_file(path, tmp_path / "cal").is_error
    (said,) = [line for line in caplog.messages if "several nights" in line]
    assert "combines several nights, 2026-01-10 to 2026-01-14" in said
    caplog.clear()
    start = JANUARY + timedelta(days=10, hours=3)
    (of_one,) = n.write_frames(night.root / "lights", n.samples(1, 1500, seed=8), "Light Frame", 2.0, stem="R",
                               start=start, FILTER="R")  # fmt: skip
    assert not CalibrationApplier(night.config()).calibrate_file(of_one, tmp_path / "cal").is_error
    assert "several nights" not in caplog.text
