"""Frames from FITS files into series, and back: what comes out is bit for bit what went in."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, InputError, NoFramesError
from ostcal.fits.cards import Card, format_card
from ostcal.fits.headers import settings_cards
from ostcal.fits.layout import encode_samples
from ostcal.fits.read import FitsFrame, FitsStack
from ostcal.fits.tiles import RUN_BYTES, UNLIMITED_BYTES, TileReader
from ostcal.fits.unpack import unpack
from ostcal.fits.write import RawFrame, write_raw_frame, write_raw_images
from ostcal.frames import FrameType, read_adu
from ostcal.places.durable import PARTIAL_ENDING, storage_errors
from ostcal.places.paths import Location, joined, make_directory, parent_of
from ostcal.series.format import shared_settings
from ostcal.series.reader import Series, find_series, open_series
from ostcal.series.record import FrameRecord, describe_pixels
from ostcal.series.series_writer import SeriesWriter, create_series, local_path, open_series_for_writing

_ROWS_AT_ONCE = 256
"""Rows that are converted at once: 20 MB of float64 at 9576 columns beside the frame itself."""


@dataclass(frozen=True, kw_only=True)
class SeriesReport:
    """Result of importing frames into one series."""

    location: str
    imported: int
    """Frames that are new in the series."""
    skipped: int
    """Frames that the series held already."""
    problems: tuple[str, ...]
    """One line for each file that was left out."""


def import_frames(
    frames: Sequence[FitsFrame],
    location: Location,
    *,
    compressor: str = "auto",
    rows: int | None = None,
    frame_type: FrameType | None = None,
    on_frame: Callable[[], None] | None = None,
    memory_limit_bytes: int = UNLIMITED_BYTES,
) -> SeriesReport:
    """Copy FITS frames into a series, one after the other, in memory for about one and a half frames.

    A frame that takes more than `memory_limit_bytes` is left out and named.

    The series is created if it does not exist, and extended if it is too short. Frames that it holds already (same
    start and same samples) are skipped, so that an interrupted import can be run again. Frames of another size or
    sample type than the series are left out and named.

    `compressor` and `rows` are those of `create_series`, for a new series. `frame_type` is for a new series, and for
    frames that do not say what they are; by default what the first frame says. `on_frame` is called after each frame.

    Raises
    ------
    NoFramesError
        If there is no frame.
    InputError
        If neither the caller nor the first frame says what the frames are.
    StorageError
        If it is no series, or cannot be written.
    """
    writer = _writer_for(frames, location, compressor=compressor, rows=rows, frame_type=frame_type)
    known = {_identity(record) for record in writer.records}
    free = writer.free_indices()
    n_known = len(known)
    skipped = 0
    problems: list[str] = []
    for position, frame in enumerate(frames):
        try:
            check_memory(frame, memory_limit_bytes)
            record, samples = _read_frame(frame, writer, free[0] if free else writer.n_planned, memory_limit_bytes)
            if _identity(record) in known:
                skipped += 1
            else:
                if not free:
                    writer.extend(writer.n_planned + len(frames) - position)
                    free = writer.free_indices()
                writer.write_frame(free.pop(0), samples, record)
                known.add(_identity(record))
        except FrameError as error:
            problems.append(str(error))
        if on_frame is not None:
            on_frame()
    return SeriesReport(
        location=writer.location, imported=len(known) - n_known, skipped=skipped, problems=tuple(problems)
    )


def export_series(
    location: Location, directory: str | os.PathLike[str], *, on_frame: Callable[[], None] | None = None
) -> list[str]:
    """Write all frames of a series as FITS files named ``dark_YYYYMMDD_HHMMSS_NNN.fits`` (start in UTC, index).

    Imported frames get their own header back; frames from a camera get one from their record, with the sections of
    their overscan. The directory is made if it does not exist. No file is overwritten: one of the same bytes stays, so
    that an export that was interrupted goes on. Return the files; `on_frame` is called after each frame. Images of
    files of several are written into one file again, those of the series beside this one with it.

    Raises
    ------
    StorageError
        If it is no series, or another file has the name of one or it cannot be written.
    FrameError
        After all others are written, if frames of the series are damaged; the message names them.
    """
    series = open_series(location)
    target = os.fspath(directory)
    with storage_errors(f"{target}: the directory cannot be made"):
        make_directory(target)
    files: list[str] = []
    problems = list(series.problems)
    beside = _series_of_images(series)
    for record in series.records:
        try:
            if beside:
                files.append(_export_file(record, beside, target))
            else:
                files.append(export_frame(record, series.read_frame(record.index), target, series.frame_type))
        except FrameError as error:
            problems.append(str(error))
        if on_frame is not None:
            on_frame()
    if problems:
        raise FrameError(f"{len(files)} frames were written to {target}, {len(problems)} not: {'; '.join(problems)}")
    return files


def export_frame(
    record: FrameRecord, samples: NDArray[Any], directory: str | os.PathLike[str], frame_type: FrameType
) -> str:
    """Write one frame of a series as a FITS file into an existing directory, and return its path.

    Name and header follow from the record; `samples` are (height, width) in the dtype of the series, whose frame type
    counts where the record has none.

    Raises
    ------
    StorageError
        If another file has its name or it cannot be written.
    """
    path = joined(directory, export_name(record, frame_type))
    raw = RawFrame(
        cards=record.header if record.source is not None else [*_cards_of(record), *record.header],
        dtype=samples.dtype.name,
        height=samples.shape[0],
        width=samples.shape[1],
        read_rows=lambda start, stop: samples[start:stop],
    )
    write_raw_frame(path, raw)
    return path


def export_name(record: FrameRecord, frame_type: FrameType) -> str:
    """Return the file name of an exported frame: kind, start in UTC, index of at least three digits."""
    date_obs = record.metadata.date_obs
    when = date_obs.astimezone(UTC).strftime("%Y%m%d_%H%M%S") if date_obs is not None else "undated"
    return f"{record.metadata.frame_type or frame_type}_{when}_{record.index:03d}.fits"


def _series_of_images(series: Series) -> list[Series]:
    """Return the series that hold the images of the same files, itself included; none for ordinary frames."""
    if all(record.metadata.settings.extension is None for record in series.records):
        return []
    parent = parent_of(series.location)
    others = [open_series(location) for location in find_series([parent]) if location != series.location]
    files = {_file_of(record) for record in series.records}
    return [series, *(other for other in others if any(_file_of(record) in files for record in other.records))]


def _file_of(record: FrameRecord) -> tuple[str | None, datetime | None, tuple[str, ...]] | None:
    """Return what the images of one file have in common; ``None`` for ordinary frames."""
    if record.metadata.settings.extension is None:
        return None
    return record.source, record.metadata.date_obs, record.primary_header


def _export_file(record: FrameRecord, series: Sequence[Series], directory: str) -> str:
    """Write the file that an image of several came from, with all images that series hold of it."""
    images: dict[int, RawFrame] = {}
    for one in series:
        for other in one.records:
            if _file_of(other) != _file_of(record) or other.hdu_index is None or other.hdu_index in images:
                continue
            samples = one.read_frame(other.index)
            images[other.hdu_index] = RawFrame(
                cards=other.header if other.hdu_index else other.primary_header,
                dtype=samples.dtype.name,
                height=samples.shape[0],
                width=samples.shape[1],
                read_rows=partial(_rows_of, samples),
            )
    path = joined(directory, export_name(record, series[0].frame_type))
    write_raw_images(path, record.primary_header, [images[index] for index in sorted(images)], has_primary=0 in images)
    return path


def _rows_of(samples: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    return samples[start:stop]


# ---- into a series ----


def _identity(record: FrameRecord) -> tuple[datetime | None, str]:
    """Return what identifies a frame: two of one start and of equal samples are copies."""
    return record.metadata.date_obs, record.pixels.checksum


def _writer_for(
    frames: Sequence[FitsFrame], location: Location, *, compressor: str, rows: int | None, frame_type: FrameType | None
) -> SeriesWriter:
    """Open the series that takes frames; create it as the first of them is, if it does not exist."""
    if not frames:
        raise NoFramesError(f"{location}: there are no frames to import")
    path, first = local_path(location), frames[0]
    kind = frame_type or first.metadata.frame_type
    if path.exists():
        return open_series_for_writing(path)
    if kind is None:
        raise InputError(
            f"{first.source}: it does not say what it shows (IMAGETYP); say whether it is bias, dark or flat"
        )
    return create_series(
        path,
        n_frames=len(frames),
        height=first.height,
        width=first.width,
        dtype=_sample_dtype(first),
        frame_type=kind,
        compressor=compressor,
        rows=rows,
        attributes=shared_settings(
            first.metadata.settings,
            exposure_time_s=first.metadata.exposure_time_s,
            filter_name=first.metadata.filter_name,
            set_temperature_c=first.metadata.set_temperature_c,
        ),
    )


def _sample_dtype(frame: FitsFrame) -> str:
    """Return the narrowest dtype that holds a frame's ADU exactly."""
    layout = (frame.bitpix, frame.bzero)
    if layout == (-32, 0.0) and frame.bscale == 1.0:
        return "float32"
    whole = {(8, 0.0): "uint8", (16, 0.0): "int16", (16, 32768.0): "uint16", (32, 0.0): "int32"}
    return whole.get(layout, "float64") if frame.is_whole else "float64"


