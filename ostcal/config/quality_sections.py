"""The section ``quality``: its groups of limits are made from the dataclasses of `ostcal.measure.limits`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BeforeValidator, create_model

from ostcal.config.values import Count, NotNegative, Positive, Section, Switch, empty_is_default, key
from ostcal.measure.limits import DefectLimits, FrameLimits, MasterLimits

_TYPES: dict[tuple[type, float], Any] = {(float, 0): NotNegative, (int, 1): Count}
"""The type of a key by that of its limit and the smallest value."""


def _section_of_limits(name: str, limits: type[Any]) -> type[Section]:
    """Return a section with a key for each limit: the same default, meaning, unit and bounds."""
    hints = get_type_hints(limits)
    keys: dict[str, Any] = {}
    for entry in fields(limits):
        limit = entry.metadata["limit"]
        keys[entry.name] = (_TYPES[hints[entry.name], limit.ge], key(entry.default, limit.meaning, limit.unit))
    return create_model(name, __base__=Section, __doc__=limits.__doc__, **keys)


if TYPE_CHECKING:  # classes made at run time are no types
    FrameQualitySection = Section
    MasterQualitySection = Section
    PixelQualitySection = Section
else:
    FrameQualitySection = _section_of_limits("FrameQualitySection", FrameLimits)
    MasterQualitySection = _section_of_limits("MasterQualitySection", MasterLimits)
    PixelQualitySection = _section_of_limits("PixelQualitySection", DefectLimits)


class QualitySection(Section):
    """Quality control: limits for warnings and failures of frames and masters."""

    report: Switch = key(True, "Write a report beside the masters after each run with quality_control.")
    use_failed: Switch = key(False, "Use masters even if they failed their quality control.")
    leave_out: Switch = key(
        True,
        "Leave a frame out of its master, with a warning, if rejection takes nearly all of it or it is of another"
        " kind.",
    )
    full_scale_adu: Positive | None = key(
        None,
        "Level at which samples of the camera end, such as 4095 of 12 bits; null is found from samples and headers.",
        "ADU",
    )
    frames: Annotated[FrameQualitySection, BeforeValidator(empty_is_default)] = FrameQualitySection()
    masters: Annotated[MasterQualitySection, BeforeValidator(empty_is_default)] = MasterQualitySection()
    pixels: Annotated[PixelQualitySection, BeforeValidator(empty_is_default)] = PixelQualitySection()
