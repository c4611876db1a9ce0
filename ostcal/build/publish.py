"""The end of a master: its header, its FITS files, its record in the store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ostcal.build.camera_properties import CameraRecord, camera_document
from ostcal.build.judge import MasterQuality, QualityRules, Subject, judge_master, scan_along
from ostcal.build.survey_series import FULL_SCALE_ADU
from ostcal.engine.execution import Execution
from ostcal.engine.normalization import colour_planes
from ostcal.engine.rejection import SeriesNoise
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import STRIP_PIXELS
from ostcal.errors import StorageError
from ostcal.fits.unfinished import UnfinishedImage
from ostcal.fits.write import ImagePlane, header_length, write_fits
from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group
from ostcal.library.attributes import attributes_of
from ostcal.library.find import LibraryMaster
from ostcal.library.master_header import Provenance, defect_cards, history_lines, master_cards, scaled_cards
from ostcal.library.master_names import file_name
from ostcal.library.planes import MasterWriter, Plane
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.masters.strip_scan import RunningScans, StripScan
from ostcal.places.paths import is_remote, joined
from ostcal.vocabulary import Flavour

logger = logging.getLogger(__name__)

_FITS_THREADS = 2
"""Where the last master of a run is published nobody else has work: 0.3 s for 61 MP instead of 0.6 s."""


@dataclass(frozen=True, kw_only=True)
class StoreSink:
    """The planes of one master in the store; implements `ostcal.engine.tasks.StripSink`."""

    store: str
    name: str
    read_again: tuple[Plane, ...] = ("master", "std")
    """Images that somebody reads before the master is finished."""
    early: UnfinishedImage | None = None
    """The FITS file of the master, where its samples are written along with the strips."""
    along: StripScan | None = None
    """The scan of the master, where it is made along with the strips: where tasks are threads of this process."""

    def create(self, shape: tuple[int, int], chunk_rows: int, work: str = "") -> int:
        """Create the arrays; a chunk is a strip, so that no two tasks write one chunk.

        Gives the strips that are there already, as an interrupted run of the same `work` left them.
        """
        return MasterStore(self.store).create(self.name, shape, chunk_rows, work=work).n_kept()

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        """Write the three planes of the rows that begin at ``start``; give a checksum of each."""
        writer = MasterStore(self.store).writer(self.name)
        checksums = writer.write_rows(start, master=master, n_used=n_used, std=std, read_again=self.read_again)
        if self.early is not None:
            self.early.write_rows(start, master)
        if self.along is not None:
            self.along.add_rows(start, master=master, n_used=n_used, std=std)
        return checksums

    @property
    def row_step(self) -> int:
        """Rows that are stored together."""
        return MasterStore(self.store).writer(self.name).chunk_rows

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows of the master plane."""
        return MasterStore(self.store).writer(self.name).read_rows("master", start, stop)

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows of the plane of standard deviations."""
        return MasterStore(self.store).writer(self.name).read_rows("std", start, stop)

    def write_divided(
        self, start: int, combined: StoreSink, *, master: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        """Write the images of a strip, and its sample counts as `combined` has them, not even unpacked."""
        store = MasterStore(self.store)
        writer = store.writer(self.name)
        writer.write_plane("master", start, master, past_cache="master" not in self.read_again)
        writer.write_plane("std", start, std, past_cache="std" not in self.read_again)
        writer.copy_plane("n_used", start, store.writer(combined.name))
        if self.early is not None:
            self.early.write_rows(start, master)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A name that a combined group is published under."""

    name: str
    frame_type: FrameType
    made_at: datetime


@dataclass(frozen=True, kw_only=True)
class PlannedMaster:
    """A group on its way to become one master, or two: a bias set is also the dark of its exposure."""

    job: MasterJob
    sink: StoreSink
    staging: StoreSink | None
    """Where flats are combined before they are normalised."""
    group: Group
    outputs: tuple[Output, ...]
    provenance: Provenance
    survey: SeriesSurvey | None = None
    """Of its frames; ``None`` where quality control is off or they could not be read."""
    camera: CameraRecord | None = None
    previous: LibraryMaster | None = None
    """The newest older master of the same key."""

    @property
    def combined(self) -> StoreSink:
        """Where strips are combined to."""
        return self.sink if self.staging is None else self.staging


