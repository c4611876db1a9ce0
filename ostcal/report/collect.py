"""From the masters on disk to the document of a report and its pictures."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.errors import OstcalError, StorageError
from ostcal.fits.read import FitsStack, inspect_fits
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.history import HistoryEntry, subject_of
from ostcal.library.store import MasterStore, Plane, StoredMaster
from ostcal.measure.defects import Defect
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.pictures import block_side, downsample, grey_image, zscale_limits
from ostcal.report.document import (
    CameraReport,
    DarkLadder,
    DefectCount,
    Entry,
    FrameRow,
    Histogram,
    HistoryPoint,
    HistorySeries,
    MasterReport,
    MasterSettings,
    Measure,
    PhotonTransfer,
    Profile,
    Provenance,
    Report,
    Statistics,
)
from ostcal.report.pictures import CameraPictures, MasterPictures, Picture, ReportPictures
from ostcal.row_window import RowWindow
from ostcal.science.synthetic_dark import LadderDarkCurrent, SyntheticRules, ladder_dark_currents
from ostcal.series.stack import ZarrStack

logger = logging.getLogger(__name__)

PICTURE_WIDTH = 640
THUMBNAIL_WIDTH = 160
MAP_ROWS = 4
"""Of a block of pixels, 15 x 15 at 61 MP: 60 pixels have a mean, and the fit takes a second in place of four."""
MOST_THUMBNAILS = 12
"""Of a master: more than a dozen odd frames have one cause, and the page stays below a megabyte a master."""

_THREADS = 2
"""Masters that are gone through at a time: pictures of seven of 61 MP take 4 s with one."""
_SERIES_LABEL = re.compile(r"(.*\.zarr)#(\d+)")


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is to be about."""

    masters: Sequence[LibraryMaster]
    """Those it shows, in their order."""
    library: Sequence[LibraryMaster]
    """All on disk, newest first: the dark current comes from them."""
    history: Sequence[HistoryEntry] = ()
    made_at: datetime
    temperature_tolerance_c: float = 2.0
    config_file: str | None = None
    settings: Mapping[str, Any] | None = None
    left_out: Sequence[str] = ()