def check_memory(frame: FitsFrame, memory_limit_bytes: int) -> None:
    """Raise FrameError where a frame takes more memory than it may."""
    needed = frame.width * frame.height * np.dtype(_sample_dtype(frame)).itemsize * 3 // 2 + RUN_BYTES
    if needed > memory_limit_bytes:
        raise FrameError(
            f"{frame.source}: cannot be imported: {frame.width} x {frame.height} pixels take {needed // 2**20} MiB,"
            f" more than compute.memory_limit ({memory_limit_bytes // 2**20} MiB); set it higher or leave the frame out"
        )


def _read_frame(
    frame: FitsFrame, writer: SeriesWriter, index: int, memory_limit_bytes: int
) -> tuple[FrameRecord, NDArray[Any]]:
    """Read a frame and make its record; FrameError if it does not belong into the series."""
    dtype = _sample_dtype(frame)
    height, width = writer.frame_shape
    if (frame.height, frame.width) != (height, width) or dtype != writer.dtype:
        raise FrameError(
            f"{frame.source}: is {frame.width} x {frame.height} of {dtype}, but {writer.location} holds"
            f" {width} x {height} of {writer.dtype}; import it into a series of its own"
        )
    if frame.is_ready:
        samples = _read_samples(frame, dtype)
    else:  # unpacked inside the series, where the copy that a killed import leaves is deleted
        scratch = Path(writer.location) / f"unpacked.{uuid.uuid4().hex}{PARTIAL_ENDING}"
        with storage_errors(f"{writer.location}: no room to unpack {frame.source}"):
            scratch.mkdir()
        try:
            with TileReader(memory_limit_bytes - RUN_BYTES) as tiles:
                plain = unpack(frame, scratch, tiles)
            samples = _read_samples(plain, dtype)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    metadata = replace(frame.metadata, frame_type=frame.metadata.frame_type or writer.frame_type)
    record = FrameRecord(
        index=index,
        metadata=metadata,
        pixels=describe_pixels(samples),
        source=os.path.basename(frame.source),
        header=frame.cards if frame.extension is None else frame.own_cards,
        primary_header=frame.primary_cards,
        hdu_index=frame.hdu_index if frame.extension is not None else None,
    )
    try:
        record.to_json()
    except ValueError as error:
        raise FrameError(f"{frame.source}: cannot be imported: {error}; shorten it or leave the frame out") from error
    return record, samples


