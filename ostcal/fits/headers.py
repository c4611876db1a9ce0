"""What the headers of the world's cameras and programs say about a frame, in one vocabulary.

Every quantity has a list of keywords, the most reliable first. A value that makes no sense (text for an exposure,
-999 degrees) is a missing value: the next keyword is asked, and no header can raise an exception here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

from ostcal.fits.cards import Header
from ostcal.frames import CameraSettings, FrameMetadata, FrameType

_TYPE_KEYS = ("IMAGETYP", "IMAGETYPE", "OBSTYPE", "FRAMETYP", "FRAMETYPE", "FRAME", "DATA-TYP", "OBS_TYPE")
_EXPOSURE_KEYS = ("EXPTIME", "EXPOSURE", "EXP_TIME", "EXP-TIME", "ITIME", "EXPOSE", "TEXP", "INTTIME")
_SET_TEMPERATURE_KEYS = ("SET-TEMP", "SETTEMP", "SET_TEMP", "CCDTSET", "CCD-TSET", "CCDSETP")
_CCD_TEMPERATURE_KEYS = ("CCD-TEMP", "CCDTEMP", "CCD_TEMP", "TEMPERAT", "DET-TEMP", "DETTEMP", "DET_TEMP", "SENSTEMP")
_CAMERA_ID = re.compile(r"camera_id[=_-](.+)", re.IGNORECASE)
_BINNING_KEYS = (
    ("XBINNING", "YBINNING"),
    ("CCDXBIN", "CCDYBIN"),
    ("CCDBINX", "CCDBINY"),
    ("XBIN", "YBIN"),
    ("BINX", "BINY"),
)
_BINNING_PAIR_KEYS = ("BINNING", "CCDSUM")
_LONGITUDE_KEYS = ("SITELONG", "SITELON", "OBSGEO-L", "LONGITUD", "LONG-OBS", "SITE-LON", "GEOLON", "ESO TEL GEOLON")
_LATITUDE_KEYS = ("SITELAT", "OBSGEO-B", "LATITUDE", "LAT-OBS", "SITE-LAT", "GEOLAT", "ESO TEL GEOLAT")
_FILTER_KEYS = ("FILTER", "INSFLNAM", "FILTNAM", "FILTER1")

_LONGEST_EXPOSURE_S = 1e6
"""Eleven days; larger numbers in EXPTIME are milliseconds, dates or rubbish."""
_LARGEST_BINNING = 64
_COLDEST_C, _WARMEST_C = -273.15, 100.0
"""Outside lie kelvins and the marks (-999) of programs that do not know the temperature."""


def metadata_from_header(header: Header, *, width: int, height: int, path: str) -> FrameMetadata:
    """Read what a header says of a frame; file and directory names stand in for kind and exposure.

    Parameters
    ----------
    header : Header
        Of the image; anything may stand in it.
    width, height : int
        Of the stored image, pixels.
    path : str
        Where the frame comes from: its file name and the two directories above it are fallbacks.

    Returns
    -------
    FrameMetadata
        With ``None`` for what is neither recorded nor guessed.
    """
    exposure_time_s = _exposure_from_header(header)
    if exposure_time_s is None:
        exposure_time_s = exposure_from_names(path)
    applied = _calibrations_applied(header)
    return FrameMetadata(
        frame_type=_frame_type(header, path, exposure_time_s),
        exposure_time_s=exposure_time_s,
        width=width,
        height=height,
        settings=_settings(header, path),
        filter_name=header.text(*_FILTER_KEYS),
        set_temperature_c=header.number(*_SET_TEMPERATURE_KEYS, low=_COLDEST_C, high=_WARMEST_C),
        ccd_temperature_c=header.number(*_CCD_TEMPERATURE_KEYS, low=_COLDEST_C, high=_WARMEST_C),
        date_obs=_date_obs(header),
        longitude_deg=_longitude_deg(header),
        bayer_pattern=_bayer_pattern(header),
        row_order=_row_order(header),
        pixel_size_um=_pixel_size_um(header),
        egain_e_per_adu=header.number("EGAIN", "E-GAIN", "CVF", low=1e-6, high=1e4),
        dark_subtracted="D" in applied,
        bias_subtracted="B" in applied,
        flat_divided="F" in applied,
        is_master=_is_master(header, path),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Kind

_DARK_FLAT = re.compile(r"dark[\W_]*flat|flat[\W_]*dark")
_LIGHT_VALUE = re.compile(r"\b(light|science)", re.IGNORECASE)
_CALIBRATION_VALUES = (
    (re.compile(r"dark", re.IGNORECASE), FrameType.DARK),
    (re.compile(r"bias|zero|offset", re.IGNORECASE), FrameType.BIAS),
    (re.compile(r"flat", re.IGNORECASE), FrameType.FLAT),
)
_OTHER_VALUE = re.compile(
    r"\b(object|obj|target|sky|comp|comparison|arc|lamp|focus|std|standard|acq|acquisition|test)\b", re.IGNORECASE
)

_NAME_START = r"(?<![a-z])(?:masters?|super|sky|dome|twilight|twi|lamp|screen|panel|raw)?[\W_]*"
# no part of a longer word (flatiron, darkstar), nothing that was done to the frame (dark_subtracted, flat-corrected)
_NAME_END = r"(?:frames?|fields?|s|es)?(?![a-z])(?![\W_]*(?:sub(?:tracted)?|corr|div|calib|remov))"
_NAME_WORDS = (
    (re.compile(_NAME_START + r"(?:dark|dark[\W_]*flat|flat[\W_]*dark)" + _NAME_END), FrameType.DARK),
    (re.compile(_NAME_START + r"(?:bias|zero(?:es)?)" + _NAME_END), FrameType.BIAS),
    # only at the start: 'offset' inside a name is the camera's setting (gain100_offset10_300s)
    (re.compile(r"^(?:master[\W_]*)?offset" + _NAME_END), FrameType.BIAS),
    (re.compile(_NAME_START + r"flat" + _NAME_END), FrameType.FLAT),
    (re.compile(r"(?<![a-z])(?:light|science)" + _NAME_END), FrameType.LIGHT),
)
_MASTER_NAME = re.compile(r"(?<![a-z])master(?:s?(?![a-z])|(?=dark|flat|bias|zero|offset|light))")


def _frame_type(header: Header, path: str, exposure_time_s: float | None) -> FrameType | None:
    """Say what a frame shows: the header, corrected by names where it calls a flat a light frame."""
    frame_type = _type_from_header(header)
    if frame_type is None:
        frame_type = type_from_names(path)
    elif frame_type is FrameType.LIGHT and type_from_names(path) is FrameType.FLAT:
        frame_type = FrameType.FLAT
    if frame_type is FrameType.DARK and exposure_time_s == 0.0:
        return FrameType.BIAS
    return frame_type


def _type_from_header(header: Header) -> FrameType | None:
    for keyword in _TYPE_KEYS:
        text = header.text(keyword)
        frame_type = _type_from_value(text) if text else None
        if frame_type is not None:
            return frame_type
    return None


def _type_from_value(text: str) -> FrameType | None:
    """Read a value such as ``Dark Frame``; arcs, focus and test pictures count as light, unknown words as nothing."""
    if _LIGHT_VALUE.search(text):
        return FrameType.LIGHT
    for pattern, frame_type in _CALIBRATION_VALUES:
        if pattern.search(text):
            return frame_type
    return FrameType.LIGHT if _OTHER_VALUE.search(text) else None


def type_from_names(path: str) -> FrameType | None:
    """Guess the kind from the file name, else from the nearest, else from the second nearest directory."""
    names = _nearest_names(path)
    for depth, name in enumerate(names):
        kinds = {frame_type for pattern, frame_type in _NAME_WORDS if pattern.search(name)}
        is_flat_dark = kinds == {FrameType.DARK, FrameType.FLAT} and (depth == 0 or bool(_DARK_FLAT.search(name)))
        if is_flat_dark:
            return FrameType.DARK
        if len(kinds) == 1:
            return kinds.pop()
        # a folder 'darks and flats' says nothing
    return None


def _nearest_names(path: str) -> list[str]:
    """Give the file name without its ending, and the names of the two directories above it, in lower case."""
    file_name, *directories = [part.lower() for part in PurePath(path).parts[::-1]] or [""]
    stem = re.sub(r"\.(?:fits?|fts)(?:\.(?:gz|fz))?$", "", file_name)
    return [stem, *directories[:2]]


def _is_master(header: Header, path: str) -> bool:
    """Whether a frame is a combination of others: its kind, counts of combined frames, or its file name say so."""
    if any("master" in (header.text(keyword) or "").lower() for keyword in _TYPE_KEYS):
        return True
    if (header.number("NCOMBINE", "STACKCNT") or 0) > 1 or header.value("COMBINED") is True:
        return True
    return _MASTER_NAME.search(_nearest_names(path)[0]) is not None


# ---------------------------------------------------------------------------------------------------------------------
# Exposure

_NAME_EXPOSURE = re.compile(
    r"(?<![a-z0-9.])(?:exp(?:osure|time|o)?[\W_]*)?(\d+(?:\.\d+)?)[ _]?(s|secs?|seconds?|ms)(?![a-z0-9])"
)


def _exposure_from_header(header: Header) -> float | None:
    return header.number(*_EXPOSURE_KEYS, low=0.0, high=_LONGEST_EXPOSURE_S)


def exposure_from_names(path: str) -> float | None:
    """Guess the exposure in seconds from names such as ``exp_5.000s``, ``Dark_0.5sec`` and ``300s``."""
    for name in _nearest_names(path):
        match = _NAME_EXPOSURE.search(name)
        if match:
            seconds = float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)
            if seconds <= _LONGEST_EXPOSURE_S:
                return seconds
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Camera settings and sensor


def _settings(header: Header, path: str) -> CameraSettings:
    return CameraSettings(
        camera=header.text("INSTRUME", "CAMERA"),
        camera_id=header.text("CAMERAID", "CAMERA_ID") or camera_id_from_names(path),
        gain=header.number("GAIN", low=-1e6, high=1e6),
        offset=header.number("OFFSET", "BLKLEVEL", low=-1e6, high=1e6),
        binning=_binning(header),
        readout_mode=header.text("READOUTM", "READMODE", "READOUT"),
    )


def camera_id_from_names(path: str) -> str | None:
    """Give the camera or detector that a directory of a path names: ``camera_id=NAME``, ``camera_id_NAME``."""
    found = [match[1] for part in PurePath(path).parts if (match := _CAMERA_ID.fullmatch(part))]
    return found[-1] if found else None


def _binning(header: Header) -> tuple[int, int]:
    for x_key, y_key in _BINNING_KEYS:
        x, y = (header.number(key, low=1, high=_LARGEST_BINNING) for key in (x_key, y_key))
        if x is not None or y is not None:
            return int(x or y or 1), int(y or x or 1)
    for keyword in _BINNING_PAIR_KEYS:
        numbers = [int(number) for number in re.findall(r"\d{1,3}", header.text(keyword) or "")]
        if 1 <= len(numbers) <= 2 and all(1 <= number <= _LARGEST_BINNING for number in numbers):
            return numbers[0], numbers[-1]
    return 1, 1


def _bayer_pattern(header: Header) -> str | None:
    """Give the colours of the pixels (0, 0), (0, 1), (1, 0), (1, 1) of the stored array, row by row."""
    for keyword in ("BAYERPAT", "COLORTYP", "CFA-PAT", "CFAPAT", "CFA_PATT"):
        pattern = (header.text(keyword) or "").upper()
        if pattern in ("RGGB", "BGGR", "GRBG", "GBRG"):
            break
    else:
        return None
    # an odd offset: the first column (row) of the pattern lies outside of the stored array
    if (header.number("XBAYROFF", low=-1e6, high=1e6) or 0) % 2 == 1:
        pattern = pattern[1] + pattern[0] + pattern[3] + pattern[2]
    if (header.number("YBAYROFF", low=-1e6, high=1e6) or 0) % 2 == 1:
        pattern = pattern[2:] + pattern[:2]
    return pattern


def _row_order(header: Header) -> str | None:
    order = (header.text("ROWORDER") or "").upper().replace("_", "-")
    return order if order in ("TOP-DOWN", "BOTTOM-UP") else None


def _pixel_size_um(header: Header) -> tuple[float, float] | None:
    x = header.number("XPIXSZ", "XPIXELSZ", "PIXSIZE1", low=0.01, high=1000.0)
    y = header.number("YPIXSZ", "YPIXELSZ", "PIXSIZE2", low=0.01, high=1000.0)
    if x is None and y is None:
        return None
    return x or y or 0.0, y or x or 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Date

_ISO_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]+(\S.*))?")
_OLD_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{2}|\d{4})(?:[T ]+(\S.*))?")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?\s*(?:Z|UTC?|([+-])(\d{2}):?(\d{2}))?", re.IGNORECASE)
_CENTURY_PIVOT = 70
"""Years 70 to 99 of the old dd/mm/yy are of the twentieth century; programs went on writing it after 1999."""
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_JD_OF_MJD_EPOCH = 2400000.5


def _date_obs(header: Header) -> datetime | None:
    """Give the start of the exposure in UTC; a date without any time is the last resort."""
    day: datetime | None = None
    for keyword in ("DATE-OBS", "DATE-BEG", "DATEOBS"):
        date, time_text = _split_date(header.text(keyword) or "")
        if date is None:
            continue
        clock = _clock(time_text) if time_text else _clock_of_other_cards(header)
        if clock is not None:
            return date + clock
        day = day or date
    mjd = header.number("MJD-OBS", "MJD-BEG", "MJD", low=-20000.0, high=120000.0)
    if mjd is None:
        jd = header.number("JD", "JD-OBS", low=_JD_OF_MJD_EPOCH - 20000.0, high=_JD_OF_MJD_EPOCH + 120000.0)
        mjd = None if jd is None else jd - _JD_OF_MJD_EPOCH
    return day if mjd is None else _MJD_EPOCH + timedelta(days=mjd)


def _split_date(text: str) -> tuple[datetime | None, str | None]:
    """Read the day at the start of a text; give the day at midnight and the rest."""
    match = _ISO_DATE.fullmatch(text)
    if match:
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    else:
        match = _OLD_DATE.fullmatch(text)
        if match is None:
            return None, None
        day, month, year = int(match[1]), int(match[2]), int(match[3])
        if year < 100:
            year += 1900 if year >= _CENTURY_PIVOT else 2000
    try:
        date = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None, None
    return (date, match[4]) if 1800 <= year <= 2200 else (None, None)


def _clock_of_other_cards(header: Header) -> timedelta | None:
    for keyword in ("TIME-OBS", "UT", "UTC", "UTSTART", "UT-OBS"):
        text = header.text(keyword)
        clock = _clock(text.rsplit("T", 1)[-1]) if text else None
        if clock is not None:
            return clock
    return None


def _clock(text: str) -> timedelta | None:
    """Read ``hh:mm:ss.sss`` with or without zone; give the time since midnight UTC (a leap second is 60 s)."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), float(match[3] or 0)
    if hours > 24 or minutes > 59 or seconds >= 61:
        return None
    clock = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if match[4]:
        zone = timedelta(hours=int(match[5]), minutes=int(match[6]))
        clock += -zone if match[4] == "+" else zone
    return clock


