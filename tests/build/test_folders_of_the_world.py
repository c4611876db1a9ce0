"""Folders as real cameras, programs and nights leave them: from the frames to calibrated lights, truth known.

Each folder is made with two sets of numbers, so that no count, level or corner is the one that works by chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from support.fits_samples import read_with_astropy
from support.night import Night, Outcome, ostcal, run_command, write_config, write_frames

Frame = NDArray[Any]


class Sensor:
    """A sensor of known bias, noise (ADU) and gain (electrons per ADU)."""

    def __init__(self, shape: tuple[int, int], *, bias: float, noise: float, gain: float = 1.0, seed: int = 11) -> None:
        self.shape, self.bias, self.noise, self.gain = shape, bias, noise, gain
        self.rng = np.random.default_rng(seed)

    def frame(self, signal_adu: float | Frame = 0.0, *, bias: float | None = None) -> Frame:
        light = np.broadcast_to(np.asarray(signal_adu, float), self.shape)
        signal = self.rng.poisson(light * self.gain) / self.gain
        level = self.bias if bias is None else bias
        return whole(signal + level + self.rng.normal(0, self.noise, self.shape))

    def frames(self, count: int, signal_adu: float | Frame = 0.0, *, bias: float | None = None) -> list[Frame]:
        return [self.frame(signal_adu, bias=bias) for _ in range(count)]


def whole(values: Frame) -> Frame:
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def vignetting(shape: tuple[int, int], depth: float) -> Frame:
    y, x = np.indices(shape) - np.reshape(shape, (2, 1, 1)) / 2
    corner = (shape[0] ** 2 + shape[1] ** 2) / 4
    return 1 - depth * (x**2 + y**2) / corner


def write(folder: Path, frames: list[Frame], kind: str, exposure_s: float, **cards: Any) -> list[Path]:
    plain = {"GAIN": None, "OFFSET": None, "SET_TEMP": None, "CCD_TEMP": None}
    return write_frames(folder, np.stack(frames), kind, exposure_s, **{**plain, **cards})


def header_of(night: Night, kind: str) -> fits.Header:
    (path,) = night.masters.glob(f"master_{kind}_*.fits")
    return read_with_astropy(path)[1]


def image_of(night: Night, kind: str) -> Frame:
    (path,) = night.masters.glob(f"master_{kind}_*.fits")
    return np.asarray(read_with_astropy(path)[0], np.float64)


def calibrated(night: Night, *options: str) -> tuple[Outcome, dict[str, Frame]]:
    """Calibrate all lights of a night; their images by name."""
    out = night.root / "calibrated"
    arguments = ("--config", write_config(night), "--output-dir", out, *options)
    outcome = ostcal("calibrate", night.root / "lights", *arguments)
    images = {path.name.removesuffix("_cal.fits"): fits.getdata(path).astype(float) for path in out.glob("*_cal.fits")}
    return outcome, images


def made(night: Night, **keys: Any) -> Outcome:
    outcome = run_command(night, **keys)
    assert outcome.exit_code == 0, outcome.text
    return outcome


# ---- what frames contain ----


@pytest.mark.parametrize(
    ("shape", "columns", "before"), [((128, 144), 16, False), ((90, 201), 31, True)], ids=["after", "before"]
)
@pytest.mark.parametrize("blank", [",", ", "])
def test_overscan_whose_level_moves_between_kinds(
    tmp_path: Path, shape: tuple[int, int], columns: int, before: bool, blank: str
) -> None:
    night, (height, width) = Night(tmp_path), shape
    wide = Sensor((height, width + columns), bias=1000, noise=4, gain=1.8)
    first = columns + 1 if before else 1
    image = slice(first - 1, first - 1 + width)
    strip = (1, columns) if before else (width + 1, width + columns)
    sections = {
        "BIASSEC": f"[{strip[0]}:{strip[1]}{blank}1:{height}]",
        "TRIMSEC": f"[{first}:{first + width - 1}{blank}1:{height}]",
        "FILTER": "V",
    }
    shading = vignetting(shape, 0.3)

    def lit(signal: Frame | float, bias: float) -> Frame:
        light = np.zeros((height, width + columns))
        light[:, image] = signal
        return wide.frame(light, bias=bias)

    write(night.darks / "bias", [lit(0, 1040 + i) for i in range(5)], "Bias Frame", 0.0, **sections)
    write(night.darks / "dark", [lit(1, 1041 + i) for i in range(5)], "Dark Frame", 15.0, **sections)
    write(night.flats, [lit(28000 * shading, 1060 + i) for i in range(5)], "Flat Frame", 15.0, **sections)
    skies = [lit(50 * shading + 1, 805 - i) for i in range(2)]
    write(tmp_path / "lights", skies, "Light Frame", 15.0, **sections)
    made(night, normalization_method="max")
    for kind, level in (("bias", 0.0), ("dark", 1.0)):
        assert image_of(night, kind).shape == shape
        assert image_of(night, kind).mean() == pytest.approx(level, abs=0.2)
    outcome, images = calibrated(night)
    assert outcome.exit_code == 0, outcome.text
    assert len(images) == 2
    for sky in images.values():
        assert sky.shape == shape
        middle, corner = sky[height // 3 : height // 2, width // 3 : width // 2], sky[:16, :16]
        assert middle.mean() == pytest.approx(50, abs=1)
        assert corner.mean() == pytest.approx(50, abs=2.0)  # 256 pixels of noise 12: 0.75


@pytest.mark.parametrize(("names", "shape"), [(("im1", "im2", "im3"), (40, 50)), (("A", "B"), (31, 64))])
def test_frames_of_several_images(tmp_path: Path, names: tuple[str, ...], shape: tuple[int, int]) -> None:
    night = Night(tmp_path)
    rng = np.random.default_rng(5)
    kinds = {"bias": (0.0, 1000), "dark": (10.0, 1010), "flat": (2.0, 20000), "light": (10.0, 1500)}
    for kind, (exposure_s, level) in kinds.items():
        folder = {"flat": night.flats, "light": tmp_path / "lights"}.get(kind, night.darks)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(2 if kind == "light" else 6):
            primary = fits.PrimaryHDU()
            primary.header.update(IMAGETYP=kind, EXPTIME=exposure_s, INSTRUME="Mosaic", FILTER="R")
            images = [
                fits.ImageHDU(whole(rng.normal(level + 50 * amplifier, 100 if kind == "flat" else 5, shape)), name=name)
                for amplifier, name in enumerate(names)
            ]
            fits.HDUList([primary, *images]).writeto(folder / f"{kind}_{number}.fits")
    made(night)
    for kind in ("bias", "dark"):
        (path,) = night.masters.glob(f"master_{kind}_*.fits")
        with fits.open(path) as file:
            for amplifier, name in enumerate(names):
                assert file[name].data.mean() == pytest.approx(kinds[kind][1] + 50 * amplifier, abs=0.5)
    outcome = ostcal(
        "calibrate", tmp_path / "lights", "--config", write_config(night), "--output-dir", tmp_path / "calibrated"
    )
    assert outcome.exit_code == 0, outcome.text
    for path in (tmp_path / "calibrated").glob("*.fits"):
        with fits.open(path) as file:
            assert [file[name].data.mean() for name in names] == pytest.approx([490] * len(names), abs=1)


@pytest.mark.parametrize(("ramp_adu", "noise", "axis"), [(40, 20, 1), (25, 9, 0)])
def test_a_bias_with_the_ramp_of_its_amplifier_has_no_light(
    tmp_path: Path, ramp_adu: float, noise: float, axis: int
) -> None:
    night, shape = Night(tmp_path), (128, 160)
    sensor = Sensor(shape, bias=0, noise=noise)
    ramp = 1000 + ramp_adu * np.indices(shape)[axis] / shape[axis]
    write(night.darks, [whole(ramp + sensor.rng.normal(0, noise, shape)) for _ in range(20)], "Bias Frame", 0.0)
    outcome = made(night)
    assert header_of(night, "bias")["QCVERD"] == "PASS"
    assert "light" not in outcome.text.replace("light frames", "")


@pytest.mark.parametrize(("share", "every", "count"), [(0.03, 2, 24), (0.05, 3, 12)])
def test_rows_that_change_from_flat_to_flat_are_named(tmp_path: Path, share: float, every: int, count: int) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=770, noise=7, gain=0.5)
    write(night.darks, sensor.frames(20), "Bias Frame", 0.0)
    flats = [sensor.frame(40000.0).astype(float) for _ in range(count)]
    for number in range(1, count, every):
        flats[number][::2] = 770 + (flats[number][::2] - 770) * (1 + share)
    write(night.flats, [whole(flat) for flat in flats], "Flat Frame", 0.03)
    outcome = made(night)
    assert "frames disagree in shape" in " ".join(outcome.stderr.split())
    assert header_of(night, "flat")["QCVERD"] != "PASS"


# ---- which frames belong together, and with which dark ----


@pytest.mark.parametrize(("count", "bad", "share"), [(30, 16, 0.11), (12, 0, 0.2)])
def test_one_bad_flat_is_left_out_and_lights_are_calibrated(tmp_path: Path, count: int, bad: int, share: float) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=770, noise=7, gain=0.5)
    write(night.darks, sensor.frames(20), "Bias Frame", 0.0)
    flats = [sensor.frame(40000.0) for _ in range(count)]
    spoiled = flats[bad].astype(float)
    spoiled[::2] *= 1 + share
    flats[bad] = whole(spoiled)
    paths = write(night.flats, flats, "Flat Frame", 0.03)
    write(tmp_path / "lights", [sensor.frame(500.0)], "Light Frame", 0.03)
    outcome = made(night)
    assert f"left out: {paths[bad]}" in outcome.stderr.replace("\n", "")
    assert header_of(night, "flat")["NCOMBINE"] == count - 1
    outcome, images = calibrated(night)
    assert outcome.exit_code == 0, outcome.text
    (sky,) = images.values()
    assert sky[::2].mean() == pytest.approx(500, abs=2)
    assert sky[1::2].mean() == pytest.approx(500, abs=2)


@pytest.mark.parametrize(("bias_c", "flat_c", "exposure_s"), [(2.0, 24.9, 0.03), (-20.0, 12.0, 0.5)])
def test_warm_flats_take_a_cold_bias(tmp_path: Path, bias_c: float, flat_c: float, exposure_s: float) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=770, noise=7)
    write(night.darks, sensor.frames(10), "Bias Frame", 0.001, CCD_TEMP=bias_c)
    light = 40000 * vignetting((96, 128), 0.2)
    write(night.flats, sensor.frames(10, light), "Flat Frame", exposure_s, CCD_TEMP=flat_c)
    said = " ".join(made(night).stderr.split())
    assert "bias alone" in said
    assert "it can be wrong by" in said
    assert f"{bias_c:g} C" in said
    np.testing.assert_allclose(image_of(night, "flat"), light / light.mean(), rtol=0.01)


@pytest.mark.parametrize(("set_points", "step_c", "count"), [((0.0, 1.96), 0.3, 30), ((-5.0, -4.0, -3.0), 0.5, 15)])
def test_a_set_point_that_jitters_does_not_split_a_bias(
    tmp_path: Path, set_points: tuple[float, ...], step_c: float, count: int
) -> None:
    night, sensor = Night(tmp_path), Sensor((64, 80), bias=770, noise=7)
    for number, frame in enumerate(sensor.frames(count)):
        set_c = set_points[number % len(set_points)]
        cards = {"SET_TEMP": set_c, "CCD_TEMP": 2.0 + step_c * number}
        write(night.darks, [frame], "Bias Frame", 0.001, stem=f"bias_{number:02d}", **cards)
    outcome = made(night)
    assert header_of(night, "bias")["NCOMBINE"] == count
    assert f"2 to {2.0 + step_c * (count - 1):.4g} C" in outcome.stderr


@pytest.mark.parametrize(
    "cards",
    [{"ZEROCOR": "Nov 15 2:58 Zero level correction image is Zero"}, {"CALSTAT": "B"}, {"SUBBIAS": "subtract_bias"}],
    ids=lambda cards: next(iter(cards)),
)
def test_flats_without_their_bias_need_none(tmp_path: Path, cards: dict[str, str]) -> None:
    night, sensor = Night(tmp_path), Sensor((64, 80), bias=1000, noise=5)
    write(night.darks, sensor.frames(5), "Bias Frame", 0.0)
    light = 20000 * vignetting((64, 80), 0.2)
    flats = [sensor.rng.poisson(light).astype("f4") for _ in range(5)]
    write(night.flats, flats, "Flat Frame", 1.0, FILTER="V", **cards)
    said = " ".join(made(night).stderr.split())
    assert "subtracted already" in said
    np.testing.assert_allclose(image_of(night, "flat"), light / light.mean(), rtol=0.03)


@pytest.mark.parametrize(("synthetic_bias", "cards"), [(500, {}), ("10 * OFFSET", {"OFFSET": 50})])
def test_no_bias_at_all_and_a_level_instead(tmp_path: Path, synthetic_bias: float | str, cards: dict[str, int]) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=500, noise=5)
    light = 20000 * vignetting((96, 128), 0.4)
    write(night.flats, sensor.frames(10, light), "Flat Frame", 1.0, FILTER="L", **cards)
    without = run_command(night)
    assert without.exit_code == 1
    assert "master_frames.synthetic_bias" in without.stderr
    made(night, synthetic_bias=synthetic_bias)
    np.testing.assert_allclose(image_of(night, "flat"), light / light.mean(), rtol=0.02)


@pytest.mark.parametrize(("date", "dtype"), [("2021-09-17 T10:25:1{}", "f4"), ("17.09.2021 10:25:1{}", "u2")])
def test_the_kind_in_imagtyp_alone(tmp_path: Path, date: str, dtype: str) -> None:
    night, sensor = Night(tmp_path), Sensor((64, 80), bias=770, noise=7)
    for number, frame in enumerate(sensor.frames(6)):
        cards = {"IMAGETYP": None, "IMAGTYP": "Bias Frame", "DATE_OBS": date.format(number)}
        write(night.darks, [frame.astype(dtype)], "x", 0.001, stem=f"x{number}", **cards)
    made(night)
    assert header_of(night, "bias")["NCOMBINE"] == 6


@pytest.mark.parametrize(("offset", "dtype", "count"), [(300.2, "f8", 12), (299.0, "f4", 5)])
def test_copies_that_another_program_made_are_left_out(tmp_path: Path, offset: float, dtype: str, count: int) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=300, noise=3)
    write(night.darks, sensor.frames(12), "Bias Frame", 0.0)
    light = 7000 * vignetting((96, 128), 0.2)
    flats = sensor.frames(count, light)
    write(night.flats / "raw", flats, "Flat Frame", 30.0)
    copies = [(flat.astype(float) - offset).astype(dtype) for flat in flats]
    write(night.flats / "reduced", copies, "Flat Frame", 30.0, stem="flat_b")
    outcome = made(night)
    assert header_of(night, "flat")["NCOMBINE"] == count
    assert "flat_b_000.fits: left out" in outcome.stderr.replace("\n", "")
    np.testing.assert_allclose(image_of(night, "flat"), light / light.mean(), rtol=0.05)
    assert image_of(night, "flat").std() == pytest.approx((light / light.mean()).std(), rel=0.02)


@pytest.mark.parametrize(
    ("dates", "columns"), [(("2026-01-10", "2026-06-10"), (20, 70)), (("2026-03-01", "2026-03-02"), (10, 50))]
)
def test_flats_of_two_nights_serve_each_its_own_lights(
    tmp_path: Path, dates: tuple[str, str], columns: tuple[int, int]
) -> None:
    night, shape = Night(tmp_path), (96, 128)
    sensor = Sensor(shape, bias=500, noise=4)
    settings = {"GAIN": 100, "OFFSET": 50, "SET_TEMP": -10.0, "CCD_TEMP": -10.0}

    def shadow(column: int) -> Frame:
        return np.broadcast_to(1 - 0.3 * np.exp(-((np.arange(shape[1]) - column) ** 2) / 32), shape)

    bias = {"DATE_OBS": f"{dates[0]}T18:00:00", **settings}
    write(night.darks, sensor.frames(10), "Bias Frame", 0.0, **bias)
    for date, column in zip(dates, columns, strict=True):
        flats = {"DATE_OBS": f"{date}T19:00:00", "FILTER": "L", **settings}
        write(night.flats, sensor.frames(8, 25000 * shadow(column)), "Flat Frame", 1.7, stem=f"flat_{date}", **flats)
        light = {"DATE_OBS": f"{date}T22:00:00", "FILTER": "L", **settings}
        write(
            tmp_path / "lights",
            [sensor.frame(3000 * shadow(column))],
            "Light Frame",
            1.7,
            stem=f"light_{date}",
            **light,
        )
    made(night)
    names = sorted(path.name for path in night.masters.glob("master_flat*.fits"))
    assert ["night" + date.replace("-", "") in name for date, name in zip(dates, names, strict=True)] == [True, True]
    outcome, images = calibrated(night)
    assert outcome.exit_code == 0, outcome.text
    assert len(images) == 2
    for sky in images.values():
        columns_of_sky = sky.mean(axis=0) / sky.mean()
        assert [columns_of_sky[column] for column in columns] == pytest.approx([1, 1], abs=0.01)


@pytest.mark.parametrize(("dark_s", "light_s"), [(60.0, 65.9), (120.0, 114.0)])
def test_a_dark_of_nearly_the_exposure_is_scaled_with_the_bias(tmp_path: Path, dark_s: float, light_s: float) -> None:
    night, shape = Night(tmp_path), (96, 128)
    sensor = Sensor(shape, bias=500, noise=4)
    hot = np.zeros(shape)
    hot[5::12, 5::12] = 40.0
    settings = {"GAIN": 100, "CCD_TEMP": -10.0, "FILTER": "L"}
    write(night.darks, sensor.frames(12), "Bias Frame", 0.0, **settings)
    write(night.darks / "dark", sensor.frames(12, (1 + hot) * dark_s), "Dark Frame", dark_s, **settings)
    write(night.flats, sensor.frames(12, 30000.0), "Flat Frame", 1.0, **settings)
    write(tmp_path / "lights", [sensor.frame((1 + hot) * light_s + 1000)], "Light Frame", light_s, **settings)
    made(night)
    outcome, images = calibrated(night)
    assert outcome.exit_code == 0, outcome.text
    assert f"no dark of {light_s:g} s, dark current is scaled" in " ".join(outcome.stderr.split())
    (sky,) = images.values()
    noise = np.sqrt(1000 + 41 * light_s)
    assert sky[hot == 0].mean() == pytest.approx(1000, abs=2)
    assert sky[hot > 0].mean() == pytest.approx(1000, abs=3 * noise / np.sqrt(np.count_nonzero(hot)))


@pytest.mark.parametrize(("count", "high", "step"), [(7, 2, 14), (12, 3, 30)])
def test_a_bias_of_two_levels_is_named_again_where_it_is_used(
    tmp_path: Path, count: int, high: int, step: float
) -> None:
    night, sensor = Night(tmp_path), Sensor((96, 128), bias=1340, noise=8)
    frames = sensor.frames(high, bias=1340 + step) + sensor.frames(count - high)
    paths = write(night.darks / "bias", frames, "Bias Frame", 0.0)
    write(night.darks / "dark", sensor.frames(5, 30.0), "Dark Frame", 300.0)
    write(tmp_path / "lights", [sensor.frame(560.0)], "Light Frame", 600.0)
    said = " ".join(made(night).stderr.split())
    for path in paths[:high]:
        assert path.name in said
    outcome, images = calibrated(night, "--flat", "none")
    assert outcome.exit_code == 0, outcome.text
    again = " ".join(outcome.stderr.split())
    assert "level" in again
    assert "master_bias" in again
    assert len(images) == 1
