"""Calibration of `CCDData` and quantities: units, headers that must fit, uncertainties and masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import InputError
from ostcal.fits.astropy_objects import (
    ccd_data,
    header_of_meta,
    is_nddata,
    is_quantity,
    standard_deviations,
    unit_of,
)
from ostcal.fits.cards import Header
from ostcal.fits.headers import metadata_from_header
from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import settings_differ
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.inputs.optics import optics_differ
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.attributes import key_from_metadata
from ostcal.naming import same_filter
from ostcal.science.matched import science_key

logger = logging.getLogger(__name__)

EXPOSURE_TOLERANCE = 0.1
"""Share of the exposure by which that of a dark may differ, as `master_frames.calibration_tolerance` has it."""
TEMPERATURE_TOLERANCE_C = 2.0
_FLAT_LEVELS = (0.5, 2.0)
"""The median of a flat that is normalised to 1 is between these, whatever its vignetting."""
_OTHER_KINDS = {
    "dark": (FrameType.FLAT, FrameType.LIGHT),
    "flat": (FrameType.BIAS, FrameType.DARK),
}
"""What is no dark and no flat. Flats of the sky may be called lights."""

Arithmetic = Callable[[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None, float | None], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A science frame or a master, as it was given."""

    name: str
    values: NDArray[Any]
    """NaN where it is masked."""
    given: Any
    unit: Any = None
    mask: NDArray[np.bool_] | None = None
    sigma: NDArray[np.float64] | None = None
    header: Header = field(default_factory=lambda: Header(()))

    @classmethod
    def of(cls, given: Any, name: str) -> _Part:
        """Read an array, a masked array, a quantity or a `CCDData`."""
        if is_nddata(given):
            try:
                sigma = standard_deviations(given)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            mask = None if given.mask is None else np.broadcast_to(np.asarray(given.mask, bool), given.data.shape)
            meta: Mapping[str, Any] = given.meta
            return cls(
                name=name, values=_without(given.data, mask), given=given, unit=given.unit, mask=mask, sigma=sigma,
                header=header_of_meta(meta),
            )  # fmt: skip
        if is_quantity(given):
            return cls(name=name, values=np.asarray(given.value), given=given, unit=given.unit)
        if isinstance(given, np.ma.MaskedArray):
            mask = np.ma.getmaskarray(given)
            return cls(name=name, values=_without(given.data, mask), given=given, mask=mask)
        return cls(name=name, values=np.asarray(given), given=given)

    @property
    def metadata(self) -> FrameMetadata:
        """What its header says."""
        height, width = self.values.shape[-2:]
        return metadata_from_header(self.header, width=width, height=height, path="")


def metadata_of_object(frame: Any) -> FrameMetadata:
    """Return what the header of a `CCDData` says.

    Raises
    ------
    InputError
        If it is no image of two axes.
    """
    if frame.data.ndim != 2:
        raise InputError(f"light: is an array of {frame.data.ndim} axes; give a CCDData of two axes")
    return _Part.of(frame, "light").metadata


def has_objects(*parts: Any) -> bool:
    """Return whether one of them is more than an array."""
    return any(is_nddata(part) or is_quantity(part) or isinstance(part, np.ma.MaskedArray) for part in parts)


def calibrate_objects(science: Any, dark: Any, flat: Any, saturation: Any, arithmetic: Arithmetic) -> Any:
    """Calibrate with `arithmetic`, and return an object of the kind of `science`.

    Raises
    ------
    InputError
        If units or headers contradict each other.
    """
    frame = _Part.of(science, "science")
    of_dark = None if dark is None else _Part.of(dark, "dark")
    of_flat = None if flat is None else _Part.of(flat, "flat")
    limit = saturation
    if is_quantity(saturation):
        limit = _in_unit(saturation, frame.unit)
    for master in (of_dark, of_flat):
        if master is not None and master.values.shape == frame.values.shape[-2:] and frame.header.cards:
            _check_headers(frame, master)
    if of_dark is not None and frame.unit is not None and of_dark.unit is not None and of_dark.unit != frame.unit:
        raise InputError(f"dark: its unit is {of_dark.unit}, that of science is {frame.unit}; convert it first")
    if of_flat is not None and of_flat.unit is not None:
        _check_level(of_flat)
    values = arithmetic(
        frame.values, None if of_dark is None else of_dark.values, None if of_flat is None else of_flat.values, limit
    )
    if is_nddata(science):
        return _as_ccd_data(frame, of_dark, of_flat, values)
    if is_quantity(science):
        return values * science.unit
    return values


