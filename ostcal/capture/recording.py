"""Commit downloaded frames in a thread: measure, check, write and export them."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.capture.exposer import TakenFrame, finite
from ostcal.capture.place import SeriesPlace, series_settings
from ostcal.capture.series_plan import FrameDone, SeriesPlan, SeriesSink
from ostcal.devices.protocols import CameraInfo
from ostcal.errors import FrameError, StorageError
from ostcal.fits.cards import Header, format_card
from ostcal.fits.sections import readout_from_header
from ostcal.fits.write import PARTIAL_FITS
from ostcal.frames import FrameMetadata, FrameType, Optics
from ostcal.inputs.copy_frames import export_frame, export_name
from ostcal.measure import live
from ostcal.places.durable import os_reason, sweep_partial_files
from ostcal.places.locking import locked
from ostcal.places.paths import make_directory
from ostcal.series.reader import open_series
from ostcal.series.record import FrameCheck, FramePixels, FrameRecord, describe_pixels
from ostcal.series.series_writer import SeriesWriter, create_series, open_series_for_writing

logger = logging.getLogger(__name__)

_MOST_WAITING: Final = 2
"""Frames given to the writer but not committed yet; with the one being downloaded, three are in memory."""


@dataclass(frozen=True, kw_only=True)
class RecordedSeries:
    """A series to record: plan, sink, place and camera."""

    plan: SeriesPlan
    sink: SeriesSink
    place: SeriesPlace
    info: CameraInfo
    set_point_c: float | None


class SeriesRecorder:
    """Commit the frames of one series in turn; for one thread at a time.

    A new series is created with its first frame, so that a failing camera leaves no empty series.

    Raises
    ------
    StorageError
        At construction, if the existing series cannot be written.
    """

    def __init__(self, series: RecordedSeries) -> None:
        self._series = series
        self._place = series.place
        self._plan = series.plan
        self._writer: SeriesWriter | None = None
        self._levels_adu: list[float] = []
        self._bayer = bayer_pattern(series.info, series.plan)
        self._max_adu = series.plan.full_scale_adu or series.info.max_adu
        self.present = series.place.present
        if series.place.series is not None:
            self._writer = open_series_for_writing(series.place.location)
            kept = [
                record for record in series.place.series.records if record.index not in series.place.series.excluded
            ]
            records = sorted(kept, key=lambda record: str(record.metadata.date_obs))
            medians = [record.pixels.statistics.median for record in records]
            self._levels_adu = [median for median in medians if median is not None]

    @property
    def levels_adu(self) -> tuple[float, ...]:
        """Median levels (ADU) of the frames that are not excluded, oldest first."""
        return tuple(self._levels_adu)

    def commit(self, taken: TakenFrame) -> FrameDone:
        """Measure, check and write a frame; it is on disk when this returns.

        Raises
        ------
        StorageError
            If it cannot be written; then the series does not contain it.
        """
        if self._writer is None:
            height, width = taken.result.pixels.shape
            self._writer = create_series(
                self._place.location,
                n_frames=self._plan.n_frames,
                height=height,
                width=width,
                dtype="int32" if self._series.info.max_adu > np.iinfo(np.uint16).max else taken.result.pixels.dtype,
                frame_type=self._plan.frame_type,
                compressor=self._series.sink.compressor,
                rows=self._series.sink.rows,
                attributes=series_settings(self._plan, self._series.set_point_c),
            )
        writer = self._writer
        pixels = _as_stored(taken.result.pixels, writer)
        measured = describe_pixels(pixels, saturation_adu=live.SATURATED_FROM * self._max_adu)
        verdicts = self._judge(taken, pixels, measured)
        free = writer.free_indices()
        if not free:  # frames with damaged records keep their indices, and the series grows
            writer.extend(max(writer.n_planned + 1, self._plan.n_frames))
            free = writer.free_indices()
        record = FrameRecord(
            index=free[0],
            metadata=self._metadata(taken),
            pixels=measured,
            date_end=taken.end_utc,
            header=(*section_cards(self._series), *pointing_cards(taken)),
            requested_exposure_time_s=taken.requested_s,
            cooler_power_percent=finite(taken.status.cooler_power_percent),
            checks=tuple(
                FrameCheck(name=verdict.check, value=verdict.value, limit=verdict.limit, passed=verdict.passed)
                for verdict in verdicts
            ),
        )
        writer.write_frame(record.index, pixels, record)
        self.present += 1
        if measured.statistics.median is not None:
            self._levels_adu.append(measured.statistics.median)
        if self._series.sink.export_frames:
            export_frame(record, pixels, self._export_directory(), self._plan.frame_type)
        return FrameDone(plan=self._plan, record=record, verdicts=verdicts, present=self.present)

    def export_missing(self) -> None:
        """Write missing FITS copies of committed frames, for example after a kill between record and copy."""
        if not self._series.sink.export_frames or self._place.series is None:
            return
        directory = self._export_directory()
        sweep_partial_files(directory, PARTIAL_FITS)
        series = open_series(self._place.location)
        for record in series.records:
            if not (directory / export_name(record, self._plan.frame_type)).exists():
                try:
                    export_frame(record, series.read_frame(record.index), directory, self._plan.frame_type)
                except FrameError as error:
                    logger.warning("%s", error)

    def _metadata(self, taken: TakenFrame) -> FrameMetadata:
        height, width = taken.result.pixels.shape
        binning = self._plan.settings.binning
        size_um = self._series.info.pixel_size_um
        return FrameMetadata(
            frame_type=self._plan.frame_type,
            exposure_time_s=taken.result.exposure_time_s,
            width=width,
            height=height,
            settings=self._plan.settings,
            filter_name=self._plan.filter_name,
            optics=Optics(rotator_deg=None if (turned := self._plan.rotation_deg) is None else turned % 360),
            set_temperature_c=self._series.set_point_c,
            ccd_temperature_c=finite(taken.status.ccd_temperature_c),
            date_obs=taken.start_utc,
            longitude_deg=night.longitude_deg if (night := self._series.sink.night) is not None else None,
            bayer_pattern=self._bayer,
            row_order="TOP-DOWN",
            pixel_size_um=(size_um[0] * binning[0], size_um[1] * binning[1]) if size_um else None,
            egain_e_per_adu=self._series.info.electrons_per_adu,
            full_scale=("MaxADU", float(self._max_adu)),
        )

    def _judge(self, taken: TakenFrame, pixels: NDArray[Any], measured: FramePixels) -> tuple[live.Verdict, ...]:
        limits, max_adu = self._plan.limits, self._max_adu
        statistics = measured.statistics
        level = statistics.median or 0.0
        ccd_c = finite(taken.status.ccd_temperature_c)
        verdicts = [live.saturation(statistics.saturated, pixels.size, limits.saturated_share)]
        if ccd_c is not None and self._series.set_point_c is not None:
            verdicts.append(live.temperature(ccd_c, self._series.set_point_c, limits.temperature_c))
        jump = live.level_jump(level, self._levels_adu, limits, self._plan.bias_level_adu or 0.0)
        verdicts += [jump] if jump else []
        if self._plan.frame_type in (FrameType.BIAS, FrameType.DARK):
            exposure_s = taken.result.exposure_time_s
            above = live.light_above_bias(level, self._plan.bias_level_adu, exposure_s, limits, max_adu)
            since = live.light_since_start(level, self._levels_adu, limits, max_adu)
            verdicts += [verdict for verdict in (above, since) if verdict]
            gradient_adu = live.gradient_adu(_kept(pixels, section_cards(self._series)))
            verdicts.append(live.light_gradient(gradient_adu, exposure_s, limits, max_adu))
        return tuple(verdicts)

    def _export_directory(self) -> Path:
        directory = Path(self._place.location).with_suffix("")
        _make_directory(directory)
        return directory


@contextlib.contextmanager
def series_lock(sink: SeriesSink, name: str) -> Iterator[None]:
    """Lock all series of a name against other runs; remove a new directory that stays empty.

    Raises
    ------
    StorageError
        If another run holds the lock, or the directory cannot be written.
    """
    directory = Path(sink.directory)
    is_new = not directory.exists()
    _make_directory(directory)
    try:
        with locked(directory / f".{name}.lock", what=str(directory / name)):
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _make_directory(directory: Path) -> None:
    try:
        make_directory(directory)
    except OSError as error:
        raise StorageError(f"{directory}: the directory cannot be made: {os_reason(error)}") from error


class WriterThread:
    """Commit frames in one thread while the camera exposes the next; a context manager that waits for it."""

    def __init__(self, commit: Callable[[TakenFrame], FrameDone]) -> None:
        self._commit = commit
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ostcal-writer")
        self._waiting: deque[Future[FrameDone]] = deque()

    def __enter__(self) -> WriterThread:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def submit(self, taken: TakenFrame) -> list[FrameDone]:
        """Hand over a frame, waiting for room; return the frames committed since the last call.

        Raises
        ------
        StorageError
            If an earlier frame could not be written.
        """
        done = self.committed(leave=_MOST_WAITING - 1)
        self._waiting.append(self._pool.submit(self._commit, taken))
        return done

    def committed(self, *, leave: int | None = None) -> list[FrameDone]:
        """Return the frames committed since the last call; with `leave`, wait until no more than so many are not.

        Raise `StorageError` if one of them could not be written.
        """
        done = []
        while self._waiting and (self._waiting[0].done() or (leave is not None and len(self._waiting) > leave)):
            done.append(self._waiting.popleft().result())
        return done


def section_cards(series: RecordedSeries) -> tuple[str, ...]:
    """Return BIASSEC and TRIMSEC of frames with overscan: those of the configuration, else those of the driver."""
    sink, info = series.sink, series.info
    given = bool(sink.overscan_section or sink.trim_section)
    overscan = sink.overscan_section if given else info.overscan_section
    trim = sink.trim_section if given else info.trim_section
    cards = (("BIASSEC", overscan or None, "overscan"), ("TRIMSEC", trim or None, "what is to be kept"))
    return tuple(image for card in cards for image in format_card(*card))


def pointing_cards(taken: TakenFrame) -> tuple[str, ...]:
    """Return where the mount pointed at the start of a frame, if one was pointed."""
    where = taken.pointed_at
    if where is None:
        return ()
    cards = (
        ("OBJCTALT", round(where.altitude_deg, 4), "[deg] altitude that was pointed at"),
        ("OBJCTAZ", round(where.azimuth_deg, 4), "[deg] azimuth, from north through east"),
    )
    return tuple(image for card in cards for image in format_card(*card))


def _kept(pixels: NDArray[Any], cards: Sequence[str]) -> NDArray[Any]:
    """Return the part of a frame that masters keep; all where sections do not fit, which masters will name."""
    height, width = pixels.shape
    try:
        readout = readout_from_header(Header(cards), width=width, height=height, path="")
    except FrameError:
        return pixels
    if readout is None:
        return pixels
    (left, right), (bottom, top) = ((runs[0][0], runs[-1][1]) for runs in (readout.columns, readout.rows))
    return pixels[bottom:top, left:right]


def bayer_pattern(info: CameraInfo, plan: SeriesPlan) -> str | None:
    """Return the Bayer pattern of the frames; ``None`` if they are binned or monochrome."""
    return info.bayer_pattern if plan.settings.binning == (1, 1) else None


def _as_stored(pixels: NDArray[Any], writer: SeriesWriter) -> NDArray[Any]:
    """Return a frame in the dtype of its series; raise `StorageError` if its values do not fit.

    Cameras may deliver one frame as 32-bit and the next as 16-bit integers.
    """
    if pixels.dtype == writer.dtype:
        return pixels
    limits = np.iinfo(writer.dtype)
    lowest, highest = int(pixels.min()), int(pixels.max())
    if not limits.min <= lowest <= highest <= limits.max:
        raise StorageError(
            f"{writer.location}: a frame with values from {lowest} to {highest} does not fit its {writer.dtype};"
            " move the series away to begin a new one"
        )
    return pixels.astype(writer.dtype)
