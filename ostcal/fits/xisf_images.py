"""Images of XISF files as frames: their keywords and properties become the cards that FITS files of them would have."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import BinaryIO, Final

import numpy as np

from ostcal.fits.cards import (
    CARD_LENGTH,
    COMMENTARY,
    Header,
    ascii_text,
    card_keyword,
    format_card,
    is_structural,
    structural_cards,
)
from ostcal.fits.frame import FitsFrame, FitsPixels
from ostcal.fits.hdus import Unit, image_labels
from ostcal.fits.headers import metadata_from_header
from ostcal.fits.layout import ImageLayout, unsigned_zero
from ostcal.places.paths import absolute
from ostcal.xisf.header import Keyword, XisfFile, XisfImage, read_header

_BITPIX: Final = {"u1": 8, "u2": 16, "u4": 32, "f4": -32, "f8": -64}
_ABOUT_SAMPLES = frozenset(("BZERO", "BSCALE", "BLANK"))
"""Keywords of the FITS file that an image came from; XISF has its samples without them."""
CARDS_OF_PROPERTIES: Final = (
    ("EXPTIME", "Instrument:ExposureTime", "Float32", "[s] exposure"),
    ("INSTRUME", "Instrument:Camera:Name", "String", "camera"),
    ("GAIN", "Instrument:Camera:Gain", "", "setting of the camera"),
    ("OFFSET", "Instrument:Camera:Offset", "", "setting of the camera"),
    ("ISOSPEED", "Instrument:Camera:ISOSpeed", "Int32", "ISO speed of the camera"),
    ("XBINNING", "Instrument:Camera:XBinning", "Int32", "columns binned"),
    ("YBINNING", "Instrument:Camera:YBinning", "Int32", "rows binned"),
    ("READOUTM", "Instrument:Camera:ReadoutMode", "", "readout mode"),
    ("FILTER", "Instrument:Filter:Name", "String", "filter"),
    ("CCD-TEMP", "Instrument:Sensor:Temperature", "Float32", "[degC] sensor"),
    ("SET-TEMP", "Instrument:Sensor:TargetTemperature", "Float32", "[degC] set point of the cooler"),
    ("XPIXSZ", "Instrument:Sensor:XPixelSize", "Float32", "[um] width of a pixel"),
    ("YPIXSZ", "Instrument:Sensor:YPixelSize", "Float32", "[um] height of a pixel"),
    ("TELESCOP", "Instrument:Telescope:Name", "String", "telescope"),
    ("DATE-OBS", "Observation:Time:Start", "TimePoint", "start of the exposure, UTC"),
    ("DATE-END", "Observation:Time:End", "TimePoint", "end of the exposure, UTC"),
    ("OBJECT", "Observation:Object:Name", "String", "target"),
    ("SITELAT", "Observation:Location:Latitude", "", "[deg] latitude"),
    ("SITELONG", "Observation:Location:Longitude", "", "[deg] longitude, positive east"),
)
"""Cards, the properties of XISF that stand for them where an image has no such keyword, and the types of those that are
written: the gain of XISF 1.0 is one in electrons, which programs take for the setting."""
_SAID_OTHERWISE: Final = {"EXPTIME": "EXPOSURE", "ISOSPEED": "GAIN"}
"""Cards of properties that are left out where an image has this keyword."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?|T|F", re.IGNORECASE)
_UTC = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+)Z?")


