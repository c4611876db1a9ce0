"""The header of a master: what made it, in the words that other programs read.

Which program reads which card stands in ``docs/formats.md``. A card is ``(keyword, value, comment)``; cards without
a value are left out by the writer.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ostcal._version import __version__
from ostcal.engine.rejection import RejectionMethod
from ostcal.engine.tasks import JobResult
from ostcal.fits.cards import CardValue, Header
from ostcal.fits.dates import why_never_set
from ostcal.fits.headers import settings_cards
from ostcal.fits.optics import optics_cards
from ostcal.fits.sections import Readout, readout_cards
from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group
from ostcal.inputs.observed import Observed
from ostcal.measure.camera.measured import CameraProperties, Measured
from ostcal.measure.findings import Outcome
from ostcal.measure.masters.defects import Defect
from ostcal.response import LinearityCurve

Card = tuple[str, CardValue, str]

SCALE_CARD = "ADUSCALE"
"""Says what a value of 1 stands for, in masters whose values are between 0 and 1."""

HISTORY_NAMES = 100
"""Inputs named one by one in HISTORY; of more, the first and last are, and the store holds all."""

_KIND_NAMES = {FrameType.BIAS: "Master Bias", FrameType.DARK: "Master Dark", FrameType.FLAT: "Master Flat"}
_COUNT_CARDS = {FrameType.BIAS: "BIAS_CNT", FrameType.DARK: "DARK_CNT", FrameType.FLAT: "FLAT_CNT"}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a master beyond its frames."""

    frame_type: FrameType
    method: RejectionMethod
    calibration_id: str
    input_digest: str
    made_at: datetime
    calibration_status: str = ""
    """What was subtracted: letters of CALSTAT."""
    dark_description: str = ""
    """What was subtracted, in words that are the same whichever run made the dark."""
    darks: tuple[str, ...] = ()
    """Names of the masters that were subtracted; in the store alone, as they hold the times of their runs."""
    normalization: str = ""
    flat_scaling: str = ""
    config_digest: str = ""
    """SHA-256 of the configuration, where one was used."""
    verdict: Outcome | None = None
    """Of quality control; ``None`` if there was none."""
    camera: CameraProperties | None = None
    """As measured on the frames of the run."""
    recipe: str = ""
    """SHA-256 over all that decides the master: a later run with the same one need not make it."""
    readout: Readout | None = None
    """Overscan that was subtracted and what was kept of the frames."""
    ages_days: Mapping[FrameType, float] = field(default_factory=dict)
    """Of flats: how many days before them the bias and the dark that were subtracted were taken."""
    saturation_adu: float | None = None
    """Highest value that a 16-bit sample can hold; the sensor may saturate below it."""


def julian_date(when: datetime) -> float:
    """Return the Julian date of a time."""
    return 2440587.5 + when.timestamp() / 86400.0


def master_cards(group: Group, result: JobResult, provenance: Provenance) -> list[Card]:
    """Return the cards of a master's primary header, structure and checksums aside."""
    n = len(group.frames)
    return [
        ("IMAGETYP", _KIND_NAMES[provenance.frame_type], "type of image"),
        ("COMBINED", True, "combined from several frames"),
        ("NCOMBINE", n, "frames combined"),
        ("STACKCNT", n, "frames combined"),
        (_COUNT_CARDS[provenance.frame_type], n, "frames combined"),
        ("CALSTAT", provenance.calibration_status, "subtracted: B bias, D dark, O overscan; T trimmed"),
        *(readout_cards(provenance.readout, Header(())) if provenance.readout is not None else []),
        *_time_cards(group, provenance),
        *(
            (f"AGE{kind.upper()}", round(age, 4), f"[d] {kind} taken before it")
            for kind, age in provenance.ages_days.items()
        ),
        *_camera_cards(group, provenance.camera),
        *_data_cards(result, provenance),
        *_method_cards(group, result, provenance),
        ("QCVERD", str(provenance.verdict).upper() if provenance.verdict else None, "verdict of quality control"),
        ("PROGRAM", f"ostcal {__version__}", "program that made this file"),
        ("SWCREATE", f"ostcal {__version__}", "program that made this file"),
        ("CALID", provenance.calibration_id, "identity of this master"),
        ("INPDIGST", provenance.input_digest, "SHA-256 over the inputs, any order"),
    ]


