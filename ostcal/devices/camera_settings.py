"""Set gain, offset, binning and readout mode of a camera through its ASCOM members, and check what reads back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ostcal.devices.camera_info import LevelControl, read_level
from ostcal.devices.device_driver import Driver, Properties
from ostcal.devices.failures import RefusedError, ReplyError
from ostcal.devices.protocols import CameraRequest
from ostcal.frames import CameraSettings

logger = logging.getLogger(__name__)


class SettingsWriter:
    """Apply settings to a camera with a full frame.

    Parameters
    ----------
    driver : Driver
        The connected camera.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._properties = Properties(driver)
        self._label = driver.label
        self.shape = (0, 0)
        """(height, width) of the frames since the last `apply`."""

    def apply(self, request: CameraRequest, camera_name: str) -> CameraSettings:
        """Set readout mode, binning, full frame, gain and offset; return what reads back.

        Raises
        ------
        DeviceError
            If the camera refuses a value, or reads back another one.
        """
        # The mode comes first: it may change the possible gains and sizes.
        mode = self._set_readout_mode(request.readout_mode)
        self._set_binning(request.binning)
        self._set_full_frame(request.binning)
        return CameraSettings(
            camera=camera_name,
            gain=self._set_level(read_level(self._properties, "Gain"), request.gain),
            offset=self._set_level(read_level(self._properties, "Offset"), request.offset),
            binning=request.binning,
            readout_mode=mode,
        )

    def _set_readout_mode(self, wanted: int | str | None) -> str | None:
        modes = self._properties.maybe(self._properties.texts, "ReadoutModes") or ()
        if wanted is not None:
            if not modes:
                raise RefusedError(f"{self._label}: it has no readout modes to choose from; leave readout_mode empty")
            index = _index_of(wanted, modes)
            if index is None:
                raise RefusedError(f"{self._label}: it has no readout mode {wanted!r}; it has {_listed(modes)}")
            self._properties.set("ReadoutMode", index)
        now = self._properties.maybe(self._driver.read, "ReadoutMode") if modes else None
        logger.debug("%s: ReadoutMode reads back %s", self._label, now)
        index_now = _index_of(now, modes)
        if wanted is not None and index_now != _index_of(wanted, modes):
            raise ReplyError(f"{self._label}: readout mode was set to {wanted!r} and reads back {now!r}")
        return None if index_now is None else modes[index_now]

    def _set_binning(self, binning: tuple[int, int]) -> None:
        for axis, count in zip("XY", binning, strict=True):
            highest = self._properties.maybe(self._properties.integer, f"MaxBin{axis}")
            if highest is not None and not 1 <= count <= max(highest, 1):
                raise RefusedError(f"{self._label}: binning {count} is not 1 to {highest}; correct binning")
        if binning[0] != binning[1] and not self._properties.maybe(self._properties.flag, "CanAsymmetricBin"):
            raise RefusedError(f"{self._label}: it cannot bin {binning[0]} x {binning[1]}; give both the same number")
        for axis, count in zip("XY", binning, strict=True):
            self._properties.set(f"Bin{axis}", count)
        for axis, count in zip("XY", binning, strict=True):
            self._compare(f"Bin{axis}", count)

    def _set_full_frame(self, binning: tuple[int, int]) -> None:
        """Undo any subframe; set positions first, so that no step is outside the sensor."""
        width, height = (self._properties.integer(f"Camera{axis}Size") for axis in "XY")
        wanted = {"StartX": 0, "StartY": 0, "NumX": width // binning[0], "NumY": height // binning[1]}
        for name, value in wanted.items():
            self._properties.set(name, value)
        for name, value in wanted.items():
            self._compare(name, value)
        self.shape = (wanted["NumY"], wanted["NumX"])

    def _set_level(self, level: LevelControl, wanted: float | str | None) -> float | None:
        """Set gain or offset and return what reads back: a value or an index."""
        if wanted is not None:
            self._properties.set(level.name, self._level_value(level, wanted))
        if not level.present:
            return None
        now = self._driver.read(level.name)
        logger.debug("%s: %s reads back %s", self._label, level.name, now)
        index = _index_of(now, level.labels)
        value = float(now) if isinstance(now, int | float) else None if index is None else float(index)
        if value is None:
            raise ReplyError(f"{self._label}: {level.name} reads back {now!r}, which is neither a number nor a label")
        if wanted is not None and value != self._level_value(level, wanted):
            raise ReplyError(f"{self._label}: {level.name} was set to {wanted} and reads back {now}")
        return value

    def _level_value(self, level: LevelControl, wanted: float | str) -> int:
        """Return the number to set; raise `RefusedError` if the camera does not accept the wanted one."""
        word = level.name.lower()
        if not level.present:
            raise RefusedError(f"{self._label}: its {word} cannot be set; leave {word} empty")
        if level.labels:
            index = _index_of(wanted, level.labels)
            if index is None:
                raise RefusedError(f"{self._label}: {word} {wanted!r} is none of {_listed(level.labels)}")
            return index
        if isinstance(wanted, str) or not float(wanted).is_integer():
            raise RefusedError(f"{self._label}: {word} must be a whole number, not {wanted!r}")
        low, high = level.lowest, level.highest
        if (low is not None and wanted < low) or (high is not None and wanted > high):
            raise RefusedError(f"{self._label}: {word} {wanted:g} is outside {low} to {high}")
        return int(wanted)

    def _compare(self, name: str, wanted: int) -> None:
        now = self._properties.integer(name)
        logger.debug("%s: %s reads back %s", self._label, name, now)
        if now != wanted:
            raise ReplyError(f"{self._label}: {name} was set to {wanted} and reads back {now}")


def _index_of(wanted: object, labels: Sequence[str]) -> int | None:
    """Return the index of a label, or a valid index itself; a label wins over an index with the same digits."""
    if isinstance(wanted, str):
        if wanted.strip() in labels:
            return labels.index(wanted.strip())
        alike = [label.casefold() for label in labels]
        return alike.index(wanted.strip().casefold()) if wanted.strip().casefold() in alike else None
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        return None
    return int(wanted) if float(wanted).is_integer() and 0 <= wanted < len(labels) else None


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"{index}: {label!r}" for index, label in enumerate(labels))
