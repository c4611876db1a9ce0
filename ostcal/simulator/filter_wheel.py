"""The simulated filter wheel (IFilterWheelV3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostcal.clock import FastClock
from ostcal.simulator.alpaca_device import INVALID_VALUE, AscomError, Device, Getter, Identity, Setter, read_int
from ostcal.simulator.sensor import Filter

MOVE_S = 1.5
"""From a filter to its neighbour."""


class SimulatedFilterWheel(Device):
    """A wheel that turns the short way round and takes its time."""

    def __init__(self, identity: Identity, clock: FastClock, filters: tuple[Filter, ...]) -> None:
        super().__init__(identity, clock)
        self._filters = filters
        self._position = 0
        self._arrives_s = 0.0
        self.getters |= {
            "names": Getter(read=lambda: [item.name for item in filters]),
            "focusoffsets": Getter(read=lambda: [0] * len(filters)),
            "position": Getter(read=self.position),
        }
        self.setters["position"] = Setter(write=self._turn, parameters=(("Position", read_int),))

    def position(self) -> int:
        """Return the number of the filter in the light, -1 while the wheel turns."""
        return -1 if self.clock.now_s() < self._arrives_s else self._position

    def filter_name(self) -> str:
        """Name of the filter in the light; while the wheel turns, the one it turns to."""
        return self._filters[self._position].name

    def _turn(self, position: int) -> None:
        places = len(self._filters)
        if not 0 <= position < places:
            raise AscomError(INVALID_VALUE, f"Position {position} is not on the wheel; it has 0 to {places - 1}")
        steps = abs(position - self._position)
        self._arrives_s = self.clock.now_s() + MOVE_S * min(steps, places - steps)
        self._position = position

    def state(self) -> Mapping[str, Any]:
        """Return the position."""
        return {"Position": self.position()}
