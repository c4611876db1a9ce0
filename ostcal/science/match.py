"""Matching of masters to a science frame, on one page: what is exact, what scales, and what time decides.

Camera, size, binning, gain, offset, readout mode, and for flats the filter and the Bayer pattern, must be equal; what
one side does not record fits anything, after all that records it. The temperature of a dark must be within the
tolerance. A dark of another exposure is scaled with the help of a bias, or of a second dark, and that is said; where
neither fits, one within the tolerance is taken as it is, and that is said too. Of masters that fit alike the one whose
frames were taken nearest in time is taken (`ostcal.library.in_time`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ostcal.build.match_darks import why_unfit
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster
from ostcal.science.fitting import NoMasterFitsError, flat_unfit, nothing_fits, refuse_other_geometry
from ostcal.science.match_bias import choose_science_bias
from ostcal.science.match_dark import choose_science_dark, scale_named_dark
from ostcal.science.matched import (
    DarkMix,
    DarkPart,
    MatchedMasters,
    MatchRules,
    MaxAges,
    masters_of,
    science_key,
    usable_masters,
)
from ostcal.science.shelf import first_of, shelf_of

__all__ = [
    "DarkMix",
    "DarkPart",
    "MatchRules",
    "MatchedMasters",
    "MaxAges",
    "choose_science_bias",
    "choose_science_dark",
    "choose_science_flat",
    "masters_of",
    "named_master_warnings",
    "refuse_other_geometry",
    "scale_named_dark",
    "science_key",
    "usable_masters",
]


def choose_science_flat(
    key: GroupKey, taken_at: datetime | None, library: Sequence[LibraryMaster], rules: MatchRules
) -> LibraryMaster:
    """Choose the flat of a science frame that was taken at some time.

    The one that leaves the fewest settings open; of these within their age, of the nearest night, then of the nearest
    time. The night of the frame is cut at the noon of each flat.

    Raises
    ------
    InputError
        If none fits, or the frame does not record a setting, such as the filter, in which the flats that fit differ.
    """
    shelf = shelf_of(library, rules)
    fits = shelf.fits(key)
    if fits.open_of_flats.refusal:
        raise InputError(fits.open_of_flats.refusal)
    flat = first_of(fits.flats, taken_at, rules)
    if flat is None:
        candidates = shelf.masters_of(fits.flat_fits) or shelf.flats
        raise NoMasterFitsError(lambda: nothing_fits("flat", key, candidates, shelf, rules, taken_at))
    return flat


def named_master_warnings(key: GroupKey, master: LibraryMaster, rules: MatchRules) -> list[str]:
    """Say what differs between a frame and a master that the user named nevertheless."""
    is_flat = master.key.frame_type is FrameType.FLAT
    difference = (
        flat_unfit(key, master.key, rules) if is_flat else why_unfit(key, master.key, rules.temperature_tolerance_c)
    )
    lines = [f"{master.record.name} was named although it differs: {difference}"] if difference else []
    if master.record.verdict == "fail":
        lines.append(f"{master.record.name} was named although it failed its quality control")
    return lines
