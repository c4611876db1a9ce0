"""A master that is scanned with its strips gets the scan of one that is read afterwards, bit for bit."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.masters.scan_result import MasterScan
from ostcal.measure.masters.strip_scan import RunningScans, StripScan
from ostcal.simulator.sensor import SENSORS
from support.amounts import amount
from support.master_samples import Master, assert_same_scan, master_of, plane_reader, small

KINDS = [("demo", FrameType.DARK), ("bayer", FrameType.DARK), ("demo", FrameType.BIAS), ("demo", FrameType.FLAT)]
HEIGHT = 300


@cache
def master(sensor: str, kind: FrameType) -> Master:
    return master_of(small(SENSORS[sensor], 1), kind, 5)


@cache
def scan(sensor: str, kind: FrameType) -> MasterScan:
    return master(sensor, kind).scan()


def strips_of(rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + rows, HEIGHT)) for start in range(0, HEIGHT, rows)]


@given(data=st.data())
@settings(max_examples=amount(60))
def test_neither_strips_nor_their_order_nor_threads_matter(data: st.DataObject) -> None:
    sensor, kind = data.draw(st.sampled_from(KINDS))
    strips = data.draw(st.permutations(strips_of(data.draw(st.integers(1, HEIGHT)))))
    left_out = data.draw(st.integers(0, len(strips)))
    along = master(sensor, kind).scan_strips(
        strips[left_out:], data.draw(st.integers(0, 5)), data.draw(st.sampled_from([1, 2, 4]))
    )
    assert_same_scan(along, scan(sensor, kind))


@pytest.mark.parametrize("rows", [1, 7, 64, 128, 299, 300])
def test_strips_in_their_order_leave_nothing_to_be_read(rows: int) -> None:
    whole = master("demo", FrameType.DARK)
    along = StripScan((300, 410), whole.kind, whole.model(), RunningScans(at_once=1), bands_at_once=2)
    for start, stop in strips_of(rows):
        planes = {name: getattr(whole, name)[start:stop] for name in ("master", "std", "n_used")}
        along.add_rows(start, **planes)

    def read_rows(plane: str, first: int, last: int) -> NDArray[Any]:
        raise AssertionError(f"{plane} is read from row {first} to {last}")

    assert_same_scan(along.result(read_rows, step_rows=64), scan("demo", FrameType.DARK))


def test_a_scan_too_many_ends_the_oldest_which_is_read_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    whole = master("demo", FrameType.DARK)
    crowd = RunningScans(at_once=2)
    scans = [StripScan((300, 410), whole.kind, whole.model(), crowd) for _ in range(3)]
    for strip in strips_of(100):
        for along in scans:
            rows = slice(*strip)
            along.add_rows(strip[0], master=whole.master[rows], std=whole.std[rows], n_used=whole.n_used[rows])
    caplog.set_level(logging.DEBUG, "ostcal")
    for along in scans:
        result = along.result(plane_reader(whole.master, whole.std, whole.n_used), step_rows=64)
        assert_same_scan(result, scan("demo", FrameType.DARK))
    assert re.findall(r"(\d+) of 5 bands", caplog.text) == ["0", "5", "5"]
