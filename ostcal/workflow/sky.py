"""The times of flats of the sky: while the sun is between two altitudes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ostcal.config import Config
from ostcal.sun import Site, sun_altitude
from ostcal.workflow.site import site_of

_STEP_S = 20.0
"""Between two looks at the sun, which moves by 0.08 degrees meanwhile."""


@dataclass(frozen=True, kw_only=True)
class SkyWindow:
    """Altitudes of the sun between which flats of the sky are taken."""

    site: Site
    highest_deg: float
    lowest_deg: float

    def is_open(self, when: datetime) -> bool:
        """Return whether the sun is between the altitudes."""
        return self.lowest_deg <= sun_altitude(self.site, when) <= self.highest_deg

    def opens_at(self, start: datetime, stop: datetime) -> datetime | None:
        """Return the first time from `start` on at which it is open; ``None`` if there is none before `stop`."""
        when = start
        while when < stop:
            if self.is_open(when):
                return when
            when += timedelta(seconds=_STEP_S)
        return None

    def refusal(self, when: datetime) -> str | None:
        """Return why no flat of the sky may be taken, or ``None``."""
        if self.is_open(when):
            return None
        limits = f"{self.lowest_deg:g} to {self.highest_deg:g} deg (schedule.sky_flats)"
        return f"the sun is at {sun_altitude(self.site, when):.1f} deg, and flats of the sky are taken from {limits}"


def sky_window(config: Config) -> SkyWindow | None:
    """Return when flats of the sky are taken; ``None`` for other flats, and where the site is not known."""
    site = site_of(config)
    if site is None or not config.flat_capture.twilight:
        return None
    limits = config.schedule.sky_flats
    return SkyWindow(site=site, highest_deg=limits.sun_highest, lowest_deg=limits.sun_lowest)
