"""Numbers, times and settings in words, as the page shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from ostcal.frames import FrameType
from ostcal.measure.findings import Outcome
from ostcal.printable import printable
from ostcal.report.document import CameraReport, MasterReport, Report

DASH = "–"  # noqa: RUF001 - the sign that stands for "not known"
MINUS = "−"  # noqa: RUF001
THIN_SPACE = "\u202f"  # does not break
SPACE = "\u00a0"

KIND_WORDS = {
    FrameType.BIAS: "Bias",
    FrameType.DARK: "Dark",
    FrameType.FLAT: "Flat",
    FrameType.LIGHT: "Light",
}

_HEADLINES_OF_ONE = {
    None: "The master was not checked",
    Outcome.PASS: "The master passed",
    Outcome.WARN: "The master has warnings",
    Outcome.FAIL: "The master failed",
}


def shown(value: object) -> object:
    """Return a value as the page shows it: in texts of others, characters that are not printed are escaped."""
    return printable(value, keep="\n\xa0\u2009\u202f") if type(value) is str else value


def number(value: float | None, digits: int = 4) -> str:
    """Return a number to `digits` significant digits, with thousands apart, a real minus, and a dash if unknown."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent >= 7 or exponent < -5:
        mantissa = value / 10.0**exponent
        return _signed(f"{mantissa:.{max(digits - 1, 0)}g}") + f"{SPACE}×{SPACE}10{superscript(exponent)}"  # noqa: RUF001
    return fixed(value, max(0, digits - 1 - exponent), strip=True)


def fixed(value: float | None, decimals: int, *, strip: bool = False) -> str:
    """Return a number with `decimals` decimals; `strip` drops zeros at the end."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{round(value, decimals) + 0.0:,.{decimals}f}"  # adding 0 takes the sign off a zero
    if strip and "." in text:
        text = text.rstrip("0").rstrip(".")
    whole, _, rest = text.partition(".")
    if len(whole.lstrip("-")) <= 5:  # 1234 and 9999 need no space
        whole = whole.replace(",", "")
    return _signed(whole.replace(",", THIN_SPACE) + ("." + rest if rest else ""))


def with_unit(value: float | None, unit: str, digits: int = 4) -> str:
    """Return a number and its unit."""
    text = number(value, digits)
    return text if text == DASH or not unit else text + SPACE + unit


def with_uncertainty(value: float | None, uncertainty: float | None, unit: str) -> str:
    """Return a value and its uncertainty to two digits of that, such as ``3.512 ± 0.021 e-``."""
    if value is None or not math.isfinite(value):
        return DASH
    if uncertainty is None or not math.isfinite(uncertainty) or uncertainty <= 0:
        return with_unit(value, unit)
    decimals = max(0, 1 - math.floor(math.log10(uncertainty)))
    if decimals > 8:
        return f"{with_unit(value, '')} ± {with_unit(uncertainty, unit, 2)}"
    return f"{fixed(value, decimals)} ± {fixed(uncertainty, decimals)}" + (SPACE + unit if unit else "")


def span(low: float | None, high: float | None, unit: str, *, between: str = " to ") -> str:
    """Return a range with as many decimals as show their distance to two digits: ``506.041 to 506.055 ADU``."""
    if low is None or high is None or not math.isfinite(high - low):
        return DASH
    if abs(high - low) <= 1e-6 * max(abs(low), abs(high)):
        return with_unit(low, unit, 5)
    decimals = min(9, max(0, 1 - math.floor(math.log10(high - low))))
    ends = f"{fixed(low, decimals)}{between}{fixed(high, decimals)}"
    return ends + SPACE + unit if unit else ends


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share between 0 and 1 in per cent."""
    return DASH if share is None else with_unit(share * 100, "%", digits)


def count(value: int | None) -> str:
    """Return a whole number, thousands apart."""
    return DASH if value is None else fixed(value, 0)


def when(moment: datetime | None) -> str:
    """Return a time in UTC to the second."""
    return DASH if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def seconds(value: float | None) -> str:
    """Return an exposure."""
    return with_unit(value, "s", 6)


def celsius(value: float | None) -> str:
    """Return a temperature to a tenth of a degree."""
    return DASH if value is None else fixed(value, 1) + SPACE + "°C"


def master_title(master: MasterReport) -> str:
    """Return the kind, filter, exposure and temperature of a master, and its image of a file of several."""
    settings = master.settings
    image = f"image {settings.extension}" if settings.extension is not None else DASH
    exposure = seconds(settings.exposure_time_s) if master.kind is not FrameType.BIAS else DASH
    words = [KIND_WORDS[master.kind], settings.filter_name or DASH, exposure, celsius(settings.temperature_c), image]
    return " · ".join(word for word in words if word != DASH)


def title_of(masters: Sequence[MasterReport]) -> str:
    """Return the cameras and the nights of masters: ``QHY600M, night of 2026-11-30``."""
    cameras = list(dict.fromkeys(m.settings.camera for m in masters if m.settings.camera))
    nights = sorted({m.night for m in masters if m.night is not None})
    words = [" and ".join(cameras) if len(cameras) < 3 else f"{len(cameras)} cameras"] if cameras else []
    if nights:
        words.append(f"night of {nights[0]}" if len(nights) == 1 else f"nights of {nights[0]} to {nights[-1]}")
    return ", ".join(words) or "Calibration masters"


def headline(report: Report) -> str:
    """Return one sentence about all verdicts."""
    verdicts = [master.verdict for master in report.masters]
    total = len(verdicts)
    if total < 2:
        return _HEADLINES_OF_ONE[verdicts[0]] if verdicts else "No masters"
    failed, warned, unchecked = (verdicts.count(word) for word in (Outcome.FAIL, Outcome.WARN, None))
    of_all = f"of {plural(total, 'master')}"
    parts = [f"{failed} {of_all} failed"] if failed else []
    if warned:
        parts.append(f"{warned} with warnings" if failed else f"{warned} {of_all} with warnings")
    if not parts:
        passed = total - unchecked
        parts.append(f"{passed} {of_all} passed" if unchecked else f"All {total} masters passed")
    return ", ".join([*parts, f"{unchecked} not checked"] if unchecked else parts)


def master_line(master: MasterReport) -> str:
    """Return filter, exposure, temperature and frames of a master, as far as they are known."""
    settings = master.settings
    words = [
        settings.filter_name or DASH,
        seconds(settings.exposure_time_s) if master.kind is not FrameType.BIAS else DASH,
        celsius(settings.temperature_c),
        plural(master.n_frames, "frame").replace(" ", SPACE) if master.n_frames is not None else DASH,
    ]
    return " · ".join(word for word in words if word != DASH)


def camera_title(camera: CameraReport) -> str:
    """Return a camera and the settings it was measured at."""
    words = [
        camera.camera or "Camera",
        f"gain {number(camera.gain_setting)}" if camera.gain_setting is not None else "",
        f"offset {number(camera.offset_setting)}" if camera.offset_setting is not None else "",
        f"binning {times(camera.binning)}" if camera.binning else "",
        camera.readout_mode or "",
    ]
    return " · ".join(word for word in words if word)


def times(pair: tuple[int, ...] | None) -> str:
    """Return a size or a binning as ``2 × 2``."""  # noqa: RUF002
    return f"{SPACE}×{SPACE}".join(count(side) for side in pair) if pair else DASH  # noqa: RUF001


def plural(n: int, word: str) -> str:
    """Return a number of things: ``1 frame``, ``2 frames``."""
    return f"{count(n)} {word}" + ("" if n == 1 else "s")


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def superscript(exponent: int) -> str:
    """Return a whole number in small raised digits."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
