"""Flats of the twilight sky: each exposure follows the sky, which changes by the same share in equal times."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ostcal.capture.auto_exposure import SIGNAL_FROM, ExposureRules, Trial, is_accepted, is_clipped
from ostcal.clock import Clock
from ostcal.devices.protocols import ExposureResult
from ostcal.measure.live import SATURATED_FROM, colour_level

logger = logging.getLogger(__name__)

_STEEPEST_PER_S = math.log(2) / 30
"""Change of the logarithm of the light: twice as bright in 30 s. At the equator the sky takes about 60 s, elsewhere
longer; two noisy rates shortly after each other would say anything."""

_SLOPE_OVER_S = 5.0
"""The change is taken over at least this long, where there are frames for it."""

_NOTICE_EVERY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class SkyRate:
    """The light of the sky at the middle of an exposure."""

    at_s: float
    adu_per_s: float


@dataclass(frozen=True, kw_only=True)
class TwilightRules:
    """How the sky is followed."""

    exposure: ExposureRules
    bias_level_adu: float
    is_bayer: bool = False
    start_exposure_s: float = 1.0
    wait_s: float = 5.0
    """Pause between two looks at the clock while the sky is still too bright, or too faint."""
    look_every_s: float = 30.0
    """After this long a frame is taken to see how the sky is now: it changes by a tenth to a quarter meanwhile."""
    longest_wait_s: float = 3600.0
    """Longest time without a frame that is kept."""


class TwilightControl:
    """Chooses the exposures of a twilight series; implements `ostcal.capture.series_plan.ExposureControl`.

    While the sky is beyond the limits of the exposure but comes nearer, it waits; once it goes away from them, the
    series ends.
    """

    def __init__(self, rules: TwilightRules, clock: Clock, notice: Callable[[str], None]) -> None:
        self._rules = rules
        self._clock = clock
        self._notice = notice
        self._rates: list[SkyRate] = []
        limits = rules.exposure
        self._guess_s: float | None = min(max(rules.start_exposure_s, limits.min_exposure_s), limits.max_exposure_s)
        """What to expose where the last frame told nothing of the sky: it was saturated, or dark."""
        self._last_kept_s = clock.now_s()
        self._last_notice_s = -math.inf
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the series was ended."""
        return self._reason

    def next_exposure_s(self) -> float | None:
        """Give the exposure that reaches the target if the sky goes on as it did; ``None`` where no more will."""
        limits = self._rules.exposure
        shortest_s, longest_s = _workable(limits)
        waited_s = 0.0
        while True:
            wanted_s = self._wanted_s()
            if shortest_s <= wanted_s <= longest_s:
                return min(max(wanted_s, limits.min_exposure_s), limits.max_exposure_s)
            is_bright = wanted_s < shortest_s
            if waited_s >= self._rules.look_every_s:
                return limits.min_exposure_s if is_bright else limits.max_exposure_s  # look again
            if self._goes_away(is_bright) or self._clock.now_s() - self._last_kept_s > self._rules.longest_wait_s:
                self._reason = _end_reason(limits, is_bright)
                return None
            self._wait(is_bright)
            waited_s += self._rules.wait_s

    def judge(self, result: ExposureResult, started_s: float) -> bool:
        """Learn the light of the sky from a frame; whether its level is right."""
        rules = self._rules
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

    def _wanted_s(self) -> float:
        limits = self._rules.exposure
        if self._guess_s is not None:
            return self._guess_s
        return exposure_for(self._rates, limits.target_adu - self._rules.bias_level_adu, self._clock.now_s())

    def _goes_away(self, is_bright: bool) -> bool:
        """Whether the sky moves on from the limit that it is beyond; not said before there are two rates."""
        slope = log_slope(self._rates)
        return slope > 0 if is_bright else slope < 0

    def _wait(self, is_bright: bool) -> None:
        if self._clock.now_s() - self._last_notice_s >= _NOTICE_EVERY_S:
            self._last_notice_s = self._clock.now_s()
            line = f"the sky is still too {'bright' if is_bright else 'faint'} for flats; waiting"
            logger.info("%s", line)
            self._notice(line)
        self._clock.sleep(self._rules.wait_s)


def exposure_for(rates: Sequence[SkyRate], signal_adu: float, start_s: float) -> float:
    """Give the exposure that collects a signal under a sky that goes on to change as it did.

    Parameters
    ----------
    rates : sequence of SkyRate
        At least one, oldest first.
    signal_adu : float
        Wanted above bias.
    start_s : float
        When the exposure begins, on the clock of the rates.

    Returns
    -------
    float
        Seconds; infinite where the sky fades so fast that the signal is never reached.
    """
    slope = log_slope(rates)
    rate = rates[-1].adu_per_s * math.exp(slope * (start_s - rates[-1].at_s))
    if abs(slope) < 1e-9:
        return signal_adu / rate
    # the integral of rate * exp(slope t) from 0 to the exposure is the signal
    grown = 1 + slope * signal_adu / rate
    return math.log(grown) / slope if grown > 0 else math.inf


def log_slope(rates: Sequence[SkyRate]) -> float:
    """Give the change of the logarithm of the light per second, from the last rate and one some seconds before."""
    if len(rates) < 2:
        return 0.0
    last = rates[-1]
    before = next((rate for rate in reversed(rates) if last.at_s - rate.at_s >= _SLOPE_OVER_S), rates[0])
    if last.at_s <= before.at_s:
        return 0.0
    slope = math.log(last.adu_per_s / before.adu_per_s) / (last.at_s - before.at_s)
    return min(max(slope, -_STEEPEST_PER_S), _STEEPEST_PER_S)


def _workable(limits: ExposureRules) -> tuple[float, float]:
    """Give the exposures for which a frame at the limit still has an accepted level, a little inside."""
    share = limits.tolerance / limits.target_rate / 2
    return limits.min_exposure_s * (1 - share), limits.max_exposure_s * (1 + share)


def _end_reason(limits: ExposureRules, is_bright: bool) -> str:
    if is_bright:
        return (
            f"the sky is too bright for the shortest exposure, {limits.min_exposure_s:g} s (flat_capture.min_exposure)"
        )
    return f"the sky is too faint for the longest exposure, {limits.max_exposure_s:g} s (flat_capture.max_exposure)"
