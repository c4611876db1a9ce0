"""What a header says of a frame, whatever camera or program wrote it (`ostcal.fits.dialects`).

A value that cannot be true (text for an exposure, -999 degrees) is a missing value, and no header raises an exception.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

from ostcal.fits import dialects
from ostcal.fits.cards import Header
from ostcal.frames import CameraSettings, FrameMetadata, FrameType

_ISO_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]+(\S.*))?")
_OLD_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{2}|\d{4})(?:[T ]+(\S.*))?")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?\s*(?:Z|UTC?|([+-])(\d{2}):?(\d{2}))?", re.IGNORECASE)
_CENTURY_PIVOT = 70
"""Years 70 to 99 of the old dd/mm/yy are of the twentieth century; programs went on writing it after 1999."""
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_JD_OF_MJD_EPOCH = 2400000.5
_ANGLE = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<deg>\d{1,3}(?:\.\d*)?)(?:[\s:d]+(?P<min>\d{1,2}(?:\.\d*)?))?"
    r"(?:[\s:m']+(?P<sec>\d{1,2}(?:\.\d*)?))?[\s\"'s]*(?P<side>[EW]?)",
    re.IGNORECASE,
)


def metadata_from_header(header: Header, *, width: int, height: int, path: str) -> FrameMetadata:
    """Read what a header says of a frame; file and directory names stand in for kind and exposure.

    What is neither recorded nor guessed is ``None``. `width` and `height` are those of the stored image, in pixels.
    """
    exposure_time_s = dialects.EXPOSURE_S.of(header)
    if exposure_time_s is None:
        exposure_time_s = exposure_from_names(path)
    order = (header.text(*dialects.ROW_ORDER) or "").upper().replace("_", "-")
    pixel_x, pixel_y = dialects.PIXEL_WIDTH_UM.of(header), dialects.PIXEL_HEIGHT_UM.of(header)
    applied = _calibrations_applied(header)
    says_master = any("master" in (header.text(keyword) or "").lower() for keyword in dialects.FRAME_TYPE)
    is_combination = (dialects.N_COMBINED.of(header) or 0) > 1 or header.value("COMBINED") is True
    return FrameMetadata(
        frame_type=_frame_type(header, path, exposure_time_s),
        exposure_time_s=exposure_time_s,
        width=width,
        height=height,
        settings=CameraSettings(
            camera=header.text(*dialects.CAMERA),
            camera_id=header.text(*dialects.CAMERA_ID) or camera_id_from_names(path),
            gain=dialects.GAIN.of(header),
            offset=dialects.OFFSET.of(header),
            binning=_binning(header),
            readout_mode=header.text(*dialects.READOUT_MODE),
        ),
        filter_name=header.text(*dialects.FILTER),
        set_temperature_c=dialects.SET_TEMPERATURE_C.of(header),
        ccd_temperature_c=dialects.CCD_TEMPERATURE_C.of(header),
        date_obs=_date_obs(header),
        longitude_deg=_longitude_deg(header),
        bayer_pattern=_bayer_pattern(header),
        row_order=order if order in ("TOP-DOWN", "BOTTOM-UP") else None,
        pixel_size_um=(pixel_x or pixel_y or 0.0, pixel_y or pixel_x or 0.0) if pixel_x or pixel_y else None,
        egain_e_per_adu=dialects.EGAIN_E_PER_ADU.of(header),
        dark_subtracted="D" in applied,
        bias_subtracted="B" in applied,
        flat_divided="F" in applied,
        is_master=says_master or is_combination or bool(dialects.MASTER_NAME.search(_nearest_names(path)[0])),
    )


# ---- kind ----


def _frame_type(header: Header, path: str, exposure_time_s: float | None) -> FrameType | None:
    """Return what a frame shows: by its header, and by names where that says nothing or calls a flat a light frame."""
    values = [header.text(keyword) or "" for keyword in dialects.FRAME_TYPE]
    frame_type = next((kind for text in values for words, kind in dialects.VALUE_WORDS if words.search(text)), None)
    if frame_type is None:
        frame_type = type_from_names(path)
    elif frame_type is FrameType.LIGHT and type_from_names(path) is FrameType.FLAT:
        frame_type = FrameType.FLAT
    if frame_type is FrameType.DARK and exposure_time_s == 0.0:
        return FrameType.BIAS
    return frame_type


def type_from_names(path: str) -> FrameType | None:
    """Guess the kind from the file name, else from the nearest, else from the second nearest directory."""
    for depth, name in enumerate(_nearest_names(path)):
        kinds = {frame_type for pattern, frame_type in dialects.NAME_WORDS if pattern.search(name)}
        is_both = kinds == {FrameType.DARK, FrameType.FLAT}  # a dark of flats; a folder 'darks and flats' says nothing
        if is_both and (depth == 0 or dialects.DARK_FLAT_NAME.search(name)):
            return FrameType.DARK
        if len(kinds) == 1:
            return kinds.pop()
    return None


def _nearest_names(path: str) -> list[str]:
    """Return the file name without its ending, and the names of the two directories above it, in lower case."""
    file_name, *directories = [part.lower() for part in PurePath(path).parts[::-1]] or [""]
    stem = re.sub(r"\.(?:fits?|fts)(?:\.(?:gz|fz))?$", "", file_name)
    return [stem, *directories[:2]]


# ---- exposure, camera and sensor ----


def exposure_from_names(path: str) -> float | None:
    """Guess the exposure in seconds from names such as ``exp_5.000s``, ``Dark_0.5sec`` and ``300s``."""
    for name in _nearest_names(path):
        match = dialects.EXPOSURE_NAME.search(name)
        if match:
            seconds = float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)
            if seconds <= dialects.EXPOSURE_S.high:
                return seconds
    return None


def camera_id_from_names(path: str) -> str | None:
    """Return the camera or detector that a directory of a path names: ``camera_id=NAME``, ``camera_id_NAME``."""
    found = [match[1] for part in PurePath(path).parts if (match := dialects.CAMERA_ID_NAME.fullmatch(part))]
    return found[-1] if found else None


def _binning(header: Header) -> tuple[int, int]:
    for keywords_x, keywords_y in dialects.BINNING:
        x, y = keywords_x.of(header), keywords_y.of(header)
        if x is not None or y is not None:
            return int(x or y or 1), int(y or x or 1)
    for keyword in dialects.BINNING_TEXT:
        numbers = [int(number) for number in re.findall(r"\d{1,3}", header.text(keyword) or "")]
        if 1 <= len(numbers) <= 2 and all(1 <= number <= dialects.LARGEST_BINNING for number in numbers):
            return numbers[0], numbers[-1]
    return 1, 1


def _bayer_pattern(header: Header) -> str | None:
    """Return the colours of the pixels (0, 0), (0, 1), (1, 0), (1, 1) of the stored array, row by row."""
    found = ((header.text(keyword) or "").upper() for keyword in dialects.BAYER_PATTERN)
    pattern = next((text for text in found if text in dialects.BAYER_PATTERNS), None)
    if pattern is None:
        return None
    # an odd offset: the first column (row) of the pattern lies outside of the stored array
    if (dialects.BAYER_X_OFFSET.of(header) or 0) % 2 == 1:
        pattern = pattern[1] + pattern[0] + pattern[3] + pattern[2]
    if (dialects.BAYER_Y_OFFSET.of(header) or 0) % 2 == 1:
        pattern = pattern[2:] + pattern[:2]
    return pattern


# ---- date ----


def _date_obs(header: Header) -> datetime | None:
    """Return the start of the exposure in UTC; a date without any time is the last resort."""
    day: datetime | None = None
    for keyword in dialects.DATE:
        date, time_text = _split_date(header.text(keyword) or "")
        if date is None:
            continue
        times = [time_text] if time_text else [header.text(keyword) or "" for keyword in dialects.TIME_OF_DAY]
        since_midnight = next((found for text in times if (found := _since_midnight(text)) is not None), None)
        if since_midnight is not None:
            return date + since_midnight
        day = day or date
    mjd = dialects.MJD.of(header)
    if mjd is None and (jd := dialects.JD.of(header)) is not None:
        mjd = jd - _JD_OF_MJD_EPOCH
    return day if mjd is None else _MJD_EPOCH + timedelta(days=mjd)


def _split_date(text: str) -> tuple[datetime | None, str | None]:
    """Read the day at the start of a text; returns the day at midnight and the rest."""
    if match := _ISO_DATE.fullmatch(text):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    elif match := _OLD_DATE.fullmatch(text):
        day, month, year = int(match[1]), int(match[2]), int(match[3])
        if year < 100:
            year += 1900 if year >= _CENTURY_PIVOT else 2000
    else:
        return None, None
    try:
        date = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None, None
    return (date, match[4]) if 1800 <= year <= 2200 else (None, None)


def _since_midnight(text: str) -> timedelta | None:
    """Read ``hh:mm:ss.sss``, with a date before it or not, with a zone or not, as UTC (a leap second is 60 s)."""
    match = _TIME.fullmatch(re.sub(r".*T(?=\d)", "", text).strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), float(match[3] or 0)
    if hours > 24 or minutes > 59 or seconds >= 61:
        return None
    time_of_day = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if match[4]:
        zone = timedelta(hours=int(match[5]), minutes=int(match[6]))
        time_of_day += -zone if match[4] == "+" else zone
    return time_of_day


# ---- site ----


def _longitude_deg(header: Header) -> float | None:
    """Read the longitude, positive east, from ``-17.88`` or ``-17 52 48``; 0 without a latitude is "not set"."""
    for keyword in dialects.LONGITUDE:
        match = _ANGLE.fullmatch(header.text(keyword) or "")
        if match is None:
            continue
        degrees = sum(float(match[part] or 0) / scale for part, scale in (("deg", 1), ("min", 60), ("sec", 3600)))
        if degrees == 0 and not header.number(*dialects.LATITUDE):
            continue
        if degrees <= 360:
            is_west = match["sign"] == "-" or match["side"].upper() == "W"
            return (180 + (-degrees if is_west else degrees)) % 360 - 180
    return None


# ---- calibrations already applied ----


def _calibrations_applied(header: Header) -> set[str]:
    """Return which of B(ias), D(ark), F(lat) a header calls applied: in CALSTAT, IRAF's cards, or HISTORY."""
    status = (header.text(*dialects.CALIBRATION_STATUS) or "").upper()
    if re.fullmatch(
        r"[BDFMOT\W_]*", status
    ):  # letters such as OTBDF (O: overscan, T: trim, M: a master), else words such as BIAS, DARK
        applied = set(status) & set("BDF")
    else:
        applied = {word[0] for word in re.findall(r"\b(?:BIAS|DARK|FLAT)", status)}
    for letter, keyword in dialects.CALIBRATED.items():
        value = header.value(keyword)
        if value is True or (isinstance(value, str) and value.strip().lower() not in dialects.NOT_CALIBRATED):
            applied.add(letter)
    for line in header.commentary("HISTORY"):
        text = line.lower()
        if not dialects.NEGATED_LINE.search(text):
            applied.update(letter for letter, pattern in dialects.CALIBRATED_LINES.items() if pattern.search(text))
    return applied
