"""`DarkCapture` and `FlatCapture`: one step of the evening, from a configuration and a connected camera."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ostcal.capture.auto_exposure import ExposureRules
from ostcal.capture.budget import StepPlan
from ostcal.capture.darks import DarkPlan, DarkRules, capture_darks, find_bias_level, flat_exposures, plan_darks
from ostcal.capture.flats import FlatRules, capture_flats, plan_flats
from ostcal.capture.nights import EarlierSeries, capture_night
from ostcal.capture.series_plan import CaptureWatcher, Equipment, SeriesOutcome, SeriesSink
from ostcal.config import Config, ConfigSource, load_config
from ostcal.config.capture_sections import DarkCaptureSection, FlatCaptureSection
from ostcal.devices.protocols import Camera, CameraRequest
from ostcal.errors import ConfigError, DeviceError, OstcalError
from ostcal.frames import CameraSettings
from ostcal.measure.live import LiveLimits
from ostcal.naming import folder_of
from ostcal.places.night_folders import folders_of
from ostcal.places.paths import is_remote
from ostcal.status import KeepsStatus, Level, Status
from ostcal.workflow.open_devices import Ask, camera_values, clock_of, retry_rules

Planned = Callable[[StepPlan], bool]
"""Called with the frames that a step will take and their cost, before the first; false ends the step."""


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


def _sink(config: Config, equipment: Equipment, section: DarkCaptureSection | FlatCaptureSection) -> SeriesSink:
    """Return where frames go now: the night, the date and the camera are filled in."""
    refuse_object_stores(config)
    overscan = config.master_frames.overscan
    night = capture_night(equipment.clock)
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


class Capture(KeepsStatus):
    """Base of the captures of darks and of flats: a configuration, devices, and the outcome of the last call."""

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: CaptureWatcher | None = None,
        ask: Ask | None = None,
        planned: Planned | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher or CaptureWatcher()
        self._ask = ask
        self._planned = planned or (lambda plan: True)
        self._equipment: Equipment | None = None
        self._settings: CameraSettings | None = None
        self._status = Status(level=Level.SUCCESS, message="nothing captured yet")

    def initialize(self, camera: Camera | Equipment) -> Status:
        """Use a connected camera, and apply the configured settings to it.

        Parameters
        ----------
        camera : Camera or Equipment
            A camera, or camera, filter wheel and cover together.

        Returns
        -------
        Status
            ``details["settings"]`` are the settings of the camera; `is_error` if it refused them.
        """
        if not isinstance(camera, Equipment):
            camera = Equipment(camera=camera, clock=clock_of(self.config), watcher=self._watcher, ask=self._ask)
        self._equipment, connected = camera, camera.camera

        def apply() -> Status:
            values = camera_values(self.config)
            self._settings = connected.apply(
                CameraRequest(
                    gain=values.gain, offset=values.offset, binning=values.binning, readout_mode=values.readout_mode
                )
            )
            message = f"{connected.info.name} is connected"
            return Status(level=Level.SUCCESS, message=message, details={"settings": self._settings})

        return self._guarded(apply)

    def _ready(self) -> tuple[Equipment, CameraSettings]:
        if self._equipment is None or self._settings is None:
            raise DeviceError("no camera is connected; call initialize(open_camera(config)) first")
        return self._equipment, self._settings

    def _guarded(self, work: Callable[[], Status]) -> Status:
        try:
            self._status = work()
        except OstcalError as error:
            self._logger.error("%s", error)
            self._logger.debug("traceback", exc_info=True)
            self._status = Status(
                level=Level.ERROR, message=str(error), details={"errors": [str(error)], "warnings": []}
            )
        return self._status

    def _limits(self, **others: Any) -> LiveLimits:
        return LiveLimits(temperature_c=self.config.master_frames.temperature_tolerance, **others)


class DarkCapture(Capture):
    """Take bias frames, and darks with the exposure times of a configuration.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults.
    logger : logging.Logger, optional
        Receives errors; ``None`` is the logger ``ostcal``.
    watcher : CaptureWatcher, optional
        Callbacks for the progress of the capture.
    ask : callable (str) -> bool, optional
        Asks the observer to do something by hand; false ends the step.
    planned : callable (StepPlan) -> bool, optional
        Called with the frames that will be taken and their cost, before the first; false ends the step.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import DarkCapture, open_camera
    >>> with open_camera("night.yaml") as camera:  # doctest: +SKIP
    ...     darks = DarkCapture("night.yaml")
    ...     darks.initialize(camera)
    ...     print(darks.capture_darks().message)
    """

    def plan(self, flat_exposures_s: Sequence[float] = ()) -> DarkPlan:
        """Plan the darks that are missing.

        Parameters
        ----------
        flat_exposures_s : sequence of float, optional
            Exposures of flats, in seconds; by default as configured, else those of flats on disk.

        Returns
        -------
        DarkPlan
            The series, and their cost in time and space.

        Raises
        ------
        DeviceError
            If no camera was initialized.
        """
        return self._plan(flat_exposures_s, self.config.dark_capture.exposure_factors)

    def capture_darks(self, flat_exposures_s: Sequence[float] = ()) -> Status:
        """Take the bias frames and darks that are missing.

        Parameters
        ----------
        flat_exposures_s : sequence of float, optional
            As of `plan`, in seconds.

        Returns
        -------
        Status
            `is_error` if a series is not complete; ``data["series"]`` are the locations of the series.
        """
        return self._guarded(lambda: self._capture("darks", self.plan(flat_exposures_s)))

    def capture_flat_darks(self, flat_exposures_s: Sequence[float]) -> Status:
        """Take the missing darks with the exposure times of flats, and the bias frames if they are missing.

        Parameters
        ----------
        flat_exposures_s : sequence of float
            Exposures of the flats, in seconds.

        Returns
        -------
        Status
            As of `capture_darks`.
        """

        def capture() -> Status:
            plan = self._plan(flat_exposures_s, ()).incomplete()
            if not plan.series and not plan.left_out:
                directory = self.config.dark_capture.output_dir
                return Status(level=Level.SUCCESS, message=f"no darks of the flats are missing in {directory}")
            return self._capture("flat darks", plan)

        return self._guarded(capture)

    def _plan(self, flat_exposures_s: Sequence[float], factors: tuple[float, ...]) -> DarkPlan:
        equipment, settings = self._ready()
        d = self.config.dark_capture
        exposures = tuple(flat_exposures_s)
        if not exposures:
            flats = folders_of(self.config.flat_capture.output_dir)
            exposures = flat_exposures(d.flat_exposure_time, flats, capture_night(equipment.clock).noon_utc_s)
        rules = DarkRules(
            n_frames=d.num_darks,
            science_exposure_s=d.science_exposure_time,
            factors=factors,
            flat_exposures_s=exposures,
            min_exposure_s=d.min_exposure,
            max_exposure_s=d.max_exposure,
            earlier=EarlierSeries(
                directories=tuple(folders_of(d.output_dir)), strategy=d.strategy, max_age_days=d.max_age_days
            ),
            limits=self._limits(),
            retry=retry_rules(self.config),
        )
        return plan_darks(equipment, settings, rules, _sink(self.config, equipment, d))

    def _capture(self, step: str, plan: DarkPlan) -> Status:
        equipment, _ = self._ready()
        if not self._planned(StepPlan(step=step, costs=plan.costs)):
            raise DeviceError(f"{step} were not taken: they were declined")
        sink = _sink(self.config, equipment, self.config.dark_capture)
        return _status_of(capture_darks(equipment, plan, sink), [], str(sink.directory))


class FlatCapture(Capture):
    """Take flats; the exposure times are found automatically.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults.
    logger : logging.Logger, optional
        Receives errors; ``None`` is the logger ``ostcal``.
    watcher : CaptureWatcher, optional
        Callbacks for the progress of the capture.
    ask : callable (str) -> bool, optional
        Asks the observer to do something by hand; false ends the step.
    planned : callable (StepPlan) -> bool, optional
        Called with the frames that will be taken and their cost, before the first; false ends the step.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import FlatCapture, open_camera
    >>> with open_camera("night.yaml") as camera:  # doctest: +SKIP
    ...     flats = FlatCapture("night.yaml")
    ...     flats.initialize(camera)
    ...     print(flats.capture_flats().message)
    """

    def capture_flats(self) -> Status:
        """Take the flats that are missing, filter by filter.

        Returns
        -------
        Status
            `is_error` if a series is not complete; ``data["series"]`` are the locations of the series,
            ``details["exposures"]`` their exposures in seconds.
        """
        return self._guarded(self._capture)

    def _capture(self) -> Status:
        equipment, settings = self._ready()
        f = self.config.flat_capture
        shape, darks = equipment.camera.frame_shape(), self.config.dark_capture.output_dir
        rules = FlatRules(
            exposure=ExposureRules(
                target_rate=f.target_count_rate,
                tolerance=f.count_tolerance,
                min_exposure_s=f.min_exposure,
                max_exposure_s=f.max_exposure,
                step_factor=f.exposure_step_factor,
                max_attempts=f.max_adjustment_attempts,
                max_adu=equipment.camera.info.max_adu,
            ),
            n_frames=f.num_flats,
            start_exposure_s=camera_values(self.config).exposure_time,
            twilight=f.twilight,
            filters=f.filters,
            brightness=f.panel_brightness,
            full_scale_adu=round(full_adu) if (full_adu := self.config.quality.full_scale_adu) else None,
            bias_level_adu=find_bias_level(folders_of(darks), settings, shape),
            limits=self._limits(saturated_share=0.001),
            retry=retry_rules(self.config),
        )
        sink = _sink(self.config, equipment, f)
        directory = str(sink.directory)
        plan = StepPlan(step="flats", costs=plan_flats(equipment, settings, rules, sink), is_estimate=True)
        if not plan.missing:  # their exposures may still need darks
            exposures_s = {cost.exposure_time_s for cost in plan.costs if cost.exposure_time_s is not None}
            frames = {cost.location: cost.frames for cost in plan.costs}
            details = _details(frames, 0, exposures_s, directory)
            return Status(level=Level.SUCCESS, message=f"no flats are missing in {directory}", details=details)
        if not self._planned(plan):
            raise DeviceError("flats were not taken: they were declined")
        report = capture_flats(equipment, settings, rules, sink)
        failures = [
            f"flats{f' with filter {failure.filter_name}' if failure.filter_name else ''}: {failure.reason}"
            for failure in report.failures
        ]
        return _status_of(report.outcomes, failures, directory)


def _status_of(outcomes: Sequence[SeriesOutcome], failures: Sequence[str], directory: str) -> Status:
    """Return the outcome of the series of a step."""
    warnings = [line for outcome in outcomes for line in outcome.warnings]
    errors = [outcome.message for outcome in outcomes if not outcome.is_complete] + list(failures)
    taken = sum(outcome.taken for outcome in outcomes)
    message = f"{taken} frames taken, {sum(outcome.is_complete for outcome in outcomes)} series complete in {directory}"
    exposures_s = {o.plan.exposure_time_s for o in outcomes if o.plan.exposure_time_s is not None}
    frames = {outcome.location: outcome.present for outcome in outcomes}
    return Status(
        level=Level.ERROR if errors else Level.WARNING if warnings else Level.SUCCESS,
        message=f"{message}; {errors[0]}" if errors else message,
        data={"series": [outcome.location for outcome in outcomes]},
        details=_details(frames, taken, exposures_s, directory, warnings, errors),
    )


def _details(
    frames: dict[str, int],
    taken: int,
    exposures_s: set[float],
    directory: str,
    warnings: Sequence[str] = (),
    errors: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "frames": frames,
        "taken": taken,
        "exposures": sorted(exposures_s),
        "output_dir": directory,
        "warnings": list(warnings),
        "errors": list(errors),
    }
