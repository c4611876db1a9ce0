"""Open a camera through an ASCOM driver on this Windows machine, by COM.

COM delivers an image as nested tuples of Python integers: 61 MP take gigabytes and minutes. ASCOM Remote, which serves
the same driver as an Alpaca device, delivers bytes and is recommended.
"""

from __future__ import annotations

import importlib
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.clock import Clock, SystemClock
from ostcal.devices.adapter import AscomInterfaceCamera
from ostcal.devices.device_driver import Driver
from ostcal.devices.failures import RefusedError, ReplyError, device_text
from ostcal.devices.image_bytes import COLUMNS_AT_ONCE, RowMajorImage, check_image_shape, check_rank
from ostcal.devices.names import with_name
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

_NEEDED_MODULE = "win32com.client"
_SLOW_PIXELS = 10_000_000
_COM_ERRORS_START = 0x80040000
"""ASCOM's error numbers are the low 16 bits of COM's: 0x80040400 is "not implemented"."""
_ADVICE = (
    "run ASCOM Remote on the Windows machine, set camera_type: alpaca and give its host, port (11111) and device_id "
    "in video.alpaca"
)


class ComDriver(Driver):
    """A device with an object that has ASCOM members: a COM dispatch, or anything that raises `error_type` as it."""

    def __init__(self, label: str, device: Any, error_type: type[Exception]) -> None:
        self._label = label
        self._device = device
        self._error_type = error_type

    @property
    def label(self) -> str:
        """The name of the driver."""
        return self._label

    def connect(self) -> None:
        """Connect the device."""
        self.write("Connected", True)
        try:
            self.interface_version = int(str(self.read("InterfaceVersion")))
        except RefusedError:
            self.interface_version = 1

    def renew(self) -> None:
        """Do nothing: there is no connection to the driver."""

    def image(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Convert the image, (height, width) in C order, uint16 or int32."""
        if shape[0] * shape[1] > _SLOW_PIXELS:
            logger.warning("%s: an image of this size takes minutes through COM; better %s", self.label, _ADVICE)
        columns = self.read("ImageArray")
        try:
            return _row_major(columns, shape)
        except (ReplyError, TypeError, ValueError, LookupError) as error:
            raise ReplyError(f"{self.label}: reading the image: {error}") from error

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Convert every failure to one line with device, action and error number."""
        try:
            yield
        except AttributeError as error:
            raise RefusedError(f"{self.label}: {doing}: the driver has no such member", number=0x400) from error
        except self._error_type as error:
            number = _ascom_number(error)
            text = f" (ASCOM error 0x{number:X})" if number is not None else ""
            raise RefusedError(f"{self.label}: {doing}: {device_text(str(error))}{text}", number=number) from error


def open_ascom_camera(camera_name: str | None, *, clock: Clock | None = None) -> AscomInterfaceCamera:
    """Connect a camera through its ASCOM driver.

    Parameters
    ----------
    camera_name
        ProgID of the driver, such as ``ASCOM.Simulator.Camera``, or its name as the chooser shows it; ``None`` opens
        ASCOM's chooser.
    clock
        Used for waits and deadlines; the system clock by default.

    Raises
    ------
    DeviceError
        If this is not Windows, pywin32 is missing, no driver or several have the name, or it does not connect.
    """
    if platform.system() != "Windows":
        raise DeviceError(f"camera_type ascom works on Windows only, this is {platform.system()}; {_ADVICE}")
    try:
        client = importlib.import_module(_NEEDED_MODULE)
        com_error: type[Exception] = importlib.import_module("pywintypes").com_error
    except ImportError as error:
        raise DeviceError(f"camera_type ascom needs pywin32 (pip install pywin32), or else {_ADVICE}") from error
    try:
        name = _prog_id(client, camera_name) if camera_name else ""
        if not name:
            chooser = client.Dispatch("ASCOM.Utilities.Chooser")
            chooser.DeviceType = "Camera"
            name = str(chooser.Choose("") or "")
        if not name:
            raise DeviceError("no ASCOM camera was chosen; choose one, or set video.ascom.camera_name")
        device = client.Dispatch(name)
    except com_error as error:
        raise DeviceError(
            f"ASCOM driver {camera_name or 'chooser'} does not start: {device_text(str(error))}; is the ASCOM Platform "
            f"installed and video.ascom.camera_name right? Or else {_ADVICE}"
        ) from error
    return AscomInterfaceCamera(ComDriver(name, device, com_error), clock or SystemClock())


def _prog_id(client: Any, camera_name: str) -> str:
    """Return the ProgID of the driver that is registered with this ProgID or name."""
    registered = client.Dispatch("ASCOM.Utilities.Profile").RegisteredDevices("Camera")
    drivers = {str(driver.Key): str(driver.Value) for driver in registered}
    found = [prog_id for prog_id in drivers if prog_id.casefold() == camera_name.casefold()]
    found = found or with_name(camera_name, drivers)
    if not found and "." in camera_name:  # a driver may be registered with COM and not with ASCOM
        return camera_name
    if len(found) == 1:
        return found[0]
    fits = f"{len(found)} drivers fit this name" if found else "no driver has this name"
    has = ", ".join(f"{prog_id} ({name})" for prog_id, name in sorted(drivers.items())) or "none"
    raise DeviceError(
        f"camera {camera_name!r}: {fits}; registered are {has}; write one of these ProgIDs as camera_name"
    )


def _ascom_number(error: Exception) -> int | None:
    """Return ASCOM's number in a COM error: its own code, or that of the wrapped exception."""
    details = error.args[2] if len(error.args) > 2 and isinstance(error.args[2], tuple) else ()
    for code in (*error.args[:1], *details[5:6]):
        if isinstance(code, int) and (code & 0xFFFF0000) == _COM_ERRORS_START and 0x400 <= (code & 0xFFFF) <= 0xFFF:
            return code & 0xFFFF
    return None


def _row_major(columns: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """Transpose columns, nested tuples or an array, strip by strip, because Python integers are large."""
    sent = (len(columns[0]), len(columns))
    check_image_shape(sent, shape)
    image = RowMajorImage(shape)
    for first in range(0, sent[1], COLUMNS_AT_ONCE):
        strip = np.asarray(columns[first : first + COLUMNS_AT_ONCE])
        check_rank(strip.ndim)
        image.put(first, strip)
    return image.pixels
