"""The site of a configuration."""

from __future__ import annotations

from ostcal.config import Config
from ostcal.sun import Site


def site_of(config: Config) -> Site | None:
    """Return the site, if it is known."""
    s = config.site
    if s.latitude is None or s.longitude is None:
        return None
    return Site(latitude_deg=s.latitude, longitude_deg=s.longitude)
