"""From a configuration to the plain values of a run: what is asked, where it runs, how frames are rejected."""

from __future__ import annotations

from collections.abc import Sequence

from ostcal.build.newest_frame import folder_of_newest
from ostcal.build.request import BuildRequest, PublishRules, QualityRules
from ostcal.config import Config, digest
from ostcal.engine.container_memory import within_container
from ostcal.engine.execution import ClusterClass, Execution, TlsFiles, default_workers
from ostcal.engine.overscan import OverscanMethod
from ostcal.engine.rejection import METHODS, RejectionMethod
from ostcal.engine.tiling import PROCESS_BYTES
from ostcal.errors import ConfigError
from ostcal.fits.sections import OverscanRule
from ostcal.formula import read_formula
from ostcal.frames import FrameType
from ostcal.inputs.forced_kinds import KindRules
from ostcal.inputs.grouping import GroupRules
from ostcal.library.ages import MaxAges
from ostcal.measure.limits import DefectLimits, FrameLimits, MasterLimits
from ostcal.naming import noon_at
from ostcal.places.night_folders import folders_of
from ostcal.places.object_requests import ObjectOptions
from ostcal.places.objects import ObjectAccess
from ostcal.places.paths import absolute, exists, is_dir, is_remote


def request_of(
    config: Config,
    *,
    bias: bool,
    darks: bool,
    flats: bool,
    inputs: Sequence[str] | None = None,
    with_captured: bool = False,
) -> BuildRequest:
    """Return what a run is asked for; `inputs` are files and folders in place of those of the configuration."""
    m, ages = config.master_frames, config.matching.max_age_days
    places = dict.fromkeys(input_places(config, with_captured=with_captured) if inputs is None else inputs)
    library, *input_dirs = (location_for(config, place) for place in (m.output_dir, *places))
    output_dir = folder_of_newest(library, input_dirs, config.site.longitude)
    quality = QualityRules(
        frames=FrameLimits(**config.quality.frames.model_dump()),
        masters=MasterLimits(**config.quality.masters.model_dump()),
        defects=DefectLimits(**config.quality.pixels.model_dump()),
        bias_temperature_c=m.bias_temperature_tolerance,
        full_scale_adu=config.quality.full_scale_adu,
    )
    return BuildRequest(
        input_dirs=tuple(input_dirs),
        output_dir=output_dir,
        library_dir=library if library != output_dir else "",
        make_bias=bias,
        make_darks=darks,
        make_flats=flats,
        required=frozenset() if with_captured or inputs is not None else _named_kinds(config),
        method=method_of(config),
        normalization=m.normalization_method,
        flat_scaling=m.flat_scaling,
        bayer_normalization=m.bayer_normalization,
        rules=GroupRules(
            min_frames=m.min_frames,
            min_exposure_s=config.dark_capture.min_exposure,
            temperature_tolerance_c=m.temperature_tolerance,
            bias_temperature_tolerance_c=m.bias_temperature_tolerance,
            per_session=m.per_session,
            session=m.session,
            session_hours=m.session_hours,
            window_days=m.window_days,
            max_frames=m.max_frames,
            rotation_tolerance_deg=m.rotation_tolerance,
            noon_utc_s=None if config.site.longitude is None else noon_at(config.site.longitude),
        ),
        overscan=overscan_of(config),
        kinds_of_files=kinds_of(config),
        exposure_tolerance=m.calibration_tolerance,
        max_scale_up=config.matching.max_scale_up,
        max_ages=MaxAges(bias=ages.bias, dark=ages.dark, flat=ages.flat),
        strict_ages=config.matching.strict,
        prefer=config.matching.prefer,
        synthetic_bias=None if m.synthetic_bias is None else read_formula(m.synthetic_bias),
        uncalibrated=frozenset(kind for kind in FrameType if getattr(m.calibration, kind, "auto") == "none"),
        use_masters_on_disk=m.auto_load_masters,
        only_changed=m.only_changed,
        publishing=PublishRules(
            save_fits=m.save_individual_masters,
            extensions=m.extensions,
            flavour=m.flavour,
            format=m.format,
            names=m.names,
            quality=quality if m.quality_control else None,
            reported=m.quality_control and config.quality.report,
            config_digest=digest(config),
            leave_out=config.quality.leave_out,
            min_frames=m.min_frames,
            config_options=config.options,
        ),
        lock_wait_s=m.lock_wait,
        cubes=m.cubes,
        use_failed=config.quality.use_failed,
        verify=config.storage.verify,
        memory_limit_bytes=memory_limit_of(config),
        strip_rows=config.storage.rows,
        execution=execution_of(config, output_dir, input_dirs),
    )


