"""Frames of files and series that are named one by one, read as a run of masters reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ostcal.errors import FrameError, InputError
from ostcal.fits.cards import Header
from ostcal.fits.hdus import refuse_several
from ostcal.fits.read import FitsFrame, inspect_images
from ostcal.fits.sections import OverscanRule
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Frame
from ostcal.inputs.trimmed import trimmed_metadata
from ostcal.inputs.unused import log_unused
from ostcal.inputs.whole_floats import word_scale_of
from ostcal.places.paths import exists, is_dir
from ostcal.series.format import STORE_ENDING
from ostcal.series.reader import open_series


@dataclass(frozen=True, kw_only=True)
class FileFrame:
    """A frame in a file, or of a series."""

    source: Source
    cards: tuple[str, ...]

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.source.frame.label

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of what is kept."""
        metadata = self.source.frame.metadata
        return metadata.height, metadata.width

    @property
    def unit(self) -> str | None:
        """What BUNIT of its header says."""
        return Header(self.cards).text("BUNIT")

    @property
    def meta(self) -> Mapping[str, Any]:
        """The values of its header."""
        header = Header(self.cards)
        return {keyword: header.value(keyword) for keyword in header.keywords if header.value(keyword) is not None}

    @property
    def is_ready(self) -> bool:
        """Whether its samples can be read in place."""
        return self.source.fits is None or self.source.fits.is_ready


def frames_of_place(place: str, overscan: OverscanRule) -> list[FileFrame]:
    """List the frames of a file: one, or the planes of an image of three axes; or those of a series.

    Raises
    ------
    FrameError
        If the file is no frame, or holds several images.
    InputError
        If it is a folder.
    StorageError
        If it is a series that cannot be read.
    """
    if place.rstrip("/\\").lower().endswith(STORE_ENDING):
        return _of_series(place, overscan)
    if is_dir(place):
        raise InputError(f"{place}: is a folder; give its files, or a series that ends with {STORE_ENDING}")
    if not exists(place):
        is_pattern = any(sign in place for sign in "*?[")
        advice = "patterns are for glob.glob" if is_pattern else "give another path"
        raise FrameError(f"{place}: there is no such file; {advice}")
    images = inspect_images(place, cubes=True)
    refuse_several(list(dict.fromkeys(image.extension or "" for image in images)), place)
    log_unused(images[:1])
    return [_of_image(image, overscan) for image in images]


def ready_frames(frames: Sequence[FileFrame], directory: str, memory_bytes: int) -> list[FileFrame]:
    """Unpack what is compressed into a directory; tiles are decoded in `memory_bytes`."""
    ready = []
    with TileReader(memory_bytes) as tiles:
        for frame in frames:
            fits = frame.source.fits
            is_packed = fits is not None and not fits.is_ready
            source = replace(frame.source, fits=unpack(fits, directory, tiles)) if is_packed and fits else frame.source
            ready.append(replace(frame, source=source))
    return ready


def with_words(frame: FileFrame) -> FileFrame:
    """Return a frame, one of whole numbers of 16 bits that are stored as floats to be read as these."""
    source = frame.source
    stack = replace(source, readout=None).stack()
    if stack.encoding.is_integer or word_scale_of(stack) != 1.0:
        return frame
    if source.fits is not None and source.fits.is_plain_float:
        return replace(frame, source=replace(source, fits=replace(source.fits, word_scale=1.0)))
    return replace(frame, source=replace(source, word_scale=1.0))


def _of_image(image: FitsFrame, overscan: OverscanRule) -> FileFrame:
    frame = Frame(label=image.label, metadata=image.metadata)
    source = Source(frame=frame, fingerprint="", fits=image, primary_cards=image.primary_cards)
    return _trimmed(FileFrame(source=source, cards=image.cards), overscan)


def _of_series(place: str, overscan: OverscanRule) -> list[FileFrame]:
    series = open_series(place)
    if series.problems:
        raise FrameError(f"{series.problems[0]}; exclude it with ostcal exclude")
    frames = []
    for record in series.records:
        if record.index in series.excluded:
            continue
        label = f"{series.location}#{record.index}"
        source = Source(
            frame=Frame(label=label, metadata=record.metadata),
            fingerprint="",
            series=series.location,
            index=record.index,
            has_chunk_checksums=series.has_chunk_checksums,
        )
        frames.append(_trimmed(FileFrame(source=source, cards=(*record.header, *record.primary_header)), overscan))
    return frames


def _trimmed(frame: FileFrame, overscan: OverscanRule) -> FileFrame:
    """Return a frame with what is subtracted and trimmed; masters stay as they are."""
    metadata = frame.source.frame.metadata
    if metadata.is_master:
        return frame
    readout = overscan.readout_of(Header(frame.cards), width=metadata.width, height=metadata.height, path=frame.label)
    if readout is None:
        return frame
    kept = replace(frame.source.frame, metadata=trimmed_metadata(metadata, readout))
    return replace(frame, source=replace(frame.source, frame=kept, readout=readout))
