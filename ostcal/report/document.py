"""The document of a report as values: what the page shows and the JSON file holds.

Everything that an old master may lack is optional. Numbers that are not finite become ``null`` in JSON and a dash on
the page. Values come in measured; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from ostcal.codec import from_values, to_values_with_nulls
from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.report.json_lines import document_parts, json_of_item, json_text

FORMAT = "ostcal-report"
SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or is taken away; new keys do not raise it."""

Number = float | None
Numbers = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named value as text: a setting, a card of a header."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that has no field of its own, such as the glow of the amplifier in one master."""

    key: str
    """Its word in files, such as ``amplifier_glow_adu``."""
    label: str
    """Its words on the page."""
    value: Number
    uncertainty: Number = None
    """One standard deviation."""
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class HistogramData:
    """Counts in equal bins."""

    start: float
    """Lower edge of the first bin."""
    step: float
    """Width of a bin."""
    counts: tuple[int, ...]
    unit: str = "ADU"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Levels along an axis of the sensor, at equal distances."""

    start: float
    """Row or column of the first value, from 0."""
    step: float
    """Rows or columns from one value to the next."""
    values: Numbers
    unit: str = "ADU"


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """One frame of a master."""

    position: int
    """Its place among the frames of the master, from 0: what a finding's ``frame`` counts."""
    label: str
    """The file, or series and index."""
    series: str | None = None
    """The series it is stored in; ``None`` for a file."""
    index: int | None = None
    """Its index in that series."""
    outcome: Outcome = Outcome.PASS
    """The worst finding about this frame."""
    date_obs: datetime | None = None
    exposure_time_s: Number = None
    ccd_temperature_c: Number = None
    level_adu: Number = None
    std_adu: Number = None
    minimum_adu: Number = None
    maximum_adu: Number = None
    saturated: int | None = None
    """Saturated pixels among those looked at."""
    rejected_share: Number = None
    """Share of its samples that the combination did not keep, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class DefectCount:
    """Pixels that carry one bit of the DQ plane."""

    name: str
    """Its word, such as ``hot``."""
    bit: int
    """Value of the bit in the plane: 1, 2, 4, ..."""
    pixels: int
    share: Number = None
    """Of all pixels, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class WorstPixel:
    """A marked pixel of a master."""

    row: int
    column: int
    kinds: tuple[str, ...]
    """Words of `DefectCount`."""
    value: Number = None
    difference: Number = None
    """From the pixels beside it."""


