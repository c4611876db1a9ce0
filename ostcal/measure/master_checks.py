"""Verdicts on a master: what one pass over it said against limits, and against the previous master of its kind.

A warning is worth a look; a failure is a master that should not calibrate anything. Few things fail: a flat that is
saturated, dark or at zero, many pixels without data, one pixel of five hot. What a sensor is like (hot pixels, glow,
vignetting, dust) is reported with its number and passes unless it is far out; a change of it is found by comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.defects import Defect, chi_square_bound, chi_square_median
from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.master_scan import FINE, MasterScan, PlaneReader, cell_rectangles

CLIPPING_METHODS = ("sigma_clip", "winsorized_sigma_clip")
REJECTS_BY_COUNT = ("minmax",)
"""Methods that reject so and so many samples of every pixel: the share says nothing of the frames."""

_COMPARED_BLOCKS = 32
_COMPARED_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class MasterLimits:
    """Where a master begins to be worth a warning, or fails. Shares are of the pixels unless said otherwise."""

    frames: int = 20
    """Fewer frames give a warning: the master then adds more than 2.5 % to the noise of a frame."""
    rejected_share: float = 0.05
    """Of the samples; clean series lose 0.1 to 2 %, real ones in our tests up to 1 %."""
    rejected_share_fail: float = 0.3
    rejected_region_share: float = 0.1
    """Of the samples of a cell, above that of the median cell; a picture of the sky among four darks gave 0.21."""
    sample_noise_factor: float = 1.3
    """Deviation of a pixel's samples over the noise between frames that follow each other: more is a drift."""
    noise_factor_low: float = 0.6
    """Noise from pixel to pixel over that of the samples; less means noise that whole rows or columns share."""
    hot_share: float = 0.03
    """Cameras of our tests: 0.003 % to 1.5 % (CCD, 1200 s)."""
    hot_share_fail: float = 0.2
    cold_share: float = 0.01
    dead_share: float = 0.002
    noisy_share: float = 0.02
    telegraph_share: float = 0.01
    saturated_share: float = 0.005
    """Of bias and dark; hot pixels of a long dark reach 0.2 %."""
    bad_column_share: float = 0.01
    """Of the columns."""
    no_data_share_fail: float = 0.01
    glow_noise_factor: float = 8.0
    """Noise of the brightest corner or edge over that of the median cell: glow can be subtracted, its noise cannot."""
    dark_structure_noise: float = 20.0
    """Difference of bright and dim parts of a bias or dark in units of the noise of one frame."""
    dark_structure_adu: float = 66.0
    """And at least this: 0.1 % of 16 bits."""
    dark_light_noise: float = 1.0
    """How far inner parts of a bias or dark may be above the brightest part of the border, in noise of one frame."""
    dark_light_adu: float = 5.0
    """And at least this. Through a slit, light gave 25 ADU in real darks of 300 s: 1.5 times the noise."""
    flat_level_low: float = 0.05
    """Of full scale."""
    flat_level_high: float = 0.85
    flat_level_fail: float = 0.95
    flat_saturated_share: float = 0.001
    flat_saturated_share_fail: float = 0.05
    flat_not_positive_share_fail: float = 0.01
    flat_signal_to_noise: float = 100.0
    """Of a pixel of the master; 100 adds 1 % to every pixel that is divided by it."""
    flat_signal_to_noise_fail: float = 10.0
    vignetting: float = 0.3
    """Darkest corner over the centre; two stops of a fast lens are 0.25."""
    flat_tilt: float = 0.3
    """Difference of opposite sides over the mean."""
    dust_depth: float = 0.3
    level_shift_adu: float = 5.0
    """Against the previous bias or dark; and at least the noise of one frame."""
    changed_noise_factor: float = 2.0
    """Scatter of the difference from the previous master over what the noise of both predicts."""
    new_hot_share: float = 0.005
    changed_share: float = 0.02
    """Of the parts of a flat, 16 x 16 pixels, that changed by more than 1 %."""


DEFAULT_LIMITS = MasterLimits()


