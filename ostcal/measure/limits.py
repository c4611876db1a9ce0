"""Limits of the checks, each with its meaning, unit and bounds; the configuration and its page are made from them.

Without numpy, because the configuration is read before anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

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


_Value = TypeVar("_Value", int, float)


def limit(default: _Value, meaning: str, unit: str = "", *, ge: float = 0) -> _Value:
    """Return the field of a limit, whose metadata hold its text for the configuration."""
    return field(default=default, metadata={"limit": Limit(meaning, unit, ge)})


@dataclass(frozen=True, kw_only=True)
class FrameLimits:
    """Limits of the checks of single frames and of a series."""

    saturated_share: float = limit(0.01, "Saturated pixels of a frame: warning above.", PIXELS)
    """Hot pixels of a long dark reach 0.2 %."""
    saturated_share_fail: float = limit(0.1, "The same: failure above.", PIXELS)
    """A tenth of the frame says nothing."""
    zero_share: float = limit(
        0.001, "Pixels of a frame at 0: warning above; the offset is too low, or rows were not read.", PIXELS
    )
    """With an offset 3.1 noises above 0 it is 0.1 %, and the mean of the pixels is wrong."""
    zero_share_fail: float = limit(0.05, "The same: failure above.", PIXELS)
    """Rows that were never read out, or an offset of less than 1.6 noises."""
    missing_share: float = limit(0.01, "Pixels of a frame that are NaN or infinite: warning above.", PIXELS)
    """More than a mask of bad pixels and columns."""
    dark_level_share: float = limit(0.25, "Level of a bias or dark: warning above.", FULL_SCALE)
    """Offsets are below 10 %, and a dark this bright is mostly shot noise."""
    temperature_c: float = limit(
        1.0, "Difference of a frame from the median temperature of its series: warning above.", "degrees C"
    )
    """Dark current then changes by 12 % if it doubles in 6 degrees."""
    set_point_c: float = limit(1.0, "Difference of a frame from the set point: warning above.", "degrees C")
    """The same as while capturing."""
    drift_noises: float = limit(0.5, "Change of the level of darks over the series: warning above.", NOISES)
    """Adds 2 % to the variance of a pixel."""
    jump_noises: float = limit(
        1.0, "Jump of the level of darks, of one frame or of all later frames: warning above.", NOISES
    )
    """With it rejection at 3 sigma begins to see it."""
    mixture_noises: float = limit(
        3.0, "Distance of two groups of bias frames or darks of different levels: failure above.", NOISES
    )
    """From here on rejection would have to take one of them out; and above 5 times least_adu."""
    mixture_share: float = limit(
        0.4, "In addition: least share of the frames in the smaller group.", "share of the frames"
    )
    """About half: the median does not tell which of them is right."""
    least_adu: float = limit(1.0, "Smaller changes of the level are ignored.", "ADU")
    """Quiet sensors round to 1 ADU."""
    leak_share: float = limit(
        0.001,
        "Light in a whole series of darks: warning above this, plus leak_share_per_s for each second.",
        FULL_SCALE,
    )
    """66 ADU at 16 bits, as while capturing."""
    leak_share_per_s: float = limit(1e-4, "Added to leak_share for each second of exposure.", FULL_SCALE)
    """6.6 ADU: dark current of a warm sensor."""
    gradient_share: float = limit(
        5e-4,
        "Slope across a series of darks: warning above this, plus gradient_share_per_s for each second.",
        FULL_SCALE,
    )
    """33 ADU; slopes that amplifiers leave in bias frames are below 20."""
    gradient_share_per_s: float = limit(2e-5, "Added to gradient_share for each second of exposure.", FULL_SCALE)
    """1.3 ADU: glow reaches into the frame; most of it is in cells that medians leave out."""
    rise_share: float = limit(5e-4, "Excess of a dark over the others (light in one frame): warning above.", FULL_SCALE)
    """33 ADU is light rather than a change of the offset."""
    flat_low_share: float = limit(0.2, "Level of a flat: warning below.", FULL_SCALE)
    """Below it the photon noise of a flat is more than twice that of a full one."""
    flat_high_share: float = limit(0.8, "Level of a flat: warning above.", FULL_SCALE)
    """Above it sensors leave linearity, and the brightest pixels may be full."""
    lamp_drift_share: float = limit(
        0.02, "Change of the level of flats of one exposure over the series: warning above.", LEVEL
    )
    """Lamps that are warm stay within 1 %."""
    lamp_jump_share: float = limit(0.02, "Jump of the level of flats of one exposure: warning above.", LEVEL)
    """Normal lamps scatter by 0.3 %, of which it is 7 sigma."""
    lamp_scatter_share: float = limit(
        0.01, "Scatter of the levels of flats of one exposure about their trend: warning above.", LEVEL
    )
    """Standard deviation: three times that of a normal lamp."""
    twilight_share: float = limit(
        0.25,
        "A smooth change of the level of flats above this is taken as twilight; the lamp is not judged.",
        LEVEL,
    )
    """Lamps warm up by 10 to 20 %."""
    flat_shape_share: float = limit(
        0.01,
        "Difference of a part of a flat from the others of its series (condensation, clouds): warning above.",
        LEVEL,
    )
    """Slopes aside: an error of 1 % in what is divided by it. Even and odd rows are compared with it too."""
    flat_gradient_share: float = limit(
        0.05, "Slope of a flat relative to the others of its series: warning above.", LEVEL
    )
    """From edge to edge: twilight turns by 1 to 3 % in a series."""
    dark_shape_noises: float = limit(
        0.5, "Difference of parts of a dark from the others of its series: warning above.", NOISES
    )
    """Range of the cells of a dark against the median of the series; even rows and columns against odd ones."""
    residual_factor: float = limit(
        1.3, "Ratio of the noise of a frame to that of the median frame: warning above.", "times"
    )
    """Clean ones differ by 2 %, up to 15 % among 4 or 5 frames (see `ostcal.measure.frames.survey`); a frame with 1.3
    has a weight of 0.6."""
    outlying_share: float = limit(
        0.001, "Pixels of a frame further than 5 noises from the other frames: warning above.", PIXELS
    )
    """A cosmic ray takes 4 pixels, a dark of 300 s has 0.05 %."""
    outlying_factor: float = limit(4.0, "In addition: ratio to the number of such pixels in the median frame.", "times")
    """A long dark has as many in every frame."""
    flat_outlying_share_fail: float = limit(
        0.25, "Pixels of a flat that differ from the other frames: failure above.", PIXELS
    )
    """A quarter of the pixels shows something else: another kind of frame, or half of one."""
    dark_outlying_share_fail: float = limit(
        0.02, "Pixels of a bias or dark that differ from the other frames: failure above.", PIXELS
    )
    """A picture of the sky, or rows that are missing; a picture of Jupiter has 4 %."""


@dataclass(frozen=True, kw_only=True)
class MasterLimits:
    """Limits of the checks of masters."""

    frames: int = limit(20, "Frames of a master: warning below.", "frames", ge=1)
    """The master then adds more than 2.5 % to the noise of a frame."""
    rejected_share: float = limit(0.05, "Rejected samples in total: warning above.", SAMPLES)
    """Clean series lose 0.1 to 2 %, real ones in our tests up to 1 %."""
    rejected_share_fail: float = limit(0.3, "The same: failure above.", SAMPLES)
    rejected_region_share: float = limit(
        0.1, "Excess of rejected samples in one region over the median region: warning above.", SAMPLES
    )
    """A picture of the sky among four darks gave 0.21."""
    sample_noise_factor: float = limit(
        1.3,
        "Ratio of the scatter of the samples of a pixel to the noise between frames (drift): warning above.",
        "times",
    )
    noise_factor_low: float = limit(
        0.6, "Ratio of the noise between pixels to the noise that the samples predict: warning below.", "times"
    )
    """Less means noise that whole rows or columns share."""
    hot_share: float = limit(0.03, "Hot pixels: warning above.", PIXELS)
    """Cameras of our tests: 0.003 % to 1.5 % (CCD, 1200 s)."""
    hot_share_fail: float = limit(0.2, "The same: failure above.", PIXELS)
    cold_share: float = limit(0.01, "Cold pixels: warning above.", PIXELS)
    dead_share: float = limit(0.002, "Dead pixels: warning above.", PIXELS)
    noisy_share: float = limit(0.02, "Noisy pixels: warning above.", PIXELS)
    telegraph_share: float = limit(0.01, "Pixels with telegraph noise: warning above.", PIXELS)
    saturated_share: float = limit(0.005, "Saturated pixels of a bias or dark: warning above.", PIXELS)
    """Hot pixels of a long dark reach 0.2 %."""
    bad_column_share: float = limit(0.01, "Bad columns: warning above.", "share of the columns")
    no_data_share_fail: float = limit(0.01, "Pixels without data: failure above; any is a warning.", PIXELS)
    glow_noise_factor: float = limit(
        8.0,
        "Ratio of the noise of the brightest corner or edge to the median region (amplifier glow): warning above.",
        "times",
    )
    """Glow can be subtracted, its noise cannot."""
    dark_structure_noise: float = limit(
        20.0,
        "Difference of bright and dim parts of a bias or dark: warning above this and dark_structure_adu.",
        "noise of a frame",
    )
    dark_structure_adu: float = limit(66.0, "See dark_structure_noise.", "ADU")
    """0.1 % of 16 bits."""
    dark_light_noise: float = limit(
        1.0,
        "Inner parts of a dark above the brightest border (light): warning above this and dark_light_adu.",
        "noise of a frame",
    )
    dark_light_adu: float = limit(5.0, "See dark_light_noise.", "ADU")
    """Through a slit, light gave 25 ADU in real darks of 300 s: 1.5 times the noise."""
    flat_level_low: float = limit(0.05, "Level of a flat: warning below.", FULL_SCALE)
    flat_level_high: float = limit(0.85, "Level of the brightest parts of a flat: warning above.", FULL_SCALE)
    flat_level_fail: float = limit(0.95, "The same: failure above.", FULL_SCALE)
    flat_saturated_share: float = limit(0.001, "Saturated pixels of a flat: warning above.", PIXELS)
    flat_saturated_share_fail: float = limit(0.05, "The same: failure above.", PIXELS)
    flat_not_positive_share_fail: float = limit(
        0.01, "Pixels of a flat at or below zero: failure above; any is a warning.", PIXELS
    )
    flat_signal_to_noise: float = limit(100.0, "Signal-to-noise ratio of a pixel of a master flat: warning below.")
    """100 adds 1 % to every pixel that is divided by it."""
    flat_signal_to_noise_fail: float = limit(10.0, "The same: failure below.")
    vignetting: float = limit(0.3, "Ratio of the darkest corner of a flat to its centre: warning below.", LEVEL)
    """Two stops of a fast lens are 0.25."""
    flat_tilt: float = limit(0.3, "Difference of opposite sides of a flat: warning above.", LEVEL)
    dust_depth: float = limit(0.3, "Depth of the deepest dust shadow: warning above.", LEVEL)
    level_shift_adu: float = limit(
        5.0, "Change of the level since the previous master (if also above the noise of a frame): warning above.", "ADU"
    )
    changed_noise_factor: float = limit(
        2.0, "Ratio of the difference from the previous master to the noise of both: warning above.", "times"
    )
    new_hot_share: float = limit(0.005, "Pixels that became hot since the previous master: warning above.", PIXELS)
    changed_share: float = limit(
        0.02, "Area of a flat that changed by more than 1 % since the previous one: warning above.", "share of the area"
    )
    """Of parts of 16 x 16 pixels."""


@dataclass(frozen=True, kw_only=True)
class DefectLimits:
    """Limits above which a pixel counts as a defect."""

    hot_sigma: float = limit(
        10.0, "Hot and cold pixels: difference from their neighbours in sigma of the noise of the master.", "sigma"
    )
    """The master's own noise is that of its samples over sqrt(n)."""
    neighbour_spreads: float = limit(
        6.0, "In addition: difference in spreads of the surrounding pixels, fixed pattern included.", "spreads"
    )
    """Beyond 6, chance gives 0.1 pixels of 61 MP."""
    own_sigma: float = limit(3.0, "In addition: difference in sigma of the mean of the pixel.", "sigma")
    """A cosmic ray that was kept lifts the mean by 1 of these for any n."""
    low_response: float = limit(0.8, "Response of a pixel of a flat relative to its neighbours: cold below.", "share")
    """20 sigma of a usual non-uniformity of 1 %."""
    dead_response: float = limit(0.5, "The same: dead below.", "share")
    high_response: float = limit(1.2, "The same: hot above.", "share")
    noisy_factor: float = limit(
        2.0, "Ratio of the scatter of the samples of a pixel to the expected scatter: noisy above.", "times"
    )
    """At few frames the width of chi-square asks for more."""
    noisy_sigma: float = limit(6.0, "In addition: excess over the expected scatter in sigma.", "sigma")
    """1e-9, 0.06 pixels of 61 MP."""
    telegraph_samples: int = limit(
        3,
        "Excess of rejected samples over the surrounding pixels: telegraph noise from this number on.",
        "samples",
        ge=1,
    )
    """One or two are cosmic rays."""
    telegraph_share: float = limit(0.1, "In addition: least share of the samples of the pixel.", SAMPLES)
    column_spreads: float = limit(
        8.0, "Offset of a column from its neighbours in spreads of such offsets: bad above.", "spreads"
    )
    column_noise: float = limit(1.0, "In addition: offset in spreads of the pixels.", "spreads")
    """So that a column is only bad where it is seen."""
    column_response: float = limit(0.03, "In addition, in a flat: offset as a share of the level.", LEVEL)
    """Shadows of dust have edges of 1 % in a column."""
    column_share: float = limit(0.5, "Or: share of the pixels of a column that differ from the neighbours.", PIXELS)
    """In one band of rows."""