def inspect_xisf(file: BinaryIO, path: str, size: int) -> tuple[FitsFrame, ...]:
    """Describe the images of an XISF file of `size` bytes, without companions (`ostcal.fits.hdus.COMPANIONS`).

    Raises
    ------
    FrameError
        If the header is damaged or an image cannot be read.
    """
    xisf = read_header(file, path, size)
    units = [_unit(image, index) for index, image in enumerate(xisf.images)]
    is_frame = [unit.is_frame for unit in units]
    if not any(is_frame):
        is_frame[0] = True
    found = [(image, unit) for image, unit, is_one in zip(xisf.images, units, is_frame, strict=True) if is_one]
    unused = tuple(unit.name for unit, is_one in zip(units, is_frame, strict=True) if not is_one)
    if len(found) == 1:
        return (replace(_frame(path, *found[0], xisf), unused=unused),)
    primary = tuple(
        card
        for name, value in (("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True))
        for card in format_card(name, value)
    )
    frames = []
    for (image, unit), label in zip(found, image_labels([unit for _, unit in found]), strict=True):
        frame = _frame(path, image, unit, xisf)
        metadata = replace(frame.metadata, settings=replace(frame.metadata.settings, extension=label))
        structure = structural_cards(frame.bitpix, frame.height, frame.width, extension=True)
        names = [card for card in unit.header.cards if card_keyword(card) in ("EXTNAME", "EXTVER")]
        own = (*structure, *names, *(card for card in frame.cards if not is_structural(card_keyword(card))))
        frames.append(replace(frame, metadata=metadata, primary_cards=primary, own_cards=own, unused=unused))
    return tuple(frames)


def inspect_xisf_extension(file: BinaryIO, path: str, size: int, name: str) -> FitsPixels | None:
    """Find the image of a name (its `id`, or EXTNAME) in an XISF file, if it can be read in place.

    Raises
    ------
    FrameError
        If the header is damaged.
    """
    for place, image in enumerate(read_header(file, path, size).images):
        if _unit(image, place).name.upper() == name.upper() and image.block.is_plain:
            return FitsPixels(path=path, data_offset=image.block.position, **asdict(_layout(image)))
    return None


def _unit(image: XisfImage, index: int) -> Unit:
    """Return an image as the extension of a FITS file, by whose rules its name says what it is."""
    cards = structural_cards(_BITPIX[image.sample_type], image.height, image.width, extension=True)
    names = [
        card for k in image.keywords if k.name in ("EXTNAME", "EXTVER") for card in _value_cards(k.name, k.value, "")
    ]
    cards += names or (format_card("EXTNAME", image.identifier) if image.identifier else [])
    return Unit(
        index=index + 1,
        header=Header(cards),
        start=0,
        data_offset=image.block.position,
        data_length=image.block.unpacked_length,
    )


def _frame(path: str, image: XisfImage, unit: Unit, xisf: XisfFile) -> FitsFrame:
    layout = _layout(image)
    cards = structural_cards(layout.bitpix, layout.height, layout.width)
    if layout.bzero:
        cards += format_card("BZERO", int(layout.bzero), "value = BZERO + stored sample") + format_card("BSCALE", 1)
    cards += _said_cards(image, xisf)
    metadata = metadata_from_header(
        Header(cards), width=image.width, height=image.height, path=absolute(path), remarks=image.remarks
    )
    return FitsFrame(
        **asdict(layout),
        path=path,
        source=path,
        data_offset=image.block.position,
        metadata=metadata,
        cards=tuple(cards),
        hdu_index=unit.index,
        packed="none" if image.block.is_plain else "xisf",
        block=image.block,
        bounds=None if metadata.is_master else image.bounds,
    )


def _layout(image: XisfImage) -> ImageLayout:
    """Return the layout of the samples as they are in the file."""
    bitpix = _BITPIX[image.sample_type]
    dtype = np.dtype((">" if image.block.is_big_endian else "<") + image.sample_type)
    return ImageLayout(
        width=image.width, height=image.height, bitpix=bitpix, bzero=unsigned_zero(dtype), file_dtype=dtype.str
    )


# ---- cards ----


def _said_cards(image: XisfImage, xisf: XisfFile) -> list[str]:
    """Return the cards of what an image says of itself: its keywords first, then attributes and properties."""
    cards = [card for keyword in image.keywords for card in _keyword_cards(keyword)]
    present = {card_keyword(card) for card in cards}
    if image.image_type and not present & {"IMAGETYP", "FRAME"}:
        cards += format_card("IMAGETYP", image.image_type, "kind of frame")
    if image.bayer_pattern and "BAYERPAT" not in present:
        cards += format_card("BAYERPAT", image.bayer_pattern, "colours of the first pixels")
    if image.offset and "PEDESTAL" not in present:
        cards += _value_cards("PEDESTAL", image.offset, "[adu] added to all pixels")
    properties = {**xisf.properties, **image.properties}
    for keyword, name, _, comment in CARDS_OF_PROPERTIES:
        value = properties.get(name, "")
        if value and not present & {keyword, _SAID_OTHERWISE.get(keyword, keyword)}:
            cards += _value_cards(keyword, value, comment)
    return cards


def _keyword_cards(keyword: Keyword) -> list[str]:
    """Return the cards of a FITS keyword, none of those that say how a FITS file is built."""
    name = keyword.name.upper()
    if name in COMMENTARY:
        return format_card(name, keyword.comment or keyword.value) if keyword.comment or keyword.value else []
    if is_structural(name) or name in _ABOUT_SAMPLES:
        return []
    return _value_cards(name, keyword.value, keyword.comment)


def _value_cards(name: str, value: str, comment: str) -> list[str]:
    if time := _UTC.fullmatch(value):
        value = time[1]
    is_quoted = len(value) > 1 and value.startswith("'") and value.endswith("'")
    is_plain = is_quoted or _NUMBER.fullmatch(value) is not None
    text = value[1:-1].replace("''", "'").rstrip() if is_quoted else value
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}", name):  # such as those of ESO
        name = name.removeprefix("HIERARCH").strip()
        shown = value if is_plain else "'" + text.replace("'", "''") + "'"
        card = f"HIERARCH {name} = {shown}"
        return [card.ljust(CARD_LENGTH)] if name and card.isascii() and len(card) <= CARD_LENGTH else []
    if is_quoted or not is_plain:
        return format_card(name, text, comment)
    card = f"{name:8}= {value.upper():>20}"
    note = f" / {ascii_text(comment)}" if comment else ""
    return [(card + note)[:CARD_LENGTH].ljust(CARD_LENGTH)]
