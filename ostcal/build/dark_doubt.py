"""How wrong a flat can be whose dark is not the right one, in ADU and in per cent of its level.

From what the run measured: dark current and how far the level of bias frames moves. What was not measured is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ostcal.build.plan import MasterPlan
from ostcal.build.prepare import PreparedMaster
from ostcal.frames import FrameType
from ostcal.inputs.sensor_temperature import STEADY_C, sensor_key
from ostcal.naming import degrees_text

DOUBLING_C = 6.0
"""Degrees in which dark current doubles."""
LEAST_ADU = 1.0
"""Less than this that a dark of another temperature leaves in is not said."""


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
            lines += _of_other_temperature(master)
            continue
        lines.append(f"{plan.name}: {what}{_figures(master)}")
    return lines


def _of_other_temperature(master: PreparedMaster) -> list[str]:
    """Return the line about the dark of a flat whose sensor had another temperature; none where it hardly matters."""
    plan = master.plan
    flat_c = sensor_key(plan.group).temperature_c
    darks = plan.dark.choice.candidates if plan.dark is not None else ()
    apart = [
        (abs(dark_c - flat_c), dark_c, dark.label)
        for dark in darks
        if dark.key.frame_type is FrameType.DARK
        and flat_c is not None
        and (dark_c := dark.key.temperature_c) is not None
    ]
    degrees, dark_c, label = max(apart, default=(0.0, 0.0, ""))
    if flat_c is None or degrees <= STEADY_C + 1e-6:
        return []
    seconds = max(plan.exposure_times_s) * (1.0 - 2.0 ** ((dark_c - flat_c) / DOUBLING_C))
    current, level_adu = _dark_current_adu_per_s(master), _level_adu(master)
    left = f"dark current is not measured, 1 ADU/s of it leaves {seconds:+.2g} ADU"
    if current is not None:
        if abs(seconds * current) <= LEAST_ADU:
            return []
        share = f", {100 * seconds * current / level_adu:+.2g} % of its {level_adu:.0f} ADU" if level_adu else ""
        left = f"if dark current doubles in {DOUBLING_C:g} C that leaves {seconds * current:+.3g} ADU{share}"
    return [
        f"{plan.name}: its dark {label} is of {degrees_text(dark_c)}, the flats of {degrees_text(flat_c)}: {left}; "
        f"take darks of {degrees_text(flat_c)}"
    ]


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
    flat_c, measured_c = sensor_key(master.plan.group).temperature_c, camera.dark_rate_temperature_c
    degrees = 0.0 if flat_c is None or measured_c is None else flat_c - measured_c
    return float(camera.dark_rate_adu_per_s * 2.0 ** (degrees / DOUBLING_C))


def _temperatures(plan: MasterPlan) -> str:
    """Say at which temperatures flat and bias were taken, where they differ."""
    if plan.dark is None:
        return ""
    bias_c, flat_c = plan.dark.choice.first.key.temperature_c, sensor_key(plan.group).temperature_c
    if bias_c is None or flat_c is None or abs(bias_c - flat_c) < 1:
        return ""
    return f"; the bias was taken at {bias_c:.4g} C, the flats at {flat_c:.4g} C"
