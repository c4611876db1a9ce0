"""Frames that a run starts from: FITS and XISF files and series below the input directories, each frame once."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, InputError, NoFramesError, OstcalError, UnreachableError
from ostcal.fits.cards import Header
from ostcal.fits.dates import why_never_set
from ostcal.fits.headers import camera_id_from_names
from ostcal.fits.read import FRAME_ENDINGS, FitsFrame, FitsStack, fingerprint, inspect_images, search_fits
from ostcal.fits.sections import OverscanRule, Readout
from ostcal.frames import FrameStack, read_adu
from ostcal.inputs.excluded_files import ExcludedFiles, read_excluded_files
from ostcal.inputs.forced_kinds import NO_RULES, KindRules, with_forced_kind, with_stated_kind
from ostcal.inputs.grouping import Frame
from ostcal.inputs.known_extensions import KnownExtensions
from ostcal.inputs.remarks import log_refusals, refusal_lines, remark_lines
from ostcal.inputs.trimmed import TrimmedStack, trimmed_metadata
from ostcal.inputs.unused import log_unused
from ostcal.places.fingerprint import fingerprint_rows
from ostcal.places.paths import exists, is_below, is_file, normalized, parent_of
from ostcal.series.concatenated import ConcatenatedStack
from ostcal.series.reader import Series, find_series, open_series
from ostcal.series.record import FrameRecord
from ostcal.series.stack import ZarrStack
from ostcal.series.words_stack import WordsStack
from ostcal.vocabulary import Cubes

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 128
_EXCLUDED_NAMED = 5
"""Excluded frames that a log line names with their reasons; `ostcal exclude SERIES --list` shows all."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A frame and where its samples are: in a FITS file, or at an index of a series."""

    frame: Frame
    fingerprint: str
    """Hash of three rows; "" if they are constant, which recognises nothing."""
    fits: FitsFrame | None = None
    primary_cards: tuple[str, ...] = ()
    """Of an image of a file of several: the primary header of the file."""
    series: str = ""
    index: int = 0
    verify: bool = True
    """Whether checksums are compared while the frame is read."""
    has_chunk_checksums: bool = True
    """Whether there are any for single strips: not in series of the first version of the format."""
    word_scale: float = 0.0
    """What samples are multiplied by to be the 16-bit integers that they are; 0 where they are read as they are."""
    readout: Readout | None = None
    """What is subtracted and trimmed while it is read; the fingerprint is that of the untrimmed frame."""

    @property
    def identity(self) -> str:
        """What decides the samples that are read."""
        return self.fingerprint if self.readout is None else f"{self.fingerprint} {self.readout}"

    def stack(self) -> FrameStack:
        """Return the stack of this frame alone."""
        return stack_of((self,))

    def sampled_rows_adu(self) -> NDArray[np.float64] | None:
        """Return three rows; ``None`` where they cannot be read."""
        try:
            stack = self.stack()
            rows = [read_adu(stack, row, row + 1) for row in fingerprint_rows(stack.shape[1])]
        except FrameError:
            return None
        samples: NDArray[np.float64] = np.concatenate(rows, axis=1)[0].astype(np.float64)
        return samples

    def level_adu(self) -> float | None:
        """Return the median of three rows; ``None`` where they cannot be read."""
        rows = self.sampled_rows_adu()
        level = math.nan if rows is None else float(np.median(rows))
        return level if math.isfinite(level) else None

    def is_copy_of(self, other: Source) -> bool:
        """Compare the samples of two frames; a damaged frame is no copy, and combining will name it."""
        try:
            ours, theirs = self.stack(), other.stack()
            if ours.shape != theirs.shape:
                return False
            height = ours.shape[1]
            for start in range(0, height, _ROWS_AT_ONCE):
                stop = min(start + _ROWS_AT_ONCE, height)
                rows = read_adu(ours, start, stop)
                if not np.array_equal(rows, read_adu(theirs, start, stop), equal_nan=rows.dtype.kind == "f"):
                    return False
        except FrameError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All usable frames, and a line for everything left out."""

    sources: dict[str, Source]
    """By the label of the frame."""
    left_out: tuple[str, ...]
    searched: tuple[str, ...]
    excluded: tuple[Source, ...] = ()
    """Frames that the user decided to leave out; their copies in other places are left out too."""


WHOLE_FRAMES = OverscanRule(source="none")
NAME_FOLDERS = "name the folders of your frames: ostcal masters FOLDER, or input.dirs in the configuration"


def gather_inputs(
    directories: Sequence[str],
    *,
    exclude: str,
    advice: str = NAME_FOLDERS,
    verify: bool = True,
    overscan: OverscanRule = WHOLE_FRAMES,
    cubes: Cubes = "refuse",
    kinds: KindRules = NO_RULES,
) -> Inputs:
    """Find all frames below `directories` except in the directory `exclude` (the masters).

    Frames are trimmed as `overscan` says. With `cubes` ``frames`` each plane of an image of three axes is a frame. With
    `verify` the checksums of frames in series are compared whenever their samples are read. `kinds` states the kinds of
    files and series.

    Raises
    ------
    NoFramesError
        If there is no file at all; the message says where and for which endings the run looked.
    """
    searched = tuple(dict.fromkeys(normalized(directory) for directory in directories))
    existing = [directory for directory in searched if exists(directory)]
    # Masters may lie among or above the frames; then the header alone tells them from frames.
    is_shared = any(is_below(directory, exclude) for directory in existing)
    found = search_fits(existing)
    files = [path for path in found.files if is_shared or not is_below(path, exclude)]
    locations = [location for location in find_series(existing) if is_shared or not is_below(location, exclude)]
    masters_dir = exclude if is_shared else ""
    decided = read_excluded_files(exclude) if exclude else ExcludedFiles()
    of_files = _of_files(files, overscan, decided, kinds, cubes=cubes, masters_dir=masters_dir)
    of_series = _of_series(locations, overscan, kinds, verify=verify)
    here = {*files, *locations}
    passed = [path for path in found.files if path not in here and not _is_our_product(path)]
    left_out = [
        *_where_masters_go(passed, exclude),
        *found.passed_over,
        *of_files.left_out,
        *decided.lost(),
        *of_series.left_out,
    ]
    sources, excluded = _with_extensions(of_files.sources, of_files.excluded)
    log_unused(source.fits for source in sources if source.fits is not None)
    sources, excluded = [*sources, *of_series.sources], [*excluded, *of_series.excluded]
    if not files and not locations:
        passed_over = "".join(f"; {line}" for line in left_out)
        raise NoFramesError(
            f"No input files found in {', '.join(described(d) for d in searched)}; looked in all folders below for "
            f"{' '.join(FRAME_ENDINGS)} and for .zarr series{passed_over}; {advice}"
        )
    left_out += remark_lines((source.frame.label, source.frame.metadata) for source in sources)
    unique = _without_copies(sources, left_out, excluded)
    return Inputs(
        sources={s.frame.label: s for s in unique},
        left_out=tuple(left_out),
        searched=searched,
        excluded=tuple(excluded),
    )


def described(directory: str) -> str:
    """Name a file or a directory, and say so if it does not exist or is a file of another kind."""
    if is_file(directory):
        return f"{directory} (a file of another kind)"
    return directory if exists(directory) else f"{directory} (does not exist)"


def _is_our_product(path: str) -> bool:
    """Return whether a file has the name of a master or of a calibrated frame."""
    name = os.path.basename(path)
    return name.startswith("master_") or "_cal." in name


def _where_masters_go(files: Sequence[str], masters_dir: str) -> list[str]:
    """Say that files are not read because masters are written beside them."""
    if not files:
        return []
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return [
        f"{files[0]}{more}: not read, because masters are written to {masters_dir}; name another directory with --out "
        "or master_frames.output_dir"
    ]


def _fits_source(image: FitsFrame) -> Source:
    file = _file_with(image)
    frame = Frame(label=image.label, metadata=image.metadata, file=file, place=image.hdu_index if file else 0)
    mark = fingerprint(image) if image.packed == "none" else ""
    return Source(frame=frame, fingerprint=mark, fits=image, primary_cards=image.primary_cards)


def _with_extensions(sources: list[Source], excluded: list[Source]) -> tuple[list[Source], list[Source]]:
    """Return sources, of which the only image of a file is one of several where files of its camera have several."""
    known = KnownExtensions.of(source.frame.metadata for source in (*sources, *excluded))
    return [_as_extension(source, known) for source in sources], [_as_extension(source, known) for source in excluded]


def _as_extension(source: Source, known: KnownExtensions) -> Source:
    metadata = source.frame.metadata
    label = known.label_of(source.fits, metadata) if source.fits is not None and not metadata.is_master else None
    if source.fits is None or label is None:
        return source
    image = source.fits.as_extension(label)
    metadata = replace(metadata, settings=replace(metadata.settings, extension=label))
    frame = Frame(label=image.label, metadata=metadata, file=_file_with(image), place=image.hdu_index)
    return replace(source, frame=frame, fits=image, primary_cards=image.primary_cards)


def _file_with(image: FitsFrame) -> str:
    """Return what joins the images of one file of several; "" for a file of one."""
    if image.extension is None:
        return ""
    return image.source if image.plane is None else f"{image.source}[plane {image.plane}]"


def _trimmed(source: Source, header: Header, overscan: OverscanRule) -> Source:
    """Return a source with what is subtracted and trimmed; masters stay as they are."""
    metadata = source.frame.metadata
    if metadata.is_master:
        return source
    readout = overscan.readout_of(header, width=metadata.width, height=metadata.height, path=source.frame.label)
    if readout is None:
        return source
    return replace(source, frame=replace(source.frame, metadata=trimmed_metadata(metadata, readout)), readout=readout)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Frames of files or of series, those that the user excluded, and a line for what cannot be used."""

    sources: list[Source]
    excluded: list[Source]
    left_out: list[str]


