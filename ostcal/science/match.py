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
from ostcal.library.in_time import first_in_time
from ostcal.naming import filter_identity
from ostcal.science.fitting import choose_science_bias, flat_unfit, least_open, nothing_fits, refuse_other_geometry
from ostcal.science.match_dark import choose_science_dark, scale_named_dark
from ostcal.science.matched import (
    DarkMix,
    DarkPart,
    MatchedMasters,
    MatchRules,
    MaxAges,
    science_key,
    usable_masters,
)

__all__ = [
    "DarkMix",
    "DarkPart",
    "MatchRules",
    "MatchedMasters",
    "MaxAges",
    "choose_science_bias",
    "choose_science_dark",
    "choose_science_flat",
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
        If none fits, or the frame names no filter and flats of several filters would fit.
    """
    flats = [m for m in usable_masters(library, rules) if m.key.frame_type is FrameType.FLAT]
    fitting = [m for m in flats if not flat_unfit(key, m.key, rules)]
    # r is R where only one of them is there; where both are, they are two filters
    exact = [m for m in fitting if filter_identity(m.key.filter_name or "") == filter_identity(key.filter_name or "")]
    fitting = exact if exact else fitting
    filters = sorted({m.key.filter_name for m in fitting if m.key.filter_name})
    if not key.filter_name and len({name.casefold() for name in filters}) > 1:
        raise InputError(
            f"the frame names no filter (FILTER) and there are flats of {', '.join(filters)}; "
            "write FILTER into its header or name a flat with --flat"
        )
    of_age = [m for m in fitting if not (rules.strict and rules.too_old(m, taken_at))]
    if not of_age:
        raise InputError(nothing_fits("flat", key, fitting or flats, library, rules, taken_at))
    return first_in_time(
        least_open(key, of_age, rules, taken_at), lambda m: m.record.merit, taken_at, rules.in_time(FrameType.FLAT)
    )


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
