"""The simulated cover with a flat panel (ICoverCalibratorV2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ostcal.clock import FastClock
from ostcal.simulator.alpaca_device import (
    INVALID_VALUE,
    NOT_IMPLEMENTED,
    AscomError,
    Device,
    Getter,
    Identity,
    Setter,
    read_int,
)
from ostcal.simulator.options import CoverKind

MOVE_S = 4.0
WARM_UP_S = 2.0
MAX_BRIGHTNESS = 255


class CoverState(IntEnum):
    """ASCOM's numbers for the cover."""

    NOT_PRESENT = 0
    CLOSED = 1
    MOVING = 2
    OPEN = 3
    UNKNOWN = 4


class CalibratorState(IntEnum):
    """ASCOM's numbers for the panel."""

    NOT_PRESENT = 0
    OFF = 1
    NOT_READY = 2
    READY = 3


class SimulatedCoverCalibrator(Device):
    """A cover that takes time to move, a panel that takes time to become steady, or both; at first open and dark."""

    def __init__(self, identity: Identity, clock: FastClock, kind: CoverKind) -> None:
        super().__init__(identity, clock)
        self._has_cover = kind in (CoverKind.FLIP_FLAT, CoverKind.COVER)
        self._has_panel = kind in (CoverKind.FLIP_FLAT, CoverKind.PANEL)
        self._cover = CoverState.OPEN if self._has_cover else CoverState.NOT_PRESENT
        self._cover_rests_s = 0.0
        self._brightness: int | None = None
        self._lit_s = 0.0
        self.getters |= {
            "brightness": Getter(read=self._read_brightness),
            "calibratorstate": Getter(read=self.calibrator_state),
            "calibratorchanging": Getter(read=lambda: self.calibrator_state() is CalibratorState.NOT_READY, since=2),
            "coverstate": Getter(read=self.cover_state),
            "covermoving": Getter(read=lambda: self.cover_state() is CoverState.MOVING, since=2),
            "maxbrightness": Getter(read=self._max_brightness),
        }
        self.setters |= {
            "calibratoron": Setter(write=self._light_on, parameters=(("Brightness", read_int),)),
            "calibratoroff": Setter(write=self._light_off),
            "opencover": Setter(write=lambda: self._move(CoverState.OPEN)),
            "closecover": Setter(write=lambda: self._move(CoverState.CLOSED)),
            "haltcover": Setter(write=self._halt),
        }

    # The cover

    def cover_state(self) -> CoverState:
        """Return the state of the cover."""
        return CoverState.MOVING if self.clock.now_s() < self._cover_rests_s else self._cover

    def _move(self, goal: CoverState) -> None:
        self._need(self._has_cover, "there is no cover that moves")
        if self.cover_state() is not goal:
            self._cover_rests_s = self.clock.now_s() + MOVE_S
        self._cover = goal

    def _halt(self) -> None:
        self._need(self._has_cover, "there is no cover that moves")
        if self.cover_state() is CoverState.MOVING:
            self._cover, self._cover_rests_s = CoverState.UNKNOWN, 0.0

    def lets_sky_in(self, now_s: float) -> bool:
        """Return whether light from outside passes: a cover must be closed to keep it out."""
        if now_s < self._cover_rests_s:
            return True
        # A panel without a cover hangs before the telescope: lit, it is the sky.
        return self._brightness is None if not self._has_cover else self._cover is not CoverState.CLOSED

    # The panel

    def calibrator_state(self) -> CalibratorState:
        """Return the state of the panel."""
        if not self._has_panel:
            return CalibratorState.NOT_PRESENT
        if self._brightness is None:
            return CalibratorState.OFF
        warm = self.clock.now_s() >= self._lit_s + WARM_UP_S
        return CalibratorState.READY if warm else CalibratorState.NOT_READY

    def _max_brightness(self) -> int:
        self._need(self._has_panel, "there is no panel")
        return MAX_BRIGHTNESS

    def _read_brightness(self) -> int:
        self._need(self._has_panel, "there is no panel")
        return self._brightness or 0

    def _light_on(self, brightness: int) -> None:
        self._need(self._has_panel, "there is no panel")
        if not 0 <= brightness <= MAX_BRIGHTNESS:
            raise AscomError(INVALID_VALUE, f"Brightness {brightness} is not possible; it is 0 to {MAX_BRIGHTNESS}")
        if self._brightness is None:
            self._lit_s = self.clock.now_s()
        self._brightness = brightness

    def _light_off(self) -> None:
        self._need(self._has_panel, "there is no panel")
        self._brightness = None

    def panel_share(self, now_s: float) -> float:
        """How much of the panel's highest brightness reaches the telescope; it grows while the panel warms up."""
        if self._brightness is None or (self._has_cover and self.cover_state() is not CoverState.CLOSED):
            return 0.0
        warm = min(1.0, (now_s - self._lit_s) / WARM_UP_S)
        return self._brightness / MAX_BRIGHTNESS * warm

    def _need(self, present: bool, message: str) -> None:
        if not present:
            raise AscomError(NOT_IMPLEMENTED, message)

    def state(self) -> Mapping[str, Any]:
        """Return the states of panel and cover."""
        gathered: dict[str, Any] = {
            "CalibratorState": self.calibrator_state(),
            "CalibratorChanging": self.calibrator_state() is CalibratorState.NOT_READY,
            "CoverState": self.cover_state(),
            "CoverMoving": self.cover_state() is CoverState.MOVING,
        }
        if self._has_panel:
            gathered["Brightness"] = self._brightness or 0
        return gathered
