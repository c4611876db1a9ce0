"""Point a mount for flats of the sky: at the null point, dithered between the frames; afterwards as it was before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ostcal.clock import Clock
from ostcal.devices.failures import DeviceUnreachableError, MountError, NotNowError
from ostcal.devices.protocols import Telescope
from ostcal.errors import DeviceError
from ostcal.horizontal import Horizontal, direction_text, moved, separation_deg, to_equatorial, to_horizontal
from ostcal.sun import null_point, sun_position
from ostcal.vocabulary import WhenDone

logger = logging.getLogger(__name__)

_FOLLOW_DEG = 2.0
"""The mount follows the null point in steps of this: it moves with the sun by 2 to 5 degrees in an hour."""
_STILL_DEG = 0.1
"""A mount that has moved further during an exposure was moved."""
_PLACE_DEG = 0.5
"""A mount that stands further from where it was sent was moved."""
_SIDEREAL_DEG_PER_S = 360 / 86164.1
_SPREAD = (0.7548776662466927, 0.5698402909980532)
"""Steps of a sequence (Roberts, R2) whose points are spread evenly and never repeat."""


@dataclass(frozen=True, kw_only=True)
class PointingRules:
    """Where the mount points, what it may do, and what is done with it afterwards."""

    null_point: bool = False
    """Whether it is sent to the null point; else it stays where it is."""
    tracking: bool | None = None
    """Whether it tracks while flats are exposed; ``None`` leaves that as it is."""
    dither_deg: float = 0.0
    """Radius within which it moves between the frames."""
    unparks: bool = False
    """Whether a parked mount is unparked; else it is refused."""
    when_done: WhenDone = "leave"
    min_altitude_deg: float = 20.0
    min_sun_distance_deg: float = 30.0


@dataclass(frozen=True, kw_only=True)
class _Before:
    """The mount before it was touched."""

    direction: Horizontal
    is_tracking: bool
    is_parked: bool


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Where the mount was sent, and when."""

    direction: Horizontal
    at_s: float


