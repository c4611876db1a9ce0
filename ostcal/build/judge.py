"""The quality of a master: what was measured of its frames and its pixels, judged, and as it is stored with it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.camera_properties import CameraRecord
from ostcal.engine.rejection import RejectionMethod
from ostcal.engine.tasks import JobResult
from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.planes import StoredMaster
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.frames.check_frames import check_frames
from ostcal.measure.frames.rejected import check_rejected
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.limits import DefectLimits, FrameLimits, MasterLimits
from ostcal.measure.masters.against_previous import ComparedMaster, compare_masters
from ostcal.measure.masters.check_master import MasterFacts, check_master
from ostcal.measure.masters.defects import Defect, SampleModel
from ostcal.measure.masters.scan import scan_master
from ostcal.measure.masters.scan_result import MasterScan, PlaneReader
from ostcal.measure.masters.strip_scan import RunningScans, StripScan

logger = logging.getLogger(__name__)

PROFILE_POINTS = 512
"""Points of a stored profile: more than a plot has pixels for."""
MAP_CELLS = 48
"""Cells along each side of the stored map of rejected samples, at most."""


_SCAN_THREADS = 2
"""When a master that was not scanned along with its strips is finished last, the other cores have nothing to do: 0.44 s
for 61 MP in place of 0.70 s."""


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Where warnings and failures begin."""

    frames: FrameLimits = field(default_factory=FrameLimits)
    masters: MasterLimits = field(default_factory=MasterLimits)
    defects: DefectLimits = field(default_factory=DefectLimits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A combined master that is to be judged."""

    group: Group
    result: JobResult
    read_rows: PlaneReader
    step_rows: int
    """Rows of the planes that are stored together."""
    shape: tuple[int, int]
    method: RejectionMethod
    survey: SeriesSurvey | None
    camera: CameraRecord | None
    full_scale_adu: float | None
    """Highest value of a sample; ``None`` for floats."""
    previous: LibraryMaster | None = None
    """The newest older master of the same key."""
    failed_darks: tuple[str, ...] = ()
    """Of the darks of this run that were subtracted, those that failed."""
    along: StripScan | None = None
    """What was scanned while the master was combined."""

    @property
    def kind(self) -> FrameType:
        """Bias, dark or flat."""
        return self.group.key.frame_type

    @property
    def flat_level_adu(self) -> float | None:
        """Level that became 1, above the dark; ``None`` for bias and darks."""
        levels = list(self.result.normalization_levels.values())
        return max(levels) if levels else None


@dataclass(frozen=True, kw_only=True, eq=False)
class MasterQuality:
    """The verdict on a master and everything behind it."""

    findings: tuple[Finding, ...]
    scan: MasterScan
    document: dict[str, Any]
    """As it is stored with the master."""
    metrics: dict[str, tuple[float | None, str]]
    """Numbers to be followed over the years: value and unit."""

    @property
    def verdict(self) -> Outcome:
        """The worst of the findings."""
        return worst(self.findings)


def judge_master(subject: Subject, rules: QualityRules) -> MasterQuality:
    """Scan a master, check it and its frames, and compare it with the one before."""
    scan = _scan(subject, rules)
    findings = (*_frame_findings(subject, rules), *_master_findings(subject, scan, rules))
    document = {
        "verdict": str(worst(findings)),
        "findings": [finding.as_dict() for finding in findings],
        "frames": _frames_document(subject),
        "master": _scan_document(scan),
    }
    return MasterQuality(findings=findings, scan=scan, document=document, metrics=_metrics(subject, scan))


def scan_along(
    group: Group,
    shape: tuple[int, int],
    camera: CameraRecord | None,
    full_scale_adu: float | None,
    rules: QualityRules,
    crowd: RunningScans,
    *,
    bands_at_once: int,
) -> StripScan | None:
    """Begin the scan of a master that is to be combined; ``None`` for flats, whose level is known at the end only."""
    if group.key.frame_type is FrameType.FLAT:
        return None
    return StripScan(
        shape,
        group.key.frame_type,
        _noise_model(group, camera, full_scale_adu),
        crowd,
        bayer=group.key.bayer_pattern is not None,
        limits=rules.defects,
        bands_at_once=bands_at_once,
    )


def _scan(subject: Subject, rules: QualityRules) -> MasterScan:
    if subject.along is not None:
        return subject.along.result(subject.read_rows, step_rows=subject.step_rows, threads=_SCAN_THREADS)
    flat_level_adu, pedestal_adu = subject.flat_level_adu or 1.0, _pedestal_adu(subject)
    model = replace(
        _noise_model(subject.group, subject.camera, subject.full_scale_adu),
        adu_per_unit=flat_level_adu,
        pedestal_adu=pedestal_adu,
    )
    return scan_master(
        subject.read_rows,
        subject.shape,
        subject.kind,
        model,
        bayer=subject.group.key.bayer_pattern is not None,
        limits=rules.defects,
        step_rows=subject.step_rows,
        threads=_SCAN_THREADS,
    )


# ---- what the checks need to know ----


def _pedestal_adu(subject: Subject) -> float:
    """Give the level of the dark that flats were freed of: what their frames had more than the light."""
    if subject.kind is not FrameType.FLAT or subject.survey is None or subject.result.levels is None:
        return 0.0
    raw = float(np.nanmedian(subject.survey.mean_adu))
    return max(0.0, raw - float(np.median(subject.result.levels.levels_adu)))


def _noise_model(group: Group, camera: CameraRecord | None, full_scale_adu: float | None) -> SampleModel:
    """Give what is known of the samples of frames; flats are divided by their level later."""
    step_adu = camera.properties.step_adu if camera is not None else None
    return SampleModel(
        n_frames=len(group.frames),
        gain_e_per_adu=camera.gain_e_per_adu if camera is not None else None,
        step_adu=step_adu or 1.0,
        saturation_adu=full_scale_adu,
    )


def _frame_findings(subject: Subject, rules: QualityRules) -> list[Finding]:
    rejected = check_rejected(subject.result.rejected_per_frame, math.prod(subject.shape))
    if subject.survey is None:
        return rejected
    metadata = [frame.metadata for frame in subject.group.frames]
    camera = subject.camera
    return [
        *check_frames(
            subject.kind,
            subject.survey,
            exposures_s=[m.exposure_time_s for m in metadata],
            temperatures_c=[m.ccd_temperature_c for m in metadata],
            set_points_c=[m.set_temperature_c for m in metadata],
            max_adu=subject.full_scale_adu,
            read_noise_adu=camera.read_noise_adu if camera is not None else None,
            gain_e_per_adu=camera.gain_e_per_adu if camera is not None else None,
            limits=rules.frames,
        ),
        *rejected,
    ]


def _master_findings(subject: Subject, scan: MasterScan, rules: QualityRules) -> list[Finding]:
    facts = MasterFacts(
        method_name=subject.method.name,
        rejected_per_frame=subject.result.rejected_per_frame,
        series_noise_adu=_series_noise_adu(subject.survey),
        full_scale_adu=subject.full_scale_adu,
    )
    findings = [*check_master(scan, facts, rules.masters), *_dark_findings(subject)]
    previous = subject.previous
    if previous is None or not isinstance(previous.plane, StorePlane):
        return findings
    try:
        old = MasterStore(previous.plane.store).open(previous.plane.name)
        return [*findings, *_comparison(subject, scan, old, len(facts.rejected_per_frame), rules)]
    except StorageError as error:
        logger.warning("not compared with the previous master: %s", error)
        return findings


def _comparison(
    subject: Subject, scan: MasterScan, old: StoredMaster, n_frames: int, rules: QualityRules
) -> list[Finding]:
    """Compare with the previous master of the same key; one of another size is another key."""
    if old.shape != subject.shape or subject.previous is None:
        return []
    unit = scan.model.adu_per_unit
    return compare_masters(
        ComparedMaster(read_rows=subject.read_rows, n_frames=n_frames, adu_per_unit=unit),
        ComparedMaster(
            read_rows=old.read_rows, n_frames=subject.previous.record.n_frames or n_frames, adu_per_unit=unit
        ),
        subject.shape,
        subject.kind,
        rules.masters,
    )


def _series_noise_adu(survey: SeriesSurvey | None) -> float | None:
    """Give the noise of a sample between frames that follow each other, of the median cell."""
    if survey is None or not np.isfinite(survey.pair_variance_adu2).any():
        return None
    return math.sqrt(float(np.nanmedian(survey.pair_variance_adu2)))


def _dark_findings(subject: Subject) -> list[Finding]:
    return [
        Finding(
            check="dark",
            outcome=Outcome.WARN,
            value=None,
            limit=None,
            text=f"its dark, {name}, failed its quality control; look at that first, then make this flat again",
        )
        for name in subject.failed_darks
    ]


# ---- what is stored ----


def _metrics(subject: Subject, scan: MasterScan) -> dict[str, tuple[float | None, str]]:
    unit = "" if subject.kind is FrameType.FLAT else "ADU"
    metrics = {
        "median": (_number(scan.median), unit),
        "noise": (_number(scan.mean_noise), unit),
        "pixel_spread": (_number(scan.pixel_noise), unit),
        "rejected_share": (_number(subject.result.rejected_share), ""),
        "hot_pixels": (float(scan.counts[Defect.HOT]), ""),
        "noisy_pixels": (float(scan.counts[Defect.NOISY]), ""),
    }
    properties = subject.camera.properties if subject.camera is not None else None
    if properties is not None and properties.read_noise_e is not None:
        metrics["read_noise"] = (_number(properties.read_noise_e.value), "e-")
    if properties is not None and properties.gain_e_per_adu is not None:
        metrics["gain"] = (_number(properties.gain_e_per_adu.value), "e-/ADU")
    return metrics


def _frames_document(subject: Subject) -> dict[str, Any] | None:
    survey = subject.survey
    if survey is None:
        return None
    metadata = [frame.metadata for frame in subject.group.frames]
    return {
        "n_pixels": survey.n_pixels,
        "exposure_time_s": [m.exposure_time_s for m in metadata],
        "ccd_temperature_c": [m.ccd_temperature_c for m in metadata],
        "date_obs": [m.date_obs.isoformat() if m.date_obs else None for m in metadata],
        "level_adu": numbers(survey.mean_adu),
        "std_adu": numbers(survey.std_adu),
        "minimum_adu": numbers(survey.minimum_adu),
        "maximum_adu": numbers(survey.maximum_adu),
        "saturated": [int(count) for count in survey.saturated],
        "residual_std_adu": numbers(survey.residual_std_adu),
        "histogram": {
            "start": survey.histogram_start_adu,
            "step": survey.histogram_step_adu,
            "counts": [int(count) for count in survey.histogram],
        },
    }


def _scan_document(scan: MasterScan) -> dict[str, Any]:
    return {
        "median": _number(scan.median),
        "pixel_noise": _number(scan.pixel_noise),
        "sample_noise": _number(scan.sample_noise),
        "mean_noise": _number(scan.mean_noise),
        "n_nan": scan.n_nan,
        "n_not_positive": scan.n_not_positive,
        "defects": {str(defect.name).lower(): scan.counts[defect] for defect in Defect},
        "columns": [column.column for column in scan.columns],
        "hottest": [dict(pixel.as_dict()) for pixel in scan.strongest],
        "histogram": {
            "start": scan.histogram.start,
            "step": scan.histogram.step,
            "counts": [int(count) for count in scan.histogram.counts],
        },
        "row_profile": _profile(scan.row_profile),
        "column_profile": _profile(scan.column_profile),
        "rejected": _thinned(scan.rejected_cells),
    }


def _profile(values: NDArray[np.float32]) -> dict[str, Any]:
    """Give a profile as means of equal pieces, the last of which may be shorter."""
    step = -(-len(values) // PROFILE_POINTS)
    pieces = [values[start : start + step] for start in range(0, len(values), step)]
    return {"start": 0, "step": step, "values": numbers([_mean(piece) for piece in pieces])}


def _thinned(cells: NDArray[np.float32]) -> list[list[float | None]]:
    """Give a map of at most `MAP_CELLS` cells along each side, by means of equal blocks."""
    rows, columns = (-(-side // MAP_CELLS) for side in cells.shape)
    return [
        numbers([_mean(cells[y : y + rows, x : x + columns]) for x in range(0, cells.shape[1], columns)])
        for y in range(0, cells.shape[0], rows)
    ]


def _mean(values: NDArray[np.float32]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else math.nan


def numbers(values: Sequence[float] | NDArray[Any]) -> list[float | None]:
    """Give numbers as JSON values of 7 digits; what is not finite becomes ``None``."""
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None
