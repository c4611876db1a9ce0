"""alpyca's devices over our own transport; imported when the first device is opened, as alpyca is an extra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ostcal.extras import needed_for

with needed_for("capture over Alpaca", package="alpyca", extra="capture"):
    from alpaca.camera import Camera as AlpycaCamera
    from alpaca.covercalibrator import CoverCalibrator as AlpycaCoverCalibrator
    from alpaca.dome import Dome as AlpycaDome
    from alpaca.filterwheel import FilterWheel as AlpycaFilterWheel
    from alpaca.safetymonitor import SafetyMonitor as AlpycaSafetyMonitor
    from alpaca.telescope import Telescope as AlpycaTelescope


class Transport:
    """Replacement for the two private methods through which alpyca sends all requests."""

    def exchange_by(self, get: Callable[..., Any], put: Callable[..., dict[str, Any]]) -> None:
        """Set what sends the requests."""
        self._send_get, self._send_put = get, put

    def _get(self, attribute: str, tmo: float = 0.0, **data: object) -> Any:
        return self._send_get(attribute, **data)

    def _put(self, attribute: str, tmo: float = 0.0, **data: object) -> dict[str, Any]:
        return self._send_put(attribute, **data)


class Camera(Transport, AlpycaCamera):  # type: ignore[misc]
    """alpyca's camera over our transport."""


class CoverCalibrator(Transport, AlpycaCoverCalibrator):  # type: ignore[misc]
    """alpyca's cover calibrator over our transport."""


class FilterWheel(Transport, AlpycaFilterWheel):  # type: ignore[misc]
    """alpyca's filter wheel over our transport."""


class Dome(Transport, AlpycaDome):  # type: ignore[misc]
    """alpyca's dome or roof over our transport."""


class SafetyMonitor(Transport, AlpycaSafetyMonitor):  # type: ignore[misc]
    """alpyca's safety monitor over our transport."""


class Telescope(Transport, AlpycaTelescope):  # type: ignore[misc]
    """alpyca's telescope over our transport."""


DEVICE_CLASSES: Mapping[str, type[Any]] = MappingProxyType(
    {
        "camera": Camera,
        "covercalibrator": CoverCalibrator,
        "dome": Dome,
        "filterwheel": FilterWheel,
        "safetymonitor": SafetyMonitor,
        "telescope": Telescope,
    }
)
