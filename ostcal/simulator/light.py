"""What reaches the sensor: light of the sky, through a cover or from the panel in it, and through a filter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ostcal.clock import FastClock
from ostcal.simulator.alpaca_device import INVALID_VALUE, AscomError, Device, Getter, Identity, Setter, read_int, refuse
from ostcal.simulator.options import CoverKind, Light, Twilight
from ostcal.simulator.sensor import Filter, SkyView
from ostcal.simulator.sky_map import SkyMap

COVER_MOVE_S = 4.0
PANEL_WARM_UP_S = 2.0
MAX_BRIGHTNESS = 255
WHEEL_STEP_S = 1.5
"""From a filter to its neighbour."""
_DUSK_START_E_PER_S = 200_000.0
_DAWN_START_E_PER_S = 200.0


class Sky:
    """Brightness of the sky by time, electrons per second in a pixel of response 1."""

    def __init__(self, light: Light) -> None:
        self._light = light
        self._began_s: float | None = None

    def mean_e_per_s(self, start_s: float, stop_s: float) -> float:
        """Return the mean over a time.

        Twilight begins when it is first looked at, so that darks taken before do not use it up.
        """
        if self._light.twilight is None:
            return self._light.sky_e_per_s
        if self._began_s is None:
            self._began_s = start_s
        falls = self._light.twilight is Twilight.DUSK
        default = _DUSK_START_E_PER_S if falls else _DAWN_START_E_PER_S
        first = self._light.twilight_start_e_per_s or default
        fold_s = -self._light.twilight_fold_s if falls else self._light.twilight_fold_s
        # Beyond 30 folds it is night, or as bright as no sky is; the bound keeps the exponential finite.
        begin = min(30.0, (start_s - self._began_s) / fold_s)
        end = min(30.0, (stop_s - self._began_s) / fold_s)
        if abs(end - begin) < 1e-9:
            return first * math.exp(begin)
        return first * (math.exp(end) - math.exp(begin)) / (end - begin)


class CoverStatus(IntEnum):
    """ASCOM's numbers for the cover."""

    NOT_PRESENT = 0
    CLOSED = 1
    MOVING = 2
    OPEN = 3
    UNKNOWN = 4


class CalibratorStatus(IntEnum):
    """ASCOM's numbers for the panel."""

    NOT_PRESENT = 0
    OFF = 1
    NOT_READY = 2
    READY = 3


class SimulatedCoverCalibrator(Device):
    """A cover (ICoverCalibratorV2) that takes time to move, a panel that takes time to become steady, or both.

    At first the cover is open and the panel dark.
    """

    def __init__(self, identity: Identity, clock: FastClock, kind: CoverKind) -> None:
        super().__init__(identity, clock)
        self._has_cover = kind in (CoverKind.FLIP_FLAT, CoverKind.COVER)
        self._has_panel = kind in (CoverKind.FLIP_FLAT, CoverKind.PANEL)
        self._cover = CoverStatus.OPEN if self._has_cover else CoverStatus.NOT_PRESENT
        self._cover_rests_s = 0.0
        self._brightness: int | None = None
        self._lit_s = 0.0
        no_cover = None if self._has_cover else refuse("a cover that moves")
        no_panel = None if self._has_panel else refuse("a panel")
        self.getters |= {
            "brightness": Getter(read=no_panel or (lambda: self._brightness or 0)),
            "calibratorstate": Getter(read=self.calibrator_status),
            "calibratorchanging": Getter(read=lambda: self.state()["CalibratorChanging"], since=2),
            "coverstate": Getter(read=self.cover_status),
            "covermoving": Getter(read=lambda: self.state()["CoverMoving"], since=2),
            "maxbrightness": Getter(read=no_panel or (lambda: MAX_BRIGHTNESS)),
        }
        self.setters |= {
            "calibratoron": Setter(write=no_panel or self._light, parameters=(("Brightness", read_int),)),
            "calibratoroff": Setter(write=no_panel or (lambda: self._light(None))),
            "opencover": Setter(write=no_cover or (lambda: self._move(CoverStatus.OPEN))),
            "closecover": Setter(write=no_cover or (lambda: self._move(CoverStatus.CLOSED))),
            "haltcover": Setter(write=no_cover or (lambda: self._move(CoverStatus.UNKNOWN))),
        }

    # The cover

    def cover_status(self) -> CoverStatus:
        """Return the state of the cover."""
        return CoverStatus.MOVING if self.clock.now_s() < self._cover_rests_s else self._cover

    def _move(self, goal: CoverStatus) -> None:
        """Move the cover to its goal; UNKNOWN halts it where it is, if it moves."""
        status = self.cover_status()
        if goal is CoverStatus.UNKNOWN:
            if status is CoverStatus.MOVING:
                self._cover, self._cover_rests_s = goal, 0.0
            return
        if status is not goal:
            self._cover_rests_s = self.clock.now_s() + COVER_MOVE_S
        self._cover = goal

    def lets_sky_in(self, now_s: float) -> bool:
        """Return whether light from outside passes: a cover must be closed to keep it out."""
        if now_s < self._cover_rests_s:
            return True
        # A panel without a cover hangs before the telescope: lit, it is the sky.
        return self._brightness is None if not self._has_cover else self._cover is not CoverStatus.CLOSED

    # The panel

    def calibrator_status(self) -> CalibratorStatus:
        """Return the state of the panel."""
        if not self._has_panel:
            return CalibratorStatus.NOT_PRESENT
        if self._brightness is None:
            return CalibratorStatus.OFF
        is_warm = self.clock.now_s() >= self._lit_s + PANEL_WARM_UP_S
        return CalibratorStatus.READY if is_warm else CalibratorStatus.NOT_READY

    def _light(self, brightness: int | None) -> None:
        """Set the brightness of the panel; ``None`` switches it off."""
        if brightness is not None and not 0 <= brightness <= MAX_BRIGHTNESS:
            raise AscomError(INVALID_VALUE, f"Brightness {brightness} is not possible; it is 0 to {MAX_BRIGHTNESS}")
        if self._brightness is None:
            self._lit_s = self.clock.now_s()
        self._brightness = brightness

    def panel_share(self, now_s: float) -> float:
        """Return the share of the panel's highest brightness that reaches the telescope; it grows during warm-up."""
        if self._brightness is None or (self._has_cover and self.cover_status() is not CoverStatus.CLOSED):
            return 0.0
        warm = min(1.0, (now_s - self._lit_s) / PANEL_WARM_UP_S)
        return self._brightness / MAX_BRIGHTNESS * warm

    def state(self) -> Mapping[str, Any]:
        """Return the states of panel and cover."""
        calibrator, cover = self.calibrator_status(), self.cover_status()
        brightness = {"Brightness": self._brightness or 0} if self._has_panel else {}
        return brightness | {
            "CalibratorState": calibrator,
            "CalibratorChanging": calibrator is CalibratorStatus.NOT_READY,
            "CoverState": cover,
            "CoverMoving": cover is CoverStatus.MOVING,
        }


