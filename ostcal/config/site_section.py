"""The section ``site``: where the telescope is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, Strict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ostcal.config.values import Allowed, Section, key, read_number

_Number = Annotated[float, BeforeValidator(read_number), Strict(), Field(allow_inf_nan=False)]
Latitude = Annotated[_Number, Field(ge=-90, le=90), Allowed("a number from -90 to 90")]
Longitude = Annotated[_Number, Field(ge=-180, le=360), Allowed("a number from -180 to 360")]
Elevation = Annotated[_Number, Field(ge=-500, le=9000), Allowed("a number from -500 to 9000")]


class SiteSection(Section):
    """Where the telescope is, for the altitude of the sun."""

    latitude: Latitude | None = key(None, "Latitude, positive north; null is not known.", "degrees")
    longitude: Longitude | None = key(None, "Longitude, positive east; null is not known.", "degrees")
    elevation: Elevation = key(0.0, "Height above the sea; the altitude of the sun does not depend on it.", "metres")

    @field_validator("longitude")
    @classmethod
    def _both_or_none(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "latitude" in info.data and (value is None) != (info.data["latitude"] is None):
            raise PydanticCustomError("order", "latitude and longitude belong together", {"other": "latitude"})
        return value
