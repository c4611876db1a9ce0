"""Which masters fit a science frame, and what is said where none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ostcal.build.match_darks import why_unfit
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey, settings_differ
from ostcal.inputs.optics import optics_differ
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.find import LibraryMaster
from ostcal.library.in_time import first_in_time
from ostcal.naming import same_filter
from ostcal.science.matched import MatchRules, is_near_exposure, usable_masters


def choose_science_bias(
    key: GroupKey, library: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None = None
) -> LibraryMaster | None:
    """Choose the bias of a science frame; ``None`` if none fits.

    The one that leaves the fewest settings open; of these one of its temperature, else the nearest; then the time of
    the frames decides.
    """
    biases = [
        m
        for m in usable_masters(library, rules)
        if m.key.frame_type is FrameType.BIAS
        and not dark_unfit(key, m.key, rules)
        and not (rules.strict and rules.too_old(m, taken_at))
    ]
    if not biases:
        return None

    def degrees(master: LibraryMaster) -> float:
        is_near = not why_unfit(key, master.key, rules.temperature_tolerance_c)
        a_c, b_c = key.temperature_c, master.key.temperature_c
        return 0.0 if is_near or a_c is None or b_c is None else abs(a_c - b_c)

    biases = least_open(key, biases, rules, taken_at)
    least = min(map(degrees, biases))
    nearest = [master for master in biases if degrees(master) == least]
    return first_in_time(nearest, lambda m: m.record.merit, taken_at, rules.in_time(FrameType.BIAS))


def least_open(
    key: GroupKey, masters: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None
) -> list[LibraryMaster]:
    """Return of masters that fit those that leave the fewest settings open, and of these those within their age."""
    merits = [(len(unstated_settings(key, master.key)), bool(rules.too_old(master, taken_at))) for master in masters]
    best = min(merits)
    return [master for master, merit in zip(masters, merits, strict=True) if merit == best]


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


def named_master_warnings(key: GroupKey, master: LibraryMaster, rules: MatchRules) -> list[str]:
    """Say what differs between a frame and a master that the user named nevertheless."""
    is_flat = master.key.frame_type is FrameType.FLAT
    difference = (
        flat_unfit(key, master.key, rules) if is_flat else why_unfit(key, master.key, rules.temperature_tolerance_c)
    )
    lines = [f"{master.record.name} was named although it differs: {difference}"] if difference else []
    if master.record.verdict == "fail":
        lines.append(f"{master.record.name} was named although it failed its quality control")
    return lines


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
    failed = [m for m in library if m.key.frame_type in kinds and m not in masters]
    note = f"; {len(failed)} more failed quality control, left out (--allow-failed takes them)" if failed else ""
    if not masters:
        none = f"none that passed quality control, {len(failed)} failed (--allow-failed takes them)"
        return f"{head}: there is {none if failed else 'none'}; {advice}"

    def apart(master: LibraryMaster) -> tuple[int, float, float, str]:
        exposure_s = abs(master.key.exposure_time_s - key.exposure_time_s)
        a_c, b_c = master.key.temperature_c, key.temperature_c
        degrees = abs(a_c - b_c) if a_c is not None and b_c is not None else 0.0
        return len(_reasons(kind, key, master, rules, taken_at)), exposure_s, degrees, master.record.name

    nearest = min(masters, key=apart)
    why = " and ".join(_reasons(kind, key, nearest, rules, taken_at))
    return f"{head}: the nearest is {nearest.record.name}, but {why}{note}; {advice}"


def _reasons(
    kind: str, key: GroupKey, master: LibraryMaster, rules: MatchRules, taken_at: datetime | None
) -> list[str]:
    """List all differences of a master: the one that is found first is made equal, and so on."""
    its = master.key
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
    too_old = rules.too_old(master, taken_at) if rules.strict else ""
    if too_old:
        reasons.append(f"{too_old}: matching.max_age_days.{master.key.frame_type} with matching.strict")
    return reasons
