"""What reaches the sensor: the sky, a cover that may stand in the way, the panel in it, and the filter."""

from __future__ import annotations

import math
from typing import Protocol

from ostcal.simulator.options import Light, Twilight

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


class Cover(Protocol):
    """What the light path asks of the cover calibrator."""

    def lets_sky_in(self, now_s: float) -> bool:
        """Return whether light from outside passes."""

    def panel_share(self, now_s: float) -> float:
        """How much of the panel's highest brightness reaches the telescope, 0 to 1."""


class FilterHolder(Protocol):
    """What the light path asks of the filter wheel."""

    def filter_name(self) -> str:
        """Name of the filter in the light."""


class LightPath:
    """From the sky and the panel to the sensor."""

    def __init__(self, light: Light, cover: Cover | None, wheel: FilterHolder | None) -> None:
        self._light = light
        self._sky = Sky(light)
        self._cover = cover
        self._wheel = wheel

    def illumination_e_per_s(self, start_s: float, stop_s: float) -> float:
        """Return the mean illumination over an exposure; cover and panel count as they are at its start."""
        panel = self._cover.panel_share(start_s) * self._light.panel_e_per_s if self._cover else 0.0
        if self._cover is not None and not self._cover.lets_sky_in(start_s):
            return panel
        return panel + self._sky.mean_e_per_s(start_s, stop_s)

    def filter_name(self) -> str | None:
        """Return the name of the filter in the light, or ``None`` without a wheel."""
        return self._wheel.filter_name() if self._wheel else None
