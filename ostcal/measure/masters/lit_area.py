"""The part of a flat that light reached: rows and columns of an overscan at its border hold none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.masters.scan import FINE
from ostcal.measure.masters.scan_result import FloatMap, MasterScan

_UNLIT_SHARE = 0.05
"""Rows and columns below this share of the median light are unlit."""
_LIT_SHARE = 0.5
"""Two rows or columns further on there is so much light: at the edge of a slit, light fades over more of them."""
_EDGE = 2
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

    @property
    def n_unlit(self) -> int:
        """Pixels outside of it."""
        return self.shape[0] * self.shape[1] - (self.bottom - self.top) * (self.right - self.left)

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
    )


def _lit_range(profile: FloatMap) -> tuple[int, int]:
    """Return start and stop of the lit part of a profile; all of it where light does not end at a sharp edge."""
    n = len(profile)
    level = float(np.nanmedian(profile)) if np.isfinite(profile).any() else 0.0
    if level <= 0:
        return 0, n
    light = np.nan_to_num(profile) / level

    def unlit(values: FloatMap) -> int:
        lit = np.flatnonzero(np.abs(values) > _UNLIT_SHARE)
        end = int(lit[0]) if len(lit) else 0
        is_border = 0 < end <= _LARGEST_SHARE * n and end + _EDGE < n and values[end + _EDGE - 1] > _LIT_SHARE
        return end if is_border else 0

    return unlit(light), n - unlit(light[::-1])
