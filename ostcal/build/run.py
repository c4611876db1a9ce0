"""From input directories to masters on disk: the whole way, with plain values and without a config."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ostcal.build.camera_properties import CameraRecord, SurveyedGroup, camera_for, measure_cameras
from ostcal.build.plan import Plan, needs_camera, plan_masters
from ostcal.build.publish import FinishMasters, Made, PlannedMaster
from ostcal.build.request import BuildReport, BuildRequest, Watcher
from ostcal.build.resume import kept_survey, survey_document, survey_keys, work_digest
from ostcal.build.survey_series import survey_all, survey_requests
from ostcal.engine.driver import Failure, connected
from ostcal.engine.graph import run_graph, total_bytes
from ostcal.engine.rejection import RejectionMethod, SigmaClip
from ostcal.engine.tasks import MasterJob
from ostcal.engine.tiling import JobSize, WorkPlan, plan_each_worker, plan_work
from ostcal.errors import NoFramesError, OstcalError, StorageError, UnreachableError
from ostcal.frames import FrameType
from ostcal.inputs.already_subtracted import marked_dark_subtracted
from ostcal.inputs.gather import (
    Inputs,
    Source,
    described,
    gather_inputs,
    input_digest,
    unpacked,
)
from ostcal.inputs.grouping import Group, Grouping, GroupKey, describe, group_frames
from ostcal.library.find import LibraryMaster, find_masters, store_location
from ostcal.library.history import subject_of
from ostcal.library.master_names import stamp_of
from ostcal.library.store import MasterStore
from ostcal.library.verify_masters import without_damaged
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.naming import safe_word
from ostcal.places.durable import sweep_partial_files
from ostcal.places.locking import LOCK_FILE as LOCK_FILE
from ostcal.places.locking import PROCESS_MARK, LockRules, is_running, locked
from ostcal.places.paths import check_writable, directories_in, joined, names_in, place, remove_tree

logger = logging.getLogger(__name__)

SCRATCH_PREFIX = ".unpacked-"


def build_masters(request: BuildRequest, watcher: Watcher | None = None) -> BuildReport:
    """Make all masters that the input directories allow.

    Raises
    ------
    NoFramesError
        If there is nothing to work on.
    PlanError
        If the memory limit is too small.
    StorageError
        If the output directory cannot be written, or another run is writing there.
    """
    make_directory(request.output_dir)
    with locked(
        place(request.output_dir) / LOCK_FILE,
        LockRules(wait_s=request.lock_wait_s),
        what=request.output_dir,
        advice="choose another master_frames.output_dir",
    ):
        sweep(request.output_dir)
        return _build_alone(request, watcher or Watcher())


def _build_alone(request: BuildRequest, watcher: Watcher) -> BuildReport:
    """Make the masters; nobody else writes into the output directory."""
    clock = _Clock()
    inputs = gather_inputs(request.input_dirs, exclude=request.output_dir, verify=request.verify)
    clock.lap("inspect")
    scratch = joined(request.output_dir, f"{_scratch_prefix()}{os.getpid()}-{PROCESS_MARK}-{uuid.uuid4().hex}")
    left_out = list(inputs.left_out)
    try:
        sources = unpacked(inputs.sources, scratch, left_out, inputs.excluded)
        if request.verify:
            sources = without_damaged(sources, left_out, request.execution.workers)
        if request.make_flats:
            sources = marked_dark_subtracted(sources, left_out)
        grouping = _group(replace(inputs, sources=sources), request)
        clock.lap("group")
        report = _build(request, sources, grouping, watcher, clock)
    except OstcalError:
        for line in left_out:  # often the reason why nothing can be made
            logger.warning("%s", line)
        raise
    finally:
        remove_tree(place(scratch), ignore_errors=True)
    return replace(report, warnings=(*left_out, *_left_out_groups(grouping, request), *report.warnings))


class _Clock:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
        logger.debug("timing: %s %.3f s", stage, self.seconds[stage])


def make_directory(output_dir: str) -> None:
    """Make the directory of the masters; a `StorageError` where it cannot be written."""
    try:
        check_writable(output_dir)
    except OSError as error:
        raise StorageError(
            f"{output_dir}: masters cannot be written there ({error.strerror or error}); "
            "set master_frames.output_dir to a directory that you may write"
        ) from error


def sweep(output_dir: str) -> None:
    """Remove what killed runs left; only for who holds the lock."""
    sweep_partial_files(place(output_dir))
    _sweep_scratch(output_dir)
    store = MasterStore(store_location(output_dir))
    _sweep_unrecorded(output_dir, store)
    store.sweep(keep_begun=True, alone=True)


def _scratch_prefix() -> str:
    return f"{SCRATCH_PREFIX}{safe_word(socket.gethostname())}-"


def _sweep_scratch(output_dir: str) -> None:
    """Remove the frames that killed runs of this computer unpacked: gigabytes that nobody would look for."""
    prefix = _scratch_prefix()
    for directory in directories_in(place(output_dir)):
        pid, _, mark = directory.name.removeprefix(prefix).partition("-")
        if directory.name.startswith(prefix) and pid.isdecimal() and not is_running(int(pid), mark.partition("-")[0]):
            remove_tree(directory, ignore_errors=True)


def _sweep_unrecorded(output_dir: str, store: MasterStore) -> None:
    """Remove FITS files of masters whose run was killed before it recorded them: the next run makes them anew."""
    begun = {stamp for name in store.left_behind() if (stamp := stamp_of(name))}
    if not begun:
        return
    try:
        of_that_time = [store.attributes(name) for name in store.names() if stamp_of(name) in begun]
        recorded = {file for attributes in of_that_time for file in attributes.get("files", ())}
        for name in names_in(output_dir):
            is_master = name.lower().startswith("master") and name.endswith(".fits")
            if is_master and name not in recorded and stamp_of(name.removesuffix(".fits")) in begun:
                (place(output_dir) / name).unlink(missing_ok=True)
    except (OSError, StorageError) as error:
        logger.warning("%s: what a killed run left cannot be removed: %s", output_dir, error)


def _group(inputs: Inputs, request: BuildRequest) -> Grouping:
    grouping = group_frames((source.frame for source in inputs.sources.values()), request.rules)
    for group in grouping.groups:
        for frame in group.frames:
            logger.debug("group %s: %s", describe(group), frame.label)
    return grouping


def _left_out_groups(grouping: Grouping, request: BuildRequest) -> list[str]:
    lines = [
        f"{describe(group)}: fewer than min_frames {request.rules.min_frames}, left out ({group.frames[0].label}"
        f"{' and others' if len(group.frames) > 1 else ''})"
        for group in grouping.too_small
        if request.asks_for(group.key.frame_type)
    ]
    lines += [f"{frame.label}: left out, {reason}" for frame, reason in grouping.unused if "light frame" not in reason]
    lights = [frame for frame, reason in grouping.unused if "light frame" in reason]
    if lights:
        logger.info("%d light frames among the input are not used", len(lights))
    return lines


def _build(
    request: BuildRequest, sources: dict[str, Source], grouping: Grouping, watcher: Watcher, clock: _Clock
) -> BuildReport:
    groups = [group for group in grouping.groups if request.asks_for(group.key.frame_type)]
    if not groups:
        raise NoFramesError(_nothing_to_make(request, grouping))
    plan = plan_masters(request, groups, sources)
    warnings = [*plan.warnings, *_missing_kinds(request, groups)]
    jobs = [master.job for master in plan.to_make]
    plan_strips(request, jobs)  # refuses too little memory before anything is asked
    clock.lap("plan")
    if jobs and not watcher.planned([master.group for master in plan.to_make], total_bytes(jobs)):
        raise OstcalError("nothing made: the run was declined")
    clock.lap("confirm")
    combined = _run(request, plan, sources, watcher, warnings, clock) if jobs else _Combined()
    if not jobs:
        MasterStore(store_location(request.output_dir)).sweep()  # what nobody goes on with
    for master in combined.made:
        warnings += master.warnings
        _log_statistics(master)
    return BuildReport(
        made=tuple(combined.made),
        unchanged=plan.unchanged,
        warnings=(*combined.left_out, *warnings),
        errors=(*plan.errors, *combined.errors),
        groups=tuple(groups),
        seconds=clock.seconds,
    )


def _run(
    request: BuildRequest,
    plan: Plan,
    sources: dict[str, Source],
    watcher: Watcher,
    warnings: list[str],
    clock: _Clock,
) -> _Combined:
    """Survey and combine what was planned, on the cluster if there is one."""
    with connected(request.execution) as execution:
        if request.execution.scheduler == "distributed":
            clock.lap("cluster")
        request = replace(request, execution=execution)
        planned = plan.to_make
        if request.quality is not None or needs_camera(request.method):
            planned = _surveyed(request, plan, sources, warnings)
            clock.lap("survey")
        if request.quality is not None:
            there = find_masters(request.output_dir)
            planned = tuple(replace(master, previous=_previous(master.group.key, there)) for master in planned)
        combined = _combine(request, planned, sources, watcher)
        clock.lap("combine")
    return combined


def _previous(key: GroupKey, masters: Sequence[LibraryMaster]) -> LibraryMaster | None:
    """Give the master that a new one is compared with: the same subject, nearest exposure, newest (they are sorted)."""
    same = [master for master in masters if subject_of(master.key) == subject_of(key)]
    return min(same, key=lambda master: abs(master.key.exposure_time_s - key.exposure_time_s), default=None)


def _surveyed(
    request: BuildRequest, plan: Plan, sources: dict[str, Source], warnings: list[str]
) -> tuple[PlannedMaster, ...]:
    """Survey the frames of all masters and measure their cameras; gives the masters to make with both.

    Frames of masters that are left as they are tell of the camera too.
    """
    every = [*plan.to_make, *(unchanged.planned for unchanged in plan.unchanged)]
    surveys = survey_masters(request, every, sources)
    known = [
        SurveyedGroup(group=master.group, survey=survey)
        for master, survey in zip(every, surveys, strict=True)
        if survey is not None
    ]
    cameras = measure_cameras(known, max(_full_scales(every), default=None))
    surveyed = []
    for master, survey in zip(plan.to_make, surveys, strict=False):
        camera = camera_for(cameras, master.group.key)
        job = replace(master.job, method=_method_for(request, master, camera, warnings))
        provenance = replace(
            master.provenance,
            method=job.method,
            camera=None if camera is None else camera.properties,
        )
        surveyed.append(replace(master, job=job, survey=survey, camera=camera, provenance=provenance))
    return tuple(surveyed)


def survey_masters(
    request: BuildRequest, planned: Sequence[PlannedMaster], sources: dict[str, Source], *, keep: bool = False
) -> list[SeriesSurvey | None]:
    """Survey the frames of masters, but for those that were surveyed ahead; with `keep` for the next run."""
    requests = survey_requests([(master.group, master.job.stack) for master in planned])
    store = MasterStore(store_location(request.output_dir))
    documents = store.kept_surveys()
    if not documents and not keep:
        return survey_all(requests, request.execution, request.memory_limit_bytes)
    keys = survey_keys(requests, [[sources[frame.label] for frame in master.group.frames] for master in planned])
    kept = {place: kept_survey(documents, key) for place, key in enumerate(keys)}
    known = {place: survey for place, survey in kept.items() if survey is not None}
    logger.debug("%d of %d surveys were made ahead", len(known), len(keys))
    surveys = survey_all(requests, request.execution, request.memory_limit_bytes, known)
    for master, key, survey in zip(planned, keys, surveys, strict=True):
        if keep and key and survey is not None:
            store.writer(master.combined.name).keep_survey(survey_document(key, survey))
    return surveys


def _full_scales(planned: Sequence[PlannedMaster]) -> list[float]:
    scales = [master.provenance.saturation_adu for master in planned]
    return [scale for scale in scales if scale is not None]


def _method_for(
    request: BuildRequest, master: PlannedMaster, camera: CameraRecord | None, warnings: list[str]
) -> RejectionMethod:
    """Give the method of a master: with the noise of its camera, where the method asks for it."""
    method = request.method
    if not (isinstance(method, SigmaClip) and method.spread == "noise"):
        return method
    model = camera.noise_model(master.group.key.frame_type) if camera is not None else None
    if model is None:
        reasons = camera.properties.reasons if camera is not None else {}
        words = {"gain_e_per_adu": "gain", "read_noise_adu": "read noise"}
        why = "; ".join(f"{word}: {reasons[name]}" for name, word in words.items() if name in reasons)
        warnings.append(
            f"{master.job.name}: clip_spread is noise, but read noise or gain of the camera is not known"
            f"{f' ({why})' if why else ''}; auto is used instead"
        )
    return replace(method, model=model)


@dataclass(frozen=True, kw_only=True)
class _Combined:
    """What came out of combining: masters, lines for frames left out on the way, lines for what failed."""

    made: list[Made] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _combine(
    request: BuildRequest, planned: Sequence[PlannedMaster], sources: dict[str, Source], watcher: Watcher
) -> _Combined:
    """Combine all masters; where a frame turns out to be unreadable, once more without it what it spoiled."""
    places = {s.fits.path if s.fits is not None else label: label for label, s in sources.items()}
    outcome = _Combined()
    todo = list(planned)
    while todo:
        results = _run_once(request, todo, sources, watcher)
        outcome.made.extend(result for result in results if isinstance(result, Made))
        failed = [(m, r) for m, r in zip(todo, results, strict=True) if isinstance(r, Failure)]
        spoiled = {places[r.bad_frame]: r.message for _, r in failed if r.bad_frame in places}
        outcome.left_out.extend(spoiled.values())
        todo = []
        for master, failure in failed:
            smaller = _without(master, sources, spoiled) if failure.bad_frame in places else None
            if smaller is not None and len(smaller.group.frames) >= request.rules.min_frames:
                todo.append(smaller)
            else:
                outcome.errors.append(_failure_line(master.job.name, failure))
        if todo and request.quality is not None:
            todo = [replace(m, survey=s) for m, s in zip(todo, survey_masters(request, todo, sources), strict=True)]
        made = {master.name for master in outcome.made}
        todo = [_waiting_for(master, todo) for master in todo if _has_its_darks(master, todo, made, outcome)]
    return outcome


def _run_once(
    request: BuildRequest, planned: Sequence[PlannedMaster], sources: dict[str, Source], watcher: Watcher
) -> Sequence[Made | Failure]:
    jobs = [master.job for master in planned]
    plan = plan_strips(request, jobs)
    finish = FinishMasters(
        masters={master.job.name: master for master in planned},
        output_dir=request.output_dir,
        save_fits=request.save_fits,
        extensions=request.extensions,
        flavour=request.flavour,
        quality=request.quality,
        reported=request.reported,
    )
    is_ended = True
    try:
        create_arrays(planned, plan, sources)
        MasterStore(store_location(request.output_dir)).sweep()  # what nobody goes on with
        execution = request.execution
        if execution.scheduler != "distributed":
            execution = replace(execution, workers=plan.workers)
        planned = finish.begun(planned, execution)
        finish = replace(finish, masters={master.job.name: master for master in planned})
        jobs = [master.job for master in planned]
        results: Sequence[Made | Failure] = run_graph(jobs, plan.strips, finish, execution, watcher.progressed)
        is_ended = False
    except StorageError as error:  # a full disk wants its room back; a store that does not answer does not
        is_ended = isinstance(error, UnreachableError)
        raise
    finally:
        discard_unfinished(request, planned, is_ended=is_ended)
        for master in planned:
            if master.sink.early is not None:
                master.sink.early.discard()
    return results


def _without(master: PlannedMaster, sources: dict[str, Source], spoiled: Mapping[str, str]) -> PlannedMaster:
    """Give a planned master without the frames in `spoiled`."""
    kept = [i for i, frame in enumerate(master.group.frames) if frame.label not in spoiled]
    frames = tuple(master.group.frames[i] for i in kept)
    flat = master.job.flat
    if flat is not None:
        flat = replace(flat, exposure_times_s=tuple(flat.exposure_times_s[i] for i in kept))
    return replace(
        master,
        job=replace(master.job, stack=master.job.stack.select(kept), flat=flat),
        group=replace(master.group, frames=frames),
        provenance=replace(
            # no recipe: the next run tries with all frames again
            master.provenance,
            input_digest=input_digest([sources[f.label] for f in frames]),
            recipe="",
        ),
    )


def _has_its_darks(
    master: PlannedMaster, todo: Sequence[PlannedMaster], made: Container[str], outcome: _Combined
) -> bool:
    names = {other.job.name for other in todo}
    needed = master.job.flat.dark_jobs if master.job.flat is not None else ()
    missing = [name for name in needed if name not in names and name not in made]
    if missing:
        outcome.errors.append(f"{master.job.name}: its dark {missing[0]} could not be made")
    return not missing


def _waiting_for(master: PlannedMaster, todo: Sequence[PlannedMaster]) -> PlannedMaster:
    """Let a flat wait only for the darks that are still to be made."""
    flat = master.job.flat
    if flat is None:
        return master
    names = {other.job.name for other in todo}
    return replace(
        master,
        job=replace(master.job, flat=replace(flat, dark_jobs=tuple(name for name in flat.dark_jobs if name in names))),
    )


def _log_statistics(made: Made) -> None:
    result = made.result
    logger.debug(
        "statistics: %s: %d frames, mean %.6g, range %.6g to %.6g, %.4f %% rejected, noise %.4g ADU, per frame %s",
        made.name,
        len(made.group.frames),
        result.mean,
        result.minimum,
        result.maximum,
        100 * result.rejected_share,
        result.noise.noise_adu,
        list(result.rejected_per_frame),
    )
    if result.levels is not None:
        logger.debug("statistics: %s: levels of the frames %s ADU", made.name, list(result.levels.levels_adu))
    logger.debug(
        "timing: %s: read %.3f s, combine %.3f s, write %.3f s, summed over the workers",
        made.name,
        result.seconds["read"],
        result.seconds["combine"],
        result.seconds["write"],
    )


def _failure_line(name: str, failure: Failure) -> str:
    """Say why a master could not be made: for its own reason, or because its dark could not."""
    if failure.job != name:
        return f"{name}: its dark {failure.job} could not be made"
    if failure.traceback:
        logger.debug("%s: %s", name, failure.traceback)
    return f"{name}: {failure.message}"


def _nothing_to_make(request: BuildRequest, grouping: Grouping) -> str:
    asked = [
        kind
        for kind, wanted in (("bias", request.make_bias), ("darks", request.make_darks), ("flats", request.make_flats))
        if wanted
    ]
    found = [describe(group) for group in (*grouping.groups, *grouping.too_small)]
    unused = {reason for _, reason in grouping.unused}
    seen = "; ".join(found) or "no bias, dark or flat frames"
    return (
        f"No master can be made of {', '.join(asked) or 'nothing (all create_master_... are false)'} in "
        f"{', '.join(request.input_dirs)}: at least {request.rules.min_frames} frames of one group are needed "
        f"(master_frames.min_frames); found: {seen}" + (f"; not used: {'; '.join(sorted(unused))}" if unused else "")
    )


def _missing_kinds(request: BuildRequest, groups: Sequence[Group]) -> list[str]:
    kinds = {group.key.frame_type for group in groups}
    places = ", ".join(described(directory) for directory in request.input_dirs)
    missing = []
    if request.make_darks and not kinds & {FrameType.DARK, FrameType.BIAS}:
        missing.append(f"no dark frames in {places}: no master dark is made")
    if request.make_flats and FrameType.FLAT not in kinds:
        missing.append(f"no flat frames in {places}: no master flat is made")
    return missing


def plan_strips(request: BuildRequest, jobs: Sequence[MasterJob]) -> WorkPlan:
    """Choose the strips of all jobs, as the memory allows."""
    sizes = [
        JobSize(
            n_frames=job.n_frames,
            height=job.height,
            width=job.stack.shape[2],
            sample_bytes={"uint16": 2, "float32": 4}.get(job.stack.encoding.dtype, 8),
            row_step=job.stack.row_step,
            float_path=job.float_path,
            judged=request.quality is not None,
        )
        for job in jobs
    ]
    execution = request.execution
    if execution.scheduler == "distributed":
        plan = plan_each_worker(
            sizes,
            memory_limit_bytes=request.memory_limit_bytes,
            threads=execution.threads_per_worker,
            strip_rows=request.strip_rows,
        )
    else:
        plan = plan_work(
            sizes,
            memory_limit_bytes=request.memory_limit_bytes,
            workers=execution.workers,
            processes=execution.scheduler == "processes",
            strip_rows=request.strip_rows,
        )
    logger.debug(
        "plan: %d workers, at most %.0f MiB, strips of %s rows",
        plan.workers,
        plan.peak_memory_bytes / 2**20,
        sorted({strip.strip_rows for strip in plan.strips}),
    )
    return plan


def create_arrays(planned: Sequence[PlannedMaster], plan: WorkPlan, sources: dict[str, Source]) -> None:
    """Make room for all masters; strips that an interrupted run has finished are there already."""
    for master, strips in zip(planned, plan.strips, strict=True):
        _, height, width = master.job.stack.shape
        members = [sources[frame.label] for frame in master.group.frames]
        work = work_digest(master.job, members, strips.strip_rows)
        there = master.combined.create((height, width), strips.strip_rows, work)
        if there:
            logger.info(
                "%s: %d of %d strips were combined before and are taken over",
                master.job.name,
                there,
                len(strips.strips),
            )
        if master.staging is not None:
            master.sink.create((height, width), strips.strip_rows)


def discard_unfinished(request: BuildRequest, planned: Sequence[PlannedMaster], *, is_ended: bool) -> None:
    """Delete what did not become a master; strips of a run that was ended are left to the next one."""
    store = MasterStore(store_location(request.output_dir))
    finished = store.names()
    for master in planned:
        begun = master.combined.name
        places = {master.sink.name, begun}
        if master.job.name in finished:
            places.remove(master.job.name)
        elif is_ended:
            store.abandon(begun)
            places.remove(begun)
        for name in places:
            store.discard(name)