def _read_samples(frame: FitsFrame, dtype: str) -> NDArray[Any]:
    """Read a frame in ADU as `dtype`.

    Refuse samples from which float64 does not give the stored ones back: 64-bit integers, and some with BSCALE.
    """
    stack = FitsStack((frame,))
    samples = np.empty((frame.height, frame.width), dtype)
    for start in range(0, frame.height, _ROWS_AT_ONCE):
        rows = samples[start : start + _ROWS_AT_ONCE]
        rows[...] = read_adu(stack, start, start + len(rows))[0]
        if dtype != "float64" or frame.bitpix == -64:
            continue
        offset = frame.data_offset + start * frame.width * frame.stored_dtype.itemsize
        stored = np.fromfile(frame.path, frame.stored_dtype, rows.size, offset=offset).reshape(rows.shape)
        if not np.array_equal(encode_samples(rows, frame, frame.path), stored, equal_nan=frame.bitpix < 0):
            raise FrameError(
                f"{frame.source}: its samples (BITPIX {frame.bitpix}, BSCALE {frame.bscale:g}, BZERO {frame.bzero:g})"
                " cannot be kept exactly in a series; use the FITS file itself"
            )
    return samples


# ---- out of a series ----


def _cards_of(record: FrameRecord) -> list[str]:
    """Make the header of a frame that was never in a FITS file."""
    metadata, settings = record.metadata, record.metadata.settings
    pixel_size_um = metadata.pixel_size_um or (None, None)
    cards: list[Card] = [
        ("IMAGETYP", f"{metadata.frame_type.title()} Frame" if metadata.frame_type else None, "kind of frame"),
        ("EXPTIME", metadata.exposure_time_s, "[s] exposure"),
        ("DATE-OBS", metadata.date_obs, "start of the exposure, UTC"),
        ("DATE-END", record.date_end, "end of the exposure, UTC"),
        ("CCD-TEMP", metadata.ccd_temperature_c, "[degC] sensor"),
        ("SET-TEMP", metadata.set_temperature_c, "[degC] set point of the cooler"),
        ("COOLPOWR", record.cooler_power_percent, "[%] power of the cooler"),
        ("INSTRUME", settings.camera, "camera"),
        ("CAMERAID", settings.camera_id, "which camera or detector"),
        ("GAIN", settings.gain, "setting of the camera"),
        ("OFFSET", settings.offset, "setting of the camera"),
        ("EGAIN", metadata.egain_e_per_adu, "[e-/ADU] gain"),
        ("XBINNING", settings.binning[0], "columns binned"),
        ("YBINNING", settings.binning[1], "rows binned"),
        ("READOUTM", settings.readout_mode, "readout mode"),
        ("FILTER", metadata.filter_name, "filter"),
        ("BAYERPAT", metadata.bayer_pattern, "colours of the first pixels"),
        ("ROWORDER", metadata.row_order, "order of the rows"),
        *settings_cards(settings),
        ("XPIXSZ", pixel_size_um[0], "[um] width of a pixel"),
        ("YPIXSZ", pixel_size_um[1], "[um] height of a pixel"),
    ]
    return [image for card in cards for image in format_card(*card)]
