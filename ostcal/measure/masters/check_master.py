"""Verdicts on a master: what one pass over it said against limits.

A warning is worth a look; a failure is a master that should not calibrate anything. Few things fail: a flat that is
saturated, dark or at zero, many pixels without data, one pixel of five hot. What a sensor is like (hot pixels, glow,
vignetting, dust) is reported with its number and passes unless it is far out; a change of it is found by comparison
(`ostcal.measure.masters.against_previous`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome, finding_above, finding_below
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.defects import Defect
from ostcal.measure.masters.dust import dust_shadows
from ostcal.measure.masters.lit_area import lit_area
from ostcal.measure.masters.partly_lit import partly_lit
from ostcal.measure.masters.scan_result import MasterScan

_NARROWEST = 8
"""Fewest rows and columns whose pixels are compared: less the mean of its column, nothing is left of a single row."""


@dataclass(frozen=True, kw_only=True)
class MasterFacts:
    """What is known of a master beside its planes."""

    method_name: str
    """Such as ``sigma_clip``, as the configuration has it."""
    judges_outliers: bool
    """Whether the method rejects what is far from the others, which needs three samples."""
    rejects_by_count: bool
    """Whether it rejects so many samples of every pixel, so that their share says nothing of the frames."""
    rejected_per_frame: tuple[int, ...]
    """Samples of each frame that were not kept."""
    series_noise_adu: float | None = None
    """Noise of one sample between frames that follow each other; ``None`` if not measured."""
    full_scale_adu: float | None = None
    amplifier_adu: float = 0.0
    """Range of the levels of the bias across the frame, which the amplifier leaves in darks too."""
    full_scale_note: str = ""
    """What shows full scale, for the texts; "" where it is the size of a sample."""

    @property
    def n_frames(self) -> int:
        """Frames of the master."""
        return len(self.rejected_per_frame)


def check_master(scan: MasterScan, facts: MasterFacts, limits: MasterLimits | None = None) -> list[Finding]:
    """Judge a master; return one finding of each check that applies."""
    limits = limits or MasterLimits()
    n = facts.n_frames
    text = f"{n} frame{'s' if n != 1 else ''} (at least {limits.frames} are advised)"
    if n < 3 and facts.judges_outliers:
        text += f"; {facts.method_name} cannot tell an outlier among fewer than 3"
    findings = [finding_below("frames", n, limits.frames, text)]
    if not facts.rejects_by_count:
        share = sum(facts.rejected_per_frame) / (scan.n_pixels * max(1, n))
        warn, fail = limits.rejected_share, limits.rejected_share_fail
        text = f"{100 * share:.2f} % of the samples were rejected (limit {100 * warn:.3g} %)"
        findings.append(finding_above("rejected samples", share, warn, text, fail_above=fail))
    shares = scan.rejected_cells - np.median(scan.rejected_cells)
    band, cell = np.unravel_index(int(np.argmax(shares)), shares.shape)
    share, warn = float(shares[band, cell]), limits.rejected_region_share
    top, bottom, left, right = scan.rectangle(int(band), int(cell))
    text = (
        f"rows {top} to {bottom}, columns {left} to {right} lost {100 * share:.2f} % more of their samples than the "
        f"median region (limit {100 * warn:.3g} %)"
    )
    findings.append(finding_above("rejected region", share, warn, text))
    if n >= 3 and scan.mean_noise > 0 and scan.counts[Defect.NO_DATA] < scan.n_pixels:
        findings += _noise(scan, facts, limits)
    findings += _defects(scan, limits)
    if scan.kind is FrameType.FLAT:
        return [*findings, *check_flat(scan, facts.full_scale_adu, limits, facts.full_scale_note)]
    return [*findings, *check_dark(scan, limits, facts.amplifier_adu)]


def _noise(scan: MasterScan, facts: MasterFacts, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the scatter of samples and of neighbouring pixels; of flats only whether frames are copies."""
    unit = scan.model.adu_per_unit
    sample_noise_adu = scan.sample_noise * unit
    rounding_adu = scan.model.step_adu / math.sqrt(12)
    differ = bool(facts.series_noise_adu)  # by less than a step, where the camera is that quiet
    if not differ and float(scan.std_cells.max()) <= 1.001 * scan.model.step / math.sqrt(12):
        yield Finding(
            check="copies",
            outcome=Outcome.WARN,
            value=sample_noise_adu,
            limit=None,
            unit="ADU",
            text="the frames do not differ from each other: they are copies of one, and no better together",
        )
    if scan.kind is FrameType.FLAT:
        return
    if facts.series_noise_adu:
        # the scatter of samples is at least that of rounding
        factor = sample_noise_adu / max(facts.series_noise_adu, rounding_adu)
        text = (
            f"samples of a pixel scatter by {sample_noise_adu:.3g} ADU over the series and by "
            f"{facts.series_noise_adu:.3g} ADU from frame to frame: {factor:.2f} times "
            f"(limit {limits.sample_noise_factor:.3g}; more means a drift or a jump)"
        )
        yield finding_above("sample noise", factor, limits.sample_noise_factor, text)
    if min(scan.shape) < _NARROWEST:
        return
    factor = scan.pixel_noise / scan.mean_noise
    text = (
        f"neighbouring pixels differ by {scan.pixel_noise:.3g} ADU, {factor:.2f} times what their samples predict "
        f"(limit {limits.noise_factor_low:.3g}; less means noise that whole rows or columns share)"
    )
    yield finding_below("pixel noise", factor, limits.noise_factor_low, text)


