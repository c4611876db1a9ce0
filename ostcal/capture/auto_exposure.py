"""The exposure that brings a flat to its level: pure decisions on the trials so far.

The level of a frame is a straight line in the exposure, from the bias level on. Two frames give the line: one at the
shortest exposure (or a bias level that is known) and one that carries information. A saturated frame tells only that
the exposure is too long, one without signal only that it is too short: then steps are taken, growing while they are in
the same direction, and between a frame that was too long and one that was too short the middle is tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_CLIPPED_FROM = 0.85
"""Share of full scale from which the mean of a frame is too low: pixels reach their full well. One real full well of
58,800 of 65,535 ADU shows as 0.9."""

SIGNAL_FROM = 0.003
"""Share of full scale above bias from which a frame carries information: 200 ADU at 16 bits, where a bias that is a
few ADU off moves the prediction by 2 %, of a tolerance of 20 %."""

_DIGITS = 3
"""Digits of the exposures that are tried: 0.5 % of the level at most, and names that say the whole exposure."""


class LightProblem(StrEnum):
    """What is wrong with the light."""

    TOO_BRIGHT = "too bright"
    TOO_FAINT = "too faint"


@dataclass(frozen=True, kw_only=True)
class ExposureRules:
    """What level is wanted, and within which exposures."""

    target_rate: float = 0.5
    """Level aimed at, as a share of full scale."""
    tolerance: float = 0.1
    """How far the level may be from it, as a share of full scale."""
    min_exposure_s: float = 0.001
    max_exposure_s: float = 10.0
    step_factor: float = 1.5
    max_attempts: int = 10
    max_adu: int = 65535
    saturated_share: float = 0.001
    """Of the pixels of a colour, beyond those that are saturated without light: cosmic rays may saturate some."""

    @property
    def lowest_adu(self) -> float:
        """Lowest level that is accepted."""
        return (self.target_rate - self.tolerance) * self.max_adu

    @property
    def highest_adu(self) -> float:
        """Highest level that is accepted."""
        return (self.target_rate + self.tolerance) * self.max_adu

    @property
    def target_adu(self) -> float:
        """Level aimed at."""
        return self.target_rate * self.max_adu


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A frame that was taken to find the exposure."""

    exposure_s: float
    level_adu: float
    """Mean of the brightest colour."""
    saturated_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Accept:
    """The level is right at this exposure."""

    exposure_s: float


@dataclass(frozen=True, kw_only=True)
class Try:
    """Take a frame of this exposure."""

    exposure_s: float


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """No exposure will do."""

    light: LightProblem
    factor: float | None
    """By how much the light would have to change for the target at the limit of the exposures, where that is known."""
    reason: str
    """One line for a person."""


def decide(rules: ExposureRules, bias: Trial, trials: Sequence[Trial], start_s: float) -> Accept | Try | GiveUp:
    """Say what comes next.

    Parameters
    ----------
    rules : ExposureRules
        What is wanted.
    bias : Trial
        A frame at the shortest exposure, light and all; or a known bias level at 0 s.
    trials : sequence of Trial
        The frames since, oldest first.
    start_s : float
        The exposure that is tried first.
    """
    if not trials:
        return _first(rules, bias, start_s)
    last = trials[-1]
    if is_accepted(rules, last):
        return Accept(exposure_s=last.exposure_s)
    too_long = _is_too_long(rules, last)
    if too_long and last.exposure_s <= rules.min_exposure_s * (1 + 1e-9):
        return _give_up_bright(rules, last)
    if not too_long and last.exposure_s >= rules.max_exposure_s * (1 - 1e-9):
        return _give_up_faint(rules, last, bias)
    if len(trials) >= rules.max_attempts:
        return _give_up_tired(rules, last)
    return Try(exposure_s=_next_exposure(rules, bias, trials))


def is_accepted(rules: ExposureRules, trial: Trial) -> bool:
    """Whether a frame has the level that is wanted."""
    in_window = rules.lowest_adu <= trial.level_adu <= rules.highest_adu
    return in_window and trial.saturated_share <= rules.saturated_share


def rounded(rules: ExposureRules, exposure_s: float) -> float:
    """Round an exposure to three digits within the limits."""
    short = float(f"{exposure_s:.{_DIGITS - 1}e}")
    return min(max(short, rules.min_exposure_s), rules.max_exposure_s)


def _first(rules: ExposureRules, bias: Trial, start_s: float) -> Accept | Try | GiveUp:
    """Look at the frame of the shortest exposure, which may be enough already."""
    if bias.exposure_s > 0 and is_accepted(rules, bias):
        return Accept(exposure_s=bias.exposure_s)
    if bias.exposure_s > 0 and _is_too_long(rules, bias):
        return _give_up_bright(rules, bias)
    return Try(exposure_s=rounded(rules, start_s))


def _is_too_long(rules: ExposureRules, trial: Trial) -> bool:
    return trial.level_adu > rules.highest_adu or trial.saturated_share > rules.saturated_share


def is_clipped(rules: ExposureRules, trial: Trial) -> bool:
    """Whether a frame is so bright that its level says only that it is too long."""
    return trial.level_adu > _CLIPPED_FROM * rules.max_adu or trial.saturated_share > rules.saturated_share


