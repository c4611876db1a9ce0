"""The section ``matching``: which of the masters that fit a science frame is taken, and how old it may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from ostcal.config.values import AtLeastOne, Positive, Section, Switch, empty_is_default, key
from ostcal.vocabulary import Prefer


class MaxAgeSection(Section):
    """Most days between the frames of a master and a science frame, or flats, before or after; null is no limit."""

    bias: Positive | None = key(None, "Of a bias.", "days")
    dark: Positive | None = key(None, "Of a dark.", "days")
    flat: Positive | None = key(None, "Of a flat.", "days")


class MatchingSection(Section):
    """Which masters science frames take."""

    max_age_days: Annotated[MaxAgeSection, BeforeValidator(empty_is_default)] = MaxAgeSection()
    prefer: Prefer = key(
        "nearest",
        "Of masters that fit alike: nearest in the time their frames were taken, where the better one of a session is"
        " taken; or best, the one of the best verdict and the lowest noise.",
    )
    strict: Switch = key(
        False,
        "Refuse masters beyond their max_age_days, and a bias alone beside darks that do not fit; false is a warning.",
    )
    max_scale_up: AtLeastOne = key(
        2.0,
        "Longest exposure that the dark current of a dark is scaled up to, for science frames and flats.",
        "times the exposure of the dark",
    )
    dark_temperature_model: Switch = key(
        True,
        "Make a dark from darks of three temperatures or more where none has the temperature of the frame; false leaves"
        " the bias alone.",
    )
