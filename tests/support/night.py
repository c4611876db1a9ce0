"""Nights of synthetic frames: small folders of FITS files as camera programs leave them, and what is in them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray

import naive
from ostcal import MasterFrameCreator, Status
from ostcal.cli import main
from support.fits_samples import read_with_astropy, write_frame
from support.folders import ROOT

SHAPE = (20, 28)
START = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
CAMERA = {"INSTRUME": "Synthetic", "GAIN": 100, "OFFSET": 30, "SET_TEMP": -10.0, "CCD_TEMP": -10.0}

Stack = NDArray[np.uint16]


@dataclass(frozen=True)
class Night:
    """The directories of one night below a folder of a test."""

    root: Path

    @property
    def darks(self) -> Path:
        return self.root / "darks"

    @property
    def flats(self) -> Path:
        return self.root / "flats"

    @property
    def masters(self) -> Path:
        return self.root / "masters"

    def config(self, *, compute: dict[str, Any] | None = None, **master_frames: Any) -> dict[str, Any]:
        """Return a configuration of this night; keywords are keys of ``master_frames``."""
        return {
            "dark_capture": {"output_dir": str(self.darks)},
            "flat_capture": {"output_dir": str(self.flats)},
            "master_frames": {"output_dir": str(self.masters), **master_frames},
            # the lamp of these nights flickers by 3 %, so that scaling the flats shows
            "quality": {"frames": {"lamp_scatter_share": 0.2, "lamp_jump_share": 0.2, "lamp_drift_share": 0.2}},
            "compute": {"workers": 2, **(compute or {})},
        }

    def run(self, **keys: Any) -> Status:
        """Make all masters; keywords as for `config`."""
        return MasterFrameCreator(self.config(**keys)).create_all_master_frames()

    def run_flats(self, **keys: Any) -> Status:
        """Make the flats alone."""
        return MasterFrameCreator(self.config(**keys)).create_master_flats()

    def run_darks(self, **keys: Any) -> Status:
        """Make bias and darks."""
        return MasterFrameCreator(self.config(**keys)).create_master_darks()


def samples(
    n: int, image: float | NDArray[Any], *, noise: float = 6.0, seed: int, shape: tuple[int, int] = SHAPE
) -> Stack:
    """Return frames of an image with Gaussian noise, and a cosmic ray in each but the first."""
    rng = np.random.default_rng(seed)
    stack = rng.normal(np.broadcast_to(image, shape), noise, (n, *shape))
    for frame in range(1, n):
        stack[frame, rng.integers(shape[0]), rng.integers(shape[1])] += 4000
    return np.clip(np.rint(stack), 0, 65535).astype(np.uint16)


def bias_frames(n: int = 7, *, seed: int = 1, level: float = 1000) -> Stack:
    return samples(n, level, seed=seed)


def dark_frames(exposure_s: float, n: int = 7, *, seed: int = 2, level: float = 1000) -> Stack:
    """Return darks whose dark current grows along a row, 0 to 4 ADU/s."""
    return samples(n, level + exposure_s * np.linspace(0, 4, SHAPE[1]), seed=seed)


def flat_frames(exposure_s: float, levels: Sequence[float], *, seed: int = 3, level: float = 1000) -> Stack:
    """Return flats with a falling illumination, one of each level in ADU."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = 1 - 0.3 * ((y / SHAPE[0] - 0.5) ** 2 + (x / SHAPE[1] - 0.5) ** 2)
    dark = level + exposure_s * np.linspace(0, 4, SHAPE[1])
    return np.concatenate(
        [samples(1, dark + adu * light, noise=np.sqrt(adu) / 2, seed=1000 * seed + i) for i, adu in enumerate(levels)]
    )


def write_frames(
    folder: Path,
    stack: NDArray[Any],
    kind: str,
    exposure_s: float | Sequence[float],
    *,
    stem: str | None = None,
    start: datetime = START,
    **cards: Any,
) -> list[Path]:
    """Write frames as ``stem_000.fits``, ...; a card of ``None`` is left out, an exposure may be given for each."""
    folder.mkdir(parents=True, exist_ok=True)
    exposures = [exposure_s] * len(stack) if isinstance(exposure_s, int | float) else exposure_s
    paths = []
    for index, (frame, exposure) in enumerate(zip(stack, exposures, strict=True)):
        header = {
            "IMAGETYP": kind,
            "EXPTIME": float(exposure),
            "DATE_OBS": (start + timedelta(seconds=index * (exposure + 3))).isoformat(timespec="milliseconds")[:-6],
            **CAMERA,
            **cards,
        }
        name = f"{stem or kind.split()[0].lower()}_{index:03d}.fits"
        paths.append(write_frame(folder / name, frame, **{k: v for k, v in header.items() if v is not None}))
    return paths


def write_bias(night: Night, stack: Stack | None = None, **cards: Any) -> Stack:
    """Write a set of bias frames; gives the samples."""
    stack = bias_frames() if stack is None else stack
    write_frames(night.darks / "bias", stack, "Bias Frame", 0.001, start=START - timedelta(hours=1), **cards)
    return stack


