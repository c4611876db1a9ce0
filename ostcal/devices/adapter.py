"""A camera with the members of ASCOM's ICamera, versions 1 to 4, for any driver.

Real servers differ from the specification in many ways; tests/devices/test_alpaca_camera.py has the known ones. This
adapter requires only sizes, binning, StartExposure, ImageReady and the image; all other members may be missing.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from ostcal.clock import Clock
from ostcal.devices.camera_members import (
    SettingsWriter,
    describe_limits,
    finite_or_none,
    log_camera,
    name_odd_values,
    read_info,
    reread_info,
)
from ostcal.devices.device_driver import ConnectedDevice, Driver
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.protocols import CameraInfo, CameraRequest, CameraStatus, ExposureResult
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings

logger = logging.getLogger(__name__)

_EXPOSING = 2
_BUSY = (1, 2, 3, 4)
_FAILED = 5
_UNKNOWN = -1
_DEVICE_STATE_SINCE = 4
_ABORT_MARGIN_S = 30.0
"""One camera that cannot abort was ready 17 s after the end of the exposure."""
_OLD_IMAGE_S = 0.25
"""INDI's server calls the last image ready for some 40 ms after StartExposure."""
_TELLING_S = 0.5
"""Exposures from here on show whether the time of a simulated camera passes faster than that of its client."""
_NEVER_OLD_S = 2.0
"""An image of the last exposure is no longer called ready by then, 50 times as late as that of INDI's server."""
_POLL_S = 0.1
_TEMPERATURE_STEP_C = 0.6
"""Some coolers accept whole degrees only."""


@dataclass(frozen=True, kw_only=True)
class _Abandoned:
    """An aborted exposure that may still run, in the seconds of the clock."""

    doubted_from_s: float
    """From here on a camera that says it is exposing is not believed."""
    over_s: float
    """It has ended by then."""


