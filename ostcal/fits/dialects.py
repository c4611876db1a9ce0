"""What cameras and capture programs call things in headers and names: one row for a quantity, a word for a spelling.

To teach a new camera's spelling, add its keyword to the row of the quantity; the most reliable keyword stands first.
A value outside the bounds of a row is a missing value, and the next keyword is asked. Bounds are in the row's unit.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from ostcal.fits.cards import Header
from ostcal.frames import FrameType


class Number(NamedTuple):
    """A quantity that is a number."""

    keywords: tuple[str, ...]
    low: float = -math.inf
    high: float = math.inf

    def of(self, header: Header) -> float | None:
        """Return the first number within the bounds; ``None`` where no keyword has one."""
        return header.number(*self.keywords, low=self.low, high=self.high)


# ---- texts ----

FRAME_TYPE: Final = ("IMAGETYP", "IMAGETYPE", "OBSTYPE", "FRAMETYP", "FRAMETYPE", "FRAME", "DATA-TYP", "OBS_TYPE")
FILTER: Final = ("FILTER", "INSFLNAM", "FILTNAM", "FILTER1")
CAMERA: Final = ("INSTRUME", "CAMERA")
CAMERA_ID: Final = ("CAMERAID", "CAMERA_ID")
READOUT_MODE: Final = ("READOUTM", "READMODE", "READOUT")
BAYER_PATTERN: Final = ("BAYERPAT", "COLORTYP", "CFA-PAT", "CFAPAT", "CFA_PATT")
BAYER_PATTERNS: Final = ("RGGB", "BGGR", "GRBG", "GBRG")
ROW_ORDER: Final = ("ROWORDER",)
DATE: Final = ("DATE-OBS", "DATE-BEG", "DATEOBS")
TIME_OF_DAY: Final = ("TIME-OBS", "UT", "UTC", "UTSTART", "UT-OBS")
"""Of headers whose date has no time."""
BINNING_TEXT: Final = ("BINNING", "CCDSUM")
"""Both directions in one text: ``2x2``, ``2 2``."""
LONGITUDE: Final = (
    "SITELONG", "SITELON", "OBSGEO-L", "LONGITUD", "LONG-OBS", "SITE-LON", "GEOLON", "ESO TEL GEOLON",
)  # fmt: skip
LATITUDE: Final = ("SITELAT", "OBSGEO-B", "LATITUDE", "LAT-OBS", "SITE-LAT", "GEOLAT", "ESO TEL GEOLAT")
CALIBRATION_STATUS: Final = ("CALSTAT",)
CALIBRATED: Final = {"D": "DARKCOR", "B": "ZEROCOR", "F": "FLATCOR"}
"""IRAF's cards, by what was corrected."""
NOT_CALIBRATED: Final = frozenset({"", "no", "n", "f", "false", "omit", "none", "perform", "0"})
"""Values of these cards that say "not done"."""

# ---- numbers ----

