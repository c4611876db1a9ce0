"""Prepare darkness or light: move the cover, switch the panel, or ask the user to do it by hand."""

from __future__ import annotations

import logging

from ostcal.capture.exposer import Exposer
from ostcal.capture.series_plan import Equipment, RetryRules
from ostcal.devices.protocols import CoverCalibrator, CoverState
from ostcal.errors import DeviceError
from ostcal.measure.live import LiveLimits, gradient_adu, light_above_bias, light_gradient, median_adu

logger = logging.getLogger(__name__)

_TEST_EXPOSURE_S = 1.0
"""Exposure of the frame checked for light: dusk gives thousands of ADU, the dark current of a warm sensor tens."""
_MOST_QUESTIONS = 3


def make_dark(equipment: Equipment, exposures_s: tuple[float, ...], limits: LiveLimits, retry: RetryRules) -> None:
    """Make sure that no light reaches the sensor.

    A cover is closed; a camera with a shutter needs nothing else. Otherwise the user is asked, and two frames, one of
    the shortest of the planned exposures and one of a longer exposure, are compared to check that it is dark.

    Raises
    ------
    DeviceError
        If the cover does not close, the user answers no, or there is light and nobody can be asked.
    """
    cover = equipment.cover
    if cover is not None:
        move_cover(cover, CoverState.CLOSED)
        if cover.cover_state() is CoverState.CLOSED:
            return
    if equipment.camera.info.has_shutter:
        return
    question = "Cover the telescope or the camera so that no light reaches the sensor. Is it covered?"
    for _ in range(_MOST_QUESTIONS):
        if not _is_ready(equipment, question, "the telescope or the camera must be covered"):
            raise DeviceError("darks were not taken: the camera is not covered")
        found = _light_found(equipment, exposures_s, limits, retry)
        if found is None:
            return
        logger.warning("the test frame is not dark: %s", found)
        question = f"There is light: {found}. Cover the telescope or the camera. Is it covered?"
        if equipment.ask is None:
            break
    raise DeviceError(f"darks were not taken: {found}; cover the telescope or the camera and start again")


def ask_for_light(equipment: Equipment, *, twilight: bool) -> None:
    """Ask the user to prepare the light for flats if no device does it.

    A motorised cover needs no help for sky flats, a mount that is pointed only an open telescope, and a cover with a
    panel needs none at all. With a panel but no cover, the user must still remove the cap.

    Raises
    ------
    DeviceError
        If the user answers no.
    """
    cover = equipment.cover
    has_cover = cover is not None and cover.cover_state() is not CoverState.NOT_PRESENT
    has_panel = cover is not None and cover.max_brightness > 0 and not twilight
    needs = [] if has_cover else ["the telescope must be uncovered"]
    is_pointed = equipment.mount is not None and equipment.mount.rules.null_point
    if not has_panel and not (twilight and (has_cover or is_pointed)):
        needs.append("it must point at the twilight sky" if twilight else "the flat light must be on")
    if not needs:
        return
    need = " and ".join(needs)
    if not _is_ready(equipment, f"For flats {need}. Is it ready?", need):
        raise DeviceError(f"flats were not taken: {need}")


def _is_ready(equipment: Equipment, question: str, need: str) -> bool:
    """Ask the user; if nobody can be asked, log what is assumed."""
    if equipment.ask is not None:
        return equipment.ask(question)
    logger.warning("nobody is asked: %s now", need)
    return True


def move_cover(cover: CoverCalibrator, wanted: CoverState) -> None:
    """Switch the panel off, open or close the cover, if there is one, and check that it obeyed."""
    if cover.max_brightness > 0:
        cover.light_off()
    if cover.cover_state() is CoverState.NOT_PRESENT:
        return
    verb = "open" if wanted is CoverState.OPEN else "close"
    if wanted is CoverState.OPEN:
        cover.open_cover()
    else:
        cover.close_cover()
    state = cover.cover_state()
    if state is not wanted:
        raise DeviceError(f"the cover did not {verb}, it says {state.value!r}; look at it, or {verb} it by hand")


def _light_found(
    equipment: Equipment, exposures_s: tuple[float, ...], limits: LiveLimits, retry: RetryRules
) -> str | None:
    """Take test frames and return the evidence of light, or ``None`` if it is dark."""
    info = equipment.camera.info
    short_s = min(exposures_s)
    long_s = min(max(max(exposures_s), short_s), max(_TEST_EXPOSURE_S, short_s))
    exposer = Exposer(equipment.camera, equipment.clock, retry)
    equipment.watcher.notify(f"a test frame of {long_s:g} s is taken to see whether it is dark")
    bias_adu = _level(exposer, short_s)[0] if long_s > short_s else None
    level_adu, gradient = _level(exposer, long_s)
    above = light_above_bias(level_adu, bias_adu, long_s, limits, info.max_adu)
    verdicts = [above] if above is not None else []
    verdicts.append(light_gradient(gradient, long_s, limits, info.max_adu))
    if level_adu > info.max_adu / 2:  # so bright that even the shortest exposure is
        return f"the level of a frame of {long_s:g} s is {100 * level_adu / info.max_adu:.0f} % of full scale"
    return next((verdict.text for verdict in verdicts if not verdict.passed), None)


def _level(exposer: Exposer, exposure_s: float) -> tuple[float, float]:
    """Take a frame and return its median and its gradient in ADU."""
    pixels = exposer.take(exposure_s, light=False).result.pixels
    return median_adu(pixels), gradient_adu(pixels)
