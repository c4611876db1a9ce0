"""Names made of what differs between groups: of masters, and of the series that frames are imported into."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime

from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group, GroupKey
from ostcal.naming import exposure_text, night_of, safe_word, series_name, twilight_name
from ostcal.vocabulary import MasterNames

DRIFT_C = 1.0
"""Drift of a sensor without a cooler during a series: temperatures nearer than this are one temperature in a name."""

_WORDS = ("camera id", "filter", "gain", "binning", "temperature", "night", "extension")
_RARER_WORDS = (
    *("temperature", "offset", "readout mode", "size", "camera", "colours", "subtracted", "exposure"),
    *("session", "iso", "coadds", "subframe", "rows", "flip", "telescope", "focal length", "rotation"),
)
"""Added only to names that are still the same."""
_COMPLETE = (
    *(
        "gain",
        "iso",
        "offset",
        "temperature",
        "binning",
        "readout mode",
        "coadds",
        "subtracted",
        "colours",
        "extension",
    ),
    *("size", "subframe", "flip", "rows", "telescope", "focal length", "rotation", "camera", "camera id"),
)
_LONGEST_NAME = 200
"""Of a name without its ending; file systems take 255 bytes."""


def master_names(keys: Sequence[GroupKey], made_at: datetime, words: MasterNames = "short") -> list[str]:
    """Name the masters of one kind, without an ending; no two are the same.

    ``master_bias_20261121_204500``, ``master_dark_5.000s_...``, ``master_flat_1.000s_R_...``: a filter, gain,
    binning, temperature or night joins the name where it differs between the groups, and whatever else is needed to
    tell two names apart. With `words` ``complete`` all that is recorded joins it, whatever the other groups have.
    """
    if words == "complete":
        return numbered([f"{complete_name(key, lasting=False)}_{made_at:%Y%m%d_%H%M%S}" for key in keys])
    exposures_s = [key.exposure_time_s for key in keys]
    texts = [_texts(key) for key in keys]
    names = [
        f"master_{key.frame_type}"
        if key.frame_type is FrameType.BIAS
        else f"master_{key.frame_type}_{exposure_text(key.exposure_time_s, exposures_s)}"
        for key in keys
    ]
    known_c = [key.temperature_c for key in keys if key.temperature_c is not None]
    is_one_temperature = not known_c or (len(known_c) == len(keys) and max(known_c) - min(known_c) <= DRIFT_C)
    frequent = [word for word in _WORDS if word != "temperature" or not is_one_temperature]
    names = _with_differences(names, texts, frequent, among_all=True)
    names = _with_differences(names, texts, _RARER_WORDS)
    return numbered([f"{name}_{made_at:%Y%m%d_%H%M%S}" for name in names])


def complete_name(key: GroupKey, *, lasting: bool = True) -> str:
    """Name masters by all that is recorded of them and tells them apart, whatever others there are.

    ``master_dark_60.000s_gain100_offset50_-10C_bin1x1_6248x4176_ZWO-ASI2600MM``, ``master_flat_Ha_...``. Bias and flats
    have no exposure: it does not decide which frames they fit. Temperatures are to the nearest degree, exposures to
    four digits. A name that is not `lasting` has the exposure of flats, and night and session where there are several.
    """
    settings, kind = key.settings, key.frame_type
    texts = _texts(key)
    origin, is_flat = settings.subframe_origin, kind is FrameType.FLAT
    texts |= {
        "temperature": f"{round(key.temperature_c)}C" if key.temperature_c is not None else "",
        "coadds": texts["coadds"] if settings.coadds != 1 else "",
        "subframe": texts["subframe"] if origin is not None and any(origin) else "",
        "rows": texts["rows"] if settings.row_order == "BOTTOM-UP" else "",
        "colours": key.bayer_pattern or "" if is_flat else "",
        "focal length": f"{key.optics.focal_length_mm:.0f}mm" if key.optics.focal_length_mm is not None else "",
        "extension": _own_word(settings.extension),
        "readout mode": _own_word(settings.readout_mode),
        "telescope": _own_word(key.optics.telescope),
        "camera": _own_word(settings.camera),
        "camera id": _own_word(settings.camera_id),
    }
    first = [f"master_{kind}"]
    if kind is FrameType.DARK or (is_flat and not lasting):
        first.append(exposure_text(float(f"{key.exposure_time_s:.4g}")))
    first += [_own_word(key.filter_name)] if is_flat else []
    last = [] if lasting else [texts["night"], texts["session"]]
    name = "_".join(word for word in (*first, *(texts[word] for word in _COMPLETE), *last) if word)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{_digest(name)}"


def _own_word(text: str | None) -> str:
    """Return a text as a word of a name; where letters are lost by it, with what tells it from others."""
    text = (text or "").strip()
    word = safe_word(text)
    kept = sum(letter.isalnum() for letter in word)
    return word if kept == sum(letter.isalnum() for letter in text) else f"{word}-{_digest(text)}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()[:6]


def image_name(name: str, extension: str) -> str:
    """Return the name of the master of one image, from that of the file that has all: ``master_bias_im1_...``."""
    word = safe_word(extension) or "image"
    return re.sub(r"(?=_\d{8}_\d{6})", f"_{word}", name, count=1)


def series_names(groups: Sequence[Group]) -> list[str]:
    """Name the series of groups that share a directory: ``exp_5.000s``, ``L_exp_1.000s``, ``L_twilight_20261121``.

    What differs between groups of the same name joins it, and a number where that is not enough.
    """
    keys = [group.key for group in groups]
    exposures_s = [key.exposure_time_s for key in keys]
    texts = [_texts(key) for key in keys]
    names = [
        twilight_name(night_of(group.frames[0].metadata.date_obs, group.key.noon_utc_s), group.key.filter_name)
        if group.twilight
        else series_name(group.key.exposure_time_s, group.key.filter_name, exposures_s)
        for group in groups
    ]
    names = _with_differences(
        names, texts, [word for word in _WORDS if word != "filter"]
    )  # names begin with the filter
    return numbered(_with_differences(names, texts, _RARER_WORDS))


def _with_differences(
    names: Sequence[str], texts: Sequence[dict[str, str]], words: Sequence[str], *, among_all: bool = False
) -> list[str]:
    """Add to each name those of `words` whose texts differ among the groups of the same name, or among all."""
    longer = []
    for name, own in zip(names, texts, strict=True):
        others = [other for other, its in zip(texts, names, strict=True) if among_all or its == name]
        longer.append("_".join([name, *(own[w] for w in words if own[w] and any(o[w] != own[w] for o in others))]))
    return longer


def _texts(key: GroupKey) -> dict[str, str]:
    """Return all that may stand in a name of a group, by what it says; "" for what is not recorded."""
    settings = key.settings
    is_flat = key.frame_type is FrameType.FLAT
    origin = settings.subframe_origin
    angle_deg = key.optics.rotator_deg if key.optics.rotator_deg is not None else key.optics.sky_angle_deg
    return {
        "camera id": safe_word(settings.camera_id or ""),
        "extension": safe_word(settings.extension or ""),
        "filter": safe_word(key.filter_name or ""),
        "gain": f"gain{settings.gain:g}" if settings.gain is not None else "",
        "binning": f"bin{settings.binning[0]}x{settings.binning[1]}",
        "temperature": f"{round(key.temperature_c, 1) + 0.0:.1f}C" if key.temperature_c is not None else "",
        "night": f"night{key.night:%Y%m%d}" if key.night else "",
        "session": f"from{key.session_start:%H%M}" if key.session_start else "",
        "offset": f"offset{settings.offset:g}" if settings.offset is not None else "",
        "readout mode": safe_word(settings.readout_mode or ""),
        "size": f"{key.width}x{key.height}",
        "camera": safe_word(settings.camera or ""),
        "colours": (key.bayer_pattern or "mono") if is_flat else "",
        "subtracted": "darksub" if key.dark_subtracted else "biassub" if key.bias_subtracted else "",
        "exposure": exposure_text(key.exposure_time_s),
        "iso": f"iso{settings.iso:g}" if settings.iso is not None else "",
        "coadds": f"coadds{settings.coadds}" if settings.coadds is not None else "",
        "subframe": f"from{origin[0]}-{origin[1]}" if origin is not None else "",
        "rows": (settings.row_order or "").lower(),
        "telescope": safe_word(key.optics.telescope or ""),
        "focal length": f"{key.optics.focal_length_mm:g}mm" if key.optics.focal_length_mm is not None else "",
        "rotation": f"rot{angle_deg:.0f}" if angle_deg is not None else "",
        "flip": safe_word(settings.flip) if settings.flip not in (None, "none") else "",
    }


def numbered(names: Sequence[str]) -> list[str]:
    """Add a number to names that were there before; filters r and R are one file on Windows and macOS."""
    taken: dict[str, str] = {}
    for name in names:
        numbered, number = name, 2
        while numbered.casefold() in taken:
            numbered, number = f"{name}_{number}", number + 1
        taken[numbered.casefold()] = numbered
    return list(taken.values())
