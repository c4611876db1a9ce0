"""What a header says of a frame, whatever camera or program wrote it (`ostcal.fits.dialects`).

A value that cannot be true (-999 degrees) is a missing value; one that cannot be read (text for an exposure) is named
in `FrameMetadata.unreadable`. No header raises an exception.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

from ostcal.fits import dialects
from ostcal.fits.cards import CardValue, Header
from ostcal.fits.dates import start_of
from ostcal.fits.filters import filter_of
from ostcal.fits.kinds import is_name_of_master, kind_of, nearest_names, without_numbers
from ostcal.fits.kinds import type_from_names as type_from_names
from ostcal.fits.optics import optics_of
from ostcal.fits.quantities import SECONDS, UNKNOWN_WORDS, Reading
from ostcal.frames import CameraSettings, FrameMetadata, FullScaleCard

_SMALLEST_CONTRADICTION = 0.02
"""Share by which two cards of one exposure may differ: one is what was asked for, the other what a clock measured."""
_ANGLE = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<deg>\d{1,3}(?:\.\d*)?)(?:[\s:d]+(?P<min>\d{1,2}(?:\.\d*)?))?"
    r"(?:[\s:m']+(?P<sec>\d{1,2}(?:\.\d*)?))?[\s\"'s]*(?P<side>[EW]?)",
    re.IGNORECASE,
)


def metadata_from_header(
    header: Header, *, width: int, height: int, path: str, remarks: tuple[str, ...] = ()
) -> FrameMetadata:
    """Read what a header says of a frame; file and directory names stand in for kind, exposure and filter.

    What is neither recorded nor guessed is ``None``; what is recorded and cannot be read is named in `unreadable`.
    `width` and `height` are those of the stored image, in pixels. `remarks` are those of reading the file.
    """
    exposure = _exposure(header, path)
    set_c, ccd_c = dialects.SET_TEMPERATURE_C.read(header), _ccd_temperature(header)
    gain, offset = dialects.GAIN.read(header), dialects.OFFSET.read(header)
    binning, binning_problem, binning_remark = _binning(header)
    problems = (exposure.problem, gain.problem, offset.problem, binning_problem, set_c.problem, ccd_c.problem)
    said_twice = (exposure.remark, gain.remark, offset.remark, binning_remark, set_c.remark, ccd_c.remark)
    pixel_x, pixel_y = dialects.PIXEL_WIDTH_UM.of(header), dialects.PIXEL_HEIGHT_UM.of(header)
    applied, status_remark = _calibrations_applied(header)
    order = _row_order(header)
    kind = kind_of(header, path, exposure.value)
    longitude_deg = _longitude_deg(header)
    start = start_of(header, exposure.value or 0.0, longitude_deg)
    return FrameMetadata(
        frame_type=kind.frame_type,
        exposure_time_s=exposure.value,
        width=width,
        height=height,
        settings=CameraSettings(
            camera=header.text(*dialects.CAMERA),
            camera_id=header.text(*dialects.CAMERA_ID) or camera_id_from_names(path),
            gain=_seven_digits(gain.value if gain.value is not None else gain_from_names(path)),
            offset=_seven_digits(offset.value),
            binning=binning or (1, 1),
            readout_mode=header.text(*dialects.READOUT_MODE),
            iso=_iso_beside_gain(header),
            coadds=_coadds(header),
            subframe_origin=_origin(header),
            row_order=order,
            flip=_flip(header),
        ),
        states_binning=binning is not None,
        filter_name=filter_of(header, path, kind.frame_type),
        optics=optics_of(header),
        set_temperature_c=set_c.value,
        ccd_temperature_c=ccd_c.value,
        date_obs=start.utc,
        longitude_deg=longitude_deg,
        bayer_pattern=_bayer_pattern(header),
        row_order=order,
        pixel_size_um=(pixel_x or pixel_y or 0.0, pixel_y or pixel_x or 0.0) if pixel_x or pixel_y else None,
        egain_e_per_adu=dialects.EGAIN_E_PER_ADU.of(header),
        full_scale=_full_scale(header),
        dark_subtracted="D" in applied,
        bias_subtracted="B" in applied,
        flat_divided="F" in applied,
        is_master=_is_master(header, path),
        unreadable=tuple(dict.fromkeys(filter(None, (*problems, _why_processed(header, path))))),
        remarks=(*remarks, *kind.remarks, *filter(None, (*said_twice, status_remark, start.remark))),
    )


def _is_master(header: Header, path: str) -> bool:
    said = header.present(dialects.FRAME_TYPE)
    if any("master" in (header.text(keyword) or "").lower() for keyword in said):
        return True
    if (dialects.N_COMBINED.of(header) or 0) > 1:
        return True
    if any(_says_done(header.value(keyword)) for keyword in header.present(dialects.COMBINED)):
        return True
    if any(value.search(header.text(keyword) or "") for keyword, value in dialects.COMBINED_VALUES.items()):
        return True
    if any(dialects.COMBINED_LINE.search(line.lower()) for line in header.commentary("HISTORY")):
        return True
    return is_name_of_master(without_numbers(nearest_names(path)[0]))


def _why_processed(header: Header, path: str) -> str:
    """Say that a frame is one of those that Siril calibrated, which does not record how."""
    if not dialects.SIRIL_NAME.search(nearest_names(path)[0]):
        return ""
    if "siril" not in (header.text("PROGRAM", "SWCREATE", "CREATOR") or "").lower():
        return ""
    return "its name (pp_) says that Siril calibrated it, and its header not how; take the raw frame"


# ---- exposure, camera and sensor ----


def _exposure(header: Header, path: str) -> Reading:
    """Return the exposure in seconds: of the header, else of names; cards that contradict each other say nothing."""
    reading = dialects.EXPOSURE_S.read(header)
    if reading.problem:
        return reading
    if reading.value is None:
        return exposure_from_text(path)
    stated = header.present(dialects.STATED_EXPOSURES)
    if len(stated) < 2 or (reading.value and len({header.value(keyword) for keyword in stated}) == 1):
        return reading
    others = {keyword: dialects.STATED_EXPOSURES_S[keyword].of(header) or 0.0 for keyword in stated}
    first = next((keyword for keyword, value in others.items() if value == reading.value), stated[0])
    for keyword, other in others.items():
        if other and not reading.value:  # 0 may be a quarter of a second that was written as a whole number
            problem = f"{first} is 0 and {keyword} {other:g} s: its exposure is not known; repair the header"
            return Reading(value=other) if other < 1 else Reading(problem=problem)
        if other and _contradict(reading.value, other, header):
            remark = f"{first} is {reading.value:g} s, but {keyword} {other:g} s: taken as {reading.value:g} s"
            return replace(reading, remark=remark)
    return reading


def _contradict(taken_s: float, other_s: float, header: Header) -> bool:
    """Return whether two exposures are neither one, nor one in other units, nor that of one of several coadds."""
    scales = (1.0, 1e3, 1e6, float(_coadds(header) or 1))
    ratio = max(taken_s, other_s) / min(taken_s, other_s)
    return all(abs(ratio / scale - 1) > _SMALLEST_CONTRADICTION for scale in scales)


def exposure_from_names(path: str) -> float | None:
    """Guess the exposure in seconds from names such as ``exp_5.000s``, ``Dark_0,5sec``, ``300s`` and ``Tv1-250s``."""
    return exposure_from_text(path).value


def exposure_from_text(path: str) -> Reading:
    """Guess the exposure in seconds from the file name, else from the two folders above it; or say why not."""
    for name in nearest_names(path):
        if fraction := dialects.FRACTION_NAME.search(name):
            return Reading(value=1 / int(fraction[1])) if int(fraction[1]) else Reading()
        if doubtful := dialects.DOUBTFUL_NAME.search(name):
            what = f"{doubtful[0]} in its name is an exposure, or a number and an exposure"
            return Reading(problem=f"{what}: its exposure is not known; write EXPTIME into its header, or rename it")
        if before_gain := dialects.EXPOSURE_BEFORE_GAIN_NAME.search(name):
            return Reading(value=float(before_gain[1]))
        match = dialects.EXPOSURE_NAME.search(name)
        if match:
            number = float(f"{match['whole']}.{match['part'] or '0'}{match['power'] or ''}")
            seconds = float(f"{number * SECONDS[match['unit']]:.12g}")
            if seconds <= dialects.EXPOSURE_S.high:
                return Reading(value=seconds)
    return Reading()


def camera_id_from_names(path: str) -> str | None:
    """Return the camera or detector that a directory of a path names: ``camera_id=NAME``, ``camera_id_NAME``."""
    if "camera_id" not in path.lower():
        return None
    found = [match[1] for part in PurePath(path).parts if (match := dialects.CAMERA_ID_NAME.fullmatch(part))]
    return found[-1] if found else None


def _ccd_temperature(header: Header) -> Reading:
    quantity = dialects.CCD_TEMPERATURE_C
    if dialects.ANDOR in header:
        quantity = replace(quantity, keywords=(*quantity.keywords, dialects.ANDOR_TEMPERATURE))
    return quantity.read(header)


def gain_from_names(path: str) -> float | None:
    """Guess the gain from the file name, else from the nearest folders: ``gain100``, ``gain_2``."""
    names = [name for name in nearest_names(path) if "gain" in name or "iso" in name]
    found = (dialects.GAIN_NAME.search(name) for name in names)
    return next((float(match[1]) for match in found if match), None)


def _seven_digits(value: float | None) -> float | None:
    """Round to what a 32-bit float holds: programs write 0.246 as 0.246000007."""
    return None if value is None else float(f"{value:.7g}")


def _iso_beside_gain(header: Header) -> float | None:
    """Return the ISO speed where the header has a gain besides it."""
    return dialects.ISO.of(header) if header.text("GAIN") else None


def _coadds(header: Header) -> int | None:
    coadds = dialects.COADDS.of(header)
    return None if coadds is None else int(coadds)


def _origin(header: Header) -> tuple[int, int] | None:
    """Return the first column and the first row of a subframe."""
    if not header.has_any(dialects.ORIGIN_KEYWORDS):
        return None
    for keywords_x, keywords_y in dialects.ORIGIN:
        x, y = keywords_x.of(header), keywords_y.of(header)
        if x is not None and y is not None:
            return round(x), round(y)
    section = dialects.SECTION.fullmatch(header.text(dialects.DETECTOR_SECTION) or "")
    if section is None:
        return None
    x1, x2, y1, y2 = map(int, section.groups())
    return min(x1, x2), min(y1, y2)


def _flip(header: Header) -> str | None:
    """Return how a program turned the image over, ``none`` where it says that it did not."""
    if dialects.FLIP not in header:
        return None
    return header.text(dialects.FLIP) or "none"


def _row_order(header: Header) -> str | None:
    if not header.present(dialects.ROW_ORDER):
        return None
    order = re.sub(r"[\W_]+", "", (header.text(*dialects.ROW_ORDER) or "").upper())
    return {"TOPDOWN": "TOP-DOWN", "BOTTOMUP": "BOTTOM-UP"}.get(order)


def _binning(header: Header) -> tuple[tuple[int, int] | None, str, str]:
    """Return the binning along a row and a column, ``None`` where nothing is said; why it cannot be read; a remark."""
    found, problem = _binning_in_pairs(header)
    for keyword in header.present(dialects.BINNING_TEXT):
        text = header.text(keyword)
        is_pair = found is not None and keyword == dialects.BINNING[0][0].keywords[0]
        if text is None or is_pair or text.lower() in UNKNOWN_WORDS:
            continue
        other = _binning_in_text(text)
        if other is None:
            problem = problem or f"{keyword} is {text!r}: its binning is not known; repair the header"
        elif found is None:
            found = other
        elif other != found:
            bins = f"{found[0]}x{found[1]}"
            return found, "", f"{keyword} is {text!r}, but other cards say a binning of {bins}: taken as {bins}"
    return found, "" if found is not None else problem, ""


def _binning_in_pairs(header: Header) -> tuple[tuple[int, int] | None, str]:
    """Return the binning of the first pair of cards, and why it cannot be read."""
    if not header.has_any(dialects.BINNING_KEYWORDS):
        return None, ""
    problem = ""
    for keywords_x, keywords_y in dialects.BINNING:
        x, y = keywords_x.read(header), keywords_y.read(header)
        if x.value is not None or y.value is not None:
            both = x.value or y.value or 1.0, y.value or x.value or 1.0
            if not all(value.is_integer() for value in both):
                keyword = keywords_x.keywords[0]
                return None, f"{keyword} is {header.value(keyword)!r}: its binning is not known; repair the header"
            return (int(both[0]), int(both[1])), ""
        problem = problem or x.problem or y.problem
    return None, problem


def _binning_in_text(text: str) -> tuple[int, int] | None:
    """Return the binning in a text such as ``2x2``, ``None`` where it says none."""
    if text.lower() in dialects.NOT_BINNED:
        return 1, 1
    match = dialects.BINNING_IN_TEXT.fullmatch(text)
    numbers = [int(number) for number in match.groups() if number] if match else []
    if not numbers or not all(1 <= number <= dialects.LARGEST_BINNING for number in numbers):
        return None
    return numbers[0], numbers[-1]


def _full_scale(header: Header) -> FullScaleCard | None:
    """Return the card that says at which level samples end; 8 bits end at 255 above their zero."""
    for keyword in dialects.FULL_SCALE_ADU:
        value = header.number(keyword, low=dialects.LEAST_FULL_SCALE_ADU)
        if value is not None:
            return keyword, value
    if header.value("BITPIX") == 8 and (header.number("BSCALE") or 1.0) == 1.0:
        return "BITPIX 8", 255.0 + (header.number("BZERO") or 0.0)
    return None


def _bayer_pattern(header: Header) -> str | None:
    """Return the colours of the pixels (0, 0), (0, 1), (1, 0), (1, 1) of the stored array, row by row."""
    found = ((header.text(keyword) or "").upper() for keyword in dialects.BAYER_PATTERN)
    match = next((match for text in found if (match := dialects.BAYER_PATTERN_IN_TEXT.search(text))), None)
    if match is None:
        return None
    pattern = match[0]
    # an odd offset: the first column (row) of the pattern lies outside of the stored array
    if (dialects.BAYER_X_OFFSET.of(header) or 0) % 2 == 1:
        pattern = pattern[1] + pattern[0] + pattern[3] + pattern[2]
    if (dialects.BAYER_Y_OFFSET.of(header) or 0) % 2 == 1:
        pattern = pattern[2:] + pattern[:2]
    return pattern


def settings_cards(settings: CameraSettings) -> list[tuple[str, CardValue, str]]:
    """Return the cards of settings that few cameras have."""
    origin = settings.subframe_origin
    return [
        ("ISOSPEED", settings.iso, "ISO speed of the camera"),
        ("COADDS", settings.coadds, "exposures added up to a frame"),
        ("XORGSUBF", origin[0] if origin else None, "first column of the subframe"),
        ("YORGSUBF", origin[1] if origin else None, "first row of the subframe"),
        ("FLIPSTAT", "" if settings.flip == "none" else settings.flip, "how the image was turned over"),
    ]


# ---- site ----


def _longitude_deg(header: Header) -> float | None:
    """Read the longitude, positive east, from ``-17.88`` or ``-17 52 48``; 0 without a latitude is "not set"."""
    for keyword in header.present(dialects.LONGITUDE):
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


def _calibrations_applied(header: Header) -> tuple[set[str], str]:
    """Return which of B(ias), D(ark), F(lat) a header calls applied, in CALSTAT, cards or HISTORY; and a remark."""
    applied, remark = _calibration_status(header)
    for letter, keywords in dialects.CALIBRATED.items():
        if any(_says_done(header.value(keyword)) for keyword in header.present(keywords)):
            applied.add(letter)
    for line in header.commentary("HISTORY"):
        text = line.lower()
        parts = re.split("[;,]", text) if dialects.NEGATED_LINE.search(text) else [text]
        for part in parts:
            if not dialects.NEGATED_LINE.search(part):
                applied.update(letter for letter, pattern in dialects.CALIBRATED_LINES.items() if pattern.search(part))
    return applied, "" if applied else remark


def _calibration_status(header: Header) -> tuple[set[str], str]:
    """Read letters such as OTBDF (O: overscan, T: trim, M: a master), else words such as BIAS, DARK."""
    said = header.text(*dialects.CALIBRATION_STATUS) or ""
    status = said.upper()
    if dialects.NO_STATUS.fullmatch(status):
        return set(), ""
    if re.fullmatch(r"[BDFMOTCZS\W\d_]*", status):
        return set(status.replace("Z", "B")) & set("BDF"), ""
    applied = {word[0] for word in re.findall(r"(?<![A-Z])(?:BIAS|DARK|FLAT)", status)}
    return applied, "" if applied else f"CALSTAT is {said!r}, which does not say what was subtracted: taken as raw"


def _says_done(value: CardValue) -> bool:
    """Return whether the value of a card says that a step was done: T, 1, COMPLETE, the name of a master, a date."""
    if value is None or isinstance(value, bool):
        return value is True
    if isinstance(value, str):
        text = value.strip().lower()
        return text not in dialects.NOT_CALIBRATED and not dialects.NOT_CALIBRATED_START.match(text)
    return value != 0