def _of_files(
    files: Sequence[str],
    overscan: OverscanRule,
    decided: ExcludedFiles,
    kinds: KindRules,
    *,
    cubes: Cubes,
    masters_dir: str,
) -> _Found:
    """Inspect FITS files and others; those in `masters_dir` that are masters are passed over."""
    sources: list[Source] = []
    excluded: list[Source] = []
    refused: list[tuple[str, str]] = []
    for path in files:
        try:
            images = [with_stated_kind(image, kinds) for image in inspect_images(path, cubes=cubes == "frames")]
            of_file = [_trimmed(_fits_source(image), Header(image.cards), overscan) for image in images]
        except InputError as error:
            refused.append((path, str(error)))
            logger.debug("%s: traceback", path, exc_info=True)
            continue
        is_own = bool(masters_dir) and is_below(path, masters_dir)
        for source in of_file:
            if is_own and source.frame.metadata.is_master:
                continue
            decision = decided.decision_on(path, source.fingerprint, source.frame.metadata.date_obs)
            if decision is None:
                sources.append(source)
            else:
                excluded.append(source)
                logger.info("%s: is excluded: %s", source.frame.label, decision.why)
    log_refusals(refused)
    return _Found(sources=sources, excluded=excluded, left_out=refusal_lines(refused))


