"""The lights of a watched folder: which are calibrated, which are to be, which would replace the file of another."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from enum import Enum

from ostcal.errors import FrameError
from ostcal.fits.cards import Header
from ostcal.fits.read import inspect_images
from ostcal.frames import FrameMetadata
from ostcal.inputs.science_frames import output_files
from ostcal.places.fingerprint import file_digest
from ostcal.science.calibrate_frame import RAW_DIGEST_CARD
from ostcal.workflow.incoming import Identity, IncomingFile

logger = logging.getLogger(__name__)


class Due(Enum):
    """Whether a light is to be calibrated."""

    NO = "no"
    NEW = "new"
    AGAIN = "again"
    """It was written again; its calibrated file is replaced."""


class WatchedLights:
    """What became of each light; nothing but the calibrated files is remembered after a restart."""

    def __init__(self) -> None:
        self._light_of: dict[str, IncomingFile] = {}
        """The light of each calibrated file that was made, or could not be made with the masters there are."""
        self._failed: set[str] = set()
        """Calibrated files that could not be made, some of them of a light that was written again."""
        self._named: dict[str, Identity] = {}
        """Lights that are not calibrated, which was said."""

    def due(self, light: IncomingFile, folder: str) -> Due:
        """Return, once, that a light is to be calibrated into a folder; a light that cannot be is named once."""
        (target,) = output_files([light.path], folder, overwrite=True)
        known = self._light_of.get(target)
        if known is not None and known.path != light.path:
            self._name(light, f"{target} is that of {known.path}; rename one of them")
            return Due.NO
        if known is not None and known.identity == light.identity:
            return Due.NO
        exists = os.path.exists(target)
        if exists and self._named.get(light.path) == light.identity:
            return Due.NO
        try:
            is_done = exists and _is_made_of(target, light)
        except FrameError as error:
            self._name(light, f"{error}; move that file away to have it made")
            return Due.NO
        self._light_of[target] = light
        return Due.NO if is_done else Due.AGAIN if exists else Due.NEW

    def tried(self, lights: Iterable[str], folder: str, made: Collection[str]) -> None:
        """Note which lights could not be calibrated into a folder."""
        for light in lights:
            (target,) = output_files([light], folder, overwrite=True)
            (self._failed.discard if target in made else self._failed.add)(target)

    def try_again(self) -> None:
        """Calibrate again what could not be, as there may be other masters."""
        self._light_of = {
            target: light
            for target, light in self._light_of.items()
            if target not in self._failed and os.path.exists(target)
        }

    def _name(self, light: IncomingFile, reason: str) -> None:
        if self._named.get(light.path) != light.identity:
            self._named[light.path] = light.identity
            logger.warning("%s: not calibrated, %s", light.path, reason)


def _is_made_of(target: str, light: IncomingFile) -> bool:
    """Return whether a calibrated file was made of a light as it is; false if that was written again since.

    Raises
    ------
    FrameError
        If the file was made of another exposure, or cannot be read.
    """
    made = inspect_images(target)[0]
    try:
        if Header(made.cards).text(RAW_DIGEST_CARD) == file_digest(light.path):
            return True
    except OSError:  # it vanished; the next look shows it
        return True
    if light.frame is None or not _is_same_exposure(made.metadata, light.frame.metadata):
        raise FrameError(f"{target} was made of another frame, or its header does not tell of which")
    logger.info("%s: was written again, and is calibrated again", light.path)
    return False


def _is_same_exposure(made: FrameMetadata, raw: FrameMetadata) -> bool:
    """Return whether two files are of one exposure, whatever was changed in one of them."""
    if made.date_obs is None or made.date_obs != raw.date_obs:
        return False
    return (made.exposure_time_s, made.filter_name) == (raw.exposure_time_s, raw.filter_name)
