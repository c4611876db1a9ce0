"""Flats that light reaches in part: through a slit or fibres, in the orders of a spectrograph, in a round field.

Many of their pixels hold no light, many are bright, and few are in between. What is dim everywhere, or loses its
corners because the wrong dark was subtracted, has pixels of all levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.masters.lit_area import LitArea
from ostcal.measure.masters.scan_result import MasterScan

_BRIGHT_QUANTILE = 0.95
_UNLIT_SHARE = 0.03
_LIT_SHARE = 0.2
"""Shares of the bright level below which a pixel holds no light, and above which it is lit."""
_LEAST_UNLIT = 0.05
"""Of the pixels: fewer are those of corners, dust and defects."""
_FEW_BETWEEN = 0.5
"""Of the number of pixels without light."""
_OF_BORDER = 0.8
"""Of the pixels without light: where so many are in the border, it is an overscan."""
_LEAST_NOISES = 20.0
"""The bright level, in noises of a sample: below, nothing is lit."""


@dataclass(frozen=True, kw_only=True)
class PartlyLit:
    """What a flat without light in many of its pixels is like."""

    level: float
    """Of its bright parts, in the unit of the flat."""
    unlit_share: float
    """Of the pixels."""

    @property
    def finding(self) -> Finding:
        """Say that its dark parts do not count."""
        text = (
            f"{100 * self.unlit_share:.0f} % of its pixels hold no light, beside bright ones, as with a slit, fibres or"
            " a round field: they are not judged, and calibrated frames say nothing there"
        )
        return Finding(check="unlit area", outcome=Outcome.WARN, value=self.unlit_share, limit=_LEAST_UNLIT, text=text)

    def is_lit(self, cells: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which cells hold light."""
        return np.asarray(cells > _LIT_SHARE * self.level)


def partly_lit(scan: MasterScan, area: LitArea) -> PartlyLit | None:
    """Return how a flat is lit in part; ``None`` where light reaches all of its `area`, or nothing is bright."""
    histogram = scan.histogram
    counts = np.concatenate([[histogram.below], histogram.counts, [histogram.above]])
    n = int(counts.sum())
    if n == 0:
        return None
    values = histogram.start + histogram.step * (np.arange(len(counts)) - 0.5)
    level = float(values[int(np.searchsorted(np.cumsum(counts), _BRIGHT_QUANTILE * n))])
    if not level > _LEAST_NOISES * scan.sample_noise:
        return None
    n_unlit = int(counts[values < _UNLIT_SHARE * level].sum())
    n_between = int(counts[(values >= _UNLIT_SHARE * level) & (values < _LIT_SHARE * level)].sum())
    if n_unlit < _LEAST_UNLIT * n or n_between > _FEW_BETWEEN * n_unlit:
        return None
    n_in_border = scan.n_pixels - (area.bottom - area.top) * (area.right - area.left)
    if n_in_border > _OF_BORDER * scan.n_pixels * n_unlit / n:
        return None
    return PartlyLit(level=level, unlit_share=n_unlit / n)