class SimulatedFilterWheel(Device):
    """A wheel (IFilterWheelV3) that turns the short way round and takes its time."""

    def __init__(self, identity: Identity, clock: FastClock, filters: tuple[Filter, ...]) -> None:
        super().__init__(identity, clock)
        self._filters = filters
        self._position = 0
        self._arrives_s = 0.0
        self.getters |= {
            "names": Getter(read=lambda: [item.name for item in filters]),
            "focusoffsets": Getter(read=lambda: [0] * len(filters)),
            "position": Getter(read=lambda: self.state()["Position"]),
        }
        self.setters["position"] = Setter(write=self.turn, parameters=(("Position", read_int),))

    def filter_name(self) -> str:
        """Return the name of the filter in the light; while the wheel turns, of the one it turns to."""
        return self._filters[self._position].name

    def turn(self, position: int) -> None:
        """Begin to turn to a filter."""
        places = len(self._filters)
        if not 0 <= position < places:
            raise AscomError(INVALID_VALUE, f"Position {position} is not on the wheel; it has 0 to {places - 1}")
        steps = abs(position - self._position)
        self._arrives_s = self.clock.now_s() + WHEEL_STEP_S * min(steps, places - steps)
        self._position = position

    def state(self) -> Mapping[str, Any]:
        """Return the position, -1 while the wheel turns."""
        return {"Position": -1 if self.clock.now_s() < self._arrives_s else self._position}


class LightPath:
    """From the sky and the panel to the sensor."""

    def __init__(
        self,
        light: Light,
        cover: SimulatedCoverCalibrator | None,
        wheel: SimulatedFilterWheel | None,
        sky_map: SkyMap | None = None,
    ) -> None:
        self._light = light
        self._sky = Sky(light)
        self._cover = cover
        self._wheel = wheel
        self._sky_map = sky_map

    def sky_view(self, start_s: float) -> SkyView | None:
        """Return what is uneven in the light of an exposure; ``None`` if the panel gives it."""
        if self._sky_map is None or (self._cover is not None and not self._cover.lets_sky_in(start_s)):
            return None
        return self._sky_map.view()

    def illumination_e_per_s(self, start_s: float, stop_s: float) -> float:
        """Return the mean illumination over an exposure; cover and panel count as they are at its start."""
        panel = self._cover.panel_share(start_s) * self._light.panel_e_per_s if self._cover else 0.0
        if self._cover is not None and not self._cover.lets_sky_in(start_s):
            return panel
        return panel + self._sky.mean_e_per_s(start_s, stop_s)

    def filter_name(self) -> str | None:
        """Return the name of the filter in the light, or ``None`` without a wheel."""
        return self._wheel.filter_name() if self._wheel else None
