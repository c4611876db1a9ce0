"""Sections of an image (``[1:1024,1:1024]``), and what headers say of overscan: what to subtract and what to keep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from ostcal.engine.overscan import OverscanMethod
from ostcal.errors import FrameError
from ostcal.fits.cards import CardValue, Header, image_cards
from ostcal.vocabulary import OverscanAxis

_ADVICE: Final = "set master_frames.overscan to none or to the right sections"

_NOTHING: Final = frozenset({"", "NONE", "N/A", "NA", "UNKNOWN", "UNDEFINED", "NULL", "NAN", "0", "-"})
"""Texts of a section card that say that there is no section."""
_WHOLE: Final = frozenset({"*", ":"})
_RANGE = re.compile(r"([+-]?\d+)(?:\.0*)?\s*[:,]\s*([+-]?\d+)(?:\.0*)?")
_FOUR_NUMBERS = re.compile(r"([+-]?\d+)[\s,]+([+-]?\d+)[\s,]+([+-]?\d+)[\s,]+([+-]?\d+)")
"""``[6389 6422 1 9600]``: first and last column, first and last row."""

_OVERSCAN: Final = ("BIASSEC", "BIASREG", "OVRSEC", "OVERSCAN", "OVERSEC")
_KEPT: Final = ("TRIMSEC", "DATASEC", "DSEC")
_N_COLUMNS: Final = ("COVER",)
"""Lick: overscan columns at the end of every row."""
_N_ROWS: Final = ("ROVER",)
_AMPLIFIERS: Final = (
    *(f"{number}" for number in range(1, 17)),
    *"ABCDEFGH",
    *(f"{x}{y}" for x in (1, 2) for y in (1, 2)),
)
"""What follows BIASSEC and TRIMSEC where each amplifier has cards of its own: BIASSEC1, BIASSECA."""
_ARCON: Final = tuple(f"{x}{y}" for y in (1, 2) for x in (1, 2))
"""BSEC11, TSEC11, DSEC11: the four amplifiers of NOAO's Arcon."""
_DONE: Final = ("OVERSCAN", "TRIM", "SUBOVER", "TRIMIM")
"""Cards in which IRAF (``Overscan section is [..] with mean=1040.5``) and ccdproc say that it was done already."""
_SAYS_DONE = re.compile(r"[A-Za-z]{3,}")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A rectangle of an image, from 0, without its ends."""

    left: int
    right: int
    bottom: int
    top: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.top - self.bottom

    def overlaps(self, other: Section) -> bool:
        """Return whether two sections have a pixel in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def text(self) -> str:
        """Return it as FITS writes it: from 1, with its ends, columns first."""
        return f"[{self.left + 1}:{self.right},{self.bottom + 1}:{self.top}]"


@dataclass(frozen=True, kw_only=True)
class Amplifier:
    """A part of the image that one amplifier has read."""

    kept: Section
    overscan: Section | None = None
    given_axis: OverscanAxis | None = None

    @property
    def axis(self) -> OverscanAxis:
        """Return ``rows`` where the overscan stands beside what is kept, ``columns`` where it is above or below."""
        if self.given_axis is not None:
            return self.given_axis
        overscan = self.overscan
        beside = overscan is not None and (overscan.right <= self.kept.left or overscan.left >= self.kept.right)
        return "rows" if beside or overscan is None else "columns"


@dataclass(frozen=True, kw_only=True)
class Readout:
    """What is kept of an image, and which overscan is subtracted from which part."""

    amplifiers: tuple[Amplifier, ...]
    method: OverscanMethod = field(default_factory=OverscanMethod)

    @property
    def width(self) -> int:
        """Kept columns."""
        return sum(stop - start for start, stop in self.columns)

    @property
    def height(self) -> int:
        """Kept rows."""
        return sum(stop - start for start, stop in self.rows)

    @property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """Kept columns: runs of them, from 0, without their ends."""
        return _joined((a.kept.left, a.kept.right) for a in self.amplifiers)

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """Kept rows."""
        return _joined((a.kept.bottom, a.kept.top) for a in self.amplifiers)


