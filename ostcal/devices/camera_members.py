"""Read what a camera reports of itself through its ASCOM members, and set gain, offset, binning and readout mode."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ostcal.clock import Clock
from ostcal.devices.device_driver import Driver, Properties, as_float, index_of
from ostcal.devices.failures import RefusedError, ReplyError
from ostcal.devices.image_bytes import MAX_PIXELS
from ostcal.devices.protocols import CameraInfo, CameraRequest
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings

logger = logging.getLogger(__name__)

_RGGB_SENSOR = 2
_OTHER_COLOUR_SENSORS = {1: "colour without a pattern", 3: "CMYG", 4: "CMYG2", 5: "LRGB"}


@dataclass(frozen=True, kw_only=True)
class LevelControl:
    """How gain or offset of a camera is set."""

    name: str
    labels: tuple[str, ...]
    """Names of the values in index mode; empty in value mode."""
    lowest: int | None
    highest: int | None
    present: bool


def read_info(driver: Driver, properties: Properties, *, can_abort: bool) -> CameraInfo:
    """Read all properties of a camera."""
    width, height = (properties.integer(f"Camera{axis}Size") for axis in "XY")
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ReplyError(f"{driver.label}: it claims {width} x {height} pixels; 1 to {MAX_PIXELS} are possible")
    maybe, number, flag = properties.maybe, properties.number, properties.flag
    pixel_um = [_positive(maybe(number, f"PixelSize{axis}")) for axis in "XY"]
    overscan, trim = _sections(driver, properties)
    return CameraInfo(
        name=maybe(properties.text, "Name") or driver.label,
        width=width,
        height=height,
        max_adu=int(_positive(maybe(number, "MaxADU")) or 65535),
        exposure_min_s=_shortest_s(properties) or 0.0,
        exposure_max_s=_positive(maybe(number, "ExposureMax")) or math.inf,
        bayer_pattern=_bayer_pattern(driver, properties),
        has_shutter=maybe(flag, "HasShutter") or False,
        can_abort=can_abort or maybe(flag, "CanStopExposure") or False,
        can_set_temperature=maybe(flag, "CanSetCCDTemperature") or False,
        can_get_cooler_power=maybe(flag, "CanGetCoolerPower") or False,
        pixel_size_um=(pixel_um[0], pixel_um[1]) if pixel_um[0] and pixel_um[1] else None,
        electrons_per_adu=_positive(maybe(number, "ElectronsPerADU")),
        full_well_e=_positive(maybe(number, "FullWellCapacity")),
        readout_modes=maybe(properties.texts, "ReadoutModes") or (),
        gain_labels=read_level(properties, "Gain").labels,
        offset_labels=read_level(properties, "Offset").labels,
        interface_version=driver.interface_version,
        overscan_section=overscan,
        trim_section=trim,
    )


def _shortest_s(properties: Properties) -> float | None:
    """Return ExposureMin; ``None`` if the camera does not report it, or it cannot be."""
    number, maybe = properties.number, properties.maybe
    shortest_s = finite_or_none(maybe(number, "ExposureMin"))
    longest_s = _positive(maybe(number, "ExposureMax")) or math.inf
    return shortest_s if shortest_s is not None and 0 <= shortest_s <= longest_s else None


def name_odd_values(driver: Driver, properties: Properties) -> None:
    """Warn of values that cannot be and of what is used instead, a line for each."""
    maybe, number = properties.maybe, properties.number
    for name, instead in (
        ("MaxADU", "65535 is used until frames show another full scale"),
        ("PixelSizeX", "no size of pixels is recorded"),
        ("PixelSizeY", "no size of pixels is recorded"),
    ):
        value = maybe(number, name)
        if value is not None and _positive(value) is None:
            logger.warning("%s: it reports %s %g, which cannot be; %s", driver.label, name, value, instead)
    shortest_s = maybe(number, "ExposureMin")
    if shortest_s is not None and _shortest_s(properties) is None:
        longest_s = maybe(number, "ExposureMax")
        logger.warning(
            "%s: it reports exposures from %g to %s s, which cannot be; from 0 s on is tried",
            driver.label,
            shortest_s,
            "unknown" if longest_s is None else f"{longest_s:g}",
        )


def _sections(driver: Driver, properties: Properties) -> tuple[str | None, str | None]:
    """Return BIASSEC and TRIMSEC of the next frame from a driver with actions of these names.

    ASCOM has no property for overscan; a driver may offer actions of any name.
    """
    try:
        actions = {action.upper(): action for action in properties.maybe(properties.texts, "SupportedActions") or ()}
        said = [
            driver.call("Action", actions[name], "") if name in actions else None for name in ("BIASSEC", "TRIMSEC")
        ]
    except DeviceError as error:
        logger.debug("%s: where its overscan is, is not known (%s)", driver.label, error)
        return None, None
    overscan, trim = (section.strip() or None if isinstance(section, str) else None for section in said)
    return overscan, trim


def reread_info(info: CameraInfo, properties: Properties) -> CameraInfo:
    """Update what gain, binning and readout mode change: 0.25 e-/ADU at gain 100 become 0.08 at gain 200.

    Limits that the camera no longer reports keep their values.
    """
    maybe, number = properties.maybe, properties.number
    exposure_min_s = _shortest_s(properties)
    overscan = trim = None
    if info.overscan_section is not None or info.trim_section is not None:
        overscan, trim = _sections(properties.driver, properties)
    return replace(
        info,
        overscan_section=overscan,
        trim_section=trim,
        max_adu=int(_positive(maybe(number, "MaxADU")) or info.max_adu),
        exposure_min_s=info.exposure_min_s if exposure_min_s is None else exposure_min_s,
        exposure_max_s=_positive(maybe(number, "ExposureMax")) or info.exposure_max_s,
        electrons_per_adu=_positive(maybe(number, "ElectronsPerADU")),
        full_well_e=_positive(maybe(number, "FullWellCapacity")),
    )


def describe_limits(info: CameraInfo) -> str:
    """Describe the values that depend on the settings, for the log."""
    return (
        f"MaxADU {info.max_adu}, exposures {info.exposure_min_s:g} s to {info.exposure_max_s:g} s,"
        f" {info.electrons_per_adu} e-/ADU, full well {info.full_well_e} e-"
    )


_SHOWN = (
    "Name", "Description", "DriverInfo", "DriverVersion", "SensorName", "SensorType", "BayerOffsetX", "BayerOffsetY",
    "CameraXSize", "CameraYSize", "PixelSizeX", "PixelSizeY", "BinX", "BinY", "MaxBinX", "MaxBinY", "CanAsymmetricBin",
    "Gain", "Gains", "GainMin", "GainMax", "Offset", "Offsets", "OffsetMin", "OffsetMax", "ReadoutMode", "ReadoutModes",
    "HasShutter", "CanAbortExposure", "CanStopExposure", "CanSetCCDTemperature", "CanGetCoolerPower", "CoolerOn",
    "CCDTemperature", "SetCCDTemperature",
)  # fmt: skip
"""Members that ``--debug`` logs when a camera connects."""


def log_camera(driver: Driver, info: CameraInfo) -> None:
    """Log the members of a camera, if debug messages are on; each one is a request."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    logger.debug("%s: connected, interface version %d", driver.label, driver.interface_version)
    for name in _SHOWN:
        try:
            logger.debug("%s: %s is %s", driver.label, name, driver.read(name))
        except DeviceError as error:
            logger.debug("%s: %s is not known (%s)", driver.label, name, error)
    for word, labels in (("gain", info.gain_labels), ("offset", info.offset_labels)):
        logger.debug("%s: %s is set by %s", driver.label, word, "index" if labels else "value")
    logger.debug("%s: %s", driver.label, describe_limits(info))