def _of_series(locations: Sequence[str], overscan: OverscanRule, kinds: KindRules, *, verify: bool) -> _Found:
    """Open series and list their frames."""
    sources: list[Source] = []
    excluded: list[Source] = []
    left_out: list[str] = []
    for location in locations:
        try:
            series = open_series(location)
        except UnreachableError:
            raise
        except OstcalError as error:
            left_out.append(str(error))
            logger.debug("%s: traceback", location, exc_info=True)
            continue
        left_out += [*series.problems, *series.contradictions]
        for source in _sources_of(series, overscan, left_out, kinds, verify=verify):
            (excluded if source.index in series.excluded else sources).append(source)
    return _Found(sources=sources, excluded=excluded, left_out=left_out)


def _sources_of(
    series: Series, overscan: OverscanRule, left_out: list[str], kinds: KindRules, *, verify: bool
) -> list[Source]:
    """List the frames of a series, excluded ones too, which are logged; name those that cannot be trimmed.

    Frames that name no camera or detector have the one that their directory names.
    """
    if series.excluded:
        reasons = [f"{index} ({decision.why})" for index, decision in series.excluded.items()]
        n_more = len(reasons) - _EXCLUDED_NAMED
        logger.info(
            "%s: %d of %d frames are excluded: %s%s",
            series.location,
            len(reasons),
            len(series.records),
            ", ".join(reasons[:_EXCLUDED_NAMED]),
            f" and {n_more} more" if n_more > 0 else "",
        )
    camera_id = camera_id_from_names(series.location)
    sources = []
    for record in series.records:
        metadata = record.metadata
        settings = metadata.settings
        settings = replace(
            settings,
            camera_id=settings.camera_id or camera_id,
            row_order=settings.row_order or metadata.row_order,
        )
        metadata = with_forced_kind(replace(metadata, settings=settings), series.location, kinds)
        if never_set := why_never_set(metadata.date_obs):
            metadata = replace(metadata, date_obs=None, remarks=(*metadata.remarks, never_set))
        source = Source(
            frame=Frame(
                label=f"{series.location}#{record.index}",
                metadata=metadata,
                file=_file_of(record, series),
                place=record.hdu_index or 0,
            ),
            fingerprint=record.pixels.fingerprint,
            primary_cards=record.primary_header,
            series=series.location,
            index=record.index,
            verify=verify,
            has_chunk_checksums=series.has_chunk_checksums,
        )
        try:
            sources.append(_trimmed(source, Header((*record.header, *record.primary_header)), overscan))
        except FrameError as error:
            left_out.append(str(error))
    return sources


