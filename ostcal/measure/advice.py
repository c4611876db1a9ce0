"""What to do about the finding of each check, in the words of the observer."""

from __future__ import annotations

_ADVICE = {
    "range": "check offset, cable and readout of the camera",
    "saturation": "expose less, or lower the gain",
    "temperature": "wait until the sensor is at its temperature, or group by it (master_frames.temperature_tolerance)",
    "set point": "wait for the cooler before the first frame; if it was at its temperature, nothing is to be done",
    "level": "check that these are bias frames or darks, and the offset",
    "flat level": "change the exposure time or the lamp",
    "level jump": "exclude the frames that are off, or take the series again",
    "mixture": "exclude one of the groups, or take the series again in one go",
    "drift": "let the camera warm up, and take bias frames and darks near to the frames that they are for",
    "lamp drift": "let the lamp warm up before the first flat",
    "lamp scatter": "use a steadier lamp, or longer exposures",
    "light leak": "cover the telescope, and take darks at night",
    "flat shape": "look at the frames: condensation, clouds, something before the lens",
    "row pattern": "use one readout mode for all frames; if that does not help, exclude those that differ",
    "unlike others": "look at the frames, and exclude those that do not belong here",
    "frames": "take more frames",
    "rejected samples": "look at the frames that lost most",
    "rejected region": "look at this region in the frames: something moved, or light leaked in",
    "copies": "take frames of their own",
    "sample noise": "look at the levels of the frames in the report: they drift or jump",
    "pixel noise": "look for interference: cables, power supply, USB",
    "hot pixels": "cool the sensor more, or expose for less",
    "cold pixels": "look at the map of bad pixels (DQ)",
    "dead pixels": "look at the map of bad pixels (DQ)",
    "noisy pixels": "look at the map of bad pixels (DQ)",
    "telegraph pixels": "take more frames, so that rejection sees both levels",
    "saturated pixels": "expose less, or lower the gain",
    "bad columns": "look at the map of bad pixels (DQ)",
    "no data": "look at the frames: their samples there are no numbers",
    "glow": "expose for less, or use darks of the same exposure time only",
    "uniformity": "look at the master: an uneven light, or light that leaked in",
    "light inside": "cover the telescope, and take darks at night",
    "unlit area": "if the light is not meant to end there, look at the dark that was subtracted",
    "unlit border": "set master_frames.overscan, with its section and the part to keep",
    "pixels at zero": "check that the dark or bias fits, and the exposure of the flats",
    "flat too bright": "expose less",
    "flat too dim": "expose longer; quality.full_scale_adu says what full scale is",
    "signal to noise": "take more flats, or brighter ones",
    "vignetting": "check focuser, filters and baffles, or raise quality.masters.vignetting",
    "dust": "clean filters and window, or raise quality.masters.dust_depth",
    "level against previous": "check gain, offset and temperature against the previous master",
    "new hot pixels": "check the temperature; make new darks for the frames of tonight",
    "shape against previous": "use flats of the same night as the frames",
    "pixels against previous": "check that camera and settings are the same as before",
    "dark": "make the dark again first",
}


def advice_for(check: str) -> str:
    """Return what to do about a finding; "" where the finding says it."""
    return _ADVICE.get(check, "")
