"""A simulated safety monitor and a simulated roof, whose answers a test or a simulation sets."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ostcal.clock import FastClock
from ostcal.simulator.alpaca_device import Device, Getter, Identity, Setter, read_bool, read_float, refuse

ROOF_MOVE_S = 20.0


class ShutterStatus(IntEnum):
    """ASCOM's numbers for a shutter or roof."""

    OPEN = 0
    CLOSED = 1
    OPENING = 2
    CLOSING = 3
    ERROR = 4


class SimulatedSafetyMonitor(Device):
    """A safety monitor (ISafetyMonitorV3); it is safe until `safe` is set to false."""

    def __init__(self, identity: Identity, clock: FastClock) -> None:
        super().__init__(identity, clock)
        self.safe = True
        # As the standard says, one that is not connected answers that it is not safe, and raises no error.
        self.getters["issafe"] = Getter(read=lambda: self.connected() and self.safe, needs_connection=False)

    def state(self) -> Mapping[str, Any]:
        """Return whether it is safe."""
        return {"IsSafe": self.connected() and self.safe}


class SimulatedRoof(Device):
    """A roll-off roof (IDomeV3): a shutter that takes its time, and nothing that turns. It is open at first."""

    def __init__(self, identity: Identity, clock: FastClock) -> None:
        super().__init__(identity, clock)
        self._goal = ShutterStatus.OPEN
        self._rests_s = 0.0
        for ability in ("findhome", "park", "setaltitude", "setazimuth", "setpark", "slave", "syncazimuth"):
            self.getters[f"can{ability}"] = Getter(read=lambda: False)
        self.getters |= {
            "altitude": Getter(read=refuse("Altitude")),
            "athome": Getter(read=refuse("AtHome")),
            "atpark": Getter(read=refuse("AtPark")),
            "azimuth": Getter(read=refuse("Azimuth")),
            "cansetshutter": Getter(read=lambda: True),
            "shutterstatus": Getter(read=self.status),
            "slaved": Getter(read=lambda: False),
            "slewing": Getter(read=lambda: self.clock.now_s() < self._rests_s),
        }
        number = (("Altitude", read_float),)
        self.setters |= {
            "abortslew": Setter(write=lambda: None),
            "closeshutter": Setter(write=lambda: self.move(ShutterStatus.CLOSED)),
            "openshutter": Setter(write=lambda: self.move(ShutterStatus.OPEN)),
            "findhome": Setter(write=refuse("FindHome")),
            "park": Setter(write=refuse("Park")),
            "setpark": Setter(write=refuse("SetPark")),
            "slaved": Setter(write=refuse("Slaved"), parameters=(("Slaved", read_bool),)),
            "slewtoaltitude": Setter(write=refuse("SlewToAltitude"), parameters=number),
            "slewtoazimuth": Setter(write=refuse("SlewToAzimuth"), parameters=(("Azimuth", read_float),)),
            "synctoazimuth": Setter(write=refuse("SyncToAzimuth"), parameters=(("Azimuth", read_float),)),
        }

    def status(self) -> ShutterStatus:
        """Return the state of the roof."""
        if self.clock.now_s() < self._rests_s:
            return ShutterStatus.OPENING if self._goal is ShutterStatus.OPEN else ShutterStatus.CLOSING
        return self._goal

    def move(self, goal: ShutterStatus) -> None:
        """Begin to open or to close."""
        if self._goal is not goal:
            self._goal, self._rests_s = goal, self.clock.now_s() + ROOF_MOVE_S

    def state(self) -> Mapping[str, Any]:
        """Return the state of the roof."""
        return {"ShutterStatus": self.status(), "Slewing": self.clock.now_s() < self._rests_s}
