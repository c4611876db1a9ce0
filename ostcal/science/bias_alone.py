"""What a frame from which a bias alone is subtracted can be wrong by, from what was measured with the bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.store import MasterStore
from ostcal.science.match import DarkMix


def bias_alone_warning(key: GroupKey, dark: DarkMix) -> str:
    """Return the line about a science frame without dark current.

    Raises
    ------
    StorageError
        If the attributes of the bias cannot be read.
    """
    bias = dark.parts[0].master
    measured = _measured_with(bias)
    time_s = key.exposure_time_s
    current, drift_adu = _number(measured, "dark_current_adu_per_s"), _number(measured, "bias_drift_adu")
    parts = [f"the bias alone is subtracted, no dark current: {dark.description}"]
    if current is None:
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
        parts.append(f"the bias was taken at {bias_c:.4g} C, the frame at {frame_c:.4g} C")
    return f"{'; '.join(parts)}; take darks of this exposure"


def _measured_with(master: LibraryMaster) -> Mapping[str, Any]:
    """Return what was measured of the camera when a master was made; empty where it is not stored."""
    if not isinstance(master.plane, StorePlane):
        return {}
    stored = MasterStore(master.plane.store).attributes(master.record.name).get("camera_properties")
    return stored if isinstance(stored, Mapping) else {}


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