@dataclass(frozen=True, kw_only=True)
class MasterFacts:
    """What is known of a master beside its planes."""

    method_name: str
    """Such as ``sigma_clip``, as the configuration has it."""
    rejected_per_frame: tuple[int, ...]
    """Samples of each frame that were not kept."""
    series_noise_adu: float | None = None
    """Noise of one sample between frames that follow each other; ``None`` where not measured."""
    full_scale_adu: float | None = None

    @property
    def n_frames(self) -> int:
        """Frames of the master."""
        return len(self.rejected_per_frame)


def check_master(scan: MasterScan, facts: MasterFacts, limits: MasterLimits = DEFAULT_LIMITS) -> list[Finding]:
    """Judge a master.

    Parameters
    ----------
    scan : MasterScan
    facts : MasterFacts
    limits : MasterLimits

    Returns
    -------
    list of Finding
        One of each check that applies.
    """
    findings = [_frames(facts, limits), *_rejection(scan, facts, limits), *_noise(scan, facts, limits)]
    findings += [*_defects(scan, limits), _no_data(scan, limits)]
    if scan.kind is FrameType.FLAT:
        findings += _flat(scan, facts, limits)
    else:
        findings += [_glow(scan, limits), _structure(scan, limits), *_light(scan, limits)]
    return findings


def _above(check: str, value: float, warn: float, fail: float, text: str, unit: str = "") -> Finding:
    outcome, limit = outcome_above(value, warn, fail)
    if outcome is Outcome.FAIL and value <= 1:
        text += f"; failed above {100 * fail:.3g} %"
    return Finding(check=check, outcome=outcome, value=value, limit=limit, unit=unit, text=text)


def _below(check: str, value: float, warn: float, fail: float, text: str, unit: str = "") -> Finding:
    """Judge a value that should be large."""
    failed = value < fail
    outcome = Outcome.FAIL if failed else Outcome.WARN if value < warn else Outcome.PASS
    return Finding(check=check, outcome=outcome, value=value, limit=fail if failed else warn, unit=unit, text=text)


# ---- frames and rejection ----


def _frames(facts: MasterFacts, limits: MasterLimits) -> Finding:
    n = facts.n_frames
    text = f"{n} frame{'s' if n != 1 else ''} (at least {limits.frames} are advised)"
    if n < 3 and facts.method_name in CLIPPING_METHODS:
        text += f"; {facts.method_name} cannot tell an outlier among fewer than 3"
    return _below("frames", n, limits.frames, 0, text)


def _rejection(scan: MasterScan, facts: MasterFacts, limits: MasterLimits) -> Iterator[Finding]:
    total = scan.n_pixels * max(1, facts.n_frames)
    share = sum(facts.rejected_per_frame) / total
    if facts.method_name not in REJECTS_BY_COUNT:
        text = f"{100 * share:.2f} % of the samples were rejected (limit {100 * limits.rejected_share:.3g} %)"
        yield _above("rejected samples", share, limits.rejected_share, limits.rejected_share_fail, text)
    yield _rejected_region(scan, limits)


def _rejected_region(scan: MasterScan, limits: MasterLimits) -> Finding:
    share = scan.rejected_cells - np.median(scan.rejected_cells)
    band, cell = np.unravel_index(int(np.argmax(share)), share.shape)
    value = float(share[band, cell])
    where = dict(cell_rectangles(scan))[int(band), int(cell)]
    text = (
        f"rows {where[0]} to {where[1]}, columns {where[2]} to {where[3]} lost {100 * value:.2f} % more of their "
        f"samples than the median region (limit {100 * limits.rejected_region_share:.3g} %)"
    )
    return _above("rejected region", value, limits.rejected_region_share, math.inf, text)


# ---- noise ----


