"""What cameras and capture programs call things in headers and names: one row for a quantity, a word for a spelling.

To teach a new camera's spelling, add its keyword to the row of the quantity; the most reliable keyword stands first.
A value outside the bounds of a row is a missing value, and the next keyword is asked. Bounds are in the row's unit.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ostcal.fits.quantities import SECONDS, Number
from ostcal.frames import FrameType

READING: Final = 3
"""Raised when headers are read in another way (here, `headers`, `dates`): what indices remember of files that were read
before is read again."""

# ---- texts ----

FRAME_TYPE: Final = (
    "IMAGETYP", "IMAGETYPE", "IMAGTYP", "IMTYPE", "KOAIMTYP", "ESO DPR TYPE", "DATA-TYP", "OBSTYPE", "OBS_TYPE",
    "OBS-TYPE", "EXPTYPE", "FRAMETYP", "FRAMETYPE", "FRAME-TYPE", "FRAME", "IMGTYPE", "IMG_TYPE", "IMAGE_TYPE",
    "CCDTYPE", "PICTTYPE", "CALFRAME", "ESO DPR CATG",
)  # fmt: skip
PICTURE_TYPES: Final = {1: FrameType.LIGHT, 2: FrameType.BIAS, 3: FrameType.DARK, 4: FrameType.FLAT}
"""Numbers in PICTTYPE (CCDSoft, TheSkyX)."""
OBJECT: Final = ("OBJECT", "OBJNAME", "TARGNAME", "ESO OBS TARG NAME")
FILTER: Final = (
    "FILTER", "INSFLNAM", "FILTNAM", "FILTERNM", "FILTNAME", "FILTERID", "WFFBAND", "ESO INS FILT1 NAME",
    "ESO INS FILT NAME", "FILTER-1", "ALFLTNM", "REDFILT", "BLUFILT", "DWFILNAM", "FWINAME", "FLT_ID", "CCDFLTID",
    "IRFLTID", "FILTNME", "FILTERS", "FILT-1",
)  # fmt: skip
"""The filter, or that of the first wheel."""
OTHER_WHEELS: Final = (
    "FILTER0", "FILTER1", "FILTER2", "FILTER3", "FILTER4", "FILTER01", "FILTER02", "FILTER03", "FILTER04", "FILTER-2",
    "FAFLTNM", "FBFLTNM", "FWONAME", "ESO INS FILT2 NAME", "ESO INS FILT3 NAME", "FILT1", "FILT2", "ACAMFLTR",
    "ACAMFSLI", "FILTNAM2", "FILTID1", "FILTID2",
)  # fmt: skip
"""Filters of more wheels: light passes through all of them."""
FILTER_KEYWORDS: Final = frozenset((*FILTER, *OTHER_WHEELS))
NO_FILTER: Final = re.compile(
    r"open(?:[\W_]*\d+)*|clear[\W_]*\d+|air|empty|blank|none|free|no[\W_]*filter|nofilter|hole|out|0", re.IGNORECASE
)
"""What a wheel says of a place without a filter; `Clear` is a filter with the thickness of the others."""
CAMERA: Final = ("INSTRUME", "CAMERA", "INSTRUMENT", "CAMMODEL", "HEAD")
CAMERA_ID: Final = ("CAMERAID", "CAMERA_ID", "ESO DET CHIP1 ID", "DET-ID")
READOUT_MODE: Final = ("READOUTM", "READMODE", "READOUT", "ESO DET READ CLOCK", "QHYMODE")
BAYER_PATTERN: Final = ("BAYERPAT", "COLORTYP", "CFA-PAT", "CFAPAT", "CFA_PATT", "CFAIMAGE")
BAYER_PATTERN_IN_TEXT: Final = re.compile(r"(?<![A-Z])(?:RGGB|BGGR|GRBG|GBRG)(?![A-Z])")
ROW_ORDER: Final = ("ROWORDER",)
TELESCOPE: Final = ("TELESCOP", "TELESCOPE", "TELNAME", "ESO TEL NAME")
PIER_SIDE: Final = ("PIERSIDE", "SIDEOFP", "PIER-SIDE")
FLIP: Final = "FLIPSTAT"
"""How MaxIm DL turned the image over; blank where it did not."""
DETECTOR_SECTION: Final = "DETSEC"
SECTION: Final = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
UTC_DATE: Final = ("DATE-UTC", "DATE_UTC", "UTSHUT")
"""Dates whose names say that they are UTC; N.I.N.A. wrote DATE-UTC instead of DATE-OBS."""
DATE: Final = ("DATE-OBS", "DATE-BEG", "DATEOBS", "DATE_OBS", "UTSHUT", "UT-DATE", "UTDATE", "DATE-UTC", "DATE_UTC")
LOCAL_DATE: Final = ("DATE-LOC", "DATE_LOC")
"""Of the clock on the wall, beside the date in UTC."""
TIME_OF_DAY: Final = (
    "TIME-OBS",
    "UT",
    "UTC",
    "UTSTART",
    "UT-OBS",
    "UT-START",
    "UTC-OBS",
    "UT-STR",
    "UT-TIME",
    "TIMEOBS",
    "EXPSTART",
)
"""Of headers whose date has no time."""
BINNING_TEXT: Final = ("BINNING", "CCDSUM", "CCDBIN", "BIN", "BINMODE", "XBINNING")
"""Both directions in one text: ``2x2``, ``2 2``, ``Bin 2``."""
BINNING_IN_TEXT: Final = re.compile(
    r"(?:bin(?:ned|ning)?)?[\s_(\[]*(\d{1,2})(?:\s*(?:[x*,;:/ \u00d7]|by)\s*(\d{1,2}))?[\s)\]]*", re.IGNORECASE
)
NOT_BINNED: Final = frozenset(["no", "off", "unbinned", "not binned"])
ANDOR: Final = "ACQMODE"
"""Headers with this card are of Andor Solis, which writes the temperature and the start of a frame into these two."""
ANDOR_TEMPERATURE: Final = "TEMP"
ANDOR_DATE: Final = "DATE"
LONGITUDE: Final = (
    "SITELONG", "SITELON", "OBSGEO-L", "LONGITUD", "LONG-OBS", "SITE-LON", "GEOLON", "ESO TEL GEOLON",
)  # fmt: skip
LATITUDE: Final = ("SITELAT", "OBSGEO-B", "LATITUDE", "LAT-OBS", "SITE-LAT", "GEOLAT", "ESO TEL GEOLAT")
CALIBRATION_STATUS: Final = ("CALSTAT",)
CALIBRATED: Final = {
    "D": ("DARKCOR", "DARKCORR", "SUBDARK", "SUBTRACT_DARK", "DARKSUB", "L1STATDA", "DARKIM"),
    "B": ("ZEROCOR", "BIASCOR", "BIASCORR", "SUBBIAS", "SUBTRACT_BIAS", "BIASSUB", "L1STATBI", "BIASIM"),
    "F": ("FLATCOR", "FLATCORR", "FLAT_CORRECT", "FLATDIV", "FLATIM", "L1STATFL"),
}
"""Cards of IRAF, ccdproc, HST, LCO and Gemini by what was corrected."""
NOT_CALIBRATED: Final = frozenset(
    [
        *("", "no", "n", "f", "false", "omit", "omitted", "none", "perform", "0", "0.0", "skip", "skipped", "n/a"),
        *("na", "missing", "off", "not done", "undone", "incomplete", "unknown", "-"),
    ]
)
"""Values of these cards that say "not done"."""
NOT_CALIBRATED_START: Final = re.compile(r"(?:no|not|non|none|never|un[a-z]+|false|0)\b(?!\.)")
"""Beginnings of values, in lower case, that say so too: ``not applied``, ``unset``, ``no dark``."""
NO_STATUS: Final = re.compile(r"|no|none|off|false|raw|n/?a|un[a-z]+|not [a-z]+|[-?]+|0", re.IGNORECASE)
"""Values of CALSTAT that say that nothing was done."""

# ---- numbers ----

EXPOSURE_S: Final = Number(
    keywords=(
        "EXPTIME",
        "EXPOSURE",
        "EXP_TIME",
        "EXP-TIME",
        "EXPOINUS",
        "ITIME",
        "EXPOSE",
        "TEXP",
        "INTTIME",
        "EXP1TIME",
        "TRUITIME",
        "ELAPTIME",
        "EXPMS",
        "EXP_MS",
        "EXP_US",
        "EXP",
        "XPOSURE",
        "ESO DET WIN1 DIT1",
        "ESO DET DIT",
        "TTIME",
        "DARKTIME",
    ),
    low=0.0,
    high=1e6,
    name="exposure",
    units=SECONDS,
    worth={"EXPOINUS": 1e-6, "EXPMS": 1e-3, "EXP_MS": 1e-3, "EXP_US": 1e-6},
)
"""Up to eleven days: larger numbers are dates or rubbish."""
STATED_EXPOSURES_S: Final = {
    keyword: replace(EXPOSURE_S, keywords=(keyword,))
    for keyword in (
        *("EXPTIME", "EXPOSURE", "EXP_TIME", "EXP-TIME", "EXPOINUS", "ITIME", "EXPOSE", "TEXP", "INTTIME", "EXP1TIME"),
        *("EXPMS", "EXP_MS", "EXP_US", "EXP"),
    )
}
"""Cards that state one and the same exposure; those that clocks measured may differ from it."""
STATED_EXPOSURES: Final = tuple(STATED_EXPOSURES_S)
SET_TEMPERATURE_C: Final = Number(
    keywords=("SET-TEMP", "SETTEMP", "SET_TEMP", "CCDTSET", "CCD-TSET", "CCDSETP", "CCDSTEMP", "TEMPSET", "TEMP_SET"),
    low=-273.0,
    high=100.0,
    name="temperature",
    is_temperature=True,
)
"""Outside lie the marks (-273.15, -999) of programs that do not know the temperature."""
CCD_TEMPERATURE_C: Final = Number(
    keywords=(
        "CCD-TEMP",
        "CCDTEMP",
        "CCD_TEMP",
        "TEMPERAT",
        "DET-TEMP",
        "DETTEMP",
        "DET_TEMP",
        "SENSTEMP",
        "TEMPDET",
        "CCDATEMP",
        "DET-TMP",
        "CAMTEMP",
        "CAM-TEMP",
        "CHIPTEMP",
    ),
    low=-273.0,
    high=100.0,
    name="temperature",
    is_temperature=True,
)
GAIN: Final = Number(
    keywords=("GAIN", "ISOSPEED", "ISO", "ISOSPEEDRATINGS"),
    low=-1e6,
    high=1e6,
    name="gain",
    units=dict.fromkeys(("db", "e-/adu", "e/adu", "e-/dn", "electrons/adu", "%"), 1.0),
)
"""The setting of the camera; ISO where there is no other."""
ISO: Final = Number(keywords=("ISOSPEED", "ISO", "ISOSPEEDRATINGS"), low=0, high=1e7)
OFFSET: Final = Number(
    keywords=("OFFSET", "BLKLEVEL", "BLACKLEV"), low=-1e6, high=1e6, name="offset", units={"adu": 1.0}
)
EGAIN_E_PER_ADU: Final = Number(keywords=("EGAIN", "E-GAIN", "CVF"), low=1e-6, high=1e4)
FULL_SCALE_ADU: Final = ("SATURATE", "SATLEVEL", "MAXADU", "DATAMAX")
"""The level at which samples end. DATAMAX is the brightest sample of a frame where most programs write it."""
LEAST_FULL_SCALE_ADU: Final = 2.0
PIXEL_WIDTH_UM: Final = Number(keywords=("XPIXSZ", "XPIXELSZ", "PIXSIZE1"), low=0.01, high=1000.0)
PIXEL_HEIGHT_UM: Final = Number(keywords=("YPIXSZ", "YPIXELSZ", "PIXSIZE2"), low=0.01, high=1000.0)
BAYER_X_OFFSET: Final = Number(keywords=("XBAYROFF", "BAYOFFX", "XBAYOFF"), low=-1e6, high=1e6)
BAYER_Y_OFFSET: Final = Number(keywords=("YBAYROFF", "BAYOFFY", "YBAYOFF"), low=-1e6, high=1e6)
MJD: Final = Number(keywords=("MJD-OBS", "MJD-BEG", "MJD", "MJD-STR"), low=-20000.0, high=120000.0)
"""Days; 1804 to 2187."""
JD: Final = Number(keywords=("JD", "JD-OBS", "JD_UTC"), low=2380000.5, high=2520000.5)
N_COMBINED: Final = Number(
    keywords=("NCOMBINE", "STACKCNT", "SNAPSHOT", "NUMFRAME", "NSTACK", "DARK_CNT", "FLAT_CNT", "BIAS_CNT")
)
COMBINED: Final = ("COMBINED", "ISMASTER", "ESO PRO CATG", "IMCMB002")
"""Cards of combined frames (ccdproc, LCO, ESO, IRAF), unless they say no."""
COMBINED_VALUES: Final = {
    "PROCTYPE": re.compile(r"mastercal|stacked", re.IGNORECASE),
    "INTEGRAT": re.compile("integration", re.IGNORECASE),
}
"""Values of cards of NOIRLab's archive and of Astro Pixel Processor that say so."""
SIRIL_NAME: Final = re.compile(r"^(?:r_|bkg_)*pp_")
"""Of frames that Siril calibrated."""
FOCAL_LENGTH_MM: Final = Number(
    keywords=("FOCALLEN", "FOCALLENGTH", "FOCLEN", "FOCAL"), low=1.0, high=1e6, units={"mm": 1.0, "cm": 10.0}
)
"""0 is "not known"."""
LARGEST_ANGLE_DEG: Final = 720.0
"""Larger ones, such as -999, are marks of programs that do not know the angle."""
ROTATOR_DEG: Final = Number(
    keywords=("ROTATANG", "ROTATOR", "ROTANGLE", "ROTPOS", "ROTATPOS"),
    low=-LARGEST_ANGLE_DEG,
    high=LARGEST_ANGLE_DEG,
    units=dict.fromkeys(("deg", "degree", "degrees"), 1.0),
)
"""Mechanical angles of a rotator (MaxIm DL, N.I.N.A., INDI). Those of field derotators (ROTPPOSN of Keck, MOUNTPA of
ING) are none of these: they turn all night, and flats of any angle serve."""
SKY_ANGLE_DEG: Final = Number(
    keywords=("ROTSKYPA", "POSANGLE", "POSANG", "ROTPA", "PA"),
    low=-LARGEST_ANGLE_DEG,
    high=LARGEST_ANGLE_DEG,
    units=dict.fromkeys(("deg", "degree", "degrees"), 1.0),
)
"""Position angles on the sky. OBJCTROT (N.I.N.A.) is the angle that was planned, and CROTA2 one that was solved."""
COADDS: Final = Number(keywords=("COADDS", "COADD", "NCOADDS", "NCOADD", "ESO DET NDIT"), low=1, high=1e6)
"""Exposures that the camera added up (or averaged) to one frame."""
ORIGIN: Final = tuple(
    (Number(keywords=(x,), low=-1e6, high=1e6), Number(keywords=(y,), low=-1e6, high=1e6))
    for x, y in (
        ("XORGSUBF", "YORGSUBF"),
        ("FRAMEX", "FRAMEY"),
        ("CCDSUBFL", "CCDSUBFT"),
        ("SUBFRAMX", "SUBFRAMY"),
        ("XORIGIN", "YORIGIN"),
        ("STARTX", "STARTY"),
        ("ORIGINX", "ORIGINY"),
        ("PRD-MIN1", "PRD-MIN2"),
        ("ESO DET WIN1 STRX", "ESO DET WIN1 STRY"),
    )
)
"""First column and first row of a subframe on the sensor."""
ORIGIN_KEYWORDS: Final = frozenset(
    [DETECTOR_SECTION, *(keyword for pair in ORIGIN for number in pair for keyword in number.keywords)]
)
LARGEST_BINNING: Final = 64
BINNING: Final = tuple(
    (
        Number(keywords=(x,), low=1, high=LARGEST_BINNING, name="binning"),
        Number(keywords=(y,), low=1, high=LARGEST_BINNING, name="binning"),
    )
    for x, y in (
        ("XBINNING", "YBINNING"),
        ("CCDXBIN", "CCDYBIN"),
        ("CCDBINX", "CCDBINY"),
        ("XBIN", "YBIN"),
        ("BINX", "BINY"),
        ("CCDBIN1", "CCDBIN2"),
        ("BIN-FCT1", "BIN-FCT2"),
        ("DETXBIN", "DETYBIN"),
        ("HBIN", "VBIN"),
        ("CBIN", "RBIN"),
        ("ESO DET WIN1 BINX", "ESO DET WIN1 BINY"),
        ("ESO DET BINX", "ESO DET BINY"),
        ("X_BIN", "Y_BIN"),
        ("COLBIN", "ROWBIN"),
    )
)
"""Along a row, and along a column."""
BINNING_KEYWORDS: Final = frozenset(keyword for pair in BINNING for number in pair for keyword in number.keywords)

