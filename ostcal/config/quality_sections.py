"""The limits of quality control, as a section with a group for frames, masters and pixels."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from ostcal.config.values import Count, NotNegative, Section, Switch, empty_is_default, key


class FrameQualitySection(Section):
    """Limits of the checks of single frames and of a series."""

    saturated_share: NotNegative = key(0.01, "Saturated pixels of a frame: warning above.", "share of the pixels")
    saturated_share_fail: NotNegative = key(0.1, "The same: failure above.", "share of the pixels")
    zero_share: NotNegative = key(
        0.001,
        "Pixels of a frame at 0: warning above; the offset is too low, or rows were not read.",
        "share of the pixels",
    )
    zero_share_fail: NotNegative = key(0.05, "The same: failure above.", "share of the pixels")
    missing_share: NotNegative = key(
        0.01, "Pixels of a frame that are no numbers: warning above.", "share of the pixels"
    )
    dark_level_share: NotNegative = key(0.25, "Level of a bias or dark: warning above.", "share of full scale")
    temperature_c: NotNegative = key(
        1.0, "Distance of a frame from the median temperature of its series: warning above.", "degrees C"
    )
    set_point_c: NotNegative = key(1.0, "Distance of a frame from the set point: warning above.", "degrees C")
    drift_noises: NotNegative = key(
        0.5, "Change of the level of darks over the series: warning above.", "noise of a sample"
    )
    jump_noises: NotNegative = key(
        1.0, "Jump of the level of darks, of one frame or from one frame on: warning above.", "noise of a sample"
    )
    least_adu: NotNegative = key(1.0, "No change of a level below this counts.", "ADU")
    leak_share: NotNegative = key(
        0.001,
        "Light in a whole series of darks: warning above this, plus leak_share_per_s for each second.",
        "share of full scale",
    )
    leak_share_per_s: NotNegative = key(
        0.0001, "Added to leak_share for each second of exposure.", "share of full scale"
    )
    gradient_share: NotNegative = key(
        0.0005,
        "Slope across a series of darks: warning above this, plus gradient_share_per_s for each second.",
        "share of full scale",
    )
    gradient_share_per_s: NotNegative = key(
        2e-05, "Added to gradient_share for each second of exposure.", "share of full scale"
    )
    rise_share: NotNegative = key(
        0.0005, "A dark brighter than the others by this share is said to have seen light.", "share of full scale"
    )
    flat_low_share: NotNegative = key(0.2, "Level of a flat: warning below.", "share of full scale")
    flat_high_share: NotNegative = key(0.8, "Level of a flat: warning above.", "share of full scale")
    lamp_drift_share: NotNegative = key(
        0.02, "Change of the level of flats of one exposure over the series: warning above.", "share of the level"
    )
    lamp_jump_share: NotNegative = key(
        0.02, "Jump of the level of flats of one exposure: warning above.", "share of the level"
    )
    lamp_scatter_share: NotNegative = key(
        0.01, "Scatter of the levels of flats of one exposure about their trend: warning above.", "share of the level"
    )
    twilight_share: NotNegative = key(
        0.25,
        "A smooth change of the level of flats by more is taken as that of the sky, and the lamp is not judged.",
        "share of the level",
    )
    flat_shape_share: NotNegative = key(
        0.01,
        "A part of a flat against the others of its series (condensation, clouds): warning above.",
        "share of the level",
    )
    flat_gradient_share: NotNegative = key(
        0.05, "Slope of a flat against the others of its series: warning above.", "share of the level"
    )
    dark_shape_noises: NotNegative = key(
        0.5, "Parts of a dark against the others of its series: warning above.", "noise of a sample"
    )
    residual_factor: NotNegative = key(1.3, "Noise of a frame over that of the median frame: warning above.", "times")
    outlying_share: NotNegative = key(
        0.001, "Pixels of a frame further than 5 noises from the other frames: warning above.", "share of the pixels"
    )
    outlying_factor: NotNegative = key(4.0, "And above this many times those of the median frame.", "times")
    flat_outlying_share_fail: NotNegative = key(
        0.25, "Pixels of a flat that differ from the other frames: failure above.", "share of the pixels"
    )
    dark_outlying_share_fail: NotNegative = key(
        0.02, "Pixels of a bias or dark that differ from the other frames: failure above.", "share of the pixels"
    )


class MasterQualitySection(Section):
    """Limits of the checks of masters."""

    frames: Count = key(20, "Frames of a master: warning below.", "frames")
    rejected_share: NotNegative = key(0.05, "Samples rejected in all: warning above.", "share of the samples")
    rejected_share_fail: NotNegative = key(0.3, "The same: failure above.", "share of the samples")
    rejected_region_share: NotNegative = key(
        0.1, "Samples rejected in one region more than in the median region: warning above.", "share of the samples"
    )
    sample_noise_factor: NotNegative = key(
        1.3, "Scatter of the samples of a pixel over the noise from frame to frame (drift): warning above.", "times"
    )
    noise_factor_low: NotNegative = key(
        0.6, "Noise from pixel to pixel over what the samples predict: warning below.", "times"
    )
    hot_share: NotNegative = key(0.03, "Hot pixels: warning above.", "share of the pixels")
    hot_share_fail: NotNegative = key(0.2, "The same: failure above.", "share of the pixels")
    cold_share: NotNegative = key(0.01, "Cold pixels: warning above.", "share of the pixels")
    dead_share: NotNegative = key(0.002, "Dead pixels: warning above.", "share of the pixels")
    noisy_share: NotNegative = key(0.02, "Noisy pixels: warning above.", "share of the pixels")
    telegraph_share: NotNegative = key(0.01, "Pixels with telegraph noise: warning above.", "share of the pixels")
    saturated_share: NotNegative = key(
        0.005, "Saturated pixels of a bias or dark: warning above.", "share of the pixels"
    )
    bad_column_share: NotNegative = key(0.01, "Bad columns: warning above.", "share of the columns")
    no_data_share_fail: NotNegative = key(
        0.01, "Pixels without data: failure above; any is a warning.", "share of the pixels"
    )
    glow_noise_factor: NotNegative = key(
        8.0,
        "Noise of the brightest corner or edge over that of the median region (amplifier glow): warning above.",
        "times",
    )
    dark_structure_noise: NotNegative = key(
        20.0,
        "Difference of bright and dim parts of a bias or dark: warning above this and dark_structure_adu.",
        "noise of a frame",
    )
    dark_structure_adu: NotNegative = key(66.0, "See dark_structure_noise.", "ADU")
    dark_light_noise: NotNegative = key(
        1.0,
        "Inner parts of a dark above the brightest border (light): warning above this and dark_light_adu.",
        "noise of a frame",
    )
    dark_light_adu: NotNegative = key(5.0, "See dark_light_noise.", "ADU")
    flat_level_low: NotNegative = key(0.05, "Level of a flat: warning below.", "share of full scale")
    flat_level_high: NotNegative = key(
        0.85, "Level of the brightest parts of a flat: warning above.", "share of full scale"
    )
    flat_level_fail: NotNegative = key(0.95, "The same: failure above.", "share of full scale")
    flat_saturated_share: NotNegative = key(0.001, "Saturated pixels of a flat: warning above.", "share of the pixels")
    flat_saturated_share_fail: NotNegative = key(0.05, "The same: failure above.", "share of the pixels")
    flat_not_positive_share_fail: NotNegative = key(
        0.01, "Pixels of a flat at or below zero: failure above; any is a warning.", "share of the pixels"
    )
    flat_signal_to_noise: NotNegative = key(100.0, "Signal to noise of a pixel of a master flat: warning below.")
    flat_signal_to_noise_fail: NotNegative = key(10.0, "The same: failure below.")
    vignetting: NotNegative = key(0.3, "Darkest corner of a flat over its centre: warning below.", "share of the level")
    flat_tilt: NotNegative = key(0.3, "Difference of opposite sides of a flat: warning above.", "share of the level")
    dust_depth: NotNegative = key(0.3, "Depth of the deepest shadow of dust: warning above.", "share of the level")
    level_shift_adu: NotNegative = key(
        5.0, "Change of the level against the previous master, and above the noise of a frame: warning above.", "ADU"
    )
    changed_noise_factor: NotNegative = key(
        2.0, "Difference from the previous master over what the noise of both predicts: warning above.", "times"
    )
    new_hot_share: NotNegative = key(
        0.005, "Pixels that became hot since the previous master: warning above.", "share of the pixels"
    )
    changed_share: NotNegative = key(
        0.02, "Area of a flat that changed by more than 1 % since the previous one: warning above.", "share of the area"
    )


class PixelQualitySection(Section):
    """From where on a pixel counts as a defect."""

    hot_sigma: NotNegative = key(
        10.0, "Hot and cold pixels: distance from their neighbours in sigma of the master's own noise.", "sigma"
    )
    neighbour_spreads: NotNegative = key(6.0, "And in spreads of the pixels around, fixed pattern included.", "spreads")
    own_sigma: NotNegative = key(3.0, "And in sigma of the pixel's own mean.", "sigma")
    low_response: NotNegative = key(0.8, "Response of a pixel of a flat against its neighbours: cold below.", "share")
    dead_response: NotNegative = key(0.5, "The same: dead below.", "share")
    high_response: NotNegative = key(1.2, "The same: hot above.", "share")
    noisy_factor: NotNegative = key(
        2.0, "Scatter of the samples of a pixel over what is expected: noisy above.", "times"
    )
    noisy_sigma: NotNegative = key(6.0, "And above what chance may do, in sigma.", "sigma")
    telegraph_samples: Count = key(
        3, "Samples of a pixel rejected more than around it: telegraph noise from this on.", "samples"
    )
    telegraph_share: NotNegative = key(0.1, "And at least this share of its samples.", "share of the samples")
    column_spreads: NotNegative = key(
        8.0, "Offset of a column from its neighbours in spreads of such offsets: bad above.", "spreads"
    )
    column_noise: NotNegative = key(1.0, "And in spreads of the pixels.", "spreads")
    column_response: NotNegative = key(0.03, "And in a flat by this share of the level.", "share of the level")
    column_share: NotNegative = key(
        0.5, "Or this share of the pixels of a column differs from the neighbours.", "share of the pixels"
    )


class QualitySection(Section):
    """When frames and masters are worth a warning, and when a master fails its quality control."""

    report: Switch = key(True, "Write a report beside the masters after each run that has quality_control.")
    use_failed: Switch = key(False, "Use masters that failed their quality control as if they had not.")
    frames: Annotated[FrameQualitySection, BeforeValidator(empty_is_default)] = FrameQualitySection()
    masters: Annotated[MasterQualitySection, BeforeValidator(empty_is_default)] = MasterQualitySection()
    pixels: Annotated[PixelQualitySection, BeforeValidator(empty_is_default)] = PixelQualitySection()
