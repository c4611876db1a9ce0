"""`CalibrationWorkflow`: cooling, darks, flats, darks that match the flats, masters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import get_args

from ostcal.build.api import MasterFrameCreator
from ostcal.build.from_config import request_of
from ostcal.build.request import Watcher
from ostcal.build.while_exposing import COMPILE_S, STOP_S, StripsProcess, can_combine_while_exposing
from ostcal.capture.series_plan import CaptureWatcher, Equipment, SeriesEnd, SeriesOutcome, SeriesPlan
from ostcal.clock import Clock
from ostcal.config import Config, ConfigSource, load_config, resolved_values
from ostcal.errors import DeviceError, InputError
from ostcal.status import Level, Status
from ostcal.vocabulary import Step
from ostcal.workflow.capture_rules import refuse_object_stores
from ostcal.workflow.captures import Capture, DarkCapture, FlatCapture, Planned
from ostcal.workflow.lights import no_lights_line
from ostcal.workflow.open_devices import Ask, open_equipment, require_packages
from ostcal.workflow.safety import SafeCaptures
from ostcal.workflow.temperature import cool_sensor, warm_up, warms_up

logger = logging.getLogger(__name__)


class _HandOver:
    """Hands closed series over to be combined while the camera takes the next; a context manager.

    A series is handed over when the next one begins: with nothing more to take, the masters are made at once.
    """

    def __init__(self, config: Config, watcher: CaptureWatcher, step: Step) -> None:
        self._watcher = watcher
        self._min_frames = config.master_frames.min_frames
        self._closed: list[SeriesOutcome] = []
        self._process: StripsProcess | None = None
        wanted = config.master_frames
        if step == "all" and config.workflow.masters_while_exposing and config.compute.scheduler != "distributed":
            bias, darks, flats = wanted.create_master_bias, wanted.create_master_darks, wanted.create_master_flats
            request = request_of(config, bias=bias, darks=darks, flats=flats)
            if can_combine_while_exposing(request):
                self._process = StripsProcess(resolved_values(config))
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
        if self._process is not None:
            for outcome in closed:
                self._process.combine(outcome.location, outcome.plan.frame_type)

    def _series_started(self, plan: SeriesPlan, location: str, missing: int) -> None:
        if missing:
            self.combine_closed()
        self._watcher.series_started(plan, location, missing)

    def _series_ended(self, outcome: SeriesOutcome) -> None:
        if outcome.present >= self._min_frames and outcome.end is not SeriesEnd.NOT_NOW:  # else it goes on
            self._closed.append(outcome)
        self._watcher.series_ended(outcome)


class CalibrationWorkflow:
    """Take darks, flats and the darks that match the flats, and combine them into masters.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults.
    logger : logging.Logger, optional
        Receives the outcome; ``None`` is the logger ``ostcal``.
    watcher : CaptureWatcher, optional
        Callbacks for the progress of the capture.
    ask : callable (str) -> bool, optional
        Asks the observer to do something by hand; false ends the step.
    masters_watcher : Watcher, optional
        Callbacks for the progress of the masters.
    planned : callable (StepPlan) -> bool, optional
        Called with the frames that a step will take and their cost, before the first; false ends the step.
    clock : Clock, optional
        Tells the time and waits; by default that of the camera.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import CalibrationWorkflow
    >>> statuses = CalibrationWorkflow("night.yaml").run()  # doctest: +SKIP
    >>> statuses["masters"].message  # doctest: +SKIP
    """

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: CaptureWatcher | None = None,
        ask: Ask | None = None,
        masters_watcher: Watcher | None = None,
        planned: Planned | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher
        self._ask = ask
        self._planned = planned
        self._clock = clock
        self.creator = MasterFrameCreator(self.config, self._logger, masters_watcher)
        self.statuses: dict[str, Status] = {}

    def run(self, step: Step = "all", *, wait_for_cooling: bool | None = None) -> dict[str, Status]:
        """Run one step, or all in their order.

        No exposure begins while the safety monitor or the roof of the configuration says no; what is missing is taken
        once it is safe, within ``schedule.max_hours``.

        Parameters
        ----------
        step : {"darks", "flats", "masters", "all"}
            ``all`` is darks, flats, the darks of the flats' exposure if they are missing, masters. The first darks
            have the flat exposure of the configuration, else those of flats on disk, else 1.0 s with a warning: the
            exposure of new flats is not known yet. Configuring it saves these frames.
        wait_for_cooling : bool, optional
            Replaces the configured value.

        Returns
        -------
        dict of str to Status
            The outcome of each step: ``darks``, ``flats``, ``flat darks``, ``masters``.

        Raises
        ------
        InputError
            If there is no such step.
        ConfigError
            If a package of the extra ``capture`` is missing.
        DeviceError
            If a device does not answer, a filter is not in the wheel, or the observer does not accept the temperature
            that the cooler reached.
        KeyboardInterrupt
            After the exposure was aborted, downloaded frames are committed and, if that is configured, the sensor has
            warmed up; a second interrupt leaves the cooler as it is.
        """
        if step not in get_args(Step):
            raise InputError(f"step={step!r} is not known; write {', '.join(get_args(Step))}")
        self.statuses = {}
        if step != "masters":
            refuse_object_stores(self.config)
            require_packages(self.config)
            warms_up_at_end = warms_up(self.config)
            hand_over = _HandOver(self.config, self._watcher or CaptureWatcher(), step)
            with ExitStack() as held:
                held.enter_context(hand_over)
                opened = held.enter_context(open_equipment(self.config, hand_over.watcher, self._ask, self._clock))
                safe = held.enter_context(SafeCaptures(self.config, opened.clock, self._logger))
                equipment = safe.guarded(opened)
                try:
                    cool_sensor(self.config, equipment, self._logger, wait_for_cooling)
                    self._capture(equipment, step, safe)
                    if warms_up_at_end:
                        hand_over.combine_closed()
                except KeyboardInterrupt:
                    hand_over.close()
                    try:  # the interrupt may have cut a request to the camera in two
                        equipment.camera.abort()
                    except DeviceError as error:
                        logger.debug("the exposure could not be aborted: %s", error)
                    if warms_up_at_end:
                        self._logger.warning("interrupted; the sensor warms up first, another Ctrl-C skips that")
                    raise
                finally:
                    if warms_up_at_end:
                        warm_up(equipment, self._logger)
        if step in ("masters", "all"):
            self.statuses["masters"] = self.creator.create_all_master_frames(with_captured=True)
        return self.statuses

    def _capture(self, equipment: Equipment, step: Step, safe: SafeCaptures) -> None:
        if step != "darks":  # before the first dark: hours may lie between it and the flats
            names = equipment.wheel.names if equipment.wheel is not None else ()
            missing = [name for name in self.config.flat_capture.filters if name not in names]
            if missing:
                there = ", ".join(names) or "no filter: no wheel is connected"
                raise DeviceError(f"flat_capture.filters names {', '.join(missing)}, but the wheel has {there}")
        darks = DarkCapture(self.config, self._logger, planned=self._planned)
        flats = FlatCapture(self.config, self._logger, planned=self._planned)
        d = self.config.dark_capture
        matrix_hours = d.max_hours if d.matrix.is_asked else None

        def take_darks() -> Status:
            return safe.take(lambda hours: darks.capture_darks(max_hours=hours), matrix_hours)

        def take_flats() -> Status:
            return safe.take(lambda _: flats.capture_flats())

        def take_flat_darks() -> Status:
            return safe.take(lambda _: darks.capture_flat_darks(exposures_s))

        if step in ("darks", "all") and not self._do("darks", equipment, darks, take_darks):
            return
        if step == "all" and (line := no_lights_line(self.config)) is not None:  # nothing to take is no error
            self._logger.info("%s", line)
            self.statuses["flats"] = Status(level=Level.SUCCESS, message=line)
            return
        if step in ("flats", "all") and not self._do("flats", equipment, flats, take_flats):
            return
        taken = self.statuses.get("flats")
        exposures_s = taken.details.get("exposures", []) if taken is not None else []
        if step == "all" and exposures_s:
            self._do("flat darks", equipment, darks, take_flat_darks)

    def _do(self, name: str, equipment: Equipment, capture: Capture, work: Callable[[], Status]) -> bool:
        """Run a step; return whether the camera accepted its settings, without which no other step can run."""
        initialized = capture.initialize(equipment)
        self.statuses[name] = status = initialized if initialized.is_error else work()
        if not status.is_error and not status.details.get("taken"):
            self._logger.info("%s: %s", name, status.message)
        return not initialized.is_error
