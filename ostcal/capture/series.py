"""Capture the missing frames of a series, writing one while the next is exposed.

For each frame: start its exposure, hand the previous frame to the writer, wait, download. So an image is always
downloaded before the next exposure starts, and at most three frames are in memory: one being downloaded, one waiting,
one being written. Each frame is either committed or absent.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ostcal.capture.enough import EnoughControl
from ostcal.capture.exposer import Exposer, Meanwhile, TakenFrame
from ostcal.capture.place import SeriesPlace, find_place
from ostcal.capture.pointing import SkyMount
from ostcal.capture.recording import RecordedSeries, SeriesRecorder, WriterThread, series_lock
from ostcal.capture.series_plan import (
    CaptureWatcher,
    ExposureControl,
    FrameDone,
    SeriesEnd,
    SeriesOutcome,
    SeriesPlan,
    SeriesSink,
)
from ostcal.clock import Clock
from ostcal.devices.failures import MountError, NotNowError
from ostcal.devices.protocols import Camera
from ostcal.errors import DeviceError, OstcalError, StorageError
from ostcal.series.format import STORE_ENDING

logger = logging.getLogger(__name__)


def capture_series(
    camera: Camera,
    plan: SeriesPlan,
    sink: SeriesSink,
    clock: Clock,
    watcher: CaptureWatcher,
    *,
    control: ExposureControl | None = None,
    mount: SkyMount | None = None,
) -> SeriesOutcome:
    """Take the missing frames of a series; the settings of the plan are applied to the camera before.

    A control chooses each exposure if the plan has none, and a mount is pointed before each. If the camera or the
    mount fails, the disk is full or another run holds this series, the series keeps its frames, and the outcome has
    the reason.

    Raises
    ------
    KeyboardInterrupt
        After the exposure was aborted and all downloaded frames were committed.
    """
    try:
        exposer = Exposer(camera, clock, plan.retry)
    except DeviceError as error:
        location = str(Path(sink.directory) / f"{plan.name}{STORE_ENDING}")
        return _reported(_untouched(plan, location, SeriesEnd.CAMERA_FAILED, error), watcher)
    with ExitStack() as held:
        try:
            held.enter_context(series_lock(sink, plan.name))
        except StorageError as error:
            place = find_place(plan, sink, exposer.shape, exposer.set_point_c)
            return _reported(_untouched(plan, place.location, SeriesEnd.STORAGE_FAILED, error, place.present), watcher)
        place = find_place(plan, sink, exposer.shape, exposer.set_point_c)
        most = plan.n_frames if plan.enough is None else max(plan.n_frames, plan.enough.target.max_frames)
        missing = max(0, plan.n_frames - place.present)
        for line in (*place.notices, *(place.series.problems if place.series is not None else ())):
            logger.warning("%s", line)
        logger.info("%s: %d of %d frames are there, %d to take", place.location, place.present, plan.n_frames, missing)
        watcher.series_started(plan, place.location, missing)
        series = RecordedSeries(plan=plan, sink=sink, place=place, info=camera.info, set_point_c=exposer.set_point_c)
        try:
            recorder = SeriesRecorder(series)
            recorder.export_missing()
        except StorageError as error:
            return _reported(_untouched(plan, place.location, SeriesEnd.STORAGE_FAILED, error, place.present), watcher)
        control = control or Until(plan, clock)
        if plan.enough is not None and missing:
            control = EnoughControl(control, plan.enough, plan, place, watcher)
        run = _Run(series, recorder, exposer, watcher, control, mount)
        return _reported(run.outcome(*run.take(most - place.present if missing else 0)), watcher)


def keep_series(plan: SeriesPlan, place: SeriesPlace, watcher: CaptureWatcher) -> SeriesOutcome:
    """Return the outcome of a series for which one of an earlier night stands; nothing is taken."""
    watcher.series_started(plan, place.location, 0)
    records = place.series.records if place.series is not None else ()
    levels = [record.pixels.statistics.median for record in records]
    known = [level for level in levels if level is not None]
    outcome = SeriesOutcome(
        plan=plan,
        location=place.location,
        end=SeriesEnd.COMPLETE,
        message=f"{place.location}: {place.present} frames of an earlier night serve",
        present=place.present,
        taken=0,
        level_adu=statistics.median(known) if known else None,
    )
    return _reported(outcome, watcher)


class Until:
    """Control of a series in which all frames have the exposure of the plan, until a time of the clock.

    ``None`` is without end; `over` says why the series ended then.
    """

    is_enough = False

    def __init__(self, plan: SeriesPlan, clock: Clock, ends_s: float | None = None, over: str = "") -> None:
        if plan.exposure_time_s is None:
            raise ValueError(f"{plan.name}: a series whose exposures change needs a control")
        self._exposure_s = plan.exposure_time_s
        self._clock = clock
        self._ends_s = ends_s
        self.reason = over

    def next_exposure_s(self) -> float | None:
        """Return the exposure; ``None`` if its end would be too late."""
        is_over = self._ends_s is not None and self._clock.now_s() + self._exposure_s > self._ends_s
        return None if is_over else self._exposure_s

    def judge(self, *_: object) -> bool:
        """Keep every frame."""
        return True


class _Run:
    """One pass over the missing frames of a series."""

    def __init__(
        self,
        series: RecordedSeries,
        recorder: SeriesRecorder,
        exposer: Exposer,
        watcher: CaptureWatcher,
        control: ExposureControl,
        mount: SkyMount | None,
    ) -> None:
        self._plan = series.plan
        self._place = series.place
        self._recorder = recorder
        self._exposer = exposer
        self._watcher = watcher
        self._control = control
        self._mount = mount
        self._writer = WriterThread(recorder.commit)
        self._meanwhile = Meanwhile(started=self._hand_over, waiting=self._while_exposing)
        self._downloaded: TakenFrame | None = None
        self._refused = 0
        self._warnings: list[str] = list(series.place.notices)

    def take(self, missing: int) -> tuple[SeriesEnd, str]:
        """Take frames until none is missing or something ends the series; return why it ended."""
        with self._writer:
            try:
                try:
                    end = self._take_frames(missing)
                except NotNowError as error:
                    end = SeriesEnd.NOT_NOW, str(error)
                except MountError as error:  # between exposures
                    end = SeriesEnd.MOUNT_FAILED, str(error)
                except DeviceError as error:
                    self._exposer.abort()
                    end = SeriesEnd.CAMERA_FAILED, str(error)
                self._settle()
            except StorageError as error:
                self._exposer.abort()
                return SeriesEnd.STORAGE_FAILED, str(error)
            except KeyboardInterrupt:  # the exposer has aborted the exposure; keep every downloaded frame
                try:
                    self._settle()
                except StorageError as error:
                    logger.warning("%s", error)
                logger.warning(
                    "%s: interrupted; %d of %d frames are kept, and starting again takes the others",
                    self._place.location,
                    self._recorder.present,
                    self._plan.n_frames,
                )
                raise
            return end

    def outcome(self, end: SeriesEnd, reason: str) -> SeriesOutcome:
        """Return the outcome of the pass."""
        levels = self._recorder.levels_adu
        if self._plan.enough is not None and end is SeriesEnd.COMPLETE:
            self._plan = replace(self._plan, n_frames=self._recorder.present)
        return SeriesOutcome(
            plan=self._plan,
            location=self._place.location,
            end=end,
            message=_message(self._plan, self._place.location, self._recorder.present, end, reason),
            present=self._recorder.present,
            taken=self._recorder.present - self._place.present,
            refused=self._refused,
            warnings=tuple(self._warnings),
            level_adu=statistics.median(levels) if levels else None,
            reason=reason,
        )

    def _take_frames(self, missing: int) -> tuple[SeriesEnd, str]:
        kept = 0
        while kept < missing:
            if self._mount is not None and not self._control.is_enough:
                self._mount.aim()
            exposure_s = self._control.next_exposure_s()
            if exposure_s is None and self._control.is_enough:
                return SeriesEnd.COMPLETE, ""
            if exposure_s is None:
                return SeriesEnd.STOPPED, self._control.reason
            taken = self._take(exposure_s)
            if self._control.judge(taken.result, taken.started_s):
                self._downloaded = taken
                kept += 1
            else:
                self._refused += 1
        return SeriesEnd.COMPLETE, ""

    def _take(self, exposure_s: float) -> TakenFrame:
        """Take a frame; with a mount, see where it points before and that it has not moved after."""
        before, began_s = self._mount.direction() if self._mount is not None else None, self._exposer.now_s()
        taken = self._exposer.take(exposure_s, light=self._plan.light, meanwhile=self._meanwhile)
        if self._mount is not None and before is not None:
            self._mount.stood_still(before, self._exposer.now_s() - began_s)
        return replace(taken, pointed_at=before)

    def _hand_over(self) -> None:
        """Hand the last downloaded frame to the writer while the camera exposes the next one."""
        if self._downloaded is not None:
            taken, self._downloaded = self._downloaded, None
            self._report(self._writer.submit(taken))

    def _settle(self) -> None:
        """Commit all downloaded frames and wait for them."""
        self._hand_over()
        self._report(self._writer.committed(leave=0))

    def _while_exposing(self, exposure_s: float, elapsed_s: float) -> None:
        """Report progress; a frame that could not be written ends the exposure at once."""
        self._report(self._writer.committed())
        self._watcher.exposing(exposure_s, elapsed_s)

    def _report(self, frames: Iterable[FrameDone]) -> None:
        for done in frames:
            frame = f"{self._place.location}: frame {done.record.index}"
            logger.debug("%s of %g s: %s", frame, done.record.metadata.exposure_time_s, done.record.pixels.statistics)
            for verdict in done.verdicts:
                if not verdict.passed:
                    self._warnings.append(f"{frame}: {verdict.text}")
                    logger.warning("%s: %s", frame, verdict.text)
            self._watcher.frame_done(done)


def _untouched(plan: SeriesPlan, location: str, end: SeriesEnd, error: OstcalError, present: int = 0) -> SeriesOutcome:
    """Return the outcome of a series without a new frame."""
    return SeriesOutcome(
        plan=plan,
        location=location,
        end=end,
        message=_message(plan, location, present, end, str(error)),
        present=present,
        taken=0,
        reason=str(error),
    )


def _message(plan: SeriesPlan, location: str, present: int, end: SeriesEnd, reason: str) -> str:
    count = f"{location}: {present} of {plan.n_frames} frames"
    if end is SeriesEnd.COMPLETE:
        return count
    return f"{count}; {reason}; starting again takes the others"


def _reported(outcome: SeriesOutcome, watcher: CaptureWatcher) -> SeriesOutcome:
    """Log the outcome and pass it to the watcher."""
    logger.log(logging.INFO if outcome.is_complete else logging.WARNING, "%s", outcome.message)
    watcher.series_ended(outcome)
    return outcome
