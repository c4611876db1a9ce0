"""From input directories to masters on disk: the whole way on one page, with plain values and without a config."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ostcal.build.output_directory import owned, scratch_directory
from ostcal.build.plan import Unchanged, plan_masters
from ostcal.build.prepare import prepare_masters
from ostcal.build.publish import Published
from ostcal.build.request import BuildRequest, Watcher
from ostcal.build.select_groups import gather_frames, select_groups
from ostcal.build.strip_jobs import Combined, combine_and_publish, plan_strips
from ostcal.engine.driver import connected
from ostcal.errors import OstcalError
from ostcal.inputs.grouping import Group
from ostcal.library.store import MasterStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What became of a run."""

    made: tuple[Published, ...]
    unchanged: tuple[Unchanged, ...]
    """Masters of earlier runs that need not be made again."""
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    groups: tuple[Group, ...]
    seconds: dict[str, float]


def build_masters(request: BuildRequest, watcher: Watcher | None = None) -> BuildReport:
    """Make all masters that the input directories allow.

    Parameters
    ----------
    request : BuildRequest
    watcher : Watcher, optional
        Follows the run, and may end it before work begins.

    Raises
    ------
    NoFramesError
        If there is nothing to work on.
    PlanError
        If the memory limit is too small.
    StorageError
        If the output directory cannot be written, or another run is writing there.
    """
    watcher, clock, unusable = watcher or Watcher(), _StageClock(), list[str]()
    with (
        owned(request.output_dir, request.lock_wait_s),
        scratch_directory(request.output_dir) as scratch,
        _logged_on_failure(unusable),
    ):
        sources = gather_frames(request, scratch, unusable)
        clock.lap("inspect")
        selection = select_groups(request, sources)
        clock.lap("group")
        plan = plan_masters(request, selection.groups, sources)
        plan_strips(request, request.execution, plan.to_make)  # too small a memory limit is refused here
        clock.lap("plan")
        if plan.to_make and not watcher.planned([master.group for master in plan.to_make], plan.bytes_to_read):
            raise OstcalError("nothing made: the run was declined")
        clock.lap("confirm")
        if plan.to_make:
            with connected(request.execution) as execution:
                if execution.scheduler == "distributed":
                    clock.lap("cluster")
                prepared, no_noise = prepare_masters(request, execution, plan)
                clock.lap("survey")
                combined = combine_and_publish(request, execution, prepared, watcher)
                clock.lap("combine")
        else:
            MasterStore(request.store).sweep()  # strips that no run continues
            combined, no_noise = Combined(made=(), left_out=(), errors=()), []
    for master in combined.made:
        master.log_statistics()
    if selection.n_lights:
        logger.info("%d light frames among the input are not used", selection.n_lights)
    warnings = (*unusable, *selection.left_out, *combined.left_out, *plan.warnings, *selection.missing, *no_noise)
    return BuildReport(
        made=combined.made,
        unchanged=plan.unchanged,
        warnings=(*warnings, *(line for master in combined.made for line in master.warnings)),
        errors=(*plan.errors, *combined.errors),
        groups=selection.groups,
        seconds=clock.seconds,
    )


@contextmanager
def _logged_on_failure(lines: Sequence[str]) -> Iterator[None]:
    """Log why frames are left out where work ends in an error: it is often the reason."""
    try:
        yield
    except OstcalError:
        for line in lines:
            logger.warning("%s", line)
        raise


class _StageClock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
        logger.debug("timing: %s %.3f s", stage, self.seconds[stage])
