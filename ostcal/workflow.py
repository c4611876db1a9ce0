"""The evening in one call: cool, darks, flats, the darks that the flats still miss, masters.

The public classes here are the only ones that put a configuration, devices, capture and masters together.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ostcal.build.api import MasterFrameCreator
from ostcal.build.from_config import request_of
from ostcal.build.request import Watcher
from ostcal.build.while_exposing import COMPILE_S, STOP_S, StripsProcess, can_combine_while_exposing
from ostcal.capture.auto_exposure import ExposureRules
from ostcal.capture.budget import StepPlan
from ostcal.capture.cooling import CoolingOutcome, CoolingRules, cool, warm_sensor
from ostcal.capture.darks import DarkPlan, DarkRules, capture_darks, find_bias_level, flat_exposures, plan_darks
from ostcal.capture.flats import FlatReport, FlatRules, capture_flats, plan_flats
from ostcal.capture.series_plan import CaptureWatcher, Equipment, RetryRules, SeriesOutcome, SeriesPlan, SeriesSink
from ostcal.clock import Clock, FastClock, SystemClock
from ostcal.config import Config, ConfigSource, load_config, resolved_values
from ostcal.devices.alpaca import open_alpaca_camera, open_alpaca_cover, open_alpaca_filter_wheel
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.protocols import Camera, CameraRequest
from ostcal.errors import ConfigError, DeviceError, OstcalError
from ostcal.frames import CameraSettings
from ostcal.measure.live import LiveLimits
from ostcal.places.paths import is_remote
from ostcal.status import Level, Status
from ostcal.vocabulary import Step

logger = logging.getLogger(__name__)

Ask = Callable[[str], bool]
Planned = Callable[[StepPlan], bool]
"""Told of the frames of a step that are to be taken and what they cost, before the first; false ends the step."""


@contextmanager
def open_equipment(
    config: Config, watcher: CaptureWatcher | None = None, ask: Ask | None = None
) -> Iterator[Equipment]:
    """Connect camera, filter wheel and cover as the configuration says, and disconnect them at the end.

    With ``camera_type: simulator`` a simulated observatory is started for as long as the context lives.

    Raises
    ------
    DeviceError
        If a device does not answer or does not connect.
    """
    camera = open_camera(config)
    opened: list[Any] = [camera]
    try:
        video = config.video
        host, port, wheel_id, cover_id = _addresses(config, camera)
        patience = _timeouts(config)
        wheel = open_alpaca_filter_wheel(host, port, wheel_id, timeouts=patience) if wheel_id is not None else None
        opened += [wheel] if wheel is not None else []
        cover = open_alpaca_cover(host, port, cover_id, timeouts=patience) if cover_id is not None else None
        opened += [cover] if cover is not None else []
        simulated = video.camera_type == "simulator"
        clock: Clock = FastClock(video.simulator.time_scale) if simulated else SystemClock()
        yield Equipment(
            camera=camera, clock=clock, watcher=watcher or CaptureWatcher(), wheel=wheel, cover=cover, ask=ask
        )
    finally:
        for device in reversed(opened):
            device.close()


_simulated: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The simulated observatory behind a camera, which stops when the camera is gone."""


def open_camera(config: ConfigSource = None) -> Camera:
    """Connect the camera of a configuration.

    Parameters
    ----------
    config : None, path, dict or Config

    Returns
    -------
    Camera
        Connected; a context manager. A simulated observatory that was started for it ends with it.

    Raises
    ------
    DeviceError
        If it does not answer or does not connect.
    """
    video = load_config(config).video
    if video.camera_type == "alpaca":
        alpaca = video.alpaca
        return open_alpaca_camera(alpaca.host, alpaca.port, alpaca.device_id, timeouts=_timeouts(load_config(config)))
    if video.camera_type == "ascom":
        from ostcal.devices.ascom import open_ascom_camera

        return open_ascom_camera(video.ascom.camera_name)
    from ostcal.simulator.options import SimulatorOptions
    from ostcal.simulator.server import SimulatedObservatory

    settings = video.simulator
    observatory = SimulatedObservatory(
        SimulatorOptions(
            sensor=settings.sensor, time_scale=settings.time_scale, seed=settings.seed, faults=settings.faults
        )
    )
    observatory.start()
    try:
        camera = open_alpaca_camera("127.0.0.1", observatory.port, timeouts=_timeouts(load_config(config)))
    except OstcalError:
        observatory.stop()
        raise
    weakref.finalize(camera, observatory.stop)
    _simulated[camera] = observatory
    return camera


