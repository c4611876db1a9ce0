"""Telescope, focal length and rotation of the camera: what headers say of the light path of a flat."""

from __future__ import annotations

from ostcal.fits import dialects
from ostcal.fits.cards import CardValue, Header
from ostcal.fits.quantities import UNKNOWN_WORDS
from ostcal.frames import Optics


def optics_of(header: Header) -> Optics:
    """Return telescope, focal length and angles of a header; values that cannot be true are not recorded."""
    rotator_deg, sky_deg = dialects.ROTATOR_DEG.of(header), dialects.SKY_ANGLE_DEG.of(header)
    if sky_deg is not None and _is_west_of_pier(header):
        sky_deg += 180.0
    return Optics(
        telescope=_telescope(header),
        focal_length_mm=dialects.FOCAL_LENGTH_MM.of(header),
        rotator_deg=None if rotator_deg is None else _on_circle(rotator_deg),
        sky_angle_deg=None if sky_deg is None else _on_circle(sky_deg),
    )


def optics_cards(optics: Optics) -> list[tuple[str, CardValue, str]]:
    """Return the cards that `optics_of` reads."""
    return [
        ("TELESCOP", optics.telescope, "telescope"),
        ("FOCALLEN", optics.focal_length_mm, "[mm] focal length"),
        ("ROTATANG", optics.rotator_deg, "[deg] mechanical angle of the rotator"),
        ("POSANGLE", optics.sky_angle_deg, "[deg] position angle, east of the pier"),
    ]


def _telescope(header: Header) -> str | None:
    texts = (header.text(keyword) for keyword in dialects.TELESCOPE)
    return next((text for text in texts if text and text.lower() not in UNKNOWN_WORDS), None)


def _is_west_of_pier(header: Header) -> bool:
    side = (header.text(*dialects.PIER_SIDE) or "").lower()
    return side in ("west", "w", "pierwest")


def _on_circle(angle_deg: float) -> float:
    """Return an angle from 0 to 360, without what 32-bit floats add to it."""
    return round(angle_deg % 360.0, 4) % 360.0
