"""The directory of the masters of a run, where it is one of each night, date or camera: that of the newest frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ostcal.errors import ConfigError, InputError, StorageError
from ostcal.fits.read import find_fits, inspect_images
from ostcal.frames import FrameMetadata
from ostcal.naming import folder_of, night_of, noon_at, noon_of_computer
from ostcal.places.night_folders import has_words
from ostcal.series.reader import find_series, open_series

logger = logging.getLogger(__name__)


def folder_of_newest(pattern: str, places: Sequence[str], longitude_deg: float | None) -> str:
    """Fill the words of a directory in with night, date and camera of the newest frame; without words it is as it is.

    Noon is that of the longitude (degrees, positive east), else that of the frame, else that of this computer.
    Without a frame that says when it was taken, night and date are those of now.

    Raises
    ------
    ConfigError
        If it has a word for the camera, and the frames are of several.
    """
    if not has_words(pattern):
        return pattern
    frames = [frame for frame in _frames(places) if frame.frame_type is not None and not frame.is_master]
    return folder_of_frames(pattern, frames, longitude_deg, given="master_frames.output_dir")


def folder_of_frames(pattern: str, frames: Sequence[FrameMetadata], longitude_deg: float | None, *, given: str) -> str:
    """Fill the words of a directory in, as `folder_of_newest` does, with the newest of frames that were read.

    Parameters
    ----------
    pattern : str
        The directory.
    frames : sequence of FrameMetadata
        What they say of themselves.
    longitude_deg : float or None
        As of `folder_of_newest`.
    given : str
        The key or the option of the directory, for errors.

    Raises
    ------
    ConfigError
        If it has a word for the camera, and the frames are of several.
    """
    cameras = sorted({frame.settings.camera or "" for frame in frames})
    if len(cameras) > 1 and "{camera}" in pattern:
        names = ", ".join(name or "one without a name" for name in cameras)
        raise ConfigError(
            f"{given}: {{camera}} is one camera, and the frames are of {names}; give each camera directories of its own"
        )
    timed = [(frame.date_obs, frame.longitude_deg) for frame in frames if frame.date_obs is not None]
    when, of_frame_deg = max(timed, key=lambda one: one[0], default=(datetime.now(UTC), None))
    degrees = longitude_deg if longitude_deg is not None else of_frame_deg
    noon_utc_s = noon_at(degrees) if degrees is not None else noon_of_computer(when)
    night = night_of(when, noon_utc_s) or when.date()
    return folder_of(pattern, night=night, day=when.date(), camera=cameras[0] if cameras else "")


def _frames(places: Sequence[str]) -> Iterator[FrameMetadata]:
    """Return what the frames say of themselves; those that cannot be read are named when masters are made."""
    for location in find_series(places):
        try:
            yield from (record.metadata for record in open_series(location).records)
        except StorageError as error:
            logger.debug("%s", error)
    for path in find_fits(places):
        try:
            yield from (image.metadata for image in inspect_images(path))
        except InputError as error:
            logger.debug("%s", error)
