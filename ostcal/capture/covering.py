"""Darkness and light: the cover, the panel, and a person who is asked where there is neither."""

from __future__ import annotations

import logging

from ostcal.capture.exposer import Exposer
from ostcal.capture.series_plan import Equipment, RetryRules
from ostcal.devices.protocols import CoverCalibrator, CoverState
from ostcal.errors import DeviceError
from ostcal.measure.live import LiveLimits, gradient_adu, light_above_bias, light_gradient, median_adu

logger = logging.getLogger(__name__)

_TEST_EXPOSURE_S = 1.0
"""Exposure of the frame that is looked at for light: dusk gives thousands of ADU in it, a warm sensor's dark current
tens."""
_MOST_QUESTIONS = 3


def make_dark(equipment: Equipment, exposures_s: tuple[float, ...], limits: LiveLimits, retry: RetryRules) -> None:
    """See that no light reaches the sensor.

    A cover closes. A camera with a shutter needs nothing else. Without either a person is asked, and two frames, of the
    shortest exposure and of a longer one, are compared to see whether it is dark.

    Parameters
    ----------
    equipment : Equipment
        Camera, cover, and the person.
    exposures_s : tuple of float
        Exposures that are to be taken; the test is made with one of them, or with 1 s.
    limits : LiveLimits
        From which level on it is light.
    retry : RetryRules
        For the test exposures.

    Raises
    ------
    DeviceError
        If the cover does not close, the person says no, or there is light and nobody to do something about it.
    """
    cover = equipment.cover
    if cover is not None and cover.cover_state() is not CoverState.NOT_PRESENT:
        close_cover(cover)
        return
    if cover is not None and cover.max_brightness > 0:
        cover.light_off()
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
    """Ask a person for the light of flats where no device makes it.

    A cover that opens needs no hand for the sky, and one with a panel in it none at all; a panel without a cover still
    shines on whatever cap is on the telescope.

    Raises
    ------
    DeviceError
        If the person says no.
    """
    cover = equipment.cover
    has_cover = cover is not None and cover.cover_state() is not CoverState.NOT_PRESENT
    has_panel = cover is not None and cover.max_brightness > 0 and not twilight
    needs = [] if has_cover else ["the telescope must be uncovered"]
    if not has_panel and not (twilight and has_cover):
        needs.append("it must point at the twilight sky" if twilight else "the flat light must be on")
    if not needs:
        return
    need = " and ".join(needs)
    if not _is_ready(equipment, f"For flats {need}. Is it ready?", need):
        raise DeviceError(f"flats were not taken: {need}")


def _is_ready(equipment: Equipment, question: str, need: str) -> bool:
    """Ask a person; where nobody can be asked, say what is taken for granted."""
    if equipment.ask is not None:
        return equipment.ask(question)
    logger.warning("nobody is asked: %s now", need)
    return True


def close_cover(cover: CoverCalibrator) -> None:
    """Close a cover, its light off, and see that it is closed."""
    if cover.max_brightness > 0:
        cover.light_off()
    cover.close_cover()
    state = cover.cover_state()
    if state is not CoverState.CLOSED:
        raise DeviceError(f"the cover did not close, it says {state.value!r}; look at it, or close it by hand")


def open_cover(cover: CoverCalibrator) -> None:
    """Open a cover, its light off, and see that it is open; nothing where there is none."""
    if cover.max_brightness > 0:
        cover.light_off()
    if cover.cover_state() is CoverState.NOT_PRESENT:
        return
    cover.open_cover()
    state = cover.cover_state()
    if state is not CoverState.OPEN:
        raise DeviceError(f"the cover did not open, it says {state.value!r}; look at it, or open it by hand")


def _light_found(
    equipment: Equipment, exposures_s: tuple[float, ...], limits: LiveLimits, retry: RetryRules
) -> str | None:
    """Say what shows that there is light, ``None`` where nothing does."""
    info = equipment.camera.info
    short_s = min(exposures_s)
    long_s = min(max(max(exposures_s), short_s), max(_TEST_EXPOSURE_S, short_s))
    exposer = Exposer(equipment.camera, equipment.clock, retry)
    line = f"a test frame of {long_s:g} s is taken to see whether it is dark"
    logger.info("%s", line)
    equipment.watcher.notice(line)
    bias_adu = _level(exposer, short_s)[0] if long_s > short_s else None
    level_adu, gradient = _level(exposer, long_s)
    above = light_above_bias(level_adu, bias_adu, long_s, limits, info.max_adu)
    verdicts = [above] if above is not None else []
    verdicts.append(light_gradient(gradient, long_s, limits, info.max_adu))
    if level_adu > info.max_adu / 2:  # so bright that even the shortest exposure is
        return f"the level of a frame of {long_s:g} s is {100 * level_adu / info.max_adu:.0f} % of full scale"
    return next((verdict.text for verdict in verdicts if not verdict.passed), None)


def _level(exposer: Exposer, exposure_s: float) -> tuple[float, float]:
    """Take a frame; give its median and its gradient in ADU."""
    pixels = exposer.take(exposure_s, light=False).result.pixels
    return median_adu(pixels), gradient_adu(pixels)
