"""The quality of a master: what was measured of its frames and its pixels, judged, and as it is stored with it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.prepare import PreparedMaster
from ostcal.build.request import QualityRules
from ostcal.engine.tasks import JobResult
from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.inputs.exclusion_command import with_exclusion_command
from ostcal.library.find import StorePlane
from ostcal.library.planes import MasterWriter
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.frames.check_frames import check_frames
from ostcal.measure.frames.series_facts import is_of_many
from ostcal.measure.frames.unlike_others import check_rejected
from ostcal.measure.masters.against_previous import ComparedMaster, compare_masters
from ostcal.measure.masters.cells import finite_median
from ostcal.measure.masters.check_master import MasterFacts, check_master
from ostcal.measure.masters.defects import Defect, SampleModel
from ostcal.measure.masters.scan import scan_master
from ostcal.measure.masters.scan_result import MasterScan
from ostcal.measure.masters.strip_scan import RunningScans, StripScan

logger = logging.getLogger(__name__)

PROFILE_POINTS = 512
"""Points of a stored profile: more than a plot has pixels for."""
MAP_CELLS = 48
"""Cells along each side of the stored map of rejected samples, at most."""


_SHAPE_CHECKS = ("vignetting", "uniformity")
"""Of flats: light of the darkest corner, difference of opposite sides."""
_SCAN_THREADS = 2
"""When a master that was not scanned while it was combined is finished last, the other cores have nothing to do: 0.44 s
for 61 MP in place of 0.70 s."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A combined master that is to be judged."""

    prepared: PreparedMaster
    result: JobResult
    planes: MasterWriter
    scan: StripScan | None
    """Begun while the master was combined; ``None`` where its planes are to be read."""
    failed_darks: tuple[str, ...]
    """Of the darks of this run that were subtracted, those that failed."""

    @property
    def kind(self) -> FrameType:
        """Bias, dark or flat."""
        return self.prepared.plan.group.key.frame_type


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


def judge_master(subject: Subject, rules: QualityRules, config_options: Sequence[str] = ()) -> MasterQuality:
    """Scan a master, check it and its frames, and compare it with the one before.

    Findings about a frame end with the command that excludes it; `config_options` is the configuration that it needs.
    """
    prepared, planes, result = subject.prepared, subject.planes, subject.result
    if subject.scan is not None:
        scan = subject.scan.result(planes.read_rows, step_rows=planes.chunk_rows, threads=_SCAN_THREADS)
    else:
        pedestal_adu = 0.0
        if prepared.plan.is_flat and prepared.survey is not None and result.levels is not None:
            # level of the dark that was subtracted: what the frames had more than the light
            raw_adu = finite_median(prepared.survey.mean_adu)
            pedestal_adu = max(0.0, raw_adu - float(np.median(result.levels.levels_adu)))
        flat_level_adu = max(result.normalization_levels.values(), default=0.0)  # above the dark; became 1
        scan = scan_master(
            planes.read_rows,
            planes.shape,
            subject.kind,
            replace(_sample_model(prepared), adu_per_unit=flat_level_adu or 1.0, pedestal_adu=pedestal_adu),
            bayer=prepared.plan.group.key.bayer_pattern is not None,
            limits=rules.defects,
            step_rows=planes.chunk_rows,
            threads=_SCAN_THREADS,
        )
    found = _frame_findings(subject, rules)
    alike = Counter(finding.check for finding in found if finding.outcome is not Outcome.PASS)
    of_frames = [_with_command(finding, subject, config_options, alike[finding.check]) for finding in found]
    findings = (*of_frames, *_left_out_findings(subject), *_master_findings(subject, scan, rules))
    unit = "" if subject.kind is FrameType.FLAT else "ADU"
    metrics = {
        "median": (_number(scan.median), unit),
        "noise": (_number(scan.mean_noise), unit),
        "pixel_spread": (_number(scan.pixel_noise), unit),
        "rejected_share": (_number(result.rejected_share), ""),
        "hot_pixels": (float(scan.counts[Defect.HOT]), ""),
        "noisy_pixels": (float(scan.counts[Defect.NOISY]), ""),
    }
    camera = prepared.camera
    if camera is not None and camera.properties.read_noise_e is not None:
        metrics["read_noise"] = (_number(camera.properties.read_noise_e.value), "e-")
    if camera is not None and camera.properties.gain_e_per_adu is not None:
        metrics["gain"] = (_number(camera.properties.gain_e_per_adu.value), "e-/ADU")
    if camera is not None and camera.properties.dark_current_e_per_s is not None:
        metrics["dark_current"] = (_number(camera.properties.dark_current_e_per_s.value), "e-/s")
    if subject.kind is FrameType.FLAT:
        shape = [(one.check, one.value) for one in findings if one.check in _SHAPE_CHECKS]
        metrics |= {check: (_number(value), "") for check, value in shape if value is not None}
    document = {**_document(prepared, scan, findings), "metrics": metrics}
    return MasterQuality(findings=findings, scan=scan, document=document, metrics=metrics)