def _timeouts(config: Config) -> Timeouts:
    alpaca = config.video.alpaca
    return Timeouts(reply_s=alpaca.reply_timeout, silence_s=alpaca.silence_timeout)


def _addresses(config: Config, camera: Camera) -> tuple[str, int, int | None, int | None]:
    """Give host and port of the server, and the numbers of wheel and cover where there are any."""
    alpaca = config.video.alpaca
    if camera in _simulated:
        return "127.0.0.1", _simulated[camera].port, 0, 0
    return alpaca.host, alpaca.port, alpaca.filter_wheel_id, alpaca.cover_calibrator_id


def _request(config: Config) -> CameraRequest:
    video = config.video
    values = video.ascom if video.camera_type == "ascom" else video.alpaca
    return CameraRequest(
        gain=values.gain, offset=values.offset, binning=values.binning, readout_mode=values.readout_mode
    )


def _retry(config: Config) -> RetryRules:
    """Give the patience with a frame: a simulated observatory makes its frames in real time, whatever its scale."""
    rules = RetryRules()
    if config.video.camera_type != "simulator":
        return rules
    return replace(rules, ready_margin_s=rules.ready_margin_s * max(1.0, config.video.simulator.time_scale))


def _limits(config: Config, **others: Any) -> LiveLimits:
    return LiveLimits(temperature_c=config.master_frames.temperature_tolerance, **others)


def refuse_object_stores(config: Config) -> None:
    """Refuse to capture into an object store: frames are exposed once, and a disk has them at once.

    Raises
    ------
    ConfigError
        With the key that is to be changed.
    """
    for section in ("dark_capture", "flat_capture"):
        directory = getattr(config, section).output_dir
        if is_remote(directory):
            raise ConfigError(
                f"{section}.output_dir: {directory} is in an object store; frames are captured into a local directory:"
                " set one, and copy its series there with ostcal upload"
            )


def _sink(config: Config, directory: str) -> SeriesSink:
    refuse_object_stores(config)
    return SeriesSink(
        directory=directory,
        compressor=config.storage.compressor,
        rows=config.storage.rows,
        export_frames=config.storage.export_frames,
    )


class _Capture:
    """What the capture of darks and of flats share: a configuration, devices, and the outcome of the last call."""

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
        """Take a connected camera, or camera, wheel and cover together, and apply the configured settings."""
        if isinstance(camera, Equipment):
            self._equipment = camera
        else:
            simulated = self.config.video.camera_type == "simulator"
            clock: Clock = FastClock(self.config.video.simulator.time_scale) if simulated else SystemClock()
            self._equipment = Equipment(camera=camera, clock=clock, watcher=self._watcher, ask=self._ask)
        return self._guarded(self._apply)

    def get_status(self) -> dict[str, Any]:
        """Give the outcome of the last call as a dictionary."""
        return self._status.as_dict()

    def _apply(self) -> Status:
        equipment, _ = self._ready(settled=False)
        self._settings = equipment.camera.apply(_request(self.config))
        name = equipment.camera.info.name
        return Status(level=Level.SUCCESS, message=f"{name} is connected", details={"settings": self._settings})

    def _ready(self, *, settled: bool = True) -> tuple[Equipment, CameraSettings]:
        if self._equipment is None or (settled and self._settings is None):
            raise DeviceError("no camera yet: call initialize(open_camera(config)) first")
        return self._equipment, self._settings or CameraSettings()

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