def _noise(scan: MasterScan, facts: MasterFacts, limits: MasterLimits) -> Iterator[Finding]:
    if facts.n_frames < 3 or not scan.mean_noise > 0:
        return
    unit = scan.model.adu_per_unit
    if float(scan.std_cells.max()) <= 1.001 * scan.model.step / math.sqrt(12):
        yield Finding(
            check="copies",
            outcome=Outcome.WARN,
            value=scan.sample_noise * unit,
            limit=None,
            unit="ADU",
            text="the frames do not differ from each other: they are copies of one, and no better together",
        )
    if scan.kind is FrameType.FLAT:
        return
    if facts.series_noise_adu:
        yield _drift(scan, facts.series_noise_adu, limits)
    factor = scan.pixel_noise / scan.mean_noise
    text = (
        f"neighbouring pixels differ by {scan.pixel_noise:.3g} ADU, {factor:.2f} times what their samples predict "
        f"(limit {limits.noise_factor_low:.3g}; less means noise that whole rows or columns share)"
    )
    yield _below("pixel noise", factor, limits.noise_factor_low, 0, text)


def _drift(scan: MasterScan, series_noise_adu: float, limits: MasterLimits) -> Finding:
    measured = scan.sample_noise * scan.model.adu_per_unit
    factor = measured / series_noise_adu
    text = (
        f"samples of a pixel scatter by {measured:.3g} ADU over the series and by {series_noise_adu:.3g} ADU from "
        f"frame to frame: {factor:.2f} times (limit {limits.sample_noise_factor:.3g}; more means a drift or a jump)"
    )
    return _above("sample noise", factor, limits.sample_noise_factor, math.inf, text)


# ---- defects ----


