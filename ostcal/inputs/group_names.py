"""Names made of what differs between groups: of masters, and of the series that frames are imported into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group, GroupKey
from ostcal.naming import exposure_text, night_of, safe_word, series_name, twilight_name

DRIFT_C = 1.0
"""Temperatures nearer than this are one temperature in a name; where names are then the same, they are added."""


def master_names(keys: Sequence[GroupKey], made_at: datetime) -> list[str]:
    """Name the masters of one kind, without an ending; no two are the same.

    ``master_bias_20261121_204500``, ``master_dark_5.000s_...``, ``master_flat_1.000s_R_...``: a filter, gain,
    binning, temperature or night joins the name where it differs between the groups, and whatever else is needed to
    tell two names apart.
    """
    stamp = made_at.strftime("%Y%m%d_%H%M%S")
    frequent = _WORDS if _temperatures_differ(keys) else tuple(word for word in _WORDS if word is not _temperature)
    exposures = [key.exposure_time_s for key in keys]
    names: list[str] = []
    for key in keys:
        words = [f"master_{key.frame_type}"]
        if key.frame_type is not FrameType.BIAS:
            words.append(exposure_text(key.exposure_time_s, exposures))
        words.extend(word(key) for word in frequent if len({word(other) for other in keys}) > 1 and word(key))
        names.append("_".join(words))
    names = _with_rarer_words(names, keys)
    return _numbered([f"{name}_{stamp}" for name in names])


def _temperatures_differ(keys: Sequence[GroupKey]) -> bool:
    """Whether temperatures differ by more than the drift of a sensor without a cooler during a series."""
    known = [key.temperature_c for key in keys if key.temperature_c is not None]
    return bool(known) and (len(known) < len(keys) or max(known) - min(known) > DRIFT_C)


def _with_rarer_words(names: list[str], keys: Sequence[GroupKey]) -> list[str]:
    """Add what else differs to names that are still the same."""
    told_apart = []
    for name, key in zip(names, keys, strict=True):
        same = [other for other, other_name in zip(keys, names, strict=True) if other_name == name]
        words = [word(key) for word in _RARER_WORDS if len({word(other) for other in same}) > 1 and word(key)]
        told_apart.append("_".join([name, *words]))
    return told_apart


def _numbered(names: Sequence[str]) -> list[str]:
    """Add a number to names that were there before; filters r and R are one file on Windows and macOS."""
    taken: dict[str, str] = {}
    for name in names:
        numbered, number = name, 2
        while numbered.casefold() in taken:
            numbered, number = f"{name}_{number}", number + 1
        taken[numbered.casefold()] = numbered
    return list(taken.values())


def _filter(key: GroupKey) -> str:
    return safe_word(key.filter_name) if key.filter_name else ""


def _gain(key: GroupKey) -> str:
    return f"gain{key.settings.gain:g}" if key.settings.gain is not None else ""


def _offset(key: GroupKey) -> str:
    return f"offset{key.settings.offset:g}" if key.settings.offset is not None else ""


def _binning(key: GroupKey) -> str:
    return f"bin{key.settings.binning[0]}x{key.settings.binning[1]}"


def _mode(key: GroupKey) -> str:
    return safe_word(key.settings.readout_mode or "")


def _temperature(key: GroupKey) -> str:
    return f"{key.temperature_c:.1f}C" if key.temperature_c is not None else ""


def _size(key: GroupKey) -> str:
    return f"{key.width}x{key.height}"


def _camera(key: GroupKey) -> str:
    return safe_word(key.settings.camera or "")


def _camera_id(key: GroupKey) -> str:
    return safe_word(key.settings.camera_id or "")


def _colours(key: GroupKey) -> str:
    return (key.bayer_pattern or "mono") if key.frame_type is FrameType.FLAT else ""


def _subtracted(key: GroupKey) -> str:
    return "darksub" if key.dark_subtracted else "biassub" if key.bias_subtracted else ""


def _night(key: GroupKey) -> str:
    return f"night{key.night:%Y%m%d}" if key.night else ""


def _exposure(key: GroupKey) -> str:
    return exposure_text(key.exposure_time_s)


_WORDS: tuple[Callable[[GroupKey], str], ...] = (_camera_id, _filter, _gain, _binning, _temperature, _night)
_TOLD_APART = tuple(word for word in _WORDS if word is not _filter)
"""In the names of series, which begin with the filter."""
_RARER_WORDS: tuple[Callable[[GroupKey], str], ...] = (
    _temperature,
    _offset,
    _mode,
    _size,
    _camera,
    _colours,
    _subtracted,
    _exposure,
)


def series_names(groups: Sequence[Group]) -> list[str]:
    """Name the series of groups that share a directory: ``exp_5.000s``, ``L_exp_1.000s``, ``L_twilight_20261121``.

    What differs between groups of the same name joins it, and a number where that is not enough.
    """
    exposures_s = [group.key.exposure_time_s for group in groups]
    plain = [
        twilight_name(night_of(group.frames[0].metadata.date_obs, group.key.noon_utc_s), group.key.filter_name)
        if group.twilight
        else series_name(group.key.exposure_time_s, group.key.filter_name, exposures_s)
        for group in groups
    ]
    keys = [group.key for group in groups]
    told_apart = []
    for name, key in zip(plain, keys, strict=True):
        same = [other for other, other_name in zip(keys, plain, strict=True) if other_name == name]
        words = [word(key) for word in _TOLD_APART if len({word(other) for other in same}) > 1 and word(key)]
        told_apart.append("_".join([name, *words]))
    return _numbered(_with_rarer_words(told_apart, keys))
