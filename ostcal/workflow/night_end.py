"""Whether a plan ends before the night does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ostcal.capture.nights import capture_night
from ostcal.clock import Clock
from ostcal.config import Config
from ostcal.naming import DAY_S
from ostcal.sun import sun_night
from ostcal.workflow.site import site_of

_SUNRISE_DEG = -0.833
"""The altitude of the middle of the sun at sunrise: refraction and its radius."""


def beyond_night(config: Config, clock: Clock, time_s: float) -> str | None:
    """Say by how much a plan of so many seconds is longer than what is left of the night; ``None`` if it is not."""
    end, what = _night_end(config, clock)
    left_s = (end - clock.utc()).total_seconds()
    if time_s <= left_s:
        return None
    return (
        f"takes about {time_s / 3600:.1f} hours, and the night ends in {left_s / 3600:.1f} hours"
        f" ({what}, {end:%Y-%m-%d %H:%M} UTC): it goes on by day unless max_hours ends it,"
        " and another run takes what is left"
    )


def _night_end(config: Config, clock: Clock) -> tuple[datetime, str]:
    """Return the next sunrise of this night where the site is known, else the noon at which its series end."""
    now, night = clock.utc(), capture_night(clock, config.site.longitude)
    if (site := site_of(config)) is not None:
        dawn = sun_night(site, night.night, _SUNRISE_DEG).dawn
        if dawn is not None and dawn > now:
            return dawn, "sunrise"
    noon = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(seconds=night.noon_utc_s % DAY_S)
    return (noon if noon > now else noon + timedelta(days=1)), "noon"