class SkyMount:
    """A mount that is pointed for flats of the sky, and as it was before when they are done.

    It is connected at the first use. It moves only between exposures, and only while `may_move` gives no reason
    against it.

    Parameters
    ----------
    connect
        Connects the mount.
    rules
        Where it points.
    clock
        The time, which says where the sun is.
    may_move
        Returns why the mount may not move now, or ``None``.
    """

    def __init__(
        self,
        connect: Callable[[], Telescope],
        rules: PointingRules,
        clock: Clock,
        may_move: Callable[[], str | None],
    ) -> None:
        self.rules = rules
        self._connect = connect
        self._clock = clock
        self._may_move = may_move
        self._when_refused: Callable[[], None] = lambda: None
        self._telescope: Telescope | None = None
        self._before: _Before | None = None
        self._base: _Placed | None = None
        self._placed: _Placed | None = None
        self._tracks = False
        self._count = 0
        self._said = ""

    def when_refused(self, callback: Callable[[], None]) -> None:
        """Call something when flats end because the mount may not move now."""
        self._when_refused = callback

    def begin(self) -> None:
        """Connect, unpark, remember how the mount is, and send it to the place of the first frame.

        Raises
        ------
        MountError
            If it does not answer, is parked and must not be unparked, or does not reach its place.
        NotNowError
            If it may not move now.
        """
        with self._named():
            if self._telescope is None:
                self._telescope = self._connect()
            telescope, is_parked = self._telescope, self._telescope.is_parked()
            if is_parked and not self.rules.unparks:
                raise DeviceError("it is parked; unpark it, or set flat_capture.mount.if_parked: unpark")
            if telescope.is_slewing():
                raise DeviceError("it slews: another program moves it; let it end first")
            if self._before is None:
                self._before = _Before(
                    direction=telescope.direction(), is_tracking=telescope.is_tracking(), is_parked=is_parked
                )
                self._base = self._placed = None
            if is_parked:
                self._refuse_unless_safe()
                telescope.unpark()
                logger.info("the mount was unparked")
            self._place()
        state = "on" if self._tracks else "off"
        where = direction_text(self._base.direction) if self._base is not None else ""
        place = "the null point, " if self.rules.null_point else ""
        logger.info("flats of the sky: the mount points at %s%s, tracking is %s", place, where, state)

    def aim(self) -> None:
        """Send the mount to the place of the next frame.

        Raises
        ------
        MountError
            If it does not answer or does not reach its place.
        NotNowError
            If it may not move now.
        """
        with self._named():
            self._place()

    def direction(self) -> Horizontal:
        """Return where it points, before or after a frame.

        Raises
        ------
        MountError
            If it does not answer, or is not where it was sent: another program moves it.
        """
        with self._named():
            telescope = self._ready()
            here = telescope.direction()
            if telescope.is_slewing() or telescope.is_parked():
                raise DeviceError("it was moved while flats are taken; no other program may move it meanwhile")
            if self._placed is not None and not self._is_near(here, self._placed, _PLACE_DEG):
                raise DeviceError(
                    f"it points at {direction_text(here)} and was sent to {direction_text(self._placed.direction)}; no"
                    " other program may move it while flats are taken"
                )
        return here

    def stood_still(self, before: Horizontal, exposure_s: float) -> None:
        """Check after an exposure that the mount has not moved; raise `MountError` if it has."""
        here = self.direction()
        drift_deg = _SIDEREAL_DEG_PER_S * exposure_s if self._tracks else 0.0
        if separation_deg(before, here) > _STILL_DEG + 2 * drift_deg:
            raise MountError(
                f"the mount moved from {direction_text(before)} to {direction_text(here)} during an exposure, which is"
                " not kept; no other program may move it while flats are taken"
            )

    def warn_of_last_move(self) -> None:
        """Say after an interrupt that the mount moves once more, if it does."""
        if self._before is not None and self.rules.when_done != "leave":
            does = "is parked" if self.rules.when_done == "park" else "returns to where it was"
            logger.warning("interrupted; the mount %s first, another Ctrl-C skips that", does)

    def finish(self) -> None:
        """Bring tracking, place and parking to what they are to be after the flats; log what is not possible."""
        before, when_done = self._before, self.rules.when_done
        if before is None:
            return
        try:
            telescope = self._telescope = self._telescope or self._connect()
            parks = when_done == "park" or (when_done == "return" and before.is_parked)
            if not before.is_tracking and not telescope.is_parked():
                telescope.track(False)  # stops: may be done whatever the safety monitor says
            reason = self._may_move()
            if reason is not None and (parks or when_done == "return" or before.is_tracking):
                if reason != self._said:
                    logger.warning("the mount is left as it is: %s", reason)
                self._said = reason
                return
            if parks:
                telescope.park(self._may_move)
                logger.info("the mount is parked")
            else:
                if when_done == "return":
                    self._check_goal(before.direction)
                    telescope.slew_to(before.direction, self._may_move)
                    logger.info("the mount is back at %s", direction_text(before.direction))
                if telescope.is_tracking() != before.is_tracking:
                    telescope.track(before.is_tracking)
        except NotNowError as error:
            logger.warning("%s", error)
            return
        except KeyboardInterrupt:  # `close` does not try it again
            self._before = None
            raise
        except DeviceError as error:
            logger.warning("the mount is not as it was before (flat_capture.mount.when_done: %s): %s", when_done, error)
        self._before = None

    def close(self) -> None:
        """Finish and disconnect."""
        try:
            self.finish()
        finally:
            if self._telescope is not None:
                self._telescope.close()
                self._telescope = None

    def _place(self) -> None:
        """Send the mount to the next place, if that is another, and switch its tracking."""
        telescope = self._ready()
        goal = self._next_goal(telescope)
        if goal is not None:
            self._check_goal(goal)
            telescope.slew_to(goal, self._may_move)
            logger.debug("the mount was sent to %s", direction_text(goal))
            self._placed = _Placed(direction=goal, at_s=self._clock.now_s())
        wanted = self.rules.tracking
        if wanted is None and self._before is not None:
            wanted = self._before.is_tracking
        if telescope.is_tracking() != bool(wanted):
            if wanted:
                self._refuse_unless_safe()
            telescope.track(bool(wanted))
        self._tracks = bool(wanted)

    def _next_goal(self, telescope: Telescope) -> Horizontal | None:
        """Return where the next frame is to be taken; ``None`` is where the mount is."""
        now_s, is_first = self._clock.now_s(), self._base is None
        if self.rules.null_point:
            wanted = null_point(telescope.site, self._clock.utc())
            if self._base is None or separation_deg(wanted, self._base.direction) > _FOLLOW_DEG:
                self._base = _Placed(direction=wanted, at_s=now_s)
                is_first = True
        elif self._base is None:
            self._base = _Placed(direction=telescope.direction(), at_s=now_s)
        base = self._base.direction
        if self.rules.dither_deg:
            if not self.rules.null_point and self._tracks:
                base = _after(telescope, self._base, now_s)
            self._count += 1
            return _dithered(base, self.rules.dither_deg, self._count)
        if not self.rules.null_point:
            return None
        strayed = separation_deg(telescope.direction(), base) > _FOLLOW_DEG
        return base if is_first or strayed else None

    def _check_goal(self, goal: Horizontal) -> None:
        """Refuse a direction that is too low or too near to the sun."""
        rules, telescope = self.rules, self._ready()
        if goal.altitude_deg < rules.min_altitude_deg:
            raise DeviceError(
                f"it is not sent to {direction_text(goal)}, which is below {rules.min_altitude_deg:g} degrees"
                " (flat_capture.mount.min_altitude_deg)"
            )
        altitude_deg, azimuth_deg = sun_position(telescope.site, self._clock.utc())
        distance_deg = separation_deg(goal, Horizontal(altitude_deg=altitude_deg, azimuth_deg=azimuth_deg))
        if distance_deg < rules.min_sun_distance_deg:
            raise DeviceError(
                f"it is not sent to {direction_text(goal)}, which is {distance_deg:.0f} degrees from the sun; at least"
                f" {rules.min_sun_distance_deg:g} are allowed (flat_capture.mount.min_sun_distance_deg)"
            )

    def _is_near(self, here: Horizontal, placed: _Placed, limit_deg: float) -> bool:
        drift_deg = _SIDEREAL_DEG_PER_S * (self._clock.now_s() - placed.at_s) if self._tracks else 0.0
        return separation_deg(here, placed.direction) <= limit_deg + 2 * drift_deg

    def _ready(self) -> Telescope:
        if self._telescope is None:
            raise DeviceError("it is not connected")
        return self._telescope

    def _refuse_unless_safe(self) -> None:
        reason = self._may_move()
        if reason is not None:
            raise NotNowError(f"the mount is not moved: {reason}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Convert failures of the mount to `MountError`; forget a mount that does not answer."""
        try:
            yield
        except MountError:
            raise
        except NotNowError:
            self._when_refused()
            raise
        except DeviceError as error:
            if isinstance(error, DeviceUnreachableError) and self._telescope is not None:
                self._telescope.drop()
                self._telescope = None
            raise MountError(f"the mount cannot be used: {error}") from error


def _dithered(base: Horizontal, radius_deg: float, number: int) -> Horizontal:
    """Return a direction within the radius; no two numbers give the same."""
    share, turn = ((0.5 + number * step) % 1 for step in _SPREAD)
    return moved(base, radius_deg * share**0.5, 360 * turn)


def _after(telescope: Telescope, placed: _Placed, now_s: float) -> Horizontal:
    """Return where the stars of a direction are now."""
    latitude_deg = telescope.site.latitude_deg
    hour_angle_deg, declination_deg = to_equatorial(latitude_deg, placed.direction)
    turned_deg = _SIDEREAL_DEG_PER_S * (now_s - placed.at_s)
    return to_horizontal(latitude_deg, hour_angle_deg + turned_deg, declination_deg)
