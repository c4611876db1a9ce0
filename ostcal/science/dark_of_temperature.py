"""The dark of a temperature that no dark was taken at, from masters of one exposure at three temperatures or more."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ostcal.build.match_darks import why_unfit, within_clock
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.measure.camera.dark_ladder import BLOCK_PIXELS, LadderLimits, LadderQuality, ladder_quality
from ostcal.measure.camera.dark_warming import (
    LawName,
    Warming,
    fit_warming,
    left_out_error_c,
    measure_warming,
    why_implausible,
)
from ostcal.naming import degrees_text
from ostcal.science.synthetic_dark import (
    SATURATED_SHARE,
    STRIP_HELD_BYTES,
    LadderMaster,
    MasterLadder,
    NoSyntheticDark,
    measured_ladder,
    sampled_bands,
)

FloatPlane = NDArray[np.float32]

LEAST_TEMPERATURES = 3
OWN_TEMPERATURE_C = 1.0
"""Masters nearer to each other than this are of one temperature."""
MAX_OUTSIDE_C = 1.0
"""How far outside the temperatures of the masters a dark may be."""

LEFT_OUT_LIMIT_C = 1.0
LEFT_OUT_SHARE = 0.1
"""A master may differ from what the others say of it by so many degrees, or this share of the way to the nearest."""

_MODEL_SAMPLES = 4_000_000
_MODEL_PIXELS = 250_000
"""That a model is measured on; of more than 16 masters as many fewer, so that their samples do not become more."""

_LAWS: tuple[LawName, ...] = ("Arrhenius", "doubling")


@dataclass(frozen=True, kw_only=True)
class TemperatureDark:
    """The dark of a temperature that was not taken; implements `ostcal.engine.levels.PlaneReader`."""

    temperature_c: float
    exposure_s: float
    ladder: MasterLadder
    """The bias, if there is one, and the darks, ascending in temperature."""
    warming: Warming
    other_law: Warming | None
    """The other law, where the masters do not tell which one holds: three without a bias. It counts as uncertainty."""
    quality: LadderQuality
    share: float
    """Of the dark current of the masters: exposure over theirs."""
    held_bytes: int = STRIP_HELD_BYTES
    """Rows of all masters that are held at a time."""

    @property
    def lacking(self) -> str:
        """What no dark has."""
        return "temperature"

    @property
    def model_id(self) -> str:
        """What tells the model from others: of masters, law and slopes."""
        warming = self.warming
        about = [master.name for master in self.ladder.masters]
        about += [warming.law.name, f"{warming.quiet.slope:.6g}", f"{warming.warm.slope:.6g}"]
        return f"T{hashlib.sha256('|'.join(about).encode()).hexdigest()[:12]}"

    @property
    def description(self) -> str:
        """What it is and what it is made of, for the header."""
        return f"dark of {degrees_text(self.temperature_c)} from the {self.basis}"

    @property
    def basis(self) -> str:
        """What it is made of: the same for frames of all temperatures."""
        warming = self.warming
        darks = self.ladder.masters[1:] if warming.has_zero else self.ladder.masters
        names = [f"{dark.name} ({degrees_text(c)})" for dark, c in zip(darks, warming.temperatures_c, strict=True)]
        names += [f"bias {self.ladder.masters[0].name}"] if warming.has_zero else []
        scaled = "" if self.share == 1.0 else f", dark current times {self.share:.6g}"
        quiet_c, warm_c = warming.quiet.doubling_c, warming.warm.doubling_c
        return (
            f"fit over temperature, model {self.model_id}, over "
            f"{', '.join(names)}{scaled}; dark current doubles in {quiet_c:.1f} C, of hot pixels in {warm_c:.1f} C "
            f"({warming.law.name}); median chi-square {self.quality.median_ratio:.2f} of what noise gives"
        )

    def read_rows(self, start: int, stop: int) -> FloatPlane:
        """Return rows ``start`` to ``stop``, ADU, (stop - start, width) float32.

        NaN where fewer than two masters are below saturation; never above saturation.
        """
        return self.read_with_uncertainty(start, stop)[0]

    def read_with_uncertainty(self, start: int, stop: int) -> tuple[FloatPlane, FloatPlane]:
        """Return rows and their standard deviation, ADU, at the cost of one."""
        rows_held = max(1, self.held_bytes // self.ladder.row_bytes)
        pieces = [self._piece(top, min(top + rows_held, stop)) for top in range(start, stop, rows_held)]
        level, uncertainty = (
            pieces[0] if len(pieces) == 1 else (np.concatenate(planes) for planes in zip(*pieces, strict=True))
        )
        return np.minimum(level, np.float32(self.ladder.saturation_adu)), uncertainty

    def _piece(self, start: int, stop: int) -> tuple[FloatPlane, FloatPlane]:
        read = [_level_of(self.ladder, master, start, stop) for master in self.ladder.masters]
        level, uncertainty = np.empty_like(read[0][0]), np.empty_like(read[0][0])
        rows_at_once = max(1, BLOCK_PIXELS // max(1, level.shape[1]))
        for top in range(0, stop - start, rows_at_once):
            rows = slice(top, top + rows_at_once)
            level[rows], uncertainty[rows] = self._dark([one[rows] for one, _ in read], [one[rows] for _, one in read])
        return level, uncertainty

    def _dark(self, levels: list[FloatPlane], variances: list[FloatPlane]) -> tuple[FloatPlane, FloatPlane]:
        limit_adu = SATURATED_SHARE * self.ladder.saturation_adu
        zero = (levels[0], variances[0]) if self.warming.has_zero else None
        fit = fit_warming(levels, variances, self.warming, saturation_adu=limit_adu)
        level, uncertainty = fit.dark_at(self.temperature_c, self.share, zero)
        if self.other_law is not None:
            other = fit_warming(levels, variances, self.other_law, saturation_adu=limit_adu)
            np.hypot(uncertainty, other.dark_at(self.temperature_c, self.share, zero)[0] - level, out=uncertainty)
        return level, uncertainty


@dataclass(frozen=True, kw_only=True)
class TemperatureRules:
    """When a dark may be made of darks of other temperatures."""

    bias_temperature_tolerance_c: float = 20.0
    saturation_adu: float = 65535.0
    max_scale_up: float = 2.0
    """Times the exposure of the masters."""
    limits: LadderLimits = field(default_factory=LadderLimits)


def dark_of_temperature(
    target: GroupKey, masters: Sequence[LibraryMaster], rules: TemperatureRules
) -> TemperatureDark | NoSyntheticDark | None:
    """Make the dark of a frame's temperature from masters of the same settings and one exposure.

    That is the exposure of the frame, or another one if a bias is there to scale from. `masters` come in the order in
    which they are preferred; those whose standard deviation is not stored (FITS) are left out. ``None`` where no two
    darks of different temperatures fit the frame otherwise.

    Raises
    ------
    StorageError
        If a master cannot be read.
    """
    if target.temperature_c is None or target.exposure_time_s <= 0:
        return None
    refusals = []
    for darks in _families(target, masters):
        if len(darks) < 2:
            continue
        bias = _bias_of(darks[len(darks) // 2], masters, rules)
        made = _why_out_of_reach(target, darks, bias, rules) or _made(target, darks, bias, rules)
        if isinstance(made, TemperatureDark):
            return made
        refusals.append(f"no dark of {degrees_text(target.temperature_c)} can be made from those of others: {made}")
    return NoSyntheticDark(message=refusals[0]) if refusals else None


# ---- choice of the masters ----


def _families(target: GroupKey, masters: Sequence[LibraryMaster]) -> list[list[LibraryMaster]]:
    """Return the darks of each exposure, ascending in temperature; exposures nearest to the frame's first.

    Of several darks of one temperature the first is taken.
    """
    of_camera = replace(target, temperature_c=None)
    darks = [
        m
        for m in masters
        if m.key.frame_type is FrameType.DARK
        and isinstance(m.plane, StorePlane)
        and m.key.temperature_c is not None
        and m.key.exposure_time_s > 0
        and not why_unfit(of_camera, m.key, 0.0)
    ]
    families: list[list[LibraryMaster]] = []
    for dark in darks:
        family = next(
            (f for f in families if is_one_exposure(dark.key.exposure_time_s, f[0].key.exposure_time_s)), None
        )
        if family is None:
            families.append([dark])
        elif not why_unfit(family[0].key, dark.key, math.inf) and all(
            abs(_degrees(dark) - _degrees(other)) >= OWN_TEMPERATURE_C for other in family
        ):
            family.append(dark)

    def preference(family: list[LibraryMaster]) -> tuple[bool, float]:
        exposure_s = family[0].key.exposure_time_s
        is_same = is_one_exposure(exposure_s, target.exposure_time_s)
        return not is_same, abs(math.log(exposure_s / target.exposure_time_s))

    return [sorted(family, key=_degrees) for family in sorted(families, key=preference)]


def _degrees(master: LibraryMaster) -> float:
    return master.key.temperature_c or 0.0


def _bias_of(dark: LibraryMaster, masters: Sequence[LibraryMaster], rules: TemperatureRules) -> LibraryMaster | None:
    """Return the first bias that fits a dark."""
    for m in masters:
        is_bias = m.key.frame_type is FrameType.BIAS and isinstance(m.plane, StorePlane)
        if is_bias and not why_unfit(dark.key, m.key, 0.0, rules.bias_temperature_tolerance_c):
            return m
    return None


def _why_out_of_reach(
    target: GroupKey, darks: Sequence[LibraryMaster], bias: LibraryMaster | None, rules: TemperatureRules
) -> str:
    """Say why darks of one exposure do not reach a frame, whatever is in them; "" if they do."""
    exposure_s, own_s = darks[0].key.exposure_time_s, target.exposure_time_s
    degrees = [_degrees(dark) for dark in darks]
    there = f"{', '.join(degrees_text(c).removesuffix(' C') for c in degrees)} C ({exposure_s:g} s)"
    if len(darks) < LEAST_TEMPERATURES:
        return f"it needs darks of {LEAST_TEMPERATURES} temperatures, there are those of {there}"
    temperature_c = target.temperature_c or 0.0
    outside_c = max(degrees[0] - temperature_c, temperature_c - degrees[-1])
    if round(outside_c, 1) > MAX_OUTSIDE_C:
        return f"it is {outside_c:.1f} C outside those of {there}, limit {MAX_OUTSIDE_C:g} C"
    if is_one_exposure(exposure_s, own_s):
        return ""
    if bias is None:
        return f"there is no bias to scale those of {there} to {own_s:g} s"
    if own_s > within_clock(rules.max_scale_up) * exposure_s:
        limit = f"limit {rules.max_scale_up:g} times their exposure, matching.max_scale_up"
        return f"those of {there} are too short for {own_s:g} s ({limit})"
    return ""


# ---- models ----


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A master of a model; equal where it is the same master."""

    store: str
    name: str
    made_at: datetime | None
    master: LibraryMaster = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What masters show, for all temperatures between."""

    ladder: MasterLadder
    warming: Warming
    other_law: Warming | None
    quality: LadderQuality | None
    zero_adu: float
    """Level without dark current, of the median pixel."""
    reason: str
    """Why no dark can be made of it; "" if one can."""


def _made(
    target: GroupKey, darks: Sequence[LibraryMaster], bias: LibraryMaster | None, rules: TemperatureRules
) -> TemperatureDark | str:
    """Make a dark of masters that reach it, or say why chi-square does not allow it.

    The bias of many CMOS sensors has another level than what their darks begin with. Four darks and more show by how
    much; if all follow one law from a bias of that level, the bias is left out. Of three nothing could be checked.
    """
    own_s, exposure_s = target.exposure_time_s, darks[0].key.exposure_time_s
    is_same = is_one_exposure(exposure_s, own_s)
    model = _model(_steps(darks, bias), bias is not None, rules)
    if model.reason and bias is not None and is_same and len(darks) > LEAST_TEMPERATURES:
        model = _without_bias(darks, bias, rules) or model
    if model.reason or model.quality is None:
        degrees = ", ".join(degrees_text(_degrees(dark)).removesuffix(" C") for dark in darks)
        return f"{model.reason or 'no pixel has levels at all temperatures'} (temperatures {degrees} C)"
    zero_s = bias.key.exposure_time_s if bias is not None else 0.0
    return TemperatureDark(
        temperature_c=target.temperature_c or 0.0,
        exposure_s=own_s,
        ladder=model.ladder,
        warming=model.warming,
        other_law=model.other_law,
        quality=model.quality,
        share=1.0 if is_same else (own_s - zero_s) / (exposure_s - zero_s),
    )


def _without_bias(darks: Sequence[LibraryMaster], bias: LibraryMaster, rules: TemperatureRules) -> _Model | None:
    """Return the model of darks alone, if a bias of another level is all that is wrong with the one of all.

    A dark of a wrong temperature would need a bias that differs from pixel to pixel.
    """
    alone = _model(_steps(darks, None), False, rules)
    if alone.reason:
        return None
    shifted = _model(_steps(darks, bias), True, rules, alone.zero_adu)
    return None if shifted.reason else alone


def _steps(darks: Sequence[LibraryMaster], bias: LibraryMaster | None) -> tuple[_Step, ...]:
    masters = [*darks] if bias is None else [bias, *darks]
    return tuple(
        _Step(store=m.plane.store, name=m.record.name, made_at=m.record.made_at, master=m)
        for m in masters
        if isinstance(m.plane, StorePlane)  # others were left out before
    )


@lru_cache(maxsize=64)
def _model(steps: tuple[_Step, ...], has_zero: bool, rules: TemperatureRules, zero_adu: float | None = None) -> _Model:
    """Measure a model in bands of rows. It is kept: lights of all temperatures share it, and reading takes time.

    With `zero_adu` the bias is brought to that level.
    """
    masters = [step.master for step in steps]
    ladder = measured_ladder(masters, rules.saturation_adu)
    key = masters[0].key
    temperatures_c = [_degrees(master) for master in (masters[1:] if has_zero else masters)]
    levels, variances = _sampled(ladder, sampled_bands(key.height, key.width))
    if zero_adu is not None:
        levels[0] = levels[0] + np.float32(zero_adu - ladder.masters[0].level_adu)
    saturation_adu = SATURATED_SHARE * rules.saturation_adu
    found = []
    for law in _LAWS:
        warming = measure_warming(
            levels, variances, temperatures_c, has_zero=has_zero, law=law, saturation_adu=saturation_adu
        )
        fit = fit_warming(levels, variances, warming, saturation_adu=saturation_adu, may_leave_zero=False)
        found.append((warming, ladder_quality(fit.ladder), float(np.nanmedian(fit.ladder.offset_adu))))
    (warming, quality, zero), (other_law, _, _) = sorted(found, key=lambda one: _misfit(one[1]))
    reason = why_implausible(warming) or (_why_no_law(quality, rules.limits) if quality is not None else "")
    reason = reason or _why_left_out(levels, variances, warming, saturation_adu)
    if reason:
        reason = f"the masters do not follow one law over temperature: {reason}"
    return _Model(
        ladder=ladder,
        warming=warming,
        other_law=other_law if len(masters) <= LEAST_TEMPERATURES else None,
        quality=quality,
        zero_adu=zero,
        reason=reason,
    )


def _misfit(quality: LadderQuality | None) -> tuple[float, float]:
    return (math.inf, math.inf) if quality is None else (quality.hot_misfit, quality.median_ratio)


def _why_no_law(quality: LadderQuality, limits: LadderLimits) -> str:
    if quality.median_ratio > limits.median_ratio and quality.misfit_adu > limits.misfit_adu:
        return (
            f"median chi-square {quality.median_ratio:.1f} times what noise gives ({quality.misfit_adu:.2g} ADU), "
            f"limit {limits.median_ratio:g} ({limits.misfit_adu:g} ADU)"
        )
    if quality.hot_misfit > limits.hot_misfit:
        return (
            f"{quality.n_hot} hot pixels miss it by {100 * quality.hot_misfit:.1f} %, limit "
            f"{100 * limits.hot_misfit:g} %; one has a wrong temperature or exposure"
        )
    return ""


def _why_left_out(
    levels: Sequence[FloatPlane], variances: Sequence[FloatPlane], warming: Warming, saturation_adu: float
) -> str:
    """Say which master differs most from what the others say of its temperature; "" if none does too much."""
    worst = ""
    most = 1.0
    for place, temperature_c in enumerate(warming.temperatures_c):
        error_c = left_out_error_c(levels, variances, warming, place, saturation_adu=saturation_adu)
        nearest_c = min(abs(temperature_c - other) for other in warming.temperatures_c if other != temperature_c)
        limit_c = max(LEFT_OUT_LIMIT_C, LEFT_OUT_SHARE * nearest_c)
        if error_c is not None and abs(error_c) > most * limit_c:
            most = abs(error_c) / limit_c
            worst = (
                f"the dark of {degrees_text(temperature_c)} has the dark current of {temperature_c + error_c:.1f} C by "
                f"the others, limit {limit_c:.1f} C; one has a wrong temperature or exposure"
            )
    return worst


def _sampled(ladder: MasterLadder, bands: Sequence[tuple[int, int]]) -> tuple[list[FloatPlane], list[FloatPlane]]:
    """Return levels of the masters and their variances, (1, n) each, of pixels of bands of rows."""
    levels, variances = [], []
    most_pixels = max(1, min(_MODEL_PIXELS, _MODEL_SAMPLES // len(ladder.masters)))
    for master in ladder.masters:
        parts = [_level_of(ladder, master, start, stop) for start, stop in bands]
        every = -(-sum(level.size for level, _ in parts) // most_pixels)
        levels.append(np.concatenate([level.ravel() for level, _ in parts])[None, ::every].copy())
        variances.append(np.concatenate([variance.ravel() for _, variance in parts])[None, ::every].copy())
    return levels, variances


def _level_of(ladder: MasterLadder, master: LadderMaster, start: int, stop: int) -> tuple[FloatPlane, FloatPlane]:
    """Return the level of a master and its variance, of rows ``start`` to ``stop``."""
    level, variance, n_used = master.read(start, stop)
    above = np.maximum(np.nan_to_num(level - np.float32(master.level_adu)), 0)
    return level, master.variance_of_mean(variance, n_used, above * np.float32(ladder.shot_noise_adu))