def input_places(config: Config, *, with_captured: bool = False) -> list[str]:
    """Return the folders and files that masters are made from: `input.dirs`, else where frames are captured into.

    After a capture they are made from both.

    Raises
    ------
    ConfigError
        If one of `input.dirs` is not there.
    """
    captured = captured_folders(config) if with_captured or not config.input.dirs else []
    places = [place for pattern in config.input.dirs for place in folders_of(pattern)]
    if missing := [place for place in places if not exists(place)]:
        raise ConfigError(f"{', '.join(missing)}: there is no such folder or file of frames (input.dirs)")
    return [*captured, *places]


def captured_folders(config: Config) -> list[str]:
    """Return the folders of all nights and cameras that bias, darks and flats are captured into."""
    patterns = (config.dark_capture.output_dir, config.flat_capture.output_dir)
    return [folder for pattern in patterns for folder in folders_of(pattern)]


def _named_kinds(config: Config) -> frozenset[FrameType]:
    """Return the kinds of which a configuration says itself, not by default, that masters are made of them."""
    m = config.master_frames
    keys = {
        FrameType.BIAS: ("create_master_bias", m.create_master_bias),
        FrameType.DARK: ("create_master_darks", m.create_master_darks),
        FrameType.FLAT: ("create_master_flats", m.create_master_flats),
    }
    return frozenset(kind for kind, (key, is_asked) in keys.items() if is_asked and key in m.model_fields_set)


def overscan_of(config: Config) -> OverscanRule:
    """Return how overscan is subtracted and trimmed."""
    o = config.master_frames.overscan
    has_sections = o.section is not None or o.trim is not None
    return OverscanRule(
        source="given" if has_sections and o.source != "none" else o.source,
        section=o.section or "",
        trim=o.trim or "",
        axis=o.axis,
        method=OverscanMethod(level=o.level, fit=o.fit, degree=o.degree),
    )


def kinds_of(config: Config) -> KindRules:
    """Return the kinds that a configuration states for folders and patterns."""
    return {pattern: FrameType(kind) for pattern, kind in config.input.kinds.items()}


def location_for(config: Config, location: str) -> str:
    """Return a directory as workers find it: those of a cluster have working directories of their own."""
    return absolute(location) if config.compute.scheduler == "distributed" else location


def execution_of(config: Config, output_dir: str, input_dirs: Sequence[str]) -> Execution:
    """Return where a run computes, and the places that its workers must reach.

    Every worker writes to `output_dir` and reads from `input_dirs`; local ones that do not exist are left out.

    Raises
    ------
    ConfigError
        If it contradicts itself.
    """
    compute = config.compute
    start, tls = compute.cluster, compute.tls
    access = ObjectAccess(
        options=ObjectOptions(**config.storage.objects),
        read=tuple(directory for directory in input_dirs if is_remote(directory)),
        written=(output_dir,) if is_remote(output_dir) else (),
    )
    is_distributed = compute.scheduler == "distributed"
    execution = Execution(
        scheduler=compute.scheduler,
        workers=compute.workers or default_workers(compute.scheduler),
        address=compute.address,
        scheduler_file=compute.scheduler_file,
        cluster=None if start is None else ClusterClass(name=start["class"], kwargs=start["kwargs"]),
        tls=TlsFiles(ca=tls.ca, cert=tls.cert, key=tls.key) if tls.ca and tls.cert and tls.key else None,
        memory_limit_bytes=memory_limit_of(config) if is_distributed else None,
        worker_wait_s=compute.worker_wait,
        output_dir=None if is_remote(output_dir) else output_dir,
        input_dirs=tuple(directory for directory in input_dirs if not is_remote(directory) and is_dir(directory)),
        prepare=access if access.read or access.written else None,
    )
    if is_distributed:
        execution.check()
    return execution


def memory_limit_of(config: Config) -> int:
    """Return compute.memory_limit in bytes, or less where processes run in a container that has less.

    Workers of a cluster on this computer share what the container has beside this process.
    """
    compute = config.compute
    if compute.scheduler != "distributed":
        return within_container(compute.memory_limit)
    if compute.address or compute.scheduler_file or compute.cluster:
        return compute.memory_limit
    workers = compute.workers or default_workers(compute.scheduler)
    everything = PROCESS_BYTES + workers * compute.memory_limit
    return min(compute.memory_limit, max(0, within_container(everything) - PROCESS_BYTES) // workers)


def method_of(config: Config) -> RejectionMethod:
    """Return the rejection method that a configuration names."""
    return METHODS[config.master_frames.rejection_method].from_settings(dict(config.master_frames))
