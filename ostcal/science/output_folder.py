"""The directory of calibrated frames, where it is one of each night, date or camera: that of the newest light."""

from __future__ import annotations

from collections.abc import Sequence

from ostcal.build.newest_frame import folder_of_frames
from ostcal.errors import ConfigError
from ostcal.fits.sections import OverscanRule
from ostcal.inputs.forced_kinds import KindRules
from ostcal.inputs.science_frames import science_frames
from ostcal.naming import FOLDER_WORDS, unknown_folder_words
from ostcal.places.night_folders import has_words, root_of


def folder_of_lights(
    pattern: str, lights: Sequence[str], overscan: OverscanRule, kinds: KindRules, longitude_deg: float | None
) -> str:
    """Fill the words of a directory in with night, date and camera of the newest light.

    Raises
    ------
    ConfigError
        If it has a word that nothing stands for, or one for the camera and the lights are of several.
    """
    if unknown := unknown_folder_words(pattern):
        words = ", ".join(f"{{{word}}}" for word in FOLDER_WORDS)
        raise ConfigError(f"--output-dir: {pattern}: nothing stands for {{{unknown[0]}}}; the words are {words}")
    if not has_words(pattern):
        return pattern
    frames, _, _ = science_frames(lights, root_of(pattern), overscan, kinds)
    said = [images[0].metadata for images in frames]
    return folder_of_frames(pattern, said, longitude_deg, given="--output-dir")
