"""Properties of cameras whose frames have overscan: what was measured is what the frames were made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import night as n
from support import quality_nights as q
from support.night import Night

SHAPE = (192, 224)
Frames = Sequence[NDArray[Any]]


class Sensor:
    """A sensor with overscan at the end of its rows or columns, whose bias level moves from frame to frame."""

    def __init__(
        self, *, gain: float, noise: float, overscan: int, beside: bool = True, end: int = 65535, step: int = 1
    ) -> None:
        self.gain, self.noise, self.overscan, self.beside, self.end, self.step = (
            gain,
            noise,
            overscan,
            beside,
            end,
            step,
        )
        self.rng = np.random.default_rng(11)

    @property
    def cards(self) -> dict[str, str]:
        height, width = SHAPE
        if self.beside:
            return {
                "DATASEC": f"[1:{width},1:{height}]",
                "BIASSEC": f"[{width + 1}:{width + self.overscan},1:{height}]",
            }
        return {
            "DATASEC": f"[1:{width},1:{height}]",
            "BIASSEC": f"[1:{width},{height + 1}:{height + self.overscan}]",
        }

    def frames(self, count: int, signal_adu: float | NDArray[Any], bias_adu: float) -> list[NDArray[Any]]:
        frames = []
        for i in range(count):
            light = np.broadcast_to(np.asarray(signal_adu, float), SHAPE)
            image = self.rng.poisson(light * self.gain) / self.gain
            margin = ((0, 0), (0, self.overscan)) if self.beside else ((0, self.overscan), (0, 0))
            image = np.pad(image, margin) + bias_adu + 3 * i
            image += self.rng.normal(0, self.noise, image.shape)
            frames.append(np.clip(np.rint(image / self.step) * self.step, 0, self.end).astype("u2"))
        return frames


def measured(night: Night, sensor: Sensor, bias: Frames, flats: Frames, **keys: Any) -> dict[str, Any]:
    if bias:
        n.write_frames(night.darks / "bias", np.stack(bias), "Bias Frame", 0.0, **sensor.cards)
    n.write_frames(night.flats / "flat", np.stack(flats), "Flat Frame", 1.0, **sensor.cards)
    q.run(night, **keys)
    return dict(q.newest_report(night)["camera"])


@pytest.mark.parametrize(("overscan", "beside"), [(4, True), (15, True), (64, True), (32, False)])
def test_gain_and_read_noise_are_those_of_the_sensor(tmp_path: Path, overscan: int, beside: bool) -> None:
    sensor = Sensor(gain=1.8, noise=5, overscan=overscan, beside=beside)
    bias, flats = sensor.frames(6, 0, 1040), sensor.frames(6, 28000, 1060)
    found = measured(Night(tmp_path), sensor, bias, flats)
    assert found["gain_e_per_adu"] == pytest.approx(1.8, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.02)
    assert found["saturation_adu"] == 65535
    assert found["step_adu"] == 1


@pytest.mark.parametrize("fit", ["mean", "polynomial"])
def test_a_fit_along_the_overscan_adds_no_noise(tmp_path: Path, fit: str) -> None:
    sensor = Sensor(gain=1.8, noise=5, overscan=6)
    section, trim = sensor.cards["BIASSEC"], sensor.cards["DATASEC"]
    rule = {"section": section, "trim": trim, "fit": fit}
    found = measured(Night(tmp_path), sensor, sensor.frames(6, 0, 1040), sensor.frames(6, 28000, 1060), overscan=rule)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.01)
    assert found["gain_e_per_adu"] == pytest.approx(1.8, rel=0.02)


def test_without_bias_frames_the_overscan_gives_the_read_noise(tmp_path: Path) -> None:
    sensor = Sensor(gain=1.8, noise=5, overscan=32)
    night = Night(tmp_path)
    n.write_frames(night.darks / "dark", np.stack(sensor.frames(6, 2, 1040)), "Dark Frame", 60.0, **sensor.cards)
    q.run(night)
    found = q.newest_report(night)["camera"]
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.05)
    assert "read noise: from the overscan, as there are no bias frames" in found["notes"]


@pytest.mark.parametrize(("bits", "shift"), [(12, 0), (14, 2), (16, 0)])
@pytest.mark.parametrize("bias_share", [0.03, 0.2])
def test_clipped_flats_are_saturated_where_the_converter_ends(
    tmp_path: Path, bits: int, shift: int, bias_share: float
) -> None:
    step, end = 1 << shift, (2**bits - 1) << shift
    sensor = Sensor(gain=4 / step, noise=1.5 * step, overscan=16, end=end, step=step)
    lit = np.where(np.arange(SHAPE[1]) < 0.4 * SHAPE[1], 1.3 * end, 0.5 * end)
    night = Night(tmp_path)
    found = measured(night, sensor, sensor.frames(6, 0, bias_share * end), sensor.frames(6, lit, bias_share * end))
    assert found["saturation_adu"] == end
    assert found["gain_e_per_adu"] is None or found["gain_e_per_adu"] == pytest.approx(4 / step, rel=0.03)
    flat = q.master_of(q.newest_report(night), "flat")
    assert "saturation" in {one["check"] for one in flat["findings"] if one["outcome"] == "fail"}


def test_trimming_alone_leaves_the_samples_what_they_are(tmp_path: Path) -> None:
    sensor = Sensor(gain=2.3, noise=6, overscan=8)
    night = Night(tmp_path)
    cards = {"TRIMSEC": sensor.cards["DATASEC"]}
    n.write_frames(night.darks / "bias", np.stack(sensor.frames(6, 0, 1000)), "Bias Frame", 0.0, **cards)
    n.write_frames(night.flats / "flat", np.stack(sensor.frames(6, 20000, 1000)), "Flat Frame", 1.0, **cards)
    q.run(night)
    found = q.newest_report(night)["camera"]
    assert found["gain_e_per_adu"] == pytest.approx(2.3, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(6.0, rel=0.02)


def test_whole_floats_with_overscan_are_raw(tmp_path: Path) -> None:
    sensor = Sensor(gain=1.8, noise=5, overscan=32)
    bias, flats = ([f.astype("f4") for f in s] for s in (sensor.frames(6, 0, 1040), sensor.frames(6, 28000, 1060)))
    found = measured(Night(tmp_path), sensor, bias, flats)
    assert found["gain_e_per_adu"] == pytest.approx(1.8, rel=0.02)
    assert found["read_noise_adu"] == pytest.approx(5.0, rel=0.02)