def _time_cards(group: Group, provenance: Provenance) -> list[Card]:
    exposure_s = group.key.exposure_time_s
    times = [frame.metadata.exposure_time_s or 0.0 for frame in group.frames]
    observed = Observed.of(frame.metadata for frame in group.frames)
    first, last = (observed.first, observed.last) if observed is not None else (None, None)
    spread = max(times) > min(times)
    what = "[s] exposure of a frame" + (", median" if spread else "")
    return [
        ("EXPTIME", exposure_s, what),
        ("EXPOSURE", exposure_s, what),
        ("EXPMIN", min(times) if spread else None, "[s] shortest exposure"),
        ("EXPMAX", max(times) if spread else None, "[s] longest exposure"),
        ("LIVETIME", math.fsum(times), "[s] summed exposure"),
        ("DATE-OBS", _fits_time(first), "UTC start of the first frame"),
        ("DATE-END", _fits_time(last), "UTC end of the last frame"),
        (
            "DATE-AVG",
            _fits_time(observed.middle if observed else None),
            "UTC median of the frames; masters match by it",
        ),
        ("EXPSTART", julian_date(first) if first else None, "[d] JD start of the first frame"),
        ("EXPEND", julian_date(last) if last else None, "[d] JD end of the last frame"),
        ("DATE", provenance.made_at.strftime("%Y-%m-%dT%H:%M:%S"), "UTC when this file was made"),
        ("TIMESYS", "UTC", "time system"),
    ]


def observed_in(text: Callable[[str], str | None]) -> Observed | None:
    """Read when the frames of a master were taken, from the texts of its cards; ``None`` where they do not say it.

    Masters of other programs often have only the start of a frame: it is the first, the last and the middle.
    """
    first, last, middle = (_time_in(text(keyword)) for keyword in ("DATE-OBS", "DATE-END", "DATE-AVG"))
    if first is None or why_never_set(first):
        return None
    last = last if last is not None and last >= first else first
    if middle is None or not first <= middle <= last:
        middle = first + (last - first) / 2
    return Observed(first=first, last=last, middle=middle)


def _time_in(text: str | None) -> datetime | None:
    """Read the time of a card, in UTC where it names no time zone."""
    with contextlib.suppress(ValueError):
        when = datetime.fromisoformat(text or "")
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return None


def _fits_time(when: datetime | None) -> str | None:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] if when else None


def _camera_cards(group: Group, measured: CameraProperties | None) -> list[Card]:
    key, metadata = group.key, group.frames[0].metadata
    settings = key.settings
    pixel = metadata.pixel_size_um
    pattern = key.bayer_pattern
    measured_c = [f.metadata.ccd_temperature_c for f in group.frames if f.metadata.ccd_temperature_c is not None]
    return [
        ("INSTRUME", settings.camera, "camera"),
        ("CAMERAID", settings.camera_id, "which camera or detector"),
        ("GAIN", _whole(settings.gain), "gain setting of the camera"),
        ("OFFSET", _whole(settings.offset), "offset setting of the camera"),
        *_gain_cards(_common([f.metadata.egain_e_per_adu for f in group.frames]), measured),
        ("READOUTM", settings.readout_mode, "readout mode"),
        ("XBINNING", settings.binning[0], "binning along a row"),
        ("YBINNING", settings.binning[1], "binning along a column"),
        ("XPIXSZ", pixel[0] if pixel else None, "[um] pixel width, binned"),
        ("YPIXSZ", pixel[1] if pixel else None, "[um] pixel height, binned"),
        ("FILTER", key.filter_name, "filter"),
        *optics_cards(key.optics),
        ("BAYERPAT", pattern, "colours of the 2 x 2 cell at the first pixel"),
        ("XBAYROFF", 0 if pattern else None, "column offset of BAYERPAT"),
        ("YBAYROFF", 0 if pattern else None, "row offset of BAYERPAT"),
        ("ROWORDER", metadata.row_order, "order of the rows"),
        *settings_cards(settings),
        ("CCD-TEMP", round(statistics.median(measured_c), 3) if measured_c else None, "[C] median of the frames"),
        ("SET-TEMP", _common([f.metadata.set_temperature_c for f in group.frames]), "[C] set point"),
        ("TEMPMIN", round(min(measured_c), 3) if measured_c else None, "[C] lowest of the frames"),
        ("TEMPMAX", round(max(measured_c), 3) if measured_c else None, "[C] highest of the frames"),
    ]


