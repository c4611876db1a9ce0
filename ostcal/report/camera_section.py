"""The part of a report about the cameras: their properties, and the dark current from the library's dark masters."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.codec import from_values
from ostcal.errors import StorageError
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.store import MasterStore
from ostcal.measure.camera.dark_current import why_no_dark_current
from ostcal.measure.findings import Outcome
from ostcal.measure.pictures import block_side, grey_image
from ostcal.report.document import CameraReport, DarkLevels, Entry, Linearity, PhotonTransferPoints
from ostcal.report.png import CameraPictures, Picture
from ostcal.report.previews import PICTURE_WIDTH, in_zscale
from ostcal.response import LinearityCurve
from ostcal.science.synthetic_dark import LadderDarkCurrent, SyntheticRules, ladder_dark_currents

logger = logging.getLogger(__name__)

MAP_ROWS = 4
"""Rows of a block of pixels that are fitted, of 15 at 61 MP: a map takes 1 s in place of 4."""

_STORED_PROPERTIES = (
    "gain_e_per_adu", "gain_e_per_adu_uncertainty", "read_noise_adu", "read_noise_adu_uncertainty",
    "read_noise_spread_adu", "read_noise_e", "read_noise_e_uncertainty", "full_well_adu", "full_well_e",
    "full_well_e_uncertainty", "bias_level_adu", "linearity_percent", "linearity_percent_uncertainty", "step_adu",
    "bits_used", "dark_current_adu_per_s", "dark_current_adu_per_s_uncertainty", "dark_current_e_per_s",
    "dark_current_e_per_s_uncertainty",
)  # fmt: skip
"""Properties that the attributes of masters and the report call by the same names."""


@dataclass(frozen=True, kw_only=True)
class CameraResult:
    """A camera at one setting, and maps of its dark current."""

    report: CameraReport
    pictures: CameraPictures


def camera_sections(
    measured: Sequence[tuple[GroupKey, Mapping[str, Any]]],
    library: Sequence[LibraryMaster],
    temperature_tolerance_c: float,
    held_bytes: int,
) -> list[CameraResult]:
    """Return each camera and setting, that of most masters first.

    `measured` are the settings of masters and the ``camera_properties`` that are stored with them. The dark current
    comes from those masters of the `library`, newest first, that did not fail; of all of them together at most
    `held_bytes` are read at a time.
    """
    by_setting: defaultdict[Any, list[tuple[GroupKey, Mapping[str, Any]]]] = defaultdict(list)
    for key, properties in measured:
        by_setting[key.settings, key.width, key.height].append((key, properties))
    currents: list[LadderDarkCurrent] = []
    try:
        good = [master for master in library if master.record.verdict != str(Outcome.FAIL)]
        rules = SyntheticRules(temperature_tolerance_c=temperature_tolerance_c)
        currents = ladder_dark_currents(good, rules, held_bytes)
    except StorageError as error:
        logger.warning("no dark current: %s", error)
    masters = {master.record.name: master for master in library}
    order = {name: place for place, name in enumerate(masters)}
    sections = []
    for group in sorted(by_setting.values(), key=len, reverse=True):
        key = group[0][0]
        # Masters of one run share their properties; of several runs, those count of which most is known.
        fullest = max((p for _, p in group), key=lambda p: sum(value is not None for value in p.values()))
        sensor = key.settings, key.width, key.height
        fitting = [c for c in currents if (c.key.settings, c.key.width, c.key.height) == sensor]
        # Of the dark currents at several temperatures, that of the newest masters.
        current = min(fitting, key=lambda c: min(order.get(m.name, len(order)) for m in c.ladder.masters), default=None)
        report = _camera_report(key, fullest, current, masters)
        sections.append(CameraResult(report=report, pictures=_camera_pictures(current, held_bytes)))
    return sections


def _camera_report(
    key: GroupKey,
    properties: Mapping[str, Any],
    current: LadderDarkCurrent | None,
    masters: Mapping[str, LibraryMaster],
) -> CameraReport:
    """Return what was measured of a camera at one setting, with the dark current of its masters."""
    gain: float | None = properties.get("gain_e_per_adu")
    reasons: dict[str, str] = dict(properties.get("reasons") or {})
    notes = list(properties.get("notes") or ())
    values: dict[str, Any] = {name: properties.get(name) for name in _STORED_PROPERTIES}
    values["saturation_adu"] = properties.get("full_scale_adu")
    if steps := properties.get("dark_ladder"):
        values["dark_ladder"] = _levels_of_frames(steps)
    if points := properties.get("photon_transfer"):
        ends = (0.0, max(points["signal_adu"], default=0.0)) if gain else ()
        values["photon_transfer"] = PhotonTransferPoints(
            signal_adu=tuple(points["signal_adu"]),
            variance_adu2=tuple(points["variance_adu2"]),
            used=tuple(points["used"]),
            fit_signal_adu=ends,
            fit_variance_adu2=tuple(end / gain for end in ends) if gain else (),
        )
    if response := properties.get("linearity_curve"):
        values["linearity"] = _linearity(from_values(LinearityCurve, response))
    if current is not None and (why := why_no_dark_current(current.median_adu_per_s)):
        values |= {name: None for name in _STORED_PROPERTIES if name.startswith("dark_current")}
        values["dark_ladder"] = _dark_levels(current, masters)
        reasons |= {"dark_current_adu_per_s": why, "dark_current_e_per_s": why}
    elif current is not None:
        rate = current.median_adu_per_s
        values |= {
            "temperature_c": current.key.temperature_c,
            "dark_current_adu_per_s": rate.value,
            "dark_current_adu_per_s_uncertainty": rate.uncertainty,
            "dark_current_e_per_s": rate.value * gain if gain else None,
            "dark_current_e_per_s_uncertainty": rate.uncertainty * gain if gain else None,
            "dark_ladder": _dark_levels(current, masters),
        }
        reasons.pop("dark_current_adu_per_s", None)
        if gain:
            reasons.pop("dark_current_e_per_s", None)
        elif "dark_current_e_per_s" in reasons:
            reasons["dark_current_e_per_s"] = "it needs the gain"
        if current.reason:
            notes.append(f"dark current: {current.reason}")
    return CameraReport(
        camera=key.settings.camera_label,
        gain_setting=key.settings.gain,
        offset_setting=key.settings.offset,
        binning=key.settings.binning,
        readout_mode=key.settings.readout_mode,
        reasons=tuple(Entry(name=name, value=why) for name, why in reasons.items()),
        notes=tuple(notes),
        **values,
    )


def _levels_of_frames(steps: Mapping[str, Any]) -> DarkLevels:
    """Return the levels of bias and dark frames that the run measured, and their line."""
    first_s, last_s = steps["exposures_s"][0], steps["exposures_s"][-1]
    return DarkLevels(
        exposure_time_s=tuple(steps["exposures_s"]),
        level_adu=tuple(steps["levels_adu"]),
        fit_exposure_time_s=(first_s, last_s),
        fit_level_adu=tuple(steps["offset_adu"] + steps["rate_adu_per_s"] * end for end in (first_s, last_s)),
        reduced_chi_square=steps["reduced_chi_square"],
    )


def _linearity(curve: LinearityCurve) -> Linearity:
    """Return how far levels are off a straight line, at some levels."""
    signal_adu = np.linspace(0.02, 1, 50) * curve.high_adu
    deviation = 100 * (signal_adu / curve.true_signal(signal_adu) - 1)
    return Linearity(
        signal_adu=tuple(float(f"{x:.6g}") for x in signal_adu),
        deviation_percent=tuple(float(f"{x:.4g}") for x in deviation),
    )


def _dark_levels(current: LadderDarkCurrent, masters: Mapping[str, LibraryMaster]) -> DarkLevels:
    """Return the levels of the dark masters, and a line of the median pixel's dark current through their middle."""
    exposures_s = current.ladder.exposures_s
    levels_adu: list[float | None] = []
    for dark in current.ladder.masters:
        master = masters.get(dark.name)
        quality: Mapping[str, Any] = {}
        if master is not None and isinstance(master.plane, StorePlane):
            quality = MasterStore(master.plane.store).attributes(master.plane.name).get("quality") or {}
        levels_adu.append((quality.get("master") or {}).get("median"))  # as measured when it was made
    rate = current.median_adu_per_s.value
    points = [(t, level) for t, level in zip(exposures_s, levels_adu, strict=True) if level is not None]
    ends = (exposures_s[0], exposures_s[-1]) if points else ()
    offset = float(np.mean([level - rate * t for t, level in points])) if points else 0.0
    return DarkLevels(
        exposure_time_s=exposures_s,
        level_adu=tuple(levels_adu),
        fit_exposure_time_s=ends,
        fit_level_adu=tuple(offset + rate * end for end in ends),
        reduced_chi_square=current.quality.median_ratio if current.quality is not None else None,
    )