class DarkCapture(_Capture):
    """Take bias frames and darks of all exposures that a configuration asks for.

    Parameters
    ----------
    config : None, path, dict or Config
    logger : logging.Logger, optional
    watcher : CaptureWatcher, optional
        Told how the capture goes on.
    ask : callable (str) -> bool, optional
        Asks a person to do something by hand.
    planned : callable (StepPlan) -> bool, optional
        Told what is to be taken and what it costs, before the first frame; false ends the step.
    """

    def plan(self, flat_exposures_s: Sequence[float] = ()) -> DarkPlan:
        """Give what is to be taken and what it costs in time and space."""
        equipment, settings = self._ready()
        return plan_darks(equipment, settings, self._rules(flat_exposures_s), self._dark_sink())

    def capture_darks(self, flat_exposures_s: Sequence[float] = ()) -> Status:
        """Take the darks that are missing; of the flats' exposures as given, configured, or found on disk."""
        return self._guarded(lambda: self._capture("darks", self.plan(flat_exposures_s)))

    def capture_flat_darks(self, flat_exposures_s: Sequence[float]) -> Status:
        """Take the darks of the exposures of flats that are missing, and bias frames where they are, nothing else."""
        return self._guarded(lambda: self._capture_flat_darks(flat_exposures_s))

    def _capture_flat_darks(self, flat_exposures_s: Sequence[float]) -> Status:
        equipment, settings = self._ready()
        rules = replace(self._rules(flat_exposures_s), factors=())
        plan = plan_darks(equipment, settings, rules, self._dark_sink()).incomplete()
        if not plan.series and not plan.left_out:
            directory = self.config.dark_capture.output_dir
            return Status(level=Level.SUCCESS, message=f"no darks of the flats are missing in {directory}")
        return self._capture("flat darks", plan)

    def _dark_sink(self) -> SeriesSink:
        return _sink(self.config, self.config.dark_capture.output_dir)

    def _capture(self, step: str, plan: DarkPlan) -> Status:
        equipment, _ = self._ready()
        if not self._planned(StepPlan(step=step, costs=plan.costs)):
            raise DeviceError(f"{step} were not taken: they were declined")
        outcomes = capture_darks(equipment, plan, self._dark_sink())
        return _status_of(outcomes, [], self.config.dark_capture.output_dir)

    def _rules(self, flat_exposures_s: Sequence[float]) -> DarkRules:
        d = self.config.dark_capture
        exposures = tuple(flat_exposures_s)
        if not exposures:
            found = flat_exposures(d.flat_exposure_time, [self.config.flat_capture.output_dir])
            exposures = found.exposures_s
        return DarkRules(
            n_frames=d.num_darks,
            science_exposure_s=d.science_exposure_time,
            factors=d.exposure_factors,
            flat_exposures_s=exposures,
            min_exposure_s=d.min_exposure,
            max_exposure_s=d.max_exposure,
            limits=_limits(self.config),
            retry=_retry(self.config),
        )


class FlatCapture(_Capture):
    """Take flats at the exposure that gives the wanted level; parameters as for `DarkCapture`."""

    def capture_flats(self) -> Status:
        """Take the flats that are missing, filter by filter."""
        return self._guarded(self._capture)

    def _capture(self) -> Status:
        equipment, settings = self._ready()
        f = self.config.flat_capture
        rules, sink = self._rules(equipment, settings), _sink(self.config, f.output_dir)
        plan = StepPlan(step="flats", costs=plan_flats(equipment, settings, rules, sink), is_estimate=True)
        if not plan.missing:
            return _nothing_missing(plan, f.output_dir)
        if not self._planned(plan):
            raise DeviceError("flats were not taken: they were declined")
        report: FlatReport = capture_flats(equipment, settings, rules, sink)
        failures = [
            f"flats{f' with filter {failure.filter_name}' if failure.filter_name else ''}: {failure.reason}"
            for failure in report.failures
        ]
        return _status_of(report.outcomes, failures, f.output_dir)

    def _rules(self, equipment: Equipment, settings: CameraSettings) -> FlatRules:
        f, video = self.config.flat_capture, self.config.video
        values = video.ascom if video.camera_type == "ascom" else video.alpaca
        return FlatRules(
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
            start_exposure_s=values.exposure_time,
            twilight=f.twilight,
            filters=f.filters,
            brightness=f.panel_brightness,
            bias_level_adu=find_bias_level(
                [self.config.dark_capture.output_dir], settings, equipment.camera.frame_shape()
            ),
            limits=_limits(self.config, saturated_share=0.001),
            retry=_retry(self.config),
        )


def _nothing_missing(plan: StepPlan, directory: str) -> Status:
    """Give the outcome of flats that are all there: their exposures may still lack darks."""
    return Status(
        level=Level.SUCCESS,
        message=f"no flats are missing in {directory}",
        details={
            "frames": {cost.location: cost.frames for cost in plan.costs},
            "taken": 0,
            "exposures": sorted({cost.exposure_time_s for cost in plan.costs if cost.exposure_time_s is not None}),
            "output_dir": directory,
            "warnings": [],
            "errors": [],
        },
    )


