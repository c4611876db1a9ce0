"""Words that names of files and folders are made of: exposures, filters, and the night in which a frame was taken.

Captured and imported series and masters use the same functions, so that one series has one name whatever way it came.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

_LEAST_DECIMALS, _MOST_DECIMALS = 3, 9
_DECIMALS = 6
"""A microsecond: cameras expose from some 10 microseconds on."""
_DIGITS = 7
"""Significant digits of a 32-bit float, in which many programs keep exposures: 0.001 s is 0.0010000000475, and 60.1 s
is 60.0999985."""

DAY_S = 86400.0
NOON_UTC_S = 43200.0
"""12:00 UTC, the local noon of an observatory whose longitude is not known and whose frames do not show another."""
QUIET_S = 7200.0
"""A noon without frames for two hours before and after is taken as the end of a night."""


def safe_word(text: str) -> str:
    """Make a header's text a part of a file name: no separators, no dots at its start, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9+.-]+", "-", text).strip("-.")[:40]


def exposure_text(exposure_s: float, others_s: Sequence[float] = ()) -> str:
    """Write an exposure for a file name: ``5.000s``, ``1.2345s``, ``0.00005s``.

    Three decimals at least, and those that it has up to microseconds and to 7 significant digits; more, up to nine,
    where they are needed to tell it from `others_s`.
    """
    known = max(_LEAST_DECIMALS, min(_DECIMALS, _DIGITS - len(str(int(exposure_s)))))
    for decimals in range(_LEAST_DECIMALS, _MOST_DECIMALS + 1):
        text = f"{exposure_s:.{decimals}f}s"
        is_exact = decimals >= known or float(text[:-1]) == round(exposure_s, known)
        if is_exact and all(other == exposure_s or f"{other:.{decimals}f}s" != text for other in others_s):
            break
    return text


def series_name(exposure_s: float, filter_name: str | None = None, others_s: Sequence[float] = ()) -> str:
    """Name a series of one exposure: ``exp_5.000s``, and of flats with a filter ``L_exp_1.000s``."""
    return f"{_prefix(filter_name)}exp_{exposure_text(exposure_s, others_s)}"


def twilight_name(night: date | None, filter_name: str | None = None) -> str:
    """Name a series of twilight flats after its night: ``L_twilight_20261121``."""
    return f"{_prefix(filter_name)}twilight{f'_{night:%Y%m%d}' if night else ''}"


def _prefix(filter_name: str | None) -> str:
    word = safe_word(filter_name or "")
    return f"{word}_" if word else ""


# ---- filters ----


@functools.lru_cache(maxsize=1024)
def filter_identity(name: str) -> str:
    """Return what is equal for spellings of one filter: ``Ha``, ``HA``, ``H-alpha``, ``H\u03b1``; R and r are two."""
    text = unicodedata.normalize("NFKC", name).replace("\u03b1", "alpha").replace("\u03b2", "beta")
    word = re.sub(r"[\s_-]+", "", text)
    if len(word) <= 1:
        return word
    return re.sub(r"^(h)(a)lpha|^(h)(b)eta", lambda m: (m[1] or m[3]) + (m[2] or m[4]), word.casefold())


def same_filter(a: str, b: str) -> bool:
    """Return whether two names may be one filter; of letters in any case too, as programs write r for R."""
    return a.casefold() == b.casefold() or filter_identity(a) == filter_identity(b)


def mode_identity(name: str) -> str:
    """Return what is equal for spellings of one readout mode: ``Low Noise``, ``low noise ``."""
    return " ".join(name.split()).casefold()


def same_mode(a: str, b: str) -> bool:
    """Return whether two names are spellings of one readout mode."""
    return mode_identity(a) == mode_identity(b)


def degrees_text(temperature_c: float) -> str:
    """Return a temperature as people write it: ``-10 C``, ``4.3 C``, never ``-0 C``."""
    return f"{round(temperature_c, 1) + 0.0:g} C"


