"""Measure read noise, dark current and gain before a capture: on series that are there, else on trial frames."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.capture.enough import CameraNoise, clipped, pair_variance_adu2, series_variance_adu2
from ostcal.capture.exposer import Exposer
from ostcal.capture.series_plan import Equipment, RetryRules
from ostcal.errors import DeviceError, FrameError, StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.series.reader import Series, find_series, open_series

logger = logging.getLogger(__name__)

_LEVEL_FRAMES = 4
"""Frames of a series whose mean level is taken: the level of single frames drifts."""
_SAME_SET_POINT_C = 0.2
_SHORTEST_DARK_S = 0.5
"""Shorter darks show too little dark current."""


@dataclass(frozen=True, kw_only=True)
class NoiseOnDisk:
    """Series with the settings of the camera that say its noise."""

    bias: Series | None = None
    dark: Series | None = None
    flat: Series | None = None


def find_noise_series(
    directories: Iterable[str], settings: CameraSettings, shape: tuple[int, int], set_point_c: float | None
) -> NoiseOnDisk:
    """Return the newest bias series, the dark series of the longest exposure, and the newest flats."""
    found: dict[FrameType, list[Series]] = {kind: [] for kind in FrameType}
    for location in find_series(directories):
        try:
            series = open_series(location)
        except StorageError as error:
            logger.debug("%s", error)
            continue
        records = [record for record in series.records if record.index not in series.excluded]
        fits = len(records) >= 2 and (series.height, series.width) == shape
        if fits and records[0].metadata.settings == settings:
            found[series.frame_type].append(series)
    darks = [series for series in found[FrameType.DARK] if _is_at(series, set_point_c)]
    longest = max(darks, key=_exposure_s, default=None)
    return NoiseOnDisk(
        bias=max(found[FrameType.BIAS], key=_taken, default=None),
        dark=longest if longest is not None and _exposure_s(longest) >= _SHORTEST_DARK_S else None,
        flat=max(found[FrameType.FLAT], key=_taken, default=None),
    )


def noise_on_disk(there: NoiseOnDisk, reported_gain: float | None) -> CameraNoise | None:
    """Return the noise that series say; ``None`` without bias frames. The gain of the camera is taken without flats."""
    variance = series_variance_adu2(there.bias) if there.bias is not None else None
    if there.bias is None or variance is None:
        return None
    bias = _mean_frame(there.bias)
    dark_adu_per_s = 0.0
    if there.dark is not None:
        dark_adu_per_s = clipped(_mean_frame(there.dark) - bias)[0] / _exposure_s(there.dark)
    return CameraNoise(
        read_variance_adu2=variance,
        dark_adu_per_s=dark_adu_per_s,
        gain_e_per_adu=_gain_of(there.flat, bias, variance) or reported_gain,
    )


def measure_noise(
    equipment: Equipment,
    there: NoiseOnDisk,
    retry: RetryRules,
    *,
    bias_s: float,
    light_s: float,
    sky_e_per_s: float,
) -> CameraNoise:
    """Return the noise of the camera; frames that no series gives are taken, and not kept. It must be dark.

    Raises
    ------
    DeviceError
        If a frame cannot be taken, or the gain is needed for the light of the sky and nothing says it.
    """
    known = noise_on_disk(there, equipment.camera.info.electrons_per_adu)
    if known is None or there.dark is None:
        known = _with_trials(equipment, known, there, retry, bias_s, light_s)
    if known.gain_e_per_adu is None and sky_e_per_s:
        raise DeviceError(
            f"{equipment.camera.info.name} does not say its gain, which target.sky needs: take flats first, or set sky"
            " to 0"
        )
    equipment.watcher.notify(
        f"read noise {known.read_variance_adu2**0.5:.2f} ADU, dark current {known.dark_adu_per_s:.4f} ADU/s"
        + (f", gain {known.gain_e_per_adu:.3f} e-/ADU" if known.gain_e_per_adu else "")
    )
    return known


def _with_trials(
    equipment: Equipment,
    known: CameraNoise | None,
    there: NoiseOnDisk,
    retry: RetryRules,
    bias_s: float,
    light_s: float,
) -> CameraNoise:
    exposer = Exposer(equipment.camera, equipment.clock, retry)

    def take(exposure_s: float) -> NDArray[np.float64]:
        return exposer.take(exposure_s, light=False).result.pixels.astype(np.float64)

    gain = equipment.camera.info.electrons_per_adu
    equipment.watcher.notify("frames are taken to measure the noise of the camera; they are not kept")
    if known is not None and there.bias is not None:
        bias = _mean_frame(there.bias)
        variance, gain = known.read_variance_adu2, known.gain_e_per_adu
    else:
        frames = [take(bias_s) for _ in range(_LEVEL_FRAMES)]
        pairs = itertools.pairwise(frames)
        variance = float(np.mean([pair_variance_adu2(one, other) for one, other in pairs]))
        bias = np.mean(frames, axis=0)
    dark_adu_per_s = clipped(take(light_s) - bias)[0] / light_s if light_s >= _SHORTEST_DARK_S else 0.0
    return CameraNoise(read_variance_adu2=variance, dark_adu_per_s=dark_adu_per_s, gain_e_per_adu=gain)


def _gain_of(flats: Series | None, bias: NDArray[np.float64], read_variance_adu2: float) -> float | None:
    """Return the gain that the noise of flats shows, in e-/ADU."""
    variance = series_variance_adu2(flats) if flats is not None else None
    if flats is None or variance is None or variance <= read_variance_adu2:
        return None
    signal_adu = float(np.median(_mean_frame(flats) - bias))
    return signal_adu / (variance - read_variance_adu2) if signal_adu > 0 else None


def _mean_frame(series: Series) -> NDArray[np.float64]:
    frames: list[NDArray[Any]] = []
    for index in _usable(series)[:_LEVEL_FRAMES]:
        try:
            frames.append(series.read_frame(index))
        except FrameError as error:
            logger.debug("%s", error)
    if not frames:
        raise DeviceError(f"{series.location}: no frame can be read to measure the noise; move the series away")
    mean: NDArray[np.float64] = np.mean([frame.astype(np.float64) for frame in frames], axis=0)
    return mean


def _usable(series: Series) -> Sequence[int]:
    return [record.index for record in series.records if record.index not in series.excluded]


def _is_at(series: Series, set_point_c: float | None) -> bool:
    there = series.settings.get("set_temperature_c")
    if not isinstance(there, (int, float)) or set_point_c is None:
        return there is None and set_point_c is None
    return abs(there - set_point_c) <= _SAME_SET_POINT_C


def _exposure_s(series: Series) -> float:
    exposure_s = series.settings.get("exposure_time_s")
    return float(exposure_s) if isinstance(exposure_s, (int, float)) else 0.0


def _taken(series: Series) -> str:
    return max((str(record.metadata.date_obs) for record in series.records), default="")
