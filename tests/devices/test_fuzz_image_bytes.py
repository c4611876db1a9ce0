"""Damaged images from a camera, over a real connection: the image, or one line; never a hang or much memory."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.image_bytes import HEADER, WIRE_TYPES
from ostcal.errors import DeviceError
from support.fuzzing import Refusals, change_bytes, little_memory, mutations
from support.odd_servers import Answer, OddServer, QuickClock, image_bytes, image_json, odd_camera, pattern

MUTATIONS = mutations(2000)
SHAPE = (24, 40)
WORDS = (-1, 0, 1, 2, 3, 8, 9, 10, 43, 44, 45, 48, 65536, 65537, 2**20, 2**31 - 1, -(2**31), *SHAPE)
TOKENS = (b"[" * 3000, b"]" * 99, b"[[" * 50, b"{" * 3000, b"NaN,", b"Infinity", b"1e999,", b"9" * 400, b"null", b'"x"',
          b",", b"-1,", b"\x00" * 44, b"\xff" * 9, b"0.5,", b"true", b'{"Value":', b"\\ud800", b" " * 5000)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)")


@pytest.fixture(scope="module")
def server() -> Iterator[OddServer]:
    with OddServer({"camera/0": odd_camera(pattern(SHAPE[1], SHAPE[0]))}) as server:
        yield server


def damaged_words(body: bytes, rng: random.Random) -> bytes:
    """Set one or two of the eleven words in front."""
    head = list(HEADER.unpack(body[: HEADER.size]))
    for _ in range(rng.choice((1, 1, 2))):
        head[rng.randrange(len(head))] = rng.choice((*WORDS, rng.randrange(-(2**31), 2**31)))
    return HEADER.pack(*head) + body[HEADER.size :]


def answer(rng: random.Random) -> Answer:
    """Return a damaged answer: header, body, length, status or all of them; one in three is JSON."""
    pixels = pattern(SHAPE[1], SHAPE[0])
    kind = rng.choice(list(WIRE_TYPES))
    as_json = rng.random() < 0.33
    body = (image_json(pixels) if as_json else image_bytes(pixels, kind, WIRE_TYPES[kind].str)).body
    if not as_json and rng.random() < 0.6:
        body = damaged_words(body, rng)
    damaged = bytearray(body)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        change_bytes(damaged, rng, TOKENS)
    claimed = rng.choice((None, None, None, -1, 0, len(damaged) // 2, len(damaged) + 1, 2**31, 2**62))
    status = rng.choice((200, 200, 200, 200, 200, 206, 400, 404, 500))
    return Answer(body=bytes(damaged), claimed_length=claimed, status=status)


def test_damaged_images(server: OddServer) -> None:
    rng, counts = random.Random("image"), Refusals()
    timeouts = Timeouts(tcp_s=5, reply_s=5, connect_s=5, silence_s=5, download_s=8)
    address = AlpacaAddress(host="127.0.0.1", port=server.port, device_type="camera", device_id=0)
    driver = AlpacaDriver(address, timeouts, QuickClock())
    device, good = server.devices["camera/0"], pattern(SHAPE[1], SHAPE[0])
    with little_memory():
        for case in range(MUTATIONS):
            sent = answer(rng)
            device.set(ImageArray=sent)
            with counts.case(f"image, mutation {case}", sent.body):
                image = driver.image(SHAPE)
                assert image.shape == SHAPE
                assert image.dtype in (np.uint16, np.int32)
    assert counts.refused + counts.accepted == MUTATIONS
    assert min(counts.refused, counts.accepted) > MUTATIONS / 20
    device.set(ImageArray=image_bytes(good))
    np.testing.assert_array_equal(driver.image(SHAPE), good)


@pytest.mark.parametrize("nested", [b"[" * 3000 + b"1", b'{"a": ' * 3000 + b"1", b"[" * 60000])
def test_a_column_of_brackets_is_refused(server: OddServer, nested: bytes) -> None:
    body = b'{"Type": 2, "Rank": 2, "Value": [[1, ' + nested + b"]]}"
    server.devices["camera/0"].set(ImageArray=Answer(body=body))
    address = AlpacaAddress(host="127.0.0.1", port=server.port, device_type="camera", device_id=0)
    with pytest.raises(DeviceError, match=r"the image is no JSON|ended in the middle"):
        AlpacaDriver(address, Timeouts(), QuickClock()).image(SHAPE)


def test_damaged_replies(server: OddServer) -> None:
    rng, counts = random.Random("reply"), Refusals()
    address = AlpacaAddress(host="127.0.0.1", port=server.port, device_type="camera", device_id=0)
    driver = AlpacaDriver(address, Timeouts(reply_s=5), QuickClock())
    whole = b'{"Value": 15.0, "ErrorNumber": 0, "ErrorMessage": "", "ClientTransactionID": 1, "ServerTransactionID": 2}'
    with little_memory():
        for case in range(MUTATIONS // 2):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 4))):
                change_bytes(damaged, rng, TOKENS)
            server.devices["camera/0"].set(CCDTemperature=Answer(body=bytes(damaged)))
            with counts.case(f"reply, mutation {case}", bytes(damaged)):
                driver.read("CCDTemperature")
    driver.renew()
    assert min(counts.refused, counts.accepted) > MUTATIONS / 100
