"""Dark frames with known statistics, written as plain uint16 FITS: the common input of every benchmark.

Each sample is ``round(level + sigma * z)`` with its own Gaussian ``z``, so all frames differ in every pixel; ``level``
and ``sigma`` are maps of the sensor. No frame is derived from another: an independent field costs 0.6 s at 61 MP.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

OFFSET_ADU = 500.0
COLUMN_PATTERN_ADU = 2.0
READ_NOISE_ADU = 4.0
READ_NOISE_SPREAD = 0.15  # standard deviation of ln(read noise) over the pixels, as CMOS sensors have it
DARK_CURRENT_ADU_PER_S = 0.05
EGAIN_E_PER_ADU = 0.8
HOT_PIXEL_SHARE = 1e-3
HOT_PIXEL_ADU_PER_S = 40.0
COSMIC_RAYS_PER_MEGAPIXEL = 2.0  # some 100 tracks in a 61 MP frame: more than 5 s collect, enough to check rejection
EXPOSURE_TIME_S = 5.0
FITS_BLOCK_BYTES = 2880
ROWS_PER_BLOCK = 128
FRAMES_FOLDER = "darks/exp_5.000s"
MANIFEST = "frames.json"


@dataclass(frozen=True, kw_only=True)
class FrameSet:
    """What a directory of generated frames holds; stored beside the frames, so that an equal set is reused."""

    frames: int
    width: int
    height: int
    seed: int = 20260501


QUICK = FrameSet(frames=24, width=1000, height=800)  # 21 frames or more, so that mean/std can reject at 3 sigma


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Maps of the fixed properties of the simulated sensor, (height, width) float32 ADU."""

    level: NDArray[np.float32]
    sigma: NDArray[np.float32]


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, for example 9576x6388")
    return int(width), int(height)


def make_sensor(frame_set: FrameSet) -> Sensor:
    """Draw bias pattern, dark signal with hot pixels and the noise of each pixel."""
    rng = np.random.Generator(np.random.SFC64([frame_set.seed, 0]))
    shape = (frame_set.height, frame_set.width)
    dark = np.full(shape, DARK_CURRENT_ADU_PER_S * EXPOSURE_TIME_S, np.float32)
    hot = rng.integers(0, dark.size, int(HOT_PIXEL_SHARE * dark.size))
    dark.ravel()[hot] += rng.exponential(HOT_PIXEL_ADU_PER_S * EXPOSURE_TIME_S, hot.size).astype(np.float32)
    sigma = rng.standard_normal(shape, np.float32)
    sigma *= np.float32(READ_NOISE_SPREAD)
    np.exp(sigma, out=sigma)
    sigma *= np.float32(READ_NOISE_ADU)
    np.sqrt(sigma * sigma + dark / np.float32(EGAIN_E_PER_ADU), out=sigma)
    columns = rng.standard_normal(frame_set.width, np.float32) * np.float32(COLUMN_PATTERN_ADU)
    level = dark
    level += np.float32(OFFSET_ADU) + columns
    return Sensor(level=level, sigma=sigma)


def write_frames(work: Path, frame_set: FrameSet) -> list[Path]:
    """Write the frames of a set below a work directory; an equal set that is there is kept, another one replaced.

    Raises
    ------
    FileExistsError
        If there are frames that this script did not make: they may be somebody's night.
    """
    directory = work / FRAMES_FOLDER
    paths = frame_paths(work, frame_set)
    manifest = work / MANIFEST
    if manifest.is_file() and json.loads(manifest.read_text()) == asdict(frame_set) and all(p.is_file() for p in paths):
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()) and not manifest.is_file():
        raise FileExistsError(f"{directory} has files but {manifest} is missing: choose an empty --work directory")
    for stale in directory.glob("dark_*.fits"):
        stale.unlink()
    manifest.write_text("{}")  # the set is complete when the manifest names it
    sensor = make_sensor(frame_set)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda index: _write_frame(paths[index], frame_set, sensor, index), range(frame_set.frames)))
    manifest.write_text(json.dumps(asdict(frame_set)))
    return paths


def frame_paths(work: Path, frame_set: FrameSet) -> list[Path]:
    """Name the files of a set: ``darks/exp_5.000s/dark_000.fits`` and so on."""
    return [work / FRAMES_FOLDER / f"dark_{index:03d}.fits" for index in range(frame_set.frames)]


