"""Combining finished series while the camera takes the next: strips and the survey of their frames, no masters.

Nothing is published ahead. What a master is judged by (gain, read noise, the other darks) is known when all series are
there, and the build that is made then finds the strips as those of an interrupted run: it takes them over where frames,
method and versions are the same, and combines again what differs. So the masters are those of a run afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Final

from ostcal.build.plan import needs_camera, plan_masters
from ostcal.build.publish import PlannedMaster
from ostcal.build.request import BuildRequest
from ostcal.build.run import (
    LOCK_FILE,
    create_arrays,
    discard_unfinished,
    make_directory,
    plan_strips,
    survey_masters,
    sweep,
)
from ostcal.engine.driver import Failure
from ostcal.engine.execution import usable_cores
from ostcal.engine.graph import Progress, run_graph
from ostcal.engine.interrupts import interrupts_ignored
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import PROCESS_BYTES, WorkPlan
from ostcal.errors import OstcalError, PlanError
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import marked_dark_subtracted
from ostcal.inputs.gather import Source, gather_inputs
from ostcal.inputs.grouping import group_frames
from ostcal.library.verify_masters import without_damaged
from ostcal.places.locking import LockRules, locked
from ostcal.places.paths import is_remote, normalized, place
from ostcal.series.reader import open_series

logger = logging.getLogger(__name__)

FRAMES_OF_CAPTURE: Final = 3
"""Frames in the memory of the process that captures: one downloaded, one waiting, one written."""
STOP_S: Final = 3.0
"""How long the process may take to end after it was told to; strips take tenths of a second."""
COMPILE_S: Final = 30.0
"""How long it may take where its strips are wanted next: it may be compiling, for 12 s, what they will need too."""
_NICENESS = 19
_TOLD = "told: "
"""Begins the lines of the process that are for the person who watches; others are for the log of debugging."""
_CODE = """
import sys
sys.path[:] = {path!r}
sys.argv[:] = ["ostcal", "workflow"]  # whose lock it is
from ostcal.engine.interrupts import leave_termination_to_the_parent
leave_termination_to_the_parent()
from ostcal.build.while_exposing import serve
serve()
"""
"""Not ``multiprocessing``, which runs the caller's script once more: that would open the camera a second time."""


def can_combine_ahead(request: BuildRequest) -> bool:
    """Whether anything can be combined before all series are there, on cores that the capture leaves.

    Not where a cluster combines, which is quicker, or object storage keeps the masters; nor where rejection needs the
    camera's noise, which is measured on all series together.
    """
    is_here = request.execution.scheduler != "distributed" and not is_remote(request.output_dir)
    return is_here and spare_workers(request) > 0 and not needs_camera(request.method)


def spare_workers(request: BuildRequest) -> int:
    """Give the threads that leave one core to the capture."""
    return min(request.execution.workers, usable_cores() - 1)


# ---- in the process that combines ----


class _StoppedError(Exception):
    """The capture has ended, or its process has."""


def combine_ahead(
    request: BuildRequest,
    series: str,
    darks: Sequence[str] = (),
    progressed: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Failure, ...] | None:
    """Combine a series and leave its strips to the next build of the same request.

    Parameters
    ----------
    request : BuildRequest
        Of the build that will be made at the end.
    series : str
        Location of a finished series.
    darks : sequence of str
        Locations of series that may give the dark of flats.
    progressed : callable (Progress), optional

    Returns
    -------
    tuple of Failure, or None
        What could not be combined, which the next build tries again; ``None`` where flats wait for their dark.

    Raises
    ------
    OstcalError
        If there is nothing to combine, another run is writing there, or memory or disk do not allow it.
    """
    if request.execution.prepare is not None:
        request.execution.prepare()
    make_directory(request.output_dir)
    with locked(place(request.output_dir) / LOCK_FILE, LockRules(wait_s=request.lock_wait_s), what=request.output_dir):
        sweep(request.output_dir)
        planned, sources = _planned(replace(request, input_dirs=(*darks, series)), series)
        return _combine(request, planned, sources, progressed) if planned else None


