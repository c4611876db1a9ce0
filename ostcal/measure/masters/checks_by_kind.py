"""Checks of one kind: glow, structure and light of biases and darks; level, noise, shape and dust of flats."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ostcal.measure.findings import Finding, finding_above, finding_below
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.dust import dust_shadows
from ostcal.measure.masters.scan_result import MasterScan


def border_regions(shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[slice, slice]]]:
    """Yield the edges and corners of a map: an eighth of the rows and of the columns, with their names."""
    down, across = max(1, shape[0] // 8), max(1, shape[1] // 8)
    rows = {"first rows": slice(0, down), "last rows": slice(shape[0] - down, shape[0])}
    columns = {"first columns": slice(0, across), "last columns": slice(shape[1] - across, shape[1])}
    for row_name, row in rows.items():
        yield row_name, (row, slice(None))
        for column_name, column in columns.items():
            yield f"the corner of the {row_name} and {column_name}", (row, column)
    for column_name, column in columns.items():
        yield column_name, (slice(None), column)


def check_dark(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    """Judge a master bias or dark.

    Glow of the electronics comes from the border and is brightest there; what is brighter inside is light.
    """
    cells, noise = scan.cells * scan.model.adu_per_unit, scan.std_cells
    sample_noise_adu = scan.sample_noise * scan.model.adu_per_unit
    regions = dict(border_regions(cells.shape))
    usual = float(np.nanmedian(cells))
    excess = {name: float(np.nanmean(cells[where])) - usual for name, where in regions.items()}
    name = max(excess, key=excess.__getitem__)
    factor = float(np.sqrt(np.mean(noise[regions[name]] ** 2)) / max(float(np.median(noise)), 1e-30))
    text = (
        f"the brightest border, {name}, is {excess[name]:.3g} ADU above the median, "
        f"{excess[name] / max(sample_noise_adu, 1e-30):.1f} sigma of one frame, "
        f"and its noise is {factor:.2f} times that of the middle (limit {limits.glow_noise_factor:.3g})"
    )
    yield finding_above("glow", factor, limits.glow_noise_factor, text)
    low, high = np.nanquantile(cells, (0.02, 0.98))
    value = float(high - low)
    limit = max(limits.dark_structure_adu, limits.dark_structure_noise * sample_noise_adu)
    text = (
        f"bright and dim parts of it differ by {value:.3g} ADU (limit {limit:.3g} ADU); "
        "dark current and amplifier glow, or light"
    )
    yield finding_above("uniformity", value, limit, text, unit="ADU")
    if min(cells.shape) < 5:
        return
    inside = np.ones(cells.shape, dtype=np.bool_)
    for where in regions.values():
        inside[where] = False
    value = float(np.nanquantile(cells[inside], 0.98) - np.nanmax(cells[~inside]))
    limit = max(limits.dark_light_adu, limits.dark_light_noise * sample_noise_adu)
    text = (
        f"inner parts are {value:+.3g} ADU against the brightest part of the border (limit {limit:.3g} ADU); "
        "more is light, for glow comes from the border"
    )
    yield finding_above("light inside", value, limit, text, unit="ADU")


def check_flat(scan: MasterScan, full_scale_adu: float | None, limits: MasterLimits) -> Iterator[Finding]:
    """Judge a master flat; its level only if full scale is known.

    The brightest parts show saturation, the median how much light there was; the darkest corner against the centre is
    vignetting, opposite quarters of rows or columns that differ are a tilt.
    """
    model = scan.model
    count, fail = scan.n_not_positive, limits.flat_not_positive_share_fail
    text = f"{count} pixels at or below zero (limit 0, failed above {100 * fail:.3g} %)"
    yield finding_above("pixels at zero", count / scan.n_pixels, 0.0, text, fail_above=fail)
    if full_scale_adu:
        adu = scan.cells.astype(np.float64) * model.adu_per_unit + model.pedestal_adu
        share, limit = float(np.nanquantile(adu, 0.95)) / full_scale_adu, limits.flat_level_high
        text = f"its brightest parts were at {100 * share:.1f} % of full scale (limit {100 * limit:.3g} %)"
        yield finding_above("flat too bright", share, limit, text, fail_above=limits.flat_level_fail)
        share, limit = (float(np.nanmedian(adu)) - model.pedestal_adu) / full_scale_adu, limits.flat_level_low
        text = f"its light was {100 * share:.1f} % of full scale (at least {100 * limit:.3g} %)"
        yield finding_below("flat too dim", share, limit, text)
    if scan.mean_noise > 0:
        ratio = float(np.nanmedian(scan.cells / scan.std_cells)) * math.sqrt(model.n_frames)
        limit, fail = limits.flat_signal_to_noise, limits.flat_signal_to_noise_fail
        text = f"signal to noise of a pixel is {ratio:.0f} (limit {limit:.3g})"
        yield finding_below("signal to noise", ratio, limit, text, fail_below=fail)
    cells = scan.fine_cells
    rows, columns = cells.shape
    if min(rows, columns) >= 8:
        middle = cells[rows * 3 // 8 : -(rows * 3 // 8), columns * 3 // 8 : -(columns * 3 // 8)]
        centre = float(np.nanmedian(middle))
        corners = [float(np.nanmedian(cells[where])) for name, where in border_regions(cells.shape) if "corner" in name]
        corner, limit = min(corners) / centre if centre > 0 else math.nan, limits.vignetting
        text = f"the darkest corner has {100 * corner:.1f} % of the centre's light (limit {100 * limit:.3g} %)"
        yield finding_below("vignetting", corner, limit, text)
        quarters = [np.array_split(cells, 4, axis=axis) for axis in (0, 1)]
        sides = [(float(np.nanmean(parts[0])), float(np.nanmean(parts[-1]))) for parts in quarters]
        tilt = max(abs(first - last) / max(abs(first + last) / 2, 1e-30) for first, last in sides)
        text = f"opposite sides differ by {100 * tilt:.1f} % (limit {100 * limits.flat_tilt:.3g} %)"
        yield finding_above("uniformity", tilt, limits.flat_tilt, text)
    shadows = dust_shadows(scan)
    deepest = shadows[0].depth if shadows else 0.0
    text = f"{len(shadows)} shadows of dust"
    if shadows:
        text += f", the deepest {100 * deepest:.1f} % at row {shadows[0].row}, column {shadows[0].column}"
    text += f" (limit {100 * limits.dust_depth:.3g} %)"
    yield finding_above("dust", deepest, limits.dust_depth, text)
