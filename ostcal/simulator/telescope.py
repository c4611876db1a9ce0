"""A simulated mount that moves at a finite speed, tracks, parks, and refuses what ASCOM says that it must."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ostcal.clock import FastClock
from ostcal.horizontal import Horizontal, julian_year, precessed, sidereal_deg, to_equatorial, to_horizontal
from ostcal.simulator.alpaca_device import (
    INVALID_OPERATION,
    INVALID_VALUE,
    AscomError,
    Device,
    Getter,
    Identity,
    Setter,
    read_bool,
    read_float,
    read_int,
    refuse,
    utc_text,
)
from ostcal.simulator.faults import FaultPlan
from ostcal.simulator.options import MountKind
from ostcal.sun import Site

INVALID_WHILE_PARKED = 0x408
SLEW_DEG_PER_S = 3.0
"""Of each axis."""
SETTLE_S = 1.0
PARK = Horizontal(altitude_deg=30.0, azimuth_deg=0.0)
MISS_DEG = 3.0
OF_DATE, J2000 = 1, 2
"""ASCOM's numbers for the equinox of coordinates."""


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A movement that was begun."""

    goal: Horizontal
    while_exposing: bool
    """Whether the camera exposed when it began."""


@dataclass(frozen=True, kw_only=True)
class _Slew:
    start: Horizontal
    goal: Horizontal
    begins_s: float
    ends_s: float
    parks: bool = False
    holds: tuple[float, float] | None = None
    """Right ascension and declination that are held afterwards, if it tracks."""


class SimulatedTelescope(Device):
    """A mount (ITelescopeV4). At first it stands in the north at 40 degrees, not parked, without tracking."""

    def __init__(self, identity: Identity, clock: FastClock, faults: FaultPlan, kind: MountKind) -> None:
        super().__init__(identity, clock)
        self._faults = faults
        self.site = Site(latitude_deg=51.5, longitude_deg=0.0)
        self.utc: Callable[[], datetime] = lambda: datetime.now(UTC)
        """The clock of the mount, which gives its sidereal time."""
        self.equatorial_system = OF_DATE
        self.is_exposing: Callable[[], bool] = lambda: False
        """Whether the camera exposes."""
        self.journeys: list[Journey] = []
        self.tracking = False
        self.parked = False
        self._still = Horizontal(altitude_deg=40.0, azimuth_deg=0.0)
        self._held = (0.0, 0.0)
        """Right ascension and declination of date in degrees, while it tracks."""
        self._slew: _Slew | None = None
        self._slews_altaz = kind is MountKind.ANY
        self.getters |= self._flags() | self._places() | self._absent()
        self.setters |= self._commands()

    # Members

    def _flags(self) -> dict[str, Getter]:
        can = {
            "park": True, "unpark": True, "settracking": True, "slewasync": True, "slew": True,
            "slewaltaz": self._slews_altaz, "slewaltazasync": self._slews_altaz,
            "findhome": False, "pulseguide": False, "setdeclinationrate": False, "setguiderates": False,
            "setpark": False, "setpierside": False, "setrightascensionrate": False, "sync": False,
            "syncaltaz": False, "moveaxis": False,
        }  # fmt: skip
        return {f"can{name}": Getter(read=partial(bool, is_able)) for name, is_able in can.items()}

    def _places(self) -> dict[str, Getter]:
        read: dict[str, Callable[[], Any]] = {
            "alignmentmode": lambda: 2,
            "altitude": lambda: self.direction().altitude_deg,
            "azimuth": lambda: self.direction().azimuth_deg,
            "athome": lambda: False,
            "atpark": self.at_park,
            "declination": lambda: self._coordinates()[1],
            "rightascension": lambda: self._coordinates()[0] / 15,
            "declinationrate": lambda: 0.0,
            "rightascensionrate": lambda: 0.0,
            "doesrefraction": lambda: False,
            "equatorialsystem": lambda: self.equatorial_system,
            "ispulseguiding": lambda: False,
            "siderealtime": lambda: self._sidereal_deg() / 15,
            "siteelevation": lambda: 0.0,
            "sitelatitude": lambda: self.site.latitude_deg,
            "sitelongitude": lambda: self.site.longitude_deg,
            "slewing": self.is_slewing,
            "slewsettletime": lambda: 0,
            "tracking": lambda: self.tracking,
            "trackingrate": lambda: 0,
            "trackingrates": lambda: [0],
            "utcdate": lambda: utc_text(self.utc()) + "Z",
            "axisrates": list,
        }
        return {name: Getter(read=function) for name, function in read.items()}

    def _absent(self) -> dict[str, Getter]:
        names = (
            "ApertureArea", "ApertureDiameter", "FocalLength", "GuideRateDeclination", "GuideRateRightAscension",
            "SideOfPier", "DestinationSideOfPier", "TargetDeclination", "TargetRightAscension",
        )  # fmt: skip
        return {name.lower(): Getter(read=refuse(name)) for name in names}

    def _commands(self) -> dict[str, Setter]:
        altaz = (("Azimuth", read_float), ("Altitude", read_float))
        equatorial = (("RightAscension", read_float), ("Declination", read_float))
        slew_altaz = self._slew_to_altaz if self._slews_altaz else refuse("SlewToAltAz")
        absent: dict[str, tuple[tuple[str, Callable[[str], Any]], ...]] = {
            "FindHome": (),
            "SetPark": (),
            "SyncToTarget": (),
            "SlewToTarget": (),
            "SlewToTargetAsync": (),
            "SyncToAltAz": altaz,
            "SlewToAltAz": altaz,
            "SyncToCoordinates": equatorial,
            "SlewToCoordinates": equatorial,
            "MoveAxis": (("Axis", read_int), ("Rate", read_float)),
            "PulseGuide": (("Direction", read_int), ("Duration", read_int)),
        }
        return {name.lower(): Setter(write=refuse(name), parameters=taken) for name, taken in absent.items()} | {
            "abortslew": Setter(write=self._abort),
            "park": Setter(write=self.park),
            "unpark": Setter(write=self._unpark),
            "slewtoaltazasync": Setter(write=slew_altaz, parameters=altaz),
            "slewtocoordinatesasync": Setter(write=self._slew_to_coordinates, parameters=equatorial),
            "tracking": Setter(write=self.track, parameters=(("Tracking", read_bool),)),
        }

    # Where it is

    def direction(self) -> Horizontal:
        """Return where it points."""
        self._settle()
        slew = self._slew
        if slew is not None:
            share = min(1.0, (self.clock.now_s() - slew.begins_s) / max(slew.ends_s - SETTLE_S - slew.begins_s, 1e-9))
            turn_deg = (slew.goal.azimuth_deg - slew.start.azimuth_deg + 180) % 360 - 180
            rise_deg = slew.goal.altitude_deg - slew.start.altitude_deg
            return Horizontal(
                altitude_deg=slew.start.altitude_deg + share * rise_deg,
                azimuth_deg=(slew.start.azimuth_deg + share * turn_deg) % 360,
            )
        if self.tracking:
            ascension_deg, declination_deg = self._held
            return to_horizontal(self.site.latitude_deg, self._sidereal_deg() - ascension_deg, declination_deg)
        return self._still

    def is_slewing(self) -> bool:
        """Return whether it moves to a goal."""
        self._settle()
        return self._slew is not None

    def at_park(self) -> bool:
        """Return whether it is parked."""
        self._settle()
        return self.parked

    def state(self) -> Mapping[str, Any]:
        """Return the members that change while the mount works."""
        direction, (ascension_deg, declination_deg) = self.direction(), self._coordinates()
        return {
            "Altitude": direction.altitude_deg,
            "AtHome": False,
            "AtPark": self.parked,
            "Azimuth": direction.azimuth_deg,
            "Declination": declination_deg,
            "IsPulseGuiding": False,
            "RightAscension": ascension_deg / 15,
            "SiderealTime": self._sidereal_deg() / 15,
            "Slewing": self._slew is not None,
            "Tracking": self.tracking,
        }

    def _sidereal_deg(self) -> float:
        return sidereal_deg(self.site.longitude_deg, self.utc())

    def _of_date(self) -> tuple[float, float]:
        hour_angle_deg, declination_deg = to_equatorial(self.site.latitude_deg, self.direction())
        return (self._sidereal_deg() - hour_angle_deg) % 360, declination_deg

    def _coordinates(self) -> tuple[float, float]:
        """Return right ascension and declination in degrees, of the equinox that the mount uses."""
        of_date = self._of_date()
        if self.equatorial_system == J2000:
            return precessed(*of_date, julian_year(self.utc()), 2000.0)
        return of_date

    def _settle(self) -> None:
        slew = self._slew
        if slew is None or self.clock.now_s() < slew.ends_s:
            return
        self._slew, self._still = None, slew.goal
        self.parked = slew.parks
        if slew.holds is not None:
            self._held = slew.holds

    def stand_at(self, direction: Horizontal) -> None:
        """Put it somewhere without a journey, as a simulation begins."""
        self._slew, self._still, self.tracking = None, direction, False

    # What it is told

    def track(self, wanted: bool) -> None:
        """Switch tracking."""
        self._settle()
        if wanted and self.parked:
            raise AscomError(INVALID_WHILE_PARKED, "the mount is parked")
        if wanted and not self.tracking:
            self._held = self._of_date()
        elif not wanted and self.tracking:
            self._still = self.direction()
        self.tracking = wanted

    def park(self) -> None:
        """Begin to move to the park position."""
        if not self.at_park():
            self.track(False)
            self._begin(PARK, parks=True)

    def _unpark(self) -> None:
        self._settle()
        self.parked = False

    def _abort(self) -> None:
        self._refuse_parked()
        if self._slew is not None:
            self._still = self.direction()
            self._slew = None
            if self.tracking:
                self.tracking = False
                self.track(True)

    def _slew_to_altaz(self, azimuth_deg: float, altitude_deg: float) -> None:
        self._refuse_parked()
        if self.tracking:
            raise AscomError(INVALID_OPERATION, "it tracks; switch tracking off to slew to an altitude and azimuth")
        if not (-90 <= altitude_deg <= 90 and 0 <= azimuth_deg <= 360):
            raise AscomError(INVALID_VALUE, f"altitude {altitude_deg}, azimuth {azimuth_deg} is no direction")
        self._begin(Horizontal(altitude_deg=altitude_deg, azimuth_deg=azimuth_deg))

    def _slew_to_coordinates(self, ascension_h: float, declination_deg: float) -> None:
        self._refuse_parked()
        if not self.tracking:
            raise AscomError(INVALID_OPERATION, "it does not track; switch tracking on to slew to coordinates")
        if not (0 <= ascension_h < 24 and -90 <= declination_deg <= 90):
            raise AscomError(INVALID_VALUE, f"RA {ascension_h} h, declination {declination_deg} is no direction")
        wanted = (15 * ascension_h, declination_deg)
        if self.equatorial_system == J2000:
            wanted = precessed(*wanted, 2000.0, julian_year(self.utc()))
        goal = to_horizontal(self.site.latitude_deg, self._sidereal_deg() - wanted[0], wanted[1])
        self._begin(goal, holds=wanted)

    def _refuse_parked(self) -> None:
        if self.at_park():
            raise AscomError(INVALID_WHILE_PARKED, "the mount is parked")

    def _begin(self, goal: Horizontal, *, parks: bool = False, holds: tuple[float, float] | None = None) -> None:
        start, now_s = self.direction(), self.clock.now_s()
        if self._faults.happens("slew-misses"):
            goal = Horizontal(altitude_deg=goal.altitude_deg - MISS_DEG, azimuth_deg=goal.azimuth_deg)
        turn_deg = abs((goal.azimuth_deg - start.azimuth_deg + 180) % 360 - 180)
        way_deg = max(turn_deg, abs(goal.altitude_deg - start.altitude_deg))
        takes_s = math.inf if self._faults.happens("slew-endless") else way_deg / SLEW_DEG_PER_S + SETTLE_S
        self.journeys.append(Journey(goal=goal, while_exposing=self.is_exposing()))
        self._slew = _Slew(
            start=start, goal=goal, begins_s=now_s, ends_s=now_s + takes_s, parks=parks, holds=holds
        )  # fmt: skip
