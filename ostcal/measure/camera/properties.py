"""Properties of a camera, measured on the frames its masters are made of: read noise, gain, full well, linearity, bits.

All of it rests on differences of two frames of one series, in which everything that is the same in both (pattern,
response, vignetting) is gone and noise is left: the photon-transfer method of Janesick, "Scientific Charge-Coupled
Devices" (SPIE 2001, chapter 2) and "Photon Transfer" (SPIE 2007), and of EMVA standard 1288, release 4.0, 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ostcal.frames import FULL_SCALE_ADU, FullScaleCard
from ostcal.measure.camera.dark_current import measure_dark_current
from ostcal.measure.camera.full_scale import find_full_scale, with_bend
from ostcal.measure.camera.linearity import measure_linearity
from ostcal.measure.camera.linearity_curve import fit_linearity_curve
from ostcal.measure.camera.measured import CameraProperties, FullScale, Measured, SurveyedSeries
from ostcal.measure.camera.photon_transfer import (
    TransferCurve,
    measure_full_well,
    measure_gain,
    transfer_curve,
)
from ostcal.measure.camera.read_noise import read_noise


def measure_camera(
    *,
    bias: Sequence[SurveyedSeries] = (),
    darks: Sequence[SurveyedSeries] = (),
    flats: Sequence[SurveyedSeries] = (),
    word_adu: float | None = None,
    cards: Sequence[FullScaleCard] = (),
    configured_adu: float | None = None,
    full_scale: FullScale | None = None,
) -> CameraProperties:
    """Measure what the frames allow of a camera at one setting and temperature.

    All series are of the same camera, gain, offset, binning and readout mode, and of the same sampled rows. The highest
    value that a sample can hold is `word_adu`, ``None`` for floats; `cards` and `configured_adu` as of
    `find_full_scale`, unless `full_scale` is known already.
    """
    reasons: dict[str, str] = {}
    notes: list[str] = []
    step_adu, bits_used = _converter([*bias, *darks, *flats], reasons)
    noise, spread = read_noise(bias, darks, flats, step_adu, reasons, notes)
    curve = transfer_curve(flats, [s for s in (*bias, *darks) if not s.subtracted], notes)
    gain = _or_reason("gain_e_per_adu", curve if isinstance(curve, str) else measure_gain(curve), reasons)
    full = full_scale
    is_wider = any(one.survey.highest_word_adu > FULL_SCALE_ADU for one in (*bias, *darks, *flats))
    if word_adu is None and step_adu is not None and is_wider:
        word_adu = float(FULL_SCALE_ADU)
    if full is None and (word_adu is not None or configured_adu is not None):
        found = find_full_scale(
            flats=flats,
            darks=[*bias, *darks],
            word_adu=math.inf if word_adu is None else word_adu,
            cards=cards,
            configured_adu=configured_adu,
            step_adu=step_adu,
            read_noise_adu=noise.value if noise is not None else None,
        )
        full = with_bend(found, curve, configured_adu)
        if full is None:
            notes.append(
                "full scale is not known: samples have more than 16 bits; state it as quality.full_scale_adu or in the "
                "card SATURATE"
            )
    if full is not None:
        notes += full.notes if full.is_whole_word else (*full.notes, full.in_words)
    if bits_used is None and step_adu is not None and (bits_used := _bits_of(full)) is not None:
        reasons.pop("bits_used", None)
    if gain is None or noise is None:
        reasons["read_noise_e"] = "it needs read noise and gain, both in ADU"
    rate, dark_ladder = measure_dark_current(bias, darks)
    dark_current = _or_reason("dark_current_adu_per_s", rate, reasons)
    if dark_current is None or gain is None:
        reasons["dark_current_e_per_s"] = reasons["dark_current_adu_per_s"] if gain else "it needs the gain"
    return CameraProperties(
        gain_e_per_adu=gain,
        read_noise_adu=noise,
        read_noise_spread_adu=spread,
        read_noise_e=noise * gain if noise is not None and gain is not None else None,
        dark_current_adu_per_s=dark_current,
        dark_current_e_per_s=dark_current * gain if dark_current is not None and gain is not None else None,
        bits_used=bits_used,
        step_adu=step_adu,
        full_scale=full,
        dark_ladder=dark_ladder,
        **_of_the_response(curve, gain, full, reasons, notes),
        reasons=reasons,
        notes=tuple(notes),
    )


def _bits_of(full: FullScale | None) -> int | None:
    """Return the bits of a converter that ends below 16 bits."""
    if full is None or full.adu >= 65535 or not math.log2(full.adu + 1).is_integer():
        return None
    return int(math.log2(full.adu + 1))


def _of_the_response(
    curve: TransferCurve | str,
    gain: Measured | None,
    full: FullScale | None,
    reasons: dict[str, str],
    notes: list[str],
) -> dict[str, Any]:
    """Return the properties that flats show beyond the gain: full well, linearity and its curve."""
    full_well = None
    if not isinstance(curve, str) and gain is not None:
        full_well = measure_full_well(curve, full.adu if full is not None else None)
    if full_well is None:
        reasons["full_well_e"] = "no flats reach saturation" if gain is not None else "it needs the gain"
    linearity = curve if isinstance(curve, str) else measure_linearity(curve)
    values: dict[str, Any] = {
        "full_well_adu": full_well.value if full_well is not None else None,
        "full_well_e": full_well * gain if full_well is not None and gain is not None else None,
        "linearity_percent": _or_reason("linearity_percent", linearity, reasons),
    }
    if isinstance(curve, str):
        return {**values, "linearity_curve": None}
    fitted = fit_linearity_curve(curve, full.adu if full is not None else None)
    response = None if isinstance(fitted, str) else fitted
    if isinstance(fitted, str):
        reasons["linearity_curve"] = fitted
    if response is not None:
        bend = "and levels are in proportion with the light"
        if response.coefficients:
            bend = f"levels are up to {response.largest_correction_percent:.2g} % off a straight line"
        notes.append(
            f"linearity: known up to {response.highest_level_adu:.5g} ADU to {response.uncertainty_percent:.2g} %, "
            f"{bend}"
        )
    linear_end_adu = None
    if math.isfinite(curve.linear_end_adu):
        linear_end_adu = curve.linear_end_adu + curve.dark_level_adu
    return {
        **values,
        "linearity_curve": response,
        "linear_end_adu": linear_end_adu,
        "photon_transfer": curve.summary(),
    }


def _or_reason(name: str, result: Measured | str, reasons: dict[str, str]) -> Measured | None:
    """Return what was measured; keep the reason if it was not."""
    if isinstance(result, str):
        reasons[name] = result
        return None
    return result


def _converter(series: Sequence[SurveyedSeries], reasons: dict[str, str]) -> tuple[float | None, int | None]:
    """Return the step of the converter, ADU, and the bits it has.

    The step is the lowest bit that varies in any frame of the camera. Its bits are 16 less those that never vary below,
    or what the highest value shows: whole numbers below 4096 may be of 12 bits or of 16, those above 65535 of 17 or of
    32, and only frames that reach the end of the range decide.
    """
    varying = 0
    for one in series:
        varying |= one.survey.varying_bits
    if varying == 0:
        why = "samples are floats or do not vary" if series else "no frames"
        reasons.update(step_adu=why, bits_used=why)
        return None, None
    step_adu = float(varying & -varying)
    highest = int(max(one.survey.highest_word_adu for one in series))
    bits = max(1, highest.bit_length())
    if step_adu > 1 and bits <= 16:
        return step_adu, 16 - int(math.log2(step_adu))
    if bits == 16 or highest == 2**bits - step_adu:
        return step_adu, bits - int(math.log2(step_adu))
    reasons["bits_used"] = f"no frame reaches the end of the range: the highest value is {highest} ADU"
    return step_adu, None
