"""The answer to the search for Alpaca servers (UDP)."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import threading

QUESTION = b"alpacadiscovery1"
_LOOK_UP_EVERY_S = 0.2

logger = logging.getLogger(__name__)


class DiscoveryResponder:
    """Answers searches with the port of a server, on the same addresses as the server itself."""

    def __init__(self, host: str, discovery_port: int, alpaca_port: int) -> None:
        self._answer = json.dumps({"AlpacaPort": alpaca_port}).encode()
        # Searches go to the broadcast address of a net, and loopback has its own.
        is_loopback = host == "localhost" or _is_loopback(host)
        addresses = ["127.0.0.1" if host == "localhost" else host, "127.255.255.255"] if is_loopback else [""]
        self._sockets = [opened for address in addresses if (opened := _open(address, discovery_port)) is not None]
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
                if question.startswith(QUESTION):
                    listening.sendto(self._answer, asker)
            except TimeoutError:
                continue
            except OSError as error:  # Windows reports here that an asker has gone since
                logger.debug("discovery: %s", error)

    def close(self) -> None:
        """End the answering."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for opened in self._sockets:
            opened.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _open(address: str, port: int) -> socket.socket | None:
    """Open a socket, or give ``None`` where that is refused: systems differ in what of loopback they allow."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if os.name != "nt":  # where it means another thing
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.settimeout(_LOOK_UP_EVERY_S)
        opened.bind((address, port))
    except OSError as error:
        logger.debug("discovery: %s port %d: %s", address, port, error)
        opened.close()
        return None
    return opened