def _status_of(outcomes: Sequence[SeriesOutcome], failures: Sequence[str], directory: str) -> Status:
    """Say what became of the series of a step."""
    warnings = [line for outcome in outcomes for line in outcome.warnings]
    errors = [outcome.message for outcome in outcomes if not outcome.is_complete] + list(failures)
    taken = sum(outcome.taken for outcome in outcomes)
    message = f"{taken} frames taken, {sum(outcome.is_complete for outcome in outcomes)} series complete in {directory}"
    level = Level.ERROR if errors else Level.WARNING if warnings else Level.SUCCESS
    return Status(
        level=level,
        message=f"{message}; {errors[0]}" if errors else message,
        data={"series": [outcome.location for outcome in outcomes]},
        details={
            "frames": {outcome.location: outcome.present for outcome in outcomes},
            "taken": taken,
            "exposures": sorted({o.plan.exposure_time_s for o in outcomes if o.plan.exposure_time_s is not None}),
            "output_dir": directory,
            "warnings": warnings,
            "errors": errors,
        },
    )


def _abort(equipment: Equipment) -> None:
    """See that nothing is exposed, wherever an interrupt came; it may have cut a request to the camera in two."""
    try:
        equipment.camera.abort()
    except DeviceError as error:
        logger.debug("the exposure could not be aborted: %s", error)


class _HandOver:
    """Hands closed series over to be combined while the camera takes the next; a context manager.

    A series is handed over when the next one begins: with nothing more to take, the masters are made at once.
    """

    def __init__(self, config: Config, watcher: CaptureWatcher, step: Step) -> None:
        self._watcher = watcher
        self._min_frames = config.master_frames.min_frames
        self._closed: list[SeriesOutcome] = []
        self._process = _strips_process(config) if step == "all" else None
        self.watcher = replace(watcher, series_started=self._series_started, series_ended=self._series_ended)

    def __enter__(self) -> _HandOver:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close(COMPILE_S if error is None else STOP_S)

    def close(self, patience_s: float = STOP_S) -> None:
        """End what is being combined; the masters step takes it over."""
        if self._process is not None:
            self._process.close(patience_s)

    def combine_closed(self) -> None:
        """Hand over the series that have ended."""
        closed, self._closed = self._closed, []
        if self._process is None:
            return
        for outcome in closed:
            self._process.combine(outcome.location, outcome.plan.frame_type)

    def _series_started(self, plan: SeriesPlan, location: str, missing: int) -> None:
        if missing:
            self.combine_closed()
        self._watcher.series_started(plan, location, missing)

    def _series_ended(self, outcome: SeriesOutcome) -> None:
        if outcome.present >= self._min_frames:
            self._closed.append(outcome)
        self._watcher.series_ended(outcome)


def _strips_process(config: Config) -> StripsProcess | None:
    """Return what combines while the camera exposes, where it is wanted and can be done."""
    wanted = config.master_frames
    if not config.workflow.masters_while_exposing or config.compute.scheduler == "distributed":
        return None
    request = request_of(
        config, bias=wanted.create_master_bias, darks=wanted.create_master_darks, flats=wanted.create_master_flats
    )
    return StripsProcess(resolved_values(config)) if can_combine_while_exposing(request) else None


