"""The least that speaks to an Alpaca server, so that tests see every answer as it is; and a sensor that is quick."""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import requests
from numpy.typing import NDArray

from ostcal.simulator.sensor import SENSORS, CosmicRays, Dust, SensorModel

SMALL: SensorModel = replace(
    SENSORS["demo"], name="small", width=60, height=40, dust=Dust(count=1, radius_px=6), cosmic_rays=CosmicRays()
)
"""2400 pixels, not square, with the filters and the noise of the demo sensor."""

TIMEOUT_S = 10.0


class AlpacaError(Exception):
    """An answer with an error number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Client:
    """One device of a server."""

    def __init__(self, url: str, device: str = "camera") -> None:
        self.base = f"{url}/api/v1/{device}/0"
        self.session = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.session.close()

    def get(self, method: str, **parameters: str) -> Any:
        return self._value(self.session.get(f"{self.base}/{method}", params=parameters, timeout=TIMEOUT_S))

    def put(self, method: str, **parameters: object) -> Any:
        return self._value(self.session.put(f"{self.base}/{method}", data=parameters, timeout=TIMEOUT_S))

    def _value(self, response: requests.Response) -> Any:
        response.raise_for_status()
        answer = response.json()
        if answer["ErrorNumber"]:
            raise AlpacaError(answer["ErrorNumber"], answer["ErrorMessage"])
        return answer.get("Value")

    def connect(self) -> Self:
        self.put("connected", Connected=True)
        return self

    def wait(self, method: str, wanted: object) -> None:
        """Ask until the answer is as wanted."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.get(method) != wanted:
            assert time.monotonic() < deadline_s, f"{method} was never {wanted}"
            time.sleep(0.002)

    def wait_for_temperature(self, wanted_c: float) -> None:
        """Ask until the sensor is within 0.2 degrees: the thermometer drifts by 0.08."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while abs(self.get("ccdtemperature") - wanted_c) > 0.2:
            assert time.monotonic() < deadline_s, f"the sensor never had {wanted_c} C"
            time.sleep(0.002)

    def start(self, exposure_time_s: float, *, light: bool = True) -> None:
        self.put("startexposure", Duration=exposure_time_s, Light=light)

    def expose(self, exposure_time_s: float, *, light: bool = True) -> NDArray[np.uint16]:
        """Take a frame: (height, width) uint16."""
        self.start(exposure_time_s, light=light)
        self.wait("imageready", True)
        return self.download()

    def image(self) -> requests.Response:
        headers = {"Accept": "application/imagebytes"}
        return self.session.get(f"{self.base}/imagearray", headers=headers, timeout=TIMEOUT_S)

    def download(self) -> NDArray[np.uint16]:
        response = self.image()
        response.raise_for_status()
        return decode(response.content)


DTYPES = {1: "<i2", 2: "<i4", 6: "u1", 8: "<u2"}


def decode(body: bytes) -> NDArray[np.uint16]:
    """Read ImageBytes as a frame of (height, width)."""
    _, number, _, _, start, _, wire_type, rank, width, height, _ = struct.unpack_from("<11i", body)
    if number:
        raise AlpacaError(number, body[start:].decode())
    assert rank == 2
    return np.frombuffer(body, DTYPES[wire_type], offset=start).reshape(width, height).T.astype(np.uint16)