# ---- words for the kind of a frame ----

VALUE_WORDS: Final = tuple(
    (re.compile(words, re.IGNORECASE), frame_type)
    for words, frame_type in (
        (r"\b(?:light|science)|lamp\W*off|\b(?:licht|lumi\S+re|luz|luce)\b", FrameType.LIGHT),
        (r"dark|\bnoirs?\b|dunkel|\b(?:oscur[ao]s?|scur[oi])\b", FrameType.DARK),
        ("bias|zero|offset", FrameType.BIAS),
        (r"flat|twilight|\bplus?\b|hellbild|wei(?:ss|\S{1,2})bild|\bplanos?\b", FrameType.FLAT),
        (
            r"\b(?:object|obj|target|sky|comp|comparison|arc|arclamp|wave|lamp|focus|std|standard|acq|acquisition|test|expose|exposure)\b",
            FrameType.LIGHT,
        ),
    )
)
"""In the values of `FRAME_TYPE`, such as ``Dark Frame``: the first that fits counts. Arcs, focus and test pictures are
light frames here, and so are flats with the lamp off; unknown words say nothing."""
ANY_OBJECT: Final = re.compile(r"\b(?:object|obj|target|std|sky|expose|exposure)\b", re.IGNORECASE)
"""Values that programs also give to flats of the sky or the dome."""