def _gain_cards(stated_e_per_adu: float | None, measured: CameraProperties | None) -> list[Card]:
    """Return gain and read noise; the stated gain goes first, for programs match frames by the text of EGAIN."""
    gain = measured.gain_e_per_adu if measured is not None else None
    noise_adu = measured.read_noise_adu if measured is not None else None
    noise_e = measured.read_noise_e if measured is not None else None
    if noise_e is None and noise_adu is not None and stated_e_per_adu:
        noise_e = Measured(
            value=noise_adu.value * stated_e_per_adu, uncertainty=noise_adu.uncertainty * stated_e_per_adu
        )
    if stated_e_per_adu is not None:
        egain: Card = ("EGAIN", stated_e_per_adu, "[e-/ADU] gain the frames state")
    else:
        egain = ("EGAIN", _rounded(gain), "[e-/ADU] gain as measured")
    return [
        egain,
        ("GAINMEAS", _rounded(gain), "[e-/ADU] gain measured on pairs of flats"),
        ("GAINERR", _rounded(gain, error=True), "[e-/ADU] its standard deviation"),
        ("RDNOISE", _rounded(noise_e), "[e-] read noise as measured"),
        ("RDNERR", _rounded(noise_e, error=True), "[e-] its standard deviation"),
        ("RDNADU", _rounded(noise_adu), "[adu] read noise as measured"),
        *_linearity_cards(measured.linearity_curve if measured is not None else None),
    ]


def _linearity_cards(curve: LinearityCurve | None) -> list[Card]:
    """Return the response of the camera, which `linearity_of` reads."""
    if curve is None:
        return []
    terms = enumerate(curve.coefficients, 1)
    return [
        ("LINZERO", float(f"{curve.zero_adu:.8g}"), "[adu] level without light of LINHIGH"),
        ("LINHIGH", float(f"{curve.high_adu:.8g}"), "[adu] signal up to which the response is known"),
        *(
            (f"LINC{power}", float(f"{value:.8g}"), f"true = s (1 + ... LINC{power} (s/LINHIGH)^{power})")
            for power, value in terms
        ),
        ("LINERR", float(f"{curve.uncertainty_percent:.3g}"), "[%] standard deviation of the response"),
    ]


def linearity_of(header: Header) -> LinearityCurve | None:
    """Read the response of a camera from the header of a master; ``None`` where it has none."""
    zero_adu, high_adu = header.number("LINZERO", low=-1e9, high=1e9), header.number("LINHIGH", low=1e-9, high=1e9)
    terms = itertools.takewhile(
        lambda value: value is not None, (header.number(f"LINC{power}", low=-1e3, high=1e3) for power in range(1, 100))
    )
    coefficients = tuple(value for value in terms if value is not None)
    if zero_adu is None or high_adu is None or not coefficients:
        return None
    curve = LinearityCurve(
        coefficients=coefficients,
        high_adu=high_adu,
        zero_adu=zero_adu,
        uncertainty_percent=header.number("LINERR", low=0, high=100) or 0.0,
    )
    return curve if curve.grows else None


def _rounded(measured: Measured | None, *, error: bool = False) -> float | None:
    if measured is None:
        return None
    return float(f"{measured.uncertainty if error else measured.value:.6g}")


