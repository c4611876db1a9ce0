"""Properties of a camera, measured on the frames its masters are made of: read noise, gain, full well, linearity, bits.

All of it rests on differences of two frames of one series, in which everything that is the same in both (pattern,
response, vignetting) is gone and noise is left: the photon-transfer method of Janesick, "Scientific Charge-Coupled
Devices" (SPIE 2001, chapter 2) and "Photon Transfer" (SPIE 2007), and of EMVA standard 1288, release 4.0, 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ostcal.measure.camera.measured import CameraProperties, Measured, SurveyedSeries
from ostcal.measure.camera.photon_transfer import measure_full_well, measure_gain, measure_linearity, transfer_curve
from ostcal.measure.camera.read_noise import read_noise


def measure_camera(
    *,
    bias: Sequence[SurveyedSeries] = (),
    darks: Sequence[SurveyedSeries] = (),
    flats: Sequence[SurveyedSeries] = (),
    saturation_adu: float | None = None,
) -> CameraProperties:
    """Measure what the frames allow of a camera at one setting and temperature.

    All series are of the same camera, gain, offset, binning and readout mode, and of the same sampled rows. The highest
    value of a sample is `saturation_adu`, if it is known. The dark current comes from masters: the report measures it.
    """
    reasons: dict[str, str] = {}
    notes: list[str] = []
    step_adu, bits_used = _converter([*bias, *darks, *flats], reasons)
    noise, spread = read_noise(bias, darks, step_adu, reasons, notes)
    curve = transfer_curve(flats, [s for s in (*bias, *darks) if not s.subtracted], notes)
    gain = _or_reason("gain_e_per_adu", curve if isinstance(curve, str) else measure_gain(curve), reasons)
    full_well = None if isinstance(curve, str) or gain is None else measure_full_well(curve, saturation_adu)
    if full_well is None:
        reasons["full_well_e"] = "no flats reach saturation" if gain is not None else "it needs the gain"
    if gain is None or noise is None:
        reasons["read_noise_e"] = "it needs read noise and gain, both in ADU"
    linearity = curve if isinstance(curve, str) else measure_linearity(curve)
    linearity_percent = _or_reason("linearity_percent", linearity, reasons)
    for name in ("dark_current_adu_per_s", "dark_current_e_per_s"):
        reasons[name] = "no masters of different exposures were compared"
    return CameraProperties(
        gain_e_per_adu=gain,
        read_noise_adu=noise,
        read_noise_spread_adu=spread,
        read_noise_e=noise * gain if noise is not None and gain is not None else None,
        full_well_adu=full_well.value if full_well is not None else None,
        full_well_e=full_well * gain if full_well is not None and gain is not None else None,
        linearity_percent=linearity_percent,
        bits_used=bits_used,
        step_adu=step_adu,
        photon_transfer=None if isinstance(curve, str) else curve.summary(),
        reasons=reasons,
        notes=tuple(notes),
    )


def _or_reason(name: str, result: Measured | str, reasons: dict[str, str]) -> Measured | None:
    """Return what was measured; keep the reason if it was not."""
    if isinstance(result, str):
        reasons[name] = result
        return None
    return result


def _converter(series: Sequence[SurveyedSeries], reasons: dict[str, str]) -> tuple[float | None, int | None]:
    """Return the step of the converter, ADU, and the bits it has.

    The step is the lowest bit that varies in any frame of the camera. Its bits are 16 less those that never vary below,
    or what the highest value shows: whole numbers below 4096 may be of 12 bits or of 16, and only frames that reach the
    end of the range decide.
    """
    varying = 0
    for one in series:
        varying |= one.survey.varying_bits
    if varying == 0:
        why = "samples are floats or do not vary" if series else "no frames"
        reasons.update(step_adu=why, bits_used=why)
        return None, None
    step_adu = float(varying & -varying)
    if step_adu > 1:
        return step_adu, 16 - int(math.log2(step_adu))
    highest = int(max(float(np.max(one.survey.maximum_adu)) for one in series))
    bits = max(1, highest.bit_length())
    if bits >= 16 or highest == 2**bits - 1:
        return step_adu, bits
    reasons["bits_used"] = f"no frame reaches the end of the range: the highest value is {highest} ADU"
    return step_adu, None
