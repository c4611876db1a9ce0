"""Frames to try commands with, as camera programs leave them: ``python scripts/demo_frames.py FOLDER``.

FOLDER holds ``night.yaml`` and what ``ostcal workflow`` made of it. The raw frames of that night are written as FITS
files into ``frames``, a folder for each series, and science frames of a field of stars into ``lights``, three through
each filter of the flats.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from ostcal import Config, load_config
from ostcal.inputs.copy_frames import export_series
from ostcal.series.reader import find_series
from ostcal.simulator.sensor import SENSORS, Exposure, SkyView, Star

EXPOSURE_S = 20.0
"""That of the longest darks of the night."""
SKY_E_PER_S = 40.0
LIGHTS_PER_FILTER = 3
N_STARS = 60
_COPIED = ("INSTRUME", "CAMERAID", "GAIN", "OFFSET", "READOUTM", "XBINNING", "YBINNING", "XPIXSZ", "YPIXSZ",
           "EGAIN", "SET-TEMP", "CCD-TEMP", "ROWORDER")  # fmt: skip
"""Cards of the frames of a camera, which its masters have too."""


def write_frames(folder: Path, config: Config) -> int:
    """Write the raw frames of the night as FITS files; give how many."""
    places = [str(folder / place) for place in (config.dark_capture.output_dir, config.flat_capture.output_dir)]
    count = 0
    for series in find_series(places):
        below = Path(series).relative_to(folder).with_suffix("")
        count += len(export_series(series, folder / "frames" / below))
    return count


def write_lights(folder: Path, config: Config) -> list[Path]:
    """Write science frames through each filter, with the settings of the master darks; give where they are."""
    settings = fits.getheader(next((folder / config.master_frames.output_dir).glob("master_dark_*.fits")))
    began = datetime.fromisoformat(settings["DATE-END"])
    rng = np.random.default_rng(31)
    sensor = SENSORS[config.video.simulator.sensor]
    stars = tuple(
        Star(row=row, column=column, flux_e_per_s=flux)
        for row, column, flux in zip(
            rng.uniform(10, sensor.height - 10, N_STARS),
            rng.uniform(10, sensor.width - 10, N_STARS),
            300 * rng.pareto(1.2, N_STARS).clip(0.2, 40),
            strict=True,
        )
    )
    written = []
    for filter_name in config.flat_capture.filters:
        sky = Exposure(
            exposure_time_s=EXPOSURE_S,
            temperature_c=config.video.cooling.target_temperature,
            illumination_e_per_s=SKY_E_PER_S,
            filter_name=filter_name,
            sky=SkyView(stars=stars),
        )
        for number in range(1, LIGHTS_PER_FILTER + 1):
            start = began + timedelta(seconds=(EXPOSURE_S + 5) * len(written))
            path = folder / "lights" / f"M31_{filter_name}_{number:03d}.fits"
            path.parent.mkdir(exist_ok=True)
            header = _header(settings, filter_name, start)
            fits.PrimaryHDU(sensor.expose(sky, rng), header).writeto(path, overwrite=True)
            written.append(path)
    return written


def _header(settings: Any, filter_name: str, start: datetime) -> fits.Header:
    header = fits.Header()
    header["IMAGETYP"], header["EXPTIME"], header["FILTER"] = "Light Frame", EXPOSURE_S, filter_name
    header["DATE-OBS"], header["OBJECT"] = start.isoformat(timespec="milliseconds"), "M 31"
    for keyword in _COPIED:
        if keyword in settings:
            header[keyword] = settings[keyword]
    return header


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    config = load_config(folder / "night.yaml")
    n_frames, lights = write_frames(folder, config), write_lights(folder, config)
    print(f"{folder / 'frames'}: the {n_frames} raw frames of the night as FITS files")
    print(f"{lights[0].parent}: {len(lights)} science frames of {EXPOSURE_S:g} s")


if __name__ == "__main__":
    main()
