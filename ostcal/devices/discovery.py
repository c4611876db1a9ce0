"""Find Alpaca servers by broadcast, and list their devices through their management interface.

alpyca's search sleeps for seconds per network interface and drops answers from the machine's own addresses. This one
asks on all interfaces at once, waits once, and keeps all answers.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import select
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ostcal.devices.alpaca_link import AlpacaAddress, server_name
from ostcal.devices.connection import HttpConnection, Patience
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError, device_text, parse_reply
from ostcal.devices.names import with_name
from ostcal.errors import DeviceError
from ostcal.extras import needed_for

logger = logging.getLogger(__name__)

DISCOVERY_PORT = 32227
QUESTION = b"alpacadiscovery1"
LOOPBACK = "127.0.0.1"
IPV6_LOOPBACK = "::1"
IPV6_GROUP = "ff12::a1:9aca"
"""Where servers listen for searches over IPv6."""
_Target = tuple[str, int] | tuple[str, int, int, int]

_ASKED_TIMES = 2  # UDP may lose one
_MAX_ANSWER_BYTES = 1024
_MAX_REPLY_BYTES = 1 << 20
_MAX_SERVERS = 256


@dataclass(frozen=True, kw_only=True)
class AlpacaDevice:
    """A device of a server, as its management interface lists it."""

    name: str
    device_type: str
    """As the server spells it: ``Camera``, ``FilterWheel``, ``CoverCalibrator``..."""
    device_id: int
    unique_id: str


@dataclass(frozen=True, kw_only=True)
class AlpacaServer:
    """A server that answered."""

    host: str
    port: int
    name: str
    devices: tuple[AlpacaDevice, ...]
    problem: str | None = None
    """Why the devices are unknown, if the server answered the broadcast but not the request."""


def discover(timeout_s: float = 2.0, *, port: int = DISCOVERY_PORT) -> list[AlpacaServer]:
    """Find the Alpaca servers of this machine and its networks, with their devices, in order of address.

    The time limit holds for the answers, and again for the lists of devices; `port` is the UDP port on which servers
    listen.
    """
    found = sorted(_ask_around(timeout_s, port), key=lambda place: (":" in place[0], place))[:_MAX_SERVERS]
    if not found:
        return []
    with ThreadPoolExecutor(max_workers=min(len(found), 16)) as pool:
        return _without_twins(pool.map(lambda place: _describe(place, timeout_s), found))


def _without_twins(servers: Iterable[AlpacaServer]) -> list[AlpacaServer]:
    """Return servers without those that answer over IPv6 as well, known by port, name and devices."""
    kept: list[AlpacaServer] = []
    for server in servers:
        twins = [one for one in kept if (one.port, one.name, one.devices) == (server.port, server.name, server.devices)]
        if ":" not in server.host or not server.devices or not twins:
            kept.append(server)
    return kept


def list_devices(host: str, port: int, timeout_s: float = 10.0) -> tuple[AlpacaDevice, ...]:
    """Return the devices of a server.

    Raises
    ------
    DeviceError
        If nothing answers, or it is no Alpaca server.
    """
    items = _management(host, port, "v1/configureddevices", timeout_s)
    if not isinstance(items, list):
        raise ReplyError(f"{server_name(host, port)}: its list of devices is no list; is this an Alpaca server?")
    return tuple(_device(item) for item in items if isinstance(item, dict))


def require_device(address: AlpacaAddress, timeout_s: float = 10.0) -> None:
    """Raise `DeviceError` if the server answers that it has no such device.

    A server without a management interface is assumed to have it.
    """
    try:
        devices = list_devices(address.host, address.port, timeout_s)
    except (RefusedError, ReplyError) as error:
        logger.debug("%s", error)
        return
    kind = address.device_type
    numbers = {item.device_id: item.name for item in devices if item.device_type.lower() == kind}
    if not devices or address.device_id in numbers:
        return
    has = ", ".join(f"{number} ({name})" for number, name in sorted(numbers.items()))
    raise RefusedError(
        f"{kind} {address.device_id} at {address.server}: the server has no such device; "
        + (f"its {kind} numbers are {has}" if has else f"it has no {kind} at all")
    )


def find_camera(host: str, port: int, name: str, timeout_s: float = 10.0) -> int:
    """Return the number of the camera that has a name, or that alone has it as a part of its name.

    Raises
    ------
    DeviceError
        If none or several have it; the message lists the cameras of the server. If nothing answers.
    """
    where = f"camera {name!r} at {server_name(host, port)}"
    try:
        devices = list_devices(host, port, timeout_s)
    except (RefusedError, ReplyError) as error:
        raise type(error)(f"{where}: {error}; without a list of devices set video.alpaca.device_id") from error
    cameras = {one.device_id: one.name for one in devices if one.device_type.lower() == "camera"}
    has = ", ".join(f"{number} ({named})" for number, named in sorted(cameras.items()))
    if not has:
        raise RefusedError(f"{where}: the server has no camera; ostcal cameras lists what other servers have")
    found = with_name(name, cameras)
    if not found:
        raise RefusedError(f"{where}: no camera has this name; the server has {has}; write camera_name as one of them")
    if len(found) > 1:
        raise RefusedError(
            f"{where}: {len(found)} cameras fit this name; the server has {has}; write more of the name, "
            "or no camera_name and the number as video.alpaca.device_id"
        )
    (number,) = found
    logger.info("%s is camera %d (%s)", where, number, cameras[number])
    return number


def _ask_around(timeout_s: float, port: int) -> set[tuple[str, int]]:
    """Ask over IPv4 and IPv6 and return (host, port) of all servers that answer."""
    with needed_for("the search for Alpaca servers", package="ifaddr", extra="capture"):
        import ifaddr
    own = {
        ip.ip: ipaddress.IPv4Network(f"{ip.ip}/{ip.network_prefix}", strict=False)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if isinstance(ip.ip, str)
    }
    broadcasts = [str(network.broadcast_address) for network in own.values()]
    places: set[tuple[str, int]] = set()
    with ExitStack() as opened:
        asker = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asker.bind(("", 0))
        asked: list[tuple[socket.socket, list[_Target]]] = [
            (asker, [(host, port) for host in dict.fromkeys([LOOPBACK, "255.255.255.255", *broadcasts])])
        ]
        if (asker_v6 := _ipv6_asker()) is not None:
            interfaces = [number for number, _ in socket.if_nameindex()]
            groups: list[_Target] = [(IPV6_GROUP, port, 0, number) for number in interfaces]
            asked.append((opened.enter_context(asker_v6), [(IPV6_LOOPBACK, port), *groups]))
        for turn in range(_ASKED_TIMES):
            for one, targets in asked:
                _send_question(one, targets)
            places |= _answers([one for one, _ in asked], timeout_s / _ASKED_TIMES)
            logger.debug("Discovery, turn %d: %d servers", turn + 1, len(places))
    # A server on this machine answers once per interface; keep its loopback address.
    local_ports = {number for host, number in places if host == LOOPBACK}
    return {place for place in places if place[0] == LOOPBACK or not (place[0] in own and place[1] in local_ports)}


def _ipv6_asker() -> socket.socket | None:
    """Return a socket for questions over IPv6; ``None`` where the system has none."""
    try:
        asker = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError as error:
        logger.debug("Discovery: no IPv6 (%s)", error)
        return None
    try:
        asker.bind(("::", 0))
    except OSError as error:
        logger.debug("Discovery: no IPv6 (%s)", error)
        asker.close()
        return None
    return asker


def _send_question(asker: socket.socket, targets: Sequence[_Target]) -> None:
    for target in targets:
        try:
            asker.sendto(QUESTION, target)
        except OSError as error:
            logger.debug("Discovery cannot ask %s: %s", target, error)


def _answers(askers: Sequence[socket.socket], wait_s: float) -> set[tuple[str, int]]:
    places: set[tuple[str, int]] = set()
    deadline_s = time.monotonic() + wait_s
    while (left_s := deadline_s - time.monotonic()) > 0 and len(places) < _MAX_SERVERS:
        for asker in select.select(askers, [], [], left_s)[0]:
            try:
                answer, sender = asker.recvfrom(_MAX_ANSWER_BYTES)
            except ConnectionError:
                continue  # Windows: somebody's "port unreachable" to the question
            host, port = _sender_host(sender), _answered_port(answer)
            if port is None:
                logger.debug("Discovery: %s answered %r", host, answer[:80])
            else:
                places.add((host, port))
    return places


def _sender_host(sender: tuple[Any, ...]) -> str:
    """Return the address of a sender; one of a link needs the number of the interface."""
    host = str(sender[0])
    return f"{host}%{sender[3]}" if len(sender) == 4 and sender[3] and "%" not in host else host


def _answered_port(answer: bytes) -> int | None:
    try:
        reply = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(reply, dict):
        return None
    port = next((value for key, value in reply.items() if key.lower() == "alpacaport"), None)
    if isinstance(port, str) and port.isdecimal():
        port = int(port)
    return port if isinstance(port, int) and 0 < port < 65536 else None


def _describe(place: tuple[str, int], timeout_s: float) -> AlpacaServer:
    host, port = place
    deadline_s = time.monotonic() + timeout_s
    try:
        devices = list_devices(host, port, timeout_s)
        left_s = max(deadline_s - time.monotonic(), 0.05)
        description = _management(host, port, "v1/description", left_s)
    except DeviceError as error:
        return AlpacaServer(host=host, port=port, name="", devices=(), problem=str(error))
    name = description.get("ServerName", "") if isinstance(description, dict) else ""
    return AlpacaServer(host=host, port=port, name=device_text(str(name), 80), devices=devices)


def _device(item: dict[str, Any]) -> AlpacaDevice:
    number = item.get("DeviceNumber", 0)
    return AlpacaDevice(
        name=device_text(str(item.get("DeviceName", "")), 80),
        device_type=str(item.get("DeviceType", "")),
        device_id=number if isinstance(number, int) else 0,
        unique_id=str(item.get("UniqueID", "")),
    )


def _management(host: str, port: int, path: str, timeout_s: float) -> Any:
    """Read from the management interface, which has no error numbers of its own."""
    where = server_name(host, port)
    connection = HttpConnection(host, port, connect_timeout_s=min(timeout_s, 5.0))
    try:
        patience = Patience(total_s=timeout_s, silence_s=timeout_s)
        with connection.get(f"/management/{path}", {"Accept-Encoding": "identity"}, patience) as response:
            text = response.read(_MAX_REPLY_BYTES)
    except TimeoutError as error:
        raise DeviceUnreachableError(f"{where}: no answer in {timeout_s:g} s; check host, port and network") from error
    except OSError as error:
        raise DeviceUnreachableError(
            f"{where}: no Alpaca server answers ({device_text(str(error))}); start it, or correct host and port "
            "(ostcal cameras lists what answers)"
        ) from error
    except http.client.HTTPException as error:
        raise ReplyError(f"{where}: the answer makes no sense ({error!r}); is this an Alpaca server?") from error
    finally:
        connection.close()
    if response.status != 200:
        raise RefusedError(f"{where}: /management/{path} refused with HTTP {response.status}")
    return parse_reply(text).get("Value")