def begin_scan(
    prepared: PreparedMaster, rules: QualityRules, scans: RunningScans, *, bands_at_once: int
) -> StripScan | None:
    """Begin the scan of a master that is to be combined; ``None`` for flats, whose level is known at the end only."""
    plan = prepared.plan
    if plan.is_flat:
        return None
    model = _sample_model(prepared)
    return StripScan(
        plan.stack.shape[1:],
        plan.group.key.frame_type,
        model,
        scans,
        bayer=plan.group.key.bayer_pattern is not None,
        limits=rules.defects,
        bands_at_once=bands_at_once,
    )


# ---- what the checks need to know ----


def _sample_model(prepared: PreparedMaster) -> SampleModel:
    """Return what is known of the samples of frames; flats are divided by their level later."""
    camera = prepared.camera
    return SampleModel(
        n_frames=len(prepared.plan.group.frames),
        gain_e_per_adu=camera.gain_e_per_adu if camera is not None else None,
        step_adu=(camera.properties.step_adu if camera is not None else None) or 1.0,
        saturation_adu=prepared.full_scale_adu,
    )


def _frame_findings(subject: Subject, rules: QualityRules) -> list[Finding]:
    prepared = subject.prepared
    rejected = check_rejected(subject.result.rejected_per_frame, math.prod(subject.planes.shape))
    if prepared.survey is None:
        return rejected
    metadata = [frame.metadata for frame in prepared.plan.group.frames]
    camera = prepared.camera
    limits = rules.frames
    if subject.kind is FrameType.BIAS:  # a warm sensor changes a dark, not a bias
        limits = replace(
            limits,
            temperature_c=max(limits.temperature_c, rules.bias_temperature_c),
            set_point_c=max(limits.set_point_c, rules.bias_temperature_c),
        )
    return [
        *check_frames(
            subject.kind,
            prepared.survey,
            exposures_s=[m.exposure_time_s for m in metadata],
            temperatures_c=[m.ccd_temperature_c for m in metadata],
            set_points_c=[m.set_temperature_c for m in metadata],
            max_adu=prepared.full_scale_adu,
            read_noise_adu=prepared.unlit_noise_adu,
            gain_e_per_adu=camera.gain_e_per_adu if camera is not None else None,
            amplifier_cells_adu=camera.bias_cells_adu if camera is not None else None,
            full_scale_note=_full_scale_note(prepared),
            linear_end_adu=camera.properties.linear_end_adu if camera is not None else None,
            limits=limits,
        ),
        *rejected,
    ]


def _with_command(finding: Finding, subject: Subject, config_options: Sequence[str], n_alike: int) -> Finding:
    """Return a finding that names a frame with the command that leaves it out, unless most frames are like it."""
    if finding.frame is None or finding.outcome is Outcome.PASS:
        return finding
    if is_of_many(finding) or 2 * n_alike > len(subject.prepared.plan.members):
        return finding
    source = subject.prepared.plan.members[finding.frame]
    return replace(finding, text=with_exclusion_command(finding.text, source, config_options))


def _left_out_findings(subject: Subject) -> list[Finding]:
    """Return a warning for each frame that is unlike the others and was left out."""
    return [
        Finding(check="left out", outcome=Outcome.WARN, value=None, limit=None, text=line)
        for line in subject.prepared.plan.left_out
    ]


def _full_scale_note(prepared: PreparedMaster) -> str:
    """Say which full scale was taken and why; "" where it is the size of a sample."""
    full = prepared.full_scale
    return "" if full is None or full.is_whole_word else full.in_words