@dataclass(frozen=True, kw_only=True)
class Made:
    """A finished master."""

    name: str
    outputs: tuple[Output, ...]
    group: Group
    result: JobResult
    files: tuple[tuple[FrameType, str], ...]
    """FITS files by kind; the place in the store where no FITS was asked for."""
    warnings: tuple[str, ...]
    seconds: float
    verdict: Outcome | None = None
    """``None`` without quality control."""
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, tuple[float | None, str]] = field(default_factory=dict)
    """Numbers to be followed over the years: value and unit."""


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """A master of an earlier run that would come out the same."""

    planned: PlannedMaster
    """As it would be made."""
    stored: LibraryMaster
    files: tuple[tuple[FrameType, str], ...]
    """As of `Made`."""


@dataclass(frozen=True, kw_only=True)
class FinishMasters:
    """Publish a combined master; picklable, for it runs where the graph runs."""

    masters: dict[str, PlannedMaster]
    output_dir: str
    save_fits: bool
    extensions: bool
    flavour: Flavour
    quality: QualityRules | None
    """``None`` without quality control."""
    reported: bool = False
    """Whether a report reads the masters afterwards."""

    def __call__(self, job: MasterJob, result: JobResult) -> Made:
        """Judge the master, write the FITS files, then the record that makes it visible in the store."""
        planned = self.masters[job.name]
        began = time.perf_counter()
        quality = self._judge(planned, result)
        judged = time.perf_counter()
        provenance = replace(planned.provenance, verdict=quality.verdict if quality is not None else None)
        files: list[tuple[FrameType, str]] = []
        for output in planned.outputs:
            path = joined(self.output_dir, file_name(output.name, self.flavour))
            if self.save_fits:
                self._write(path, planned, result, replace(provenance, frame_type=output.frame_type))
            files.append((output.frame_type, path if self.save_fits else f"{planned.sink.store}/{job.name}"))
        written = time.perf_counter()
        attributes = attributes_of(
            planned.group,
            result,
            provenance,
            master_cards(planned.group, result, provenance),
            history_lines(planned.group, provenance),
            quality.document if quality is not None else None,
            camera_document(planned.camera) if planned.camera is not None else None,
            [os.path.basename(path) for _, path in files] if self.save_fits else [],
        )
        MasterStore(planned.sink.store).commit(job.name, attributes)
        logger.debug(
            "timing: %s: statistics %.3f s, FITS %.3f s, commit %.3f s, published",
            job.name,
            judged - began,
            written - judged,
            time.perf_counter() - written,
        )
        return Made(
            name=job.name,
            outputs=planned.outputs,
            group=planned.group,
            result=result,
            files=tuple(files),
            warnings=self._warnings(planned, result),
            seconds=sum(result.seconds.values()),
            verdict=quality.verdict if quality is not None else None,
            findings=quality.findings if quality is not None else (),
            metrics=quality.metrics if quality is not None else {},
        )

    def of(self, name: str) -> FinishMasters:
        """Give what publishes the master of this name alone: a task that carried all would grow with their number."""
        return replace(self, masters={name: self.masters[name]})

    def _judge(self, planned: PlannedMaster, result: JobResult) -> MasterQuality | None:
        """Judge a master and add its plane of defects to the store."""
        if self.quality is None:
            return None
        store = MasterStore(planned.sink.store)
        writer = store.writer(planned.job.name)
        _, height, width = planned.job.stack.shape
        quality = judge_master(
            Subject(
                group=planned.group,
                result=result,
                read_rows=writer.read_rows,
                step_rows=writer.chunk_rows,
                shape=(height, width),
                method=planned.provenance.method,
                survey=planned.survey,
                camera=planned.camera,
                full_scale_adu=planned.provenance.saturation_adu,
                previous=planned.previous,
                failed_darks=tuple(name for name in _darks_of(planned.job) if _has_failed(store, name)),
                along=planned.sink.along,
            ),
            self.quality,
        )
        writer.write_defects(quality.scan.defects.rows)
        return quality

    def begun(self, masters: Sequence[PlannedMaster], execution: Execution) -> list[PlannedMaster]:
        """Begin what can be made along with the strips: FITS samples and the scan; gives the masters with it."""
        darks = {name for master in masters for name in _darks_of(master.job)}
        crowd = RunningScans(at_once=execution.workers + 1)
        return [self._begun(master, execution, crowd, is_dark=master.job.name in darks) for master in masters]

    def _begun(
        self, master: PlannedMaster, execution: Execution, crowd: RunningScans, *, is_dark: bool
    ) -> PlannedMaster:
        sink = replace(
            master.sink,
            early=self._early_image(master) if execution.scheduler != "distributed" else None,
            along=self._scan_along(master, execution.workers, crowd) if execution.scheduler == "threads" else None,
        )
        is_scanned = self.quality is not None and sink.along is None  # when all strips are there
        read_again: dict[Plane, bool] = {
            "master": is_scanned or self.reported or is_dark or sink.early is None,
            "std": is_scanned or (self.save_fits and self.extensions),
        }
        sink = replace(sink, read_again=tuple(plane for plane, is_read in read_again.items() if is_read))
        return replace(master, sink=sink, job=replace(master.job, sink=sink))

    def _scan_along(self, master: PlannedMaster, workers: int, crowd: RunningScans) -> StripScan | None:
        """Begin to scan a master, where its strips are combined by threads of this process."""
        if self.quality is None:
            return None
        _, height, width = master.job.stack.shape
        return scan_along(
            master.group,
            (height, width),
            master.camera,
            master.provenance.saturation_adu,
            self.quality,
            crowd,
            bands_at_once=2 * workers,
        )

    def _early_image(self, master: PlannedMaster) -> UnfinishedImage | None:
        """Begin the FITS file of a master, where its samples can be written along with the strips.

        Not where a second file has the same samples, values are scaled by what is known at the end, or strips of an
        earlier run are there, which nobody writes again.
        """
        is_plain = self.save_fits and self.flavour == "adu" and not is_remote(self.output_dir)
        if not is_plain or len(master.outputs) != 1 or not _is_written_whole(master):
            return None
        (output,) = master.outputs
        _, height, width = master.job.stack.shape
        provenance = replace(master.provenance, frame_type=output.frame_type)
        if self.quality is not None:
            provenance = replace(provenance, verdict=Outcome.PASS)
        planes = self._images(master, _supposed_result(master.job), provenance)
        early = UnfinishedImage(
            path=joined(self.output_dir, file_name(output.name, self.flavour)),
            header_length=header_length(planes, history_lines(master.group, provenance)),
            height=height,
            width=width,
        )
        try:
            early.begin()
        except StorageError as error:  # the master is made all the same, and says what is wrong if it still is
            logger.debug("samples are not written with the strips: %s", error)
            return None
        return early

    def _write(self, path: str, planned: PlannedMaster, result: JobResult, provenance: Provenance) -> None:
        writer = MasterStore(planned.sink.store).writer(planned.job.name)
        # A cluster may run this task again; the names were free when the run began.
        write_fits(
            path,
            self._images(planned, result, provenance),
            history=history_lines(planned.group, provenance),
            rows_per_write=writer.chunk_rows * max(1, STRIP_PIXELS // (writer.grid.width * writer.chunk_rows)),
            threads=_FITS_THREADS,
            overwrite=True,
            begun=planned.sink.early,
        )

    def _images(self, planned: PlannedMaster, result: JobResult, provenance: Provenance) -> list[ImagePlane]:
        _, height, width = planned.job.stack.shape
        writer = MasterStore(planned.sink.store).writer(planned.job.name)
        cards = master_cards(planned.group, result, provenance)
        factor = self._factor(result)
        if factor != 1.0:
            cards = scaled_cards(cards, factor)

        def image(start: int, stop: int) -> NDArray[np.float32]:
            rows: NDArray[np.float32] = writer.read_rows("master", start, stop)
            return rows if factor == 1.0 else rows * np.float32(factor)

        def uncertainty(start: int, stop: int) -> NDArray[np.float32]:
            used = writer.read_rows("n_used", start, stop)
            std: NDArray[np.float32] = writer.read_rows("std", start, stop)
            error: NDArray[np.float32] = (factor * std / np.sqrt(np.maximum(used, 1))).astype(np.float32)
            return error

        size = {"height": height, "width": width}
        unit = next(card for card in cards if card[0] == "BUNIT")
        planes = [ImagePlane(name=None, dtype="float32", cards=cards, read_rows=image, **size)]
        if self.extensions:
            planes.append(ImagePlane(name="UNCERT", dtype="float32", cards=[unit], read_rows=uncertainty, **size))
            planes += _counted_planes(writer, size)
        return planes

    def _factor(self, result: JobResult) -> float:
        """Give what the values of a FITS file are multiplied by.

        For PixInsight full scale is 1; a flat comes to the level that it had, and never above 1, which would be cut.
        """
        if self.flavour == "adu":
            return 1.0
        level_adu = max(result.normalization_levels.values(), default=1.0)
        return min(level_adu / FULL_SCALE_ADU, 1 / max(result.maximum, 1e-30))

    def _warnings(self, planned: PlannedMaster, result: JobResult) -> tuple[str, ...]:
        labels = [frame.label for frame in planned.group.frames]
        lines = []
        if result.levels is not None:
            lines += [
                f"{labels[index]}: left out of {planned.job.name}, its level after the dark is "
                f"{result.levels.levels_adu[index]:.1f} ADU"
                for index in result.levels.left_out
            ]
        if result.invalid and result.levels is None:
            lines.append(f"{planned.job.name}: {result.invalid} samples are not finite numbers and were left out")
        if result.empty_pixels:
            lines.append(f"{planned.job.name}: {result.empty_pixels} pixels have no valid sample and are NaN")
        return tuple(lines)


def _is_written_whole(master: PlannedMaster) -> bool:
    """Whether all strips will be written, a flat's when they are normalised."""
    return master.staging is not None or MasterStore(master.sink.store).writer(master.sink.name).n_kept() == 0


def _supposed_result(job: MasterJob) -> JobResult:
    """Give a result of which the header has as many cards as that of the real one, if nothing unusual happens."""
    pattern = job.flat.bayer_pattern if job.flat is not None else None
    return JobResult(
        name=job.name,
        noise=SeriesNoise(),
        noise_measured=job.method.resolved(job.n_frames).needs_noise,
        levels=None,
        normalization_levels=dict.fromkeys(colour_planes(pattern), 1.0) if job.flat is not None else {},
        rejected_per_frame=(0,) * job.n_frames,
        n_samples=1,
        invalid=0,
        empty_pixels=0,
        minimum=1.0,
        maximum=1.0,
        mean=1.0,
        seconds={},
    )


def _counted_planes(writer: MasterWriter, size: dict[str, int]) -> list[ImagePlane]:
    """Give the planes of whole numbers: samples used, and bits of defects where there are some."""
    used = [("BUNIT", "", "samples kept")]
    bits = [("BUNIT", "", "bits of defects"), *defect_cards()]
    planes = [
        ImagePlane(name="NUSED", dtype="uint16", cards=used, read_rows=partial(writer.read_rows, "n_used"), **size)
    ]
    if writer.has("dq"):
        planes.append(
            ImagePlane(name="DQ", dtype="uint8", cards=bits, read_rows=partial(writer.read_rows, "dq"), **size)
        )
    return planes


def _darks_of(job: MasterJob) -> tuple[str, ...]:
    return job.flat.dark_jobs if job.flat is not None else ()


def _has_failed(store: MasterStore, name: str) -> bool:
    return store.attributes(name).get("verdict") == str(Outcome.FAIL)
