"""A simulated observatory: an Alpaca server with camera, wheel, cover, mount and more, in a thread of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ostcal.clock import FastClock
from ostcal.errors import DeviceError
from ostcal.extras import needed_for
from ostcal.simulator.alpaca_api import AlpacaApi
from ostcal.simulator.alpaca_device import Device, Identity
from ostcal.simulator.camera import SimulatedCamera
from ostcal.simulator.exposing import DeliveredFrame
from ostcal.simulator.faults import FaultPlan, FaultRule
from ostcal.simulator.light import LightPath, SimulatedCoverCalibrator, SimulatedFilterWheel
from ostcal.simulator.options import CoverKind, SimulatorOptions
from ostcal.simulator.safety import SimulatedRoof, SimulatedSafetyMonitor
from ostcal.simulator.sensor import SensorModel
from ostcal.simulator.sky_map import SkyMap
from ostcal.simulator.telescope import SimulatedTelescope

with needed_for("the simulated observatory", package="uvicorn", extra="capture"):
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 1.0
"""What an answer under way gets before its connection is cut."""

DISCOVERY_QUESTION = b"alpacadiscovery1"
DISCOVERY_GROUP = "ff12::a1:9aca"
"""Where searches over IPv6 go."""
_DISCOVERY_CHECK_S = 0.2
"""How often the answering of searches looks whether it has ended."""

_UNIQUE = uuid.UUID("9a4e0f4c-6f57-5d3e-9a57-0b7f3c1d2e4a")

logger = logging.getLogger(__name__)


class Protocol(H11Protocol):
    """HTTP that lets the application break the connection, which some faults are made of."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the connection where the application finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class DiscoveryResponder:
    """Answers searches (UDP) with the port of a server, on the same addresses as the server itself."""

    def __init__(self, host: str, discovery_port: int, alpaca_port: int) -> None:
        self._answer = json.dumps({"AlpacaPort": alpaca_port}).encode()
        self._sockets = [
            opened
            for family, address in _searched(host)
            if (opened := _listen_for_searches(family, address, discovery_port))
        ]
        if not self._sockets:
            logger.warning("discovery: UDP port %d is taken or refused, so searches will not find it", discovery_port)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve, args=(one,), daemon=True) for one in self._sockets]
        for thread in self._threads:
            thread.start()

    def _serve(self, listening: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                question, asker = listening.recvfrom(1024)
                if question.startswith(DISCOVERY_QUESTION):
                    listening.sendto(self._answer, asker)
            except TimeoutError:
                continue
            except OSError as error:  # Windows reports here that an asker has gone since
                logger.debug("discovery: %s", error)

    def close(self) -> None:
        """End the answering."""
        self._ended.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for opened in self._sockets:
            opened.close()


def _searched(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Return where searches for a server on an address arrive."""
    host = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [(socket.AF_INET, "")]
    if address.version == 6:
        if address.is_loopback:
            return [(socket.AF_INET6, host)]
        also = [(socket.AF_INET, "")] if host == "::" else []
        return [(socket.AF_INET6, "::"), *also]
    # Searches go to the broadcast address of a net, and loopback has its own.
    addresses = [host, "127.255.255.255"] if address.is_loopback else [""]
    return [(socket.AF_INET, one) for one in addresses]


def _listen_for_searches(family: socket.AddressFamily, address: str, port: int) -> socket.socket | None:
    """Open a socket for searches; ``None`` where the system refuses: systems differ in what of loopback they allow."""
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if os.name != "nt":  # where it means another thing
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.settimeout(_DISCOVERY_CHECK_S)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
    except OSError as error:
        logger.debug("discovery: %s port %d: %s", address, port, error)
        opened.close()
        return None
    if address == "::":
        for number, name in socket.if_nameindex():
            try:
                group = socket.inet_pton(socket.AF_INET6, DISCOVERY_GROUP) + number.to_bytes(4, sys.byteorder)
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
            except OSError as error:
                logger.debug("discovery: %s has no multicast (%s)", name, error)
    return opened


class SimulatedObservatory:
    """An observatory that runs from `start` to `stop`, or as long as a ``with`` block.

    The constructor raises `ConfigError` for a fault that does not exist or a time scale that is not possible.
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options or SimulatorOptions()
        self._clock = FastClock(self.options.time_scale)
        self._faults = FaultPlan([FaultRule.parse(text) for text in self.options.faults], self.options.seed)
        wheel: SimulatedFilterWheel | None = None
        if filters := self.options.sensor_model().filters:
            identity = self._identity("FilterWheel", "filter wheel", 3, connect_since=3)
            wheel = SimulatedFilterWheel(identity, self._clock, filters)
        cover: SimulatedCoverCalibrator | None = None
        if self.options.cover is not CoverKind.NONE:
            identity = self._identity("CoverCalibrator", "cover calibrator", 2, connect_since=2)
            cover = SimulatedCoverCalibrator(identity, self._clock, self.options.cover)
        identity = self._identity("Telescope", "mount", 4, connect_since=4)
        self.telescope = SimulatedTelescope(identity, self._clock, self._faults, self.options.mount)
        sky_map = SkyMap(self.options.light, self.options.sensor_model(), self.telescope, self.options.seed)
        light = LightPath(self.options.light, cover, wheel, sky_map)
        identity = self._identity("Camera", "camera", self.options.interface_version, connect_since=4)
        self._camera = SimulatedCamera(identity, self.options, self._clock, self._faults, light)
        self.safety_monitor = SimulatedSafetyMonitor(
            self._identity("SafetyMonitor", "safety monitor", 3, connect_since=3), self._clock
        )
        self.roof = SimulatedRoof(self._identity("Dome", "roof", 3, connect_since=3), self._clock)
        self.telescope.is_exposing = self._camera.is_exposing
        devices = (self._camera, wheel, cover, self.safety_monitor, self.roof, self.telescope)
        self.devices: tuple[Device, ...] = tuple(one for one in devices if one is not None)
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._discovery: DiscoveryResponder | None = None
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _identity(self, device_type: str, words: str, interface_version: int, connect_since: int) -> Identity:
        sensor = self.options.sensor_model().name
        return Identity(
            device_type=device_type,
            name=f"Simulated {words} ({sensor})",
            description=f"Simulated {words} of ostcal, sensor {sensor}",
            unique_id=str(uuid.uuid5(_UNIQUE, f"{device_type} {sensor} {self.options.seed}")),
            interface_version=interface_version,
            connect_since=connect_since,
        )

    def start(self) -> str:
        """Begin to serve and return the address, such as ``http://127.0.0.1:11111``.

        Raise `DeviceError` if the port is taken or the address is not this machine's.
        """
        self._socket = _listen(self.options.host, self.options.port)
        self._ending = asyncio.Event()
        config = uvicorn.Config(
            AlpacaApi(self.devices, self._clock, self._faults, self._ending).application(),
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=int(STOP_TIMEOUT_S),
        )
        server, listening = uvicorn.Server(config), self._socket

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[listening])

        self._server = server
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise DeviceError(f"the simulated observatory did not start on {self.options.host}")
            time.sleep(0.005)
        if self.options.discovery:
            self._discovery = DiscoveryResponder(self.options.host, self.options.discovery_port, self.port)
        logger.debug("simulated observatory at %s", self.url)
        return self.url

    def stop(self) -> None:
        """End: answers under way get a second, then connections are cut. Does nothing if it does not run."""
        if self._discovery is not None:
            self._discovery.close()
            self._discovery = None
        if self._server is not None and self._thread is not None and self._loop is not None:
            self._server.should_exit = True
            self._loop.call_soon_threadsafe(self._ending.set)
            if self._thread is not threading.current_thread():  # the garbage collector may end it in its own thread
                self._thread.join(START_TIMEOUT_S)
            self._camera.close(STOP_TIMEOUT_S / 2)
        if self._socket is not None:
            self._socket.close()
        self._server = self._thread = self._socket = self._loop = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._socket is None:
            raise DeviceError("the simulated observatory does not run; call start() first")
        return int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Host and port as Alpaca clients want them: ``127.0.0.1:11111``, ``[::1]:11111``."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base address: ``http://127.0.0.1:11111``."""
        return f"http://{self.address}"

    # What only a simulation knows

    @property
    def delivered_frames(self) -> Mapping[int, DeliveredFrame]:
        """Frames whose download has begun, by their number from 0: checksum, shape, exposure; the last 10 000."""
        return MappingProxyType(self._camera.delivered.copy())

    @property
    def faults_happened(self) -> Counter[str]:
        """How often each fault has happened."""
        return Counter(self._faults.happened)

    def last_frame(self) -> NDArray[np.uint16]:
        """Return the pixels of the camera's present image: (height, width) uint16, whatever type the wire has."""
        return self._camera.image().image.frame()

    def sensor(self) -> SensorModel:
        """Return the sensor whose truth the frames follow, at the gain, offset and mode that are set now."""
        return self._camera.setup.sensor()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sends small answers at once (TCP_NODELAY) only then; else each takes 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # where it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise DeviceError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another port with --port, "
            "or 0 for a free one"
        ) from error
    return listening
