"""What a dark that does not fit quite leaves in a frame is said in ADU, and it is what is left in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier, MasterFrameCreator
from ostcal.library.find import find_masters, store_location
from ostcal.library.store import MasterStore
from support.fits_samples import read_with_astropy, write_frame

SHAPE = (64, 96)
PEDESTAL = 500.0
SKY = 1000.0
HOT = np.zeros(SHAPE, bool)
HOT[3::8, 5::9] = True
CAMERA = {"INSTRUME": "Truth", "GAIN": 100, "DATE_OBS": "2026-03-01T22:00:00"}


def rates(median: float, hot: float) -> NDArray[np.float64]:
    return np.where(HOT, hot, median)


def write(folder: Path, name: str, kind: str, image: NDArray[np.float64], exposure_s: float, **cards: Any) -> Path:
    noise = np.random.default_rng(len(name)).normal(0, 0.5, SHAPE)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"IMAGETYP": kind, "EXPTIME": exposure_s, **CAMERA, **cards}
    return write_frame(folder / f"{name}.fits", (image + noise).astype(np.float32), **values)


def calibrated(root: Path, light: Path, **matching: Any) -> tuple[NDArray[np.float32], str, dict[str, Any]]:
    """Return the calibrated frame, what is said of it, and its header."""
    config = {"master_frames": {"output_dir": str(root / "masters")}, "matching": matching}
    status = CalibrationApplier(config).calibrate_file(light, root / "cal", flat="none")
    assert not status.is_error, status.details
    values, header = read_with_astropy(status.data["calibrated"][0])
    return values, "\n".join(status.details["warnings"]), dict(header)


def left_in(text: str) -> tuple[float, float]:
    """Return what a line says is left in: of the median pixel and of hot pixels, ADU."""
    found = re.search(r"(?:leaves|than) (\S+) ADU in the median pixel and (\S+) ADU in hot pixels", text)
    assert found is not None, text
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("light_s", [65.9, 55.0])
def test_a_dark_taken_as_it_is_says_what_it_leaves_in_hot_pixels(tmp_path: Path, light_s: float) -> None:
    rate = rates(1.0, 40.0)
    write(tmp_path / "masters", "master_dark_60", "Master Dark", PEDESTAL + 60 * rate, 60.0)
    light = write(tmp_path, "light", "Light Frame", PEDESTAL + light_s * rate + SKY, light_s)
    values, said, _ = calibrated(tmp_path, light)
    assert "the dark current" in said
    assert "what is not known in the median pixel (no bias, no dark of another exposure and no measurement" in said
    found = re.search(r"and (\S+) ADU in hot pixels", said)
    assert found is not None
    left = np.median(values[HOT]) - np.median(values[~HOT])
    assert float(found[1]) == pytest.approx(left, rel=0.01)


@pytest.mark.parametrize("shown_by", ["bias", "dark", "measured"])
@pytest.mark.parametrize("light_s", [65.9, 55.0])
def test_the_library_shows_what_is_left_in_the_median_pixel(tmp_path: Path, light_s: float, shown_by: str) -> None:
    """A bias that is too warm to scale with, a dark too near to make a line, or another dark that was measured."""
    rate, masters = rates(1.0, 40.0), tmp_path / "masters"
    write(masters, "master_dark_60", "Master Dark", PEDESTAL + 60 * rate, 60.0, CCD_TEMP=-20.0)
    if shown_by == "bias":
        write(masters, "master_bias", "Master Bias", np.full(SHAPE, PEDESTAL), 0.0, CCD_TEMP=25.0)
    elif shown_by == "dark":
        write(masters, "master_dark_57", "Master Dark", PEDESTAL + 57 * rate, 57.0, CCD_TEMP=-20.0)
    else:
        write_measured(tmp_path, rate)
    light = write(tmp_path, "light", "Light Frame", PEDESTAL + light_s * rate + SKY, light_s, CCD_TEMP=-20.0)
    values, said, _ = calibrated(tmp_path, light)
    found = re.search(r"leaves (\S+) ADU in the median pixel(?: \(.*?\))? and (\S+) ADU in hot pixels", said)
    assert found is not None, said
    nearest_s = {("dark", 55.0): 57.0, ("measured", 65.9): 63.0}.get((shown_by, light_s), 60.0)
    assert float(found[1]) == pytest.approx((light_s - nearest_s) * 1.0, abs=0.3)
    assert float(found[1]) == pytest.approx(np.median(values[~HOT]) - SKY, abs=0.3)
    assert float(found[2]) == pytest.approx(np.median(values[HOT]) - SKY, rel=0.02)


def write_measured(root: Path, rate: NDArray[np.float64]) -> None:
    """Make a master of 63 s with a bias of its run, which measures the dark current, and take the bias away."""
    rng = np.random.default_rng(8)
    for i in range(8):
        for kind, exposure_s in (("bias", 0.0), ("dark", 63.0)):
            image = np.clip(rng.normal(PEDESTAL + exposure_s * rate, 3), 0, 65535).round().astype(np.uint16)
            cards = {"IMAGETYP": kind, "EXPTIME": exposure_s, **CAMERA, "CCD_TEMP": -20.0}
            (root / "raw").mkdir(exist_ok=True)
            write_frame(root / "raw" / f"{kind}_{i}.fits", image, **cards)
    places = {"dark_capture": {"output_dir": str(root / "raw")}, "flat_capture": {"output_dir": str(root / "raw")}}
    MasterFrameCreator({**places, "master_frames": {"output_dir": str(root / "masters")}}).create_master_darks()
    store = MasterStore(store_location(str(root / "masters")))
    for master in find_masters(str(root / "masters")):
        if master.record.key.frame_type == "bias":
            store.discard(master.record.name)
            for file in master.record.files:
                (root / "masters" / file).unlink()


@pytest.mark.parametrize(("light_s", "factor"), [(65.9, 65.9 / 60), (30.0, 0.5), (119.0, 119 / 60)])
def test_with_a_bias_it_is_scaled_and_nothing_is_left_in(tmp_path: Path, light_s: float, factor: float) -> None:
    rate = rates(1.0, 40.0)
    write(tmp_path / "masters", "master_dark_60", "Master Dark", PEDESTAL + 60 * rate, 60.0)
    write(tmp_path / "masters", "master_bias", "Master Bias", np.full(SHAPE, PEDESTAL), 0.0)
    light = write(tmp_path, "light", "Light Frame", PEDESTAL + light_s * rate + SKY, light_s)
    values, said, header = calibrated(tmp_path, light)
    assert "dark current is scaled" in said
    assert header["DARKSCAL"] == pytest.approx(factor)
    assert np.median(values[HOT]) == pytest.approx(SKY, abs=1)
    assert np.median(values[~HOT]) == pytest.approx(SKY, abs=1)


def test_two_darks_scale_to_an_exposure_near_one_of_them_without_a_bias(tmp_path: Path) -> None:
    rate = rates(1.0, 40.0)
    for exposure_s in (60.0, 120.0):
        name = f"master_dark_{exposure_s:g}"
        write(tmp_path / "masters", name, "Master Dark", PEDESTAL + exposure_s * rate, exposure_s)
    light = write(tmp_path, "light", "Light Frame", PEDESTAL + 65.9 * rate + SKY, 65.9)
    values, said, _ = calibrated(tmp_path, light)
    assert "line through two darks" in said
    assert np.median(values[HOT]) == pytest.approx(SKY, abs=1)


@pytest.mark.parametrize(("frame_c", "bound"), [(-10.0, "less"), (12.0, "more")])
def test_a_bias_alone_beside_darks_of_another_temperature_says_what_they_show(
    tmp_path: Path, frame_c: float, bound: str
) -> None:
    """The dark current doubles in 6 degrees: what a dark of 5 C shows is more or less than what is left in."""
    rate = rates(1.0, 40.0)
    masters = tmp_path / "masters"
    write(masters, "master_dark_60", "Master Dark", PEDESTAL + 60 * rate, 60.0, CCD_TEMP=5.0)
    write(masters, "master_dark_far", "Master Dark", PEDESTAL + 60 * 4 * rate, 60.0, CCD_TEMP=25.0)
    write(masters, "master_bias", "Master Bias", np.full(SHAPE, PEDESTAL), 0.0, CCD_TEMP=5.0)
    doubled = 2 ** ((frame_c - 5) / 6)
    light = write(tmp_path, "light", "Light Frame", PEDESTAL + 60 * doubled * rate + SKY, 60.0, CCD_TEMP=frame_c)
    values, said, header = calibrated(tmp_path, light)
    assert header["CALSTAT"] == "B"
    assert f"master_dark_60, is of 5 C: {bound} than " in said
    median, hot = left_in(said)
    assert median == pytest.approx(60, abs=1)
    assert hot == pytest.approx(2400, rel=0.01)
    truth = np.median(values[HOT]) - SKY
    assert truth < hot if bound == "less" else truth > hot
    status = CalibrationApplier(
        {"master_frames": {"output_dir": str(masters)}, "matching": {"strict": True}}
    ).calibrate_file(light, tmp_path / "strict", flat="none")
    assert status.is_error
    assert "temperature 5 C against" in status.message
