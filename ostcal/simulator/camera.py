"""The simulated camera (ICameraV1 to V4).

Nothing ticks: what the camera does follows from the time and from what was asked of it. The pixels are made in a thread
from the moment the exposure starts, as all that decides them is known by then, so the image is ready when both the
exposure and its making are over.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import numpy as np

from ostcal.clock import FastClock
from ostcal.simulator.alpaca_device import (
    DRIVER_ERROR,
    INVALID_OPERATION,
    INVALID_VALUE,
    NOT_CONNECTED,
    AscomError,
    Device,
    Getter,
    Identity,
    Setter,
    read_bool,
    read_float,
    read_int,
    refuse,
    utc_text,
)
from ostcal.simulator.camera_setup import CameraSetup
from ostcal.simulator.cooler import MISS_C, Cooler
from ostcal.simulator.exposing import AbandonedError, DeliveredFrame, FrameMaker, FramePlan, MadeFrame
from ostcal.simulator.faults import FaultPlan
from ostcal.simulator.light import LightPath
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.sensor import Exposure

EXPOSURE_MAX_S = 3600.0
EXPOSURE_RESOLUTION_S = 0.0001
LATE_S = 17.0
"""What was seen of a real server for 0.01 s."""
SET_POINT_MIN_C = -50.0
SET_POINT_MAX_C = 50.0
MAX_DELIVERED = 10_000
"""Records that are kept: 4 MB, more frames than a night has."""


class CameraState(IntEnum):
    """ASCOM's numbers."""

    IDLE = 0
    EXPOSING = 2
    READING = 3
    ERROR = 5


@dataclass(frozen=True, kw_only=True)
class _Run:
    """An exposure, under way or finished."""

    plan: FramePlan
    started_utc: datetime
    starts_s: float
    ends_s: float
    ready_s: float
    fails: bool
    making: Future[MadeFrame]
    abandoned: threading.Event