EXPOSURE_S: Final = Number(
    ("EXPTIME", "EXPOSURE", "EXP_TIME", "EXP-TIME", "ITIME", "EXPOSE", "TEXP", "INTTIME"), 0.0, 1e6
)
"""Up to eleven days: larger numbers are milliseconds, dates or rubbish."""
SET_TEMPERATURE_C: Final = Number(("SET-TEMP", "SETTEMP", "SET_TEMP", "CCDTSET", "CCD-TSET", "CCDSETP"), -273.15, 100.0)
"""Outside lie kelvins and the marks (-999) of programs that do not know the temperature."""
CCD_TEMPERATURE_C: Final = Number(
    ("CCD-TEMP", "CCDTEMP", "CCD_TEMP", "TEMPERAT", "DET-TEMP", "DETTEMP", "DET_TEMP", "SENSTEMP"), -273.15, 100.0
)
GAIN: Final = Number(("GAIN",), -1e6, 1e6)
OFFSET: Final = Number(("OFFSET", "BLKLEVEL"), -1e6, 1e6)
EGAIN_E_PER_ADU: Final = Number(("EGAIN", "E-GAIN", "CVF"), 1e-6, 1e4)
PIXEL_WIDTH_UM: Final = Number(("XPIXSZ", "XPIXELSZ", "PIXSIZE1"), 0.01, 1000.0)
PIXEL_HEIGHT_UM: Final = Number(("YPIXSZ", "YPIXELSZ", "PIXSIZE2"), 0.01, 1000.0)
BAYER_X_OFFSET: Final = Number(("XBAYROFF",), -1e6, 1e6)
BAYER_Y_OFFSET: Final = Number(("YBAYROFF",), -1e6, 1e6)
MJD: Final = Number(("MJD-OBS", "MJD-BEG", "MJD"), -20000.0, 120000.0)
"""Days; 1804 to 2187."""
JD: Final = Number(("JD", "JD-OBS"), 2380000.5, 2520000.5)
N_COMBINED: Final = Number(("NCOMBINE", "STACKCNT"))
LARGEST_BINNING: Final = 64
BINNING: Final = tuple(
    (Number((x,), 1, LARGEST_BINNING), Number((y,), 1, LARGEST_BINNING))
    for x, y in (
        ("XBINNING", "YBINNING"),
        ("CCDXBIN", "CCDYBIN"),
        ("CCDBINX", "CCDBINY"),
        ("XBIN", "YBIN"),
        ("BINX", "BINY"),
    )
)
"""Along a row, and along a column."""

# ---- words for the kind of a frame ----

VALUE_WORDS: Final = tuple(
    (re.compile(words, re.IGNORECASE), frame_type)
    for words, frame_type in (
        (r"\b(?:light|science)", FrameType.LIGHT),
        ("dark", FrameType.DARK),
        ("bias|zero|offset", FrameType.BIAS),
        ("flat", FrameType.FLAT),
        (
            r"\b(?:object|obj|target|sky|comp|comparison|arc|lamp|focus|std|standard|acq|acquisition|test)\b",
            FrameType.LIGHT,
        ),
    )
)
"""In the values of `FRAME_TYPE`, such as ``Dark Frame``: the first that fits counts. Arcs, focus and test pictures are
light frames here; unknown words say nothing."""

_START = r"(?<![a-z])(?:masters?|super|sky|dome|twilight|twi|lamp|screen|panel|raw)?[\W_]*"
# no part of a longer word (flatiron, darkstar), nothing that was done to the frame (dark_subtracted, flat-corrected)
_END = r"(?:frames?|fields?|s|es)?(?![a-z])(?![\W_]*(?:sub(?:tracted)?|corr|div|calib|remov))"
NAME_WORDS: Final = (
    (re.compile(_START + r"(?:dark|dark[\W_]*flat|flat[\W_]*dark)" + _END), FrameType.DARK),
    (re.compile(_START + r"(?:bias|zero(?:es)?)" + _END), FrameType.BIAS),
    # only at the start: 'offset' inside a name is the camera's setting (gain100_offset10_300s)
    (re.compile(r"^(?:master[\W_]*)?offset" + _END), FrameType.BIAS),
    (re.compile(_START + r"flat" + _END), FrameType.FLAT),
    (re.compile(r"(?<![a-z])(?:light|science)" + _END), FrameType.LIGHT),
)
"""In names of files and directories, in lower case."""
DARK_FLAT_NAME: Final = re.compile(r"dark[\W_]*flat|flat[\W_]*dark")
MASTER_NAME: Final = re.compile(r"(?<![a-z])master(?:s?(?![a-z])|(?=dark|flat|bias|zero|offset|light))")
EXPOSURE_NAME: Final = re.compile(
    r"(?<![a-z0-9.])(?:exp(?:osure|time|o)?[\W_]*)?(\d+(?:\.\d+)?)[ _]?(s|secs?|seconds?|ms)(?![a-z0-9])"
)
CAMERA_ID_NAME: Final = re.compile(r"camera_id[=_-](.+)", re.IGNORECASE)

# ---- HISTORY of calibrated frames ----

CALIBRATED_LINES: Final = {
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
"""Lines in lower case that say so, by what was corrected."""
NEGATED_LINE: Final = re.compile(r"\b(?:no(?!\.)|not|without|never|off|disabled|none|skipped)\b")
