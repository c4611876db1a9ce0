"""Flats of the sky: where they are taken (``flat_capture.sky``), and the mount that is pointed (``mount``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, Strict

from ostcal.config.values import Allowed, CountOrZero, Port, Positive, Section, Text, key, read_number
from ostcal.vocabulary import IfParked, SkyPointing, SkyTracking, WhenDone

_Number = Annotated[float, BeforeValidator(read_number), Strict(), Field(allow_inf_nan=False)]
_Height = Annotated[_Number, Field(ge=0, le=90), Allowed("a number from 0 to 90")]
_Distance = Annotated[_Number, Field(ge=0, le=180), Allowed("a number from 0 to 180")]
_Arcmin = Annotated[_Number, Field(ge=0, le=300), Allowed("a number from 0 to 300")]


class MountSection(Section):
    """The mount on an Alpaca server, which is moved for flats of the sky if flat_capture.sky asks for it."""

    host: Text = key("127.0.0.1", "Name or address of the Alpaca server.")
    port: Port = key(11111, "Port of the Alpaca server.")
    device_id: CountOrZero | None = key(None, "Number of the mount on that server; null is none.")
    slew_timeout: Positive = key(300.0, "Longest time of a slew, and of parking.", "seconds")
    if_parked: IfParked = key("refuse", "What is done with a parked mount: no flats are taken, or it is unparked.")
    when_done: WhenDone = key(
        "leave",
        "What is done after the flats: leave the mount where it is, park it, or return to where it was, parked if it"
        " was. Its tracking is as before.",
    )
    min_altitude_deg: _Height = key(20.0, "The mount is never sent below this altitude.", "degrees")
    min_sun_distance_deg: _Distance = key(30.0, "The mount is never sent nearer to the sun.", "degrees")


def _word_of_switch(value: object) -> object:
    """Convert true and false, which programs write for on and off."""
    return ("off", "on")[value] if isinstance(value, bool) else value


class SkySection(Section):
    """Where flats of the sky are taken, with twilight: true; this needs a mount (flat_capture.mount)."""

    pointing: SkyPointing = key(
        "as_is",
        "Where the mount points: where it is, or at the null point, where the twilight sky is most even: opposite the"
        " sun, 15 degrees from the zenith.",
    )
    tracking: Annotated[SkyTracking, BeforeValidator(_word_of_switch)] = key(
        "as_is", "Whether the mount tracks while flats are exposed; as_is does not switch it."
    )
    dither_arcmin: _Arcmin = key(
        0.0,
        "The mount moves between the frames within this radius, so that stars are elsewhere in each; 0 does not.",
        "arcminutes",
    )

    @property
    def uses_mount(self) -> bool:
        """Return whether a mount is needed."""
        return self.pointing != "as_is" or self.tracking != "as_is" or self.dither_arcmin > 0