def _defects(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    checks = [
        ("hot pixels", Defect.HOT, limits.hot_share, limits.hot_share_fail),
        ("cold pixels", Defect.COLD, limits.cold_share, math.inf),
        ("dead pixels", Defect.DEAD, limits.dead_share, math.inf),
        ("noisy pixels", Defect.NOISY, limits.noisy_share, math.inf),
        ("telegraph pixels", Defect.TELEGRAPH, limits.telegraph_share, math.inf),
    ]
    if scan.kind is FrameType.FLAT:
        fail = limits.flat_saturated_share_fail
        checks.append(("saturated pixels", Defect.SATURATED, limits.flat_saturated_share, fail))
    else:
        checks.append(("saturated pixels", Defect.SATURATED, limits.saturated_share, math.inf))
    for check, bit, warn, fail in checks:
        share = scan.share(bit)
        count = scan.counts[bit]
        named = check if count != 1 else check.removesuffix("s")
        text = f"{count} {named}, {_small_percent(share)} (limit {100 * warn:.3g} %)"
        yield _above(check, share, warn, fail, text)
    yield _columns(scan, limits)


def _small_percent(share: float) -> str:
    """Write a share of the pixels: below 0.001 % its number says nothing that the count does not."""
    return "below 0.001 %" if 0 < share < 1e-5 else f"{100 * share:.3g} %"


def _columns(scan: MasterScan, limits: MasterLimits) -> Finding:
    columns = sorted({bad.column for bad in scan.columns})
    share = len(columns) / scan.shape[1]
    named = ", ".join(map(str, columns[:8])) + (" and others" if len(columns) > 8 else "")
    limit = max(limits.bad_column_share, 1.5 / scan.shape[1])  # a single one is no warning, however few there are
    word = "column" if len(columns) == 1 else "columns"
    text = f"{len(columns)} bad {word}{': ' + named if columns else ''} (limit {100 * limit:.3g} % of the columns)"
    return _above("bad columns", share, limit, math.inf, text)


def _no_data(scan: MasterScan, limits: MasterLimits) -> Finding:
    count = scan.counts[Defect.NO_DATA]
    text = f"{count} pixels without data (limit 0, failed above {100 * limits.no_data_share_fail:.3g} %)"
    return _above("no data", count / scan.n_pixels, 0.0, limits.no_data_share_fail, text)


# ---- bias and dark ----


def _glow(scan: MasterScan, limits: MasterLimits) -> Finding:
    """Judge the brightest corner or edge: an eighth of the rows and of the columns."""
    levels, noise = scan.cells * scan.model.adu_per_unit, scan.std_cells
    regions = dict(_border(levels.shape))
    usual = float(np.nanmedian(levels))
    excess = {name: float(np.nanmean(levels[where])) - usual for name, where in regions.items()}
    name = max(excess, key=excess.__getitem__)
    factor = float(np.sqrt(np.mean(noise[regions[name]] ** 2)) / max(float(np.median(noise)), 1e-30))
    sigma = excess[name] / max(scan.sample_noise * scan.model.adu_per_unit, 1e-30)
    text = (
        f"the brightest border, {name}, is {excess[name]:.3g} ADU above the median, {sigma:.1f} sigma of one frame, "
        f"and its noise is {factor:.2f} times that of the middle (limit {limits.glow_noise_factor:.3g})"
    )
    return _above("glow", factor, limits.glow_noise_factor, math.inf, text)


def _border(shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[slice, slice]]]:
    down, across = max(1, shape[0] // 8), max(1, shape[1] // 8)
    rows = {"first rows": slice(0, down), "last rows": slice(shape[0] - down, shape[0])}
    columns = {"first columns": slice(0, across), "last columns": slice(shape[1] - across, shape[1])}
    for row_name, row in rows.items():
        yield row_name, (row, slice(None))
        for column_name, column in columns.items():
            yield f"the corner of the {row_name} and {column_name}", (row, column)
    for column_name, column in columns.items():
        yield column_name, (slice(None), column)


def _structure(scan: MasterScan, limits: MasterLimits) -> Finding:
    unit = scan.model.adu_per_unit
    low, high = np.nanquantile(scan.cells * unit, (0.02, 0.98))
    value = float(high - low)
    limit = max(limits.dark_structure_adu, limits.dark_structure_noise * scan.sample_noise * unit)
    text = (
        f"bright and dim parts of it differ by {value:.3g} ADU (limit {limit:.3g} ADU); "
        "dark current and amplifier glow, or light"
    )
    return _above("uniformity", value, limit, math.inf, text, "ADU")


def _light(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    """Judge light inside of the border: glow of the electronics comes from the border and is brightest there."""
    cells = scan.cells * scan.model.adu_per_unit
    if min(cells.shape) < 5:
        return
    inside = np.ones(cells.shape, dtype=np.bool_)
    for _, where in _border(cells.shape):
        inside[where] = False
    value = float(np.nanquantile(cells[inside], 0.98) - np.nanmax(cells[~inside]))
    limit = max(limits.dark_light_adu, limits.dark_light_noise * scan.sample_noise * scan.model.adu_per_unit)
    text = (
        f"inner parts are {value:+.3g} ADU against the brightest part of the border (limit {limit:.3g} ADU); "
        "more is light, for glow comes from the border"
    )
    yield _above("light inside", value, limit, math.inf, text, "ADU")


# ---- flats ----


def _flat(scan: MasterScan, facts: MasterFacts, limits: MasterLimits) -> Iterator[Finding]:
    count = scan.n_not_positive
    text = f"{count} pixels at or below zero (limit 0, failed above {100 * limits.flat_not_positive_share_fail:.3g} %)"
    yield _above("pixels at zero", count / scan.n_pixels, 0.0, limits.flat_not_positive_share_fail, text)
    if facts.full_scale_adu:
        yield from _flat_level(scan, facts.full_scale_adu, limits)
    if scan.mean_noise > 0:
        ratio = float(np.nanmedian(scan.cells / scan.std_cells)) * math.sqrt(scan.model.n_frames)
        text = f"signal to noise of a pixel is {ratio:.0f} (limit {limits.flat_signal_to_noise:.3g})"
        fail = limits.flat_signal_to_noise_fail
        yield _below("signal to noise", ratio, limits.flat_signal_to_noise, fail, text)
    yield from _shape(scan, limits)
    yield _dust(scan, limits)


def _flat_level(scan: MasterScan, full_scale_adu: float, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the brightest parts for saturation and the median for light."""
    adu = scan.cells.astype(np.float64) * scan.model.adu_per_unit + scan.model.pedestal_adu
    bright = float(np.nanquantile(adu, 0.95)) / full_scale_adu
    text = (
        f"its brightest parts were at {100 * bright:.1f} % of full scale (limit {100 * limits.flat_level_high:.3g} %)"
    )
    yield _above("flat too bright", bright, limits.flat_level_high, limits.flat_level_fail, text)
    level = (float(np.nanmedian(adu)) - scan.model.pedestal_adu) / full_scale_adu
    text = f"its light was {100 * level:.1f} % of full scale (at least {100 * limits.flat_level_low:.3g} %)"
    yield _below("flat too dim", level, limits.flat_level_low, 0, text)


def _shape(scan: MasterScan, limits: MasterLimits) -> Iterator[Finding]:
    cells = scan.fine_cells
    rows, columns = cells.shape
    if rows < 8 or columns < 8:
        return
    middle = cells[rows * 3 // 8 : -(rows * 3 // 8), columns * 3 // 8 : -(columns * 3 // 8)]
    centre = float(np.nanmedian(middle))
    corners = [float(np.nanmedian(cells[where])) for name, where in _border(cells.shape) if "corner" in name]
    corner = min(corners) / centre if centre > 0 else math.nan
    text = f"the darkest corner has {100 * corner:.1f} % of the centre's light (limit {100 * limits.vignetting:.3g} %)"
    yield _below("vignetting", corner, limits.vignetting, 0, text)
    halves = [np.array_split(cells, 4, axis=axis) for axis in (0, 1)]
    sides = [(float(np.nanmean(parts[0])), float(np.nanmean(parts[-1]))) for parts in halves]
    tilt = max(abs(first - last) / max(abs(first + last) / 2, 1e-30) for first, last in sides)
    text = f"opposite sides differ by {100 * tilt:.1f} % (limit {100 * limits.flat_tilt:.3g} %)"
    yield _above("uniformity", tilt, limits.flat_tilt, math.inf, text)


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A dip of a flat: the shadow of dust."""

    row: int
    column: int
    """Its deepest place, in pixels."""
    depth: float
    """Share of the light that is missing there, of 16 x 16 pixels."""
    n_cells: int
    """Size in parts of 16 x 16 pixels."""


def dust_shadows(scan: MasterScan, least_depth: float = 0.01) -> list[Shadow]:
    """Find the dips of a flat that are narrower than its smooth shape, the deepest first.

    The smooth shape is the median of blocks of at least 8 fine cells, interpolated; a dip is a group of two fine cells
    or more that are below it by `least_depth` and by five spreads.
    """
    cells = np.nan_to_num(scan.fine_cells[: scan.shape[0] // FINE, : scan.shape[1] // FINE].astype(np.float64))
    if min(cells.shape) < 16:
        return []
    smooth = _smooth(cells)
    relative = np.divide(cells, smooth, out=np.ones_like(cells), where=smooth > 0) - 1
    low, middle = np.quantile(relative, (0.1587, 0.5))
    deep = relative - middle < -max(least_depth, 5 * float(middle - low))
    heights = scan.shape[0] / scan.fine_cells.shape[0]
    found = []
    for group in _groups(deep):
        at = min(group, key=relative.__getitem__)
        place = int((at[0] + 0.5) * heights), int((at[1] + 0.5) * FINE)
        if len(group) >= 2:
            depth = float(-relative[at])
            found.append(Shadow(row=place[0], column=place[1], depth=depth, n_cells=len(group)))
    return sorted(found, key=lambda shadow: -shadow.depth)


def _smooth(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the smooth shape of a flat: a square polynomial, and what medians of blocks are above or below it."""
    counts = (max(2, min(12, cells.shape[0] // 8)), max(2, min(12, cells.shape[1] // 8)))
    down, across = (_centres(n, count) for n, count in zip(cells.shape, counts, strict=True))
    row, column = np.meshgrid(down, across, indexing="ij")
    terms = _square_terms(row.ravel(), column.ravel(), cells.shape)
    fit = np.linalg.lstsq(terms, _block_medians(cells, counts).ravel(), rcond=None)[0]
    rows, columns = np.indices(cells.shape)
    square = _square_terms(rows.ravel(), columns.ravel(), cells.shape) @ fit
    smooth = square.reshape(cells.shape)
    rest = _block_medians(cells - smooth, counts)
    rest = _interpolate(rest, down, cells.shape[0], 0)
    return np.asarray(smooth + _interpolate(rest, across, cells.shape[1], 1))


def _centres(n: int, count: int) -> NDArray[np.float64]:
    return np.array([part.mean() for part in np.array_split(np.arange(n), count)])


def _block_medians(cells: NDArray[np.float64], counts: tuple[int, int]) -> NDArray[np.float64]:
    return np.array(
        [
            [np.median(part) for part in np.array_split(rows, counts[1], axis=1)]
            for rows in np.array_split(cells, counts[0], axis=0)
        ]
    )


def _square_terms(
    row: NDArray[np.floating | np.integer], column: NDArray[np.floating | np.integer], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    y, x = row / shape[0] - 0.5, column / shape[1] - 0.5
    return np.stack([np.ones(len(y)), y, x, y * y, x * y, x * x], axis=1)


def _interpolate(values: NDArray[np.float64], at: NDArray[np.float64], n: int, axis: int) -> NDArray[np.float64]:
    where = np.arange(n)
    left = np.clip(np.searchsorted(at, where, side="right") - 1, 0, len(at) - 2)
    share = (where - at[left]) / (at[left + 1] - at[left])
    share = share[:, None] if axis == 0 else share
    first, second = np.take(values, left, axis=axis), np.take(values, left + 1, axis=axis)
    return np.asarray(first + (second - first) * share)


def _groups(marked: NDArray[np.bool_]) -> Iterator[list[tuple[int, int]]]:
    """Give the groups of marked cells that touch, corners included."""
    left = {(int(row), int(column)) for row, column in np.argwhere(marked)}
    while left:
        start = left.pop()
        group = [start]
        for row, column in group:
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            group.extend(sorted(around))
        yield group


def _dust(scan: MasterScan, limits: MasterLimits) -> Finding:
    shadows = dust_shadows(scan)
    deepest = shadows[0].depth if shadows else 0.0
    text = f"{len(shadows)} shadows of dust"
    if shadows:
        text += f", the deepest {100 * deepest:.1f} % at row {shadows[0].row}, column {shadows[0].column}"
    text += f" (limit {100 * limits.dust_depth:.3g} %)"
    return _above("dust", deepest, limits.dust_depth, math.inf, text)


# ---- against the previous master ----


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A master that is compared: how to read it, and what made it."""

    read_rows: PlaneReader
    n_frames: int
    adu_per_unit: float = 1.0


def compare_masters(
    new: Compared,
    old: Compared,
    shape: tuple[int, int],
    kind: FrameType,
    limits: MasterLimits = DEFAULT_LIMITS,
) -> list[Finding]:
    """Judge a master against the previous one of the same key, on 32 blocks of 16 rows of each.

    Parameters
    ----------
    new, old : Compared
        Both of `shape`; flats are normalised, so that their levels are equal.
    shape : (height, width)
    kind : FrameType
    limits : MasterLimits
    """
    parts = [_compare_block(new, old, rows, shape[1]) for rows in _compared_rows(shape[0])]
    expected = math.sqrt(float(np.mean([part.variance for part in parts])))
    judge = _changed_shape if kind is FrameType.FLAT else _changed_level
    spread = float(np.median([part.spread for part in parts]))
    factor = spread / expected if expected > 0 else 1.0
    text = (
        f"pixels differ from those of the previous master by {spread * new.adu_per_unit:.3g} ADU, {factor:.2f} times "
        f"the noise of both (limit {limits.changed_noise_factor:.3g})"
    )
    pixels = _above("pixels against previous", factor, limits.changed_noise_factor, math.inf, text)
    return [*judge(parts, expected, limits), pixels]


def _changed_level(parts: list[_Block], expected: float, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the level of a bias or dark and the pixels that became hot."""
    shift = float(np.median(np.concatenate([part.shifts for part in parts])))
    noise = math.sqrt(float(np.mean([part.sample_variance for part in parts])))
    limit = max(limits.level_shift_adu, noise)
    text = f"its level is {shift:+.3g} ADU from that of the previous master (limit {limit:.3g} ADU)"
    yield _above("level against previous", abs(shift), limit, math.inf, text, "ADU")
    share = sum(part.new_hot for part in parts) / sum(part.n_pixels for part in parts)
    text = f"{100 * share:.3g} % of the pixels became hot (limit {100 * limits.new_hot_share:.3g} %)"
    yield _above("new hot pixels", share, limits.new_hot_share, math.inf, text)


def _changed_shape(parts: list[_Block], expected: float, limits: MasterLimits) -> Iterator[Finding]:
    """Judge the parts of a flat that changed; `expected` is the noise of a pixel of the difference."""
    changes = np.concatenate([part.shifts for part in parts])
    least = max(0.01, 5 * expected / FINE)
    share = float(np.mean(np.abs(changes - np.median(changes)) > least))
    text = (
        f"{100 * share:.3g} % of its area changed by more than {100 * least:.2g} % "
        f"(limit {100 * limits.changed_share:.3g} %): dust that moved, or another light"
    )
    yield _above("shape against previous", share, limits.changed_share, math.inf, text)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What some rows of two masters say; differences are new minus old."""

    shifts: NDArray[np.float64]
    """Medians of pieces of 16 x 16 pixels."""
    spread: float
    variance: float
    """Of a difference, from the samples."""
    sample_variance: float
    new_hot: int
    n_pixels: int


def _compared_rows(height: int) -> list[tuple[int, int]]:
    """Give blocks of rows spread evenly; all rows of a small master."""
    blocks = max(1, min(_COMPARED_BLOCKS, height // _COMPARED_ROWS))
    rows = min(_COMPARED_ROWS, height)
    starts = [i * (height - rows) // max(1, blocks - 1) for i in range(blocks)]
    return [(start, start + rows) for start in starts]


def _compare_block(new: Compared, old: Compared, rows: tuple[int, int], width: int) -> _Block:
    difference = new.read_rows("master", *rows).astype(np.float64) - old.read_rows("master", *rows)
    side = min(FINE, width)
    whole = difference[:, : width - width % side].reshape(len(difference), -1, side)
    shifts = np.nan_to_num(np.nanmedian(whole, axis=(0, 2)))
    rest = whole - shifts[None, :, None]
    rest = rest[np.isfinite(rest)]
    low, high = np.quantile(rest, (0.1587, 0.8413)) if rest.size else (0.0, 0.0)
    spread = float(high - low) / 2
    sample, variance = _sample_variance(new, rows), _sample_variance(old, rows)
    total = sample / new.n_frames + variance / old.n_frames
    far = 10 * max(spread, math.sqrt(total))
    return _Block(
        shifts=shifts,
        spread=spread,
        variance=total,
        sample_variance=sample,
        new_hot=int(np.count_nonzero(rest > far)) if far > 0 else 0,
        n_pixels=max(1, rest.size),
    )


def _sample_variance(master: Compared, rows: tuple[int, int]) -> float:
    """Give the variance of a sample: the mean square of the deviations, the largest cut as in `scan_master`."""
    degrees = max(1, master.n_frames - 1)
    squares = np.square(master.read_rows("std", *rows).astype(np.float64))
    squares = squares[np.isfinite(squares)]
    if squares.size == 0:
        return 0.0
    typical = float(np.median(squares)) / chi_square_median(degrees)
    floor = 1 / (12 * master.adu_per_unit**2)
    return max(float(np.mean(np.minimum(squares, max(typical, floor) * chi_square_bound(degrees, 3.3)))), floor)
