"""Frames of another kind among the frames of a series: those that are left out of a master."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.frames.series_facts import in_percent
from ostcal.measure.frames.survey import GRID, SeriesSurvey
from ostcal.measure.limits import FrameLimits

NEARLY_WHOLE = 0.95
"""Share of its pixels that rejection takes from a frame that is not used: the rest are chance."""
_LEVEL_NOISES = 6.0
"""A bias or dark further from the level of the others than this is rejected whole at 3 sigma."""
_SHAPE_LIMITS = 3.0
"""A flat is of another shape from so many times the limit of the check on."""
_ALONE = 3.0
"""And it differs so many times as much as any flat that is kept: of flats that drift, none is of another kind."""
_LIT_SHARE = 0.25
"""Of its level: parts of a flat that are darker do not count, as the gaps of a spectrograph."""
_MOST = 4
"""One frame of so many can be of another kind. More of them are a mixture, which the checks of the master judge."""


def most_left_out(n_frames: int, min_frames: int) -> int:
    """Return how many frames of a series may be left out: a quarter, and so many that enough remain."""
    return max(0, min(max(1, n_frames // _MOST), n_frames - min_frames))


def frames_of_other_kinds(
    kind: FrameType, survey: SeriesSurvey, limits: FrameLimits, *, min_frames: int
) -> dict[int, str]:
    """Return the frames that are of another kind than the series, and why, by index.

    A flat of which a quarter of the pixels, or a bias or dark of which 2 %, differ from the other frames (the limits
    of a failure of the check), a flat of another shape, or a bias or dark of another level. Empty where they are too
    many.
    """
    if survey.n_frames < 3:
        return {}
    is_flat = kind is FrameType.FLAT
    limit = limits.flat_outlying_share_fail if is_flat else limits.dark_outlying_share_fail
    typical = float(np.nanmedian(survey.residual_outlying))
    limit = max(limit, limits.outlying_factor * typical)
    found: dict[int, str] = {}
    for index, share in enumerate(map(float, survey.residual_outlying)):
        if share > limit:
            found[index] = (
                f"{in_percent(share)} of its pixels are beyond 5 noises from the others (limit {in_percent(limit)})"
            )
    others = _of_another_shape(survey, limits) if is_flat else _of_another_level(survey, limits)
    for index, text in others.items():
        found.setdefault(index, text)
    return found if len(found) <= most_left_out(survey.n_frames, min_frames) else {}


def _of_another_shape(survey: SeriesSurvey, limits: FrameLimits) -> dict[int, str]:
    """Return the flats of which a quarter of the area differs from the others by more than three times the limit.

    Levels and slopes aside, and changes of contrast by a pedestal that is no light. Shapes that drift from frame to
    frame leave none out.
    """
    cells = survey.cells_adu.reshape(survey.n_frames, -1) - survey.pedestal_adu
    places = (np.indices((GRID, GRID)).reshape(2, -1).T / (GRID - 1) - 0.5)[np.isfinite(cells).all(axis=0)]
    cells = cells[:, np.isfinite(cells).all(axis=0)]
    variances = survey.pair_variance_adu2[np.isfinite(survey.pair_variance_adu2)]
    if cells.shape[1] < GRID or not len(variances):
        return {}
    levels_adu = np.median(cells, axis=1)
    if levels_adu.min() <= 0:
        return {}
    ratio = cells / levels_adu[:, np.newaxis]
    typical = np.median(ratio, axis=0)
    lit = typical > _LIT_SHARE
    ratio, typical, places = ratio[:, lit], typical[lit], places[lit]
    columns = [np.ones(len(typical)), *places.T, 1 / typical - np.mean(1 / typical)]
    basis = np.stack(columns, axis=1)
    difference = ratio / typical - 1
    rest = difference - (basis @ np.linalg.lstsq(basis, difference.T, rcond=None)[0]).T
    pixels = float(np.median(survey.cell_pixels[survey.cell_pixels > 0]))
    noise = math.sqrt(float(np.median(variances)) / pixels) / float(np.median(levels_adu)) / _LIT_SHARE
    limit = max(_SHAPE_LIMITS * limits.flat_shape_share, _LEVEL_NOISES * noise)
    # a bright edge pulls the slope; it is not a quarter of the area without it
    plain = difference - np.median(difference, axis=1, keepdims=True)
    shares = np.minimum(np.mean(np.abs(rest) > limit, axis=1), np.mean(np.abs(plain) > limit, axis=1))
    others = shares > limits.flat_outlying_share_fail
    typical_difference = np.quantile(np.abs(rest), 1 - limits.flat_outlying_share_fail, axis=1)
    others &= typical_difference > _without_those_apart(typical_difference)
    return {
        int(index): f"{in_percent(shares[index])} of its area differs from the others by more than {in_percent(limit)}"
        for index in np.flatnonzero(others)
    }


def _without_those_apart(differences: NDArray[np.float64]) -> float:
    """Return the largest difference, (n_frames,), of the frames that are like each other: at least three quarters."""
    ordered = np.sort(differences)
    for count in range(len(ordered) - max(1, len(ordered) // _MOST), len(ordered)):
        if ordered[count] > _ALONE * ordered[count - 1]:
            return float(ordered[count - 1])
    return float(ordered[-1])


def _of_another_level(survey: SeriesSurvey, limits: FrameLimits) -> dict[int, str]:
    """Return the frames whose level is far from that of the others, in noises of a sample."""
    cells = survey.cells_adu.reshape(survey.n_frames, -1)
    known = np.isfinite(cells).any(axis=1)
    variances = survey.pair_variance_adu2[np.isfinite(survey.pair_variance_adu2)]
    if not known.all() or not len(variances):
        return {}
    levels_adu = np.nanmedian(cells, axis=1)
    noise_adu = math.sqrt(float(np.median(variances)))
    limit_adu = max(_LEVEL_NOISES * noise_adu, limits.least_adu)
    differences = levels_adu - np.median(levels_adu)
    return {
        int(index): f"its level is {differences[index]:+.3g} ADU from that of the others (limit {limit_adu:.3g} ADU)"
        for index in np.flatnonzero(np.abs(differences) > limit_adu)
    }


def nearly_rejected(rejected_per_frame: tuple[int, ...], n_pixels: int, *, min_frames: int) -> dict[int, str]:
    """Return the frames that rejection takes out nearly whole, and why, by index; empty where they are too many."""
    found = {
        index: (
            f"{in_percent(count / n_pixels)} of its pixels were rejected or are not finite"
            f" (limit {in_percent(NEARLY_WHOLE)})"
        )
        for index, count in enumerate(rejected_per_frame)
        if n_pixels and count >= NEARLY_WHOLE * n_pixels
    }
    return found if len(found) <= most_left_out(len(rejected_per_frame), min_frames) else {}
