"""Combining closed series while the camera exposes: strips and surveys of their frames, no masters.

Nothing is published before the capture ends. What a master is judged by (gain, read noise, the other darks) is known
when all series are there, and the run at the end finds the strips as those of an interrupted run: it takes them over
where frames, method and versions are the same, and combines again what differs. So the masters are those of a run
afterwards.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ostcal.build.output_directory import owned
from ostcal.build.plan import MasterPlan, needs_camera, plan_masters
from ostcal.build.request import BuildRequest
from ostcal.build.run import gather_frames
from ostcal.build.stored_strips import StoreSink
from ostcal.build.strip_jobs import create_arrays, discard_unfinished, flat_treatment, plan_strips, strip_job
from ostcal.build.surveys import survey_frames
from ostcal.engine.driver import Failure
from ostcal.engine.execution import usable_cores
from ostcal.engine.graph import Progress, run_graph
from ostcal.engine.interrupts import leave_termination_to_the_parent
from ostcal.engine.tiling import PROCESS_BYTES
from ostcal.errors import OstcalError, PlanError
from ostcal.frames import FrameType
from ostcal.inputs.image_sets import group_images
from ostcal.places.paths import is_remote, normalized

logger = logging.getLogger(__name__)

FRAMES_OF_CAPTURE: Final = 3
"""Frames in the memory of the process that captures: one downloaded, one waiting, one written."""
STOP_S: Final = 3.0
"""How long the process may take to end after its input was closed; strips take tenths of a second."""
COMPILE_S: Final = 30.0
"""How long it may take where its strips are wanted next: it may be compiling, for 12 s, what they will need too."""
_NICENESS = 19
_BEGUN = "begun"
"""First line of the process: until then it imports, and has nothing that is worth waiting for."""
_SAID = "said: "
"""Begins the lines of the process that the user sees; others are for the log of debugging."""


def can_combine_while_exposing(request: BuildRequest) -> bool:
    """Return whether anything can be combined before all series are there, on cores that the capture leaves.

    Not where a cluster combines, which is quicker, or object storage keeps the masters; nor where rejection needs the
    camera's noise, which is measured on all series together.
    """
    if request.library != request.output_dir:  # the newest frame says the directory
        return False
    is_here = request.execution.scheduler != "distributed" and not is_remote(request.output_dir)
    return is_here and spare_workers(request) > 0 and not needs_camera(request.method)


def spare_workers(request: BuildRequest) -> int:
    """Return the threads that leave one core to the capture."""
    return min(request.execution.workers, usable_cores() - 1)


# ---- in the process that combines ----


class _StoppedError(Exception):
    """The capture has ended, or its process has."""


def combine_beside_capture(request: BuildRequest, series: Sequence[str], darks: Sequence[str]) -> None:
    """Combine closed series for the run at the end, until standard input ends; say what became of each.

    `darks` are the closed series that may give the dark of flats.
    """
    leave_termination_to_the_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    ended = threading.Event()

    def wait_for_the_end() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):  # not `sys.stdin`, whose lock would be held when this process ends first
                pass
        ended.set()

    def progressed(_: Progress) -> None:
        if ended.is_set():
            raise _StoppedError

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sys.stdout.write(f"{_BEGUN}\n")
    sys.stdout.flush()
    with contextlib.suppress(_StoppedError):
        for one in series:
            began = time.perf_counter()
            try:
                failures = combine_series(request, one, darks, progressed)
            except OstcalError as error:
                failures = (Failure(job=one, message=str(error)),)
            lines = [f"not combined while the camera exposes but at the end: {f.message}" for f in failures or ()]
            if failures == ():
                lines.append(f"combined while the camera exposes, in {time.perf_counter() - began:.1f} s")
            for line in lines:
                sys.stdout.write(f"{_SAID}{one}: {line}\n")
                sys.stdout.flush()


def combine_series(
    request: BuildRequest,
    series: str,
    darks: Sequence[str] = (),
    progressed: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Failure, ...] | None:
    """Combine a closed series and leave its strips to the next run of the same request.

    `darks` are the closed series that may give the dark of flats. Return what could not be combined, which the next
    run tries again; ``None`` where flats wait for their dark.

    Raises
    ------
    OstcalError
        If there is nothing to combine, another run is writing there, or memory or disk do not allow it.
    """
    beside = replace(
        request,
        input_dirs=(*darks, series),
        execution=replace(request.execution, scheduler="threads", workers=spare_workers(request)),
    )
    with owned(request.output_dir, request.store, request.lock_wait_s) as scratch:
        plans = _plans_of(beside, series, scratch)
        if not plans:
            return None
        capture_bytes = PROCESS_BYTES + FRAMES_OF_CAPTURE * 2 * max(math.prod(plan.stack.shape[1:]) for plan in plans)
        work = plan_strips(request, request.execution, plans)  # the strips of the run at the end
        strip_bytes = (work.peak_memory_bytes - PROCESS_BYTES) // work.workers
        free_bytes = request.memory_limit_bytes - capture_bytes - PROCESS_BYTES
        if free_bytes < strip_bytes:
            needed = -(-(capture_bytes + PROCESS_BYTES + strip_bytes) // 2**20)
            raise PlanError(f"compute.memory_limit leaves no room beside the capture; {needed} MiB would")
        execution = replace(beside.execution, workers=min(beside.execution.workers, free_bytes // strip_bytes))
        beside = replace(beside, memory_limit_bytes=request.memory_limit_bytes - capture_bytes)
        names = {plan.name for plan in plans}
        try:
            create_arrays(request, [(plan, request.method) for plan in plans], work)
            jobs = [
                strip_job(
                    request,
                    plan,
                    request.method,
                    StoreSink(store=request.store, name=plan.name),
                    flat_treatment(request, plan, waits_for=names),
                )
                for plan in plans
            ]
            results = run_graph(jobs, work.strips, lambda job, result: None, execution, progressed)
            if request.publishing.quality is not None:
                survey_frames(beside, execution, plans, keep=True)
        finally:
            discard_unfinished(request.store, plans, is_ended=True)
    return tuple(result for result in results if isinstance(result, Failure))


def _plans_of(request: BuildRequest, series: str, scratch: str) -> list[MasterPlan]:
    """Plan the masters of a series and the darks that they need; none where flats wait for their dark.

    Flats are combined only with a dark of their exposure: for any other one a better dark may still come.
    """
    sources = gather_frames(request, scratch, [], [])
    grouping = group_images((source.frame for source in sources.values()), request.rules)
    groups = [group for group in grouping.groups if group.key.frame_type in request.kinds]
    plans = plan_masters(request, groups, sources).to_make
    location = normalized(series)
    wanted = [
        plan
        for plan in plans
        if any(source.series == location for source in plan.members)
        and (plan.dark is None or plan.dark.choice.kind == "matched")
    ]
    names = {name for plan in wanted for name in (plan.name, *plan.darks_of_run)}
    return [plan for plan in plans if plan.name in names]


# ---- in the process that captures ----


class StripsProcess:
    """Combines closed series by ``ostcal masters --strips-only``, one process after the other, at low priority.

    What fails in it is no failure of the capture: the run at the end makes whatever is missing. The process reads every
    value of the configuration as JSON from its standard input, which it watches too: it ends when that is closed, or
    when the process that captures is gone.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = json.dumps(config).encode("ascii") + b"\n"
        self._closed: queue.SimpleQueue[tuple[str, FrameType] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_begun = False
        self._has_ended = False

    def combine(self, series: str, kind: FrameType) -> None:
        """Have a closed series combined, after those before it; does not wait."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="ostcal-strips", daemon=True)
            self._worker.start()
        self._closed.put((series, kind))

    def close(self, patience_s: float = STOP_S) -> None:
        """End the process, killing it if need be; the strips that it has finished are left to the run at the end."""
        with self._lock:
            self._has_ended = True
            process = self._process
            if process is not None and process.stdin is not None:
                with contextlib.suppress(OSError):  # it may be gone
                    process.stdin.close()
        self._closed.put(None)
        if process is not None:
            try:
                process.wait(patience_s if self._has_begun else 0)
            except subprocess.TimeoutExpired:
                logger.debug("the process that combines beside the capture does not end; it is killed")
            finally:
                process.kill()
        if self._worker is not None:
            self._worker.join()

    def _work(self) -> None:
        darks: list[str] = []
        waiting: list[str] = []
        try:
            while (closed := self._closed.get()) is not None and not self._has_ended:
                series, kind = closed
                if kind is FrameType.FLAT:
                    waiting.append(series)
                    asked = [series]
                else:
                    darks.append(series)
                    asked = [series, *waiting]
                done = self._run(asked, darks)
                waiting = [flats for flats in waiting if flats not in done]
        except OSError as error:
            logger.warning("no masters are combined while the camera exposes, but at the end: %s", error)

    def _run(self, asked: Sequence[str], darks: Sequence[str]) -> set[str]:
        """Run one process; return the series that it is done with."""
        options = [*(f"--strips-only={series}" for series in asked), *(f"--strips-dark={dark}" for dark in darks)]
        done: set[str] = set()
        with self._lock:
            if self._has_ended:
                return done
            # -P: no module is taken from the working directory. A session of its own: Ctrl-C is for the capture.
            self._has_begun = False
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ostcal", "masters", "--config=-", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
            )
        with process:  # closes its pipes and waits for it
            with contextlib.suppress(OSError):  # it may be gone, or a sandbox may not allow it
                if hasattr(os, "setpriority"):
                    os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
                if hasattr(os, "SCHED_IDLE"):  # a process that is merely nice keeps the core for some milliseconds
                    os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            with self._lock:
                if process.stdin is not None and not self._has_ended:
                    process.stdin.write(self._config)
                    process.stdin.flush()
            for data in process.stdout or ():
                line = data.decode("utf-8", errors="replace").rstrip()
                if line == _BEGUN:
                    self._has_begun = True
                elif line.startswith(_SAID):
                    logger.info("%s", line.removeprefix(_SAID))
                    done |= {series for series in asked if line.startswith(f"{_SAID}{series}: ")}
                else:
                    logger.debug("combining beside the capture: %s", line)
            code = process.wait()
        with self._lock:
            if code != 0 and not self._has_ended:
                raise OSError(f"the process ended with {code}")
        return done
