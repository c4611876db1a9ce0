"""The sections ``schedule`` and ``safety``: when calibration frames are taken unattended, and when not."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, Strict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ostcal.config.values import (
    Allowed,
    Count,
    CountOrZero,
    Port,
    Positive,
    Section,
    Text,
    empty_is_default,
    key,
    read_number,
)
from ostcal.visit_times import read_rule


def _check_rule(text: str) -> str:
    """Refuse what is no time."""
    read_rule(text)
    return text


def _check_zone(name: str) -> str:
    """Refuse a time zone that this computer does not know."""
    if name.lower() in ("local", "utc"):
        return name.lower()
    try:
        ZoneInfo(name)
    except (OSError, KeyError) as error:  # KeyError: ZoneInfoNotFoundError; OSError: a directory of zones
        raise ValueError from error
    return str(name)


def _list(value: object) -> object:
    """Convert one text to a list of one."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


Times = Annotated[
    tuple[Annotated[Text, AfterValidator(_check_rule)], ...],
    BeforeValidator(_list, json_schema_input_type=str | list[str]),
    Field(min_length=1),
    PlainSerializer(list),
    Allowed('times such as "18:30", "dusk -6", "dawn -12" or "30 18 * * 1-5" (cron), one or a list of them'),
]
SunAltitude = Annotated[
    float,
    BeforeValidator(read_number),
    Strict(),
    Field(ge=-90, le=90, allow_inf_nan=False),
    Allowed("a number from -90 to 90"),
]
Zone = Annotated[str, Strict(), AfterValidator(_check_zone), Allowed("local, utc, or a name such as Europe/Madrid")]


class CadenceSection(Section):
    """Nights from one set of frames to the next, by kind; null takes none of it."""

    bias: Count | None = key(7, "Nights from one set of bias frames to the next.", "nights")
    dark: Count | None = key(30, "Nights from one set of darks of an exposure time to the next.", "nights")
    flat: Count | None = key(1, "Nights from one set of flats of a filter to the next.", "nights")


class OldestSection(Section):
    """Age from which a line says that no newer frames exist, by kind."""

    bias: Positive = key(30.0, "Age of bias frames.", "days")
    dark: Positive = key(90.0, "Age of darks.", "days")
    flat: Positive = key(30.0, "Age of flats.", "days")


class SkyFlatsSection(Section):
    """Altitudes of the sun between which ``ostcal schedule`` takes flats of the sky, where the site is known."""

    sun_highest: SunAltitude = key(0.0, "No flats of the sky are taken while the sun is higher.", "degrees")
    sun_lowest: SunAltitude = key(-12.0, "No flats of the sky are taken while the sun is lower.", "degrees")

    @field_validator("sun_lowest")
    @classmethod
    def _below(cls, value: float, info: ValidationInfo) -> float:
        highest = info.data.get("sun_highest")
        if highest is not None and value >= highest:
            raise PydanticCustomError("order", "it must be below sun_highest", {"other": "sun_highest"})
        return value


class ScheduleSection(Section):
    """When ``ostcal schedule`` takes calibration frames."""

    when: Times = key(
        ("18:00",),
        "Times at which it looks what is due: of the day, of cron (minute, hour, day, month, weekday), or when the sun"
        " sinks to an altitude (dusk -6) or rises to it (dawn -12), which needs the section site.",
    )
    time_zone: Zone = key("local", "Time zone of the times in when; local is that of this computer.")
    max_hours: Positive = key(
        10.0,
        "Longest time of a visit; what does not fit is taken the next time. Noon ends a visit too. Other commands that"
        " take frames wait no longer until it is safe.",
        "hours",
    )
    cadence_days: Annotated[CadenceSection, BeforeValidator(empty_is_default)] = CadenceSection()
    max_age_days: Annotated[OldestSection, BeforeValidator(empty_is_default)] = OldestSection()
    sky_flats: Annotated[SkyFlatsSection, BeforeValidator(empty_is_default)] = SkyFlatsSection()


class SafetySection(Section):
    """Devices that say whether an exposure may begin; both are on one Alpaca server."""

    host: Text = key("127.0.0.1", "Name or address of the Alpaca server.")
    port: Port = key(11111, "Port of the Alpaca server.")
    device_id: CountOrZero | None = key(None, "Number of the safety monitor on that server; null is none.")
    roof_id: CountOrZero | None = key(
        None,
        "Number of the roof or dome on that server; null is none. While it moves or reports an error nothing is taken,"
        " and sky flats only while it is open.",
    )
    on_lost: Literal["refuse", "ignore"] = key(
        "refuse", "What a lost connection means: refuse counts as unsafe, ignore goes on with a warning."
    )
