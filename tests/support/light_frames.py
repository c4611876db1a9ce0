"""A science frame of the simulated camera: sky and a few stars over the sensor's own truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from ostcal.simulator.sensor import SENSORS, Exposure

EXPOSURE_S = 20.0


def write_light(path: Path, like: Path) -> None:
    """Write a light frame of 20 s through filter L, with the camera settings of a master."""
    sensor = SENSORS["demo"]
    sky = Exposure(exposure_time_s=EXPOSURE_S, temperature_c=-10.0, illumination_e_per_s=40.0, filter_name="L")
    frame = sensor.expose(sky, np.random.default_rng(7)).astype(np.int32)
    rows, columns = np.mgrid[-4:5, -4:5]
    star = 3000 * np.exp(-(rows**2 + columns**2) / 4.5)
    for row, column in ((200, 300), (450, 900), (700, 150)):
        frame[row - 4 : row + 5, column - 4 : column + 5] += star.astype(np.int32)
    settings = fits.getheader(like)
    header = fits.Header()
    for keyword in ("INSTRUME", "GAIN", "OFFSET", "XBINNING", "YBINNING", "SET-TEMP", "CCD-TEMP", "READOUTM", "EGAIN"):
        if keyword in settings:
            header[keyword] = settings[keyword]
    header["IMAGETYP"], header["EXPTIME"], header["FILTER"] = "Light Frame", EXPOSURE_S, "L"
    header["DATE-OBS"], header["OBJECT"] = "2026-11-21T20:15:00", "M 31"
    path.parent.mkdir(exist_ok=True)
    fits.PrimaryHDU(np.clip(frame, 0, 65535).astype(np.uint16), header).writeto(path)
