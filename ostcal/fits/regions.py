"""Parts of an image: sections as FITS writes them (``[1:1024,1:1024]``), amplifiers, and what is kept of all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ostcal.engine.overscan import OverscanMethod
from ostcal.errors import FrameError
from ostcal.vocabulary import OverscanAxis

ADVICE: Final = "set master_frames.overscan to none or to the right sections"

NOTHING: Final = frozenset({"", "NONE", "N/A", "NA", "UNKNOWN", "UNDEFINED", "NULL", "NAN", "0", "-"})
"""Texts of a section card that say that there is no section."""
_WHOLE: Final = frozenset({"*", ":"})
_RANGE = re.compile(r"([+-]?\d+)(?:\.0*)?\s*[:,]\s*([+-]?\d+)(?:\.0*)?")
_FOUR_NUMBERS = re.compile(r"([+-]?\d+)[\s,]+([+-]?\d+)[\s,]+([+-]?\d+)[\s,]+([+-]?\d+)")
"""``[6389 6422 1 9600]``: first and last column, first and last row."""
_LEAST_COVERED: Final = 0.9
"""Share of the lines of an image from which on an overscan beside it counts as one of all lines."""


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
    kept_card: str = field(default="", compare=False, repr=False)
    """The card that says what is kept, for messages; "" where it follows from the others."""
    overscan_card: str = field(default="", compare=False, repr=False)

    @property
    def axis(self) -> OverscanAxis:
        """Return ``rows`` where the overscan stands beside what is kept, ``columns`` where it is above or below."""
        if self.given_axis is not None:
            return self.given_axis
        overscan = self.overscan
        beside = overscan is not None and (overscan.right <= self.kept.left or overscan.left >= self.kept.right)
        return "rows" if beside or overscan is None else "columns"

    def over_all_lines(self) -> Amplifier:
        """Return it with an overscan of all its lines, where the card leaves out few at the ends, as IRAF does."""
        overscan, kept = self.overscan, self.kept
        if overscan is None:
            return self
        if self.axis == "rows":
            bottom, top = min(overscan.bottom, kept.bottom), max(overscan.top, kept.top)
            covered = min(overscan.top, kept.top) - max(overscan.bottom, kept.bottom)
            longer = replace(overscan, bottom=bottom, top=top)
            return replace(self, overscan=longer) if covered >= _LEAST_COVERED * kept.height else self
        left, right = min(overscan.left, kept.left), max(overscan.right, kept.right)
        covered = min(overscan.right, kept.right) - max(overscan.left, kept.left)
        longer = replace(overscan, left=left, right=right)
        return replace(self, overscan=longer) if covered >= _LEAST_COVERED * kept.width else self


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
    said = f"{path}: {name} is {text!r}, which"
    size = f"the image of {width} x {height}"
    inner = text.strip(" \t'\"").strip("[]()").strip()
    if inner.upper() in NOTHING:
        return None
    four = _FOUR_NUMBERS.fullmatch(inner)
    if four:
        numbers = [int(word) for word in four.groups()]
    else:
        parts = [part.strip() for part in inner.split(",")]
        ends = [_ends(part, length) for part, length in zip(parts, (width, height), strict=False)]
        if len(parts) != 2 or None in ends:
            raise FrameError(f"{said} is no section such as [1:{width},1:{height}] of {size}; {ADVICE}")
        numbers = [number for pair in ends if pair is not None for number in pair]
    if not any(numbers):
        return None
    x1, x2, y1, y2 = numbers
    if x1 > x2 or y1 > y2:
        raise FrameError(f"{said} runs backwards in {size}; write the smaller number first; {ADVICE}")
    if x1 < 1 or y1 < 1 or x2 > width or y2 > height:
        raise FrameError(f"{said} is outside {size}; {ADVICE}")
    return Section(left=x1 - 1, right=x2, bottom=y1 - 1, top=y2)


def _ends(part: str, length: int) -> tuple[int, int] | None:
    if part in _WHOLE:
        return 1, length
    match = _RANGE.fullmatch(part)
    return None if match is None else (int(match[1]), int(match[2]))


def check_readout(readout: Readout, *, width: int, height: int, path: str) -> None:
    """Refuse sections that overlap, and parts that do not make a rectangle.

    Raises
    ------
    FrameError
        If a kept section overlaps an overscan or another kept section, or the kept sections leave a hole.
    """
    size = f"in the image of {width} x {height}"
    for number, amplifier in enumerate(readout.amplifiers):
        kept = _named(amplifier.kept_card or "the image", amplifier.kept)
        for other in readout.amplifiers:
            if other.overscan is not None and amplifier.kept.overlaps(other.overscan):
                overscan = _named(other.overscan_card or "the overscan", other.overscan)
                raise FrameError(f"{path}: {kept} and {overscan} overlap {size}; {ADVICE}")
        for other in readout.amplifiers[number + 1 :]:
            if amplifier.kept.overlaps(other.kept):
                second = _named(other.kept_card or "the image", other.kept)
                raise FrameError(f"{path}: {kept} and {second} of two amplifiers overlap {size}; {ADVICE}")
            if _is_crossed(amplifier, other):
                pairs = " and ".join(
                    f"{_named(a.overscan_card, a.overscan)} of {_named(a.kept_card, a.kept)}"
                    for a in (amplifier, other)
                    if a.overscan is not None
                )
                raise FrameError(f"{path}: {pairs} are not the overscans of their own amplifiers {size}; {ADVICE}")
        if amplifier.overscan is not None and not _faces(amplifier, amplifier.overscan):
            overscan = _named(amplifier.overscan_card or "the overscan", amplifier.overscan)
            raise FrameError(f"{path}: {overscan} covers not all {amplifier.axis} of {kept} {size}; {ADVICE}")
    n_kept = sum(a.kept.width * a.kept.height for a in readout.amplifiers)
    if n_kept != readout.width * readout.height:
        parts = ", ".join(_named(a.kept_card, a.kept) for a in readout.amplifiers)
        raise FrameError(f"{path}: {parts} make no rectangle {size}; {ADVICE}")


def _named(card: str, section: Section) -> str:
    return f"{card} {section.text()}".strip()


def _is_crossed(first: Amplifier, second: Amplifier) -> bool:
    """Return whether the overscans of two amplifiers beside each other stand in another order than their images.

    They may be one strip if it lies between the images.
    """
    if first.overscan is None or second.overscan is None or first.axis != second.axis:
        return False
    along, across = (_columns, _rows) if first.axis == "rows" else (_rows, _columns)
    if not _share(across(first.kept), across(second.kept)):
        return False
    low, high = sorted((first, second), key=lambda amplifier: along(amplifier.kept))
    if low.overscan is None or high.overscan is None:
        return False
    strip, other_strip = along(low.overscan), along(high.overscan)
    if not _share(across(low.overscan), across(high.overscan)) or not _share(strip, other_strip):
        return strip > other_strip
    gaps = (_gap(along(low.kept), strip), _gap(along(high.kept), other_strip))
    return 2 * max(gaps) > min(strip[1] - strip[0], other_strip[1] - other_strip[0])


def _columns(section: Section) -> tuple[int, int]:
    return section.left, section.right


def _rows(section: Section) -> tuple[int, int]:
    return section.bottom, section.top


def _share(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _gap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(other[0] - one[1], one[0] - other[1], 0)


def _faces(amplifier: Amplifier, overscan: Section) -> bool:
    if amplifier.axis == "rows":
        return overscan.bottom <= amplifier.kept.bottom and overscan.top >= amplifier.kept.top
    return overscan.left <= amplifier.kept.left and overscan.right >= amplifier.kept.right


def _joined(runs: Iterator[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return runs in order, each once, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(set(runs)):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)
