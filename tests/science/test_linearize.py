"""Frames of a camera of known bend come out in proportion with the light, or are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.library.master_header import linearity_of
from ostcal.response import LinearityCurve
from support import night as n
from support import quality_nights as q
from support.fits_samples import read_with_astropy
from support.night import Night

SHAPE = (96, 128)
BIAS, NOISE, GAIN = 800.0, 5.0, 4.0
LADDER_S = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0)
RATE = 1600.0
X = np.linspace(-1, 1, SHAPE[1])[None, :] * np.ones(SHAPE)
LIT = 1 - 0.2 * X**2


class BentCamera:
    """A camera whose levels fall behind the light."""

    def __init__(self, bend: float, seed: int = 8) -> None:
        self.bend = bend
        self.rng = np.random.default_rng(seed)

    def frame(self, true_adu: float | NDArray[Any]) -> NDArray[np.uint16]:
        light = np.broadcast_to(np.asarray(true_adu, float), SHAPE)
        seen = self.rng.poisson(light * GAIN) / GAIN
        seen = seen * (1 - self.bend * seen / 60000)
        return np.clip(np.rint(seen + BIAS + self.rng.normal(0, NOISE, SHAPE)), 0, 65535).astype("u2")


def night_of(root: Path, camera: BentCamera, *, exposures_s: tuple[float, ...] = LADDER_S, **of_ladder: Any) -> Night:
    night = Night(root)
    n.write_frames(night.darks / "bias", np.stack([camera.frame(0) for _ in range(8)]), "Bias Frame", 0.0)
    ladder = np.stack([camera.frame(RATE * t * LIT) for t in exposures_s])
    n.write_frames(night.flats / "ladder", ladder, "Flat Frame", exposures_s, **of_ladder)
    n.write_frames(night.flats / "flat", np.stack([camera.frame(25000 * LIT) for _ in range(6)]), "Flat Frame", 15.6)
    return night


def calibrated(
    night: Night, frames: NDArray[Any], *options: str, name: str = "lights", **cards: Any
) -> tuple[list[Any], n.Outcome]:
    n.write_frames(night.root / name, frames, "Light Frame", 1.0, **cards)
    target = night.root / f"{name}_cal"
    outcome = n.ostcal(
        "calibrate", night.root / name, "--config", q.config(night), "--output-dir", target, "--overwrite", *options
    )
    return sorted(target.glob("*.fits")), outcome


@pytest.mark.parametrize("bend", [0.02, 0.08, 0.2])
def test_frames_of_a_known_bend_come_out_in_proportion_with_the_light(tmp_path: Path, bend: float) -> None:
    camera = BentCamera(bend)
    night = night_of(tmp_path, camera)
    assert q.run(night).exit_code == 0
    levels = (500.0, 5000.0, 20000.0, 40000.0)
    frames = np.stack([camera.frame(level * LIT) for level in levels])
    paths, outcome = calibrated(night, frames, "--linearize", "--uncertainty", "--dq")
    assert outcome.exit_code == 0, outcome.text
    ratios, across = [], []
    for path, level in zip(paths, levels, strict=True):
        with fits.open(path) as file:
            values, header = np.array(file[0].data, float), file[0].header
            assert header["LINCORR"] is True
            error = header["LINERR"] / 100
            assert "linearized, flat too" in str(header["HISTORY"])
            assert np.isfinite(file["UNCERT"].data).all()
            assert not (file["DQ"].data & 64).any()
        ratios.append(float(np.median(values)) / level)
        across.append(float(np.median(values[:, :8]) / np.median(values[:, 60:68])))
    ratios = [ratio / ratios[1] for ratio in ratios]  # 1 is the mean of the flat, whose light has another mean
    assert error < 0.005
    assert ratios == pytest.approx([1.0] * 4, abs=3 * error + 0.002)
    assert across[2:] == pytest.approx([1.0] * 2, abs=3 * error + 0.002)
    _, plain = calibrated(night, frames[2:], name="plain")
    values = [float(np.median(read_with_astropy(path)[0])) for path in sorted((tmp_path / "plain_cal").glob("*.fits"))]
    assert plain.exit_code == 0
    assert values[1] / values[0] < 2 * (1 - 0.6 * bend / 3), "without --linearize the bend stays"


def test_colours_of_a_bayer_sensor_are_each_in_proportion(tmp_path: Path) -> None:
    camera = BentCamera(0.08)
    colours = np.ones(SHAPE)
    colours[::2, ::2], colours[1::2, 1::2] = 0.6, 0.8
    night, cards = Night(tmp_path), {"BAYERPAT": "RGGB", "XBAYROFF": 0, "YBAYROFF": 0}
    n.write_frames(night.darks / "bias", np.stack([camera.frame(0) for _ in range(8)]), "Bias Frame", 0.0)
    ladder = np.stack([camera.frame(RATE * t * colours) for t in LADDER_S])
    n.write_frames(night.flats / "ladder", ladder, "Flat Frame", LADDER_S, **cards)
    flats = np.stack([camera.frame(25000 * colours) for _ in range(6)])
    n.write_frames(night.flats / "flat", flats, "Flat Frame", 15.6, **cards)
    q.run(night)
    paths, outcome = calibrated(
        night, np.stack([camera.frame(level * colours) for level in (5000.0, 40000.0)]), "--linearize", **cards
    )
    assert outcome.exit_code == 0, outcome.text
    images = [np.array(read_with_astropy(path)[0], float) for path in paths]
    for row, column in ((0, 0), (0, 1), (1, 1)):
        faint, bright = (float(np.median(image[row::2, column::2])) for image in images)
        assert bright / faint == pytest.approx(8, rel=0.006)


def test_the_curve_is_stored_and_shown(tmp_path: Path) -> None:
    night = night_of(tmp_path, BentCamera(0.08))
    q.run(night)
    camera = q.newest_report(night)["camera"]
    assert any("linearity: known up to" in note for note in camera["notes"])
    shown = camera["linearity"]
    assert min(shown["deviation_percent"]) == pytest.approx(-100 * 0.08 * RATE * 30 / 60000, abs=0.6)
    (path,) = night.masters.glob("master_flat_*.fits")
    with fits.open(path) as file:
        assert file[0].header["LINHIGH"] == pytest.approx(RATE * 30 * (1 - 0.08 * RATE * 30 / 60000), rel=0.02)
        assert abs(file[0].header["LINC1"]) > 0.01


def test_without_a_ladder_it_is_refused(tmp_path: Path) -> None:
    camera = BentCamera(0.08)
    night = night_of(tmp_path, camera, exposures_s=(1.0, 30.0))
    q.run(night)
    paths, outcome = calibrated(night, camera.frame(5000 * LIT)[None], "--linearize")
    assert (paths, outcome.exit_code != 0) == ([], True)
    assert "--linearize: no master of" in outcome.text
    assert outcome.text.count("--linearize: no master of") == 1


def test_light_above_the_curve_is_refused(tmp_path: Path) -> None:
    camera = BentCamera(0.08)
    night = night_of(tmp_path, camera, exposures_s=tuple(t / 1.8 for t in LADDER_S))
    q.run(night)
    paths, outcome = calibrated(night, camera.frame(50000 * LIT)[None], "--linearize")
    assert (paths, outcome.exit_code != 0) == ([], True)
    assert "up to which the response is known" in outcome.text


def test_a_flat_above_the_curve_is_refused(tmp_path: Path) -> None:
    camera = BentCamera(0.08)
    night = night_of(tmp_path, camera, exposures_s=tuple(t / 3 for t in LADDER_S), FILTER="R")
    q.run(night)
    paths, outcome = calibrated(night, camera.frame(5000 * LIT)[None], "--linearize")
    assert (paths, outcome.exit_code != 0) == ([], True)
    assert "was made at" in outcome.text
    paths, outcome = calibrated(night, camera.frame(5000 * LIT)[None], "--linearize", "--flat", "none", name="no_flat")
    assert outcome.exit_code == 0, outcome.text


@pytest.mark.parametrize("value", [True, "COMPLETE"])
def test_a_frame_that_was_linearized_is_refused(tmp_path: Path, value: Any) -> None:
    camera = BentCamera(0.08)
    night = night_of(tmp_path, camera)
    q.run(night)
    _, outcome = calibrated(night, camera.frame(5000 * LIT)[None], "--linearize", LINCORR=value)
    assert outcome.exit_code != 0
    assert "LINCORR says that it was linearized already" in outcome.text


def test_saturated_pixels_stay_recognisable(tmp_path: Path) -> None:
    camera = BentCamera(0.08)
    night = night_of(tmp_path, camera)
    q.run(night)
    light = camera.frame(5000 * LIT)
    light[40, 40], light[41, 41] = 65535, 55000  # saturated, and above the flats
    (path,), _ = calibrated(night, light[None], "--linearize", "--dq")
    with fits.open(path) as file:
        flags, values = file["DQ"].data, file[0].data
        assert flags[40, 40] & 64
        assert flags[41, 41] & 64
        assert np.count_nonzero(flags & 64) == 2
        assert values[40, 40] >= file[0].header["SATURATE"] > 40000


def test_faint_and_negative_signals_stay_and_the_curve_grows_on() -> None:
    curve = LinearityCurve(coefficients=(0.05, -0.01), high_adu=40000.0, zero_adu=800.0, uncertainty_percent=0.1)
    signal = np.array([-50.0, 0.0, 1.0, 40000.0, 41000.0])
    true = curve.true_signal(signal)
    assert true[0] == -50
    assert true[1] == 0
    assert true[2] == pytest.approx(1, rel=1e-4)
    assert true[3] == pytest.approx(40000 * 1.04)
    assert true[4] - true[3] == pytest.approx(1000 * (1 + 0.1 - 0.03))
    steps = np.diff(curve.true_signal(np.linspace(-100, 60000, 1000)))
    assert (steps > 0).all()


def test_a_header_without_a_usable_curve_has_none() -> None:
    from ostcal.fits.cards import Header, format_card

    cards = [("LINZERO", 800.0, ""), ("LINHIGH", 40000.0, ""), ("LINC1", -0.9, "")]
    assert linearity_of(Header([image for card in cards for image in format_card(*card)])) is None
    assert linearity_of(Header(())) is None
