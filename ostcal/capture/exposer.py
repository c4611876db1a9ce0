"""One exposure: started, waited for with a deadline, downloaded, and tried again where it fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ostcal.capture.series_plan import RetryRules
from ostcal.clock import Clock
from ostcal.devices.failures import RefusedError
from ostcal.devices.protocols import Camera, CameraStatus, ExposureResult
from ostcal.errors import DeviceError
from ostcal.measure.live import median_adu

logger = logging.getLogger(__name__)

_POLLS_PER_EXPOSURE = 20
"""And as many per readout: a frame waits for a fortieth of its readout until it is asked for."""
_POLL_S = (0.02, 0.5)
"""Shortest and longest pause between questions for the image: an answer takes a millisecond or two."""
_CAMERA_CLOCK_S = 5.0
"""A camera's own start of the exposure is believed within this of ours: some clocks are hours off."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TakenFrame:
    """A downloaded frame with what was known when it was taken."""

    result: ExposureResult
    requested_s: float
    started_s: float
    """When the exposure began, by the clock."""
    start_utc: datetime
    status: CameraStatus

    @property
    def end_utc(self) -> datetime:
        """End of the exposure."""
        return self.start_utc + timedelta(seconds=self.result.exposure_time_s)


@dataclass(frozen=True, kw_only=True)
class _Started:
    exposure_s: float
    at_s: float
    at_utc: datetime


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Meanwhile:
    """What is done while the camera is busy; what these raise ends the exposure's wait."""

    started: Callable[[], None] = _nothing
    """Called when the exposure runs, and also when it failed."""
    waiting: Callable[[float, float], None] = _nothing
    """Called with the length of the exposure and how much of it is over, in seconds, several times during each."""


