"""Combining the frames of prepared masters strip by strip, and again without frames that turn out to be unreadable."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostcal.build.judge import begin_scan
from ostcal.build.plan import MasterPlan
from ostcal.build.prepare import PreparedMaster
from ostcal.build.publish import Publication, Published, Publisher, begin_image
from ostcal.build.request import BuildRequest, Watcher
from ostcal.build.stored_strips import FitsSink, RowSink, ScanSink, StoreMemory, StoreSink
from ostcal.build.surveys import survey_frames
from ostcal.engine.driver import Failure
from ostcal.engine.execution import Execution
from ostcal.engine.graph import run_graph
from ostcal.engine.rejection import RejectionMethod
from ostcal.engine.tasks import FlatTreatment, MasterJob
from ostcal.engine.tiling import JobSize, WorkPlan, check_report_fits, plan_each_worker, plan_work
from ostcal.errors import StorageError, UnreachableError
from ostcal.frames import LevelledStack
from ostcal.library.planes import Plane
from ostcal.library.store import MasterStore
from ostcal.measure.masters.strip_scan import RunningScans

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Combined:
    """What came of combining: masters, lines for frames left out on the way, lines for what failed."""

    made: tuple[Published, ...]
    left_out: tuple[str, ...]
    errors: tuple[str, ...]


def combine_and_publish(
    request: BuildRequest, execution: Execution, prepared: Sequence[PreparedMaster], watcher: Watcher
) -> Combined:
    """Combine and publish masters; those that an unreadable frame spoiled once more without it."""
    labels: defaultdict[str, list[str]] = defaultdict(list)  # of a file of several images all
    for master in prepared:
        for source in master.plan.members:
            labels[source.frame.label if source.fits is None else source.fits.path].append(source.frame.label)
    made: list[Published] = []
    left_out: list[str] = []
    errors: list[str] = []
    todo = list(prepared)
    while todo:
        n_told = len(errors)
        results = _run_once(request, execution, todo, watcher)
        made += [result for result in results if isinstance(result, Published)]
        failed = [(m, r) for m, r in zip(todo, results, strict=True) if isinstance(r, Failure)]
        spoiled: dict[str, str] = {}
        unlike: dict[str, str] = {}
        messages: dict[str, str] = {}
        for _, failure in failed:
            for label in labels.get(failure.bad_frame, ()):
                (unlike if failure.is_unlike else spoiled)[label] = failure.message
                messages |= {} if failure.is_unlike else {failure.bad_frame: failure.message}
        left_out += messages.values()
        smaller = []
        for master, failure in failed:
            plan = master.plan.without(spoiled) if spoiled else master.plan
            own = {frame.label for frame in plan.group.frames}
            reasons = {label: reason for label, reason in unlike.items() if label in own}
            plan = plan.leaving_out(reasons) if reasons else plan
            if failure.bad_frame in labels and len(plan.members) >= request.rules.min_frames:
                smaller.append(replace(master, plan=plan))
                continue
            name = master.plan.name
            if failure.job != name:
                errors.append(f"{name}: its dark {failure.job} could not be made")
                continue
            errors.append(f"{name}: {failure.message}")
            if failure.traceback:
                logger.debug("%s: %s", name, failure.traceback)
        there = {master.plan.name for master in smaller} | {master.name for master in made}
        if smaller and request.publishing.quality is not None:
            full_scales = {place: m.full_scale for place, m in enumerate(smaller) if m.full_scale is not None}
            surveys = survey_frames(
                request,
                execution,
                [master.plan for master in smaller],
                saturated_from_adu={place: full.saturated_from_adu for place, full in full_scales.items()},
            )
            smaller = [replace(master, survey=survey) for master, survey in zip(smaller, surveys, strict=True)]
        todo = []
        for master in smaller:
            missing = [name for name in master.plan.darks_of_run if name not in there]
            if missing:
                errors.append(f"{master.plan.name}: its dark {missing[0]} could not be made")
            else:
                todo.append(master)
        for line in errors[n_told:]:
            watcher.failed(line)
    return Combined(made=tuple(made), left_out=tuple(left_out), errors=tuple(errors))


def _run_once(
    request: BuildRequest, execution: Execution, prepared: Sequence[PreparedMaster], watcher: Watcher
) -> Sequence[Published | Failure]:
    plans = [master.plan for master in prepared]
    work = plan_strips(request, execution, plans)
    if execution.scheduler != "distributed":
        execution = replace(execution, workers=work.workers)
    names = {plan.name for plan in plans}
    darks = {name for plan in plans for name in plan.darks_of_run}
    scans = RunningScans(at_once=execution.workers + 1)
    publications: dict[str, Publication] = {}
    jobs: list[MasterJob] = []
    is_ended = True
    try:
        create_arrays(request, [(master.plan, master.method) for master in prepared], work)
        request.store.sweep()  # what this run does not continue
        for master in prepared:
            name = master.plan.name
            flat = flat_treatment(request, master.plan, waits_for=names)
            publications[name], sink = _begin(request, execution, master, flat, scans, is_dark=name in darks)
            jobs.append(strip_job(request, master.plan, master.method, sink, flat))
        publisher = Publisher(
            publications=publications,
            store=request.store,
            output_dir=request.output_dir,
            rules=request.publishing,
        )

        def ended(result: Published | Failure) -> None:
            # the file of several images is written when all of them are there
            if isinstance(result, Published) and not result.group.files:
                watcher.published(result)

        results: Sequence[Published | Failure] = run_graph(
            jobs, work.strips, publisher, execution, watcher.progressed, ended
        )
        is_ended = False
    except StorageError as error:  # a full disk wants its room back; a store that does not answer does not
        is_ended = isinstance(error, UnreachableError)
        raise
    finally:
        discard_unfinished(request.store, plans, is_ended=is_ended)
        for publication in publications.values():
            if publication.image is not None:
                publication.image.discard()
    return results


def _begin(
    request: BuildRequest,
    execution: Execution,
    master: PreparedMaster,
    flat: FlatTreatment | None,
    scans: RunningScans,
    *,
    is_dark: bool,
) -> tuple[Publication, StoreSink]:
    """Begin what is made with the strips: the samples of the FITS file, and the scan where tasks are threads.

    Images that are not read again go past the page cache.
    """
    rules, name = request.publishing, master.plan.name
    image = scan = None
    beside: list[RowSink] = []
    if execution.scheduler != "distributed":
        image = begin_image(master, flat, request.store.writer(name), request.output_dir, rules)
    if image is not None:
        beside.append(FitsSink(image=image))
    if execution.scheduler == "threads" and rules.quality is not None:
        scan = begin_scan(master, rules.quality, scans, bands_at_once=2 * execution.workers)
    if scan is not None:
        beside.append(ScanSink(scan=scan))
    is_scanned = rules.quality is not None and scan is None  # when all strips are there
    read_again: dict[Plane, bool] = {
        "master": is_scanned or rules.reported or is_dark or image is None,
        "std": is_scanned or (rules.save_fits and rules.extensions),
    }
    planes = tuple(plane for plane, is_read in read_again.items() if is_read)
    sink = StoreSink(store=request.store, name=name, read_again=planes, beside=tuple(beside))
    return Publication(prepared=master, image=image, scan=scan), sink


def strip_job(
    request: BuildRequest, plan: MasterPlan, method: RejectionMethod, sink: StoreSink, flat: FlatTreatment | None
) -> MasterJob:
    """Return what a worker is given."""
    return MasterJob(
        name=plan.name,
        stack=plan.stack,
        method=method,
        sink=sink,
        flat=flat,
        staging=StoreSink(store=request.store, name=plan.combined_name) if plan.is_flat else None,
        memory=StoreMemory(store=request.store, name=plan.combined_name),
    )


def flat_treatment(request: BuildRequest, plan: MasterPlan, *, waits_for: Collection[str]) -> FlatTreatment | None:
    """Return what is done to flats beyond combining; they wait for their darks among `waits_for`.

    ``None`` for bias and darks.
    """
    if not plan.is_flat:
        return None
    return FlatTreatment(
        exposure_times_s=plan.exposure_times_s,
        dark=plan.dark.model if plan.dark is not None else None,
        scaling=request.flat_scaling,
        normalization=request.normalization,
        bayer_pattern=plan.group.key.bayer_pattern if request.bayer_normalization else None,
        dark_jobs=tuple(name for name in plan.darks_of_run if name in waits_for),
    )


def plan_strips(request: BuildRequest, execution: Execution, plans: Sequence[MasterPlan]) -> WorkPlan:
    """Choose the strips of all masters, as the memory allows."""
    sizes = [
        JobSize(
            n_frames=plan.stack.shape[0],
            height=plan.stack.shape[1],
            width=plan.stack.shape[2],
            sample_bytes=np.dtype(plan.stack.encoding.dtype).itemsize,
            row_step=plan.stack.row_step,
            float_path=plan.is_flat or not plan.stack.encoding.is_integer,
            judged=request.publishing.quality is not None,
            has_overscan=isinstance(plan.stack, LevelledStack),
        )
        for plan in plans
    ]
    if execution.scheduler == "distributed":
        work = plan_each_worker(
            sizes,
            memory_limit_bytes=request.memory_limit_bytes,
            threads=execution.threads_per_worker,
            strip_rows=request.strip_rows,
            workers_here=0 if execution.is_remote else execution.workers,
        )
    else:
        work = plan_work(
            sizes,
            memory_limit_bytes=request.memory_limit_bytes,
            workers=execution.workers,
            processes=execution.scheduler == "processes",
            strip_rows=request.strip_rows,
        )
    if request.publishing.reported:
        check_report_fits([size.shape for size in sizes], request.memory_limit_bytes)
    logger.debug(
        "plan: %d workers, at most %.0f MiB, strips of %s rows",
        work.workers,
        work.peak_memory_bytes / 2**20,
        sorted({strip.strip_rows for strip in work.strips}),
    )
    return work


def create_arrays(request: BuildRequest, masters: Sequence[tuple[MasterPlan, RejectionMethod]], work: WorkPlan) -> None:
    """Make room for all masters; strips that an interrupted run has finished are there already."""
    for (plan, method), strips in zip(masters, work.strips, strict=True):
        n_frames, height, width = plan.stack.shape
        digest = plan.key.strips(
            method.resolved(n_frames),
            plan.stack,
            strips.strip_rows,
            [repr(plan.exposure_times_s), request.flat_scaling] if plan.is_flat else None,
        )
        n_kept = request.store.create(plan.combined_name, (height, width), strips.strip_rows, work=digest).n_kept()
        if n_kept:
            logger.info(
                "%s: %d of %d strips were combined before and are taken over", plan.name, n_kept, len(strips.strips)
            )
        if plan.is_flat:
            request.store.create(plan.name, (height, width), strips.strip_rows)


def discard_unfinished(store: MasterStore, plans: Iterable[MasterPlan], *, is_ended: bool) -> None:
    """Delete what did not become a master; strips of a run that was ended are left to the next one."""
    finished = store.names()
    for plan in plans:
        unwanted = {plan.name, plan.combined_name}
        if plan.name in finished:
            unwanted.remove(plan.name)
        elif is_ended:
            store.abandon(plan.combined_name)
            unwanted.remove(plan.combined_name)
        for name in unwanted:
            store.discard(name)
