"""Which masters fit a science frame, and what is said where none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ostcal.build.match_darks import why_unfit
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey, settings_differ
from ostcal.inputs.optics import optics_differ
from ostcal.library.find import LibraryMaster
from ostcal.naming import same_filter
from ostcal.science.matched import MatchRules, is_near_exposure, usable_masters


class NoMasterFitsError(InputError):
    """No master fits a frame. The line that says why is made when it is read: it compares all masters."""

    def __init__(self, describe: Callable[[], str]) -> None:
        super().__init__()
        self._describe = describe

    def __str__(self) -> str:
        """Return the line."""
        return self._describe()


def refuse_other_geometry(key: GroupKey, master: LibraryMaster) -> None:
    """Refuse a master whose pixels are not those of the frame.

    Raises
    ------
    InputError
        If size, binning or Bayer pattern differ.
    """
    other = master.key
    difference = ""
    if (other.width, other.height) != (key.width, key.height):
        difference = f"is {other.width} x {other.height}, the frame is {key.width} x {key.height}"
    elif other.settings.binning != key.settings.binning:
        difference = f"has another binning: {settings_differ(other.settings, key.settings)}"
    elif _colours_differ(key, other):
        difference = f"has the colours {other.bayer_pattern}, the frame {key.bayer_pattern}"
    if difference:
        raise InputError(f"master {master.record.name} {difference}; name one that fits")


def dark_unfit(key: GroupKey, dark: GroupKey, rules: MatchRules) -> str:
    """Say why a dark does not fit, exposure aside, with the wide rule for the temperature of a bias."""
    return why_unfit(key, dark, rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c)


def flat_unfit(key: GroupKey, flat: GroupKey, rules: MatchRules) -> str:
    """Say why a flat does not fit; "" if it does. Flats of another temperature and exposure fit."""
    if (key.width, key.height) != (flat.width, flat.height):
        return f"size {flat.width} x {flat.height} against {key.width} x {key.height}"
    difference = settings_differ(flat.settings, key.settings)
    if difference:
        return difference
    if key.filter_name and flat.filter_name and not same_filter(key.filter_name, flat.filter_name):
        return f"filter {flat.filter_name} against {key.filter_name}"
    turned = optics_differ(flat.optics, key.optics, rules.rotation_tolerance_deg)
    if turned:
        return turned
    if _colours_differ(key, flat):
        return f"Bayer pattern {flat.bayer_pattern} against {key.bayer_pattern}"
    return ""


def _colours_differ(a: GroupKey, b: GroupKey) -> bool:
    return a.bayer_pattern is not None and b.bayer_pattern is not None and a.bayer_pattern != b.bayer_pattern


def nothing_fits(
    kind: str,
    key: GroupKey,
    masters: Sequence[LibraryMaster],
    library: Sequence[LibraryMaster],
    rules: MatchRules,
    taken_at: datetime | None,
) -> str:
    """Say in one line which condition failed, and of which master, the nearest."""
    asked = f"{key.exposure_time_s:g} s" if kind == "dark" else f"filter {key.filter_name or '(none)'}"
    head = f"no master {kind} fits ({asked})"
    advice = f"make one, or name one with --{kind} ('none' leaves it out)"
    kinds = (FrameType.FLAT,) if kind == "flat" else (FrameType.DARK, FrameType.BIAS)
    n_failed = sum(m.key.frame_type in kinds for m in library) - sum(
        m.key.frame_type in kinds for m in usable_masters(library, rules)
    )
    note = f"; {n_failed} more failed quality control, left out (--allow-failed takes them)" if n_failed else ""
    if not masters:
        none = f"none that passed quality control, {n_failed} failed (--allow-failed takes them)"
        return f"{head}: there is {none if n_failed else 'none'}; {advice}"

    known: dict[GroupKey, list[str]] = {}  # of masters that differ in their times alone

    def reasons(master: LibraryMaster) -> list[str]:
        its = replace(master.key, night=None, session_start=None)
        if its not in known:
            known[its] = _differences(kind, key, its, rules)
        return known[its] + _age_reasons(master, rules, taken_at)

    def apart(master: LibraryMaster) -> tuple[int, float, float, str]:
        exposure_s = abs(master.key.exposure_time_s - key.exposure_time_s)
        a_c, b_c = master.key.temperature_c, key.temperature_c
        degrees = abs(a_c - b_c) if a_c is not None and b_c is not None else 0.0
        return len(reasons(master)), exposure_s, degrees, master.record.name

    nearest = min(masters, key=apart)
    why = " and ".join(reasons(nearest))
    return f"{head}: the nearest is {nearest.record.name}, but {why}{note}; {advice}"


def _differences(kind: str, key: GroupKey, its: GroupKey, rules: MatchRules) -> list[str]:
    """List all differences of a master: the one that is found first is made equal, and so on."""
    reasons: list[str] = []
    steps: list[dict[str, Any]] = [
        {},
        {"width": its.width, "height": its.height},
        {"bias_subtracted": its.bias_subtracted},
        {"settings": its.settings},
        {"filter_name": its.filter_name},
        {"optics": its.optics},
        {"temperature_c": its.temperature_c},
    ]
    for equal in steps:
        key = replace(key, **equal)
        reason = flat_unfit(key, its, rules) if kind == "flat" else why_unfit(key, its, rules.temperature_tolerance_c)
        if reason and reason not in reasons:
            reasons.append(reason)
    if kind == "dark" and not is_near_exposure(key, its, rules):
        limit = f"up to {rules.max_scale_up:g} times its exposure, matching.max_scale_up"
        what = f"exposure {its.exposure_time_s:g} s against {key.exposure_time_s:g} s"
        far = f", and there is nothing to scale it by (a bias or a second dark, {limit})"
        reasons.append(what + ("" if reasons else far))
    return reasons


def _age_reasons(master: LibraryMaster, rules: MatchRules, taken_at: datetime | None) -> list[str]:
    too_old = rules.too_old(master, taken_at) if rules.strict else ""
    return [f"{too_old}: matching.max_age_days.{master.key.frame_type} with matching.strict"] if too_old else []