# ---------------------------------------------------------------------------------------------------------------------
# Site

_ANGLE = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<deg>\d{1,3}(?:\.\d*)?)(?:[\s:d]+(?P<min>\d{1,2}(?:\.\d*)?))?"
    r"(?:[\s:m']+(?P<sec>\d{1,2}(?:\.\d*)?))?[\s\"'s]*(?P<side>[EW]?)",
    re.IGNORECASE,
)


def _longitude_deg(header: Header) -> float | None:
    """Read the longitude, positive east, from ``-17.88`` or ``-17 52 48``; 0 without a latitude is "not set"."""
    for keyword in _LONGITUDE_KEYS:
        match = _ANGLE.fullmatch(header.text(keyword) or "")
        if match is None:
            continue
        degrees = sum(float(match[part] or 0) / scale for part, scale in (("deg", 1), ("min", 60), ("sec", 3600)))
        if degrees == 0 and not header.number(*_LATITUDE_KEYS):
            continue
        if degrees <= 360:
            is_west = match["sign"] == "-" or match["side"].upper() == "W"
            return (180 + (-degrees if is_west else degrees)) % 360 - 180
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Calibrations already applied

_CALIBRATED_LINES = {
    "D": re.compile(
        r"\bdark(?:s|[\W_]+frames?|[\W_]+image)?[\W_]+(?:was|were|has been|is)?[\W_]*(?:subtract|correct)"
        r"|subtract\w*\W+(?:\w+\W+){0,3}dark|calibrat\w*\s*(?:with\b|using\b|by\b|[:(]).*\bdark"
    ),
    "B": re.compile(
        r"\b(?:bias|zero)(?:[\W_]+frames?|[\W_]+image)?[\W_]+(?:was|were|has been|is)?[\W_]*(?:subtract|correct)"
        r"|subtract\w*\W+(?:\w+\W+){0,3}bias|calibrat\w*\s*(?:with\b|using\b|by\b|[:(]).*\bbias"
    ),
    "F": re.compile(
        r"\bflat(?:s|[\W_]*field(?:ed|ing)?|[\W_]+frames?)?[\W_]+(?:was|were|has been|is)?[\W_]*(?:divi|correct|appl)"
        r"|divid\w*\W+(?:\w+\W+){0,3}flat|calibrat\w*\s*(?:with\b|using\b|by\b|[:(]).*\bflat|^flat[\W_]*field[\W_]*\("
    ),
}
_NEGATED = re.compile(r"\b(?:no(?!\.)|not|without|never|off|disabled|none|skipped)\b")
_IRAF_CARDS = {"D": "DARKCOR", "B": "ZEROCOR", "F": "FLATCOR"}
_IRAF_UNDONE = frozenset({"", "no", "n", "f", "false", "omit", "none", "perform", "0"})


def _calibrations_applied(header: Header) -> frozenset[str]:
    """Say which of B(ias), D(ark), F(lat) a header calls applied: in CALSTAT, IRAF's cards, or HISTORY."""
    applied = set(_calstat_letters(header.text("CALSTAT") or ""))
    for letter, keyword in _IRAF_CARDS.items():
        value = header.value(keyword)
        if value is True or (isinstance(value, str) and value.strip().lower() not in _IRAF_UNDONE):
            applied.add(letter)
    for line in header.commentary("HISTORY"):
        text = line.lower()
        if not _NEGATED.search(text):
            applied.update(letter for letter, pattern in _CALIBRATED_LINES.items() if pattern.search(text))
    return frozenset(applied)


def _calstat_letters(text: str) -> set[str]:
    """Read CALSTAT: letters such as ``BDF`` (M: a master), or words such as ``BIAS, DARK``."""
    text = text.upper()
    if re.fullmatch(r"[BDFM\W_]*", text):
        return set(text) & set("BDF")
    return {word[0] for word in re.findall(r"\b(?:BIAS|DARK|FLAT)", text)}
