"""A camera, a filter wheel and a panel without a network between: the sensor model, a clock, and ways to fail."""

from __future__ import annotations

import math
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.devices.protocols import CameraInfo, CameraRequest, CameraStatus, CoverState, ExposureResult
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings
from ostcal.series.record import checksum
from ostcal.simulator.sensor import BayerMatrix, CosmicRays, DarkCurrent, Exposure, Filter, SensorModel

START = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
AMBIENT_C = 15.0
DEEPEST_C = 35.0
"""How far below the surroundings the cooler reaches at full power."""
COOLING_C_PER_S = 0.5


class FakeClock:
    """Time that passes only while somebody waits."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        """What happens when a time has come."""

    def now_s(self) -> float:
        return self._elapsed_s

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def sleep(self, seconds: float) -> None:
        self._elapsed_s += max(0.0, seconds)
        due = [alarm for alarm in self.alarms if alarm[0] <= self._elapsed_s]
        self.alarms = [alarm for alarm in self.alarms if alarm not in due]
        for _, ring in due:
            ring()


def small_sensor(
    *, width: int = 48, height: int = 40, bayer: bool = False, full_well_e: float = 80_000.0, **changes: Any
) -> SensorModel:
    """Return a sensor without hot pixels and cosmic rays, not square, that reaches the end of its converter."""
    values: dict[str, Any] = {
        "name": "direct",
        "width": width,
        "height": height,
        "gain_e_per_adu": 1.0,
        "read_noise_e": 3.0,
        "bias_level_adu": 500.0,
        "full_well_e": full_well_e,
        "dark": DarkCurrent(rate_e_per_s=0.1),
        "cosmic_rays": CosmicRays(rate_per_cm2_s=0.0),
        "filters": (
            Filter(name="L", vignetting=0.1),
            Filter(name="R", transmission=0.3, vignetting=0.1),
            Filter(name="r", transmission=0.2, vignetting=0.1),
        ),
        "bayer": BayerMatrix() if bayer else None,
    }
    return SensorModel(**values | changes)


@dataclass
class Scene:
    """What stands before the sensor; the devices of one telescope share it."""

    light: Callable[[float], float] = lambda now_s: 0.0
    """Electrons in a second in a pixel of response 1, at a time of the clock, where no cover is in the way."""
    filter_name: str | None = None
    cover: CoverState = CoverState.NOT_PRESENT
    panel_e_per_s: float = 0.0
    """What the panel sends through; it lights where the cover is closed or there is none."""

    def rate(self, now_s: float) -> float:
        """Return the light at a time."""
        outside = 0.0 if self.cover is CoverState.CLOSED else self.light(now_s)
        return outside + (0.0 if self.cover is CoverState.OPEN else self.panel_e_per_s)


@dataclass
class Faults:
    """Which calls fail: ``fail("download", 2)`` makes the second download fail."""

    numbers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    dropped: set[tuple[str, int]] = field(default_factory=set)
    never_ready: set[int] = field(default_factory=set)
    """Exposures, counted from 1, whose image never comes."""
    wrong_size: set[int] = field(default_factory=set)
    """Downloads that give a frame of another size."""

    def fail(self, operation: str, *numbers: int) -> Faults:
        """Let calls of an operation fail, counted from 1."""
        self.numbers[operation].update(numbers)
        return self

    def drop(self, operation: str, number: int) -> Faults:
        """Let the connection break at a call; nothing answers until there is a new one."""
        self.dropped.add((operation, number))
        return self


class DirectCamera:
    """Implements `ostcal.devices.protocols.Camera` over a sensor model."""

    def __init__(
        self,
        sensor: SensorModel,
        clock: FakeClock | Any,
        scene: Scene | None = None,
        *,
        faults: Faults | None = None,
        seed: int = 1,
        has_shutter: bool = True,
        exposure_limits_s: tuple[float, float] = (0.0, 3600.0),
        readout_s: float = 0.0,
        max_adu: int | None = None,
        can_cool: bool = True,
    ) -> None:
        self.sensor = sensor
        self.scene = scene or Scene()
        self.faults = faults or Faults()
        self.calls: Counter[str] = Counter()
        self.events: list[str] = []
        """``start 1``, ``download 1``, ... in their order."""
        self.exposures_s: list[float] = []
        self.lights: list[bool] = []
        self.given: list[str] = []
        """Checksum of each frame that was downloaded."""
        self.most_alive = 0
        """Highest number of downloaded frames that were in memory together."""
        self.settings = CameraSettings(camera="direct", gain=100.0, offset=30.0, binning=(1, 1), readout_mode="fast")
        self.temperature_c = AMBIENT_C
        self.reaches_c = AMBIENT_C - DEEPEST_C
        self.clock_error_s: float | None = None
        """How far the camera's own clock is from ours; ``None`` says no start of exposures."""
        self.loses_power_at_reconnect = False
        self.on_download: Callable[[str], None] = lambda digest: None
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._alive: list[weakref.ref[Any]] = []
        self._connected = True
        self._set_c: float | None = None
        self._cooler_on = False
        self._last_s = clock.now_s()
        self._running: tuple[int, float, float, bool] | None = None
        self._readout_s = readout_s
        self._info = CameraInfo(
            name="direct", width=sensor.width, height=sensor.height, max_adu=max_adu or sensor.max_adu,
            exposure_min_s=exposure_limits_s[0], exposure_max_s=exposure_limits_s[1],
            bayer_pattern=sensor.bayer.pattern if sensor.bayer else None, has_shutter=has_shutter, can_abort=True,
            can_set_temperature=can_cool, can_get_cooler_power=True, pixel_size_um=(4.0, 4.0), electrons_per_adu=1.0,
            full_well_e=sensor.full_well_e, readout_modes=("fast",), gain_labels=(), offset_labels=(),
            interface_version=4,
        )  # fmt: skip

    @property
    def info(self) -> CameraInfo:
        return self._info

    def apply(self, request: CameraRequest) -> CameraSettings:
        self._called("apply")
        return self.settings

    def frame_shape(self) -> tuple[int, int]:
        self._called("frame_shape")
        binning = self.settings.binning
        return self.sensor.height // binning[1], self.sensor.width // binning[0]

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        if self._running is not None:
            raise DeviceError("direct: it is exposing")
        self._called("start_exposure")
        low, high = self._info.exposure_min_s, self._info.exposure_max_s
        if not low <= exposure_time_s <= high:
            raise DeviceError(f"direct: {exposure_time_s} s is outside {low} s to {high} s")
        number = self.calls["start_exposure"]
        self._running = (number, exposure_time_s, self._clock.now_s(), light)
        self.exposures_s.append(exposure_time_s)
        self.lights.append(light)
        self.events.append(f"start {number}")

    def image_ready(self) -> bool:
        self._called("image_ready")
        if self._running is None:
            raise DeviceError("direct: no exposure was started")
        number, exposure_s, began_s, _ = self._running
        if number in self.faults.never_ready:
            return False
        return bool(self._clock.now_s() - began_s >= exposure_s + self._readout_s)

    def download(self) -> ExposureResult:
        self._called("download")
        if self._running is None:
            raise DeviceError("direct: there is no image")
        number, exposure_s, began_s, light = self._running
        self._running = None
        pixels = self._expose(exposure_s, began_s, light)
        if self.calls["download"] in self.faults.wrong_size:
            pixels = np.ascontiguousarray(pixels[:-1])
        self._alive = [frame for frame in self._alive if frame() is not None] + [weakref.ref(pixels)]
        digest = checksum(pixels)
        self.on_download(digest)
        self.given.append(digest)
        self.events.append(f"download {number}")
        self.most_alive = max(self.most_alive, len(self._alive))
        return ExposureResult(pixels=pixels, exposure_time_s=exposure_s, start_utc=self._start_utc(began_s))

    def abort(self) -> None:
        self._called("abort")
        if self._running is not None:
            self.events.append(f"abort {self._running[0]}")
        self._running = None

    def status(self) -> CameraStatus:
        self._called("status")
        self._drift()
        return CameraStatus(
            ccd_temperature_c=self.temperature_c,
            set_temperature_c=self._set_c,
            cooler_on=self._cooler_on,
            cooler_power_percent=self._power(),
        )

    def cool(self, target_c: float) -> None:
        self._called("cool")
        self._drift()
        self._set_c, self._cooler_on = target_c, True

    def warm_up(self) -> None:
        self._called("warm_up")
        self._drift()
        self._cooler_on = False

    def reconnect(self) -> None:
        self._connected = True
        self._called("reconnect")
        if self.loses_power_at_reconnect:
            self._cooler_on = False

    def close(self) -> None:
        self._connected = False

    def __enter__(self) -> DirectCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _called(self, operation: str) -> None:
        self.calls[operation] += 1
        number = self.calls[operation]
        if (operation, number) in self.faults.dropped:
            self._connected = False
        if not self._connected:
            raise DeviceError("direct: the connection was dropped")
        if number in self.faults.numbers[operation]:
            self._running = None if operation in ("download", "image_ready") else self._running
            raise DeviceError(f"direct: {operation} {number} failed")

    def _expose(self, exposure_s: float, began_s: float, light: bool) -> NDArray[np.uint16]:
        is_open = light or not self._info.has_shutter
        moments = [began_s + exposure_s * (step + 0.5) / 16 for step in range(16)]
        rate = sum(self.scene.rate(moment) for moment in moments) / 16 if is_open else 0.0
        exposure = Exposure(
            exposure_time_s=exposure_s,
            temperature_c=self.temperature_c,
            illumination_e_per_s=rate,
            filter_name=self.scene.filter_name,
        )
        pixels = self.sensor.expose(exposure, self._rng)
        x, y = self.settings.binning
        return np.ascontiguousarray(pixels[: self.sensor.height // y, : self.sensor.width // x])

    def _start_utc(self, began_s: float) -> str | None:
        if self.clock_error_s is None:
            return None
        began = self._clock.utc() + timedelta(seconds=began_s - self._clock.now_s() + self.clock_error_s)
        return str(began.replace(tzinfo=None).isoformat())

    def _drift(self) -> None:
        """Let the temperature go towards the set point, or back to that of the surroundings."""
        elapsed_s = self._clock.now_s() - self._last_s
        self._last_s = self._clock.now_s()
        aim_c = max(self._set_c, self.reaches_c) if self._cooler_on and self._set_c is not None else AMBIENT_C
        step_c = min(abs(aim_c - self.temperature_c), COOLING_C_PER_S * elapsed_s)
        self.temperature_c += math.copysign(step_c, aim_c - self.temperature_c)

    def _power(self) -> float:
        if not self._cooler_on:
            return 0.0
        if self._set_c is not None and self.temperature_c > self._set_c + 0.1:
            return 100.0
        return min(100.0, 100.0 * (AMBIENT_C - self.temperature_c) / (AMBIENT_C - self.reaches_c))


class DirectWheel:
    """Implements `ostcal.devices.protocols.FilterWheel` before a scene."""

    def __init__(self, scene: Scene, names: Iterable[str] = ("L", "R", "r")) -> None:
        self._scene = scene
        self._names = tuple(names)
        self.turns: list[str] = []
        scene.filter_name = self._names[0]

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def select(self, name: str) -> None:
        self.turns.append(name)
        self._scene.filter_name = name

    def current(self) -> str:
        return str(self._scene.filter_name)

    def close(self) -> None:
        """Nothing is held."""


class DirectPanel:
    """Implements `ostcal.devices.protocols.CoverCalibrator`: a cover, a panel in it, or both."""

    def __init__(
        self, scene: Scene, *, e_per_s_per_step: float = 100.0, steps: int = 255, has_cover: bool = True
    ) -> None:
        self._scene = scene
        self._e_per_s_per_step = e_per_s_per_step
        self._steps = steps
        self.is_stuck = False
        self.brightnesses: list[int] = []
        if has_cover:
            scene.cover = CoverState.OPEN

    @property
    def max_brightness(self) -> int:
        return self._steps

    def cover_state(self) -> CoverState:
        return self._scene.cover

    def open_cover(self) -> None:
        self._move(CoverState.OPEN)

    def close_cover(self) -> None:
        self._move(CoverState.CLOSED)

    def light_on(self, brightness: int) -> None:
        if not 1 <= brightness <= self._steps:
            raise DeviceError(f"panel: brightness {brightness} is outside 1 to {self._steps}")
        self.brightnesses.append(brightness)
        self._scene.panel_e_per_s = brightness * self._e_per_s_per_step

    def light_off(self) -> None:
        self.brightnesses.append(0)
        self._scene.panel_e_per_s = 0.0

    def close(self) -> None:
        """Nothing is held."""

    def _move(self, state: CoverState) -> None:
        self._scene.cover = CoverState.ERROR if self.is_stuck else state
