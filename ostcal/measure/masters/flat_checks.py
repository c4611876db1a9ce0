"""Checks of master flats: level, noise, vignetting, tilt and dust."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ostcal.measure.findings import Finding
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.dark_checks import border_regions
from ostcal.measure.masters.dust import dust_shadows
from ostcal.measure.masters.scan_result import MasterScan
from ostcal.measure.masters.verdicts import finding_above, finding_below


def check_flat(scan: MasterScan, full_scale_adu: float | None, limits: MasterLimits) -> Iterator[Finding]:
    """Judge a master flat; its level only if full scale is known."""
    count, fail = scan.n_not_positive, limits.flat_not_positive_share_fail
    text = f"{count} pixels at or below zero (limit 0, failed above {100 * fail:.3g} %)"
    yield finding_above("pixels at zero", count / scan.n_pixels, 0.0, text, fail_above=fail)
    if full_scale_adu:
        yield from _level(scan, full_scale_adu, limits)
    if scan.mean_noise > 0:
        ratio = float(np.nanmedian(scan.cells / scan.std_cells)) * math.sqrt(scan.model.n_frames)
        text = f"signal to noise of a pixel is {ratio:.0f} (limit {limits.flat_signal_to_noise:.3g})"
        fail = limits.flat_signal_to_noise_fail
        yield finding_below("signal to noise", ratio, limits.flat_signal_to_noise, text, fail_below=fail)
    if min(scan.fine_cells.shape) >= 8:
        yield from _shape(scan, limits)
    shadows = dust_shadows(scan)
    deepest = shadows[0].depth if shadows else 0.0
    text = f"{len(shadows)} shadows of dust"
    if shadows:
        text += f", the deepest {100 * deepest:.1f} % at row {shadows[0].row}, column {shadows[0].column}"
    text += f" (limit {100 * limits.dust_depth:.3g} %)"
    yield finding_above("dust", deepest, limits.dust_depth, text)


def _level(scan: MasterScan, full_scale_adu: float, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the brightest parts for saturation and the median for light."""
    adu = scan.cells.astype(np.float64) * scan.model.adu_per_unit + scan.model.pedestal_adu
    bright = float(np.nanquantile(adu, 0.95)) / full_scale_adu
    text = (
        f"its brightest parts were at {100 * bright:.1f} % of full scale (limit {100 * limits.flat_level_high:.3g} %)"
    )
    yield finding_above("flat too bright", bright, limits.flat_level_high, text, fail_above=limits.flat_level_fail)
    level = (float(np.nanmedian(adu)) - scan.model.pedestal_adu) / full_scale_adu
    text = f"its light was {100 * level:.1f} % of full scale (at least {100 * limits.flat_level_low:.3g} %)"
    yield finding_below("flat too dim", level, limits.flat_level_low, text)


def _shape(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the darkest corner against the centre, and opposite quarters of rows and of columns."""
    cells = scan.fine_cells
    rows, columns = cells.shape
    middle = cells[rows * 3 // 8 : -(rows * 3 // 8), columns * 3 // 8 : -(columns * 3 // 8)]
    centre = float(np.nanmedian(middle))
    corners = [float(np.nanmedian(cells[where])) for name, where in border_regions(cells.shape) if "corner" in name]
    corner = min(corners) / centre if centre > 0 else math.nan
    text = f"the darkest corner has {100 * corner:.1f} % of the centre's light (limit {100 * limits.vignetting:.3g} %)"
    yield finding_below("vignetting", corner, limits.vignetting, text)
    quarters = [np.array_split(cells, 4, axis=axis) for axis in (0, 1)]
    sides = [(float(np.nanmean(parts[0])), float(np.nanmean(parts[-1]))) for parts in quarters]
    tilt = max(abs(first - last) / max(abs(first + last) / 2, 1e-30) for first, last in sides)
    text = f"opposite sides differ by {100 * tilt:.1f} % (limit {100 * limits.flat_tilt:.3g} %)"
    yield finding_above("uniformity", tilt, limits.flat_tilt, text)
