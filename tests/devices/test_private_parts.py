"""Private parts of other libraries that the devices and the simulator replace or use, named in one place."""

from __future__ import annotations

import inspect

import pytest
from alpaca.camera import Camera
from alpaca.covercalibrator import CoverCalibrator
from alpaca.dome import Dome
from alpaca.filterwheel import FilterWheel
from alpaca.safetymonitor import SafetyMonitor
from alpaca.telescope import Telescope
from uvicorn.protocols.http.h11_impl import H11Protocol

DEVICES = [Camera, CoverCalibrator, Dome, FilterWheel, SafetyMonitor, Telescope]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ["_get", "_put"])
def test_alpyca_sends_requests_through_two_private_methods(device: type, method: str) -> None:
    found = inspect.getattr_static(device, method, None)
    assert inspect.isfunction(found), (
        f"alpyca's {device.__name__} has no method {method} any more, which ostcal/devices/alpyca_classes.py replaces:"
        " adapt Transport to this version, then raise the upper bound of alpyca in pyproject.toml"
    )
    parameters = inspect.signature(found).parameters
    assert list(parameters)[:3] == ["self", "attribute", "tmo"], f"{method} has other parameters: adapt Transport"
    assert parameters["data"].kind is inspect.Parameter.VAR_KEYWORD, f"{method} has other parameters: adapt Transport"


@pytest.mark.parametrize("device", DEVICES)
def test_alpyca_keeps_the_interface_version_in_an_attribute(device: type) -> None:
    made = device("127.0.0.1:1", 0)
    assert hasattr(made, "driver_interface_version"), (
        "alpyca keeps the interface version elsewhere: adapt AlpacaDriver._read_version, then raise the upper bound"
    )
    made.driver_interface_version = 4
    assert made.InterfaceVersion == 4, "alpyca asks the device for its version each time: adapt AlpacaDriver"


def test_uvicorn_gives_the_state_of_its_protocol_to_the_application() -> None:
    parameters = inspect.signature(H11Protocol.__init__).parameters
    assert "app_state" in parameters, (
        "uvicorn's H11Protocol has no app_state any more, through which ostcal/simulator/server.py hands over the"
        " connection: adapt Protocol to this version, then raise the upper bound of uvicorn in pyproject.toml"
    )
    assert inspect.isfunction(H11Protocol.connection_made)
