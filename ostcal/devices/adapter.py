"""A camera by the members of ASCOM's ICamera, versions 1 to 4, whatever drives it.

Real servers differ from the specification in many ways: tests/test_alpaca_camera.py has those that were seen. What this
adapter expects of them is little: sizes, binning, StartExposure, ImageReady and the image. All else may be missing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType

from ostcal.clock import Clock
from ostcal.devices.device_driver import Driver, Properties
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.image_bytes import MAX_PIXELS
from ostcal.devices.protocols import CameraInfo, CameraRequest, CameraStatus, ExposureResult
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings

logger = logging.getLogger(__name__)

_EXPOSING = 2
_BUSY = (1, 2, 3, 4)
_FAILED = 5
_UNKNOWN = -1
_RGGB_SENSOR = 2
_OTHER_COLOUR_SENSORS = {1: "colour without a pattern", 3: "CMYG", 4: "CMYG2", 5: "LRGB"}
_DEVICE_STATE_SINCE = 4
_ABORT_MARGIN_S = 30.0
"""A camera that does not abort was seen to be ready 17 s after the end of an exposure."""
_POLL_S = 0.1
_TEMPERATURE_STEP_C = 0.6
"""Some coolers take whole degrees only."""


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Gain or offset of a camera: how it is told and what it takes."""

    name: str
    labels: tuple[str, ...]
    """Not empty in index mode."""
    lowest: int | None
    highest: int | None
    present: bool


