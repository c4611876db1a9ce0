"""Mounts on Alpaca servers: slew to a direction, track or stand still, park."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from types import MappingProxyType

from ostcal.clock import Clock
from ostcal.devices.alpaca import MovingDevice
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.failures import DeviceUnreachableError, NotNowError, RefusedError, ReplyError
from ostcal.errors import DeviceError
from ostcal.horizontal import (
    Horizontal,
    direction_text,
    julian_year,
    precessed,
    separation_deg,
    sidereal_deg,
    to_equatorial,
    to_horizontal,
)
from ostcal.sun import Site

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_ASK_EVERY_S = 1.0
"""Time between two questions whether the mount may still move."""
_NEAR_DEG = 0.02
"""A mount that tracks while it slews arrives beside the direction; it slews again until it is as near as this."""
_MOST_SLEWS = 4
_ARRIVED_DEG = 0.5
"""Further away a mount has not reached its goal."""
_BEGINS_S = 3.0
"""Longest time until a mount says that it slews."""
_SITE_DEG = 0.5
_CLOCK_DEG = 1.0
"""Largest difference of the sidereal time of a mount, 4 minutes."""
_EQUINOX = MappingProxyType({2: 2000.0, 3: 2050.0, 4: 1950.0})
"""Year of the equinox by ASCOM's number; others are of date."""

MayMove = Callable[[], str | None]
"""Returns why the mount may not move now, or ``None``."""


def _always() -> None:
    """Let the mount move."""


