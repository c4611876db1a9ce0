"""The check of the shape of flats: condensation, clouds, something before the lens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.findings import Finding
from ostcal.measure.frames.series_facts import SeriesFacts
from ostcal.measure.frames.summary import percent, summarize, warning
from ostcal.measure.frames.trend import find_growing_shape

Float = NDArray[np.float64]


def check_flat_shape(series: SeriesFacts) -> list[Finding]:
    """Judge whether flats differ in more than level and slope."""
    limits, n = series.limits, series.survey.n_frames
    check, limit = "flat shape", limits.flat_shape_share
    if not series.has_shape or series.level_adu.min() <= 0:
        text = "too few frames or pixels to compare their shapes"
        return summarize(check, [], text, n_frames=n, limit=limit)
    slopes, rest = _slopes_and_rest(series)
    noise = series.cell_noise_adu / float(np.median(series.level_adu))
    limit = max(limit, 6 * noise)
    most = np.abs(rest).max(axis=1)
    bad = []
    growth = find_growing_shape(rest, 1.5 * limit, noise)
    if growth is not None:
        text = f"from here on the shape changes, by {percent(growth.change)} in the end (limit {percent(limit)})"
        bad = [warning(check, growth.change, limit, text, series.frame(growth.first))]
    else:
        for i in np.flatnonzero((most > limit) | (slopes > limits.flat_gradient_share)):
            what, value, bound = "its slope", float(slopes[i]), limits.flat_gradient_share
            if most[i] > limit:
                what, value, bound = "a part of it", float(most[i]), limit
            text = f"{what} differs by {percent(value)} from the other flats (limit {percent(bound)})"
            bad.append(warning(check, value, bound, text, series.frame(i)))
    highest = float(most.max())
    text = f"shapes differ by up to {percent(highest)} (limit {percent(limit)}), slopes by {percent(slopes.max())}"
    return summarize(check, bad, text, n_frames=n, value=highest, limit=limit)


def _slopes_and_rest(series: SeriesFacts) -> tuple[Float, Float]:
    """Return the slope of each flat from edge to edge, (frames,), and the rest of its cells, (frames, cells).

    Both are shares of the level, against the median of the series. Where levels differ, the offset, which is not
    light, changes the contrast of vignetting by its share of the level: differences in contrast are then taken out too.
    """
    ratio = series.cells_adu / series.level_adu[:, np.newaxis]
    typical = np.median(ratio, axis=0)
    typical = np.where(typical > 0, typical, 1.0)
    difference = ratio / typical - 1
    columns = [np.ones(len(typical)), *series.cell_places.T]
    if series.level_adu.max() > 1.1 * series.level_adu.min():
        columns.append(1 / typical - np.mean(1 / typical))
    basis = np.stack(columns, axis=1)
    fitted = np.linalg.lstsq(basis, difference.T, rcond=None)[0]
    slopes = np.hypot(fitted[1], fitted[2])
    return np.asarray(slopes), np.asarray(difference - (basis @ fitted).T)
