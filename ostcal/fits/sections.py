"""What is done to frames with overscan: what headers and the configuration say, and the cards that say it was done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from ostcal.engine.overscan import OverscanMethod
from ostcal.fits import dialects
from ostcal.fits.amplifiers import (
    UntrimmedImage,
    amplifiers_of,
    is_section_card,
    is_subtracted_level,
    rest_of,
    trimmed_only,
)
from ostcal.fits.cards import CardValue, Header, card_keyword, image_cards
from ostcal.fits.regions import NOTHING, Amplifier, Readout, Section, check_readout, parse_section
from ostcal.vocabulary import OverscanAxis

__all__ = [
    "Amplifier",
    "OverscanRule",
    "Readout",
    "Section",
    "check_readout",
    "overscan_was_subtracted",
    "parse_section",
    "readout_cards",
    "readout_from_header",
    "readout_status",
    "without_sections",
]

_OVERSCAN_DONE: Final = ("OVERSCAN", "SUBOVER")
_TRIM_DONE: Final = ("TRIM", "TRIMIM")
"""Cards in which IRAF (``Overscan section is [..] with mean=1040.5``) and ccdproc say that it was done already."""
_WORD = re.compile(r"[A-Za-z]{3,}")
_NOT = re.compile(r"\b(?:not|never|skipped|disabled)\b|[:=]\s*[\"']?(?:f|false|no)[\"']?$")
_YES: Final = frozenset({"t", "y", "1"})
_INTEGERS = re.compile(r"[+-]?\d+")
_CALSTAT_LETTERS = re.compile(r"[BDFOTZMIC, ]+")


def readout_from_header(header: Header, *, width: int, height: int, path: str) -> Readout | None:
    """Find out what a header says of overscan and trimming; ``None`` where the whole image is to be kept as it is.

    Raises
    ------
    FrameError
        If a section cannot be read, is outside the image, or if what is kept and what is subtracted overlap.
    """
    if _is_done(header, _TRIM_DONE, "T"):
        return None
    image = UntrimmedImage(header=header, width=width, height=height, path=path)
    amplifiers = trimmed_only(image) if overscan_was_subtracted(header, width) else amplifiers_of(image)
    if not amplifiers:
        return None
    readout = Readout(amplifiers=tuple(amplifiers))
    check_readout(readout, width=width, height=height, path=path)
    is_plain = all(a.overscan is None for a in amplifiers) and readout.width == width and readout.height == height
    return None if is_plain else readout


@dataclass(frozen=True, kw_only=True)
class OverscanRule:
    """What the configuration says of overscan.

    Attributes
    ----------
    source : {"auto", "none", "given"}
        Take sections from the headers, keep whole images, or take `section` and `trim`.
    section, trim : str
        Overscan, and what is kept, as FITS writes sections; without `trim` what the overscan leaves.
    axis : {"rows", "columns"}, optional
        A level for each row or for each column; ``None`` is as the overscan lies.
    method : OverscanMethod
    """

    source: Literal["auto", "none", "given"] = "auto"
    section: str = ""
    trim: str = ""
    axis: OverscanAxis | None = None
    method: OverscanMethod = field(default_factory=OverscanMethod)

    def readout_of(self, header: Header, *, width: int, height: int, path: str) -> Readout | None:
        """Return what is done to a frame; ``None`` keeps it whole.

        Raises
        ------
        FrameError
            If a section of its header or of the configuration does not fit it.
        """
        if self.source == "none":
            return None
        if self.source == "auto":
            readout = readout_from_header(header, width=width, height=height, path=path)
            return None if readout is None else replace(readout, method=self.method)
        size: dict[str, Any] = {"width": width, "height": height, "path": path}
        overscan = parse_section(self.section, name="master_frames.overscan.section", **size)
        kept = parse_section(self.trim, name="master_frames.overscan.trim", **size)
        whole = Section(left=0, right=width, bottom=0, top=height)
        if overscan is None and kept is None:
            return None
        if kept is None:
            kept = whole if overscan is None else rest_of(whole, overscan, f"{path}: master_frames.overscan.section")
        amplifier = Amplifier(
            kept=kept,
            kept_card="master_frames.overscan.trim",
            overscan=overscan,
            overscan_card="master_frames.overscan.section",
            given_axis=self.axis if overscan is not None else None,
        ).over_all_lines()
        given = Readout(amplifiers=(amplifier,), method=self.method)
        check_readout(given, width=width, height=height, path=path)
        return given


def readout_status(readout: Readout | None) -> str:
    """Return the letters of CALSTAT for what was done: O overscan, T trim."""
    if readout is None:
        return ""
    return "OT" if any(amplifier.overscan is not None for amplifier in readout.amplifiers) else "T"


def readout_cards(readout: Readout, header: Header) -> list[tuple[str, CardValue, str]]:
    """Return the cards that say what was subtracted and trimmed, as IRAF and ccdproc read them.

    `header` is that of the untrimmed frame, or an empty one: reference pixels and Bayer offsets move with the first
    pixel that is kept.
    """
    left, bottom = readout.columns[0][0], readout.rows[0][0]
    lines = "row" if readout.amplifiers[0].axis == "rows" else "column"
    method = readout.method
    fit = f"polynomial {method.degree}" if method.fit == "polynomial" else method.fit
    strips = " ".join(a.overscan.text() for a in readout.amplifiers if a.overscan is not None)
    cards: list[tuple[str, CardValue, str]] = []
    if strips:
        cards.append(("OVERSCAN", f"Overscan {strips}, {method.level} of each {lines}, fit {fit}", ""))
    cards.append(("TRIM", f"Trimmed to {' '.join(a.kept.text() for a in readout.amplifiers)}", ""))
    for axis, start in ((1, left), (2, bottom)):
        cards += [
            (f"LTM{axis}_{axis}", header.number(f"LTM{axis}_{axis}") or 1.0, "pixels of the raw image in one"),
            (f"LTV{axis}", (header.number(f"LTV{axis}") or 0.0) - start, "origin of the raw image"),
        ]
        for keyword in header.keywords:  # also of other coordinates of the same image, such as CRPIX1A
            reference = header.number(keyword) if re.fullmatch(f"CRPIX{axis}[A-Z]?", keyword) else None
            if reference is not None:
                cards.append((keyword, reference - start, "reference pixel, trimmed"))
    if len(readout.amplifiers) == 1:
        kept = readout.amplifiers[0].kept
        moved = ((keyword, _section_of_chip(header, keyword, kept)) for keyword in ("CCDSEC", "DETSEC"))
        cards += [(keyword, text, "of what is kept") for keyword, text in moved if text is not None]
    for keyword, start in (("XBAYROFF", left), ("YBAYROFF", bottom)):
        if header.text("BAYERPAT") is not None and start % 2:
            cards.append((keyword, int(header.number(keyword) or 0) + start, "offset of BAYERPAT, trimmed"))
    return cards


def _section_of_chip(header: Header, keyword: str, kept: Section) -> str | None:
    """Return CCDSEC or DETSEC, which say where DATASEC lies on the chip, of what is kept; ``None`` if it stays.

    Either may run backwards (a chip that is read from its far end), and count pixels that are binned in the image.
    """
    chip, data = (_INTEGERS.findall(header.text(name) or "") for name in (keyword, "DATASEC"))
    if len(chip) != 4 or len(data) != 4:
        return None
    ends: list[int] = []
    for axis, (start, stop) in enumerate(((kept.left, kept.right), (kept.bottom, kept.top))):
        c1, c2 = int(chip[2 * axis]), int(chip[2 * axis + 1])
        d1, d2 = int(data[2 * axis]), int(data[2 * axis + 1])
        step = 1 if c2 >= c1 else -1
        binning, rest = divmod(abs(c2 - c1) + 1, max(1, d2 - d1 + 1))
        if rest or not binning:
            return None
        ends += [c1 + step * binning * (start + 1 - d1), c2 + step * binning * (stop - d2)]
    x1, x2, y1, y2 = ends
    text = f"[{x1}:{x2},{y1}:{y2}]"
    return None if ends == [int(number) for number in chip] else text


def without_sections(cards: Sequence[str]) -> list[str]:
    """Return the cards of a raw frame without those of sections that a trimmed image no longer has."""
    return image_cards(cards, without={keyword for card in cards if is_section_card(keyword := card_keyword(card))})


def overscan_was_subtracted(header: Header, width: int) -> bool:
    """Return whether a header of an image so wide says that its overscan was subtracted."""
    return _is_done(header, _OVERSCAN_DONE, "O") or is_subtracted_level(header, width)


def _is_done(header: Header, keywords: Sequence[str], letter: str) -> bool:
    """Return whether one of `keywords`, or `letter` in CALSTAT, says that a step was done."""
    calibrated = (header.text("CALSTAT") or "").upper()
    if letter in calibrated and _CALSTAT_LETTERS.fullmatch(calibrated):
        return True
    for keyword in keywords:
        value = header.value(keyword)
        if isinstance(value, str):
            if _says_done(value):
                return True
        elif keyword != "OVERSCAN" and value == 1:
            return True
    return False


def _says_done(value: str) -> bool:
    """Return whether the text of a card says that a step was done, by the rule of the other marks of earlier work."""
    text = value.strip().lower()
    if text in dialects.NOT_CALIBRATED or dialects.NOT_CALIBRATED_START.match(text) or text.upper() in NOTHING:
        return False
    return text in _YES or (_WORD.search(text) is not None and not _NOT.search(text))
