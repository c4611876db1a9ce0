"""How wrong a flat can be whose dark is not the right one, in ADU and in per cent of its level.

From what the run measured: dark current and how far the level of bias frames moves. What was not measured is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ostcal.build.plan import MasterPlan
from ostcal.build.prepare import PreparedMaster

DOUBLING_C = 6.0
"""Degrees in which dark current doubles."""


def doubtful_darks(prepared: Sequence[PreparedMaster]) -> list[str]:
    """Return a line for each flat from which no dark of its exposure and temperature is subtracted."""
    lines = []
    for master in prepared:
        plan = master.plan
        if not plan.is_flat or plan.group.key.dark_subtracted:
            continue
        if plan.dark is None:
            what = "its bias is subtracted already, no dark without its bias fits and none is subtracted"
        elif plan.dark.choice.kind == "bias":
            choice = plan.dark.choice
            why = f" ({choice.refused})" if choice.refused else ""
            what = f"no dark fits{why}, {choice.description} is subtracted"
        else:
            continue
        lines.append(f"{plan.name}: {what}{_figures(master)}")
    return lines


def _figures(master: PreparedMaster) -> str:
    """Return what the missing dark current and a bias that moved can make of the level; "" where nothing is known."""
    plan = master.plan
    level_adu = _level_adu(master)
    if level_adu is None:
        return ""
    exposure_s = max(plan.exposure_times_s)
    error_adu, parts = 0.0, []
    current = _dark_current_adu_per_s(master)
    if current is not None:
        current_adu = exposure_s * current
        error_adu += current_adu
        parts.append(f"dark current {current_adu:.2g} ADU")
    drift_adu = master.camera.bias_drift_adu if master.camera is not None else None
    if drift_adu is not None and plan.dark is not None:
        error_adu = math.hypot(error_adu, drift_adu)
        parts.append(f"bias drift {drift_adu:.2g} ADU")
    text = ""
    if parts:
        share = error_adu / level_adu
        text = (
            f": it can be wrong by {error_adu:.2g} ADU ({', '.join(parts)}), {100 * share:.2g} % of its"
            f" {level_adu:.0f} ADU"
        )
    if current is None:
        share = exposure_s / level_adu
        text += (
            f"; dark current is not measured, 1 ADU/s of it would be {exposure_s:.2g} ADU, {100 * share:.2g} % of its"
            " level"
        )
    return text + _temperatures(plan)


def _level_adu(master: PreparedMaster) -> float | None:
    """Return the level of the flats above their bias; ``None`` where they were not surveyed or hold no light."""
    if master.survey is None or not np.isfinite(master.survey.mean_adu).any():
        return None
    level_adu = float(np.nanmedian(master.survey.mean_adu))
    bias_adu = master.camera.bias_level_adu if master.camera is not None else None
    if not master.plan.group.key.bias_subtracted and bias_adu is not None:
        level_adu -= bias_adu
    return level_adu if level_adu > 0 else None


def _dark_current_adu_per_s(master: PreparedMaster) -> float | None:
    """Return the dark current at the temperature of the flats; ``None`` where none was measured."""
    camera = master.camera
    if camera is None or camera.dark_rate_adu_per_s is None:
        return None
    flat_c, measured_c = master.plan.group.key.temperature_c, camera.dark_rate_temperature_c
    degrees = 0.0 if flat_c is None or measured_c is None else flat_c - measured_c
    return float(camera.dark_rate_adu_per_s * 2.0 ** (degrees / DOUBLING_C))


def _temperatures(plan: MasterPlan) -> str:
    """Say at which temperatures flat and bias were taken, where they differ."""
    if plan.dark is None:
        return ""
    bias_c, flat_c = plan.dark.choice.first.key.temperature_c, plan.group.key.temperature_c
    if bias_c is None or flat_c is None or abs(bias_c - flat_c) < 1:
        return ""
    return f"; the bias was taken at {bias_c:.4g} C, the flats at {flat_c:.4g} C"
