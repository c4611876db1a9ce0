"""The night in which frames are taken, and series of earlier nights that may serve it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ostcal.capture.place import SeriesPlace, differences
from ostcal.capture.series_plan import CaptureNight, SeriesPlan
from ostcal.clock import Clock
from ostcal.errors import StorageError
from ostcal.naming import DAY_S, night_of, noon_at, noon_of_computer, series_name
from ostcal.series.reader import Series, find_series, open_series
from ostcal.vocabulary import DarkStrategy

logger = logging.getLogger(__name__)


def capture_night(clock: Clock, longitude_deg: float | None = None) -> CaptureNight:
    """Return the night of this moment, from local noon to noon.

    Local noon is that of the longitude (degrees, positive east), else that of the time zone of this computer.
    """
    now = clock.utc()
    noon_utc_s = noon_at(longitude_deg) if longitude_deg is not None else noon_of_computer(now)
    night = night_of(now, noon_utc_s)
    assert night is not None  # a clock always says a time
    return CaptureNight(night=night, noon_utc_s=noon_utc_s, longitude_deg=longitude_deg)


@dataclass(frozen=True, kw_only=True)
class EarlierSeries:
    """Which series of earlier nights stand for new ones, and where they are."""

    directories: tuple[str, ...] = ()
    strategy: DarkStrategy = "missing"
    max_age_days: float = 30.0

    def place_of(
        self, plan: SeriesPlan, shape: tuple[int, int], set_point_c: float | None, now: datetime
    ) -> SeriesPlace | None:
        """Return the newest complete series with the settings of a plan, unless it is too old."""
        if self.strategy == "all":
            return None
        name = plan.name if plan.exposure_time_s is None else series_name(plan.exposure_time_s, plan.filter_name)
        fitting = [
            (taken, series)
            for series in _named(name, self.directories)
            if len(series.records) >= plan.n_frames
            and not differences(series, plan, shape, set_point_c)
            and (taken := last_taken(series)) is not None
        ]
        if not fitting:
            return None
        taken, series = max(fitting, key=lambda one: one[0])
        age_days = (now - taken).total_seconds() / DAY_S
        if self.strategy == "aged" and age_days > self.max_age_days:
            logger.info("%s: %.0f days old, it is taken anew (max_age_days)", series.location, age_days)
            return None
        return SeriesPlace(location=series.location, series=series)


def last_taken(series: Series) -> datetime | None:
    """Return when the newest frame of a series was taken; ``None`` where no frame says it."""
    return max((record.metadata.date_obs for record in series.records if record.metadata.date_obs), default=None)


def _named(name: str, directories: Iterable[str]) -> list[Series]:
    """Return the series whose names begin with that of a plan: names hold exposure and filter."""
    found = []
    for location in find_series(directories):
        if Path(location).stem.startswith(name):
            try:
                found.append(open_series(location))
            except StorageError as error:
                logger.debug("%s", error)
    return found
