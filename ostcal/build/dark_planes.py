"""The image that is subtracted from flats, from the masters that were chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.build.match_darks import DarkCandidate, DarkChoice
from ostcal.build.synthetic_bias import ConstantPlane
from ostcal.engine.levels import DarkModel, SteppedReader


@dataclass(frozen=True, kw_only=True)
class SumPlane:
    """The sum of two images, or their difference; implements `ostcal.engine.levels.SteppedReader`."""

    first: SteppedReader
    second: SteppedReader
    sign: int
    """1 or -1: of the second."""

    @property
    def row_step(self) -> int:
        """Rows that are stored together in either."""
        return max(self.first.row_step, self.second.row_step)

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``."""
        first, second = (plane.read_rows(start, stop).astype(np.float64) for plane in (self.first, self.second))
        return (first + self.sign * second).astype(np.float32)


def dark_model(choice: DarkChoice, plane_of: Callable[[DarkCandidate], SteppedReader]) -> DarkModel:
    """Return the dark of any exposure that a choice stands for."""
    first = plane_of(choice.first)
    first_s = choice.first.key.exposure_time_s
    if choice.second is None:
        return DarkModel(first=first, first_exposure_s=first_s)
    second, second_s = plane_of(choice.second), choice.second.key.exposure_time_s
    if choice.is_current_only:
        difference = SumPlane(first=second, second=first, sign=-1)
        nothing = ConstantPlane(width=choice.first.key.width, level_adu=0.0)
        return DarkModel(first=nothing, first_exposure_s=first_s, second=difference, second_exposure_s=second_s)
    if choice.second.key.bias_subtracted and not choice.first.key.bias_subtracted:
        with_bias = SumPlane(first=second, second=first, sign=1)
        return DarkModel(first=first, first_exposure_s=0.0, second=with_bias, second_exposure_s=second_s)
    return DarkModel(first=first, first_exposure_s=first_s, second=second, second_exposure_s=second_s)
