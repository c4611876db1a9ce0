"""What a frame from which a bias alone is subtracted can be wrong by, from what was measured with the bias."""

from __future__ import annotations

from collections.abc import Sequence

from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster
from ostcal.naming import degrees_text
from ostcal.science.dark_error import measured_with, number_in, other_temperatures
from ostcal.science.matched import DarkMix, MatchRules


def bias_alone_warning(key: GroupKey, dark: DarkMix, library: Sequence[LibraryMaster], rules: MatchRules) -> str:
    """Return the line about a science frame without dark current.

    Raises
    ------
    StorageError
        If the attributes of the bias cannot be read.
    """
    bias = dark.parts[0].master
    measured = measured_with(bias)
    time_s = key.exposure_time_s
    current, drift_adu = number_in(measured, "dark_current_adu_per_s"), number_in(measured, "bias_drift_adu")
    parts = [f"the bias alone is subtracted, no dark current: {dark.description}"]
    if dark.refused:
        parts.append(dark.refused)
    of_others = other_temperatures(key, bias, library, rules)
    if of_others:
        parts.append(of_others)
    elif current is None:
        parts.append(f"each ADU/s of dark current leaves {time_s:.3g} ADU in a frame of {time_s:g} s")
    else:
        left_adu = max(0.0, current) * time_s
        parts.append(
            f"a dark current of {current:.3g} ADU/s, as measured with it, leaves {left_adu:.3g} ADU in a frame of"
            f" {time_s:g} s"
        )
    if drift_adu is not None:
        parts.append(f"its level moved by up to {drift_adu:.2g} ADU")
    bias_c, frame_c = bias.key.temperature_c, key.temperature_c
    if bias_c is not None and frame_c is not None and abs(bias_c - frame_c) >= 1:
        parts.append(f"the bias was taken at {degrees_text(bias_c)}, the frame at {degrees_text(frame_c)}")
    return f"{'; '.join(parts)}; take darks of this exposure"
