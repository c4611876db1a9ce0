"""Frames of a night whose truth is known, and the comparison of their masters with it.

``python scripts/demo_night.py write FOLDER`` makes bias, dark and flat frames and a configuration;
``python scripts/demo_night.py compare FOLDER`` reads the masters that were made of them, prints how far they are from
the truth beside how far the noise of so many frames allows, and ends with 1 where one is further.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.simulator.sensor import SENSORS, Exposure

SENSOR = SENSORS["demo"]
TEMPERATURE_C = -10.0
BIAS_EXPOSURE_S = 0.001
DARK_EXPOSURES_S = (1.0, 3.0, 20.0)
FLAT_EXPOSURES_S = {"L": 1.0, "R": 3.0}
PANEL_E_PER_S = 36_000.0
FRAMES = 15
DUSK = datetime(2026, 11, 7, 18, 0, 0, tzinfo=UTC)
HOT_LIMIT_E_PER_S = 5.0
"""Above what the glow of the amplifier adds, so that only hot pixels are above."""

CONFIG = """\
# What the demo needs beyond the defaults: nothing but the folders, which are relative to the working directory.
dark_capture:
  output_dir: darks
flat_capture:
  output_dir: flats
master_frames:
  output_dir: master_frames
"""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame of the night."""

    kind: str
    exposure: Exposure
    number: int
    started: datetime

    @property
    def path(self) -> Path:
        """Give its place in the folder of the night."""
        name = f"{self.kind}_{self.started:%Y%m%d_%H%M%S}_{self.number:03d}.fits"
        filters = [self.exposure.filter_name] if self.exposure.filter_name else []
        room = "flats" if self.kind == "flat" else "darks"
        return Path(room, *filters, f"exp_{self.exposure.exposure_time_s:.3f}s", name)


def night() -> Iterator[Shot]:
    """Give the frames of the night in the order in which they are taken."""
    series: list[tuple[str, float, str | None]] = [("bias", BIAS_EXPOSURE_S, None)]
    series += [("dark", time_s, None) for time_s in DARK_EXPOSURES_S]
    series += [("flat", time_s, name) for name, time_s in FLAT_EXPOSURES_S.items()]
    started = DUSK
    for kind, time_s, filter_name in series:
        for number in range(1, FRAMES + 1):
            yield Shot(kind=kind, exposure=_exposure(time_s, filter_name), number=number, started=started)
            started += timedelta(seconds=time_s + 2)


def _exposure(time_s: float, filter_name: str | None) -> Exposure:
    return Exposure(
        exposure_time_s=time_s,
        temperature_c=TEMPERATURE_C,
        illumination_e_per_s=PANEL_E_PER_S if filter_name else 0.0,
        filter_name=filter_name,
    )


def write_night(folder: Path) -> None:
    """Write all frames and the configuration; what an earlier demo left there is removed."""
    for room in ("darks", "flats", "master_frames"):
        shutil.rmtree(folder / room, ignore_errors=True)
    shots = list(night())
    for directory in {(folder / shot.path).parent for shot in shots}:
        directory.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(lambda numbered: _write_shot(folder, *numbered), enumerate(shots)))
    print(f"{len(shots)} frames of {SENSOR.width} x {SENSOR.height} pixels, {sum(sizes) / 1e6:.0f} MB, in {folder}:")
    for directory in dict.fromkeys(shot.path.parent for shot in shots):
        print(f"  {FRAMES} in {directory.as_posix()}")


def _write_shot(folder: Path, index: int, shot: Shot) -> int:
    """Expose one frame and write it as a camera program does; give the bytes written."""
    frame = SENSOR.expose(shot.exposure, np.random.default_rng([2026, index]))
    header = fits.Header()
    header["IMAGETYP"] = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Field"}[shot.kind]
    header["EXPTIME"] = (shot.exposure.exposure_time_s, "[s]")
    header["DATE-OBS"] = (shot.started.strftime("%Y-%m-%dT%H:%M:%S.000"), "UTC start")
    header["INSTRUME"] = f"ostcal sensor model {SENSOR.name}"
    header["EGAIN"] = (SENSOR.gain_e_per_adu, "[e-/ADU]")
    header["GAIN"], header["OFFSET"] = 0, 10
    header["XBINNING"], header["YBINNING"] = 1, 1
    header["SET-TEMP"], header["CCD-TEMP"] = (TEMPERATURE_C, "[degC]"), (TEMPERATURE_C, "[degC]")
    header["XPIXSZ"], header["YPIXSZ"] = (SENSOR.pixel_size_um, "[um]"), (SENSOR.pixel_size_um, "[um]")
    if shot.exposure.filter_name:
        header["FILTER"] = shot.exposure.filter_name
    path = folder / shot.path
    fits.PrimaryHDU(frame, header).writeto(path)
    return path.stat().st_size


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


