"""Find the exposure that brings a flat to its target level: pure decisions on the trials so far.

The level of a frame grows linearly with the exposure, starting at the bias level. Two frames define the line: one at
the shortest exposure (or a known bias level) and one with a measurable signal. A saturated frame shows only that the
exposure is too long, a frame without signal only that it is too short. Then the exposure moves in steps that grow
while they go in the same direction; between a too long and a too short exposure, the geometric mean is tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_CLIPPED_FROM = 0.85
"""Share of full scale above which the mean of a frame is too low, because pixels reach their full well. A real full
well of 58,800 of 65,535 ADU shows as 0.9."""

SIGNAL_FROM = 0.003
"""Smallest useful signal above bias, as a share of full scale: 200 ADU at 16 bits. There, an error of a few ADU in the
bias level moves the prediction by 2 %; the tolerance is 20 %."""

_DIGITS = 3
"""Significant digits of the trial exposures: at most 0.5 % of the level, and series names show the whole exposure."""


class LightProblem(StrEnum):
    """The light is outside what the exposure limits allow."""

    TOO_BRIGHT = "too bright"
    TOO_FAINT = "too faint"


@dataclass(frozen=True, kw_only=True)
class ExposureRules:
    """Target level and limits of the exposures."""

    target_rate: float = 0.5
    """Target level as a share of full scale."""
    tolerance: float = 0.1
    """Largest accepted distance from the target, as a share of full scale."""
    min_exposure_s: float = 0.001
    max_exposure_s: float = 10.0
    step_factor: float = 1.5
    max_attempts: int = 10
    max_adu: int = 65535
    saturated_share: float = 0.001
    """Accepted share of saturated pixels of a colour, besides those saturated without light: cosmic rays cause some."""

    @property
    def lowest_adu(self) -> float:
        """Lowest accepted level."""
        return (self.target_rate - self.tolerance) * self.max_adu

    @property
    def highest_adu(self) -> float:
        """Highest accepted level."""
        return (self.target_rate + self.tolerance) * self.max_adu

    @property
    def target_adu(self) -> float:
        """Target level."""
        return self.target_rate * self.max_adu


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A frame taken to find the exposure."""

    exposure_s: float
    level_adu: float
    """Mean of the brightest colour."""
    saturated_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Accept:
    """The level is right at this exposure."""

    exposure_s: float
    full_scale_adu: int | None = None
    """What trial frames showed where the camera reports another one."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """Take a frame of this exposure."""

    exposure_s: float


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """No exposure within the limits reaches the target."""

    light: LightProblem
    reason: str
    """One line for the user."""


def decide(rules: ExposureRules, bias: Trial, trials: Sequence[Trial], start_s: float) -> Accept | Try | GiveUp:
    """Decide the next step of the search, which tries `start_s` first.

    `bias` is a frame at the shortest exposure with the light on, or a known bias level at 0 s; the trials since then
    are oldest first.
    """
    if not trials:
        # the frame of the shortest exposure may be enough already, or too much
        if bias.exposure_s > 0 and is_accepted(rules, bias):
            return Accept(exposure_s=bias.exposure_s)
        if bias.exposure_s > 0 and _is_too_long(rules, bias):
            return _give_up_bright(rules, bias)
        return Try(exposure_s=rounded(rules, start_s))
    last = trials[-1]
    if is_accepted(rules, last):
        return Accept(exposure_s=last.exposure_s)
    too_long = _is_too_long(rules, last)
    if too_long and last.exposure_s <= rules.min_exposure_s * (1 + 1e-9):
        return _give_up_bright(rules, last)
    if not too_long and last.exposure_s >= rules.max_exposure_s * (1 - 1e-9):
        signal_adu = last.level_adu - bias.level_adu
        factor = (rules.target_adu - bias.level_adu) / signal_adu if signal_adu > 1 else None
        enough = f" to about {last.exposure_s * factor:.3g} s" if factor is not None and factor < 1000 else ""
        return GiveUp(
            light=LightProblem.TOO_FAINT,
            reason=f"the light is too faint: the longest exposure, {last.exposure_s:g} s, gives {_level(rules, last)};"
            f" make the light brighter, or raise flat_capture.max_exposure{enough}",
        )
    if len(trials) < rules.max_attempts:
        return Try(exposure_s=_next_exposure(rules, bias, trials))
    light = LightProblem.TOO_BRIGHT if too_long else LightProblem.TOO_FAINT
    change = "dim it or set a shorter" if too_long else "make it brighter or set a longer"
    return GiveUp(
        light=light,
        reason=f"the light is {light} for {rules.max_attempts} trials (flat_capture.max_adjustment_attempts): the last"
        f" one, of {last.exposure_s:g} s, gives {_level(rules, last)}; {change} exposure_time of the camera to start"
        " with, and see that it is steady",
    )


def is_accepted(rules: ExposureRules, trial: Trial) -> bool:
    """Return whether a frame has an accepted level."""
    in_window = rules.lowest_adu <= trial.level_adu <= rules.highest_adu
    return in_window and trial.saturated_share <= rules.saturated_share


def rounded(rules: ExposureRules, exposure_s: float) -> float:
    """Round an exposure to three digits within the limits."""
    short = float(f"{exposure_s:.{_DIGITS - 1}e}")
    return min(max(short, rules.min_exposure_s), rules.max_exposure_s)


def _is_too_long(rules: ExposureRules, trial: Trial) -> bool:
    return trial.level_adu > rules.highest_adu or trial.saturated_share > rules.saturated_share


def is_clipped(rules: ExposureRules, trial: Trial) -> bool:
    """Return whether a frame is so bright that its level shows only that the exposure is too long."""
    return trial.level_adu > _CLIPPED_FROM * rules.max_adu or trial.saturated_share > rules.saturated_share


def _next_exposure(rules: ExposureRules, bias: Trial, trials: Sequence[Trial]) -> float:
    """Return the next exposure to try, between the known too short and too long ones."""
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
    """Return the exposure of the target level on the line through two frames; ``None`` if they define no line."""
    signal_adu = last.level_adu - bias.level_adu
    if is_clipped(rules, last) or signal_adu < max(SIGNAL_FROM * rules.max_adu, 1.0):
        return None
    if last.exposure_s <= bias.exposure_s * rules.step_factor:  # too near to each other for a line
        return None
    slope = signal_adu / (last.exposure_s - bias.exposure_s)
    return max(bias.exposure_s + (rules.target_adu - bias.level_adu) / slope, 0.0)


def _stepped(rules: ExposureRules, bias: Trial, trials: Sequence[Trial]) -> float:
    """Step away from a frame without information: by the factor, then its square, its fourth power and so on.

    A saturated frame also gives an upper bound of the exposure: its true level is at least the one it shows.
    """
    last = trials[-1]
    factor = rules.step_factor ** min(1 << (_repeats(rules, trials) - 1), 16)
    if not _is_too_long(rules, last):
        return last.exposure_s * factor
    bound_s = last.exposure_s * (rules.target_adu - bias.level_adu) / max(last.level_adu - bias.level_adu, 1.0)
    return min(last.exposure_s / factor, bound_s) if bound_s > 0 else last.exposure_s / factor


def _repeats(rules: ExposureRules, trials: Sequence[Trial]) -> int:
    """Count the trials at the end that were all too long, or all too short."""
    too_long = _is_too_long(rules, trials[-1])
    others = (n for n, trial in enumerate(reversed(trials)) if _is_too_long(rules, trial) != too_long)
    return next(others, len(trials))


def _give_up_bright(rules: ExposureRules, last: Trial) -> GiveUp:
    return GiveUp(
        light=LightProblem.TOO_BRIGHT,
        reason=f"the light is too bright: the shortest exposure, {last.exposure_s:g} s, gives {_level(rules, last)};"
        " dim the light or put paper before it, or lower flat_capture.min_exposure or the gain",
    )


def _level(rules: ExposureRules, trial: Trial) -> str:
    wanted = (
        f"{100 * (rules.target_rate - rules.tolerance):.0f} % to {100 * (rules.target_rate + rules.tolerance):.0f} %"
    )
    level = f"{100 * trial.level_adu / rules.max_adu:.1f} % of full scale, and {wanted} is wanted"
    if trial.saturated_share > rules.saturated_share:
        return f"{level}, with {100 * trial.saturated_share:.1f} % of its pixels saturated"
    return level