def _without(values: Any, mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return samples with NaN where they are masked."""
    samples = np.asarray(values)
    if mask is None or not mask.any() or samples.dtype.kind not in "uif":
        return samples
    return np.where(mask, np.nan, samples)


def _in_unit(quantity: Any, unit: Any) -> float:
    try:
        return float(quantity.to_value(unit_of("adu") if unit is None else unit))
    except (TypeError, ValueError) as error:
        raise InputError(f"saturation_adu is in {quantity.unit}; give it in the unit of science") from error


def _check_level(flat: _Part) -> None:
    """Raise `InputError` for a flat that is not normalised: its unit says that it may not be."""
    finite = flat.values[np.isfinite(flat.values)]
    level = float(np.median(finite)) if finite.size else 1.0
    low, high = _FLAT_LEVELS
    if not low <= level <= high:
        raise InputError(f"flat: its level is {level:.6g} {flat.unit}, not 1; divide it by its mean")


def _check_headers(science: _Part, master: _Part) -> None:
    """Raise `InputError` where the header of a master says that it does not fit that of the science frame."""
    ours, theirs = science.metadata, master.metadata
    is_done = ours.dark_subtracted if master.name == "dark" else ours.flat_divided
    if is_done:
        raise InputError(f"science: its header says that a {master.name} was applied; leave {master.name}= out")
    if theirs.frame_type in _OTHER_KINDS[master.name]:
        raise InputError(
            f"{master.name}: is a {theirs.frame_type} by its header; give the master {master.name}, "
            f"or {master.name}.data to take it all the same"
        )
    difference = settings_differ(theirs.settings, ours.settings) if master.header.cards else ""
    advice = f"give the {master.name} that fits, or {master.name}.data to take it all the same"
    if difference:
        raise InputError(f"{master.name}: {difference} of science; {advice}")
    _say_unrecorded(ours, theirs, master.name)
    if master.name == "flat":
        one, other = theirs.filter_name, ours.filter_name
        if one is not None and other is not None and not same_filter(one, other):
            raise InputError(f"flat: filter {one} against {other} of science; {advice}")
        if difference := optics_differ(theirs.optics, ours.optics):
            raise InputError(f"flat: {difference} of science; {advice}")
        return
    if theirs.bias_subtracted != ours.bias_subtracted and theirs.frame_type is FrameType.DARK:
        one, other = ("was", "was not") if theirs.bias_subtracted else ("was not", "was")
        raise InputError(f"dark: its bias {one} subtracted, that of science {other} (CALSTAT); {advice}")
    if theirs.frame_type is FrameType.BIAS:
        logger.warning("dark: is a bias: the dark current of the science frame stays in it")
        return
    one_s, other_s = theirs.exposure_time_s, ours.exposure_time_s
    if one_s is not None and other_s is not None and abs(one_s - other_s) > EXPOSURE_TOLERANCE * other_s:
        raise InputError(f"dark: exposure {one_s:g} s against {other_s:g} s of science; {advice}")
    if one_s is not None and other_s is not None and not is_one_exposure(one_s, other_s):
        left_s = other_s - one_s
        logger.warning("dark: of %g s for %g s as it is: the dark current of %+g s stays in", one_s, other_s, left_s)
    one_c, other_c = _temperature_c(theirs), _temperature_c(ours)
    if one_c is not None and other_c is not None and abs(one_c - other_c) > TEMPERATURE_TOLERANCE_C:
        raise InputError(f"dark: temperature {one_c:g} C against {other_c:g} C of science; {advice}")


def _say_unrecorded(ours: FrameMetadata, theirs: FrameMetadata, name: str) -> None:
    """Log which settings the science frame records and a master with a header does not."""
    key = key_from_metadata(theirs)
    unknown = [] if key is None else [*unstated_settings(science_key(ours), key)]
    if theirs.frame_type is FrameType.DARK and theirs.exposure_time_s is None and ours.exposure_time_s is not None:
        unknown.append("exposure")
    if unknown:
        logger.warning("%s: its header does not say %s: taken as that of science", name, ", ".join(unknown))


def _temperature_c(metadata: FrameMetadata) -> float | None:
    measured_c = metadata.ccd_temperature_c
    return measured_c if measured_c is not None else metadata.set_temperature_c


def _as_ccd_data(frame: _Part, dark: _Part | None, flat: _Part | None, values: NDArray[np.float32]) -> Any:
    """Return calibrated values with the uncertainty, the mask and the meta that they have."""
    mask = ~np.isfinite(values)
    for part in (frame, dark, flat):
        if part is not None and part.mask is not None:
            mask |= part.mask
    meta = frame.given.meta.copy()
    done = frame.header.text("CALSTAT") or ""
    letters = {"B": dark is not None, "D": dark is not None, "F": flat is not None}
    if dark is not None and dark.header.cards and dark.metadata.frame_type is FrameType.BIAS:
        letters["D"] = False
    meta["CALSTAT"] = done + "".join(letter for letter, is_done in letters.items() if is_done and letter not in done)
    error = _propagated(frame, dark, flat, values)
    return ccd_data(values, uncertainty=error, mask=mask, unit=frame.unit, meta=meta, wcs=frame.given.wcs)


def _propagated(
    frame: _Part, dark: _Part | None, flat: _Part | None, values: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Return the standard deviation of calibrated values; ``None`` where that of the science frame is not known."""
    if frame.sigma is None:
        return None
    variance = np.square(frame.sigma)
    if dark is not None and dark.sigma is not None:
        variance = variance + np.square(dark.sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        if flat is not None:
            variance = variance / np.square(np.asarray(flat.values, np.float64))
            if flat.sigma is not None:
                variance = variance + np.square(values * flat.sigma / flat.values)
        error: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    error[~np.isfinite(values)] = np.nan
    return error