def _data_cards(result: JobResult, provenance: Provenance) -> list[Card]:
    is_flat = provenance.frame_type is FrameType.FLAT
    finite = math.isfinite(result.minimum) and math.isfinite(result.maximum)
    cards: list[Card] = [
        # An empty unit is "dimensionless" to the FITS standard and to astropy.
        ("BUNIT", "" if is_flat else "adu", "normalised to 1" if is_flat else "unit of the pixel values"),
        ("DATAMIN", result.minimum if finite else None, "lowest pixel value"),
        ("DATAMAX", result.maximum if finite else None, "highest pixel value"),
        ("SATURATE", None if is_flat else provenance.saturation_adu, "[adu] highest value a sample can hold"),
        ("NANPIX", result.empty_pixels or None, "pixels without a valid sample (NaN)"),
    ]
    if is_flat:
        cards.append(("NORMTYPE", provenance.normalization, "level that is 1"))
        for colour, level in result.normalization_levels.items():
            cards.append((f"NORMLV{colour}"[:8], level, f"[adu] level divided by{' in ' + colour if colour else ''}"))
    return cards


def _method_cards(group: Group, result: JobResult, provenance: Provenance) -> list[Card]:
    method = provenance.method.resolved(len(group.frames))
    cards: list[Card] = [
        ("COMBTYPE", method.combined_as, "how kept samples are combined"),
        ("REJTYPE", method.label, "how samples are rejected"),
        *method.cards(),
    ]
    if result.noise_measured:
        cards.append(("SERNOISE", round(result.noise.noise_adu, 6), "[adu] noise of a sample in the series"))
    cards += [
        ("NSAMPLES", result.n_samples, "samples read"),
        ("NREJECT", sum(result.rejected_per_frame), "samples not kept"),
        ("REJSHARE", round(result.rejected_share, 9), "share of the samples not kept"),
        ("FLATSCAL", provenance.flat_scaling or None, "level brought to be common before rejection"),
    ]
    return cards


def scaled_cards(cards: Sequence[Card], factor: float) -> list[Card]:
    """Return the cards of a master whose values are multiplied by a factor: between 0 and 1, as PixInsight has them."""
    scaled: list[Card] = []
    for keyword, value, comment in cards:
        if keyword in ("DATAMIN", "DATAMAX", "SATURATE") and isinstance(value, int | float):
            scaled.append((keyword, value * factor, comment.replace("[adu] ", "")))
        elif keyword == "BUNIT":
            scaled.append((keyword, "", "values are between 0 and 1"))
        else:
            scaled.append((keyword, value, comment))
    return [*scaled, (SCALE_CARD, 1 / factor, "multiply values by this for ADU, and a flat for 1")]


def defect_cards() -> list[Card]:
    """Return a card for each bit of the DQ extension."""
    return [
        (f"DQBIT{index}", str(defect.name), f"meaning of bit {index}, value {int(defect)}")
        for index, defect in enumerate(Defect)
    ]


def history_lines(group: Group, provenance: Provenance) -> list[str]:
    """Return the HISTORY of a master: its inputs and what was subtracted."""
    labels = [frame.label for frame in group.frames]
    lines = [f"combined from {len(labels)} frames"]
    if provenance.config_digest:
        lines.append(f"configuration SHA-256 {provenance.config_digest}")
    if provenance.dark_description:
        lines.append(f"dark: {provenance.dark_description}")
    if len(labels) > HISTORY_NAMES:
        lines += [f"first input {labels[0]}", f"last input {labels[-1]}"]
    else:
        lines += [f"input {label}" for label in labels]
    return lines


def _common(values: Sequence[float | None]) -> float | None:
    """Return the value that all share, else nothing."""
    first = values[0]
    return first if all(value == first for value in values) else None


def _whole(value: float | None) -> CardValue:
    """Write a whole setting as an integer, as Siril and ASTAP compare it."""
    if value is None:
        return None
    return int(value) if value == int(value) else value