class Exposer:
    """Takes frames with one camera; a failed exposure is tried again, with a pause and a new connection.

    Parameters
    ----------
    camera : Camera
        Connected, its settings applied.
    clock : Clock
        Waits.
    retry : RetryRules
        How often, and after which pause.

    Raises
    ------
    DeviceError
        If the camera does not say the size of its frames and its temperature, however often it is asked.
    """

    def __init__(self, camera: Camera, clock: Clock, retry: RetryRules) -> None:
        self._camera = camera
        self._clock = clock
        self._retry = retry
        self._set_point_c: float | None = None
        self._shape = self._persistently(camera.frame_shape, "reading the size of the frames", _nothing)
        self._set_point_c = set_point_of(self.status())

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of the frames."""
        return self._shape

    @property
    def set_point_c(self) -> float | None:
        """Set point of the cooler when the exposer was made; ``None`` where it does not cool."""
        return self._set_point_c

    def status(self) -> CameraStatus:
        """Read temperature and cooler; `DeviceError` where the camera does not answer, however often it is asked."""
        return self._persistently(self._camera.status, "reading the temperature", _nothing)

    def take(self, exposure_s: float, *, light: bool, meanwhile: Meanwhile | None = None) -> TakenFrame:
        """Take a frame.

        Parameters
        ----------
        exposure_s : float
            How long.
        light : bool
            Whether the shutter opens.
        meanwhile : Meanwhile, optional
            Work for the time that the camera is busy.

        Raises
        ------
        DeviceError
            If it failed as often as it may be tried; with the reason of the last try.
        KeyboardInterrupt
            After the exposure was aborted.
        """
        work = meanwhile or Meanwhile()

        def attempt() -> TakenFrame:
            started = self._start(exposure_s, light)
            work.started()
            return self._finish(started, work)

        try:
            return self._persistently(attempt, f"an exposure of {exposure_s:g} s", work.started)
        except KeyboardInterrupt:
            self.abort()
            raise

    def abort(self) -> None:
        """End a running exposure without a frame; a camera that does not answer is left alone."""
        try:
            self._camera.abort()
        except DeviceError as error:
            logger.debug("the exposure could not be aborted: %s", error)

    def _start(self, exposure_s: float, light: bool) -> _Started:
        started = _Started(exposure_s=exposure_s, at_s=self._clock.now_s(), at_utc=self._clock.utc())
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
        return started

    def _finish(self, started: _Started, work: Meanwhile) -> TakenFrame:
        self._wait(started, work)
        ready_s = self._clock.now_s()
        status = self._status_or_unknown()
        result = self._camera.download()
        if result.pixels.shape != self._shape:
            height, width = result.pixels.shape[:2]
            raise DeviceError(
                f"{self._camera.info.name}: it gave a frame of {width} x {height} pixels where"
                f" {self._shape[1]} x {self._shape[0]} were asked for"
            )
        start_utc = _start_utc(result, started.at_utc)
        self._log_download(started, ready_s, result)
        return TakenFrame(
            result=result, requested_s=started.exposure_s, started_s=started.at_s, start_utc=start_utc, status=status
        )

    def _log_download(self, started: _Started, ready_s: float, result: ExposureResult) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            return  # the median of a frame takes 10 ms
        logger.debug(
            "exposure of %g s: made %g s, ready after %.2f s, %d bytes downloaded in %.2f s, level %.1f ADU",
            started.exposure_s,
            result.exposure_time_s,
            ready_s - started.at_s,
            result.pixels.nbytes,
            self._clock.now_s() - ready_s,
            median_adu(result.pixels),
        )

    def _wait(self, started: _Started, work: Meanwhile) -> None:
        """Ask until the image is ready, from the start: a simulated camera's seconds may pass faster than ours."""
        limit_s = started.exposure_s + self._retry.ready_margin_s
        while not self._camera.image_ready():
            elapsed_s = self._clock.now_s() - started.at_s
            if elapsed_s > limit_s:
                raise DeviceError(
                    f"{self._camera.info.name}: the image of {started.exposure_s:g} s was not ready after"
                    f" {elapsed_s:.0f} s"
                )
            work.waiting(started.exposure_s, min(elapsed_s, started.exposure_s))
            self._clock.sleep(_pause_s(started.exposure_s, elapsed_s))

    def _status_or_unknown(self) -> CameraStatus:
        """Read temperature and cooler; a camera that does not say them just now still has a good frame."""
        try:
            return self._camera.status()
        except DeviceError as error:
            logger.warning("the temperature of a frame could not be read and is not recorded: %s", error)
            return CameraStatus(
                ccd_temperature_c=None, set_temperature_c=None, cooler_on=None, cooler_power_percent=None
            )

    def _persistently(self, action: Callable[[], _T], what: str, after_failure: Callable[[], None]) -> _T:
        """Do something until it succeeds or has failed too often."""
        attempt = 1
        while True:
            try:
                return action()
            except _ImpossibleError:
                after_failure()
                raise
            except DeviceError as error:
                after_failure()
                if attempt >= self._retry.attempts:
                    raise DeviceError(f"{what} failed {attempt} times, the last time: {error}") from error
                self._recover(attempt, what, error)
            attempt += 1

    def _recover(self, attempt: int, what: str, error: DeviceError) -> None:
        pause_s = self._retry.backoff_s * 2 ** (attempt - 1)
        logger.warning(
            "%s failed (try %d of %d): %s; connecting anew in %g s", what, attempt, self._retry.attempts, error, pause_s
        )
        self._clock.sleep(pause_s)
        try:
            self._camera.reconnect()
            self._camera.abort()
            self._resume_cooling()
        except DeviceError as failure:
            logger.warning("the camera could not be connected anew: %s", failure)

    def _resume_cooling(self) -> None:
        """Cool again where the connection, or the camera, came back without its cooler."""
        if self._set_point_c is not None and self._camera.status().cooler_on is False:
            logger.warning("the cooler was off after the new connection; it is set to %.1f C again", self._set_point_c)
            self._camera.cool(self._set_point_c)


class _ImpossibleError(DeviceError):
    """The camera refuses an exposure, and would do so however often it is asked."""


def _pause_s(exposure_s: float, elapsed_s: float) -> float:
    """Give how long to wait for the next question: to the end of the exposure at most, and shortly after it."""
    shortest, longest = _POLL_S
    left_s = exposure_s - elapsed_s
    if left_s > 0:
        return max(shortest, min(exposure_s / _POLLS_PER_EXPOSURE, left_s, longest))
    return max(shortest, min(-left_s / _POLLS_PER_EXPOSURE, longest))


def set_point_of(status: CameraStatus) -> float | None:
    """Give the set point of a cooler that is on; one that is off leaves its last set point behind."""
    return None if status.cooler_on is False else finite(status.set_temperature_c)


def finite(value: float | None) -> float | None:
    """Give a number that a camera reports, ``None`` for NaN and infinities."""
    return value if value is not None and math.isfinite(value) else None


def _start_utc(result: ExposureResult, ours: datetime) -> datetime:
    """Give the start of an exposure as the camera says it where that is believable, else as our own clock does."""
    try:
        theirs = datetime.fromisoformat(result.start_utc or "")
    except ValueError:
        return ours
    theirs = theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs.astimezone(UTC)
    return theirs if abs((theirs - ours).total_seconds()) <= _CAMERA_CLOCK_S else ours