# ---- folders ----

_DAY = r"\d{4}-\d{2}-\d{2}"
FOLDER_WORDS = {"night": _DAY, "date": _DAY, "camera": r"[A-Za-z0-9+.-]+"}
"""Words that stand in braces in the names of directories, ``darks/{night}``, and what is written for them."""
FOLDER_WORD = re.compile(r"\{([^{}/]*)\}")


def unknown_folder_words(pattern: str) -> list[str]:
    """Return what stands in braces without being a word that is filled in."""
    return [word for word in FOLDER_WORD.findall(pattern) if word not in FOLDER_WORDS]


def folder_of(pattern: str, *, night: date, day: date, camera: str) -> str:
    """Fill the words of a directory in: ``darks/{night}`` is ``darks/2026-11-21``."""
    words = {"night": night.isoformat(), "date": day.isoformat(), "camera": safe_word(camera) or "camera"}
    return FOLDER_WORD.sub(lambda found: words.get(found[1], found[0]), pattern)


# ---- nights ----


def noon_of_computer(when: datetime) -> float:
    """Return local noon by the time zone of this computer at a moment, in seconds after 0:00 UTC."""
    offset = when.astimezone().utcoffset()
    return (NOON_UTC_S - (offset.total_seconds() if offset is not None else 0.0)) % DAY_S


def night_of(when: datetime | None, noon_utc_s: float | None = None) -> date | None:
    """Return the night of a moment: the UTC date of its evening, six hours after the local noon before the moment.

    Parameters
    ----------
    when : datetime or None
        Timezone-aware; ``None`` has no night.
    noon_utc_s : float, optional
        Local noon of the observatory, seconds after 0:00 UTC, where one night ends and the next begins; 12:00 UTC
        where it is not known.
    """
    if when is None:
        return None
    noon_utc_s = NOON_UTC_S if noon_utc_s is None else noon_utc_s
    is_evening_tomorrow, is_before_noon = noon_utc_s >= DAY_S - 6 * 3600, _time_of_day_s(when) < noon_utc_s
    ordinal = when.astimezone(UTC).toordinal() + is_evening_tomorrow - is_before_noon
    return date.fromordinal(min(max(ordinal, 1), date.max.toordinal()))  # 1 January of the year 1 may mean "not set"


def noon_at(longitude_deg: float) -> float:
    """Return the mean local noon at a longitude (degrees, positive east), in seconds after 0:00 UTC."""
    return (NOON_UTC_S - longitude_deg / 360 * DAY_S) % DAY_S


def quiet_noon(moments: Iterable[datetime]) -> float:
    """Return a noon in seconds after 0:00 UTC at which none of these frames was taken.

    12:00 UTC if it is quiet, else the middle of the largest gap: 12:00 UTC is ten in the evening in Sydney.
    """
    taken = list(moments)
    times_s = {_time_of_day_s(when) for when in taken}
    if all(min((t - NOON_UTC_S) % DAY_S, (NOON_UTC_S - t) % DAY_S) > QUIET_S for t in times_s):
        return NOON_UTC_S
    middle_s, _ = quiet_times(taken)[0]
    return middle_s


def quiet_times(moments: Iterable[datetime]) -> list[tuple[float, float]]:
    """Return the middle and the length, in seconds, of each time of day without any of these moments, longest first."""
    times_s = sorted({_time_of_day_s(when) for when in moments})
    gaps = [((later - t) % DAY_S or DAY_S, t) for t, later in zip(times_s, times_s[1:] + times_s[:1], strict=True)]
    return [((start_s + length_s / 2) % DAY_S, length_s) for length_s, start_s in sorted(gaps, reverse=True)]


def _time_of_day_s(when: datetime) -> float:
    when = when.astimezone(UTC)
    return when.hour * 3600.0 + when.minute * 60.0 + when.second
