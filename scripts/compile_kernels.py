"""Compile the kernels of a first run: a tiny night is combined, judged and applied, and all of it is deleted again."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from ostcal import CalibrationApplier, MasterFrameCreator

SHAPE = (128, 160)
N_FRAMES = 8
SETS = {"Bias Frame": (0.001, 500, 5), "Dark Frame": (5.0, 510, 5), "Flat Frame": (5.0, 20_000, 120)}
"""Exposure in seconds, level and noise in ADU, by the kind of frame."""
LIGHT = ("Light Frame", 5.0, 900, 20)


def write_frame(path: Path, kind: str, exposure_s: float, level: float, noise: float, number: int) -> None:
    """Write a frame of 16 bits as camera programs do."""
    samples = np.random.default_rng(number).normal(level, noise, SHAPE).astype(np.uint16)
    header = fits.Header({"IMAGETYP": kind, "EXPTIME": exposure_s, "GAIN": 100, "OFFSET": 50, "FILTER": "L"})
    header["INSTRUME"], header["CCD-TEMP"], header["SET-TEMP"] = "kernels", -10.0, -10.0
    header["DATE-OBS"] = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S")
    fits.PrimaryHDU(samples, header).writeto(path)


def main() -> None:
    """Make the night in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        frames, lights, masters = (Path(folder) / name for name in ("frames", "lights", "masters"))
        frames.mkdir()
        lights.mkdir()
        for first, (kind, (exposure_s, level, noise)) in enumerate(SETS.items()):
            for number in range(first * N_FRAMES, (first + 1) * N_FRAMES):
                write_frame(frames / f"frame_{number:03d}.fits", kind, exposure_s, level, noise, number)
        write_frame(lights / "light.fits", *LIGHT, number=3 * N_FRAMES)
        config = {"input": {"dirs": [str(frames)]}, "master_frames": {"output_dir": str(masters)}}
        made = MasterFrameCreator(config).create_all_master_frames()
        print(made.message)
        calibrated = CalibrationApplier(config).calibrate_files([str(lights)], str(Path(folder) / "calibrated"))
        print(calibrated.message)
        if made.is_error or calibrated.is_error:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
