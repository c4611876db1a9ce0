"""Flats when the right dark is not there: a bias of any temperature, no dark at all, a bias that nobody took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.formula import FormulaError, read_formula
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

SHAPE = (96, 128)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def write(folder: Path, frames: Any, kind: str, exposure_s: float, **cards: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        own = {key: value[i] if isinstance(value, list) else value for key, value in cards.items()}
        write_frame(folder / f"{kind}_{exposure_s:g}_{i:02d}.fits", frame, IMAGETYP=kind, EXPTIME=exposure_s, **own)


def biases(count: int = 8, level: float = 770, seed: int = 1) -> Any:
    return np.rint(np.random.default_rng(seed).normal(level, 7, (count, *SHAPE))).astype(np.uint16)


def flats(count: int = 8, level: float = 40000, bias: float = 770, seed: int = 2) -> Any:
    """Give flats whose right half has 80 % of the light."""
    rng = np.random.default_rng(seed)
    light = level * np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 1.0, 0.8) * np.ones(SHAPE)
    return np.rint(rng.poisson(light, (count, *SHAPE)) + bias).astype(np.uint16)


def contrast(status: Any) -> float:
    """Give the light of the right half in that of the left: 0.8 if the bias was subtracted."""
    image = n.image_of(status, "flat")
    return float(image[:, SHAPE[1] // 2 :].mean() / image[:, : SHAPE[1] // 2].mean())


# ---- a dark of another temperature ----


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_dark_of_a_sensor_that_was_colder_than_the_flats_is_said(night: Night, is_measured: bool) -> None:
    rate, seconds = 200.0, 10.0
    frames_s = rate * seconds
    warm_adu = frames_s * 2 ** (1.9 / 6)
    cold = {"CCD_TEMP": -10.0, "SET_TEMP": -10.0}
    if is_measured:
        write(night.darks, biases(), "bias", 0.0, **cold)
    write(night.darks, biases(level=770 + frames_s, seed=3), "dark", seconds, **cold)
    write(night.flats, flats(bias=770 + warm_adu), "flat", seconds, CCD_TEMP=-8.1, SET_TEMP=-10.0)
    status = night.run()
    (line,) = [line for line in status.details["warnings"] if "the flats of -8.1 C" in line]
    assert "is of -10 C" in line
    assert "take darks of -8.1 C" in line
    if is_measured:
        left_adu = float(line.split("leaves ")[1].split()[0])
        assert left_adu == pytest.approx(warm_adu - frames_s, rel=0.02)
    else:
        assert "dark current is not measured" in line


@pytest.mark.parametrize(("off_c", "rate"), [(0.2, 200.0), (-0.3, 200.0), (1.9, 0.2)])
def test_a_dark_of_flats_is_silent_where_its_temperature_hardly_matters(
    night: Night, off_c: float, rate: float
) -> None:
    cold = {"CCD_TEMP": -10.0, "SET_TEMP": -10.0}
    write(night.darks, biases(), "bias", 0.0, **cold)
    write(night.darks, biases(level=770 + 10 * rate, seed=3), "dark", 10.0, **cold)
    write(night.flats, flats(bias=770 + 10 * rate), "flat", 10.0, CCD_TEMP=-10.0 + off_c, SET_TEMP=-10.0)
    assert not [line for line in night.run().details["warnings"] if "the flats of" in line]


# ---- a bias of another temperature ----


@pytest.mark.parametrize("bias_c", [-15.0, 2.0, 24.0])
def test_a_flat_takes_the_bias_of_any_temperature_with_a_warning(night: Night, bias_c: float) -> None:
    write(night.darks, biases(), "bias", 0.001, CCD_TEMP=bias_c)
    write(night.flats, flats(), "flat", 0.03, CCD_TEMP=24.9)
    status = night.run()
    assert status.is_warning, status.message
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    (line,) = [line for line in status.details["warnings"] if "no dark fits" in line]
    assert "it can be wrong by" in line
    assert "1 ADU/s of it would be 0.03 ADU" in line
    assert (f"the bias was taken at {bias_c:g} C, the flats at 24.9 C" in line) == (bias_c != 24.0)


def test_the_warning_says_how_much_the_missing_dark_current_is(night: Night) -> None:
    write(night.darks, biases(), "bias", 0.0, CCD_TEMP=0.0)
    for time_s in (60.0, 120.0, 240.0):
        write(night.darks, biases(level=770 + time_s * 0.5, seed=int(time_s)), "dark", time_s, CCD_TEMP=0.0)
    write(night.flats, flats(), "flat", 10.0, CCD_TEMP=12.0)
    (line,) = [line for line in night.run().details["warnings"] if "no dark fits" in line]
    # 0.5 ADU/s for 10 s, twice doubled in 12 degrees
    assert "dark current 20 ADU" in line
    assert "% of its 36000 ADU" in line or "% of its 35" in line


def test_bias_frames_of_a_set_point_that_jitters_are_one_master(night: Night) -> None:
    write(night.darks, biases(12), "bias", 0.001, SET_TEMP=[(0.0, 1.96)[i % 2] for i in range(12)],
          CCD_TEMP=[2.0 + 0.7 * i for i in range(12)])  # fmt: skip
    status = night.run_darks()
    _, header = read_with_astropy(n.one_file(status, "bias"))
    assert header["NCOMBINE"] == 12
    assert any("taken at 2 to 9.7 C and combined all the same" in line for line in status.details["warnings"])


def test_darks_of_a_set_point_that_jitters_are_not(night: Night) -> None:
    write(night.darks, biases(12), "dark", 60.0, CCD_TEMP=[(0.0, 5.0)[i % 2] for i in range(12)])
    assert len(night.run_darks().data["dark"]) == 2


# ---- flats that are calibrated already ----


@pytest.mark.parametrize(
    "cards",
    [{"ZEROCOR": "Nov 15 2:58 Zero level correction image is Zero"}, {"CALSTAT": "B"}],
)
def test_bias_subtracted_flats_are_made_without_a_dark(night: Night, cards: dict[str, Any]) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.flats, flats(bias=0).astype("f4"), "flat", 1.0, **cards)
    status = night.run()
    assert status.is_warning, status.message
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert any("its bias is subtracted already" in line for line in status.details["warnings"])
    _, header = read_with_astropy(n.one_file(status, "flat"))
    assert header["CALSTAT"] == "B"


@pytest.mark.parametrize("calibration", ["none", {"flat": "none"}])
def test_calibration_none_subtracts_nothing_from_flats(night: Night, calibration: Any) -> None:
    write(night.darks, biases(level=100), "bias", 0.0)
    write(night.flats, flats(bias=0), "flat", 1.0)
    status = night.run(calibration=calibration)
    assert contrast(status) == pytest.approx(0.8, abs=0.001)


def test_flats_with_fractions_beside_raw_bias_frames_are_named(night: Night) -> None:
    """Nothing but its fractions shows that the bias was subtracted from a bright flat."""
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks / "reduced", flats(bias=0) - np.float32(0.3), "flat", 1.0)
    (line,) = [line for line in night.run().details["warnings"] if "fractions of ADU" in line]
    assert "flat_1_00.fits and 7 more" in line
    assert "master_frames.calibration: {flat: none}" in line
    said = night.run(calibration={"flat": "none"}, only_changed=False).details["warnings"]
    assert not any("fractions of ADU" in line for line in said)


@pytest.mark.parametrize("dtype", ["f4", "i4"])
@pytest.mark.parametrize("level", [0.0, 60.0])
def test_darks_that_are_darker_than_the_bias_are_bias_subtracted(night: Night, level: float, dtype: str) -> None:
    """No card says it; with a dark current of (60 - 770) ADU in 40 s the contrast would be 0.799."""
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, darks(level).astype(dtype), "dark", 40.0)
    write(night.flats, flats(level=20000, bias=int(770 + level / 4)), "flat", 10.0)
    status = night.run()
    assert contrast(status) == pytest.approx(0.8, abs=0.0005)
    (line,) = [line for line in status.details["warnings"] if "taken as bias-subtracted already" in line]
    assert "dark_40_00.fits and 7 more" in line


@pytest.mark.parametrize("level", [770, 700, 300])
def test_raw_darks_of_a_lower_offset_are_raw(night: Night, level: float) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, np.rint(darks(level)).astype(np.uint16), "dark", 40.0)
    assert not any("bias-subtracted" in line for line in night.run_darks().details["warnings"])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_whole_numbers_in_floats_are_raw(night: Night, dtype: str) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.flats, flats().astype(dtype), "flat", 1.0)
    status = night.run()
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert not any("fractions of ADU" in line for line in status.details["warnings"])


def test_fractions_in_all_frames_are_a_scale(night: Night) -> None:
    write(night.darks, biases() * np.float32(0.3), "bias", 0.0)
    write(night.flats, flats() * np.float32(0.3), "flat", 1.0)
    status = night.run()
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert not any("fractions of ADU" in line for line in status.details["warnings"])


# ---- a bias that nobody took ----


@pytest.mark.parametrize("value", [500, "500.0", "10 * OFFSET", "=10*$OFFSET", "(GAIN - 90) * OFFSET"])
def test_a_synthetic_bias_makes_a_flat(night: Night, value: Any) -> None:
    write(night.flats, flats(bias=500), "flat", 1.0, OFFSET=50, GAIN=100)
    assert night.run(synthetic_bias=None).is_error
    status = night.run(synthetic_bias=value)
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    _, header = read_with_astropy(n.one_file(status, "flat"))
    assert header["CALSTAT"] == "B"
    assert "synthetic bias of 500 ADU" in str(header["HISTORY"])
    assert any("synthetic bias of 500 ADU" in line for line in status.details["warnings"])


def test_a_real_bias_goes_before_a_synthetic_one(night: Night) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.flats, flats(), "flat", 1.0)
    assert contrast(night.run(synthetic_bias=30000)) == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10 * BLKLEVEL", "there is no number in card BLKLEVEL"),
        ("10 * CAMERA", "there is no number in card CAMERA"),
        ("OFFSET - 60", "it must be 0 or more"),
        ("1 / (OFFSET - 50)", "divides by zero"),
    ],
)
def test_a_formula_without_a_level_is_one_line(night: Night, value: str, message: str) -> None:
    write(night.flats, flats(bias=500), "flat", 1.0, OFFSET=50, CAMERA="Demo")
    status = night.run(synthetic_bias=value)
    assert status.is_error
    (line,) = [line for line in status.details["errors"] if "synthetic_bias" in line]
    assert message in line
    assert "flat_1_00.fits" in line
    assert "\n" not in line


def test_the_cards_of_a_formula_must_agree(night: Night) -> None:
    write(night.flats, flats(bias=500), "flat", 1.0, PEDESTL=[100.0 + (i == 3) for i in range(8)])
    (line,) = [line for line in night.run(synthetic_bias="5 * PEDESTL").details["errors"] if "synthetic_bias" in line]
    assert "flat_1_03.fits" in line


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "OFFSET.real", "2 ** 3", "max(1, 2)", "1 if 1 else 2", "", "(1", "1)", "1 2",
        "10 * ", "OFFSETVALUE", "1 / 0", "9" * 300, "lambda: 1", "[1]", "a=1",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(FormulaError) as error:
        read_formula(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20), ("-2 - -3", 1), ("7 / 2", 3.5), ("1e-3 * 2000", 2), ("8 / 2 / 2", 2),
        ("10 - 3 - 2", 5), ("offset", 50), ("OFFSET-5", 45), ("CCD-TEMP + 1", -9), ("10*OFFSET-GAIN", 498),
    ],
)  # fmt: skip
def test_formulas_have_the_usual_order(text: str, value: float) -> None:
    assert read_formula(text).value({"OFFSET": 50.0, "CCD-TEMP": -10.0, "GAIN": 2.0}) == value


# ---- the same data twice ----


@pytest.mark.parametrize(("exposure_s", "darks"), [(0.0, 0), (0.001, 1)])
def test_a_dark_of_0_s_is_not_written_beside_the_bias(night: Night, exposure_s: float, darks: int) -> None:
    write(night.darks, biases(), "bias", exposure_s)
    status = night.run_darks()
    assert len(status.data["bias"]) == 1
    assert len(status.data["dark"]) == darks
    assert len(night.run_darks(create_master_bias=False, only_changed=False).data["dark"]) == 1


# ---- a bias and a dark of which one lacks what the flat has ----


def darks(level: float, count: int = 8, seed: int = 4) -> Any:
    return np.random.default_rng(seed).normal(level, 5, (count, *SHAPE)).astype("f4")


@pytest.mark.parametrize("dark_s", [10.0, 40.0])
@pytest.mark.parametrize("calibration", ["auto", {"dark": "none"}])
def test_raw_flats_take_the_bias_and_a_dark_whose_bias_was_subtracted(
    night: Night, dark_s: float, calibration: Any
) -> None:
    """The dark current is 300 ADU/s, so that the flats of 10 s have 3000 ADU of it."""
    marked = {} if calibration == {"dark": "none"} else {"CALSTAT": "B"}
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, darks(300 * dark_s), "dark", dark_s, **marked)
    write(night.flats, flats(bias=3770), "flat", 10.0)
    keys = {} if calibration == "auto" else {"calibration": calibration}
    status = night.run(**keys)
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert not any("no dark fits" in line for line in status.details["warnings"])
    _, header = read_with_astropy(n.one_file(status, "flat"))
    assert header["CALSTAT"] == "BD"


@pytest.mark.parametrize("dark_s", [10.0, 40.0])
def test_flats_whose_bias_was_subtracted_take_the_current_of_raw_darks(night: Night, dark_s: float) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, np.rint(darks(770 + 300 * dark_s)).astype(np.uint16), "dark", dark_s)
    write(night.flats, flats(bias=3000).astype("f4"), "flat", 10.0, CALSTAT="B")
    status = night.run()
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert not any("no dark" in line for line in status.details["warnings"])


# ---- science frames ----


def calibrated(night: Night, light: Any, light_cards: Any = None, **keys: Any) -> tuple[Any, Any, str]:
    """Make masters, calibrate a light of 20 s, and give its pixels, header and what was said."""
    write(night.root / "lights", [light], "light", 20.0, **(light_cards or {}))
    config = n.write_config(night, **keys)
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 0
    out = night.root / "calibrated"
    done = n.ostcal(
        "calibrate", night.root / "lights", "--config", config, "--flat", "none", "--output-dir", out, "--overwrite"
    )
    assert done.exit_code == 0, done.text
    (file,) = out.glob("*.fits")
    return *read_with_astropy(file), done.text


def light(level: float) -> Any:
    return np.random.default_rng(9).normal(level, 7, SHAPE)


@pytest.mark.parametrize("dark_s", [20.0, 40.0])
def test_a_raw_light_takes_the_bias_and_a_dark_whose_bias_was_subtracted(night: Night, dark_s: float) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, darks(30 * dark_s), "dark", dark_s)
    raw = np.rint(light(770 + 600 + 500)).astype(np.uint16)
    image, header, said = calibrated(night, raw, calibration={"dark": "none"})
    assert image.mean() == pytest.approx(500, abs=1)
    assert header["CALSTAT"] == "BD"
    assert ("dark current is scaled" in said) == (dark_s != 20.0)


@pytest.mark.parametrize("dark_s", [20.0, 40.0])
def test_a_light_whose_bias_was_subtracted_takes_the_current_of_raw_darks(night: Night, dark_s: float) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, np.rint(darks(770 + 30 * dark_s)).astype(np.uint16), "dark", dark_s)
    image, header, _ = calibrated(night, light(600 + 500).astype("f4"), {"CALSTAT": "B"})
    assert image.mean() == pytest.approx(500, abs=1)
    assert header["CALSTAT"] == "BD"


def test_calibration_none_subtracts_nothing_from_lights(night: Night) -> None:
    write(night.darks, biases(), "bias", 0.0)
    write(night.flats, flats(), "flat", 1.0)
    write(night.root / "lights", [light(500).astype("f4")], "light", 20.0)
    config = n.write_config(night, calibration={"light": "none"})
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 0
    out = night.root / "calibrated"
    assert n.ostcal("calibrate", night.root / "lights", "--config", config, "--output-dir", out).exit_code == 0
    (file,) = out.glob("*.fits")
    image, header = read_with_astropy(file)
    assert header["CALSTAT"] == "F"
    assert image[:, : SHAPE[1] // 2].mean() == pytest.approx(450, abs=2)  # the flat is 1 where it is 0.9 of its mean


def test_the_warning_of_a_bias_alone_says_what_was_measured(night: Night) -> None:
    """Single darks give a dark current of 0.5 ADU/s, though no master."""
    write(night.darks, [frame + 2 * (i // 4) for i, frame in enumerate(biases())], "bias", 0.0, CCD_TEMP=-20.0)
    for time_s in (30.0, 60.0, 120.0, 240.0):
        write(night.darks, biases(1, level=771 + time_s * 0.5, seed=int(time_s)), "dark", time_s, CCD_TEMP=-20.0)
    _, header, said = calibrated(night, np.rint(light(1300)).astype(np.uint16), {"CCD_TEMP": -8.0})
    assert header["CALSTAT"] == "B"
    (line,) = [line for line in said.splitlines() if "the bias alone is subtracted" in line]
    assert "its level moved by up to 1 ADU" in line or "its level moved by up to 1.1 ADU" in line
    assert "the bias was taken at -20 C, the frame at -8 C" in line
    assert "a dark current of 0.5 ADU/s" in line
    assert "leaves 10 ADU in a frame of 20 s" in line


def test_calibration_none_of_bias_frames_keeps_them_from_raw_flats(night: Night) -> None:
    write(night.darks, biases(level=0).view(np.int16), "bias", 0.0)
    write(night.flats, flats(bias=500), "flat", 1.0)
    status = night.run(calibration={"bias": "none"}, synthetic_bias=500)
    assert contrast(status) == pytest.approx(0.8, abs=0.001)
    assert any("synthetic bias of 500 ADU" in line for line in status.details["warnings"])


def test_a_changed_word_of_calibration_makes_darks_again(night: Night) -> None:
    write(night.darks, darks(300), "dark", 20.0)
    for is_again in (False, True):
        assert bool(night.run_darks(calibration={"dark": "none"}).details["unchanged"]) == is_again
    assert not night.run_darks().details["unchanged"]


@pytest.mark.parametrize(
    ("bias", "sky", "is_named"),
    [(770, 150, False), (770, 0, False), (830, 0, True), (870, 30, True), (830, 2000, False)],
)
def test_a_level_without_the_noise_of_light_is_named(night: Night, bias: int, sky: float, is_named: bool) -> None:
    """Gain 1 e-/ADU, read noise 7: 60 ADU of light have a noise of 10.4 ADU."""
    write(night.darks, biases(), "bias", 0.0)
    write(night.darks, biases(seed=8), "dark", 20.0)
    write(night.flats, flats(level=20000) + (biases(seed=9) - 770), "flat", 1.0)
    rng = np.random.default_rng(10)
    raw = np.rint(bias + rng.poisson(sky, SHAPE) + rng.normal(0, 7, SHAPE)).astype(np.uint16)
    _, _, said = calibrated(night, raw)
    assert ("its bias level is higher than that of" in said) == is_named


def test_a_dark_that_records_less_than_the_flat_is_taken_last_and_said(tmp_path: Path, caplog: Any) -> None:
    """The darks without GAIN are 300 ADU higher: another gain, which nothing says."""
    night = Night(tmp_path)
    n.write_darks(night, 2.0, n.dark_frames(2.0, level=1300), GAIN=None)
    n.write_flats(night, 2.0)
    with caplog.at_level("INFO", logger="ostcal"):
        assert not night.run().is_error
    (line,) = [r.getMessage() for r in caplog.records if "does not record" in r.getMessage()]
    assert "does not record gain: it is taken because none that does fits" in line
    other = Night(tmp_path / "both")
    n.write_darks(other, 2.0, n.dark_frames(2.0, level=1300), GAIN=None)
    n.write_frames(other.darks / "exact", n.dark_frames(2.0, seed=8), "Dark Frame", 2.0, stem="exact")
    n.write_flats(other, 2.0)
    caplog.clear()
    with caplog.at_level("INFO", logger="ostcal"):
        made = other.run()
    assert not made.is_error
    assert not [r for r in caplog.records if "does not record" in r.getMessage()]
    dark = n.dark_frames(2.0, seed=8)
    flat = n.image_of(made, "flat")
    wanted = n.combined_flat(
        n.flat_frames(2.0, (20000, 21000, 19500, 22000, 20500)), [2.0] * 5, n.combined(dark).mean
    ).mean
    assert flat == pytest.approx(wanted / np.mean(wanted), rel=2e-4)
