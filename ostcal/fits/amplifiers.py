"""What headers say of overscan, in the cards of many observatories: which amplifiers there are, and where theirs is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from ostcal.errors import FrameError
from ostcal.fits.cards import Header
from ostcal.fits.regions import ADVICE, Amplifier, Section, parse_section

OVERSCAN_CARDS: Final = ("BIASSEC", "BIASREG", "OVRSEC", "OVERSCAN", "OVERSEC", "BSEC")
KEPT_CARDS: Final = ("TRIMSEC", "DATASEC", "TRIMREG", "TSEC", "DSEC")
_OF_ONE: Final = (("BIASSEC", "TRIMSEC", "DATASEC"), ("BSEC", "TSEC", "DSEC"))
"""Cards of one amplifier, with its number or letter behind them: BIASSEC1, BIASSEC01, BIASSECA, BSEC11 (Arcon)."""
_ENDING: Final = r"(?:\d{1,2}|[A-H]|[LR])"
_NUMBERED = re.compile(rf"(?:BIASSEC|TRIMSEC|DATASEC|BSEC|TSEC|DSEC)({_ENDING})")
_NUMBERED_OVERSCAN = re.compile(rf"B(?:IAS)?SEC{_ENDING}")
_SECTION_CARD = re.compile(
    rf"(?:BIASSEC|TRIMSEC|DATASEC|BSEC|TSEC|DSEC|PRESEC|POSTSEC)(?:{_ENDING})?"
    r"|BIASREG|TRIMREG|OVRSEC|OVERSCAN|OVERSEC|COVER|ROVER|PRESCANX?|PRESCANY|OVERSCN[XY]|OVRSCN[XY]"
    r"|PREPIX|POSTPIX|PRECOL|PRELINE|POSTLINE|ESO DET OUT\d+ (?:PRSC|OVSC)[XY]"
)
_MAX_OUTPUTS: Final = 16
_COUNT = re.compile(r"\d+(?:\.0*)?")
_TWO_NUMBERS = re.compile(r"(\d+)\s*[,xX ]\s*(\d+)")


def is_section_card(keyword: str) -> bool:
    """Return whether a card is about sections that a trimmed image no longer has."""
    return _SECTION_CARD.fullmatch(keyword) is not None


@dataclass(frozen=True, kw_only=True)
class UntrimmedImage:
    """The header and size of an image as the camera has read it out."""

    header: Header
    width: int
    height: int
    path: str

    @property
    def whole(self) -> Section:
        """All of it."""
        return Section(left=0, right=self.width, bottom=0, top=self.height)

    def section(self, *keywords: str) -> tuple[Section, str] | None:
        """Return the first section among cards, and its card.

        Raises
        ------
        FrameError
            If one of them cannot be read; a number is a section in no card, and a count of columns in OVERSCAN.
        """
        for keyword in keywords:
            value = self.header.value(keyword)
            if not isinstance(value, str):
                if value and keyword != "OVERSCAN":
                    raise self.contradicts(keyword, f"is no section such as [1:{self.width},1:{self.height}]")
                continue
            if keyword == "OVERSCAN" and _COUNT.fullmatch(value.strip()):
                continue
            section = parse_section(value, width=self.width, height=self.height, name=keyword, path=self.path)
            if section is not None:
                return section, keyword
        return None

    def kept(self) -> tuple[Section, str] | None:
        """Return the section that is to be kept, and its card: the first one that is not the whole image."""
        found = None
        for keyword in KEPT_CARDS:
            section = self.section(keyword)
            if section is not None and section[0] != self.whole:
                return section
            found = found or section
        return found

    def count(self, *keywords: str) -> tuple[int, str]:
        """Return the first count of columns or rows among cards, and its card; (0, "") where there is none.

        Raises
        ------
        FrameError
            If it is no number of columns or rows that this image can have.
        """
        for keyword in keywords:
            value = self.header.value(keyword)
            number = None if isinstance(value, bool) else self.header.number(keyword)
            if number is None:
                continue
            if number < 0 or number != int(number) or number > max(self.width, self.height):
                raise self.contradicts(keyword, "is no number of its columns or rows")
            if number:
                return int(number), keyword
        return 0, ""

    def contradicts(self, keyword: str, why: str) -> FrameError:
        """Return the error that names a card which the image contradicts."""
        value = self.header.value(keyword)
        return FrameError(
            f"{self.path}: {keyword} is {value!r}, which {why} in the image of {self.width} x {self.height}; {ADVICE}"
        )

    def binning(self) -> tuple[int, int]:
        """Return the binning of BINNING = '1,2' as Keck writes it."""
        match = _TWO_NUMBERS.search(self.header.text("BINNING") or "")
        return (max(1, int(match[1])), max(1, int(match[2]))) if match else (1, 1)


def amplifiers_of(image: UntrimmedImage) -> list[Amplifier]:
    """Return the amplifiers that an image was read with; none where its header names no section.

    Raises
    ------
    FrameError
        If a section cannot be read or is outside the image, or a count does not fit it.
    """
    if not any(map(_SECTION_CARD.fullmatch, image.header.keywords)):
        return []
    for found in (_with_cards_of_their_own, _with_one_overscan, _of_eso, _counted):
        amplifiers = found(image)
        if amplifiers:
            return [amplifier.over_all_lines() for amplifier in amplifiers]
    kept = image.kept()
    return [Amplifier(kept=kept[0], kept_card=kept[1])] if kept is not None else []


def trimmed_only(image: UntrimmedImage) -> list[Amplifier]:
    """Return what is kept of an image whose overscan was subtracted already."""
    try:
        amplifiers = amplifiers_of(image)
    except FrameError:  # sections of the image before it was trimmed
        return []
    return [Amplifier(kept=amplifier.kept, kept_card=amplifier.kept_card) for amplifier in amplifiers]


# ---- sections ----


def _with_cards_of_their_own(image: UntrimmedImage) -> list[Amplifier]:
    """Return the amplifiers that have numbered cards."""
    endings = sorted({match[1] for keyword in image.header.keywords if (match := _NUMBERED.fullmatch(keyword))})
    amplifiers: list[Amplifier] = []
    alone: list[str] = []
    for overscan_card, *kept_cards in _OF_ONE:
        for end in endings:
            overscan = image.section(f"{overscan_card}{end}")
            kept = image.section(*(f"{card}{end}" for card in kept_cards))
            if kept is not None:
                section, card = overscan or (None, "")
                amplifiers.append(Amplifier(kept=kept[0], kept_card=kept[1], overscan=section, overscan_card=card))
            elif overscan is not None:
                alone.append(overscan[1])
    if alone and (amplifiers or len(alone) > 1):
        end = alone[0].removeprefix("BIASSEC").removeprefix("BSEC")
        raise image.contradicts(alone[0], f"has no TRIMSEC{end} or DATASEC{end} beside it")
    measured = [amplifier for amplifier in amplifiers if amplifier.overscan is not None]
    if measured:
        lacking = next((amplifier for amplifier in amplifiers if amplifier.overscan is None), None)
        if lacking is not None:
            end = re.sub("^(?:TRIMSEC|DATASEC|TSEC|DSEC)", "", lacking.kept_card)
            card = "BSEC" if measured[0].overscan_card.startswith("BSEC") else "BIASSEC"
            why = f"has no {card}{end} beside it as the other amplifiers have"
            raise image.contradicts(lacking.kept_card, why)
        return amplifiers
    # Without an overscan of their own, the cards of the whole image say more.
    if image.section(*OVERSCAN_CARDS) is not None or image.kept() is not None:
        return []
    return amplifiers


def _with_one_overscan(image: UntrimmedImage) -> list[Amplifier]:
    """Return the one amplifier of an image whose header names an overscan."""
    numbered = [keyword for keyword in image.header.keywords if _NUMBERED_OVERSCAN.fullmatch(keyword)]
    overscan = image.section(*OVERSCAN_CARDS, *numbered)
    if overscan is None:
        return []
    section, card = overscan
    kept, kept_card = image.kept() or (image.whole, "")
    if kept == image.whole:
        kept, kept_card = rest_of(image.whole, section, f"{image.path}: {card}"), ""
    return [Amplifier(kept=kept, kept_card=kept_card, overscan=section, overscan_card=card)]


def rest_of(whole: Section, overscan: Section, said: str) -> Section:
    """Return what an overscan at an edge leaves of the image; the larger side where it lies inside.

    Raises
    ------
    FrameError
        If it leaves nothing; the message begins with `said`.
    """
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
        size = f"{whole.width} x {whole.height}"
        raise FrameError(f"{said} {overscan.text()} is the whole image of {size}; {ADVICE}")
    return rest


# ---- counts of columns and rows ----


@dataclass(frozen=True, kw_only=True)
class _Output:
    """Pixels along one axis that belong to one output: its prescan, its image, its overscan."""

    prescan: int
    size: int
    overscan: int
    mirrored: bool = False
    """Whether it is read towards lower numbers: its prescan stands at the far end."""

    @property
    def length(self) -> int:
        return self.prescan + self.size + self.overscan

    def kept(self, start: int) -> tuple[int, int]:
        first = start + (self.overscan if self.mirrored else self.prescan)
        return first, first + self.size

    def level(self, start: int) -> tuple[int, int] | None:
        """Return where the level is measured: in the overscan, else in the prescan."""
        n = self.overscan or self.prescan
        if not n:
            return None
        at_start = (self.overscan == 0) != self.mirrored
        return (start, start + n) if at_start else (start + self.length - n, start + self.length)


def _of_eso(image: UntrimmedImage) -> list[Amplifier]:
    """Return the outputs of ESO's detectors: ESO DET OUT1 PRSCX, NX, OVSCX, and the same in Y."""
    outputs = [
        f"ESO DET OUT{n}"
        for n in range(1, _MAX_OUTPUTS + 1)
        if any(f"ESO DET OUT{n} {what}" in image.header for what in ("PRSCX", "OVSCX", "PRSCY", "OVSCY"))
    ]
    if not any(image.count(f"{out} {what}{axis}")[0] for out in outputs for what in ("PRSC", "OVSC") for axis in "XY"):
        return []
    places = [tuple(image.header.number(f"{out} {axis}") or 1.0 for axis in "XY") for out in outputs]
    lines = [sorted({place[axis] for place in places}) for axis in (0, 1)]
    columns, rows = (_eso_axis(image, outputs, places, lines[axis], axis) for axis in (0, 1))
    amplifiers = []
    for out, (x, y) in zip(outputs, places, strict=True):
        column, row = lines[0].index(x), lines[1].index(y)
        left, bottom = (sum(line.length for line in axis[:index]) for axis, index in ((columns, column), (rows, row)))
        amplifiers.append(_amplifier(columns[column], left, rows[row], bottom, card=out))
    return amplifiers


