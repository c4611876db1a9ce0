"""Raw files of cameras as frames: what they say becomes the cards that a FITS file of them would have."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from ostcal.errors import FrameError
from ostcal.fits.cards import Card, Header, format_card, structural_cards
from ostcal.fits.frame import FitsFrame
from ostcal.fits.headers import metadata_from_header
from ostcal.places.paths import absolute, is_remote
from ostcal.raw.reader import RAW_ENDINGS, can_read_raw, raw_reader

_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MAX_PIXELS = 2**31
_COLDEST_C, _HOTTEST_C = -60.0, 100.0
"""Of a camera; -128 is one that was not measured."""


def is_raw_name(path: str) -> bool:
    """Return whether the ending of a file is that of a raw file of a camera."""
    return path.lower().endswith(RAW_ENDINGS)


def inspect_raw(path: str) -> FitsFrame:
    """Describe the frame in a raw file of a camera: the whole sensor, with TRIMSEC where a part of it sees no light.

    Raises
    ------
    FrameError
        If the extra that reads it is not installed, or the file cannot be decoded.
    """
    ending = path[path.rfind(".") :].lower()
    if not can_read_raw():
        raise FrameError(f"{path}: reading {ending} needs an extra: pip install 'ostcal[raw]'")
    if is_remote(path):
        raise FrameError(f"{path}: {ending} is read from this computer only; copy it here")
    said = raw_reader().description(path)
    height, width = int(said["height"]), int(said["width"])
    if not 0 < height * width <= _MAX_PIXELS:
        raise FrameError(f"{path}: {width} x {height} pixels are more than 2^31: damaged, leave it out")
    cards = structural_cards(16, height, width)
    cards += format_card("BZERO", 32768, "value = BZERO + stored sample") + format_card("BSCALE", 1)
    cards += [image for card in _cards(said) for image in format_card(*card)]
    metadata = metadata_from_header(Header(cards), width=width, height=height, path=absolute(path))
    return FitsFrame(
        width=width,
        height=height,
        bitpix=16,
        bzero=32768.0,
        path=path,
        source=path,
        data_offset=0,
        metadata=metadata,
        cards=tuple(cards),
        hdu_index=0,
        packed="raw",
    )


def _cards(said: dict[str, Any]) -> list[Card]:
    top, left, height, width = said["visible"]
    is_whole = (height, width) == (said["height"], said["width"])
    visible = f"[{left + 1}:{left + width},{top + 1}:{top + height}]"
    found = _NUMBER.search(str(said.get("temperature", "")))
    temperature_c = float(found[0]) if found else None
    is_possible = temperature_c is not None and _COLDEST_C <= temperature_c <= _HOTTEST_C
    when, is_utc = _date(said.get("date", ""), said.get("offset", ""))
    return [
        ("EXPTIME", said.get("exposure_s") or None, "[s] exposure"),
        ("DATE-OBS", when, "start of the exposure, UTC" if is_utc else "start, by the clock of the camera"),
        ("INSTRUME", said.get("camera"), "camera"),
        ("ISOSPEED", said.get("iso") or None, "ISO speed of the camera"),
        ("CCD-TEMP", temperature_c if is_possible else None, "[degC] camera, from its notes"),
        ("BAYERPAT", said.get("pattern"), "colours of the first pixels"),
        ("ROWORDER", "TOP-DOWN", "order of the rows"),
        ("SATURATE", said.get("white_level") or None, "[adu] white level"),
        ("TRIMSEC", None if is_whole else visible, "pixels that see light"),
    ]


def _date(text: str, zone: str) -> tuple[str | None, bool]:
    """Return date and time for DATE-OBS, and whether they are in UTC: else they are those of the camera's clock."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None, False
    try:
        when = datetime(*map(int, found.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None, False
    offset = _ZONE.fullmatch(zone)
    if offset is None:
        return when.isoformat(), False
    shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    return (when - shift if offset[1] == "+" else when + shift).isoformat(), True
