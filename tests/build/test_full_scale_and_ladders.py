"""Folders of cameras whose full scale is not 65535, of whole floats, of ladders and of stuck columns: truth known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from support import night as n
from support import quality_nights as q
from support.fits_samples import read_with_astropy
from support.night import Night

SHAPE = (192, 224)
Frames = Sequence[NDArray[Any]]


class Camera:
    """A camera of known bias, noise, gain and end of the samples."""

    def __init__(
        self,
        *,
        bias: float,
        noise: float,
        gain: float,
        end: int = 65535,
        step: int = 1,
        dtype: str = "u2",
        seed: int = 5,
    ) -> None:
        self.bias, self.noise, self.gain, self.end, self.step, self.dtype = bias, noise, gain, end, step, dtype
        self.rng = np.random.default_rng(seed)

    def frame(self, signal_adu: float | NDArray[Any] = 0.0) -> NDArray[Any]:
        light = np.broadcast_to(np.asarray(signal_adu, float), SHAPE)
        return self.read(self.rng.poisson(light * self.gain) / self.gain)

    def read(self, signal_adu: NDArray[Any]) -> NDArray[Any]:
        values = np.rint((signal_adu + self.bias + self.rng.normal(0, self.noise, SHAPE)) / self.step) * self.step
        return np.clip(values, 0, self.end).astype(self.dtype)

    def frames(self, count: int, signal_adu: float | NDArray[Any] = 0.0) -> list[NDArray[Any]]:
        return [self.frame(signal_adu) for _ in range(count)]


def folder(root: Path, bias: Frames, flats: Frames, exposures_s: Sequence[float] | float = 1.0, **cards: Any) -> Night:
    night = Night(root)
    n.write_frames(night.darks / "bias", np.stack(bias), "Bias Frame", 0.0, **cards)
    n.write_frames(night.flats / "flat", np.stack(flats), "Flat Frame", exposures_s, **cards)
    return night


def image(night: Night, kind: str) -> NDArray[np.float32]:
    (path,) = night.masters.glob(f"master_{kind}_*.fits")
    return np.asarray(read_with_astropy(path)[0])


def camera_of(night: Night) -> dict[str, Any]:
    return dict(q.newest_report(night)["camera"])


# ---- full scale ----


@pytest.mark.parametrize(("bits", "shift"), [(10, 0), (12, 0), (14, 0), (12, 4), (14, 2)], ids=lambda value: str(value))
@pytest.mark.parametrize("share", [0.5, 0.03])
def test_flats_that_are_clipped_at_the_end_of_fewer_bits_are_named_and_make_no_master_that_passes(
    tmp_path: Path, bits: int, shift: int, share: float
) -> None:
    step = 1 << shift
    end = (2**bits - 1) * step
    camera = Camera(bias=0.02 * end, noise=1.2 * step, gain=10.0 / step, end=end, step=step)
    lit = np.where(np.arange(SHAPE[1]) < share * SHAPE[1], 1.3 * end, 0.7 * end)
    night = folder(tmp_path, camera.frames(8), camera.frames(8, lit))
    outcome = q.run(night)
    report = q.newest_report(night)
    found = camera_of(night)
    assert found["saturation_adu"] == end
    assert found["gain_e_per_adu"] is None
    assert found["full_well_e"] is None
    flat = q.master_of(report, "flat")
    named = {one["check"] for one in flat["findings"] if one["outcome"] != "pass"}
    assert "saturation" in named
    assert "flat too dim" not in named
    assert flat["verdict"] == ("fail" if share > 0.1 else "warn")
    assert outcome.exit_code == (3 if share > 0.1 else 0)
    assert f"full scale is {end} ADU" in outcome.text


@pytest.mark.parametrize(("bits", "level"), [(10, 500), (12, 2000), (12, 1100), (14, 8000)])
def test_flats_at_half_of_an_unshifted_range_have_no_warning(tmp_path: Path, bits: int, level: float) -> None:
    camera = Camera(bias=60, noise=1.5, gain=10.0, end=2**bits - 1)
    night = folder(tmp_path, camera.frames(20), camera.frames(20, level))
    assert q.run(night).exit_code == 0
    assert q.alarms(q.newest_report(night)) == set()
    assert camera_of(night)["saturation_adu"] == 2**bits - 1


def test_dim_flats_of_16_bits_stay_too_dim(tmp_path: Path) -> None:
    camera = Camera(bias=1000, noise=12, gain=1.4)
    night = folder(tmp_path, camera.frames(8), camera.frames(8, 1500))
    q.run(night)
    assert ("flat", "flat too dim") in q.alarms(q.newest_report(night))
    assert camera_of(night)["saturation_adu"] == 65535


@pytest.mark.parametrize("card", ["SATURATE", "MAXADU", "DATAMAX", "SATLEVEL"])
def test_a_card_says_full_scale(tmp_path: Path, card: str) -> None:
    camera = Camera(bias=500, noise=12, gain=1.4)
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 15000), **{card: 30000})
    q.run(night)
    assert camera_of(night)["saturation_adu"] == 30000
    assert any(card in note for note in camera_of(night)["notes"])


def test_a_card_that_samples_contradict_is_not_taken_and_named(tmp_path: Path) -> None:
    camera = Camera(bias=500, noise=12, gain=1.4)
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 30000), MAXADU=4095)
    q.run(night)
    assert camera_of(night)["saturation_adu"] == 65535
    assert any(
        "MAXADU says that full scale is 4095 ADU, but samples reach" in note for note in camera_of(night)["notes"]
    )


def test_the_brightest_sample_of_each_frame_is_no_full_scale(tmp_path: Path) -> None:
    camera = Camera(bias=500, noise=12, gain=1.4)
    night = Night(tmp_path)
    for kind, frames, exposure_s in (("Bias", camera.frames(6), 0.0), ("Flat", camera.frames(6, 30000), 1.0)):
        place = (night.darks if kind == "Bias" else night.flats) / kind
        for index, frame in enumerate(frames):
            n.write_frames(
                place, frame[None], f"{kind} Frame", exposure_s, stem=f"{kind}_{index}", DATAMAX=int(frame.max())
            )
    q.run(night)
    assert camera_of(night)["saturation_adu"] == 65535


def test_the_configuration_overrides_what_samples_show(tmp_path: Path) -> None:
    camera = Camera(bias=60, noise=1.5, gain=10.0, end=4095)
    night = folder(tmp_path, camera.frames(8), camera.frames(8, 2000))
    outcome = q.run(night, quality={"full_scale_adu": 2200})
    assert camera_of(night)["saturation_adu"] == 2200
    assert ("flat", "flat too bright") in q.alarms(q.newest_report(night))
    assert "full scale is 2200 ADU: quality.full_scale_adu says so" in outcome.text


@pytest.mark.parametrize(
    ("dtype", "step", "stated"),
    [("i4", 1, ""), ("i4", 2, "card"), ("i4", 4, "key"), ("f4", 4, ""), ("f8", 1, "card"), ("f4", 2, "key")],
)
def test_flats_above_16_bits_are_neither_saturated_nor_of_unknown_gain(
    tmp_path: Path, dtype: str, step: int, stated: str
) -> None:
    camera = Camera(bias=600, noise=12, gain=2.0, step=step, end=262143, dtype=dtype)
    cards = {"SATURATE": 262143} if stated == "card" else {}
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 90000), **cards)
    quality = {"full_scale_adu": 262143} if stated == "key" else {}
    assert q.run(night, quality=quality).exit_code == 0
    found = camera_of(night)
    assert found["gain_e_per_adu"] == pytest.approx(2.0, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(12, rel=0.02)
    assert found["saturation_adu"] == (262143 if stated else None)
    findings = q.master_of(q.newest_report(night), "flat")["findings"]
    named = {one["check"] for one in findings if one["outcome"] != "pass"}
    assert not {"saturation", "flat too bright"} & named


@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize(("end", "cards"), [(131071, {}), (200000, {}), (262143, {"SATURATE": 262143})])
def test_flats_that_are_clipped_above_16_bits_are_saturated(
    tmp_path: Path, end: int, cards: dict[str, Any], hot: bool
) -> None:
    camera = Camera(bias=600, noise=12, gain=2.0, end=end, dtype="i4")
    bias = camera.frames(6)
    for frame in bias:
        frame[100, 100] = end if hot else 600
    night = folder(tmp_path, bias, camera.frames(6, 1.5 * end), **cards)
    assert q.run(night).exit_code == 3
    assert camera_of(night)["saturation_adu"] == end
    assert camera_of(night)["gain_e_per_adu"] is None


@pytest.mark.parametrize("end", [1023, 4095, 16383, 50000])
def test_a_ladder_of_single_flats_ends_where_its_samples_pile_up(tmp_path: Path, end: int) -> None:
    camera = Camera(bias=0.1 * end, noise=3, gain=2.0, end=end)
    shares = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
    ladder = [camera.frame(share * end) for share in shares]
    night = folder(tmp_path, camera.frames(6), ladder, [20 * share for share in shares])
    q.run(night)
    assert camera_of(night)["saturation_adu"] == end
    assert camera_of(night)["gain_e_per_adu"] == pytest.approx(2.0, rel=0.03)


@pytest.mark.parametrize("lit", [60000, 48000])
def test_flats_in_the_bend_of_an_antiblooming_camera_give_no_gain(tmp_path: Path, lit: float) -> None:
    camera = Camera(bias=110, noise=30, gain=0.47)
    light = np.broadcast_to(lit * (1 - 0.3 * np.linspace(0, 1, SHAPE[1])), SHAPE)

    def bent() -> NDArray[Any]:
        x = camera.rng.poisson(light * 0.47) / 0.47
        return camera.read(np.where(x > 39000, 39000 + 6000 * (1 - np.exp(-(x - 39000) / 6000)), x))

    night = folder(tmp_path, camera.frames(10), [bent() for _ in range(10)], 100.0)
    q.run(night)
    found = camera_of(night)
    flat = q.master_of(q.newest_report(night), "flat")
    assert flat["verdict"] != "pass"
    assert {"linearity", "saturation"} & {f["check"] for f in flat["findings"] if f["outcome"] != "pass"}
    assert found["gain_e_per_adu"] is None or found["gain_e_per_adu"] == pytest.approx(0.47, rel=0.03)


@pytest.mark.parametrize("knee", [10000, 39000])
@pytest.mark.parametrize("lit", [2.0, 4.0])
def test_flats_without_photon_noise_are_full(tmp_path: Path, knee: float, lit: float) -> None:
    camera = Camera(bias=110, noise=20, gain=0.6)
    light = np.broadcast_to(lit * knee * (1 - 0.3 * np.linspace(0, 1, SHAPE[1])), SHAPE)

    def full() -> NDArray[Any]:
        x = camera.rng.poisson(light * 0.6) / 0.6
        return camera.read(np.where(x > knee, knee * (1.1 - 0.1 * np.exp(-(x - knee) / (0.1 * knee))), x))

    night = folder(tmp_path, camera.frames(8), [full() for _ in range(8)], 10.0)
    assert q.run(night).exit_code == 3
    assert camera_of(night)["gain_e_per_adu"] is None
    assert camera_of(night)["saturation_adu"] == pytest.approx(1.1 * knee + 110, rel=0.02)


@pytest.mark.parametrize("end", [3900, 4095, 48000])
def test_flats_that_are_clipped_all_over_are_saturated_not_dim(tmp_path: Path, end: int) -> None:
    camera = Camera(bias=0.01 * end, noise=2, gain=5, end=end)
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 1.5 * end))
    assert q.run(night).exit_code == 3
    report = q.newest_report(night)
    assert camera_of(night)["saturation_adu"] == end
    named = {one["check"] for one in q.master_of(report, "flat")["findings"] if one["outcome"] == "fail"}
    assert {"saturation", "flat too bright"} <= named
    assert ("flat", "flat too dim") not in q.alarms(report)


@pytest.mark.parametrize("bits", [8, 10])
def test_rounding_of_few_bits_is_no_light_in_bias_frames(tmp_path: Path, bits: int) -> None:
    end = 2**bits - 1
    camera = Camera(bias=0.03 * end, noise=1.0, gain=4.0, end=end)
    night = folder(tmp_path, camera.frames(8), camera.frames(8, 0.5 * end))
    q.run(night)
    assert ("bias", "light leak") not in q.alarms(q.newest_report(night))


@pytest.mark.parametrize(("cards", "from_adu"), [({}, 4091), ({"SATURATE": 3000}, 3000)])
def test_science_frames_are_saturated_where_the_camera_ends(
    tmp_path: Path, cards: dict[str, Any], from_adu: int
) -> None:
    camera = Camera(bias=60, noise=1.5, gain=10.0, end=4095)
    night = folder(tmp_path, camera.frames(8), camera.frames(8, 2000))
    q.run(night)
    light = camera.frame(500)
    light[10, 10], light[11, 11] = 4095, from_adu - 20
    n.write_frames(tmp_path / "lights", light[np.newaxis], "Light Frame", 1.0, **cards)
    target = tmp_path / "cal"
    n.ostcal("calibrate", tmp_path / "lights", "--config", q.config(night), "--output-dir", target, "--dq")
    (path,) = target.glob("*.fits")
    with fits.open(path) as file:
        flags = file["DQ"].data & 64
    assert flags[10, 10]
    assert np.count_nonzero(flags) == 1


# ---- properties ----


@pytest.mark.parametrize("count", range(2, 14))
def test_the_read_noise_is_known_for_every_number_of_pairs(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    sigmas = [(5.0, 5.0, 5.4, 5.2)[i % 4] for i in range(count)]
    bias = [np.rint(1000 + rng.normal(0, sigma, SHAPE)).astype("u2") for sigma in sigmas]
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", np.stack(bias), "Bias Frame", 0.0)
    q.run(night, min_frames=2)
    found = camera_of(night)["read_noise_adu"]
    pairs = [np.hypot(a, b) / np.sqrt(2) for a, b in pairwise(sigmas)]
    assert min(pairs) * 0.98 <= found <= max(pairs) * 1.02


@pytest.mark.parametrize("stuck", [0, 65535, 20000])
def test_a_stuck_column_is_in_no_property(tmp_path: Path, stuck: int) -> None:
    camera = Camera(bias=1000, noise=5, gain=1.8)

    def with_column(frames: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for frame in frames:
            frame[:, 100] = stuck
        return frames

    night = folder(tmp_path, with_column(camera.frames(6)), with_column(camera.frames(6, 28000)), 5.0)
    q.run(night)
    found = camera_of(night)
    assert found["full_well_adu"] is None
    assert found["gain_e_per_adu"] == pytest.approx(1.8, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.02)


def two_columns(frame: NDArray[Any]) -> None:
    frame[:, 50:52] = 65535


def edges(frame: NDArray[Any]) -> None:
    frame[:, 0], frame[:, -1] = 65535, 0


def lower_half(frame: NDArray[Any]) -> None:
    frame[80:, 77] = 65535


def many(frame: NDArray[Any]) -> None:
    frame[:, 5::20] = 65535


def rows(frame: NDArray[Any]) -> None:
    frame[40:42] = 40000


def block(frame: NDArray[Any]) -> None:
    frame[10:20, 10:20] = 65535


def eighth(frame: NDArray[Any]) -> None:
    frame[::8] = 65535


def dead_columns(frame: NDArray[Any]) -> None:
    frame[:, 30:50] = 0


@pytest.mark.parametrize("stick", [two_columns, edges, lower_half, many, rows, block, dead_columns])
def test_stuck_pixels_of_any_shape_give_no_full_well_and_no_full_scale(
    tmp_path: Path, stick: Callable[[NDArray[Any]], None]
) -> None:
    camera = Camera(bias=1000, noise=5, gain=1.8)
    bias, flats = camera.frames(6), camera.frames(6, 28000)
    for frame in (*bias, *flats):
        stick(frame)
    night = folder(tmp_path, bias, flats, 5.0)
    q.run(night)
    found = camera_of(night)
    assert found["full_well_adu"] is None
    assert found["saturation_adu"] == 65535
    assert found["gain_e_per_adu"] == pytest.approx(1.8, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize("stick", [eighth, dead_columns])
def test_many_stuck_pixels_are_in_no_noise_gain_and_dark_current(
    tmp_path: Path, stick: Callable[[NDArray[Any]], None]
) -> None:
    camera = Camera(bias=500, noise=5, gain=2.0)
    bias, flats, darks = camera.frames(6), camera.frames(6, 20000), camera.frames(6, 60)
    for frame in (*bias, *flats, *darks):
        stick(frame)
    night = folder(tmp_path, bias, flats)
    n.write_frames(night.darks / "dark", np.stack(darks), "Dark Frame", 60.0)
    q.run(night)
    found = camera_of(night)
    assert found["gain_e_per_adu"] == pytest.approx(2.0, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.01)
    assert found["dark_current_adu_per_s"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1), ("f8", 1), ("f4", 1 / 65535), ("f8", 1 / 65535)])
def test_whole_floats_are_raw_and_their_masters_are_those_of_integers(tmp_path: Path, dtype: str, scale: float) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    bias, flats = camera.frames(6), camera.frames(6, 20000)
    whole = folder(tmp_path / "whole", bias, flats)
    floats = folder(
        tmp_path / "floats", [(f * scale).astype(dtype) for f in bias], [(f * scale).astype(dtype) for f in flats]
    )
    q.run(whole)
    q.run(floats)
    found = camera_of(floats)
    assert found["gain_e_per_adu"] == pytest.approx(0.5, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(7.0, rel=0.02)
    for kind in ("bias", "flat"):
        assert np.array_equal(image(whole, kind), image(floats, kind))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_whole_floats_and_wide_integers_of_a_series_are_raw(tmp_path: Path, dtype: str) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    files = folder(
        tmp_path / "files",
        [frame.astype(dtype) for frame in camera.frames(6)],
        [frame.astype(dtype) for frame in camera.frames(6, 20000)],
    )
    night = Night(tmp_path / "night")
    night.root.mkdir()
    assert n.ostcal("import", files.darks, files.flats, "--config", q.config(night)).exit_code == 0
    q.run(night)
    q.run(files)
    assert camera_of(night)["gain_e_per_adu"] == pytest.approx(0.5, rel=0.02)
    assert camera_of(night)["read_noise_adu"] == pytest.approx(7.0, rel=0.02)
    for kind in ("bias", "flat"):
        assert np.array_equal(image(night, kind), image(files, kind))


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1), ("f4", 1 / 65535), ("f8", 1 / 65535)])
def test_a_light_of_whole_floats_is_calibrated_as_the_integers_it_is(tmp_path: Path, dtype: str, scale: float) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 20000))
    q.run(night)
    light = camera.frame(500)
    light[10, 10] = 65535
    values = []
    for name, frame in (("whole", light), ("float", (light * scale).astype(dtype))):
        n.write_frames(tmp_path / name, frame[np.newaxis], "Light Frame", 1.0)
        outcome = n.ostcal(
            "calibrate", tmp_path / name, "--config", q.config(night), "--output-dir", tmp_path / f"{name}_cal", "--dq"
        )
        assert outcome.exit_code == 0, outcome.text
        (path,) = (tmp_path / f"{name}_cal").glob("*.fits")
        with fits.open(path) as file:
            values.append((np.array(file[0].data), np.array(file["DQ"].data)))
    assert np.array_equal(values[0][0], values[1][0], equal_nan=True)
    assert np.array_equal(values[0][1], values[1][1])
    assert values[1][1][10, 10] & 64


def test_a_light_between_0_and_1_is_refused_in_one_line(tmp_path: Path) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    night = folder(tmp_path, camera.frames(6), camera.frames(6, 20000))
    q.run(night)
    n.write_frames(tmp_path / "lights", (camera.frame(500) / 50000.3).astype("f4")[np.newaxis], "Light Frame", 1.0)
    outcome = n.ostcal("calibrate", tmp_path / "lights", "--config", q.config(night), "--output-dir", tmp_path / "cal")
    assert outcome.exit_code != 0
    assert "its samples are floats between 0 and 1, and its masters are in ADU" in outcome.text


def test_a_night_of_floats_between_0_and_1_says_so(tmp_path: Path) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    bias, flats = (
        [(f / 50000.3).astype("f4") for f in frames] for frames in (camera.frames(4), camera.frames(4, 20000))
    )
    outcome = q.run(folder(tmp_path, bias, flats))
    assert "all frames are floats between 0 and 1" in outcome.text


def test_one_sample_that_is_no_whole_number_makes_floats(tmp_path: Path) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    bias = [frame.astype("f4") for frame in camera.frames(4)]
    bias[2][101, 7] += 0.5
    night = folder(tmp_path, bias, [frame.astype("f4") for frame in camera.frames(4, 20000)])
    assert q.run(night).exit_code == 0
    assert image(night, "bias")[101, 7] % 0.125 == pytest.approx(0, abs=1e-4)


def test_flats_between_0_and_1_among_frames_in_adu_are_left_out_by_name(tmp_path: Path) -> None:
    camera = Camera(bias=770, noise=7, gain=0.5)
    flats = [(frame / 50000.3).astype("f4") for frame in camera.frames(4, 20000)]
    night = folder(tmp_path, camera.frames(4), flats)
    outcome = q.run(night)
    assert "its samples are floats between 0 and 1" in outcome.text


# ---- ladders ----

LAMP_S = (0.14, 0.28, 0.56, 1.1, 2.2, 4.5, 9, 18, 36, 45, 54, 63, 72, 81, 90, 108, 126, 144, 180)


def test_a_ladder_of_lamp_flats_is_no_master_and_serves_gain_and_linearity(tmp_path: Path) -> None:
    camera = Camera(bias=115, noise=6, gain=2.3)
    ladder = [camera.read(np.minimum(camera.rng.poisson(300 * t * 2.3, SHAPE) / 2.3, 48000)) for t in LAMP_S]
    night = folder(tmp_path, camera.frames(5), ladder, LAMP_S)
    three = camera.frames(3, 300 * 29.5)
    n.write_frames(night.flats / "three", np.stack(three), "Flat Frame", 29.5)
    outcome = q.run(night)
    report = q.newest_report(night)
    flat = q.master_of(report, "flat")
    assert (flat["settings"]["exposure_time_s"], flat["n_frames"]) == (29.5, 3)
    found = camera_of(night)
    assert found["gain_e_per_adu"] == pytest.approx(2.3, rel=0.02)
    assert found["linearity_percent"] == pytest.approx(0, abs=0.3)
    assert outcome.text.count("fewer than min_frames") == 1
    assert "0.14 to 180 s, 19 in all" in outcome.text


@pytest.mark.parametrize("exposures_s", [(1, 2, 4, 8, 16, 30), (2, 4, 6, 8, 10, 12, 14)])
def test_twilight_flats_of_one_level_stay_one_master(tmp_path: Path, exposures_s: Sequence[float]) -> None:
    camera = Camera(bias=1000, noise=6, gain=1.5)
    rng = np.random.default_rng(3)
    flats = [camera.frame(25000 * rng.uniform(0.85, 1.15)) for _ in exposures_s]
    night = folder(tmp_path, camera.frames(5), flats, exposures_s)
    q.run(night)
    assert q.master_of(q.newest_report(night), "flat")["n_frames"] == len(exposures_s)


@pytest.mark.parametrize(("rate", "noise"), [(0.35, 6.5), (0.02, 3.0), (4.0, 12.0)])
def test_single_darks_serve_the_dark_current_with_the_noise_of_one_frame(
    tmp_path: Path, rate: float, noise: float
) -> None:
    camera = Camera(bias=1000, noise=noise, gain=1.0)
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", np.stack(camera.frames(10)), "Bias Frame", 0.0)
    times = (10, 20, 30, 60, 150, 300)
    darks = np.stack([camera.read(np.full(SHAPE, rate * t)) for t in times])
    n.write_frames(night.darks / "dark", darks, "Dark Frame", times)
    q.run(night)
    found = camera_of(night)
    assert found["dark_current_adu_per_s"] == pytest.approx(rate, abs=0.001 * max(1, noise / 6.5))
    assert 0 < found["dark_current_adu_per_s_uncertainty"] < 0.002
    assert abs(found["dark_current_adu_per_s"] - rate) < 5 * found["dark_current_adu_per_s_uncertainty"]
    assert 0.02 < found["dark_ladder"]["reduced_chi_square"] < 4


def test_two_series_do_not_give_a_dark_current_finer_than_the_bias_may_drift(tmp_path: Path) -> None:
    camera = Camera(bias=1000, noise=5, gain=1.0)
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", np.stack(camera.frames(5)), "Bias Frame", 0.0)
    n.write_frames(night.darks / "dark", np.stack(camera.frames(5, 30)), "Dark Frame", 100.0)
    q.run(night)
    found = camera_of(night)
    assert found["dark_current_adu_per_s"] == pytest.approx(0.3, abs=0.01)
    assert found["dark_current_adu_per_s_uncertainty"] >= 0.01


@pytest.mark.parametrize("moved_adu", [1.0, -0.5])
@pytest.mark.parametrize("times", [(60, 120), (60, 120, 180), (30, 60, 90, 120)])
def test_a_bias_that_moves_between_masters_is_in_the_error_of_the_dark_current(
    tmp_path: Path, times: Sequence[float], moved_adu: float
) -> None:
    camera = Camera(bias=1000, noise=5, gain=1.0)
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", np.stack(camera.frames(8)), "Bias Frame", 0.0)
    for i, t in enumerate(times, 1):
        frames = [camera.read(np.full(SHAPE, t + i * moved_adu)) for _ in range(8)]
        n.write_frames(night.darks / f"dark_{t}", np.stack(frames), "Dark Frame", t)
    q.run(night)
    found = camera_of(night)
    error = found["dark_current_adu_per_s_uncertainty"]
    assert abs(found["dark_current_adu_per_s"] - 1.0) < 2.5 * error
    assert error < 0.05


def test_a_negative_dark_current_is_unknown_with_the_reason(tmp_path: Path) -> None:
    camera = Camera(bias=1000, noise=5, gain=1.0)
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", np.stack(camera.frames(5, 12)), "Bias Frame", 0.0)
    n.write_frames(night.darks / "dark", np.stack(camera.frames(5)), "Dark Frame", 100.0)
    q.run(night)
    found = camera_of(night)
    assert found["dark_current_adu_per_s"] is None
    assert "the level falls" in {r["name"]: r["value"] for r in found["reasons"]}["dark_current_adu_per_s"]
