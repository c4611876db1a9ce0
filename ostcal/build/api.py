"""`MasterFrameCreator`: masters from a configuration, for programs and for the command line."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from ostcal.build.judge import QualityRules
from ostcal.build.publish import Made
from ostcal.build.request import BuildReport, BuildRequest, Watcher
from ostcal.build.run import build_masters
from ostcal.config import Config, ConfigSource, QualitySection, digest, load_config
from ostcal.engine.execution import ClusterClass, Execution, TlsFiles, default_workers
from ostcal.engine.rejection import Median, MinMax, NoRejection, RejectionMethod, SigmaClip, WinsorizedSigmaClip
from ostcal.errors import OstcalError, StorageError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupRules
from ostcal.library.metrics import HistoryEntry, add_to_history, subject_of
from ostcal.measure.defects import DefectLimits
from ostcal.measure.findings import Outcome
from ostcal.measure.frame_checks import FrameLimits
from ostcal.measure.master_checks import MasterLimits
from ostcal.places.objects import ObjectAccess, ObjectOptions, use_options
from ostcal.places.paths import absolute, is_remote
from ostcal.status import Level, Status


class MasterFrameCreator:
    """Make master bias, darks and flats from the frames that a configuration points to.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults: frames in ``darks`` and ``flats``, masters in ``master_frames``.
    logger : logging.Logger, optional
        Told the outcome; ``None`` is the logger ``ostcal``.
    watcher : Watcher, optional
        Told how a run goes on.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import MasterFrameCreator
    >>> status = MasterFrameCreator("config_calibration_frames.yaml").create_all_master_frames()  # doctest: +SKIP
    >>> status.is_success, status.data["dark"]  # doctest: +SKIP
    """

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher
        self._status = Status(level=Level.SUCCESS, message="nothing made yet")
        self.report: BuildReport | None = None

    def create_all_master_frames(self) -> Status:
        """Make every master that the configuration asks for.

        Returns
        -------
        Status
            `is_error` when something asked could not be made, `is_warning` when something was left out.
        """
        wanted = self.config.master_frames
        return self._create(
            bias=wanted.create_master_bias, darks=wanted.create_master_darks, flats=wanted.create_master_flats
        )

    def create_master_darks(self) -> Status:
        """Make the master bias and the master darks."""
        return self._create(bias=self.config.master_frames.create_master_bias, darks=True, flats=False)

    def create_master_flats(self) -> Status:
        """Make the master flats, with darks from the masters on disk."""
        return self._create(bias=False, darks=False, flats=True)

    def get_status(self) -> dict[str, Any]:
        """Give the outcome of the last call as a dictionary."""
        return self._status.as_dict()

    def _create(self, *, bias: bool, darks: bool, flats: bool) -> Status:
        self.report = None
        use_options(ObjectOptions(**self.config.storage.objects))
        try:
            self.report = build_masters(request_of(self.config, bias=bias, darks=darks, flats=flats), self._watcher)
            self._status = _status_of(self.report, self.config.master_frames.output_dir)
        except OstcalError as error:
            self._logger.debug("traceback", exc_info=True)
            self._status = Status(
                level=Level.ERROR,
                message=str(error),
                data={"bias": [], "dark": [], "flat": []},
                details={"errors": [str(error)], "warnings": [], "output_dir": self.config.master_frames.output_dir},
            )
        log = {Level.SUCCESS: logging.INFO, Level.WARNING: logging.INFO, Level.ERROR: logging.ERROR}
        if self.report is not None:
            self._follow(self.report)
        for line in self._status.details["warnings"]:
            self._logger.warning("%s", line)
        for line in self._status.details["errors"]:
            self._logger.error("%s", line)
        if self.report is not None:
            self._logger.log(log[self._status.level], "%s", self._status.message)
        return self._status

    def _follow(self, report: BuildReport) -> None:
        """Add the numbers of the masters to the history; masters are no worse without it."""
        judged = [made for made in report.made if made.verdict is not None]
        entries = [
            HistoryEntry(
                made_at=made.outputs[0].made_at,
                name=made.name,
                subject=subject_of(made.group.key),
                verdict=made.verdict,
                metrics=made.metrics,
            )
            for made in judged
            if made.verdict is not None
        ]
        if not entries:
            return
        try:
            add_to_history(self.config.master_frames.output_dir, entries)
        except StorageError as error:
            self._logger.warning("%s", error)


def request_of(config: Config, *, bias: bool, darks: bool, flats: bool) -> BuildRequest:
    """Turn a configuration into the plain values of a run."""
    m, compute = config.master_frames, config.compute
    places = dict.fromkeys((config.dark_capture.output_dir, config.flat_capture.output_dir))
    output_dir, *input_dirs = (location_for(config, place) for place in (m.output_dir, *places))
    return BuildRequest(
        input_dirs=tuple(input_dirs),
        output_dir=output_dir,
        make_bias=bias,
        make_darks=darks,
        make_flats=flats,
        method=method_of(config),
        normalization=m.normalization_method,
        flat_scaling=m.flat_scaling,
        bayer_normalization=m.bayer_normalization,
        rules=GroupRules(
            min_frames=m.min_frames,
            min_exposure_s=config.dark_capture.min_exposure,
            temperature_tolerance_c=m.temperature_tolerance,
            per_session=m.per_session,
        ),
        exposure_tolerance=m.calibration_tolerance,
        use_masters_on_disk=m.auto_load_masters,
        only_changed=m.only_changed,
        save_fits=m.save_individual_masters,
        extensions=m.extensions,
        flavour=m.flavour,
        lock_wait_s=m.lock_wait,
        quality=_quality_rules(config.quality) if m.quality_control else None,
        reported=m.quality_control and config.quality.report,
        use_failed=config.quality.use_failed,
        verify=config.storage.verify,
        memory_limit_bytes=compute.memory_limit,
        strip_rows=config.storage.rows,
        execution=execution_of(config),
        config_digest=digest(config),
    )


def location_for(config: Config, location: str) -> str:
    """Give a directory as workers find it: those of a cluster have working directories of their own."""
    return absolute(location) if config.compute.scheduler == "distributed" else location


def execution_of(config: Config) -> Execution:
    """Turn what a configuration says of threads, processes and clusters into plain values.

    Raises
    ------
    ConfigError
        If it contradicts itself.
    """
    compute = config.compute
    start, tls = compute.cluster, compute.tls
    options = ObjectOptions(**config.storage.objects)
    is_distributed = compute.scheduler == "distributed"
    execution = Execution(
        scheduler=compute.scheduler,
        workers=compute.workers or default_workers(compute.scheduler),
        address=compute.address,
        scheduler_file=compute.scheduler_file,
        cluster=None if start is None else ClusterClass(name=start["class"], kwargs=start["kwargs"]),
        tls=TlsFiles(ca=tls.ca, cert=tls.cert, key=tls.key) if tls.ca and tls.cert and tls.key else None,
        memory_limit_bytes=compute.memory_limit if is_distributed else None,
        worker_wait_s=compute.worker_wait,
        prepare=ObjectAccess(options=options) if is_remote(config.master_frames.output_dir) else None,
    )
    if is_distributed:
        execution.check()
    return execution


def _quality_rules(quality: QualitySection) -> QualityRules:
    """Turn the limits of a configuration, whose keys are their names, into plain values."""
    return QualityRules(
        frames=FrameLimits(**quality.frames.model_dump()),
        masters=MasterLimits(**quality.masters.model_dump()),
        defects=DefectLimits(**quality.pixels.model_dump()),
    )


def method_of(config: Config) -> RejectionMethod:
    """Give the rejection method that a configuration names."""
    m = config.master_frames
    low, high = m.sigma_low_exact, m.sigma_high_exact
    methods: dict[str, RejectionMethod] = {
        "sigma_clip": SigmaClip(
            low=low,
            high=high,
            center=m.clip_center,
            spread=m.clip_spread,
            iterations=m.clip_iterations,
            min_keep=m.min_keep,
        ),
        "winsorized_sigma_clip": WinsorizedSigmaClip(low=low, high=high, min_keep=m.min_keep),
        "minmax": MinMax(n_low=m.n_low, n_high=m.n_high),
        "median": Median(),
        "none": NoRejection(),
    }
    return methods[m.rejection_method]


def _status_of(report: BuildReport, output_dir: str) -> Status:
    data: dict[str, list[str]] = {"bias": [], "dark": [], "flat": []}
    counts: Counter[str] = Counter()
    for made in report.made:
        for kind, path in made.files:
            data[str(kind)].append(path)
            counts[str(kind)] += 1
    for unchanged in report.unchanged:
        for kind, path in unchanged.files:
            data[str(kind)].append(path)
    n_unchanged = sum(len(unchanged.files) for unchanged in report.unchanged)
    n_made = sum(counts.values())
    what = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none"
    message = f"{n_made} master{'' if n_made == 1 else 's'} made ({what}) in {output_dir}"
    if n_unchanged:
        message += f"; {n_unchanged} unchanged"
    level = Level.SUCCESS
    warnings = [*report.warnings, *(line for made in report.made for line in quality_lines(made))]
    if warnings:
        level = Level.WARNING
        message += f"; {len(warnings)} warning{'' if len(warnings) == 1 else 's'}"
    failed = [made.name for made in report.made if made.verdict is Outcome.FAIL]
    if failed:
        message += f"; {len(failed)} failed quality control"
    if report.errors:
        level = Level.ERROR
        message += f"; {len(report.errors)} could not be made"
    return Status(
        level=level,
        message=message,
        data=dict(data),
        details={
            "counts": {kind: counts[kind] for kind in data},
            "unchanged": [unchanged.stored.record.name for unchanged in report.unchanged],
            "exposures": _exposures(report),
            "masters": {made.name: _statistics(made) for made in report.made},
            "output_dir": output_dir,
            "failed_quality": failed,
            "warnings": warnings,
            "errors": list(report.errors),
            "seconds": report.seconds,
        },
    )


def quality_lines(made: Made) -> list[str]:
    """Give a line for each finding that a person should see.

    That a master has fewer than twenty frames is in the report: whoever takes ten knows it.
    """
    lines = []
    for finding in made.findings:
        if finding.outcome is Outcome.PASS or (finding.check == "frames" and finding.outcome is Outcome.WARN):
            continue
        about = made.name if finding.frame is None else f"{made.group.frames[finding.frame].label} in {made.name}"
        failed = "FAILED: " if finding.outcome is Outcome.FAIL else ""
        lines.append(f"{about}: {failed}{finding.check}: {finding.text}")
    return lines


def _exposures(report: BuildReport) -> dict[str, list[float]]:
    exposures: dict[str, set[float]] = {"bias": set(), "dark": set(), "flat": set()}
    for made in report.made:
        for kind, _ in made.files:
            exposures[str(kind)].add(made.group.key.exposure_time_s)
    for unchanged in report.unchanged:
        for kind, _ in unchanged.files:
            exposures[str(kind)].add(unchanged.stored.key.exposure_time_s)
    return {kind: sorted(values) for kind, values in exposures.items()}


def _statistics(made: Made) -> dict[str, Any]:
    key, result = made.group.key, made.result
    return {
        "kind": str(key.frame_type),
        "files": [path for _, path in made.files],
        "exposure_time_s": key.exposure_time_s,
        "filter": key.filter_name,
        "n_frames": len(made.group.frames),
        "inputs": [frame.label for frame in made.group.frames],
        "mean": result.mean,
        "minimum": result.minimum,
        "maximum": result.maximum,
        "rejected_share": result.rejected_share,
        "rejected_per_frame": list(result.rejected_per_frame),
        "noise_adu": result.noise.noise_adu if result.noise_measured else None,
        "normalization_levels_adu": result.normalization_levels,
        "frame_levels_adu": list(result.levels.levels_adu) if result.levels is not None else None,
        "is_flat": key.frame_type is FrameType.FLAT,
        "verdict": str(made.verdict) if made.verdict is not None else None,
        "findings": [finding.as_dict() for finding in made.findings],
    }
