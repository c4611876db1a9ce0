"""How far the masters of a simulated night are from the truth: ``python scripts/demo_night.py FOLDER``.

FOLDER holds ``night.yaml`` with ``camera_type: simulator`` and what ``ostcal workflow`` made of it. That camera is a
sensor whose bias, dark current and flat field are known. Each master is printed beside them, with the noise that a mean
of so many frames allows; one that is further off ends the program with 1.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from ostcal import Config, load_config
from ostcal.simulator.sensor import SENSORS, Exposure, SensorModel

CONFIG_NAME = "night.yaml"
HOT_LIMIT_E_PER_S = 5.0
"""Above what the glow of the amplifier adds, so that only hot pixels are above."""


@dataclass(frozen=True, kw_only=True)
class Master:
    """A master as its file says it is."""

    path: Path
    kind: str
    exposure_time_s: float
    filter_name: str | None
    n_frames: int
    level_adu: float
    """Of a flat: the level that became 1."""

    @property
    def name(self) -> str:
        """Give what it is called in the table."""
        return " ".join(["master", self.kind, self.filter_name or "", f"{self.exposure_time_s:g} s"]).replace("  ", " ")

    def pixels(self) -> NDArray[np.float32]:
        """Read the image."""
        return np.asarray(fits.getdata(self.path), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The simulated sensor at the temperature of the night."""

    sensor: SensorModel
    temperature_c: float

    def unlit(self, exposure_time_s: float) -> Exposure:
        """Give an exposure in the dark."""
        return Exposure(exposure_time_s=exposure_time_s, temperature_c=self.temperature_c)

    def lit(self, master: Master) -> Exposure:
        """Give the exposure of flats: the light is what their level says."""
        response = float(np.mean(self.sensor.response(master.filter_name), dtype=np.float64))
        return Exposure(
            exposure_time_s=master.exposure_time_s,
            temperature_c=self.temperature_c,
            illumination_e_per_s=master.level_adu * self.sensor.gain_e_per_adu / (master.exposure_time_s * response),
            filter_name=master.filter_name,
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A master beside the truth, both in the unit of the master."""

    name: str
    measured: NDArray[np.float32]
    truth: NDArray[np.float32]
    allowed: NDArray[np.floating]
    """Standard deviation that a plain mean of the frames has in each pixel."""

    @property
    def noise_ratio(self) -> float:
        """Noise found over the noise of a plain mean."""
        deviation = (self.measured - self.truth) / self.allowed
        return math.sqrt(float(np.mean(np.square(deviation, dtype=np.float64))))

    @property
    def offset(self) -> float:
        """Mean of the master above the truth."""
        return float(np.mean(self.measured - self.truth, dtype=np.float64))

    @property
    def level(self) -> float:
        """Mean of the truth."""
        return float(np.mean(self.truth, dtype=np.float64))

    @property
    def is_as_expected(self) -> bool:
        """Whether noise and level are what the frames allow.

        Rejection of 15 frames costs up to 8 % of noise. The level may be off by five standard deviations of a mean over
        all pixels, and by 2 % of a pixel's noise, which clipping takes from the long tail of few electrons.
        """
        allowed = float(np.mean(self.allowed, dtype=np.float64))
        limit = 5 * allowed / math.sqrt(self.truth.size) + 0.02 * allowed
        return 0.9 < self.noise_ratio < 1.1 and abs(self.offset) < limit

    def line(self) -> str:
        """Give a line of the table."""
        found, allowed = self.noise_ratio * self._typical_noise, self._typical_noise
        verdict = "as expected" if self.is_as_expected else "NOT AS EXPECTED"
        return (
            f"{self.name:26s}{self.level:12.4f}{self.level + self.offset:12.4f}"
            f"{allowed:12.5f}{found:12.5f}{self.noise_ratio:8.3f}  {verdict}"
        )

    @property
    def _typical_noise(self) -> float:
        return float(np.median(self.allowed))


def masters_of(folder: Path) -> list[Master]:
    """Give the newest master of each kind, exposure and filter; the headers say which is which."""
    found: dict[tuple[str, float, str | None], Master] = {}
    for path in sorted(folder.glob("master_*.fits")):
        master = _master_of(path, fits.getheader(path))
        found[master.kind, master.exposure_time_s, master.filter_name] = master
    return sorted(found.values(), key=lambda one: (one.kind, one.exposure_time_s))


def _master_of(path: Path, header: Any) -> Master:
    return Master(
        path=path,
        kind=str(header["IMAGETYP"]).split()[-1].lower(),
        exposure_time_s=float(header["EXPTIME"]),
        filter_name=header.get("FILTER"),
        n_frames=int(header["NCOMBINE"]),
        level_adu=float(header.get("NORMLV", 0.0)),
    )


def compare_night(folder: Path) -> bool:
    """Print masters beside the truth; give whether all are as the noise allows."""
    config = load_config(folder / CONFIG_NAME)
    truth = Truth(sensor=SENSORS[config.video.simulator.sensor], temperature_c=config.video.cooling.target_temperature)
    masters = masters_of(folder / config.master_frames.output_dir)
    _require_all(config, masters)
    comparisons = [
        _compare_flat(truth, master) if master.kind == "flat" else _compare_unlit(truth, master) for master in masters
    ]
    current = _compare_dark_current(truth, masters)
    print(f"{'':26s}{'mean level':>24s}{'noise of a pixel':>24s}")
    print(f"{'':26s}{'truth':>12s}{'master':>12s}{'allowed':>12s}{'found':>12s}{'ratio':>8s}")
    for comparison in (*comparisons, current):
        print(comparison.line())
    print(
        f"allowed: what a plain mean of {masters[0].n_frames} frames has;"
        " cosmic rays would make it more, rejection a few per cent"
    )
    hot_pixels_are_found = _report_hot_pixels(current)
    print(f"\n{len(masters)} masters, all in {(folder / config.master_frames.output_dir).as_posix()}:")
    for master in masters:
        print(f"  {master.path.name}")
    return hot_pixels_are_found and all(one.is_as_expected for one in (*comparisons, current))


def _require_all(config: Config, masters: list[Master]) -> None:
    """End where a master is missing: bias, a dark for each flat, a flat for each filter."""
    made = {(master.kind, master.exposure_time_s) for master in masters}
    flats = {master.filter_name: master for master in masters if master.kind == "flat"}
    missing = [] if "bias" in {kind for kind, _ in made} else ["master bias"]
    missing += [f"master flat of {name}" for name in config.flat_capture.filters if name not in flats]
    missing += [f"dark for {flat.name}" for flat in flats.values() if ("dark", flat.exposure_time_s) not in made]
    if missing:
        sys.exit(f"there is no {', no '.join(missing)}: see the log in {config.master_frames.output_dir}")


def _compare_unlit(truth: Truth, master: Master) -> Comparison:
    exposure = truth.unlit(master.exposure_time_s)
    return Comparison(
        name=f"{master.name}, ADU",
        measured=master.pixels(),
        truth=truth.sensor.expected_adu(exposure),
        allowed=truth.sensor.noise_adu(exposure) / np.float32(math.sqrt(master.n_frames)),
    )


def _compare_flat(truth: Truth, master: Master) -> Comparison:
    """Compare a flat with the response of the sensor; its dark has as many frames and adds its noise."""
    unlit = truth.unlit(master.exposure_time_s)
    noise_adu = np.hypot(truth.sensor.noise_adu(truth.lit(master)), truth.sensor.noise_adu(unlit))
    return Comparison(
        name=master.name,
        measured=master.pixels(),
        truth=truth.sensor.flat_field(master.filter_name),
        allowed=noise_adu / np.float32(master.level_adu * math.sqrt(master.n_frames)),
    )


def _compare_dark_current(truth: Truth, masters: list[Master]) -> Comparison:
    """Compare the slope between the longest dark and the bias with the dark current."""
    bias = next(master for master in masters if master.kind == "bias")
    dark = max((master for master in masters if master.kind == "dark"), key=lambda one: one.exposure_time_s)
    per_second = np.float32(truth.sensor.gain_e_per_adu / (dark.exposure_time_s - bias.exposure_time_s))
    noises = [truth.sensor.noise_adu(truth.unlit(one.exposure_time_s)) for one in (dark, bias)]
    return Comparison(
        name="dark current, e-/s",
        measured=(dark.pixels() - bias.pixels()) * per_second,
        truth=truth.sensor.dark_current_e_per_s(truth.temperature_c),
        allowed=np.hypot(*noises) * per_second / np.float32(math.sqrt(dark.n_frames)),
    )


def _report_hot_pixels(current: Comparison) -> bool:
    """Print how many hot pixels were found; those within six standard deviations of the limit may fall either way."""
    margin = 6 * current.allowed
    is_hot, seems_hot = current.truth > HOT_LIMIT_E_PER_S, current.measured > HOT_LIMIT_E_PER_S
    missed = int(np.sum((current.truth - margin > HOT_LIMIT_E_PER_S) & ~seems_hot))
    invented = int(np.sum((current.truth + margin < HOT_LIMIT_E_PER_S) & seems_hot))
    print(
        f"hot pixels above {HOT_LIMIT_E_PER_S:g} e-/s: {int(is_hot.sum())} in truth, {int(seems_hot.sum())} found; "
        f"beyond the noise {missed} missed, {invented} invented"
    )
    return missed == 0 and invented == 0


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    if not compare_night(parser.parse_args().folder):
        sys.exit("a master is further from the truth than its noise allows: see the table above")


if __name__ == "__main__":
    main()
