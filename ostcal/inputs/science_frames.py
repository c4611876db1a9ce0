"""Science frames: find and inspect them, refuse those that cannot be calibrated, and name the calibrated files."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from ostcal.errors import FrameError, StorageError
from ostcal.fits.cards import header_of
from ostcal.fits.read import FRAME_ENDINGS, FitsFrame, inspect_images, search_fits
from ostcal.fits.sections import OverscanRule
from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.forced_kinds import NO_RULES, KindRules, with_stated_kind
from ostcal.inputs.pedestals import without_pedestal
from ostcal.inputs.remarks import remark_lines
from ostcal.inputs.trimmed import trimmed_frame
from ostcal.inputs.unused import log_unused
from ostcal.places.paths import is_dir, is_file, is_remote, is_taken, joined, parent_of, real
from ostcal.raw.reader import RAW_ENDINGS

ENDING = "_cal.fits"

CALIBRATION_KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)


def science_frames(
    paths: Sequence[str | os.PathLike[str]], output_dir: str, overscan: OverscanRule, kinds: KindRules = NO_RULES
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
    for path, was_named in found_files(paths, output_dir, errors, warnings):
        try:
            images = inspect_science(path, overscan, kinds)
        except FrameError as error:
            errors.append(str(error))
            continue
        frame, kind = images[0], images[0].metadata.frame_type
        if not was_named and is_no_science(frame.metadata):
            skipped.append(path)
            continue
        reason = why_unusable(frame)
        if reason:
            errors.append(f"{path}: {reason}")
            continue
        if kind in CALIBRATION_KINDS:
            warnings.append(f"{path}: its header or name calls it a {kind}, it is calibrated as it was named")
        frames.append(images)
    warnings += remark_lines((images[0].source, images[0].metadata) for images in frames)
    log_unused(image for images in frames for image in images)
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        warnings.append(f"{skipped[0]}{more}: left out: bias, dark, flat, master or calibrated frames")
    if not frames and not errors:
        places = ", ".join(os.fspath(path) for path in paths) or "nothing"
        errors.append(f"no science frames in {places}; name files or folders")
    return frames, warnings, errors


def inspect_science(path: str, overscan: OverscanRule, kinds: KindRules) -> tuple[FitsFrame, ...]:
    """Inspect the images of a science frame, their overscan left out.

    Raises
    ------
    FrameError
        If the file cannot be read.
    """
    found = (with_stated_kind(without_pedestal(image), kinds) for image in inspect_images(path))
    return tuple(trimmed_frame(image, overscan) for image in found)


def is_no_science(metadata: FrameMetadata) -> bool:
    """Return whether a header or a name says that a frame is no light, or that it is calibrated already."""
    is_done = metadata.is_master or metadata.dark_subtracted or metadata.flat_divided
    return metadata.frame_type in CALIBRATION_KINDS or is_done


def found_files(
    paths: Sequence[str | os.PathLike[str]], output_dir: str, errors: list[str], warnings: list[str]
) -> list[tuple[str, bool]]:
    """List the files, each once, with whether it was named itself."""
    found: dict[str, bool] = {}
    for path in [os.fspath(path) for path in paths]:
        if is_file(path):
            found[path] = True
            continue
        matches = [path] if is_dir(path) else []
        if not matches and not is_remote(path):
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:  # [1] may be part of a name, not a set of characters
                matches = sorted(glob.glob(re.sub(r"\[", "[[]", path), recursive=True))
        search = search_fits(matches)
        warnings += [line for line in search.passed_over if line not in warnings]
        own = real(output_dir)
        folders = {folder: real(folder) != own for folder in {parent_of(file) for file in search.files}}
        files = [file for file in search.files if folders[parent_of(file)]]
        if not files:
            what = "holds no FITS or XISF files" if matches else "does not exist"
            line = f"{path}: {what} ({' '.join(FRAME_ENDINGS)}); name files, folders or patterns"
            if search.files:
                line = f"{path}: not read, because calibrated frames are written there; choose another --output-dir"
            errors.append(line)
        for file in files:
            found.setdefault(file, False)
    return list(found.items())


def why_unusable(frame: FitsFrame) -> str:
    """Say why a frame cannot be calibrated; "" if it can."""
    metadata = frame.metadata
    if metadata.is_master:
        return "it is a master or a stack of frames, not a raw frame; calibrate the frames it was made of"
    if metadata.dark_subtracted or metadata.flat_divided:
        said = header_of(frame.cards).text("CALSTAT") or "HISTORY"
        return f"it is calibrated already ({said}); take the raw frame"
    return "; ".join(metadata.unreadable)


def output_files(sources: Sequence[str], output_dir: str, overwrite: bool) -> list[str]:
    """Name the files that will be made; StorageError where two are one, or one exists and is not to be replaced.

    Frames of one name in several folders get the names of their folders too: ``night1_m31_001_cal.fits``. Those of one
    folder whose names differ in case or ending only get a number: ``r_2_cal.fits``.
    """
    targets: dict[str, str] = {}
    for source, name in zip(sources, _names_of(sources), strict=True):
        target = joined(output_dir, name + ENDING)
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


def _names_of(paths: Sequence[str]) -> list[str]:
    """Return the names of files without endings, each with as many of its folders as tell it from the others."""
    endings = sorted((*FRAME_ENDINGS, *RAW_ENDINGS), key=len, reverse=True)
    parts = []
    for path in paths:
        *folders, name = PurePath(path).parts
        ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
        parts.append([*(re.sub(r"[^\w.+-]+", "-", folder) for folder in folders), name[: len(name) - len(ending)]])
    taken: Counter[str] = Counter()
    for own in parts:  # R.fits and r.fits of one folder are one name on some systems
        place = "/".join(own).casefold()
        taken[place] += 1
        own[-1] += f"_{taken[place]}" if taken[place] > 1 else ""
    depths = [1] * len(paths)
    while True:
        names = ["_".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(name.casefold() for name in names)
        longer = [
            depth + 1 if counts[name.casefold()] > 1 and depth < len(own) else depth
            for name, own, depth in zip(names, parts, depths, strict=True)
        ]
        if longer == depths:
            return names
        depths = longer
