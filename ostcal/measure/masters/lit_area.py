"""The part of a flat that light reached: rows and columns of an overscan at its border hold none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.masters.scan import FINE
from ostcal.measure.masters.scan_result import FloatMap, MasterScan

_UNLIT_SHARE = 0.55
"""Of the light beside the border: profiles are clipped at half of the level around, and optics never end so sharply."""
_LIT_SHARE = 0.2
"""Of the median light, that the row or column beside the border must have."""
_SHARP_SHARE = 0.85
_SHARP_OVER = 4
"""And it has this share of the light of the fourth one further on; at the edge of a slit it has a third of it."""
_LARGEST_SHARE = 0.25
"""Share of a side that a border may take."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LitArea:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a flat."""

    shape: tuple[int, int]
    top: int
    bottom: int
    left: int
    right: int
    fine_cells: FloatMap
    """Those fine cells of the scan that are whole in the area."""
    first_cell: tuple[int, int]
    """Row and column of the first of them among all."""

    n_not_positive: int
    """Pixels of the flat at or below zero."""

    @property
    def n_dark(self) -> int:
        """Pixels at or below zero that are not those of an overscan, of which about half are above zero."""
        n_unlit = self.shape[0] * self.shape[1] - (self.bottom - self.top) * (self.right - self.left)
        is_overscan = self.n_not_positive < 0.9 * n_unlit
        return max(0, self.n_not_positive - n_unlit) if is_overscan else self.n_not_positive

    @property
    def finding(self) -> Finding:
        """Whether it is the whole frame."""
        height, width = self.shape
        sides = {
            f"the first {self.top} rows": self.top,
            f"the last {height - self.bottom} rows": height - self.bottom,
            f"the first {self.left} columns": self.left,
            f"the last {width - self.right} columns": width - self.right,
        }
        named = " and ".join(name for name, n in sides.items() if n)
        text = f"{named} hold no light: an overscan that is not trimmed" if named else "light reaches all borders"
        outcome = Outcome.WARN if named else Outcome.PASS
        return Finding(check="unlit border", outcome=outcome, value=float(sum(sides.values())), limit=0.0, text=text)


def lit_area(scan: MasterScan) -> LitArea:
    """Find the part of a flat that light reached."""
    (top, bottom), (left, right) = _lit_range(scan.row_profile), _lit_range(scan.column_profile)
    n_rows, n_columns = scan.fine_cells.shape
    height = scan.shape[0] / n_rows  # of a fine cell
    first_row, end_row = int(np.ceil(top / height)), n_rows if bottom == scan.shape[0] else int(bottom / height)
    first_column, end_column = -(-left // FINE), n_columns if right == scan.shape[1] else right // FINE
    return LitArea(
        shape=scan.shape,
        top=top,
        bottom=bottom,
        left=left,
        right=right,
        fine_cells=scan.fine_cells[first_row:end_row, first_column:end_column],
        first_cell=(first_row, first_column),
        n_not_positive=scan.n_not_positive,
    )


def _lit_range(profile: FloatMap) -> tuple[int, int]:
    """Return start and stop of the lit part of a profile; all of it where light does not end at a sharp edge."""
    n = len(profile)
    level = float(np.nanmedian(profile)) if np.isfinite(profile).any() else 0.0
    if level <= 0:
        return 0, n
    light = np.nan_to_num(profile) / level

    def unlit(values: FloatMap) -> int:
        """Return how many values from the first on are a border: as many as are all far below the next one."""
        n_most = min(int(_LARGEST_SHARE * n), n - 1 - _SHARP_OVER)
        if n_most < 1:
            return 0
        brightest = np.maximum.accumulate(values[:n_most])
        beside, further = values[1 : n_most + 1], values[1 + _SHARP_OVER : n_most + 1 + _SHARP_OVER]
        is_border = (brightest <= _UNLIT_SHARE * beside) & (beside > np.maximum(_LIT_SHARE, _SHARP_SHARE * further))
        return int(np.flatnonzero(is_border)[-1]) + 1 if is_border.any() else 0

    return unlit(light), n - unlit(light[::-1])
