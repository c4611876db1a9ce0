"""Cards of a calibrated frame that name its masters."""

from __future__ import annotations

from ostcal.frames import FrameType
from ostcal.library.master_header import Card
from ostcal.science.choose_masters import FrameMasters
from ostcal.science.dark_of_temperature import TemperatureDark
from ostcal.science.opened_masters import OpenedMaster


def master_cards(masters: FrameMasters) -> list[Card]:
    """Name the masters: NAME, ID (CALID) and DIG (INPDIGST) after BIAS, DARK, DRK2, ... DRK9, D10, ... and FLAT."""
    cards: list[Card] = []
    n_darks = 0
    dark = masters.chosen.dark
    for part, master in zip(dark.parts if dark is not None else (), masters.darks, strict=True):
        if part.master.key.frame_type is FrameType.BIAS:
            prefix, what = "BIAS", "bias"
        else:
            n_darks += 1
            prefix, what = _dark_prefix(n_darks), "dark"
        cards += _identity_cards(prefix, what, master)
        if part.weight != 1.0:
            cards.append((f"{prefix}SCAL", part.weight, f"how many times the {what} was subtracted"))
    if dark is not None and dark.synthetic is not None:
        cards.append(("SYNTHDRK", True, f"the dark comes from a fit over {dark.synthetic.lacking}s"))
        if isinstance(dark.synthetic, TemperatureDark):
            cards.append(("SYNTHID", dark.synthetic.model_id, "model of the fit over temperatures"))
            cards.append(("SYNTHTMP", dark.synthetic.temperature_c, "[C] temperature that the dark was made for"))
    cards += [] if masters.flat is None else _identity_cards("FLAT", "flat", masters.flat)
    return cards + _age_cards(masters)


def _dark_prefix(number: int) -> str:
    """Return what the cards of a dark begin with; keywords have eight letters."""
    if number == 1:
        return "DARK"
    return f"DRK{number}" if number < 10 else f"D{number}"


def _age_cards(masters: FrameMasters) -> list[Card]:
    """Return how many days before the frame the masters were taken; what is not used or not known has no card."""
    ages = {kind: masters.chosen.age_days(kind) for kind in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)}
    return [
        (f"AGE{kind.upper()}", round(age, 4) if age is not None else None, f"[d] {kind} taken before this frame")
        for kind, age in ages.items()
    ]


def _identity_cards(prefix: str, what: str, master: OpenedMaster) -> list[Card]:
    return [
        (f"{prefix}NAME", master.name, f"master {what}"),
        (f"{prefix}ID", master.calibration_id or None, f"CALID of the master {what}"),
        (f"{prefix}DIG", master.input_digest or None, f"INPDIGST of the master {what}"),
    ]
