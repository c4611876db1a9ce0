"""How many frames are enough where the number is ``auto``: by the noise of series on disk, without a camera."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

from ostcal.capture.camera_noise import NoiseOnDisk, find_noise_series, noise_on_disk
from ostcal.capture.darks import find_bias_level
from ostcal.capture.enough import REACHED, CameraNoise, enough_rules, expected_frames, with_measured
from ostcal.capture.series_plan import EnoughRules
from ostcal.config import Config
from ostcal.errors import DeviceError
from ostcal.frames import FrameType
from ostcal.places.night_folders import folders_of
from ostcal.series.reader import Series
from ostcal.workflow.capture_rules import noise_folders, noise_target

logger = logging.getLogger(__name__)


def is_auto(config: Config, kind: FrameType) -> bool:
    """Return whether frames of a kind are taken until they are enough."""
    wanted = config.flat_capture.num_flats if kind is FrameType.FLAT else config.dark_capture.num_darks
    return wanted == "auto"


def needed_frames(config: Config, series: Series) -> int | None:
    """Return the frames from which on a series is complete, by the rule of the capture.

    ``None`` where the number is not ``auto``, or nothing on disk says the noise of the camera.
    """
    known = _noise_beside(config, series) if is_auto(config, series.frame_type) else None
    if known is None:
        return None
    noise, _ = known
    exposure_s = series.settings.get("exposure_time_s")
    rules = _rules(config, noise, series.frame_type, exposure_s if isinstance(exposure_s, int | float) else 0.0)
    return expected_frames(with_measured(rules, series, _bias_adu(config, series)), factor=REACHED)


@dataclass(frozen=True, kw_only=True)
class ExpectedFrames:
    """What series are expected to take, by the noise of the newest bias series with some settings."""

    config: Config
    bias: Series | None

    @cached_property
    def _known(self) -> tuple[CameraNoise, NoiseOnDisk] | None:
        return _noise_beside(self.config, self.bias) if self.bias is not None else None

    def of(self, kind: FrameType, exposure_s: float | None) -> int | None:
        """Return the number of frames of a series; ``None`` where it is not ``auto``, or the noise is not known."""
        if not is_auto(self.config, kind) or self._known is None:
            return None
        noise, there = self._known
        rules = _rules(self.config, noise, kind, exposure_s or 0.0)
        if kind is not FrameType.FLAT:
            return expected_frames(rules)
        if there.flat is None:
            return None
        return expected_frames(with_measured(rules, there.flat, _bias_adu(self.config, there.flat)))


def _rules(config: Config, noise: CameraNoise, kind: FrameType, exposure_s: float) -> EnoughRules:
    section = config.flat_capture if kind is FrameType.FLAT else config.dark_capture
    return enough_rules(noise_target(config, section.target), noise, kind, exposure_s)


def _noise_beside(config: Config, series: Series) -> tuple[CameraNoise, NoiseOnDisk] | None:
    """Return the noise that the series with the settings of one say."""
    if not series.records:
        return None
    frame, set_c = series.records[0].metadata, series.settings.get("set_temperature_c")
    shape = series.height, series.width
    there = find_noise_series(
        noise_folders(config), frame.settings, shape, set_c if isinstance(set_c, int | float) else None
    )
    try:
        noise = noise_on_disk(there, frame.egain_e_per_adu)
    except DeviceError as error:
        logger.debug("%s", error)
        return None
    return (noise, there) if noise is not None else None


def _bias_adu(config: Config, series: Series) -> float:
    settings, shape = series.records[0].metadata.settings, (series.height, series.width)
    return find_bias_level(folders_of(config.dark_capture.output_dir), settings, shape) or 0.0
