"""Take one exposure: start it, wait for it with a deadline, download it, and try again if it fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from numpy.typing import NDArray

from ostcal.capture.series_plan import RetryRules, do_nothing
from ostcal.clock import Clock
from ostcal.devices.failures import NotNowError, RefusedError
from ostcal.devices.protocols import Camera, CameraStatus, ExposureResult
from ostcal.errors import DeviceError, FrameError
from ostcal.horizontal import Horizontal
from ostcal.measure.live import median_adu
from ostcal.measure.signed_words import without_sign

logger = logging.getLogger(__name__)

_POLLS_PER_EXPOSURE = 20
"""Also during readout: a finished frame waits for a fortieth of its readout on average."""
_POLL_S = (0.02, 0.5)
"""Shortest and longest pause between polls; an answer takes 1 to 2 ms."""
_CAMERA_CLOCK_S = 5.0
"""Largest accepted difference between the camera's start time and ours: some clocks are hours off."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TakenFrame:
    """A downloaded frame with the times and the camera status of its exposure."""

    result: ExposureResult
    requested_s: float
    started_s: float
    """Start of the exposure, in the seconds of the clock."""
    start_utc: datetime
    status: CameraStatus
    pointed_at: Horizontal | None = None
    """Where the mount pointed, if one was pointed."""

    @property
    def end_utc(self) -> datetime:
        """End of the exposure."""
        return self.start_utc + timedelta(seconds=self.result.exposure_time_s)


@dataclass(frozen=True, kw_only=True)
class Meanwhile:
    """Callbacks for the time the camera is busy; an exception from them ends the wait."""

    started: Callable[[], None] = do_nothing
    """Called when the exposure runs, and also when it failed."""
    waiting: Callable[[float, float], None] = do_nothing
    """Called several times per exposure with its length and the elapsed time, in seconds."""


