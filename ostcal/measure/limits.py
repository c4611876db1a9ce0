"""Limits of the checks, each with its meaning, unit and bounds; the configuration and its page are made from them.

Without numpy, because the configuration is read before anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

PIXELS = "share of the pixels"
SAMPLES = "share of the samples"
FULL_SCALE = "share of full scale"
LEVEL = "share of the level"
NOISES = "noise of a sample"


@dataclass(frozen=True)
class Limit:
    """What a limit means: the text of the configuration."""

    meaning: str
    unit: str = ""
    ge: float = 0
    """The smallest value it can be set to."""


@dataclass(frozen=True, kw_only=True)
class FrameLimits:
    """Limits of the checks of single frames and of a series."""

    saturated_share: Annotated[float, Limit("Saturated pixels of a frame: warning above.", PIXELS)] = 0.01
    """Hot pixels of a long dark reach 0.2 %."""
    saturated_share_fail: Annotated[float, Limit("The same: failure above.", PIXELS)] = 0.1
    """A tenth of the frame says nothing."""
    zero_share: Annotated[
        float,
        Limit("Pixels of a frame at 0: warning above; the offset is too low, or rows were not read.", PIXELS),
    ] = 0.001
    """With an offset 3.1 noises above 0 it is 0.1 %, and the mean of the pixels is wrong."""
    zero_share_fail: Annotated[float, Limit("The same: failure above.", PIXELS)] = 0.05
    """Rows that were never read out, or an offset of less than 1.6 noises."""
    missing_share: Annotated[float, Limit("Pixels of a frame that are no numbers: warning above.", PIXELS)] = 0.01
    """More than a mask of bad pixels and columns."""
    dark_level_share: Annotated[float, Limit("Level of a bias or dark: warning above.", FULL_SCALE)] = 0.25
    """Offsets are below 10 %, and a dark this bright is mostly shot noise."""
    temperature_c: Annotated[
        float, Limit("Distance of a frame from the median temperature of its series: warning above.", "degrees C")
    ] = 1.0
    """Dark current then changes by 12 % if it doubles in 6 degrees."""
    set_point_c: Annotated[float, Limit("Distance of a frame from the set point: warning above.", "degrees C")] = 1.0
    """The same as while capturing."""
    drift_noises: Annotated[float, Limit("Change of the level of darks over the series: warning above.", NOISES)] = 0.5
    """Adds 2 % to the variance of a pixel."""
    jump_noises: Annotated[
        float, Limit("Jump of the level of darks, of one frame or from one frame on: warning above.", NOISES)
    ] = 1.0
    """With it rejection at 3 sigma begins to see it."""
    least_adu: Annotated[float, Limit("No change of a level below this counts.", "ADU")] = 1.0
    """Quiet sensors round to 1 ADU."""
    leak_share: Annotated[
        float,
        Limit(
            "Light in a whole series of darks: warning above this, plus leak_share_per_s for each second.", FULL_SCALE
        ),
    ] = 0.001
    """66 ADU at 16 bits, as while capturing."""
    leak_share_per_s: Annotated[float, Limit("Added to leak_share for each second of exposure.", FULL_SCALE)] = 1e-4
    """6.6 ADU: dark current of a warm sensor."""
    gradient_share: Annotated[
        float,
        Limit(
            "Slope across a series of darks: warning above this, plus gradient_share_per_s for each second.", FULL_SCALE
        ),
    ] = 5e-4
    """33 ADU; slopes that amplifiers leave in bias frames are below 20."""
    gradient_share_per_s: Annotated[
        float, Limit("Added to gradient_share for each second of exposure.", FULL_SCALE)
    ] = 2e-5
    """1.3 ADU: glow reaches into the frame; most of it is in cells that medians leave out."""
    rise_share: Annotated[
        float, Limit("A dark brighter than the others by this share is said to have seen light.", FULL_SCALE)
    ] = 5e-4
    """33 ADU is light rather than a change of the offset."""
    flat_low_share: Annotated[float, Limit("Level of a flat: warning below.", FULL_SCALE)] = 0.2
    """Below it the photon noise of a flat is more than twice that of a full one."""
    flat_high_share: Annotated[float, Limit("Level of a flat: warning above.", FULL_SCALE)] = 0.8
    """Above it sensors leave linearity, and the brightest pixels may be full."""
    lamp_drift_share: Annotated[
        float, Limit("Change of the level of flats of one exposure over the series: warning above.", LEVEL)
    ] = 0.02
    """Lamps that are warm stay within 1 %."""
    lamp_jump_share: Annotated[float, Limit("Jump of the level of flats of one exposure: warning above.", LEVEL)] = 0.02
    """Normal lamps scatter by 0.3 %, of which it is 7 sigma."""
    lamp_scatter_share: Annotated[
        float, Limit("Scatter of the levels of flats of one exposure about their trend: warning above.", LEVEL)
    ] = 0.01
    """Standard deviation: three times that of a normal lamp."""
    twilight_share: Annotated[
        float,
        Limit(
            "A smooth change of the level of flats by more is taken as that of the sky, and the lamp is not judged.",
            LEVEL,
        ),
    ] = 0.25
    """Lamps warm up by 10 to 20 %."""
    flat_shape_share: Annotated[
        float,
        Limit("A part of a flat against the others of its series (condensation, clouds): warning above.", LEVEL),
    ] = 0.01
    """Slopes aside: an error of 1 % in what is divided by it."""
    flat_gradient_share: Annotated[
        float, Limit("Slope of a flat against the others of its series: warning above.", LEVEL)
    ] = 0.05
    """From edge to edge: twilight turns by 1 to 3 % in a series."""
    dark_shape_noises: Annotated[
        float, Limit("Parts of a dark against the others of its series: warning above.", NOISES)
    ] = 0.5
    """Range of the cells of a dark against the median of the series."""
    residual_factor: Annotated[
        float, Limit("Noise of a frame over that of the median frame: warning above.", "times")
    ] = 1.3
    """Clean ones differ by 2 %, up to 15 % among 4 or 5 frames (see `ostcal.measure.frames.survey`); a frame with 1.3
    has a weight of 0.6."""
    outlying_share: Annotated[
        float, Limit("Pixels of a frame further than 5 noises from the other frames: warning above.", PIXELS)
    ] = 0.001
    """A cosmic ray takes 4 pixels, a dark of 300 s has 0.05 %."""
    outlying_factor: Annotated[float, Limit("And above this many times those of the median frame.", "times")] = 4.0
    """A long dark has as many in every frame."""
    flat_outlying_share_fail: Annotated[
        float, Limit("Pixels of a flat that differ from the other frames: failure above.", PIXELS)
    ] = 0.25
    """A quarter of the pixels shows something else: another kind of frame, or half of one."""
    dark_outlying_share_fail: Annotated[
        float, Limit("Pixels of a bias or dark that differ from the other frames: failure above.", PIXELS)
    ] = 0.02
    """A picture of the sky, or rows that are missing; a picture of Jupiter has 4 %."""


@dataclass(frozen=True, kw_only=True)
class MasterLimits:
    """Limits of the checks of masters."""

    frames: Annotated[int, Limit("Frames of a master: warning below.", "frames", ge=1)] = 20
    """The master then adds more than 2.5 % to the noise of a frame."""
    rejected_share: Annotated[float, Limit("Samples rejected in all: warning above.", SAMPLES)] = 0.05
    """Clean series lose 0.1 to 2 %, real ones in our tests up to 1 %."""
    rejected_share_fail: Annotated[float, Limit("The same: failure above.", SAMPLES)] = 0.3
    rejected_region_share: Annotated[
        float, Limit("Samples rejected in one region more than in the median region: warning above.", SAMPLES)
    ] = 0.1
    """A picture of the sky among four darks gave 0.21."""
    sample_noise_factor: Annotated[
        float,
        Limit("Scatter of the samples of a pixel over the noise from frame to frame (drift): warning above.", "times"),
    ] = 1.3
    noise_factor_low: Annotated[
        float, Limit("Noise from pixel to pixel over what the samples predict: warning below.", "times")
    ] = 0.6
    """Less means noise that whole rows or columns share."""
    hot_share: Annotated[float, Limit("Hot pixels: warning above.", PIXELS)] = 0.03
    """Cameras of our tests: 0.003 % to 1.5 % (CCD, 1200 s)."""
    hot_share_fail: Annotated[float, Limit("The same: failure above.", PIXELS)] = 0.2
    cold_share: Annotated[float, Limit("Cold pixels: warning above.", PIXELS)] = 0.01
    dead_share: Annotated[float, Limit("Dead pixels: warning above.", PIXELS)] = 0.002
    noisy_share: Annotated[float, Limit("Noisy pixels: warning above.", PIXELS)] = 0.02
    telegraph_share: Annotated[float, Limit("Pixels with telegraph noise: warning above.", PIXELS)] = 0.01
    saturated_share: Annotated[float, Limit("Saturated pixels of a bias or dark: warning above.", PIXELS)] = 0.005
    """Hot pixels of a long dark reach 0.2 %."""
    bad_column_share: Annotated[float, Limit("Bad columns: warning above.", "share of the columns")] = 0.01
    no_data_share_fail: Annotated[float, Limit("Pixels without data: failure above; any is a warning.", PIXELS)] = 0.01
    glow_noise_factor: Annotated[
        float,
        Limit(
            "Noise of the brightest corner or edge over that of the median region (amplifier glow): warning above.",
            "times",
        ),
    ] = 8.0
    """Glow can be subtracted, its noise cannot."""
    dark_structure_noise: Annotated[
        float,
        Limit(
            "Difference of bright and dim parts of a bias or dark: warning above this and dark_structure_adu.",
            "noise of a frame",
        ),
    ] = 20.0
    dark_structure_adu: Annotated[float, Limit("See dark_structure_noise.", "ADU")] = 66.0
    """0.1 % of 16 bits."""
    dark_light_noise: Annotated[
        float,
        Limit(
            "Inner parts of a dark above the brightest border (light): warning above this and dark_light_adu.",
            "noise of a frame",
        ),
    ] = 1.0
    dark_light_adu: Annotated[float, Limit("See dark_light_noise.", "ADU")] = 5.0
    """Through a slit, light gave 25 ADU in real darks of 300 s: 1.5 times the noise."""
    flat_level_low: Annotated[float, Limit("Level of a flat: warning below.", FULL_SCALE)] = 0.05
    flat_level_high: Annotated[float, Limit("Level of the brightest parts of a flat: warning above.", FULL_SCALE)] = (
        0.85
    )
    flat_level_fail: Annotated[float, Limit("The same: failure above.", FULL_SCALE)] = 0.95
    flat_saturated_share: Annotated[float, Limit("Saturated pixels of a flat: warning above.", PIXELS)] = 0.001
    flat_saturated_share_fail: Annotated[float, Limit("The same: failure above.", PIXELS)] = 0.05
    flat_not_positive_share_fail: Annotated[
        float, Limit("Pixels of a flat at or below zero: failure above; any is a warning.", PIXELS)
    ] = 0.01
    flat_signal_to_noise: Annotated[float, Limit("Signal to noise of a pixel of a master flat: warning below.")] = 100.0
    """100 adds 1 % to every pixel that is divided by it."""
    flat_signal_to_noise_fail: Annotated[float, Limit("The same: failure below.")] = 10.0
    vignetting: Annotated[float, Limit("Darkest corner of a flat over its centre: warning below.", LEVEL)] = 0.3
    """Two stops of a fast lens are 0.25."""
    flat_tilt: Annotated[float, Limit("Difference of opposite sides of a flat: warning above.", LEVEL)] = 0.3
    dust_depth: Annotated[float, Limit("Depth of the deepest shadow of dust: warning above.", LEVEL)] = 0.3
    level_shift_adu: Annotated[
        float,
        Limit("Change of the level against the previous master, and above the noise of a frame: warning above.", "ADU"),
    ] = 5.0
    changed_noise_factor: Annotated[
        float,
        Limit("Difference from the previous master over what the noise of both predicts: warning above.", "times"),
    ] = 2.0
    new_hot_share: Annotated[
        float, Limit("Pixels that became hot since the previous master: warning above.", PIXELS)
    ] = 0.005
    changed_share: Annotated[
        float,
        Limit(
            "Area of a flat that changed by more than 1 % since the previous one: warning above.", "share of the area"
        ),
    ] = 0.02
    """Of parts of 16 x 16 pixels."""


@dataclass(frozen=True, kw_only=True)
class DefectLimits:
    """From where on a pixel counts as a defect."""

    hot_sigma: Annotated[
        float,
        Limit("Hot and cold pixels: distance from their neighbours in sigma of the master's own noise.", "sigma"),
    ] = 10.0
    """The master's own noise is that of its samples over sqrt(n)."""
    neighbour_spreads: Annotated[
        float, Limit("And in spreads of the pixels around, fixed pattern included.", "spreads")
    ] = 6.0
    """Beyond 6, chance gives 0.1 pixels of 61 MP."""
    own_sigma: Annotated[float, Limit("And in sigma of the pixel's own mean.", "sigma")] = 3.0
    """A cosmic ray that was kept lifts the mean by 1 of these for any n."""
    low_response: Annotated[
        float, Limit("Response of a pixel of a flat against its neighbours: cold below.", "share")
    ] = 0.8
    """20 sigma of a usual non-uniformity of 1 %."""
    dead_response: Annotated[float, Limit("The same: dead below.", "share")] = 0.5
    high_response: Annotated[float, Limit("The same: hot above.", "share")] = 1.2
    noisy_factor: Annotated[
        float, Limit("Scatter of the samples of a pixel over what is expected: noisy above.", "times")
    ] = 2.0
    """At few frames the width of chi-square asks for more."""
    noisy_sigma: Annotated[float, Limit("And above what chance may do, in sigma.", "sigma")] = 6.0
    """1e-9, 0.06 pixels of 61 MP."""
    telegraph_samples: Annotated[
        int, Limit("Samples of a pixel rejected more than around it: telegraph noise from this on.", "samples", ge=1)
    ] = 3
    """One or two are cosmic rays."""
    telegraph_share: Annotated[float, Limit("And at least this share of its samples.", SAMPLES)] = 0.1
    column_spreads: Annotated[
        float, Limit("Offset of a column from its neighbours in spreads of such offsets: bad above.", "spreads")
    ] = 8.0
    column_noise: Annotated[float, Limit("And in spreads of the pixels.", "spreads")] = 1.0
    """So that a column is only bad where it is seen."""
    column_response: Annotated[float, Limit("And in a flat by this share of the level.", LEVEL)] = 0.03
    """Shadows of dust have edges of 1 % in a column."""
    column_share: Annotated[
        float, Limit("Or this share of the pixels of a column differs from the neighbours.", PIXELS)
    ] = 0.5
    """In one band of rows."""
