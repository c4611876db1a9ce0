"""How the frames of the simulated camera are made, by physics or from a stock of noise.

By physics (`SensorModel.expose`) frame `k` of a server with seed `s` is drawn from ``frame_generator(s, k)`` and
nothing else, so a test can make it again; 61 MP take 3 s. From stock (`fast`, 0.2 s), the expected frame and its
noise are computed once for each exposure, and each frame adds to it, strip by strip, a slice of a fixed stock of
Gaussian noise that begins at a place drawn anew. Mean and variance of a pixel are those of the physics. Given up are:

- shot noise of few electrons: it is Gaussian here, which shows below ten of them or so;
- cosmic rays: there are none;
- independence: the slices come from 2**22 samples, so strips of some frames overlap in what they were given.

It keeps two float32 maps of the frame's size (490 MB at 61 MP).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.simulator.image_body import SHIFTS, WireImage
from ostcal.simulator.options import ImageElement
from ostcal.simulator.sensor import BLOCK_ROWS, Exposure, SensorModel

_FRAMES = 0xF4A3
"""Keeps the numbers of frames apart from those of other users of the same seed."""

_STOCK = 2**22
"""Samples of the stock: 16 MB, twenty strips of the widest sensor."""


class AbandonedError(Exception):
    """The frame is no longer wanted."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of the sensor that is read, in binned pixels, and its binning."""

    start_x: int
    start_y: int
    width: int
    height: int
    bin_x: int = 1
    bin_y: int = 1


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """All that decides the pixels of a frame."""

    index: int
    """Counts the exposures of the server from 0."""
    sensor: SensorModel
    exposure: Exposure
    window: Window
    element: ImageElement


@dataclass(frozen=True, kw_only=True)
class DeliveredFrame:
    """What is remembered of a frame that a client has downloaded, or begun to."""

    index: int
    crc32: int
    """Of the frame in row-major order, uint16 little-endian: what `zlib.crc32` says of the array."""
    shape: tuple[int, int]
    exposure: Exposure


@dataclass(frozen=True, kw_only=True)
class MadeFrame:
    """A frame ready to be sent."""

    image: WireImage
    record: DeliveredFrame


def frame_generator(seed: int, index: int) -> np.random.Generator:
    """Return the generator from which a frame is drawn."""
    return np.random.default_rng([seed, _FRAMES, index])


class FrameMaker:
    """Makes frames; `fast` takes the noise from a stock."""

    def __init__(self, seed: int, *, fast: bool) -> None:
        self._seed = seed
        self._stock = NoiseStock(seed) if fast else None

    def make(self, plan: FramePlan, abandoned: Callable[[], bool]) -> MadeFrame:
        """Make a frame; raises `AbandonedError` soon after `abandoned` says so."""
        sensor = plan.sensor
        frame = np.empty((sensor.height, sensor.width), dtype=np.uint16)
        rng = frame_generator(self._seed, plan.index)
        if self._stock is None:
            for top, rows in sensor.expose_blocks(plan.exposure, rng):
                if abandoned():
                    raise AbandonedError
                frame[top : top + rows.shape[0]] = rows
        else:
            self._stock.expose(sensor, plan.exposure, rng, frame)
        frame = read_window(frame, plan.window)
        frame >>= SHIFTS[plan.element]
        record = DeliveredFrame(
            index=plan.index,
            crc32=zlib.crc32(np.ascontiguousarray(frame, dtype="<u2").data),
            shape=(frame.shape[0], frame.shape[1]),
            exposure=plan.exposure,
        )
        return MadeFrame(image=WireImage.from_frame(frame, plan.element), record=record)


def read_window(frame: NDArray[np.uint16], window: Window) -> NDArray[np.uint16]:
    """Cut and bin a frame: a binned pixel is the mean of its pixels, as most cameras with CMOS sensors give it."""
    rows = slice(window.start_y * window.bin_y, (window.start_y + window.height) * window.bin_y)
    columns = slice(window.start_x * window.bin_x, (window.start_x + window.width) * window.bin_x)
    part = frame[rows, columns]
    if window.bin_x == window.bin_y == 1:
        return part
    cells = part.reshape(window.height, window.bin_y, window.width, window.bin_x)
    binned: NDArray[np.float32] = cells.mean(axis=(1, 3), dtype=np.float32)
    return np.rint(binned).astype(np.uint16)


class NoiseStock:
    """Frames from an expected frame and a stock of Gaussian noise; see the module's text for what it is not."""

    def __init__(self, seed: int) -> None:
        self._noise = np.random.default_rng([seed, _FRAMES]).standard_normal(_STOCK, dtype=np.float32)
        self._one_at_a_time = threading.Lock()
        self._known: tuple[SensorModel, Exposure] | None = None
        self._mean_adu = np.empty(0, dtype=np.float32)
        self._sigma_adu = np.empty(0, dtype=np.float32)

    def expose(
        self, sensor: SensorModel, exposure: Exposure, rng: np.random.Generator, frame: NDArray[np.uint16]
    ) -> None:
        """Fill a frame of (height, width) uint16."""
        with self._one_at_a_time:
            self._prepare(sensor, exposure)
            highest = np.float32(sensor.highest_adu)
            step = np.float32(sensor.adu_step)
            drift_adu = np.float32(rng.normal(0, sensor.level_drift_adu)) if sensor.level_drift_adu else np.float32(0)
            strips = range(0, sensor.height, BLOCK_ROWS)
            samples = BLOCK_ROWS * sensor.width
            for top, begin in zip(strips, rng.integers(0, self._noise.size - samples, len(strips)), strict=True):
                sigma = self._sigma_adu[top : top + BLOCK_ROWS]
                level = self._noise[begin : begin + sigma.size].reshape(sigma.shape) * sigma
                level += self._mean_adu[top : top + BLOCK_ROWS] + drift_adu
                if sensor.adu_step == 1:
                    np.rint(level, out=level)
                else:
                    np.multiply(np.rint(level / step), step, out=level)
                np.clip(level, 0, highest, out=level)
                frame[top : top + BLOCK_ROWS] = level

    def _prepare(self, sensor: SensorModel, exposure: Exposure) -> None:
        if self._known == (sensor, exposure):
            return
        self._known = None
        self._mean_adu = sensor.expected_adu(exposure)
        # The rounding adds its own noise to the frames; what `noise_adu` counts for it is taken out here.
        rounding = np.float32(sensor.adu_step**2 / 12)
        self._sigma_adu = np.sqrt(np.maximum(sensor.noise_adu(exposure) ** 2 - rounding, 0))
        full = np.float32(sensor.full_well_e / sensor.gain_e_per_adu)
        saturated = self._mean_adu >= np.minimum(sensor.max_adu - 1, full)
        self._sigma_adu[saturated] = np.float32(sensor.read_noise_e / sensor.gain_e_per_adu)
        self._known = (sensor, exposure)