def collect(request: ReportRequest) -> tuple[Report, ReportPictures]:
    """Read what is stored with the masters and make pictures of them; a damaged master is logged and left out."""
    with ThreadPoolExecutor(_THREADS) as pool:
        read = [one for one in pool.map(_read, request.masters) if one is not None]
    cameras = [
        (one.master.key, one.attributes["camera_properties"])
        for one in read
        if isinstance(one.attributes.get("camera_properties"), dict)
    ]
    found = _cameras(cameras, _dark_currents(request), request.library)
    cameras_shown = [camera for camera, _ in found]
    report = Report(
        made_at=request.made_at,
        software=f"ostcal {__version__}",
        config_file=request.config_file,
        masters=tuple(one.report for one in read),
        camera=cameras_shown[0] if cameras_shown else None,
        other_cameras=tuple(cameras_shown[1:]),
        left_out=tuple(request.left_out),
        history=tuple(_history(request.history, {subject_of(master.key) for master in request.masters})),
        settings=tuple(_entries(request.settings or {})),
    )
    pictures = {one.master.record.name: one.pictures for one in read}
    return report, ReportPictures(masters=pictures, cameras=tuple(_camera_pictures(current) for _, current in found))


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What is stored with a master, for the report, and its pictures."""

    master: LibraryMaster
    attributes: Mapping[str, Any]
    report: MasterReport
    pictures: MasterPictures


def _read(master: LibraryMaster) -> _Read | None:
    """Read a master of the store; one that is damaged is logged and left out."""
    if not isinstance(master.plane, StorePlane):
        return None
    try:
        store = MasterStore(master.plane.store)
        attributes = store.attributes(master.plane.name)
        return _Read(
            master=master,
            attributes=attributes,
            report=_master_report(master, attributes),
            pictures=_pictures(store.open(master.plane.name), master, attributes),
        )
    except (OstcalError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: left out of the report: %s", master.record.name, error)
        return None


# ---- masters ----


def _master_report(master: LibraryMaster, attributes: Mapping[str, Any]) -> MasterReport:
    quality = attributes.get("quality") or {}
    findings = tuple(Finding.from_dict(values) for values in quality.get("findings", []))
    scan = quality.get("master") or {}
    frames = quality.get("frames") or {}
    key = master.key
    unit = "" if key.frame_type is FrameType.FLAT else "ADU"
    return MasterReport(
        name=master.record.name,
        kind=key.frame_type,
        verdict=Outcome(quality["verdict"]) if quality else None,
        findings=findings,
        files=tuple(attributes.get("files", ())),
        made_at=master.record.made_at,
        n_frames=len(attributes["inputs"]),
        settings=_settings(key),
        statistics=_statistics(attributes, scan, unit),
        measures=tuple(_measures(findings)),
        histogram=_histogram(scan.get("histogram"), unit),
        frame_histogram=_histogram(frames.get("histogram"), "ADU"),
        row_profile=_profile(scan.get("row_profile"), unit),
        column_profile=_profile(scan.get("column_profile"), unit),
        frames=tuple(_frame_rows(attributes, frames, findings)),
        defects=tuple(_defects(scan.get("defects"), key.width * key.height)),
        provenance=_provenance(attributes),
    )


def _settings(key: GroupKey) -> MasterSettings:
    return MasterSettings(
        camera=key.settings.camera_label,
        width=key.width,
        height=key.height,
        exposure_time_s=key.exposure_time_s,
        filter_name=key.filter_name,
        temperature_c=key.temperature_c,
        gain=key.settings.gain,
        offset=key.settings.offset,
        binning=key.settings.binning,
        readout_mode=key.settings.readout_mode,
        bayer_pattern=key.bayer_pattern,
    )


def _statistics(attributes: Mapping[str, Any], scan: Mapping[str, Any], unit: str) -> Statistics:
    cards = {str(card[0]): card[1] for card in attributes.get("cards", ())}
    rejected, samples = attributes.get("rejected_per_frame"), attributes.get("n_samples")
    return Statistics(
        unit=unit,
        median=scan.get("median"),
        minimum=cards.get("DATAMIN"),
        maximum=cards.get("DATAMAX"),
        noise=scan.get("mean_noise"),
        empty_pixels=scan.get("n_nan"),
        rejected_share=sum(rejected) / samples if rejected and samples else None,
    )


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


def _measures(findings: Sequence[Finding]) -> list[Measure]:
    """Give the numbers of the master as a whole that an observer compares."""
    return [
        Measure(key=key, label=label, value=finding.value, unit=unit or finding.unit)
        for finding in findings
        if finding.value is not None and finding.frame is None and finding.check in _MEASURES
        for key, label, unit in [_MEASURES[finding.check]]
    ]


def _histogram(values: Mapping[str, Any] | None, unit: str) -> Histogram | None:
    if not values:
        return None
    return Histogram(start=values["start"], step=values["step"], counts=tuple(values["counts"]), unit=unit)


def _profile(values: Mapping[str, Any] | None, unit: str) -> Profile | None:
    if not values:
        return None
    return Profile(start=values["start"], step=values["step"], values=tuple(values["values"]), unit=unit)


def _frame_rows(
    attributes: Mapping[str, Any], frames: Mapping[str, Any], findings: Sequence[Finding]
) -> list[FrameRow]:
    about: defaultdict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.frame is not None:
            about[finding.frame].append(finding)
    pixels = attributes["width"] * attributes["height"]
    rows = []
    for position, label in enumerate(attributes["inputs"]):
        values = {name: column[position] for name, column in frames.items() if _is_column(column, attributes)}
        stored = _SERIES_LABEL.fullmatch(label)
        date_obs = values.get("date_obs")
        rows.append(
            FrameRow(
                position=position,
                label=label,
                series=stored[1] if stored else None,
                index=int(stored[2]) if stored else None,
                outcome=worst(about[position]),
                date_obs=datetime.fromisoformat(date_obs) if date_obs else None,
                exposure_time_s=values.get("exposure_time_s"),
                ccd_temperature_c=values.get("ccd_temperature_c"),
                level_adu=values.get("level_adu"),
                std_adu=values.get("std_adu"),
                minimum_adu=values.get("minimum_adu"),
                maximum_adu=values.get("maximum_adu"),
                saturated=values.get("saturated"),
                rejected_share=attributes["rejected_per_frame"][position] / pixels,
            )
        )
    return rows


def _is_column(column: object, attributes: Mapping[str, Any]) -> bool:
    return isinstance(column, list) and len(column) == len(attributes["inputs"])


def _defects(counts: Mapping[str, int] | None, n_pixels: int) -> list[DefectCount]:
    if not counts:
        return []
    return [
        DefectCount(
            name=str(defect.name).lower().replace("_", " "),
            bit=int(defect),
            pixels=counts.get(str(defect.name).lower(), 0),
            share=counts.get(str(defect.name).lower(), 0) / n_pixels,
        )
        for defect in Defect
    ]


def _provenance(attributes: Mapping[str, Any]) -> Provenance:
    cards = {str(card[0]): card[1] for card in attributes.get("cards", ())}
    history = [str(line) for line in attributes.get("history", ())]
    dark = next((line.removeprefix("dark: ") for line in history if line.startswith("dark: ")), None)
    config = next((line.rpartition(" ")[2] for line in history if line.startswith("configuration SHA-256")), None)
    return Provenance(
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


# ---- pictures ----


def _pictures(stored: StoredMaster, master: LibraryMaster, attributes: Mapping[str, Any]) -> MasterPictures:
    bayer = master.key.bayer_pattern is not None
    image = downsample(_window(stored, "master").rows, stored.shape, PICTURE_WIDTH, bayer=bayer)
    black, white = zscale_limits(image)
    unit = "" if master.key.frame_type is FrameType.FLAT else "ADU"
    quality = attributes.get("quality") or {}
    return MasterPictures(
        picture=Picture(pixels=grey_image(image, (black, white)), black=black, white=white, unit=unit),
        rejection_map=_rejection_map((quality.get("master") or {}).get("rejected")),
        defect_map=Picture(pixels=_defect_map(stored), unit="") if stored.has("dq") else None,
        thumbnails=_thumbnails(attributes, quality.get("findings", ()), bayer=bayer),
    )


def _window(stored: StoredMaster, plane: Plane) -> RowWindow:
    return RowWindow(partial(stored.read_rows, plane), stored.shape[0], stored.chunk_rows)


def _rejection_map(cells: Sequence[Sequence[float | None]] | None) -> Picture | None:
    if not cells:
        return None
    shares = np.array([[0.0 if value is None else value for value in row] for row in cells])
    most = max(float(shares.max()), 1e-6)
    return Picture(pixels=grey_image(shares, (0.0, most)), black=0.0, white=most, unit="share of the samples")


def _defect_map(stored: StoredMaster) -> NDArray[np.uint8]:
    """Put the bits of all pixels of a cell together."""
    height, width = stored.shape
    side = block_side(width, PICTURE_WIDTH)
    across = np.arange(0, width, side)
    window = _window(stored, "dq")
    rows = []
    for start in range(0, height, side):
        strip = np.bitwise_or.reduce(window.rows(start, min(start + side, height)), axis=0)
        rows.append(np.bitwise_or.reduceat(strip, across))
    return np.stack(rows)


def _thumbnails(
    attributes: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], *, bayer: bool
) -> dict[int, Picture]:
    """Make small pictures of the frames that checks named; of those that are gone there is none."""
    named = dict.fromkeys(
        finding["frame"] for finding in findings if finding["frame"] is not None and finding["outcome"] != "pass"
    )
    thumbnails = {}
    for position in islice(named, MOST_THUMBNAILS):
        try:
            thumbnails[position] = _thumbnail(attributes["inputs"][position], bayer=bayer)
        except (OstcalError, OSError, IndexError) as error:
            logger.debug("no thumbnail: %s", error)
    return thumbnails


def _thumbnail(label: str, *, bayer: bool) -> Picture:
    stored = _SERIES_LABEL.fullmatch(label)
    stack: ZarrStack | FitsStack
    stack = ZarrStack(stored[1], (int(stored[2]),)) if stored else FitsStack((_plain_fits(label),))
    _, height, width = stack.shape

    def read_rows(start: int, stop: int) -> NDArray[np.float32]:
        block = np.empty((1, stop - start, width), stack.encoding.dtype)
        stack.read_rows(start, stop, block)
        rows: NDArray[np.float32] = stack.encoding.decode(block)[0].astype(np.float32)
        return rows

    small = downsample(read_rows, (height, width), THUMBNAIL_WIDTH, bayer=bayer)
    black, white = zscale_limits(small)
    return Picture(pixels=grey_image(small, (black, white)), black=black, white=white)


def _plain_fits(path: str) -> Any:
    fits = inspect_fits(path)
    if fits.packed != "none":
        raise StorageError(f"{path}: a compressed file has no thumbnail")
    return fits


# ---- cameras ----


def _dark_currents(request: ReportRequest) -> list[LadderDarkCurrent]:
    rules = SyntheticRules(temperature_tolerance_c=request.temperature_tolerance_c)
    good = [master for master in request.library if master.record.verdict != str(Outcome.FAIL)]
    try:
        return ladder_dark_currents(good, rules)
    except StorageError as error:
        logger.warning("no dark current: %s", error)
        return []


def _cameras(
    measured: Sequence[tuple[GroupKey, Mapping[str, Any]]],
    currents: Sequence[LadderDarkCurrent],
    library: Sequence[LibraryMaster],
) -> list[tuple[CameraReport, LadderDarkCurrent | None]]:
    """Give a report of each camera and setting, that of most masters first, and the ladder of its dark current."""
    by_setting: defaultdict[Any, list[tuple[GroupKey, Mapping[str, Any]]]] = defaultdict(list)
    for key, properties in measured:
        by_setting[key.settings, key.width, key.height].append((key, properties))
    groups = sorted(by_setting.values(), key=len, reverse=True)
    masters = {master.record.name: master for master in library}
    found = []
    for group in groups:
        key = group[0][0]
        current = _current_of(key, currents, masters)
        found.append((_camera(key, _fullest([properties for _, properties in group]), current, masters), current))
    return found


def _fullest(candidates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Give the properties of which most is known; masters of one run share them."""
    return max(candidates, key=lambda properties: sum(value is not None for value in properties.values()))