class AscomInterfaceCamera(ConnectedDevice):
    """A camera controlled through its ASCOM members; the constructor connects it."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._request = CameraRequest()
        self._target_c: float | None = None
        self._asked_s = 0.0
        self._abandoned: _Abandoned | None = None
        self._begun_s = self._old_end_s = self._old_image_until_s = -math.inf
        self._is_ahead = False
        """Whether its time passes faster than that of `clock`, as that of simulated cameras does: images come early."""
        self._had_image = False
        """Whether one was there before the exposure began."""
        self._failed_before = False
        self._is_over = False
        """Whether the image of the last exposure came; some drivers say Exposing ever after."""
        self._info: CameraInfo
        super().__init__(driver, clock)
        log_camera(driver, self._info)
        name_odd_values(driver, self._properties)

    @property
    def info(self) -> CameraInfo:
        """Properties of the camera, read at connection; those that depend on the settings, after each `apply`."""
        return self._info

    def apply(self, request: CameraRequest) -> CameraSettings:
        """Set gain, offset, binning and readout mode with a full frame; return what reads back.

        In index mode the settings have the indices of gain and offset.

        Raises
        ------
        DeviceError
            If the camera refuses a value, or reads back another one.
        """
        writer = SettingsWriter(self._driver, self._clock)
        settings = writer.apply(request, self._info.name)
        self._shape = writer.shape
        self._request = request
        self._info = reread_info(self._info, self._properties)
        logger.debug("%s: settings applied: %s; %s", self._label, settings, describe_limits(self._info))
        return settings

    def frame_shape(self) -> tuple[int, int]:
        """Return ``(height, width)`` of the next frame."""
        return self._shape

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        """Begin an exposure.

        Raises
        ------
        DeviceError
            If the time is outside the camera's limits, it is already exposing, or it refuses.
        """
        # The standard allows darks shorter than ExposureMin, down to 0.
        low, high = self._info.exposure_min_s if light else 0.0, self._info.exposure_max_s
        if not (math.isfinite(exposure_time_s) and low <= exposure_time_s <= high):
            raise RefusedError(f"{self._label}: it exposes for {low:g} to {high:g} s, not for {exposure_time_s:g} s")
        self._wait_for_abandoned()
        state = self._camera_state()
        was_ready = self._was_ready()
        if state == _EXPOSING and not (was_ready or self._is_over or self._abandoned is not None):
            raise RefusedError(f"{self._label}: it is exposing already; abort that exposure, or wait for its end")
        self._had_image = was_ready
        may_be_old = was_ready and not self._is_ahead
        self._old_image_until_s = self._clock.now_s() + exposure_time_s + _OLD_IMAGE_S if may_be_old else -math.inf
        self._begin_again(exposure_time_s, light, state)

    def image_ready(self) -> bool:
        """Return whether the frame can be downloaded; raise `DeviceError` if the exposure failed."""
        ready, state = self._ready_and_state()
        now_s = self._clock.now_s()
        self._is_ahead = self._is_ahead or (ready and self._is_early(now_s))
        if ready and not self._is_ahead and now_s < self._old_image_until_s:
            return False
        if not ready:
            self._old_image_until_s = -math.inf
        if ready:  # some cameras deliver the image of an aborted exposure at its old time
            return not self._begun_s < self._old_end_s <= now_s < self._begun_s + self._asked_s
        if state == _FAILED:
            self._properties.flag("ImageReady")  # raises the device's own number and text, if it has them
        if state == _FAILED and not self._failed_before:
            raise RefusedError(f"{self._label}: the exposure of {self._asked_s:g} s failed (CameraState is Error)")
        # An error from before the exposure is ignored until the camera has reported another state.
        self._failed_before = self._failed_before and state == _FAILED
        return False

    def _is_early(self, now_s: float) -> bool:
        """Return whether an image that is ready is that of this exposure, though it is far from over by `clock`."""
        since_s = now_s - self._begun_s
        if self._asked_s < _TELLING_S or self._begun_s < self._old_end_s:  # it may be that of an aborted exposure
            return False
        if not self._had_image:
            return since_s < self._asked_s / 2
        was_always_ready = self._old_image_until_s > self._begun_s
        return was_always_ready and min(self._asked_s / 2, _NEVER_OLD_S) <= since_s < 0.75 * self._asked_s

    def download(self) -> ExposureResult:
        """Download the finished frame."""
        properties = self._properties
        pixels = self._image()
        self._is_over = True
        # The reported time is used only if it is near the requested one.
        made_s = properties.maybe(properties.number, "LastExposureDuration")
        tolerance_s = max(1.0, 0.5 * self._asked_s)
        if made_s is None or not (made_s > 0 and abs(made_s - self._asked_s) <= tolerance_s):  # NaN is not
            made_s = self._asked_s
        start_utc = properties.maybe(properties.text, "LastExposureStartTime") or ""
        try:
            datetime.fromisoformat(start_utc)
        except ValueError:
            start_utc = ""
        return ExposureResult(pixels=pixels, exposure_time_s=made_s, start_utc=start_utc or None)

    def _image(self) -> NDArray[Any]:
        """Download the image; if it is refused and no longer ready, wait until it is ready again."""
        try:
            return self._driver.image(self._shape)
        except RefusedError as error:
            if self._properties.flag("ImageReady"):
                raise
            logger.info("%s; it is asked for again when the image is ready", error)
            deadline_s = self._begun_s + self._asked_s + _ABORT_MARGIN_S
            while not self.image_ready():
                if self._clock.now_s() > deadline_s:
                    raise
                self._clock.sleep(_POLL_S)
        return self._driver.image(self._shape)

    def abort(self) -> None:
        """Abort a running exposure; do nothing if none runs or the camera cannot abort.

        A camera in state Error is told to abort too, as some stay in it until then. If the exposure continues all the
        same, the next `start_exposure` waits for its end.
        """
        state = self._camera_state()
        if state not in (*_BUSY, _FAILED, _UNKNOWN):
            return
        now_s = self._clock.now_s()
        if self._abandoned is None and state != _FAILED:
            over_s = now_s + self._asked_s + _ABORT_MARGIN_S
            self._abandoned = _Abandoned(doubted_from_s=over_s, over_s=over_s)
        self._old_end_s = self._begun_s + self._asked_s
        if not self._info.can_abort:
            return
        try:
            self._driver.call("AbortExposure" if self._aborts else "StopExposure")
            if self._abandoned is not None:
                doubted_from_s = min(self._abandoned.doubted_from_s, now_s + _ABORT_MARGIN_S)
                self._abandoned = replace(self._abandoned, doubted_from_s=doubted_from_s)
        except RefusedError as error:
            if state == _EXPOSING:
                raise
            logger.debug("%s; nothing was running", error)

    def status(self) -> CameraStatus:
        """Read temperature and cooler."""
        properties = self._properties
        state = self._device_state()
        temperature_c = finite_or_none(state.get("CCDTemperature"))
        if temperature_c is None:
            temperature_c = finite_or_none(properties.maybe(properties.number, "CCDTemperature"))
        power_percent = None
        if self._info.can_get_cooler_power:
            power_percent = finite_or_none(state.get("CoolerPower"))
            if power_percent is None:
                power_percent = properties.maybe(properties.number, "CoolerPower")
        can_set = self._info.can_set_temperature
        return CameraStatus(
            ccd_temperature_c=temperature_c,
            set_temperature_c=properties.maybe(properties.number, "SetCCDTemperature") if can_set else None,
            cooler_on=properties.maybe(properties.flag, "CoolerOn"),
            cooler_power_percent=power_percent,
        )

    def cool(self, target_c: float) -> None:
        """Set the target temperature and switch the cooler on."""
        if not self._info.can_set_temperature:
            raise RefusedError(f"{self._label}: its temperature cannot be set; switch cooling off in the configuration")
        self._properties.set("SetCCDTemperature", float(target_c))
        self._switch_cooler_on()
        said_c = self._read_set_point_back(target_c)
        logger.debug("%s: SetCCDTemperature reads back %s", self._label, said_c)
        if said_c is not None and abs(said_c - target_c) > _TEMPERATURE_STEP_C:
            raise ReplyError(f"{self._label}: it was told to cool to {target_c:g} C and reads back {said_c:g} C")
        self._target_c = target_c

    def _read_set_point_back(self, target_c: float) -> float | None:
        def read(name: str) -> float:
            return properties.read_back(
                properties.number, name, lambda said_c: abs(said_c - target_c) <= _TEMPERATURE_STEP_C, self._clock
            )

        properties = self._properties
        return properties.maybe(read, "SetCCDTemperature")

    def _switch_cooler_on(self) -> None:
        """Switch the cooler on, in either spelling of true, and say so if it stays off."""
        properties = self._properties
        for spelling in (True, "True"):
            properties.set("CoolerOn", spelling)
            is_on = properties.maybe(
                lambda name: properties.read_back(properties.flag, name, bool, self._clock), "CoolerOn"
            )
            if is_on is not False:
                return
        logger.warning("%s: it was told to switch its cooler on and says that it is off", self._label)

    def warm_up(self) -> None:
        """Switch the cooler off, if there is one."""
        self._target_c = None
        if self._properties.maybe(self._properties.flag, "CoolerOn"):
            self._properties.set("CoolerOn", False)

    def reconnect(self) -> None:
        """Reconnect after an error and apply the same settings again.

        The device itself is disconnected only if it has failed: many cameras switch their cooler off with it.
        """
        self._driver.renew()
        try:
            is_well = self._properties.flag("Connected") and self._camera_state() != _FAILED
        except DeviceError as error:
            logger.info("%s; connecting anew", error)
            is_well = False
        if not is_well:
            self._driver.disconnect()
            self._driver.connect()
        self._open = True
        self._read_facts()
        self.abort()
        self._wait_for_abandoned()
        self.apply(self._request)
        if self._target_c is not None:
            self.cool(self._target_c)

    def _read_facts(self) -> None:
        self._aborts = self._properties.maybe(self._properties.flag, "CanAbortExposure") or False
        self._has_device_state = self._driver.interface_version >= _DEVICE_STATE_SINCE
        self._info = read_info(self._driver, self._properties, can_abort=self._aborts)
        self._shape = (self._info.height, self._info.width)

    def _was_ready(self) -> bool:
        """Return whether an image lies ready before an exposure: the last one, or that of another program."""
        try:
            ready = self._device_state().get("ImageReady")
            return ready if isinstance(ready, bool) else self._properties.flag("ImageReady")
        except RefusedError as error:
            logger.debug("%s", error)
            return False

    def _begin_again(self, exposure_time_s: float, light: bool, state: int) -> None:
        """Begin an exposure; if an aborted one may still run and it is refused, wait until that one must be over."""
        abandoned = self._abandoned
        try:
            self._begin(exposure_time_s, light, state)
        except RefusedError as error:
            left_s = 0.0 if abandoned is None else abandoned.over_s - self._clock.now_s()
            if left_s <= 0:
                raise
            logger.warning("%s; it is asked again in %.0f s", error, left_s)
            self._clock.sleep(left_s)
            self._begin(exposure_time_s, light, self._camera_state())
        self._abandoned = None

    def _begin(self, exposure_time_s: float, light: bool, state: int) -> None:
        """Send StartExposure; `state` is the CameraState before it."""
        self._asked_s, self._failed_before, self._is_over = exposure_time_s, state == _FAILED, False
        self._begun_s = self._clock.now_s()
        try:
            self._driver.call("StartExposure", exposure_time_s, light)
        except DeviceUnreachableError as error:
            # Some servers drop the connection here but start the exposure.
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

    def _wait_for_abandoned(self) -> None:
        """Wait for an aborted exposure that continues, so that its image is not mistaken for the next one.

        INDI's server says after an abort that it exposes, for ever: such a state is believed for a while only.
        """
        if self._abandoned is None:
            return
        while self._camera_state() == _EXPOSING:
            if self._clock.now_s() > self._abandoned.doubted_from_s:
                logger.warning(
                    "%s: after the abort it still says that it is exposing; the next exposure is asked for", self._label
                )
                return
            self._clock.sleep(_POLL_S)
        self._abandoned = None

    def _camera_state(self) -> int:
        """Return CameraState, or `_UNKNOWN` if it is missing or invalid."""
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
        """Return DeviceState, which reads all changing values in one request; empty if the camera has none."""
        if not self._has_device_state:
            return {}
        items = self._properties.maybe(self._driver.read, "DeviceState")
        if not isinstance(items, list):
            self._has_device_state = False
            return {}
        return {str(item.get("Name")): item.get("Value") for item in items if isinstance(item, dict)}