def _planned(request: BuildRequest, series: str) -> tuple[list[PlannedMaster], dict[str, Source]]:
    """Give the masters of a series and the darks that they need, and all frames; none where a dark is missing."""
    sources = gather_inputs(request.input_dirs, exclude=request.output_dir, verify=request.verify).sources
    told_at_the_end: list[str] = []
    if request.verify:
        sources = without_damaged(sources, told_at_the_end, spare_workers(request))
    if request.make_flats:
        sources = marked_dark_subtracted(sources, told_at_the_end)
    grouping = group_frames((source.frame for source in sources.values()), request.rules)
    groups = [group for group in grouping.groups if request.asks_for(group.key.frame_type)]
    masters = plan_masters(request, groups, sources).to_make
    location = normalized(series)
    wanted = [
        master
        for master in masters
        if any(sources[frame.label].series == location for frame in master.group.frames) and _has_its_dark(master)
    ]
    needed = {name for master in wanted if master.job.flat is not None for name in master.job.flat.dark_jobs}
    return [master for master in masters if master in wanted or master.job.name in needed], sources


def _combine(
    request: BuildRequest,
    planned: Sequence[PlannedMaster],
    sources: dict[str, Source],
    progressed: Callable[[Progress], None],
) -> tuple[Failure, ...]:
    jobs = [master.job for master in planned]
    plan = plan_strips(request, jobs)
    execution = replace(request.execution, scheduler="threads", workers=_workers(request, jobs, plan))
    beside = replace(request, execution=execution, memory_limit_bytes=request.memory_limit_bytes - _capture_bytes(jobs))
    try:
        create_arrays(planned, plan, sources)
        results = run_graph(jobs, plan.strips, _leave, execution, progressed)
        if request.quality is not None:
            survey_masters(beside, planned, sources, keep=True)
    finally:
        discard_unfinished(request, planned, is_ended=True)
    return tuple(result for result in results if isinstance(result, Failure))


def _leave(job: MasterJob, result: JobResult) -> None:
    """Publish nothing."""


def _has_its_dark(master: PlannedMaster) -> bool:
    """Whether it is no flat, or one whose dark has its exposure: for any other one a better dark may still come."""
    flat = master.job.flat
    if flat is None or flat.dark is None:
        return True
    return flat.dark.second is None and master.provenance.calibration_status == "BD"


