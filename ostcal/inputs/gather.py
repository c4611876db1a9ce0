"""The frames that a run starts from: FITS files and series below the input directories, each frame once."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostcal.errors import FrameError, InputError, NoFramesError, OstcalError, UnreachableError
from ostcal.fits.headers import camera_id_from_names
from ostcal.fits.read import FITS_ENDINGS, FitsFrame, FitsStack, find_fits, fingerprint, inspect_fits
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from ostcal.frames import FrameMetadata, FrameStack
from ostcal.inputs.already_subtracted import infer_dark_subtracted, needs_levels
from ostcal.inputs.grouping import Frame
from ostcal.places.paths import exists, is_below, is_dir, make_directory, normalized
from ostcal.series.concatenated import ConcatenatedStack
from ostcal.series.reader import Series, find_series, open_series
from ostcal.series.stack import ZarrStack

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 128
_EXCLUDED_NAMED = 5
"""Excluded frames that a line names with their reasons; `ostcal exclude SERIES --list` shows all."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A frame and where its samples are: a FITS file, or an index in a series."""

    frame: Frame
    fingerprint: str
    """Hash of three rows; "" where they are constant, which tells nothing."""
    fits: FitsFrame | None = None
    series: str = ""
    index: int = 0
    verify: bool = True
    """Whether checksums are compared while the frame is read."""
    has_chunk_checksums: bool = True
    """Whether there are any to compare strip by strip: not in series of the first version of the format."""

    def stack(self) -> FrameStack:
        """Give the stack of this frame alone."""
        return _stack_of_run((self,))


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All usable frames, and a line for everything left out."""

    sources: dict[str, Source]
    """By the label of the frame."""
    left_out: tuple[str, ...]
    searched: tuple[str, ...]
    excluded: tuple[Source, ...] = ()
    """Frames of series that a person decided to leave out; their copies in other places are left out too."""


SET_FOLDERS = "set dark_capture.output_dir and flat_capture.output_dir"


def gather_inputs(
    directories: Sequence[str], *, exclude: str, advice: str = SET_FOLDERS, verify: bool = True
) -> Inputs:
    """Find all frames below `directories`, the directory `exclude` (the masters) aside.

    With `verify` the checksums of frames in series are compared whenever their samples are read.

    Raises
    ------
    NoFramesError
        If there is no file at all; the message says where and for which endings was looked.
    """
    searched = tuple(dict.fromkeys(normalized(directory) for directory in directories))
    there = [directory for directory in searched if exists(directory)]
    # Masters may lie among or above the frames; then the header alone tells them from frames.
    is_shared = any(is_below(directory, exclude) for directory in there)
    left_out: list[str] = []
    sources: list[Source] = []
    files = [path for path in find_fits(there) if is_shared or not is_below(path, exclude)]
    for path in files:
        try:
            source = _fits_source(path)
        except InputError as error:
            left_out.append(str(error))
            logger.debug("%s: traceback", path, exc_info=True)
            continue
        if not (is_shared and source.frame.metadata.is_master and is_below(path, exclude)):
            sources.append(source)
    series = [location for location in find_series(there) if is_shared or not is_below(location, exclude)]
    of_series, excluded = _frames_of(series, left_out, verify=verify)
    sources += of_series
    if not files and not series:
        raise NoFramesError(
            f"No input files found in {', '.join(described(d) for d in searched)}; looked in all folders below for "
            f"{' '.join(FITS_ENDINGS)} and for .zarr series; {advice}"
        )
    unique = _without_copies(sources, left_out, excluded)
    return Inputs(
        sources={s.frame.label: s for s in unique},
        left_out=tuple(left_out),
        searched=searched,
        excluded=tuple(excluded),
    )


def _frames_of(locations: Sequence[str], left_out: list[str], *, verify: bool) -> tuple[list[Source], list[Source]]:
    """Give the frames of series, and apart from them those that a person excluded."""
    sources: list[Source] = []
    excluded: list[Source] = []
    for location in locations:
        try:
            series = open_series(location)
        except UnreachableError:
            raise
        except OstcalError as error:
            left_out.append(str(error))
            logger.debug("%s: traceback", location, exc_info=True)
            continue
        left_out.extend(series.problems)
        for source in _series_sources(series, verify=verify):
            (excluded if source.index in series.excluded else sources).append(source)
        _log_excluded(series)
    return sources, excluded


def described(directory: str) -> str:
    """Name a directory, and say so where it does not exist."""
    return directory if is_dir(directory) else f"{directory} (does not exist)"


def _fits_source(path: str) -> Source:
    fits = inspect_fits(path)
    mark = fingerprint(fits) if fits.packed == "none" else ""
    return Source(frame=Frame(label=path, metadata=fits.metadata), fingerprint=mark, fits=fits)


def _with_camera_id(metadata: FrameMetadata, camera_id: str | None) -> FrameMetadata:
    """Give frames that name no camera or detector the one that their directory names."""
    if camera_id is None or metadata.settings.camera_id is not None:
        return metadata
    return replace(metadata, settings=replace(metadata.settings, camera_id=camera_id))


def _series_sources(series: Series, *, verify: bool) -> list[Source]:
    camera_id = camera_id_from_names(series.location)
    return [
        Source(
            frame=Frame(
                label=f"{series.location}#{record.index}", metadata=_with_camera_id(record.metadata, camera_id)
            ),
            fingerprint=record.pixels.fingerprint,
            series=series.location,
            index=record.index,
            verify=verify,
            has_chunk_checksums=series.has_chunk_checksums,
        )
        for record in series.records
    ]


def _log_excluded(series: Series) -> None:
    if not series.excluded:
        return
    reasons = [f"{index} ({decision.why})" for index, decision in series.excluded.items()]
    more = f" and {len(reasons) - _EXCLUDED_NAMED} more" if len(reasons) > _EXCLUDED_NAMED else ""
    logger.info(
        "%s: %d of %d frames are excluded: %s%s",
        series.location,
        len(reasons),
        len(series.records),
        ", ".join(reasons[:_EXCLUDED_NAMED]),
        more,
    )


def unpacked(
    sources: dict[str, Source], directory: str, left_out: list[str], excluded: Sequence[Source] = ()
) -> dict[str, Source]:
    """Unpack the compressed files among `sources` into `directory`; a damaged one is named in `left_out`.

    Copies of the frames in `excluded` are left out.

    Compressed files cannot be read strip by strip without unpacking all before; once into a scratch folder is the
    price of one read and one write of the frame.
    """
    result: dict[str, Source] = {}
    with TileReader() as tiles:
        for label, source in sources.items():
            if source.fits is None or source.fits.packed == "none":
                result[label] = source
                continue
            make_directory(directory)
            try:
                fits = unpack(source.fits, directory, tiles)
            except InputError as error:
                left_out.append(str(error))
                logger.debug("%s: traceback", label, exc_info=True)
                continue
            result[label] = replace(source, fits=fits, fingerprint=fingerprint(fits))
    kept = _without_copies(list(result.values()), left_out, excluded)
    return {source.frame.label: source for source in kept}


def low_level(source: Source) -> float:
    """Give the first percentile in ADU of three rows of a frame, NaN where they hold no finite sample."""
    stack = source.stack()
    _, height, width = stack.shape
    block = np.empty((1, 1, width), stack.encoding.dtype)
    rows = []
    for row in (height // 4, height // 2, 3 * height // 4):
        stack.read_rows(row, row + 1, block)
        rows.append(stack.encoding.decode(block.copy())[0, 0])
    samples = np.concatenate(rows)
    finite = samples[np.isfinite(samples)]
    return float(np.percentile(finite, 1)) if finite.size else math.nan


def marked_dark_subtracted(sources: dict[str, Source], warnings: list[str]) -> dict[str, Source]:
    """Mark flats that must have been dark-subtracted although their headers do not say so, with a warning.

    Flats that turn out to be damaged are left out, with a warning too.
    """
    marked = dict(sources)
    low_adu: dict[str, float] = {}
    for frame in needs_levels([source.frame for source in sources.values()]):
        try:
            low_adu[frame.label] = low_level(sources[frame.label])
        except FrameError as error:
            del marked[frame.label]
            warnings.append(str(error))
            logger.debug("%s: traceback", frame.label, exc_info=True)
    frames = [source.frame for source in marked.values()]
    for inference in infer_dark_subtracted(frames, low_adu):
        for label in inference.labels:
            source = marked[label]
            metadata = replace(source.frame.metadata, dark_subtracted=True)
            marked[label] = replace(source, frame=replace(source.frame, metadata=metadata))
        n = len(inference.labels)
        warnings.append(
            f"{inference.labels[0]}{f' and {n - 1} more' if n > 1 else ''}: taken as dark-subtracted already: "
            f"{inference.reason}"
        )
    return marked


def _without_copies(sources: list[Source], left_out: list[str], excluded: Sequence[Source] = ()) -> list[Source]:
    """Keep the first of frames that are the same frame, none of those that are excluded; say how many were not kept.

    Three equal rows and the same start of exposure are proof enough (noise differs in almost every pixel, and
    comparing 240 frames of 61 MP in full means reading 60 GB); without a date the samples are compared in full.
    """
    same: dict[tuple[str, object], list[Source]] = defaultdict(list)
    for source in excluded:
        if source.fingerprint:
            same[source.fingerprint, source.frame.metadata.date_obs].append(source)
    not_wanted = {source.frame.label for source in excluded}
    kept: list[Source] = []
    copies: list[tuple[str, str]] = []
    of_excluded: list[tuple[str, str]] = []
    for source in sources:
        date = source.frame.metadata.date_obs
        candidates = same[source.fingerprint, date] if source.fingerprint else []
        original = next((c for c in candidates if date or _is_copy(c, source)), None)
        if original is None:
            candidates.append(source)
            kept.append(source)
            continue
        pairs = of_excluded if original.frame.label in not_wanted else copies
        pairs.append((source.frame.label, original.frame.label))
        logger.debug("%s: the same frame as %s", *pairs[-1])
    for pairs, why in ((copies, "each counts once"), (of_excluded, "which is excluded")):
        if pairs:
            more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
            left_out.append(f"{pairs[0][0]}: the same frame as {pairs[0][1]}{more}: {why}")
    return kept


def _is_copy(a: Source, b: Source) -> bool:
    """Compare the samples of two frames; a damaged one is no copy, and combining will name it."""
    try:
        return _same_samples(a.stack(), b.stack())
    except FrameError:
        return False


def _same_samples(a: FrameStack, b: FrameStack) -> bool:
    if a.shape != b.shape:
        return False
    _, height, width = a.shape
    for start in range(0, height, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, height)
        blocks = []
        for stack in (a, b):
            block = np.empty((1, stop - start, width), stack.encoding.dtype)
            stack.read_rows(start, stop, block)
            blocks.append(stack.encoding.decode(block))
        if not np.array_equal(blocks[0], blocks[1], equal_nan=bool(np.issubdtype(blocks[0].dtype, np.floating))):
            return False
    return True


def stack_of(sources: Sequence[Source]) -> FrameStack:
    """Give one stack of frames that may lie in files and in several series, in the order of `sources`."""
    parts: list[FrameStack] = []
    run: list[Source] = []
    for source in sources:
        if run and not _together(run[-1], source):
            parts.append(_stack_of_run(run))
            run = []
        run.append(source)
    parts.append(_stack_of_run(run))
    return parts[0] if len(parts) == 1 else ConcatenatedStack(tuple(parts))


def _together(a: Source, b: Source) -> bool:
    return a.series == b.series and (a.fits is None) == (b.fits is None)


def _stack_of_run(run: Sequence[Source]) -> FrameStack:
    if run[0].fits is not None:
        return FitsStack(tuple(source.fits for source in run if source.fits is not None))
    return ZarrStack(run[0].series, tuple(source.index for source in run), run[0].verify)


def input_digest(sources: Sequence[Source]) -> str:
    """Give the SHA-256 over what tells the frames apart, whatever their order."""
    lines = sorted(
        f"{source.fingerprint}|{source.frame.metadata.date_obs}|{os.path.basename(source.frame.label)}"
        for source in sources
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