_START = r"(?<![a-z])(?:masters?|super|sky|dome|twilight|twi|lamp|screen|panel|raw|auto|[dst](?=flat))?[\W_]*"
# no part of a longer word (flatiron, darkstar), nothing that was done to the frame (dark_subtracted, flat-corrected)
_END = r"(?:frames?|fields?|s|es)?(?![a-z])(?![\W_]*(?:sub(?:tracted)?|corr|div|calib|remov))"
# targets: the Dark Shark, Flat Rock
_TARGET = r"(?![\W_]*(?:nebul|shark|doodad|wolf|horse|seahorse|cloud|river|tower|lane|globule|rock|galax))"
NAME_WORDS: Final = (
    (re.compile(_START + r"(?:dark|dark[\W_]*flat|flat[\W_]*dark)" + _END + _TARGET), FrameType.DARK),
    (re.compile(r"(?<![a-z])(?:noirs?|dunkel(?:bild(?:er)?)?|oscur[ao]s?|scur[oi])(?![a-z])"), FrameType.DARK),
    (re.compile(_START + r"(?:bias|zero(?:es)?)" + _END), FrameType.BIAS),
    # only at the start: 'offset' inside a name is the camera's setting (gain100_offset10_300s)
    (re.compile(r"^(?:master[\W_]*)?offset" + _END), FrameType.BIAS),
    (re.compile(_START + r"flat" + _END + _TARGET), FrameType.FLAT),
    (re.compile(r"(?<![a-z])(?:plus?|hellbild(?:er)?|planos?)(?![a-z])"), FrameType.FLAT),
    (re.compile(r"(?<![a-z])(?:light|science)" + _END), FrameType.LIGHT),
    # masters of AstroImageJ and of Astro Pixel Processor
    (re.compile(r"^(?:mdark" + _END + "|mdf?-)"), FrameType.DARK),
    (re.compile(r"^(?:m(?:bias|zero)" + _END + "|mb-)"), FrameType.BIAS),
    (re.compile(r"^(?:mflat" + _END + "|mf-)"), FrameType.FLAT),
)
"""In names of files and directories, in lower case."""
DARK_FLAT_NAME: Final = re.compile(r"dark[\W_]*flat|flat[\W_]*dark")
MASTER_NAME: Final = re.compile(
    r"(?<![a-z])master(?:s?(?![a-z])|(?=dark|flat|bias|zero|offset|light))|(?:dark|flat|bias|zero)[\W_]*master"
    r"|(?<![a-z])super[\W_]*(?:dark|flat|bias|zero)"
    r"|(?<![a-z])(?:dark|flat|bias|zero|offset)(?:e?s)?[\W_]+(?:stacked|combined|averaged?|avg|median)(?![a-z])"
    r"|(?<![a-z])(?:stacked|combined|averaged?|avg|median)[\W_]+(?:dark|flat|bias|zero|offset)(?:e?s)?(?![a-z])"
    r"|^m(?:dark|flat|bias|zero)(?![a-z])|^(?:mb|md|mf|mdf|bpm)-"
)
CATALOGUE_NAME: Final = re.compile(
    r"(?<![a-z0-9])(?:m|ngc|ic|sh2|ugc|abell|arp|vdb|lbn|ldn|hd|hip|sao|tic|toi|wasp|gj|hr|tyc|melotte|barnard|caldwell)"
    r"[\W_]?\d+"
)
"""Names of targets, in lower case."""
WORDS_ABOUT_FLATS: Final = frozenset(
    re.findall(
        r"\w+",
        "flat flats flatfield flatfields flatframe flatframes field fields frame frames sky skyflat skyflats "
        "dome domeflat domeflats twilight twiflat twiflats twi lamp lampflat screen panel led raw evening "
        "morning dusk dawn am pm east west img image images pic picture capture captured file seq series test "
        "calib calibration cal exp expo exposure exptime time sec secs second seconds s ms us min bin binning "
        "bxb x gain g offset o iso filter filt temp deg c fit fits new old night session date jan feb mar apr "
        "may jun jul aug sep oct nov dec quartz halogen tungsten ",
    )
)
"""Words and letters in names of flats that name no target."""
_NUMBER_IN_NAME = r"(?P<whole>\d+)(?:(?P<mark>[.,]|(?<=(?<![0-9])0)_)(?P<part>\d+))?(?P<power>e-?\d+)?"
EXPOSURE_NAME: Final = re.compile(
    r"(?<![a-z0-9.,])(?:exp(?:osure|time|o)?[\W_]*)?"
    + _NUMBER_IN_NAME
    + r"[ _]?(?P<unit>s|secs?|seconds?|ms|msecs?|us|usecs?|min|mins|minutes?)(?![a-z0-9])"
)
"""``300s``, ``0.5sec``, ``5,0s``, ``0_5_secs``, ``1e-3s``, ``100ms``."""
EXPOSURE_BEFORE_GAIN_NAME: Final = re.compile(r"(?<![a-z])exp_(\d+(?:\.\d+)?)_gain_")
"""``exp_15.000000_gain_60`` (DWARF)."""
FRACTION_NAME: Final = re.compile(r"(?<![a-z0-9])(?:tv|exp|shutter)[\W_]*1[-_](\d+)[ _]?s(?![a-z0-9])")
"""Shutter speeds of photo cameras: ``Tv1-250s``."""
DOUBTFUL_NAME: Final = re.compile(r"(?<![a-z0-9.,-])(?:\d_\d+ ?|[1-9]_\d+_|1-\d+[ _]?)s(?:ecs?|econds?)?(?![a-z0-9])")
"""``1_5s``: 1.5 s, or 5 s of the first frame."""
FILTER_NAMES: Final = {
    **{letter: letter for letter in "LRGBUVI"},
    **{letter: letter for letter in "ugriz"},
    **{
        name.lower(): name
        for name in (
            *("Ha", "Hb", "OIII", "SII", "NII", "O3", "S2", "N2", "Lum", "Luminance", "Red", "Green", "Blue"),
            *("H-alpha", "Halpha", "H-beta", "Hbeta", "Clear", "up", "gp", "rp", "ip", "zs", "IRCut", "UVIR"),
            *("L-eXtreme", "L-eNhance", "L-Ultimate", "L-Pro", "L-Synergy", "L-Para"),
        )
    },
    "h\u03b1": "Ha",
    "h\u03b2": "Hb",
    "o-iii": "OIII",
    "s-ii": "SII",
    "n-ii": "NII",
}
"""Names of filters in names of files and folders; letters in this case only."""
GAIN_NAME: Final = re.compile(r"(?<![a-z])(?:gain|iso)[_=-]?(\d{1,6})(?![0-9.a-z])")
CAMERA_ID_NAME: Final = re.compile(r"camera_id[=_-](.+)", re.IGNORECASE)

