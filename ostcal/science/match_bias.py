"""Choice of the bias of a science frame."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster
from ostcal.science.fitting import nothing_fits
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


def why_no_bias(
    key: GroupKey, library: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None = None
) -> str:
    """Say which bias comes nearest to a frame, and why it does not fit."""
    shelf = shelf_of(library, rules)
    biases = [master for master in shelf.usable if master.key.frame_type is FrameType.BIAS]
    return nothing_fits("bias", key, biases, shelf, rules, taken_at)
