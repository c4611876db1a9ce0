"""`DarkCapture` and `FlatCapture`: one step of the evening, from a configuration and a connected camera."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ostcal.capture.budget import StepPlan
from ostcal.capture.cooling import cool
from ostcal.capture.darks import DarkPlan, DarkRules, capture_darks, flat_exposures, plan_darks
from ostcal.capture.flats import capture_flats, plan_flats
from ostcal.capture.nights import capture_night
from ostcal.capture.points import Point
from ostcal.capture.run_points import PointRules, PointsReport, capture_points, plan_points
from ostcal.capture.series_plan import CaptureWatcher, Equipment, SeriesOutcome
from ostcal.config import ConfigSource, load_config
from ostcal.config.capture_plan import load_capture_plan
from ostcal.devices.failures import NotNowError
from ostcal.devices.protocols import Camera
from ostcal.errors import DeviceError, OstcalError
from ostcal.frames import CameraSettings, FrameType
from ostcal.places.night_folders import folders_of
from ostcal.status import KeepsStatus, Level, Status
from ostcal.vocabulary import DarkStrategy
from ostcal.workflow.capture_rules import (
    camera_request,
    cooling_rules,
    earlier_series,
    entry_points,
    flat_rules,
    leaves_temperature,
    live_limits,
    matrix_points,
    noise_folders,
    noise_target,
    point_rules,
    sink_of,
)
from ostcal.workflow.lights import flat_dark_points, light_points
from ostcal.workflow.night_end import beyond_night
from ostcal.workflow.open_devices import Ask, clock_of, retry_rules
from ostcal.workflow.open_mount import pointing_line

Planned = Callable[[StepPlan], bool]
"""Called with the frames that a step will take and their cost, before the first; false ends the step."""


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

        Raises
        ------
        TypeError
            If it is no camera.
        """
        if not isinstance(camera, Equipment):
            if not hasattr(camera, "apply"):
                name = type(camera).__name__
                raise TypeError(f"camera: an object of type {name} is no camera; give open_camera(config)")
            camera = Equipment(camera=camera, clock=clock_of(self.config), watcher=self._watcher, ask=self._ask)
        self._equipment, connected = camera, camera.camera

        def apply() -> Status:
            self._settings = connected.apply(camera_request(self.config))
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
            # What is refused now is taken once it is safe; who gives up says so.
            self._logger.log(logging.INFO if isinstance(error, NotNowError) else logging.ERROR, "%s", error)
            self._logger.debug("traceback", exc_info=True)
            self._status = Status(
                level=Level.ERROR, message=str(error), details={"errors": [str(error)], "warnings": []}
            )
        except KeyboardInterrupt:
            if self._equipment is not None and self._equipment.mount is not None:
                self._equipment.mount.warn_of_last_move()
            raise
        finally:
            if self._equipment is not None and self._equipment.mount is not None:
                self._equipment.mount.finish()
        return self._status

    def _say_pointing(self, equipment: Equipment) -> None:
        """Say where flats of the sky will be taken, before anything moves."""
        line = pointing_line(self.config, equipment.clock.utc())
        if line is not None:
            self._logger.info("%s", line)

    def _capture_points(
        self,
        step: str,
        points: Sequence[Point],
        *,
        strategy: DarkStrategy | None = None,
        max_hours: float | None = None,
        dry_run: bool = False,
        not_taken: Sequence[str] = (),
    ) -> Status:
        """Take the points of a plan; with `dry_run` only show what would be taken.

        `not_taken` has a line for each that was asked for and is not among them.
        """
        equipment, settings = self._ready()
        rules = point_rules(self.config, equipment, settings, strategy=strategy, max_hours=max_hours)
        plan = plan_points(equipment, points, rules)
        directory = str(rules.darks.directory)
        if any(point.kind is FrameType.FLAT for point in points):
            self._say_pointing(equipment)
        shown = StepPlan(step=step, costs=plan.costs)
        if (too_long := beyond_night(self.config, equipment.clock, shown.time_s)) is not None:
            self._logger.warning("%s: %s", step, too_long)
        if not self._planned(shown):
            raise DeviceError(f"{step} was not taken: it was declined")
        if dry_run:
            for line in plan.left_out:
                self._logger.warning("%s", line)
            missing = sum(cost.missing for cost in plan.costs)
            details = _details({cost.location: cost.frames for cost in plan.costs}, 0, set(), directory)
            return Status(level=Level.SUCCESS, message=f"{missing} frames would be taken", details=details)
        report = capture_points(equipment, plan, rules)
        return _status_of(report.outcomes, [*report.failures, *not_taken], directory, plan.left_out)


