"""Matching of masters to a science frame: same settings, exposure within the tolerance, nearest, then newest.

Camera, size, binning, gain, offset, readout mode, and for flats the filter and the Bayer pattern, must be equal; what
one side does not record fits anything. The temperature of a dark must be within the tolerance. A dark of another
exposure is scaled with the help of a bias, or of a second dark, and that is said; where neither fits, one within the
tolerance is taken as it is, and that is said too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ostcal.build.match_darks import MAX_STRETCH, DarkCandidate, choose_line, choose_sum, stretch_of, why_unfit
from ostcal.errors import InputError
from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import EXPOSURE_TOLERANCE, GroupKey, same_temperature, settings_differ
from ostcal.inputs.optics import optics_differ
from ostcal.library.find import LibraryMaster
from ostcal.naming import filter_identity, night_of, same_filter
from ostcal.science.synthetic_dark import NoSyntheticDark, SyntheticDark, SyntheticRules, synthetic_dark

SAME_EXPOSURE_S = 0.05
"""Exposures that differ by less are one, as those that differ by less than 0.1 %: clocks of cameras and of programs."""
TEMPERATURE_STEP_C = 0.5
"""Darks nearer to each other than this are of one temperature: the newest is taken, not the one 0.1 degrees nearer."""


@dataclass(frozen=True, kw_only=True)
class MatchRules:
    """How near a master must be."""

    exposure_tolerance: float = 0.1
    """Share of the exposure of the frame."""
    temperature_tolerance_c: float = 2.0
    bias_temperature_tolerance_c: float = 20.0
    """Of a bias, whose level hardly depends on the temperature; one within `temperature_tolerance_c` goes before."""
    allow_failed: bool = False
    """Whether masters that failed their quality control count too."""


@dataclass(frozen=True, kw_only=True)
class DarkPart:
    """A master that a dark consists of, and its weight."""

    master: LibraryMaster
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DarkMix:
    """What is subtracted from a frame: the weighted sum of its parts, or a fit over them."""

    parts: tuple[DarkPart, ...]
    description: str
    """What was done, for the log and the header."""
    scaled: bool = False
    """Whether dark current was scaled to the exposure."""
    unscaled: str = ""
    """Why a dark of another exposure is taken as it is."""
    synthetic: SyntheticDark | None = None
    """The fit over the exposures of the parts, if that is subtracted and not their weighted sum."""
    refused: str = ""
    """Why there is no such fit although no dark has the exposure."""

    @property
    def has_dark_current(self) -> bool:
        """Whether more than a bias is subtracted."""
        return any(part.master.key.frame_type is FrameType.DARK for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class MatchedMasters:
    """The masters of one science frame; ``None`` for a step that is left out."""

    dark: DarkMix | None
    flat: LibraryMaster | None
    bias: LibraryMaster | None = None
    """A bias that fits: the level from which photon noise counts."""
    warnings: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[LibraryMaster, ...]:
        """Those of the arithmetic, the darks first."""
        darks = tuple(part.master for part in self.dark.parts) if self.dark is not None else ()
        return darks if self.flat is None else (*darks, self.flat)

    def calibration_status(self, *, bias_subtracted: bool) -> str:
        """Return CALSTAT of the calibrated frame: B bias, D dark, F flat; a dark holds the bias too."""
        has_dark_current = self.dark is not None and self.dark.has_dark_current
        letters = {"B": self.dark is not None or bias_subtracted, "D": has_dark_current, "F": self.flat is not None}
        return "".join(letter for letter, is_done in letters.items() if is_done)


def science_key(metadata: FrameMetadata, temperature_tolerance_c: float) -> GroupKey:
    """Return what a science frame is compared by."""
    set_c, ccd_c = metadata.set_temperature_c, metadata.ccd_temperature_c
    is_at_set = set_c is not None and (ccd_c is None or same_temperature(ccd_c, set_c, temperature_tolerance_c))
    return GroupKey(
        frame_type=FrameType.LIGHT,
        settings=metadata.settings,
        width=metadata.width,
        height=metadata.height,
        exposure_time_s=metadata.exposure_time_s or 0.0,
        filter_name=metadata.filter_name,
        optics=metadata.optics,
        temperature_c=set_c if is_at_set else ccd_c,
        bayer_pattern=metadata.bayer_pattern,
        bias_subtracted=metadata.bias_subtracted,
    )


def usable_masters(library: Sequence[LibraryMaster], rules: MatchRules) -> list[LibraryMaster]:
    """Return the masters that did not fail their quality control, or all if failed ones are allowed."""
    return [master for master in library if rules.allow_failed or master.record.verdict != "fail"]


# --- darks ---


def choose_science_dark(key: GroupKey, library: Sequence[LibraryMaster], rules: MatchRules) -> DarkMix:
    """Choose the dark of a science frame.

    First a dark of the exposure, within 0.05 s or 0.1 %: the nearest exposure, then the nearest temperature, then the
    newest. Else one within the relative exposure tolerance, its dark current scaled with a bias, or as it is where no
    bias fits. Else a fit over three exposures or more, where its chi-square allows; else bias plus scaled dark current;
    else the line through two darks; else a bias and a dark of which one lacks what the frame has. A bias alone leaves
    the dark current in: it is chosen where there is no dark of this camera at all.

    Raises
    ------
    InputError
        If none fits; the message names the nearest master and the condition that failed.
    StorageError
        If a master cannot be read.
    """
    darks = [m for m in usable_masters(library, rules) if m.key.frame_type in (FrameType.DARK, FrameType.BIAS)]
    fitting = [m for m in darks if not why_unfit(key, m.key, rules.temperature_tolerance_c)]
    matched = [m for m in fitting if is_near_exposure(key, m.key, rules)]
    if matched:
        return _of_near_exposure(key, min(matched, key=lambda m: _preference(key, m)), darks, rules)
    scaled = _scaled_mix(key, fitting, rules)
    if scaled is None:
        fitting = [m for m in darks if not _dark_unfit(key, m.key, rules)]
        scaled = _scaled_mix(key, fitting, rules)
    if scaled is None:
        both = _summed_mix(key, darks, rules)
        if both is not None:
            return both
        alone = _bias_alone(key, darks, rules)
        if alone is not None:
            return alone
        raise InputError(_nothing_fits("dark", key, darks, library, rules))
    fit = synthetic_dark(key, fitting, SyntheticRules(temperature_tolerance_c=rules.temperature_tolerance_c))
    if isinstance(fit, SyntheticDark) and fit.quality is not None:
        names = {step.name for step in fit.ladder.masters}
        parts = tuple(DarkPart(master=m) for m in fitting if m.record.name in names)
        return DarkMix(parts=parts, description=fit.description, synthetic=fit)
    refused = fit.message if isinstance(fit, NoSyntheticDark) else ""
    return replace(scaled, refused=refused)


def _summed_mix(key: GroupKey, darks: Sequence[LibraryMaster], rules: MatchRules) -> DarkMix | None:
    """Return bias plus dark current of a dark whose bias was subtracted; of a frame whose bias was, the difference."""
    both = choose_sum(key, _candidates(darks), rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c)
    if both is None:
        return None
    by_name = {master.record.name: master for master in darks}
    bias, dark = (by_name[candidate.name] for candidate in both)
    is_near = is_near_exposure(key, dark.key, rules)
    factor = 1.0 if is_near else key.exposure_time_s / dark.key.exposure_time_s
    what = f"dark current of {dark.record.name} times {factor:.6g}"
    if key.bias_subtracted:
        what, weight = f"{what}, its bias {bias.record.name} subtracted", -factor
    else:
        what, weight = f"bias + dark current: {bias.record.name} and {what}", 1.0
    parts = DarkPart(master=bias, weight=weight), DarkPart(master=dark, weight=factor)
    return DarkMix(parts=parts, description=what, scaled=not is_near)


def _candidates(masters: Sequence[LibraryMaster]) -> list[DarkCandidate]:
    return [
        DarkCandidate(name=m.record.name, key=m.key, made_at=m.record.made_at, from_this_run=False) for m in masters
    ]


def _of_near_exposure(key: GroupKey, dark: LibraryMaster, darks: Sequence[LibraryMaster], rules: MatchRules) -> DarkMix:
    """Return a dark of nearly the exposure: as it is where it has the exposure, else scaled where a bias fits both."""
    if dark.key.frame_type is FrameType.BIAS:
        return DarkMix(parts=(DarkPart(master=dark),), description=_with_exposure(dark))
    biases = [m for m in darks if m.key.frame_type is FrameType.BIAS and not _dark_unfit(dark.key, m.key, rules)]
    return scale_named_dark(key, dark, choose_science_bias(key, biases, rules), rules)


def _with_exposure(dark: LibraryMaster) -> str:
    return f"{dark.record.name} ({dark.key.exposure_time_s:g} s)"


def _dark_unfit(key: GroupKey, dark: GroupKey, rules: MatchRules) -> str:
    """Say why a dark does not fit, exposure aside, with the wide rule for the temperature of a bias."""
    return why_unfit(key, dark, rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c)


def _bias_alone(key: GroupKey, darks: Sequence[LibraryMaster], rules: MatchRules) -> DarkMix | None:
    """Return the bias of a library that has no dark of this camera; ``None`` where it has one, or no bias fits."""
    of_camera = [m for m in darks if not why_unfit(replace(key, temperature_c=None), m.key, 0.0)]
    if any(m.key.frame_type is FrameType.DARK for m in of_camera):
        return None
    bias = choose_science_bias(key, of_camera, replace(rules, bias_temperature_tolerance_c=math.inf))
    if bias is None:
        return None
    return DarkMix(parts=(DarkPart(master=bias),), description=f"bias {bias.record.name} alone")


def scale_named_dark(key: GroupKey, dark: LibraryMaster, bias: LibraryMaster | None, rules: MatchRules) -> DarkMix:
    """Return what is subtracted of a dark, with a bias where there is one.

    A dark of another exposure is scaled; one within the relative tolerance is taken as it is where no bias is known.

    Raises
    ------
    InputError
        If the exposures differ and there is no bias to scale with, or a size differs.
    """
    refuse_other_geometry(key, dark)
    if bias is not None:
        refuse_other_geometry(key, bias)
    same_exposure = is_same_exposure(key, dark.key)
    name = _with_exposure(dark)
    needs_bias = dark.key.bias_subtracted and not key.bias_subtracted
    as_it_is = DarkMix(parts=(DarkPart(master=dark),), description=name)
    if same_exposure and not needs_bias:
        return as_it_is
    zero_s = 0.0 if dark.key.bias_subtracted or bias is None else bias.key.exposure_time_s
    span_s = dark.key.exposure_time_s - zero_s
    is_scalable = span_s > 0 and (bias is not None or dark.key.bias_subtracted)
    if not is_scalable and not needs_bias and is_near_exposure(key, dark.key, rules):
        share = dark.key.exposure_time_s / key.exposure_time_s
        return replace(as_it_is, unscaled=f"no bias fits to scale it, it has {share:.3g} times the dark current")
    if span_s <= 0 or (bias is None and (needs_bias or not dark.key.bias_subtracted)):
        need = "its bias is subtracted" if needs_bias else f"the frame has {key.exposure_time_s:g} s"
        raise InputError(f"dark {name} cannot be used: {need}; name a --bias too, or a dark of the frame's exposure")
    factor = 1.0 if same_exposure else (key.exposure_time_s - zero_s) / span_s
    parts = [DarkPart(master=dark, weight=factor)]
    description = f"dark current of {name} times {factor:.6g}"
    if bias is not None and not key.bias_subtracted:
        parts.insert(0, DarkPart(master=bias, weight=1.0 if needs_bias else 1 - factor))
        description = f"bias + dark current: {bias.record.name} and {description}"
    return DarkMix(parts=tuple(parts), description=description, scaled=not same_exposure)


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
    difference = _flat_unfit(key, master.key) if is_flat else why_unfit(key, master.key, rules.temperature_tolerance_c)
    lines = [f"{master.record.name} was named although it differs: {difference}"] if difference else []
    if master.record.verdict == "fail":
        lines.append(f"{master.record.name} was named although it failed its quality control")
    return lines


def is_near_exposure(key: GroupKey, dark: GroupKey, rules: MatchRules) -> bool:
    """Return whether a dark's exposure is within the relative tolerance of the frame's."""
    limit = max(rules.exposure_tolerance, EXPOSURE_TOLERANCE) + 1e-9
    return abs(dark.exposure_time_s - key.exposure_time_s) <= limit * key.exposure_time_s


def is_same_exposure(key: GroupKey, dark: GroupKey) -> bool:
    """Return whether a dark has the exposure of the frame, as clocks tell it."""
    apart_s = abs(dark.exposure_time_s - key.exposure_time_s)
    return apart_s <= max(SAME_EXPOSURE_S, EXPOSURE_TOLERANCE * key.exposure_time_s) + 1e-9


def _preference(key: GroupKey, master: LibraryMaster) -> tuple[float, float, float, str]:
    """Order masters: nearest exposure (to 0.1 %), nearest temperature, newest, name."""
    distance = abs(master.key.exposure_time_s - key.exposure_time_s) / max(key.exposure_time_s, 1e-6)
    a_c, b_c = master.key.temperature_c, key.temperature_c
    degrees = abs(a_c - b_c) if a_c is not None and b_c is not None else 0.0
    steps = round(distance / EXPOSURE_TOLERANCE), round(degrees / TEMPERATURE_STEP_C)
    return *steps, -_made(master), master.record.name


def _made(master: LibraryMaster) -> float:
    return master.record.made_at.timestamp() if master.record.made_at else 0.0


def _scaled_mix(key: GroupKey, fitting: Sequence[LibraryMaster], rules: MatchRules) -> DarkMix | None:
    """Choose the two masters whose line over exposures gives the dark, as for flats; ``None`` if it is too long."""
    line = choose_line(
        _candidates(fitting),
        key.exposure_time_s,
        rules.exposure_tolerance,
        rules.temperature_tolerance_c,
    )
    if line is None or line.second is None:
        return None
    stretch = stretch_of(line.first, line.second, key.exposure_time_s)
    # A flat takes a noisy line if there is no bias; in a science frame 10 times the noise of a dark is no calibration.
    if stretch > MAX_STRETCH:
        return None
    by_name = {master.record.name: master for master in fitting}
    first, second = by_name[line.first.name], by_name[line.second.name]
    return DarkMix(
        parts=(DarkPart(master=first, weight=1 - stretch), DarkPart(master=second, weight=stretch)),
        description=f"{line.description}, difference of the two times {stretch:.6g}",
        scaled=True,
    )


# --- flats and bias ---


def choose_science_flat(
    key: GroupKey, taken_at: datetime | None, library: Sequence[LibraryMaster], rules: MatchRules
) -> LibraryMaster:
    """Choose the flat of a science frame: of its night where masters are made for each night, then the newest.

    The night of the frame, which began at `taken_at`, is cut at the noon of each flat.

    Raises
    ------
    InputError
        If none fits, or the frame names no filter and flats of several filters would fit.
    """
    flats = [m for m in usable_masters(library, rules) if m.key.frame_type is FrameType.FLAT]
    fitting = [m for m in flats if not _flat_unfit(key, m.key)]
    # r is R where only one of them is there; where both are, they are two filters
    exact = [m for m in fitting if filter_identity(m.key.filter_name or "") == filter_identity(key.filter_name or "")]
    fitting = exact if key.filter_name and exact else fitting
    filters = sorted({m.key.filter_name for m in fitting if m.key.filter_name})
    if not key.filter_name and len({name.casefold() for name in filters}) > 1:
        raise InputError(
            f"the frame names no filter (FILTER) and there are flats of {', '.join(filters)}; "
            "write FILTER into its header or name a flat with --flat"
        )
    if not fitting:
        raise InputError(_nothing_fits("flat", key, flats, library, rules))

    def preference(master: LibraryMaster) -> tuple[int, float, str]:
        its, ours = master.key.night, night_of(taken_at, master.key.noon_utc_s)
        nights_apart = abs((its - ours).days) if its and ours else 0
        return nights_apart, -_made(master), master.record.name

    return min(fitting, key=preference)


def choose_science_bias(key: GroupKey, library: Sequence[LibraryMaster], rules: MatchRules) -> LibraryMaster | None:
    """Choose the bias of a science frame: the newest of its temperature, else the nearest; ``None`` if none fits."""
    biases = [
        m
        for m in usable_masters(library, rules)
        if m.key.frame_type is FrameType.BIAS and not _dark_unfit(key, m.key, rules)
    ]

    def preference(master: LibraryMaster) -> tuple[float, float, str]:
        is_near = not why_unfit(key, master.key, rules.temperature_tolerance_c)
        a_c, b_c = key.temperature_c, master.key.temperature_c
        degrees = 0.0 if is_near or a_c is None or b_c is None else abs(a_c - b_c)
        return degrees, -_made(master), master.record.name

    return min(biases, key=preference, default=None)


def _flat_unfit(key: GroupKey, flat: GroupKey) -> str:
    """Say why a flat does not fit; "" if it does. Flats of another temperature and exposure fit."""
    if (key.width, key.height) != (flat.width, flat.height):
        return f"size {flat.width} x {flat.height} against {key.width} x {key.height}"
    difference = settings_differ(flat.settings, key.settings)
    if difference:
        return difference
    if key.filter_name and flat.filter_name and not same_filter(key.filter_name, flat.filter_name):
        return f"filter {flat.filter_name} against {key.filter_name}"
    turned = optics_differ(flat.optics, key.optics)
    if turned:
        return turned
    if _colours_differ(key, flat):
        return f"Bayer pattern {flat.bayer_pattern} against {key.bayer_pattern}"
    return ""


def _colours_differ(a: GroupKey, b: GroupKey) -> bool:
    return a.bayer_pattern is not None and b.bayer_pattern is not None and a.bayer_pattern != b.bayer_pattern


# --- messages ---


def _nothing_fits(
    kind: str, key: GroupKey, masters: Sequence[LibraryMaster], library: Sequence[LibraryMaster], rules: MatchRules
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
    nearest = min(masters, key=lambda m: (len(_reasons(kind, key, m, rules)), _preference(key, m)))
    why = " and ".join(_reasons(kind, key, nearest, rules))
    return f"{head}: the nearest is {nearest.record.name}, but {why}{note}; {advice}"


def _reasons(kind: str, key: GroupKey, master: LibraryMaster, rules: MatchRules) -> list[str]:
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
        reason = _flat_unfit(key, its) if kind == "flat" else why_unfit(key, its, rules.temperature_tolerance_c)
        if reason and reason not in reasons:
            reasons.append(reason)
    if kind == "dark" and not is_near_exposure(key, its, rules):
        what = f"exposure {its.exposure_time_s:g} s against {key.exposure_time_s:g} s"
        far = f", and there is nothing to scale it by (a bias or a second dark, at most {MAX_STRETCH:g} times)"
        reasons.append(what + ("" if reasons else far))
    return reasons
