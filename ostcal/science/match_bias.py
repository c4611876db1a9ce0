"""Choice of the bias of a science frame."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster
from ostcal.science.matched import MatchRules
from ostcal.science.shelf import shelf_of


def choose_science_bias(
    key: GroupKey, library: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None = None
) -> LibraryMaster | None:
    """Choose the bias of a science frame; ``None`` if none fits.

    The one that leaves the fewest settings open; of these one of its temperature, else the nearest; then the time of
    the frames decides.
    """
    return shelf_of(library, rules).fits(key).bias_at(taken_at)
