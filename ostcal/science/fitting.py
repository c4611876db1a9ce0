"""Which masters fit a science frame, and what is said where none does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ostcal.build.match_darks import why_unfit
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey, settings_differ
from ostcal.inputs.optics import angles_of_both, degrees_apart, optics_differ
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
    """Say in one line which condition failed, and of which master: the one that lacks least, the nearest in time."""
    gain = key.settings.gain
    asked = {
        "dark": f"{key.exposure_time_s:g} s",
        "flat": f"filter {key.filter_name or '(none)'}",
        "bias": f"{key.width} x {key.height}" + (f", gain {gain:g}" if gain is not None else ""),
    }[kind]
    head = f"no master {kind} fits ({asked})"
    advice = "make one" if kind == "bias" else f"make one, or name one with --{kind} ('none' leaves it out)"
    kinds = {"flat": (FrameType.FLAT,), "bias": (FrameType.BIAS,), "dark": (FrameType.DARK, FrameType.BIAS)}[kind]
    n_failed = sum(m.key.frame_type in kinds for m in library) - sum(
        m.key.frame_type in kinds for m in usable_masters(library, rules)
    )
    note = f"; {n_failed} more failed quality control, left out (--allow-failed takes them)" if n_failed else ""
    if not masters:
        none = f"none that passed quality control, {n_failed} failed (--allow-failed takes them)"
        return f"{head}: there is {none if n_failed else 'none'}; {advice}"

    known: dict[GroupKey, list[str]] = {}  # of masters that differ in their times alone
    scaling = _why_no_scaling(key, masters, rules, taken_at) if kind == "dark" else ""

    def reasons(master: LibraryMaster) -> list[str]:
        its = replace(master.key, night=None, session_start=None)
        if its not in known:
            known[its] = _differences(kind, key, its, rules, scaling)
        return known[its] + _age_reasons(master, rules, taken_at)

    def apart(master: LibraryMaster) -> tuple[object, ...]:
        its = master.key
        is_alone = kind == "dark" and its.frame_type is FrameType.BIAS
        exposure_s = abs(its.exposure_time_s - key.exposure_time_s) if kind == "dark" else 0.0
        angles = angles_of_both(key.optics, its.optics) if kind == "flat" else None
        turn_deg = degrees_apart(*angles) if angles is not None else 0.0
        degrees = 0.0 if kind == "flat" else _between(its.temperature_c, key.temperature_c)
        gain = _between(its.settings.gain, key.settings.gain)
        observed = master.record.observed
        days = abs(observed.age_days(taken_at)) if observed is not None and taken_at is not None else math.inf
        return is_alone, len(reasons(master)), exposure_s, turn_deg, round(degrees, 1), gain, days, master.record.name

    nearest = min(masters, key=apart)
    why = " and ".join(reasons(nearest))
    return f"{head}: the nearest is {nearest.record.name}, but {why}{note}; {advice}"


def _between(a: float | None, b: float | None) -> float:
    return abs(a - b) if a is not None and b is not None else 0.0


def _why_no_scaling(
    key: GroupKey, masters: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None
) -> str:
    """Say why the dark current of no dark can be scaled to a frame, the limit aside; "" where a bias is there."""
    biases = [m for m in masters if m.key.frame_type is FrameType.BIAS and not dark_unfit(key, m.key, rules)]
    if not biases:
        return "there is nothing to scale it by (a bias or a second dark)"
    too_old = [_age_reasons(bias, rules, taken_at) for bias in biases]
    if all(too_old):
        return f"the bias to scale it by, {biases[0].record.name}, is too old: {too_old[0][0]}"
    return ""


def _differences(kind: str, key: GroupKey, its: GroupKey, rules: MatchRules, scaling: str) -> list[str]:
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
    unfit = {"flat": flat_unfit, "bias": dark_unfit}.get(kind, _unfit)
    for equal in steps:
        key = replace(key, **equal)
        reason = unfit(key, its, rules)
        if reason and reason not in reasons:
            reasons.append(reason)
    if kind == "dark" and not is_near_exposure(key, its, rules):
        what = f"exposure {its.exposure_time_s:g} s against {key.exposure_time_s:g} s"
        if key.exposure_time_s > rules.max_scale_up * its.exposure_time_s and its.frame_type is FrameType.DARK:
            limit = f"dark current is scaled up to {rules.max_scale_up:g} times its exposure, matching.max_scale_up"
            reasons.append(what if reasons else f"{what}: {limit}")
        elif reasons or scaling:
            reasons.append(what if reasons else f"{what}, and {scaling}")
    return reasons


def _unfit(key: GroupKey, dark: GroupKey, rules: MatchRules) -> str:
    return why_unfit(key, dark, rules.temperature_tolerance_c)


def _age_reasons(master: LibraryMaster, rules: MatchRules, taken_at: datetime | None) -> list[str]:
    too_old = rules.too_old(master, taken_at) if rules.strict else ""
    return [f"{too_old}: matching.max_age_days.{master.key.frame_type} with matching.strict"] if too_old else []
