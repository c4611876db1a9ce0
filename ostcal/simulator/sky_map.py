"""The simulated sky before the telescope: uneven away from the null point of twilight, and with stars."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ostcal.horizontal import Horizontal, bearing_deg, separation_deg, sidereal_deg, to_equatorial, to_horizontal
from ostcal.simulator.options import Light
from ostcal.simulator.sensor import SensorModel, SkyView, Star
from ostcal.simulator.telescope import SimulatedTelescope
from ostcal.sun import null_point

_STARS = 0x57A5
_SKY_DEG2 = 4 * math.pi * (180 / math.pi) ** 2
_FLUX_E_PER_S = (1e4, 3e5)
"""Faintest and brightest star, spread evenly in the logarithm: at most as bright in a pixel as the sky."""


class SkyMap:
    """What the camera sees in the direction of the mount; its rows go down from the zenith, its columns with azimuth.

    A star is a point at the place that it has when the exposure begins: there are no trails.
    """

    def __init__(self, light: Light, sensor: SensorModel, telescope: SimulatedTelescope, seed: int) -> None:
        self._light = light
        self._telescope = telescope
        self._px_per_deg = sensor.width / light.field_deg
        self._radius_deg = math.hypot(sensor.width, sensor.height) / 2 / self._px_per_deg
        self._middle = ((sensor.height - 1) / 2, (sensor.width - 1) / 2)
        rng = np.random.default_rng([seed, _STARS])
        count = round(light.stars_per_deg2 * _SKY_DEG2)
        self._ascension_deg = rng.uniform(0, 360, count).astype(np.float32)
        self._declination_deg = np.degrees(np.arcsin(rng.uniform(-1, 1, count))).astype(np.float32)
        faintest, brightest = map(math.log, _FLUX_E_PER_S)
        self._flux_e_per_s = np.exp(rng.uniform(faintest, brightest, count)).astype(np.float32)

    def view(self) -> SkyView | None:
        """Return the sky in the direction of the mount now; ``None`` if it is even and without stars."""
        gradient = self._light.sky_gradient_per_deg2
        if not gradient and not self._flux_e_per_s.size:
            return None
        mount = self._telescope
        here, moment = mount.direction(), mount.utc()
        darkest = null_point(mount.site, moment)
        away = math.radians(bearing_deg(here, darkest) + 180)
        slope_per_px = gradient * separation_deg(here, darkest) / self._px_per_deg
        return SkyView(
            slope_across_per_px=slope_per_px * math.sin(away),
            slope_down_per_px=-slope_per_px * math.cos(away),
            stars=self._stars(here, sidereal_deg(mount.site.longitude_deg, moment)),
        )

    def _stars(self, here: Horizontal, sidereal_time_deg: float) -> tuple[Star, ...]:
        latitude_deg = self._telescope.site.latitude_deg
        hour_angle_deg, declination_deg = to_equatorial(latitude_deg, here)
        found = []
        for number in self._near(sidereal_time_deg - hour_angle_deg, declination_deg):
            hour_angle_deg = sidereal_time_deg - float(self._ascension_deg[number])
            star = to_horizontal(latitude_deg, hour_angle_deg, float(self._declination_deg[number]))
            away_px = separation_deg(here, star) * self._px_per_deg
            bearing = math.radians(bearing_deg(here, star))
            found.append(
                Star(
                    row=self._middle[0] - away_px * math.cos(bearing),
                    column=self._middle[1] + away_px * math.sin(bearing),
                    flux_e_per_s=float(self._flux_e_per_s[number]),
                )
            )
        return tuple(found)

    def _near(self, ascension_deg: float, declination_deg: float) -> NDArray[np.int64]:
        """Return the numbers of the stars that may be on the sensor."""
        in_zone = np.flatnonzero(np.abs(self._declination_deg - declination_deg) < self._radius_deg)
        declinations = np.radians(self._declination_deg[in_zone].astype(np.float64))
        turn = np.radians(self._ascension_deg[in_zone].astype(np.float64) - ascension_deg)
        here = math.radians(declination_deg)
        cosine = math.sin(here) * np.sin(declinations) + math.cos(here) * np.cos(declinations) * np.cos(turn)
        return in_zone[cosine > math.cos(math.radians(self._radius_deg))]
