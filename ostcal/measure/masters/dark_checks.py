"""Checks of master biases and darks: amplifier glow, structure, and light inside of the border."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ostcal.measure.findings import Finding
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.scan_result import MasterScan
from ostcal.measure.masters.verdicts import finding_above


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