def _defects(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the number of pixels with each defect; a single bad column is no warning, however few columns there are."""
    checks = [
        ("hot pixels", Defect.HOT, limits.hot_share, limits.hot_share_fail),
        ("cold pixels", Defect.COLD, limits.cold_share, math.inf),
        ("dead pixels", Defect.DEAD, limits.dead_share, math.inf),
        ("noisy pixels", Defect.NOISY, limits.noisy_share, math.inf),
        ("telegraph pixels", Defect.TELEGRAPH, limits.telegraph_share, math.inf),
        ("saturated pixels", Defect.SATURATED, limits.saturated_share, math.inf),
    ]
    if scan.kind is FrameType.FLAT:
        warn, fail = limits.flat_saturated_share, limits.flat_saturated_share_fail
        checks[-1] = ("saturated pixels", Defect.SATURATED, warn, fail)
    for check, bit, warn, fail in checks:
        share, count = scan.share(bit), scan.counts[bit]
        named = check if count != 1 else check.removesuffix("s")
        # below 0.001 % the number says nothing that the count does not
        shown = "below 0.001 %" if 0 < share < 1e-5 else f"{100 * share:.3g} %"
        text = f"{count} {named}, {shown} (limit {100 * warn:.3g} %)"
        yield finding_above(check, share, warn, text, fail_above=fail)
    columns = sorted({bad.column for bad in scan.columns})
    named = ", ".join(map(str, columns[:8])) + (" and others" if len(columns) > 8 else "")
    limit = max(limits.bad_column_share, 1.5 / scan.shape[1])
    word = "column" if len(columns) == 1 else "columns"
    text = f"{len(columns)} bad {word}{': ' + named if columns else ''} (limit {100 * limit:.3g} % of the columns)"
    yield finding_above("bad columns", len(columns) / scan.shape[1], limit, text)
    count, fail = scan.counts[Defect.NO_DATA], limits.no_data_share_fail
    text = f"{count} pixels without data (limit 0)"
    yield finding_above("no data", count / scan.n_pixels, 0.0, text, fail_above=fail)


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


def check_dark(scan: MasterScan, limits: MasterLimits, amplifier_adu: float = 0.0) -> Iterator[Finding]:
    """Judge a master bias or dark.

    Glow of the electronics comes from the border and is brightest there; what is brighter inside is light. The shape of
    a bias is the amplifier's own, whatever it is: light has no time to reach it.
    """
    cells, noise = scan.cells * scan.model.adu_per_unit, scan.std_cells
    sample_noise_adu = scan.sample_noise * scan.model.adu_per_unit
    has_data = np.isfinite(cells)
    if not has_data.any():
        return  # the finding about pixels without data says it
    regions = {name: where for name, where in border_regions(cells.shape) if has_data[where].any()}
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
    limit = max(limits.dark_structure_adu, limits.dark_structure_noise * sample_noise_adu) + amplifier_adu
    text = f"bright and dim parts of it differ by {value:.3g} ADU"
    if scan.kind is FrameType.BIAS:
        text += ": the amplifier's own shape, which every frame has"
        yield Finding(check="uniformity", outcome=Outcome.PASS, value=value, limit=None, unit="ADU", text=text)
        return
    text += f" (limit {limit:.3g} ADU); dark current and amplifier glow, or light"
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


def check_flat(
    scan: MasterScan, full_scale_adu: float | None, limits: MasterLimits, full_scale_note: str = ""
) -> Iterator[Finding]:
    """Judge a master flat; its level only if full scale is known, and the note says what shows it.

    The brightest parts show saturation, the median how much light there was; the darkest corner against the centre is
    vignetting, opposite quarters of rows or columns that differ are a tilt. Of a flat that light reaches in part, its
    bright parts are judged.
    """
    area = lit_area(scan)
    part = partly_lit(scan, area)
    yield area.finding if part is None else part.finding
    count, fail = area.n_dark, limits.flat_not_positive_share_fail
    if part is not None:
        count = max(0, scan.n_not_positive - math.ceil(part.unlit_share * scan.n_pixels))
    text = f"{count} pixels at or below zero (limit 0)"
    yield finding_above("pixels at zero", count / scan.n_pixels, 0.0, text, fail_above=fail)
    is_lit = np.ones(scan.cells.shape, np.bool_) if part is None else part.is_lit(scan.cells)
    if _hold_numbers(scan.cells[is_lit]):
        yield from _light(scan, is_lit, full_scale_adu, limits, f"; {full_scale_note}" if full_scale_note else "")
    if part is None and min(area.fine_cells.shape) >= 8:
        yield from _large_shape(area.fine_cells, limits)
    shadows = dust_shadows(scan, area=area)
    deepest = shadows[0].depth if shadows else 0.0
    text = f"{len(shadows)} shadows of dust"
    if shadows:
        text += f", the deepest {100 * deepest:.1f} % at row {shadows[0].row}, column {shadows[0].column}"
    text += f" (limit {100 * limits.dust_depth:.3g} %)"
    yield finding_above("dust", deepest, limits.dust_depth, text)


def _light(
    scan: MasterScan, is_lit: NDArray[np.bool_], full_scale_adu: float | None, limits: MasterLimits, note: str
) -> Iterator[Finding]:
    """Judge level and noise of the cells of a flat that hold light."""
    model = scan.model
    if full_scale_adu:
        adu = scan.cells[is_lit].astype(np.float64) * model.adu_per_unit + model.pedestal_adu
        share, limit = float(np.nanquantile(adu, 0.95)) / full_scale_adu, limits.flat_level_high
        text = f"its brightest parts were at {100 * share:.1f} % of full scale (limit {100 * limit:.3g} %){note}"
        yield finding_above("flat too bright", share, limit, text, fail_above=limits.flat_level_fail)
        share, limit = (float(np.nanmedian(adu)) - model.pedestal_adu) / full_scale_adu, limits.flat_level_low
        text = f"its light was {100 * share:.1f} % of full scale (at least {100 * limit:.3g} %){note}"
        yield finding_below("flat too dim", share, limit, text)
    if scan.mean_noise > 0:
        ratio = float(np.nanmedian(scan.cells[is_lit] / scan.std_cells[is_lit])) * math.sqrt(model.n_frames)
        limit, fail = limits.flat_signal_to_noise, limits.flat_signal_to_noise_fail
        text = f"signal to noise of a pixel is {ratio:.0f} (limit {limit:.3g})"
        yield finding_below("signal to noise", ratio, limit, text, fail_below=fail)


def _large_shape(cells: NDArray[np.float32], limits: MasterLimits) -> Iterator[Finding]:
    """Judge vignetting and tilt of a flat by its cells."""
    rows, columns = cells.shape
    middle = cells[rows * 3 // 8 : -(rows * 3 // 8), columns * 3 // 8 : -(columns * 3 // 8)]
    centre = float(np.nanmedian(middle)) if _hold_numbers(middle) else math.nan
    regions = [cells[where] for name, where in border_regions(cells.shape) if "corner" in name]
    corners = [float(np.nanmedian(region)) for region in regions if _hold_numbers(region)]
    if corners and centre > 0:
        corner, limit = min(corners) / centre, limits.vignetting
        text = f"the darkest corner has {100 * corner:.1f} % of the centre's light (limit {100 * limit:.3g} %)"
        yield finding_below("vignetting", corner, limit, text)
    quarters = [np.array_split(cells, 4, axis=axis) for axis in (0, 1)]
    opposite = [(parts[0], parts[-1]) for parts in quarters]
    sides = [(float(np.nanmean(a)), float(np.nanmean(b))) for a, b in opposite if _hold_numbers(a, b)]
    if not sides:
        return
    tilt = max(abs(first - last) / max(abs(first + last) / 2, 1e-30) for first, last in sides)
    text = f"opposite sides differ by {100 * tilt:.1f} % (limit {100 * limits.flat_tilt:.3g} %)"
    yield finding_above("uniformity", tilt, limits.flat_tilt, text)


def _hold_numbers(*parts: NDArray[np.float32]) -> bool:
    """Return whether each part has a cell with data."""
    return all(bool(np.isfinite(part).any()) for part in parts)
