"""Find the brightness of a panel that brings a flat of a fixed exposure to its level: pure decisions on the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ostcal.capture.auto_exposure import SIGNAL_FROM, ExposureRules, Trial, is_accepted, is_clipped


@dataclass(frozen=True, kw_only=True)
class PanelTrial:
    """A frame taken at a brightness of the panel."""

    brightness: int
    trial: Trial


def next_brightness(
    rules: ExposureRules, bias_adu: float, trials: Sequence[PanelTrial], first: int, highest: int
) -> int | None:
    """Return the brightness to try next, `first` at the start; ``None`` if the last trial is accepted.

    The light grows with the brightness, not always in proportion; a frame that is too bright or too dark bounds it.

    Raises
    ------
    LookupError
        If no brightness is left: with the reason.
    """
    if not trials:
        return min(max(first, 1), highest)
    last = trials[-1]
    if is_accepted(rules, last.trial):
        return None
    too_dark = max((t.brightness for t in trials if not _is_too_bright(rules, t)), default=0)
    too_bright = min((t.brightness for t in trials if _is_too_bright(rules, t)), default=highest + 1)
    if too_bright - too_dark <= 1 or len(trials) >= rules.max_attempts + 2:
        raise LookupError(_reason(rules, last, highest))
    signal_adu = last.trial.level_adu - bias_adu
    if is_clipped(rules, last.trial) or signal_adu < SIGNAL_FROM * rules.max_adu:
        wanted = last.brightness // 4 if _is_too_bright(rules, last) else last.brightness * 4
    else:
        wanted = round(last.brightness * (rules.target_adu - bias_adu) / signal_adu)
    wanted = min(max(wanted, 1), highest)
    return wanted if too_dark < wanted < too_bright else (too_dark + too_bright) // 2


def _is_too_bright(rules: ExposureRules, one: PanelTrial) -> bool:
    return one.trial.level_adu > rules.highest_adu or one.trial.saturated_share > rules.saturated_share


def _reason(rules: ExposureRules, last: PanelTrial, highest: int) -> str:
    share = 100 * last.trial.level_adu / rules.max_adu
    change = "shorten" if _is_too_bright(rules, last) else "lengthen"
    return (
        f"{last.trial.exposure_s:g} s at brightness {last.brightness} of {highest} gives {share:.1f} % of full scale,"
        f" and {100 * rules.target_rate:.0f} % is wanted; {change} dark_capture.flat_exposure_time, or raise"
        " flat_capture.count_tolerance"
    )
