"""Science frames: find and inspect them, refuse those that cannot be calibrated, and name the calibrated files."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from ostcal.errors import FrameError, StorageError
from ostcal.fits.cards import Header
from ostcal.fits.read import FITS_ENDINGS, FitsFrame, find_fits, inspect_images
from ostcal.fits.sections import OverscanRule
from ostcal.frames import FrameType
from ostcal.inputs.trimmed import trimmed_frame
from ostcal.places.paths import is_dir, is_file, is_remote, is_taken, joined, parent_of, real

ENDING = "_cal.fits"

_NUMBERS = {
    "exposure": ("EXPTIME", "EXPOSURE"),
    "gain": ("GAIN",),
    "offset": ("OFFSET",),
    "binning": ("XBINNING", "YBINNING"),
    "temperature": ("SET-TEMP", "CCD-TEMP"),
}
"""Cards by which masters are matched: one that holds no number must not pass for one that is missing."""


def science_frames(
    paths: Sequence[str | os.PathLike[str]], output_dir: str, overscan: OverscanRule
) -> tuple[list[tuple[FitsFrame, ...]], list[str], list[str]]:
    """Find and inspect science frames; return them, warnings, and an error line for each that cannot be used.

    A frame is the images of its file, most often one. Files named one by one are taken whatever their header calls
    them, with a warning; from directories and patterns calibration frames, masters, calibrated frames and what lies in
    `output_dir` are left out.
    """
    frames: list[tuple[FitsFrame, ...]] = []
    warnings: list[str] = []
    errors: list[str] = []
    skipped: list[str] = []
    for path, was_named in _found_files(paths, output_dir, errors):
        try:
            images = tuple(trimmed_frame(image, overscan) for image in inspect_images(path))
        except FrameError as error:
            errors.append(str(error))
            continue
        frame, metadata = images[0], images[0].metadata
        kind = metadata.frame_type
        is_calibration = kind in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)
        is_done = metadata.is_master or metadata.dark_subtracted or metadata.flat_divided
        if not was_named and (is_calibration or is_done):
            skipped.append(path)
            continue
        reason = why_unusable(frame)
        if reason:
            errors.append(f"{path}: {reason}")
            continue
        if is_calibration:
            warnings.append(f"{path}: its header or name calls it a {kind}, it is calibrated as it was named")
        frames.append(images)
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        warnings.append(f"{skipped[0]}{more}: left out: bias, dark, flat, master or calibrated frames")
    if not frames and not errors:
        places = ", ".join(os.fspath(path) for path in paths) or "nothing"
        errors.append(f"no science frames in {places}; name files or folders")
    return frames, warnings, errors


def _found_files(paths: Sequence[str | os.PathLike[str]], output_dir: str, errors: list[str]) -> list[tuple[str, bool]]:
    """List the files, each once, with whether it was named itself."""
    found: dict[str, bool] = {}
    for path in [os.fspath(path) for path in paths]:
        if is_file(path):
            found[path] = True
            continue
        matches = [path] if is_dir(path) else []
        if not matches and not is_remote(path):
            matches = sorted(glob.glob(path, recursive=True))
        files = [file for file in find_fits(matches) if real(parent_of(file)) != real(output_dir)]
        if not files:
            what = "holds no FITS files" if matches else "does not exist"
            errors.append(f"{path}: {what} ({' '.join(FITS_ENDINGS)}); name files, folders or patterns")
        for file in files:
            found.setdefault(file, False)
    return list(found.items())


def why_unusable(frame: FitsFrame) -> str:
    """Say why a frame cannot be calibrated; "" if it can."""
    metadata, header = frame.metadata, Header(frame.cards)
    if metadata.is_master:
        return "it is a master or a stack of frames, not a raw frame; calibrate the frames it was made of"
    if metadata.dark_subtracted or metadata.flat_divided:
        said = header.text("CALSTAT") or "HISTORY"
        return f"it is calibrated already ({said}); take the raw frame"
    for quantity, keywords in _NUMBERS.items():
        if header.number(*keywords) is not None:
            continue
        for keyword in keywords:
            value = header.value(keyword)
            if value is not None and value != "":
                return f"{keyword} is {value!r}, no number: its {quantity} is not known; repair the header"
    return ""


def output_files(sources: Sequence[str], output_dir: str, overwrite: bool) -> list[str]:
    """Name the files that will be made; StorageError where two are one, or one exists and is not to be replaced."""
    targets: dict[str, str] = {}
    for source in sources:
        name = os.path.basename(source)
        ending = next((e for e in sorted(FITS_ENDINGS, key=len, reverse=True) if name.lower().endswith(e)), "")
        target = joined(output_dir, name[: len(name) - len(ending)] + ENDING)
        other = targets.get(target)
        if other is not None:
            raise StorageError(f"{other} and {source} would both become {target}; calibrate them one by one")
        targets[target] = source
    existing = [target for target in targets if is_taken(target)]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise StorageError(
            f"{existing[0]}{more}: exists already and nothing was begun; replace it with --overwrite "
            "or choose another --output-dir"
        )
    same = [target for target, source in targets.items() if real(target) == real(source)]
    if same:
        raise StorageError(f"{same[0]}: a frame cannot be calibrated into itself; choose another --output-dir")
    return list(targets)