def _eso_axis(
    image: UntrimmedImage,
    outputs: list[str],
    places: list[tuple[float, ...]],
    lines: list[float],
    axis: int,
) -> list[_Output]:
    """Return the outputs beside each other along an axis; the second of two is read towards the first."""
    name, length = "XY"[axis], (image.width, image.height)[axis]
    found = []
    for index, line in enumerate(lines):
        out = next(out for out, place in zip(outputs, places, strict=True) if place[axis] == line)
        prescan, overscan = (image.count(f"{out} {what}{name}")[0] for what in ("PRSC", "OVSC"))
        size = image.count(f"{out} N{name}")[0] if f"{out} N{name}" in image.header else 0
        found.append(_Output(prescan=prescan, size=size, overscan=overscan, mirrored=len(lines) == 2 and index == 1))
    beyond = sum(output.prescan + output.overscan for output in found)
    total = sum(output.size for output in found)
    if not beyond and len(found) == 1:
        found = [replace(found[0], size=length)]
    elif total == length and beyond:  # N counts all pixels of the output
        found = [replace(output, size=output.size - output.prescan - output.overscan) for output in found]
    elif total == 0 and (length - beyond) % len(found) == 0:
        found = [replace(output, size=(length - beyond) // len(found)) for output in found]
    if sum(output.length for output in found) != length or any(output.size < 1 for output in found):
        raise image.contradicts(f"{outputs[0]} N{name}", f"does not fit with PRSC{name} and OVSC{name}")
    return found


def _amplifier(column: _Output, left: int, row: _Output, bottom: int, *, card: str) -> Amplifier:
    """Return the amplifier of an output whose part of the image begins at (left, bottom)."""
    (x1, x2), (y1, y2) = column.kept(left), row.kept(bottom)
    beside, above = column.level(left), row.level(bottom)
    overscan = None
    if beside is not None:
        overscan = Section(left=beside[0], right=beside[1], bottom=bottom, top=bottom + row.length)
    elif above is not None:
        overscan = Section(left=left, right=left + column.length, bottom=above[0], top=above[1])
    kept = Section(left=x1, right=x2, bottom=y1, top=y2)
    return Amplifier(kept=kept, kept_card=card, overscan=overscan, overscan_card=card)


def _counted(image: UntrimmedImage) -> list[Amplifier]:
    """Return the amplifiers of headers that count columns: Lick's COVER, Keck's POSTPIX, PRESCAN and OVERSCAN.

    Where an image has several, all prescans come first, then all images, then all overscans.
    """
    (post_x, post_card), n_amplifiers = image.count("COVER"), image.count("AMPSCOL")[0]
    pre_x, pre_card, x_bin, y_bin = 0, "", 1, 1
    if not post_card:
        x_bin, y_bin = image.binning()
        (pre_x, pre_card), (post_x, post_card) = image.count("PREPIX", "PRECOL"), image.count("POSTPIX")
        n_amplifiers = image.count("NUMAMPS")[0]
    if not (pre_card or post_card):
        x_bin = y_bin = 1
        n_amplifiers = 1
        pre_x, pre_card = image.count("PRESCAN", "PRESCANX")
        post_x, post_card = (
            (0, "")
            if is_subtracted_level(image.header, image.width)
            else image.count("OVERSCAN", "OVERSCNX", "OVRSCNX")
        )
    pre_y, pre_y_card = image.count("PRELINE", "PRESCANY")
    post_y, post_y_card = image.count("ROVER", "POSTLINE", "OVERSCNY", "OVRSCNY")
    card = post_card or pre_card or post_y_card or pre_y_card
    if not card:
        return []
    pre_x, post_x, pre_y, post_y = pre_x // x_bin, post_x // x_bin, pre_y // y_bin, post_y // y_bin
    kept = image.kept()
    if kept is not None and kept[0] != image.whole:
        return [_beside(image, kept, (pre_x, post_x, pre_y, post_y), card)]
    n = max(1, n_amplifiers)
    across, up = image.width - n * (pre_x + post_x), image.height - pre_y - post_y
    if across < n or across % n or up < 1:
        raise image.contradicts(card, f"leaves no columns or rows for {n} amplifier{'s' if n > 1 else ''}")
    row = _Output(prescan=pre_y, size=up, overscan=post_y)
    if not (pre_x or post_x):
        return [_amplifier(_Output(prescan=0, size=across, overscan=0), 0, row, 0, card=card)]
    amplifiers = []
    for place in range(n):
        left = n * pre_x + place * across // n
        first = image.width - (n - place) * post_x if post_x else place * pre_x
        overscan = Section(left=first, right=first + (post_x or pre_x), bottom=0, top=image.height)
        part = Section(left=left, right=left + across // n, bottom=pre_y, top=image.height - post_y)
        amplifiers.append(Amplifier(kept=part, kept_card=card, overscan=overscan, overscan_card=card))
    return amplifiers


def _beside(
    image: UntrimmedImage, kept: tuple[Section, str], counts: tuple[int, int, int, int], card: str
) -> Amplifier:
    """Return the amplifier whose kept part has a card of its own: its overscan is what stands behind it, or before."""
    (section, kept_card), (pre_x, post_x, pre_y, post_y) = kept, counts
    whole = image.whole
    overscan = None
    if post_x and section.right < whole.right:
        overscan = replace(whole, left=max(section.right, whole.right - post_x))
    elif pre_x and section.left:
        overscan = replace(whole, right=min(section.left, pre_x))
    elif post_y and section.top < whole.top:
        overscan = replace(whole, bottom=max(section.top, whole.top - post_y))
    elif pre_y and section.bottom:
        overscan = replace(whole, top=min(section.bottom, pre_y))
    return Amplifier(kept=section, kept_card=kept_card, overscan=overscan, overscan_card=card)


def is_subtracted_level(header: Header, width: int) -> bool:
    """Return whether OVERSCAN is no count but the level that was subtracted, as Gemini's IRAF writes it.

    32.0 is a count of columns, unless the image has no more than these.
    """
    value = header.value("OVERSCAN")
    is_level = isinstance(value, float) and not (value.is_integer() and 0 <= value < width)
    return is_level or "OVERRMS" in header
