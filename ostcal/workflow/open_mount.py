"""The mount of a configuration, for flats of the sky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ostcal.capture.pointing import PointingRules, SkyMount
from ostcal.clock import Clock
from ostcal.config import Config
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.telescope import AlpacaTelescope
from ostcal.errors import ConfigError
from ostcal.horizontal import direction_text
from ostcal.sun import null_point
from ostcal.workflow.site import site_of

_TRACKING = {"as_is": None, "off": False, "on": True}
_WHEN_DONE = {"park": "then it is parked", "return": "then it returns"}


def open_mount(
    config: Config, timeouts: Timeouts, clock: Clock, may_move: Callable[[], str | None], port: int | None = None
) -> SkyMount | None:
    """Return the mount that is pointed for flats of the sky; ``None`` if none is asked for.

    It is connected when it is used. `port` is that of a simulated observatory.

    Raises
    ------
    ConfigError
        If a mount is asked for and none is configured.
    """
    sky, settings = config.flat_capture.sky, config.flat_capture.mount
    if not config.flat_capture.twilight or not sky.uses_mount:
        return None
    number, host = settings.device_id, settings.host
    if port is not None:
        number, host = 0, "127.0.0.1"
    if number is None:
        raise ConfigError("flat_capture.sky needs a mount; set flat_capture.mount.device_id, or remove the keys of sky")

    def connect() -> AlpacaTelescope:
        return AlpacaTelescope(
            host,
            port or settings.port,
            number,
            site=site_of(config),
            timeouts=replace(timeouts, moving_s=settings.slew_timeout),
            clock=clock,
        )

    return SkyMount(connect, pointing_rules(config), clock, may_move)


def pointing_rules(config: Config) -> PointingRules:
    """Return where the mount points for flats of the sky, and what it may do."""
    sky, settings = config.flat_capture.sky, config.flat_capture.mount
    return PointingRules(
        null_point=sky.pointing == "null_point",
        tracking=_TRACKING[sky.tracking],
        dither_deg=sky.dither_arcmin / 60,
        unparks=settings.if_parked == "unpark",
        when_done=settings.when_done,
        min_altitude_deg=settings.min_altitude_deg,
        min_sun_distance_deg=settings.min_sun_distance_deg,
    )


def pointing_line(config: Config, when: datetime) -> str | None:
    """Say where flats of the sky will be taken, at a time; ``None`` if no mount is asked for."""
    sky = config.flat_capture.sky
    if not config.flat_capture.twilight or not sky.uses_mount:
        return None
    words = ["the mount stays where it points"]
    if sky.pointing == "null_point":
        site = site_of(config)
        where = f", {direction_text(null_point(site, when))} at {when:%Y-%m-%d %H:%M} UTC" if site is not None else ""
        words = [f"the mount points at the null point{where}"]
    if sky.tracking != "as_is":
        words.append(f"tracking is {sky.tracking}")
    if sky.dither_arcmin:
        words.append(f"it moves within {sky.dither_arcmin:g} arcminutes between frames")
    if config.flat_capture.mount.when_done != "leave":
        words.append(_WHEN_DONE[config.flat_capture.mount.when_done])
    return f"flats of the sky: {'; '.join(words)}"