def masters_of(folder: Path) -> dict[tuple[str, float, str], Path]:
    """Give the newest master of each kind, exposure and filter; the headers say which is which."""
    found: dict[tuple[str, float, str], Path] = {}
    for path in sorted((folder / "master_frames").glob("master_*.fits")):
        header = fits.getheader(path)
        kind = str(header["IMAGETYP"]).split()[-1].lower()
        found[kind, float(header["EXPTIME"]), str(header.get("FILTER", ""))] = path
    return found


def compare_night(folder: Path) -> bool:
    """Print masters beside the truth; give whether all are as the noise allows."""
    masters = masters_of(folder)
    comparisons = [_compare_unlit("bias", BIAS_EXPOSURE_S, masters)]
    comparisons += [_compare_unlit("dark", time_s, masters) for time_s in DARK_EXPOSURES_S]
    comparisons += [_compare_flat(name, time_s, masters) for name, time_s in FLAT_EXPOSURES_S.items()]
    current = _compare_dark_current(masters)
    print(f"{'':26s}{'mean level':>24s}{'noise of a pixel':>24s}")
    print(f"{'':26s}{'truth':>12s}{'master':>12s}{'allowed':>12s}{'found':>12s}{'ratio':>8s}")
    for comparison in (*comparisons, current):
        print(comparison.line())
    print(
        f"allowed: what a plain mean of {FRAMES} frames has; cosmic rays would make it more, rejection a few per cent"
    )
    hot_pixels_are_found = _report_hot_pixels(current)
    print(f"\n{len(masters)} masters, all in {(folder / 'master_frames').as_posix()}:")
    for path in sorted(masters.values()):
        print(f"  {path.name}")
    return hot_pixels_are_found and all(one.is_as_expected for one in (*comparisons, current))


def _read(masters: dict[tuple[str, float, str], Path], kind: str, time_s: float, name: str = "") -> NDArray[np.float32]:
    path = masters.get((kind, time_s, name))
    if path is None:
        sys.exit(f"there is no master {kind} of {time_s:g} s {name}: ostcal masters did not make it, see its log")
    return np.asarray(fits.getdata(path), dtype=np.float32)


def _compare_unlit(kind: str, time_s: float, masters: dict[tuple[str, float, str], Path]) -> Comparison:
    exposure = _exposure(time_s, None)
    return Comparison(
        name=f"master {kind} {time_s:g} s, ADU",
        measured=_read(masters, kind, time_s),
        truth=SENSOR.expected_adu(exposure),
        allowed=SENSOR.noise_adu(exposure) / np.float32(math.sqrt(FRAMES)),
    )


def _compare_flat(name: str, time_s: float, masters: dict[tuple[str, float, str], Path]) -> Comparison:
    lit, unlit = _exposure(time_s, name), _exposure(time_s, None)
    signal_adu = float(np.mean(SENSOR.expected_adu(lit) - SENSOR.expected_adu(unlit), dtype=np.float64))
    noise_adu = np.hypot(SENSOR.noise_adu(lit), SENSOR.noise_adu(unlit))
    return Comparison(
        name=f"master flat {name} {time_s:g} s",
        measured=_read(masters, "flat", time_s, name),
        truth=SENSOR.flat_field(name),
        allowed=noise_adu / np.float32(signal_adu * math.sqrt(FRAMES)),
    )


def _compare_dark_current(masters: dict[tuple[str, float, str], Path]) -> Comparison:
    """Compare the slope between the longest dark and the bias with the dark current."""
    time_s = max(DARK_EXPOSURES_S)
    per_second = np.float32(SENSOR.gain_e_per_adu / (time_s - BIAS_EXPOSURE_S))
    noise_adu = np.hypot(SENSOR.noise_adu(_exposure(time_s, None)), SENSOR.noise_adu(_exposure(BIAS_EXPOSURE_S, None)))
    return Comparison(
        name="dark current, e-/s",
        measured=(_read(masters, "dark", time_s) - _read(masters, "bias", BIAS_EXPOSURE_S)) * per_second,
        truth=SENSOR.dark_current_e_per_s(TEMPERATURE_C),
        allowed=noise_adu * per_second / np.float32(math.sqrt(FRAMES)),
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
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "write":
        write_night(arguments.folder)
    elif not compare_night(arguments.folder):
        sys.exit("a master is further from the truth than its noise allows: see the table above")


if __name__ == "__main__":
    main()
