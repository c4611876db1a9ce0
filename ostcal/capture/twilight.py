"""Choose the exposures of twilight flats: the brightness of the sky changes exponentially."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ostcal.capture.auto_exposure import SIGNAL_FROM, ExposureRules, Trial, is_accepted, is_clipped
from ostcal.clock import Clock
from ostcal.devices.protocols import ExposureResult
from ostcal.measure.live import SATURATED_FROM, colour_level, shown_full_scale_adu

logger = logging.getLogger(__name__)

_STEEPEST_PER_S = math.log(2) / 30
"""Largest accepted slope of the logarithm of the light: twice as bright in 30 s. At the equator the sky takes about
60 s, elsewhere longer. The limit is needed because two noisy rates in quick succession could give any slope."""

_SLOPE_OVER_S = 5.0
"""Shortest time over which the slope is measured, if there are frames for it."""

_NOTICE_EVERY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class SkyRate:
    """Brightness of the sky at the middle of an exposure."""

    at_s: float
    adu_per_s: float


@dataclass(frozen=True, kw_only=True)
class TwilightRules:
    """Exposure limits, bias level and waits."""

    exposure: ExposureRules
    bias_level_adu: float
    full_scale_is_stated: bool = False
    """Whether the user says full scale; what frames show does not count then."""
    is_bayer: bool = False
    start_exposure_s: float = 1.0
    wait_s: float = 5.0
    """Pause between two checks while the sky is still too bright or too faint."""
    look_every_s: float = 30.0
    """Time after which a frame measures the sky again: it changes by 10 % to 25 % meanwhile."""
    longest_wait_s: float = 3600.0
    """Longest time without a kept frame."""


class TwilightControl:
    """Choose the exposures of a twilight series; implements `ostcal.capture.series_plan.ExposureControl`.

    While the sky is outside the exposure limits but approaches them, it waits; once the sky moves away from them, the
    series ends.
    """

    def __init__(self, rules: TwilightRules, clock: Clock, notify: Callable[[str], None]) -> None:
        self._rules = rules
        self._clock = clock
        self._notify = notify
        self._rates: list[SkyRate] = []
        limits = rules.exposure
        self._guess_s: float | None = min(max(rules.start_exposure_s, limits.min_exposure_s), limits.max_exposure_s)
        """Next exposure if the last frame was saturated or dark and so gave no rate."""
        self._last_kept_s = clock.now_s()
        self._last_notice_s = -math.inf
        self._reason = ""

    is_enough = False

    @property
    def reason(self) -> str:
        """Reason for the end of the series."""
        return self._reason

    def next_exposure_s(self) -> float | None:
        """Return the exposure that reaches the target if the sky keeps changing as before; ``None`` ends the series."""
        limits = self._rules.exposure
        # a frame a little beyond the limits still has an accepted level
        share = limits.tolerance / limits.target_rate / 2
        shortest_s, longest_s = limits.min_exposure_s * (1 - share), limits.max_exposure_s * (1 + share)
        signal_adu = limits.target_adu - self._rules.bias_level_adu
        waited_s = 0.0
        while True:
            wanted_s = self._guess_s
            if wanted_s is None:
                wanted_s = exposure_for(self._rates, signal_adu, self._clock.now_s())
            if shortest_s <= wanted_s <= longest_s:
                return min(max(wanted_s, limits.min_exposure_s), limits.max_exposure_s)
            is_bright = wanted_s < shortest_s
            if waited_s >= self._rules.look_every_s:
                return limits.min_exposure_s if is_bright else limits.max_exposure_s  # measure again
            slope = log_slope(self._rates)  # 0 before there are two rates
            moves_away = slope > 0 if is_bright else slope < 0
            if moves_away or self._clock.now_s() - self._last_kept_s > self._rules.longest_wait_s:
                self._reason = (
                    "the sky is too bright for the shortest exposure,"
                    f" {limits.min_exposure_s:g} s (flat_capture.min_exposure)"
                    if is_bright
                    else "the sky is too faint for the longest exposure,"
                    f" {limits.max_exposure_s:g} s (flat_capture.max_exposure)"
                )
                return None
            if self._clock.now_s() - self._last_notice_s >= _NOTICE_EVERY_S:
                self._last_notice_s = self._clock.now_s()
                self._notify(f"the sky is still too {'bright' if is_bright else 'faint'} for flats; waiting")
            self._clock.sleep(self._rules.wait_s)
            waited_s += self._rules.wait_s

    def judge(self, result: ExposureResult, started_s: float) -> bool:
        """Measure the sky in a frame; return whether its level is accepted."""
        rules = self._rules
        shown = shown_full_scale_adu(result.pixels, rules.exposure.max_adu) if not rules.full_scale_is_stated else None
        if shown is not None:
            self._notify(wrong_end_line(rules.exposure.max_adu, shown))
            rules = self._rules = replace(rules, exposure=replace(rules.exposure, max_adu=shown[0]))
        max_adu = rules.exposure.max_adu
        level = colour_level(result.pixels, is_bayer=rules.is_bayer, saturation_adu=SATURATED_FROM * max_adu)
        exposure_s = max(result.exposure_time_s, 1e-6)
        trial = Trial(exposure_s=exposure_s, level_adu=level.mean_adu, saturated_share=level.saturated_share)
        signal_adu = level.mean_adu - rules.bias_level_adu
        self._guess_s = None
        if is_clipped(rules.exposure, trial):
            self._guess_s = exposure_s / 2
        elif signal_adu < SIGNAL_FROM * max_adu:
            self._guess_s = exposure_s * 4
        else:
            self._rates.append(SkyRate(at_s=started_s + exposure_s / 2, adu_per_s=signal_adu / exposure_s))
        if is_accepted(rules.exposure, trial):
            self._last_kept_s = self._clock.now_s()
            return True
        share = 100 * level.mean_adu / max_adu
        logger.info("a sky flat of %.3g s has %.0f %% of full scale and is not kept", exposure_s, share)
        return False


def wrong_end_line(max_adu: int, shown: tuple[int, str]) -> str:
    """Say that a camera reports another full scale than its frames show."""
    end_adu, why = shown
    return f"the camera reports MaxADU {max_adu}, but {why}: full scale is {end_adu} ADU"


def exposure_for(rates: Sequence[SkyRate], signal_adu: float, start_s: float) -> float:
    """Return the exposure, in seconds, that collects a signal above bias if the sky keeps changing as before.

    The rates, at least one, are oldest first; `start_s` is the start of the exposure on their clock. The result is
    infinite if the sky fades too fast to reach the signal.
    """
    slope = log_slope(rates)
    rate = rates[-1].adu_per_s * math.exp(slope * (start_s - rates[-1].at_s))
    if abs(slope) < 1e-9:
        return signal_adu / rate
    # the integral of rate * exp(slope t) from 0 to the exposure is the signal
    grown = 1 + slope * signal_adu / rate
    return math.log(grown) / slope if grown > 0 else math.inf


def log_slope(rates: Sequence[SkyRate]) -> float:
    """Return the slope of the logarithm of the light per second, from the last rate and an earlier one."""
    if len(rates) < 2:
        return 0.0
    last = rates[-1]
    before = next((rate for rate in reversed(rates) if last.at_s - rate.at_s >= _SLOPE_OVER_S), rates[0])
    if last.at_s <= before.at_s:
        return 0.0
    slope = math.log(last.adu_per_s / before.adu_per_s) / (last.at_s - before.at_s)
    return min(max(slope, -_STEEPEST_PER_S), _STEEPEST_PER_S)