def _write_frame(path: Path, frame_set: FrameSet, sensor: Sensor, index: int) -> None:
    rng = np.random.Generator(np.random.SFC64([frame_set.seed, 1 + index]))
    rays = _cosmic_rays(rng, frame_set)
    block = np.empty((ROWS_PER_BLOCK, frame_set.width), np.float32)
    with path.open("wb") as file:
        file.write(_header_bytes(frame_set, index))
        for start in range(0, frame_set.height, ROWS_PER_BLOCK):
            stop = min(start + ROWS_PER_BLOCK, frame_set.height)
            samples = block[: stop - start]
            rng.standard_normal(out=samples, dtype=np.float32)
            samples *= sensor.sigma[start:stop]
            samples += sensor.level[start:stop]
            for row, column, adu in rays:
                if start <= row < stop:
                    samples[row - start, column] += adu
            np.rint(samples, out=samples)
            np.clip(samples, 0, 65535, out=samples)
            file.write((samples.astype(np.uint16) ^ np.uint16(0x8000)).astype(">u2").tobytes())
        file.write(bytes(-file.tell() % FITS_BLOCK_BYTES))


def _cosmic_rays(rng: np.random.Generator, frame_set: FrameSet) -> list[tuple[int, int, float]]:
    """Draw straight tracks of 2 to 12 pixels, as (row, column, ADU)."""
    count = max(1, int(COSMIC_RAYS_PER_MEGAPIXEL * frame_set.width * frame_set.height / 1e6))
    hits = []
    for _ in range(count):
        row, column = rng.integers(0, frame_set.height), rng.integers(0, frame_set.width)
        angle, adu = rng.uniform(0, 2 * np.pi), 200 + rng.exponential(2000)
        for step in range(int(rng.integers(2, 13))):
            y, x = int(row + step * np.sin(angle)), int(column + step * np.cos(angle))
            if 0 <= y < frame_set.height and 0 <= x < frame_set.width:
                hits.append((y, x, float(adu)))
    return hits


def _header_bytes(frame_set: FrameSet, index: int) -> bytes:
    start = datetime(2026, 5, 1, 21, 0, 0, tzinfo=UTC) + timedelta(seconds=6.5 * index)
    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = 16
    header["NAXIS"] = 2
    header["NAXIS1"] = frame_set.width
    header["NAXIS2"] = frame_set.height
    header["BZERO"] = 32768
    header["BSCALE"] = 1
    header["IMAGETYP"] = "Dark Frame"
    header["EXPTIME"] = (EXPOSURE_TIME_S, "[s]")
    header["DATE-OBS"] = start.replace(tzinfo=None).isoformat(timespec="milliseconds")
    header["INSTRUME"] = "simulated sensor"
    header["GAIN"] = 100
    header["OFFSET"] = 50
    header["EGAIN"] = (EGAIN_E_PER_ADU, "[e-/ADU]")
    header["CCD-TEMP"] = (-10.0, "[C]")
    header["SET-TEMP"] = (-10.0, "[C]")
    header["XBINNING"] = 1
    header["YBINNING"] = 1
    return str(header.tostring(padding=True)).encode("ascii")


def default_work(frame_set: FrameSet) -> Path:
    """Name the work directory of a frame set below the system's temporary directory."""
    return Path(tempfile.gettempdir()) / "ostcal-bench" / f"{frame_set.frames}x{frame_set.width}x{frame_set.height}"


def prepare_frames(work: Path, frame_set: FrameSet) -> list[Path]:
    """Generate the frames if need be, and read each once, so that every program finds the same warm page cache."""
    # In a process of its own: Linux hands this process's peak memory on to the programs measured below.
    size = f"{frame_set.width}x{frame_set.height}"
    options = [f"--work={work}", f"--frames={frame_set.frames}", f"--size={size}"]
    subprocess.run([sys.executable, __file__, *options], check=True)
    if hasattr(os, "sync"):
        os.sync()
    paths = frame_paths(work, frame_set)
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    return paths


def add_frame_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the options that choose its frames."""
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=parse_size, default=(9576, 6388), metavar="WIDTHxHEIGHT")
    parser.add_argument("--quick", action="store_true", help="24 frames of 1000x800: a check of seconds, not a result")
    parser.add_argument("--work", type=Path, help="directory for frames and masters, kept; default: below the temp dir")


def chosen_frame_set(arguments: argparse.Namespace) -> FrameSet:
    """Read the frame set from the options of ``add_frame_arguments``."""
    width, height = arguments.size
    return QUICK if arguments.quick else FrameSet(frames=arguments.frames, width=width, height=height)


def main() -> None:
    """Write a frame set from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_frame_arguments(parser)
    arguments = parser.parse_args()
    frame_set = chosen_frame_set(arguments)
    write_frames(arguments.work or default_work(frame_set), frame_set)


if __name__ == "__main__":
    main()
