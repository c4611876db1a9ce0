"""Keys of ``master_frames`` that say which frames are near enough in time, and in rotation, for one master."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ostcal.config.values import Count, NotNegative, Positive, Section, Switch, key
from ostcal.vocabulary import Session


class SessionKeys(Section):
    """Which frames are one session."""

    min_frames: Count = key(3, "Groups of fewer frames are skipped with a warning.", "frames")
    max_frames: Count | None = key(
        None, "Bias frames and darks of a master: the newest, at most so many; null takes all.", "frames"
    )
    session: Session = key(
        "night",
        "Which flats are masters of their own, and each frame takes the nearest: with night those of each night, from"
        " noon to noon; with hours those of each time without a gap of session_hours; none combines all.",
    )
    session_hours: Positive = key(6.0, "With session hours: a longer time without a frame ends a session.", "hours")
    per_session: Switch = key(False, "Make separate masters for each session, of bias and darks too.")
    window_days: NotNegative | None = key(
        30.0,
        "Bias frames and darks of nights within so many days are combined; those farther apart, and flats of nights"
        " with too few of them, are masters of their own. null combines all.",
        "days",
    )
    rotation_tolerance: NotNegative = key(
        1.0,
        "Largest difference of the angles of the camera within a group of flats, and between a flat and a frame;"
        " 180 lets all angles be one.",
        "degrees",
    )

    @field_validator("max_frames")
    @classmethod
    def _is_enough(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Refuse a limit with which no group has enough frames."""
        least = info.data.get("min_frames")
        if value is not None and least is not None and value < least:
            raise PydanticCustomError(
                "order", "it must be at least min_frames, which is {minimum}", {"minimum": least, "other": "min_frames"}
            )
        return value