def read_level(properties: Properties, name: str) -> LevelControl:
    """Return whether gain or offset is an index into labels or a value between limits."""
    labels = properties.maybe(properties.texts, f"{name}s") or ()
    return LevelControl(
        name=name,
        labels=labels,
        lowest=None if labels else properties.maybe(properties.integer, f"{name}Min"),
        highest=None if labels else properties.maybe(properties.integer, f"{name}Max"),
        present=properties.maybe(properties.driver.read, name) is not None,
    )


def _bayer_pattern(driver: Driver, properties: Properties) -> str | None:
    """Return the four colours from the first pixel on, shifted by the Bayer offsets; ``None`` for monochrome."""
    sensor = properties.maybe(properties.integer, "SensorType")
    if sensor in _OTHER_COLOUR_SENSORS:
        logger.warning("%s: sensor of type %s is treated as monochrome", driver.label, _OTHER_COLOUR_SENSORS[sensor])
    if sensor != _RGGB_SENSOR:
        return None
    right, down = (properties.maybe(properties.integer, f"BayerOffset{axis}") or 0 for axis in "XY")
    rows = ("RG", "GB")
    return "".join(rows[(y + down) % 2][(x + right) % 2] for y in range(2) for x in range(2))


def finite_or_none(value: object) -> float | None:
    """Return a finite number as it is, anything else as ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = as_float(value)
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    number = finite_or_none(value)
    return number if number is not None and number > 0 else None


class SettingsWriter:
    """Apply settings to a connected camera, with a full frame."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self._clock = clock
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
        # The positions come before the sizes, so that no step is outside the sensor.
        width, height = (self._properties.integer(f"Camera{axis}Size") for axis in "XY")
        self.shape = (height // request.binning[1], width // request.binning[0])
        self._set_and_compare({"StartX": 0, "StartY": 0, "NumX": self.shape[1], "NumY": self.shape[0]})
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
            index = index_of(wanted, modes)
            if index is None:
                raise RefusedError(f"{self._label}: it has no readout mode {wanted!r}; it has {_listed(modes)}")
            self._properties.set("ReadoutMode", index)
        now = self._read_mode_back(wanted, modes) if modes else None
        logger.debug("%s: ReadoutMode reads back %s", self._label, now)
        index_now = index_of(now, modes)
        if wanted is not None and index_now != index_of(wanted, modes):
            raise ReplyError(f"{self._label}: readout mode was set to {wanted!r} and reads back {now!r}")
        return None if index_now is None else modes[index_now]

    def _read_mode_back(self, wanted: int | str | None, modes: Sequence[str]) -> object:
        def is_wanted(now: object) -> bool:
            return wanted is None or index_of(now, modes) == index_of(wanted, modes)

        read_back, read = self._properties.read_back, self._driver.read
        return self._properties.maybe(lambda name: read_back(read, name, is_wanted, self._clock), "ReadoutMode")

    def _set_binning(self, binning: tuple[int, int]) -> None:
        for axis, count in zip("XY", binning, strict=True):
            highest = self._properties.maybe(self._properties.integer, f"MaxBin{axis}")
            if highest is not None and not 1 <= count <= max(highest, 1):
                raise RefusedError(f"{self._label}: binning {count} is not 1 to {highest}; correct binning")
        if binning[0] != binning[1] and not self._properties.maybe(self._properties.flag, "CanAsymmetricBin"):
            raise RefusedError(f"{self._label}: it cannot bin {binning[0]} x {binning[1]}; give both the same number")
        self._set_and_compare({"BinX": binning[0], "BinY": binning[1]})

    def _set_level(self, level: LevelControl, wanted: float | str | None) -> float | None:
        """Set gain or offset and return what reads back: a value or an index."""
        asked = None if wanted is None else self._level_value(level, wanted)
        if asked is not None:
            self._properties.set(level.name, asked)
        if not level.present:
            return None
        now = self._properties.read_back(
            self._driver.read, level.name, lambda now: asked in (None, _level_number(level, now)), self._clock
        )
        logger.debug("%s: %s reads back %s", self._label, level.name, now)
        value = _level_number(level, now)
        if value is None:
            raise ReplyError(f"{self._label}: {level.name} reads back {now!r}, which is neither a number nor a label")
        if asked is not None and value != asked:
            raise ReplyError(f"{self._label}: {level.name} was set to {wanted} and reads back {now}")
        return value

    def _level_value(self, level: LevelControl, wanted: float | str) -> int:
        """Return the number to set; raise `RefusedError` if the camera does not accept the wanted one."""
        word = level.name.lower()
        if not level.present:
            raise RefusedError(f"{self._label}: its {word} cannot be set; leave {word} empty")
        if level.labels:
            index = index_of(wanted, level.labels)
            if index is None:
                raise RefusedError(f"{self._label}: {word} {wanted!r} is none of {_listed(level.labels)}")
            return index
        if isinstance(wanted, str) or not float(wanted).is_integer():
            raise RefusedError(f"{self._label}: {word} must be a whole number, not {wanted!r}")
        low, high = level.lowest, level.highest
        if (low is not None and wanted < low) or (high is not None and wanted > high):
            raise RefusedError(f"{self._label}: {word} {wanted:g} is outside {low} to {high}")
        return int(wanted)

    def _set_and_compare(self, wanted: dict[str, int]) -> None:
        """Set whole numbers, then check what they read back: one may change another."""
        for name, value in wanted.items():
            self._properties.set(name, value)
        for name, value in wanted.items():
            now = self._properties.read_back(self._properties.integer, name, value.__eq__, self._clock)
            logger.debug("%s: %s reads back %s", self._label, name, now)
            if now != value:
                raise ReplyError(f"{self._label}: {name} was set to {value} and reads back {now}")


def _level_number(level: LevelControl, now: object) -> float | None:
    """Return a gain or offset that was read, a value or an index; ``None`` if it is neither."""
    if isinstance(now, int | float):
        return finite_or_none(now)
    index = index_of(now, level.labels)
    return None if index is None else float(index)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"{index}: {label!r}" for index, label in enumerate(labels))