# ---- HISTORY of calibrated frames ----

_USED = r"calibrat\w*\W*(?:\w+\W+){0,3}(?:with\b|using\b|by\b|[:(]).*\b(?:master[\W_]*)?"

CALIBRATED_LINES: Final = {
    "D": re.compile(
        r"\bdark(?:s|[\W_]+frames?|[\W_]+image|[\W_]+current)?[\W_]+(?:was|were|has been|is)?[\W_]*"
        r"(?:subtract|correct|remov)"
        r"|\bdark\b[^;,]{0,60}\bsubtracted|(?:subtract|remov)\w*\W+(?:\w+\W+){0,3}dark|masterdark\W+applied"
        rf"|{_USED}dark|masterdark\.enabled\W+true"
        r"|soustraction\W+(?:\w+\W+){0,3}(?:dark|noir)|\b(?:dark|noir)s?\W+soustrait|correction\W+(?:\w+\W+)?(?:dark|noir)"
        r"|dunkel\w*\W+(?:\w+\W+){0,2}abgezogen"
    ),
    "B": re.compile(
        r"\b(?:bias|zero)(?:[\W_]+frames?|[\W_]+image)?[\W_]+(?:was|were|has been|is)?[\W_]*(?:subtract|correct|remov)"
        r"|\bbias\b[^;,]{0,60}\bsubtracted|(?:subtract|remov)\w*\W+(?:\w+\W+){0,3}bias|masterbias\W+applied"
        rf"|{_USED}bias|masterbias\.enabled\W+true"
        r"|soustraction\W+(?:\w+\W+){0,3}(?:offset|bias)|\b(?:offset|bias)\W+(?:soustrait|subtract)"
    ),
    "F": re.compile(
        r"\bflat(?:s|[\W_]*field(?:ed|ing)?|[\W_]+frames?)?[\W_]+(?:was|were|has been|is)?[\W_]*(?:divi|correct|appl)"
        rf"|divid\w*\W+(?:\w+\W+){{0,3}}flat|{_USED}flat|^flat[\W_]*field[\W_]*\("
        r"|\bflat[\W_]*fielded|masterflat\W+applied|masterflat\.enabled\W+true"
        r"|division\W+(?:\w+\W+){0,4}(?:flat|plu)\b|correction\W+(?:\w+\W+)?plu\b"
    ),
}
"""Lines in lower case that say so, by what was corrected."""
NEGATED_LINE: Final = re.compile(
    r"\b(?:no(?!\.)|not|without|never|off|disabled|none|skipped)\b|[:=]\s*[\"']?(?:f|false|no|0|off|none)[\"']?\s*$"
)
COMBINED_LINE: Final = re.compile(r"^imageintegration\b|\bimageintegration\.number")
"""HISTORY of frames that were combined, in lower case."""
