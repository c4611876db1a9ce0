"""The section ``master_frames.calibration``: which kinds of frames another program has calibrated."""

from __future__ import annotations

from typing import get_args

from ostcal.config.values import Section, empty_is_default, key
from ostcal.vocabulary import Calibration


def word_for_all_kinds(value: object) -> object:
    """Convert one word to the same for every kind of frames; a group without keys is the defaults."""
    if isinstance(value, str) and value in get_args(Calibration):
        return dict.fromkeys(CalibrationSection.model_fields, value)
    return empty_is_default(value)


class CalibrationSection(Section):
    """Frames that another program has calibrated: none subtracts nothing from them; one word is for all kinds."""

    bias: Calibration = key(
        "auto", "Bias frames; none: their level was subtracted already, and they serve frames of which it was too."
    )
    dark: Calibration = key("auto", "Darks; none: their bias was subtracted already, although no card says so.")
    flat: Calibration = key("auto", "Flats; none: neither a dark nor a bias is subtracted.")
    light: Calibration = key("auto", "Science frames; none: neither a dark nor a bias is subtracted.")
