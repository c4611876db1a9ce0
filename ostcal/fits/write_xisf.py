"""Masters as XISF files: the images and cards that `ostcal.fits.write.write_fits` takes, as PixInsight reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from ostcal.fits.cards import COMMENTARY, Card, CardValue, Header, ascii_text, card_keyword, format_card, image_cards
from ostcal.fits.write import ABOUT_SAMPLES, ImagePlane, new_file
from ostcal.fits.xisf_images import CARDS_OF_PROPERTIES
from ostcal.frames import FULL_SCALE_ADU
from ostcal.xisf.header import Keyword
from ostcal.xisf.write import BLOCK_ALIGNMENT, NewImage, Property, write_images

_LONGEST_INLINE = 3072
"""Bytes; nothing is written into headers, but the property is one that readers expect."""
_IMAGE_TYPES: Final = {"bias": "MasterBias", "dark": "MasterDark", "flat": "MasterFlat"}


def write_xisf(
    path: str | os.PathLike[str],
    planes: Sequence[ImagePlane],
    *,
    kept_cards: Sequence[str] = (),
    history: Sequence[str] = (),
    rows_per_write: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write images to one XISF file, with the keywords that a FITS file of them has, properties and checksums.

    The images that have cards of their own are the masters; `kept_cards` and `history` are theirs. Memory is one strip.

    Raises
    ------
    StorageError
        If the file exists already or cannot be written; nothing is left behind then.
    """
    path = os.fspath(path)
    is_only = sum(bool(_image_type(plane)) for plane in planes) == 1
    images = [_new_image(plane, place, kept_cards, history, is_only) for place, plane in enumerate(planes)]
    header = _header_of(planes[0].cards)
    metadata = [
        Property(identifier="XISF:CreationTime", kind="TimePoint", value=f"{header.text('DATE')}Z"),
        Property(identifier="XISF:CreatorApplication", kind="String", value=header.text("PROGRAM") or "ostcal"),
        Property(identifier="XISF:BlockAlignmentSize", kind="UInt16", value=str(BLOCK_ALIGNMENT)),
        Property(identifier="XISF:MaxInlineBlockSize", kind="UInt16", value=str(_LONGEST_INLINE)),
    ]
    with new_file(path, overwrite=overwrite) as file:
        write_images(file, images, metadata, rows_at_once=rows_per_write)


def _new_image(
    plane: ImagePlane, place: int, kept_cards: Sequence[str], history: Sequence[str], is_only: bool
) -> NewImage:
    header = _header_of(plane.cards)
    image_type = _image_type(plane)
    keywords = [_keyword(*card) for card in plane.cards if _has_value(card)]
    if plane.name and image_type:
        keywords.insert(0, Keyword(name="EXTNAME", value=f"'{ascii_text(plane.name)}'", comment="what this image is"))
        if plane.version is not None:
            keywords.insert(1, Keyword(name="EXTVER", value=str(plane.version), comment="which of this name"))
    if image_type:
        made = {keyword.name for keyword in keywords}
        kept = image_cards([*kept_cards, *plane.kept_cards], without=made.union(ABOUT_SAMPLES))
        keywords += _kept_keywords(kept)
        keywords += [
            Keyword(name="HISTORY", value="", comment=ascii_text(text))
            for text in (*plane.history, *(history if place == 0 else ()))
        ]
    identifier = _identifier(plane, place, is_only)
    unit = (header.text("BUNIT") or "").lower()
    return NewImage(
        identifier=identifier,
        image_type=image_type,
        dtype=np.dtype(plane.dtype),
        height=plane.height,
        width=plane.width,
        read_rows=plane.read_rows,
        range_top=float(FULL_SCALE_ADU) if unit == "adu" else 1.0,
        bayer_pattern=header.text("BAYERPAT") or "",
        keywords=keywords,
        properties=_properties(header),
    )


def _image_type(plane: ImagePlane) -> str:
    """Return ``MasterBias`` and so on, "" of an image about a master."""
    said = (_header_of(plane.cards).text("IMAGETYP") or "").lower()
    return next((name for kind, name in _IMAGE_TYPES.items() if kind in said), "")


def _identifier(plane: ImagePlane, place: int, is_only: bool) -> str:
    """Return what PixInsight calls an image: letters, digits and underscores."""
    if plane.name is None and is_only:
        return "master"
    name = plane.name if plane.version is None else f"{plane.name}_{plane.version}"
    text = re.sub(r"\W+", "_", ascii_text(name or ""), flags=re.ASCII)
    return text if re.match(r"[A-Za-z_]", text) else f"image_{text or place}"


# ---- keywords and properties ----


def _header_of(cards: Sequence[Card]) -> Header:
    return Header([image for card in cards for image in format_card(*card)])


def _has_value(card: Card) -> bool:
    return bool(format_card(*card))


def _keyword(name: str, value: object, comment: str) -> Keyword:
    """Return a card as a keyword: texts in quotes, numbers and logicals as FITS has them."""
    if name in COMMENTARY:
        return Keyword(name=name, value="", comment=ascii_text(str(value)))
    if isinstance(value, str):
        return Keyword(name=name, value=_quoted(value), comment=ascii_text(comment))
    (card,) = format_card(name, value)
    return Keyword(name=name, value=card[10:].strip(), comment=ascii_text(comment))


def _kept_keywords(cards: Sequence[str]) -> list[Keyword]:
    """Return cards of a raw frame as keywords."""
    header, kept = Header(cards), []
    for card in cards:
        name = card_keyword(card)
        if name in COMMENTARY:
            kept.append(Keyword(name=name, value="", comment=ascii_text(card[8:].strip())))
        elif name != "CONTINUE" and (value := header.value(name)) is not None:
            kept.append(Keyword(name=name, value=_shown(value), comment=ascii_text(header.comment(name))))
    return kept


def _shown(value: CardValue) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return _quoted(value) if isinstance(value, str) else str(value).upper()


def _quoted(text: str) -> str:
    return "'" + ascii_text(text).replace("'", "''") + "'"


def _properties(header: Header) -> list[Property]:
    """Return the properties of XISF 1.0 that the cards of a master say."""
    found = []
    for keyword, identifier, kind, _ in CARDS_OF_PROPERTIES:
        text = header.text(keyword)
        if kind and text is not None:
            found.append(Property(identifier=identifier, kind=kind, value=f"{text}Z" if kind == "TimePoint" else text))
    return found