def write_darks(night: Night, exposure_s: float, stack: Stack | None = None, **cards: Any) -> Stack:
    """Write darks of one exposure into a folder of the usual name; gives the samples."""
    stack = dark_frames(exposure_s) if stack is None else stack
    folder = night.darks / f"exp_{exposure_s:.3f}s"
    write_frames(folder, stack, "Dark Frame", exposure_s, start=START + timedelta(minutes=exposure_s), **cards)
    return stack


def write_flats(night: Night, exposure_s: float, stack: Stack | None = None, **cards: Any) -> Stack:
    """Write flats of one exposure and different brightness; gives the samples."""
    stack = flat_frames(exposure_s, (20000, 21000, 19500, 22000, 20500)) if stack is None else stack
    start = START + timedelta(hours=8, minutes=exposure_s)
    stem = f"flat_{exposure_s:g}{cards.get('FILTER', '')}"
    write_frames(night.flats, stack, "Flat Frame", exposure_s, stem=stem, start=start, **cards)
    return stack


def whole_night(root: Path) -> Night:
    """Write bias, darks of 2 and 5 s, and flats of 2 s."""
    night = Night(root)
    write_bias(night)
    write_darks(night, 2.0)
    write_darks(night, 5.0, dark_frames(5.0, seed=4))
    write_flats(night, 2.0)
    return night


def one_file(status: Status, kind: str) -> Path:
    """Return the only file of a kind."""
    (path,) = status.data[kind]
    return Path(path)


def image_of(status: Status, kind: str) -> NDArray[np.float32]:
    """Return the image of the only master of a kind."""
    image, _ = read_with_astropy(one_file(status, kind))
    return image


# --- references, computed from the raw frames ---


def combined(stack: NDArray[Any]) -> naive.StackResult:
    """Combine raw frames as the defaults do with fewer than 21."""
    return naive.combine_stack(as_adu(stack), default_clip(naive.series_noise(as_adu(stack))))


def default_clip(noise: naive.Noise) -> partial[naive.PixelResult]:
    """Return the default method for fewer than 21 frames."""
    return partial(
        naive.sigma_clip, center="median", spread="mad", iterations=1, low=Fraction(3), high=Fraction(3), noise=noise
    )


def as_adu(stack: NDArray[Any]) -> NDArray[Any]:
    """Return integers wide enough to calculate with, floats as they are."""
    return stack.astype(np.int64) if stack.dtype.kind in "iu" else stack


def combined_flat(
    stack: NDArray[Any],
    exposures_s: Sequence[float],
    offset: NDArray[np.float32] | None,
    rate: NDArray[np.float32] | None = None,
) -> naive.StackResult:
    """Combine flats as the defaults do: each minus its dark, scaled to the mean of their means."""
    dark_free = naive.corrected_stack(
        as_adu(stack), scale=[1.0] * len(stack), dark_offset=offset, dark_rate=rate, exposure_time_s=exposures_s
    )
    levels = [float(np.mean(frame, dtype=np.float64)) for frame in dark_free]
    scales = [float(np.mean(levels)) / level for level in levels]
    scaled = naive.corrected_stack(
        as_adu(stack), scale=scales, dark_offset=offset, dark_rate=rate, exposure_time_s=exposures_s
    )
    noise = naive.Noise(noise_adu=naive.series_noise(scaled).noise_adu, step_adu=1.0)
    return naive.combine_stack(scaled, default_clip(noise))


# --- the command ---


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended and what it said."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


def write_night(folder: Path, config: dict[str, dict[str, Any]], sections: Mapping[str, dict[str, Any]]) -> Path:
    """Write a configuration with other values of some sections; give its path."""
    merged = config | {name: config.get(name, {}) | values for name, values in sections.items()}
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(merged), encoding="utf-8")
    return path


def write_config(night: Night, **keys: Any) -> Path:
    """Write the configuration of a night as YAML (JSON is YAML); keywords as for `Night.config`."""
    path = night.root / "c.yaml"
    path.write_text(json.dumps(night.config(**keys)), encoding="utf-8")
    return path


def ostcal(*arguments: str | Path, stdin: bytes | None = None) -> Outcome:
    """Run the command in this process, and leave the logging of the tests as it was."""
    logger = logging.getLogger("ostcal")
    before = (list(logger.handlers), logger.level, logger.propagate)
    try:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], stdin, prog_name="ostcal")
    finally:
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.level, logger.propagate = before
        logger.setLevel(before[1])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def run_command(night: Night, *options: str, **keys: Any) -> Outcome:
    """Run ``ostcal masters`` of a night in this process."""
    return ostcal("masters", "--config", write_config(night, **keys), "--no-confirm", *options)


def command_line(*arguments: str | Path) -> list[str]:
    """Return the words that start the command in a process of its own."""
    return [sys.executable, "-m", "ostcal", *map(str, arguments)]


def command_environment(**variables: str) -> dict[str, str]:
    """Return the environment for such a process: it finds the package that is being tested."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}