def _workers(request: BuildRequest, jobs: Sequence[MasterJob], plan: WorkPlan) -> int:
    """Give the threads that the memory allows beside the capture; strips are those of the build at the end."""
    capture_bytes = _capture_bytes(jobs)
    per_strip = (plan.peak_memory_bytes - PROCESS_BYTES) // plan.workers
    free = request.memory_limit_bytes - capture_bytes - PROCESS_BYTES
    if free < per_strip:
        needed = -(-(capture_bytes + PROCESS_BYTES + per_strip) // 2**20)
        raise PlanError(f"compute.memory_limit leaves no room beside the capture; {needed} MiB would")
    return min(spare_workers(request), free // per_strip)


def _capture_bytes(jobs: Sequence[MasterJob]) -> int:
    return PROCESS_BYTES + FRAMES_OF_CAPTURE * max(job.height * job.stack.shape[2] * 2 for job in jobs)


def serve() -> None:
    """Combine the series that come through standard input, as `AheadProcess` starts it; ends with that input."""
    _step_back()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()
    combiner = _Combiner(pickle.load(sys.stdin.buffer), ended)
    threading.Thread(target=_listen, args=(sys.stdin.buffer, asked, ended), daemon=True).start()
    with contextlib.suppress(_StoppedError):
        while (series := asked.get()) is not None and not ended.is_set():
            combiner.take(series)


def _step_back() -> None:
    """Run only where nobody else wants the core: a process that is merely nice keeps it for some milliseconds."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _listen(stream: IO[bytes], asked: queue.SimpleQueue[str | None], ended: threading.Event) -> None:
    """Take what comes until the other side closes it, or is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked.put(pickle.load(stream))
    ended.set()
    asked.put(None)


class _Combiner:
    """Combines darks as they come, and flats as soon as their dark is there."""

    def __init__(self, request: BuildRequest, ended: threading.Event) -> None:
        self._request = request
        self._ended = ended
        self._darks: list[str] = []
        self._flats: list[str] = []
        """Those that wait for their dark."""

    def take(self, series: str) -> None:
        """Combine a series that has ended, and the flats that waited for it."""
        if _is_of_flats(series):
            self._flats.append(series)
        else:
            self._darks.append(series)
            self._combine(series, ())
        self._flats = [flats for flats in self._flats if not self._combine(flats, self._darks)]

    def _combine(self, series: str, darks: Sequence[str]) -> bool:
        """Combine a series and tell of it; whether that is done with."""
        began = time.perf_counter()
        try:
            failures = combine_ahead(self._request, series, darks, self._progressed)
        except OstcalError as error:
            failures = (Failure(job=series, message=str(error)),)
        if failures == ():
            _tell(f"{series}: combined while the camera exposes, in {time.perf_counter() - began:.1f} s")
        for failure in failures or ():
            _tell(f"{series}: not combined while the camera exposes but at the end: {failure.message}")
        return failures is not None

    def _progressed(self, _: Progress) -> None:
        if self._ended.is_set():
            raise _StoppedError


def _is_of_flats(series: str) -> bool:
    try:
        return open_series(series).frame_type is FrameType.FLAT
    except OstcalError:  # combining will say what is wrong
        return False


def _tell(text: str) -> None:
    sys.stdout.write(f"{_TOLD}{text}\n")
    sys.stdout.flush()


# ---- in the process that captures ----


class AheadProcess:
    """Has finished series combined in a process of low priority.

    What fails in it is no failure of the capture: the build at the end makes whatever is missing.
    """

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._has_failed = False

    def combine(self, series: str) -> None:
        """Ask for a series to be combined, after those that were asked for before; does not wait."""
        if self._has_failed:
            return
        try:
            if self._process is None:
                self._process = self._start()
                self._send(self._process, self._request)
            self._send(self._process, series)
        except OSError as error:
            self._has_failed = True
            logger.warning("no masters are combined while the camera exposes, but at the end: %s", error)

    def close(self, patience_s: float = STOP_S) -> None:
        """End the process, killing it if need be; the strips that it has finished are left to the build at the end."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            with contextlib.suppress(OSError):  # it may be gone
                _pipe(process.stdin).close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
        finally:
            if process.poll() is None:
                logger.debug("the process that combines ahead does not end; it is killed")
                process.kill()
            process.wait()
            if self._reader is not None:
                self._reader.join()
            _pipe(process.stdout).close()

    def _start(self) -> subprocess.Popen[bytes]:
        # a session of its own too: threads other than the main one cannot have Ctrl-C ignored
        with interrupts_ignored():
            process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
            )
        self._reader = threading.Thread(target=_log_lines, args=(_pipe(process.stdout),), daemon=True)
        self._reader.start()
        return process

    @staticmethod
    def _send(process: subprocess.Popen[bytes], value: BuildRequest | str) -> None:
        pipe = _pipe(process.stdin)
        pipe.write(pickle.dumps(value))
        pipe.flush()


def _log_lines(stream: IO[bytes]) -> None:
    for data in stream:
        line = data.decode("utf-8", errors="replace").rstrip()
        if line.startswith(_TOLD):
            logger.info("%s", line.removeprefix(_TOLD))
        else:
            logger.debug("combining ahead: %s", line)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("the process was started without pipes")
    return stream
