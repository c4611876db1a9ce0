"""The series of a plan as points over temperature, settings and exposure: their order, names, and what fits a night."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ostcal.devices.protocols import CameraRequest
from ostcal.frames import CameraSettings, FrameType
from ostcal.naming import safe_word

COOLING_S_PER_C = 12.0
"""Time that a plan reckons for a change of a degree: cooled cameras go 3 to 6 degrees in a minute."""
STEADY_S = 30.0
"""Time that the sensor must be steady before the first frame, unless the configuration gives another."""
SAME_TEMPERATURE_C = 0.2
"""Set points that differ by less are one."""

_KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One series of a plan: what is to be set before its frames."""

    kind: FrameType
    count: int
    is_auto: bool = False
    """Whether the noise says how many bias frames or darks are enough; the count is then the largest number."""
    exposure_s: float | None = None
    """``None`` is found by trials, for flats."""
    request: CameraRequest = field(default_factory=CameraRequest)
    filter_name: str | None = None
    temperature_c: float | None = None
    """``None`` leaves the cooler as it is."""
    rotation_deg: float | None = None
    name: str = ""
    """Where the point is written, for messages: ``plan.yaml: series 3``."""

    @property
    def text(self) -> str:
        """Return the point in words: ``dark of 60 s, gain 100, -10 C``."""
        words = [f"{self.kind} of {self.exposure_s:g} s" if self.exposure_s is not None else str(self.kind)]
        words += [f"filter {self.filter_name}"] if self.filter_name is not None else []
        words += [self.settings_text] if self.settings_text else []
        words += [f"{self.temperature_c:g} C"] if self.temperature_c is not None else []
        return ", ".join(words)

    @property
    def settings_text(self) -> str:
        """Return the settings that are asked for: ``gain 100, bin 2x2``."""
        asked = self.request
        words = [f"gain {_shown(asked.gain)}"] if asked.gain is not None else []
        words += [f"offset {_shown(asked.offset)}"] if asked.offset is not None else []
        words += [f"bin {asked.binning[0]}x{asked.binning[1]}"] if asked.binning != (1, 1) else []
        words += [f"mode {asked.readout_mode}"] if asked.readout_mode is not None else []
        words += [f"turned {self.rotation_deg:g}"] if self.rotation_deg is not None else []
        return ", ".join(words)


def ordered(points: Iterable[Point], sensor_c: float | None) -> list[Point]:
    """Order points so that little time is lost: temperatures first, from the end nearer to the sensor's own.

    Points that leave the temperature as it is come before the cooler is set. At one temperature bias and darks come
    before flats, frames with the same settings follow one another, and exposures rise.
    """
    listed = list(points)
    temperatures = sorted({p.temperature_c for p in listed if p.temperature_c is not None}, reverse=True)
    now_c = temperatures[0] if sensor_c is None and temperatures else sensor_c
    if temperatures and now_c is not None and abs(now_c - temperatures[-1]) < abs(now_c - temperatures[0]):
        temperatures.reverse()
    settings = list(dict.fromkeys(point.request for point in listed))
    places = {point: number for number, point in reversed(list(enumerate(listed)))}

    def order(point: Point) -> tuple[float, ...]:
        step = -1 if point.temperature_c is None else temperatures.index(point.temperature_c)
        is_flat = point.kind is FrameType.FLAT
        turn = point.rotation_deg if point.rotation_deg is not None else -1.0
        return (
            step,
            is_flat,
            turn if is_flat else 0.0,
            settings.index(point.request),
            _KINDS.index(point.kind),
            0.0 if is_flat else point.exposure_s or 0.0,
            places[point],
        )

    return sorted(listed, key=order)


def waits_s(points: Sequence[Point], sensor_c: float | None, steady_s: float = STEADY_S) -> list[float]:
    """Return the time that the cooler is reckoned to take before each point."""
    waits = []
    for point in points:
        wanted = point.temperature_c
        if wanted is None or (sensor_c is not None and abs(wanted - sensor_c) < SAME_TEMPERATURE_C):
            waits.append(0.0)
        else:
            waits.append(steady_s + COOLING_S_PER_C * (abs(wanted - sensor_c) if sensor_c is not None else 0.0))
        sensor_c = wanted if wanted is not None else sensor_c
    return waits


def name_ending(
    settings: CameraSettings,
    temperature_c: float | None,
    rotation_deg: float | None,
    others: Sequence[tuple[CameraSettings, float | None, float | None]],
) -> str:
    """Return what a plan adds to the name of a series: the settings that differ between its points.

    ``_gain100_-10.0C``; the words are those of imported series and of masters.
    """
    own = _words(settings, temperature_c, rotation_deg)
    all_words = [_words(*other) for other in others]
    return "".join(f"_{own[key]}" for key in own if own[key] and any(words[key] != own[key] for words in all_words))


def _words(settings: CameraSettings, temperature_c: float | None, rotation_deg: float | None) -> dict[str, str]:
    return {
        "gain": f"gain{settings.gain:g}" if settings.gain is not None else "",
        "binning": f"bin{settings.binning[0]}x{settings.binning[1]}",
        "temperature": f"{temperature_c:.1f}C" if temperature_c is not None else "",
        "offset": f"offset{settings.offset:g}" if settings.offset is not None else "",
        "readout mode": safe_word(settings.readout_mode or ""),
        "rotation": f"rot{rotation_deg:g}" if rotation_deg is not None else "",
    }


def fitting(
    points: Sequence[Point],
    times_s: Sequence[float],
    budget_s: float | None,
    sensor_c: float | None,
    steady_s: float = STEADY_S,
) -> tuple[list[int], list[int]]:
    """Split the points by whether they fit into the time, in their order; return the numbers of both.

    `times_s` are those of the missing frames. A point that does not fit is left out, and a shorter one that comes
    after it may fit. A point with nothing missing always fits.
    """
    chosen: list[int] = []
    left: list[int] = []
    spent_s, at_c = 0.0, sensor_c
    for number, (point, time_s) in enumerate(zip(points, times_s, strict=True)):
        if not time_s:
            chosen.append(number)
            continue
        needed_s = time_s + waits_s([point], at_c, steady_s)[0]
        if budget_s is None or spent_s + needed_s <= budget_s:
            chosen.append(number)
            spent_s += needed_s
            at_c = point.temperature_c if point.temperature_c is not None else at_c
        else:
            left.append(number)
    return chosen, left


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def unique(points: Iterable[Point]) -> list[Point]:
    """Join points that ask for the same series; the larger count stays."""
    joined: dict[Point, Point] = {}
    for point in points:
        key = replace(point, count=1, name="")
        there = joined.get(key)
        if there is None or there.count < point.count:
            joined[key] = point
    return list(joined.values())