@dataclass(frozen=True, kw_only=True)
class MasterSettings:
    """What the frames of a master have in common."""

    camera: str | None = None
    width: int | None = None
    height: int | None = None
    exposure_time_s: Number = None
    filter_name: str | None = None
    temperature_c: Number = None
    gain: Number = None
    offset: Number = None
    binning: tuple[int, ...] | None = None
    """Horizontal and vertical."""
    readout_mode: str | None = None
    bayer_pattern: str | None = None
    extension: str | None = None
    """Which image of files of several it is of."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Numbers of a master's pixels, in `unit`."""

    unit: str = "ADU"
    """Empty for a flat, which is divided by its level."""
    median: Number = None
    mean: Number = None
    std: Number = None
    minimum: Number = None
    maximum: Number = None
    noise: Number = None
    """Noise of one pixel of the master."""
    empty_pixels: int | None = None
    """Pixels without a valid sample."""
    rejected_share: Number = None
    """Share of the samples that were not kept, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class MasterProvenance:
    """What made a master."""

    software: str | None = None
    method: str | None = None
    """How the samples were combined and rejected, in words."""
    dark: str | None = None
    """What was subtracted, in words."""
    normalization: str | None = None
    calibration_status: str | None = None
    calibration_id: str | None = None
    input_digest: str | None = None
    config_digest: str | None = None
    inputs: tuple[str, ...] = ()
    """Every frame, by file or series and index."""
    cards: tuple[Entry, ...] = ()
    """Cards of the FITS header."""


@dataclass(frozen=True, kw_only=True)
class NoiseFall:
    """Noise of the mean of the first frames of a master, of which as many were taken as a target of noise needs."""

    frames: tuple[int, ...]
    """1, 2, 4, ... and all of them."""
    noise: Numbers
    """As measured on differences of frames."""
    unit: str = "ADU"
    """ADU, or % of the level for flats."""
    single_frame: float
    """Noise of one frame, from all pairs; that of n is expected to be it divided by the square root of n."""
    target_share: float
    """``target.noise_share`` of the configuration."""
    target_frames: int
    """Frames at which the target ended the series."""


@dataclass(frozen=True, kw_only=True)
class MasterReport:
    """Everything about one master."""

    name: str
    """Of its group in the master store; its FITS file has the same."""
    kind: FrameType
    verdict: Outcome | None = None
    """``None`` if it was never checked."""
    findings: tuple[Finding, ...] = ()
    files: tuple[str, ...] = ()
    """FITS files, beside the report."""
    made_at: datetime | None = None
    night: date | None = None
    """In which its frames were taken: the date of the evening."""
    n_frames: int | None = None
    settings: MasterSettings = MasterSettings()
    statistics: Statistics | None = None
    measures: tuple[Measure, ...] = ()
    histogram: HistogramData | None = None
    """Of the pixels of the master."""
    frame_histogram: HistogramData | None = None
    """Of the samples of its frames."""
    row_profile: Profile | None = None
    """Mean of each row, along the rows."""
    column_profile: Profile | None = None
    """Mean of each column, along the columns."""
    frames: tuple[FrameRow, ...] = ()
    noise_fall: NoiseFall | None = None
    """Where the number of frames was automatic and the series are still there."""
    defects: tuple[DefectCount, ...] = ()
    worst_pixels: tuple[WorstPixel, ...] = ()
    """The first of the lists, at most 20."""
    defect_lists: tuple[str, ...] = ()
    """Files, from the directory of the report: CSV, Siril (.lst), PixInsight (.txt), FITS."""
    provenance: MasterProvenance = MasterProvenance()

    @property
    def outline(self) -> MasterReport:
        """What the titles and the table of all masters say of it; of everything else it is empty."""
        return MasterReport(
            name=self.name,
            kind=self.kind,
            verdict=self.verdict,
            night=self.night,
            n_frames=self.n_frames,
            settings=self.settings,
            statistics=self.statistics,
        )


@dataclass(frozen=True, kw_only=True)
class PhotonTransferPoints:
    """Variance against signal of pairs of flats; a point for each pair and cell or exposure."""

    signal_adu: Numbers
    variance_adu2: Numbers
    used: tuple[bool, ...] = ()
    """Which points the fit used; empty: all."""
    fit_signal_adu: Numbers = ()
    """Points of the fitted curve."""
    fit_variance_adu2: Numbers = ()


@dataclass(frozen=True, kw_only=True)
class DarkLevels:
    """Level of the dark masters against their exposure."""

    exposure_time_s: Numbers
    level_adu: Numbers
    uncertainty_adu: Numbers = ()
    fit_exposure_time_s: Numbers = ()
    fit_level_adu: Numbers = ()
    reduced_chi_square: Number = None


@dataclass(frozen=True, kw_only=True)
class Linearity:
    """How far the flats are from a straight line through their signal against exposure."""

    signal_adu: Numbers
    deviation_percent: Numbers


@dataclass(frozen=True, kw_only=True)
class CameraReport:
    """Properties of the camera at one setting, measured on the frames of the run; uncertainties are one sigma."""

    camera: str | None = None
    gain_setting: Number = None
    offset_setting: Number = None
    binning: tuple[int, ...] | None = None
    readout_mode: str | None = None
    temperature_c: Number = None
    """Of the frames that gave the dark current."""
    gain_e_per_adu: Number = None
    gain_e_per_adu_uncertainty: Number = None
    read_noise_adu: Number = None
    read_noise_adu_uncertainty: Number = None
    read_noise_spread_adu: Number = None
    """The same from the spread of the pixels, a cross-check."""
    read_noise_e: Number = None
    read_noise_e_uncertainty: Number = None
    dark_current_adu_per_s: Number = None
    """Of the median pixel."""
    dark_current_adu_per_s_uncertainty: Number = None
    dark_current_e_per_s: Number = None
    """Of the median pixel."""
    dark_current_e_per_s_uncertainty: Number = None
    full_well_adu: Number = None
    full_well_e: Number = None
    full_well_e_uncertainty: Number = None
    bias_level_adu: Number = None
    saturation_adu: Number = None
    linearity_percent: Number = None
    """Largest deviation from a straight line, below saturation."""
    linearity_percent_uncertainty: Number = None
    step_adu: Number = None
    """Step of the converter: 4 for 14 bits shifted to 16."""
    bits_used: int | None = None
    measures: tuple[Measure, ...] = ()
    reasons: tuple[Entry, ...] = ()
    """Why a property was not measured, by its key."""
    notes: tuple[str, ...] = ()
    """What to know of those that were."""
    findings: tuple[Finding, ...] = ()
    photon_transfer: PhotonTransferPoints | None = None
    dark_ladder: DarkLevels | None = None
    linearity: Linearity | None = None


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """A value at a time."""

    made_at: datetime
    value: Number
    master: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class HistorySeries:
    """One number over the runs, oldest first."""

    subject: str
    """What it is about: `Dark 5 s, -10 C, gain 100` or a camera."""
    key: str
    """Its word in files, such as ``read_noise_e``."""
    label: str
    unit: str = ""
    points: tuple[HistoryPoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FlaggedFrame:
    """A frame that a check named."""

    master: str
    frame: str
    """The file, or series and index."""
    series: str | None
    index: int | None
    position: int
    """Its place among the frames of the master."""
    check: str
    outcome: Outcome
    value: Number
    limit: Number
    unit: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole document."""

    made_at: datetime
    """UTC, timezone-aware."""
    software: str
    """Program and version."""
    title: str = "Calibration masters"
    """Cameras and nights, where they are known."""
    config_file: str | None = None
    masters: tuple[MasterReport, ...] = ()
    camera: CameraReport | None = None
    """The camera at the setting of most frames."""
    other_cameras: tuple[CameraReport, ...] = ()
    """Its other settings, and other cameras."""
    findings: tuple[Finding, ...] = ()
    """About the run as a whole."""
    left_out: tuple[str, ...] = ()
    """Frames and series that are in no master, with the reason."""
    history: tuple[HistorySeries, ...] = ()
    settings: tuple[Entry, ...] = ()
    """The configuration of the run."""

    @property
    def verdict(self) -> Outcome | None:
        """The worst verdict of all masters; ``None`` if none was checked."""
        outcomes = {master.verdict for master in self.masters}
        return next((outcome for outcome in reversed(Outcome) if outcome in outcomes), None)

    @property
    def flagged_frames(self) -> tuple[FlaggedFrame, ...]:
        """Every finding that names a frame and is not a pass, in the order of the masters."""
        return tuple(flagged for master in self.masters for flagged in flagged_frames_of(master))

    def as_json(self) -> dict[str, Any]:
        """Return JSON values: the fields, and what follows from them (verdict, flagged frames)."""
        values: dict[str, Any] = to_values_with_nulls(self)
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict and str(self.verdict),
            "flagged_frames": to_values_with_nulls(self.flagged_frames),
            **values,
        }

    def json_text(self) -> str:
        """Return the text of the JSON file, without NaN and Infinity."""
        return json_text(self.as_json()) + "\n"

    def json_parts(self, *, masters: Iterable[str], flagged_frames: Iterable[str]) -> Iterator[str]:
        """Yield the text of the JSON file in parts, with other texts (`json_of_item`) in place of two of its lists."""
        values = {**replace(self, masters=(), history=()).as_json(), "verdict": self.verdict and str(self.verdict)}
        lists = {"flagged_frames": flagged_frames, "masters": masters, "history": map(json_of_item, self.history)}
        yield from document_parts(values, lists)
        yield "\n"

    @classmethod
    def from_json(cls, values: Any) -> Report:
        """Read what `as_json` returns; unknown keys are ignored.

        Raises
        ------
        StorageError
            If it is no report, one of a later version, or a value is missing or of a wrong kind.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise StorageError(f'not a report of ostcal: "format" is not {FORMAT!r}')
        version = values.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise StorageError(
                f"report of schema version {version}, and this ostcal reads up to {SCHEMA_VERSION}; use a later ostcal"
            )
        try:
            return from_values(cls, values)
        except ValueError as error:
            raise StorageError(f"report: {error}; the file is damaged, make it again") from error


def flagged_frames_of(master: MasterReport) -> Iterator[FlaggedFrame]:
    """Yield the findings of a master that name a frame and are not a pass."""
    rows = {row.position: row for row in master.frames}
    for finding in master.findings:
        if finding.frame is None or finding.outcome is Outcome.PASS:
            continue
        row = rows.get(finding.frame)
        yield FlaggedFrame(
            master=master.name,
            frame=row.label if row else f"frame {finding.frame}",
            series=row.series if row else None,
            index=row.index if row else None,
            position=finding.frame,
            check=finding.check,
            outcome=finding.outcome,
            value=finding.value,
            limit=finding.limit,
            unit=finding.unit,
            text=finding.text,
        )
