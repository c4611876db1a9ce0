"""Several stacks read as one: the same ADU whatever the parts are stored as."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.frames import FrameStack, SampleEncoding
from ostcal.series.concatenated import ConcatenatedStack
from support import strategies
from support.amounts import amount
from support.memory_stack import MemoryStack

HEIGHT, WIDTH = 9, 7


def adu_of(n: int, encoding: SampleEncoding, seed: int) -> NDArray[Any]:
    """Return ADU over the whole range of an encoding, both ends among them."""
    generator = np.random.default_rng(seed)
    if not encoding.is_integer:
        return generator.normal(1000.0, 300.0, (n, HEIGHT, WIDTH)).astype(encoding.dtype)
    adu = generator.integers(0, 65536, (n, HEIGHT, WIDTH), dtype=np.int32)
    adu[0, 0, 0], adu[-1, -1, -1] = 0, 65535
    return adu + np.int32(encoding.zero_adu)


def part(n: int, name: str, seed: int = 1, row_step: int = 1) -> tuple[MemoryStack, NDArray[Any]]:
    """Return a stack and its ADU."""
    encoding = strategies.ENCODINGS[name]
    adu = adu_of(n, encoding, seed)
    return MemoryStack(strategies.encode(adu, encoding), encoding, row_step), adu


def read(stack: FrameStack, start: int = 0, stop: int = HEIGHT) -> NDArray[Any]:
    """Read raw samples."""
    block = np.empty((stack.shape[0], stop - start, WIDTH), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    return block


def decoded(stack: FrameStack, start: int = 0, stop: int = HEIGHT) -> NDArray[np.float64]:
    """Read ADU; float64 holds every sample type."""
    return stack.encoding.decode(read(stack, start, stop)).astype(np.float64)


parts_of = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(sorted(strategies.ENCODINGS)), st.integers(0, 99)),
    min_size=1,
    max_size=4,
)


@given(parts_of, st.integers(0, HEIGHT - 1), st.integers(1, HEIGHT))
@settings(max_examples=amount(60))
def test_the_adu_are_those_of_the_parts(parts: list[tuple[int, str, int]], start: int, rows: int) -> None:
    made = [part(*arguments) for arguments in parts]
    stack = ConcatenatedStack(tuple(stack for stack, _ in made))
    expected = np.concatenate([adu.astype(np.float64) for _, adu in made])
    assert stack.shape == expected.shape
    stop = min(start + rows, HEIGHT)
    assert np.array_equal(decoded(stack, start, stop), expected[:, start:stop])


@given(parts_of, st.data())
@settings(max_examples=amount(60))
def test_selected_frames_come_in_the_order_asked_for(parts: list[tuple[int, str, int]], data: st.DataObject) -> None:
    made = [part(*arguments) for arguments in parts]
    stack = ConcatenatedStack(tuple(stack for stack, _ in made))
    expected = np.concatenate([adu.astype(np.float64) for _, adu in made])
    indices = data.draw(st.lists(st.integers(0, stack.shape[0] - 1), min_size=1, max_size=5))
    chosen = stack.select(indices)
    assert chosen.shape == (len(indices), HEIGHT, WIDTH)
    assert np.array_equal(decoded(chosen), expected[indices])


@pytest.mark.parametrize("name", sorted(strategies.ENCODINGS))
def test_parts_of_one_encoding_are_read_as_they_are(name: str) -> None:
    first, second = part(2, name, 1)[0], part(3, name, 2)[0]
    stack = ConcatenatedStack((first, second))
    assert stack.encoding == strategies.ENCODINGS[name]
    assert np.array_equal(read(stack), np.concatenate([read(first), read(second)]))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("native uint16", "FITS uint16", SampleEncoding(dtype="uint16")),
        ("FITS int16", "native int16", SampleEncoding(dtype="uint16", zero_adu=-32768)),
        ("native uint16", "FITS int16", SampleEncoding(dtype="float64")),
        ("native uint16", "float32", SampleEncoding(dtype="float64")),
        ("float32", "float64", SampleEncoding(dtype="float64")),
    ],
)
def test_parts_of_different_encodings_become_one(one: str, other: str, expected: SampleEncoding) -> None:
    assert ConcatenatedStack((part(1, one)[0], part(1, other)[0])).encoding == expected
    assert ConcatenatedStack((part(1, other)[0], part(1, one)[0])).encoding == expected


def test_strips_begin_where_every_part_reads_cheaply() -> None:
    stack = ConcatenatedStack((part(1, "float32")[0], part(1, "float32", 2, row_step=16)[0]))
    assert stack.row_step == 16


def test_a_stack_goes_to_other_processes() -> None:
    stack = ConcatenatedStack((part(1, "FITS uint16")[0], part(2, "float32")[0]))
    copy = pickle.loads(pickle.dumps(stack))
    assert np.array_equal(read(copy), read(stack))


def test_parts_within_parts_are_read_in_order() -> None:
    inner = ConcatenatedStack((part(1, "FITS uint16", 1)[0], part(2, "native uint16", 2)[0]))
    outer = ConcatenatedStack((part(1, "native uint16", 3)[0], inner))
    expected = np.concatenate([part(1, "native uint16", 3)[1], part(1, "FITS uint16", 1)[1]])
    assert np.array_equal(decoded(outer)[:2], expected)
    assert np.array_equal(decoded(outer.select([3, 1])), decoded(outer)[[3, 1]])