class SimulatedCamera(Device):
    """A cooled camera over a sensor model."""

    def __init__(
        self, identity: Identity, options: SimulatorOptions, clock: FastClock, faults: FaultPlan, light: LightPath
    ) -> None:
        super().__init__(identity, clock)
        self._options = options
        self._faults = faults
        self._light = light
        self._maker = FrameMaker(options.seed, fast=options.fast)
        self._threads: list[threading.Thread] = []
        phase = float(np.random.default_rng([options.seed, 0xC001]).uniform(0, 2 * np.pi))
        self.cooler = Cooler(options.ambient_c, phase)
        self.setup = CameraSetup(options)
        self.delivered: dict[int, DeliveredFrame] = {}
        self._run: _Run | None = None
        self._done: _Run | None = None
        self._failed = False
        self._exposures = 0
        self.getters |= self.setup.getters() | self._own_getters()
        self.setters |= self.setup.setters() | {
            "abortexposure": Setter(write=self.abort),
            "stopexposure": Setter(write=self._stop),
            "startexposure": Setter(write=self._start, parameters=(("Duration", read_float), ("Light", read_bool))),
            "pulseguide": Setter(
                write=refuse("PulseGuide"), parameters=(("Direction", read_int), ("Duration", read_int))
            ),
            "cooleron": Setter(write=self._switch_cooler, parameters=(("CoolerOn", read_bool),)),
            "setccdtemperature": Setter(write=self._aim_cooler, parameters=(("SetCCDTemperature", read_float),)),
            "subexposureduration": Setter(
                write=refuse("SubExposureDuration"), parameters=(("SubExposureDuration", read_float),), since=3
            ),
        }

    def _own_getters(self) -> dict[str, Getter]:
        now_s, cooler = self.clock.now_s, self.cooler
        read = {
            "ccdtemperature": lambda: cooler.temperature_c(now_s()),
            "setccdtemperature": lambda: cooler.set_point_c,
            "cansetccdtemperature": lambda: True,
            "cooleron": lambda: cooler.on,
            "coolerpower": lambda: cooler.power_percent(now_s()),
            "cangetcoolerpower": lambda: True,
            "heatsinktemperature": lambda: cooler.heat_sink_c(now_s()),
            "camerastate": self.camera_state,
            "canabortexposure": lambda: True,
            "canstopexposure": lambda: True,
            "canpulseguide": lambda: False,
            "ispulseguiding": refuse("IsPulseGuiding"),
            "hasshutter": lambda: self._options.shutter,
            "imageready": self.image_ready,
            "lastexposureduration": lambda: self._finished().plan.exposure.exposure_time_s,
            "lastexposurestarttime": lambda: utc_text(self._finished().started_utc),
        }
        later = {
            "exposuremin": lambda: self._options.exposure_min_s,
            "exposuremax": lambda: EXPOSURE_MAX_S,
            "exposureresolution": lambda: EXPOSURE_RESOLUTION_S,
            "percentcompleted": self._percent_completed,
        }
        getters = {name: Getter(read=function) for name, function in read.items()}
        getters |= {name: Getter(read=function, since=2) for name, function in later.items()}
        return getters | {"subexposureduration": Getter(read=refuse("SubExposureDuration"), since=3)}

    # Connection and state

    def check_connection(self) -> None:
        """Refuse to connect where that fault happens."""
        if self._faults.happens("connect-refused"):
            raise AscomError(NOT_CONNECTED, "the camera is in use by another program")

    def disconnected(self) -> None:
        """End a running exposure."""
        self.abort()

    def state(self) -> Mapping[str, Any]:
        """Return the members that change while the camera works."""
        now_s = self.clock.now_s()
        return {
            "CameraState": self.camera_state(),
            "CCDTemperature": self.cooler.temperature_c(now_s),
            "CoolerPower": self.cooler.power_percent(now_s),
            "HeatSinkTemperature": self.cooler.heat_sink_c(now_s),
            "ImageReady": self._done is not None,
            "PercentCompleted": self._percent_completed(),
        }

    # Cooler

    def _switch_cooler(self, on: bool) -> None:
        self.cooler.switch(self.clock.now_s(), on=on)
        self.cooler.misses_by_c = MISS_C if on and self._faults.happens("cooler-miss") else 0.0

    def _aim_cooler(self, set_point_c: float) -> None:
        if not SET_POINT_MIN_C <= set_point_c <= SET_POINT_MAX_C:
            raise AscomError(
                INVALID_VALUE,
                f"SetCCDTemperature {set_point_c} is not possible; it is {SET_POINT_MIN_C} to {SET_POINT_MAX_C}",
            )
        self.cooler.aim(self.clock.now_s(), set_point_c)

    # Exposure

    def _start(self, duration_s: float, light: bool) -> None:
        self._settle()
        if self._run is not None:
            raise AscomError(INVALID_OPERATION, "an exposure is under way; wait for it or abort it")
        if self._faults.happens("busy-at-start"):
            raise AscomError(INVALID_OPERATION, "the camera is busy")
        shortest_s = 0.0 if self._options.bias_below_minimum and not light else self._options.exposure_min_s
        if not shortest_s <= duration_s <= EXPOSURE_MAX_S:
            raise AscomError(
                INVALID_VALUE, f"Duration {duration_s} s is not possible; it is {shortest_s} to {EXPOSURE_MAX_S}"
            )
        window = self.setup.window()
        made_s = round(round(duration_s / EXPOSURE_RESOLUTION_S) * EXPOSURE_RESOLUTION_S, 6)
        now_s = self.clock.now_s()
        # Without a shutter a dark is as bright as what is before the sensor.
        is_lit = light or not self._options.shutter
        exposure = Exposure(
            exposure_time_s=made_s,
            temperature_c=self.cooler.sensor_c(now_s),
            illumination_e_per_s=self._light.illumination_e_per_s(now_s, now_s + made_s) if is_lit else 0.0,
            filter_name=self._light.filter_name(),
            sky=self._light.sky_view(now_s) if is_lit else None,
        )
        plan = FramePlan(
            index=self._exposures,
            sensor=self.setup.sensor(),
            exposure=exposure,
            window=window,
            element=self._options.image_element,
        )
        self._exposures += 1
        self._done, self._failed = None, False
        late_s = LATE_S if self._faults.happens("late-ready") else 0.0
        never = self._faults.happens("never-ready")
        making, abandoned = self._make(plan)
        self._run = _Run(
            plan=plan,
            started_utc=datetime.now(UTC),
            starts_s=now_s,
            ends_s=now_s + made_s,
            ready_s=math.inf if never else now_s + made_s + self.setup.readout_s() + late_s,
            fails=self._faults.happens("exposure-error"),
            making=making,
            abandoned=abandoned,
        )

    def _make(self, plan: FramePlan) -> tuple[Future[MadeFrame], threading.Event]:
        """Begin to make a frame, in a thread that does not keep the process alive."""
        making: Future[MadeFrame] = Future()
        abandoned = threading.Event()

        def make() -> None:
            try:
                making.set_result(self._maker.make(plan, abandoned.is_set))
            except (AbandonedError, MemoryError) as error:
                making.set_exception(error)

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=make, name=f"frame-{plan.index}", daemon=True))
        self._threads[-1].start()
        return making, abandoned

    def abort(self) -> None:
        """End an exposure without an image; nothing happens where none runs."""
        self._settle()
        if self._run is not None:
            self._run.abandoned.set()
            self._run = None

    def _stop(self) -> None:
        """End an exposure early, and read what it has collected."""
        run, now_s = self._run, self.clock.now_s()
        if run is None or now_s >= run.ends_s:
            return
        run.abandoned.set()
        exposure = replace(run.plan.exposure, exposure_time_s=round(now_s - run.starts_s, 4))
        plan = replace(run.plan, exposure=exposure)
        making, abandoned = self._make(plan)
        ready_s = run.ready_s - (run.ends_s - now_s)
        self._run = replace(run, plan=plan, ends_s=now_s, ready_s=ready_s, making=making, abandoned=abandoned)

    def _settle(self) -> None:
        """Finish the exposure whose time has come."""
        run = self._run
        if run is None or self.clock.now_s() < run.ready_s or not run.making.done():
            return
        self._run = None
        self._failed = run.fails or run.making.exception() is not None
        if not self._failed:
            self._done = run

    def camera_state(self) -> CameraState:
        """Return the state of the camera."""
        self._settle()
        if self._run is not None:
            return CameraState.EXPOSING if self.clock.now_s() < self._run.ends_s else CameraState.READING
        return CameraState.ERROR if self._failed else CameraState.IDLE

    def is_exposing(self) -> bool:
        """Return whether light is collected now."""
        return self._run is not None and self.clock.now_s() < self._run.ends_s

    def image_ready(self) -> bool:
        """Return whether there is an image; raises `AscomError` if the exposure failed."""
        self._settle()
        if self._failed:
            raise AscomError(DRIVER_ERROR, "the exposure failed while the sensor was read out")
        return self._done is not None

    def _percent_completed(self) -> int:
        self._settle()
        run = self._run
        if run is None:
            return 100 if self._done else 0
        duration_s = max(run.ends_s - run.starts_s, EXPOSURE_RESOLUTION_S)
        return int(min(100.0, 100 * (self.clock.now_s() - run.starts_s) / duration_s))

    def _finished(self) -> _Run:
        self._settle()
        if self._done is None:
            raise AscomError(INVALID_OPERATION, "there is no image; take one first")
        return self._done

    # The image

    def image(self) -> MadeFrame:
        """Return the image to be sent; raises `AscomError` if there is none."""
        return self._finished().making.result()

    def remember(self, record: DeliveredFrame) -> None:
        """Keep the record of a frame whose pixels are sent."""
        self.delivered[record.index] = record
        while len(self.delivered) > MAX_DELIVERED:
            del self.delivered[next(iter(self.delivered))]

    def close(self, timeout_s: float) -> None:
        """Abandon the frame that is being made, and wait a while for its thread."""
        self.abort()
        for thread in self._threads:
            thread.join(timeout_s)