class Exposer:
    """Take frames with one camera; repeat a failed exposure after a pause and a reconnect.

    The camera is connected, with its settings applied. The constructor raises `DeviceError` if the size of the frames
    or the temperature cannot be read.
    """

    def __init__(self, camera: Camera, clock: Clock, retry: RetryRules) -> None:
        self._camera = camera
        self._clock = clock
        self._retry = retry
        self.set_point_c: float | None = None
        """Set point of the cooler when the exposer was created; ``None`` if the cooler is off."""
        self._said_sign = False
        self.shape = self._persistently(camera.frame_shape, "reading the size of the frames", do_nothing)
        """``(height, width)`` of the frames."""
        self.set_point_c = set_point_of(self.status())

    def now_s(self) -> float:
        """Return the seconds of the clock by which frames are timed."""
        return self._clock.now_s()

    def status(self) -> CameraStatus:
        """Read temperature and cooler; raise `DeviceError` if all attempts fail."""
        return self._persistently(self._camera.status, "reading the temperature", do_nothing)

    def take(self, exposure_s: float, *, light: bool, meanwhile: Meanwhile | None = None) -> TakenFrame:
        """Take a frame, with the shutter open if `light`.

        Raises
        ------
        DeviceError
            If all attempts failed; with the reason of the last one. At once if it is a `NotNowError`.
        KeyboardInterrupt
            After the exposure was aborted.
        """
        work = meanwhile or Meanwhile()
        try:
            return self._persistently(
                lambda: self._attempt(exposure_s, light, work), f"an exposure of {exposure_s:g} s", work.started
            )
        except KeyboardInterrupt:
            self.abort()
            raise

    def abort(self) -> None:
        """Abort a running exposure; ignore a camera that does not answer."""
        try:
            self._camera.abort()
        except DeviceError as error:
            logger.debug("the exposure could not be aborted: %s", error)

    def _attempt(self, exposure_s: float, light: bool, work: Meanwhile) -> TakenFrame:
        """Start an exposure, wait for it and download its frame."""
        start_s, start_utc = self._clock.now_s(), self._clock.utc()
        logger.debug("exposure of %g s starts, %s", exposure_s, "shutter open" if light else "shutter closed")
        try:
            self._camera.start_exposure(exposure_s, light=light)
        except RefusedError as error:
            if error.is_permanent:
                raise _ImpossibleError(
                    f"{error}; the camera makes no exposure of {exposure_s:g} s with these settings: correct exposure,"
                    " binning or readout mode"
                ) from error
            raise
        work.started()
        self._wait(exposure_s, start_s, work)
        ready_s = self._clock.now_s()
        try:
            status = self._camera.status()
        except DeviceError as error:  # the frame is good all the same
            logger.warning("the temperature of a frame could not be read and is not recorded: %s", error)
            status = CameraStatus(
                ccd_temperature_c=None, set_temperature_c=None, cooler_on=None, cooler_power_percent=None
            )
        result = self._camera.download()
        if result.pixels.shape != self.shape:
            height, width = result.pixels.shape[:2]
            raise DeviceError(
                f"{self._camera.info.name}: it gave a frame of {width} x {height} pixels where"
                f" {self.shape[1]} x {self.shape[0]} were asked for"
            )
        result = replace(result, pixels=self._unsigned(result.pixels))
        if logger.isEnabledFor(logging.DEBUG):  # the median of a frame takes 10 ms
            logger.debug(
                "exposure of %g s: made %g s, ready after %.2f s, %d bytes downloaded in %.2f s, level %.1f ADU",
                exposure_s,
                result.exposure_time_s,
                ready_s - start_s,
                result.pixels.nbytes,
                self._clock.now_s() - ready_s,
                median_adu(result.pixels),
            )
        return TakenFrame(
            result=result,
            requested_s=exposure_s,
            started_s=start_s,
            start_utc=_believed_start(result, start_utc),
            status=status,
        )

    def _unsigned(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a frame whose driver gives 16 bits with a sign as what the camera meant; say so once."""
        try:
            mended = without_sign(pixels)
        except FrameError as error:
            raise _ImpossibleError(f"{self._camera.info.name}: {error}") from error
        if int(pixels.min()) < 0 and mended is not pixels and not self._said_sign:
            self._said_sign = True
            logger.warning(
                "%s: its driver gives 16 bits with a sign; 65536 ADU is added to negative samples",
                self._camera.info.name,
            )
        return mended

    def _wait(self, exposure_s: float, start_s: float, work: Meanwhile) -> None:
        """Poll until the image is ready, from the start on: a simulated camera's clock may run faster than ours."""
        while not self._camera.image_ready():
            elapsed_s = self._clock.now_s() - start_s
            if elapsed_s > exposure_s + self._retry.ready_margin_s:
                raise DeviceError(
                    f"{self._camera.info.name}: the image of {exposure_s:g} s was not ready after {elapsed_s:.0f} s"
                )
            work.waiting(exposure_s, min(elapsed_s, exposure_s))
            # up to the end of the exposure at most, and shorter pauses shortly after it
            shortest_s, longest_s = _POLL_S
            left_s = exposure_s - elapsed_s
            if left_s > 0:
                pause_s = min(exposure_s / _POLLS_PER_EXPOSURE, left_s, longest_s)
            else:
                pause_s = min(-left_s / _POLLS_PER_EXPOSURE, longest_s)
            self._clock.sleep(max(shortest_s, pause_s))

    def _persistently(self, action: Callable[[], _T], what: str, after_failure: Callable[[], None]) -> _T:
        """Repeat an action until it succeeds or all attempts have failed, each time after a pause and a reconnect."""
        attempt = 1
        while True:
            try:
                return action()
            except (_ImpossibleError, NotNowError):
                after_failure()
                raise
            except DeviceError as error:
                after_failure()
                if attempt >= self._retry.attempts:
                    raise DeviceError(f"{what} failed {attempt} times, the last time: {error}") from error
                pause_s = self._retry.backoff_s * 2 ** (attempt - 1)
                logger.warning(
                    "%s failed (try %d of %d): %s; connecting anew in %g s",
                    what,
                    attempt,
                    self._retry.attempts,
                    error,
                    pause_s,
                )
            self._clock.sleep(pause_s)
            try:
                self._camera.reconnect()
                self._camera.abort()
                if self.set_point_c is not None and self._camera.status().cooler_on is False:
                    logger.warning(
                        "the cooler was off after the new connection; it is set to %.1f C again", self.set_point_c
                    )
                    self._camera.cool(self.set_point_c)
            except DeviceError as failure:
                logger.warning("the camera could not be connected anew: %s", failure)
            attempt += 1


class _ImpossibleError(DeviceError):
    """The camera refuses an exposure and would refuse it again."""


def set_point_of(status: CameraStatus) -> float | None:
    """Return the set point if the cooler is on; a cooler that is off still reports its last one."""
    return None if status.cooler_on is False else finite(status.set_temperature_c)


def finite(value: float | None) -> float | None:
    """Return a number reported by a camera, or ``None`` if it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def _believed_start(result: ExposureResult, ours: datetime) -> datetime:
    """Return the start reported by the camera if it is near ours, else ours."""
    try:
        theirs = datetime.fromisoformat(result.start_utc or "")
    except ValueError:
        return ours
    theirs = theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs.astimezone(UTC)
    return theirs if abs((theirs - ours).total_seconds()) <= _CAMERA_CLOCK_S else ours
