"""What a configuration says of frames that are taken: where they go, their limits, their light, the points of plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from ostcal.capture.auto_exposure import ExposureRules
from ostcal.capture.camera_noise import find_noise_series, noise_on_disk
from ostcal.capture.cooling import CoolingRules
from ostcal.capture.darks import find_bias_level
from ostcal.capture.enough import CameraNoise
from ostcal.capture.exposer import set_point_of
from ostcal.capture.flats import FlatRules
from ostcal.capture.nights import EarlierSeries, capture_night
from ostcal.capture.points import Point
from ostcal.capture.run_points import PointRules
from ostcal.capture.series_plan import Equipment, NoiseTarget, SeriesSink
from ostcal.config import Config
from ostcal.config.capture_plan import PlanEntry
from ostcal.config.capture_sections import DarkCaptureSection, FlatCaptureSection, TargetSection
from ostcal.devices.protocols import CameraInfo, CameraRequest
from ostcal.errors import ConfigError, DeviceError
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import LiveLimits
from ostcal.naming import folder_of
from ostcal.places.night_folders import folders_of
from ostcal.places.paths import is_remote
from ostcal.vocabulary import DarkStrategy
from ostcal.workflow.open_devices import camera_values, retry_rules


def refuse_object_stores(config: Config) -> None:
    """Refuse to capture into an object store: a frame cannot be exposed again after a network error.

    Raises
    ------
    ConfigError
        With the key to change.
    """
    for section in ("dark_capture", "flat_capture"):
        directory = getattr(config, section).output_dir
        if is_remote(directory):
            raise ConfigError(
                f"{section}.output_dir: {directory} is in an object store; frames are captured into a local directory:"
                " set one, and copy its series there with ostcal upload"
            )


def sink_of(config: Config, equipment: Equipment, section: DarkCaptureSection | FlatCaptureSection) -> SeriesSink:
    """Return where frames go now: the night, the date and the camera are filled in."""
    refuse_object_stores(config)
    overscan = config.master_frames.overscan
    night = capture_night(equipment.clock, config.site.longitude)
    return SeriesSink(
        directory=folder_of(
            section.output_dir, night=night.night, day=equipment.clock.utc().date(), camera=equipment.camera.info.name
        ),
        night=night if section.continue_series == "session" else None,
        compressor=config.storage.compressor,
        rows=config.storage.rows,
        export_frames=config.storage.export_frames,
        overscan_section=overscan.section or "",
        trim_section=overscan.trim or "",
    )


def live_limits(config: Config, **others: Any) -> LiveLimits:
    """Return the limits of the checks while frames are taken."""
    return LiveLimits(temperature_c=config.master_frames.temperature_tolerance, **others)


def flat_rules(config: Config, equipment: Equipment, settings: CameraSettings) -> FlatRules:
    """Return how flats are taken with these settings of the camera."""
    f, camera = config.flat_capture, equipment.camera
    darks = folders_of(config.dark_capture.output_dir)
    return FlatRules(
        exposure=ExposureRules(
            target_rate=f.target_count_rate,
            tolerance=f.count_tolerance,
            min_exposure_s=f.min_exposure,
            max_exposure_s=f.max_exposure,
            step_factor=f.exposure_step_factor,
            max_attempts=f.max_adjustment_attempts,
            max_adu=camera.info.max_adu,
        ),
        n_frames=f.frames,
        target=noise_target(config, f.target) if f.num_flats == "auto" else None,
        noise=_flat_noise(config, equipment, settings) if f.num_flats == "auto" else None,
        start_exposure_s=camera_values(config).exposure_time,
        twilight=f.twilight,
        filters=f.filters,
        brightness=f.panel_brightness,
        fixed_exposure_s=_fixed_exposure_s(config),
        full_scale_adu=round(full_adu) if (full_adu := config.quality.full_scale_adu) else None,
        bias_level_adu=find_bias_level(darks, settings, camera.frame_shape()),
        limits=live_limits(config, saturated_share=0.001),
        retry=retry_rules(config),
    )


def _fixed_exposure_s(config: Config) -> float | None:
    """Return the exposure at which the brightness of the panel is sought."""
    f, exposure_s = config.flat_capture, config.dark_capture.flat_exposure_time
    if f.mode == "exposure":
        return None
    if f.twilight:
        raise ConfigError("flat_capture.mode: brightness is for a panel; set twilight to false, or mode to exposure")
    if exposure_s is None:
        raise ConfigError("flat_capture.mode: brightness needs an exposure; set dark_capture.flat_exposure_time")
    return exposure_s


def noise_target(config: Config, target: TargetSection) -> NoiseTarget:
    """Return when frames are enough."""
    return NoiseTarget(
        noise_share=target.noise_share,
        light_exposure_s=target.light_exposure,
        science_exposure_s=config.dark_capture.science_exposure_time,
        sky_e_per_s=target.sky,
        min_frames=target.min_frames,
        max_frames=target.max_frames,
    )


def noise_folders(config: Config) -> tuple[str, ...]:
    """Return the directories of series that say the noise of the camera."""
    patterns = (config.dark_capture.output_dir, config.flat_capture.output_dir)
    return tuple(dict.fromkeys(folder for pattern in patterns for folder in folders_of(pattern)))


def _flat_noise(config: Config, equipment: Equipment, settings: CameraSettings) -> CameraNoise:
    """Return the noise of the camera for the number of flats; DeviceError without bias frames."""
    camera = equipment.camera
    there = find_noise_series(noise_folders(config), settings, camera.frame_shape(), set_point_of(camera.status()))
    noise = noise_on_disk(there, camera.info.electrons_per_adu)
    if noise is None:
        raise DeviceError(
            "flat_capture.num_flats: auto needs bias frames with the settings of the camera: take darks first"
        )
    return noise


def earlier_series(config: Config, strategy: DarkStrategy | None = None) -> EarlierSeries:
    """Return which series of earlier nights make bias frames and darks needless."""
    d = config.dark_capture
    return EarlierSeries(
        directories=tuple(folders_of(d.output_dir)), strategy=strategy or d.strategy, max_age_days=d.max_age_days
    )


def cooling_rules(config: Config) -> CoolingRules:
    """Return how the sensor is cooled to its target."""
    c = config.video.cooling
    return CoolingRules(
        target_c=c.target_temperature,
        tolerance_c=c.stabilization_tolerance,
        stable_s=c.steady_time,
        timeout_s=c.cooling_timeout,
    )


# ---- points ----


def camera_request(config: Config) -> CameraRequest:
    """Return the settings of the camera section."""
    values = camera_values(config)
    return CameraRequest(
        gain=values.gain, offset=values.offset, binning=values.binning, readout_mode=values.readout_mode
    )


def point_rules(
    config: Config,
    equipment: Equipment,
    settings: CameraSettings,
    *,
    strategy: DarkStrategy | None = None,
    max_hours: float | None = None,
) -> PointRules:
    """Return how the points of a plan are taken."""
    return PointRules(
        darks=sink_of(config, equipment, config.dark_capture),
        flats=sink_of(config, equipment, config.flat_capture),
        flat_rules=flat_rules(config, equipment, settings),
        cooling=cooling_rules(config),
        earlier=earlier_series(config, strategy),
        max_hours=max_hours,
        target=noise_target(config, config.dark_capture.target),
        measured_in=noise_folders(config),
        limits=live_limits(config),
        retry=retry_rules(config),
    )


def entry_points(config: Config, entries: Iterable[PlanEntry], info: CameraInfo, plan_name: str) -> list[Point]:
    """Return the points of a plan file; what it leaves out is as the configuration says.

    Raises
    ------
    ConfigError
        If the camera cannot expose so long or so short; with the place in the file.
    """
    usual = camera_request(config)
    points = []
    for number, entry in enumerate(entries, 1):
        kind, name = FrameType(entry.kind), f"{plan_name}: series {number}"
        exposure_s = _exposure_s(config, kind, entry.exposure, info)
        if exposure_s is not None and exposure_s > info.exposure_max_s:
            raise ConfigError(
                f"{name}: exposure: {exposure_s:g}: {info.name} exposes {info.exposure_min_s:g} s to"
                f" {info.exposure_max_s:g} s"
            )
        request = CameraRequest(
            gain=entry.gain if entry.gain is not None else usual.gain,
            offset=entry.offset if entry.offset is not None else usual.offset,
            binning=entry.binning if entry.binning is not None else usual.binning,
            readout_mode=entry.readout_mode if entry.readout_mode is not None else usual.readout_mode,
        )
        points.append(
            Point(
                kind=kind,
                count=entry.count,
                exposure_s=exposure_s,
                request=request,
                filter_name=entry.filter,
                temperature_c=entry.temperature if entry.temperature is not None else _usual_c(config),
                rotation_deg=entry.rotation,
                name=name,
            )
        )
    return points


def matrix_points(config: Config, info: CameraInfo) -> tuple[list[Point], list[str]]:
    """Return all points of ``dark_capture.matrix``, and a line for each exposure that is not possible."""
    d = config.dark_capture
    shortest_s, longest_s = max(d.min_exposure, info.exposure_min_s), min(d.max_exposure, info.exposure_max_s)
    return matrix_of(config, shortest_s, longest_s, " and the camera")


def matrix_of(config: Config, shortest_s: float, longest_s: float, and_what: str) -> tuple[list[Point], list[str]]:
    """Return the points of the matrix within limits of the exposure; lines name `and_what` as a limit too."""
    d, usual = config.dark_capture, camera_request(config)
    m = d.matrix
    wanted = m.exposures or tuple(d.science_exposure_time * factor for factor in d.exposure_factors)
    lines = [
        f"darks of {exposure_s:g} s are left out: at most {longest_s:g} s are possible (dark_capture.max_exposure"
        f"{and_what})"
        for exposure_s in wanted
        if exposure_s > longest_s
    ]
    frames = [(FrameType.BIAS, shortest_s)]
    frames += [(FrameType.DARK, exposure_s) for exposure_s in wanted if shortest_s < exposure_s <= longest_s]
    settings = product(
        m.temperatures or (_usual_c(config),),
        m.readout_modes or (usual.readout_mode,),
        m.gains or (usual.gain,),
        m.offsets or (usual.offset,),
        m.binnings or (usual.binning,),
    )
    points = [
        Point(
            kind=kind,
            count=d.frames,
            is_auto=d.num_darks == "auto",
            exposure_s=exposure_s,
            request=CameraRequest(gain=gain, offset=offset, binning=binning, readout_mode=mode),
            temperature_c=temperature_c,
            name="dark_capture.matrix",
        )
        for temperature_c, mode, gain, offset, binning in settings
        for kind, exposure_s in frames
    ]
    return points, lines


def leaves_temperature(config: Config, points: Sequence[Point]) -> bool:
    """Return whether points are at another temperature than that of the other steps."""
    usual_c = _usual_c(config)
    return usual_c is not None and any(point.temperature_c not in (None, usual_c) for point in points)


def _usual_c(config: Config) -> float | None:
    cooling = config.video.cooling
    return cooling.target_temperature if cooling.enable_cooling else None


def _exposure_s(config: Config, kind: FrameType, exposure_s: float | None, info: CameraInfo) -> float | None:
    if kind is FrameType.BIAS:
        return max(exposure_s or config.dark_capture.min_exposure, info.exposure_min_s)
    if kind is FrameType.DARK and exposure_s is None:
        return config.dark_capture.science_exposure_time
    return exposure_s