def _camera(
    key: GroupKey,
    p: Mapping[str, Any],
    current: LadderDarkCurrent | None,
    masters: Mapping[str, LibraryMaster],
) -> CameraReport:
    reasons: Mapping[str, str] = p.get("reasons") or {}
    stored: dict[str, Any] = {name: p.get(name) for name in _STORED_PROPERTIES}
    report = CameraReport(
        camera=key.settings.camera_label,
        gain_setting=key.settings.gain,
        offset_setting=key.settings.offset,
        binning=key.settings.binning,
        readout_mode=key.settings.readout_mode,
        **stored,
        reasons=tuple(Entry(name=name, value=why) for name, why in reasons.items()),
        notes=tuple(p.get("notes") or ()),
        photon_transfer=_photon_transfer(p),
    )
    if current is None:
        return report
    levels_adu = tuple(_median_adu(masters.get(name)) for name in current.names)
    return _with_dark_current(report, current, levels_adu)


_STORED_PROPERTIES = (
    "gain_e_per_adu",
    "gain_e_per_adu_uncertainty",
    "read_noise_adu",
    "read_noise_adu_uncertainty",
    "read_noise_spread_adu",
    "read_noise_e",
    "read_noise_e_uncertainty",
    "full_well_adu",
    "full_well_e",
    "full_well_e_uncertainty",
    "bias_level_adu",
    "linearity_percent",
    "linearity_percent_uncertainty",
    "step_adu",
    "bits_used",
)
"""Of a camera, as they are stored with its masters and called in the report."""


