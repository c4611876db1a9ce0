"""Names of series while they are captured; the same words as `ostcal.library.master_names` uses for imported ones."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from ostcal.frames import safe_word

_MOST_DECIMALS = 6
"""A microsecond: cameras expose from some 10 microseconds on."""


def exposure_text(exposure_time_s: float) -> str:
    """Write an exposure with three decimals, or with as many as it has, six at most: ``5.000s``, ``0.0005s``."""
    text = f"{exposure_time_s:.{_MOST_DECIMALS}f}"
    whole, decimals = text.split(".")
    return f"{whole}.{decimals.rstrip('0').ljust(3, '0')}s"


def dark_name(exposure_time_s: float) -> str:
    """Name a series of darks or bias frames: ``exp_5.000s``."""
    return f"exp_{exposure_text(exposure_time_s)}"


def flat_name(exposure_time_s: float, filter_name: str | None) -> str:
    """Name a series of flats: ``exp_1.000s``, ``L_exp_1.000s``."""
    return f"{_prefix(filter_name)}exp_{exposure_text(exposure_time_s)}"


def twilight_name(now_utc: datetime, filter_name: str | None) -> str:
    """Name a series of twilight flats after its night: ``L_twilight_20261121``."""
    return f"{_prefix(filter_name)}twilight_{night_of(now_utc):%Y%m%d}"


def night_of(now_utc: datetime) -> date:
    """Give the night: the UTC date twelve hours before, so that a night is not cut at midnight."""
    return (now_utc - timedelta(hours=12)).date()


def _prefix(filter_name: str | None) -> str:
    word = safe_word(filter_name or "")
    return f"{word}_" if word else ""