def _file_of(record: FrameRecord, series: Series) -> str:
    """Return what joins the images of one file that were imported into several series; "" for all other frames."""
    if record.metadata.settings.extension is None:
        return ""
    return f"{parent_of(series.location)}|{record.source}|{record.metadata.date_obs}"


def without_copies(
    sources: dict[str, Source], left_out: list[str], excluded: Sequence[Source] = ()
) -> dict[str, Source]:
    """Return frames each once, and without copies of the frames in `excluded`; packed ones are not compared."""
    kept = _without_copies(list(sources.values()), left_out, excluded)
    return {source.frame.label: source for source in kept}


def _without_copies(sources: list[Source], left_out: list[str], excluded: Sequence[Source] = ()) -> list[Source]:
    """Keep the first of equal frames, and none that is equal to an excluded one; say how many were not kept.

    Three equal rows and the same start of exposure are proof enough (noise differs in almost every pixel, and
    comparing 240 frames of 61 MP in full means reading 60 GB); without a date the samples are compared in full.
    """
    same: dict[tuple[str, object, str | None], list[Source]] = defaultdict(list)
    for source in excluded:
        if source.fingerprint:
            metadata = source.frame.metadata
            same[source.fingerprint, metadata.date_obs, metadata.settings.extension].append(source)
    not_wanted = {source.frame.label for source in excluded}
    kept: list[Source] = []
    copies: list[tuple[str, str]] = []
    of_excluded: list[tuple[str, str]] = []
    for source in sources:
        date, extension = source.frame.metadata.date_obs, source.frame.metadata.settings.extension
        candidates = same[source.fingerprint, date, extension] if source.fingerprint else []
        original = next((c for c in candidates if date or c.is_copy_of(source)), None)
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


def stack_of(sources: Sequence[Source]) -> FrameStack:
    """Return one stack of frames that may lie in files and in several series, in the order of `sources`."""
    parts: list[FrameStack] = []
    for (series, _, scale, readout), members in groupby(
        sources, lambda s: (s.series, s.fits is None, s.word_scale, s.readout)
    ):
        run = list(members)
        fits = tuple(source.fits for source in run if source.fits is not None)
        indices = tuple(source.index for source in run)
        part: FrameStack = FitsStack(fits) if fits else ZarrStack(series, indices, run[0].verify)
        part = WordsStack(part, scale) if scale else part
        parts.append(part if readout is None else TrimmedStack(part, readout))
    return parts[0] if len(parts) == 1 else ConcatenatedStack(tuple(parts))


def input_digest(sources: Sequence[Source]) -> str:
    """Return the SHA-256 over what identifies the frames, whatever their order."""
    lines = sorted(
        f"{source.identity}|{source.frame.metadata.date_obs}|{os.path.basename(source.frame.label)}"
        for source in sources
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