class PlanCapture(Capture):
    """Take the series of a capture plan.

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
    """

    def capture_plan(
        self,
        path: str,
        *,
        strategy: DarkStrategy = "all",
        max_hours: float | None = None,
        dry_run: bool = False,
    ) -> Status:
        """Take the frames of a plan that are missing.

        Parameters
        ----------
        path : str
            The YAML file, as `ostcal coverage --plan` writes it.
        strategy : {"all", "missing", "aged"}, optional
            Whether complete series of earlier nights serve, as ``dark_capture.strategy``.
        max_hours : float, optional
            Longest time; series that do not fit are named in the warnings.
        dry_run : bool, optional
            Only plan: no frame is taken, and the temperature is left as it is.

        Returns
        -------
        Status
            `is_error` if a series is not complete; ``data["series"]`` are the locations of the series.
        """

        def capture() -> Status:
            equipment, _ = self._ready()
            points = entry_points(self.config, load_capture_plan(path), equipment.camera.info, path)
            return self._capture_points("plan", points, strategy=strategy, max_hours=max_hours, dry_run=dry_run)

        return self._guarded(capture)


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

    def capture_darks(self, flat_exposures_s: Sequence[float] = (), *, max_hours: float | None = None) -> Status:
        """Take the bias frames and darks that are missing.

        Parameters
        ----------
        flat_exposures_s : sequence of float, optional
            As of `plan`, in seconds.
        max_hours : float, optional
            Longest time of a matrix; by default ``dark_capture.max_hours``.

        Returns
        -------
        Status
            `is_error` if a series is not complete; ``data["series"]`` are the locations of the series.
        """
        if self.config.dark_capture.matrix.is_asked:
            return self._guarded(lambda: self._capture_matrix(max_hours))
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
        if not exposures and (self.config.flat_capture.for_lights is None or d.flat_exposure_time is not None):
            flats = folders_of(self.config.flat_capture.output_dir)
            night = capture_night(equipment.clock, self.config.site.longitude)
            exposures = flat_exposures(d.flat_exposure_time, flats, night.noon_utc_s, settings)
        rules = DarkRules(
            n_frames=d.frames,
            target=noise_target(self.config, d.target) if d.num_darks == "auto" else None,
            measured_in=noise_folders(self.config),
            science_exposure_s=d.science_exposure_time,
            factors=factors,
            flat_exposures_s=exposures,
            min_exposure_s=d.min_exposure,
            max_exposure_s=d.max_exposure,
            earlier=earlier_series(self.config),
            limits=live_limits(self.config),
            retry=retry_rules(self.config),
        )
        return plan_darks(equipment, settings, rules, sink_of(self.config, equipment, d))

    def _capture_matrix(self, max_hours: float | None) -> Status:
        equipment, _ = self._ready()
        every, lines = matrix_points(self.config, equipment.camera.info)
        for line in lines:
            self._logger.warning("%s", line)
        points = [point for point in every if self._takes(point)]
        hours = max_hours if max_hours is not None else self.config.dark_capture.max_hours
        try:
            return self._capture_points("darks", points, max_hours=hours, not_taken=self._not_taken(lines))
        finally:
            equipment.camera.apply(camera_request(self.config))
            if leaves_temperature(self.config, points):
                cool(equipment, cooling_rules(self.config))

    def _takes(self, point: Point) -> bool:
        """Return whether a point of the matrix is to be taken."""
        return True

    def _not_taken(self, lines: Sequence[str]) -> list[str]:
        """Return the lines of exposures that were asked for and are not possible: errors, as nobody else takes them."""
        return list(lines)

    def _capture(self, step: str, plan: DarkPlan) -> Status:
        equipment, _ = self._ready()
        if not self._planned(StepPlan(step=step, costs=plan.costs)):
            raise DeviceError(f"{step} were not taken: they were declined")
        sink = sink_of(self.config, equipment, self.config.dark_capture)
        not_taken = self._not_taken([f"darks of {line}" for line in plan.left_out])
        return _status_of(capture_darks(equipment, plan, sink), not_taken, str(sink.directory))


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
        if self.config.flat_capture.for_lights is not None:
            return self._guarded(self._capture_for_lights)
        return self._guarded(self._capture)

    def _capture_for_lights(self) -> Status:
        """Take the flats that lights need, then darks with the exposures and settings of these flats."""
        equipment, settings = self._ready()
        noon_utc_s = capture_night(equipment.clock, self.config.site.longitude).noon_utc_s
        names = equipment.wheel.names if equipment.wheel is not None else ()
        try:
            rules = point_rules(self.config, equipment, settings)
            lit = self._take_points("flats", light_points(self.config, names, noon_utc_s), rules)
            dark = self._take_points("flat darks", flat_dark_points(self.config, lit.outcomes), rules)
        finally:
            equipment.camera.apply(camera_request(self.config))
        outcomes = (*lit.outcomes, *dark.outcomes)
        status = _status_of(outcomes, (*lit.failures, *dark.failures), str(rules.flats.directory))
        return replace(status, details={**status.details, "exposures": []})  # their darks are taken

    def _take_points(self, step: str, points: Sequence[Point], rules: PointRules) -> PointsReport:
        equipment, _ = self._ready()
        plan = plan_points(equipment, points, rules)
        if points and not self._planned(StepPlan(step=step, costs=plan.costs)):
            raise DeviceError(f"{step} were not taken: they were declined")
        return capture_points(equipment, plan, rules)

    def _capture(self) -> Status:
        equipment, settings = self._ready()
        f = self.config.flat_capture
        rules = flat_rules(self.config, equipment, settings)
        sink = sink_of(self.config, equipment, f)
        directory = str(sink.directory)
        plan = StepPlan(step="flats", costs=plan_flats(equipment, settings, rules, sink), is_estimate=True)
        if not plan.missing:  # their exposures may still need darks
            exposures_s = {cost.exposure_time_s for cost in plan.costs if cost.exposure_time_s is not None}
            frames = {cost.location: cost.frames for cost in plan.costs}
            details = _details(frames, 0, exposures_s, directory)
            return Status(level=Level.SUCCESS, message=f"no flats are missing in {directory}", details=details)
        self._say_pointing(equipment)
        if not self._planned(plan):
            raise DeviceError("flats were not taken: they were declined")
        report = capture_flats(equipment, settings, rules, sink)
        failures = [
            f"flats{f' with filter {failure.filter_name}' if failure.filter_name else ''}: {failure.reason}"
            for failure in report.failures
        ]
        return _status_of(report.outcomes, failures, directory)


def _status_of(
    outcomes: Sequence[SeriesOutcome], failures: Sequence[str], directory: str, left_out: Sequence[str] = ()
) -> Status:
    """Return the outcome of the series of a step."""
    warnings = [*left_out, *(line for outcome in outcomes for line in outcome.warnings)]
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