def _current_of(
    key: GroupKey, currents: Sequence[LadderDarkCurrent], masters: Mapping[str, LibraryMaster]
) -> LadderDarkCurrent | None:
    """Give the dark current of a camera; where there are several temperatures, that of the newest masters."""
    fitting = [c for c in currents if c.settings == key.settings and (c.width, c.height) == (key.width, key.height)]
    order = {name: place for place, name in enumerate(masters)}  # newest first
    return min(fitting, key=lambda c: min(order.get(name, len(order)) for name in c.names), default=None)


def _median_adu(master: LibraryMaster | None) -> float | None:
    """Give the median of a master as it was measured when it was made."""
    if master is None or not isinstance(master.plane, StorePlane):
        return None
    quality = MasterStore(master.plane.store).attributes(master.plane.name).get("quality") or {}
    median: float | None = (quality.get("master") or {}).get("median")
    return median


def _camera_pictures(current: LadderDarkCurrent | None) -> CameraPictures:
    """Make maps of the dark current and of chi-square; of each block of pixels at most `MAP_ROWS` rows are fitted."""
    if current is None:
        return CameraPictures()
    side = block_side(current.width, PICTURE_WIDTH)
    rates, ratios = [], []
    try:
        fitted = current.ladder.fits_forward(current.height)
        for start in range(0, current.height, side):
            fit = fitted(start, min(start + min(side, MAP_ROWS), current.height))
            rates.append(_block_means(fit.rate_adu_per_s, side))
            ratios.append(_block_means(fit.chi_square, side))
    except StorageError as error:
        logger.warning("no map of the dark current: %s", error)
        return CameraPictures()
    rate, ratio = np.stack(rates), np.stack(ratios)
    black, white = zscale_limits(rate)
    chi_square = Picture(pixels=grey_image(ratio, (0.0, 4.0)), black=0.0, white=4.0, unit="")
    return CameraPictures(
        dark_current=Picture(pixels=grey_image(rate, (black, white)), black=black, white=white, unit="ADU/s"),
        chi_square=chi_square if np.isfinite(ratio).any() else None,
    )


