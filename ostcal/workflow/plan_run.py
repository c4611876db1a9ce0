"""`run_plan`: the devices of a configuration take the series of a capture plan."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from ostcal.capture.series_plan import CaptureWatcher
from ostcal.clock import Clock
from ostcal.config import Config
from ostcal.config.capture_plan import load_capture_plan
from ostcal.status import Level, Status
from ostcal.vocabulary import DarkStrategy
from ostcal.workflow.capture_rules import refuse_object_stores
from ostcal.workflow.captures import PlanCapture, Planned
from ostcal.workflow.open_devices import Ask, open_equipment
from ostcal.workflow.safety import SafeCaptures
from ostcal.workflow.temperature import warm_up, warms_up

logger = logging.getLogger("ostcal")


def run_plan(
    config: Config,
    path: str,
    *,
    strategy: DarkStrategy = "all",
    max_hours: float | None = None,
    dry_run: bool = False,
    watcher: CaptureWatcher | None = None,
    ask: Ask | None = None,
    planned: Planned | None = None,
    clock: Clock | None = None,
) -> Status:
    """Connect the devices and take the missing frames of a plan; warm up at the end if that is configured.

    A wrong plan is refused before a device is connected. No exposure begins while the safety monitor or the roof of the
    configuration says no.

    Raises
    ------
    ConfigError
        If the plan is wrong: one line for each problem.
    DeviceError
        If a device does not answer.
    KeyboardInterrupt
        After the exposure was aborted; frames that are downloaded are committed.
    """
    refuse_object_stores(config)
    if not load_capture_plan(path):
        return Status(level=Level.SUCCESS, message=f"{path}: the plan has no series, so nothing is to be taken")
    with ExitStack() as held:
        opened = held.enter_context(open_equipment(config, watcher, ask, clock))
        safe = held.enter_context(SafeCaptures(config, opened.clock, logger))
        equipment = safe.guarded(opened)
        capture = PlanCapture(config, logger, planned=planned)
        try:
            initialized = capture.initialize(equipment)
            if initialized.is_error:
                return initialized
            if dry_run:
                return capture.capture_plan(path, strategy=strategy, max_hours=max_hours, dry_run=True)
            return safe.take(lambda hours: capture.capture_plan(path, strategy=strategy, max_hours=hours), max_hours)
        finally:
            if warms_up(config) and not dry_run:
                warm_up(equipment, logger)
