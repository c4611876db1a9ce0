"""The settings file that SharpCap writes beside its frames: what it says stands in for cards that a header lacks."""

from __future__ import annotations

import functools
from pathlib import Path

from ostcal.fits.cards import Header, format_card
from ostcal.opening import open_regular

_ENDING = ".CameraSettings.txt"
_CARDS = {
    "exposure": "EXPTIME",
    "gain": "GAIN",
    "offset": "OFFSET",
    "black level": "OFFSET",
    "brightness": "OFFSET",
    "binning": "BINNING",
    "temperature": "CCD-TEMP",
    "target temperature": "SET-TEMP",
    "frame type": "IMAGETYP",
    "frametype": "IMAGETYP",
}
"""Keys in lower case, and the cards that they stand for."""
_MAX_BYTES = 1 << 16


def cards_beside(path: str, header: Header) -> list[str]:
    """Return cards that a header of SharpCap lacks and the settings file of the frame, or of its folder, has."""
    if not may_have_settings_beside(header):
        return []
    frame = Path(path)
    values = _read(frame.with_name(frame.stem + _ENDING)) or _of_folder(frame.parent)
    return [card for name, value in values if name not in header for card in format_card(name, value)]


def may_have_settings_beside(header: Header) -> bool:
    """Return whether a header is of SharpCap, which writes settings into a file beside the frame."""
    return "sharpcap" in (header.text("SWCREATE", "CREATOR", "PROGRAM") or "").lower()


@functools.lru_cache(maxsize=64)
def _of_folder(folder: Path) -> tuple[tuple[str, str], ...]:
    """Read the settings of all frames of a folder: the file of its name beside or in it, or the only one in it."""
    if folder.name.lower() == "rawframes":
        folder = folder.parent
    for settings in (folder.with_name(folder.name + _ENDING), folder / (folder.name + _ENDING)):
        values = _read(settings)
        if values:
            return values
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(_ENDING)]
    except OSError:
        return ()
    return _read(found[0]) if len(found) == 1 else ()


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> tuple[tuple[str, str], ...]:
    """Read the keys that are known; nothing where there is no such file."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, is_value, value = line.partition("=")
        card = _CARDS.get(name.strip().lower())
        if card and is_value and value.strip():
            found.setdefault(card, value.strip()[:60])
    return tuple(found.items())