def parse_section(text: str, *, width: int, height: int, name: str, path: str) -> Section | None:
    """Read a section such as ``[1:1024, 1:1024]``, ``[1:1024,*]`` or ``[6389 6422 1 9600]``.

    Parameters
    ----------
    text : str
        From 1, with its ends, columns first.
    width, height : int
        Of the image.
    name, path : str
        Of the card or key, and of the file, for messages.

    Returns
    -------
    Section or None
        ``None`` where the text says that there is none (blank, ``NONE``, ``[0:0,0:0]``).

    Raises
    ------
    FrameError
        If it cannot be read, is reversed, or is not inside the image.
    """
    inner = text.strip().strip("[]()").strip()
    if inner.upper() in _NOTHING:
        return None
    four = _FOUR_NUMBERS.fullmatch(inner)
    if four:
        numbers = [int(word) for word in four.groups()]
    else:
        parts = [part.strip() for part in inner.split(",")]
        if len(parts) != 2:
            raise FrameError(f"{path}: {name} is {text!r}, which is no section such as [1:1024,1:1024]; {_ADVICE}")
        numbers = [*_ends(parts[0], width, text, name, path), *_ends(parts[1], height, text, name, path)]
    if not any(numbers):
        return None
    x1, x2, y1, y2 = numbers
    if x1 > x2 or y1 > y2:
        raise FrameError(f"{path}: {name} is {text!r}, which runs backwards; write the smaller number first; {_ADVICE}")
    if x1 < 1 or y1 < 1 or x2 > width or y2 > height:
        raise FrameError(f"{path}: {name} is {text!r}, which is outside the image of {width} x {height}; {_ADVICE}")
    return Section(left=x1 - 1, right=x2, bottom=y1 - 1, top=y2)


def _ends(part: str, length: int, text: str, name: str, path: str) -> tuple[int, int]:
    if part in _WHOLE:
        return 1, length
    match = _RANGE.fullmatch(part)
    if match is None:
        raise FrameError(f"{path}: {name} is {text!r}, which is no section such as [1:1024,1:1024]; {_ADVICE}")
    return int(match[1]), int(match[2])


def readout_from_header(header: Header, *, width: int, height: int, path: str) -> Readout | None:
    """Find out what a header says of overscan and trimming; ``None`` where the whole image is to be kept as it is.

    Raises
    ------
    FrameError
        If a section cannot be read, is outside the image, or if what is kept and what is subtracted overlap.
    """
    if was_corrected(header):
        return None
    amplifiers = list(_amplifiers(header, width, height, path))
    if not amplifiers:
        amplifier = _whole_image(header, width, height, path)
        amplifiers = [amplifier] if amplifier is not None else []
    if not amplifiers:
        return None
    readout = Readout(amplifiers=tuple(amplifiers))
    check_readout(readout, path)
    whole = Section(left=0, right=width, bottom=0, top=height)
    is_plain = all(a.overscan is None for a in amplifiers) and len(amplifiers) == 1 and amplifiers[0].kept == whole
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
            kept = whole if overscan is None else _rest(whole, overscan, path)
        amplifier = Amplifier(kept=kept, overscan=overscan, given_axis=self.axis if overscan is not None else None)
        given = Readout(amplifiers=(amplifier,), method=self.method)
        check_readout(given, path)
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
        reference = header.number(f"CRPIX{axis}")
        if reference is not None:
            cards.append((f"CRPIX{axis}", reference - start, "reference pixel, trimmed"))
    for keyword, start in (("XBAYROFF", left), ("YBAYROFF", bottom)):
        if header.text("BAYERPAT") is not None and start % 2:
            cards.append((keyword, int(header.number(keyword) or 0) + start, "offset of BAYERPAT, trimmed"))
    return cards


def without_sections(cards: Sequence[str]) -> list[str]:
    """Return the cards of a raw frame without those of sections that a trimmed image no longer has."""
    gone = {*_OVERSCAN, *_KEPT, *_N_COLUMNS, *_N_ROWS}
    gone |= {f"{name}{end}" for name in ("BIASSEC", "TRIMSEC", "DATASEC") for end in _AMPLIFIERS}
    gone |= {f"{name}{end}" for name in ("BSEC", "TSEC", "DSEC") for end in _ARCON}
    return image_cards(cards, without=gone)


def was_corrected(header: Header) -> bool:
    """Return whether a program says that it has subtracted the overscan or trimmed the frame."""
    calibrated = (header.text("CALSTAT") or "").upper()
    if "O" in calibrated and "T" in calibrated:
        return True
    for keyword in _DONE:
        value = header.value(keyword)
        if value is True and keyword != "OVERSCAN":
            return True
        if isinstance(value, str) and _SAYS_DONE.search(value) and value.strip().upper() not in _NOTHING:
            return True
    return False