def _next_exposure(rules: ExposureRules, bias: Trial, trials: Sequence[Trial]) -> float:
    """Give the exposure to try next, inside what is known to be too short and too long."""
    last = trials[-1]
    long_s = min((trial.exposure_s for trial in trials if _is_too_long(rules, trial)), default=math.inf)
    short_s = max((trial.exposure_s for trial in trials if not _is_too_long(rules, trial)), default=0.0)
    if short_s >= long_s:  # the light changes: only the last frame counts
        long_s, short_s = (last.exposure_s, 0.0) if _is_too_long(rules, last) else (math.inf, last.exposure_s)
    wanted_s = _predicted(rules, bias, last)
    if wanted_s is None:
        wanted_s = _stepped(rules, bias, trials)
    elif _repeats(rules, trials) > 1 and _is_too_long(rules, last):
        # a prediction from above that fails came from a full well below the end of the converter
        wanted_s = min(wanted_s, _stepped(rules, bias, trials))
    between = short_s * (1 + 1e-9) < wanted_s < long_s * (1 - 1e-9)
    if not between and short_s > 0 and long_s < math.inf:
        wanted_s = math.sqrt(short_s * long_s)
    elif not between:
        wanted_s = last.exposure_s * (1 / rules.step_factor if long_s < math.inf else rules.step_factor)
    return rounded(rules, wanted_s)


def _predicted(rules: ExposureRules, bias: Trial, last: Trial) -> float | None:
    """Give the exposure of the target level on the line through two frames; ``None`` where one tells nothing."""
    signal_adu = last.level_adu - bias.level_adu
    if is_clipped(rules, last) or signal_adu < max(SIGNAL_FROM * rules.max_adu, 1.0):
        return None
    if last.exposure_s <= bias.exposure_s * rules.step_factor:  # too near to each other for a line
        return None
    slope = signal_adu / (last.exposure_s - bias.exposure_s)
    return max(bias.exposure_s + (rules.target_adu - bias.level_adu) / slope, 0.0)


def _stepped(rules: ExposureRules, bias: Trial, trials: Sequence[Trial]) -> float:
    """Step away from a frame that tells nothing: by the factor, then by its square, its fourth power and so on.

    A saturated frame also bounds the exposure from above: the true level is not below the one that it shows.
    """
    last = trials[-1]
    factor = rules.step_factor ** min(1 << (_repeats(rules, trials) - 1), 16)
    if not _is_too_long(rules, last):
        return last.exposure_s * factor
    bound_s = last.exposure_s * (rules.target_adu - bias.level_adu) / max(last.level_adu - bias.level_adu, 1.0)
    return min(last.exposure_s / factor, bound_s) if bound_s > 0 else last.exposure_s / factor


def _repeats(rules: ExposureRules, trials: Sequence[Trial]) -> int:
    """Count the last trials that were all too long, or all too short."""
    too_long = _is_too_long(rules, trials[-1])
    others = (n for n, trial in enumerate(reversed(trials)) if _is_too_long(rules, trial) != too_long)
    return next(others, len(trials))


def _give_up_bright(rules: ExposureRules, last: Trial) -> GiveUp:
    return GiveUp(
        light=LightProblem.TOO_BRIGHT,
        factor=None,
        reason=f"the light is too bright: the shortest exposure, {last.exposure_s:g} s, gives {_level(rules, last)};"
        " dim the light or put paper before it, or lower flat_capture.min_exposure or the gain",
    )


def _give_up_faint(rules: ExposureRules, last: Trial, bias: Trial) -> GiveUp:
    signal_adu = last.level_adu - bias.level_adu
    factor = (rules.target_adu - bias.level_adu) / signal_adu if signal_adu > 1 else None
    enough = f" to about {last.exposure_s * factor:.3g} s" if factor is not None and factor < 1000 else ""
    return GiveUp(
        light=LightProblem.TOO_FAINT,
        factor=factor,
        reason=f"the light is too faint: the longest exposure, {last.exposure_s:g} s, gives {_level(rules, last)};"
        f" make the light brighter, or raise flat_capture.max_exposure{enough}",
    )


def _give_up_tired(rules: ExposureRules, last: Trial) -> GiveUp:
    light = LightProblem.TOO_BRIGHT if _is_too_long(rules, last) else LightProblem.TOO_FAINT
    change = "dim it or set a shorter" if light is LightProblem.TOO_BRIGHT else "make it brighter or set a longer"
    return GiveUp(
        light=light,
        factor=None,
        reason=f"the light is {light} for {rules.max_attempts} trials (flat_capture.max_adjustment_attempts): the last"
        f" one, of {last.exposure_s:g} s, gives {_level(rules, last)}; {change} exposure_time of the camera to start"
        " with, and see that it is steady",
    )


def _level(rules: ExposureRules, trial: Trial) -> str:
    wanted = (
        f"{100 * (rules.target_rate - rules.tolerance):.0f} % to {100 * (rules.target_rate + rules.tolerance):.0f} %"
    )
    level = f"{100 * trial.level_adu / rules.max_adu:.1f} % of full scale, and {wanted} is wanted"
    if trial.saturated_share > rules.saturated_share:
        return f"{level}, with {100 * trial.saturated_share:.1f} % of its pixels saturated"
    return level
