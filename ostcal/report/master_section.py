"""The part of a report about one master, from the attributes that are stored with it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from ostcal.codec import from_values
from ostcal.frames import FrameType
from ostcal.library.find import LibraryMaster
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.masters.defects import Defect
from ostcal.naming import night_of
from ostcal.report.defect_lists import DefectList, kind_words
from ostcal.report.document import (
    DefectCount,
    Entry,
    FrameRow,
    HistogramData,
    MasterProvenance,
    MasterReport,
    MasterSettings,
    Measure,
    Profile,
    Statistics,
    WorstPixel,
)
from ostcal.report.previews import SERIES_LABEL

_Plotted = TypeVar("_Plotted", HistogramData, Profile)

_MEASURES: Mapping[str, tuple[str, str, str]] = {
    "signal to noise": ("signal_to_noise", "Signal to noise of a pixel", ""),
    "vignetting": ("vignetting", "Darkest corner", "of the centre"),
    "uniformity": ("uniformity", "Unevenness", ""),
    "sample noise": ("sample_noise", "Noise of the samples", "times that between frames"),
    "pixel noise": ("pixel_noise", "Noise from pixel to pixel", "times that of the samples"),
    "glow": ("glow", "Noise of the brightest corner", "times that of the middle"),
}
"""What stands beside the picture of a master: key, label and unit of checks whose numbers say something without their
limits. All are in the list of checks, and those of frames and defects in their tables."""

MOST_WORST = 20
"""Pixels that the report names; the lists name more."""

_STORED_OF_FRAMES = (
    "exposure_time_s", "ccd_temperature_c", "level_adu", "std_adu", "minimum_adu", "maximum_adu", "saturated",
)  # fmt: skip
"""What the attributes of masters and the report call by the same names."""


def master_report(master: LibraryMaster, attributes: Mapping[str, Any]) -> MasterReport:
    """Return the part of the report about a master; KeyError, TypeError or ValueError if attributes are damaged."""
    quality = attributes.get("quality") or {}
    scan, frames = quality.get("master") or {}, quality.get("frames") or {}
    findings = tuple(Finding.from_dict(values) for values in quality.get("findings", []))
    cards = {str(card[0]): card[1] for card in attributes.get("cards", ())}
    key, settings, observed = master.key, master.key.settings, master.record.observed
    unit, n_pixels = "" if key.frame_type is FrameType.FLAT else "ADU", key.width * key.height
    counts = scan.get("defects") or {}  # without them it was never scanned for defects
    defects = {bit: counts.get(str(bit.name).lower(), 0) for bit in Defect if counts}
    rejected, samples = attributes.get("rejected_per_frame"), attributes.get("n_samples")
    return MasterReport(
        name=master.record.name,
        kind=key.frame_type,
        verdict=Outcome(quality["verdict"]) if quality else None,
        findings=findings,
        files=tuple(attributes.get("files", ())),
        made_at=master.record.made_at,
        night=key.night or night_of(observed.middle if observed is not None else None, key.noon_utc_s),
        n_frames=len(attributes["inputs"]),
        settings=MasterSettings(
            camera=settings.camera_label,
            width=key.width,
            height=key.height,
            exposure_time_s=key.exposure_time_s,
            filter_name=key.filter_name,
            temperature_c=key.temperature_c,
            gain=settings.gain,
            offset=settings.offset,
            binning=settings.binning,
            readout_mode=settings.readout_mode,
            bayer_pattern=key.bayer_pattern,
            extension=settings.extension,
        ),
        statistics=Statistics(
            unit=unit,
            median=scan.get("median"),
            minimum=cards.get("DATAMIN"),
            maximum=cards.get("DATAMAX"),
            noise=scan.get("mean_noise"),
            empty_pixels=scan.get("n_nan"),
            rejected_share=sum(rejected) / samples if rejected and samples else None,
        ),
        measures=tuple(
            Measure(key=word, label=label, value=finding.value, unit=measure_unit or finding.unit)
            for finding in findings
            if finding.value is not None and finding.frame is None and finding.check in _MEASURES
            for word, label, measure_unit in [_MEASURES[finding.check]]
        ),
        histogram=_stored(HistogramData, scan.get("histogram"), unit),
        frame_histogram=without_gaps(_stored(HistogramData, frames.get("histogram"), "ADU")),
        row_profile=_stored(Profile, scan.get("row_profile"), unit),
        column_profile=_stored(Profile, scan.get("column_profile"), unit),
        frames=tuple(_frame_rows(attributes, frames, findings)),
        defects=tuple(
            DefectCount(name=str(bit.name).lower().replace("_", " "), bit=int(bit), pixels=n, share=n / n_pixels)
            for bit, n in defects.items()
        ),
        provenance=_provenance(attributes, cards),
    )


def with_defects(report: MasterReport, found: DefectList, files: Sequence[str]) -> MasterReport:
    """Return the part of a report with the worst of the pixels that `files` list."""
    pixels = found.pixels
    first = range(min(MOST_WORST, len(pixels.rows)))
    return replace(
        report,
        defect_lists=tuple(files),
        worst_pixels=tuple(
            WorstPixel(
                row=int(pixels.rows[i]),
                column=int(pixels.columns[i]),
                kinds=tuple(kind_words(int(pixels.bits[i])).split("+")),
                value=_finite(pixels.values[i]),
                difference=_finite(pixels.differences[i]),
            )
            for i in first
        ),
    )


def _finite(value: np.float32) -> float | None:
    return float(f"{value:.7g}") if np.isfinite(value) else None


def _stored(kind: type[_Plotted], values: Mapping[str, Any] | None, unit: str) -> _Plotted | None:
    return from_values(kind, {**values, "unit": unit}) if values else None


def without_gaps(histogram: HistogramData | None) -> HistogramData | None:
    """Join bins where only every second one, fourth one, ... can hold samples, as with 14 bits shifted to 16.

    The values of the samples are at the start of bins; they come to be in the middle of the new ones.
    """
    if histogram is None:
        return None
    occupied = [at for at, n in enumerate(histogram.counts) if n]
    every = math.gcd(*(at - occupied[0] for at in occupied)) if len(occupied) > 1 else 1
    if every <= 1:
        return histogram
    return replace(
        histogram,
        start=histogram.start + histogram.step * (occupied[0] - every / 2),
        step=histogram.step * every,
        counts=histogram.counts[occupied[0] :: every],
    )


def _frame_rows(
    attributes: Mapping[str, Any], frames: Mapping[str, Any], findings: Sequence[Finding]
) -> Iterator[FrameRow]:
    about: defaultdict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.frame is not None:
            about[finding.frame].append(finding)
    inputs = attributes["inputs"]
    columns = {
        name: values for name, values in frames.items() if isinstance(values, list) and len(values) == len(inputs)
    }
    for position, label in enumerate(inputs):
        values = {name: column[position] for name, column in columns.items()}
        stored = SERIES_LABEL.fullmatch(label)
        date_obs = values.get("date_obs")
        yield FrameRow(
            position=position,
            label=label,
            series=stored[1] if stored else None,
            index=int(stored[2]) if stored else None,
            outcome=worst(about[position]),
            date_obs=datetime.fromisoformat(date_obs) if date_obs else None,
            **{name: values.get(name) for name in _STORED_OF_FRAMES},
            rejected_share=attributes["rejected_per_frame"][position] / (attributes["width"] * attributes["height"]),
        )


def _provenance(attributes: Mapping[str, Any], cards: Mapping[str, Any]) -> MasterProvenance:
    history = [str(line) for line in attributes.get("history", ())]
    dark = next((line.removeprefix("dark: ") for line in history if line.startswith("dark: ")), None)
    config = next((line.rpartition(" ")[2] for line in history if line.startswith("configuration SHA-256")), None)
    return MasterProvenance(
        software=cards.get("SWCREATE"),
        method=cards.get("REJTYPE"),
        dark=dark,
        normalization=cards.get("NORMTYPE"),
        calibration_status=cards.get("CALSTAT"),
        calibration_id=attributes.get("calibration_id"),
        input_digest=attributes.get("input_digest"),
        config_digest=config,
        inputs=tuple(attributes["inputs"]),
        cards=tuple(Entry(name=name, value=str(value)) for name, value in cards.items() if value is not None),
    )