class AscomInterfaceCamera:
    """A camera that is driven through its ASCOM members; connected when it is made.

    Parameters
    ----------
    driver
        What drives it.
    clock
        Waits for what has no end of its own.
    """

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self._properties = Properties(driver)
        self._clock = clock
        self._open = True
        self._request = CameraRequest()
        self._target_c: float | None = None
        self._asked_s = 0.0
        self._abandoned_until_s: float | None = None
        self._begun_s = self._old_end_s = -math.inf
        self._failed_before = False
        self._has_device_state = True
        self._info: CameraInfo
        logger.debug("%s: connecting", driver.label)
        driver.connect()
        try:
            self._connected()
            _log_camera(driver, self._info)
        except DeviceError:
            driver.disconnect()
            raise

    @property
    def info(self) -> CameraInfo:
        """What it says of itself, read when it was connected; what depends on the settings, when they were applied."""
        return self._info

    def apply(self, request: CameraRequest) -> CameraSettings:
        """Set gain, offset, binning and mode, full frame; give what the camera then reads back.

        In index mode the settings hold the index of gain and offset.

        Raises
        ------
        DeviceError
            The camera refuses, or reads back something else.
        """
        # The mode comes first: it may change what gains and sizes there are.
        mode = self._set_readout_mode(request.readout_mode)
        self._set_binning(request.binning)
        self._set_full_frame(request.binning)
        settings = CameraSettings(
            camera=self._info.name,
            gain=self._set_level(_read_level(self._properties, "Gain"), request.gain),
            offset=self._set_level(_read_level(self._properties, "Offset"), request.offset),
            binning=request.binning,
            readout_mode=mode,
        )
        self._request = request
        self._info = _with_settings(self._info, self._properties)
        logger.debug("%s: settings applied: %s; %s", self._label, settings, _dependent(self._info))
        return settings

    def frame_shape(self) -> tuple[int, int]:
        """Give ``(height, width)`` of the next frame."""
        return self._shape

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        """Begin an exposure.

        Raises
        ------
        DeviceError
            The time is outside what the camera takes, it is exposing already, or it refuses.
        """
        self._check_exposure_time(exposure_time_s, light=light)
        self._wait_for_abandoned()
        state = self._camera_state()
        if state == _EXPOSING and not self._properties.flag("ImageReady"):
            raise RefusedError(f"{self._label}: it is exposing already; abort that exposure, or wait for its end")
        self._begin(exposure_time_s, light, state)

    def image_ready(self) -> bool:
        """Whether the frame can be downloaded; raises `DeviceError` where the exposure failed."""
        ready, state = self._ready_and_state()
        if ready:
            return not self._may_be_old()
        if state == _FAILED:
            self._properties.flag("ImageReady")  # says why, with number and text, where the device tells it
        if state == _FAILED and not self._failed_before:
            raise RefusedError(f"{self._label}: the exposure of {self._asked_s:g} s failed (CameraState is Error)")
        # An error that was there before the exposure means nothing until the camera has said something else.
        self._failed_before = self._failed_before and state == _FAILED
        return False

    def download(self) -> ExposureResult:
        """Download the finished frame."""
        pixels = self._driver.image(self._shape)
        return ExposureResult(pixels=pixels, exposure_time_s=self._made_s(), start_utc=self._start_utc())

    def abort(self) -> None:
        """End a running exposure without a frame; nothing happens where none runs or it cannot.

        Where the camera goes on all the same, the next `start_exposure` waits for its end.
        """
        state = self._camera_state()
        if state not in _BUSY and state != _UNKNOWN:
            return
        self._abandoned_until_s = self._clock.now_s() + self._asked_s + _ABORT_MARGIN_S
        self._old_end_s = self._begun_s + self._asked_s
        if not self._info.can_abort:
            return
        try:
            self._driver.call("AbortExposure" if self._aborts else "StopExposure")
        except RefusedError as error:
            if state == _EXPOSING:
                raise
            logger.debug("%s; nothing was running", error)

    def status(self) -> CameraStatus:
        """Read temperature and cooler."""
        properties = self._properties
        state = self._device_state()
        temperature_c = _finite(state.get("CCDTemperature"))
        if temperature_c is None:
            temperature_c = _finite(properties.maybe(properties.number, "CCDTemperature"))
        can_set = self._info.can_set_temperature
        return CameraStatus(
            ccd_temperature_c=temperature_c,
            set_temperature_c=properties.maybe(properties.number, "SetCCDTemperature") if can_set else None,
            cooler_on=properties.maybe(properties.flag, "CoolerOn"),
            cooler_power_percent=self._cooler_power(state.get("CoolerPower")),
        )

    def cool(self, target_c: float) -> None:
        """Switch the cooler on, with a set point."""
        if not self._info.can_set_temperature:
            raise RefusedError(f"{self._label}: its temperature cannot be set; switch cooling off in the configuration")
        self._set("SetCCDTemperature", float(target_c))
        self._set("CoolerOn", True)
        said_c = self._properties.maybe(self._properties.number, "SetCCDTemperature")
        logger.debug("%s: SetCCDTemperature reads back %s", self._label, said_c)
        if said_c is not None and abs(said_c - target_c) > _TEMPERATURE_STEP_C:
            raise ReplyError(f"{self._label}: it was told to cool to {target_c:g} C and reads back {said_c:g} C")
        self._target_c = target_c

    def warm_up(self) -> None:
        """Switch the cooler off; nothing happens where there is none."""
        self._target_c = None
        if self._properties.maybe(self._properties.flag, "CoolerOn"):
            self._set("CoolerOn", False)

    def reconnect(self) -> None:
        """Connect anew after an error, with the settings applied before.

        The device itself is only disconnected where it is not well: many cameras switch their cooler off with it.
        """
        self._driver.renew()
        if not self._is_well():
            self._driver.disconnect()
            self._driver.connect()
        self._open = True
        self._connected()
        self.abort()
        self._wait_for_abandoned()
        self.apply(self._request)
        if self._target_c is not None:
            self.cool(self._target_c)

    def close(self) -> None:
        """Disconnect; a second time nothing happens."""
        if self._open:
            self._open = False
            self._driver.disconnect()

    def __enter__(self) -> AscomInterfaceCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _label(self) -> str:
        return self._driver.label

    def _connected(self) -> None:
        """Read what is read once for a connection."""
        self._aborts = self._properties.maybe(self._properties.flag, "CanAbortExposure") or False
        self._has_device_state = self._driver.interface_version >= _DEVICE_STATE_SINCE
        self._info = _read_info(self._driver, self._properties, can_abort=self._aborts)
        self._shape = (self._info.height, self._info.width)

    def _is_well(self) -> bool:
        try:
            return self._properties.flag("Connected") and self._camera_state() != _FAILED
        except DeviceError as error:
            logger.info("%s; connecting anew", error)
            return False

    # Settings

    def _set_readout_mode(self, wanted: int | str | None) -> str | None:
        modes = self._properties.maybe(self._properties.texts, "ReadoutModes") or ()
        if wanted is not None:
            if not modes:
                raise RefusedError(f"{self._label}: it has no readout modes to choose from; leave readout_mode empty")
            index = _index_of(wanted, modes)
            if index is None:
                raise RefusedError(f"{self._label}: it has no readout mode {wanted!r}; it has {_listed(modes)}")
            self._set("ReadoutMode", index)
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
            self._set(f"Bin{axis}", count)
        for axis, count in zip("XY", binning, strict=True):
            self._compare(f"Bin{axis}", count)

    def _set_full_frame(self, binning: tuple[int, int]) -> None:
        """Undo any subframe; positions first, so that no step is outside the sensor."""
        width, height = (self._properties.integer(f"Camera{axis}Size") for axis in "XY")
        wanted = {"StartX": 0, "StartY": 0, "NumX": width // binning[0], "NumY": height // binning[1]}
        for name, value in wanted.items():
            self._set(name, value)
        for name, value in wanted.items():
            self._compare(name, value)
        self._shape = (wanted["NumY"], wanted["NumX"])

    def _set_level(self, level: _Level, wanted: float | str | None) -> float | None:
        """Set gain or offset, and give what reads back: a value, or an index."""
        if wanted is not None:
            self._set(level.name, self._level_value(level, wanted))
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

    def _level_value(self, level: _Level, wanted: float | str) -> int:
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

    def _set(self, name: str, value: object) -> None:
        logger.debug("%s: %s is set to %s", self._label, name, value)
        self._driver.write(name, value)

    def _compare(self, name: str, wanted: int) -> None:
        now = self._properties.integer(name)
        logger.debug("%s: %s reads back %s", self._label, name, now)
        if now != wanted:
            raise ReplyError(f"{self._label}: {name} was set to {wanted} and reads back {now}")

    # Exposures

    def _check_exposure_time(self, exposure_time_s: float, *, light: bool) -> None:
        # The standard lets a dark be shorter than ExposureMin, down to 0.
        low, high = self._info.exposure_min_s if light else 0.0, self._info.exposure_max_s
        if not (math.isfinite(exposure_time_s) and low <= exposure_time_s <= high):
            raise RefusedError(f"{self._label}: it exposes for {low:g} to {high:g} s, not for {exposure_time_s:g} s")

    def _begin(self, exposure_time_s: float, light: bool, state: int) -> None:
        """Start an exposure in the camera; `state` is CameraState before it."""
        self._asked_s, self._failed_before = exposure_time_s, state == _FAILED
        self._begun_s = self._clock.now_s()
        try:
            self._driver.call("StartExposure", exposure_time_s, light)
        except DeviceUnreachableError as error:
            # Some servers drop the connection here and expose all the same.
            state_now = self._camera_state()
            if state_now == state or state_now not in _BUSY:
                raise
            logger.warning("%s; it is exposing all the same", error)
        except RefusedError as error:
            shortest_s = self._info.exposure_min_s
            if light or exposure_time_s >= shortest_s:
                raise
            logger.warning("%s; exposing for its shortest time, %g s, instead", error, shortest_s)
            self._begin(shortest_s, light, self._camera_state())

    def _may_be_old(self) -> bool:
        """Whether the image that is ready may be that of an aborted exposure: some cameras make it at its old time."""
        now_s = self._clock.now_s()
        return self._begun_s < self._old_end_s <= now_s < self._begun_s + self._asked_s

    def _wait_for_abandoned(self) -> None:
        """Wait for an exposure that goes on after it was aborted, so that its image is not taken for the next one."""
        until_s = self._abandoned_until_s
        if until_s is None:
            return
        while self._camera_state() == _EXPOSING:
            if self._clock.now_s() > until_s:
                raise DeviceUnreachableError(
                    f"{self._label}: the aborted exposure goes on beyond its end; restart the camera"
                )
            self._clock.sleep(_POLL_S)
        self._abandoned_until_s = None

    def _camera_state(self) -> int:
        """Give CameraState, or `_UNKNOWN` where it says nothing, or nothing that means anything."""
        try:
            state = self._properties.maybe(self._properties.integer, "CameraState")
        except ReplyError as error:
            logger.debug("%s", error)
            return _UNKNOWN
        return _UNKNOWN if state is None else state

    def _ready_and_state(self) -> tuple[bool, int]:
        state = self._device_state()
        ready, number = state.get("ImageReady"), state.get("CameraState")
        if isinstance(ready, bool) and isinstance(number, int):
            return ready, number
        if self._properties.flag("ImageReady"):
            return True, 0
        return False, self._camera_state()

    def _device_state(self) -> dict[str, object]:
        """Give all that changes, in one call where the camera can; else nothing."""
        if not self._has_device_state:
            return {}
        items = self._properties.maybe(self._driver.read, "DeviceState")
        if not isinstance(items, list):
            self._has_device_state = False
            return {}
        return {str(item.get("Name")): item.get("Value") for item in items if isinstance(item, dict)}

    def _made_s(self) -> float:
        """Give the time the camera says it exposed, where that is near what it was told."""
        made_s = self._properties.maybe(self._properties.number, "LastExposureDuration")
        tolerance_s = max(1.0, 0.5 * self._asked_s)
        if made_s is not None and made_s > 0 and abs(made_s - self._asked_s) <= tolerance_s:
            return made_s
        return self._asked_s

    def _start_utc(self) -> str | None:
        said = self._properties.maybe(self._properties.text, "LastExposureStartTime") or ""
        try:
            datetime.fromisoformat(said)
        except ValueError:
            return None
        return said

    def _cooler_power(self, power: object) -> float | None:
        if not self._info.can_get_cooler_power:
            return None
        known = _finite(power)
        return known if known is not None else self._properties.maybe(self._properties.number, "CoolerPower")


def _read_info(driver: Driver, properties: Properties, *, can_abort: bool) -> CameraInfo:
    width, height = (properties.integer(f"Camera{axis}Size") for axis in "XY")
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ReplyError(f"{driver.label}: it claims {width} x {height} pixels; 1 to {MAX_PIXELS} are possible")
    maybe, number, flag = properties.maybe, properties.number, properties.flag
    pixel_um = [_positive(maybe(number, f"PixelSize{axis}")) for axis in "XY"]
    return CameraInfo(
        name=maybe(properties.text, "Name") or driver.label,
        width=width,
        height=height,
        max_adu=int(_positive(maybe(number, "MaxADU")) or 65535),
        exposure_min_s=_finite(maybe(number, "ExposureMin")) or 0.0,
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
        gain_labels=_read_level(properties, "Gain").labels,
        offset_labels=_read_level(properties, "Offset").labels,
        interface_version=driver.interface_version,
    )


def _with_settings(info: CameraInfo, properties: Properties) -> CameraInfo:
    """Read anew what gain, binning and readout mode change: 0.25 e-/ADU at gain 100 are 0.08 at gain 200.

    What the camera does not say now, but said when it was connected, stays.
    """
    maybe, number = properties.maybe, properties.number
    return replace(
        info,
        max_adu=int(_positive(maybe(number, "MaxADU")) or info.max_adu),
        exposure_min_s=_or(_finite(maybe(number, "ExposureMin")), info.exposure_min_s),
        exposure_max_s=_positive(maybe(number, "ExposureMax")) or info.exposure_max_s,
        electrons_per_adu=_positive(maybe(number, "ElectronsPerADU")),
        full_well_e=_positive(maybe(number, "FullWellCapacity")),
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _dependent(info: CameraInfo) -> str:
    """Say what depends on the settings."""
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
"""What the log of ``--debug`` has of a camera that was just connected."""


def _log_camera(driver: Driver, info: CameraInfo) -> None:
    """Log what a camera says of itself, member by member; nothing is asked where nobody would read it."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    logger.debug("%s: connected, interface version %d", driver.label, driver.interface_version)
    for name in _SHOWN:
        try:
            logger.debug("%s: %s is %s", driver.label, name, driver.read(name))
        except DeviceError as error:
            logger.debug("%s: %s is not told (%s)", driver.label, name, error)
    for word, labels in (("gain", info.gain_labels), ("offset", info.offset_labels)):
        logger.debug("%s: %s is set by %s", driver.label, word, "index" if labels else "value")
    logger.debug("%s: %s", driver.label, _dependent(info))


def _read_level(properties: Properties, name: str) -> _Level:
    """Find out how gain or offset is told: an index into labels, or a value between limits."""
    labels = properties.maybe(properties.texts, f"{name}s") or ()
    return _Level(
        name=name,
        labels=labels,
        lowest=None if labels else properties.maybe(properties.integer, f"{name}Min"),
        highest=None if labels else properties.maybe(properties.integer, f"{name}Max"),
        present=properties.maybe(properties.driver.read, name) is not None,
    )


def _bayer_pattern(driver: Driver, properties: Properties) -> str | None:
    """Give the four colours from the first pixel on, which the offsets shift."""
    sensor = properties.maybe(properties.integer, "SensorType")
    if sensor in _OTHER_COLOUR_SENSORS:
        logger.warning("%s: sensor of type %s is treated as monochrome", driver.label, _OTHER_COLOUR_SENSORS[sensor])
    if sensor != _RGGB_SENSOR:
        return None
    right, down = (properties.maybe(properties.integer, f"BayerOffset{axis}") or 0 for axis in "XY")
    rows = ("RG", "GB")
    return "".join(rows[(y + down) % 2][(x + right) % 2] for y in range(2) for x in range(2))


def _index_of(wanted: object, labels: Sequence[str]) -> int | None:
    """Find a label, or check an index; a label wins, also over an index of the same digits."""
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


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _positive(value: object) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0 else None