class CalibrationWorkflow:
    """Darks, flats, the darks that the flats still miss, masters; parameters as for `DarkCapture`."""

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: CaptureWatcher | None = None,
        ask: Ask | None = None,
        masters_watcher: Watcher | None = None,
        planned: Planned | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher
        self._ask = ask
        self._planned = planned
        self.creator = MasterFrameCreator(self.config, self._logger, masters_watcher)
        self.statuses: dict[str, Status] = {}

    def run(self, step: Step = "all", *, wait_for_cooling: bool | None = None) -> dict[str, Status]:
        """Do one step, or all in their order; gives the outcome of each.

        Parameters
        ----------
        step : {"darks", "flats", "masters", "all"}
            ``all`` is darks, flats, the darks of the flats' exposure where they are missing, masters. The first darks
            have the flat exposure of the configuration, else those of flats on disk, else 1.0 s with a warning: it is
            not known yet which the flats will have, and a configured one spares these frames.
        wait_for_cooling : bool, optional
            In place of the configured value.

        Raises
        ------
        DeviceError
            If a device does not answer, a filter is not in the wheel, or a person does not want frames at the
            temperature that the cooler reached.
        KeyboardInterrupt
            After the exposure was aborted, the frames that were downloaded are committed, and the sensor has warmed up
            where that is configured; a second interrupt leaves the cooler as it is.
        """
        self.statuses = {}
        if step != "masters":
            refuse_object_stores(self.config)
            hand_over = _HandOver(self.config, self._watcher or CaptureWatcher(), step)
            with hand_over, open_equipment(self.config, hand_over.watcher, self._ask) as equipment:
                try:
                    self._cool(equipment, wait_for_cooling)
                    self._capture(equipment, step)
                    if self._warms_up():
                        hand_over.combine_closed()
                except KeyboardInterrupt:
                    hand_over.close()
                    _abort(equipment)
                    if self._warms_up():
                        self._logger.warning("interrupted; the sensor warms up first, another Ctrl-C skips that")
                    raise
                finally:
                    self._warm_up(equipment)
        if step in ("masters", "all"):
            self.statuses["masters"] = self.creator.create_all_master_frames()
        return self.statuses

    def _cool(self, equipment: Equipment, wait: bool | None) -> None:
        c = self.config.video.cooling
        if not c.enable_cooling:
            return
        rules = CoolingRules(
            target_c=c.target_temperature, tolerance_c=c.stabilization_tolerance, timeout_s=c.cooling_timeout
        )
        waits = c.wait_for_cooling if wait is None else wait
        outcome = cool(equipment, rules, wait=waits)
        if waits and not outcome.reached:
            self._accept_temperature(equipment, outcome)

    def _accept_temperature(self, equipment: Equipment, outcome: CoolingOutcome) -> None:
        """Ask whether frames at another temperature are wanted; with nobody to ask, the night is not thrown away.

        Each record says what temperature its frame had, and masters are grouped and named by it.
        """
        temperature = f"{outcome.temperature_c:.1f} C"
        if equipment.ask is None:
            self._logger.warning("going on at %s: frames and masters say the temperature that they had", temperature)
        elif not equipment.ask(f"The target temperature was not reached. Go on at {temperature}?"):
            raise DeviceError(f"no frames were taken: {outcome.message}")

    def _warms_up(self) -> bool:
        return self.config.video.cooling.enable_cooling and self.config.video.cooling.warmup_at_end

    def _warm_up(self, equipment: Equipment) -> None:
        """Warm up where that is configured; the frames are safe whatever the camera does now."""
        if not self._warms_up():
            return
        try:
            warm_sensor(equipment)
        except DeviceError as error:
            self._logger.warning("the sensor could not be warmed up: %s", error)
        except KeyboardInterrupt:
            self._logger.warning("the warm-up was ended; the cooler is left as it is, switched on")
            raise

    def _capture(self, equipment: Equipment, step: Step) -> None:
        if step != "darks":
            self._check_filters(equipment)
        darks = DarkCapture(self.config, self._logger, planned=self._planned)
        flats = FlatCapture(self.config, self._logger, planned=self._planned)
        if step in ("darks", "all") and not self._do("darks", equipment, darks, darks.capture_darks):
            return
        if step in ("flats", "all") and not self._do("flats", equipment, flats, flats.capture_flats):
            return
        taken = self.statuses.get("flats")
        exposures_s = taken.details.get("exposures", []) if taken is not None else []
        if step == "all" and exposures_s:
            self._do("flat darks", equipment, darks, lambda: darks.capture_flat_darks(exposures_s))

    def _check_filters(self, equipment: Equipment) -> None:
        """Refuse filters that are not in the wheel before the first dark: hours may lie between it and the flats."""
        names = equipment.wheel.names if equipment.wheel is not None else ()
        missing = [name for name in self.config.flat_capture.filters if name not in names]
        if missing:
            there = ", ".join(names) or "no filter: no wheel is connected"
            raise DeviceError(f"flat_capture.filters names {', '.join(missing)}, but the wheel has {there}")

    def _do(self, name: str, equipment: Equipment, capture: _Capture, work: Callable[[], Status]) -> bool:
        """Do a step; whether the camera took its settings, without which no other step can do more."""
        initialized = capture.initialize(equipment)
        self.statuses[name] = status = initialized if initialized.is_error else work()
        if not status.is_error and not status.details.get("taken"):
            self._logger.info("%s: %s", name, status.message)
        return not initialized.is_error