def _block_means(rows: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Average the finite pixels of blocks of `side` columns over all rows; NaN where there is none."""
    starts = np.arange(0, rows.shape[1], side)
    finite = np.isfinite(rows)
    sums = np.add.reduceat(np.where(finite, rows, 0.0).sum(axis=0, dtype=np.float64), starts)
    counts = np.add.reduceat(finite.sum(axis=0), starts)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return means


def _photon_transfer(p: Mapping[str, Any]) -> PhotonTransfer | None:
    points = p.get("photon_transfer")
    if not points:
        return None
    signal, gain = points["signal_adu"], p.get("gain_e_per_adu")
    ends = (0.0, max(signal, default=0.0)) if gain else ()
    return PhotonTransfer(
        signal_adu=tuple(signal),
        variance_adu2=tuple(points["variance_adu2"]),
        used=tuple(points["used"]),
        fit_signal_adu=ends,
        fit_variance_adu2=tuple(end / gain for end in ends) if gain else (),
    )


def _with_dark_current(
    report: CameraReport, current: LadderDarkCurrent, levels_adu: tuple[float | None, ...]
) -> CameraReport:
    rate = current.median_adu_per_s
    gain = report.gain_e_per_adu
    known = ["dark_current_adu_per_s", *(["dark_current_e_per_s"] if gain else [])]
    notes = (f"dark current: {current.reason}",) if current.reason else ()
    return replace(
        report,
        temperature_c=current.temperature_c,
        dark_current_adu_per_s=rate.value,
        dark_current_adu_per_s_uncertainty=rate.uncertainty,
        dark_current_e_per_s=rate.value * gain if gain else None,
        dark_current_e_per_s_uncertainty=rate.uncertainty * gain if gain else None,
        dark_ladder=_dark_ladder(current, levels_adu),
        reasons=tuple(_known_reasons(report.reasons, known)),
        notes=(*report.notes, *notes),
    )


def _known_reasons(reasons: Sequence[Entry], known: Sequence[str]) -> Iterator[Entry]:
    """Leave out why something was not measured that now is; say of the electrons what they need."""
    for entry in reasons:
        if entry.name == "dark_current_e_per_s" and entry.name not in known:
            yield replace(entry, value="it needs the gain")
        elif entry.name not in known:
            yield entry


def _dark_ladder(current: LadderDarkCurrent, levels_adu: tuple[float | None, ...]) -> DarkLadder:
    """Give the levels of the masters, and a line of the median pixel's dark current through their middle."""
    rate = current.median_adu_per_s.value
    points = [(t, level) for t, level in zip(current.exposures_s, levels_adu, strict=True) if level is not None]
    ends = (current.exposures_s[0], current.exposures_s[-1]) if points else ()
    offset = float(np.mean([level - rate * t for t, level in points])) if points else 0.0
    return DarkLadder(
        exposure_time_s=current.exposures_s,
        level_adu=levels_adu,
        fit_exposure_time_s=ends,
        fit_level_adu=tuple(offset + rate * end for end in ends),
        reduced_chi_square=current.quality.median_ratio if current.quality is not None else None,
    )


# ---- history and settings ----


def _history(entries: Sequence[HistoryEntry], subjects: set[str]) -> list[HistorySeries]:
    """Give each number of each subject over time, of those that the report is about."""
    points: defaultdict[tuple[str, str, str], list[HistoryPoint]] = defaultdict(list)
    for entry in entries:
        if entry.subject not in subjects:
            continue
        for key, (value, unit) in entry.metrics.items():
            points[entry.subject, key, unit].append(
                HistoryPoint(made_at=entry.made_at, value=value, master=entry.name, outcome=entry.verdict)
            )
    return [
        HistorySeries(subject=subject, key=key, label=key.replace("_", " "), unit=unit, points=tuple(found))
        for (subject, key, unit), found in sorted(points.items())
    ]


def _entries(settings: Mapping[str, Any], prefix: str = "") -> list[Entry]:
    entries: list[Entry] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            entries += _entries(value, f"{prefix}{name}.")
        else:
            entries.append(Entry(name=f"{prefix}{name}", value="" if value is None else str(value)))
    return entries