class AlpacaTelescope(MovingDevice):
    """A mount on an Alpaca server.

    Parameters
    ----------
    host, port, device_id, timeouts, clock
        As of `AlpacaCamera`; a slew takes at most ``timeouts.moving_s``.
    site
        Where it stands; ``None`` is where the mount says that it is.

    Raises
    ------
    DeviceError
        If there is no such mount, it does not connect, or its site is another one.
    """

    _device_type = "telescope"

    def __init__(
        self,
        host: str,
        port: int,
        device_id: int = 0,
        *,
        site: Site | None = None,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._given_site = site
        super().__init__(host, port, device_id, timeouts=timeouts, clock=clock)

    def _read_facts(self) -> None:
        self._slews_altaz = self._can("CanSlewAltAzAsync")
        self._slews_equatorial = self._can("CanSlewAsync")
        self._sets_tracking = self._can("CanSetTracking")
        self._parks, self._unparks = self._can("CanPark"), self._can("CanUnpark")
        system = self._maybe_number("EquatorialSystem")
        self._equinox = _EQUINOX.get(int(system)) if system is not None else None
        self.site = self._agreed_site()

    def _agreed_site(self) -> Site:
        latitude_deg, longitude_deg = self._maybe_number("SiteLatitude"), self._maybe_number("SiteLongitude")
        if latitude_deg is None or longitude_deg is None:
            if self._given_site is None:
                raise RefusedError(f"{self._label}: it does not say where it is; set latitude and longitude in site")
            return self._given_site
        own = Site(latitude_deg=latitude_deg, longitude_deg=longitude_deg)
        given = self._given_site
        if given is None:
            return own
        east_deg = (own.longitude_deg - given.longitude_deg + 180) % 360 - 180
        if max(abs(own.latitude_deg - given.latitude_deg), abs(east_deg)) > _SITE_DEG:
            raise RefusedError(
                f"{self._label}: it says that it is at latitude {own.latitude_deg:.2f}, longitude"
                f" {own.longitude_deg:.2f}, and site says {given.latitude_deg:.2f}, {given.longitude_deg:.2f}: it is"
                " not moved; correct one of them"
            )
        return given

    # Where it is

    def direction(self) -> Horizontal:
        """Return where it points."""
        altitude_deg, azimuth_deg = self._maybe_number("Altitude"), self._maybe_number("Azimuth")
        if altitude_deg is not None and azimuth_deg is not None:
            return Horizontal(altitude_deg=altitude_deg, azimuth_deg=azimuth_deg % 360)
        ascension_deg, declination_deg = 15 * self._number("RightAscension"), self._number("Declination")
        if self._equinox is not None:
            ascension_deg, declination_deg = precessed(ascension_deg, declination_deg, self._equinox, self._year())
        hour_angle_deg = self._sidereal_deg() - ascension_deg
        return to_horizontal(self.site.latitude_deg, hour_angle_deg, declination_deg)

    def is_slewing(self) -> bool:
        """Return whether it moves to a goal."""
        return self._properties.flag("Slewing")

    def is_parked(self) -> bool:
        """Return whether it is parked."""
        return self._properties.maybe(self._properties.flag, "AtPark") is True

    def is_tracking(self) -> bool:
        """Return whether it follows the stars."""
        return self._properties.flag("Tracking")

    # What it is told

    def track(self, wanted: bool) -> None:
        """Switch tracking; do nothing if it is as wanted.

        Raises
        ------
        DeviceError
            If it cannot be switched, or it does not obey.
        """
        if self.is_tracking() == wanted:
            return
        word = "on" if wanted else "off"
        if not self._sets_tracking:
            raise RefusedError(f"{self._label}: its tracking cannot be switched {word}; set flat_capture.sky.tracking")
        self._properties.set("Tracking", wanted)
        if self.is_tracking() != wanted:
            raise ReplyError(f"{self._label}: tracking was switched {word} and it is not")

    def slew_to(self, goal: Horizontal, may_move: MayMove = _always) -> None:
        """Slew to a direction and wait until it is reached; tracking may be another afterwards.

        By right ascension and declination if it does not slew by altitude and azimuth.

        Raises
        ------
        DeviceError
            If it cannot slew, refuses, does not arrive in time, or stops elsewhere.
        NotNowError
            If `may_move` returned a reason; the slew is aborted then.
        """
        self._refuse_unless(may_move)
        self._check_clock()
        if self._slews_altaz:
            self.track(False)  # as the standard demands
            self._go(goal, may_move, "SlewToAltAzAsync", goal.azimuth_deg, goal.altitude_deg)
        elif self._slews_equatorial:
            self._slew_by_coordinates(goal, may_move)
        else:
            raise RefusedError(
                f"{self._label}: it slews neither by altitude and azimuth nor by right ascension and declination; set"
                " flat_capture.sky.pointing: as_is"
            )
        reached = self.direction()
        if separation_deg(reached, goal) > _ARRIVED_DEG:
            raise ReplyError(
                f"{self._label}: it was told to slew to {direction_text(goal)} and stopped at {direction_text(reached)}"
            )

    def park(self, may_move: MayMove = _always) -> None:
        """Park and wait until it is parked; raise `DeviceError` or `NotNowError` as `slew_to` does."""
        if self.is_parked():
            return
        if not self._parks:
            raise RefusedError(f"{self._label}: it cannot be parked; set flat_capture.mount.when_done: leave")
        self._refuse_unless(may_move)
        try:
            self._driver.call("Park")
        except DeviceUnreachableError as error:  # old drivers answer when they are parked, which takes longer
            logger.debug("%s", error)
        self._wait(lambda: not self.is_parked(), may_move, "it is still not parked")

    def unpark(self) -> None:
        """Unpark, which moves nothing.

        Raises
        ------
        DeviceError
            If it cannot be unparked.
        """
        if not self.is_parked():
            return
        if not self._unparks:
            raise RefusedError(f"{self._label}: it is parked and cannot be unparked by a program; unpark it")
        self._driver.call("Unpark")
        self._wait(self.is_parked, _always, "it is still parked")

    def stop(self) -> None:
        """Abort a slew; log a failure, because something else has failed before."""
        try:
            self._driver.call("AbortSlew")
        except DeviceError as error:
            logger.warning("the slew could not be aborted: %s", error)

    def _check_clock(self) -> None:
        """Refuse a mount whose time is another: one of the clocks is wrong, and so is the place of the sun perhaps."""
        hours = self._maybe_number("SiderealTime")
        if hours is None:
            return
        ours_deg = sidereal_deg(self.site.longitude_deg, self._clock.utc())
        differ_deg = (15 * hours - ours_deg + 180) % 360 - 180
        if abs(differ_deg) > _CLOCK_DEG:
            raise RefusedError(
                f"{self._label}: its sidereal time is {4 * differ_deg:+.0f} minutes from that of this computer: it is"
                " not moved; set the clock that is wrong, and the longitude of the mount"
            )

    def _slew_by_coordinates(self, goal: Horizontal, may_move: MayMove) -> None:
        self.track(True)  # as the standard demands
        for _ in range(_MOST_SLEWS):
            hour_angle_deg, declination_deg = to_equatorial(self.site.latitude_deg, goal)
            ascension_deg = (self._sidereal_deg() - hour_angle_deg) % 360
            if self._equinox is not None:
                ascension_deg, declination_deg = precessed(ascension_deg, declination_deg, self._year(), self._equinox)
            self._go(goal, may_move, "SlewToCoordinatesAsync", ascension_deg / 15 % 24, declination_deg)
            if separation_deg(self.direction(), goal) <= _NEAR_DEG:
                return

    def _go(self, goal: Horizontal, may_move: MayMove, command: str, *arguments: float) -> None:
        """Slew and wait until the mount is still; some say only after a while that they slew."""
        self._refuse_unless(may_move)
        try:
            self._driver.call(command, *arguments)
            began_s = self._clock.now_s()
            self._wait(self.is_slewing, may_move, "it still slews")
            while self._clock.now_s() < began_s + _BEGINS_S and separation_deg(self.direction(), goal) > _ARRIVED_DEG:
                self._clock.sleep(_POLL_S)
                self._wait(self.is_slewing, may_move, "it still slews")
        except KeyboardInterrupt:
            self.stop()
            raise

    def _wait(self, moves: Callable[[], bool], may_move: MayMove, trouble: str) -> None:
        """Wait while it moves; abort the movement if it takes too long or must end."""
        now_s = self._clock.now_s()
        deadline_s, ask_s = now_s + self._moving_s, now_s + _ASK_EVERY_S
        while moves():
            now_s = self._clock.now_s()
            if now_s > deadline_s:
                self.stop()
                raise DeviceUnreachableError(
                    f"{self._label}: {trouble} after {self._moving_s:g} s (flat_capture.mount.slew_timeout); it was"
                    " told to stop"
                )
            if now_s > ask_s:
                ask_s = now_s + _ASK_EVERY_S
                try:
                    self._refuse_unless(may_move)
                except NotNowError:
                    self.stop()
                    raise
            self._clock.sleep(_POLL_S)

    @staticmethod
    def _refuse_unless(may_move: MayMove) -> None:
        reason = may_move()
        if reason is not None:
            raise NotNowError(f"the mount is not moved: {reason}")

    def _sidereal_deg(self) -> float:
        return 15 * self._number("SiderealTime")

    def _year(self) -> float:
        return julian_year(self._clock.utc())

    def _number(self, name: str) -> float:
        value = self._properties.number(name)
        if not math.isfinite(value):
            raise ReplyError(f"{self._label}: {name} is {value}, which is no number")
        return value

    def _maybe_number(self, name: str) -> float | None:
        return self._properties.maybe(self._number, name)

    def _can(self, name: str) -> bool:
        return self._properties.maybe(self._properties.flag, name) is True
