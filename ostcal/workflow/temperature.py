"""The temperature of the sensor before the first frame and after the last one, as the configuration says."""

from __future__ import annotations

import logging

from ostcal.capture.cooling import cool, warm_sensor
from ostcal.capture.series_plan import Equipment
from ostcal.config import Config
from ostcal.errors import DeviceError
from ostcal.workflow.capture_rules import cooling_rules


def warms_up(config: Config) -> bool:
    """Return whether the sensor warms up after the last frame."""
    return config.video.cooling.enable_cooling and config.video.cooling.warmup_at_end


def cool_sensor(config: Config, equipment: Equipment, logger: logging.Logger, wait: bool | None = None) -> None:
    """Cool the sensor; ask whether frames at another temperature are wanted if the target is not reached.

    If nobody can be asked, the frames are taken: each record has the temperature of its frame, and masters are grouped
    and named by it. `wait` replaces the configured value.

    Raises
    ------
    DeviceError
        If the camera does not answer, or the observer does not accept the temperature.
    """
    c = config.video.cooling
    if not c.enable_cooling:
        return
    rules = cooling_rules(config)
    waits = c.wait_for_cooling if wait is None else wait
    outcome = cool(equipment, rules, wait=waits)
    if not waits or outcome.reached:
        return
    temperature = f"{outcome.temperature_c:.1f} C"
    if equipment.ask is None:
        logger.warning("continuing at %s: frames and masters record the actual temperature", temperature)
    elif not equipment.ask(f"The target temperature was not reached. Continue at {temperature}?"):
        raise DeviceError(f"no frames were taken: {outcome.message}")


def warm_up(equipment: Equipment, logger: logging.Logger) -> None:
    """Warm up the sensor; the frames are safe even if that fails."""
    try:
        warm_sensor(equipment)
    except DeviceError as error:
        logger.warning("the sensor could not be warmed up: %s", error)
    except KeyboardInterrupt:
        logger.warning("the warm-up was ended; the cooler is left as it is, switched on")
        raise