def _master_findings(subject: Subject, scan: MasterScan, rules: QualityRules) -> list[Finding]:
    prepared, planes, survey = subject.prepared, subject.planes, subject.prepared.survey
    pairs_adu2 = survey.pair_variance_adu2 if survey is not None else np.array([np.nan])
    n_frames = len(subject.result.rejected_per_frame)
    facts = MasterFacts(
        method_name=prepared.method.name,
        judges_outliers=prepared.method.judges_outliers,
        rejects_by_count=prepared.method.rejects_by_count,
        rejected_per_frame=subject.result.rejected_per_frame,
        # of the median cell, between frames that follow each other
        series_noise_adu=math.sqrt(float(np.nanmedian(pairs_adu2))) if np.isfinite(pairs_adu2).any() else None,
        full_scale_adu=prepared.full_scale_adu,
        full_scale_note=_full_scale_note(prepared),
        amplifier_adu=prepared.camera.bias_range_adu if prepared.camera is not None else 0.0,
    )
    findings = [*check_master(scan, facts, rules.masters)]
    findings += [
        Finding(
            check="dark",
            outcome=Outcome.WARN,
            value=None,
            limit=None,
            text=f"its dark, {name}, failed its quality control; look at that first, then make this flat again",
        )
        for name in subject.failed_darks
    ]
    previous = prepared.plan.previous
    if previous is None or not isinstance(previous.plane, StorePlane):
        return findings
    try:
        old = MasterStore(previous.plane.store).open(previous.plane.name)
        if old.shape != planes.shape:  # another sensor
            return findings
        unit = scan.model.adu_per_unit
        compared = compare_masters(
            ComparedMaster(read_rows=planes.read_rows, n_frames=n_frames, name=prepared.plan.name, adu_per_unit=unit),
            ComparedMaster(
                read_rows=old.read_rows,
                n_frames=previous.record.n_frames or n_frames,
                name=previous.record.name,
                adu_per_unit=unit,
            ),
            planes.shape,
            subject.kind,
            rules.masters,
        )
        return [*findings, *compared]
    except StorageError as error:
        logger.warning("not compared with the previous master: %s", error)
        return findings


# ---- what is stored ----


def _document(prepared: PreparedMaster, scan: MasterScan, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what is stored with a master: verdict, findings, and the figures of its frames and its pixels."""
    frames = None
    survey = prepared.survey
    if survey is not None:
        metadata = [frame.metadata for frame in prepared.plan.group.frames]
        frames = {
            "n_pixels": survey.n_pixels,
            "exposure_time_s": [m.exposure_time_s for m in metadata],
            "ccd_temperature_c": [m.ccd_temperature_c for m in metadata],
            "date_obs": [m.date_obs.isoformat() if m.date_obs else None for m in metadata],
            "level_adu": _numbers(survey.mean_adu),
            "std_adu": _numbers(survey.std_adu),
            "minimum_adu": _numbers(survey.minimum_adu),
            "maximum_adu": _numbers(survey.maximum_adu),
            "saturated": [int(count) for count in survey.saturated],
            "residual_std_adu": _numbers(survey.residual_std_adu),
            "histogram": {
                "start": survey.histogram_start_adu,
                "step": survey.histogram_step_adu,
                "counts": [int(count) for count in survey.histogram],
            },
        }
    cells = scan.rejected_cells
    rows, columns = (-(-side // MAP_CELLS) for side in cells.shape)  # means of equal blocks
    master = {
        "median": _number(scan.median),
        "pixel_noise": _number(scan.pixel_noise),
        "sample_noise": _number(scan.sample_noise),
        "mean_noise": _number(scan.mean_noise),
        "n_nan": scan.n_nan,
        "n_not_positive": scan.n_not_positive,
        "defects": {str(defect.name).lower(): scan.counts[defect] for defect in Defect},
        "columns": [column.column for column in scan.columns],
        "hottest": [asdict(pixel) for pixel in scan.strongest],
        "histogram": {
            "start": scan.histogram.start,
            "step": scan.histogram.step,
            "counts": [int(count) for count in scan.histogram.counts],
        },
        "row_profile": _profile(scan.row_profile),
        "column_profile": _profile(scan.column_profile),
        "rejected": [
            _numbers([_mean(cells[y : y + rows, x : x + columns]) for x in range(0, cells.shape[1], columns)])
            for y in range(0, cells.shape[0], rows)
        ],
    }
    return {
        "verdict": str(worst(findings)),
        "findings": [finding.as_dict() for finding in findings],
        "frames": frames,
        "master": master,
    }


def _profile(values: NDArray[np.float32]) -> dict[str, Any]:
    """Return a profile as means of equal pieces, the last of which may be shorter."""
    step = -(-len(values) // PROFILE_POINTS)
    pieces = [values[start : start + step] for start in range(0, len(values), step)]
    return {"start": 0, "step": step, "values": _numbers([_mean(piece) for piece in pieces])}


def _mean(values: NDArray[np.float32]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else math.nan


def _numbers(values: Sequence[float] | NDArray[Any]) -> list[float | None]:
    """Return numbers as JSON values of 7 digits; what is not finite becomes ``None``."""
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None
