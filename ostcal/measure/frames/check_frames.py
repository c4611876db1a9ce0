"""Checks of the frames of a series against each other and against limits, from the survey of the series.

Every check returns at least one finding, so that a report can list what was looked at: a passing one for the series, or
those that are no pass, each about one frame or, where many frames are concerned, one about the worst with their number.
A finding of drift or growth is about the first frame beyond the limit. Levels are medians of the cells of a frame; the
noise is that of a sample, from the differences of neighbouring frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding
from ostcal.measure.frames.level_changes import check_drift, check_lamp, check_light_leak, check_mixture
from ostcal.measure.frames.series_facts import SeriesFacts
from ostcal.measure.frames.single_frames import (
    check_level,
    check_range,
    check_response,
    check_saturation,
    check_set_point,
    check_temperature,
)
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.frames.unlike_others import check_flat_shape, check_parity, check_unlike
from ostcal.measure.limits import FrameLimits


def check_frames(
    kind: FrameType,
    survey: SeriesSurvey,
    *,
    exposures_s: Sequence[float | None],
    temperatures_c: Sequence[float | None],
    set_points_c: Sequence[float | None],
    max_adu: float | None,
    read_noise_adu: float | None = None,
    gain_e_per_adu: float | None = None,
    amplifier_cells_adu: NDArray[np.float64] | None = None,
    full_scale_note: str = "",
    linear_end_adu: float | None = None,
    limits: FrameLimits | None = None,
) -> list[Finding]:
    """Judge the bias, dark or flat frames of a series; return at least one finding of each check.

    Parameters
    ----------
    survey : SeriesSurvey
        Of n frames, those of flats at a common level.
    exposures_s, temperatures_c, set_points_c : sequence of n float or None
        In the order of the frames; ``None`` if a header does not say.
    max_adu : float or None
        Full scale; ``None`` if it is not known (floats), and then what depends on it is not judged.
    read_noise_adu, gain_e_per_adu : float or None
        Noise of a sample without light, rounding included. With both, light in a whole series of darks shows by its
        shot noise.
    amplifier_cells_adu : (GRID, GRID) array or None
        Levels of the cells of bias frames of the same camera: darks have the slopes of the amplifier too.
    full_scale_note : str
        What shows full scale, for the texts; "" where it is the size of a sample.
    linear_end_adu : float or None
        Level from which on flats of the camera are not linear, as their noise shows.

    Raises
    ------
    ValueError
        If a sequence does not have n values.
    """
    _check_lengths(survey, {"exposures": exposures_s, "temperatures": temperatures_c, "set points": set_points_c})
    limits = limits or FrameLimits()
    findings = check_range(survey, limits) + check_saturation(survey, limits, full_scale_note)
    findings += check_temperature(temperatures_c, limits)
    findings += check_set_point(temperatures_c, set_points_c, limits, is_flat=kind is FrameType.FLAT)
    full_adu = math.inf if max_adu is None else float(max_adu)
    series = SeriesFacts.of(
        kind, survey, limits, full_adu, exposures_s, temperatures_c, read_noise_adu, amplifier_cells_adu
    )
    if len(series.index) == 0:
        return findings
    findings += check_level(series, full_scale_note)
    if series.is_flat:
        findings += check_response(series, linear_end_adu)
        findings += check_lamp(series) + check_flat_shape(series)
    else:
        findings += check_drift(series) + check_mixture(series)
        findings += check_light_leak(series, read_noise_adu, gain_e_per_adu)
    return findings + check_parity(series) + check_unlike(series)


def _check_lengths(survey: SeriesSurvey, sequences: Mapping[str, Sequence[float | None]]) -> None:
    for name, values in sequences.items():
        if len(values) != survey.n_frames:
            raise ValueError(f"{len(values)} {name} for a survey of {survey.n_frames} frames")
