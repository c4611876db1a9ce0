"""What all checks of the levels and shapes of a series look at, and how their findings are summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.survey import GRID, SeriesSurvey
from ostcal.measure.limits import FrameLimits

Float = NDArray[np.float64]

FEW_PIXELS = 10
"""Pixels that say nothing by themselves: frames of 8 x 8 pixels have hot ones too."""
MANY_FRAMES = 3
"""Frames that are named one by one; of long series a quarter."""
SHAPE_PIXELS = 64
"""Pixels of a cell from which on shapes are compared: a cosmic ray takes 4 and counts 5 noises, 0.3 of them here."""


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """The survey of a series prepared for checks; frames without numbers are left out, `index` says which are in."""

    kind: FrameType
    survey: SeriesSurvey
    limits: FrameLimits
    max_adu: float
    """Full scale; infinity if it is not known."""
    exposure_s: float
    is_same_exposure: bool
    noise_adu: float
    """Noise of a sample."""
    noise_is_known: bool
    """Whether pairs of frames gave it."""
    index: NDArray[np.int64]
    cells_adu: Float
    """(frames, cells): levels of the cells that have pixels."""
    has_shape: bool
    """Whether there are three frames, and cells have pixels enough for a cosmic ray not to move them."""
    cell_noise_adu: float
    """Noise of the level of a cell."""
    level_noise_adu: float
    """Noise of the level of a frame."""
    cell_places: Float
    """(cells, 2): places of the cells, -0.5 to 0.5, down and across."""
    level_adu: Float
    """(frames,): median of the cells."""
    warmer_c: Float
    """(frames,): temperature of a frame above that of the coldest quarter of the series; 0 if it is not known."""
    amplifier_adu: Float | None
    """(cells,): the bias of the camera, whose slopes are no light; ``None`` if it is not known."""

    @property
    def is_flat(self) -> bool:
        """Whether these are flats."""
        return self.kind is FrameType.FLAT

    def frame(self, place: int | np.integer) -> int:
        """Return the index in the series of the frame at a place of `index`."""
        return int(self.index[place])

    @classmethod
    def of(
        cls,
        kind: FrameType,
        survey: SeriesSurvey,
        limits: FrameLimits,
        max_adu: float,
        exposures_s: Sequence[float | None],
        temperatures_c: Sequence[float | None],
        read_noise_adu: float | None,
        amplifier_cells_adu: Float | None,
    ) -> SeriesFacts:
        """Prepare a survey.

        The noise of a sample is the root of the median variance of all pairs and cells. Cells of one pixel have no
        variance; then the changes of the cells from frame to frame give it, and it is at least the read noise.
        """
        filled = survey.cell_pixels.reshape(-1) > 0
        cells = survey.cells_adu.reshape(survey.n_frames, -1)[:, filled]
        index = np.flatnonzero(np.isfinite(cells).all(axis=1) & filled.any())
        variances = survey.pair_variance_adu2[np.isfinite(survey.pair_variance_adu2)]
        warmth = np.array([np.nan if value is None else value for value in temperatures_c])[index]
        warmth -= np.nanpercentile(warmth, 25) if np.isfinite(warmth).any() else 0.0
        known = [value for value in exposures_s if value is not None]
        exposure_s = float(np.median(known)) if known else 0.0
        pixels = float(np.median(survey.cell_pixels.reshape(-1)[filled])) if filled.any() else 1.0
        noise_adu = read_noise_adu or 1.0
        if len(variances):
            noise_adu = math.sqrt(float(np.median(variances)))
        elif len(index) > 1:
            change = np.diff(cells[index] - np.median(cells[index], axis=1, keepdims=True), axis=0)
            noise_adu = max(noise_adu, float(np.std(change)) / math.sqrt(2) * math.sqrt(pixels))
        return cls(
            kind=kind,
            survey=survey,
            limits=limits,
            max_adu=max_adu,
            exposure_s=exposure_s,
            is_same_exposure=all(abs(value - exposure_s) <= 0.01 * exposure_s for value in known),
            noise_adu=noise_adu,
            noise_is_known=len(variances) > 0,
            index=index,
            cells_adu=cells[index],
            has_shape=pixels >= SHAPE_PIXELS and len(index) >= 3,
            cell_noise_adu=noise_adu / math.sqrt(pixels),
            level_noise_adu=1.25 * noise_adu / math.sqrt(max(1, survey.n_pixels)),
            cell_places=(np.indices((GRID, GRID)).reshape(2, -1).T / (GRID - 1) - 0.5)[filled],
            level_adu=np.median(cells[index], axis=1) if len(index) else np.zeros(0),
            warmer_c=np.nan_to_num(warmth),
            amplifier_adu=None if amplifier_cells_adu is None else amplifier_cells_adu.reshape(-1)[filled],
        )


_WORST_OF = "; it is the worst of "


def is_of_many(finding: Finding) -> bool:
    """Return whether a finding of `summarize` stands for many frames: leaving its frame out helps little."""
    return finding.frame is not None and _WORST_OF in finding.text


def summarize(
    check: str,
    bad: Sequence[Finding],
    text: str,
    *,
    n_frames: int,
    value: float | None = None,
    limit: float | None = None,
    unit: str = "",
) -> list[Finding]:
    """Return the findings that are no pass, or a passing one with `text`, `value`, `limit` and `unit`.

    Of each frame only the first finding counts. Many of them become one about the worst frame, with their number.
    """
    if not bad:
        return [Finding(check=check, outcome=Outcome.PASS, value=value, limit=limit, unit=unit, text=text)]
    by_frame: dict[int | None, Finding] = {}
    for finding in bad:
        by_frame.setdefault(finding.frame, finding)
    whole = by_frame.pop(None, None)
    single = list(by_frame.values())
    if len(single) > max(MANY_FRAMES, n_frames // 4):
        most = max(single, key=lambda finding: (finding.outcome is Outcome.FAIL, abs(finding.value or 0.0)))
        counted = f"{most.text}{_WORST_OF}{len(single)} of {n_frames} frames"
        whole = replace(most, text=counted if whole is None else f"{whole.text}; {counted}")
        single = []
    return single if whole is None else [whole, *single]


def alarm(
    check: str,
    value: float,
    limit: float,
    text: str,
    frame: int | None,
    unit: str = "",
    *,
    outcome: Outcome = Outcome.WARN,
) -> Finding:
    """Return a warning or failure about a frame, or about the series (``None``)."""
    return Finding(check=check, outcome=outcome, value=value, limit=limit, unit=unit, text=text, frame=frame)


def in_percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.3g} %"
