"""What is given as objects of astropy, and results as `CCDData`; astropy is imported only when it is asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import InputError
from ostcal.fits.cards import Header, card_keyword, format_card, is_keyword, is_structural

_ABOUT_SAMPLES = frozenset({"BZERO", "BSCALE", "BLANK", "BUNIT", "DATAMIN", "DATAMAX"})
"""Keywords about the samples of one image, which the combined one has no more."""


def is_instance(value: object, module: str, name: str) -> bool:
    """Return whether a value is of a class of a module, without importing it: a value of it has imported it already."""
    home = sys.modules.get(module)
    return home is not None and isinstance(value, getattr(home, name))


def is_nddata(value: object) -> bool:
    """Return whether a value is a `CCDData`, or another `NDData`."""
    return is_instance(value, "astropy.nddata", "NDData")


def is_quantity(value: object) -> bool:
    """Return whether a value is a `Quantity`."""
    return is_instance(value, "astropy.units", "Quantity")


def is_hdu(value: object) -> bool:
    """Return whether a value is an image HDU."""
    return (
        is_instance(value, "astropy.io.fits", "PrimaryHDU")
        or is_instance(value, "astropy.io.fits", "ImageHDU")
        or (is_instance(value, "astropy.io.fits", "CompImageHDU"))
    )


def is_hdu_list(value: object) -> bool:
    """Return whether a value is an open FITS file."""
    return is_instance(value, "astropy.io.fits", "HDUList")


def unit_of(value: Any, name: str = "unit") -> Any:
    """Return the unit that a text or a unit stands for; ``None`` stays ``None``.

    Raises
    ------
    InputError
        If it is no unit.
    """
    if value is None:
        return None
    from astropy import units

    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.upper() == "ADU":
        text = "adu"
    try:
        return units.Unit(text)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}={value!r} is no unit that astropy knows; write 'adu' or 'electron'") from error


def unit_of_card(text: str | None) -> Any:
    """Return what BUNIT of a header says: a unit, the text where it is none, ``None`` where nothing is said."""
    if text is None or not text.strip():
        return None
    try:
        return unit_of(text)
    except InputError:
        return text.strip()


def ccd_data(
    data: NDArray[np.float32],
    *,
    uncertainty: NDArray[np.float32] | None,
    mask: NDArray[np.bool_],
    unit: Any,
    meta: Any,
    wcs: Any = None,
    n_used: NDArray[np.uint16] | None = None,
    flags: NDArray[np.uint8] | None = None,
) -> Any:
    """Return an image as `CCDData`; `uncertainty` is a standard deviation, `flags` are bits, `n_used` an attribute."""
    from astropy.nddata import CCDData, StdDevUncertainty

    error = None if uncertainty is None else StdDevUncertainty(uncertainty)
    result = CCDData(data, unit=unit, uncertainty=error, mask=mask, flags=flags, meta=meta, wcs=wcs)
    if n_used is not None:
        result.n_used = n_used
    return result


def quantity(value: float, unit: str) -> Any:
    """Return a number with its unit."""
    from astropy.units import Quantity

    return Quantity(value, unit)


def header_object(header: Header, *, of_samples: bool = True) -> Any:
    """Return a header as astropy has it; without `of_samples` no cards about samples as they are stored."""
    from astropy.io.fits import Header as AstropyHeader

    cards = [
        card
        for card in header.cards
        if of_samples or not (is_structural(keyword := card_keyword(card)) or keyword in _ABOUT_SAMPLES)
    ]
    return AstropyHeader.fromstring("".join(card.ljust(80)[:80] for card in cards))


def common_meta(metas: Sequence[Mapping[str, Any]], own: Iterable[tuple[str, Any, str]]) -> Mapping[str, Any]:
    """Return what all frames say alike, and `own` cards: keyword, value, comment.

    A `Header` where the first frame has one, with its comments; else a dict.
    """
    first: Mapping[str, Any] = metas[0] if metas else {}
    rest = metas[1:]
    is_header = is_instance(first, "astropy.io.fits", "Header")
    common: Any = type(first)() if is_header else {}
    for keyword in dict.fromkeys(first):
        name = str(keyword).upper()
        if name in ("", "COMMENT", "HISTORY") or is_structural(name) or name in _ABOUT_SAMPLES:
            continue
        value = first[keyword]
        if all(keyword in meta and _is_same(meta[keyword], value) for meta in rest):
            common[keyword] = (value, first.comments[keyword]) if is_header else value  # type: ignore[attr-defined]
    for keyword, value, comment in own:
        common[keyword] = (value, comment) if is_header else value
    return common  # type: ignore[no-any-return]


def common_wcs(wcss: Sequence[Any]) -> Any:
    """Return the world coordinates that all frames have; ``None`` where they differ, or one has none."""
    if not wcss or any(wcs is None for wcs in wcss):
        return None
    first = wcss[0]
    headers = [wcs.to_header_string() if hasattr(wcs, "to_header_string") else repr(wcs) for wcs in wcss]
    return first if len(set(headers)) == 1 else None


def _is_same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays
        return False


def seconds_of(value: Any, name: str) -> float:
    """Return a time as seconds; a number is in seconds.

    Raises
    ------
    InputError
        If it is no number, or a quantity of another kind.
    """
    try:
        seconds = float(value.to_value("s")) if is_quantity(value) else float(value)
    except (TypeError, ValueError) as error:  # of astropy's unit conversions too
        raise InputError(f"{name}={value!r} is no time; give seconds, or a quantity such as 60 * u.s") from error
    if not 0 <= seconds < math.inf:
        raise InputError(f"{name}={value!r} is not allowed; give seconds of at least 0")
    return seconds


def standard_deviations(data: Any) -> NDArray[np.float64] | None:
    """Return the uncertainty of a `CCDData` as standard deviations in its unit; ``None`` where it has none.

    Raises
    ------
    InputError
        If it is of a kind that is no standard deviation, variance or inverse variance.
    """
    if data.uncertainty is None:
        return None
    from astropy.nddata import StdDevUncertainty
    from astropy.nddata.nduncertainty import IncompatibleUncertaintiesException

    try:
        return np.asarray(data.uncertainty.represent_as(StdDevUncertainty).array, np.float64)
    except (IncompatibleUncertaintiesException, TypeError) as error:
        kind = type(data.uncertainty).__name__
        raise InputError(f"its uncertainty is a {kind}; give standard deviations (StdDevUncertainty)") from error


def header_of_meta(meta: Mapping[str, Any]) -> Header:
    """Return the meta of a `CCDData` as a header; of a dict its texts, numbers, logicals, quantities and times."""
    if is_instance(meta, "astropy.io.fits", "Header"):
        text: str = meta.tostring(sep="\n", endcard=False, padding=False)  # type: ignore[attr-defined]
        return Header(text.split("\n"))
    cards: list[str] = []
    for keyword, given in meta.items():
        name, value = str(keyword).upper(), _card_value(given)
        if is_keyword(name) and isinstance(value, (str, bool, int, float, np.integer, np.floating)):
            cards += format_card(name, value)
    return Header(cards)


def _card_value(value: Any) -> Any:
    """Return a quantity as a number in the unit that headers have it in, and a time in UTC as text.

    Lengths stay what they are: headers have them in mm (telescopes), um (pixels) and m.
    """
    if is_instance(value, "astropy.time", "Time"):
        return value.utc.isot if value.isscalar else value
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()
    if not is_quantity(value) or value.shape or value.unit.is_equivalent("m"):
        return value
    from astropy.units import temperature

    for unit in ("s", "deg_C", "deg"):
        if value.unit.is_equivalent(unit, temperature()):
            return float(value.to_value(unit, temperature()))
    return float(value.value)
