"""How fast an image comes from an Alpaca server: request to row-major array, against the same bytes from a socket.

One rival reads the bytes of the body from a plain socket into memory and leaves them as they are: columns. The other is
alpyca's `ImageArrayRaw`, turned to rows. All read from another process on loopback, in turns, into new memory each
time. `capture.py` runs this.
"""

from __future__ import annotations

import http.client
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from alpaca.camera import Camera
from numpy.typing import NDArray

from ostcal.clock import SystemClock
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.image_bytes import HEADER

_PIECE_BYTES = 1 << 20
WIRE_TYPES = {"uint16": 8, "int32": 2}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One way to read an image, over all rounds."""

    median_s: float
    best_s: float
    median_cpu_s: float


def compare(width: int, height: int, dtype: str, rounds: int) -> dict[str, Any]:
    """Read one image both ways, in turns, and check that it is the same."""
    body_bytes = HEADER.size + width * height * np.dtype(dtype).itemsize
    samples: dict[str, list[tuple[float, float]]] = {"plain_socket": [], "row_major": [], "alpyca": []}
    with serving(width, height, dtype) as (port, truth):
        driver, camera = driver_of(port), Camera(f"127.0.0.1:{port}", 0)
        for _ in range(rounds):
            samples["plain_socket"].append(timed(lambda: read_plainly(port, body_bytes))[1])
            pixels, sample = timed(lambda: driver.image((height, width)))
            samples["row_major"].append(sample)
            samples["alpyca"].append(timed(lambda: rows_of_alpyca(camera, width, height))[1])
    if checksum(pixels) != truth:
        raise SystemExit("the image is not the one that was sent")
    timings = {name: summary(each) for name, each in samples.items()}
    ratio = timings["row_major"].median_s / timings["plain_socket"].median_s
    return {**{name: asdict(timing) for name, timing in timings.items()}, "ratio_of_medians": round(ratio, 2)}


def control_calls(width: int, height: int, calls: int = 300) -> dict[str, float]:
    """Time the reading of a property, alone and while another camera of this process downloads images."""
    with serving(width, height, "uint16") as (image_port, _), serving(8, 4, "uint16") as (control_port, _):
        imaging, control = driver_of(image_port), driver_of(control_port)
        over = threading.Event()

        def download() -> None:
            while not over.is_set():
                imaging.image((height, width))

        alone_s = [timed(lambda: control.read("CCDTemperature"))[1][0] for _ in range(calls)]
        other = threading.Thread(target=download)
        other.start()
        beside_s = [timed(lambda: control.read("CCDTemperature"))[1][0] for _ in range(calls)]
        over.set()
        other.join()
        control.renew()
    return {
        "alone_median_ms": round(statistics.median(alone_s) * 1e3, 2),
        "alone_longest_ms": round(max(alone_s) * 1e3, 2),
        "beside_a_download_median_ms": round(statistics.median(beside_s) * 1e3, 2),
        "beside_a_download_longest_ms": round(max(beside_s) * 1e3, 2),
    }


@contextmanager
def serving(width: int, height: int, dtype: str) -> Iterator[tuple[int, int]]:
    """Serve an image from a process of its own; gives port and checksum."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, width, height, dtype), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()


def driver_of(port: int) -> AlpacaDriver:
    """Give what drives the camera of a server."""
    address = AlpacaAddress(host="127.0.0.1", port=port, device_type="camera", device_id=0)
    return AlpacaDriver(address, Timeouts(), SystemClock())


def timed(read: Callable[[], NDArray[Any]]) -> tuple[NDArray[Any], tuple[float, float]]:
    """Give what was read, and (wall, CPU) seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    pixels = read()
    return pixels, (time.perf_counter() - wall_s, time.process_time() - cpu_s)


def summary(samples: list[tuple[float, float]]) -> Timing:
    """Sum up (wall, CPU) seconds."""
    wall_s, cpu_s = zip(*samples, strict=True)
    return Timing(
        median_s=round(statistics.median(wall_s), 4),
        best_s=round(min(wall_s), 4),
        median_cpu_s=round(statistics.median(cpu_s), 4),
    )


def read_plainly(port: int, body_bytes: int) -> NDArray[np.uint8]:
    """Read the same answer from a socket into one piece of memory."""
    data = np.empty(body_bytes, np.uint8)
    view = data.data
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /api/v1/camera/0/imagearray HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        got = 0
        while got < body_bytes:
            got += client.recv_into(view[got : got + _PIECE_BYTES])
    return data


def rows_of_alpyca(camera: Camera, width: int, height: int) -> NDArray[Any]:
    """Read the image with alpyca as an array of columns, and turn it to rows."""
    return np.ascontiguousarray(np.asarray(camera.ImageArrayRaw).reshape(width, height).T)


def serve(reply_to: Connection, width: int, height: int, dtype: str) -> None:
    """Answer every request for an image with the same one, and every other with a number."""
    columns = np.random.default_rng(1).integers(0, 65536, (width, height), dtype=np.uint16)
    header = HEADER.pack(1, 0, 1, 1, HEADER.size, 2, WIRE_TYPES[dtype], 2, width, height, 0)
    image = http_answer("application/imagebytes", header + columns.astype(dtype).tobytes())
    number = http_answer("application/json", b'{"Value": -10.0, "ErrorNumber": 0, "ErrorMessage": ""}')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reply_to.send((listener.getsockname()[1], checksum(columns.T)))
        while True:
            client, _ = listener.accept()
            with client, client.makefile("rb") as asked:
                while line := asked.readline():
                    http.client.parse_headers(asked)
                    client.sendall(image if b"imagearray" in line else number)


def http_answer(content_type: str, body: bytes) -> bytes:
    """Give an answer of HTTP with its body."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def checksum(pixels: NDArray[Any]) -> int:
    """Give a number that changes with the order of the pixels: the sum of row x column x value, modulo 2^64."""
    rows = np.arange(1, pixels.shape[0] + 1, dtype=np.uint64)
    columns = np.arange(1, pixels.shape[1] + 1, dtype=np.uint64)
    return sum(int((row * columns) @ line.astype(np.uint64)) for row, line in zip(rows, pixels, strict=True)) % 2**64
