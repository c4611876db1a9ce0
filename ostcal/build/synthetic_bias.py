"""A bias that nobody took: one level for all pixels, as the configuration gives it or a formula of cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.build.match_darks import DarkCandidate, DarkChoice
from ostcal.errors import InputError
from ostcal.fits.cards import Header
from ostcal.formula import Cards, Formula, FormulaError
from ostcal.frames import FrameType
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Group

KEY = "master_frames.synthetic_bias"


@dataclass(frozen=True, kw_only=True)
class ConstantPlane:
    """An image of one value; implements `ostcal.engine.levels.SteppedReader`."""

    width: int
    level_adu: float

    @property
    def row_step(self) -> int:
        """Any row costs nothing."""
        return 1

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``."""
        return np.full((stop - start, self.width), self.level_adu, np.float32)


@dataclass(frozen=True, kw_only=True)
class SyntheticBias:
    """What flats take for their bias."""

    choice: DarkChoice
    plane: ConstantPlane


def synthetic_bias(formula: Formula, flat: Group, members: Sequence[Source]) -> SyntheticBias:
    """Compute the bias of a group of flats from the cards of its frames.

    Raises
    ------
    InputError
        If a card is missing, or the level is below 0 or not the same for all frames; the message names the frame.
    """
    levels_adu: dict[float, str] = {}
    for source in members:
        try:
            level_adu = formula.value(_cards_of(source, formula.cards))
        except FormulaError as error:
            raise InputError(f"{source.frame.label}: {KEY}: {error}") from error
        if level_adu < 0:
            raise InputError(f"{source.frame.label}: {KEY}: {formula.text} is {level_adu:g} ADU; it must be 0 or more")
        levels_adu.setdefault(level_adu, source.frame.label)
    if len(levels_adu) > 1:
        (a_adu, a), (b_adu, b), *_ = levels_adu.items()
        raise InputError(
            f"{b}: {KEY}: {formula.text} is {b_adu:g} ADU, of {a} it is {a_adu:g} ADU; take cards that all frames of a"
            " flat share"
        )
    (level_adu,) = levels_adu
    text = f"synthetic bias of {level_adu:g} ADU" + (f" ({formula.text})" if formula.cards else "")
    key = replace(flat.key, frame_type=FrameType.BIAS, exposure_time_s=0.0, filter_name=None)
    candidate = DarkCandidate(name=text, key=key, from_this_run=False, is_synthetic=True)
    return SyntheticBias(
        choice=DarkChoice(kind="bias", first=candidate), plane=ConstantPlane(width=flat.key.width, level_adu=level_adu)
    )


def _cards_of(source: Source, names: Sequence[str]) -> Cards:
    """Return the numbers of cards of a frame; of captured frames, which have no header, those that are recorded."""
    metadata = source.frame.metadata
    settings = metadata.settings
    recorded: dict[str, float | None] = {
        "OFFSET": settings.offset,
        "GAIN": settings.gain,
        "XBINNING": settings.binning[0],
        "YBINNING": settings.binning[1],
        "EXPTIME": metadata.exposure_time_s,
        "CCD-TEMP": metadata.ccd_temperature_c,
        "SET-TEMP": metadata.set_temperature_c,
    }
    header = Header(source.fits.cards if source.fits is not None else ())
    values = {name: header.number(name) if name in header else recorded.get(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
