"""What calibrating programs added to keep values above zero (PEDESTAL), which is subtracted again."""

from __future__ import annotations

from dataclasses import replace

from ostcal.fits.cards import Header, card_keyword
from ostcal.fits.read import FitsFrame

KEYWORD = "PEDESTAL"


def pedestal_adu(frame: FitsFrame) -> float:
    """Return what was added to a frame that was calibrated, in ADU; programs write it with either sign."""
    if not (frame.metadata.dark_subtracted or frame.metadata.bias_subtracted):
        return 0.0
    return abs(Header(frame.cards).number(KEYWORD, low=-1e6, high=1e6) or 0.0)


def without_pedestal(frame: FitsFrame) -> FitsFrame:
    """Return a frame whose samples are read without the pedestal; the frame itself where it has none."""
    pedestal = pedestal_adu(frame)
    if not pedestal:
        return frame
    cards = tuple(card for card in frame.cards if card_keyword(card) != KEYWORD)
    return replace(frame, bzero=frame.bzero - pedestal, cards=cards)