def _camera_pictures(current: LadderDarkCurrent | None, held_bytes: int) -> CameraPictures:
    """Make maps of the dark current and of chi-square; of each block of pixels at most `MAP_ROWS` rows are fitted."""
    if current is None:
        return CameraPictures()
    side = block_side(current.key.width, PICTURE_WIDTH)
    height = current.key.height
    pieces = [(start, min(start + min(side, MAP_ROWS), height)) for start in range(0, height, side)]
    rates, ratios = [], []
    try:
        for fit in current.ladder.fits_forward(pieces, held_bytes):
            rates.append(_block_means(fit.rate_adu_per_s, side))
            ratios.append(_block_means(fit.chi_square, side))
    except StorageError as error:
        logger.warning("no map of the dark current: %s", error)
        return CameraPictures()
    ratio = np.stack(ratios)
    chi_square = Picture(pixels=grey_image(ratio, (0.0, 4.0)), black=0.0, white=4.0, unit="")
    return CameraPictures(
        dark_current=in_zscale(np.stack(rates), "ADU/s"),
        chi_square=chi_square if np.isfinite(ratio).any() else None,
    )


def _block_means(rows: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Average the finite pixels of blocks of `side` columns over all rows; NaN if a block has none."""
    starts = np.arange(0, rows.shape[1], side)
    finite = np.isfinite(rows)
    sums = np.add.reduceat(np.where(finite, rows, 0.0).sum(axis=0, dtype=np.float64), starts)
    counts = np.add.reduceat(finite.sum(axis=0), starts)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return means