def check_readout(readout: Readout, path: str) -> None:
    """Refuse sections that overlap, and parts that do not make a rectangle.

    Raises
    ------
    FrameError
        If a kept section overlaps an overscan or another kept section, or the kept sections leave a hole.
    """
    for number, amplifier in enumerate(readout.amplifiers):
        for other in readout.amplifiers:
            if other.overscan is not None and amplifier.kept.overlaps(other.overscan):
                raise FrameError(
                    f"{path}: the image {amplifier.kept.text()} and the overscan {other.overscan.text()} overlap;"
                    f" {_ADVICE}"
                )
        for other in readout.amplifiers[number + 1 :]:
            if amplifier.kept.overlaps(other.kept):
                raise FrameError(
                    f"{path}: the sections {amplifier.kept.text()} and {other.kept.text()} of two amplifiers overlap;"
                    f" {_ADVICE}"
                )
        if amplifier.overscan is not None and not _faces(amplifier, amplifier.overscan):
            raise FrameError(
                f"{path}: the overscan {amplifier.overscan.text()} covers not all {amplifier.axis} of the image "
                f"{amplifier.kept.text()}; {_ADVICE}"
            )
    kept = sum(a.kept.width * a.kept.height for a in readout.amplifiers)
    if kept != readout.width * readout.height:
        raise FrameError(f"{path}: the sections of its amplifiers make no rectangle; {_ADVICE}")


def _faces(amplifier: Amplifier, overscan: Section) -> bool:
    if amplifier.axis == "rows":
        return overscan.bottom <= amplifier.kept.bottom and overscan.top >= amplifier.kept.top
    return overscan.left <= amplifier.kept.left and overscan.right >= amplifier.kept.right


def _amplifiers(header: Header, width: int, height: int, path: str) -> Iterator[Amplifier]:
    """Yield the amplifiers that have cards of their own."""
    endings = [(f"BIASSEC{end}", (f"TRIMSEC{end}", f"DATASEC{end}")) for end in _AMPLIFIERS]
    endings += [(f"BSEC{end}", (f"TSEC{end}", f"DSEC{end}")) for end in _ARCON]
    for overscan_card, kept_cards in endings:
        overscan = _section(header, (overscan_card,), width, height, path)
        kept = _section(header, kept_cards, width, height, path)
        if overscan is not None and kept is not None:
            yield Amplifier(kept=kept, overscan=overscan)


def _whole_image(header: Header, width: int, height: int, path: str) -> Amplifier | None:
    """Return the one amplifier of an image, ``None`` where the header names neither overscan nor a section to keep."""
    whole = Section(left=0, right=width, bottom=0, top=height)
    kept = _section(header, _KEPT, width, height, path)
    overscan = _section(header, _OVERSCAN, width, height, path)
    if overscan is not None:
        return Amplifier(kept=kept if kept not in (None, whole) else _rest(whole, overscan, path), overscan=overscan)
    n_columns = int(header.number(*_N_COLUMNS, low=0, high=width - 1) or 0)
    n_rows = int(header.number(*_N_ROWS, low=0, high=height - 1) or 0)
    if n_columns or n_rows:
        kept = (
            kept
            if kept not in (None, whole)
            else Section(left=0, right=width - n_columns, bottom=0, top=height - n_rows)
        )
        if n_columns:
            return Amplifier(kept=kept, overscan=Section(left=width - n_columns, right=width, bottom=0, top=height))
        return Amplifier(kept=kept, overscan=Section(left=0, right=width, bottom=height - n_rows, top=height))
    return Amplifier(kept=kept) if kept is not None else None


def _rest(whole: Section, overscan: Section, path: str) -> Section:
    """Return what an overscan at an edge leaves of the image; the larger side where it lies inside."""
    across = overscan.height < whole.height and overscan.width == whole.width
    if across:
        below, above = overscan.bottom, whole.top - overscan.top
        bottom, top = (0, overscan.bottom) if below >= above else (overscan.top, whole.top)
        rest = Section(left=0, right=whole.right, bottom=bottom, top=top)
    else:
        before, behind = overscan.left, whole.right - overscan.right
        left, right = (0, overscan.left) if before >= behind else (overscan.right, whole.right)
        rest = Section(left=left, right=right, bottom=overscan.bottom, top=overscan.top)
    if rest.width < 1 or rest.height < 1:
        raise FrameError(f"{path}: the overscan {overscan.text()} is the whole image; {_ADVICE}")
    return rest


def _section(header: Header, keywords: tuple[str, ...], width: int, height: int, path: str) -> Section | None:
    """Return the first section among cards."""
    for keyword in keywords:
        value = header.value(keyword)
        if not isinstance(value, str):
            continue
        section = parse_section(value, width=width, height=height, name=keyword, path=path)
        if section is not None:
            return section
    return None


def _joined(runs: Iterator[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return runs in order, each once, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(set(runs)):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)
